//! Reads and writes message bodies. Mirrors pqformat.c (pq_getmsgint, pq_getmsgstring,
//! pq_getmsgend, pq_beginmessage).
//!
//! All integers are big-endian. Each read is checked, because a message body comes from a peer. The
//! errors have the texts of PostgreSQL's server.

use super::layout::Short;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{BufMut, Bytes};
use core::ffi::CStr;

/// The reason why the body of a message is invalid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum MessageError {
    /// A field of fixed size extends beyond the end of the body.
    #[error("insufficient data left in message")]
    Insufficient,
    /// The type byte is missing.
    #[error("no data left in message")]
    NoData,
    /// A string has no terminator.
    #[error("invalid string in message")]
    InvalidString,
    /// Bytes are left over, or a field has an invalid value.
    #[error("invalid message format")]
    InvalidFormat,
    /// A string is not valid in the encoding of the session.
    #[error("invalid byte sequence for encoding \"UTF8\"")]
    InvalidEncoding,
}

impl MessageError {
    /// The SQLSTATE.
    #[must_use]
    pub const fn sqlstate(self) -> [u8; 5] {
        match self {
            Self::Insufficient | Self::NoData | Self::InvalidString | Self::InvalidFormat => {
                *b"08P01"
            }
            Self::InvalidEncoding => *b"22021",
        }
    }
}

/// The error for a truncated layout has the same text as in pq_getmsgbyte and pq_getmsgint.
impl From<Short> for MessageError {
    fn from(short: Short) -> Self {
        if short.need == 1 {
            Self::NoData
        } else {
            Self::Insufficient
        }
    }
}

/// The unread part of a body.
#[derive(Clone, Debug)]
pub(super) struct BodyReader {
    rest: Bytes,
}

impl BodyReader {
    pub(super) const fn new(body: Bytes) -> Self {
        Self { rest: body }
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<Bytes, MessageError> {
        if len > self.rest.len() {
            return Err(MessageError::Insufficient);
        }
        Ok(self.rest.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (head, _) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(MessageError::Insufficient)?;
        let head = *head;
        drop(self.rest.split_to(N));
        Ok(head)
    }

    /// `pq_getmsgbyte`
    pub(super) fn u8(&mut self) -> Result<u8, MessageError> {
        let [byte] = self.array().map_err(|_| MessageError::NoData)?;
        Ok(byte)
    }

    pub(super) fn i16(&mut self) -> Result<i16, MessageError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, MessageError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_be_bytes)
    }

    /// The bytes of a NUL-terminated string.
    fn raw_str(&mut self) -> Result<Bytes, MessageError> {
        let text = CStr::from_bytes_until_nul(&self.rest);
        let len = text.map_err(|_| MessageError::InvalidString)?.count_bytes();
        let text = self.rest.split_to(len);
        drop(self.rest.split_to(1));
        Ok(text)
    }

    /// A string whose content matters. It must be valid UTF-8.
    pub(super) fn str(&mut self) -> Result<String, MessageError> {
        let raw = self.raw_str()?;
        match core::str::from_utf8(&raw) {
            Ok(text) => Ok(String::from(text)),
            Err(_) => Err(MessageError::InvalidEncoding),
        }
    }

    /// A string in any encoding. It is only shown to users.
    pub(super) fn text(&mut self) -> Result<String, MessageError> {
        let raw = self.raw_str()?;
        Ok(String::from_utf8_lossy(&raw).into_owned())
    }

    pub(super) fn rest(self) -> Bytes {
        self.rest
    }

    /// `pq_getmsgend`
    pub(super) fn end(self) -> Result<(), MessageError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(MessageError::InvalidFormat)
        }
    }
}

/// Appends a message: type byte, length word, body.
pub(super) fn put_message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.put_u8(tag);
    put_counted(out, body);
}

/// Appends a length word and the body. The length includes the length word.
pub(super) fn put_counted(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.put_u32(0);
    body(out);
    let len =
        u32::try_from(out.len() - start).expect("a message is built in memory, far below 4 GiB");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Appends a string with its terminator. As in C, a NUL in the text ends the string.
pub(super) fn put_str(out: &mut Vec<u8>, text: &str) {
    let len = text.find('\0').unwrap_or(text.len());
    out.put_slice(&text.as_bytes()[..len]);
    out.put_u8(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let mut body = BodyReader::new(Bytes::from_static(b"\x00\x01ab\x00c"));
        assert_eq!(body.u16(), Ok(1));
        assert_eq!(body.str().as_deref(), Ok("ab"));
        assert_eq!(body.clone().str(), Err(MessageError::InvalidString));
        assert_eq!(body.clone().u32(), Err(MessageError::Insufficient));
        assert_eq!(body.clone().end(), Err(MessageError::InvalidFormat));
        assert_eq!(body.u8(), Ok(b'c'));
        assert_eq!(body.u8(), Err(MessageError::NoData));
        assert_eq!(body.end(), Ok(()));
    }

    #[test]
    fn a_nul_ends_a_string() {
        let mut out = Vec::new();
        put_message(&mut out, b'Q', |out| put_str(out, "a\0b"));
        assert_eq!(&out[..], b"Q\x00\x00\x00\x06a\x00");
    }
}
