//! One file: its contents in the page cache, its contents on the platter, and its unsynced writes.

use super::content::Content;
use super::tree::PendingChange;
use crate::choice::{Choices, Key, Subject};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use walsim_core::base::Pid;
use walsim_core::call::FilePath;

/// A file, independently of its name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Inode {
    pub(super) number: u64,
    /// The last known path.
    pub(super) path: FilePath,
    /// How many bytes the platter writes atomically.
    sector: u64,
    cached: Content,
    platter: Content,
    /// The writes that no fsync has made durable yet, in the order in which they were issued.
    pending: Vec<Pending>,
    /// How many changes were issued.
    issued: u64,
    /// How many system calls were made. The number is a part of the keys of choices.
    pub(super) calls: u64,
    /// How many operations in flight use the file.
    pub(super) pins: u32,
    /// The file has no name in the page cache.
    pub(super) unlinked: bool,
    /// The rename that gave the file its name. This is `None` if the file was created with this
    /// name.
    pub(super) renamed: Option<Renamed>,
}

/// A rename: the process that made it, the directory, and the number of the change in the
/// directory's log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Renamed {
    pub(super) by: Pid,
    pub(super) dir: u64,
    pub(super) number: u64,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Pending {
    number: u64,
    offset: u64,
    patch: Patch,
    /// The range from the first to the last byte that changed.
    changed: Range<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Patch {
    Bytes(Bytes),
    Zeros(u64),
    /// The file is truncated at `offset`. Truncations are journaled, so they survive in order. If a
    /// truncation is lost, all later changes are lost too.
    Truncate,
}

impl Pending {
    fn len(&self) -> u64 {
        match &self.patch {
            Patch::Bytes(bytes) => as_u64(bytes.len()),
            Patch::Zeros(len) => *len,
            Patch::Truncate => 0,
        }
    }

    fn is_truncation(&self) -> bool {
        matches!(self.patch, Patch::Truncate)
    }

    fn sectors(&self, size: u64) -> Range<u64> {
        self.offset / size..(self.offset + self.len()).div_ceil(size)
    }

    /// Applies the part of the change that lies in `within`.
    fn apply(&self, content: &mut Content, within: Range<u64>) {
        let from = self.offset.max(within.start);
        let to = (self.offset + self.len()).min(within.end);
        if self.is_truncation() {
            content.truncate(self.offset);
        } else if from < to {
            match &self.patch {
                Patch::Bytes(bytes) => {
                    let start = as_usize(from - self.offset);
                    content.write(from, &bytes[start..start + as_usize(to - from)]);
                }
                Patch::Zeros(_) => content.zero(from, to - from),
                Patch::Truncate => unreachable!("handled above"),
            }
        }
    }
}

/// Which sectors of a write survive a power loss.
#[derive(Clone, Copy, Debug)]
enum Kept {
    All,
    None,
    Prefix(u64),
    Subset,
}

/// What a power loss does to the unsynced writes of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// All writes survive.
    AllKept,
    /// No write survives.
    NoneKept,
    /// Each file draws an outcome of its own.
    PerFile,
    /// Each write draws an outcome of its own.
    PerWrite,
}

/// What a file lost in a power loss.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Losses {
    /// The number of bytes in writes that did not survive completely.
    pub(super) bytes: u64,
    /// Torn pages. A torn page equals neither its old contents nor any later version.
    pub(super) torn: Vec<u64>,
}

impl Inode {
    pub(super) fn new(number: u64, path: FilePath, sector: u32) -> Self {
        // PostgreSQL relies on pg_control being written atomically.
        let sector = if path.as_str() == "global/pg_control" {
            8192
        } else {
            sector
        };
        Self {
            number,
            path,
            sector: u64::from(sector),
            cached: Content::default(),
            platter: Content::default(),
            pending: Vec::new(),
            issued: 0,
            calls: 0,
            pins: 0,
            unlinked: false,
            renamed: None,
        }
    }

    /// A file whose contents are all durable.
    pub(super) fn settled(mut self, content: Content) -> Self {
        self.platter = content.clone();
        self.cached = content;
        self
    }

    pub(super) fn write(&mut self, offset: u64, bytes: Bytes) {
        let changed = self.cached.change(offset, &bytes);
        // PostgreSQL writes a whole WAL page again for each record that it adds, so most bytes of a
        // write do not change. Only the changed range is kept.
        if changed.start < changed.end {
            let from = changed.start.max(offset);
            let new = as_usize(from - offset)..as_usize(changed.end - offset);
            self.cached.write(from, &bytes[new]);
        }
        self.push(offset, Patch::Bytes(bytes), changed);
    }

    pub(super) fn zero(&mut self, offset: u64, len: u64) {
        let changed = self.cached.change_by_zeros(offset, len);
        self.cached.zero(offset, len);
        self.push(offset, Patch::Zeros(len), changed);
    }

    pub(super) fn truncate(&mut self, len: u64) {
        let old = self.cached.len();
        if len > old {
            self.zero(old, len - old);
        } else if len < old {
            self.cached.truncate(len);
            self.push(len, Patch::Truncate, len..old);
        }
    }

    fn push(&mut self, offset: u64, patch: Patch, changed: Range<u64>) {
        self.issued += 1;
        self.pending.push(Pending {
            number: self.issued,
            offset,
            patch,
            changed,
        });
    }

    /// Makes all changes up to the one with this number durable.
    pub(super) fn settle(&mut self, upto: u64) {
        let covered = self.pending.partition_point(|p| p.number <= upto);
        for entry in self.pending.drain(..covered) {
            // All earlier changes are applied already, so the platter equals the page cache before
            // this write. It is therefore enough to apply the changed range.
            let within = match entry.patch {
                Patch::Truncate => 0..u64::MAX,
                Patch::Bytes(_) | Patch::Zeros(_) => entry.changed.clone(),
            };
            entry.apply(&mut self.platter, within);
        }
    }

    /// Loses power. Some of the unsynced writes survive, and the page cache becomes equal to the
    /// platter. If a page size is given, the function also looks for torn pages.
    pub(super) fn lose(&mut self, fate: Fate, dice: &Dice<'_>, page: Option<u64>) -> Losses {
        let kept = self.decide(fate, dice);
        let survivors = kept
            .iter()
            .zip(&self.pending)
            .position(|(kept, entry)| entry.is_truncation() && !matches!(kept, Kept::All))
            .unwrap_or(kept.len());
        let mut losses = Losses::default();
        for (index, (kept, entry)) in kept.iter().zip(&self.pending).enumerate() {
            if index >= survivors || !matches!(kept, Kept::All) {
                losses.bytes += entry.changed.end - entry.changed.start;
            }
        }
        let before = self.platter.clone();
        let mut phase = 0;
        for index in 0..survivors {
            if self.pending[index].is_truncation() {
                self.land(phase..index, &kept, dice);
                self.pending[index].apply(&mut self.platter, 0..u64::MAX);
                phase = index + 1;
            }
        }
        self.land(phase..survivors, &kept, dice);
        // The length is metadata, so it may survive although the data are lost. The missing bytes
        // are then zeros.
        let length = Key::new("disk.loss.length", dice.subject, [self.number, self.issued]);
        if fate != Fate::NoneKept && dice.choices.ratio(length, 1, 4) {
            let len = self.cached.len().max(self.platter.len());
            self.platter.truncate(len);
        }
        if let Some(page) = page {
            losses.torn = self.torn(&before, page);
        }
        self.pending.clear();
        self.cached = self.platter.clone();
        losses
    }

    /// Applies the writes that survive. For each surviving sector, the newest surviving write of
    /// the sector determines its contents. The sector gets the contents that it had in the page
    /// cache after that write.
    fn land(&mut self, entries: Range<usize>, kept: &[Kept], dice: &Dice<'_>) {
        let mut newest: BTreeMap<u64, usize> = BTreeMap::new();
        for index in entries.clone() {
            let entry = &self.pending[index];
            let sectors = entry.sectors(self.sector);
            for sector in sectors.clone() {
                let survives = match kept[index] {
                    Kept::All => true,
                    Kept::None => false,
                    Kept::Prefix(count) => sector - sectors.start < count,
                    Kept::Subset => dice.sector(self.number, entry.number, sector - sectors.start),
                };
                if survives {
                    newest.insert(sector, index);
                }
            }
        }
        for (sector, last) in newest {
            let within = sector * self.sector..(sector + 1) * self.sector;
            for entry in &self.pending[entries.start..=last] {
                entry.apply(&mut self.platter, within.clone());
            }
        }
    }

    fn decide(&self, fate: Fate, dice: &Dice<'_>) -> Vec<Kept> {
        let count = self.pending.len();
        match fate {
            Fate::AllKept => vec![Kept::All; count],
            Fate::NoneKept => vec![Kept::None; count],
            Fate::PerFile => match dice.file(self.number, self.issued, 4) {
                0 => vec![Kept::All; count],
                1 => vec![Kept::None; count],
                2 => {
                    // A prefix of the writes survives, and the last of them may be torn.
                    let whole = as_usize(dice.prefix(self.number, self.issued, as_u64(count) + 1));
                    let one = |index: usize, entry: &Pending| match index.cmp(&whole) {
                        std::cmp::Ordering::Less => Kept::All,
                        std::cmp::Ordering::Equal => self.one(entry, dice),
                        std::cmp::Ordering::Greater => Kept::None,
                    };
                    let entries = self.pending.iter().enumerate();
                    entries.map(|(index, entry)| one(index, entry)).collect()
                }
                _ => self.pending.iter().map(|e| self.one(e, dice)).collect(),
            },
            Fate::PerWrite => self.pending.iter().map(|e| self.one(e, dice)).collect(),
        }
    }

    fn one(&self, entry: &Pending, dice: &Dice<'_>) -> Kept {
        let sectors = entry.sectors(self.sector);
        match dice.write(self.number, entry.number) {
            0 => Kept::All,
            1 => Kept::None,
            2 => Kept::Prefix(dice.cut(self.number, entry.number, sectors.end - sectors.start + 1)),
            _ => Kept::Subset,
        }
    }

    /// Torn pages: whole pages that do not equal any version that they had since the last fsync.
    fn torn(&self, before: &Content, page: u64) -> Vec<u64> {
        let mut touched = BTreeSet::new();
        for entry in &self.pending {
            touched.extend(entry.offset / page..(entry.offset + entry.len()).div_ceil(page));
        }
        let whole = |number: &u64| (number + 1) * page <= self.platter.len();
        let torn = |number: &u64| {
            let now = self.platter.read(number * page, page);
            let within = number * page..(number + 1) * page;
            let mut version = before.clone();
            let mut seen = version.read(number * page, page) == now;
            for entry in &self.pending {
                entry.apply(&mut version, within.clone());
                seen |= version.read(number * page, page) == now;
            }
            // A page past the old end of the file may also be all zeros. Such a page is not torn.
            !seen && now.iter().any(|byte| *byte != 0)
        };
        touched.into_iter().filter(whole).filter(torn).collect()
    }

    pub(super) const fn issued(&self) -> u64 {
        self.issued
    }

    pub(super) const fn cached(&self) -> &Content {
        &self.cached
    }

    pub(super) const fn platter(&self) -> &Content {
        &self.platter
    }

    /// The ranges that unsynced writes changed.
    pub(super) fn unsynced(&self) -> Vec<Range<u64>> {
        let pending = self.pending.iter();
        pending.map(|entry| entry.changed.clone()).collect()
    }

    /// The position up to which the bytes from `from` on would keep their current contents in every
    /// crash.
    pub(super) fn stable_until(&self, from: u64) -> u64 {
        let changed = self.pending.iter().map(|entry| &entry.changed);
        let unstable = changed.filter(|range| range.start < range.end && range.end > from);
        let first = unstable.map(|range| range.start).min();
        first.unwrap_or(u64::MAX).min(self.cached.len()).max(from)
    }

    /// Whether these bytes would keep their current contents in every crash.
    pub(super) fn is_stable(&self, range: &Range<u64>) -> bool {
        let untouched =
            |entry: &Pending| entry.changed.end <= range.start || range.end <= entry.changed.start;
        range.end <= self.cached.len() && self.pending.iter().all(untouched)
    }
}

/// The random choices of one power loss.
pub(super) struct Dice<'a> {
    pub(super) choices: &'a Choices,
    pub(super) subject: Subject,
}

impl Dice<'_> {
    fn file(&self, inode: u64, issued: u64, n: u64) -> u64 {
        let key = Key::new("disk.loss.file", self.subject, [inode, issued]);
        self.choices.below(key, n)
    }

    fn prefix(&self, inode: u64, issued: u64, n: u64) -> u64 {
        let key = Key::new("disk.loss.prefix", self.subject, [inode, issued]);
        self.choices.below(key, n)
    }

    fn write(&self, inode: u64, number: u64) -> u64 {
        let key = Key::new("disk.loss.write", self.subject, [inode, number]);
        self.choices.below(key, 4)
    }

    fn cut(&self, inode: u64, number: u64, n: u64) -> u64 {
        let key = Key::new("disk.loss.cut", self.subject, [inode, number]);
        self.choices.below(key, n)
    }

    /// Whether the changes of a directory survive the power loss with this number in their order,
    /// as in a journal.
    pub(super) fn keeps_order(&self, losses: u64, dir: u64) -> bool {
        let key = Key::new("disk.loss.order", self.subject, [losses, dir]);
        self.choices.below(key, 2) == 0
    }

    /// Whether a change of a directory may survive the power loss with this number.
    pub(super) fn name(&self, losses: u64, change: PendingChange) -> bool {
        let PendingChange { dir, index, of } = change;
        if self.keeps_order(losses, dir) {
            let cut = Key::new("disk.loss.names", self.subject, [losses, dir]);
            return index < of - self.choices.below(cut, of + 1);
        }
        let name = Key::new("disk.loss.name", self.subject, [losses << 32 | dir, index]);
        self.choices.below(name, 2) == 0
    }

    /// Whether this sector of a write survives. Each sector has one random bit.
    fn sector(&self, inode: u64, number: u64, sector: u64) -> bool {
        let what = [inode << 32 | number, sector / 64];
        let bits = self
            .choices
            .bits(Key::new("disk.loss.sectors", self.subject, what));
        bits >> (sector % 64) & 1 == 1
    }
}

fn as_usize(n: u64) -> usize {
    usize::try_from(n).expect("files on a fake disk fit into memory")
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).expect("a length fits into 64 bits")
}
