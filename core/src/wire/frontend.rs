//! Messages that a client sends after the startup packet. Mirrors SocketBackend of postgres.c and
//! ProcessRepliesIfAny of walsender.c.

use super::frame::{Frame, FrameError, LARGE_LIMIT, SMALL_LIMIT};
use super::pqformat::{BodyReader, MessageError, put_message, put_str};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::{BufMut, Bytes};

/// A message from the client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum FrontendMessage {
    /// `Q`: a command text.
    Query(String),
    /// `X`: the client closes the connection.
    Terminate,
    /// `S`: the server answers with ReadyForQuery.
    Sync,
    /// `H`: the server does not answer.
    Flush,
    /// `d`: part of a COPY stream.
    CopyData(Bytes),
    /// `c`: end of a COPY stream.
    CopyDone,
    /// `f`: the client aborts its COPY. The text is the reason.
    CopyFail(String),
    /// `p`: an answer to an authentication request.
    Password(Bytes),
    /// `P B E D C`: the extended query protocol (not supported).
    Extended {
        /// The type byte.
        tag: u8,
        /// The body, undecoded.
        body: Bytes,
    },
    /// `F`: a fastpath function call (not supported).
    FunctionCall(Bytes),
}

/// The largest length word of a message of this type, outside of streaming (`SocketBackend`).
///
/// # Errors
/// The message type is unknown.
pub const fn command_limit(tag: u8) -> Result<u32, FrameError> {
    match tag {
        b'Q' | b'F' | b'B' | b'P' | b'd' => Ok(LARGE_LIMIT),
        b'X' | b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f' => Ok(SMALL_LIMIT),
        other => Err(FrameError::FrontendType(other)),
    }
}

/// The largest length word of a message of this type, during streaming (`ProcessRepliesIfAny`).
///
/// # Errors
/// The message type is not allowed during streaming. Examples are Query and CopyFail.
pub const fn streaming_limit(tag: u8) -> Result<u32, FrameError> {
    match tag {
        b'd' => Ok(LARGE_LIMIT),
        b'c' | b'X' => Ok(SMALL_LIMIT),
        other => Err(FrameError::StandbyType(other)),
    }
}

impl FrontendMessage {
    /// Decodes the body of a message whose length was checked with `command_limit` or
    /// `streaming_limit`.
    ///
    /// # Errors
    /// The body does not match the message type.
    pub fn decode(frame: Frame) -> Result<Self, MessageError> {
        let Frame { tag, body } = frame;
        let mut reader = BodyReader::new(body);
        Ok(match tag {
            b'Q' => {
                let text = reader.str()?;
                reader.end()?;
                Self::Query(text)
            }
            b'S' => {
                reader.end()?;
                Self::Sync
            }
            b'H' => {
                reader.end()?;
                Self::Flush
            }
            // As in the server, the bodies of Terminate and CopyDone are ignored.
            b'X' => Self::Terminate,
            b'c' => Self::CopyDone,
            b'f' => Self::CopyFail(reader.text()?),
            b'd' => Self::CopyData(reader.rest()),
            b'p' => Self::Password(reader.rest()),
            b'F' => Self::FunctionCall(reader.rest()),
            b'P' | b'B' | b'E' | b'D' | b'C' => Self::Extended {
                tag,
                body: reader.rest(),
            },
            _ => return Err(MessageError::InvalidFormat),
        })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Query(text) => put_message(out, b'Q', |out| put_str(out, text)),
            Self::Terminate => put_message(out, b'X', |_| ()),
            Self::Sync => put_message(out, b'S', |_| ()),
            Self::Flush => put_message(out, b'H', |_| ()),
            Self::CopyData(data) => put_message(out, b'd', |out| out.put_slice(data)),
            Self::CopyDone => put_message(out, b'c', |_| ()),
            Self::CopyFail(why) => put_message(out, b'f', |out| put_str(out, why)),
            Self::Password(data) => put_message(out, b'p', |out| out.put_slice(data)),
            Self::Extended { tag, body } => put_message(out, *tag, |out| out.put_slice(body)),
            Self::FunctionCall(body) => put_message(out, b'F', |out| out.put_slice(body)),
        }
    }

    /// The message as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::FrameReader;
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<FrontendMessage, MessageError> {
        let mut reader = FrameReader::default();
        reader.push(Bytes::copy_from_slice(bytes));
        let frame = reader.next(command_limit).unwrap().unwrap();
        FrontendMessage::decode(frame)
    }

    #[test]
    fn what_a_receiver_sends() {
        let query = FrontendMessage::Query("IDENTIFY_SYSTEM".into());
        let bytes = b"Q\x00\x00\x00\x14IDENTIFY_SYSTEM\x00";
        assert_eq!(&query.to_bytes()[..], bytes);
        assert_eq!(read(bytes), Ok(query));
        assert_eq!(read(b"X\x00\x00\x00\x04"), Ok(FrontendMessage::Terminate));
        assert_eq!(
            &FrontendMessage::CopyDone.to_bytes()[..],
            b"c\x00\x00\x00\x04"
        );
    }

    #[test]
    fn a_query_is_one_string_and_nothing_else() {
        assert_eq!(
            read(b"Q\x00\x00\x00\x06ab"),
            Err(MessageError::InvalidString)
        );
        assert_eq!(
            read(b"Q\x00\x00\x00\x07a\x00b"),
            Err(MessageError::InvalidFormat)
        );
        assert_eq!(
            read(b"Q\x00\x00\x00\x06\xff\x00"),
            Err(MessageError::InvalidEncoding)
        );
        assert_eq!(
            read(b"S\x00\x00\x00\x05\x00"),
            Err(MessageError::InvalidFormat)
        );
    }

    #[test]
    fn while_streaming_a_query_is_a_violation() {
        for tag in [b'Q', b'f', b'S', b'z'] {
            assert_eq!(streaming_limit(tag), Err(FrameError::StandbyType(tag)));
        }
        assert_eq!(
            alloc::format!("{}", FrameError::StandbyType(b'f')),
            "invalid standby message type \"f\""
        );
        assert_eq!(streaming_limit(b'd'), Ok(0x3FFF_FFFE));
        assert_eq!(command_limit(b'?'), Err(FrameError::FrontendType(63)));
        assert_eq!(command_limit(b'f'), Ok(10_000));
    }

    fn message() -> impl Strategy<Value = FrontendMessage> {
        let data = || prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
        prop_oneof![
            "[^\0]{0,40}".prop_map(FrontendMessage::Query),
            Just(FrontendMessage::Terminate),
            Just(FrontendMessage::Sync),
            Just(FrontendMessage::Flush),
            data().prop_map(FrontendMessage::CopyData),
            Just(FrontendMessage::CopyDone),
            "[^\0]{0,20}".prop_map(FrontendMessage::CopyFail),
            (prop::sample::select(b"PBEDC".as_slice()), data())
                .prop_map(|(tag, body)| FrontendMessage::Extended { tag, body }),
            data().prop_map(FrontendMessage::FunctionCall),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(message in message()) {
            prop_assert_eq!(read(&message.to_bytes()), Ok(message));
        }

        #[test]
        fn garbage_is_an_error(tag in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(message) = FrontendMessage::decode(Frame { tag, body: body.into() }) {
                let bytes = message.to_bytes();
                let again = Frame { tag: bytes[0], body: bytes.slice(5..) };
                prop_assert_eq!(FrontendMessage::decode(again), Ok(message));
            }
        }
    }
}
