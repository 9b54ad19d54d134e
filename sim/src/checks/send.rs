//! SEND: a walsender sends only WAL that no crash of its node can destroy, and does not change the
//! bytes.

use crate::disk::Disk;
use crate::referee::{
    About, Change, ChangeKind, Check, Evidence, FIRST_TIMELINE, Knowledge, Ledger, Promise, Ruling,
    Site, Step, Subscription, WireEnd, WireMessage,
};
use walsim_core::base::Lsn;

const ABOUT: About = About {
    code: "SEND",
    promise: Promise::Safety,
    statement: "A walsender sends only WAL that is durable on its own node.",
    details: "WAL that a primary sends must be durable on the primary's disk. WAL that a standby \
              sends must have been replayed, or flushed by the standby's walreceiver. The sent \
              bytes must equal the WAL bytes that the nodes have flushed at the same position.",
    notes: &[
        "On a primary, the check reads the disk and ignores the flush position in shared memory.",
    ],
    source: "A primary sends WAL up to its flush position; a standby sends WAL that it has \
              replayed or that its walreceiver has flushed: XLogSendPhysical, \
              GetStandbyFlushRecPtr (walsender.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Change(ChangeKind::Sent),
    Subscription::Message(WireEnd::ServerSends, Some(b'd')),
];

/// The length of the fields before the WAL in a CopyData message: the byte `w` and three numbers of
/// 8 bytes.
const HEADER: usize = 25;

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Send;

impl Check for Send {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    /// Checks the sent position of a walsender in shared memory.
    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let Change::Sent(moved) = change else {
            return Ok(());
        };
        if moved.to <= moved.from {
            return Ok(());
        }
        let shmem = step.view.shmem();
        if shmem.recovery_in_progress() {
            let valid = shmem
                .recovery
                .last_replayed_end
                .max(shmem.walrcv.flushed_upto);
            cascaded(step.site, moved.to, valid)
        } else {
            let durable = durable_until(known, step.site, step.disk, moved.to);
            sent(step.site, moved.to, durable, shmem.xlog.flush)
        }
    }

    /// Checks the bytes that the walsender has sent.
    fn on_message(&mut self, message: &WireMessage<'_>, known: &Knowledge) -> Ruling {
        let [head, data] = message.parts;
        let Some((start, rest)) = wal_in(head) else {
            return Ok(());
        };
        let middle = start + rest.len() as u64;
        if let Some(ledger) = known.ledger(FIRST_TIMELINE) {
            unchanged(message.site, ledger, start, rest)?;
            unchanged(message.site, ledger, middle, data)?;
        }
        let shmem = message.view.shmem();
        if shmem.recovery_in_progress() {
            return Ok(());
        }
        let end = middle + data.len() as u64;
        let durable = durable_until(known, message.site, message.disk, end);
        sent(message.site, end, durable, shmem.xlog.flush)
    }
}

/// The end of a primary's WAL that no crash can destroy. A preallocated segment contains durable
/// bytes after the end of WAL, and these bytes do not count.
fn durable_until(known: &Knowledge, site: Site<'_>, disk: &Disk, wanted: Lsn) -> Lsn {
    let stable = known.stable_until(site.host, disk, wanted);
    stable.min(known.wal_end_of(site.host))
}

/// The position of the WAL in a message, and the part of this WAL that is in the first part of the
/// message body.
fn wal_in(head: &[u8]) -> Option<(Lsn, &[u8])> {
    if head.first() != Some(&b'w') {
        return None;
    }
    let start = head.get(1..9)?.try_into().ok()?;
    Some((Lsn(u64::from_be_bytes(start)), head.get(HEADER..)?))
}

fn sent(site: Site<'_>, sent: Lsn, stable: Lsn, flush: Lsn) -> Ruling {
    if sent <= stable {
        return Ok(());
    }
    Err(site.violation(
        ABOUT.code,
        "WAL was sent although a crash of the sender could still lose it",
        &[
            ("sent", &sent),
            ("durable on its disk", &stable),
            ("flush position", &flush),
        ],
    ))
}

fn cascaded(site: Site<'_>, sent: Lsn, valid: Lsn) -> Ruling {
    if sent <= valid {
        return Ok(());
    }
    let message = "a standby sent WAL that it has neither replayed nor flushed";
    Err(site.violation(ABOUT.code, message, &[("sent", &sent), ("valid", &valid)]))
}

fn unchanged(site: Site<'_>, ledger: &Ledger, start: Lsn, bytes: &[u8]) -> Ruling {
    let Some(at) = ledger.difference(start, bytes) else {
        return Ok(());
    };
    let facts: [(&str, &dyn Evidence); 2] = [("message", &start), ("first difference", &at)];
    Err(site.violation(ABOUT.code, "the sent bytes differ from the WAL", &facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{GEOMETRY, NodeFixture, SITE, builder, message};
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
        assert_eq!(wal_in(&frame[5..]), Some((Lsn(77), &[][..])));
        assert_eq!(wal_in(b"k"), None);
        assert_eq!(wal_in(b"w"), None);
    }

    /// A power loss can destroy WAL that was written but not fsynced.
    #[test]
    fn wal_that_was_written_and_not_fsynced_may_not_be_sent() {
        let mut wal = builder();
        let first = wal.append(&message(3, 10));
        let mut fixture = NodeFixture::new(wal.bytes());
        let second = wal.append(&message(3, 10));
        fixture.write_wal(wal.bytes());
        let check = |upto| {
            let stable = fixture.node.stable_until(&fixture.disk, &GEOMETRY, upto);
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
        let mut ledger = Ledger::new(GEOMETRY, Lsn(1024));
        ledger.append(&[1, 2, 3]);
        assert_eq!(unchanged(SITE, &ledger, Lsn(1025), &[2, 3, 9]), Ok(()));
        assert!(unchanged(SITE, &ledger, Lsn(1025), &[2, 4]).is_err());
    }
}
