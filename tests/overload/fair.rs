//! A server is flooded by one client and serves a second client meanwhile. The second client
//! connects during the flood. Driver and node run in the thread of the test, so that the test sees
//! the order of the server's answers.

use crate::client::{FLOOD, KINDS, SESSIONS, startup};
use crate::server::Folder;
use bytes::Bytes;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use walsim_core::base::{ConnId, Now, Pid, Planted};
use walsim_core::call::{Effect, LogEvent, NetOp};
use walsim_core::node::Node;
use walsim_core::wire::frame::{FrameReader, LARGE_LIMIT};
use walsim_core::wire::frontend::FrontendMessage;
use walsim_live::driver::{Driver, Host};
use walsim_live::serve::{Choice, Cluster};

const FIRST: u32 = 1;
const SECOND: u32 = 2;

/// The second client connects when the server has answered this many messages of the flood.
const BEGUN: usize = 100;
/// How many messages of the flood the server may answer before it answers the second client.
const MEANWHILE: usize = 400;

/// Observes the server's messages to both clients.
struct Order {
    addr: Option<SocketAddr>,
    second: Option<TcpStream>,
    heard: [FrameReader; 2],
    /// How many messages of the flood the server has answered.
    answered: usize,
    /// The value of `answered` when the second client got its answer.
    before: Option<usize>,
}

impl Order {
    fn says(&mut self, conn: u32, pieces: [Bytes; 2]) {
        let heard = &mut self.heard[conn as usize - 1];
        pieces.into_iter().for_each(|piece| heard.push(piece));
        while let Some(frame) = heard.next(|_| Ok(LARGE_LIMIT)).expect("messages") {
            match (conn, frame.tag) {
                (FIRST, b'Z') => self.answered += 1,
                (SECOND, b'C') => self.before = self.before.or(Some(self.answered)),
                _ => {}
            }
        }
        // The first ReadyForQuery ends the start of the session, so it is not an answer to the
        // flood.
        if self.answered == BEGUN + 1 && self.second.is_none() {
            let addr = self.addr.expect("it listens");
            let mut stream = TcpStream::connect(addr).expect("it listens");
            let show = FrontendMessage::Query("SHOW wal_level".into()).to_bytes();
            let said = [startup("true"), show].concat();
            stream.write_all(&said).expect("a few bytes fit");
            self.second = Some(stream);
        }
    }
}

impl Host<Node> for Order {
    fn effect(&mut self, _: Now, _: Pid, effect: &Effect) {
        if let Effect::Net(ConnId { incarnation: 0, n }, NetOp::Send(pieces)) = effect {
            self.says(*n, pieces.clone());
        }
    }

    fn log(&mut self, _: Pid, _: &LogEvent) {}
}

#[test]
fn a_second_client_is_served_during_a_flood() {
    for version in ["15", "18"] {
        for replication in SESSIONS {
            for kind in KINDS {
                let name = format!("fair-{version}-{replication}");
                let before = second_answer(&name, version, replication, &kind.flood());
                println!("{name} {kind:?}: {before:?} answered before");
                // If the server does not answer the flood, there are no answers to count.
                if let Some(before) = before {
                    assert!(before <= BEGUN + MEANWHILE, "{name} {kind:?}: {before}");
                }
            }
        }
    }
}

/// How many messages of the flood the server answered before it answered the second client. Returns
/// `None` if messages of this kind have no answer.
fn second_answer(name: &str, version: &str, replication: &str, flood: &[u8]) -> Option<usize> {
    let folder = Folder::new(name);
    let data = folder.path().join("data");
    let choice = Choice::parse(&format!("pg_version={version}")).expect("NAME=VALUE");
    let cluster = Cluster::open(&data, &[choice]).expect("an empty directory");
    let node = Node::boot(cluster.settings.clone(), 1, 1, Planted::NONE).in_locked_directory();
    let order = Order {
        addr: None,
        second: None,
        heard: Default::default(),
        answered: 0,
        before: None,
    };
    let mut driver = Driver::new(node, &cluster.dir, order).expect("it has descriptors");
    let addr = driver.listen(([127, 0, 0, 1], 0).into());
    let addr = addr.expect("loopback has ports");
    driver.host_mut().addr = Some(addr);
    let mut first = TcpStream::connect(addr).expect("it listens");
    first.set_nonblocking(true).expect("Linux");
    let mut unsent = [&startup(replication)[..], flood].concat();
    // In each turn all processes run, and the client reads everything.
    for _ in 0..1_000_000 {
        let _ = driver.turn(Some(Duration::from_millis(1))).expect("Linux");
        let order = driver.host();
        let answered = order.before.is_some() || order.answered > FLOOD;
        if order.second.is_some() && answered || order.second.is_none() && unsent.is_empty() {
            return order.before;
        }
        if let Ok(n) = first.write(&unsent) {
            unsent.drain(..n);
        }
        let mut buffer = [0; 64 * 1024];
        loop {
            match first.read(&mut buffer) {
                Ok(0) => panic!("the server hung up"),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
    }
    panic!("the flood was not answered");
}
