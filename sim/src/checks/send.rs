//! SEND: a walsender ships only WAL that no crash of its own node can take back, and ships it unchanged.

use super::ledger::Ledger;
use super::{Known, Scene, Site};
use crate::world::Violation;
use std::collections::BTreeMap;
use walsim_core::base::{Lsn, Pid};
use walsim_core::call::{Effect, NetOp};
use walsim_core::shmem::Role;

const CODE: &str = "SEND";

/// Bytes of a CopyData message before the WAL in it: `d`, length, `w`, three numbers.
const HEADER: usize = 30;

/// How far each walsender of each node has got.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Send {
    sent: BTreeMap<(usize, Pid), Lsn>,
}

impl Send {
    pub(super) fn forget(&mut self, host: usize) {
        self.sent.retain(|(other, _), _| *other != host);
    }

    /// How far a walsender has got.
    pub(super) fn sent(&self, host: usize, pid: Pid) -> Lsn {
        self.sent.get(&(host, pid)).copied().unwrap_or_default()
    }

    pub(super) fn after_step(
        &mut self,
        scene: &Scene<'_>,
        ledger: &Ledger,
        known: &mut Known,
    ) -> Result<(), Violation> {
        let Some((pid, Role::WalSender)) = scene.ran else {
            return Ok(());
        };
        let shmem = scene.view.shmem();
        let site = scene.site();
        let entry = shmem.walsnd.iter().find(|entry| entry.pid == Some(pid));
        if let Some(entry) = entry {
            let before = self
                .sent
                .insert((scene.host, pid), entry.sent)
                .unwrap_or_default();
            if entry.sent > before {
                if shmem.recovery_in_progress() {
                    let valid = shmem
                        .recovery
                        .last_replayed_end
                        .max(shmem.walrcv.flushed_upto);
                    cascaded(site, entry.sent, valid)?;
                } else {
                    let stable = known.stable_until(scene.disk, &scene.geometry, entry.sent);
                    sent(site, entry.sent, stable, shmem.xlog.flush)?;
                }
            }
        }
        for (_, effect) in &scene.effects.0 {
            if let Effect::Net(_, NetOp::Send([header, data])) = effect
                && let Some((start, rest)) = wal_in(header)
            {
                let middle = start + rest.len() as u64;
                unchanged(site, ledger, start, rest)?;
                unchanged(site, ledger, middle, data)?;
                if !shmem.recovery_in_progress() {
                    let end = middle + data.len() as u64;
                    let stable = known.stable_until(scene.disk, &scene.geometry, end);
                    sent(site, end, stable, shmem.xlog.flush)?;
                }
            }
        }
        Ok(())
    }
}

/// Where the WAL in a message belongs, and what of it stands in the same piece.
fn wal_in(piece: &[u8]) -> Option<(Lsn, &[u8])> {
    if piece.first() != Some(&b'd') || piece.get(5) != Some(&b'w') {
        return None;
    }
    let start = piece.get(6..14)?.try_into().ok()?;
    Some((Lsn(u64::from_be_bytes(start)), piece.get(HEADER..)?))
}

fn sent(site: Site<'_>, sent: Lsn, stable: Lsn, flush: Lsn) -> Result<(), Violation> {
    if sent <= stable {
        return Ok(());
    }
    Err(site.violation(
        CODE,
        "WAL was sent that a crash of the sender could still take back",
        &[
            ("sent", &sent),
            ("durable on its disk", &stable),
            ("flush position", &flush),
        ],
    ))
}

fn cascaded(site: Site<'_>, sent: Lsn, valid: Lsn) -> Result<(), Violation> {
    if sent <= valid {
        return Ok(());
    }
    let message = "a standby has sent WAL that it has neither replayed nor flushed";
    Err(site.violation(CODE, message, &[("sent", &sent), ("valid", &valid)]))
}

fn unchanged(site: Site<'_>, ledger: &Ledger, start: Lsn, bytes: &[u8]) -> Result<(), Violation> {
    let Some(at) = ledger.difference(start, bytes) else {
        return Ok(());
    };
    let facts: [(&str, &dyn std::fmt::Display); 2] =
        [("message", &start), ("first difference", &at)];
    Err(site.violation(CODE, "other bytes were sent than those in the WAL", &facts))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, SITE, builder, message};
    use super::*;
    use walsim_core::base::TimestampTz;
    use walsim_core::wire::replication::{XLogDataHeader, xlog_data_frame_header};

    #[test]
    fn wal_is_found_in_what_a_walsender_sends() {
        let header = XLogDataHeader {
            start: Lsn(77),
            wal_end: Lsn(99),
            send_time: TimestampTz(0),
        };
        let frame = xlog_data_frame_header(&header, 22);
        assert_eq!(wal_in(&frame), Some((Lsn(77), &[][..])));
        assert_eq!(wal_in(b"d\0\0\0\x12k"), None);
        assert_eq!(wal_in(b"d\0\0\0\x12w"), None);
    }

    /// Written is not durable: the difference is a loss of power.
    #[test]
    fn wal_that_was_written_and_not_fsynced_may_not_be_sent() {
        let mut wal = builder();
        let first = wal.append(&message(3, 10));
        let mut bench = Bench::new(wal.bytes());
        let second = wal.append(&message(3, 10));
        bench.write_wal(wal.bytes());
        let mut check = |upto| {
            let stable = bench
                .known
                .stable_until(&bench.disk, &bench.geometry(), upto);
            sent(SITE, upto, stable, upto)
        };
        assert_eq!(check(first.end), Ok(()));
        let violation = check(second.end).expect_err("it bites");
        assert_eq!(violation.code, "SEND");
    }

    #[test]
    fn a_standby_sends_what_it_has_replayed_or_flushed() {
        assert_eq!(cascaded(SITE, Lsn(5), Lsn(5)), Ok(()));
        assert!(cascaded(SITE, Lsn(6), Lsn(5)).is_err());
    }

    #[test]
    fn other_bytes_than_those_in_the_wal_bite() {
        let mut ledger = Ledger::new(super::super::testing::TINY, Lsn(1024));
        ledger.append(&[1, 2, 3]);
        assert_eq!(unchanged(SITE, &ledger, Lsn(1025), &[2, 3, 9]), Ok(()));
        assert!(unchanged(SITE, &ledger, Lsn(1025), &[2, 4]).is_err());
    }
}
