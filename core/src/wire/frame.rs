//! Splits a byte stream into messages. Mirrors pq_getbyte, pq_getmessage and pq_startmsgread of
//! pqcomm.c.
//!
//! Used by clients and servers. A message that arrives in one piece is not copied. Memory is
//! allocated only for bytes that have arrived, even if the length word announces more bytes.

use alloc::collections::VecDeque;
use bytes::{Bytes, BytesMut};

/// The largest message that the server accepts (`PQ_LARGE_MESSAGE_LIMIT`).
pub const LARGE_LIMIT: u32 = 0x3FFF_FFFE;
/// The largest length of the message types that are always short (`PQ_SMALL_MESSAGE_LIMIT`).
pub const SMALL_LIMIT: u32 = 10_000;
/// The largest startup packet, without its length word (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP_PACKET: u32 = 10_000;

/// Small pieces that arrive one after the other are joined up to this length.
const SMALL_CHUNK: usize = 4096;

/// A message: its type and its body.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Frame {
    /// The type byte.
    pub tag: u8,
    /// The body.
    pub body: Bytes,
}

/// The reason why a byte stream cannot be split any further.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum FrameError {
    /// The length is below 4 or above the limit of the message type. The server logs the error and
    /// closes the connection.
    #[error("invalid message length")]
    Length {
        /// The message type.
        tag: u8,
        /// The length word.
        len: u32,
    },
    /// The server does not know the message type. This error is FATAL (`SocketBackend`).
    #[error("invalid frontend message type {0}")]
    FrontendType(u8),
    /// The message type is not allowed during streaming. This error is FATAL
    /// (`ProcessRepliesIfAny`).
    #[error("invalid standby message type \"{}\"", char::from(*.0))]
    StandbyType(u8),
    /// The client does not know the message type.
    #[error("lost synchronization with server: got message type \"{}\"", char::from(*.0))]
    BackendType(u8),
    /// The startup packet is too short or too long. The server logs the error and closes the
    /// connection.
    #[error("invalid length of startup packet")]
    StartupLength(u32),
}

impl FrameError {
    /// The SQLSTATE. All of these errors are protocol violations.
    #[must_use]
    pub const fn sqlstate(self) -> [u8; 5] {
        *b"08P01"
    }
}

/// Splits received bytes into messages. Keeps the bytes that are not yet part of a complete
/// message.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct FrameReader {
    /// The received bytes. No element is empty.
    chunks: VecDeque<Bytes>,
    buffered: usize,
}

impl FrameReader {
    /// Appends received bytes. Joins small pieces, because each separate piece costs memory.
    pub fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        self.buffered += chunk.len();
        match self.chunks.back_mut() {
            Some(last) if last.len() + chunk.len() <= SMALL_CHUNK => {
                let mut joined = BytesMut::from(core::mem::take(last));
                joined.extend_from_slice(&chunk);
                *last = joined.freeze();
            }
            Some(_) | None => self.chunks.push_back(chunk),
        }
    }

    /// The number of bytes that do not yet form a message. If it is not 0 at the end of the stream,
    /// the last message is incomplete.
    #[must_use]
    pub const fn buffered(&self) -> usize {
        self.buffered
    }

    /// Returns the next message if the message is complete. `limit` is called as soon as the type
    /// byte has arrived. It returns the largest length that is valid for this message type, or an
    /// error for an unknown type. An unknown type is therefore an error before the body arrives.
    ///
    /// # Errors
    /// The error of `limit`, or a length below 4 or above the limit.
    pub fn next(
        &mut self,
        limit: impl FnOnce(u8) -> Result<u32, FrameError>,
    ) -> Result<Option<Frame>, FrameError> {
        let Some([tag]) = self.peek() else {
            return Ok(None);
        };
        let limit = limit(tag)?;
        let Some([_, len @ ..]) = self.peek::<5>() else {
            return Ok(None);
        };
        let len = u32::from_be_bytes(len);
        if len < 4 || len > limit {
            return Err(FrameError::Length { tag, len });
        }
        if self.buffered < 1 + len as usize {
            return Ok(None);
        }
        self.skip(5);
        let body = self.take(len as usize - 4);
        Ok(Some(Frame { tag, body }))
    }

    /// Returns a startup packet without its length word: the code and the body. A startup packet
    /// has no type byte.
    ///
    /// # Errors
    /// The length is invalid for a startup packet.
    pub fn next_startup(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(len) = self.peek().map(u32::from_be_bytes) else {
            return Ok(None);
        };
        match len.checked_sub(4) {
            Some(body) if (4..=MAX_STARTUP_PACKET).contains(&body) => {
                if self.buffered < len as usize {
                    return Ok(None);
                }
                self.skip(4);
                Ok(Some(self.take(body as usize)))
            }
            Some(_) | None => Err(FrameError::StartupLength(len)),
        }
    }

    /// Takes one byte. The answer to an SSLRequest is a single byte, not a message.
    pub fn next_byte(&mut self) -> Option<u8> {
        let [byte] = self.peek()?;
        self.skip(1);
        Some(byte)
    }

    /// The first `N` bytes, if at least `N` bytes have arrived.
    fn peek<const N: usize>(&self) -> Option<[u8; N]> {
        let first = self.chunks.front()?;
        if let Some(head) = first.first_chunk() {
            return Some(*head);
        }
        if self.buffered < N {
            return None;
        }
        let mut head = [0; N];
        for (to, from) in head.iter_mut().zip(self.chunks.iter().flatten()) {
            *to = *from;
        }
        Some(head)
    }

    fn skip(&mut self, len: usize) {
        drop(self.take(len));
    }

    fn take(&mut self, len: usize) -> Bytes {
        assert!(
            len <= self.buffered,
            "callers check that the bytes have arrived"
        );
        let Some(first) = self.chunks.front_mut() else {
            return Bytes::new();
        };
        if len < first.len() {
            self.buffered -= len;
            return first.split_to(len);
        }
        if len == first.len() {
            self.buffered -= len;
            return self.chunks.pop_front().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(len);
        while joined.len() < len {
            let piece = self
                .chunks
                .front()
                .map_or(0, |chunk| chunk.len().min(len - joined.len()));
            let piece = self.take(piece);
            joined.extend_from_slice(&piece);
        }
        joined.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn no_limit(_: u8) -> Result<u32, FrameError> {
        Ok(LARGE_LIMIT)
    }

    #[test]
    fn a_message_in_one_piece_is_not_copied() {
        let arrived = Bytes::from(vec![b'd', 0, 0, 0, 7, 1, 2, 3, b'c', 0, 0, 0, 4]);
        let mut reader = FrameReader::default();
        reader.push(arrived.clone());
        let frame = reader.next(no_limit).unwrap().unwrap();
        assert_eq!(frame.body.as_ptr(), arrived[5..].as_ptr());
        assert_eq!(reader.next(no_limit).unwrap().unwrap().tag, b'c');
        assert_eq!(reader.next(no_limit), Ok(None));
        assert_eq!(reader.buffered(), 0);
    }

    #[test]
    fn lengths_are_checked_before_the_body_arrives() {
        let mut reader = FrameReader::default();
        reader.push(Bytes::from_static(b"X\x00\x00\x27\x11"));
        let limit = |_| Ok(SMALL_LIMIT);
        assert_eq!(
            reader.next(limit),
            Err(FrameError::Length {
                tag: b'X',
                len: 10_001
            })
        );
        let mut reader = FrameReader::default();
        reader.push(Bytes::from_static(b"X\x00\x00\x00\x03"));
        assert_eq!(
            reader.next(limit),
            Err(FrameError::Length { tag: b'X', len: 3 })
        );
    }

    #[test]
    fn the_type_is_checked_as_soon_as_it_arrives() {
        let mut reader = FrameReader::default();
        reader.push(Bytes::from_static(b"?"));
        let error = reader.next(|tag| Err(FrameError::FrontendType(tag)));
        assert_eq!(error, Err(FrameError::FrontendType(63)));
        assert_eq!(
            alloc::format!("{}", FrameError::FrontendType(63)),
            "invalid frontend message type 63"
        );
    }

    #[test]
    fn start_up_packets_have_from_8_to_10004_bytes() {
        let ask = |len: u32| {
            let mut reader = FrameReader::default();
            reader.push(Bytes::copy_from_slice(&len.to_be_bytes()));
            reader.next_startup()
        };
        for len in [0, 4, 7, 10_005, u32::MAX] {
            assert_eq!(ask(len), Err(FrameError::StartupLength(len)));
        }
        assert_eq!(ask(8), Ok(None));
        assert_eq!(ask(10_004), Ok(None));
    }

    proptest! {
        /// The messages are the same for every way to split the stream into pieces.
        #[test]
        fn pieces_do_not_matter(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(1usize..50, 1..20),
        ) {
            let mut stream = Vec::new();
            for body in &bodies {
                stream.push(b'd');
                stream.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
                stream.extend_from_slice(body);
            }
            let mut reader = FrameReader::default();
            let mut got = Vec::new();
            let mut rest = Bytes::from(stream);
            for cut in cuts.iter().cycle() {
                while let Some(frame) = reader.next(no_limit).unwrap() {
                    got.push(frame.body.to_vec());
                }
                if rest.is_empty() {
                    break;
                }
                reader.push(rest.split_to((*cut).min(rest.len())));
            }
            prop_assert_eq!(got, bodies);
            prop_assert_eq!(reader.buffered(), 0);
        }
    }
}
