//! The progress of each node on its timeline. Compares the WAL of each node with the ledger, which
//! is the reference copy of the primary's WAL.

use super::ledger::Ledger;
use super::{FIRST_TIMELINE, control_file, wal_files};
use crate::disk::Disk;
use crate::referee::Step;
use std::ops::Range;
use walsim_core::base::{Geometry, Lsn, PgVersion, SegmentNo};
use walsim_core::shmem::Role;

/// What the referee knows about the WAL of one node. This knowledge does not rely on what processes
/// claim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    /// The end of the WAL that the node has flushed or applied. WAL before this end was compared
    /// with the reference copy.
    pub(crate) end: Lsn,
    /// No crash can destroy WAL before this position. WAL that is durable once is durable forever,
    /// because a node rewrites it only with equal bytes.
    pub(super) stable: Lsn,
    /// The start of the WAL that the node still has.
    pub(super) kept: Lsn,
    /// The end of the last record that the server has applied since its start. If that record is a
    /// segment switch, this is the end of the record and not of the segment.
    pub(super) applied: Lsn,
    /// The flush position last seen in shared memory.
    flush: Lsn,
    replayed: Lsn,
}

/// The flush position of a node has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flushed {
    /// The old position. This is invalid when the server has just started.
    pub from: Lsn,
    /// The new position.
    pub to: Lsn,
    /// Crash recovery of a primary has found the end of its WAL, and `to` is this end.
    pub ended_recovery: bool,
    /// What is wrong with the newly flushed WAL.
    pub fault: Option<WalFault>,
}

/// The replay position of a node has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// The old position. This is invalid when the server has just started.
    pub from: Lsn,
    /// The new position.
    pub to: Lsn,
    /// The start of the last applied record.
    pub read: Lsn,
    /// The end of the last applied record. This is `Lsn::INVALID` if this record is not the
    /// expected one. If the record is a segment switch, this is the end of the record and not of
    /// the segment.
    pub applied: Lsn,
    /// What is wrong with the replayed WAL.
    pub fault: Option<WalFault>,
}

/// What is wrong with the WAL of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WalFault {
    /// A WAL file ends before the flush position.
    Short {
        /// The flush position.
        flushed: Lsn,
        /// The end of the file.
        end: Lsn,
    },
    /// The node's WAL differs from the reference copy at this position.
    Differs(Difference),
    /// A standby has more WAL than the primary has ever flushed.
    Beyond {
        /// The flush position of the standby.
        here: Lsn,
        /// The flush position of the primary.
        primary: Lsn,
    },
    /// Recovery ended before the end of the flushed WAL.
    EndsEarly {
        /// The end of recovery.
        end: Lsn,
        /// The earlier flush position.
        flushed: Lsn,
    },
    /// The replay position went back.
    WentBack,
    /// The node applied a record that is not complete in the flushed WAL.
    NotWhole,
    /// The applied record does not follow the previously applied record.
    NotNext,
}

/// A difference between a node's WAL and the reference copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The first differing position.
    pub at: Lsn,
    /// The byte of the node.
    pub here: Option<u8>,
    /// The byte in the reference copy.
    pub first: Option<u8>,
    /// The end of the reference copy.
    pub end: Lsn,
}

/// A node's WAL, and the reference copy with which it is compared (`ledger`).
pub(crate) struct Wal<'a> {
    pub(crate) disk: &'a Disk,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) node: &'a mut Node,
    /// The node is a primary, so it may flush WAL that the reference copy does not contain yet.
    pub(crate) extends: bool,
}

impl Node {
    pub(crate) const fn new(start: Lsn) -> Self {
        Self {
            end: start,
            stable: start,
            kept: start,
            applied: Lsn::INVALID,
            flush: Lsn::INVALID,
            replayed: Lsn::INVALID,
        }
    }

    /// Called when the node's files were replaced by durable copies of another node's files.
    pub(super) const fn copied(&mut self, from: &Self) {
        self.end = from.end;
        self.stable = from.end;
        self.kept = from.kept;
        self.booted();
    }

    /// Called when the server was started with new shared memory.
    pub(super) const fn booted(&mut self) {
        self.flush = Lsn::INVALID;
        self.replayed = Lsn::INVALID;
        self.applied = Lsn::INVALID;
    }

    /// The position before which no crash can destroy WAL. The result is exact only if it is less
    /// than `wanted`.
    pub(crate) fn stable_until(&self, disk: &Disk, geometry: &Geometry, wanted: Lsn) -> Lsn {
        if wanted <= self.stable {
            return self.stable;
        }
        let range = self.stable.max(self.kept)..wanted.max(self.end);
        wal_files::stable_until(disk, geometry, FIRST_TIMELINE, range)
    }

    pub(super) fn step(
        &mut self,
        step: &Step<'_>,
        ledger: &mut Ledger,
    ) -> (Option<Flushed>, Option<Replayed>) {
        let shmem = step.view.shmem();
        let extends = shmem.settings.primary_conninfo.is_none();
        let flush = if extends {
            shmem.xlog.flush
        } else {
            shmem.walrcv.flushed_upto
        };
        let replayed = shmem.recovery.last_replayed_end;
        if flush == self.flush && replayed == self.replayed {
            return (None, None);
        }
        let before = self.end;
        let disk = step.disk;
        let (flush_before, replayed_before) = (self.flush, self.replayed);
        (self.flush, self.replayed) = (flush, replayed);
        let mut wal = Wal {
            disk,
            ledger,
            node: self,
            extends,
        };
        let flushed = (flush != flush_before).then(|| {
            let startup = matches!(step.ran, Some((_, Role::Startup)));
            wal.flush_moved(flush_before, flush, startup, shmem.walrcv.receive_start)
        });
        let replayed = (replayed != replayed_before).then(|| {
            let read = shmem.recovery.last_replayed_read;
            let fault = wal.replayed(replayed_before, read, replayed).err();
            Replayed {
                from: replayed_before,
                to: replayed,
                read,
                applied: wal.node.applied,
                fault,
            }
        });
        if self.end > before {
            let geometry = &shmem.settings.geometry;
            self.stable = self.stable_until(disk, geometry, self.end).max(self.stable);
        }
        (flushed, replayed)
    }
}

impl Wal<'_> {
    fn flush_moved(&mut self, from: Lsn, to: Lsn, startup: bool, receive_start: Lsn) -> Flushed {
        let mut ended_recovery = false;
        let outcome = match (self.extends, startup) {
            // RequestXLogStreaming sets the flush position to the start of the requested segment.
            // WAL before this segment may be missing: if the next record begins in the previous
            // segment, a crash may have destroyed the end of that segment. This is so on real
            // servers too, and it does no harm as long as no process reads the missing WAL.
            (false, true) => Ok(()),
            // After the request, no WAL before the requested position was received.
            (false, false) => {
                let start = from.max(receive_start);
                self.grown(start.min(to)..to)
            }
            (true, true) if !from.is_valid() => {
                ended_recovery = true;
                self.recovered(to).and_then(|()| self.flushed(to))
            }
            (true, _) => self.grown(from..to),
        };
        Flushed {
            from,
            to,
            ended_recovery,
            fault: outcome.err(),
        }
    }

    /// Checks all WAL before `upto`, because the node treats this WAL as flushed.
    pub(crate) fn flushed(&mut self, upto: Lsn) -> Result<(), WalFault> {
        if upto > self.node.end {
            self.compared(self.node.end.max(self.node.kept)..upto)?;
            self.node.end = upto;
        }
        Ok(())
    }

    /// Compares WAL after the flush position moved from `range.start` to `range.end`. WAL before
    /// `range.start` may still be missing.
    fn grown(&mut self, range: Range<Lsn>) -> Result<(), WalFault> {
        if range.start <= self.node.end {
            return self.flushed(range.end);
        }
        if range.is_empty() {
            Ok(())
        } else {
            self.compared(range)
        }
    }

    /// Compares the node's bytes with the reference copy. If the node is a primary, appends new
    /// bytes to the reference copy.
    fn compared(&mut self, range: Range<Lsn>) -> Result<(), WalFault> {
        let upto = range.end;
        let bytes = wal_files::read(
            self.disk,
            self.ledger.geometry(),
            FIRST_TIMELINE,
            range.clone(),
        );
        if (bytes.len() as u64) < range.end - range.start {
            let end = range.start + bytes.len() as u64;
            return Err(WalFault::Short { flushed: upto, end });
        }
        if let Some(differs) = difference(self.ledger, self.extends, range.start, &bytes) {
            return Err(WalFault::Differs(differs));
        }
        let end = self.ledger.end();
        if upto > end {
            if !self.extends {
                return Err(WalFault::Beyond {
                    here: upto,
                    primary: end,
                });
            }
            let new = usize::try_from(end.0.saturating_sub(range.start.0)).expect("within bytes");
            self.ledger.append(&bytes[new..]);
        }
        Ok(())
    }

    /// Crash recovery of a primary has found the end of its WAL.
    fn recovered(&mut self, end: Lsn) -> Result<(), WalFault> {
        self.ledger.found_end(end);
        let flushed = self.node.end;
        if end >= flushed {
            return Ok(());
        }
        Err(WalFault::EndsEarly { end, flushed })
    }

    /// Judges the records that the node has applied in this step. Before the step, the last applied
    /// record ended at `before`. The last record applied in this step begins at `read` and ends at
    /// `end`.
    fn replayed(&mut self, before: Lsn, read: Lsn, end: Lsn) -> Result<(), WalFault> {
        self.node.applied = Lsn::INVALID;
        if !end.is_valid() {
            return Ok(());
        }
        if self.extends {
            self.flushed(end)?;
        }
        if !before.is_valid() {
            // Recovery begins. Either no record has been applied yet, or only the checkpoint
            // record.
            if read.is_valid() {
                self.node.applied = end;
            }
            return self.flushed(end);
        }
        if end < before {
            return Err(WalFault::WentBack);
        }
        let mut at = before;
        let mut last = None;
        while at < end
            && let Some(record) = self.ledger.record_after(at)
        {
            at = record.next;
            last = Some(record);
        }
        match last {
            Some(record) if at == end && record.start == read => {
                self.flushed(record.end)?;
                self.node.applied = record.end;
                Ok(())
            }
            Some(_) | None if at < end => Err(WalFault::NotWhole),
            Some(_) | None => Err(WalFault::NotNext),
        }
    }
}

/// The first position at which bytes of a primary or of a standby differ from the reference copy.
pub(crate) fn difference(
    ledger: &Ledger,
    primary: bool,
    at: Lsn,
    bytes: &[u8],
) -> Option<Difference> {
    let place = if primary {
        ledger.difference(at, bytes)
    } else {
        ledger.difference_on_a_standby(at, bytes)
    }?;
    let index = usize::try_from(place - at).ok();
    Some(Difference {
        at: place,
        here: index.and_then(|index| bytes.get(index).copied()),
        first: ledger.byte(place),
        end: ledger.end(),
    })
}

/// The WAL with which every node of a new cluster begins. Its last record is the only checkpoint
/// record.
pub(super) fn first_wal(disk: &Disk, version: PgVersion, geometry: &Geometry) -> Ledger {
    let start = geometry.segment_start(SegmentNo(1));
    let mut ledger = Ledger::new(*geometry, start);
    if let Some(control) = control_file::cached(disk, version) {
        let end = control_file::checkpoint_end(disk, geometry, control.checkpoint);
        ledger.append(&wal_files::read(disk, geometry, FIRST_TIMELINE, start..end));
    }
    ledger
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{NodeFixture, builder, message};

    /// A primary that has written two records and has flushed WAL up to `end`. The second record is
    /// long.
    fn fixture(end: Option<u64>) -> (NodeFixture, Vec<walsim_core::wal::Placed>) {
        let mut wal = builder();
        let records = vec![wal.append(&message(3, 10)), wal.append(&message(4, 600))];
        let mut fixture = NodeFixture::new(wal.bytes());
        let end = end.map_or(records[1].end, Lsn);
        fixture
            .wal(true, |wal| wal.flushed(end))
            .expect("a primary may");
        (fixture, records)
    }

    #[test]
    fn a_standby_may_have_a_prefix_and_no_more() {
        let (mut fixture, records) = fixture(Some(1024 + 512));
        fixture.forget_node();
        assert_eq!(
            fixture.wal(false, |wal| wal.flushed(records[0].end)),
            Ok(())
        );
        let beyond = fixture.wal(false, |wal| wal.flushed(records[1].end));
        assert!(matches!(beyond, Err(WalFault::Beyond { .. })), "{beyond:?}");
    }

    #[test]
    fn a_standby_with_other_bytes_bites() {
        let (mut fixture, records) = fixture(None);
        fixture.forget_node();
        fixture.corrupt(60);
        let flushed = fixture.wal(false, |wal| wal.flushed(records[0].end));
        assert!(matches!(flushed, Err(WalFault::Differs(_))), "{flushed:?}");
    }

    /// A crash destroyed the end of a standby's segment, and the standby streams from the next
    /// segment on. Only the received WAL is compared.
    #[test]
    fn a_gap_before_what_was_flushed_is_not_looked_at() {
        let (mut fixture, _) = fixture(None);
        fixture.forget_node();
        fixture.corrupt(60);
        let mut grown = |from: u64, to: u64| {
            fixture.wal(false, |wal| wal.grown(Lsn(1024 + from)..Lsn(1024 + to)))
        };
        assert_eq!(grown(100, 200), Ok(()));
        assert!(matches!(grown(0, 200), Err(WalFault::Differs(_))));
        fixture.forget_node();
        fixture.corrupt(150);
        let flushed = fixture.wal(false, |wal| wal.grown(Lsn(1024 + 100)..Lsn(1024 + 200)));
        assert!(matches!(flushed, Err(WalFault::Differs(_))));
    }

    #[test]
    fn recovery_may_not_end_before_what_was_flushed() {
        let (mut fixture, records) = fixture(Some(1024 + 512));
        assert_eq!(
            fixture.wal(true, |wal| wal.recovered(Lsn(1024 + 512))),
            Ok(())
        );
        let early = fixture.wal(true, |wal| wal.recovered(records[0].end));
        assert!(matches!(early, Err(WalFault::EndsEarly { .. })));
    }

    #[test]
    fn records_are_applied_whole_and_one_after_the_other() {
        let (mut fixture, records) = fixture(Some(1024 + 512));
        let [first, second] = [records[0], records[1]];
        let start = Lsn(1024);
        let mut replayed =
            |before, read, end| fixture.wal(false, |wal| wal.replayed(before, read, end));
        assert_eq!(replayed(Lsn(0), Lsn(0), start), Ok(()));
        assert_eq!(replayed(start, first.start, first.end), Ok(()));
        assert_eq!(
            replayed(start, second.start, first.end),
            Err(WalFault::NotNext)
        );
        assert_eq!(
            replayed(first.end, second.start, second.end),
            Err(WalFault::NotWhole)
        );
        assert_eq!(replayed(first.end, Lsn(0), start), Err(WalFault::WentBack));
    }

    /// WAL that was not flushed before a crash counts as flushed when the primary's crash recovery
    /// has applied it.
    #[test]
    fn crash_recovery_of_a_primary_extends_the_ledger() {
        let (mut fixture, records) = fixture(Some(1024 + 512));
        let [first, second] = [records[0], records[1]];
        let applied = fixture.wal(true, |wal| {
            wal.replayed(first.end, second.start, second.end)
        });
        assert_eq!((applied, fixture.ledger.end()), (Ok(()), second.end));
    }
}
