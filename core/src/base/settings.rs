//! The settings (GUCs) that walsim supports. Sizes are in bytes, times in milliseconds.

mod conf_file;
mod encoding;
mod error;
mod home;
mod number;
mod plan;
mod session;
mod set;
mod show;
mod table;
mod unit;
mod value;

pub use conf_file::{ConfError, ConfLine, parse_conf_file, quoted_for_conf_file};
pub use error::SettingError;
pub use number::Real;
pub use session::SessionSettings;
pub use set::{kept_settings, setting_named};
pub use table::{Setting, TABLE};
pub use unit::Unit;
pub use value::{Context, Kind, Value, parse_bool};

use super::Geometry;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// The supported major versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PgVersion {
    /// 15
    V15,
    /// 16
    V16,
    /// 17
    V17,
    /// 18
    V18,
    /// 19
    V19,
}

impl PgVersion {
    /// The versions that a simulated server can run, oldest first.
    pub const ALL: [Self; 5] = [Self::V15, Self::V16, Self::V17, Self::V18, Self::V19];

    /// The major version number, 15 to 19.
    #[must_use]
    pub const fn major(self) -> u32 {
        match self {
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
            Self::V19 => 19,
        }
    }

    /// The version with this number.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let major = text.parse().ok()?;
        Self::ALL
            .into_iter()
            .find(|version| version.major() == major)
    }

    /// The `server_version` of the minor release with which the behavior of this version was
    /// compared.
    #[must_use]
    pub const fn server_version(self) -> &'static str {
        match self {
            Self::V15 => "15.18",
            Self::V16 => "16.14",
            Self::V17 => "17.10",
            Self::V18 => "18.6",
            Self::V19 => "19rc1",
        }
    }
}

/// `wal_level`, with the numbers that the control file and the WAL use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(i32)]
pub enum WalLevel {
    /// `minimal`: has only what crash recovery needs.
    Minimal = 0,
    /// `replica`: enough for archiving and physical replication.
    Replica = 1,
    /// `logical`: also has the information that logical decoding needs.
    Logical = 2,
}

/// The configuration of one server. The defaults are PostgreSQL's unless the comment of a field
/// says otherwise.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// The version whose formats and behavior this server has.
    pub pg_version: PgVersion,
    /// Page and segment sizes.
    pub geometry: Geometry,
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `shared_buffers`, in data pages.
    pub shared_buffers: u32,
    /// `wal_buffers`, in WAL pages. At least 4.
    pub wal_buffers: u32,
    /// `wal_writer_delay`.
    pub wal_writer_delay_ms: u32,
    /// `wal_writer_flush_after`, in WAL pages.
    pub wal_writer_flush_after: u32,
    /// `full_page_writes`.
    pub full_page_writes: bool,
    /// `checkpoint_timeout`. PostgreSQL's minimum is 30 s, but simulations use less.
    pub checkpoint_timeout_ms: u32,
    /// `checkpoint_completion_target`
    pub checkpoint_completion_target: Real,
    /// `max_wal_size`.
    pub max_wal_size: u64,
    /// `min_wal_size`.
    pub min_wal_size: u64,
    /// `wal_keep_size`.
    pub wal_keep_size: u64,
    /// `wal_recycle`: whether old segments are renamed for future use instead of removed.
    pub wal_recycle: bool,
    /// `max_replication_slots`.
    pub max_replication_slots: u32,
    /// `max_slot_wal_keep_size`. `None` means no limit, which is -1 in PostgreSQL.
    pub max_slot_wal_keep_size: Option<u64>,
    /// `idle_replication_slot_timeout` in seconds (since 18). 0 disables the timeout.
    pub idle_replication_slot_timeout_s: u32,
    /// `primary_slot_name`. Empty if the walreceiver uses no slot.
    pub primary_slot_name: String,
    /// `wal_sender_timeout`. 0 disables the timeout.
    pub wal_sender_timeout_ms: u32,
    /// `wal_receiver_timeout`. 0 disables the timeout.
    pub wal_receiver_timeout_ms: u32,
    /// `wal_receiver_status_interval`. 0 disables status updates at intervals.
    pub wal_receiver_status_interval_ms: u32,
    /// `wal_retrieve_retry_interval`.
    pub wal_retrieve_retry_interval_ms: u32,
    /// `hot_standby`.
    pub hot_standby: bool,
    /// `primary_conninfo`: host and port of the upstream.
    pub primary_conninfo: Option<(String, u16)>,
    /// `cluster_name`: the application_name of the walreceiver.
    pub cluster_name: String,
    /// `restart_after_crash`.
    pub restart_after_crash: bool,
    /// The configured values of those settings that each session can change for itself. A setting
    /// that is left at its default is absent.
    pub session_defaults: BTreeMap<&'static str, Value>,
}

impl Settings {
    /// PostgreSQL's defaults for a version and a geometry, with a small buffer pool.
    #[must_use]
    pub fn new(pg_version: PgVersion, geometry: Geometry) -> Self {
        Self {
            pg_version,
            geometry,
            max_connections: 100,
            max_wal_senders: 10,
            shared_buffers: 64,
            wal_buffers: 16,
            wal_writer_delay_ms: 200,
            wal_writer_flush_after: 128,
            full_page_writes: true,
            checkpoint_timeout_ms: 300_000,
            checkpoint_completion_target: Real::from_thousandths(900),
            max_wal_size: 64 * u64::from(geometry.segment),
            min_wal_size: 5 * u64::from(geometry.segment),
            wal_keep_size: 0,
            wal_recycle: true,
            max_replication_slots: 10,
            max_slot_wal_keep_size: None,
            idle_replication_slot_timeout_s: 0,
            primary_slot_name: String::new(),
            wal_sender_timeout_ms: 60_000,
            wal_receiver_timeout_ms: 60_000,
            wal_receiver_status_interval_ms: 10_000,
            wal_retrieve_retry_interval_ms: 5_000,
            hot_standby: true,
            primary_conninfo: None,
            cluster_name: String::new(),
            restart_after_crash: true,
            session_defaults: BTreeMap::new(),
        }
    }

    /// Applies all settings of `config` that a running server can change. Returns the names of the
    /// changed settings that need a restart.
    pub fn reload(&mut self, config: &Self) -> Vec<&'static str> {
        // All fields are listed here, so that a new field is a compile error until this function
        // handles it.
        let Self {
            pg_version: _,
            geometry: _,
            max_connections,
            max_wal_senders,
            shared_buffers,
            wal_buffers,
            wal_writer_delay_ms,
            wal_writer_flush_after,
            // A change of full_page_writes would have to be logged in WAL (UpdateFullPageWrites).
            // walsim does not support such a change.
            full_page_writes: _,
            checkpoint_timeout_ms,
            checkpoint_completion_target,
            max_wal_size,
            min_wal_size,
            wal_keep_size,
            wal_recycle,
            max_replication_slots,
            max_slot_wal_keep_size,
            idle_replication_slot_timeout_s,
            primary_slot_name,
            wal_sender_timeout_ms,
            wal_receiver_timeout_ms,
            wal_receiver_status_interval_ms,
            wal_retrieve_retry_interval_ms,
            hot_standby,
            primary_conninfo,
            cluster_name,
            restart_after_crash,
            session_defaults,
        } = config;
        let refused = [
            ("max_connections", self.max_connections != *max_connections),
            ("max_wal_senders", self.max_wal_senders != *max_wal_senders),
            ("shared_buffers", self.shared_buffers != *shared_buffers),
            ("wal_buffers", self.wal_buffers != *wal_buffers),
            (
                "max_replication_slots",
                self.max_replication_slots != *max_replication_slots,
            ),
            ("hot_standby", self.hot_standby != *hot_standby),
            ("cluster_name", self.cluster_name != *cluster_name),
        ];
        self.wal_writer_delay_ms = *wal_writer_delay_ms;
        self.wal_writer_flush_after = *wal_writer_flush_after;
        self.checkpoint_timeout_ms = *checkpoint_timeout_ms;
        self.checkpoint_completion_target = *checkpoint_completion_target;
        self.max_wal_size = *max_wal_size;
        self.min_wal_size = *min_wal_size;
        self.wal_keep_size = *wal_keep_size;
        self.wal_recycle = *wal_recycle;
        self.max_slot_wal_keep_size = *max_slot_wal_keep_size;
        self.idle_replication_slot_timeout_s = *idle_replication_slot_timeout_s;
        self.primary_slot_name.clone_from(primary_slot_name);
        self.wal_sender_timeout_ms = *wal_sender_timeout_ms;
        self.wal_receiver_timeout_ms = *wal_receiver_timeout_ms;
        self.wal_receiver_status_interval_ms = *wal_receiver_status_interval_ms;
        self.wal_retrieve_retry_interval_ms = *wal_retrieve_retry_interval_ms;
        self.primary_conninfo.clone_from(primary_conninfo);
        self.restart_after_crash = *restart_after_crash;
        self.session_defaults.clone_from(session_defaults);
        let differing = refused.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(name, _)| name).collect()
    }

    /// The number of segments between checkpoints (`CalculateCheckpointSegments`). At least 1.
    #[must_use]
    pub fn checkpoint_segments(&self) -> u64 {
        let segments = self.max_wal_size / u64::from(self.geometry.segment);
        let target = u64::from(self.checkpoint_completion_target.thousandths());
        (segments.saturating_mul(1000) / (1000 + target)).max(1)
    }
}
