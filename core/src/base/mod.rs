//! F0: the small types that every floor speaks in.

mod geometry;
mod ids;
mod lsn;
mod probe;
mod settings;
#[cfg(test)]
pub(crate) mod testing;
mod time;

pub use geometry::{Geometry, GeometryError};
pub use ids::{ConnId, Fd, OpId, Pid, SegmentNo, TimelineId, Xid};
pub use lsn::{Lsn, ParseLsnError};
pub use probe::{Bug, Mark, MarkSet, Planted, Probe};
pub use settings::{PgVersion, Settings, WalLevel};
pub use time::{Mono, Now, TimestampTz};
