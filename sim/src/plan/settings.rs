//! What a plan says of settings beyond their values, which are core's.

use walsim_core::base::{Geometry, Setting, Settings};

/// The value of a setting as TOML.
#[must_use]
pub(crate) fn shown(setting: &Setting, settings: &Settings) -> String {
    let text = setting.exact_text(settings);
    if setting.is_bare(&text) {
        text
    } else {
        quoted(&text)
    }
}

/// A string as TOML.
#[must_use]
pub(crate) fn quoted(text: &str) -> String {
    ::toml::Value::String(text.into()).to_string()
}

/// A small geometry for scenarios: records cross pages and segments all the time.
pub const TINY: Geometry = Geometry::TINY;

/// The longest value of a row that fits on a page: page header, line pointer and tuple header take
/// the rest.
#[must_use]
pub const fn longest_row(geometry: &Geometry) -> u32 {
    geometry.data_page - 72
}
