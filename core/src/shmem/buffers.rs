//! The buffer pool: tags, pins, and usage counts. Mirrors buf_internals.h. The locks of a buffer
//! guard its content.

use crate::base::{Lsn, Pid};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

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
    pub pool: Vec<Buffer>,
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
            pool: alloc::vec![empty; count as usize],
            map: BTreeMap::new(),
            hand: 0,
            changes: Vec::new(),
            blocks: BTreeMap::new(),
        }
    }

    /// `PinBuffer`
    pub fn pin(&mut self, id: BufId, pid: Pid) {
        let buffer = &mut self.pool[usize::from(id)];
        buffer.pins.push(pid);
        buffer.usage = (buffer.usage + 1).min(5);
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
        for buffer in &mut self.pool {
            buffer.pins.retain(|p| *p != pid);
        }
    }

    /// `StrategyGetBuffer`: the victim of the clock sweep. `None` if all buffers are pinned.
    pub fn victim(&mut self) -> Option<BufId> {
        let count = self.pool.len();
        for _ in 0..count * 6 + 1 {
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
