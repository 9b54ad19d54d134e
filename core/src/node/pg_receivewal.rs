//! The standalone receiver for backups. It is a single process without a server.

use super::process::Process;
use super::procs::Procs;
use super::{Next, Node};
use crate::base::{Lsn, Mono, Now, Pid, Planted, Probe, Settings};
use crate::call::{Effect, Effects, Exit, Input, Machine, Place, RunSet, Signal};
use crate::proc::pg_receivewal::{self, PgReceivewalOptions};
use crate::shmem::{Role, Shmem};
use crate::sys::Kernel;
use crate::wire::control_file::ControlFile;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// One process that receives WAL into its data directory. The only settings that it uses are the
/// intervals of the walreceiver. It gets the segment size from the server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PgReceivewal {
    /// A node that runs only this process.
    node: Node,
    exit: Option<Exit>,
}

impl PgReceivewal {
    /// Creates a receiver that is about to start. Each start must have a new incarnation number,
    /// which must not be 0.
    ///
    /// # Panics
    /// If the incarnation is 0.
    #[must_use]
    pub fn start(settings: Settings, options: PgReceivewalOptions, incarnation: u32) -> Self {
        assert!(incarnation > 0, "incarnation 0 is reserved for the world");
        let settings = Settings {
            shared_buffers: 0,
            max_wal_senders: 0,
            max_replication_slots: 0,
            ..settings
        };
        let (version, geometry) = (settings.pg_version, settings.geometry);
        let control = ControlFile::fresh(version, &geometry, 0, Lsn::INVALID);
        let mut node = Node {
            shmem: Shmem::new(settings, control),
            kernel: Kernel::new(incarnation, 0),
            probe: Probe::new(Planted::NONE),
            procs: Procs::default(),
            owners: BTreeMap::new(),
        };
        let process = Process::PgReceivewal(Box::new(pg_receivewal::PgReceivewal::new(options)));
        node.spawn(Self::pid_of(incarnation), Role::WalReceiver, process);
        Self { node, exit: None }
    }

    /// The only process of the receiver.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        Self::pid_of(self.node.kernel.incarnation)
    }

    /// How the process ended. `None` while it runs.
    #[must_use]
    pub const fn exit(&self) -> Option<&Exit> {
        self.exit.as_ref()
    }

    /// The write position and the flush position. Valid only during streaming.
    #[must_use]
    pub fn received(&self) -> Option<(Lsn, Lsn)> {
        let process = self.node.procs.values().next()?;
        Some(process.state.as_pg_receivewal()?.received())
    }

    /// The C function in which the process ended its last step, and whether the process is waiting
    /// there.
    #[must_use]
    pub fn place(&self) -> Option<(Place, bool)> {
        match &self.node.procs.values().next()?.next {
            Next::Run(place) => Some((*place, false)),
            Next::Wait(wait) => Some((wait.why, true)),
        }
    }

    const fn pid_of(incarnation: u32) -> Pid {
        Pid::postmaster(incarnation)
    }
}

impl Machine for PgReceivewal {
    fn step(&mut self, now: Now, input: Input, fx: &mut Effects) {
        // As in pg_receivewal, SIGINT requests the same orderly end as SIGTERM.
        let input = match input {
            Input::Signal(pid, Signal::Int) => Input::Signal(pid, Signal::Term),
            other @ (Input::Run(_) | Input::Net(..) | Input::Disk(..) | Input::Signal(..)) => other,
        };
        let before = fx.0.len();
        self.node.step(now, input, fx);
        let ended = fx.0[before..].iter().find_map(|(_, effect)| match effect {
            Effect::Exit(exit) => Some(exit.clone()),
            Effect::Disk(..) | Effect::Net(..) | Effect::Log(_) | Effect::Halt => None,
        });
        if ended.is_some() {
            self.exit = ended;
            fx.push(self.pid(), Effect::Halt);
        }
    }

    fn runnable(&self, now: Now, set: &mut RunSet) {
        self.node.runnable(now, set);
    }

    fn next_wakeup(&self) -> Option<Mono> {
        self.node.next_wakeup()
    }
}
