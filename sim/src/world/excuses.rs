//! Why a standby may stay behind for ever: reasons that are proven from the state of both sides. PostgreSQL promises
//! nothing to a standby whose WAL was removed, or whose slot is gone; an operator has to act.

use super::World;
use walsim_core::base::{Geometry, Lsn, PgVersion, SegmentNo};
use walsim_core::shmem::WalSndState;
use walsim_core::wal::names::segment_path;
use walsim_core::wire::page::LongPageHeader;
use walsim_core::wire::record::RecordHeader;

/// A reason that no retry removes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Excuse {
    /// The upstream does not know the slot that the standby is told to use.
    SlotDropped,
    /// The upstream has given the slot up, and says so (since 17).
    SlotInvalidated,
    /// The upstream has removed the segment that the standby asks for. Whether it may have done so is SLOT's and RETAIN's
    /// business.
    WalRemoved,
}

impl World {
    /// Is there such a reason for this standby, now? None while either side is not up: it could still go on by itself.
    pub(super) fn excuse(&self, host: usize) -> Option<Excuse> {
        let upstream = self.upstream(host)?;
        let ours = self.hosts[host].node.as_ref()?.view().shmem();
        let theirs = self.hosts[upstream].node.as_ref()?.view().shmem();
        let name = &ours.settings.primary_slot_name;
        let mut slots = theirs.slots.slots.iter();
        let slot = slots.find(|slot| slot.in_use && slot.name == *name);
        if !name.is_empty() && slot.is_none() {
            return Some(Excuse::SlotDropped);
        }
        let tells = theirs.settings.pg_version >= PgVersion::V18;
        if tells && slot.is_some_and(|slot| slot.invalidated.is_some()) {
            return Some(Excuse::SlotInvalidated);
        }
        let lost = !self.is_served(upstream, host) && self.lacks_removed_wal(host, upstream);
        lost.then_some(Excuse::WalRemoved)
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

    fn lacks_removed_wal(&self, host: usize, upstream: usize) -> bool {
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
        let missing = asked_for(
            geometry,
            from,
            self.referee.first_missing(&self.hosts[host].disk, from),
        );
        let file = segment_path(geometry, ours.control.checkpoint_copy.this_tli, missing);
        let is_there = self.hosts[upstream].disk.read_cached(&file, 0, 1).is_some();
        !is_there && missing <= geometry.segment_of(theirs.xlog.flush)
    }
}

/// Which segment a standby asks for that has applied everything up to `from`, and lacks WAL from `missing` on. Where a
/// segment has no header yet that segment will do. Anywhere else the record is read again from its beginning, and the
/// stream with it: from behind its header, as far as that stands on its first page
/// (docs/hazards/record-begins-before-the-slot.md).
fn asked_for(geometry: &Geometry, from: Lsn, missing: Lsn) -> SegmentNo {
    let within = u64::from(geometry.segment_offset(missing));
    if missing > from && within < LongPageHeader::LEN as u64 {
        return geometry.segment_of(missing);
    }
    let page = u64::from(geometry.wal_page);
    let wanted = from.0 % page + RecordHeader::LEN as u64;
    geometry.segment_of(Lsn(from.0 - from.0 % page + wanted.min(page)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_a_record_or_for_a_segment_that_has_not_begun() {
        let geometry = Geometry {
            wal_page: 256,
            segment: 1024,
            data_page: 512,
            sector: 64,
        };
        for (from, missing, segment) in [
            // The rest of the record lies in the same segment, or in the next one, which has nothing yet.
            (1500, 1500, 1),
            (1500, 1700, 1),
            (1500, 2048, 2),
            (1500, 2080, 2),
            // The next one has a header: the whole record is read again.
            (1500, 2088, 1),
            (1500, 2500, 1),
            (1500, 3072, 3),
            // A header that is split over two segments is asked for by its second half.
            (2040, 2040, 2),
            (2016, 2016, 1),
        ] {
            let asked = asked_for(&geometry, Lsn(from), Lsn(missing));
            assert_eq!(asked, SegmentNo(segment), "{from} {missing}");
        }
    }
}
