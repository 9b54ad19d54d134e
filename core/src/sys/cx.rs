//! [`Cx`]: the system calls that a process can make.

use super::{Become, ChildExit, Conn, ConnEnd, Fork, Kernel, ProcSys, RECEIVE_WINDOW};
use crate::base::{Bug, ConnId, Fd, Lsn, LsnText, Mark, Mono, Now, Pid, Probe, TimestampTz};
use crate::call::{
    DiskDone, DiskError, DiskOp, Effect, Effects, LogEvent, NetOp, Place, Poll, Refusal, Signal,
    Wait, Woken, Yield,
};
use crate::shmem::{Acquired, CondVarId, LockId, LockMode, PmSignal, Request, Shmem};
use alloc::string::String;
use bytes::Bytes;

/// Everything that a process can access in one step: shared memory, the kernel state of the
/// process, and the list of effects.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The time of both clocks, read once per step.
    pub now: Now,
    /// The running process.
    pub me: Pid,
    /// Shared memory.
    pub shmem: &'a mut Shmem,
    /// The rare states (marks) that were reached so far, and the planted bugs.
    pub probe: &'a mut Probe,
    /// The node's kernel.
    pub kernel: &'a mut Kernel,
    /// The kernel state of this process.
    pub sys: &'a mut ProcSys,
    /// The effects of the step.
    pub fx: &'a mut Effects,
}

/// Observation and time.
impl Cx<'_> {
    /// Records a rare state.
    pub fn mark(&mut self, mark: Mark) {
        self.probe.mark(mark);
    }

    /// Is the bug planted? If so, records that the bug changed the behavior. In a condition, call
    /// this last.
    #[must_use]
    pub fn planted(&mut self, bug: Bug) -> bool {
        self.probe.planted(bug)
    }

    /// Is the bug planted? Does not record that the bug changed the behavior.
    #[must_use]
    pub fn has_bug(&self, bug: Bug) -> bool {
        self.probe.has_bug(bug)
    }

    /// The events that ended the last wait of the process.
    #[must_use]
    pub fn woken_by(&self) -> Woken {
        self.sys.woken
    }

    /// Returns the LSN as text in this server's format.
    #[must_use]
    pub fn text(&self, lsn: Lsn) -> LsnText {
        lsn.text(self.shmem.settings.pg_version)
    }

    /// Writes to the server log.
    pub fn log(&mut self, event: LogEvent) {
        self.fx.push(self.me, Effect::Log(event));
    }

    /// The monotonic time at which to wake for `deadline`. The deadline is in wall time.
    #[must_use]
    pub fn until(&self, deadline: TimestampTz) -> Mono {
        self.now
            .mono
            .after_us(u64::try_from(deadline - self.now.wall).unwrap_or(0))
    }
}

/// Disk.
impl Cx<'_> {
    /// Issues a disk operation. The caller must end the step with the returned yield. In the next
    /// step the caller takes the result with [`Cx::done`].
    ///
    /// # Panics
    /// If an operation is already in progress.
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

    /// The result of the disk operation.
    ///
    /// # Errors
    /// The error number (errno) of the operation.
    ///
    /// # Panics
    /// If there is no result. The process must not run before its operation has completed.
    pub fn done(&mut self) -> Result<DiskDone, DiskError> {
        self.sys.op = None;
        self.sys
            .done
            .take()
            .expect("a process that waits for an operation runs when it is done")
    }

    /// Closes a descriptor without waiting. A close does not fsync the file, and its errors are
    /// ignored.
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
            .map(|given| assert!(given, "{id:?} was not granted"))
    }

    /// `LWLockAcquireOrWait`: returns true if the process got the lock. Returns false if the
    /// process had to wait until the lock became free.
    pub fn acquire_or_wait(&mut self, id: LockId) -> Poll<bool> {
        self.request(id, Request::HoldOrFree)
    }

    /// `LWLockWaitForVar`: returns when the lock is free or its variable is at least `upto`.
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

    /// `LWLockHeldByMe`. If a lock was granted during a wait, it counts as held only after
    /// [`Cx::acquire`] has returned.
    #[must_use]
    pub fn holds(&self, id: LockId) -> bool {
        self.shmem.locks.awaited(self.me) != Some(id) && self.shmem.locks.holds(self.me, id)
    }

    /// The condition for `CHECK_FOR_INTERRUPTS` (`InterruptHoldoffCount` is 0): the process can
    /// abandon its work. It holds and awaits no lock, has pinned no page, and has no disk operation
    /// in progress.
    #[must_use]
    pub fn may_interrupt(&self) -> bool {
        let shmem = &self.shmem;
        self.sys.op.is_none()
            && shmem.locks.awaited(self.me).is_none()
            && !shmem.locks.holds_any(self.me)
            && !shmem.buffers.pins_any(self.me)
    }

    /// Releases the LWLocks, pins and condition variable of the process. Called when a transaction
    /// or process ends with an error.
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

    /// `ConditionVariableSleep`. The caller must end the step with the returned yield.
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
    /// `ResetLatch(MyLatch)`. Must be called before the check for the work that the latch
    /// announces.
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

    /// `fork`. Only the postmaster calls it. The connection of a [`Fork::Backend`] is handed over
    /// to the child.
    pub fn fork(&mut self, child: Fork) -> Pid {
        let pid = self.kernel.pid();
        if let Fork::Backend(conn, _) = &child {
            self.fx
                .push(self.me, Effect::Net(*conn, NetOp::HandOver(pid)));
        }
        self.kernel.forks.push((pid, child));
        pid
    }

    /// Gives the process the role that its startup packet requested.
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
    /// Starts to connect. [`Cx::connected`] or [`Cx::conn_end`] tells the outcome.
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

    /// Opens the receive window. Before this call no bytes are delivered.
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

    /// Is the connection established?
    #[must_use]
    pub fn connected(&self, conn: ConnId) -> bool {
        self.sys.conns.get(&conn).is_some_and(Conn::connected)
    }

    /// Returns the next received bytes. The receive window then has room for that many more bytes.
    pub fn receive(&mut self, conn: ConnId) -> Option<Bytes> {
        let bytes = self.sys.conns.get_mut(&conn)?.take()?;
        let max = u32::try_from(bytes.len()).expect("bounded by the receive window");
        self.fx
            .push(self.me, Effect::Net(conn, NetOp::Read { max }));
        Some(bytes)
    }

    /// How the connection ended. `None` until all bytes before the end were received.
    #[must_use]
    pub fn conn_end(&self, conn: ConnId) -> Option<ConnEnd> {
        self.sys.conn_end(conn)
    }

    /// Why a connection that this node opened was refused.
    #[must_use]
    pub fn refusal(&self, conn: ConnId) -> Refusal {
        let conn = self.sys.conns.get(&conn);
        conn.map(|conn| conn.refusal().clone()).unwrap_or_default()
    }

    /// Sends two pieces in order. Either piece can be empty. Does nothing if the connection has
    /// ended.
    pub fn send(&mut self, conn: ConnId, pieces: [Bytes; 2]) {
        let Some(state) = self.sys.conns.get_mut(&conn) else {
            return;
        };
        state.sent(pieces[0].len() + pieces[1].len());
        self.fx
            .push(self.me, Effect::Net(conn, NetOp::Send(pieces)));
    }

    /// `pq_is_send_pending`: is more output pending than fits into the send buffer?
    #[must_use]
    pub fn send_pending(&self, conn: ConnId) -> bool {
        self.sys.conns.get(&conn).is_some_and(Conn::send_pending)
    }

    /// Is so much output pending that the process must read no more input from this peer?
    #[must_use]
    pub fn output_full(&self, conn: ConnId) -> bool {
        self.sys.conns.get(&conn).is_some_and(Conn::output_full)
    }

    /// Closes the connection. Bytes that were already sent still arrive.
    pub fn disconnect(&mut self, conn: ConnId) {
        if self.sys.conns.remove(&conn).is_some() {
            self.fx.push(self.me, Effect::Net(conn, NetOp::Close));
        }
    }
}
