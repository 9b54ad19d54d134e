//! CHAIN: the back link of every record points to the record before it. A server inserts no record
//! after its shutdown checkpoint, until its next start. The page in which recovery ends has no old
//! bytes after the end of WAL.

use crate::referee::{
    About, Change, ChangeKind, Check, DiskAct, DiskEvent, DiskKind, FileClass, Knowledge, Logged,
    PerNode, Promise, Ruling, Site, Step, Subscription, segment_of,
};
use walsim_core::base::{Geometry, Lsn};
use walsim_core::shmem::RecoveryState;
use walsim_core::wal::position::bytepos_to_end;

const ABOUT: About = About {
    code: "CHAIN",
    promise: Promise::Safety,
    statement: "The xl_prev of every WAL record points to the previous record, and a server \
              writes no record after its shutdown checkpoint.",
    details: "The xl_prev of every flushed record must be the start of the previous record. After \
              its shutdown checkpoint, a server must not insert a record until its next start. \
              When a server first writes the WAL page in which recovery ended, all bytes of the \
              page past the insert position must be zero.",
    notes: &[
        "The last record before the flush position may be incomplete.",
        "Crash recovery can abort an incomplete record. The next record is then \
         OVERWRITE_CONTRECORD at the start of the next page.",
        "After a SWITCH record the rest of the segment is unused, so the next record is in the \
         next segment.",
        "The end-of-recovery checkpoint is also a CHECKPOINT_SHUTDOWN record, but the server \
         inserts WAL after it.",
        "In the page in which recovery ended, bytes before the insert position are not checked. \
         They may belong to incomplete records.",
    ],
    source: "ReserveXLogInsertLocation and ReserveXLogSwitch maintain PrevBytePos; ShutdownXLOG \
              writes the last record of a server; StartupXLOG clears the rest of the last page \
              (xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 3] = [
    Subscription::Change(ChangeKind::Records),
    Subscription::Change(ChangeKind::Flushed),
    Subscription::Disk(DiskKind::Write, FileClass::Wal),
];

/// For each node, the current run of its server.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Chain {
    nodes: PerNode<Server>,
}

/// A run of a server. It begins with a start or a crash restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Server {
    /// The shutdown checkpoint of this run.
    shutdown: Option<Lsn>,
    /// The page in which recovery ended, until it is written.
    last_page: Option<Lsn>,
}

impl Check for Chain {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let node = self.nodes.of(step.site.host);
        match change {
            Change::Records(records) => {
                let running = known.recovery(step.site.host) == RecoveryState::Done;
                records.iter().try_for_each(|record| {
                    linked(step.site, record)?;
                    node.logged(step.site, record, running)
                })
            }
            Change::Flushed(flushed) => {
                if flushed.ended_recovery {
                    let geometry = known.geometry();
                    let inside = geometry.page_offset(flushed.to) != 0;
                    *node = Server {
                        shutdown: None,
                        last_page: inside.then(|| geometry.page_start(flushed.to)),
                    };
                }
                Ok(())
            }
            Change::Replayed(_)
            | Change::Sent(_)
            | Change::Received(..)
            | Change::Slots(_)
            | Change::Reported(_)
            | Change::Pages(_)
            | Change::Checkpoint(_) => Ok(()),
        }
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        let node = self.nodes.of(event.site.host);
        let (Some(page), Some(view), DiskAct::Write(written)) =
            (node.last_page, event.view, &event.act)
        else {
            return Ok(());
        };
        let geometry = known.geometry();
        let offset = u64::from(geometry.segment_offset(page));
        let is_it = segment_of(geometry, event.path)
            .is_some_and(|(_, segment)| segment == geometry.segment_of(page));
        // If the disk becomes full, the write may not reach the page. Such a write is not checked,
        // because the server does not survive the error.
        if !is_it || !written.range.contains(&offset) {
            return Ok(());
        }
        node.last_page = None;
        let reserved = bytepos_to_end(geometry, view.shmem().xlog.curr_byte_pos);
        let (start, bytes) = event.written();
        let skip = usize::try_from(offset - start).expect("within the write");
        clean(event.site, geometry, page, &bytes[skip..], reserved)
    }
}

impl Server {
    fn logged(&mut self, site: Site<'_>, record: &Logged, running: bool) -> Ruling {
        if let Some(shutdown) = self.shutdown {
            let message = "a record follows the shutdown checkpoint";
            return Err(site.violation(
                ABOUT.code,
                message,
                &[
                    ("record", &record.start),
                    ("shutdown checkpoint", &shutdown),
                ],
            ));
        }
        if running && record.is_shutdown_checkpoint() {
            self.shutdown = Some(record.start);
        }
        Ok(())
    }
}

/// Checks that the back link of a record points to the record before it.
fn linked(site: Site<'_>, record: &Logged) -> Ruling {
    if record.prev == record.before || !record.before.is_valid() {
        return Ok(());
    }
    let message = "xl_prev of a record does not point to the record before it";
    Err(site.violation(
        ABOUT.code,
        message,
        &[
            ("record", &record.start),
            ("back link", &record.prev),
            ("record before", &record.before),
        ],
    ))
}

/// Checks the first write of the page in which recovery ended. Processes have reserved WAL up to
/// `reserved`.
fn clean(site: Site<'_>, geometry: &Geometry, page: Lsn, bytes: &[u8], reserved: Lsn) -> Ruling {
    let page_bytes = bytes.iter().take(geometry.wal_page as usize);
    let used = usize::try_from(reserved.0.saturating_sub(page.0)).unwrap_or(usize::MAX);
    let Some(stale) = page_bytes.skip(used).position(|byte| *byte != 0) else {
        return Ok(());
    };
    let at = reserved + stale as u64;
    let message = "the page in which recovery ended contains old bytes after the end of WAL";
    Err(site.violation(
        ABOUT.code,
        message,
        &[
            ("page", &page),
            ("reserved up to", &reserved),
            ("byte", &at),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{GEOMETRY, SITE};
    use walsim_core::base::Xid;
    use walsim_core::wire::record::RmgrId;

    fn record(start: u64, prev: u64, rmid: RmgrId, info: u8) -> Logged {
        Logged {
            start: Lsn(start),
            end: Lsn(start + 24),
            before: Lsn(1000),
            prev: Lsn(prev),
            xid: Xid(0),
            rmid,
            info,
            blocks: Vec::new(),
        }
    }

    #[test]
    fn a_back_link_leads_to_the_record_before() {
        let linked = |record: &Logged| linked(SITE, record).is_ok();
        assert!(linked(&record(1100, 1000, RmgrId::XLOG, 0x40)));
        assert!(!linked(&record(1100, 1040, RmgrId::XLOG, 0x40)));
        let mut first = record(1100, 0, RmgrId::XLOG, 0x40);
        first.before = Lsn::INVALID;
        assert!(linked(&first), "no earlier record is known");
    }

    #[test]
    fn nothing_follows_the_checkpoint_of_a_shutdown() {
        let checkpoint = record(1100, 1000, RmgrId::XLOG, 0x00);
        let other = record(1200, 1100, RmgrId::STANDBY, 0x10);
        let mut node = Server::default();
        assert_eq!(node.logged(SITE, &checkpoint, false), Ok(()));
        assert_eq!(
            node.logged(SITE, &other, true),
            Ok(()),
            "recovery ended with it"
        );
        assert_eq!(node.logged(SITE, &checkpoint, true), Ok(()));
        assert!(node.logged(SITE, &other, true).is_err());
    }

    /// The page may contain reserved records that are not complete yet. All bytes after the
    /// reserved WAL must be zero.
    #[test]
    fn the_last_page_is_clean_after_what_is_reserved() {
        let mut bytes = vec![7; 60];
        bytes.resize(512, 0);
        let page = Lsn(2048);
        let judge =
            |bytes: &[u8], used: u64| clean(SITE, &GEOMETRY, page, bytes, page + used).is_ok();
        assert!(judge(&bytes, 60));
        assert!(!judge(&bytes, 59));
        assert!(judge(&bytes, 900), "WAL continues after the page");
        bytes[256] = 1;
        assert!(judge(&bytes, 60), "a different page");
        bytes[255] = 1;
        assert!(!judge(&bytes, 60));
    }
}
