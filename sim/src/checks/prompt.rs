//! PROMPT: flushed WAL is sent and replayed at once, and not only when a timeout or another event
//! wakes the process.

use crate::referee::{
    About, Change, ChangeKind, Check, DiskEvent, DiskKind, Evidence, FIRST_TIMELINE, FileClass,
    Knowledge, PerNode, Promise, Ruling, Step, Subscription,
};
use walsim_core::base::{Lsn, Pid};
use walsim_core::call::Place;
use walsim_core::shmem::{INSERTION_LOCKS, LockId, Role, Shmem, WalSndState};

const ABOUT: About = About {
    code: "PROMPT",
    promise: Promise::Safety,
    statement: "A walsender does not sleep while it has WAL to send, and a startup process does \
              not sleep while it has WAL to replay.",
    details: "A walsender of a primary must not sleep while there is flushed WAL that it has not \
              sent. A startup process must not sleep while the walreceiver has flushed a complete \
              record that it has not replayed. A sleep is legal if a timeout ends it within 100 \
              ms.",
    notes: &[
        "100 ms is the longest delay that the simulator draws for a step of a process.",
        "A backend that flushes WAL only to free WAL buffers wakes no walsender. A walsender need \
         not send such WAL promptly.",
        "A walsender with pending output is not checked.",
        "A process that is stopped, or that waits for a disk or a lock, is not checked.",
    ],
    source: "After a process has flushed WAL, it wakes all walsenders: XLogFlush, \
              XLogBackgroundFlush (xlog.c). A walsender resets its latch before it checks for WAL: \
              WalSndLoop (walsender.c). XLogWalRcvFlush wakes the startup process (walreceiver.c)",
};

const SUBSCRIPTIONS: [Subscription; 3] = [
    Subscription::Disk(DiskKind::Sync, FileClass::Wal),
    Subscription::Change(ChangeKind::Flushed),
    Subscription::Step(&[Role::WalSender, Role::Startup]),
];

/// The longest delay that the simulator draws for a step. Every timeout that could hide a lost
/// wakeup is longer.
const R_US: u64 = 100_000;

/// For each node, the WAL for which its walsenders must have been woken.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Prompt {
    nodes: PerNode<Flushing>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Flushing {
    /// The process in XLogFlush or XLogBackgroundFlush whose fsync of WAL ended last.
    flusher: Option<Pid>,
    /// The end of the WAL for which the walsenders must have been woken.
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

/// The process that writes and flushes WAL. Returns `None` if this process writes WAL only to get a
/// free WAL buffer for its record. Such a process wakes no walsender.
fn flusher(shmem: &Shmem) -> Option<Pid> {
    let mut procs = shmem.procs.iter().map(|proc| proc.pid);
    let writer = procs.find(|pid| shmem.locks.holds(*pid, LockId::WalWrite))?;
    let inserts = |n| shmem.locks.holds(writer, LockId::WalInsert(n));
    (!(0..INSERTION_LOCKS).any(inserts)).then_some(writer)
}

/// Whether the process sleeps in this C function, and nothing is certain to wake it within
/// [`R_US`].
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
    let facts: [(&str, &dyn Evidence); 3] = [
        ("walsender", &pid),
        ("sent", &entry.sent),
        ("end of the flushed WAL to send", &owed),
    ];
    let message = "a walsender sleeps although it could send flushed WAL";
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
    // The startup process reads a record only if at least one more byte follows the record.
    let Some(next) = next.filter(|record| record.end < flushed) else {
        return Ok(());
    };
    let facts: [(&str, &dyn Evidence); 4] = [
        ("replayed", &replayed),
        ("next record", &next.start),
        ("end of the next record", &next.end),
        ("flushed by the walreceiver", &flushed),
    ];
    let message = "the startup process sleeps although it could replay a complete record";
    Err(step.site.violation(ABOUT.code, message, &facts))
}
