//! Tracks data pages that a power loss has torn, until recovery repairs them.

use crate::referee::Step;
use std::collections::BTreeSet;
use walsim_core::call::FilePath;
use walsim_core::shmem::{BufTag, Role};

/// The directory of the relations of the only database.
const DIRECTORY: &str = "base/5/";

/// The relation to which a file belongs.
#[must_use]
pub fn relation_of(path: &FilePath) -> Option<u32> {
    path.as_str().strip_prefix(DIRECTORY)?.parse().ok()
}

/// The path of a relation's file.
#[must_use]
pub fn relation_path(rel: u32) -> String {
    format!("{DIRECTORY}{rel}")
}

/// The torn pages of one node.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct TornPages(BTreeSet<BufTag>);

impl TornPages {
    pub(super) fn tear(&mut self, pages: &[(FilePath, u64)]) {
        for (path, block) in pages {
            if let (Some(rel), Ok(block)) = (relation_of(path), u32::try_from(*block)) {
                self.0.insert(BufTag { rel, block });
            }
        }
    }

    /// Whether recovery has changed a torn page in this step.
    pub(super) fn step(&mut self, step: &Step<'_>) -> bool {
        if self.0.is_empty() || !matches!(step.ran, Some((_, Role::Startup))) {
            return false;
        }
        let changes = &step.view.shmem().buffers.changes;
        let repaired = changes.iter().filter(|change| self.0.remove(&change.tag));
        repaired.count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_page_is_known_by_its_file() {
        let mut torn = TornPages::default();
        torn.tear(&[
            (FilePath::from("base/5/16384"), 1),
            (FilePath::from("pg_xact/0000"), 0),
        ]);
        let tag = BufTag {
            rel: 16384,
            block: 1,
        };
        assert_eq!(torn.0, BTreeSet::from([tag]));
    }
}
