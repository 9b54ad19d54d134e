//! Replication commands. Mirrors PostgresMain, exec_replication_command, IdentifySystem and the
//! start of StartReplication.

use super::slot::SlotCommand;
use super::stream::Stream;
use super::{Phase, WalSender};
use crate::base::{Bug, Lsn, TimelineId};
use crate::call::{Exit, LogEvent, Message, Place, Poll, SqlState, Wait, Yield};
use crate::replication::logical::{create_logical_slot, start_logical_replication};
use crate::replication::slot::acquire::ReplicationSlotAcquire;
use crate::replication::slot::my_slot;
use crate::shmem::WalSndState;
use crate::sys::Cx;
use crate::wire::backend::{BackendMessage, TxStatus};
use crate::wire::command::{Command, SystemIdentity, encode_shown};
use crate::wire::frame::FrameError;
use crate::wire::frontend::{FrontendMessage, command_limit};
use crate::wire::replication::{Keepalive, WalMessage};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

impl WalSender {
    /// Reads one message and executes it.
    pub(super) fn command(&mut self, cx: &mut Cx<'_>) -> Yield {
        // `Assert(!MyReplicationSlot)` of the commands that use a slot
        assert_eq!(cx.sys.my_slot, None, "no command is running");
        assert_eq!(self.segment, None, "nothing is streamed");
        cx.reset_latch();
        if let Some(end) = self.interrupted(cx) {
            return end;
        }
        if let Some(wait) = self.blocked(cx, Place::SecureWrite) {
            return wait;
        }
        loop {
            match self.frames.next(command_limit) {
                Ok(Some(frame)) => {
                    return match FrontendMessage::decode(frame) {
                        Ok(message) => self.obey(cx, message),
                        Err(e) => self.error(cx, violation(SqlState(e.sqlstate()), e.to_string())),
                    };
                }
                Ok(None) => {}
                Err(e @ FrameError::FrontendType(_)) => {
                    let message = Message::Protocol(e.to_string());
                    let event = LogEvent::fatal(SqlState::PROTOCOL_VIOLATION, message);
                    return self.fatal(cx, event);
                }
                Err(
                    e @ (FrameError::Length { .. }
                    | FrameError::StandbyType(_)
                    | FrameError::BackendType(_)
                    | FrameError::StartupLength(_)),
                ) => {
                    let message = Message::Protocol(e.to_string());
                    return self.hang_up(cx, SqlState(e.sqlstate()), message);
                }
            }
            match cx.receive(self.conn) {
                Some(bytes) => self.frames.push(bytes),
                None if cx.conn_end(self.conn).is_some() => return self.exit(cx, Exit::Normal),
                None => {
                    return Yield::Wait(Wait {
                        latch: true,
                        readable: Some(self.conn),
                        ..Wait::at(Place::SecureRead)
                    });
                }
            }
        }
    }

    fn obey(&mut self, cx: &mut Cx<'_>, message: FrontendMessage) -> Yield {
        let ready = self.ready_for_query();
        let next = Yield::Again(Place::PostgresMain);
        match message {
            FrontendMessage::Terminate => return self.exit(cx, Exit::Normal),
            FrontendMessage::Sync => {
                self.ignore_till_sync = false;
                self.send(cx, &[ready]);
            }
            // Messages that are left over from a COPY are ignored.
            FrontendMessage::Flush
            | FrontendMessage::CopyData(_)
            | FrontendMessage::CopyDone
            | FrontendMessage::CopyFail(_) => {}
            FrontendMessage::Query(_)
            | FrontendMessage::Password(_)
            | FrontendMessage::Extended { .. }
            | FrontendMessage::FunctionCall(_)
                if self.ignore_till_sync => {}
            FrontendMessage::Query(text) => return self.query(cx, &text),
            FrontendMessage::Extended { .. } => {
                self.ignore_till_sync = true;
                let text = "extended query protocol not supported in a replication connection";
                return self.error(cx, violation(SqlState::PROTOCOL_VIOLATION, text));
            }
            FrontendMessage::FunctionCall(_) | FrontendMessage::Password(_) => {
                let text = "fastpath function calls not supported in a replication connection";
                return self.error(cx, violation(SqlState::PROTOCOL_VIOLATION, text));
            }
        }
        next
    }

    /// `exec_replication_command`
    fn query(&mut self, cx: &mut Cx<'_>, text: &str) -> Yield {
        if self.got_stopping {
            self.entry(cx).state = WalSndState::Stopping;
        }
        // After the shutdown checkpoint no WAL may be written. Commands are refused, because some
        // of them write WAL.
        if self.entry(cx).state == WalSndState::Stopping {
            let event = LogEvent::error(SqlState::NOT_IN_STATE, Message::SenderStopping);
            return self.error(cx, event);
        }
        assert_eq!(self.entry(cx).state, WalSndState::Startup);
        let parsed = Command::parse(text, cx.shmem.settings.pg_version);
        self.send_truncation_notices(cx, &parsed.truncations);
        let command = match parsed.command {
            Ok(Some(command)) => command,
            Ok(None) => return self.begin_sql(cx, text),
            Err(e) => return self.error(cx, violation(SqlState(e.sqlstate()), e.to_string())),
        };
        if let Err(event) = self.may_run(cx, &command) {
            return self.error(cx, event);
        }
        match command {
            Command::IdentifySystem => self.identify_system(cx),
            Command::StartReplication {
                slot,
                start,
                timeline,
            } => self.start_replication(cx, slot, start, timeline),
            Command::CreateSlot {
                name,
                temporary,
                reserve_wal,
            } => self.begin_slot(cx, SlotCommand::create(name, temporary, reserve_wal)),
            Command::CreateLogicalSlot => {
                let event = create_logical_slot(cx, self.attached.is_some());
                self.error(cx, event)
            }
            Command::StartLogicalReplication { slot } => {
                let event = start_logical_replication(cx, self.attached.is_some(), &slot);
                self.fail(cx, event)
            }
            Command::BaseBackup => self.not_supported(cx, "BASE_BACKUP"),
            Command::UploadManifest => self.not_supported(cx, "UPLOAD_MANIFEST"),
            Command::AlterSlot { name } => self.alter_slot(cx, name),
            Command::DropSlot { name, wait } => self.begin_slot(cx, SlotCommand::drop(name, wait)),
            Command::ReadSlot { name } => self.read_slot(cx, &name),
            Command::TimelineHistory(tli) => self.begin_history(cx, tli),
            Command::Show { name } => self.show(cx, &name),
        }
    }

    /// The checks of exec_replication_command before it executes a command.
    fn may_run(&self, cx: &Cx<'_>, command: &Command) -> Result<(), LogEvent> {
        if self.tx_status() == TxStatus::Failed {
            let code = SqlState::IN_FAILED_TRANSACTION;
            return Err(LogEvent::error(code, Message::TransactionAborted));
        }
        match command {
            Command::StartReplication { .. } | Command::StartLogicalReplication { .. } => {
                self.prevent_in_block("START_REPLICATION")?;
            }
            Command::BaseBackup => self.prevent_in_block("BASE_BACKUP")?,
            Command::UploadManifest => self.prevent_in_block("UPLOAD_MANIFEST")?,
            Command::TimelineHistory(_) => self.prevent_in_block("TIMELINE_HISTORY")?,
            Command::IdentifySystem
            | Command::CreateSlot { .. }
            | Command::CreateLogicalSlot
            | Command::AlterSlot { .. }
            | Command::DropSlot { .. }
            | Command::ReadSlot { .. }
            | Command::Show { .. } => {}
        }
        if cx.kernel.walsenders_only && command.needs_slots() {
            return Err(LogEvent::error(
                SqlState::NOT_IN_STATE,
                Message::NoSlotsHere,
            ));
        }
        Ok(())
    }

    /// The error for a command that PostgreSQL supports and walsim does not.
    fn not_supported(&mut self, cx: &mut Cx<'_>, command: &'static str) -> Yield {
        let hint = "To copy the cluster, shut the server down and copy its data directory.";
        let message = Message::NotSupported { command, hint };
        self.error(
            cx,
            LogEvent::error(SqlState::FEATURE_NOT_SUPPORTED, message),
        )
    }

    /// `IdentifySystem`
    fn identify_system(&self, cx: &mut Cx<'_>) -> Yield {
        let (xlogpos, timeline) = flush_position(cx);
        let identity = SystemIdentity {
            system_id: cx.shmem.control.system_identifier,
            timeline,
            xlogpos,
            dbname: self.attached.as_ref().map(|to| to.database.clone()),
        };
        let mut out = Vec::new();
        identity.encode(cx.shmem.settings.pg_version, &mut out);
        self.ready_for_query().encode(&mut out);
        cx.send(self.conn, [Bytes::from(out), Bytes::new()]);
        Yield::Again(Place::IdentifySystem)
    }

    /// `GetPGVariable`: returns the value of any setting. The name is not case-sensitive.
    fn show(&mut self, cx: &mut Cx<'_>, name: &str) -> Yield {
        // A physical walsender has no database and therefore reports SQL_ASCII, unless the client
        // requested a client_encoding.
        let encoding = ["client_encoding", "server_encoding"];
        let encoding = encoding.iter().find(|own| own.eq_ignore_ascii_case(name));
        let shown = match encoding {
            Some(own) if self.attached.is_none() && !self.settings.has(own) => {
                Some((*own, "SQL_ASCII".to_string()))
            }
            Some(_) | None => {
                let own = self.settings().show(&cx.shmem.settings, name);
                own.or_else(|| cx.shmem.show(name))
            }
        };
        let Some((own, value)) = shown else {
            let message = Message::UnknownParameter(name.to_string());
            return self.error(cx, LogEvent::error(SqlState::UNDEFINED_OBJECT, message));
        };
        let mut out = Vec::new();
        encode_shown(own, value, &mut out);
        self.answer(cx, out)
    }

    /// `StartReplication`, up to the CopyBothResponse.
    fn start_replication(
        &mut self,
        cx: &mut Cx<'_>,
        slot: Option<String>,
        start: Lsn,
        timeline: Option<TimelineId>,
    ) -> Yield {
        match slot {
            None => self.start_copy(cx, start, timeline),
            Some(name) => {
                let acquire = ReplicationSlotAcquire::to_stream(name);
                self.phase = Phase::Acquiring {
                    acquire,
                    start,
                    timeline,
                };
                self.acquire_slot(cx)
            }
        }
    }

    /// `StartReplication`: acquires the slot, which stays acquired until the end of the COPY. The
    /// slot's restart_lsn is not compared with the requested start.
    pub(super) fn acquire_slot(&mut self, cx: &mut Cx<'_>) -> Yield {
        let Phase::Acquiring {
            acquire,
            start,
            timeline,
        } = &mut self.phase
        else {
            unreachable!("only called while a slot is acquired")
        };
        let (start, timeline) = (*start, *timeline);
        match acquire.poll(cx) {
            Poll::Yield(how) => return how,
            Poll::Ready(Err(event)) => return self.fail(cx, event),
            Poll::Ready(Ok(())) => {}
        }
        // The requested start is not a flush position of the standby, so it must not move the slot.
        if my_slot(cx).restart_lsn != start && cx.planted(Bug::StartReplicationMovesSlot) {
            let slot = my_slot(cx);
            slot.restart_lsn = start;
            slot.mark_dirty();
        }
        self.start_copy(cx, start, timeline)
    }

    fn start_copy(&mut self, cx: &mut Cx<'_>, start: Lsn, timeline: Option<TimelineId>) -> Yield {
        let (flush, tli) = flush_position(cx);
        if let Some(asked) = timeline.filter(|asked| *asked != tli) {
            let message = Message::TimelineNotInHistory(asked);
            return self.error(cx, LogEvent::error(SqlState::INTERNAL, message));
        }
        assert_eq!(self.tx_status(), TxStatus::Idle, "in a transaction block");
        assert_eq!(self.entry(cx).state, WalSndState::Startup);
        self.entry(cx).state = WalSndState::Catchup;
        if cx.planted(Bug::CopyDataBeforeCopyBoth) {
            let keepalive = WalMessage::Keepalive(Keepalive {
                wal_end: flush,
                send_time: cx.now.wall,
                reply_requested: false,
            });
            cx.send(self.conn, [keepalive.to_frame(), Bytes::new()]);
        }
        self.send(cx, &[BackendMessage::copy_both()]);
        self.phase = Phase::Starting { start, tli, flush };
        Yield::Again(Place::StartReplication)
    }

    /// `StartReplication` after the CopyBothResponse. As in PostgreSQL, the requested start is
    /// compared with the flush position only now. If the start is too high, the client sees the
    /// COPY begin and then fail.
    pub(super) fn begin_streaming(
        &mut self,
        cx: &mut Cx<'_>,
        start: Lsn,
        tli: TimelineId,
        flush: Lsn,
    ) -> Yield {
        cx.reset_latch();
        if let Some(end) = self.interrupted(cx) {
            return end;
        }
        if let Some(wait) = self.blocked(cx, Place::StartReplication) {
            return wait;
        }
        // On a standby the position can be that of an earlier walreceiver.
        let shmem = &cx.shmem;
        assert!(shmem.recovery_in_progress() || flush <= shmem.xlog.flush);
        if flush < start && !cx.planted(Bug::StartAheadOfFlushAccepted) {
            let (start, flush) = (cx.text(start), cx.text(flush));
            let message = Message::AheadOfFlush { start, flush };
            return self.error(cx, LogEvent::error(SqlState::INTERNAL, message));
        }
        let entry = self.entry(cx);
        assert_eq!(entry.state, WalSndState::Catchup);
        entry.sent = start;
        self.phase = Phase::Streaming(Stream::new(tli, start, cx.now.wall));
        Yield::Again(Place::WalSndLoop)
    }
}

/// The position up to which WAL can be sent, and its timeline. Mirrors `GetFlushRecPtr`, and in
/// recovery `GetStandbyFlushRecPtr`.
pub(super) fn flush_position(cx: &Cx<'_>) -> (Lsn, TimelineId) {
    let shmem = &cx.shmem;
    if !shmem.recovery_in_progress() {
        return (shmem.xlog.flush, shmem.xlog.insert_tli);
    }
    let (replayed, tli) = (
        shmem.recovery.last_replayed_end,
        shmem.recovery.last_replayed_tli,
    );
    // Received WAL of the replayed timeline can be sent before it is replayed.
    if shmem.walrcv.received_tli == tli {
        (replayed.max(shmem.walrcv.flushed_upto), tli)
    } else {
        (replayed, tli)
    }
}

fn violation(sqlstate: SqlState, text: impl Into<String>) -> LogEvent {
    LogEvent::error(sqlstate, Message::Protocol(text.into()))
}
