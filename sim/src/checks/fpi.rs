//! FPI: the first record that changes a page after a redo point contains an image of the page.

use crate::referee::{
    About, BlockId, Change, ChangeKind, Check, DiskEvent, DiskKind, FileClass, Knowledge, Logged,
    LoggedBlock, PerNode, Promise, Ruling, Site, Step, Subscription, Value, Violation,
};
use std::collections::BTreeSet;
use walsim_core::base::Lsn;
use walsim_core::shmem::{PageChange, RecoveryState};

const ABOUT: About = About {
    code: "FPI",
    promise: Promise::Safety,
    statement: "The first change of a page after a redo point is logged with a full-page image.",
    details: "After the redo point of a completed checkpoint, the first WAL record that refers to \
              a block must contain a full-page image of the block. If a server sets the LSN of a \
              page to the end of a record, the record must refer to that page.",
    notes: &[
        "A record that makes redo initialize the page (WILL_INIT) needs no image.",
        "Records that a server inserts while full_page_writes is off need no image.",
        "The check ignores records that were inserted before the last start of the server.",
        "Only the main fork of relations is checked. SLRU pages and the free space map have no \
         images.",
        "After a promotion, the redo point of the last restartpoint is not checked.",
    ],
    source: "Only an image can repair a torn page. XLogRecordAssemble decides about images by \
              comparing page LSNs with RedoRecPtr (xloginsert.c). XLogInsertRecord checks \
              RedoRecPtr again under an insertion lock, and CreateCheckPoint changes it only while \
              it holds all insertion locks (xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 3] = [
    Subscription::Change(ChangeKind::Records),
    Subscription::Change(ChangeKind::Pages),
    Subscription::Disk(DiskKind::Sync, FileClass::Control),
];

/// For each node, the blocks that records of this node have registered.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Fpi {
    nodes: PerNode<Inserting>,
}

/// A server that inserts WAL.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Inserting {
    /// The redo point of the server's last completed checkpoint.
    redo: Option<Lsn>,
    /// The redo point of the last restartpoint. Another server inserted the checkpoint record, so
    /// this check ignores the redo point.
    foreign: Option<Lsn>,
    /// The blocks that records after `redo` have registered.
    seen: BTreeSet<BlockId>,
    /// All blocks that records have registered since `redo`, with the positions of the records.
    /// When the next checkpoint completes, the records before its redo point are dropped.
    since: Vec<(Lsn, LoggedBlock)>,
    /// Pages whose last change is logged by a record that is not flushed yet. Each entry contains
    /// the end of the record, the relation and the block.
    changed: BTreeSet<(Lsn, u32, u32)>,
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The first record after this redo point that registers the block contains no image of the
    /// block.
    NoImage(Lsn, BlockId),
    /// The record changed this page (relation, block) and does not register it.
    NotRegistered(u32, u32),
}

impl Check for Fpi {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let host = step.site.host;
        let shmem = step.view.shmem();
        if known.recovery(host) != RecoveryState::Done || !shmem.xlog.full_page_writes {
            return Ok(());
        }
        let node = self.nodes.of(host);
        match change {
            Change::Records(records) => records.iter().try_for_each(|record| {
                let fault = node.logged(record);
                fault.map_err(|fault| violation(step.site, record.start, fault))
            }),
            Change::Pages(pages) => {
                node.changed(pages);
                Ok(())
            }
            Change::Flushed(_)
            | Change::Replayed(_)
            | Change::Sent(_)
            | Change::Received(..)
            | Change::Slots(_)
            | Change::Reported(_)
            | Change::Checkpoint(_) => Ok(()),
        }
    }

    /// Checks whether the control file points to a new checkpoint.
    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        let host = event.site.host;
        let redo = known
            .control(host)
            .map(|control| control.checkpoint_copy.redo);
        let node = self.nodes.of(host);
        match known.recovery(host) {
            // Shared memory is new, and this run of the server has not inserted WAL yet.
            RecoveryState::Crash => {
                *node = Inserting {
                    redo,
                    ..Inserting::default()
                };
                Ok(())
            }
            RecoveryState::Archive => {
                *node = Inserting {
                    foreign: redo,
                    ..Inserting::default()
                };
                Ok(())
            }
            RecoveryState::Done => {
                let redo = redo.filter(|redo| node.foreign != Some(*redo));
                let Some(redo) = redo.filter(|redo| node.redo != Some(*redo)) else {
                    return Ok(());
                };
                let fault = node.completed(redo);
                fault.map_err(|(at, fault)| violation(event.site, at, fault))
            }
        }
    }
}

impl Inserting {
    fn changed(&mut self, pages: &[PageChange]) {
        let pages = pages.iter().filter(|page| page.lsn.is_valid());
        self.changed
            .extend(pages.map(|page| (page.lsn, page.tag.rel, page.tag.block)));
    }

    /// Judges a record that was flushed. The server changes all pages of a record before it flushes
    /// the record, so all its page changes are known.
    fn logged(&mut self, record: &Logged) -> Result<(), Fault> {
        while let Some((lsn, rel, block)) = self.changed.first().copied()
            && lsn <= record.end
        {
            self.changed.pop_first();
            let is_it = |id: &BlockId| id.rel.rel == rel && id.block == block && id.fork == 0;
            let mut blocks = record.blocks.iter();
            if lsn == record.end && !blocks.any(|block| is_it(&block.id)) {
                return Err(Fault::NotRegistered(rel, block));
            }
        }
        for block in record.blocks.iter().filter(|block| block.id.fork == 0) {
            self.since.push((record.start, *block));
            if let Some(redo) = self.redo
                && record.start >= redo
                && self.seen.insert(block.id)
                && !block.whole
            {
                return Err(Fault::NoImage(redo, block.id));
            }
        }
        Ok(())
    }

    /// Called when a checkpoint has completed. Its redo point is `redo`.
    fn completed(&mut self, redo: Lsn) -> Result<(), (Lsn, Fault)> {
        self.redo = Some(redo);
        self.since.retain(|(start, _)| *start >= redo);
        self.seen.clear();
        for (start, block) in &self.since {
            if self.seen.insert(block.id) && !block.whole {
                return Err((*start, Fault::NoImage(redo, block.id)));
            }
        }
        Ok(())
    }
}

fn violation(site: Site<'_>, record: Lsn, fault: Fault) -> Violation {
    match fault {
        Fault::NoImage(redo, id) => {
            let message = "the first change of a page after a redo point has no full-page image";
            site.violation(
                ABOUT.code,
                message,
                &[
                    ("relation", &Value::Relation(id.rel.rel)),
                    ("block", &Value::Block(id.block)),
                    ("record", &record),
                    ("redo point", &redo),
                ],
            )
        }
        Fault::NotRegistered(rel, block) => {
            let message = "a record changed a page that it does not register";
            site.violation(
                ABOUT.code,
                message,
                &[
                    ("relation", &Value::Relation(rel)),
                    ("block", &Value::Block(block)),
                    ("record", &record),
                ],
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walsim_core::base::Xid;
    use walsim_core::shmem::BufTag;
    use walsim_core::wire::record::{RelLocator, RmgrId};

    fn record(start: u64, blocks: &[(u32, bool)]) -> Logged {
        let rel = RelLocator {
            spc: 1663,
            db: 5,
            rel: 16384,
        };
        let block = |(block, whole): &(u32, bool)| LoggedBlock {
            id: BlockId {
                rel,
                fork: 0,
                block: *block,
            },
            whole: *whole,
        };
        Logged {
            start: Lsn(start),
            end: Lsn(start + 8),
            before: Lsn::INVALID,
            prev: Lsn::INVALID,
            xid: Xid(3),
            rmid: RmgrId::GENERIC,
            info: 0,
            blocks: blocks.iter().map(block).collect(),
        }
    }

    #[test]
    fn the_first_change_after_a_redo_point_needs_an_image() {
        let mut node = Inserting::default();
        assert_eq!(
            node.logged(&record(8, &[(1, false)])),
            Ok(()),
            "no redo point yet"
        );
        assert_eq!(node.completed(Lsn(16)), Ok(()));
        assert_eq!(node.logged(&record(16, &[(1, true), (2, true)])), Ok(()));
        assert_eq!(
            node.logged(&record(24, &[(1, false)])),
            Ok(()),
            "the second"
        );
        let without = node.logged(&record(32, &[(3, false)]));
        assert!(matches!(without, Err(Fault::NoImage(Lsn(16), _))));
    }

    /// A checkpoint that does not complete has no effect. When a checkpoint completes, all records
    /// since its redo point are checked.
    #[test]
    fn a_redo_point_counts_once_its_checkpoint_is_complete() {
        let mut node = Inserting::default();
        node.completed(Lsn(16)).expect("nothing yet");
        for (start, whole) in [(16, true), (24, false), (32, false)] {
            assert_eq!(node.logged(&record(start, &[(1, whole)])), Ok(()));
        }
        let mut good = node.clone();
        assert_eq!(good.completed(Lsn(40)), Ok(()), "all records are before it");
        let late = node.completed(Lsn(32));
        assert!(matches!(late, Err((Lsn(32), Fault::NoImage(Lsn(32), _)))));
    }

    #[test]
    fn a_page_that_a_record_changes_is_registered() {
        let change = |lsn, block| PageChange {
            tag: BufTag { rel: 16384, block },
            buffer: 0,
            lsn: Lsn(lsn),
        };
        let mut node = Inserting::default();
        node.changed(&[change(16, 1), change(24, 2), change(24, 1)]);
        assert_eq!(node.logged(&record(8, &[(1, true)])), Ok(()));
        let other = node.logged(&record(16, &[(2, true)]));
        assert_eq!(other, Err(Fault::NotRegistered(16384, 1)));
    }
}
