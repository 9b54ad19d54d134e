//! F0: the small types that every floor speaks in.

mod bug;
mod geometry;
mod ids;
mod lsn;
mod named;
mod probe;
mod settings;
mod spelling;
#[cfg(test)]
pub(crate) mod testing;
mod time;
mod units;

pub use bug::{Bug, Planted};
pub use geometry::{Geometry, GeometryError};
pub use ids::{ConnId, Fd, OpId, Pid, SegmentNo, TimelineId, Xid};
pub use lsn::{Lsn, ParseLsnError};
pub use probe::{Mark, MarkSet, Probe};
pub use settings::{PgVersion, SETTINGS, Setting, Settings, WalLevel, setting_named};
pub use spelling::did_you_mean;
pub use time::{Mono, Now, TimestampTz, UnixTime};
pub use units::{UnitError, duration_us, show_size, show_us, size, thousandths, whole};
