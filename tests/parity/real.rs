//! The file system and the sockets of the real machine, used through the driver of `walsim-live`.

use crate::ONE;
use crate::disk::{FileSystem, Outcome};
use crate::net::{End, Network};
use rustix::net::sockopt::set_socket_linger;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use walsim_core::base::{ConnId, Mono, Now, OpId, Pid};
use walsim_core::call::{DiskOp, Effect, Effects, Exit, Input, Machine, NetEvent, NetOp, RunSet};
use walsim_live::driver::Driver;

/// How long to wait for an event that must happen, in milliseconds.
const PATIENCE: u32 = 10_000;
/// If nothing happens for this long, the machine counts as idle.
const QUIET: u32 = 10;
const MOMENT: Duration = Duration::from_millis(1);

/// A machine that does what the test tells it, and passes its events to the test.
#[derive(Clone, Default)]
struct Puppet(Arc<Mutex<Strings>>);

#[derive(Default)]
struct Strings {
    wanted: VecDeque<(Pid, Effect)>,
    inputs: VecDeque<Input>,
}

impl Puppet {
    fn strings(&self) -> MutexGuard<'_, Strings> {
        self.0.lock().expect("one thread at a time")
    }

    fn wants(&self, pid: Pid, effect: Effect) {
        self.strings().wanted.push_back((pid, effect));
    }
}

impl Machine for Puppet {
    fn step(&mut self, _now: Now, input: Input, fx: &mut Effects) {
        let mut strings = self.strings();
        match input {
            Input::Run(_) => {
                for (pid, effect) in strings.wanted.drain(..) {
                    fx.push(pid, effect);
                }
            }
            Input::Net(conn, NetEvent::Accepted) => {
                fx.push(ONE, Effect::Net(conn, NetOp::HandOver(ONE)));
                strings
                    .inputs
                    .push_back(Input::Net(conn, NetEvent::Accepted));
            }
            Input::Net(..) | Input::Disk(..) | Input::Signal(..) => strings.inputs.push_back(input),
        }
    }

    fn runnable(&self, _now: Now, set: &mut RunSet) {
        set.0.clear();
        if !self.strings().wanted.is_empty() {
            set.0.push(ONE);
        }
    }

    fn next_wakeup(&self) -> Option<Mono> {
        None
    }
}

/// A driver, and the means to control its machine.
struct Stage {
    driver: Driver<Puppet>,
    puppet: Puppet,
    dir: PathBuf,
}

impl Stage {
    fn new(name: &str) -> Self {
        let name = format!("walsim-parity-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).expect("a folder for temporary files");
        let puppet = Puppet::default();
        let driver = Driver::new(puppet.clone(), &dir, ()).expect("descriptors");
        Self {
            driver,
            puppet,
            dir,
        }
    }

    fn turn(&mut self, limit: Duration) {
        self.driver.turn(Some(limit)).expect("the system answers");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) struct RealDisk {
    stage: Stage,
    ops: u32,
}

impl RealDisk {
    fn issue(&mut self, pid: Pid, op: DiskOp) -> OpId {
        self.ops += 1;
        let id = OpId {
            incarnation: 1,
            n: self.ops,
        };
        self.stage.puppet.wants(pid, Effect::Disk(id, op));
        id
    }
}

impl FileSystem for RealDisk {
    fn new(name: &str) -> Self {
        let stage = Stage::new(name);
        Self { stage, ops: 0 }
    }

    fn call(&mut self, pid: Pid, op: DiskOp) -> Outcome {
        let id = self.issue(pid, op.clone());
        for _ in 0..PATIENCE {
            self.stage.turn(MOMENT);
            let input = self.stage.puppet.strings().inputs.pop_front();
            if let Some(Input::Disk(answered, outcome)) = input {
                assert_eq!(answered, id, "one operation, one answer");
                return outcome;
            }
        }
        panic!("no answer to {op:?}");
    }

    fn close(&mut self, pid: Pid, op: DiskOp) {
        self.issue(pid, op);
        self.stage.turn(Duration::ZERO);
        assert!(self.stage.puppet.strings().inputs.is_empty());
    }

    fn exit(&mut self, pid: Pid) {
        self.stage.puppet.wants(pid, Effect::Exit(Exit::Normal));
        self.stage.turn(Duration::ZERO);
    }
}

/// Two drivers on the loopback interface.
pub(crate) struct RealNet {
    stages: [Stage; 2],
    port: u16,
    /// Forwards connections between both drivers, and can break them.
    relay: Option<Relay>,
}

struct Relay {
    listener: TcpListener,
    ends: Vec<TcpStream>,
}

impl RealNet {
    fn heard(&self) -> usize {
        let heard = |stage: &Stage| stage.puppet.strings().inputs.len();
        self.stages.iter().map(heard).sum()
    }

    /// Connects each new connection to its target.
    fn relay(&mut self) {
        let Some(relay) = &mut self.relay else { return };
        if let Ok((caller, _)) = relay.listener.accept() {
            let callee = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
            relay.ends.extend([caller, callee.expect("it listens")]);
        }
    }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

impl Network for RealNet {
    fn new() -> Self {
        let unique = std::thread::current()
            .name()
            .unwrap_or("main")
            .replace("::", "-");
        let mut stages = ["caller", "callee"].map(|name| Stage::new(&format!("{unique}-{name}")));
        let address = stages[1].driver.listen(loopback()).expect("a port");
        Self {
            stages,
            port: address.port(),
            relay: None,
        }
    }

    fn address(&self) -> (String, u16) {
        (String::from("127.0.0.1"), self.port)
    }

    fn deaf_address(&self) -> (String, u16) {
        // Nothing listens on a port that was bound and released.
        let listener = TcpListener::bind(loopback()).expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        (String::from("127.0.0.1"), port)
    }

    fn call(&mut self, end: End, conn: ConnId, op: NetOp) {
        let stage = &mut self.stages[end.index()];
        stage.puppet.wants(ONE, Effect::Net(conn, op));
        stage.turn(Duration::ZERO);
    }

    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET {
            let before = self.heard();
            self.relay();
            for stage in &mut self.stages {
                stage.turn(MOMENT);
            }
            quiet = if self.heard() == before { quiet + 1 } else { 0 };
        }
    }

    fn take(&mut self, end: End) -> Vec<(ConnId, NetEvent)> {
        let mut strings = self.stages[end.index()].puppet.strings();
        let inputs = strings.inputs.drain(..);
        inputs
            .map(|input| match input {
                Input::Net(conn, event) => (conn, event),
                Input::Run(_) | Input::Disk(..) | Input::Signal(..) => {
                    panic!("nobody asked for {input:?}")
                }
            })
            .collect()
    }

    fn fragile_address(&mut self) -> (String, u16) {
        let listener = TcpListener::bind(loopback()).expect("a port");
        listener.set_nonblocking(true).expect("a socket of ours");
        let port = listener.local_addr().expect("it is bound").port();
        let ends = Vec::new();
        self.relay = Some(Relay { listener, ends });
        (String::from("127.0.0.1"), port)
    }

    fn break_it(&mut self) {
        let relay = self.relay.as_mut().expect("asked for its address");
        for end in relay.ends.drain(..) {
            // With this option, closing the socket sends a reset.
            set_socket_linger(&end, Some(Duration::ZERO)).expect("a socket of ours");
        }
    }
}
