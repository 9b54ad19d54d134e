//! What is sent next, and how it is cut. Mirrors XLogSendPhysical and WalSndKeepalive.

use super::WalSender;
use super::commands::flush_position;
use super::stream::{Stream, Turn};
use super::wal_read::WalRead;
use crate::base::{Bug, Geometry, Lsn};
use crate::sys::Cx;
use crate::wire::replication::{Keepalive, WalMessage, XLogDataHeader, xlog_data_frame_header};
use bytes::Bytes;

/// How far may be sent now: `SendRqstPtr`.
pub(super) fn send_limit(cx: &mut Cx<'_>) -> Lsn {
    // While streaming was written, for 9.0, the walsender shipped what had been written but not yet
    // fsynced: a primary that crashed then came back without WAL that its standby had already
    // replayed.
    let xlog = &cx.shmem.xlog;
    let unflushed = xlog.flush < xlog.write && !cx.shmem.recovery_in_progress();
    if unflushed && cx.planted(Bug::WalsenderSendsUnflushed) {
        return cx.shmem.xlog.write;
    }
    flush_position(cx).0
}

/// Where the message that begins at `sent` ends, and whether everything is sent with it. A longer
/// message is cut at a page, so that the next one begins there; nothing is cut at a segment.
fn cut(geometry: &Geometry, sent: Lsn, limit: Lsn) -> (Lsn, bool) {
    let most = Lsn(sent.0.saturating_add(geometry.max_send().into()));
    if limit <= most {
        (limit, true)
    } else {
        (geometry.page_start(most), false)
    }
}

impl Stream {
    /// The first half of `XLogSendPhysical`. The limit is taken here, before the file is read: were
    /// it taken again afterwards, the end of a timeline in between would go unnoticed.
    pub(super) fn begin_send(&mut self, cx: &mut Cx<'_>) {
        let limit = send_limit(cx);
        if self.done_sending || limit <= self.sent {
            self.caught_up = true;
            return;
        }
        let (end, caught_up) = cut(&cx.shmem.settings.geometry, self.sent, limit);
        assert!(
            self.sent < end && end <= limit,
            "a message lies below the limit"
        );
        self.caught_up = caught_up;
        self.turn = Turn::Send {
            read: WalRead::new(self.tli, self.sent, end),
            limit,
        };
    }
}

impl WalSender {
    /// The second half of `XLogSendPhysical`. What is sent is published only after it was handed to
    /// the connection.
    pub(super) fn send_wal(&mut self, cx: &mut Cx<'_>, limit: Lsn, wal: Bytes) {
        let stream = self.streaming();
        let header = XLogDataHeader {
            start: stream.sent,
            wal_end: limit,
            // As late as possible: the file has been read.
            send_time: cx.now.wall,
        };
        stream.sent += wal.len() as u64;
        stream.turn = Turn::Top;
        let sent = stream.sent;
        let header = xlog_data_frame_header(&header, wal.len());
        cx.send(self.conn, [header, wal]);
        self.entry(cx).sent = sent;
    }

    /// `WalSndKeepalive`: tells what has been sent, not what could be.
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
