//! Excuses: legal reasons why a standby cannot catch up until an operator repairs the standby.
//!
//! Each reason is a type with a witness and a cause. The witness is what the servers logged about
//! the standby after faults and workload had stopped. The cause is a legal event of the run. The
//! current state alone never excuses a standby. A standby that has the next record but does not
//! replay it has no excuse.

mod ahead_of_flush;
mod causes;
mod counts;
mod exemptions;
mod fsyncs;
mod hazards;
mod slot_dropped;
mod slot_invalidated;
mod slot_kept;
mod stale_wal;
mod wal_removed;
mod witness;

pub(super) use causes::Causes;
pub use counts::{ExcuseCounts, Excuses};
pub(super) use witness::Witness;

use super::World;
use ahead_of_flush::AheadOfFlush;
use slot_dropped::SlotDropped;
use slot_invalidated::SlotInvalidated;
use slot_kept::SlotKept;
use stale_wal::StaleWal;
use wal_removed::WalRemoved;
use walsim_core::base::Lsn;
use walsim_core::shmem::Shmem;

/// A reason why a standby cannot catch up although it retries, or a hazard of PostgreSQL that an
/// operator must end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Excuse {
    /// The upstream does not have the slot that the standby is configured to use.
    SlotDropped,
    /// The upstream has invalidated the slot, and refuses the standby with this error (since 18).
    SlotInvalidated,
    /// The checkpointer of the upstream owns the slot, because the checkpointer failed to save the
    /// slot: docs/hazards/slot-kept-by-the-checkpointer.md.
    SlotKept,
    /// The upstream has removed the segment that the standby requests.
    WalRemoved,
    /// The standby reads a record again and again, because the first half of the record is stale:
    /// docs/hazards/stale-first-half-of-a-record.md.
    StaleWal,
    /// The standby has applied all WAL and requests the next segment, which its idle upstream has
    /// not begun.
    AheadOfFlush,
    /// A shutdown that was requested in a crash restart never ends:
    /// docs/hazards/shutdown-in-crash-restart.md.
    ShutdownInCrashRestart,
    /// The postmaster ignored a crash during crash recovery: docs/hazards/crash-ignored.md.
    CrashPassedOver,
    /// An fsync error of the plan was skipped, because it would have hit SyncDataDirectory:
    /// docs/hazards/fsync-failure-in-crash-recovery.md.
    FsyncInCrashRecovery,
    /// An fsync error of the plan was skipped, because it would have hit the fsync of a segment
    /// after the rename in durable_rename: docs/hazards/segment-renamed-but-not-synced.md.
    SegmentRenamedNotSynced,
    /// An fsync of a segment also made the segment's name durable, because another process was
    /// still installing the segment: docs/hazards/segment-used-before-its-name-is-durable.md.
    SegmentNameNotDurable,
    /// WAL was removed that a slot required only according to its state file:
    /// docs/hazards/slot-file-behind-memory.md. PostgreSQL does this too, so the check SLOT does
    /// not report it (an exemption).
    SlotFileBehindMemory,
}

impl Excuse {
    /// All excuses.
    pub const ALL: [Self; 12] = [
        Self::SlotDropped,
        Self::SlotInvalidated,
        Self::SlotKept,
        Self::WalRemoved,
        Self::StaleWal,
        Self::AheadOfFlush,
        Self::ShutdownInCrashRestart,
        Self::CrashPassedOver,
        Self::FsyncInCrashRecovery,
        Self::SegmentRenamedNotSynced,
        Self::SegmentNameNotDurable,
        Self::SlotFileBehindMemory,
    ];

    /// The name in summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlotDropped => "slot-dropped",
            Self::SlotInvalidated => "slot-invalidated",
            Self::SlotKept => "slot-kept-by-checkpointer",
            Self::WalRemoved => "wal-removed",
            Self::StaleWal => "stale-wal",
            Self::AheadOfFlush => "ahead-of-flush",
            Self::ShutdownInCrashRestart => "shutdown-in-crash-restart",
            Self::CrashPassedOver => "crash-passed-over",
            Self::FsyncInCrashRecovery => "fsync-in-crash-recovery",
            Self::SegmentRenamedNotSynced => "segment-renamed-not-synced",
            Self::SegmentNameNotDurable => "segment-name-not-durable",
            Self::SlotFileBehindMemory => "slot-file-behind-memory",
        }
    }

    /// How often the operator may repair one standby that has this excuse. Two repairs are allowed
    /// where the operator's statement can be lost with its connection.
    pub(super) const fn most_helps(self) -> u32 {
        match self {
            Self::WalRemoved => 1,
            Self::SlotDropped
            | Self::SlotInvalidated
            | Self::SlotKept
            | Self::StaleWal
            | Self::AheadOfFlush => 2,
            Self::ShutdownInCrashRestart
            | Self::CrashPassedOver
            | Self::FsyncInCrashRecovery
            | Self::SegmentRenamedNotSynced
            | Self::SegmentNameNotDurable
            | Self::SlotFileBehindMemory => u32::MAX,
        }
    }
}

/// The two parts of an excuse.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
    /// What the servers logged about the standby after faults and workload had stopped.
    Witness,
    /// The legal event that caused the standby's state.
    Cause,
}

/// For tests: forces the decision about one part of an excuse.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Forced {
    /// The excuse.
    pub excuse: Excuse,
    /// The part.
    pub part: Part,
    /// Whether the part counts as true.
    pub holds: bool,
}

/// A standby that has not converged, and its upstream.
#[derive(Clone, Copy, Debug)]
struct Standby<'a> {
    host: usize,
    upstream: usize,
    ours: &'a Shmem,
    theirs: &'a Shmem,
    witness: &'a Witness,
    /// The end of the WAL that the standby has applied. If the standby has applied no WAL, this is
    /// the redo point in the control file of the standby.
    from: Lsn,
}

/// A legal reason why a standby cannot catch up.
trait Reason {
    const EXCUSE: Excuse;

    /// Whether the servers logged, after faults and workload had stopped, that the standby is in
    /// this state.
    fn witness(world: &World, standby: &Standby<'_>) -> bool;

    /// Whether a legal event of the run caused this state.
    fn cause(world: &World, standby: &Standby<'_>) -> bool;
}

impl World {
    /// The excuse of this standby, if it has one. Returns `None` while the standby or its upstream
    /// is down, because the standby may then still catch up by itself.
    pub(super) fn excuse(&self, host: usize) -> Option<Excuse> {
        let upstream = self.upstream(host)?;
        let ours = self.hosts[host].node.as_ref()?.view().shmem();
        let theirs = self.hosts[upstream].node.as_ref()?.view().shmem();
        let from = match ours.recovery.last_replayed_end {
            Lsn::INVALID => ours.control.checkpoint_copy.redo,
            replayed => replayed,
        };
        let witness = &self.witnesses[host];
        let standby = Standby {
            host,
            upstream,
            ours,
            theirs,
            witness,
            from,
        };
        let disk = &self.hosts[host].disk;
        if self.referee.known().holds_next_record(disk, from) {
            return None;
        }
        self.given::<SlotDropped>(&standby)
            .or_else(|| self.given::<SlotInvalidated>(&standby))
            .or_else(|| self.given::<SlotKept>(&standby))
            .or_else(|| self.given::<WalRemoved>(&standby))
            .or_else(|| self.given::<StaleWal>(&standby))
            .or_else(|| self.given::<AheadOfFlush>(&standby))
            .filter(|excuse| self.can_still_help(host, *excuse))
    }

    fn given<R: Reason>(&self, standby: &Standby<'_>) -> Option<Excuse> {
        let holds = self.part(R::EXCUSE, Part::Witness, || R::witness(self, standby))
            && self.part(R::EXCUSE, Part::Cause, || R::cause(self, standby));
        holds.then_some(R::EXCUSE)
    }

    fn part(&self, excuse: Excuse, part: Part, holds: impl FnOnce() -> bool) -> bool {
        match self.forced {
            Some(forced) if (forced.excuse, forced.part) == (excuse, part) => forced.holds,
            Some(_) | None => holds(),
        }
    }

    pub(super) fn upstream(&self, host: usize) -> Option<usize> {
        let (name, _) = self.hosts[host].plan.settings.primary_conninfo.as_ref()?;
        self.hosts.iter().position(|other| other.plan.name == *name)
    }

    /// Whether the bytes at the start of the next record look like the length of a record that
    /// continues in the next segment. Before the startup process requests the next segment, it
    /// checks only this length.
    fn begins_a_record_there(&self, standby: &Standby<'_>) -> bool {
        let geometry = &self.hosts[standby.host].plan.settings.geometry;
        let tli = standby.ours.control.checkpoint_copy.this_tli;
        let segment = geometry.segment_of(standby.from);
        let offset = u64::from(geometry.segment_offset(standby.from));
        let path = walsim_core::wal::names::segment_path(geometry, tli, segment);
        let disk = &self.hosts[standby.host].disk;
        let word = disk.read_cached(&path, offset, 4).unwrap_or_default();
        let Ok(word) = <[u8; 4]>::try_from(word) else {
            return false;
        };
        let len = u64::from(u32::from_le_bytes(word));
        len >= walsim_core::wire::record::RecordHeader::LEN as u64
            && offset + len > u64::from(geometry.segment)
    }
}
