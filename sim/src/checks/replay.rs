//! REPLAY: a record is applied only if its WAL is durable. A page is written only if recovery will
//! find the WAL that changed the page.

use crate::referee::{
    About, Change, ChangeKind, Check, DiskEvent, DiskKind, FIRST_TIMELINE, FileClass, Knowledge,
    NodeAtEnd, Promise, Ruling, Site, Step, Subscription, relation_of, wal_files,
};
use walsim_core::base::Lsn;
use walsim_core::shmem::{RecoveryState, WalRcvState};
use walsim_core::wire::data_page::DataPage;

const ABOUT: About = About {
    code: "REPLAY",
    promise: Promise::Safety,
    statement: "A standby replays only WAL that is durable on its own disk.",
    details: "When a record has been replayed, the record must be durable on the node's disk. \
              When a data page is written to a file, all WAL up to the page's LSN must be \
              durable. In archive recovery, the page's LSN must not be past the minimum recovery \
              point in the durable pg_control.",
    notes: &[
        "While a walreceiver streams, an applied record must also be before the flush position of \
         the walreceiver.",
    ],
    source: "FlushBuffer flushes the WAL of a page before it writes the page (bufmgr.c). A standby \
              replays only flushed WAL: XLogPageRead, WaitForWALToBecomeAvailable \
              (xlogrecovery.c). Before a standby writes a page, it updates the minimum recovery \
              point: UpdateMinRecoveryPoint (xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Change(ChangeKind::Replayed),
    Subscription::Disk(DiskKind::Write, FileClass::Relation),
];

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Replay;

impl Check for Replay {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let Change::Replayed(replayed) = change else {
            return Ok(());
        };
        let applied = replayed.applied;
        if !applied.is_valid() {
            return Ok(());
        }
        let walrcv = &step.view.shmem().walrcv;
        if matches!(
            walrcv.state,
            WalRcvState::Connecting | WalRcvState::Streaming
        ) {
            streamed(step.site, applied, walrcv.flushed_upto)?;
        }
        durable(
            step.site,
            applied,
            known.stable_until(step.site.host, step.disk, applied),
        )
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        if relation_of(event.path).is_none() {
            return Ok(());
        }
        let (_, bytes) = event.written();
        for page in bytes.chunks_exact(known.geometry().data_page as usize) {
            page_written(event, DataPage::new(page).lsn(), known)?;
        }
        Ok(())
    }

    fn audit(&mut self, node: &NodeAtEnd<'_>, known: &Knowledge) -> Ruling {
        let host = node.site.host;
        let claimed = known.stable_until(host, node.disk, Lsn::INVALID);
        let start = known
            .ledger(FIRST_TIMELINE)
            .map_or(Lsn::INVALID, |ledger| ledger.start());
        let range = start.max(known.kept_from(host))..claimed;
        let stable = wal_files::stable_until(node.disk, known.geometry(), FIRST_TIMELINE, range);
        if stable >= claimed {
            return Ok(());
        }
        let message = "durable WAL is no longer durable; the checks after each step missed this";
        Err(node.site.violation(ABOUT.code, message, &[("at", &stable)]))
    }
}

/// Judges a write of a data page that has this LSN.
fn page_written(event: &DiskEvent<'_>, lsn: Lsn, known: &Knowledge) -> Ruling {
    let host = event.site.host;
    if known.recovery(host) != RecoveryState::Archive {
        return logged(event.site, lsn, known.stable_until(host, event.disk, lsn));
    }
    let control = known.control(host);
    let point = control.map_or(Lsn::INVALID, |control| control.min_recovery_point);
    announced(event.site, lsn, point)
}

fn streamed(site: Site<'_>, applied: Lsn, flushed: Lsn) -> Ruling {
    if applied <= flushed {
        return Ok(());
    }
    let message = "a streamed record was applied before it was flushed";
    Err(site.violation(
        ABOUT.code,
        message,
        &[("applied", &applied), ("flushed", &flushed)],
    ))
}

fn durable(site: Site<'_>, applied: Lsn, stable: Lsn) -> Ruling {
    if applied <= stable {
        return Ok(());
    }
    let message = "a record was applied although a crash of this node could still lose it";
    Err(site.violation(
        ABOUT.code,
        message,
        &[("applied", &applied), ("durable on its disk", &stable)],
    ))
}

fn logged(site: Site<'_>, lsn: Lsn, stable: Lsn) -> Ruling {
    if lsn <= stable {
        return Ok(());
    }
    let message = "a data page was written, but the WAL of its last change was not durable";
    Err(site.violation(
        ABOUT.code,
        message,
        &[("page", &lsn), ("durable WAL", &stable)],
    ))
}

fn announced(site: Site<'_>, lsn: Lsn, point: Lsn) -> Ruling {
    if lsn <= point {
        return Ok(());
    }
    let message = "a data page was written with an LSN past the durable minimum recovery point";
    Err(site.violation(
        ABOUT.code,
        message,
        &[("page", &lsn), ("minimum recovery point", &point)],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{GEOMETRY, NodeFixture, SITE, builder, message};

    #[test]
    fn a_record_is_applied_once_its_wal_is_durable() {
        let mut wal = builder();
        let first = wal.append(&message(3, 10));
        let mut fixture = NodeFixture::new(wal.bytes());
        let second = wal.append(&message(3, 10));
        fixture.write_wal(wal.bytes());
        let check = |upto| {
            durable(
                SITE,
                upto,
                fixture.node.stable_until(&fixture.disk, &GEOMETRY, upto),
            )
        };
        assert_eq!(check(first.end), Ok(()));
        assert_eq!(check(second.end).expect_err("it bites").code, "REPLAY");
    }

    #[test]
    fn the_stream_is_read_up_to_what_is_flushed() {
        assert_eq!(streamed(SITE, Lsn(8), Lsn(8)), Ok(()));
        assert!(streamed(SITE, Lsn(16), Lsn(8)).is_err());
    }

    /// On a standby the minimum recovery point must cover the LSN of a written page. On a primary
    /// the WAL up to this LSN must be durable.
    #[test]
    fn a_page_is_not_written_before_recovery_knows_of_it() {
        assert_eq!(announced(SITE, Lsn(5000), Lsn(5000)), Ok(()));
        assert!(announced(SITE, Lsn(5008), Lsn(5000)).is_err());
        assert_eq!(logged(SITE, Lsn(5000), Lsn(5000)), Ok(()));
        assert!(logged(SITE, Lsn(5008), Lsn(5000)).is_err());
    }
}
