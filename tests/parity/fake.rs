//! The simulator's disk and network.

use crate::disk::{FileSystem, Outcome};
use crate::net::{End, Network};
use walsim::choice::Choices;
use walsim::disk::{Disk, DiskSpec};
use walsim::net::{LinkSpec, Net};
use walsim_core::base::{ConnId, Mono, Pid};
use walsim_core::call::{DiskOp, NetEvent, NetOp};

/// A large disk on which no operation fails.
pub(crate) struct FakeDisk {
    disk: Disk,
    choices: Choices,
}

impl FileSystem for FakeDisk {
    fn new(_name: &str) -> Self {
        Self {
            disk: Disk::new(0, DiskSpec::default(), 512, 1 << 30),
            choices: Choices::new(1),
        }
    }

    fn call(&mut self, pid: Pid, op: DiskOp) -> Outcome {
        self.disk.call(pid, &op, &self.choices)
    }

    fn close(&mut self, pid: Pid, op: DiskOp) {
        let _ = self.call(pid, op);
    }

    fn exit(&mut self, pid: Pid) {
        self.disk.close_all(pid);
    }
}

const PORT: u16 = 5432;

/// Two machines. The second one listens.
pub(crate) struct FakeNet {
    net: Net,
    choices: Choices,
    now: Mono,
    heard: [Vec<(ConnId, NetEvent)>; 2],
}

impl Network for FakeNet {
    fn new() -> Self {
        let names = [String::from("caller"), String::from("callee")];
        let mut net = Net::new(&names, LinkSpec::default());
        net.listen(1, Some(PORT));
        Self {
            net,
            choices: Choices::new(1),
            now: Mono(0),
            heard: [Vec::new(), Vec::new()],
        }
    }

    fn address(&self) -> (String, u16) {
        (String::from("callee"), PORT)
    }

    fn deaf_address(&self) -> (String, u16) {
        (String::from("callee"), PORT + 1)
    }

    fn call(&mut self, end: End, conn: ConnId, op: NetOp) {
        let host = end.index();
        let host = u16::try_from(host).expect("two machines");
        self.net.op(self.now, host, conn, &op, &self.choices);
    }

    fn settle(&mut self) {
        // Runs for five seconds, because a process that retries waits one second.
        let until = self.now.after_ms(5000);
        while let Some(at) = self.net.next_time().filter(|at| *at <= until) {
            self.now = at;
            while let Some(delivery) = self.net.pop(at, &self.choices) {
                let heard = &mut self.heard[usize::from(delivery.host)];
                heard.push((delivery.conn, delivery.event));
            }
        }
        self.now = until;
    }

    fn take(&mut self, end: End) -> Vec<(ConnId, NetEvent)> {
        std::mem::take(&mut self.heard[end.index()])
    }

    fn fragile_address(&mut self) -> (String, u16) {
        self.address()
    }

    fn break_it(&mut self) {
        self.net.reset_between(self.now, 0, 1);
    }
}
