//! The settings of a server. Some are in `walsim.toml`, and others are given for one start only.

use super::Refusal;
use walsim_core::base::{
    ConfLine, Geometry, PgVersion, SettingError, Settings, TABLE, did_you_mean, parse_conf_file,
    quoted_for_conf_file, size, whole,
};

/// The settings file, which marks a cluster made by walsim-live.
pub const MARK: &str = "walsim.toml";

/// A setting that was given by name, with `--set` or in [`MARK`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The name of a PostgreSQL setting, or `pg_version`, or `segment`.
    pub name: String,
    /// The value of the setting.
    pub value: String,
}

/// The properties that cannot change after a cluster is made: version and segment size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) version: PgVersion,
    pub(super) geometry: Geometry,
}

impl Choice {
    /// Parses `NAME=VALUE` (`ParseLongOption`).
    ///
    /// # Errors
    /// If there is no `=`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        Ok(Self {
            name: name.trim().replace('-', "_"),
            value: value.into(),
        })
    }
}

/// The properties of a new cluster. By default the version is 15 and a segment has 1 MiB.
pub(super) fn shape(choices: &[Choice]) -> Result<Shape, Refusal> {
    let chosen = |name| choices.iter().rev().find(|choice| choice.name == name);
    let version = match chosen("pg_version") {
        None => PgVersion::V15,
        Some(Choice { value, .. }) => PgVersion::named(value).ok_or_else(|| {
            let known = PgVersion::ALL.map(|version| version.major().to_string());
            Refusal(format!(
                "unknown pg_version {value}; known: {}",
                known.join(", ")
            ))
        })?,
    };
    let stock = Geometry::STOCK;
    let geometry = match chosen("segment") {
        None => stock,
        Some(Choice { value, .. }) => {
            // As with initdb --wal-segsize, a number without a unit is in megabytes.
            let bytes = match whole(value) {
                Some(number) => number.saturating_mul(1 << 20),
                None => size(value).map_err(|e| Refusal(format!("{e}: {}", e.help)))?,
            };
            // IsValidWalSegSize
            u32::try_from(bytes)
                .ok()
                .filter(|n| (1 << 20..=1 << 30).contains(n))
                .and_then(|n| Geometry::new(stock.wal_page, n, stock.data_page, stock.sector).ok())
                .ok_or_else(|| Refusal::new("segment must be a power of two between 1MB and 1GB"))?
        }
    };
    Ok(Shape { version, geometry })
}

/// Applies settings in order, by the rules of PostgreSQL.
pub(super) fn apply(settings: &mut Settings, choices: &[Choice]) -> Result<(), Refusal> {
    // If wal_buffers is -1, its value depends on shared_buffers. wal_buffers is therefore applied
    // last.
    let (wal_buffers, others): (Vec<&Choice>, Vec<&Choice>) = choices
        .iter()
        .filter(|choice| !choice.is_shape())
        .partition(|choice| choice.name.eq_ignore_ascii_case("wal_buffers"));
    for Choice { name, value } in others.into_iter().chain(wal_buffers) {
        settings.set(name, value).map_err(|e| refused(&e))?;
    }
    // ReadControlFile
    let segment = u64::from(settings.geometry.segment);
    for (name, size) in [
        ("min_wal_size", settings.min_wal_size),
        ("max_wal_size", settings.max_wal_size),
    ] {
        if size / segment < 2 {
            return Err(Refusal(format!(
                "\"{name}\" must be at least twice \"wal_segment_size\""
            )));
        }
    }
    Ok(())
}

impl Choice {
    /// Whether this is a property that cannot change after a cluster is made.
    pub(super) fn is_shape(&self) -> bool {
        matches!(self.name.as_str(), "pg_version" | "segment")
    }
}

/// The error and its hint, as one line.
fn refused(error: &SettingError) -> Refusal {
    let mut text = error.to_string();
    if let SettingError::Unknown(name) = error {
        let mut known = vec!["pg_version", "segment"];
        known.extend(TABLE.iter().map(|setting| setting.name));
        if let Some(close) = did_you_mean(name, &known) {
            text.push_str(&format!("; did you mean {close}?"));
        }
    }
    for more in [error.detail(), error.hint()].into_iter().flatten() {
        text.push_str(&format!(": {}", more.trim_end_matches('.')));
    }
    Refusal(text)
}

/// Parses the settings file by the rules of postgresql.conf, because users may edit the file.
pub(super) fn read_mark(text: &str) -> Result<Vec<Choice>, Refusal> {
    let lines = parse_conf_file(text).map_err(|e| Refusal(format!("{MARK}: {e}")))?;
    let choice = |ConfLine { name, value, .. }| Choice { name, value };
    Ok(lines.into_iter().map(choice).collect())
}

/// The settings file of a new cluster.
pub(super) fn write_mark(shape: Shape, choices: &[Choice]) -> String {
    let segment = u64::from(shape.geometry.segment);
    let mut text = format!(
        "# A cluster of walsim-live. pg_version and segment are those that it was made with; the other settings\n\
         # are written as in postgresql.conf, and are read again when the server is sent a SIGHUP.\n\
         pg_version = {}\nsegment = {}\n",
        shape.version.major(),
        quoted_for_conf_file(&walsim_core::base::show_size(segment))
    );
    for choice in choices.iter().filter(|choice| !choice.is_shape()) {
        let value = quoted_for_conf_file(&choice.value);
        text.push_str(&format!("{} = {value}\n", choice.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(texts: &[&str]) -> Vec<Choice> {
        let parse = |text: &&str| Choice::parse(text).unwrap();
        texts.iter().map(parse).collect()
    }

    #[test]
    fn a_settings_file_keeps_the_choices() {
        let chosen = choices(&[
            "pg_version=18",
            "segment=2MB",
            "wal-keep-size=2048",
            "max_wal_size=64",
            "checkpoint_timeout=300",
            "wal_buffers=-1",
            "shared_buffers=32MB",
            "hot_standby=off",
            "synchronous_commit=local",
            "cluster_name=a \"b\"",
        ]);
        let shape = shape(&chosen).unwrap();
        let again = read_mark(&write_mark(shape, &chosen)).unwrap();
        assert_eq!(super::shape(&again), Ok(shape));
        let settings_of = |choices: &[Choice]| {
            let mut settings = Settings::new(shape.version, shape.geometry);
            apply(&mut settings, choices).unwrap();
            settings
        };
        let settings = settings_of(&again);
        assert_eq!(settings, settings_of(&chosen));
        assert_eq!(
            (settings.wal_keep_size, shape.geometry.segment),
            (2 << 30, 2 << 20)
        );
        assert_eq!(settings.cluster_name, "a \"b\"");
        for (name, shown) in [
            ("wal_keep_size", "2GB"),
            ("max_wal_size", "64MB"),
            ("checkpoint_timeout", "5min"),
            ("wal_buffers", "1MB"),
            ("hot_standby", "off"),
            ("synchronous_commit", "local"),
        ] {
            assert_eq!(settings.show(name), Some((name, shown.into())));
        }
    }

    /// The file has the syntax of postgresql.conf, or TOML as in earlier versions of walsim-live.
    #[test]
    fn both_syntaxes_of_the_settings_file_are_read() {
        let text = "pg_version = \"15\"\nsegment = '1MB'\nWal_Keep_Size 1GB # kept\nwal_sender_timeout = 0\n\
                    wal_keep_size = 2GB\nhot_standby = false\n";
        let kept = read_mark(text).unwrap();
        let shape = shape(&kept).unwrap();
        let mut settings = Settings::new(shape.version, shape.geometry);
        apply(&mut settings, &kept).unwrap();
        assert_eq!(
            (
                settings.wal_keep_size,
                settings.wal_sender_timeout_ms,
                settings.hot_standby
            ),
            (2 << 30, 0, false)
        );
        let wrong = read_mark("pg_version = 15\nwal_keep_size = 1 GB\n").unwrap_err();
        assert_eq!(
            wrong.0,
            "walsim.toml: syntax error in line 2, near token \"GB\""
        );
    }

    #[test]
    fn invalid_choices_are_refused() {
        for (text, complaint) in [
            ("pg_version=14", "unknown pg_version 14"),
            ("segment=3MB", "segment must be a power of two"),
            ("segment=512kB", "segment must be a power of two"),
            (
                "wal_keep_siz=1MB",
                "unrecognized configuration parameter \"wal_keep_siz\"; did you mean wal_keep_size?",
            ),
            (
                "max_connections=many",
                "invalid value for parameter \"max_connections\": \"many\"",
            ),
            (
                "wal_keep_size=1KiB",
                "Valid units for this parameter are \"B\"",
            ),
            ("checkpoint_timeout=5s", "5 s is outside the valid range"),
            ("max_wal_size=64kB", "0 MB is outside the valid range"),
            (
                "block_size=4096",
                "parameter \"block_size\" cannot be changed",
            ),
            ("fsync=off", "It is always \"on\""),
            (
                "primary_slot_name=S",
                "contains invalid character: Replication slot names",
            ),
            ("shared_buffers=1TB", "It has 1048576 at most"),
        ] {
            let chosen = choices(&[text]);
            let mut settings = Settings::new(PgVersion::V15, Geometry::STOCK);
            let outcome = shape(&chosen).and_then(|_| apply(&mut settings, &chosen));
            let refusal = outcome.unwrap_err().to_string();
            assert!(refusal.contains(complaint), "{text}: {refusal}");
        }
    }
}
