//! Units of settings: their names and conversion factors. Mirrors the conversion tables of guc.c.

use super::number::is_space;
use crate::base::Geometry;
use crate::base::double::Double;
use crate::base::units::{SIZES, TIMES};
use alloc::format;
use alloc::string::String;

/// The unit of a setting. A number that is written without a unit has this unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Bytes.
    Byte,
    /// 1024 bytes.
    Kilobyte,
    /// 1024 · 1024 bytes.
    Megabyte,
    /// Data pages, `BLCKSZ`.
    DataPage,
    /// WAL pages, `XLOG_BLCKSZ`.
    WalPage,
    /// Milliseconds.
    Millisecond,
    /// Seconds.
    Second,
    /// Minutes.
    Minute,
}

impl Unit {
    /// Is it a unit of time? Otherwise it is a unit of memory.
    #[must_use]
    pub const fn is_time(self) -> bool {
        matches!(self, Self::Millisecond | Self::Second | Self::Minute)
    }

    /// The size of the unit in bytes or microseconds.
    #[must_use]
    pub const fn size(self, geometry: &Geometry) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Kilobyte => 1 << 10,
            Self::Megabyte => 1 << 20,
            Self::DataPage => geometry.data_page as u64,
            Self::WalPage => geometry.wal_page as u64,
            Self::Millisecond => 1000,
            Self::Second => 1_000_000,
            Self::Minute => 60_000_000,
        }
    }

    /// The units in which a value may be written, largest first. Their sizes are in bytes or
    /// microseconds.
    pub(super) const fn names(self) -> &'static [(&'static str, u64)] {
        if self.is_time() { &TIMES } else { &SIZES }
    }

    /// `get_config_unit_name`
    #[must_use]
    pub fn name(self, geometry: &Geometry) -> String {
        match self {
            Self::Byte => "B".into(),
            Self::Kilobyte => "kB".into(),
            Self::Megabyte => "MB".into(),
            Self::DataPage | Self::WalPage => match self.size(geometry) {
                size if size.is_multiple_of(1024) => format!("{}kB", size / 1024),
                size => format!("{size}B"),
            },
            Self::Millisecond => "ms".into(),
            Self::Second => "s".into(),
            Self::Minute => "min".into(),
        }
    }

    /// The HINT for an unknown unit.
    pub(super) const fn hint(self) -> &'static str {
        if self.is_time() {
            "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\"."
        } else {
            "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\"."
        }
    }

    /// Converts a number from the unit `name` to this unit (`convert_to_base_unit`). Returns `None`
    /// if there is no such unit.
    pub(super) fn convert(self, number: Double, name: &str, geometry: &Geometry) -> Option<Double> {
        let name = name.trim_end_matches(is_space);
        let names = self.names();
        let at = names.iter().position(|(other, _)| *other == name)?;
        let base = double(self.size(geometry));
        let factor = |at: usize| double(names[at].1).over(base);
        let value = number.times(factor(at));
        if at + 1 == names.len() {
            return Some(value);
        }
        // "30.1GB" is rounded to a whole number of the next smaller unit.
        let smaller = factor(at + 1);
        Some(value.over(smaller).rint().times(smaller))
    }
}

fn double(size: u64) -> Double {
    Double::from_i64(i64::try_from(size).expect("units have 37 bits or fewer"))
}
