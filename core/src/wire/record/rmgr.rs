//! Resource managers: the modules that write and replay records. Mirrors rmgrlist.h.

use crate::wire::layout::{Field, Order, newtypes};
use alloc::vec::Vec;
use core::fmt;

/// The id of a resource manager (`RmgrId`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RmgrId(pub u8);

newtypes!(RmgrId(u8));

macro_rules! managers {
    ($($(#[$doc:meta])* $id:literal $constant:ident $name:literal,)*) => {
        impl RmgrId {
            $($(#[$doc])* pub const $constant: Self = Self($id);)*

            /// The name that pg_waldump prints. `None` for a resource manager that is not built in.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($id => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

managers! {
    /// Checkpoints, switch records, full-page images.
    0 XLOG "XLOG",
    /// Commits and aborts.
    1 TRANSACTION "Transaction",
    /// Relation files.
    2 STORAGE "Storage",
    /// Clog pages.
    3 CLOG "CLOG",
    /// Databases.
    4 DATABASE "Database",
    /// Tablespaces.
    5 TABLESPACE "Tablespace",
    /// Multixacts.
    6 MULTIXACT "MultiXact",
    /// Relation maps.
    7 RELMAP "RelMap",
    /// Information for hot standby.
    8 STANDBY "Standby",
    /// Heap pages: more record types.
    9 HEAP2 "Heap2",
    /// Heap pages.
    10 HEAP "Heap",
    /// B-trees.
    11 BTREE "Btree",
    /// Hash indexes.
    12 HASH "Hash",
    /// GIN indexes.
    13 GIN "Gin",
    /// GiST indexes.
    14 GIST "Gist",
    /// Sequences.
    15 SEQUENCE "Sequence",
    /// SP-GiST indexes.
    16 SPGIST "SPGist",
    /// BRIN indexes.
    17 BRIN "BRIN",
    /// Commit timestamps.
    18 COMMIT_TS "CommitTs",
    /// Replication origins.
    19 REPLICATION_ORIGIN "ReplicationOrigin",
    /// Page deltas.
    20 GENERIC "Generic",
    /// Logical decoding messages, which replay ignores.
    21 LOGICAL_MESSAGE "LogicalMessage",
}

impl RmgrId {
    /// Is it the id of a built-in resource manager, or a custom id from 128 on (`RmgrIdIsValid`)?
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 <= 21 || self.0 >= 128
    }
}

impl fmt::Display for RmgrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "custom{:03}", self.0),
        }
    }
}

impl fmt::Debug for RmgrId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RmgrId({self})")
    }
}
