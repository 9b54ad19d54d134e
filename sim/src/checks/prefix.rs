//! PREFIX: all nodes of a timeline have the same WAL. What was flushed anywhere never changes again, only a primary makes
//! WAL longer, and a record is applied only if it is whole and where the one before it ended.

use super::ledger::Ledger;
use super::{Known, Scene, Site, wal_files};
use crate::disk::Disk;
use crate::world::Violation;
use std::ops::Range;
use walsim_core::base::{Geometry, Lsn, TimelineId};
use walsim_core::shmem::Role;

const CODE: &str = "PREFIX";

/// What was last seen in the shared memory of each node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Prefix {
    nodes: Vec<Seen>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Seen {
    flush: Lsn,
    replayed: Lsn,
}

/// WAL of a node and the ledger that it is held against.
pub(super) struct Wal<'a> {
    pub(super) site: Site<'a>,
    pub(super) disk: &'a Disk,
    pub(super) geometry: Geometry,
    pub(super) tli: TimelineId,
    pub(super) ledger: &'a mut Ledger,
    pub(super) known: &'a mut Known,
    /// May the node have WAL that nobody has flushed before?
    pub(super) extends: bool,
}

impl Prefix {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: vec![Seen::default(); nodes],
        }
    }

    /// The shared memory of a node is new.
    pub(super) fn forget(&mut self, host: usize) {
        self.nodes[host] = Seen::default();
    }

    /// Returns the end of WAL if a primary has found it in this step.
    pub(super) fn after_step(
        &mut self,
        scene: &Scene<'_>,
        wal: &mut Wal<'_>,
    ) -> Result<Option<Lsn>, Violation> {
        let shmem = scene.view.shmem();
        let seen = &mut self.nodes[scene.host];
        let flush = if wal.extends {
            shmem.xlog.flush
        } else {
            shmem.walrcv.flushed_upto
        };
        let mut recovered = None;
        if flush != seen.flush {
            let before = std::mem::replace(&mut seen.flush, flush);
            match scene.ran {
                // The start of a segment that is requested of the upstream counts as flushed at once. A segment before
                // it may have lost its end in a crash, if a record that goes on in the next one begins in it: nobody
                // has read that record yet. The same happens on real servers.
                Some((_, Role::Startup)) if !wal.extends => {}
                Some((_, Role::Startup)) if !before.is_valid() => {
                    recovered = Some(flush);
                    wal.recovered(flush)?;
                    wal.flushed(flush)?;
                }
                // Nor was what lies before the request received since.
                Some(_) | None if !wal.extends => {
                    let start = before.max(shmem.walrcv.receive_start);
                    wal.grown(start.min(flush)..flush)?;
                }
                Some(_) | None => wal.grown(before..flush)?,
            }
        }
        let replayed = shmem.recovery.last_replayed_end;
        if replayed != seen.replayed {
            let before = std::mem::replace(&mut seen.replayed, replayed);
            wal.replayed(before, shmem.recovery.last_replayed_read, replayed)?;
        }
        Ok(recovered)
    }
}

impl Wal<'_> {
    /// The node holds everything up to `upto` to be flushed.
    pub(super) fn flushed(&mut self, upto: Lsn) -> Result<(), Violation> {
        if upto > self.known.wal {
            self.compared(self.known.wal.max(self.known.kept)..upto)?;
            self.known.wal = upto;
        }
        Ok(())
    }

    /// The node has flushed more than before. What lies before that may still be missing.
    fn grown(&mut self, range: Range<Lsn>) -> Result<(), Violation> {
        if range.start <= self.known.wal {
            return self.flushed(range.end);
        }
        if range.is_empty() {
            Ok(())
        } else {
            self.compared(range)
        }
    }

    /// Holds bytes of the node against the ledger, or adds them to it.
    fn compared(&mut self, range: Range<Lsn>) -> Result<(), Violation> {
        let upto = range.end;
        let bytes = wal_files::read(self.disk, &self.geometry, self.tli, range.clone());
        if (bytes.len() as u64) < range.end - range.start {
            let end = range.start + bytes.len() as u64;
            return Err(self.site.violation(
                CODE,
                "WAL that counts as flushed is not in its file",
                &[("flushed", &upto), ("end of the file", &end)],
            ));
        }
        self.compare(
            range.start,
            &bytes,
            "flushed WAL differs from what was flushed there before",
        )?;
        let end = self.ledger.end();
        if upto > end {
            if !self.extends {
                return Err(self.site.violation(
                    CODE,
                    "a standby has WAL that the primary has never flushed",
                    &[
                        ("flushed on the standby", &upto),
                        ("flushed on the primary", &end),
                    ],
                ));
            }
            let new = usize::try_from(end.0.saturating_sub(range.start.0)).expect("within bytes");
            self.ledger.append(&bytes[new..]);
        }
        Ok(())
    }

    /// Crash recovery of a primary has found the end of its WAL.
    fn recovered(&self, end: Lsn) -> Result<(), Violation> {
        if end >= self.known.wal {
            return Ok(());
        }
        Err(self.site.violation(
            CODE,
            "recovery ends before WAL that had been flushed, which new WAL will overwrite",
            &[
                ("end of recovery", &end),
                ("flushed before", &self.known.wal),
            ],
        ))
    }

    /// Bytes were written into a segment.
    pub(super) fn written(&self, at: Lsn, bytes: &[u8]) -> Result<(), Violation> {
        let flushed = self.known.wal.0.saturating_sub(at.0);
        let len = usize::try_from(flushed)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.compare(
            at,
            &bytes[..len],
            "WAL that had been flushed was overwritten with other bytes",
        )
    }

    fn compare(&self, at: Lsn, bytes: &[u8], message: &str) -> Result<(), Violation> {
        let place = if self.extends {
            self.ledger.difference(at, bytes)
        } else {
            self.ledger.difference_on_a_standby(at, bytes)
        };
        let Some(place) = place else { return Ok(()) };
        let ours = usize::try_from(place - at)
            .ok()
            .and_then(|index| bytes.get(index).copied());
        let theirs = self.ledger.byte(place);
        let hex = |byte: Option<u8>| byte.map_or_else(String::new, |byte| format!("{byte:#04x}"));
        Err(self.site.violation(
            CODE,
            message,
            &[
                ("first difference", &place),
                ("here", &hex(ours)),
                ("first flushed", &hex(theirs)),
                ("end of WAL", &self.ledger.end()),
            ],
        ))
    }

    /// Records were applied: `before` was the end of the last one, now it is the one from `read` to `end`.
    fn replayed(&mut self, before: Lsn, read: Lsn, end: Lsn) -> Result<(), Violation> {
        self.known.applied = Lsn::INVALID;
        if !end.is_valid() {
            return Ok(());
        }
        if self.extends {
            self.flushed(end)?;
        }
        if !before.is_valid() {
            // Where recovery begins nothing has been applied yet, or only the checkpoint that it begins with.
            if read.is_valid() {
                self.known.applied = end;
            }
            return self.flushed(end);
        }
        let facts = |facts: Range<Lsn>, read: Lsn| {
            [
                ("from", facts.start),
                ("to", facts.end),
                ("last record", read),
            ]
        };
        if end < before {
            let facts = facts(before..end, read);
            let facts = facts
                .each_ref()
                .map(|(name, lsn)| (*name, lsn as &dyn std::fmt::Display));
            return Err(self
                .site
                .violation(CODE, "the replay position went back", &facts));
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
                self.known.applied = record.end;
                Ok(())
            }
            Some(_) | None => {
                let facts = facts(before..end, read);
                let facts = facts
                    .each_ref()
                    .map(|(name, lsn)| (*name, lsn as &dyn std::fmt::Display));
                let message = if at < end {
                    "a record was applied that is not whole in the WAL that was flushed"
                } else {
                    "the record that was applied is not the one behind the last"
                };
                Err(self.site.violation(CODE, message, &facts))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, builder, message};
    use super::*;

    fn message_of(result: Result<(), Violation>) -> String {
        result.expect_err("it bites").message
    }

    /// A primary with two records, the second of which is long, flushed up to `end`.
    fn bench(end: Option<u64>) -> (Bench, Vec<walsim_core::wal::Placed>) {
        let mut wal = builder();
        let records = vec![wal.append(&message(3, 10)), wal.append(&message(4, 600))];
        let mut bench = Bench::new(wal.bytes());
        let end = end.map_or(records[1].end, Lsn);
        bench
            .wal(true, |wal| wal.flushed(end))
            .expect("a primary may");
        (bench, records)
    }

    #[test]
    fn a_standby_may_have_a_prefix_and_no_more() {
        let (mut bench, records) = bench(Some(1024 + 512));
        bench.forget_node();
        assert_eq!(bench.wal(false, |wal| wal.flushed(records[0].end)), Ok(()));
        let beyond = bench.wal(false, |wal| wal.flushed(records[1].end));
        assert!(message_of(beyond).contains("never flushed"));
    }

    #[test]
    fn other_bytes_below_the_flushed_end_bite_and_equal_ones_do_not() {
        let (mut bench, records) = bench(None);
        let same = bench.wal_bytes[40..100].to_vec();
        assert_eq!(
            bench.wal(true, |wal| wal.written(Lsn(1024 + 40), &same)),
            Ok(())
        );
        let mut other = same;
        other[59] ^= 1;
        let written = bench.wal(true, |wal| wal.written(Lsn(1024 + 40), &other));
        let violation = written.expect_err("it bites");
        assert_eq!(violation.facts[0].1, Lsn(1024 + 99).to_string());
        // Behind the end anything may be written.
        assert_eq!(
            bench.wal(true, |wal| wal.written(records[1].end, &[1; 9])),
            Ok(())
        );
    }

    #[test]
    fn a_standby_with_other_bytes_bites() {
        let (mut bench, records) = bench(None);
        bench.forget_node();
        bench.corrupt(60);
        let flushed = bench.wal(false, |wal| wal.flushed(records[0].end));
        assert!(message_of(flushed).contains("differs"));
    }

    /// A standby streams on behind a segment whose end a crash took: the rest is compared all the same.
    #[test]
    fn a_gap_before_what_was_flushed_is_not_looked_at() {
        let (mut bench, _) = bench(None);
        bench.forget_node();
        bench.corrupt(60);
        let mut grown = |from: u64, to: u64| {
            bench.wal(false, |wal| wal.grown(Lsn(1024 + from)..Lsn(1024 + to)))
        };
        assert_eq!(grown(100, 200), Ok(()));
        assert!(message_of(grown(0, 200)).contains("differs"));
        bench.forget_node();
        bench.corrupt(150);
        let flushed = bench.wal(false, |wal| wal.grown(Lsn(1024 + 100)..Lsn(1024 + 200)));
        assert!(message_of(flushed).contains("differs"));
    }

    #[test]
    fn recovery_may_not_end_before_what_was_flushed() {
        let (mut bench, records) = bench(Some(1024 + 512));
        assert_eq!(
            bench.wal(true, |wal| wal.recovered(Lsn(1024 + 512))),
            Ok(())
        );
        let early = bench.wal(true, |wal| wal.recovered(records[0].end));
        assert!(message_of(early).contains("overwrite"));
    }

    #[test]
    fn records_are_applied_whole_and_one_behind_the_other() {
        let (mut bench, records) = bench(Some(1024 + 512));
        let [first, second] = [records[0], records[1]];
        let start = Lsn(1024);
        let mut replayed =
            |before, read, end| bench.wal(false, |wal| wal.replayed(before, read, end));
        assert_eq!(replayed(Lsn(0), Lsn(0), start), Ok(()));
        assert_eq!(replayed(start, first.start, first.end), Ok(()));
        let wrong = replayed(start, second.start, first.end);
        assert!(message_of(wrong).contains("not the one behind"));
        let incomplete = replayed(first.end, second.start, second.end);
        assert!(message_of(incomplete).contains("not whole"));
        assert!(message_of(replayed(first.end, Lsn(0), start)).contains("went back"));
    }

    /// What a crash left is WAL as soon as a primary has applied it.
    #[test]
    fn crash_recovery_of_a_primary_extends_the_ledger() {
        let (mut bench, records) = bench(Some(1024 + 512));
        let [first, second] = [records[0], records[1]];
        let applied = bench.wal(true, |wal| {
            wal.replayed(first.end, second.start, second.end)
        });
        assert_eq!((applied, bench.ledger.end()), (Ok(()), second.end));
    }
}
