//! Names of record types. Mirrors the `…_identify` functions of access/rmgrdesc.

use super::{RMGR_INFO_MASK, RmgrId};
use crate::base::PgVersion;

/// `XLOG_XACT_OPMASK`: all bits of the type of a Transaction record except XLOG_XACT_HAS_INFO.
const XACT_OP_MASK: u8 = 0x70;

/// The names of a resource manager's record types, by the upper half of `xl_info`.
type Names = [Option<&'static str>; 16];

/// Builds a table of [`Names`]. Types that are not in `known` do not exist.
const fn names(known: &[(u8, &'static str)]) -> Names {
    let mut names = [None; 16];
    let mut at = 0;
    while at < known.len() {
        names[(known[at].0 >> 4) as usize] = Some(known[at].1);
        at += 1;
    }
    names
}

impl RmgrId {
    /// The name of a record type, or `None` if this version does not have the type.
    #[must_use]
    #[inline]
    pub const fn record_type(self, version: PgVersion, info: u8) -> Option<&'static str> {
        let names = match self {
            Self::XLOG if version.major() >= 19 => &XLOG_19,
            Self::XLOG if version.major() >= 17 => &XLOG_17,
            Self::XLOG => &XLOG,
            Self::TRANSACTION => return XACT[((info & XACT_OP_MASK) >> 4) as usize],
            Self::STORAGE => &SMGR,
            Self::CLOG => &CLOG,
            Self::DATABASE => &DBASE,
            Self::TABLESPACE => &TBLSPC,
            Self::MULTIXACT => &MULTIXACT,
            Self::RELMAP => &RELMAP,
            Self::STANDBY => &STANDBY,
            Self::HEAP2 if version.major() >= 19 => &HEAP2_19,
            Self::HEAP2 if version.major() >= 17 => &HEAP2_17,
            Self::HEAP2 => &HEAP2,
            Self::HEAP => &HEAP,
            Self::BTREE => &BTREE,
            Self::HASH => &HASH,
            Self::GIN => &GIN,
            Self::GIST if version.major() >= 19 => &GIST_19,
            Self::GIST => &GIST,
            Self::SEQUENCE => &SEQ,
            Self::SPGIST => &SPG,
            Self::BRIN => &BRIN,
            // As in PostgreSQL, these two resource managers also check the low nibble.
            Self::COMMIT_TS if info & !RMGR_INFO_MASK == 0 => &COMMIT_TS,
            Self::REPLICATION_ORIGIN if info & !RMGR_INFO_MASK == 0 => &REPLORIGIN,
            Self::GENERIC => return Some("Generic"),
            Self::LOGICAL_MESSAGE => &LOGICALMSG,
            _ => return None,
        };
        names[(info >> 4) as usize]
    }
}

const XLOG_KNOWN: [(u8, &str); 13] = [
    (0x00, "CHECKPOINT_SHUTDOWN"),
    (0x10, "CHECKPOINT_ONLINE"),
    (0x20, "NOOP"),
    (0x30, "NEXTOID"),
    (0x40, "SWITCH"),
    (0x50, "BACKUP_END"),
    (0x60, "PARAMETER_CHANGE"),
    (0x70, "RESTORE_POINT"),
    (0x80, "FPW_CHANGE"),
    (0x90, "END_OF_RECOVERY"),
    (0xA0, "FPI_FOR_HINT"),
    (0xB0, "FPI"),
    (0xD0, "OVERWRITE_CONTRECORD"),
];
static XLOG: Names = names(&XLOG_KNOWN);
static XLOG_17: Names = {
    let mut names = names(&XLOG_KNOWN);
    names[0xE] = Some("CHECKPOINT_REDO");
    names
};
/// Since 19 the record type ASSIGN_LSN belongs to XLOG instead of Gist.
static XLOG_19: Names = {
    let mut names = XLOG_17;
    names[0xC] = Some("ASSIGN_LSN");
    names[0xF] = Some("LOGICAL_DECODING_STATUS_CHANGE");
    names
};
static XACT: Names = names(&[
    (0x00, "COMMIT"),
    (0x10, "PREPARE"),
    (0x20, "ABORT"),
    (0x30, "COMMIT_PREPARED"),
    (0x40, "ABORT_PREPARED"),
    (0x50, "ASSIGNMENT"),
    (0x60, "INVALIDATION"),
]);
static SMGR: Names = names(&[(0x10, "CREATE"), (0x20, "TRUNCATE")]);
static CLOG: Names = names(&[(0x00, "ZEROPAGE"), (0x10, "TRUNCATE")]);
static DBASE: Names = names(&[
    (0x00, "CREATE_FILE_COPY"),
    (0x10, "CREATE_WAL_LOG"),
    (0x20, "DROP"),
]);
static TBLSPC: Names = names(&[(0x00, "CREATE"), (0x10, "DROP")]);
static MULTIXACT: Names = names(&[
    (0x00, "ZERO_OFF_PAGE"),
    (0x10, "ZERO_MEM_PAGE"),
    (0x20, "CREATE_ID"),
    (0x30, "TRUNCATE_ID"),
]);
static RELMAP: Names = names(&[(0x00, "UPDATE")]);
static STANDBY: Names = names(&[
    (0x00, "LOCK"),
    (0x10, "RUNNING_XACTS"),
    (0x20, "INVALIDATIONS"),
]);
const HEAP2_KNOWN: [(u8, &str); 9] = [
    (0x00, "REWRITE"),
    (0x10, "PRUNE"),
    (0x20, "VACUUM"),
    (0x30, "FREEZE_PAGE"),
    (0x40, "VISIBLE"),
    (0x50, "MULTI_INSERT"),
    (0x60, "LOCK_UPDATED"),
    (0x70, "NEW_CID"),
    (0xD0, "MULTI_INSERT+INIT"),
];
static HEAP2: Names = names(&HEAP2_KNOWN);
static HEAP2_17: Names = {
    let mut names = names(&HEAP2_KNOWN);
    names[0x1] = Some("PRUNE_ON_ACCESS");
    names[0x2] = Some("PRUNE_VACUUM_SCAN");
    names[0x3] = Some("PRUNE_VACUUM_CLEANUP");
    names
};
/// The record type VISIBLE does not exist since 19. PRUNE and MULTI_INSERT records set the
/// visibility map instead.
static HEAP2_19: Names = {
    let mut names = HEAP2_17;
    names[0x4] = None;
    names
};
static HEAP: Names = names(&[
    (0x00, "INSERT"),
    (0x10, "DELETE"),
    (0x20, "UPDATE"),
    (0x30, "TRUNCATE"),
    (0x40, "HOT_UPDATE"),
    (0x50, "HEAP_CONFIRM"),
    (0x60, "LOCK"),
    (0x70, "INPLACE"),
    (0x80, "INSERT+INIT"),
    (0xA0, "UPDATE+INIT"),
    (0xC0, "HOT_UPDATE+INIT"),
]);
static BTREE: Names = names(&[
    (0x00, "INSERT_LEAF"),
    (0x10, "INSERT_UPPER"),
    (0x20, "INSERT_META"),
    (0x30, "SPLIT_L"),
    (0x40, "SPLIT_R"),
    (0x50, "INSERT_POST"),
    (0x60, "DEDUP"),
    (0x70, "DELETE"),
    (0x80, "UNLINK_PAGE"),
    (0x90, "UNLINK_PAGE_META"),
    (0xA0, "NEWROOT"),
    (0xB0, "MARK_PAGE_HALFDEAD"),
    (0xC0, "VACUUM"),
    (0xD0, "REUSE_PAGE"),
    (0xE0, "META_CLEANUP"),
]);
static HASH: Names = names(&[
    (0x00, "INIT_META_PAGE"),
    (0x10, "INIT_BITMAP_PAGE"),
    (0x20, "INSERT"),
    (0x30, "ADD_OVFL_PAGE"),
    (0x40, "SPLIT_ALLOCATE_PAGE"),
    (0x50, "SPLIT_PAGE"),
    (0x60, "SPLIT_COMPLETE"),
    (0x70, "MOVE_PAGE_CONTENTS"),
    (0x80, "SQUEEZE_PAGE"),
    (0x90, "DELETE"),
    (0xA0, "SPLIT_CLEANUP"),
    (0xB0, "UPDATE_META_PAGE"),
    (0xC0, "VACUUM_ONE_PAGE"),
]);
static GIN: Names = names(&[
    (0x10, "CREATE_PTREE"),
    (0x20, "INSERT"),
    (0x30, "SPLIT"),
    (0x40, "VACUUM_PAGE"),
    (0x50, "DELETE_PAGE"),
    (0x60, "UPDATE_META_PAGE"),
    (0x70, "INSERT_LISTPAGE"),
    (0x80, "DELETE_LISTPAGE"),
    (0x90, "VACUUM_DATA_LEAF_PAGE"),
]);
static GIST: Names = names(&[
    (0x00, "PAGE_UPDATE"),
    (0x10, "DELETE"),
    (0x20, "PAGE_REUSE"),
    (0x30, "PAGE_SPLIT"),
    (0x60, "PAGE_DELETE"),
    (0x70, "ASSIGN_LSN"),
]);
static GIST_19: Names = {
    let mut names = GIST;
    names[0x7] = None;
    names
};
static SEQ: Names = names(&[(0x00, "LOG")]);
static SPG: Names = names(&[
    (0x10, "ADD_LEAF"),
    (0x20, "MOVE_LEAFS"),
    (0x30, "ADD_NODE"),
    (0x40, "SPLIT_TUPLE"),
    (0x50, "PICKSPLIT"),
    (0x60, "VACUUM_LEAF"),
    (0x70, "VACUUM_ROOT"),
    (0x80, "VACUUM_REDIRECT"),
]);
static BRIN: Names = names(&[
    (0x00, "CREATE_INDEX"),
    (0x10, "INSERT"),
    (0x20, "UPDATE"),
    (0x30, "SAMEPAGE_UPDATE"),
    (0x40, "REVMAP_EXTEND"),
    (0x50, "DESUMMARIZE"),
    (0x90, "INSERT+INIT"),
    (0xA0, "UPDATE+INIT"),
]);
static COMMIT_TS: Names = names(&[(0x00, "ZEROPAGE"), (0x10, "TRUNCATE")]);
static REPLORIGIN: Names = names(&[(0x00, "SET"), (0x10, "DROP")]);
static LOGICALMSG: Names = names(&[(0x00, "MESSAGE")]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_version_and_type_bits() {
        let (old, new) = (PgVersion::V15, PgVersion::V18);
        for (rmid, version, info, name) in [
            (RmgrId::HEAP2, old, 0x13, Some("PRUNE")),
            (RmgrId::HEAP2, new, 0x13, Some("PRUNE_ON_ACCESS")),
            (RmgrId::XLOG, old, 0xE0, None),
            (RmgrId::XLOG, new, 0xE0, Some("CHECKPOINT_REDO")),
            (RmgrId::XLOG, old, 0xC0, None),
            (RmgrId::XLOG, new, 0xC0, None),
            (RmgrId::XLOG, PgVersion::V19, 0xC0, Some("ASSIGN_LSN")),
            (RmgrId::GIST, new, 0x70, Some("ASSIGN_LSN")),
            (RmgrId::GIST, PgVersion::V19, 0x70, None),
            (RmgrId::HEAP2, new, 0x40, Some("VISIBLE")),
            (RmgrId::HEAP2, PgVersion::V19, 0x40, None),
            (RmgrId::TRANSACTION, old, 0x81, Some("COMMIT")),
            (RmgrId::TRANSACTION, old, 0x70, None),
            (RmgrId::COMMIT_TS, old, 0x10, Some("TRUNCATE")),
            (RmgrId::COMMIT_TS, old, 0x11, None),
            (RmgrId::GENERIC, old, 0xF7, Some("Generic")),
            (RmgrId(128), old, 0x00, None),
            (RmgrId(22), old, 0x00, None),
        ] {
            assert_eq!(rmid.record_type(version, info), name, "{rmid} {info:x}");
        }
    }
}
