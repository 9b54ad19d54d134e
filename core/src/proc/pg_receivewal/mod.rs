//! The standalone receiver, which stores WAL for backups. Mirrors pg_receivewal.c with receivelog.c
//! and walmethods.c. Timers and status updates are the same code as in the walreceiver.
//!
//! The receiver reports WAL as flushed only if the WAL is durable in a file that the next start
//! finds. A segment file without the suffix `.partial` is complete. The receiver does not replay
//! WAL.

mod copy_stream;
mod history;
mod prepare;
mod start_point;
mod stop;
mod stream_error;
mod wal_file;
mod xlog_stream;

use crate::base::{Lsn, Mono, PgVersion};
use crate::call::{
    Exit, LogEvent, Message, Place, Poll, ReceiveMessage, Signal, SqlState, Wait, Yield,
};
use crate::ready_ok;
use crate::replication::libpqrcv::{ConnInfo, Connect, Link, Timers};
use crate::sys::Cx;
use crate::wire::frontend::FrontendMessage;
use alloc::string::String;
use bytes::Bytes;
use prepare::{Prepare, check_version};
use stop::Stop;
use stream_error::{StreamError, error};
use wal_file::CloseWalFile;
use xlog_stream::{End, ReceiveXlogStream};

/// `RECONNECT_SLEEP_TIME`
const RECONNECT_S: u32 = 5;

/// The options of the receiver.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PgReceivewalOptions {
    /// The connection to the server.
    pub conninfo: ConnInfo,
    /// `--slot`
    pub slot: Option<String>,
    /// `--create-slot`: create the slot first.
    pub create_slot: bool,
    /// `--if-not-exists`: a slot that already exists is not an error.
    pub slot_exists_ok: bool,
    /// `--synchronous`: fsync and report after each write.
    pub synchronous: bool,
    /// `--no-loop`: do not reconnect after the end of a stream.
    pub no_loop: bool,
    /// `--endpos`. Invalid if the option is not given.
    pub endpos: Lsn,
}

/// The receiver process.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PgReceivewal {
    options: PgReceivewalOptions,
    link: Link,
    stop: Stop,
    /// Whether a connection has reached the start of streaming at least once.
    prepared: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Begin,
    Connect(Connect),
    Prepare(Prepare),
    Stream(ReceiveXlogStream),
    /// Closes the open file. The second field is the reason why the stream ended.
    Close(CloseWalFile, Result<End, StreamError>),
    Sleep {
        until: Mono,
    },
}

impl PgReceivewal {
    /// A newly started receiver.
    #[must_use]
    pub fn new(options: PgReceivewalOptions) -> Self {
        let stop = Stop::new(options.endpos);
        Self {
            options,
            link: Link::default(),
            stop,
            prepared: false,
            phase: Phase::Begin,
        }
    }

    /// The write position and the flush position, for progress reports.
    #[must_use]
    pub const fn received(&self) -> (Lsn, Lsn) {
        (self.link.write, self.link.flush)
    }

    /// Runs until it would block.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        loop {
            let end = match self.run(cx) {
                Poll::Yield(how) => return how,
                Poll::Ready(end) => end,
            };
            if let Some(exit) = self.after(cx, end) {
                return Yield::Exit(exit);
            }
        }
    }

    /// Runs one connection, to the end of its stream.
    fn run(&mut self, cx: &mut Cx<'_>) -> Poll<Result<End, StreamError>> {
        let Self {
            options,
            link,
            stop,
            prepared,
            phase,
        } = self;
        loop {
            match phase {
                Phase::Begin => {
                    assert_eq!(cx.sys.wal_file, None, "the file is closed");
                    assert_eq!(link.conn, None, "the connection is closed");
                    *link = Link::default();
                    link.timers = Timers::new(PgVersion::V18);
                    // A receiver that reports flush positions can become a synchronous standby if
                    // its application_name matches by accident. This receiver therefore reports
                    // flush positions only with --synchronous or with a slot. A slot advances only
                    // if flush positions are reported.
                    link.hides_flush = options.slot.is_none() && !options.synchronous;
                    *phase = Phase::Connect(Connect::new(Some(options.conninfo.clone())));
                }
                Phase::Connect(connect) => {
                    let failing = |failure| StreamError::unconnected(&options.conninfo, failure);
                    let version = connect.poll(cx, link).map(|done| done.map_err(failing));
                    let version = match version {
                        Poll::Ready(Err(error)) if !*prepared => Err(error.in_vain()),
                        Poll::Ready(done) => done,
                        Poll::Yield(how) => return Poll::Yield(how),
                    };
                    if let Err(error) = version.and_then(|v| check_version(&v)) {
                        return Poll::Ready(Err(error));
                    }
                    assert!(link.conn.is_some(), "{} is connected", cx.me);
                    *phase = Phase::Prepare(Prepare::new(!*prepared));
                }
                Phase::Prepare(prepare) => {
                    let start = ready_ok!(prepare.poll(cx, link, options));
                    *prepared = true;
                    let slot = options.slot.clone();
                    let stream = ReceiveXlogStream::new(start, slot, options.synchronous);
                    *phase = Phase::Stream(stream);
                }
                Phase::Stream(stream) => {
                    let end = match stream.poll(cx, link, stop) {
                        Poll::Yield(how) => return Poll::Yield(how),
                        Poll::Ready(end) => end,
                    };
                    *phase = Phase::Close(CloseWalFile::giving_up(), end);
                }
                Phase::Close(close, end) => {
                    ready_ok!(close.poll(cx, link));
                    assert_eq!(cx.sys.wal_file, None, "the file is closed");
                    return Poll::Ready(end.clone());
                }
                Phase::Sleep { until } => {
                    cx.reset_latch();
                    if cx.take_signal(Signal::Term) {
                        return Poll::Ready(Err(StreamError::Stopped));
                    }
                    if cx.now.mono < *until {
                        let wait = Wait::latch(Some(*until), Place::PgUsleep);
                        return Poll::Yield(Yield::Wait(wait));
                    }
                    *phase = Phase::Begin;
                }
            }
        }
    }

    /// Called when a connection has ended. Exits, or connects again after a pause. Mirrors
    /// `PQfinish` and the end of main.
    fn after(&mut self, cx: &mut Cx<'_>, end: Result<End, StreamError>) -> Option<Exit> {
        if let Some(conn) = self.link.conn.take() {
            let terminate = FrontendMessage::Terminate.to_bytes();
            cx.send(conn, [terminate, Bytes::new()]);
            cx.disconnect(conn);
        }
        let error = match end {
            Ok(End::Stopped) | Err(StreamError::Stopped) => return Some(Exit::Normal),
            Err(StreamError::Fatal(event)) => return Some(Exit::Fatal(event)),
            // The server has shut down and all of its WAL was received. The receiver exits, unless
            // --endpos requires more WAL.
            Ok(End::Shutdown) if self.options.no_loop && !self.options.endpos.is_valid() => {
                return Some(Exit::Normal);
            }
            Ok(End::Shutdown) => error(ReceiveMessage::BeforeStop),
            Err(StreamError::Lost(event)) => event,
        };
        cx.log(error);
        if self.stop.is_asked() {
            return Some(Exit::Normal);
        }
        if self.options.no_loop {
            let message = Message::Receive(ReceiveMessage::Disconnected);
            let event = LogEvent::fatal(SqlState::CONNECTION_FAILURE, message);
            return Some(Exit::Fatal(event));
        }
        cx.log(LogEvent::receive(ReceiveMessage::TryingAgain(RECONNECT_S)));
        let until = cx.now.mono.after_ms(u64::from(RECONNECT_S) * 1000);
        self.phase = Phase::Sleep { until };
        None
    }
}
