//! The unsynced bytes of a disk, and what became of them in a power loss. Only traces and reports
//! ask for them.

use super::{Disk, Inode};
use std::collections::BTreeSet;
use std::ops::Range;
use walsim_core::call::FilePath;

/// A file with bytes that no fsync has made durable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Unsynced {
    /// The file, relative to the data directory.
    pub file: FilePath,
    /// The bytes that a power loss could lose.
    pub bytes: Vec<Range<u64>>,
    inode: u64,
}

/// What a file lost in a power loss.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FileLoss {
    /// The file, relative to the data directory.
    pub file: String,
    /// The bytes that were not durable before the power loss.
    pub unsynced: Vec<Range<u64>>,
    /// The bytes of `unsynced` that the power loss destroyed.
    pub lost: Vec<Range<u64>>,
    /// Whether the file's name was affected: the file has lost its name, or a removed file has its
    /// name again.
    pub renamed: bool,
}

/// A run of equal bytes that is shorter than this does not divide a lost range, because the bytes
/// may be equal by chance.
const NOISE: u64 = 64;

impl Disk {
    /// The files with unsynced bytes.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Unsynced> {
        let files = self.inodes.iter().map(|(number, inode)| Unsynced {
            file: inode.path.clone(),
            bytes: joined(inode.unsynced(), 0),
            inode: *number,
        });
        files.filter(|file| !file.bytes.is_empty()).collect()
    }

    /// What a power loss has changed since `before`.
    #[must_use]
    pub fn losses_since(&self, before: &Self) -> Vec<FileLoss> {
        let files = before.unsynced().into_iter().map(|file| {
            let was = &before.inodes[&file.inode];
            let lost = match self.inodes.get(&file.inode) {
                Some(is) => joined(differences(&file.bytes, was, is), NOISE),
                None => file.bytes.clone(),
            };
            FileLoss {
                file: file.file.to_string(),
                unsynced: file.bytes,
                lost,
                renamed: false,
            }
        });
        let mut losses: Vec<FileLoss> = files.collect();
        let names =
            |disk: &Self| -> BTreeSet<(String, u64)> { disk.places().into_iter().collect() };
        let (old, new) = (names(before), names(self));
        for (path, _) in old.symmetric_difference(&new) {
            match losses.iter_mut().find(|loss| loss.file == *path) {
                Some(loss) => loss.renamed = true,
                None => losses.push(FileLoss {
                    file: path.clone(),
                    unsynced: Vec::new(),
                    lost: Vec::new(),
                    renamed: true,
                }),
            }
        }
        losses.sort_by(|a, b| a.file.cmp(&b.file));
        losses
    }
}

/// The parts of the ranges in which two versions of a file differ.
fn differences(ranges: &[Range<u64>], was: &Inode, is: &Inode) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let len = range.end - range.start;
        let (old, new) = (
            was.cached().read(range.start, len),
            is.cached().read(range.start, len),
        );
        for (at, index) in (range.start..range.end).zip(0..) {
            if old.get(index) == new.get(index) {
                continue;
            }
            match found.last_mut() {
                Some(last) if last.end == at => last.end = at + 1,
                _ => found.push(at..at + 1),
            }
        }
    }
    found
}

/// Sorts ranges, and joins those with at most `gap` bytes between them.
fn joined(mut ranges: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    ranges.retain(|range| range.start < range.end);
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => {
                last.end = last.end.max(range.end);
            }
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined() {
        let ranges = vec![10..20, 0..5, 15..30, 33..34, 50..50];
        assert_eq!(joined(ranges.clone(), 0), [0..5, 10..30, 33..34]);
        assert_eq!(joined(ranges, 4), [0..5, 10..34]);
    }
}
