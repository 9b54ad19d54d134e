//! The settings of a server: those that `walsim.toml` keeps, and those given for one start.

use super::Refusal;
use walsim_core::base::{
    Geometry, PgVersion, SETTINGS, Settings, did_you_mean, setting_named, size,
};

/// Marks a directory as a cluster of ours, and keeps its settings.
pub const MARK: &str = "walsim.toml";

/// A setting by name, as `--set` and [`MARK`] give it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// PostgreSQL's name, or `pg_version`, or `segment`.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Whose formats, and how long a segment is: fixed when a cluster is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) version: PgVersion,
    pub(super) geometry: Geometry,
}

impl Choice {
    /// Reads `NAME=VALUE`.
    ///
    /// # Errors
    /// If there is no `=`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
        let (name, value) = (name.trim().into(), value.trim().into());
        Ok(Self { name, value })
    }
}

/// What a new cluster is made with: 15 and segments of 1 MiB unless chosen otherwise.
pub(super) fn shape(choices: &[Choice]) -> Result<Shape, Refusal> {
    let chosen = |name| choices.iter().rev().find(|choice| choice.name == name);
    let version = match chosen("pg_version") {
        None => PgVersion::V15,
        Some(Choice { value, .. }) => PgVersion::named(value).ok_or_else(|| {
            let known = PgVersion::ALL.map(|version| version.major().to_string());
            Refusal(format!(
                "there is no pg_version {value}; known: {}",
                known.join(", ")
            ))
        })?,
    };
    let stock = Geometry::STOCK;
    let geometry = match chosen("segment") {
        None => stock,
        Some(Choice { value, .. }) => {
            let bytes = size(value).map_err(|e| Refusal(format!("{e}: {}", e.help)))?;
            // IsValidWalSegSize
            u32::try_from(bytes)
                .ok()
                .filter(|n| (1 << 20..=1 << 30).contains(n))
                .and_then(|n| Geometry::new(stock.wal_page, n, stock.data_page, stock.sector).ok())
                .ok_or_else(|| {
                    Refusal::new("segment must be a power of two between 1MiB and 1GiB")
                })?
        }
    };
    Ok(Shape { version, geometry })
}

/// Changes settings as chosen, later choices last.
pub(super) fn apply(settings: &mut Settings, choices: &[Choice]) -> Result<(), Refusal> {
    for Choice { name, value } in choices {
        if matches!(name.as_str(), "pg_version" | "segment") {
            continue;
        }
        let Some(setting) = setting_named(name) else {
            return Err(unknown(name));
        };
        let set = setting.set(settings, value);
        set.map_err(|e| Refusal(format!("{name}: {e}: {}", e.help)))?;
    }
    Ok(())
}

fn unknown(name: &str) -> Refusal {
    let mut known = vec!["pg_version", "segment"];
    known.extend(SETTINGS.iter().map(|setting| setting.name));
    let meant = did_you_mean(name, &known).map(|close| format!("; did you mean {close}?"));
    Refusal(format!(
        "there is no setting {name}{}",
        meant.unwrap_or_default()
    ))
}

/// Reads what [`write_mark`] wrote, and what people made of it.
pub(super) fn read_mark(text: &str) -> Result<Vec<Choice>, Refusal> {
    let table: toml::Table = text
        .parse()
        .map_err(|e: toml::de::Error| Refusal(format!("{MARK}: {}", e.message())))?;
    let choices = table.into_iter().map(|(name, value)| {
        let value = match value.as_str() {
            Some(text) => text.into(),
            None => value.to_string(),
        };
        Choice { name, value }
    });
    Ok(choices.collect())
}

/// The settings of a new cluster as text.
pub(super) fn write_mark(shape: Shape, choices: &[Choice]) -> String {
    let mut table = toml::Table::new();
    let mut put = |name: &str, value: String| table.insert(name.into(), value.into());
    put("pg_version", shape.version.major().to_string());
    let segment = u64::from(shape.geometry.segment);
    put("segment", walsim_core::base::show_size(segment));
    for Choice { name, value } in choices {
        if !matches!(name.as_str(), "pg_version" | "segment") {
            put(name, value.clone());
        }
    }
    let head = "# A cluster of walsim-live. pg_version and segment are those that it was made with; the other settings\n\
                # have the names and values of postgresql.conf, and are read again when the server is sent a SIGHUP.\n";
    format!("{head}{table}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choices(texts: &[&str]) -> Vec<Choice> {
        let parse = |text: &&str| Choice::parse(text).unwrap();
        texts.iter().map(parse).collect()
    }

    #[test]
    fn a_mark_keeps_what_was_chosen() {
        let chosen = choices(&[
            "pg_version=18",
            "segment=2MB",
            "wal_keep_size=2GB",
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
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, complaint) in [
            ("pg_version=14", "there is no pg_version 14"),
            ("segment=3MiB", "segment must be a power of two"),
            ("segment=512KiB", "segment must be a power of two"),
            ("wal_keep_siz=1MB", "did you mean wal_keep_size?"),
            ("max_connections=many", "`many` is no count"),
        ] {
            let chosen = choices(&[text]);
            let mut settings = Settings::new(PgVersion::V15, Geometry::STOCK);
            let outcome = shape(&chosen).and_then(|_| apply(&mut settings, &chosen));
            let refusal = outcome.unwrap_err().to_string();
            assert!(refusal.contains(complaint), "{text}: {refusal}");
        }
    }
}
