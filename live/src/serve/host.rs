//! Runs a node in its directory as a server process: it fills in the lock file, receives signals,
//! reads the settings file again on SIGHUP, and can start a workload.

use super::Refusal;
use super::cluster::{Cluster, Kind};
use super::settings::Choice;
use super::workload::Workload;
use crate::driver::{Driver, Handle, Host};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::{self, JoinHandle};
use walsim_core::base::{Now, Pid, Planted};
use walsim_core::call::{Effect, Exit, Input, Message, Signal};
use walsim_core::node::Node;

/// How many times the node has been started. A process of the operating system starts its node only
/// once.
const INCARNATION: u32 = 1;

/// A running server.
#[derive(Debug)]
pub struct Serving {
    driver: Driver<Node, Around>,
    addr: SocketAddr,
    workload: Option<JoinHandle<io::Result<u64>>>,
}

/// How a server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Whether a shutdown was requested and the shutdown checkpoint is durable.
    pub orderly: bool,
    /// Number of the workload's transactions that were acknowledged.
    pub acknowledged: Option<u64>,
}

/// Observes the node. Knows the node's cluster and workload.
#[derive(Debug)]
struct Around {
    cluster: Cluster,
    choices: Vec<Choice>,
    workload: Option<Handle>,
}

impl Serving {
    /// Starts a server that listens on an address. Optionally starts a workload with this number of
    /// commits per second. From now on the server handles the signals for shutdown and reload.
    ///
    /// # Errors
    /// If the address cannot be used, or no more descriptors are available.
    pub fn start(
        cluster: Cluster,
        choices: Vec<Choice>,
        addr: SocketAddr,
        commits_per_s: Option<u32>,
    ) -> Result<Self, Refusal> {
        let system = |e: io::Error| Refusal(format!("could not start: {e}"));
        let settings = cluster.settings.clone();
        let node = Node::boot(settings, rand::random(), INCARNATION, Planted::NONE);
        let mut node = node.in_locked_directory();
        if cluster.kind == Kind::Stopped {
            node = node.walsenders_only();
        }
        let dir = cluster.dir.clone();
        let around = Around {
            cluster,
            choices,
            workload: None,
        };
        let mut driver = Driver::new(node, &dir, around).map_err(system)?;
        driver
            .take_signals(Pid::postmaster(INCARNATION))
            .map_err(system)?;
        let addr = driver
            .listen(addr)
            .map_err(|e| Refusal(format!("could not listen on {addr}: {e}")))?;
        let around = driver.host_mut();
        around
            .cluster
            .lock
            .describe(&dir, addr)
            .map_err(|e| Refusal::file("write lock file", Path::new("postmaster.pid"), &e))?;
        let workload = match commits_per_s {
            None => None,
            Some(rate) => {
                let workload = Workload::new(addr, rate);
                let mut driver = Driver::new(workload, &dir, ()).map_err(system)?;
                around.workload = Some(driver.handle());
                let thread = thread::Builder::new().name("workload".into());
                let run = move || {
                    driver.run()?;
                    Ok(driver.machine().acknowledged())
                };
                Some(thread.spawn(run).map_err(system)?)
            }
        };
        Ok(Self {
            driver,
            addr,
            workload,
        })
    }

    /// The address on which the server listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Runs the server until it ends.
    ///
    /// # Errors
    /// If the kernel cannot be polled.
    pub fn run(mut self) -> io::Result<Ended> {
        let exit = self.driver.run()?;
        self.driver.host().stop_workload();
        let acknowledged = match self.workload.map(JoinHandle::join) {
            Some(Ok(outcome)) => Some(outcome?),
            Some(Err(_)) | None => None,
        };
        Ok(Ended {
            orderly: exit == Some(Exit::Normal),
            acknowledged,
        })
    }
}

impl Around {
    fn stop_workload(&self) {
        if let Some(handle) = &self.workload {
            handle.input(Input::Signal(Workload::PID, Signal::Term));
        }
    }

    /// On SIGHUP, reads the settings file before the postmaster handles the signal.
    fn reload(&self, node: &mut Node) {
        if self.cluster.kind == Kind::Stopped {
            return;
        }
        match self.cluster.reread(&self.choices) {
            Ok(settings) => node.reload(settings),
            Err(refusal) => tracing::error!("LOG:  configuration not changed: {refusal}"),
        }
    }

    fn status(&self, word: &str) {
        if let Err(e) = self.cluster.lock.status(word) {
            tracing::error!("LOG:  could not write lock file: {e}");
        }
    }
}

impl Host<Node> for Around {
    fn input(&mut self, node: &mut Node, _: Now, input: &Input) {
        match input {
            Input::Signal(_, Signal::Hup) => self.reload(node),
            // A smart shutdown waits until all sessions have disconnected, so the workload must
            // disconnect its sessions.
            Input::Signal(_, Signal::Term | Signal::Int | Signal::Quit) => self.stop_workload(),
            Input::Signal(
                _,
                Signal::Usr1 | Signal::Usr2 | Signal::Kill | Signal::Stop | Signal::Cont,
            )
            | Input::Run(_)
            | Input::Net(..)
            | Input::Disk(..) => {}
        }
    }

    fn effect(&mut self, _: Now, _: Pid, effect: &Effect) {
        if let Effect::Log(event) = effect {
            if event.message == Message::ReadyForConnections {
                self.status("ready");
            } else if matches!(event.message, Message::ShutdownRequest(_)) {
                self.status("stopping");
            }
        }
    }
}
