//! Why a standby may stay behind for ever: reasons that are proven from the state of both sides. PostgreSQL promises
//! nothing to a standby whose WAL was removed, or whose slot is gone; an operator has to act.

use super::World;
use walsim_core::base::{Lsn, PgVersion};
use walsim_core::shmem::{Slot, WalSndState};
use walsim_core::wal::names::segment_name;

/// A reason that no retry removes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// The upstream does not know the slot that the standby is told to use.
    SlotDropped,
    /// The upstream has given the slot up, and says so (since 17).
    SlotInvalidated,
    /// The upstream has removed the segment that the standby needs next, and no slot of the standby held it.
    WalRemoved,
}

impl World {
    /// Is there such a reason for this standby, now? None while either side is not up: it could still go on by itself.
    pub(super) fn legal_reason(&self, host: usize) -> Option<Reason> {
        let upstream = self.upstream(host)?;
        let ours = self.hosts[host].node.as_ref()?.view().shmem();
        let theirs = self.hosts[upstream].node.as_ref()?.view().shmem();
        let name = &ours.settings.primary_slot_name;
        let mut slots = theirs.slots.slots.iter();
        let slot = slots.find(|slot| slot.in_use && slot.name == *name);
        if !name.is_empty() && slot.is_none() {
            return Some(Reason::SlotDropped);
        }
        let tells = match theirs.settings.pg_version {
            PgVersion::V15 => false,
            PgVersion::V18 => true,
        };
        if tells && slot.is_some_and(|slot| slot.invalidated.is_some()) {
            return Some(Reason::SlotInvalidated);
        }
        let lost = !self.is_served(upstream, host) && self.lacks_removed_wal(host, upstream, slot);
        lost.then_some(Reason::WalRemoved)
    }

    fn upstream(&self, host: usize) -> Option<usize> {
        let (name, _) = self.hosts[host].plan.settings.primary_conninfo.as_ref()?;
        self.hosts.iter().position(|other| other.plan.name == *name)
    }

    /// Does a walsender stream to this standby? What is under way to it may be all that it needs.
    fn is_served(&self, upstream: usize, host: usize) -> bool {
        let (server, client) = (self.hosts[upstream].index, self.hosts[host].index);
        let senders = self.hosts[upstream].node.iter();
        let mut senders = senders.flat_map(|node| &node.view().shmem().walsnd);
        senders.any(|sender| {
            let peer = sender.conn.and_then(|conn| self.net.peer(server, conn));
            sender.state != WalSndState::Startup && peer.is_some_and(|(peer, _)| peer == client)
        })
    }

    fn lacks_removed_wal(&self, host: usize, upstream: usize, slot: Option<&Slot>) -> bool {
        let (Some(ours), Some(theirs)) = (&self.hosts[host].node, &self.hosts[upstream].node)
        else {
            return false;
        };
        let (ours, theirs) = (ours.view().shmem(), theirs.view().shmem());
        let geometry = &self.hosts[host].plan.settings.geometry;
        // Before it has replayed anything it needs what its control file asks for.
        let from = match ours.recovery.last_replayed_end {
            Lsn::INVALID => ours.control.checkpoint_copy.redo,
            replayed => replayed,
        };
        let missing = self.checks.first_missing(&self.hosts[host].disk, from);
        let name = segment_name(geometry, ours.control.checkpoint_copy.this_tli, missing);
        let file = format!("pg_wal/{name}");
        let is_there = self.hosts[upstream].disk.read_cached(&file, 0, 1).is_some();
        let held = slot.is_some_and(|slot| {
            let start = slot.restart_lsn;
            start != Lsn::INVALID && geometry.segment_of(start) <= missing
        });
        !is_there && !held && missing <= geometry.segment_of(theirs.xlog.flush)
    }
}
