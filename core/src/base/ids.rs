//! Identifiers: of WAL, of transactions, and of the processes, operations and connections of a
//! node.

use core::cmp::Ordering;
use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

number! {
    /// A timeline (`TimeLineID`). 0 means unknown.
    TimelineId(u32)
}
number! {
    /// The number of a WAL segment (`XLogSegNo`): its start position divided by the segment size.
    /// Segment 0 is never used.
    SegmentNo(u64)
}
number! {
    /// A transaction id (`TransactionId`). 0 is invalid, 1 and 2 are reserved, and 3 is the first
    /// normal transaction id.
    Xid(u32)
}

impl Xid {
    /// `InvalidTransactionId`.
    pub const INVALID: Self = Self(0);
    /// `FirstNormalTransactionId`.
    pub const FIRST_NORMAL: Self = Self(3);

    /// True unless the id is [`Xid::INVALID`].
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 != 0
    }
}

/// An id that consists of an incarnation and a counter. A restarted node never reuses an id, so a
/// late event cannot reach the wrong process.
macro_rules! incarnate {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name {
            /// The ordinal number of the node's boot. 0 for ids that the simulator or the live
            /// driver assigns.
            pub incarnation: u32,
            /// A counter that starts at 1 in each incarnation.
            pub n: u32,
        }

        /// Orders by incarnation, then by counter. Both are compared as one number, because every
        /// step compares ids.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                let number = |id: &Self| u64::from(id.incarnation) << 32 | u64::from(id.n);
                number(self).cmp(&number(other))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}.{}", self.incarnation, self.n)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}.{})"), self.incarnation, self.n)
            }
        }
    };
}

incarnate! {
    /// A process of a node. The postmaster is always number 1 of its incarnation.
    Pid
}
incarnate! {
    /// A disk or child operation in flight.
    OpId
}
incarnate! {
    /// The id of one end of a connection. If the node opened the connection, the id contains the
    /// node's incarnation. If the node accepted the connection, the incarnation is 0.
    ConnId
}

impl Pid {
    /// The postmaster of this incarnation.
    #[must_use]
    pub const fn postmaster(incarnation: u32) -> Self {
        Self { incarnation, n: 1 }
    }
}

number! {
    /// An open file descriptor of a process. The simulator or the live driver assigns it, and never
    /// reuses it within a node's incarnation.
    Fd(u32)
}
