//! One PostgreSQL server. It composes the processes, and routes inputs, latches and signals to
//! them.

mod initdb;
mod pg_receivewal;
mod process;
mod procs;
mod run;
mod view;

pub use crate::proc::pg_receivewal::PgReceivewalOptions;
pub use crate::proc::postmaster::PmState;
pub use crate::replication::libpqrcv::ConnInfo;
pub use initdb::{InitialFile, STANDBY_SIGNAL, initdb};
pub use pg_receivewal::PgReceivewal;
pub use view::{NodeView, ProcessView};

use crate::base::{ConnId, Lsn, Mono, Now, OpId, Pid, Planted, Probe, Settings};
use crate::call::{
    DiskDone, DiskError, Effect, Effects, Exit, Input, Machine, NetEvent, Place, RunSet, Signal,
    Wait,
};
use crate::shmem::{Role, Shmem};
use crate::sys::{ChildExit, Conn, ExitKind, Kernel, ProcSys};
use crate::wire::control_file::ControlFile;
use alloc::collections::BTreeMap;
use process::Process;
use procs::Procs;

/// What a process does next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Next {
    /// Runs in the next step.
    Run(Place),
    /// Waits.
    Wait(Wait),
}

/// One process and its kernel state.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Proc {
    role: Role,
    state: Process,
    sys: ProcSys,
    next: Next,
    /// Whether the process was stopped by SIGSTOP.
    stopped: bool,
    /// Whether SIGQUIT is pending. If so, the process ends before its next step, whatever it waits
    /// for.
    quit: bool,
}

/// One PostgreSQL server as plain data.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    shmem: Shmem,
    kernel: Kernel,
    probe: Probe,
    procs: Procs,
    owners: BTreeMap<ConnId, Pid>,
}

impl Node {
    /// Creates a server that is about to start. It reads files only in its steps. Each start of the
    /// node must have a new incarnation number, which must not be 0.
    ///
    /// # Panics
    /// If the incarnation is 0.
    #[must_use]
    pub fn boot(settings: Settings, seed: u64, incarnation: u32, planted: Planted) -> Self {
        assert!(incarnation > 0, "incarnation 0 is reserved for the world");
        let postmaster = Pid::postmaster(incarnation);
        let (version, geometry) = (settings.pg_version, settings.geometry);
        let control = ControlFile::fresh(version, &geometry, 0, Lsn::INVALID);
        let mut node = Self {
            shmem: Shmem::new(settings, control),
            kernel: Kernel::new(incarnation, seed),
            probe: Probe::new(planted),
            procs: Procs::default(),
            owners: BTreeMap::new(),
        };
        node.spawn(postmaster, Role::Postmaster, Process::postmaster());
        node
    }

    /// Uses a data directory that the driver has locked against other servers. The postmaster then
    /// neither writes nor removes a lock file.
    #[must_use]
    pub const fn in_locked_directory(mut self) -> Self {
        self.kernel.locked = true;
        self
    }

    /// Runs only walsenders, which serve the WAL of a cluster that was shut down. The server
    /// changes nothing in the data directory. It refuses sessions and commands about slots. When it
    /// is shut down, its walsenders end after their peers have confirmed all WAL, as in an ordinary
    /// server.
    #[must_use]
    pub const fn walsenders_only(mut self) -> Self {
        self.kernel.walsenders_only = true;
        self
    }

    /// Sets the contents of the configuration files. The server reads them when it receives SIGHUP.
    pub fn reload(&mut self, settings: Settings) {
        self.kernel.config = Some(settings);
    }

    /// The rare states (marks) that were reached so far.
    #[must_use]
    pub const fn probe(&self) -> &Probe {
        &self.probe
    }

    /// A read-only view for the simulator's checkers and reports.
    #[must_use]
    pub const fn view(&self) -> NodeView<'_> {
        NodeView::new(self)
    }

    /// Has the postmaster ended?
    #[must_use]
    pub fn is_halted(&self) -> bool {
        self.procs.is_empty()
    }

    fn spawn(&mut self, pid: Pid, role: Role, state: Process) {
        let proc = Proc {
            role,
            state,
            sys: ProcSys::default(),
            next: Next::Run(Place::Fork),
            stopped: false,
            quit: false,
        };
        self.procs.insert(pid, proc);
        self.shmem.procs.attach(pid, role);
    }

    fn net(&mut self, conn: ConnId, event: NetEvent) {
        if event == NetEvent::Accepted {
            let postmaster = Pid::postmaster(self.kernel.incarnation);
            if let Some(proc) = self.procs.get_mut(postmaster) {
                proc.sys.conns.insert(conn, Conn::accepted());
                proc.sys.accepted.push_back(conn);
                self.owners.insert(conn, postmaster);
                self.shmem.procs.set_latch(postmaster);
            }
            return;
        }
        let owner = self
            .owners
            .get(&conn)
            .and_then(|pid| self.procs.get_mut(*pid));
        if let Some(state) = owner.and_then(|proc| proc.sys.conns.get_mut(&conn)) {
            state.apply(event);
        }
    }

    fn disk(&mut self, op: OpId, outcome: Result<DiskDone, DiskError>) {
        // If the process has ended or does not wait for this operation, the completion is dropped.
        if let Some(proc) = self.procs.values_mut().find(|p| p.sys.op == Some(op)) {
            proc.sys.done = Some(outcome);
        }
    }

    fn signal(&mut self, pid: Pid, signal: Signal, fx: &mut Effects) {
        let Some(proc) = self.procs.get_mut(pid) else {
            return;
        };
        match signal {
            Signal::Kill => self.end(pid, Exit::Killed, fx),
            Signal::Stop => proc.stopped = true,
            Signal::Cont => proc.stopped = false,
            Signal::Quit if proc.role != Role::Postmaster => proc.quit = true,
            Signal::Quit
            | Signal::Hup
            | Signal::Int
            | Signal::Term
            | Signal::Usr1
            | Signal::Usr2 => {
                proc.sys.signal(signal);
                self.shmem.procs.set_latch(pid);
            }
        }
    }

    /// Removes a process that has ended. After an orderly exit, releases the locks, pins and latch
    /// of the process. After a crash, shared memory stays as it was.
    fn end(&mut self, pid: Pid, exit: Exit, fx: &mut Effects) {
        let Some(proc) = self.procs.remove(pid) else {
            return;
        };
        let kind = match &exit {
            Exit::Normal => ExitKind::Normal,
            Exit::Fatal(event) => {
                // The postmaster logs this event itself.
                if proc.role != Role::Postmaster {
                    fx.push(pid, Effect::Log(event.clone()));
                }
                ExitKind::Fatal
            }
            Exit::Silent => ExitKind::Fatal,
            Exit::Panic(event) => {
                fx.push(pid, Effect::Log(event.clone()));
                ExitKind::Aborted
            }
            Exit::Quit => ExitKind::Quit,
            Exit::Killed => ExitKind::Killed,
        };
        if !kind.is_crash() {
            self.shmem.locks.release_all(pid);
            self.shmem.buffers.unpin_all(pid);
            self.shmem.condvars.leave(pid);
            self.shmem.procs.detach(pid);
        }
        self.owners.retain(|_, owner| *owner != pid);
        fx.push(pid, Effect::Exit(exit));
        if proc.role == Role::Postmaster {
            // The postmaster has ended. In PostgreSQL the children notice this at their next wait,
            // and write nothing until then. In walsim the children end at once.
            self.procs.clear();
            fx.push(pid, Effect::Halt);
            return;
        }
        let postmaster = Pid::postmaster(self.kernel.incarnation);
        if let Some(parent) = self.procs.get_mut(postmaster) {
            parent.sys.exits.push_back(ChildExit {
                pid,
                role: proc.role,
                kind,
            });
            self.shmem.procs.set_latch(postmaster);
        }
    }
}

impl Machine for Node {
    fn step(&mut self, now: Now, input: Input, fx: &mut Effects) {
        self.shmem.buffers.changes.clear();
        match input {
            Input::Run(pid) => self.run(now, pid, fx),
            Input::Net(conn, event) => self.net(conn, event),
            Input::Disk(op, outcome) => self.disk(op, outcome),
            Input::Signal(pid, signal) => self.signal(pid, signal, fx),
        }
    }

    fn runnable(&self, now: Now, set: &mut RunSet) {
        set.0.clear();
        set.0.extend(self.can_all_run(now));
    }

    fn next_wakeup(&self) -> Option<Mono> {
        let sleeping = self.procs.values().filter(|proc| !proc.stopped);
        sleeping
            .filter_map(|proc| match &proc.next {
                Next::Wait(wait) => wait.until,
                Next::Run(_) => None,
            })
            .min()
    }
}
