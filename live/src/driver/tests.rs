//! Tests of the driver: the order of events, the number of bytes that a machine allows (credit),
//! and ends of connections. The machines are small functions.

use super::Driver;
use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use walsim_core::base::{ConnId, Fd, Mono, Now, OpId, Pid};
use walsim_core::call::{
    DiskDone, DiskError, DiskOp, Effect, Effects, Exit, Input, Machine, NetEvent, NetOp, OpenFlags,
    Refusal, RunSet, Signal,
};

const ONE: Pid = Pid::postmaster(1);
const OURS: ConnId = ConnId {
    incarnation: 1,
    n: 1,
};

/// A machine whose step function is a closure.
struct Script<F> {
    play: F,
    started: bool,
    wakeup: Option<Mono>,
}

impl<F: FnMut(Input, &mut Vec<Effect>)> Machine for Script<F> {
    fn step(&mut self, _now: Now, input: Input, fx: &mut Effects) {
        self.started = true;
        let mut wanted = Vec::new();
        (self.play)(input, &mut wanted);
        wanted.into_iter().for_each(|effect| fx.push(ONE, effect));
    }

    fn runnable(&self, now: Now, set: &mut RunSet) {
        set.0.clear();
        let due = self.wakeup.is_some_and(|at| at <= now.mono);
        set.0.extend((!self.started || due).then_some(ONE));
    }

    fn next_wakeup(&self) -> Option<Mono> {
        self.wakeup
    }
}

fn driver<F: FnMut(Input, &mut Vec<Effect>)>(name: &str, play: F) -> (Driver<Script<F>>, Dir) {
    let dir = std::env::temp_dir().join(format!("walsim-driver-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let script = Script {
        play,
        started: false,
        wakeup: None,
    };
    (Driver::new(script, &dir, ()).unwrap(), Dir(dir))
}

/// A directory that is removed at the end of the test.
struct Dir(PathBuf);

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn op(n: u32) -> OpId {
    OpId { incarnation: 1, n }
}

fn end(fx: &mut Vec<Effect>) {
    fx.extend([Effect::Exit(Exit::Normal), Effect::Halt]);
}

/// Sends each piece of received data back, and then allows the delivery of as many bytes again.
/// Ends when the peer has closed its sending side.
fn echo(input: Input, fx: &mut Vec<Effect>) {
    match input {
        Input::Net(conn, NetEvent::Accepted) => fx.extend([
            Effect::Net(conn, NetOp::HandOver(ONE)),
            Effect::Net(conn, NetOp::Read { max: 5000 }),
        ]),
        Input::Net(conn, NetEvent::Data(bytes)) => {
            let max = u32::try_from(bytes.len()).unwrap();
            assert!(max <= 5000, "{max} bytes against a credit of 5000");
            let (half, rest) = (
                bytes.slice(..bytes.len() / 2),
                bytes.slice(bytes.len() / 2..),
            );
            fx.push(Effect::Net(conn, NetOp::Send([half, rest])));
            fx.push(Effect::Net(conn, NetOp::Read { max }));
        }
        Input::Net(_, NetEvent::Closed | NetEvent::Reset) => end(fx),
        Input::Net(_, NetEvent::Connected | NetEvent::Refused(_) | NetEvent::Sent(_))
        | Input::Run(_)
        | Input::Disk(..)
        | Input::Signal(..) => {}
    }
}

/// All bytes arrive in order, even if the peer reads slowly, and even after the machine has ended.
#[test]
fn bytes_go_both_ways_in_order() {
    let (mut driver, _dir) = driver("echo", echo);
    let addr = driver.listen(any_port()).unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let peer = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let got = thread::spawn(move || {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            got
        });
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        got.join().unwrap()
    });
    assert_eq!(driver.run().unwrap(), Some(Exit::Normal));
    assert!(peer.join().unwrap() == expected);
}

/// The peer sends for a long time before it reads. The peer sends again after the machine has
/// closed the connection. Output from before the close still arrives.
#[test]
fn what_was_sent_before_a_close_arrives() {
    let (mut driver, _dir) = driver("close", |input, fx| {
        if let Input::Net(conn, NetEvent::Accepted) = input {
            let pieces = [Bytes::from(vec![7; 9_000_000]), Bytes::new()];
            fx.push(Effect::Net(conn, NetOp::Send(pieces)));
            fx.push(Effect::Net(conn, NetOp::Close));
        }
    });
    let addr = driver.listen(any_port()).unwrap();
    let handle = driver.handle();
    let peer = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(&vec![1; 9_000_000]).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(&[1; 1000]).unwrap();
        handle.input(Input::Signal(ONE, Signal::Term));
        got
    });
    while !peer.is_finished() {
        driver.turn(Some(Duration::from_millis(10))).unwrap();
    }
    assert!(peer.join().unwrap() == vec![7; 9_000_000]);
}

#[test]
fn a_connection_by_name_is_made_or_refused() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let open = listener.local_addr().unwrap().port();
    let closed = {
        let gone = TcpListener::bind(any_port()).unwrap();
        gone.local_addr().unwrap().port()
    };
    let dir =
        Dir(std::env::temp_dir().join(format!("walsim-driver-{}-socket", std::process::id())));
    std::fs::create_dir_all(&dir.0).unwrap();
    let local = UnixListener::bind(dir.0.join(".s.PGSQL.5433")).unwrap();
    let local_dir = dir.0.to_str().unwrap();
    let tried = |address: Option<&str>, why: &str| (address.map(String::from), String::from(why));
    let refused = |address| Some(Refusal::Tried(vec![tried(address, "Connection refused")]));
    let missing = || {
        Some(Refusal::Tried(vec![tried(
            None,
            "No such file or directory",
        )]))
    };
    let long = format!("/{}", "x".repeat(200));
    for (host, port, refusal) in [
        (local_dir, 5433, None),
        (local_dir, 5434, missing()),
        ("127.0.0.1", open, None),
        ("localhost", open, None),
        ("127.0.0.1", closed, refused(Some("127.0.0.1"))),
        ("/nonexistent", open, missing()),
        (&long, open, Some(Refusal::PathTooLong)),
    ] {
        let mut told = None;
        let (mut driver, _dir) = driver("connect", |input, fx| match input {
            Input::Run(_) => {
                let host = host.into();
                fx.push(Effect::Net(OURS, NetOp::Connect { host, port }));
            }
            Input::Net(_, event) => {
                told = Some(event);
                end(fx);
            }
            Input::Disk(..) | Input::Signal(..) => {}
        });
        driver.run().unwrap();
        drop(driver);
        let expected = refusal.map_or(NetEvent::Connected, NetEvent::Refused);
        assert_eq!(told, Some(expected), "{host}:{port}");
    }
    drop((listener, local));
}

/// The end of the stream is delivered even if the machine has allowed no more bytes. All bytes
/// before the end are delivered first.
#[test]
fn the_end_waits_for_the_bytes_before_it() {
    let listener = TcpListener::bind(any_port()).unwrap();
    let addr = listener.local_addr().unwrap();
    let peer = thread::spawn(move || listener.accept().unwrap().0.write_all(b"abc").unwrap());
    let mut heard = Vec::new();
    let (mut driver, _dir) = driver("end", |input, fx| match input {
        Input::Run(_) => fx.push(Effect::Net(
            OURS,
            NetOp::Connect {
                host: addr.ip().to_string(),
                port: addr.port(),
            },
        )),
        Input::Signal(..) => fx.push(Effect::Net(OURS, NetOp::Read { max: 2 })),
        Input::Net(_, event) => {
            if event == NetEvent::Closed {
                end(fx);
            }
            heard.push(event);
        }
        Input::Disk(..) => {}
    });
    let handle = driver.handle();
    while !peer.is_finished() {
        driver.turn(Some(Duration::from_millis(10))).unwrap();
    }
    for _ in 0..2 {
        handle.input(Input::Signal(ONE, Signal::Usr1));
        driver.turn(Some(Duration::from_millis(10))).unwrap();
    }
    driver.run().unwrap();
    drop(driver);
    let data = |bytes: &'static [u8]| NetEvent::Data(Bytes::from_static(bytes));
    let all = [
        NetEvent::Connected,
        data(b"ab"),
        data(b"c"),
        NetEvent::Closed,
    ];
    assert_eq!(heard, all);
}

/// A descriptor belongs to its process. When the process ends, the descriptor is closed.
#[test]
fn descriptors_are_closed_with_their_process() {
    let mut outcomes = Vec::new();
    let open = DiskOp::Open {
        path: "file".into(),
        flags: OpenFlags::CreateNew,
    };
    let read = |fd| DiskOp::Read {
        fd,
        offset: 0,
        len: 1,
    };
    let (mut driver, _dir) = driver("descriptors", |input, fx| match input {
        Input::Run(_) => fx.push(Effect::Disk(op(1), open.clone())),
        Input::Disk(id, outcome) => {
            match id.n {
                1 => {
                    fx.push(Effect::Disk(op(2), read(Fd(3))));
                    fx.push(Effect::Exit(Exit::Killed));
                    fx.push(Effect::Disk(op(3), read(Fd(3))));
                }
                3 => end(fx),
                _ => {}
            }
            outcomes.push(outcome);
        }
        Input::Net(..) | Input::Signal(..) => {}
    });
    driver.run().unwrap();
    drop(driver);
    let expected = [
        Ok(DiskDone::Opened(Fd(3))),
        Ok(DiskDone::Data(Bytes::new())),
        Err(DiskError::BadFd),
    ];
    assert_eq!(outcomes, expected);
}

/// A sleeping process is woken at its timeout, and not before.
#[test]
fn sleep_ends_on_time() {
    let (mut driver, _dir) = driver("sleep", |input, fx| {
        if let Input::Run(_) = input {
            end(fx);
        }
    });
    let at = Mono(30_000);
    driver.machine.started = true;
    driver.machine.wakeup = Some(at);
    driver.run().unwrap();
    assert!(driver.clock.mono() >= at);
}
