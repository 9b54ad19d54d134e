//! Tests of a server's messages: bytes that PostgreSQL sent, and round trips of generated messages.

use super::super::frame::FrameReader;
use super::*;
use alloc::string::ToString;
use alloc::vec;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<BackendMessage, MessageError> {
    let mut reader = FrameReader::default();
    reader.push(Bytes::copy_from_slice(bytes));
    let frame = reader.next(backend_limit).unwrap().unwrap();
    assert_eq!(reader.buffered(), 0);
    BackendMessage::decode(frame)
}

#[track_caller]
fn both_ways(bytes: &[u8], message: BackendMessage) {
    assert_eq!(&message.to_bytes()[..], bytes);
    assert_eq!(read(bytes), Ok(message));
}

/// The messages of a session, recorded from PostgreSQL 15.
#[test]
fn a_session_of_postgresql_15() {
    both_ways(b"R\0\0\0\x08\0\0\0\0", BackendMessage::AuthenticationOk);
    both_ways(
        b"S\0\0\0\x17in_hot_standby\0off\0",
        BackendMessage::ParameterStatus {
            name: "in_hot_standby".into(),
            value: "off".into(),
        },
    );
    both_ways(
        b"K\0\0\0\x0c\0\0\\\xec\xd4c<F",
        BackendMessage::BackendKeyData {
            pid: 23788,
            key: Bytes::from_static(b"\xd4c<F"),
        },
    );
    both_ways(
        b"Z\0\0\0\x05I",
        BackendMessage::ReadyForQuery(TxStatus::Idle),
    );
    both_ways(
        b"T\0\0\0\x45\0\x02next_tli\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0next_tli_startpos\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
        BackendMessage::RowDescription(vec![
            Column::int8("next_tli"),
            Column::text("next_tli_startpos"),
        ]),
    );
    both_ways(
        b"D\0\0\0\x18\0\x02\0\0\0\x012\0\0\0\t0/13A1EC8",
        BackendMessage::row([Some("2".to_string()), Some("0/13A1EC8".to_string())]),
    );
    both_ways(
        b"C\0\0\0\x14START_STREAMING\0",
        BackendMessage::CommandComplete("START_STREAMING".into()),
    );
    both_ways(b"W\0\0\0\x07\0\0\0", BackendMessage::copy_both());
    both_ways(b"c\0\0\0\x04", BackendMessage::CopyDone);
}

#[test]
fn null_is_a_length_of_minus_one() {
    both_ways(
        b"D\0\0\0\x0e\0\x02\xff\xff\xff\xff\0\0\0\0",
        BackendMessage::row([None, Some(String::new())]),
    );
}

#[test]
fn fields_of_an_error() {
    let mut fields = ErrorFields::new("ERROR", *b"42601", "syntax error");
    fields.hint = Some("look".into());
    both_ways(
        b"E\0\0\0\x2eSERROR\0VERROR\0C42601\0Msyntax error\0Hlook\0\0",
        BackendMessage::ErrorResponse(fields),
    );
    // A localized severity, and the fields for the source location.
    let message = read(b"E\0\0\0\x2eSFEHLER\0VERROR\0C42601\0Mx\0Fwalsender.c\0L9\0\0").unwrap();
    let mut fields = ErrorFields::new("ERROR", *b"42601", "x");
    fields.others = vec![(b'F', "walsender.c".into()), (b'L', "9".into())];
    assert_eq!(message, BackendMessage::ErrorResponse(fields));
}

#[test]
fn counts_are_not_trusted() {
    assert_eq!(
        read(b"T\0\0\0\x06\xff\xff"),
        Err(MessageError::InvalidString)
    );
    assert_eq!(
        read(b"v\0\0\0\x0c\0\x03\0\0\xff\xff\xff\xff"),
        Err(MessageError::InvalidString)
    );
    assert_eq!(
        read(b"D\0\0\0\x0a\0\x01\x7f\xff\xff\xff"),
        Err(MessageError::Insufficient)
    );
    assert_eq!(backend_limit(b'G'), Err(FrameError::BackendType(b'G')));
}

fn error_fields() -> impl Strategy<Value = ErrorFields> {
    let text = || "[^\0]{0,20}";
    (
        "[A-Z]{1,8}",
        "[0-9A-Z]{5}",
        text(),
        prop::option::of(text()),
        prop::option::of(text()),
        prop::collection::vec((prop::sample::select(b"FLRP".as_slice()), text()), 0..4),
    )
        .prop_map(
            |(severity, sqlstate, message, detail, hint, others)| ErrorFields {
                severity,
                sqlstate: sqlstate.as_bytes().try_into().unwrap(),
                message,
                detail,
                hint,
                others,
            },
        )
}

fn message() -> impl Strategy<Value = BackendMessage> {
    let data = || prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from);
    let text = || "[^\0]{0,20}";
    let column = (
        text(),
        any::<u32>(),
        any::<i16>(),
        any::<u32>(),
        any::<i16>(),
        any::<i32>(),
        any::<i16>(),
    )
        .prop_map(
            |(name, table_oid, attnum, type_oid, typlen, typmod, format)| Column {
                name,
                table_oid,
                attnum,
                type_oid,
                typlen,
                typmod,
                format,
            },
        );
    prop_oneof![
        Just(BackendMessage::AuthenticationOk),
        (1u32.., data()).prop_map(|(code, data)| BackendMessage::Authentication { code, data }),
        (text(), text()).prop_map(|(name, value)| BackendMessage::ParameterStatus { name, value }),
        (any::<u32>(), prop::collection::vec(any::<u8>(), 4..=256)).prop_map(|(pid, key)| {
            BackendMessage::BackendKeyData {
                pid,
                key: key.into(),
            }
        }),
        (any::<u32>(), prop::collection::vec(text(), 0..4)).prop_map(|(newest, options)| {
            BackendMessage::NegotiateProtocolVersion { newest, options }
        }),
        prop::sample::select(vec![
            TxStatus::Idle,
            TxStatus::InTransaction,
            TxStatus::Failed
        ])
        .prop_map(BackendMessage::ReadyForQuery),
        prop::collection::vec(column, 0..4).prop_map(BackendMessage::RowDescription),
        prop::collection::vec(prop::option::of(data()), 0..4).prop_map(BackendMessage::DataRow),
        text().prop_map(BackendMessage::CommandComplete),
        Just(BackendMessage::EmptyQueryResponse),
        (any::<u8>(), prop::collection::vec(any::<i16>(), 0..4))
            .prop_map(|(format, columns)| BackendMessage::CopyBothResponse { format, columns }),
        data().prop_map(BackendMessage::CopyData),
        Just(BackendMessage::CopyDone),
        error_fields().prop_map(BackendMessage::ErrorResponse),
        error_fields().prop_map(BackendMessage::NoticeResponse),
        (any::<u32>(), "[^\0]{0,8}", "[^\0]{0,20}").prop_map(|(pid, channel, payload)| {
            BackendMessage::NotificationResponse {
                pid,
                channel,
                payload,
            }
        }),
    ]
}

proptest! {
    #[test]
    fn round_trip(message in message()) {
        prop_assert_eq!(read(&message.to_bytes()), Ok(message));
    }

    /// Decoding a truncated body results in an error or in another message, never in a panic.
    #[test]
    fn truncation(message in message(), cut in any::<prop::sample::Index>()) {
        let bytes = message.to_bytes();
        let body = bytes.slice(5..5 + cut.index(bytes.len() - 4));
        if let Ok(other) = BackendMessage::decode(Frame { tag: bytes[0], body }) {
            prop_assert_eq!(read(&other.to_bytes()), Ok(other));
        }
    }

    #[test]
    fn garbage_is_an_error(tag in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(message) = BackendMessage::decode(Frame { tag, body: body.into() }) {
            prop_assert_eq!(read(&message.to_bytes()), Ok(message));
        }
    }
}
