//! The table of the kinds of events: what the readers of a trace need to know about each kind.
//!
//! A new kind needs a row here. Readers that treat only some kinds in a special way find all other
//! kinds in this table.

use super::event::{Act, Level};

/// A kind of events.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kind {
    /// The name in filters and JSON.
    pub name: &'static str,
    /// The lowest level that shows events of this kind. [`Act::level`] has exceptions.
    pub level: Level,
    /// The symbol of an event in a diagram.
    pub symbol: &'static str,
    /// The group of kinds that have the same color in a diagram.
    pub class: &'static str,
    /// Whether the process of the event has done something that other processes or files can
    /// notice. A process that only waits has no such event.
    pub acts: bool,
}

macro_rules! kinds {
    ($($variant:ident: $name:literal, $level:ident, $symbol:literal, $class:literal, $acts:literal;)*) => {
        /// The kinds of events, as named in filters and JSON.
        pub const KINDS: [&str; [$($name),*].len()] = [$($name),*];

        impl Act {
            /// The row of the event's kind.
            #[must_use]
            pub const fn row(&self) -> Kind {
                match self {
                    $(Self::$variant { .. } => Kind {
                        name: $name,
                        level: Level::$level,
                        symbol: $symbol,
                        class: $class,
                        acts: $acts,
                    },)*
                }
            }
        }
    };
}

kinds! {
    World: "world", Story, "triangle", "fault", true;
    Log: "log", Story, "note", "log", true;
    Client: "client", Events, "ring", "client", true;
    Disk: "disk", Events, "dot", "disk", true;
    DiskDone: "disk-done", Events, "full-square", "disk", false;
    Loss: "loss", Events, "cross", "fault", true;
    Send: "send", Events, "dot", "message", true;
    Receive: "receive", Events, "ring", "message", false;
    Bytes: "bytes", Steps, "dot", "run", false;
    Connection: "connection", Events, "ring", "message", true;
    Signal: "signal", Events, "triangle", "life", true;
    Start: "start", Events, "ring", "life", true;
    Exit: "exit", Events, "cross", "life", true;
    Position: "position", Events, "tick", "position", true;
    SlotMinimum: "slot-minimum", Events, "tick", "position", true;
    Slot: "slot", Events, "tick", "position", true;
    Horizon: "horizon", Events, "tick", "position", true;
    Flag: "flag", Events, "tick", "life", true;
    Record: "record", Events, "tick", "error", true;
    Transaction: "transaction", Events, "tick", "client", true;
    Run: "run", Steps, "dot", "run", false;
    Latch: "latch", Steps, "dot", "run", true;
    Lock: "lock", Steps, "dot", "run", true;
    Wait: "wait", Steps, "dot", "run", false;
    Choice: "choice", Steps, "dot", "run", false;
}
