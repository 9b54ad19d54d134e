//! The settings that clients follow (`GUC_REPORT`), in the order in which a server reports them.

use crate::base::PgVersion;

/// Their names. 16 and 17 have no `search_path` among them.
pub fn reported(version: PgVersion) -> impl Iterator<Item = &'static str> {
    let since_18 = move |name: &&str| version >= PgVersion::V18 || *name != "search_path";
    let names = match version {
        PgVersion::V15 => SORTED.as_slice(),
        PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => HASHED.as_slice(),
    };
    names.iter().copied().filter(since_18)
}

/// 15 keeps all settings sorted.
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

/// Since 16 they stand in a hash table, whose order is the same in every server.
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
