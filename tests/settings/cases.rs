//! The texts of settings that are compared with real servers, and walsim's answers to them.

use std::fmt::Write;
use walsim_core::base::{Context, Geometry, Kind, PgVersion, SettingError, Settings, TABLE};

/// Numbers with and without units, blanks, fractions and errors. Each number is tried with one
/// setting of each unit.
const NUMBERS: [&str; 40] = [
    "64",
    "1000",
    "+64",
    "-1",
    "0",
    "0x40",
    "0X1F",
    "0100",
    "09",
    "64.4",
    "64.5",
    "65.5",
    ".5",
    "1e2",
    "6.4e1",
    "64kB",
    "64 MB",
    " 64\t",
    "64MB ",
    "1GB",
    "1TB",
    "0.0015TB",
    "1.5GB",
    "524288B",
    "1B",
    "1h",
    "0.5h",
    "2min",
    "90s",
    "90.4s",
    "1500ms",
    "2500000us",
    "1d",
    "64kb",
    "64KiB",
    "64 M B",
    "ten",
    "",
    "99999999999999999999",
    "1e400",
];
/// The settings with which [`NUMBERS`] are tried: a size, times in two units, pages, and a plain
/// number.
const NUMBERED: [&str; 5] = [
    "wal_keep_size",
    "checkpoint_timeout",
    "wal_sender_timeout",
    "wal_writer_flush_after",
    "max_connections",
];
/// Texts for settings of other types, and for check hooks.
const OTHERS: [(&str, &[&str]); 13] = [
    (
        "checkpoint_completion_target",
        &[
            "0.5",
            ".25",
            "1",
            "1.0000001",
            "-0.1",
            "0x.8p0",
            "0.123456789",
            "0.00001",
            "1e-3 ",
            "50%",
            "nan",
            "inf",
            "-Infinity",
            "0.5s",
            "1e-400",
            "",
        ],
    ),
    (
        "hot_standby",
        &[
            "on", "OFF", "t", "fal", "Yes", "n", "1", "0", "of", "o", "2", "on ", " on", "",
            "true!",
        ],
    ),
    (
        "synchronous_commit",
        &[
            "LOCAL",
            "remote_write",
            "remote_apply",
            "on",
            "Off",
            "true",
            "no",
            "1",
            "tru",
            "",
            "on ",
        ],
    ),
    ("wal_level", &["hot_standby", "Archive", "replica", "x"]),
    ("archive_mode", &["off", "x"]),
    ("client_min_messages", &["DEBUG", "notice", "fatal"]),
    ("IntervalStyle", &["ISO_8601", "iso"]),
    ("cluster_name", &["a b", "", "naïve \u{1}", LONG]),
    ("primary_slot_name", &["s_1", "", "S1", "a-b", LONG]),
    ("wal_buffers", &["0", "3", "64kB", "31MB", "2GB"]),
    (
        "max_slot_wal_keep_size",
        &["-1", "-1MB", "-2", "0.4MB", "-0.4MB"],
    ),
    (
        "client_encoding",
        &[
            "utf-8",
            "ISO_8859_1",
            "windows-1252",
            "koi8",
            "UNICODE",
            "klingon",
            "",
        ],
    ),
    (
        "DateStyle",
        &[
            "sql",
            "German",
            "iso, dmy",
            "POSTGRESQL,European",
            "ymd",
            "iso,iso",
            "iso,sql",
            "dmy,mdy",
            "default",
            "iso;dmy",
            "klingon",
        ],
    ),
];
/// A text that is longer than a name can be.
const LONG: &str = "a23456789_123456789_123456789_123456789_123456789_123456789_1234";

/// Settings whose boot value differs from PostgreSQL's. Either initdb sets them, or they depend on
/// sizes that are different in walsim.
const OWN_DEFAULTS: [&str; 10] = [
    "shared_buffers",
    "wal_buffers",
    "max_wal_size",
    "min_wal_size",
    "wal_segment_size",
    "archive_command",
    "client_encoding",
    "server_encoding",
    "TimeZone",
    "data_directory_mode",
];

/// The settings to compare. These are the settings that pg_settings shows, without those that
/// depend on the release.
pub(crate) fn names(version: PgVersion) -> Vec<&'static str> {
    const HIDDEN: [&str; 3] = ["is_superuser", "session_authorization", "role"];
    let shown = TABLE.iter().filter(|setting| {
        setting.since <= version
            && !HIDDEN.contains(&setting.name)
            && !setting.name.starts_with("server_version")
    });
    let mut names: Vec<&str> = shown.map(|setting| setting.name).collect();
    names.sort_by_key(|name| name.to_ascii_lowercase());
    names
}

/// Whether the setting has the default of PostgreSQL.
pub(crate) fn has_own_default(name: &str) -> bool {
    OWN_DEFAULTS.contains(&name)
}

/// All pairs of a setting and a text. The texts are the constants of this module, the limits of
/// each range, and values beyond the limits.
pub(crate) fn texts(version: PgVersion) -> Vec<(&'static str, String)> {
    let mut texts = Vec::new();
    for name in NUMBERED {
        texts.extend(NUMBERS.iter().map(|text| (name, (*text).to_string())));
    }
    for (name, others) in OTHERS {
        texts.extend(others.iter().map(|text| (name, (*text).to_string())));
    }
    for name in names(version) {
        let setting = TABLE.iter().find(|setting| setting.name == name);
        let setting = setting.expect("a name of the table");
        if let (Kind::Int { min, max, .. }, true) =
            (setting.kind, setting.context != Context::Internal)
        {
            for end in [i64::from(min), i64::from(max)] {
                // walsim does not support the largest buffer pool and the largest number of
                // backends.
                let modelled = end < 262_143 || setting.context != Context::Postmaster;
                if modelled {
                    texts.push((name, end.to_string()));
                }
            }
            texts.push((name, (i64::from(min) - 1).to_string()));
            texts.push((name, (i64::from(max) + 1).to_string()));
        }
    }
    texts
}

fn settings(version: PgVersion) -> Settings {
    Settings::new(version, Geometry::STOCK)
}

/// walsim's table, one line per setting:
/// `name|vartype|unit|min_val|max_val|context|enumvals|boot_val`.
pub(crate) fn our_table(version: PgVersion) -> String {
    let settings = settings(version);
    let mut out = String::new();
    for name in names(version) {
        let setting = settings.find(name).expect("a name of the table");
        let (mut unit, mut bounds, mut values) =
            (String::new(), [String::new(), String::new()], String::new());
        match setting.kind {
            Kind::Int {
                unit: own,
                min,
                max,
            } => {
                unit = own
                    .map(|unit| unit.name(&settings.geometry))
                    .unwrap_or_default();
                bounds = [min.to_string(), max.to_string()];
            }
            Kind::Real { min, max } => bounds = [min.to_string(), max.to_string()],
            Kind::Enum { values: own, .. } => values = format!("{{{}}}", own.join(",")),
            Kind::Bool | Kind::Text | Kind::Name => {}
        }
        let boot = match setting.number(&settings) {
            _ if has_own_default(name) => "(own)".into(),
            Some(number) => number,
            None => settings.show(name).map_or("off".into(), |(_, shown)| shown),
        };
        let [min, max] = bounds;
        writeln!(
            out,
            "{name}|{}|{unit}|{min}|{max}|{}|{values}|{boot}",
            setting.kind.name(),
            setting.context_in(version).name()
        )
        .expect("writing to a string cannot fail");
    }
    out
}

/// walsim's answer to a text: the value as pg_settings shows it, or the error with message, DETAIL
/// and HINT.
pub(crate) fn ours(version: PgVersion, name: &str, text: &str) -> String {
    let settings = settings(version);
    let read = settings.find(name).and_then(|setting| {
        let current = settings
            .show(name)
            .map_or(String::new(), |(_, shown)| shown);
        setting.parse(&settings, name, text, &current)
    });
    match read {
        Ok(value) => value.text(),
        Err(error) => told(&error),
    }
}

fn told(error: &SettingError) -> String {
    let mut text = format!("FATAL: {error}");
    for (label, more) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(more) = more {
            write!(text, " {label}: {more}").expect("writing to a string cannot fail");
        }
    }
    text
}

/// A line of the golden file.
pub(crate) fn line(name: &str, text: &str, answer: &str) -> String {
    format!("{name} = {text:?}: {answer}\n")
}

/// All of walsim's answers, in the format of the golden file.
pub(crate) fn all_of_ours(version: PgVersion) -> String {
    let answers = texts(version)
        .into_iter()
        .map(|(name, text)| line(name, &text, &ours(version, name, &text)));
    format!("{}\n{}", our_table(version), answers.collect::<String>())
}

/// The golden file of a version.
pub(crate) fn golden(version: PgVersion) -> std::path::PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/settings");
    std::path::Path::new(folder).join(format!("{}.txt", version.major()))
}

/// The lines that differ, for a failing test.
pub(crate) fn differences(theirs: &str, ours: &str) -> Vec<String> {
    let (theirs, ours): (Vec<&str>, Vec<&str>) = (theirs.lines().collect(), ours.lines().collect());
    assert_eq!(
        theirs.len(),
        ours.len(),
        "other settings or texts were asked about"
    );
    let pairs = theirs.iter().zip(&ours).filter(|(a, b)| a != b);
    pairs
        .map(|(theirs, ours)| format!("PostgreSQL: {theirs}\n      here: {ours}"))
        .collect()
}
