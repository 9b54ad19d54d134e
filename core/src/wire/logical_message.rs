//! Messages for logical decoding. Physical replay ignores them. Mirrors message.h
//! (xl_logical_message).

use super::layout::Short;
use super::layout::{Cursor, Pad, layout};
use super::payload::PayloadError;
use super::record::{RMGR_INFO_MASK, RmgrId};
use alloc::vec::Vec;
use bytes::Bytes;

layout! {
    /// The fixed part.
    struct Header: Disk {
        db: u32,
        transactional: bool,
        pad: Pad<3>,
        prefix_size: u64,
        message_size: u64,
    }
}

/// The main data of a LogicalMessage record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LogicalMessage {
    /// The database.
    pub db: u32,
    /// Whether the message is part of its transaction.
    pub transactional: bool,
    /// The prefix, with a terminating NUL.
    pub prefix: Bytes,
    /// The payload.
    pub message: Bytes,
}

/// The main data of a LogicalMessage record, borrowed instead of copied.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct LogicalMessageParts<'a> {
    db: u32,
    pub(super) transactional: bool,
    pub(super) prefix: &'a [u8],
    pub(super) message: &'a [u8],
}

impl<'a> LogicalMessageParts<'a> {
    pub(super) fn decode(main: &'a [u8]) -> Result<Self, Short> {
        let mut cursor = Cursor::disk(main);
        let header: Header = cursor.take("xl_logical_message")?;
        let mut part = |field, len| {
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            cursor.bytes(field, len)
        };
        Ok(Self {
            db: header.db,
            transactional: header.transactional,
            prefix: part("prefix", header.prefix_size)?,
            message: part("message", header.message_size)?,
        })
    }
}

impl LogicalMessage {
    /// The type bits of `xl_info` (XLOG_LOGICAL_MESSAGE).
    pub const INFO: u8 = 0x00;

    /// Decodes the main data of a record with this `xl_info`.
    ///
    /// # Errors
    /// The data is too short, or the type is unknown.
    pub fn decode(info: u8, main: &Bytes) -> Result<Self, PayloadError> {
        if info & RMGR_INFO_MASK != Self::INFO {
            let (rmid, info) = (RmgrId::LOGICAL_MESSAGE, info & RMGR_INFO_MASK);
            return Err(PayloadError::UnknownType { rmid, info });
        }
        let parts = LogicalMessageParts::decode(main)?;
        Ok(Self {
            db: parts.db,
            transactional: parts.transactional,
            prefix: main.slice_ref(parts.prefix),
            message: main.slice_ref(parts.message),
        })
    }

    /// The main data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Header::LEN + self.prefix.len() + self.message.len());
        Header {
            db: self.db,
            transactional: self.transactional,
            pad: Pad,
            prefix_size: self.prefix.len() as u64,
            message_size: self.message.len() as u64,
        }
        .encode(&mut out);
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(&self.message);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a real server, a message with the prefix `p` and 5 bytes is a record of 57 bytes. The
    /// headers take 26 of them.
    #[test]
    fn round_trips_and_truncations() {
        let message = LogicalMessage {
            db: 5,
            transactional: true,
            prefix: Bytes::from_static(b"p\0"),
            message: Bytes::from_static(b"hello"),
        };
        let main = Bytes::from(message.encode());
        assert_eq!(main.len(), 57 - 26);
        assert_eq!(LogicalMessage::decode(0, &main), Ok(message));
        for cut in 0..main.len() {
            assert!(LogicalMessage::decode(0, &main.slice(..cut)).is_err());
        }
        for at in 0..main.len() {
            let mut other = main.to_vec();
            other[at] ^= 0xFF;
            let _ = LogicalMessage::decode(0, &other.into());
        }
        assert!(LogicalMessage::decode(0x10, &main).is_err());
    }
}
