//! Handles the startup packet of a new connection. Mirrors BackendInitialize and
//! ProcessStartupPacket, the limits on connections in InitProcess, and the first messages of
//! PostgresMain. Clients are not authenticated.
//!
//! Bytes that arrive after the startup packet are passed on to the backend or walsender that this
//! process becomes. There is one database, `postgres`, with encoding UTF8.

mod banner;

use crate::base::{ConnId, Mark, Mono, SessionSettings, SettingError};
use crate::call::{Exit, LogEvent, Message, Place, Severity, Signal, SqlState, Wait, Yield};
use crate::shmem::Role;
use crate::sys::{Become, Cx};
use crate::wire::backend::BackendMessage;
use crate::wire::frame::FrameReader;
use crate::wire::startup::{
    Negotiation, OptionError, ReplicationMode, SessionRequest, StartupError, StartupMessage,
    StartupPacket, command_line,
};
use alloc::string::ToString;
use alloc::vec::Vec;
use bytes::Bytes;

/// The process of a new connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Accept {
    conn: ConnId,
    /// The error with which the new connection will be refused. `None` if it will be accepted.
    refusal: Option<LogEvent>,
    frames: FrameReader,
    negotiation: Negotiation,
    reading: bool,
    /// When the process stops waiting for the startup packet.
    until: Option<Mono>,
}

/// `authentication_timeout`
const AUTHENTICATION_TIMEOUT_MS: u64 = 60_000;

/// The only database.
const DATABASE: &str = "postgres";

impl Accept {
    /// Serves `conn`. `refusal` is the error to send if the server does not accept sessions now.
    #[must_use]
    pub fn new(conn: ConnId, refusal: Option<LogEvent>) -> Self {
        Self {
            conn,
            refusal,
            frames: FrameReader::default(),
            negotiation: Negotiation::default(),
            reading: false,
            until: None,
        }
    }

    /// Handles the bytes that have arrived.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        cx.reset_latch();
        if cx.take_signal(Signal::Term) {
            // process_startup_packet_die: no message.
            return self.close(cx, Exit::Normal);
        }
        let until = *self
            .until
            .get_or_insert(cx.now.mono.after_ms(AUTHENTICATION_TIMEOUT_MS));
        if until <= cx.now.mono {
            // StartupPacketTimeoutHandler: `_exit(1)`.
            return self.close(cx, Exit::Silent);
        }
        if !self.reading {
            self.reading = true;
            cx.start_reading(self.conn);
        }
        while let Some(bytes) = cx.receive(self.conn) {
            self.frames.push(bytes);
        }
        loop {
            let body = match self.frames.next_startup() {
                Ok(Some(body)) => body,
                Ok(None) if cx.conn_end(self.conn).is_some() => return self.end_of_stream(cx),
                Ok(None) => {
                    let readable = Some(self.conn);
                    let why = Place::ProcessStartupPacket;
                    return Yield::Wait(Wait {
                        latch: true,
                        readable,
                        until: self.until,
                        ..Wait::at(why)
                    });
                }
                Err(_) => return self.refuse(cx, &StartupError::Length, &[]),
            };
            match self.negotiation.decode(&body, cx.shmem.settings.pg_version) {
                Ok(StartupPacket::SslRequest) => {
                    if let Some(end) = self.decline(cx, "SSL") {
                        return end;
                    }
                }
                Ok(StartupPacket::GssEncRequest) => {
                    if let Some(end) = self.decline(cx, "GSSAPI encryption") {
                        return end;
                    }
                }
                // walsim does not support the cancellation of queries.
                Ok(StartupPacket::CancelRequest { .. }) => return self.close(cx, Exit::Normal),
                Ok(StartupPacket::Startup(message)) => return self.start(cx, &message),
                Err(error) => return self.refuse(cx, &error, &[]),
            }
        }
    }

    /// Answers that encryption is not supported. The client must wait for this answer, so bytes
    /// that have already arrived after the request are an error.
    fn decline(&self, cx: &mut Cx<'_>, kind: &'static str) -> Option<Yield> {
        cx.send(self.conn, [Bytes::from_static(b"N"), Bytes::new()]);
        let error = StartupError::Unencrypted(kind);
        (self.frames.buffered() > 0).then(|| self.refuse(cx, &error, &[]))
    }

    fn start(&mut self, cx: &mut Cx<'_>, message: &StartupMessage) -> Yield {
        let version = cx.shmem.settings.pg_version;
        let mut out = Vec::new();
        if let Some(notice) = message.negotiate(version) {
            notice.encode(&mut out);
        }
        let request = match message.resolve(version) {
            Ok(request) => request,
            Err(error @ StartupError::NoUser) => return self.refuse(cx, &error, &out),
            Err(error) => return self.refuse(cx, &error, &[]),
        };
        let refusal = self
            .refusal
            .take()
            .or_else(|| no_sessions(cx, &request))
            .or_else(|| too_many(cx, &request));
        if let Some(event) = refusal {
            return self.fatal(cx, out, event);
        }
        BackendMessage::AuthenticationOk.encode(&mut out);
        if let Some(event) = no_database(&request) {
            return self.fatal(cx, out, event);
        }
        let settings = match startup_settings(cx, &request) {
            Ok(settings) => settings,
            Err(event) => return self.fatal(cx, out, event.in_auxiliary_process()),
        };
        banner::encode(cx, &request, &settings, &mut out);
        // `InitProcess`: "you already exist"
        let entry = cx.shmem.procs.get(cx.me);
        assert!(entry.is_none_or(|it| !it.in_session), "{entry:?}");
        cx.send(self.conn, [Bytes::from(out), Bytes::new()]);
        cx.become_role(Become {
            role: role_of(&request),
            conn: self.conn,
            frames: core::mem::take(&mut self.frames),
            settings,
            database: request.database,
        });
        Yield::Again(Place::InitPostgres)
    }

    fn fatal(&self, cx: &mut Cx<'_>, mut out: Vec<u8>, event: LogEvent) -> Yield {
        assert_eq!(event.severity, Severity::Fatal, "{event:?}");
        event.to_client().encode(&mut out);
        cx.send(self.conn, [Bytes::from(out), Bytes::new()]);
        self.close(cx, Exit::Fatal(event))
    }

    fn end_of_stream(&self, cx: &mut Cx<'_>) -> Yield {
        // A client such as a port scanner closes the connection without sending anything.
        // PostgreSQL logs nothing for such a connection.
        if self.frames.buffered() > 0 {
            let message = Message::Protocol("incomplete startup packet".to_string());
            cx.log(LogEvent {
                sqlstate: SqlState::PROTOCOL_VIOLATION,
                ..LogEvent::log(message)
            });
        }
        self.close(cx, Exit::Normal)
    }

    /// Refuses the connection with `error`. `before` holds messages to send before the error.
    fn refuse(&self, cx: &mut Cx<'_>, error: &StartupError, before: &[u8]) -> Yield {
        let sqlstate = SqlState(error.sqlstate());
        let message = Message::Protocol(error.to_string());
        if !error.reaches_client() {
            cx.log(LogEvent {
                sqlstate,
                ..LogEvent::log(message)
            });
            return self.close(cx, Exit::Normal);
        }
        let event = LogEvent::fatal(sqlstate, message);
        let mut response = event.to_client();
        if let BackendMessage::ErrorResponse(fields) = &mut response {
            fields.detail = error.detail().map(ToString::to_string);
            fields.hint = error.hint().map(ToString::to_string);
        }
        let response = error.old_form().unwrap_or_else(|| response.to_bytes());
        cx.send(self.conn, [Bytes::copy_from_slice(before), response]);
        self.close(cx, Exit::Fatal(event))
    }

    fn close(&self, cx: &mut Cx<'_>, exit: Exit) -> Yield {
        cx.disconnect(self.conn);
        Yield::Exit(exit)
    }
}

/// The error for an ordinary session on a server that only sends WAL.
fn no_sessions(cx: &Cx<'_>, request: &SessionRequest) -> Option<LogEvent> {
    let refused = cx.kernel.walsenders_only && request.replication != ReplicationMode::Physical;
    let (code, message) = (SqlState::FEATURE_NOT_SUPPORTED, Message::WalSendersOnly);
    refused.then(|| LogEvent::fatal(code, message))
}

/// `InitPostgres`: the error for a database that does not exist.
fn no_database(request: &SessionRequest) -> Option<LogEvent> {
    let attached = request.replication != ReplicationMode::Physical;
    let missing = attached && request.database != DATABASE;
    let message = || Message::NoDatabase(request.database.clone());
    missing.then(|| LogEvent::fatal(SqlState::UNDEFINED_DATABASE, message()))
}

/// `process_startup_options`: applies the parameter `options` first, then the other parameters of
/// the packet.
fn startup_settings(cx: &Cx<'_>, request: &SessionRequest) -> Result<SessionSettings, LogEvent> {
    let mut settings = SessionSettings::default();
    let mut set = |name: &str, value: &str| match settings.set(&cx.shmem.settings, name, value) {
        // Settings of extensions are accepted and ignored (`valid_custom_variable_name`).
        Err(SettingError::Unknown(name)) if is_custom(&name) => Ok(()),
        outcome => outcome.map(|_| ()).map_err(LogEvent::setting),
    };
    set("session_authorization", &request.user)?;
    let options = request.options.as_deref().unwrap_or_default();
    let (switches, error) = command_line(options);
    for (name, value) in &switches {
        set(name, value)?;
    }
    if let Some(error) = error {
        let message = match error {
            OptionError::NoValue(written) => Message::OptionValue(written),
            OptionError::Invalid(word) => Message::CommandLine(word),
        };
        return Err(LogEvent::error(SqlState::SYNTAX_ERROR, message));
    }
    for (name, value) in &request.settings {
        set(name, value)?;
    }
    Ok(settings)
}

/// Is `name` a valid two-part name, as extensions use for their settings?
fn is_custom(name: &str) -> bool {
    let is_start = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let is_name = |part: &str| {
        let rest = |c: char| is_start(c) || c.is_ascii_digit() || c == '$';
        part.starts_with(is_start) && part.chars().all(rest)
    };
    name.contains('.') && name.split('.').all(is_name)
}

/// `InitProcess`: the error if the server has too many sessions or too many walsenders. Each of the
/// two has a limit of its own, checked before the client is authenticated.
fn too_many(cx: &mut Cx<'_>, request: &SessionRequest) -> Option<LogEvent> {
    let settings = &cx.shmem.settings;
    let full = |message| LogEvent::fatal(SqlState::TOO_MANY_CONNECTIONS, message);
    let sessions = |role| {
        let procs = cx.shmem.procs.iter();
        procs.filter(|p| p.in_session && p.role == role).count()
    };
    if role_of(request) == Role::Backend {
        let max = settings.max_connections as usize;
        return (sessions(Role::Backend) >= max).then(|| full(Message::TooManyClients));
    }
    let max = settings.max_wal_senders;
    let entries = cx
        .shmem
        .walsnd
        .iter()
        .filter(|entry| entry.pid.is_some())
        .count();
    let version = settings.pg_version;
    if sessions(Role::WalSender).max(entries) < max as usize {
        return None;
    }
    cx.mark(Mark::WalSendersFull);
    Some(full(Message::TooManySenders { max, version }))
}

/// The role that the process gets for this request.
const fn role_of(request: &SessionRequest) -> Role {
    match request.replication {
        ReplicationMode::Physical | ReplicationMode::Database => Role::WalSender,
        ReplicationMode::No => Role::Backend,
    }
}

#[cfg(test)]
mod tests;
