//! Messages to the upstream. Mirrors XLogWalRcvSendReply and XLogWalRcvSendHSFeedback.

use super::link::Link;
use crate::base::{Bug, Lsn, Mark, PgVersion, Xid};
use crate::sys::Cx;
use crate::wire::replication::{HotStandbyFeedback, StandbyMessage, StandbyStatus};
use bytes::Bytes;

impl Link {
    /// `XLogWalRcvSendReply`: sends a status update if the write or flush position has changed, or
    /// if the status interval has passed. With `force` always sends one. A change of the apply
    /// position alone sends nothing.
    pub fn send_reply(&mut self, cx: &mut Cx<'_>, force: bool, reply_requested: bool) {
        let settings = &cx.shmem.settings;
        let now = cx.now.wall;
        if !force {
            let unchanged = self.reported == (self.write, self.flush);
            let switched_off = settings.wal_receiver_status_interval_ms == 0;
            if switched_off {
                if !unchanged {
                    cx.mark(Mark::StatusWithheld);
                }
                return;
            }
            if unchanged && !self.timers.reply_due(now, settings) {
                return;
            }
        }
        self.timers.replied(now, settings);
        let repeats = settings.wal_receiver_status_interval_ms > 0;
        assert!(!repeats || !self.timers.reply_due(now, settings), "{now:?}");
        self.reported = (self.write, self.flush);
        let status = StandbyStatus {
            write: self.write,
            flush: if self.hides_flush {
                Lsn::INVALID
            } else {
                self.durable(cx)
            },
            apply: self.applied(cx),
            client_time: now,
            reply_requested,
        };
        self.reported_apply = status.apply;
        assert!(!self.hides_flush || !status.flush.is_valid(), "{status:?}");
        let frame = StandbyMessage::Status(status).to_frame();
        cx.send(self.conn(), [frame, Bytes::new()]);
    }

    /// Sends the status update that the startup process has requested. Since 19 the update is sent
    /// only if a position has changed or the status interval has passed.
    pub fn send_requested_reply(&mut self, cx: &mut Cx<'_>) {
        let settings = &cx.shmem.settings;
        let unchanged = self.reported == (self.write, self.flush)
            && self.reported_apply == cx.shmem.recovery.last_replayed_end;
        let since_19 = settings.pg_version >= PgVersion::V19;
        if since_19 && unchanged && !self.timers.reply_due(cx.now.wall, settings) {
            return;
        }
        self.send_reply(cx, true, false);
    }

    /// `LogstreamResult.Flush`. All WAL before it is durable.
    fn durable(&self, cx: &mut Cx<'_>) -> Lsn {
        if self.flush < self.write && cx.planted(Bug::FlushReportedBeforeFsync) {
            return self.write;
        }
        let wal_end = cx.shmem.walrcv.latest_wal_end;
        if self.flush < wal_end && cx.planted(Bug::AckServerEndOfWal) {
            return wal_end;
        }
        self.flush
    }

    /// `GetXLogReplayRecPtr`. Invalid in the standalone receiver, which does not replay WAL.
    fn applied(&self, cx: &mut Cx<'_>) -> Lsn {
        let applied = cx.shmem.recovery.last_replayed_end;
        let received = applied.is_valid() && applied < self.flush;
        if received && cx.planted(Bug::ApplyReportedBeforeReplay) {
            return self.flush;
        }
        applied
    }

    /// `XLogWalRcvSendHSFeedback`, always with hot_standby_feedback off. Sends at most one message,
    /// which resets the feedback of an earlier walreceiver.
    pub fn send_feedback(&mut self, cx: &mut Cx<'_>, immediate: bool) {
        let now = cx.now.wall;
        if !self.upstream_has_feedback {
            return;
        }
        if !immediate && !self.timers.take_feedback(now, &cx.shmem.settings) {
            return;
        }
        if !cx.shmem.recovery.hot_standby_active {
            return;
        }
        self.upstream_has_feedback = false;
        // The epoch of the next transaction id is 0, because transaction ids do not wrap around in
        // walsim.
        let feedback = HotStandbyFeedback {
            client_time: now,
            xmin: Xid::INVALID,
            xmin_epoch: 0,
            catalog_xmin: Xid::INVALID,
            catalog_xmin_epoch: 0,
        };
        let frame = StandbyMessage::Feedback(feedback).to_frame();
        cx.send(self.conn(), [frame, Bytes::new()]);
    }
}
