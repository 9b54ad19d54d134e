//! PAGE: all copies of a page with the same LSN have the same contents. The check compares the page
//! on the primary that changed it and on standbys that replayed the change. It also compares the
//! page after recovery, and the page in its file.

use crate::disk::Disk;
use crate::referee::{
    About, Change, ChangeKind, Check, DiskEvent, DiskKind, Evidence, Fact, FileClass, Knowledge,
    NodeAtEnd, Promise, Ruling, Site, Step, Subscription, Value, Violation, relation_of,
    relation_path,
};
use std::collections::{BTreeMap, BTreeSet};
use walsim_core::base::Lsn;
use walsim_core::shmem::{BufTag, LockId, Shmem};
use walsim_core::wire::data_page::DataPage;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const ABOUT: About = About {
    code: "PAGE",
    promise: Promise::Safety,
    statement: "Copies of a data page that have the same LSN have the same contents on all nodes.",
    details: "When a process changes a data page or writes it to a file, the simulator hashes the \
              contents. For the same page and LSN, the hash must be the same on all nodes. At the \
              end of a run, every page of a standby must have the LSN and the contents of the \
              primary's page.",
    notes: &[
        "The hash does not cover the LSN, the checksum and the unused space (hole) of a page.",
        "After a crash, a primary may write different WAL at a position that had not been \
         flushed. Contents from the discarded WAL are not compared.",
    ],
    source: "Redo applies each record exactly once to a page: XLogReadBufferForRedo \
              (xlogutils.c). A torn page is restored from its image: XLogRecordAssemble \
              (xloginsert.c)",
};

const SUBSCRIPTIONS: [Subscription; 3] = [
    Subscription::Change(ChangeKind::Pages),
    Subscription::Disk(DiskKind::Write, FileClass::Relation),
    Subscription::End,
];

/// All contents that pages have had, by page and LSN.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Page {
    versions: BTreeMap<(BufTag, Lsn), Seen>,
}

/// One version of a page: its contents at one LSN.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Seen {
    hash: u64,
    /// How often crash recovery of a primary had found the end of WAL when this version of the page
    /// was seen. The primary discards WAL past such an end, so the version may disappear.
    ends_found: usize,
}

impl Check for Page {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let Change::Pages(changes) = change else {
            return Ok(());
        };
        let pool = &step.view.shmem().buffers.pool;
        for change in changes {
            let buffer = &pool[usize::from(change.buffer)];
            // If a step changed a page twice, only the contents after the second change can be
            // read.
            if buffer.tag == Some(change.tag) && DataPage::new(&buffer.page).lsn() == change.lsn {
                self.seen(step.site, change.tag, &buffer.page, known)?;
            }
        }
        Ok(())
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        let Some(rel) = relation_of(event.path) else {
            return Ok(());
        };
        let size = known.geometry().data_page as usize;
        let (offset, bytes) = event.written();
        // If the disk became full, the write is short. The incomplete last page is ignored.
        for (number, page) in (offset / size as u64..).zip(bytes.chunks_exact(size)) {
            let block = u32::try_from(number).expect("a relation has at most 2^32 blocks");
            self.seen(event.site, BufTag { rel, block }, page, known)?;
        }
        Ok(())
    }

    /// Checks that every standby has the same contents of every page as the primary, which is the
    /// first node.
    fn at_end(&mut self, nodes: &[NodeAtEnd<'_>], _: &Knowledge) -> Ruling {
        let Some((primary, standbys)) = nodes.split_first() else {
            return Ok(());
        };
        let tags: BTreeSet<BufTag> = self.versions.keys().map(|(tag, _)| *tag).collect();
        for tag in tags {
            let Some(page) = newest(primary.view.shmem(), primary.disk, tag) else {
                continue;
            };
            let (lsn, hash) = (DataPage::new(&page).lsn(), content_hash(&page));
            if !lsn.is_valid() {
                continue;
            }
            for node in standbys {
                let theirs = newest(node.view.shmem(), node.disk, tag).unwrap_or_default();
                is_the_same(node.site, tag, (lsn, hash), &theirs)?;
            }
        }
        Ok(())
    }

    fn audit(&mut self, node: &NodeAtEnd<'_>, known: &Knowledge) -> Ruling {
        let shmem = node.view.shmem();
        for (id, buffer) in (0..).zip(&shmem.buffers.pool) {
            // A process that changes a page, or reads a page from disk, holds one of these locks.
            // When it releases the lock, the contents and the LSN belong together.
            let held = [LockId::BufferContent(id), LockId::BufferIo(id)];
            let busy = held.into_iter().any(|lock| shmem.locks.is_held(lock));
            if let Some(tag) = buffer.tag.filter(|_| buffer.valid && !busy) {
                self.seen(node.site, tag, &buffer.page, known)?;
            }
        }
        Ok(())
    }
}

impl Page {
    /// Compares a page, as seen in a buffer or in a file, with its earlier copies.
    fn seen(&mut self, site: Site<'_>, tag: BufTag, page: &[u8], known: &Knowledge) -> Ruling {
        let ends_found = known.ends_found();
        self.compare(site, tag, page, ends_found, |lsn, since| {
            known.is_history(lsn, since)
        })
    }

    fn compare(
        &mut self,
        site: Site<'_>,
        tag: BufTag,
        page: &[u8],
        ends_found: usize,
        is_history: impl Fn(Lsn, usize) -> bool,
    ) -> Ruling {
        let lsn = DataPage::new(page).lsn();
        if !lsn.is_valid() {
            return Ok(());
        }
        let now = Seen {
            hash: content_hash(page),
            ends_found,
        };
        let first = self.versions.entry((tag, lsn)).or_insert(now);
        if !is_history(lsn, first.ends_found) {
            *first = now;
        }
        if first.hash == now.hash {
            return Ok(());
        }
        let message = "two copies of a page differ although they have the same LSN";
        Err(violation(site, message, tag, lsn))
    }
}

/// Compares a standby's page with the LSN and the contents that the page has on the primary.
fn is_the_same(site: Site<'_>, tag: BufTag, (lsn, hash): (Lsn, u64), theirs: &[u8]) -> Ruling {
    let found = DataPage::new(theirs).lsn();
    if found != lsn {
        let mut violation = violation(
            site,
            "a page has a different LSN than on the primary",
            tag,
            lsn,
        );
        violation.facts.push(Fact::new("here", &found));
        return Err(violation);
    }
    if content_hash(theirs) != hash {
        return Err(violation(
            site,
            "a page differs from the primary's",
            tag,
            lsn,
        ));
    }
    Ok(())
}

fn violation(site: Site<'_>, message: &str, tag: BufTag, lsn: Lsn) -> Violation {
    let facts: [(&str, &dyn Evidence); 3] = [
        ("relation", &Value::Relation(tag.rel)),
        ("block", &Value::Block(tag.block)),
        ("LSN", &lsn),
    ];
    site.violation(ABOUT.code, message, &facts)
}

/// The current version of a page. It is read from the buffer pool, or from the file if no buffer
/// contains the page.
fn newest(shmem: &Shmem, disk: &Disk, tag: BufTag) -> Option<Vec<u8>> {
    let size = u64::from(shmem.settings.geometry.data_page);
    if let Some(id) = shmem.buffers.map.get(&tag) {
        let buffer = &shmem.buffers.pool[usize::from(*id)];
        if buffer.valid && buffer.tag == Some(tag) {
            return Some(buffer.page.to_vec());
        }
    }
    let path = relation_path(tag.rel);
    disk.read_cached(&path, u64::from(tag.block) * size, size)
}

/// The hash of a page without its LSN, its checksum and its unused space. The LSN is compared
/// separately.
fn content_hash(page: &[u8]) -> u64 {
    let hole = DataPage::new(page).hole();
    let Some(body) = page.get(10..) else { return 0 };
    if hole.is_empty() {
        return xxh3_64(body);
    }
    xxh3_64_with_seed(&page[hole.end..], xxh3_64(&page[10..hole.start]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{GEOMETRY, SITE};
    use walsim_core::wire::data_page::{add_item, empty_page, set_lsn};

    const TAG: BufTag = BufTag {
        rel: 16384,
        block: 1,
    };

    fn page(lsn: u64, tuple: u8) -> Vec<u8> {
        let mut page = empty_page(GEOMETRY.data_page);
        add_item(&mut page, &[tuple; 40]).expect("room");
        set_lsn(&mut page, Lsn(lsn));
        page
    }

    fn seen(check: &mut Page, page: &[u8]) -> Ruling {
        check.compare(SITE, TAG, page, 0, |_, _| true)
    }

    #[test]
    fn the_same_lsn_means_the_same_content() {
        let mut check = Page::default();
        assert_eq!(seen(&mut check, &page(9, 1)), Ok(()));
        assert_eq!(seen(&mut check, &page(10, 2)), Ok(()));
        assert_eq!(seen(&mut check, &page(9, 1)), Ok(()));
        assert_eq!(
            seen(&mut check, &page(9, 2)).expect_err("it bites").code,
            "PAGE"
        );
    }

    #[test]
    fn hole_and_checksum_do_not_count() {
        let mut check = Page::default();
        let mut other = page(9, 1);
        assert_eq!(seen(&mut check, &other), Ok(()));
        other[8] = 77;
        let hole = DataPage::new(&other).hole();
        other[hole.start] = 7;
        other[hole.end - 1] = 7;
        assert_eq!(seen(&mut check, &other), Ok(()));
        other[hole.end] ^= 1;
        assert!(seen(&mut check, &other).is_err());
    }

    /// A page whose record was lost in a crash is not compared, because another record may end at
    /// the same LSN.
    #[test]
    fn what_was_lost_is_forgotten() {
        let mut check = Page::default();
        seen(&mut check, &page(9, 1)).expect("first");
        seen(&mut check, &page(8, 1)).expect("first");
        let mut after = |page: &[u8]| {
            check.compare(SITE, TAG, page, 1, |lsn, since| since > 0 || lsn <= Lsn(8))
        };
        assert_eq!(after(&page(9, 2)), Ok(()));
        assert!(after(&page(9, 3)).is_err());
        assert!(after(&page(8, 2)).is_err());
    }

    #[test]
    fn at_the_end_every_page_is_as_on_the_primary() {
        let primary = (Lsn(9), content_hash(&page(9, 1)));
        let judge = |theirs: &[u8]| {
            is_the_same(SITE, TAG, primary, theirs).map_err(|violation| violation.message)
        };
        assert_eq!(judge(&page(9, 1)), Ok(()));
        assert!(judge(&page(8, 1)).unwrap_err().contains("LSN"));
        assert!(judge(&page(9, 3)).unwrap_err().contains("differs"));
        assert!(judge(&[]).is_err());
    }
}
