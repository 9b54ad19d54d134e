//! Messages inside CopyData during streaming. Mirrors XLogSendPhysical, WalSndKeepalive,
//! ProcessStandbyReplyMessage and ProcessStandbyHSFeedbackMessage of walsender.c, and
//! XLogWalRcvProcessMsg of walreceiver.c.
//!
//! A walsender ignores bytes after a message. A receiver requires the exact size. A sent, written,
//! flushed or applied position is the position of the last byte plus 1.

use super::layout::layout;
use super::pqformat::{MessageError, put_message};
use crate::base::{Lsn, TimestampTz, Xid};
use alloc::vec::Vec;
use bytes::{Buf, BufMut, Bytes};

layout! {
    /// The header before the WAL in message `w`.
    pub struct XLogDataHeader: Network {
        /// The position of the first byte of WAL in the message.
        pub start: Lsn,
        /// The position up to which the sender could send WAL (`SendRqstPtr`). It is often far
        /// beyond the end of the message.
        pub wal_end: Lsn,
        /// Send time, by the sender's clock.
        pub send_time: TimestampTz,
    }
}

layout! {
    /// A keepalive message.
    pub struct Keepalive: Network {
        /// The sent position (`sentPtr`). More WAL may be ready to send.
        pub wal_end: Lsn,
        /// Send time, by the sender's clock.
        pub send_time: TimestampTz,
        /// Whether the sender requests a status update at once.
        pub reply_requested: bool,
    }
}

layout! {
    /// A status update. After a restart, a standby may report lower positions than before.
    pub struct StandbyStatus: Network {
        /// The write position.
        pub write: Lsn,
        /// The flush position.
        pub flush: Lsn,
        /// The apply position.
        pub apply: Lsn,
        /// The standby's clock.
        pub client_time: TimestampTz,
        /// Whether the standby requests a keepalive at once.
        pub reply_requested: bool,
    }
}

layout! {
    /// Hot standby feedback: the oldest transactions whose rows queries on the standby may need. An
    /// invalid transaction id means that the standby needs no such rows.
    pub struct HotStandbyFeedback: Network {
        /// The standby's clock.
        pub client_time: TimestampTz,
        /// The oldest transaction whose rows a query on the standby may need.
        pub xmin: Xid,
        /// The epoch of `xmin`.
        pub xmin_epoch: u32,
        /// The oldest transaction whose catalog rows a query on the standby may need.
        pub catalog_xmin: Xid,
        /// The epoch of `catalog_xmin`.
        pub catalog_xmin_epoch: u32,
    }
}

/// A message from the server to a receiver.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum WalMessage {
    /// `w`: WAL, at most 16 WAL pages.
    XLogData(XLogDataHeader, Bytes),
    /// `k`
    Keepalive(Keepalive),
}

/// A message from a receiver to the server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StandbyMessage {
    /// `r`
    Status(StandbyStatus),
    /// `h`
    Feedback(HotStandbyFeedback),
}

/// The server's error for an invalid message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum StandbyMessageError {
    /// The message is too short. This is an ERROR that ends the COPY.
    #[error(transparent)]
    Body(MessageError),
    /// The message type is unknown. The error is logged, and the walsender exits normally.
    #[error("unexpected message type \"{}\"", char::from(*.0))]
    Type(u8),
}

/// The receiver's error for an invalid message. It is an ERROR with 08P01, and ends the receiver.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum WalMessageError {
    /// `w` with an incomplete header.
    #[error("invalid WAL message received from primary")]
    XLogData,
    /// `k` with a wrong size.
    #[error("invalid keepalive message received from primary")]
    Keepalive,
    /// Unknown type.
    #[error("invalid replication message type {0}")]
    Type(u8),
    /// The message has no type byte. libpq itself ignores an empty CopyData.
    #[error("empty replication message")]
    Empty,
}

impl WalMessage {
    /// Decodes a message. The WAL is not copied.
    ///
    /// # Errors
    /// The type is unknown, or the size is not that of the type.
    pub fn decode(mut payload: Bytes) -> Result<Self, WalMessageError> {
        let Ok(tag) = payload.try_get_u8() else {
            return Err(WalMessageError::Empty);
        };
        match tag {
            b'w' => {
                let header =
                    XLogDataHeader::decode(&payload).map_err(|_| WalMessageError::XLogData)?;
                payload.advance(XLogDataHeader::LEN);
                Ok(Self::XLogData(header, payload))
            }
            b'k' if payload.len() == Keepalive::LEN => Keepalive::decode(&payload)
                .map(Self::Keepalive)
                .map_err(|_| WalMessageError::Keepalive),
            b'k' => Err(WalMessageError::Keepalive),
            other => Err(WalMessageError::Type(other)),
        }
    }

    /// Appends the message, without the CopyData around it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::XLogData(header, data) => {
                out.put_u8(b'w');
                header.encode(out);
                out.put_slice(data);
            }
            Self::Keepalive(keepalive) => {
                out.put_u8(b'k');
                keepalive.encode(out);
            }
        }
    }

    /// The message with the CopyData around it.
    #[must_use]
    pub fn to_frame(&self) -> Bytes {
        let mut out = Vec::new();
        put_message(&mut out, b'd', |out| self.encode(out));
        Bytes::from(out)
    }
}

/// The bytes of a CopyData message before its WAL. `data_len` is the length of the WAL. The WAL is
/// sent separately, so that it need not be copied.
#[must_use]
pub fn xlog_data_frame_header(header: &XLogDataHeader, data_len: usize) -> Bytes {
    let payload = 1 + XLogDataHeader::LEN + data_len;
    let mut out = Vec::with_capacity(6 + XLogDataHeader::LEN);
    out.put_u8(b'd');
    out.put_u32(u32::try_from(4 + payload).expect("at most 16 WAL pages"));
    out.put_u8(b'w');
    header.encode(&mut out);
    Bytes::from(out)
}

impl StandbyMessage {
    /// Decodes a message. Ignores bytes after the message.
    ///
    /// # Errors
    /// The type is unknown, or the message is too short.
    pub fn decode(payload: &[u8]) -> Result<Self, StandbyMessageError> {
        let short = |short| StandbyMessageError::Body(MessageError::from(short));
        match payload.split_first() {
            None => Err(StandbyMessageError::Body(MessageError::NoData)),
            Some((b'r', body)) => StandbyStatus::decode(body).map(Self::Status).map_err(short),
            Some((b'h', body)) => HotStandbyFeedback::decode(body)
                .map(Self::Feedback)
                .map_err(short),
            Some((&other, _)) => Err(StandbyMessageError::Type(other)),
        }
    }

    /// Appends the message, without the CopyData around it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Status(status) => {
                out.put_u8(b'r');
                status.encode(out);
            }
            Self::Feedback(feedback) => {
                out.put_u8(b'h');
                feedback.encode(out);
            }
        }
    }

    /// The message with the CopyData around it.
    #[must_use]
    pub fn to_frame(&self) -> Bytes {
        let mut out = Vec::new();
        put_message(&mut out, b'd', |out| self.encode(out));
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATUS: StandbyStatus = StandbyStatus {
        write: Lsn(0x132_0000),
        flush: Lsn(0x13A_1F40),
        apply: Lsn(0x13A_1F40),
        client_time: TimestampTz(1),
        reply_requested: false,
    };
    const STATUS_BYTES: &[u8] = b"r\0\0\0\0\x01\x32\0\0\0\0\0\0\x01\x3a\x1f\x40\0\0\0\0\x01\x3a\x1f\x40\0\0\0\0\0\0\0\x01\0";

    fn payload(message: StandbyMessage) -> Vec<u8> {
        let mut out = Vec::new();
        message.encode(&mut out);
        out
    }

    #[test]
    fn a_status_update_has_34_bytes() {
        let message = StandbyMessage::Status(STATUS);
        assert_eq!(&payload(message)[..], STATUS_BYTES);
        assert_eq!(StandbyMessage::decode(STATUS_BYTES), Ok(message));
    }

    /// The server ignores bytes after a message. A receiver treats them as an error.
    #[test]
    fn bytes_after_a_message() {
        let mut longer = Vec::from(STATUS_BYTES);
        longer.push(7);
        assert_eq!(
            StandbyMessage::decode(&longer),
            Ok(StandbyMessage::Status(STATUS))
        );
        let keepalive = b"k\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\x01";
        assert_eq!(
            WalMessage::decode(Bytes::from_static(keepalive)),
            Ok(WalMessage::Keepalive(Keepalive {
                wal_end: Lsn(1),
                send_time: TimestampTz(2),
                reply_requested: true
            }))
        );
        let mut longer = Vec::from(keepalive);
        longer.push(7);
        assert_eq!(
            WalMessage::decode(longer.into()),
            Err(WalMessageError::Keepalive)
        );
    }

    #[test]
    fn short_or_unknown_messages() {
        let standby = |bytes: &[u8]| StandbyMessage::decode(bytes);
        assert_eq!(
            standby(b""),
            Err(StandbyMessageError::Body(MessageError::NoData))
        );
        assert_eq!(
            standby(b"r123"),
            Err(StandbyMessageError::Body(MessageError::Insufficient))
        );
        assert_eq!(standby(b"z"), Err(StandbyMessageError::Type(b'z')));
        let wal = |bytes| WalMessage::decode(Bytes::from_static(bytes));
        assert_eq!(
            wal(b"w12345678123456781234567"),
            Err(WalMessageError::XLogData)
        );
        assert_eq!(wal(b"z"), Err(WalMessageError::Type(122)));
        assert_eq!(wal(b""), Err(WalMessageError::Empty));
    }

    #[test]
    fn the_last_byte_of_a_status_may_be_missing_too() {
        let cut = STATUS_BYTES.len() - 1;
        assert_eq!(
            StandbyMessage::decode(&STATUS_BYTES[..cut]),
            Err(StandbyMessageError::Body(MessageError::NoData))
        );
    }

    fn lsn() -> impl Strategy<Value = Lsn> {
        any::<u64>().prop_map(Lsn)
    }

    fn time() -> impl Strategy<Value = TimestampTz> {
        any::<i64>().prop_map(TimestampTz)
    }

    fn standby_message() -> impl Strategy<Value = StandbyMessage> {
        let status = (lsn(), lsn(), lsn(), time(), any::<bool>()).prop_map(
            |(write, flush, apply, client_time, reply_requested)| {
                StandbyMessage::Status(StandbyStatus {
                    write,
                    flush,
                    apply,
                    client_time,
                    reply_requested,
                })
            },
        );
        let feedback = (time(), any::<[u32; 4]>()).prop_map(|(client_time, [a, b, c, d])| {
            StandbyMessage::Feedback(HotStandbyFeedback {
                client_time,
                xmin: Xid(a),
                xmin_epoch: b,
                catalog_xmin: Xid(c),
                catalog_xmin_epoch: d,
            })
        });
        prop_oneof![status, feedback]
    }

    fn header() -> impl Strategy<Value = XLogDataHeader> {
        (lsn(), lsn(), time()).prop_map(|(start, wal_end, send_time)| XLogDataHeader {
            start,
            wal_end,
            send_time,
        })
    }

    fn wal_message() -> impl Strategy<Value = WalMessage> {
        let data = prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
        let keepalive =
            (lsn(), time(), any::<bool>()).prop_map(|(wal_end, send_time, reply_requested)| {
                Keepalive {
                    wal_end,
                    send_time,
                    reply_requested,
                }
            });
        prop_oneof![
            (header(), data).prop_map(|(header, data)| WalMessage::XLogData(header, data)),
            keepalive.prop_map(WalMessage::Keepalive),
        ]
    }

    proptest! {
        #[test]
        fn standby_round_trip(message in standby_message()) {
            prop_assert_eq!(StandbyMessage::decode(&payload(message)), Ok(message));
        }

        #[test]
        fn every_truncated_report_is_an_error(message in standby_message(), cut in any::<prop::sample::Index>()) {
            let bytes = payload(message);
            let cut = cut.index(bytes.len());
            prop_assert!(matches!(StandbyMessage::decode(&bytes[..cut]), Err(StandbyMessageError::Body(_))));
        }

        #[test]
        fn wal_round_trip(message in wal_message()) {
            let frame = message.to_frame();
            prop_assert_eq!(WalMessage::decode(frame.slice(5..)), Ok(message));
        }

        /// The header, followed by the WAL, equals the whole message.
        #[test]
        fn header_and_data_make_the_frame(header in header(), data in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut apart = xlog_data_frame_header(&header, data.len()).to_vec();
            apart.extend_from_slice(&data);
            prop_assert_eq!(apart, WalMessage::XLogData(header, data.into()).to_frame());
        }
    }
}
