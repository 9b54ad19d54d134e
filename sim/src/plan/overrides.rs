//! `--set KEY=VALUE`: changes a plan before it is run.

use super::Plan;
use super::errors::known_names;
use super::generate::{Fixed, Profile, generate_with};
use super::settings::{TINY, longest_row};
use super::units::seed;
use walsim_core::base::{Geometry, PgVersion, Settings};
use walsim_core::base::{Setting, UnitError, duration_us, kept_settings};

/// An invalid override.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct OverrideError {
    /// The error message.
    pub message: String,
    /// A suggestion.
    pub help: String,
}

/// A list of overrides whose names and values are valid.
#[derive(Clone, Default, Debug)]
pub struct Overrides {
    entries: Vec<Override>,
    texts: Vec<String>,
}

#[derive(Clone, Debug)]
enum Override {
    Stock(bool),
    Version(PgVersion),
    Seed(u64),
    Active(u64),
    Setting(&'static Setting, String),
}

impl Overrides {
    /// Reads texts of the form `KEY=VALUE`.
    ///
    /// # Errors
    /// The first text with an unknown setting or an invalid value.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, OverrideError> {
        let mut overrides = Self::default();
        for text in texts {
            overrides.entries.push(Override::parse(text)?);
            overrides.texts.push(text.into());
        }
        Ok(overrides)
    }

    /// The plan of a seed, with the overrides applied.
    #[must_use]
    pub fn generate(&self, profile: Profile, seed: u64) -> Plan {
        let mut fixed = Fixed::default();
        for entry in &self.entries {
            match entry {
                Override::Stock(stock) => fixed.stock = Some(*stock),
                Override::Version(version) => fixed.version = Some(*version),
                Override::Seed(_) | Override::Active(_) | Override::Setting(..) => {}
            }
        }
        let mut plan = generate_with(profile, seed, fixed);
        for entry in &self.entries {
            match entry {
                Override::Stock(_) | Override::Version(_) => {}
                Override::Seed(_) | Override::Active(_) | Override::Setting(..) => {
                    entry.apply(&mut plan);
                }
            }
        }
        plan
    }

    /// Applies the overrides to a plan.
    pub fn apply(&self, plan: &mut Plan) {
        self.entries.iter().for_each(|entry| entry.apply(plan));
    }

    /// The version of all servers, if the overrides set it.
    #[must_use]
    pub fn version(&self) -> Option<PgVersion> {
        let mut versions = self.entries.iter().rev().filter_map(|entry| match entry {
            Override::Version(version) => Some(*version),
            Override::Stock(_)
            | Override::Seed(_)
            | Override::Active(_)
            | Override::Setting(..) => None,
        });
        versions.next()
    }

    /// The overrides as command-line options, each with a leading blank.
    #[must_use]
    pub fn as_options(&self) -> String {
        self.texts
            .iter()
            .map(|text| format!(" --set {text}"))
            .collect()
    }
}

impl Override {
    fn parse(text: &str) -> Result<Self, OverrideError> {
        let error = |message: String, help: String| OverrideError { message, help };
        let Some((key, value)) = text.split_once('=') else {
            let help = "write KEY=VALUE, such as geometry=stock or wal_buffers=8";
            return Err(error(format!("`{text}` sets nothing"), help.into()));
        };
        let of_unit = |e: UnitError| error(format!("{key}: {e}"), e.help);
        match key {
            "geometry" => match value {
                "stock" => Ok(Self::Stock(true)),
                "tiny" => Ok(Self::Stock(false)),
                _ => {
                    let help = known_names(value, &["stock", "tiny"]);
                    Err(error(format!("there is no geometry `{value}`"), help))
                }
            },
            "pg_version" => PgVersion::named(value).map(Self::Version).ok_or_else(|| {
                error(
                    format!("version {value} is not modeled"),
                    "write a number from 15 to 19".into(),
                )
            }),
            "seed" => seed(value).map(Self::Seed).map_err(of_unit),
            "active" => duration_us(value).map(Self::Active).map_err(of_unit),
            key => {
                let Some(setting) = kept_settings().find(|s| s.name == key) else {
                    let mut known = vec!["geometry", "pg_version", "seed", "active"];
                    known.extend(kept_settings().map(|s| s.name));
                    let help = known_names(key, &known);
                    return Err(error(format!("there is no setting `{key}`"), help));
                };
                // The value must be valid with pages of every size.
                for geometry in [Geometry::STOCK, Geometry::SMALLEST] {
                    let mut trial = Settings::new(PgVersion::V15, geometry);
                    setting.set_exactly(&mut trial, value).map_err(of_unit)?;
                }
                Ok(Self::Setting(setting, value.into()))
            }
        }
    }

    fn apply(&self, plan: &mut Plan) {
        match self {
            Self::Stock(stock) => set_geometry(plan, if *stock { Geometry::STOCK } else { TINY }),
            Self::Version(version) => {
                for node in &mut plan.nodes {
                    node.settings.pg_version = *version;
                }
            }
            Self::Seed(seed) => plan.seed = *seed,
            Self::Active(us) => plan.active_us = *us,
            Self::Setting(setting, value) => {
                for node in &mut plan.nodes {
                    setting
                        .set_exactly(&mut node.settings, value)
                        .expect("checked when it was parsed");
                }
            }
        }
    }
}

/// Changes the geometry: the sizes of pages, segments and sectors. Also changes the values that
/// count segments or must fit on a page.
fn set_geometry(plan: &mut Plan, geometry: Geometry) {
    for node in &mut plan.nodes {
        let settings = &mut node.settings;
        let segments = settings.max_wal_size / u64::from(settings.geometry.segment);
        settings.geometry = geometry;
        settings.max_wal_size = segments.saturating_mul(u64::from(geometry.segment));
    }
    for row in &mut plan.workload {
        row.bytes = row.bytes.min(longest_row(&geometry));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_keeps_what_is_not_overridden() {
        let texts = ["geometry=stock", "pg_version=15", "wal_buffers=9"];
        let overrides = Overrides::parse(texts).expect("good");
        let plan = overrides.generate(Profile::Default, 5);
        for node in &plan.nodes {
            assert_eq!(node.settings.geometry, Geometry::STOCK);
            assert_eq!(node.settings.pg_version, PgVersion::V15);
            assert_eq!(node.settings.wal_buffers, 9);
        }
        assert_eq!(
            plan.faults,
            super::super::generate(Profile::Default, 5).faults
        );
        let options = " --set geometry=stock --set pg_version=15 --set wal_buffers=9";
        assert_eq!(overrides.as_options(), options);
        assert_eq!(overrides.version(), Some(PgVersion::V15));
        assert_eq!(Overrides::default().version(), None);
    }

    /// As in a configuration file, the last value wins.
    #[test]
    fn the_last_version_is_that_of_the_servers() {
        let texts = ["pg_version=15", "pg_version=19"];
        let overrides = Overrides::parse(texts).expect("good");
        assert_eq!(overrides.version(), Some(PgVersion::V19));
        let plan = overrides.generate(Profile::Default, 5);
        let version = plan.nodes[0].settings.pg_version;
        assert_eq!(version, PgVersion::V19);
    }

    #[test]
    fn refusals_say_what_to_write() {
        for (text, message, hint) in [
            ("geometry", "`geometry` sets nothing", "KEY=VALUE"),
            (
                "geometri=tiny",
                "there is no setting `geometri`",
                "did you mean `geometry`?",
            ),
            (
                "geometry=tny",
                "there is no geometry `tny`",
                "did you mean `tiny`?",
            ),
            ("pg_version=14", "version 14 is not modeled", "15 to 19"),
            (
                "wal_buffer=9",
                "there is no setting `wal_buffer`",
                "did you mean `wal_buffers`?",
            ),
            (
                "wal_buffers=x",
                "wal_buffers: `x` is no number of pages",
                "a number alone means WAL pages",
            ),
        ] {
            let error = Overrides::parse([text]).expect_err(text);
            assert_eq!(error.message, message);
            assert!(error.help.contains(hint), "{}", error.help);
        }
    }
}
