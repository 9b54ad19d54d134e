//! CLOG: a transaction's status is written as committed only if its commit record is durable.

use crate::referee::{
    About, Change, ChangeKind, Check, DiskEvent, DiskKind, FileClass, Knowledge, PerNode, Promise,
    Ruling, Site, Step, Subscription,
};
use std::collections::BTreeMap;
use walsim_core::base::{Lsn, Xid};

const ABOUT: About = About {
    code: "CLOG",
    promise: Promise::Safety,
    statement: "The pg_xact on a node's disk marks a transaction as committed only if the commit \
              record is durable on that node.",
    details: "The check runs when a node writes a page of pg_xact. For every transaction that the \
              page marks as committed, the commit record must be durable in the WAL of that node.",
    notes: &[
        "A transaction may be marked as aborted although no WAL record says so.",
        "Statuses in the files of the initial cluster are not checked.",
    ],
    source: "SlruPhysicalWritePage flushes WAL up to the last asynchronous commit of the page \
              (slru.c); RecordTransactionCommit flushes a synchronous commit before it sets the \
              status (xact.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Change(ChangeKind::Records),
    Subscription::Disk(DiskKind::Write, FileClass::Xact),
];

/// Pages in a commit status file (`SLRU_PAGES_PER_SEGMENT`).
const PAGES_PER_FILE: u64 = 32;
/// The value of a transaction's two status bits if the transaction is committed.
const COMMITTED: u8 = 1;

/// All commits that the check has seen. For each transaction, the end of its commit record.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Clog {
    commits: BTreeMap<Xid, Lsn>,
    nodes: PerNode<Early>,
}

/// Transactions of a node that were written as committed before this check saw their commit
/// records. This is legal if the record was flushed in the same step. Each entry contains the end
/// of durable WAL at the time of the write.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Early(BTreeMap<Xid, Lsn>);

impl Check for Clog {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let Change::Records(records) = change else {
            return Ok(());
        };
        let early = self.nodes.of(step.site.host);
        let commits = records.iter().filter(|record| record.is_commit());
        for (xid, end) in commits.map(|record| (record.xid, record.end)) {
            self.commits.insert(xid, end);
            early.logged(step.site, xid, end)?;
        }
        early.overdue(step.site, known.wal_end())
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        let host = event.site.host;
        let Ok(file) = u64::from_str_radix(event.path.name(), 16) else {
            return Ok(());
        };
        let (offset, bytes) = event.written();
        let first = file * PAGES_PER_FILE * u64::from(known.geometry().data_page) + offset;
        let mut highest = Lsn::INVALID;
        let mut unseen = Vec::new();
        for xid in committed(first, bytes) {
            match self.commits.get(&xid) {
                Some(end) => highest = highest.max(*end),
                None => unseen.push(xid),
            }
        }
        if let (false, Some(view)) = (unseen.is_empty(), event.view) {
            let durable = known.stable_until(host, event.disk, view.shmem().xlog.flush);
            let early = &mut self.nodes.of(host).0;
            for xid in unseen {
                early.entry(xid).or_insert(durable);
            }
        }
        let durable = known.stable_until(host, event.disk, highest);
        written(event.site, highest, durable)
    }
}

impl Early {
    /// Called when the commit record of a transaction was flushed.
    fn logged(&mut self, site: Site<'_>, xid: Xid, end: Lsn) -> Ruling {
        match self.0.remove(&xid) {
            Some(durable) => written(site, end, durable),
            None => Ok(()),
        }
    }

    /// Reports a transaction that was written as committed before its commit record was durable.
    /// `durable` is the end of durable WAL at the time of the write. This check has seen all
    /// records before `seen`. If it has seen all records before `durable` and not the commit
    /// record, the commit record was not durable.
    fn overdue(&self, site: Site<'_>, seen: Lsn) -> Ruling {
        let overdue = self.0.iter().find(|(_, durable)| **durable <= seen);
        let Some((xid, durable)) = overdue else {
            return Ok(());
        };
        let message = "a transaction was written as committed, but it has no durable commit record";
        Err(site.violation(
            ABOUT.code,
            message,
            &[("transaction", xid), ("durable WAL", durable)],
        ))
    }
}

/// Judges a commit status that was written when WAL was durable up to `durable`. The commit record
/// ends at `end`.
fn written(site: Site<'_>, end: Lsn, durable: Lsn) -> Ruling {
    if end <= durable {
        return Ok(());
    }
    let message = "a commit status was written before its commit record was durable";
    Err(site.violation(
        ABOUT.code,
        message,
        &[("commit record ends", &end), ("durable WAL", &durable)],
    ))
}

/// The transactions that a part of a status file shows as committed. `first` is the number of the
/// first byte.
fn committed(first: u64, bytes: &[u8]) -> impl Iterator<Item = Xid> {
    let marked = (first..).zip(bytes).filter(|(_, byte)| **byte != 0);
    marked.flat_map(|(number, byte)| {
        let of_byte = (0..4).filter(move |place| byte >> (place * 2) & 3 == COMMITTED);
        of_byte.filter_map(move |place| u32::try_from(number * 4 + place).ok().map(Xid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::SITE;

    /// A step may flush a commit record and write the status before the check sees the record.
    #[test]
    fn a_status_is_written_after_its_record() {
        let mut early = Early::default();
        early.0.insert(Xid(5), Lsn(2000));
        assert_eq!(early.logged(SITE, Xid(5), Lsn(2000)), Ok(()));
        early.0.insert(Xid(6), Lsn(2000));
        assert_eq!(early.logged(SITE, Xid(7), Lsn(2050)), Ok(()));
        assert!(early.logged(SITE, Xid(6), Lsn(2008)).is_err());
        early.0.insert(Xid(8), Lsn(2000));
        assert_eq!(
            early.overdue(SITE, Lsn(1992)),
            Ok(()),
            "its record may follow"
        );
        assert!(early.overdue(SITE, Lsn(2000)).is_err());
    }

    /// A real server wrote byte 185 = 0x95: transactions 740 to 742 are committed. Transaction 743
    /// is aborted, and aborted transactions are not checked.
    #[test]
    fn committed_transactions_are_read_off_the_bytes() {
        let xids: Vec<Xid> = committed(184, &[0, 0x95, 0x20]).collect();
        assert_eq!(xids, [Xid(740), Xid(741), Xid(742)]);
        assert_eq!(committed(0, &[0, 0xAA, 0]).count(), 0, "aborted");
    }
}
