//! LOCAL: a commit that a node has acknowledged is committed on this node after every later
//! recovery. The commit is also committed on every standby that has replayed its record.
//! Transaction ids that were used are not assigned again.

use crate::disk::Disk;
use crate::referee::{
    About, Check, ClientAct, ClientEvent, ClientKind, Committed, Evidence, FIRST_TIMELINE,
    Knowledge, NodeAtEnd, Promise, Ruling, ServerAct, ServerEvent, ServerKind, Site, Subscription,
    Value,
};
use walsim_core::base::{Lsn, Xid};
use walsim_core::node::PmState;
use walsim_core::shmem::{Clog, Shmem, XactStatus};

const ABOUT: About = About {
    code: "LOCAL",
    promise: Promise::Safety,
    statement: "If a node has acknowledged a commit, the transaction is still committed after \
              every later recovery of the node.",
    details: "After every start of a primary, pg_xact must show each acknowledged transaction as \
              committed. A primary must not assign a transaction ID that was already used before \
              the start. At the end of a run, each acknowledged transaction must be committed on \
              all nodes. If a client reads a row that it has inserted and committed, the row must \
              be found.",
    notes: &[
        "A commit is acknowledged when the client receives the answer to COMMIT.",
        "A COMMIT whose answer contains a warning does not count as acknowledged. A COMMIT with \
         synchronous_commit = off does not count either.",
    ],
    source: "A server acknowledges a commit only after it has flushed the commit record: \
              RecordTransactionCommit (xact.c). Recovery marks the transaction as committed: \
              xact_redo_commit. New transactions get only higher IDs: \
              AdvanceNextFullTransactionIdPastXid",
};

const SUBSCRIPTIONS: [Subscription; 3] = [
    Subscription::Server(ServerKind::Open),
    Subscription::Client(ClientKind::RowMissing),
    Subscription::End,
];

/// Pages in a commit status file (`SLRU_PAGES_PER_SEGMENT`).
const PAGES_PER_FILE: u32 = 32;

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Local;

/// A node whose transaction statuses are checked.
#[derive(Clone, Copy, Debug)]
struct Judged<'a> {
    site: Site<'a>,
    shmem: &'a Shmem,
    disk: &'a Disk,
    /// The end of the node's WAL.
    end: Lsn,
}

impl Check for Local {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn on_server(&mut self, event: &ServerEvent<'_>, known: &Knowledge) -> Ruling {
        let (ServerAct::Opened(PmState::Run), Some(view)) = (event.act, event.view) else {
            return Ok(());
        };
        let host = event.site.host;
        let node = Judged {
            site: event.site,
            shmem: view.shmem(),
            disk: event.disk,
            end: known.wal_end_of(host),
        };
        let logged = known
            .ledger(FIRST_TIMELINE)
            .map(|ledger| ledger.highest_xid());
        recovered(&node, known.acknowledged(host), logged.unwrap_or_default())
    }

    fn on_client(&mut self, event: &ClientEvent<'_>, _: &Knowledge) -> Ruling {
        let ClientAct::RowMissing(row) = event.act else {
            return Ok(());
        };
        let key = format!("{:#x}", row.key);
        let message = "a row of an acknowledged transaction cannot be read";
        let facts: [(&str, &dyn Evidence); 2] =
            [("relation", &Value::Relation(row.rel)), ("key", &key)];
        Err(event.site.violation(ABOUT.code, message, &facts))
    }

    fn at_end(&mut self, nodes: &[NodeAtEnd<'_>], known: &Knowledge) -> Ruling {
        let commits = (0..known.names().len()).flat_map(|host| known.acknowledged(host));
        for commit in commits {
            for node in nodes {
                let shmem = node.view.shmem();
                let end = shmem.xlog.flush.max(shmem.recovery.last_replayed_end);
                let node = Judged {
                    site: node.site,
                    shmem,
                    disk: node.disk,
                    end,
                };
                kept(&node, *commit)?;
            }
        }
        Ok(())
    }
}

/// Judges a node that has finished recovery. `logged` is the highest transaction id in the node's
/// WAL.
fn recovered(node: &Judged<'_>, acknowledged: &[Committed], logged: Xid) -> Ruling {
    for commit in acknowledged {
        kept(node, *commit)?;
    }
    let promised = acknowledged.iter().map(|(xid, _)| *xid).max();
    let highest = logged.max(promised.unwrap_or_default());
    let next = node.shmem.next_xid;
    if next > highest {
        return Ok(());
    }
    let message = "a transaction ID that was used before recovery would be assigned again";
    let facts: [(&str, &dyn Evidence); 2] = [("next", &next), ("used", &highest)];
    Err(node.site.violation(ABOUT.code, message, &facts))
}

fn kept(node: &Judged<'_>, (xid, lsn): Committed) -> Ruling {
    let status = status(node, xid);
    if status == Some(XactStatus::Committed) && lsn <= node.end {
        return Ok(());
    }
    let message = if lsn > node.end {
        "the WAL of an acknowledged commit is lost"
    } else {
        "an acknowledged commit is no longer committed"
    };
    Err(node.site.violation(
        ABOUT.code,
        message,
        &[
            ("transaction", &xid),
            ("commit", &lsn),
            ("status", &status),
            ("end of WAL", &node.end),
        ],
    ))
}

/// The status of a transaction, from the buffers or from disk.
fn status(node: &Judged<'_>, xid: Xid) -> Option<XactStatus> {
    let page_size = node.shmem.settings.geometry.data_page;
    if let Some(status) = node.shmem.clog.status(xid, page_size) {
        return Some(status);
    }
    let page = Clog::page_of(xid, page_size);
    let path = format!("pg_xact/{:04X}", page / PAGES_PER_FILE);
    let in_page = xid.0 % (page_size * 4);
    let offset = u64::from(page % PAGES_PER_FILE) * u64::from(page_size) + u64::from(in_page / 4);
    let byte = *node.disk.read_cached(&path, offset, 1)?.first()?;
    Some(match byte >> (in_page % 4 * 2) & 3 {
        0 => XactStatus::InProgress,
        1 => XactStatus::Committed,
        2 => XactStatus::Aborted,
        _ => XactStatus::SubCommitted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Content;
    use crate::referee::testing::{SITE, disk, shmem};

    /// Judges a node that has acknowledged the commit of transaction 5.
    fn judge(byte: u8, end: u64, next: u32) -> Result<(), String> {
        let mut disk = disk();
        disk.set_up_file("pg_xact/0000", Content::new(&[0, byte]));
        let mut shmem = shmem();
        shmem.next_xid = Xid(next);
        let node = Judged {
            site: SITE,
            shmem: &shmem,
            disk: &disk,
            end: Lsn(end),
        };
        recovered(&node, &[(Xid(5), Lsn(2000))], Xid(5)).map_err(|violation| violation.message)
    }

    #[test]
    fn an_acknowledged_commit_survives_recovery() {
        let committed = 1 << 2;
        assert_eq!(judge(committed, 2000, 6), Ok(()));
        for (byte, end, next, what) in [
            (0, 2000, 6, "no longer committed"),
            (2 << 2, 2000, 6, "no longer committed"),
            (committed, 1999, 6, "is lost"),
            (committed, 2000, 5, "again"),
        ] {
            assert!(judge(byte, end, next).unwrap_err().contains(what), "{what}");
        }
    }
}
