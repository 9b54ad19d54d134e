//! Main data of the Storage resource manager: creation and truncation of relation files. Mirrors
//! storage_xlog.h.

use super::layout::layout;
use super::payload::PayloadError;
use super::record::{RMGR_INFO_MASK, RelLocator, RmgrId};

layout! {
    /// The record that a file of a relation was created (`xl_smgr_create`).
    pub struct SmgrCreate: Disk {
        /// The relation.
        pub rel: RelLocator,
        /// The fork: 0 main, 1 fsm, 2 vm, 3 init.
        pub fork: u32,
    }
}

layout! {
    /// Forks were truncated (`xl_smgr_truncate`).
    pub struct SmgrTruncate: Disk {
        /// The number of blocks that the main fork keeps.
        pub blocks: u32,
        /// The relation.
        pub rel: RelLocator,
        /// The forks (`SMGR_TRUNCATE_…`).
        pub flags: i32,
    }
}

/// The main data of a Storage record, by record type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SmgrRecord {
    /// XLOG_SMGR_CREATE
    Create(SmgrCreate),
    /// XLOG_SMGR_TRUNCATE
    Truncate(SmgrTruncate),
}

impl SmgrRecord {
    /// Decodes the main data of a record with this `xl_info`.
    ///
    /// # Errors
    /// The data is too short, or the type is unknown.
    pub fn decode(info: u8, main: &[u8]) -> Result<Self, PayloadError> {
        match info & RMGR_INFO_MASK {
            0x10 => Ok(Self::Create(SmgrCreate::decode(main)?)),
            0x20 => Ok(Self::Truncate(SmgrTruncate::decode(main)?)),
            info => {
                let rmid = RmgrId::STORAGE;
                Err(PayloadError::UnknownType { rmid, info })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn layouts_are_those_of_c() {
        let words: Vec<u8> = (1..=5u32).flat_map(u32::to_le_bytes).collect();
        let rel = |spc, db, rel| RelLocator { spc, db, rel };
        let create = SmgrCreate {
            rel: rel(1, 2, 3),
            fork: 4,
        };
        let truncate = SmgrTruncate {
            blocks: 1,
            rel: rel(2, 3, 4),
            flags: 5,
        };
        assert_eq!(
            SmgrRecord::decode(0x11, &words),
            Ok(SmgrRecord::Create(create))
        );
        assert_eq!(
            SmgrRecord::decode(0x20, &words),
            Ok(SmgrRecord::Truncate(truncate))
        );
        assert!(SmgrRecord::decode(0x10, &words[..15]).is_err());
        assert!(SmgrRecord::decode(0x20, &words[..19]).is_err());
        assert!(SmgrRecord::decode(0x30, &words).is_err());
    }
}
