//! PROMPT: WAL that is there is sent and replayed at once, not when something else happens.

use crate::referee::{
    About, Change, ChangeKind, Check, DiskEvent, DiskKind, FIRST_TIMELINE, FileClass, Knowledge,
    PerNode, Promise, Ruling, Step, Subscription,
};
use std::fmt::Display;
use walsim_core::base::{Lsn, Pid};
use walsim_core::call::Place;
use walsim_core::shmem::{INSERTION_LOCKS, LockId, Role, Shmem, WalSndState};

const ABOUT: About = About {
    code: "PROMPT",
    promise: Promise::Safety,
    statement: "No walsender sleeps while it could send flushed WAL, no startup process while it could replay it.",
    details: "Judged when a process raises the flush position and performs its wake-up, and when a walsender or startup\n\
              goes to sleep. A process is late if it then sleeps for longer than R = 100 ms, the longest delay that is\n\
              drawn for a step, and nothing is there that wakes it. Sent: the walsender streams, has no output\n\
              pending, and has sent less than a wake-up is due for. None is due if a backend finishes a segment only\n\
              since it needs buffer space: it holds an insertion lock when the fsync ends. Applied: the next record\n\
              ends below the flush position of the walreceiver that startup waits for. Processes that are stopped,\n\
              or that wait for a disk or a lock, are not judged.",
    source: "Whoever flushes WAL wakes all walsenders after that: XLogFlush, XLogBackgroundFlush (xlog.c); latches are\n\
             reset before the look at what they stand for: WalSndLoop (walsender.c); XLogWalRcvFlush wakes startup\n\
             (walreceiver.c)",
};

const SUBSCRIPTIONS: [Subscription; 3] = [
    Subscription::Disk(DiskKind::Sync, FileClass::Wal),
    Subscription::Change(ChangeKind::Flushed),
    Subscription::Step(&[Role::WalSender, Role::Startup]),
];

/// The longest delay that is drawn for a step; shorter than every period that would heal a lost
/// wake-up.
const R_US: u64 = 100_000;

/// Of each node what its walsenders have been woken for.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Prompt {
    nodes: PerNode<Flushing>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Flushing {
    /// The process in XLogFlush or XLogBackgroundFlush whose fsync of WAL has ended last.
    flusher: Option<Pid>,
    /// Up to where wake-ups are due.
    woken_for: Lsn,
}

impl Check for Prompt {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, _: &Knowledge) -> Ruling {
        let flusher = event.view.and_then(|view| flusher(view.shmem()));
        self.nodes.of(event.site.host).flusher = flusher;
        Ok(())
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        let (Change::Flushed(_), Some((pid, _))) = (change, step.ran) else {
            return Ok(());
        };
        let shmem = step.view.shmem();
        if shmem.recovery_in_progress() {
            return replays(step, known);
        }
        let node = self.nodes.of(step.site.host);
        if node.flusher != Some(pid) {
            return Ok(());
        }
        node.woken_for = shmem.xlog.flush;
        let mut senders = shmem.walsnd.iter().filter_map(|sender| sender.pid);
        senders.try_for_each(|pid| sends(step, pid, shmem.xlog.flush))
    }

    fn after_step(&mut self, step: &Step<'_>, known: &Knowledge) -> Ruling {
        match step.ran {
            Some((pid, Role::WalSender)) if !step.view.shmem().recovery_in_progress() => {
                sends(step, pid, self.nodes.of(step.site.host).woken_for)
            }
            Some((_, Role::Startup)) => replays(step, known),
            Some(_) | None => Ok(()),
        }
    }
}

/// The process that writes WAL out, unless it does so only to get the buffers of a record that it
/// inserts.
fn flusher(shmem: &Shmem) -> Option<Pid> {
    let mut procs = shmem.procs.iter().map(|proc| proc.pid);
    let writer = procs.find(|pid| shmem.locks.holds(*pid, LockId::WalWrite))?;
    let inserts = |n| shmem.locks.holds(writer, LockId::WalInsert(n));
    (!(0..INSERTION_LOCKS).any(inserts)).then_some(writer)
}

/// Nothing will wake the process at that place soon.
fn oversleeps(step: &Step<'_>, pid: Pid, place: Place) -> bool {
    step.view.sleeps(step.clock, pid).is_some_and(|wait| {
        let soon = step.clock.mono.after_us(R_US);
        wait.why == place && wait.writable.is_none() && wait.until.is_none_or(|until| until > soon)
    })
}

fn sends(step: &Step<'_>, pid: Pid, woken_for: Lsn) -> Ruling {
    let shmem = step.view.shmem();
    let owed = woken_for.min(shmem.xlog.flush);
    let mut entries = shmem.walsnd.iter();
    let Some(entry) = entries.find(|entry| entry.pid == Some(pid)) else {
        return Ok(());
    };
    let streams = match entry.state {
        WalSndState::Startup => false,
        WalSndState::Catchup | WalSndState::Streaming | WalSndState::Stopping => true,
    };
    if !streams || entry.sent >= owed || !oversleeps(step, pid, Place::WalSndWait) {
        return Ok(());
    }
    let facts: [(&str, &dyn Display); 3] = [
        ("walsender", &pid),
        ("sent", &entry.sent),
        ("flushed, and woken for", &owed),
    ];
    let message = "a walsender sleeps although flushed WAL is to be sent";
    Err(step.site.violation(ABOUT.code, message, &facts))
}

fn replays(step: &Step<'_>, known: &Knowledge) -> Ruling {
    let shmem = step.view.shmem();
    let (replayed, flushed) = (shmem.recovery.last_replayed_end, shmem.walrcv.flushed_upto);
    if !replayed.is_valid() || replayed >= flushed || !shmem.walrcv.is_streaming() {
        return Ok(());
    }
    let mut procs = shmem.procs.iter();
    let Some(startup) = procs.find(|proc| proc.role == Role::Startup) else {
        return Ok(());
    };
    if !oversleeps(step, startup.pid, Place::WaitForWALToBecomeAvailable) {
        return Ok(());
    }
    let ledger = known.ledger(FIRST_TIMELINE);
    let next = ledger.and_then(|ledger| ledger.record_after(replayed));
    // Startup asks for one byte more than it needs.
    let Some(next) = next.filter(|record| record.end < flushed) else {
        return Ok(());
    };
    let facts: [(&str, &dyn Display); 4] = [
        ("replayed", &replayed),
        ("next record", &next.start),
        ("its end", &next.end),
        ("flushed by the walreceiver", &flushed),
    ];
    let message = "startup sleeps although a whole record is to be replayed";
    Err(step.site.violation(ABOUT.code, message, &facts))
}
