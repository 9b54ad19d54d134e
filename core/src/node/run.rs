//! Runs one process. Also decides which processes can run.

use super::process::Process;
use super::{Next, Node, Proc};
use crate::base::{Now, Pid};
use crate::call::{Effects, Exit, Wait, Woken, Yield};
use crate::sys::{Cx, Fork};
use core::mem::take;

impl Node {
    /// Runs a process until it would block. Does nothing if the process cannot run now.
    pub(super) fn run(&mut self, now: Now, pid: Pid, fx: &mut Effects) {
        let Some(proc) = self.procs.get(pid) else {
            return;
        };
        if !self.can_run(now, pid, proc, || self.shmem.procs.latch(pid)) {
            return;
        }
        if proc.quit {
            self.end(pid, Exit::Quit, fx);
            return;
        }
        let woken = match &proc.next {
            Next::Wait(wait) => self.woken(now, pid, proc, wait),
            Next::Run(_) => Woken::default(),
        };
        let proc = self.procs.get_mut(pid).expect("looked up above");
        proc.sys.woken = woken;
        let mut cx = Cx {
            now,
            me: pid,
            shmem: &mut self.shmem,
            probe: &mut self.probe,
            kernel: &mut self.kernel,
            sys: &mut proc.sys,
            fx,
        };
        let how = proc.state.step(&mut cx);
        self.shmem.check();
        self.note_connections(pid);
        match how {
            Yield::Again(place) => self.set_next(pid, Next::Run(place)),
            Yield::Wait(wait) => self.set_next(pid, Next::Wait(wait)),
            Yield::Exit(exit) => self.end(pid, exit, fx),
        }
        self.after_step(pid, fx);
    }

    fn set_next(&mut self, pid: Pid, next: Next) {
        if let Some(proc) = self.procs.get_mut(pid) {
            proc.next = next;
        }
    }

    /// Makes the process the owner of the connections that it opened in this step.
    fn note_connections(&mut self, pid: Pid) {
        let Some(proc) = self.procs.get(pid) else {
            return;
        };
        for conn in proc.sys.conns.keys() {
            self.owners.entry(*conn).or_insert(pid);
        }
    }

    /// Performs the requests that the process has made to its kernel in this step.
    fn after_step(&mut self, pid: Pid, fx: &mut Effects) {
        if let Some(becomes) = self.kernel.becomes.take()
            && let Some(proc) = self.procs.get_mut(pid)
        {
            proc.role = becomes.role;
            proc.state = Process::becoming(becomes);
            if let Some(entry) = self.shmem.procs.get_mut(pid) {
                entry.role = proc.role;
                entry.in_session = true;
            }
        }
        for (child, fork) in take(&mut self.kernel.forks) {
            let handed_over = match &fork {
                Fork::Backend(conn, _) => {
                    let parent = self
                        .procs
                        .get_mut(pid)
                        .expect("the postmaster has just forked");
                    parent.sys.conns.remove(conn).map(|state| (*conn, state))
                }
                Fork::Startup | Fork::Checkpointer | Fork::WalWriter | Fork::WalReceiver => None,
            };
            let (role, state) = Process::forked(fork);
            self.spawn(child, role, state);
            if let Some((conn, state)) = handed_over {
                self.owners.insert(conn, child);
                let proc = self.procs.get_mut(child).expect("spawned above");
                proc.sys.conns.insert(conn, state);
            }
        }
        for (target, signal) in take(&mut self.kernel.signals) {
            self.signal(target, signal, fx);
        }
    }

    /// All processes that could run now, in ascending order.
    pub(super) fn can_all_run(&self, now: Now) -> impl Iterator<Item = Pid> {
        // The node calls this after every step, so it must be fast. `procs` and the latches are
        // both sorted by process id, so a latch is at the position of its process or near it.
        let numbered = self.procs.iter().enumerate();
        numbered.filter_map(move |(at, (pid, proc))| {
            let latch = || self.shmem.procs.latch_near(at, pid);
            self.can_run(now, pid, proc, latch).then_some(pid)
        })
    }

    /// Can this process run?
    pub(super) fn can_run_at(&self, now: Now, pid: Pid) -> bool {
        let latch = || self.shmem.procs.latch(pid);
        let proc = self.procs.get(pid);
        proc.is_some_and(|proc| self.can_run(now, pid, proc, latch))
    }

    fn can_run(&self, now: Now, pid: Pid, proc: &Proc, latch: impl FnOnce() -> bool) -> bool {
        if proc.stopped {
            return false;
        }
        if proc.quit {
            return true;
        }
        match &proc.next {
            Next::Run(_) => true,
            Next::Wait(wait) => {
                // The cheapest tests come first.
                wait.until.is_some_and(|until| until <= now.mono)
                    || wait.op.is_some() && proc.sys.done.is_some()
                    || wait.latch && latch()
                    || wait.readable.is_some_and(|id| proc.sys.is_readable(id))
                    || wait.writable.is_some_and(|id| proc.sys.is_writable(id))
                    || wait.lock && self.shmem.locks.is_woken(pid)
                    || wait.condvar && self.shmem.condvars.is_woken(pid)
            }
        }
    }

    pub(super) fn woken(&self, now: Now, pid: Pid, proc: &Proc, wait: &Wait) -> Woken {
        Woken {
            latch: wait.latch && self.shmem.procs.latch(pid),
            readable: wait.readable.is_some_and(|id| proc.sys.is_readable(id)),
            writable: wait.writable.is_some_and(|id| proc.sys.is_writable(id)),
            timeout: wait.until.is_some_and(|until| until <= now.mono),
        }
    }
}
