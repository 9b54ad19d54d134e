//! Runs `walsim-live serve` as a child process, and a proxy that cuts connections.

#![allow(dead_code, reason = "no test needs all of it")]

use super::server::{as_postgres, wait_for};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running `walsim-live serve`.
pub(crate) struct Serve {
    child: Child,
    pub(crate) port: u16,
    out: PathBuf,
}

/// The command `walsim-live serve`.
pub(crate) fn serve(dir: &Path, args: &[&str]) -> Command {
    let mut command = as_postgres(env!("CARGO_BIN_EXE_walsim-live"));
    command.args(["serve", "--port", "0", "-D"]).arg(dir);
    command.args(args).stdin(Stdio::null());
    command
}

impl Serve {
    /// Starts a server on a free port, and waits until it accepts connections.
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        let out = dir.with_extension("out");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(dir.with_extension("log"));
        let mut command = serve(dir, args);
        command.stdout(fs::File::create(&out).expect("the folder is ours"));
        command.stderr(log.expect("the folder is ours"));
        let child = command.spawn().expect("it starts");
        let mut server = Self {
            child,
            port: 0,
            out,
        };
        wait_for("serve to be ready", || {
            let ended = server.child.try_wait().expect("our own child");
            assert!(ended.is_none(), "it ended with {ended:?}: {}", log_of(dir));
            let lock = fs::read_to_string(dir.join("postmaster.pid")).unwrap_or_default();
            // The lock file of an earlier server that crashed is ignored.
            let lines: Vec<&str> = lock.lines().map(str::trim).collect();
            let ours = server.child.id().to_string();
            lines.first() == Some(&&*ours) && lines.get(7) == Some(&"ready")
        });
        let printed = server.printed();
        let (_, port) = printed.trim().rsplit_once(':').expect("it says where");
        server.port = port.parse().expect("a port");
        server
    }

    /// The process id of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.out).expect("it was made at the start")
    }

    /// Sends a signal to the server, and waits until the server has ended.
    pub(crate) fn stop(mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        let mut status = None;
        wait_for("serve to end", || {
            status = self.child.try_wait().expect("our own child");
            status.is_some()
        });
        status.expect("just waited for")
    }

    pub(crate) fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        let sent = kill
            .args(["-s", signal, &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill starts").success());
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server log of a data directory.
pub(crate) fn log_of(dir: &Path) -> String {
    fs::read_to_string(dir.with_extension("log")).unwrap_or_default()
}

/// Forwards connections to a server. Cuts the first connections after some bytes from the server.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// The number of connections that were cut. `inside` says how many of them were cut inside a
    /// message.
    pub(crate) cuts: Arc<AtomicU64>,
    pub(crate) inside: Arc<AtomicU64>,
}

impl Proxy {
    /// Starts a proxy for the server on this port. For each connection to cut, `after` contains the
    /// number of bytes before the cut.
    pub(crate) fn start(server: u16, after: Vec<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let port = listener.local_addr().expect("it is bound").port();
        let proxy = Self {
            port,
            cuts: Arc::default(),
            inside: Arc::default(),
        };
        let (cuts, inside) = (Arc::clone(&proxy.cuts), Arc::clone(&proxy.inside));
        let after = Mutex::new(after.into_iter());
        // The thread only waits for connections, so it may run until the process ends.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                let budget = after.lock().expect("one thread").next();
                let back = (clone(&client), clone(&upstream));
                thread::spawn(move || copy(back.0, back.1));
                let (cuts, inside) = (Arc::clone(&cuts), Arc::clone(&inside));
                thread::spawn(move || match budget {
                    None => copy(upstream, client),
                    Some(budget) => {
                        if let Some(in_message) = copy_some(upstream, client, budget) {
                            inside.fetch_add(u64::from(in_message), Ordering::SeqCst);
                            cuts.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
        proxy
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream
        .try_clone()
        .expect("a socket has more descriptors than one")
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Copies this number of bytes from the server, and then cuts the connection. Returns whether the
/// cut was inside a message. Returns `None` if the connection ended before the cut.
fn copy_some(mut from: TcpStream, mut to: TcpStream, mut budget: u64) -> Option<bool> {
    let mut messages = Messages::default();
    let mut buffer = vec![0; 64 * 1024];
    while budget > 0 {
        let most = buffer
            .len()
            .min(usize::try_from(budget).unwrap_or(usize::MAX));
        let got = from.read(&mut buffer[..most]).ok().filter(|n| *n > 0)?;
        to.write_all(&buffer[..got]).ok()?;
        messages.pass(&buffer[..got]);
        budget -= got as u64;
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
    Some(messages.inside())
}

/// A position in a stream of messages.
#[derive(Default)]
struct Messages {
    header: Vec<u8>,
    /// The first message has arrived. Before the first message, a single `N` answers an SSLRequest.
    greeted: bool,
    /// Number of bytes left of the current message.
    left: usize,
}

impl Messages {
    fn pass(&mut self, mut bytes: &[u8]) {
        while let Some(first) = bytes.first() {
            if self.left > 0 {
                let now = self.left.min(bytes.len());
                self.left -= now;
                bytes = &bytes[now..];
                continue;
            }
            self.header.push(*first);
            bytes = &bytes[1..];
            if !self.greeted && self.header == *b"N" {
                self.header.clear();
            } else if let [_, a, b, c, d] = self.header[..] {
                self.left = u32::from_be_bytes([a, b, c, d]) as usize - 4;
                self.greeted = true;
                self.header.clear();
            }
        }
    }

    fn inside(&self) -> bool {
        self.left > 0 || !self.header.is_empty()
    }
}
