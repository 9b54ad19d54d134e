//! The settings that a server reports to clients (`GUC_REPORT`), in the order of the reports.

use crate::base::PgVersion;

/// The names of the reported settings. Versions 16 and 17 do not report `search_path`.
pub fn reported(version: PgVersion) -> impl Iterator<Item = &'static str> {
    let since_18 = move |name: &&str| version >= PgVersion::V18 || *name != "search_path";
    let names = match version {
        PgVersion::V15 => SORTED.as_slice(),
        PgVersion::V16 | PgVersion::V17 | PgVersion::V18 => HASHED.as_slice(),
        PgVersion::V19 => HASHED_19.as_slice(),
    };
    names.iter().copied().filter(since_18)
}

/// The order of the reports in 15. It is alphabetical.
const SORTED: [&str; 13] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
];

/// The order of the ParameterStatus messages in 16 to 18. It is PostgreSQL's iteration order over a
/// hash table, and is the same on all servers.
const HASHED: [&str; 15] = [
    "in_hot_standby",
    "integer_datetimes",
    "TimeZone",
    "IntervalStyle",
    "search_path",
    "is_superuser",
    "application_name",
    "default_transaction_read_only",
    "scram_iterations",
    "DateStyle",
    "standard_conforming_strings",
    "session_authorization",
    "client_encoding",
    "server_version",
    "server_encoding",
];

/// The order of the reports since 19. The hash table has more entries than in 18, so the order
/// differs.
const HASHED_19: [&str; 15] = [
    "IntervalStyle",
    "search_path",
    "is_superuser",
    "standard_conforming_strings",
    "session_authorization",
    "client_encoding",
    "server_version",
    "server_encoding",
    "in_hot_standby",
    "integer_datetimes",
    "TimeZone",
    "application_name",
    "default_transaction_read_only",
    "scram_iterations",
    "DateStyle",
];
