//! One socket, and the system calls on it.

use bytes::Bytes;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// The largest number of pieces that one call writes.
const PIECES: usize = 16;

/// A TCP or Unix stream.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The result of a read.
pub(super) enum Got {
    Data(Bytes),
    /// No data yet.
    Nothing,
    /// The peer has closed its sending side.
    End,
    Broken,
}

impl Socket {
    /// Starts to connect to an address.
    pub(super) fn connect(addr: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(addr).map(Self::Tcp)
    }

    /// Connects to a server's Unix socket in a directory. The name of the socket contains the port.
    pub(super) fn connect_in(dir: &str, port: u16) -> io::Result<Self> {
        let path = Path::new(dir).join(format!(".s.PGSQL.{port}"));
        UnixStream::connect(path).map(Self::Unix)
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.source().register(registry, token, both)
    }

    pub(super) fn deregister(&mut self, registry: &Registry) {
        // An error does not matter, because the socket is closed next. Closing a socket also
        // removes it from the registry.
        let _ = self.source().deregister(registry);
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }

    /// Whether the connection is established. Returns an error if the attempt has failed.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        rustix::net::sockopt::socket_error(self.fd())??;
        let peer = match self {
            Self::Tcp(stream) => stream.peer_addr().map(|_| ()),
            Self::Unix(stream) => stream.peer_addr().map(|_| ()),
        };
        match peer {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Sends data without delay, as PostgreSQL does.
    pub(super) fn set_nodelay(&self) {
        if let Self::Tcp(stream) = self {
            // An error does not matter. If the connection is gone, the next read reports this.
            let _ = stream.set_nodelay(true);
        }
    }

    /// Reads up to `most` bytes.
    pub(super) fn read(&self, most: usize) -> Got {
        let mut buffer = Vec::with_capacity(most);
        loop {
            return match rustix::io::read(self.fd(), spare_capacity(&mut buffer)) {
                Ok(0) => Got::End,
                // A few bytes are copied. A slice would keep the whole buffer in memory.
                Ok(n) if n < most / 4 => Got::Data(Bytes::copy_from_slice(&buffer)),
                Ok(_) => {
                    buffer.shrink_to_fit();
                    Got::Data(Bytes::from(buffer))
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Got::Nothing,
                Err(_) => Got::Broken,
            };
        }
    }

    /// Checks for the end of the stream without consuming data.
    pub(super) fn peek(&self) -> Got {
        let mut byte = [0];
        match rustix::net::recv(self.fd(), &mut byte, RecvFlags::PEEK) {
            Ok((0, _)) => Got::End,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Got::Nothing,
            Err(_) => Got::Broken,
        }
    }

    /// Writes as much of the queue as the kernel accepts. Returns how many bytes were written, and
    /// whether the kernel would accept more.
    pub(super) fn write(&self, queue: &mut VecDeque<Bytes>) -> Result<(usize, bool), Errno> {
        let mut total = 0;
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES];
            let mut offered = 0;
            for (slice, piece) in slices.iter_mut().zip(queue.iter()) {
                *slice = IoSlice::new(piece);
                offered += piece.len();
            }
            let count = queue.len().min(PIECES);
            let written = match slices[..count] {
                [ref one] => rustix::net::send(self.fd(), one, SendFlags::NOSIGNAL),
                ref several => rustix::io::writev(self.fd(), several),
            };
            let written = match written {
                Ok(n) => n,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok((total, false)),
                Err(error) => return Err(error),
            };
            total += written;
            take(queue, written);
            if written < offered {
                return Ok((total, false));
            }
        }
        Ok((total, true))
    }

    /// Closes the sending side.
    pub(super) fn finish(&self) {
        let _ = rustix::net::shutdown(self.fd(), Shutdown::Write);
    }
}

/// Removes this number of bytes from the front of the queue.
fn take(queue: &mut VecDeque<Bytes>, mut bytes: usize) {
    while let Some(piece) = queue.front_mut() {
        if bytes < piece.len() {
            let _ = piece.split_to(bytes);
            return;
        }
        bytes -= piece.len();
        queue.pop_front();
    }
}
