//! The streaming loop. Mirrors WalSndLoop, with the same order of steps.

use super::send::send_limit;
use super::timers::Timers;
use super::wal_read::WalRead;
use super::{Phase, WalSender};
use crate::base::{Bug, Lsn, Mark, TimelineId, TimestampTz};
use crate::call::{Exit, LogEvent, Message, Place, Poll, SqlState, Wait, Yield};
use crate::replication::slot::acquire::release;
use crate::replication::slot::required_lsn::ReplicationSlotsComputeRequiredLsn;
use crate::shmem::WalSndState;
use crate::sys::{ConnEnd, Cx};
use crate::wire::backend::BackendMessage;
use alloc::string::ToString;

/// The state of streaming after one START_REPLICATION.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Stream {
    /// `sendTimeLine`
    pub(super) tli: TimelineId,
    /// `sentPtr`: the end of the WAL that was sent. The standby can report a position beyond
    /// `sent`, because streaming starts at a segment boundary.
    pub(super) sent: Lsn,
    /// `WalSndCaughtUp`
    pub(super) caught_up: bool,
    /// `streamingDoneSending`: whether the walsender has sent CopyDone.
    pub(super) done_sending: bool,
    /// `streamingDoneReceiving`: whether the client's CopyDone was received.
    pub(super) done_receiving: bool,
    /// Whether messages of the client are left for the next step.
    pub(super) more_to_read: bool,
    /// Whether the walsender is in `WalSndDone`, which checks once more for WAL to send.
    pub(super) last_look: bool,
    pub(super) timers: Timers,
    /// `shutdown_request_timestamp`: when this loop first noticed the shutdown of the server.
    shutdown_requested: Option<TimestampTz>,
    pub(super) turn: Turn,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Turn {
    /// The start of an iteration.
    Top,
    /// Reads the WAL of a message. `limit` is the send limit, determined before the read.
    Send { read: WalRead, limit: Lsn },
    /// A status update has advanced the slot. The required LSN is computed before the next message
    /// is handled.
    Confirm(ReplicationSlotsComputeRequiredLsn),
}

impl Stream {
    pub(super) const fn new(tli: TimelineId, start: Lsn, now: TimestampTz) -> Self {
        Self {
            tli,
            sent: start,
            caught_up: false,
            done_sending: false,
            done_receiving: false,
            more_to_read: false,
            last_look: false,
            timers: Timers::new(now),
            shutdown_requested: None,
            turn: Turn::Top,
        }
    }
}

impl WalSender {
    /// One iteration of `WalSndLoop`, or the part of it up to the next disk operation.
    pub(super) fn stream(&mut self, cx: &mut Cx<'_>) -> Yield {
        let (state, sent) = (self.entry(cx).state, self.entry(cx).sent);
        assert_ne!(state, WalSndState::Startup, "it streams");
        assert_eq!(sent, self.streaming().sent, "sentPtr is published");
        if let Turn::Confirm(compute) = &mut self.streaming().turn {
            assert!(cx.sys.my_slot.is_some(), "a slot has moved");
            match compute.poll(cx) {
                Poll::Yield(how) => return how,
                Poll::Ready(()) => self.streaming().turn = Turn::Top,
            }
        }
        if self.streaming().turn == Turn::Top {
            // The latch is reset before any check for work. An event after the reset sets the latch
            // again.
            if !cx.has_bug(Bug::LatchResetTooLate) {
                cx.reset_latch();
            }
            if let Some(end) = self.interrupted(cx) {
                return end;
            }
            if let Some(end) = self.process_replies(cx) {
                return end;
            }
            let pending = cx.send_pending(self.conn);
            let stream = self.streaming();
            if stream.done_receiving && stream.done_sending && !pending {
                return self.leave_loop(cx);
            }
            if pending {
                // The walsender sends one message at a time. It builds the next message when the
                // kernel has accepted the previous message.
                stream.caught_up = false;
                if send_limit(cx) > stream.sent {
                    cx.mark(Mark::BackpressureBlockedSend);
                }
            } else {
                self.begin_send(cx);
            }
        }
        loop {
            if let Phase::Streaming(stream) = &mut self.phase
                && let Turn::Send { read, limit } = &mut stream.turn
            {
                let limit = *limit;
                match read.poll(cx, &mut self.segment) {
                    Poll::Yield(how) => return how,
                    Poll::Ready(Err(event)) => return self.error(cx, event),
                    Poll::Ready(Ok(wal)) => self.send_wal(cx, limit, wal),
                }
            }
            if cx.conn_end(self.conn) == Some(ConnEnd::Reset) {
                return self.exit(cx, Exit::Normal);
            }
            if core::mem::take(&mut self.streaming().last_look) {
                return self.walsnd_done(cx);
            }
            if !self.drained(cx) {
                return self.after_send(cx);
            }
            if self.entry(cx).state == WalSndState::Catchup {
                self.entry(cx).state = WalSndState::Streaming;
            }
            if !self.got_last_cycle {
                return self.after_send(cx);
            }
            self.streaming().last_look = true;
            self.begin_send(cx);
        }
    }

    /// Is all WAL sent, and has the kernel taken all output?
    fn drained(&mut self, cx: &Cx<'_>) -> bool {
        self.streaming().caught_up && !cx.send_pending(self.conn)
    }

    /// The first half of `XLogSendPhysical`.
    fn begin_send(&mut self, cx: &mut Cx<'_>) {
        if self.got_stopping {
            self.entry(cx).state = WalSndState::Stopping;
        }
        self.streaming().begin_send(cx);
    }

    /// The second half of `WalSndDone`, after all WAL was sent. The process ends when the standby
    /// has confirmed all WAL. Until then the walsender requests replies, one at a time.
    fn walsnd_done(&mut self, cx: &mut Cx<'_>) -> Yield {
        assert!(self.got_last_cycle, "more WAL may be written");
        let entry = self.entry(cx);
        // If the receiver reports no flush position, its write position is used instead.
        let replicated = if entry.flush.is_valid() {
            entry.flush
        } else {
            entry.write
        };
        // Before 9.3 the walsender ended when it had sent all WAL. WAL lost in transit was then
        // missing on a standby that was promoted after a clean shutdown of the primary.
        let confirmed = self.streaming().sent == replicated;
        if self.drained(cx) && (confirmed || cx.planted(Bug::ShutdownDropsUnconfirmedTail)) {
            self.send(cx, &[BackendMessage::CommandComplete("COPY 0".to_string())]);
            return self.exit(cx, Exit::Normal);
        }
        if self.streaming().timers.ask() {
            self.send_keepalive(cx, true);
        }
        self.after_send(cx)
    }

    /// The last part of an iteration: checks the timers and waits.
    fn after_send(&mut self, cx: &mut Cx<'_>) -> Yield {
        let timeout_ms = self.settings().wal_sender_timeout_ms(&cx.shmem.settings);
        if self.streaming().timers.timed_out(timeout_ms) {
            return self.hang_up(cx, SqlState::OK, Message::SenderTimeout);
        }
        let shutdown_until = match self.shutdown_deadline(cx) {
            Some(deadline) if deadline <= cx.now.wall => return self.done_immediately(cx),
            deadline => deadline.map(|deadline| cx.until(deadline)),
        };
        if self.streaming().timers.ping_due(timeout_ms) && self.streaming().timers.ask() {
            self.send_keepalive(cx, true);
        }
        let pending = cx.send_pending(self.conn);
        let (conn, full) = (self.conn, cx.output_full(self.conn));
        let stream = self.streaming();
        if stream.more_to_read || !pending && (!stream.caught_up || stream.done_sending) {
            return Yield::Again(Place::WalSndLoop);
        }
        if cx.shmem.procs.latch(cx.me) && cx.planted(Bug::LatchResetTooLate) {
            cx.reset_latch();
        }
        let stream = self.streaming();
        Yield::Wait(Wait {
            latch: true,
            readable: (!stream.done_receiving && !full).then_some(conn),
            writable: pending.then_some(conn),
            until: shutdown_until
                .into_iter()
                .chain([stream.timers.sleep_until(cx.now, timeout_ms)])
                .min(),
            ..Wait::at(Place::WalSndWait)
        })
    }

    /// `WalSndCheckShutdownTimeout` (since 19): until when the shutdown waits for the receiver. The
    /// time of the shutdown request is stored even if no timeout is set, because the setting can
    /// change.
    fn shutdown_deadline(&mut self, cx: &Cx<'_>) -> Option<TimestampTz> {
        if !self.got_stopping && !self.got_last_cycle {
            return None;
        }
        let now = cx.now.wall;
        let since = *self.streaming().shutdown_requested.get_or_insert(now);
        let timeout_ms = self
            .settings()
            .wal_sender_shutdown_timeout_ms(&cx.shmem.settings)?;
        Some(since + i64::from(timeout_ms) * 1000)
    }

    /// `WalSndDoneImmediate` (since 19): ends without the receiver's confirmation. Sends the end of
    /// the COPY only if no output is pending.
    fn done_immediately(&mut self, cx: &mut Cx<'_>) -> Yield {
        assert!(self.got_stopping || self.got_last_cycle, "no shutdown");
        if !cx.send_pending(self.conn) {
            self.send(cx, &[BackendMessage::CommandComplete("COPY 0".to_string())]);
        }
        let message = Message::SenderShutdownTimeout;
        cx.log(LogEvent::warning(SqlState::WARNING, message));
        self.exit(cx, Exit::Normal)
    }

    /// Called when both sides have sent CopyDone. The walsender then reads commands again.
    fn leave_loop(&mut self, cx: &mut Cx<'_>) -> Yield {
        let stream = self.streaming();
        assert!(stream.done_sending && stream.done_receiving, "{stream:?}");
        assert_eq!(stream.turn, Turn::Top, "a message is being sent");
        if self.got_stopping {
            return self.exit(cx, Exit::Normal);
        }
        self.close_segment(cx);
        self.entry(cx).state = WalSndState::Startup;
        release(cx);
        self.phase = Phase::Command;
        let complete = |tag: &str| BackendMessage::CommandComplete(tag.to_string());
        self.send(
            cx,
            &[
                complete("START_STREAMING"),
                complete("START_REPLICATION"),
                self.ready_for_query(),
            ],
        );
        Yield::Again(Place::StartReplication)
    }

    pub(super) fn streaming(&mut self) -> &mut Stream {
        match &mut self.phase {
            Phase::Streaming(stream) => stream,
            Phase::Init
            | Phase::Command
            | Phase::Acquiring { .. }
            | Phase::Starting { .. }
            | Phase::Slot(_)
            | Phase::Query
            | Phase::Abort(_)
            | Phase::History(_)
            | Phase::CleanUp(..) => unreachable!("only called while streaming"),
        }
    }
}
