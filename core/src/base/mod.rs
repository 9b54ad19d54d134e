//! Small types that all other modules use.

mod bug;
mod double;
mod geometry;
mod ids;
mod lsn;
mod named;
mod probe;
mod settings;
pub mod slot_name;
mod spelling;
#[cfg(test)]
pub(crate) mod testing;
mod time;
mod units;

pub use bug::{Bug, Planted};
pub use geometry::{Geometry, GeometryError};
pub use ids::{ConnId, Fd, OpId, Pid, SegmentNo, TimelineId, Xid};
pub use lsn::{Lsn, LsnText, ParseLsnError};
pub use probe::{Mark, MarkSet, Probe};
pub use settings::{
    ConfError, ConfLine, Context, Kind, PgVersion, Real, SessionSettings, Setting, SettingError,
    Settings, TABLE, Unit, Value, WalLevel, kept_settings, parse_bool, parse_conf_file,
    quoted_for_conf_file, setting_named,
};
pub use spelling::did_you_mean;
pub use time::{Mono, Now, TimestampTz, UnixTime};
pub use units::{UnitError, duration_us, show_size, show_us, size, whole};
