//! The buffer pool: tags, pins, and usage counts. Mirrors buf_internals.h. The locks of a buffer
//! guard its content.

use crate::base::{Lsn, Pid};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::ops::{Deref, Index, IndexMut};

/// `BM_MAX_USAGE_COUNT`
const MAX_USAGE: u8 = 5;

/// Index of a buffer.
pub type BufId = u16;

/// The page in a buffer: relation file number and block number. There is only one database, and
/// relations have only a main fork.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BufTag {
    /// relfilenode
    pub rel: u32,
    /// Block number.
    pub block: u32,
}

/// One buffer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Buffer {
    /// The page in the buffer. `None` if the buffer is free.
    pub tag: Option<BufTag>,
    /// The bytes of the page.
    pub page: Arc<Vec<u8>>,
    /// False while a process is reading or initializing the page.
    pub valid: bool,
    /// Whether the page was changed since it was last written.
    pub dirty: bool,
    /// Whether the page was changed since the write in progress began.
    pub just_dirtied: bool,
    /// Usage count for the clock sweep.
    pub usage: u8,
    /// The processes that have pinned the buffer. A process appears once for each of its pins.
    pub pins: Vec<Pid>,
}

impl Buffer {
    /// The invariants of `BufferDesc.state`.
    fn check(&self) {
        assert!(!self.valid || self.tag.is_some(), "{self:?}");
        assert!(!self.valid || !self.page.is_empty(), "{:?}", self.tag);
        // BufferAlloc replaces only clean pages, and a failed read leaves a clean buffer.
        assert!(!self.dirty || self.valid, "{:?}", self.tag);
        assert!(!self.just_dirtied || self.dirty, "{:?}", self.tag);
        assert!(self.usage <= MAX_USAGE, "{:?}", self.tag);
    }
}

/// The buffers, and the ids of those that were mutably borrowed since their last check.
#[derive(Clone, Debug)]
pub struct Pool {
    buffers: Vec<Buffer>,
    touched: Vec<BufId>,
}

impl Deref for Pool {
    type Target = [Buffer];

    fn deref(&self) -> &[Buffer] {
        &self.buffers
    }
}

impl<'a> IntoIterator for &'a Pool {
    type Item = &'a Buffer;
    type IntoIter = core::slice::Iter<'a, Buffer>;

    fn into_iter(self) -> Self::IntoIter {
        self.buffers.iter()
    }
}

impl Index<usize> for Pool {
    type Output = Buffer;

    fn index(&self, id: usize) -> &Buffer {
        &self.buffers[id]
    }
}

impl IndexMut<usize> for Pool {
    fn index_mut(&mut self, id: usize) -> &mut Buffer {
        let touched = BufId::try_from(id).expect("a pool has at most 65,535 buffers");
        if self.touched.last() != Some(&touched) {
            self.touched.push(touched);
        }
        &mut self.buffers[id]
    }
}

// Two pools are equal even if only one of them was checked.
impl PartialEq for Pool {
    fn eq(&self, other: &Self) -> bool {
        self.buffers == other.buffers
    }
}

impl Eq for Pool {}

impl Hash for Pool {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.buffers.hash(state);
    }
}

/// A page that was changed in this step. The simulator's checkers use it to compare nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageChange {
    /// The page.
    pub tag: BufTag,
    /// The buffer that holds the page.
    pub buffer: BufId,
    /// The new LSN of the page.
    pub lsn: Lsn,
}

/// The pool.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Buffers {
    /// The buffers.
    pub pool: Pool,
    /// The buffer of each page.
    pub map: BTreeMap<BufTag, BufId>,
    /// The clock hand.
    pub hand: BufId,
    /// The pages that were changed in the current step. The node clears this list before each step.
    pub changes: Vec<PageChange>,
    /// The length of each relation in blocks, as far as it is known (`smgr_cached_nblocks`).
    pub blocks: BTreeMap<u32, u32>,
}

impl Buffers {
    pub(super) fn new(count: u32) -> Self {
        let empty = Buffer {
            tag: None,
            page: Arc::new(Vec::new()),
            valid: false,
            dirty: false,
            just_dirtied: false,
            usage: 0,
            pins: Vec::new(),
        };
        Self {
            pool: Pool {
                buffers: alloc::vec![empty; count as usize],
                touched: Vec::new(),
            },
            map: BTreeMap::new(),
            hand: 0,
            changes: Vec::new(),
            blocks: BTreeMap::new(),
        }
    }

    /// Checks the buffers that have changed since the last call.
    pub(super) fn check(&mut self) {
        if self.pool.touched.is_empty() {
            return;
        }
        for id in core::mem::take(&mut self.pool.touched) {
            let buffer = &self.pool.buffers[usize::from(id)];
            buffer.check();
            let tag = buffer.tag.as_ref();
            assert!(
                tag.is_none_or(|tag| self.map.get(tag) == Some(&id)),
                "the map has another buffer than {id} for {tag:?}"
            );
        }
        // Every entry of the map is the tag of its buffer, so no two entries have the same buffer.
        assert!(self.map.len() <= self.pool.len());
        assert!(usize::from(self.hand) < self.pool.len());
    }

    /// `PinBuffer`
    pub fn pin(&mut self, id: BufId, pid: Pid) {
        let buffer = &mut self.pool[usize::from(id)];
        buffer.pins.push(pid);
        buffer.usage = (buffer.usage + 1).min(MAX_USAGE);
    }

    /// `UnpinBuffer`
    ///
    /// # Panics
    /// If the process has not pinned the buffer.
    pub fn unpin(&mut self, id: BufId, pid: Pid) {
        let pins = &mut self.pool[usize::from(id)].pins;
        let at = pins
            .iter()
            .position(|p| *p == pid)
            .expect("only a pinned buffer is unpinned");
        pins.swap_remove(at);
    }

    /// Has the process pinned any buffer?
    #[must_use]
    pub fn pins_any(&self, pid: Pid) -> bool {
        self.pool.iter().any(|buffer| buffer.pins.contains(&pid))
    }

    /// Drops all pins of a process. Called when the process exits after an error.
    pub fn unpin_all(&mut self, pid: Pid) {
        // A pin has no invariant of its own, so the buffers do not count as touched.
        for buffer in &mut self.pool.buffers {
            buffer.pins.retain(|p| *p != pid);
        }
    }

    /// `StrategyGetBuffer`: the victim of the clock sweep. `None` if all buffers are pinned.
    pub fn victim(&mut self) -> Option<BufId> {
        let count = self.pool.len();
        let most = usize::from(MAX_USAGE) + 1;
        for _ in 0..count * most + 1 {
            let id = self.hand;
            self.hand = if usize::from(id) + 1 == count {
                0
            } else {
                id + 1
            };
            let buffer = &mut self.pool[usize::from(id)];
            if !buffer.pins.is_empty() {
                continue;
            }
            if buffer.usage == 0 {
                return Some(id);
            }
            buffer.usage -= 1;
        }
        None
    }

    /// Marks a page as dirty, and makes the change visible to the simulator's checkers. Called
    /// after the page got new bytes and a new LSN.
    ///
    /// # Panics
    /// If the buffer holds no page.
    pub fn changed(&mut self, id: BufId, lsn: Lsn) {
        let buffer = &mut self.pool[usize::from(id)];
        // MarkBufferDirty: only a page in use is changed, by a process that has pinned it.
        assert!(!buffer.pins.is_empty(), "{:?}", buffer.tag);
        assert!(buffer.valid, "{:?}", buffer.tag);
        buffer.dirty = true;
        buffer.just_dirtied = true;
        let tag = buffer.tag.expect("a changed buffer holds a page");
        self.changes.push(PageChange {
            tag,
            buffer: id,
            lsn,
        });
    }
}
