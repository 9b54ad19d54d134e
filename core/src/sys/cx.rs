//! [`Cx`]: everything that a process may do in a step.

use super::{Become, ChildExit, Conn, ConnEnd, Fork, Kernel, ProcSys, RECEIVE_WINDOW};
use crate::base::{Bug, ConnId, Fd, Lsn, Mark, Mono, Now, Pid, Probe, TimestampTz};
use crate::call::{
    DiskDone, DiskError, DiskOp, Effect, Effects, LogEvent, NetOp, Place, Poll, Refusal, Signal,
    Wait, Woken, Yield,
};
use crate::shmem::{Acquired, CondVarId, LockId, LockMode, PmSignal, Request, Shmem};
use alloc::string::String;
use bytes::Bytes;

/// The view that a process has of its node during one step: shared memory, its kernel state, and
/// the effects.
#[derive(Debug)]
pub struct Cx<'a> {
    /// Both clocks, read once.
    pub now: Now,
    /// The running process.
    pub me: Pid,
    /// Shared memory.
    pub shmem: &'a mut Shmem,
    /// Marks and planted bugs.
    pub probe: &'a mut Probe,
    /// The node's kernel.
    pub kernel: &'a mut Kernel,
    /// This process's kernel state.
    pub sys: &'a mut ProcSys,
    /// Where effects go.
    pub fx: &'a mut Effects,
}

/// Observation and time.
impl Cx<'_> {
    /// A rare state was reached.
    pub fn mark(&mut self, mark: Mark) {
        self.probe.mark(mark);
    }

    /// Is the bug planted? See [`Probe::planted`]: this is the last thing to ask.
    #[must_use]
    pub fn planted(&mut self, bug: Bug) -> bool {
        self.probe.planted(bug)
    }

    /// The same without a note that its spot was reached.
    #[must_use]
    pub fn has_bug(&self, bug: Bug) -> bool {
        self.probe.has_bug(bug)
    }

    /// Why the process runs.
    #[must_use]
    pub fn woken_by(&self) -> Woken {
        self.sys.woken
    }

    /// Says something to the server log.
    pub fn log(&mut self, event: LogEvent) {
        self.fx.push(self.me, Effect::Log(event));
    }

    /// When to wake to be there at `deadline`: computed from wall time, slept on the monotonic
    /// clock.
    #[must_use]
    pub fn until(&self, deadline: TimestampTz) -> Mono {
        self.now
            .mono
            .after_us(u64::try_from(deadline - self.now.wall).unwrap_or(0))
    }
}

/// Disk.
impl Cx<'_> {
    /// Issues an operation; the step ends with what this returns, and the next begins with
    /// [`Cx::done`].
    ///
    /// # Panics
    /// If one is still under way.
    pub fn disk(&mut self, op: DiskOp, why: Place) -> Yield {
        assert!(
            self.sys.op.is_none(),
            "{} issues a second disk operation in {why}",
            self.me
        );
        let id = self.kernel.op();
        self.sys.op = Some(id);
        self.fx.push(self.me, Effect::Disk(id, op));
        Yield::Wait(Wait::op(id, why))
    }

    /// The outcome of the operation that was waited for.
    ///
    /// # Errors
    /// The errno.
    ///
    /// # Panics
    /// If there is none: the process was run without its operation having ended.
    pub fn done(&mut self) -> Result<DiskDone, DiskError> {
        self.sys.op = None;
        self.sys
            .done
            .take()
            .expect("a process that waits for an operation runs when it is done")
    }

    /// Closes a descriptor without waiting: closing fsyncs nothing and cannot fail in a way that
    /// matters.
    pub fn close(&mut self, fd: Fd) {
        let id = self.kernel.op();
        self.fx.push(self.me, Effect::Disk(id, DiskOp::Close(fd)));
    }
}

/// Locks and condition variables.
impl Cx<'_> {
    /// `LWLockAcquire`
    pub fn acquire(&mut self, id: LockId, mode: LockMode) -> Poll<()> {
        self.request(id, Request::Hold(mode))
            .map(|given| assert!(given, "{id:?} was not given"))
    }

    /// `LWLockAcquireOrWait`: true if the lock is ours, false if it has become free meanwhile.
    pub fn acquire_or_wait(&mut self, id: LockId) -> Poll<bool> {
        self.request(id, Request::HoldOrFree)
    }

    /// `LWLockWaitForVar`: returns once the lock is free or its variable is at least `upto`.
    pub fn wait_for_var(&mut self, id: LockId, upto: Lsn) -> Poll<()> {
        self.request(id, Request::Var(upto)).map(|_| ())
    }

    /// `LWLockConditionalAcquire`
    pub fn try_acquire(&mut self, id: LockId) -> bool {
        let free = !self.shmem.locks.is_held(id);
        free && self.shmem.locks.request(self.me, id, Request::HoldOrFree) == Acquired::Now
    }

    /// `LWLockRelease`
    pub fn release(&mut self, id: LockId) {
        self.shmem.locks.release(self.me, id);
    }

    /// `LWLockHeldByMe`; a lock that was given while we slept is ours only once [`Cx::acquire`] has
    /// returned.
    #[must_use]
    pub fn holds(&self, id: LockId) -> bool {
        self.shmem.locks.awaited(self.me) != Some(id) && self.shmem.locks.holds(self.me, id)
    }

    /// `CHECK_FOR_INTERRUPTS`: no lock is held or awaited, no page is pinned and no operation is
    /// under way, so that whatever the process is in the middle of can be given up here
    /// (`InterruptHoldoffCount` is 0).
    #[must_use]
    pub fn may_interrupt(&self) -> bool {
        let shmem = &self.shmem;
        self.sys.op.is_none()
            && shmem.locks.awaited(self.me).is_none()
            && !shmem.locks.holds_any(self.me)
            && !shmem.buffers.pins_any(self.me)
    }

    /// What an error exit of a transaction or process frees: LWLocks, pins, the condition variable.
    pub fn release_everything(&mut self) {
        self.shmem.locks.release_all(self.me);
        self.shmem.buffers.unpin_all(self.me);
        self.shmem.condvars.leave(self.me);
    }

    fn request(&mut self, id: LockId, request: Request) -> Poll<bool> {
        let wait = Wait {
            lock: true,
            ..Wait::at(Place::LWLockAcquire)
        };
        if let Some(awaited) = self.shmem.locks.awaited(self.me) {
            assert_eq!(awaited, id, "{} waits for another lock", self.me);
            return match self.shmem.locks.take_outcome(self.me) {
                Some(given) => Poll::Ready(given),
                None => Poll::Yield(Yield::Wait(wait)),
            };
        }
        if self.shmem.locks.request(self.me, id, request) == Acquired::Now {
            return Poll::Ready(true);
        }
        self.mark(Mark::LockWaited);
        if let Some(graph) = self.shmem.locks.cycle(self.me) {
            panic!("deadlock between processes that wait for locks: {graph:?}");
        }
        Poll::Yield(Yield::Wait(wait))
    }

    /// `ConditionVariablePrepareToSleep`
    pub fn enter_condvar(&mut self, id: CondVarId) {
        self.shmem.condvars.enter(self.me, id);
    }

    /// `ConditionVariableSleep`: the step ends with what this returns.
    pub fn sleep_on_condvar(&self, until: Option<Mono>, why: Place) -> Yield {
        Yield::Wait(Wait {
            condvar: true,
            until,
            ..Wait::at(why)
        })
    }

    /// `ConditionVariableCancelSleep`
    pub fn leave_condvar(&mut self) {
        self.shmem.condvars.leave(self.me);
    }
}

/// Latches, signals, processes.
impl Cx<'_> {
    /// `ResetLatch(MyLatch)`: do it before looking at what the latch stands for.
    pub fn reset_latch(&mut self) {
        if let Some(proc) = self.shmem.procs.get_mut(self.me) {
            proc.latch = false;
        }
    }

    /// `SetLatch`
    pub fn set_latch(&mut self, pid: Pid) {
        self.shmem.procs.set_latch(pid);
    }

    /// Takes a pending signal.
    pub fn take_signal(&mut self, signal: Signal) -> bool {
        self.sys.take_signal(signal)
    }

    /// `kill`
    pub fn kill(&mut self, pid: Pid, signal: Signal) {
        self.kernel.signals.push((pid, signal));
    }

    /// `SendPostmasterSignal`
    pub fn signal_postmaster(&mut self, signal: PmSignal) {
        self.shmem.postmaster.send(signal);
        self.set_latch(Pid::postmaster(self.kernel.incarnation));
    }

    /// `fork`, for the postmaster alone. A connection goes with its child.
    pub fn fork(&mut self, child: Fork) -> Pid {
        let pid = self.kernel.pid();
        if let Fork::Backend(conn, _) = &child {
            self.fx
                .push(self.me, Effect::Net(*conn, NetOp::HandOver(pid)));
        }
        self.kernel.forks.push((pid, child));
        pid
    }

    /// Turns the process into what its start-up packet asked for.
    pub fn become_role(&mut self, becomes: Become) {
        self.kernel.becomes = Some(becomes);
    }

    /// `waitpid`
    pub fn take_child_exit(&mut self) -> Option<ChildExit> {
        self.sys.exits.pop_front()
    }

    /// `accept`
    pub fn accept(&mut self) -> Option<ConnId> {
        self.sys.accepted.pop_front()
    }
}

/// Connections.
impl Cx<'_> {
    /// Begins to connect; [`Cx::connected`] or [`Cx::conn_end`] tells the outcome.
    pub fn connect(&mut self, host: &str, port: u16) -> ConnId {
        let conn = self.kernel.conn();
        self.sys.conns.insert(conn, Conn::default());
        self.fx.push(
            self.me,
            Effect::Net(
                conn,
                NetOp::Connect {
                    host: String::from(host),
                    port,
                },
            ),
        );
        conn
    }

    /// Opens the receive window. Until then nothing arrives.
    pub fn start_reading(&mut self, conn: ConnId) {
        self.fx.push(
            self.me,
            Effect::Net(
                conn,
                NetOp::Read {
                    max: RECEIVE_WINDOW,
                },
            ),
        );
    }

    /// Is the handshake done?
    #[must_use]
    pub fn connected(&self, conn: ConnId) -> bool {
        self.sys.conns.get(&conn).is_some_and(Conn::connected)
    }

    /// The next bytes that arrived; as many more may come.
    pub fn receive(&mut self, conn: ConnId) -> Option<Bytes> {
        let bytes = self.sys.conns.get_mut(&conn)?.take()?;
        let max = u32::try_from(bytes.len()).expect("bounded by the receive window");
        self.fx
            .push(self.me, Effect::Net(conn, NetOp::Read { max }));
        Some(bytes)
    }

    /// The end of the connection, once everything before it was received.
    #[must_use]
    pub fn conn_end(&self, conn: ConnId) -> Option<ConnEnd> {
        self.sys.conn_end(conn)
    }

    /// Why a connection of ours was refused.
    #[must_use]
    pub fn refusal(&self, conn: ConnId) -> Refusal {
        let conn = self.sys.conns.get(&conn);
        conn.map(|conn| conn.refusal().clone()).unwrap_or_default()
    }

    /// Sends two pieces in order; either may be empty. On a connection that has ended it does
    /// nothing.
    pub fn send(&mut self, conn: ConnId, pieces: [Bytes; 2]) {
        let Some(state) = self.sys.conns.get_mut(&conn) else {
            return;
        };
        state.sent(pieces[0].len() + pieces[1].len());
        self.fx
            .push(self.me, Effect::Net(conn, NetOp::Send(pieces)));
    }

    /// `pq_is_send_pending`: is there output that the kernel has not taken?
    #[must_use]
    pub fn send_pending(&self, conn: ConnId) -> bool {
        self.sys.conns.get(&conn).is_some_and(Conn::send_pending)
    }

    /// Must the peer take some of the output before it is listened to?
    #[must_use]
    pub fn output_full(&self, conn: ConnId) -> bool {
        self.sys.conns.get(&conn).is_some_and(Conn::output_full)
    }

    /// Closes the connection; what was sent still arrives.
    pub fn disconnect(&mut self, conn: ConnId) {
        if self.sys.conns.remove(&conn).is_some() {
            self.fx.push(self.me, Effect::Net(conn, NetOp::Close));
        }
    }
}
