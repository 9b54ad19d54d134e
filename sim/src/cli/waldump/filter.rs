//! Selects the records to show.

use walsim_core::wire::record::{RecordView, RelLocator, RmgrId};

/// The conditions that a shown record must meet. By default there are no conditions.
#[derive(Default)]
pub(super) struct Filter {
    /// The record belongs to one of these resource managers.
    rmgrs: Option<Box<[bool; 256]>>,
    pub(super) xid: Option<u32>,
    /// The record refers to a block of this relation. The same block must also meet the conditions
    /// on number and fork.
    pub(super) relation: Option<RelLocator>,
    /// The block has this number.
    pub(super) block: Option<u32>,
    /// The block is in this fork.
    pub(super) fork: Option<u8>,
    /// The record contains a full-page image.
    pub(super) fullpage: bool,
}

impl Filter {
    pub(super) fn only_rmgr(&mut self, rmid: RmgrId) {
        let rmgrs = self.rmgrs.get_or_insert_with(|| Box::new([false; 256]));
        rmgrs[usize::from(rmid.0)] = true;
    }

    #[inline]
    pub(super) fn passes(&self, record: &RecordView<'_>) -> bool {
        let rmid = usize::from(record.header.rmid.0);
        if self.rmgrs.as_ref().is_some_and(|rmgrs| !rmgrs[rmid]) {
            return false;
        }
        if self.xid.is_some_and(|xid| xid != record.header.xid.0) {
            return false;
        }
        let by_block = self.relation.is_some() || self.block.is_some() || self.fork.is_some();
        if by_block && !self.has_block(record) {
            return false;
        }
        !self.fullpage || record.blocks().any(|block| block.header.image.is_some())
    }

    /// `XLogRecordMatchesRelationBlock`
    fn has_block(&self, record: &RecordView<'_>) -> bool {
        record.blocks().any(|block| {
            self.fork.is_none_or(|fork| fork == block.header.fork)
                && self.relation.is_none_or(|rel| rel == block.header.rel)
                && self.block.is_none_or(|number| number == block.header.block)
        })
    }
}
