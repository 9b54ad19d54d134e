//! Chooses the WAL to send next and the boundaries of messages. Mirrors XLogSendPhysical and
//! WalSndKeepalive.

use super::WalSender;
use super::commands::flush_position;
use super::stream::{Stream, Turn};
use super::wal_read::WalRead;
use crate::base::{Bug, Geometry, Lsn};
use crate::sys::Cx;
use crate::wire::replication::{Keepalive, WalMessage, XLogDataHeader, xlog_data_frame_header};
use bytes::Bytes;

/// The position up to which WAL can be sent (`SendRqstPtr`).
pub(super) fn send_limit(cx: &mut Cx<'_>) -> Lsn {
    // During the development of 9.0 the walsender sent WAL that was written but not yet flushed.
    // After a crash the primary could then lack WAL that its standby had already replayed.
    let xlog = &cx.shmem.xlog;
    let unflushed = xlog.flush < xlog.write && !cx.shmem.recovery_in_progress();
    if unflushed && cx.planted(Bug::WalsenderSendsUnflushed) {
        return cx.shmem.xlog.write;
    }
    flush_position(cx).0
}

/// The end of the message that starts at `sent`, and whether this end is `limit`. A message that
/// would be too long ends at a page boundary. A message may cross segments.
fn cut(geometry: &Geometry, sent: Lsn, limit: Lsn) -> (Lsn, bool) {
    let most = Lsn(sent.0.saturating_add(geometry.max_send().into()));
    if limit <= most {
        (limit, true)
    } else {
        (geometry.page_start(most), false)
    }
}

impl Stream {
    /// The first half of `XLogSendPhysical`. As in PostgreSQL, the limit is determined before the
    /// WAL is read.
    pub(super) fn begin_send(&mut self, cx: &mut Cx<'_>) {
        assert_eq!(self.turn, Turn::Top, "a message is being read");
        let limit = send_limit(cx);
        if self.done_sending || limit <= self.sent {
            self.caught_up = true;
            return;
        }
        let (end, caught_up) = cut(&cx.shmem.settings.geometry, self.sent, limit);
        assert!(
            self.sent < end && end <= limit,
            "a message ends at or before the limit"
        );
        self.caught_up = caught_up;
        self.turn = Turn::Send {
            read: WalRead::new(self.tli, self.sent, end),
            limit,
        };
    }
}

impl WalSender {
    /// The second half of `XLogSendPhysical`. Publishes `sentPtr` after sending the message.
    pub(super) fn send_wal(&mut self, cx: &mut Cx<'_>, limit: Lsn, wal: Bytes) {
        let most = cx.shmem.settings.geometry.max_send() as usize;
        assert!(!wal.is_empty() && wal.len() <= most, "{} bytes", wal.len());
        assert!(!cx.send_pending(self.conn), "one message is sent at a time");
        let stream = self.streaming();
        assert!(!stream.done_sending, "WAL after CopyDone");
        let header = XLogDataHeader {
            start: stream.sent,
            wal_end: limit,
            // The time is read as late as possible, after the WAL was read.
            send_time: cx.now.wall,
        };
        stream.sent += wal.len() as u64;
        stream.turn = Turn::Top;
        let sent = stream.sent;
        assert!(sent <= limit, "{sent} is beyond {limit}");
        let header = xlog_data_frame_header(&header, wal.len());
        cx.send(self.conn, [header, wal]);
        self.entry(cx).sent = sent;
    }

    /// `WalSndKeepalive`: the message contains the sent position, not the flush position.
    pub(super) fn send_keepalive(&mut self, cx: &mut Cx<'_>, reply_requested: bool) {
        let keepalive = WalMessage::Keepalive(Keepalive {
            wal_end: self.streaming().sent,
            send_time: cx.now.wall,
            reply_requested,
        });
        cx.send(self.conn, [keepalive.to_frame(), Bytes::new()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_end_at_a_page() {
        let stock = Geometry::STOCK;
        let far = Lsn(0x1000_0000);
        assert_eq!(cut(&stock, Lsn(0x63_A910), far), (Lsn(0x65_A000), false));
        assert_eq!(cut(&stock, Lsn(0x65_A000), far), (Lsn(0x67_A000), false));
    }

    #[test]
    fn the_last_message_ends_at_the_limit() {
        let stock = Geometry::STOCK;
        let sent = Lsn(0x10_0028);
        assert_eq!(cut(&stock, sent, Lsn(0x10_0029)), (Lsn(0x10_0029), true));
        let most = sent + 131_072;
        assert_eq!(cut(&stock, sent, most), (most, true));
        assert_eq!(cut(&stock, sent, most + 1), (Lsn(0x12_0000), false));
    }
}
