//! SQL in a walsender that is attached to a database. As in PostgresMain, a command that
//! exec_replication_command does not recognize is executed by exec_simple_query.

use super::{Phase, Then, WalSender};
use crate::base::SessionSettings;
use crate::call::{Exit, LogEvent, Message, Place, Poll, Signal, SqlState, Yield};
use crate::replication::slot::drop::ReplicationSlotCleanup;
use crate::sys::Cx;
use crate::wire::backend::{BackendMessage, TxStatus};
use bytes::Bytes;

impl WalSender {
    /// The transaction status in ReadyForQuery. A physical walsender has no transactions.
    pub(super) fn tx_status(&self) -> TxStatus {
        let attached = self.attached.as_ref();
        attached.map_or(TxStatus::Idle, |attached| attached.session.tx_status())
    }

    pub(super) fn ready_for_query(&self) -> BackendMessage {
        BackendMessage::ReadyForQuery(self.tx_status())
    }

    /// The settings that this session has changed.
    pub(super) fn settings(&self) -> &SessionSettings {
        let attached = self.attached.as_ref();
        attached.map_or(&self.settings, |attached| attached.session.settings())
    }

    /// `PreventInTransactionBlock`
    pub(super) fn prevent_in_block(&self, command: &'static str) -> Result<(), LogEvent> {
        if self.tx_status() == TxStatus::Idle {
            return Ok(());
        }
        let message = Message::InTransactionBlock(command);
        Err(LogEvent::error(SqlState::ACTIVE_TRANSACTION, message))
    }

    /// `exec_simple_query`
    pub(super) fn begin_sql(&mut self, cx: &mut Cx<'_>, text: &str) -> Yield {
        let Some(attached) = &mut self.attached else {
            let code = SqlState::FEATURE_NOT_SUPPORTED;
            return self.error(cx, LogEvent::error(code, Message::SqlOnWalSender));
        };
        assert!(attached.session.is_idle(), "a command is running");
        match attached.session.start(cx, text) {
            Err(event) => self.fail_sql(cx, event),
            Ok(()) if attached.session.is_idle() => self.end_sql(cx),
            Ok(()) => {
                self.phase = Phase::Query;
                Yield::Again(Place::PostgresMain)
            }
        }
    }

    pub(super) fn sql(&mut self, cx: &mut Cx<'_>) -> Yield {
        let Some(attached) = &mut self.attached else {
            unreachable!("only called for an attached walsender")
        };
        let session = &mut attached.session;
        if session.is_executing() && cx.may_interrupt() && cx.take_signal(Signal::Term) {
            let event = LogEvent::fatal(SqlState::ADMIN_SHUTDOWN, Message::AdminShutdown);
            return self.fatal(cx, event);
        }
        match session.poll(cx) {
            Poll::Yield(how) => how,
            Poll::Ready(Ok(())) => self.end_sql(cx),
            Poll::Ready(Err(event)) => self.fail_sql(cx, event),
        }
    }

    /// The messages that the command has produced are sent before the command's error.
    fn fail_sql(&mut self, cx: &mut Cx<'_>, event: LogEvent) -> Yield {
        self.flush_sql(cx);
        self.fail(cx, event)
    }

    fn end_sql(&mut self, cx: &mut Cx<'_>) -> Yield {
        assert_eq!(cx.sys.my_slot, None, "the command has ended");
        assert_eq!(cx.sys.op, None, "a disk operation is under way");
        self.send_ready(cx);
        self.phase = Phase::Command;
        Yield::Again(Place::PostgresMain)
    }

    /// Sends the output of SQL and ReadyForQuery.
    pub(super) fn send_ready(&mut self, cx: &mut Cx<'_>) {
        match &mut self.attached {
            None => self.send(cx, &[self.ready_for_query()]),
            Some(attached) => {
                attached.session.ready(cx);
                self.flush_sql(cx);
            }
        }
    }

    fn flush_sql(&mut self, cx: &mut Cx<'_>) {
        if let Some(attached) = &mut self.attached {
            let out = core::mem::take(&mut attached.session.out);
            cx.send(self.conn, [Bytes::from(out), Bytes::new()]);
        }
    }

    /// See [`WalSender::abort_transaction`].
    pub(super) fn abort(&mut self, cx: &mut Cx<'_>) -> Yield {
        let (Phase::Abort(then), Some(attached)) = (&self.phase, &mut self.attached) else {
            unreachable!("only called while an attached walsender aborts")
        };
        match attached.session.poll(cx) {
            Poll::Yield(how) => how,
            Poll::Ready(Err(event)) => match then {
                Then::Exit(_) => Yield::Exit(Exit::Panic(event)),
                Then::Command => self.fail(cx, event),
            },
            Poll::Ready(Ok(())) => {
                self.phase = Phase::CleanUp(ReplicationSlotCleanup::new(), then.clone());
                self.clean_up(cx)
            }
        }
    }
}
