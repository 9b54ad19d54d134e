//! Tests of the walreceiver alone. The input is messages, the output disk operations and messages.

mod table;

use super::*;
use crate::base::{PgVersion, Planted, SegmentNo, TimelineId, TimestampTz};
use crate::call::{DiskError, NetEvent, Refusal};
use crate::shmem::RecoveryState;
use crate::sys::testing::SYSID;
use crate::wire::backend::{BackendMessage, ErrorFields, TxStatus};
use alloc::vec;
use bytes::Bytes;
use table::{Table, bytes, wal};

const V15: PgVersion = PgVersion::V15;
const V18: PgVersion = PgVersion::V18;

#[test]
fn a_walreceiver_that_is_no_longer_requested_ends_at_once() {
    for state in [WalRcvState::Stopped, WalRcvState::Stopping] {
        let mut table = Table::new(V15, Planted::NONE);
        table.fixture.shmem.walrcv.state = state;
        table.run();
        assert_eq!(
            (table.state(), table.exit),
            (WalRcvState::Stopped, Some(Exit::Normal))
        );
    }
    let mut table = Table::new(V15, Planted::NONE);
    table.fixture.shmem.walrcv.state = WalRcvState::Streaming;
    table.run();
    assert!(matches!(table.exit, Some(Exit::Panic(_))));
}

#[test]
fn wal_is_requested_from_the_start_position() {
    let mut table = Table::greeted(V15, 1500);
    assert_eq!(table.state(), WalRcvState::Streaming);
    assert_eq!(table.fixture.shmem.walrcv.pid, Some(table.pid));
    assert_eq!(table.events(), ["START_REPLICATION 0/400 TIMELINE 1"]);
}

/// The walreceiver uses the slot that the startup process stored in shared memory. Later changes of
/// the setting have no effect.
#[test]
fn start_replication_names_the_slot() {
    let mut table = Table::new(V18, Planted::NONE);
    table.fixture.shmem.walrcv.slot_name = "standby_1".into();
    table.greet();
    table.fixture.shmem.walrcv.slot_name = "other".into();
    table.identify(SYSID, 1, 1500);
    let text = "START_REPLICATION SLOT \"standby_1\" 0/400 TIMELINE 1";
    assert_eq!(table.events(), [text]);
}

#[test]
fn another_system_is_refused() {
    let mut table = Table::new(V15, Planted::NONE);
    table.run();
    table.net(NetEvent::Connected);
    table.hear(&[
        BackendMessage::AuthenticationOk,
        BackendMessage::ReadyForQuery(TxStatus::Idle),
    ]);
    table.identify(SYSID + 1, 1, 9000);
    assert_eq!(
        table.fatal(),
        "database system identifier differs between the primary and standby"
    );
    let mut table = Table::new(V15, Planted::NONE);
    table.fixture.shmem.walrcv.receive_start_tli = TimelineId(3);
    table.run();
    table.net(NetEvent::Connected);
    table.hear(&[
        BackendMessage::AuthenticationOk,
        BackendMessage::ReadyForQuery(TxStatus::Idle),
    ]);
    table.identify(SYSID, 2, 9000);
    let text = "highest timeline 2 of the primary is behind recovery timeline 3";
    assert_eq!(table.fatal(), text);
}

#[test]
fn an_upstream_that_is_down_or_refuses_ends_the_process() {
    let mut table = Table::new(V15, Planted::NONE);
    table.run();
    table.net(NetEvent::Refused(Refusal::Refused));
    assert_eq!(
        table.fatal(),
        "could not connect to the primary server: connection refused"
    );
    assert_eq!(
        (table.state(), table.startup_is_woken()),
        (WalRcvState::Stopped, true)
    );
    let mut table = Table::new(V15, Planted::NONE);
    table.run();
    table.net(NetEvent::Connected);
    let text = "the database system is starting up";
    table.hear(&[BackendMessage::ErrorResponse(ErrorFields::new(
        "FATAL", *b"57P03", text,
    ))]);
    let text =
        "could not connect to the primary server: FATAL:  the database system is starting up";
    assert_eq!(table.fatal(), text);
}

/// Since 18.6 the walreceiver waits for an upstream that is slightly behind.
#[test]
fn an_upstream_that_is_a_little_behind_is_waited_for() {
    let mut table = Table::greeted(V18, 1000);
    assert_eq!(table.events(), [""; 0]);
    table.pass_ms(4999);
    assert_eq!(table.events(), [""; 0]);
    table.pass_ms(1);
    assert_eq!(table.events(), ["IDENTIFY_SYSTEM"]);
    table.identify(SYSID, 1, 1024);
    assert_eq!(table.events(), ["START_REPLICATION 0/400 TIMELINE 1"]);
    let mut table = Table::greeted(V18, 1000);
    table.pass_ms(5000);
    table.identify(SYSID, 1, 1000);
    assert!(
        table
            .fatal()
            .contains("is ahead of what the upstream has flushed")
    );
    let mut table = Table::greeted(V15, 1000);
    assert_eq!(table.events(), ["START_REPLICATION 0/400 TIMELINE 1"]);
}

#[test]
fn the_flush_position_starts_at_the_replay_position() {
    let mut table = Table::greeted(V18, 9000);
    table.fixture.shmem.recovery.hot_standby_active = true;
    table.events();
    table.hear(&[BackendMessage::copy_both()]);
    assert_eq!(table.events(), ["reply 1500 1500 1500", "feedback 0"]);
    let mut table = Table::greeted(V15, 9000);
    table.fixture.shmem.recovery.hot_standby_active = true;
    table.events();
    table.hear(&[BackendMessage::copy_both()]);
    assert_eq!(table.events(), [""; 0]);
    table.pass_ms(100);
    assert_eq!(table.events(), ["reply 1500 1500 1500", "feedback 0"]);
    table.pass_ms(100);
    assert_eq!(table.events(), [""; 0]);
}

/// The order is: write, report of the write position, fsync, publication and report of the flush
/// position.
#[test]
fn a_batch_is_written_reported_flushed_published_reported() {
    let mut table = Table::streaming(V15);
    table
        .fixture
        .shmem
        .procs
        .get_mut(table.startup)
        .unwrap()
        .latch = false;
    table.hear_wal(&[(1024, 600), (1624, 200)]);
    let order = [
        "open 01",
        "write 01",
        "write 01",
        "reply 1824 1500 1500",
        "fsync 01",
        "published 0/720",
        "reply 1824 1824 1500",
    ];
    assert_eq!(table.events(), order);
    assert!(table.startup_is_woken());
    let walrcv = &table.fixture.shmem.walrcv;
    assert_eq!(walrcv.written_upto, Lsn(1824));
    assert_eq!(walrcv.latest_chunk_start, Lsn(1400));
    assert_eq!(
        (walrcv.latest_wal_end, walrcv.last_send_time),
        (Lsn(9000), TimestampTz(5))
    );
    let path = table.fixture.segment_path(SegmentNo(1));
    assert_eq!(table.fixture.files[&path][..800], bytes(1024, 800));
}

/// The upstream first repeats WAL that the standby already has. The write position goes back, and
/// nothing is fsynced until the write position is beyond the flush position again.
#[test]
fn a_repetition_moves_the_write_position_back() {
    let mut table = Table::streaming(V15);
    table.hear_wal(&[(1024, 100)]);
    assert_eq!(
        table.events(),
        ["open 01", "write 01", "reply 1124 1500 1500"]
    );
    table.hear_wal(&[(1124, 376)]);
    assert_eq!(table.events(), ["write 01", "reply 1500 1500 1500"]);
    table.hear_wal(&[(1500, 1)]);
    let order = [
        "write 01",
        "reply 1501 1500 1500",
        "fsync 01",
        "published 0/5DD",
        "reply 1501 1501 1500",
    ];
    assert_eq!(table.events(), order);
}

/// A message crosses the end of a segment. The walreceiver flushes the first part before it closes
/// the segment.
#[test]
fn a_segment_is_flushed_before_it_is_closed() {
    let mut table = Table::streaming(V15);
    table.hear_wal(&[(1500, 700)]);
    let order = [
        "open 01",
        "write 01",
        "fsync 01",
        "published 0/800",
        "reply 2048 2048 1500",
        "close 01",
        "open 02",
        "write 02",
        "reply 2200 2048 1500",
        "fsync 02",
        "published 0/898",
        "reply 2200 2200 1500",
    ];
    assert_eq!(table.events(), order);
    let path = table.fixture.segment_path(SegmentNo(2));
    assert_eq!(table.fixture.files[&path][..152], bytes(2048, 152));
}

/// The walreceiver closes a complete segment at once. It opens the next segment only for new WAL.
#[test]
fn a_complete_segment_is_closed_at_once() {
    let mut table = Table::streaming(V15);
    table.hear_wal(&[(1024, 1024)]);
    assert_eq!(table.events().last().map(|e| &e[..]), Some("close 01"));
    table.hear_wal(&[(2048, 1024)]);
    table.events();
    let path = table.fixture.segment_path(SegmentNo(3));
    assert!(!table.fixture.files.contains_key(&path));
    table.hear_wal(&[(3072, 10)]);
    assert_eq!(table.fixture.files[&path].len(), 1024);
    assert_eq!(table.fixture.files[&path][..10], bytes(3072, 10));
}

#[test]
fn a_published_flush_position_is_not_set_back() {
    let mut table = Table::new(V15, Planted::NONE);
    table.fixture.shmem.walrcv.flushed_upto = Lsn(1900);
    table.run();
    table.net(NetEvent::Connected);
    table.hear(&[
        BackendMessage::AuthenticationOk,
        BackendMessage::ReadyForQuery(TxStatus::Idle),
    ]);
    table.identify(SYSID, 1, 9000);
    table.hear(&[BackendMessage::copy_both()]);
    table.hear_wal(&[(1024, 600)]);
    assert_eq!(table.fixture.shmem.walrcv.flushed_upto, Lsn(1900));
    assert_eq!(
        table.events().last().map(|e| &e[..]),
        Some("reply 1624 1624 1500")
    );
}

/// The walreceiver answers the keepalive before it flushes the other data of the batch.
#[test]
fn a_keepalive_that_requests_a_reply_is_answered_at_once() {
    let mut table = Table::streaming(V15);
    table.hear_keepalive(false);
    assert_eq!(
        table.events(),
        ["reply 1500 1500 1500"],
        "the first one is due"
    );
    table.hear_keepalive(false);
    assert_eq!(table.events(), [""; 0]);
    let keepalive =
        crate::wire::replication::WalMessage::Keepalive(crate::wire::replication::Keepalive {
            wal_end: Lsn(7777),
            send_time: TimestampTz(1),
            reply_requested: true,
        });
    let both = [wal(1500, 10), keepalive.to_frame()].concat();
    table.net(NetEvent::Data(both.into()));
    let order = [
        "open 01",
        "write 01",
        "reply 1510 1500 1500",
        "fsync 01",
        "published 0/5E6",
        "reply 1510 1510 1500",
    ];
    assert_eq!(table.events(), order);
    assert_eq!(
        table.fixture.shmem.walrcv.latest_wal_end,
        Lsn(7777),
        "assigned, though less"
    );
}

#[test]
fn the_startup_process_can_request_a_status_update() {
    let mut table = Table::streaming(V18);
    table.fixture.shmem.recovery.last_replayed_end = Lsn(1600);
    table.wake();
    assert_eq!(table.events(), [""; 0], "replay alone is no reason");
    table.fixture.shmem.walrcv.force_reply = true;
    table.wake();
    assert_eq!(table.events(), ["reply 1500 1500 1600"]);
    assert!(!table.fixture.shmem.walrcv.force_reply);
}

/// Since 19 a requested status update is sent only if a position has moved since the last update.
#[test]
fn a_requested_update_without_news() {
    for version in PgVersion::ALL {
        let mut table = Table::streaming(version);
        table.events();
        table.fixture.shmem.recovery.last_replayed_end = Lsn(1600);
        for count in [1, usize::from(version < PgVersion::V19)] {
            table.fixture.shmem.walrcv.force_reply = true;
            table.wake();
            assert_eq!(table.events().len(), count, "{version:?}");
        }
    }
}

/// Until the upstream has accepted START_REPLICATION, the state in 19 is `connecting`.
#[test]
fn since_19_it_connects_before_it_streams() {
    for version in PgVersion::ALL {
        let mut table = Table::greeted(version, 9000);
        let connecting = if version < PgVersion::V19 {
            WalRcvState::Streaming
        } else {
            WalRcvState::Connecting
        };
        assert_eq!(table.state(), connecting);
        assert!(table.fixture.shmem.walrcv.is_streaming());
        table.hear(&[BackendMessage::copy_both()]);
        assert_eq!(table.state(), WalRcvState::Streaming);
    }
}

#[test]
fn a_silent_upstream_is_pinged_and_then_given_up() {
    for version in PgVersion::ALL {
        let mut table = Table::greeted(version, 9000);
        let settings = &mut table.fixture.shmem.settings;
        settings.wal_receiver_status_interval_ms = 0;
        table.hear(&[BackendMessage::copy_both()]);
        table.events();
        for _ in 0..9 {
            table.pass_ms(100);
        }
        assert_eq!(table.events(), [""; 0]);
        table.pass_ms(100);
        assert_eq!(table.events(), ["reply 1500 1500 1500 ping"]);
        for _ in 0..9 {
            table.pass_ms(100);
        }
        assert_eq!((table.events(), table.exit.clone()), (vec![], None));
        table.pass_ms(100);
        assert_eq!(table.fatal(), "terminating walreceiver due to timeout");
        assert_eq!(table.state(), WalRcvState::Stopped);
    }
}

/// In 15 the walreceiver wakes ten times a second. Since 16 it sleeps until the next timer.
#[test]
fn ticks_and_timers() {
    let mut table = Table::streaming(V15);
    let sleep_us = |t: &Table| t.wait.as_ref().unwrap().until.unwrap() - t.fixture.now.mono;
    assert_eq!(sleep_us(&table), 100_000);
    let mut later = Table::streaming(V18);
    assert_eq!(sleep_us(&later), 700_000);
    for _ in 0..7 {
        table.pass_ms(100);
        later.pass_ms(100);
    }
    assert_eq!(
        table.events(),
        ["reply 1500 1500 1500"],
        "at the first tick"
    );
    assert_eq!(
        later.events(),
        ["reply 1500 1500 1500"],
        "after the interval"
    );
    assert_eq!(sleep_us(&later), 300_000, "the ping is next");
    table.pass_ms(100);
    assert_eq!(table.events(), ["reply 1500 1500 1500"]);
    later.fixture.shmem.settings.wal_receiver_timeout_ms = 0;
    later.fixture.shmem.settings.wal_receiver_status_interval_ms = 0;
    later.hear_keepalive(true);
    assert_eq!(later.wait.as_ref().unwrap().until, None);
}

#[test]
fn a_broken_connection_flushes_what_was_written() {
    for event in [NetEvent::Closed, NetEvent::Reset] {
        let mut table = Table::streaming(V15);
        table.conn().apply(NetEvent::Data(wal(1500, 10)));
        table.net(event);
        assert!(
            table
                .fatal()
                .starts_with("could not receive data from WAL stream: ")
        );
        let order = [
            "open 01",
            "write 01",
            "fsync 01",
            "published 0/5E6",
            "disconnect",
        ];
        assert_eq!(table.events(), order);
        assert_eq!(
            (table.state(), table.startup_is_woken()),
            (WalRcvState::Stopped, true)
        );
        assert_eq!(table.fixture.shmem.walrcv.pid, None);
    }
}

#[cfg(feature = "planted-bugs")]
#[test]
fn the_planted_bug_does_not_flush_at_exit() {
    let planted = Planted::NONE.with(Bug::WalreceiverExitWithoutFlush);
    let mut table = Table::streaming_with(V15, planted);
    table.conn().apply(NetEvent::Data(wal(1500, 10)));
    table.net(NetEvent::Reset);
    assert_eq!(table.events(), ["open 01", "write 01", "disconnect"]);
}

#[test]
fn an_error_of_the_upstream_ends_the_process() {
    let mut table = Table::streaming(V15);
    let text = "requested WAL segment 000000010000000000000001 has already been removed";
    table.hear(&[BackendMessage::ErrorResponse(ErrorFields::new(
        "ERROR", *b"58P01", text,
    ))]);
    assert!(table.fatal().ends_with(text));
}

#[test]
fn garbage_ends_the_process() {
    for payload in [
        &b"w\0\0"[..],
        b"k\0",
        b"?",
        b"w\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0xx",
    ] {
        let mut table = Table::streaming(V15);
        table.hear(&[BackendMessage::CopyData(Bytes::from_static(payload))]);
        assert!(matches!(table.exit, Some(Exit::Fatal(_))), "{payload:?}");
    }
    let mut table = Table::streaming(V15);
    table.hear(&[BackendMessage::CopyData(Bytes::new())]);
    assert_eq!(
        (table.events(), table.exit),
        (vec![], None),
        "libpq drops empty ones"
    );
    let mut table = Table::streaming(V15);
    table.net(NetEvent::Data(Bytes::from_static(b"?????")));
    assert!(matches!(table.exit, Some(Exit::Fatal(_))));
}

#[test]
fn sigterm_ends_every_wait() {
    let connecting = {
        let mut table = Table::new(V15, Planted::NONE);
        table.run();
        table
    };
    let tables = [
        connecting,
        Table::greeted(V15, 9000),
        Table::greeted(V18, 1000),
    ];
    for mut table in tables
        .into_iter()
        .chain([Table::streaming(V15), Table::streaming(V18)])
    {
        table.terminate();
        let text = "terminating walreceiver process due to administrator command";
        assert_eq!(table.fatal(), text);
        assert_eq!(table.state(), WalRcvState::Stopped);
    }
}

#[test]
fn the_walreceiver_ends_with_recovery() {
    let mut table = Table::streaming(V15);
    table.fixture.shmem.recovery.state = RecoveryState::Done;
    table.wake();
    assert_eq!(
        table.fatal(),
        "cannot continue WAL streaming, recovery has already ended"
    );
}

#[test]
fn a_disk_that_fails_is_a_panic() {
    let failing = |what: &str, error| {
        let mut table = Table::streaming(V15);
        let path = table.fixture.segment_path(SegmentNo(1));
        table
            .fixture
            .failing
            .insert(alloc::format!("{what} {path}"), error);
        table.hear_wal(&[(1500, 10)]);
        assert!(matches!(table.exit, Some(Exit::Panic(_))), "{what}");
        assert_eq!(
            table.state(),
            WalRcvState::Streaming,
            "a crash cleans nothing up"
        );
        assert_eq!(table.fixture.shmem.walrcv.flushed_upto, Lsn(1400));
        table.fixture.probe.marks().contains(Mark::FsyncPanic)
    };
    assert!(!failing("write", DiskError::NoSpace));
    assert!(failing("fsync", DiskError::Io));
}

/// When the timeline has ended on the upstream, the walreceiver flushes all WAL. It then waits for
/// instructions, and keeps its connection.
#[test]
fn after_the_end_of_a_timeline_it_waits_for_instructions() {
    let mut table = Table::streaming(V15);
    table.conn().apply(NetEvent::Data(wal(1500, 10)));
    table.hear(&[BackendMessage::CopyDone]);
    let order = [
        "open 01",
        "write 01",
        "reply 1510 1500 1500",
        "fsync 01",
        "published 0/5E6",
        "reply 1510 1510 1500",
        "CopyDone",
    ];
    assert_eq!(table.events(), order);
    table.hear(&[
        BackendMessage::row([Some("2".into()), Some("0/5E6".into())]),
        BackendMessage::CommandComplete("START_STREAMING".into()),
        BackendMessage::CommandComplete("START_REPLICATION".into()),
        BackendMessage::ReadyForQuery(TxStatus::Idle),
    ]);
    assert_eq!(table.events(), ["close 01"]);
    assert_eq!(table.state(), WalRcvState::Waiting);
    let walrcv = &mut table.fixture.shmem.walrcv;
    assert_eq!(walrcv.receive_start, Lsn::INVALID);
    walrcv.state = WalRcvState::Restarting;
    walrcv.receive_start = Lsn(2048);
    walrcv.receive_start_tli = TimelineId(2);
    table.wake();
    assert_eq!(table.events(), ["IDENTIFY_SYSTEM"]);
    table.identify(SYSID, 2, 9000);
    assert_eq!(table.events(), ["START_REPLICATION 0/800 TIMELINE 2"]);
    table.hear(&[BackendMessage::copy_both()]);
    let message = &table.fixture.logs.last().unwrap().message;
    assert_eq!(
        *message,
        Message::RestartedStreaming(Lsn(2048).text(V15), TimelineId(2))
    );
}

#[test]
fn the_upstream_shuts_down() {
    let mut table = Table::streaming(V15);
    table.hear(&[BackendMessage::CommandComplete("COPY 0".into())]);
    assert!(matches!(table.exit, Some(Exit::Fatal(_))));
}

#[test]
fn a_restarted_walreceiver_is_marked() {
    let mut table = Table::streaming(V15);
    assert!(
        !table
            .fixture
            .probe
            .marks()
            .contains(Mark::WalreceiverRestarted)
    );
    table.terminate();
    table.fixture.shmem.walrcv.state = WalRcvState::Starting;
    (table.receiver, table.exit, table.wait) = (WalReceiver::new(), None, None);
    table.run();
    assert!(
        table
            .fixture
            .probe
            .marks()
            .contains(Mark::WalreceiverRestarted)
    );
}
