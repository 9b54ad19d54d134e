//! Tests of the walsender alone. The input is the client's bytes. The output is the walsender's
//! bytes.

mod database;
mod settings_and_history;
mod slots;
mod stopping;
mod table;

use super::*;
use crate::base::{Mark, PgVersion, Pid, SegmentNo, TimestampTz, Xid};
use crate::call::{NetEvent, SEND_WINDOW};
use crate::shmem::RecoveryState;
use crate::sys::testing::SYSID;
use crate::wire::command::SystemIdentity;
use crate::wire::frontend::FrontendMessage;
use crate::wire::replication::{HotStandbyFeedback, Keepalive, StandbyMessage, WalMessage};
use table::{CONN, IDLE, Table, status};

#[test]
fn identify_system_reports_the_flush_position() {
    let mut table = Table::new(PgVersion::V15, 5000);
    table.query("IDENTIFY_SYSTEM");
    assert!(matches!(
        table.next(),
        Some(BackendMessage::RowDescription(_))
    ));
    let Some(BackendMessage::DataRow(row)) = table.next() else {
        panic!()
    };
    let identity = SystemIdentity::from_row(&row).unwrap();
    assert_eq!((identity.system_id, identity.xlogpos), (SYSID, Lsn(5000)));
    assert_eq!(identity.timeline, TimelineId(1));
    assert!(matches!(
        table.next(),
        Some(BackendMessage::CommandComplete(_))
    ));
    assert_eq!(table.next(), Some(IDLE));
    assert_eq!(table.next(), None);
}

#[test]
fn commands_that_fail_leave_the_connection_usable() {
    let mut table = Table::new(PgVersion::V15, 5000);
    for (text, code, message) in [
        (
            "SELECT 1",
            "ERROR 0A000",
            "cannot execute SQL commands in WAL sender for physical replication",
        ),
        ("START_REPLICATION", "ERROR 42601", "syntax error"),
        (
            "START_REPLICATION 0/1000 TIMELINE 7",
            "ERROR XX000",
            "requested timeline 7 is not in this server's history",
        ),
    ] {
        table.query(text);
        assert_eq!(table.next_error(), (code.into(), message.into()));
        assert_eq!(table.next(), Some(IDLE));
    }
    table.say(&FrontendMessage::Sync);
    assert_eq!(table.next(), Some(IDLE));
    assert_eq!((table.next(), table.exit), (None, None));
}

#[test]
fn the_extended_protocol_is_skipped_up_to_a_sync() {
    let mut table = Table::new(PgVersion::V15, 5000);
    let parse = FrontendMessage::Extended {
        tag: b'P',
        body: Bytes::new(),
    };
    table.say(&parse);
    assert_eq!(table.next_error().0, "ERROR 08P01");
    table.query("IDENTIFY_SYSTEM");
    assert_eq!(table.next(), None);
    table.say(&FrontendMessage::Sync);
    assert_eq!(table.next(), Some(IDLE));
}

#[test]
fn an_unknown_type_ends_the_session_and_frees_the_entry() {
    let mut table = Table::new(PgVersion::V15, 5000);
    table.run();
    assert_eq!(table.entry().pid, Some(table.pid));
    table.conn().apply(NetEvent::Data(Bytes::from_static(b"?")));
    table.run();
    let text = "invalid frontend message type 63";
    assert_eq!(table.next_error(), ("FATAL 08P01".into(), text.into()));
    assert!(matches!(table.exit, Some(Exit::Fatal(_))));
    assert_eq!(*table.entry(), WalSnd::default());
}

#[test]
fn terminate_and_the_end_of_the_stream_are_orderly_between_commands() {
    let mut table = Table::new(PgVersion::V15, 5000);
    table.say(&FrontendMessage::Terminate);
    assert_eq!((table.next(), table.exit), (None, Some(Exit::Normal)));
    let mut table = Table::new(PgVersion::V15, 5000);
    table.conn().apply(NetEvent::Closed);
    table.run();
    assert_eq!((table.next(), table.exit), (None, Some(Exit::Normal)));
}

/// A server that only sends WAL cannot keep WAL for slots.
#[test]
fn a_server_of_walsenders_refuses_slots() {
    let mut table = Table::new(PgVersion::V15, 5000);
    table.fixture.kernel.walsenders_only = true;
    for text in [
        "CREATE_REPLICATION_SLOT s PHYSICAL",
        "READ_REPLICATION_SLOT s",
        "DROP_REPLICATION_SLOT s",
        "START_REPLICATION SLOT s 0/1000",
    ] {
        table.query(text);
        let text = "replication slots cannot be used on a server that only sends the WAL of a stopped cluster";
        assert_eq!(table.next_error(), ("ERROR 55000".into(), text.into()));
        assert_eq!(table.next(), Some(IDLE));
    }
    table.query("START_REPLICATION 0/1000");
    assert_eq!(table.next(), Some(BackendMessage::copy_both()));
}

/// The client sees the COPY begin and then fail.
#[test]
fn a_start_beyond_the_flush_position_fails_after_the_copy_began() {
    let mut table = Table::new(PgVersion::V15, 5000);
    table.query("START_REPLICATION 0/2000");
    assert_eq!(table.next(), Some(BackendMessage::copy_both()));
    let text =
        "requested starting point 0/2000 is ahead of the WAL flush position of this server 0/1388";
    assert_eq!(table.next_error(), ("ERROR XX000".into(), text.into()));
    assert_eq!(table.next(), Some(IDLE));
    assert_eq!(table.entry().state, WalSndState::Startup);
}

#[test]
fn messages_are_cut_at_pages_but_not_at_segments() {
    let mut table = Table::streaming(11_000, 1100);
    // The first message ends at 1100 + 4096, rounded down to a page boundary.
    assert_eq!(table.next_range(), Some((1100, 5120)));
    assert_eq!(table.next_range(), Some((5120, 9216)));
    assert_eq!(table.next_range(), Some((9216, 11_000)));
    assert_eq!(table.next(), None);
    assert_eq!(table.entry().sent, Lsn(11_000));
    assert_eq!(table.entry().state, WalSndState::Streaming);
    table.flush(11_001);
    assert_eq!(table.next_range(), Some((11_000, 11_001)));
}

#[test]
fn a_start_at_the_flush_position_is_caught_up_at_once() {
    let table = Table::streaming(5000, 5000);
    assert_eq!(table.entry().state, WalSndState::Streaming);
    assert_eq!(table.entry().sent, Lsn(5000));
}

#[test]
fn nothing_unflushed_is_sent() {
    let mut table = Table::streaming(5000, 4096);
    assert_eq!(table.next_range(), Some((4096, 5000)));
    table.fixture.shmem.xlog.write = Lsn(5100);
    table.fixture.shmem.wake_walsenders();
    table.run();
    assert_eq!(table.next(), None);
}

#[cfg(feature = "planted-bugs")]
#[test]
fn the_planted_bug_sends_unflushed_wal() {
    let planted = crate::base::Planted::NONE.with(crate::base::Bug::WalsenderSendsUnflushed);
    let mut table = Table::planted(PgVersion::V15, 5000, planted);
    table.fixture.shmem.xlog.write = Lsn(5100);
    table.query("START_REPLICATION 0/1000");
    table.next();
    assert_eq!(table.next_range(), Some((4096, 5100)));
}

#[test]
fn a_standby_sends_received_or_replayed_wal() {
    let mut table = Table::new(PgVersion::V15, 9);
    let shmem = &mut table.fixture.shmem;
    shmem.recovery.state = RecoveryState::Archive;
    shmem.recovery.last_replayed_end = Lsn(4500);
    shmem.recovery.last_replayed_tli = TimelineId(1);
    shmem.walrcv.flushed_upto = Lsn(5000);
    shmem.walrcv.received_tli = TimelineId(2);
    table.query("START_REPLICATION 0/1000");
    table.next();
    assert_eq!(table.next_range(), Some((4096, 4500)));
    table.fixture.shmem.walrcv.received_tli = TimelineId(1);
    table.fixture.shmem.wake_walsenders();
    table.run();
    assert_eq!(table.next_range(), Some((4500, 5000)));
}

/// It is an error if a segment is recycled while it is read. The bytes could be those of another
/// segment.
#[test]
fn a_segment_recycled_during_the_read_is_an_error() {
    for version in PgVersion::ALL {
        let mut table = Table::new(version, 5000);
        table.fixture.shmem.xlog.last_removed = SegmentNo(4);
        table.query("START_REPLICATION 0/1000");
        assert_eq!(table.next(), Some(BackendMessage::copy_both()));
        let text = "requested WAL segment 000000010000000000000004 has already been removed";
        assert_eq!(table.next_error(), ("ERROR XX000".into(), text.into()));
        assert_eq!(table.next(), Some(IDLE));
    }
}

#[test]
fn a_missing_segment_is_an_error_that_ends_only_the_copy() {
    let mut table = Table::new(PgVersion::V15, 5000);
    table.query("START_REPLICATION 0/0");
    assert_eq!(table.next(), Some(BackendMessage::copy_both()));
    let text = "requested WAL segment 000000010000000000000000 has already been removed";
    assert_eq!(table.next_error(), ("ERROR 58P01".into(), text.into()));
    assert_eq!(table.next(), Some(IDLE));
    // Remaining messages of the COPY are skipped.
    table.report(status(1000, true));
    table.say(&FrontendMessage::CopyDone);
    assert_eq!((table.next(), table.exit.clone()), (None, None));
    table.query("START_REPLICATION 0/1000");
    assert_eq!(table.next(), Some(BackendMessage::copy_both()));
    assert_eq!(table.next_range(), Some((4096, 5000)));
}

#[test]
fn a_segment_that_is_too_short_is_corrupt() {
    let mut table = Table::new(PgVersion::V15, 5000);
    let path = table.fixture.segment_path(SegmentNo(4));
    table.fixture.files.get_mut(&path).unwrap().truncate(300);
    table.query("START_REPLICATION 0/1000");
    table.next();
    let text =
        "could not read from WAL segment 000000010000000000000004, offset 300: read 0 of 604";
    assert_eq!(table.next_error(), ("ERROR XX001".into(), text.into()));
}

#[test]
fn a_keepalive_reports_the_sent_position() {
    let mut table = Table::streaming(5000, 4096);
    table.next_range();
    table.conn().sent(1 + SEND_WINDOW as usize);
    table.flush(5100);
    table.report(status(4200, true));
    let reply = Keepalive {
        wal_end: Lsn(5000),
        send_time: table.fixture.now.wall,
        reply_requested: false,
    };
    assert_eq!(table.next_wal(), Some(WalMessage::Keepalive(reply)));
}

#[test]
fn reported_positions_are_stored_unchanged() {
    let mut table = Table::streaming(5000, 5000);
    table.report(status(9000, false));
    let stored = |t: &Table| (t.entry().write, t.entry().flush, t.entry().apply);
    assert_eq!(stored(&table), (Lsn(9001), Lsn(9000), Lsn(8999)));
    table.report(status(4000, false));
    assert_eq!(stored(&table), (Lsn(4001), Lsn(4000), Lsn(3999)));
    assert_eq!(table.entry().reply_time, TimestampTz(99));
    table.report(StandbyMessage::Feedback(HotStandbyFeedback {
        client_time: TimestampTz(100),
        xmin: Xid(0),
        xmin_epoch: 0,
        catalog_xmin: Xid(0),
        catalog_xmin_epoch: 0,
    }));
    assert_eq!(table.entry().reply_time, TimestampTz(100));
}

/// The timeout counts from the start of streaming if the client never sends a status update.
#[test]
fn a_silent_client_is_pinged_and_then_dropped() {
    let mut table = Table::streaming(5000, 5000);
    table.pass_ms(999);
    assert_eq!(table.next(), None);
    table.pass_ms(1);
    let ping = Keepalive {
        wal_end: Lsn(5000),
        send_time: table.fixture.now.wall,
        reply_requested: true,
    };
    assert_eq!(table.next_wal(), Some(WalMessage::Keepalive(ping)));
    table.pass_ms(999);
    assert_eq!((table.next(), table.exit.clone()), (None, None));
    table.pass_ms(1);
    assert_eq!(
        (table.next(), table.exit.clone()),
        (None, Some(Exit::Normal))
    );
    assert_eq!(
        table.fixture.logs.last().unwrap().message,
        Message::SenderTimeout
    );
    assert_eq!(table.entry().pid, None);
}

/// Every message restarts the timeout.
#[test]
fn a_status_update_resets_the_timeout() {
    let mut table = Table::streaming(5000, 5000);
    for _ in 0..5 {
        table.pass_ms(1900);
        assert!(matches!(table.next_wal(), Some(WalMessage::Keepalive(k)) if k.reply_requested));
        table.report(status(5000, false));
        assert_eq!((table.next(), table.exit.clone()), (None, None));
    }
}

#[test]
fn timeouts_can_be_switched_off() {
    let mut table = Table::streaming(5000, 5000);
    table.fixture.shmem.settings.wal_sender_timeout_ms = 0;
    for _ in 0..10 {
        table.pass_ms(60_000);
    }
    assert_eq!((table.next(), table.exit.clone()), (None, None));
}

/// A status update that is too short fails the COPY. The connection stays open.
#[test]
fn a_short_status_update_keeps_the_connection() {
    for (payload, text) in [
        (&b"r\0\0\0"[..], "insufficient data left in message"),
        (&b""[..], "no data left in message"),
    ] {
        let mut table = Table::streaming(5000, 5000);
        table.say(&FrontendMessage::CopyData(Bytes::from_static(payload)));
        assert_eq!(table.next_error(), ("ERROR 08P01".into(), text.into()));
        assert_eq!(table.next(), Some(IDLE));
        assert_eq!(table.entry().state, WalSndState::Startup);
        table.query("IDENTIFY_SYSTEM");
        assert!(matches!(
            table.next(),
            Some(BackendMessage::RowDescription(_))
        ));
    }
}

#[test]
fn other_violations_end_the_process() {
    let mut table = Table::streaming(5000, 5000);
    table.say(&FrontendMessage::CopyData(Bytes::from_static(b"z")));
    assert_eq!((table.next(), table.exit), (None, Some(Exit::Normal)));
    let mut table = Table::streaming(5000, 5000);
    table.query("IDENTIFY_SYSTEM");
    let text = "invalid standby message type \"Q\"";
    assert_eq!(table.next_error(), ("FATAL 08P01".into(), text.into()));
    assert!(matches!(table.exit, Some(Exit::Fatal(_))));
    let mut table = Table::streaming(5000, 5000);
    table.conn().apply(NetEvent::Reset);
    table.run();
    assert_eq!(table.exit, Some(Exit::Normal));
    assert_eq!(
        table.fixture.logs.last().unwrap().message,
        Message::StandbyEof
    );
}

#[test]
fn a_client_that_does_not_read_gets_no_more_wal() {
    let mut table = Table::streaming(5000, 4096);
    assert_eq!(table.next_range(), Some((4096, 5000)));
    table.conn().sent(1 + SEND_WINDOW as usize);
    table.flush(6000);
    assert_eq!(table.next(), None);
    assert!(
        table
            .fixture
            .probe
            .marks()
            .contains(Mark::BackpressureBlockedSend)
    );
    assert_eq!(table.wait.as_ref().unwrap().writable, Some(CONN));
    table.conn().apply(NetEvent::Sent(SEND_WINDOW));
    table.run();
    assert_eq!(table.next_range(), Some((5000, 6000)));
    // If the client still reads nothing, wal_sender_timeout ends the connection.
    table.conn().sent(2 * SEND_WINDOW as usize);
    table.pass_ms(1000);
    table.pass_ms(1000);
    assert_eq!(table.exit, Some(Exit::Normal));
}

/// A command can follow the client's CopyDone. The walsender then sends no more WAL.
#[test]
fn the_client_ends_the_copy() {
    let mut table = Table::streaming(5000, 4096);
    table.next_range();
    table.fixture.shmem.xlog.flush = Lsn(6000);
    let both = [
        FrontendMessage::CopyDone.to_bytes(),
        FrontendMessage::Query("SELECT".into()).to_bytes(),
    ];
    table.conn().apply(NetEvent::Data(both.concat().into()));
    table.run();
    let complete = |tag: &str| Some(BackendMessage::CommandComplete(tag.into()));
    let heard: Vec<_> = core::iter::repeat_with(|| table.next()).take(5).collect();
    let ends = [
        Some(BackendMessage::CopyDone),
        complete("START_STREAMING"),
        complete("START_REPLICATION"),
        Some(IDLE),
    ];
    assert_eq!(heard[..4], ends);
    assert!(matches!(heard[4], Some(BackendMessage::ErrorResponse(_))));
    assert_eq!(table.entry().state, WalSndState::Startup);
    assert_eq!(table.entry().sent, Lsn(5000), "positions outlive the COPY");
}

#[test]
fn sigterm_is_told_to_the_client() {
    let idle = Table::new(PgVersion::V18, 5000);
    for mut table in [idle, Table::streaming(5000, 5000)] {
        table.run();
        table.terminate();
        let text = "terminating connection due to administrator command";
        assert_eq!(table.next_error(), ("FATAL 57P01".into(), text.into()));
        assert!(matches!(table.exit, Some(Exit::Fatal(_))));
        assert_eq!(table.entry().pid, None);
    }
}

#[test]
fn the_lowest_free_entry_is_taken() {
    let mut table = Table::new(PgVersion::V15, 5000);
    table.fixture.shmem.walsnd[0].pid = Some(Pid {
        incarnation: 1,
        n: 77,
    });
    table.run();
    assert_eq!(table.fixture.shmem.walsnd[1].pid, Some(table.pid));
    table.fixture.shmem.settings.max_wal_senders = 2;
    table.fixture.shmem.walsnd.truncate(2);
    table.sender.phase = Phase::Init;
    table.wait = None;
    table.run();
    let text = "number of requested standby connections exceeds max_wal_senders (currently 2)";
    assert_eq!(table.next_error(), ("FATAL 53300".into(), text.into()));
}
