//! PAGE: a page has the same content wherever it has the same LSN: on the primary that changed it, on standbys that
//! replayed the change, after recovery, and in the files.

use super::{Judged, Site};
use crate::disk::Disk;
use crate::world::Violation;
use std::collections::{BTreeMap, BTreeSet};
use walsim_core::base::{Lsn, Mark, MarkSet};
use walsim_core::call::FilePath;
use walsim_core::shmem::{BufTag, PageChange, Role, Shmem};
use walsim_core::wire::data_page::DataPage;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const CODE: &str = "PAGE";

/// Where the relations of the only database are.
const DIRECTORY: &str = "base/5/";

/// The contents that each page has had, by LSN.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Page {
    versions: BTreeMap<(BufTag, Lsn), u64>,
    /// Pages that a loss of power tore, and that nothing has repaired yet.
    torn: BTreeSet<(usize, BufTag)>,
}

impl Page {
    /// Pages got new contents.
    pub(super) fn changed(
        &mut self,
        site: Site<'_>,
        (host, role): (usize, Option<Role>),
        shmem: &Shmem,
        changes: &[PageChange],
        marks: &mut MarkSet,
    ) -> Result<(), Violation> {
        for change in changes {
            let buffer = &shmem.buffers.pool[usize::from(change.buffer)];
            // Two changes in one step: only the last one is still there to be looked at.
            if buffer.tag == Some(change.tag) && DataPage::new(&buffer.page).lsn() == change.lsn {
                self.seen(site, change.tag, &buffer.page)?;
            }
            if !self.torn.is_empty()
                && role == Some(Role::Startup)
                && self.torn.remove(&(host, change.tag))
            {
                marks.insert(Mark::FpiRepairedTornPage);
            }
        }
        Ok(())
    }

    /// A page has this content, in a buffer or in its file.
    pub(super) fn seen(
        &mut self,
        site: Site<'_>,
        tag: BufTag,
        page: &[u8],
    ) -> Result<(), Violation> {
        let lsn = DataPage::new(page).lsn();
        if !lsn.is_valid() {
            return Ok(());
        }
        let hash = content_hash(page);
        let first = *self.versions.entry((tag, lsn)).or_insert(hash);
        if hash == first {
            return Ok(());
        }
        Err(violation(
            site,
            "a page differs from what it was elsewhere at the same LSN",
            tag,
            lsn,
        ))
    }

    /// A primary recovered up to `end`: what was changed by WAL behind it has never happened.
    pub(super) fn recovered(&mut self, end: Lsn) {
        self.versions.retain(|(_, lsn), _| *lsn <= end);
    }

    /// A loss of power tore pages.
    pub(super) fn tear(&mut self, host: usize, pages: &[(FilePath, u64)]) {
        for (path, block) in pages {
            if let (Some(rel), Ok(block)) = (relation(path), u32::try_from(*block)) {
                self.torn.insert((host, BufTag { rel, block }));
            }
        }
    }

    /// The last look: every page is on every node as it is on the first.
    pub(super) fn at_end(&self, nodes: &[Judged<'_>]) -> Result<(), Violation> {
        let Some((primary, standbys)) = nodes.split_first() else {
            return Ok(());
        };
        let tags: BTreeSet<BufTag> = self.versions.keys().map(|(tag, _)| *tag).collect();
        for tag in tags {
            let Some(page) = newest(primary.shmem, primary.disk, tag) else {
                continue;
            };
            let (lsn, hash) = (DataPage::new(&page).lsn(), content_hash(&page));
            if !lsn.is_valid() {
                continue;
            }
            for node in standbys {
                let theirs = newest(node.shmem, node.disk, tag).unwrap_or_default();
                let found = DataPage::new(&theirs).lsn();
                if found != lsn {
                    let message = "a page has another LSN than on the primary";
                    let mut violation = violation(node.site, message, tag, lsn);
                    violation
                        .facts
                        .push((String::from("here"), found.to_string()));
                    return Err(violation);
                }
                if content_hash(&theirs) != hash {
                    let message = "a page differs from the primary's";
                    return Err(violation(node.site, message, tag, lsn));
                }
            }
        }
        Ok(())
    }
}

/// The relation whose file this is.
pub(super) fn relation(path: &FilePath) -> Option<u32> {
    path.as_str().strip_prefix(DIRECTORY)?.parse().ok()
}

fn violation(site: Site<'_>, message: &str, tag: BufTag, lsn: Lsn) -> Violation {
    let facts: [(&str, &dyn std::fmt::Display); 3] =
        [("relation", &tag.rel), ("block", &tag.block), ("LSN", &lsn)];
    site.violation(CODE, message, &facts)
}

/// A page in the buffer pool, or else in its file.
fn newest(shmem: &Shmem, disk: &Disk, tag: BufTag) -> Option<Vec<u8>> {
    let size = u64::from(shmem.settings.geometry.data_page);
    if let Some(id) = shmem.buffers.map.get(&tag) {
        let buffer = &shmem.buffers.pool[usize::from(*id)];
        if buffer.valid && buffer.tag == Some(tag) {
            return Some(buffer.page.to_vec());
        }
    }
    let path = format!("{DIRECTORY}{}", tag.rel);
    disk.read_cached(&path, u64::from(tag.block) * size, size)
}

/// Of what counts: neither the LSN, which is compared by itself, nor the checksum, nor the hole.
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
    use super::super::testing::{SITE, TINY, disk, shmem};
    use super::*;
    use crate::disk::Content;
    use walsim_core::wire::data_page::{add_item, empty_page, set_lsn};

    const TAG: BufTag = BufTag {
        rel: 16384,
        block: 1,
    };

    fn page(lsn: u64, tuple: u8) -> Vec<u8> {
        let mut page = empty_page(TINY.data_page);
        add_item(&mut page, &[tuple; 40]).expect("room");
        set_lsn(&mut page, Lsn(lsn));
        page
    }

    #[test]
    fn the_same_lsn_means_the_same_content() {
        let mut check = Page::default();
        assert_eq!(check.seen(SITE, TAG, &page(9, 1)), Ok(()));
        assert_eq!(check.seen(SITE, TAG, &page(10, 2)), Ok(()));
        assert_eq!(check.seen(SITE, TAG, &page(9, 1)), Ok(()));
        assert_eq!(
            check
                .seen(SITE, TAG, &page(9, 2))
                .expect_err("it bites")
                .code,
            "PAGE"
        );
    }

    #[test]
    fn hole_and_checksum_do_not_count() {
        let mut check = Page::default();
        let mut other = page(9, 1);
        assert_eq!(check.seen(SITE, TAG, &other), Ok(()));
        other[8] = 77;
        let hole = DataPage::new(&other).hole();
        other[hole.start] = 7;
        other[hole.end - 1] = 7;
        assert_eq!(check.seen(SITE, TAG, &other), Ok(()));
        other[hole.end] ^= 1;
        assert!(check.seen(SITE, TAG, &other).is_err());
    }

    /// A record that a crash took with it never happened; another one may end where it ended.
    #[test]
    fn what_was_lost_is_forgotten() {
        let mut check = Page::default();
        check.seen(SITE, TAG, &page(9, 1)).expect("first");
        check.seen(SITE, TAG, &page(8, 1)).expect("first");
        check.recovered(Lsn(8));
        assert_eq!(check.seen(SITE, TAG, &page(9, 2)), Ok(()));
        assert!(check.seen(SITE, TAG, &page(8, 2)).is_err());
    }

    #[test]
    fn at_the_end_every_page_is_as_on_the_primary() {
        let mut check = Page::default();
        check.seen(SITE, TAG, &page(9, 1)).expect("first");
        let shmem = shmem();
        let with = |page: &[u8]| {
            let mut disk = disk();
            let mut file = vec![0; TINY.data_page as usize];
            file.extend_from_slice(page);
            disk.set_up_file("base/5/16384", Content::new(&file));
            disk
        };
        let primary = with(&page(9, 1));
        let judge = |standby: &Disk| {
            let node = |disk| Judged {
                site: SITE,
                shmem: &shmem,
                disk,
                end: Lsn(9),
            };
            check.at_end(&[node(&primary), node(standby)])
        };
        assert_eq!(judge(&with(&page(9, 1))), Ok(()));
        assert!(
            judge(&with(&page(8, 1)))
                .expect_err("it bites")
                .message
                .contains("LSN")
        );
        assert!(
            judge(&with(&page(9, 3)))
                .expect_err("it bites")
                .message
                .contains("differs")
        );
        assert!(judge(&disk()).is_err());
    }

    #[test]
    fn a_torn_page_is_known_by_its_file() {
        let mut check = Page::default();
        check.tear(
            2,
            &[
                (FilePath::from("base/5/16384"), 1),
                (FilePath::from("pg_xact/0000"), 0),
            ],
        );
        assert_eq!(check.torn, BTreeSet::from([(2, TAG)]));
    }
}
