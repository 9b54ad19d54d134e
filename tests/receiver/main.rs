//! The standalone receiver on a simulated disk. Some tests use a simulated server, with kills and
//! losses of power. In other tests the test itself imitates the server.

mod host;
mod pair;
mod refusals;

use bytes::Bytes;
use host::{Drive, Host, geometry, name, options};
use pair::Pair;
use walsim::disk::Content;
use walsim_core::base::{Lsn, SegmentNo, TimelineId, TimestampTz};
use walsim_core::call::{Exit, Input, NetEvent, Refusal, Signal};
use walsim_core::node::PgReceivewalOptions;
use walsim_core::wire::backend::{BackendMessage, ErrorFields, TxStatus};
use walsim_core::wire::replication::{Keepalive, WalMessage, XLogDataHeader};

const SYSID: u64 = 7;
const READY: BackendMessage = BackendMessage::ReadyForQuery(TxStatus::Idle);

/// However the receiver is killed, finished segments equal the server's segments, and reported WAL
/// survives every crash. `Host` checks each status update.
#[test]
fn finished_segments_and_reported_positions_are_durable() {
    let (mut finished, mut reported) = (0, 0);
    for seed in 0..60 {
        let options = PgReceivewalOptions {
            slot: (seed % 3 != 0).then(|| String::from("backup")),
            create_slot: seed % 3 != 0,
            slot_exists_ok: true,
            synchronous: seed % 2 == 0,
            ..options()
        };
        let reports = options.slot.is_some() || options.synchronous;
        let mut pair = Pair::new(options, seed);
        pair.transfer(40, 6);
        finished += pair.compare();
        let all = pair.receiver.flushed;
        assert_eq!(all.is_valid(), reports, "seed {seed}");
        reported += u32::from(all > pair.receiver.first.expect("it streamed"));
    }
    assert!(finished > 100 && reported > 20, "{finished}, {reported}");
}

/// A server that shuts down waits for a receiver that reports flush positions. When the receiver
/// ends, the shutdown checkpoint is on its disk.
#[test]
fn an_orderly_shutdown_ends_it_with_all_wal() {
    for synchronous in [false, true] {
        let options = PgReceivewalOptions {
            no_loop: true,
            synchronous,
            ..options()
        };
        let mut pair = Pair::new(options, 1);
        pair.transfer(20, 0);
        pair.shut_down();
        assert_eq!(pair.receiver.exit, Some(Exit::Normal));
        pair.compare();
        let (part, len) = pair.last_partial();
        assert!(pair.receiver.disk.is_stable(&part, 0..len));
        assert_eq!(pair.server_end(), pair.receiver.written);
    }
}

#[test]
fn a_new_segment_is_padded_synced_and_named() {
    let mut host = streaming(PgReceivewalOptions {
        slot: Some(String::from("s")),
        ..options()
    });
    let full = geometry().segment as usize;
    hear_wal(&mut host, 0x2000, 100);
    let file = name(1, SegmentNo(1));
    let partial = format!("{file}.partial");
    assert_eq!(
        host.events(),
        [
            format!("open {partial}").as_str(),
            &format!("write {}+1", full - 1),
            &format!("zeros 0+{full}"),
            "fsync",
            "syncdir .",
            "write 0+100",
        ]
    );
    // A message can contain WAL of two segments. The receiver reports the flush position when the
    // first segment has its final name.
    hear_wal(&mut host, 0x2000 + 100, full);
    let next = format!("{}.partial", name(1, SegmentNo(2)));
    assert_eq!(
        host.events(),
        [
            format!("write 100+{}", full - 100).as_str(),
            "fsync",
            &format!("rename {partial} {file}"),
            "fsync",
            "close",
            "syncdir .",
            &format!("open {next}"),
            &format!("write {}+1", full - 1),
            &format!("zeros 0+{full}"),
            "fsync",
            "syncdir .",
            "write 0+100",
            "reply 0/4064 0/4000",
        ]
    );
    assert_eq!(host.file(&file).expect("finished").len(), full);
}

/// WAL that is not flushed is not reported as flushed. Without `--synchronous`, the receiver fsyncs
/// only at the end of a segment and when the server requests a reply.
#[test]
fn a_requested_reply_and_synchronous_flush_at_once() {
    let slot = Some(String::from("s"));
    let mut host = streaming(PgReceivewalOptions { slot, ..options() });
    hear_wal(&mut host, 0x2000, 100);
    host.events();
    hear_keepalive(&mut host, false);
    assert_eq!(host.events(), [""; 0]);
    hear_keepalive(&mut host, true);
    assert_eq!(host.events(), ["fsync", "reply 0/2064 0/2064"]);
    hear_keepalive(&mut host, true);
    assert_eq!(host.events(), ["reply 0/2064 0/2064"]);
    let mut host = streaming(PgReceivewalOptions {
        synchronous: true,
        ..options()
    });
    hear_wal(&mut host, 0x2000, 100);
    let events = host.events();
    let last = &events[events.len() - 3..];
    assert_eq!(last, ["write 0+100", "fsync", "reply 0/2064 0/2064"]);
    // Without a slot and without --synchronous, the receiver reports no flush position. Otherwise
    // the server could take the receiver for a synchronous standby.
    let mut host = streaming(options());
    hear_wal(&mut host, 0x2000, 100);
    host.events();
    hear_keepalive(&mut host, true);
    assert_eq!(host.events(), ["reply 0/2064 0/0"]);
}

/// The receiver sends status updates at the configured interval. If the server sends nothing, the
/// receiver first requests a reply and later reconnects.
#[test]
fn timers_are_the_walreceivers() {
    let mut host = streaming(options());
    for _ in 0..2 {
        host.pass_ms(999);
        assert_eq!(host.events(), [""; 0]);
        host.pass_ms(1);
        assert_eq!(host.events(), ["reply 0/2000 0/0"]);
    }
    host.pass_ms(1999);
    host.events();
    host.pass_ms(1);
    assert_eq!(host.events(), ["Terminate", "disconnect"]);
    assert_eq!(
        host.log,
        [
            "terminating walreceiver due to timeout",
            "disconnected; waiting 5 seconds to try again"
        ]
    );
    host.pass_ms(4999);
    assert_eq!(host.events(), [""; 0]);
    host.pass_ms(1);
    assert_eq!(host.events(), ["connect"]);
}

/// The receiver fetches the history file of a timeline before it receives WAL of that timeline. It
/// does not change the last segment of the old timeline.
#[test]
fn the_next_timeline_begins_with_its_history() {
    let mut host = streaming(options());
    hear_wal(&mut host, 0x2000, 100);
    host.events();
    host.log.clear();
    hear(&mut host, &[BackendMessage::CopyDone]);
    assert_eq!(host.events(), ["fsync", "close", "syncdir .", "CopyDone"]);
    let row = |a: &str, b: &str| BackendMessage::row([Some(a.into()), Some(b.into())]);
    let complete = |tag: &str| BackendMessage::CommandComplete(tag.into());
    hear(
        &mut host,
        &[
            row("2", "0/2040"),
            complete("START_STREAMING"),
            complete("START_REPLICATION"),
            READY,
        ],
    );
    let history = "00000002.history";
    assert_eq!(
        host.events(),
        [format!("stat {history}").as_str(), "TIMELINE_HISTORY 2"]
    );
    let content = "1\t0/2040\tno recovery target specified\n";
    hear(&mut host, &[row(history, content), READY]);
    assert_eq!(
        host.events(),
        [
            format!("open {history}.tmp").as_str(),
            &format!("write 0+{}", content.len()),
            "close",
            &format!("open {history}.tmp"),
            "fsync",
            "close",
            &format!("rename {history}.tmp {history}"),
            &format!("open {history}"),
            "fsync",
            "close",
            "syncdir .",
            "START_REPLICATION 0/2000 TIMELINE 2",
        ]
    );
    hear(&mut host, &[BackendMessage::copy_both()]);
    hear_wal(&mut host, 0x2000, 50);
    let old = format!("{}.partial", name(1, SegmentNo(1)));
    let new = format!("{}.partial", name(2, SegmentNo(1)));
    assert_eq!(host.names(), [&old, history, &new]);
    assert_eq!(host.file(history).as_deref(), Some(content.as_bytes()));
    assert_eq!(
        host.log,
        [
            &format!("not renaming \"{old}\", segment is not complete"),
            "switched to timeline 2 at 0/2064"
        ]
    );
}

/// If the requested WAL was removed, the receiver ends.
#[test]
fn removed_wal_ends_it_and_other_errors_do_not() {
    let text = "requested WAL segment 000000010000000000000001 has already been removed";
    for (code, message, ends) in [
        (*b"58P01", text, true),
        (
            *b"57P01",
            "terminating connection due to administrator command",
            false,
        ),
    ] {
        let mut host = streaming(options());
        let fields = ErrorFields::new("ERROR", code, message);
        hear(&mut host, &[BackendMessage::ErrorResponse(fields)]);
        assert_eq!(matches!(host.exit, Some(Exit::Fatal(_))), ends);
        let said = format!("unexpected termination of replication stream: ERROR:  {message}");
        assert!(host.log.contains(&said), "{:?}", host.log);
    }
}

#[test]
fn the_end_position_must_be_passed() {
    let mut host = streaming(PgReceivewalOptions {
        endpos: Lsn(0x2064),
        ..options()
    });
    hear_wal(&mut host, 0x2000, 100);
    assert_eq!(host.exit, None);
    host.events();
    hear_wal(&mut host, 0x2064, 8);
    let events = ["write 100+8", "fsync", "close", "syncdir .", "CopyDone"];
    assert_eq!(host.events(), events);
    let done = BackendMessage::CommandComplete(String::from("START_REPLICATION"));
    hear(&mut host, &[BackendMessage::CopyDone, done, READY]);
    assert_eq!(host.exit, Some(Exit::Normal));
}

#[test]
fn a_signal_ends_every_wait_in_an_orderly_way() {
    for signal in [Signal::Int, Signal::Term] {
        let mut host = streaming(options());
        hear_wal(&mut host, 0x2000, 100);
        host.events();
        let pid = host.machine.pid();
        host.input(Input::Signal(pid, signal));
        host.settle();
        assert_eq!(host.events(), ["fsync", "close", "syncdir .", "CopyDone"]);
        // After a second signal the receiver does not wait any longer for a server that does not
        // answer.
        host.input(Input::Signal(pid, signal));
        host.settle();
        assert_eq!(host.exit, Some(Exit::Normal));
        let mut host = Host::new(options(), 1);
        host.settle();
        host.input(Input::Signal(pid, signal));
        host.settle();
        assert_eq!(host.exit, Some(Exit::Normal));
    }
}

/// The receiver chooses its start position from the files in the directory.
#[test]
fn the_directory_determines_the_start() {
    let gzip = |len: u32| [b"whatever".as_slice(), &len.to_le_bytes()].concat();
    let full = gzip(geometry().segment);
    let whole = |n| (n, "", segment(n));
    let other = |n, suffix, bytes| (n, suffix, bytes);
    begins("nothing", vec![], "TIMELINE_HISTORY 3");
    begins(
        "two complete segments",
        vec![whole(4), whole(3)],
        "START_REPLICATION 0/A000 TIMELINE 1",
    );
    begins(
        "a partial one",
        vec![whole(4), other(5, ".partial", segment(5))],
        "START_REPLICATION 0/A000 TIMELINE 1",
    );
    begins(
        "a complete one with a partial twin",
        vec![whole(4), other(4, ".partial", segment(4))],
        "START_REPLICATION 0/A000 TIMELINE 1",
    );
    begins(
        "one of the wrong size",
        vec![whole(3), other(4, "", segment(4)[1..].to_vec())],
        "START_REPLICATION 0/8000 TIMELINE 1",
    );
    begins(
        "packed ones, one of them of the wrong size",
        vec![other(4, ".gz", full), other(5, ".gz", gzip(1))],
        "START_REPLICATION 0/A000 TIMELINE 1",
    );
    begins(
        "other names",
        vec![whole(3), other(8, ".done", segment(8))],
        "START_REPLICATION 0/8000 TIMELINE 1",
    );
}

/// Starts a receiver with these files. The server's WAL ends at 0/A100 on timeline 3.
fn begins(with: &str, files: Vec<(u64, &str, Vec<u8>)>, first: &str) {
    let mut host = Host::new(options(), 1);
    for (number, suffix, bytes) in files {
        let file = format!("{}{suffix}", name(1, SegmentNo(number)));
        host.disk.set_up_file(&file, Content::new(&bytes));
    }
    greet(&mut host, "15.18 (Debian 15.18-0+deb12u1)");
    identify(&mut host, 3, 0xA100);
    let events = host.events();
    let asked = events.iter().rfind(|event| event.contains("TIMELINE"));
    assert_eq!(asked.map(String::as_str), Some(first), "{with}: {events:?}");
}

/// The receiver exits if the directory has one of these contents. It leaves the files unchanged.
#[test]
fn invalid_directories_are_refused() {
    let mut other = segment(4);
    other[24..32].copy_from_slice(&8u64.to_le_bytes());
    let file = name(1, SegmentNo(4));
    for (suffix, bytes, complaint) in [
        (
            "",
            other,
            "system identifier of segment file \"000000010000000000000004\" is 8, but that of the server is 7",
        ),
        (
            ".lz4",
            vec![0; 9],
            "cannot check file \"000000010000000000000004.lz4\": compression with LZ4 not supported by this build",
        ),
    ] {
        let mut host = Host::new(options(), 1);
        let file = format!("{file}{suffix}");
        host.disk.set_up_file(&file, Content::new(&bytes));
        greet(&mut host, "18.4");
        identify(&mut host, 1, 0xA100);
        let Some(Exit::Fatal(event)) = &host.exit else {
            panic!("{suffix}: {:?}", host.events());
        };
        assert_eq!(event.message.to_string(), complaint);
        assert_eq!(host.file(&file), Some(bytes));
    }
}

#[test]
fn versions_from_15_to_19_are_understood() {
    for (version, complaint) in [
        ("14.9", "older than 15"),
        ("15.18", ""),
        ("18beta1", ""),
        ("19rc1", ""),
        ("20devel", "newer than 19"),
    ] {
        let mut host = Host::new(options(), 1);
        greet(&mut host, version);
        match &host.exit {
            Some(Exit::Fatal(event)) => {
                let said = event.message.to_string();
                assert!(!complaint.is_empty() && said.ends_with(complaint), "{said}");
            }
            _ => assert_eq!(complaint, "", "{version}"),
        }
    }
}

/// If the first connection fails, the receiver ends. If a later connection fails, the receiver
/// tries again.
#[test]
fn the_first_connection_decides() {
    let mut host = Host::new(options(), 1);
    host.settle();
    host.event(NetEvent::Refused(Refusal::Refused));
    host.settle();
    assert!(matches!(host.exit, Some(Exit::Fatal(_))), "{:?}", host.log);
    let mut host = streaming(options());
    host.event(NetEvent::Reset);
    host.settle();
    host.pass_ms(5000);
    host.event(NetEvent::Refused(Refusal::Refused));
    host.settle();
    assert_eq!(host.exit, None);
    host.events();
    host.pass_ms(5000);
    assert_eq!(host.events(), ["connect"]);
}

fn streaming(options: PgReceivewalOptions) -> Host {
    streaming_from(options, |_| {})
}

/// A receiver that streams from 0/2000. What it logged before is cleared.
fn streaming_from(options: PgReceivewalOptions, prepare: impl FnOnce(&mut Host)) -> Host {
    let mut host = Host::new(options.clone(), 1);
    prepare(&mut host);
    greet(&mut host, "15.18");
    identify(&mut host, 1, 0x2100);
    if options.slot.is_some() {
        let nothing = BackendMessage::row([Some(String::from("physical")), None, None]);
        hear(&mut host, &[nothing, READY]);
    }
    hear(&mut host, &[BackendMessage::copy_both()]);
    host.events();
    host.log.clear();
    host
}

fn greet(host: &mut Host, version: &str) {
    host.settle();
    host.event(NetEvent::Connected);
    host.settle();
    hear(
        host,
        &[
            BackendMessage::AuthenticationOk,
            BackendMessage::ParameterStatus {
                name: String::from("server_version"),
                value: String::from(version),
            },
            READY,
        ],
    );
}

fn identify(host: &mut Host, tli: u32, xlogpos: u64) {
    let row = BackendMessage::row([
        Some(SYSID.to_string()),
        Some(TimelineId(tli).to_string()),
        Some(Lsn(xlogpos).to_string()),
        None,
    ]);
    hear(host, &[row, READY]);
    hear(
        host,
        &[BackendMessage::row([Some(String::from("8kB"))]), READY],
    );
}

fn hear(host: &mut Host, messages: &[BackendMessage]) {
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut out));
    data(host, out.into());
}

fn hear_wal(host: &mut Host, start: u64, len: usize) {
    let header = XLogDataHeader {
        start: Lsn(start),
        wal_end: Lsn(start),
        send_time: TimestampTz(0),
    };
    let message = WalMessage::XLogData(header, Bytes::from(vec![7; len]));
    data(host, message.to_frame());
}

fn hear_keepalive(host: &mut Host, reply_requested: bool) {
    let keepalive = WalMessage::Keepalive(Keepalive {
        wal_end: Lsn(0),
        send_time: TimestampTz(0),
        reply_requested,
    });
    data(host, keepalive.to_frame());
}

fn data(host: &mut Host, bytes: Bytes) {
    if host.conn.is_some() {
        host.event(NetEvent::Data(bytes));
        host.settle();
    }
}

/// A whole segment whose first page has the system identifier.
fn segment(number: u64) -> Vec<u8> {
    let mut bytes = vec![0; geometry().segment as usize];
    bytes[2] = 2;
    bytes[8..16].copy_from_slice(&(number * 0x2000).to_le_bytes());
    bytes[24..32].copy_from_slice(&SYSID.to_le_bytes());
    bytes
}
