//! The invariants by their codes: what each promises, and where it is judged.

/// An invariant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Invariant {
    /// The code that reports and plans use.
    pub code: &'static str,
    /// What it promises, in one sentence.
    pub promise: &'static str,
    /// How it is judged, and what is exempt.
    pub details: &'static str,
}

/// All that are checked, in the order in which they are listed.
pub const INVARIANTS: [Invariant; 11] = [
    Invariant {
        code: "SEND",
        promise: "A walsender never ships bytes beyond its own durable flush point.",
        details: "Judged when a walsender hands WAL to the network: every byte of the message must be stable on the\n\
                  sender's disk, which means that every crash the disk could suffer now would keep it; and the bytes\n\
                  must be those of the log. What shared memory claims to have flushed does not count.",
    },
    Invariant {
        code: "REPLAY",
        promise: "Startup never replays WAL that is not durable on its own node.",
        details: "Judged for each record that a standby or a crash recovery applies: its bytes must be stable on the\n\
                  node's disk before a data page that it changed is written. Records come in the order of their\n\
                  back links, each once per recovery.",
    },
    Invariant {
        code: "PREFIX",
        promise: "At one position of one timeline all nodes have the same bytes, for ever.",
        details: "A ledger per timeline holds the first flushed value of every byte. A range that is newly written\n\
                  below the flush point, or newly stable, is compared with it once. Exempt are bytes behind the last\n\
                  record, and those of an aborted record that all nodes skip.",
    },
    Invariant {
        code: "LOCAL",
        promise: "A commit that a node acknowledged is committed in it after every later recovery.",
        details: "Acknowledged means that CommandComplete of COMMIT was delivered to the client, with\n\
                  synchronous_commit at least `local`. After each crash recovery the transaction's status is looked\n\
                  up, and sessions read back what they wrote.",
    },
    Invariant {
        code: "DURABLE",
        promise: "A server that was stopped in good order leaves no standby behind.",
        details: "Judged when a walsender says COPY 0, which it does at a smart or fast shutdown alone: everything that it\n\
                  has sent, and on a primary that must include the shutdown checkpoint, is stable on the disk of the\n\
                  standby at the other end, whatever the standby has reported. The control file must name that\n\
                  checkpoint by then. Exempt are receivers that are no nodes, and walsenders that end by a timeout, by\n\
                  an error, by a signal or with their connection.",
    },
    Invariant {
        code: "SLOT",
        promise: "All WAL that a slot's file asks for is there.",
        details: "Judged when a segment is about to go, when a state file gets its name, and when a server opens: from the\n\
                  lowest position that a loss of power could now give the slot, to the end of the node's WAL, all\n\
                  segments must be in pg_wal. What shared memory has does not count. Exempt are slots that hold nothing\n\
                  or whose file says that they are invalid, temporary ones, and WAL that was given up before a standby\n\
                  reported less than it had before.",
    },
    Invariant {
        code: "RETAIN",
        promise: "WAL goes once nobody needs it, and slots are saved as they move on.",
        details: "Judged when a checkpoint or a restartpoint has ended. No segment may lie before the first one that is\n\
                  needed by recovery, by wal_keep_size, or by a valid slot within max_slot_wal_keep_size, computed from\n\
                  the least that the checkpoint could have seen of each; and every slot's file must be at least where\n\
                  the slot was when the checkpoint began. Exempt are files of which the log says that they could not\n\
                  be removed, and slots that a failing or full disk did not let be saved.",
    },
    Invariant {
        code: "MONO",
        promise: "Positions do not go back where they must not.",
        details: "The redo point in the control file; the minimum recovery point there during recovery; what a standby has\n\
                  received and flushed, from the first walreceiver of a server on; and where a start finds a slot,\n\
                  compared with where the slot was when the last completed checkpoint began. A standby may report less\n\
                  than before, and take its slot back with it.",
    },
    Invariant {
        code: "RECOVER",
        promise: "From every reachable state of its disk a node starts.",
        details: "A server that ends during start-up although its disk had only recoverable faults violates it, as\n\
                  does one whose recovery ends before the point that was durable.",
    },
    Invariant {
        code: "PAGE",
        promise: "A data page has the same content on every node as of the same position.",
        details: "Page identity is a hash of page and position without the page's hole, taken once on the primary\n\
                  and once per redo. Recovery must bring every page there, whatever was torn or lost.",
    },
    Invariant {
        code: "LIVE",
        promise: "Once faults have stopped, every node converges within a bound.",
        details: "Every node runs, every standby streams, and what it replayed equals the primary's flush. The bound\n\
                  is 3 x (largest timeout + wal_retrieve_retry_interval + 10 s) + backlog / slowest link + the sum of\n\
                  the backward jumps of wall clocks. A standby may stay behind if the upstream has removed the WAL that\n\
                  it needs, or if its slot was dropped or invalidated; each is proven from the state of both sides.\n\
                  A single hand-over, from the request for a walreceiver to a started one, takes a second at most\n\
                  while nobody who takes part in it is paused. A run that fails LIVE alone ends with status 3.",
    },
];

/// The invariant of that code, whatever the case.
#[must_use]
pub fn invariant_named(code: &str) -> Option<&'static Invariant> {
    INVARIANTS
        .iter()
        .find(|i| i.code.eq_ignore_ascii_case(code))
}
