//! Inputs, effects, and the trait of all machines that a driver runs. A driver is the simulator or
//! the live driver.

use super::{DiskDone, DiskError, DiskOp, LogEvent, NetEvent, NetOp};
use crate::base::{ConnId, Mono, Now, OpId, Pid};
use alloc::vec::Vec;

/// Signals that operators, faults and the postmaster send.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Signal {
    /// SIGHUP: reload.
    Hup,
    /// SIGINT. For a postmaster: fast shutdown.
    Int,
    /// SIGTERM: end in an orderly way. For a postmaster: smart shutdown.
    Term,
    /// SIGQUIT: end at once. For a postmaster: immediate shutdown.
    Quit,
    /// SIGUSR1
    Usr1,
    /// SIGUSR2
    Usr2,
    /// SIGKILL: ends the process. The process never sees this signal.
    Kill,
    /// SIGSTOP: the process does not run until [`Signal::Cont`]. The process itself does not see
    /// this signal.
    Stop,
    /// SIGCONT
    Cont,
}

impl Signal {
    /// The signals that a process handles itself, in the order of their numbers on Linux.
    pub const PENDING: [Self; 6] = [
        Self::Hup,
        Self::Int,
        Self::Quit,
        Self::Usr1,
        Self::Usr2,
        Self::Term,
    ];

    /// The name of the signal, such as `SIGTERM`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hup => "SIGHUP",
            Self::Int => "SIGINT",
            Self::Term => "SIGTERM",
            Self::Quit => "SIGQUIT",
            Self::Usr1 => "SIGUSR1",
            Self::Usr2 => "SIGUSR2",
            Self::Kill => "SIGKILL",
            Self::Stop => "SIGSTOP",
            Self::Cont => "SIGCONT",
        }
    }
}

/// One event that happens to a machine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// One process runs until it would block. The process must be able to run.
    Run(Pid),
    /// An event of a connection.
    Net(ConnId, NetEvent),
    /// A disk operation completed.
    Disk(OpId, Result<DiskDone, DiskError>),
    /// A signal from outside of the node, sent by an operator or as a fault.
    Signal(Pid, Signal),
}

/// One request of a process to the driver.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// A disk operation, answered by [`Input::Disk`].
    Disk(OpId, DiskOp),
    /// An operation on a connection.
    Net(ConnId, NetOp),
    /// A line of the server log.
    Log(LogEvent),
    /// The process has ended. The driver closes its descriptors and connections.
    Exit(Exit),
    /// The postmaster has ended. The node has ended with it.
    Halt,
}

/// How a process ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Exit {
    /// `proc_exit(0)`
    Normal,
    /// `ereport(FATAL)`: exit status 1. For a postmaster, the event tells why the server ends.
    Fatal(LogEvent),
    /// `proc_exit(1)` without a log message.
    Silent,
    /// `ereport(PANIC)`: the process aborts. The postmaster then restarts all processes.
    Panic(LogEvent),
    /// SIGQUIT has ended the process: `_exit(2)` without cleanup.
    Quit,
    /// Ended by SIGKILL.
    Killed,
}

/// Effects in order. Each effect comes with the process that caused it.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Effects(pub Vec<(Pid, Effect)>);

impl Effects {
    /// Appends an effect.
    pub fn push(&mut self, pid: Pid, effect: Effect) {
        self.0.push((pid, effect));
    }

    /// Empties the list, but keeps its memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// The processes that could run now, in ascending order.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct RunSet(pub Vec<Pid>);

/// A machine that a driver runs: a node, a receiver or a client.
pub trait Machine {
    /// Takes one input and appends its effects. Never blocks and never fails.
    fn step(&mut self, now: Now, input: Input, fx: &mut Effects);

    /// Fills `set` with the processes that could run now, including the processes whose wait has
    /// timed out.
    fn runnable(&self, now: Now, set: &mut RunSet);

    /// The time at which the earliest timeout of a waiting process expires.
    fn next_wakeup(&self) -> Option<Mono>;
}
