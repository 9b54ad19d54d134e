//! Tests of startup packets: packets of real clients, errors, and round trips of generated packets.

use super::*;
use alloc::vec;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<StartupPacket, StartupError> {
    Negotiation::default().decode(&bytes[4..], PgVersion::V18)
}

const RECEIVEWAL: &[u8] = b"\0\0\0\x5c\0\x03\0\0user\0postgres\0database\0replication\0replication\0true\0application_name\0pg_receivewal\0\0";

#[test]
fn what_pg_receivewal_sends() {
    let message = StartupMessage::receiver("postgres", "pg_receivewal");
    let packet = StartupPacket::Startup(message.clone());
    assert_eq!(&packet.to_bytes()[..], RECEIVEWAL);
    assert_eq!(read(RECEIVEWAL), Ok(packet));
    let session = message.resolve(PgVersion::V15).unwrap();
    assert_eq!(session.user, "postgres");
    assert_eq!(session.database, "");
    assert_eq!(session.replication, ReplicationMode::Physical);
    assert_eq!(
        session.settings,
        [("application_name".into(), "pg_receivewal".into())]
    );
    assert_eq!(
        read(b"\0\0\0\x08\x04\xd2\x16\x2f"),
        Ok(StartupPacket::SslRequest)
    );
}

#[test]
fn encryption_is_requested_once() {
    let mut negotiation = Negotiation::default();
    let mut ask = |code: u32| negotiation.decode(&code.to_be_bytes(), PgVersion::V15);
    assert_eq!(ask(SSL_REQUEST), Ok(StartupPacket::SslRequest));
    assert_eq!(ask(GSSENC_REQUEST), Ok(StartupPacket::GssEncRequest));
    let again = ask(SSL_REQUEST).unwrap_err();
    assert_eq!(
        again.to_string(),
        "unsupported frontend protocol 1234.5679: server supports 3.0 to 3.0"
    );
    assert_eq!(again.sqlstate(), *b"0A000");
}

#[test]
fn the_terminator_is_the_last_byte() {
    for body in [
        &b"\0\x03\0\0"[..],
        b"\0\x03\0\0user\0",
        b"\0\x03\0\0user\0me",
        b"\0\x03\0\0user\0me\0",
        b"\0\x03\0\0user\0me\0\0\0",
    ] {
        assert_eq!(
            Negotiation::default().decode(body, PgVersion::V15),
            Err(StartupError::Layout)
        );
    }
}

#[test]
fn values_of_replication() {
    let mode = |value| {
        StartupMessage::new(&[("user", "me"), ("replication", value)])
            .resolve(PgVersion::V15)
            .map(|session| session.replication)
    };
    for value in ["true", "TRUE", "t", "on", "yes", "1"] {
        assert_eq!(mode(value), Ok(ReplicationMode::Physical));
    }
    for value in ["false", "of", "n", "0"] {
        assert_eq!(mode(value), Ok(ReplicationMode::No));
    }
    assert_eq!(mode("database"), Ok(ReplicationMode::Database));
    for value in ["zzz", "o", "", "truely", "10"] {
        assert_eq!(mode(value), Err(StartupError::Replication(value.into())));
    }
}

#[test]
fn names_have_defaults_and_a_limit() {
    let long = "x".repeat(70);
    let session = StartupMessage::new(&[("user", &long)])
        .resolve(PgVersion::V15)
        .unwrap();
    assert_eq!(session.user.len(), 63);
    assert_eq!(session.database, session.user);
    let nobody = StartupMessage::new(&[("database", "d")]).resolve(PgVersion::V15);
    assert_eq!(nobody, Err(StartupError::NoUser));
}

#[test]
fn newer_clients_get_a_negotiation() {
    let ask = |minor: u32, server| {
        let mut message = StartupMessage::new(&[("user", "me")]);
        message.version = ProtocolVersion(0x0003_0000 | minor);
        message.negotiate(server)
    };
    let told = |newest| {
        Some(BackendMessage::NegotiateProtocolVersion {
            newest,
            options: vec![],
        })
    };
    assert_eq!(ask(0, PgVersion::V15), None);
    assert_eq!(ask(1, PgVersion::V15), told(0x0003_0000));
    assert_eq!(ask(1, PgVersion::V18), None);
    assert_eq!(ask(2, PgVersion::V18), None);
    assert_eq!(ask(9, PgVersion::V18), told(0x0003_0002));
    let mut message = StartupMessage::new(&[("user", "me"), ("_pq_.x", "1")]);
    message.version = ProtocolVersion(0x0003_0001);
    assert_eq!(
        message.negotiate(PgVersion::V18),
        Some(BackendMessage::NegotiateProtocolVersion {
            newest: 0x0003_0001,
            options: vec!["_pq_.x".into()]
        })
    );
}

#[test]
fn cancel_keys() {
    let long = b"\0\0\0\x11\x04\xd2\x16\x2e\0\0\0\x07abcde";
    let packet = StartupPacket::CancelRequest {
        pid: 7,
        key: Bytes::from_static(b"abcde"),
    };
    assert_eq!(&packet.to_bytes()[..], long);
    assert_eq!(read(long), Ok(packet));
    assert_eq!(
        Negotiation::default().decode(&long[4..], PgVersion::V15),
        Err(StartupError::Length)
    );
}

proptest! {
    #[test]
    fn round_trip(minor in any::<u16>(), params in prop::collection::vec(("[^\0]{1,20}", "[^\0]{0,20}"), 0..6)) {
        let version = ProtocolVersion(0x0003_0000 | u32::from(minor));
        let packet = StartupPacket::Startup(StartupMessage { version, params });
        prop_assert_eq!(read(&packet.to_bytes()), Ok(packet));
    }

    #[test]
    fn every_truncation_is_an_error(cut in 4..RECEIVEWAL.len()) {
        // A packet is valid even if it is cut so that a single byte is left in place of a name. A
        // real server accepts such a packet too, because a NUL follows the packet in its buffer.
        let before = RECEIVEWAL.get(8..cut - 1).unwrap_or_default();
        let names_and_values = before.iter().filter(|b| **b == 0).count();
        let at_a_name = before.last().is_none_or(|b| *b == 0) && names_and_values % 2 == 0;
        let is_terminator = cut >= 9 && at_a_name;
        prop_assert_eq!(read(&RECEIVEWAL[..cut]).is_err(), !is_terminator);
    }

    #[test]
    fn garbage_is_an_error(body in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(packet) = Negotiation::default().decode(&body, PgVersion::V18) {
            prop_assert_eq!(read(&packet.to_bytes()), Ok(packet));
        }
    }
}
