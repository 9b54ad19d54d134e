//! A permanent error ends the receiver at once, with a hint. After any other error the receiver
//! tries again. Messages that are unusual but valid do no harm.

use super::*;
use walsim_core::call::{LogEvent, Message};

/// The directory contains the segment that ends at the largest possible position. The receiver
/// refuses this directory. pg_receivewal would start at the end of the server's WAL instead.
#[test]
fn no_wal_follows_the_last_segment() {
    let mut host = Host::new(options(), 1);
    let segments = u64::MAX / u64::from(geometry().segment) + 1;
    let last = name(1, SegmentNo(segments - 1));
    host.disk.set_up_file(&last, Content::new(&segment(0)));
    greet(&mut host, "15.18");
    identify(&mut host, 1, 0xA100);
    let complaint = format!("no WAL can follow segment file \"{last}\"");
    ends(&host, &complaint, "Move the file away");
}

/// Some tools do not pad a new segment, or are killed while they pad it. The receiver keeps the
/// existing bytes of such a file until it has received them again.
#[test]
fn a_short_partial_file_is_padded() {
    let full = geometry().segment as usize;
    for len in [1, 100, full - 1] {
        let file = format!("{}.partial", name(1, SegmentNo(1)));
        let mut host = streaming_from(options(), |host| {
            host.disk.set_up_file(&file, Content::new(&vec![9; len]));
        });
        hear_wal(&mut host, 0x2000, 50);
        assert_eq!(
            host.events(),
            [
                format!("open {file}").as_str(),
                &format!("stat {file}"),
                &format!("open {file}"),
                &format!("write {}+1", full - 1),
                &format!("zeros {len}+{}", full - len),
                "fsync",
                "syncdir .",
                "write 0+50",
            ]
        );
        let bytes = host.file(&file).expect("it is being received");
        assert_eq!(bytes.len(), full);
        assert!(bytes[..50].iter().all(|b| *b == 7));
        assert!(bytes[50..len.max(50)].iter().all(|b| *b == 9));
        assert!(bytes[len.max(50)..].iter().all(|b| *b == 0));
        assert_eq!(host.exit, None);
    }
}

/// A partial file that is too long is refused. Truncating the file would lose data, and the file
/// may belong to another server.
#[test]
fn a_partial_file_that_is_too_long_is_refused() {
    let file = format!("{}.partial", name(1, SegmentNo(1)));
    let mut host = streaming_from(options(), |host| {
        host.disk.set_up_file(&file, Content::new(&[9; 9000]));
    });
    hear_wal(&mut host, 0x2000, 50);
    let complaint = format!("write-ahead log file \"{file}\" has 9000 bytes, should be 0 or 8192");
    ends(&host, &complaint, "Move the file away");
}

/// The error texts must be those of streamutil.c.
#[test]
fn invalid_answers_are_permanent_errors() {
    let four = || BackendMessage::row(["7", "1", "0/2100", ""].map(|v| Some(v.into())));
    let text = |values: &[&str]| {
        let values = values.iter().map(|v| Some(Bytes::from(v.to_string())));
        BackendMessage::DataRow(values.collect())
    };
    for (rows, complaint) in [
        (vec![], "got 0 rows and 0 fields, expected 1 rows and 3"),
        (
            vec![text(&["7", "1"])],
            "got 1 rows and 2 fields, expected 1 rows and 3",
        ),
        (
            vec![text(&["7", "1", "0/2100"])],
            "got 1 rows and 3 fields, expected 1 rows and 4",
        ),
        (
            vec![four(), four()],
            "got 2 rows and 4 fields, expected 1 rows and 3",
        ),
    ] {
        let mut host = Host::new(options(), 1);
        greet(&mut host, "15.18");
        hear(&mut host, &[rows, vec![READY]].concat());
        let complaint = format!("could not identify system: {complaint} or more fields");
        ends(&host, &complaint, "");
    }
    for (row, complaint) in [
        (
            text(&["7", "1", "nowhere", ""]),
            "could not parse write-ahead log location \"nowhere\"",
        ),
        (
            four(),
            "replication connection is unexpectedly database specific",
        ),
    ] {
        let mut host = Host::new(options(), 1);
        greet(&mut host, "15.18");
        hear(&mut host, &[row, READY]);
        ends(&host, complaint, "");
    }
    for (row, complaint) in [
        (
            text(&["16MB", "more"]),
            "WAL segment size must be a power of two between 1 MB and 1 GB, but the remote server",
        ),
        (text(&["much"]), "WAL segment size could not be parsed"),
        (
            text(&[]),
            "could not fetch WAL segment size: got 1 rows and 0 fields, expected 1 rows and 1 or more fields",
        ),
    ] {
        let mut host = Host::new(options(), 1);
        greet(&mut host, "15.18");
        identify_alone(&mut host, 1);
        hear(&mut host, &[row, READY]);
        if complaint.starts_with("WAL segment size must") {
            // 16 MiB is a valid segment size. Additional columns of the answer are ignored.
            assert_eq!(host.exit, None, "{:?}", host.log);
        } else {
            ends(&host, complaint, "");
        }
    }
}

/// If the slot does not exist or is not physical, or if the server's answer about the slot is
/// invalid, the receiver ends.
#[test]
fn a_slot_must_exist_and_be_physical() {
    let null = BackendMessage::DataRow(vec![None, None, None]);
    let other = |kind: &str| BackendMessage::row([Some(kind.into()), Some("0/2000".into()), None]);
    for (row, complaint, hint) in [
        (
            null,
            "replication slot \"s\" does not exist",
            "--create-slot",
        ),
        (
            other("logical"),
            "expected a physical replication slot, got type \"logical\" instead",
            "",
        ),
        (
            BackendMessage::row([Some("physical".into())]),
            "could not read replication slot \"s\": got 1 rows and 1 fields, expected 1 rows and 3 fields",
            "",
        ),
        (
            BackendMessage::row([Some("physical".into()), Some("x".into()), None]),
            "could not parse restart_lsn \"x\" for replication slot \"s\"",
            "",
        ),
    ] {
        let mut host = Host::new(
            PgReceivewalOptions {
                slot: Some(String::from("s")),
                ..options()
            },
            1,
        );
        greet(&mut host, "15.18");
        identify(&mut host, 1, 0x2100);
        hear(&mut host, &[row, READY]);
        ends(&host, complaint, hint);
    }
}

/// START_REPLICATION fails. On a primary the error is permanent. On a standby it is temporary,
/// because the standby may still receive the missing WAL.
#[test]
fn a_start_outside_of_the_servers_history_is_a_permanent_error() {
    let detail = Some("This server's history forked from timeline 1 at 0/2040.");
    let ahead =
        "requested starting point 0/4000 is ahead of the WAL flush position of this server 0/2100";
    for (code, routine, detail, standby, hint) in [
        (*b"XX000", "StartReplication", detail, true, Some("history")),
        (
            *b"XX000",
            "StartReplication",
            detail,
            false,
            Some("history"),
        ),
        (*b"XX000", "tliSwitchPoint", None, true, Some("history")),
        (*b"XX000", "StartReplication", None, false, Some("history")),
        (*b"XX000", "StartReplication", None, true, None),
        (
            *b"58P01",
            "XLogSegmentOpen",
            None,
            false,
            Some("base backup"),
        ),
        (
            *b"42704",
            "ReplicationSlotAcquire",
            None,
            false,
            Some("--create-slot"),
        ),
        (
            *b"55000",
            "StartReplication",
            None,
            false,
            Some("another replication slot"),
        ),
        (*b"55006", "ReplicationSlotAcquire", None, false, None),
        (*b"53300", "InitWalSender", None, false, None),
    ] {
        let mut host = Host::new(options(), 1);
        greet_as(&mut host, "15.18", standby);
        identify(&mut host, 1, 0x2100);
        let fields = ErrorFields {
            detail: detail.map(String::from),
            others: vec![(b'R', String::from(routine))],
            ..ErrorFields::new("ERROR", code, ahead)
        };
        hear(
            &mut host,
            &[BackendMessage::ErrorResponse(fields.clone()), READY],
        );
        let fields = BackendMessage::ErrorResponse(fields);
        let more = detail.map_or(String::new(), |detail| format!("\nDETAIL:  {detail}"));
        let complaint = format!(
            "could not send replication command \"START_REPLICATION\": ERROR:  {ahead}{more}"
        );
        match hint {
            Some(hint) => ends(&host, &complaint, hint),
            None => goes_on(&host, &complaint),
        }
        // The same error can also come after the COPY has started, because some servers compare the
        // start with the flush position only then.
        let mut host = Host::new(options(), 1);
        greet_as(&mut host, "15.18", standby);
        identify(&mut host, 1, 0x2100);
        hear(&mut host, &[BackendMessage::copy_both(), fields, READY]);
        let complaint =
            format!("unexpected termination of replication stream: ERROR:  {ahead}{more}");
        match hint {
            Some(hint) => ends(&host, &complaint, hint),
            None => goes_on(&host, &complaint),
        }
    }
}

/// The directory contains a timeline that the server has not reached yet, or that the server never
/// had.
#[test]
fn a_timeline_that_the_server_lacks_is_a_permanent_error() {
    for (standby, ends_it) in [(false, true), (true, false)] {
        let mut host = Host::new(options(), 1);
        let file = name(3, SegmentNo(4));
        host.disk.set_up_file(&file, Content::new(&segment(4)));
        greet_as(&mut host, "15.18", standby);
        identify(&mut host, 2, 0xA100);
        let complaint = "starting timeline 3 is not present in the server";
        if ends_it {
            ends(&host, complaint, "history");
        } else {
            goes_on(&host, complaint);
        }
    }
    let mut host = Host::new(options(), 1);
    let file = name(3, SegmentNo(4));
    host.disk.set_up_file(&file, Content::new(&segment(4)));
    greet(&mut host, "15.18");
    identify(&mut host, 5, 0xA100);
    let why = "could not open file \"pg_wal/00000003.history\": No such file or directory";
    let fields = ErrorFields::new("ERROR", *b"58P01", why);
    hear(&mut host, &[BackendMessage::ErrorResponse(fields), READY]);
    let complaint =
        format!("could not send replication command \"TIMELINE_HISTORY\": ERROR:  {why}");
    ends(&host, &complaint, "history");
}

/// Passwords are not supported. The error says whether the password is missing or cannot be used.
#[test]
fn a_password_is_refused_as_such() {
    for (method, known, complaint) in [
        (3, false, "fe_sendauth: no password supplied"),
        (10, false, "fe_sendauth: no password supplied"),
        (
            3,
            true,
            "a password was given, but it cannot be used yet: the server asks for cleartext authentication",
        ),
        (
            5,
            true,
            "a password was given, but it cannot be used yet: the server asks for MD5 authentication",
        ),
        (
            10,
            true,
            "a password was given, but it cannot be used yet: the server asks for SASL authentication",
        ),
        (7, true, "GSSAPI authentication not supported"),
        (77, false, "authentication method 77 not supported"),
    ] {
        let mut told = options();
        told.conninfo.has_password = known;
        let mut host = Host::new(told, 1);
        host.settle();
        host.event(NetEvent::Connected);
        host.settle();
        let data = Bytes::from_static(b"SCRAM-SHA-256\0\0");
        let request = BackendMessage::Authentication { code: method, data };
        hear(&mut host, &[request]);
        let complaint =
            format!("connection to server at \"server\", port 5432 failed: {complaint}");
        ends(&host, &complaint, "");
    }
}

/// The error texts must be libpq's, and name every address that was tried.
#[test]
fn without_a_connection_the_errors_are_libpqs() {
    let tried = |address: Option<&str>, why: &str| (address.map(String::from), String::from(why));
    let question = "\n\tIs the server running on that host and accepting TCP/IP connections?";
    for (host, why, complaint) in [
        (
            "server",
            Refusal::Refused,
            format!(
                "connection to server at \"server\", port 5432 failed: Connection refused{question}"
            ),
        ),
        (
            "127.0.0.1",
            Refusal::Tried(vec![tried(Some("127.0.0.1"), "Connection refused")]),
            format!(
                "connection to server at \"127.0.0.1\", port 5432 failed: Connection refused{question}"
            ),
        ),
        (
            "server",
            Refusal::Tried(vec![
                tried(Some("::1"), "Connection refused"),
                tried(Some("127.0.0.1"), "No route to host"),
            ]),
            format!(
                "connection to server at \"server\" (::1), port 5432 failed: Connection refused{question}\n\
                 connection to server at \"server\" (127.0.0.1), port 5432 failed: No route to host{question}"
            ),
        ),
        (
            "nowhere",
            Refusal::Unresolved(String::from("Name or service not known")),
            String::from(
                "could not translate host name \"nowhere\" to address: Name or service not known",
            ),
        ),
        (
            "/tmp",
            Refusal::Tried(vec![tried(None, "No such file or directory")]),
            String::from(
                "connection to server on socket \"/tmp/.s.PGSQL.5432\" failed: No such file or directory\n\
                 \tIs the server running locally and accepting connections on that socket?",
            ),
        ),
        (
            "/long",
            Refusal::PathTooLong,
            String::from(
                "Unix-domain socket path \"/long/.s.PGSQL.5432\" is too long (maximum 107 bytes)",
            ),
        ),
    ] {
        let mut told = options();
        told.conninfo.host = String::from(host);
        let mut host = Host::new(told, 1);
        host.settle();
        host.event(NetEvent::Refused(why));
        host.settle();
        ends(&host, &complaint, "");
    }
}

/// These messages are unusual but valid. libpq prints or ignores such a message, and continues.
#[test]
fn unusual_messages_do_no_harm() {
    let notice: &[u8] = b"SNOTICE\0C1\0Mby the way\0\0";
    let status: &[u8] = b"TimeZone\0Mars\0";
    let notification: &[u8] = b"\0\0\0\x07channel\0payload\0";
    let mut odd = Vec::new();
    for (tag, body) in [(b'N', notice), (b'S', status), (b'A', notification)] {
        odd.push(tag);
        odd.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        odd.extend(body);
    }
    let odd = Bytes::from(odd);
    let mut host = Host::new(options(), 1);
    host.settle();
    host.event(NetEvent::Connected);
    host.settle();
    data(&mut host, odd.clone());
    greet_from(&mut host, "15.18", false);
    data(&mut host, odd.clone());
    identify(&mut host, 1, 0x2100);
    data(&mut host, odd.clone());
    hear(&mut host, &[BackendMessage::copy_both()]);
    data(&mut host, odd);
    hear_wal(&mut host, 0x2000, 100);
    assert_eq!(host.exit, None, "{:?}", host.log);
    assert_eq!(host.written, Lsn(0x2064));
}

/// The server shuts down. If an end position was requested and not reached, the receiver fails.
/// Without an end position, the receiver succeeds.
#[test]
fn an_end_position_that_was_not_reached_is_an_error() {
    for (endpos, success) in [(Lsn::INVALID, true), (Lsn(0x3000), false)] {
        let mut host = streaming(PgReceivewalOptions {
            no_loop: true,
            endpos,
            ..options()
        });
        hear_wal(&mut host, 0x2000, 100);
        let done = BackendMessage::CommandComplete(String::from("COPY 0"));
        hear(&mut host, &[done]);
        assert_eq!(host.exit == Some(Exit::Normal), success);
        let complaint = "replication stream was terminated before stop point";
        assert_eq!(host.log.iter().any(|line| line == complaint), !success);
    }
}

fn greet_as(host: &mut Host, version: &str, standby: bool) {
    host.settle();
    host.event(NetEvent::Connected);
    host.settle();
    greet_from(host, version, standby);
}

fn greet_from(host: &mut Host, version: &str, standby: bool) {
    let status = |name: &str, value: &str| BackendMessage::ParameterStatus {
        name: name.into(),
        value: value.into(),
    };
    let standby = status("in_hot_standby", if standby { "on" } else { "off" });
    let version = status("server_version", version);
    hear(
        host,
        &[BackendMessage::AuthenticationOk, standby, version, READY],
    );
}

fn identify_alone(host: &mut Host, tli: u32) {
    let row = BackendMessage::row([
        Some(SYSID.to_string()),
        Some(tli.to_string()),
        Some("0/2100".into()),
        None,
    ]);
    hear(host, &[row, READY]);
}

fn ends(host: &Host, complaint: &str, hint: &str) {
    let Some(Exit::Fatal(LogEvent { message, .. })) = &host.exit else {
        panic!("it does not end: {:?}", host.log);
    };
    assert_eq!(message.to_string(), complaint);
    let Message::Receive(message) = message else {
        panic!("{message:?}");
    };
    let found = message.hint().unwrap_or_default();
    assert_eq!(found.is_empty(), hint.is_empty(), "{found}");
    assert!(found.contains(hint), "{found}");
}

fn goes_on(host: &Host, complaint: &str) {
    assert_eq!(host.exit, None);
    assert!(
        host.log.iter().any(|line| line == complaint),
        "{:?}",
        host.log
    );
}
