//! How plans contain settings. core defines the values of settings.

use walsim_core::base::{Geometry, Setting, Settings};

/// The value of a setting, formatted as TOML.
#[must_use]
pub(crate) fn shown(setting: &Setting, settings: &Settings) -> String {
    let text = setting.exact_text(settings);
    if setting.is_bare(&text) {
        text
    } else {
        quoted(&text)
    }
}

/// A string, formatted as TOML.
#[must_use]
pub(crate) fn quoted(text: &str) -> String {
    ::toml::Value::String(text.into()).to_string()
}

/// Small sizes of pages and segments, for scenarios. Records often cross the boundaries of such
/// pages and segments.
pub const TINY: Geometry = Geometry::TINY;

/// The longest row value that fits on a page. The page also contains a page header, a line pointer
/// and a tuple header.
#[must_use]
pub const fn longest_row(geometry: &Geometry) -> u32 {
    geometry.data_page - 72
}
