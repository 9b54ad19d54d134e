//! A walsender during the shutdown of its server.

use super::super::*;
use super::table::{Table, status};
use crate::base::PgVersion;
use crate::wire::frontend::FrontendMessage;
use crate::wire::replication::{Keepalive, StandbyMessage, StandbyStatus, WalMessage};
use alloc::string::{String, ToString};

const END: u64 = 5100;

fn signal(table: &mut Table, signal: Signal) {
    let sys = table.fixture.procs.get_mut(&table.pid).unwrap();
    sys.signal(signal);
    table.fixture.shmem.procs.set_latch(table.pid);
    table.run();
}

/// A walsender that has sent the shutdown checkpoint, which ends at `END`, and has received
/// SIGUSR2.
fn last_cycle(mut table: Table) -> Table {
    signal(&mut table, Signal::Usr1);
    assert_eq!(table.entry().state, WalSndState::Stopping);
    assert_eq!(table.exit, None);
    table.flush(END);
    assert_eq!(table.next_range(), Some((5000, END)));
    signal(&mut table, Signal::Usr2);
    table
}

fn is_ping(message: Option<WalMessage>) -> bool {
    matches!(
        message,
        Some(WalMessage::Keepalive(Keepalive {
            wal_end: Lsn(END),
            reply_requested: true,
            ..
        }))
    )
}

fn has_left(table: &mut Table) -> bool {
    let said = table.next() == Some(BackendMessage::CommandComplete("COPY 0".into()));
    let freed = *table.entry() == WalSnd::default();
    said && freed && table.next().is_none() && table.exit == Some(Exit::Normal)
}

/// The walsender requests one reply at a time. It ends when the standby has confirmed exactly the
/// end of WAL.
#[test]
fn it_waits_until_the_standby_has_confirmed_all_wal() {
    let mut table = last_cycle(Table::streaming(5000, 5000));
    assert!(is_ping(table.next_wal()));
    assert_eq!((table.next_wal(), table.exit.clone()), (None, None));
    for flushed in [END - 8, END + 8] {
        table.report(status(flushed, false));
        assert!(is_ping(table.next_wal()), "{flushed} is not the end");
        assert_eq!(table.exit, None);
    }
    table.report(status(END, false));
    assert!(has_left(&mut table));
}

#[test]
fn without_a_flush_position_the_write_position_counts() {
    let mut table = last_cycle(Table::streaming(5000, 5000));
    assert!(is_ping(table.next_wal()));
    table.report(StandbyMessage::Status(StandbyStatus {
        write: Lsn(END),
        flush: Lsn::INVALID,
        apply: Lsn::INVALID,
        client_time: crate::base::TimestampTz(1),
        reply_requested: false,
    }));
    assert!(has_left(&mut table));
}

/// If new WAL appears after the last check, the walsender sends the WAL before it requests a reply.
#[test]
fn it_checks_once_more_for_wal() {
    let mut table = Table::streaming(5000, 5000);
    signal(&mut table, Signal::Usr1);
    table.fixture.shmem.xlog.flush = Lsn(END);
    signal(&mut table, Signal::Usr2);
    assert_eq!(table.next_range(), Some((5000, END)));
    assert!(is_ping(table.next_wal()));
}

#[test]
fn a_silent_standby_is_given_up_at_the_timeout() {
    let mut table = last_cycle(Table::streaming(5000, 5000));
    table.pass_ms(1999);
    assert_eq!(table.exit, None);
    table.pass_ms(1);
    assert_eq!(table.exit, Some(Exit::Normal));
}

/// wal_sender_shutdown_timeout (since 19). With -1 the walsender waits without a limit, as in
/// earlier versions. With 0 it ends at once. With any other value it ends after that time. If the
/// time has passed, the walsender sends the end of the COPY and logs a WARNING.
#[test]
fn since_19_a_shutdown_waits_for_a_standby_only_so_long() {
    for (timeout, ends_after_ms) in [("-1", None), ("0", Some(0)), ("700", Some(700))] {
        let mut table = Table::streaming(5000, 5000);
        let settings = &mut table.fixture.shmem.settings;
        settings.pg_version = PgVersion::V19;
        settings.wal_sender_timeout_ms = 0;
        settings
            .set("wal_sender_shutdown_timeout", timeout)
            .expect("a setting of 19");
        signal(&mut table, Signal::Usr1);
        if ends_after_ms != Some(0) {
            table.fixture.shmem.xlog.flush = Lsn(END);
            signal(&mut table, Signal::Usr2);
            assert_eq!(table.next_range(), Some((5000, END)));
            assert!(is_ping(table.next_wal()));
            table.pass_ms(699);
            assert_eq!(table.exit, None);
            table.pass_ms(1);
        }
        if ends_after_ms.is_none() {
            table.pass_ms(100_000);
            assert_eq!(table.exit, None, "{timeout}");
            continue;
        }
        assert!(has_left(&mut table), "{timeout}");
        let said = table.fixture.logs.last().expect("a WARNING");
        assert_eq!(
            said.to_string(),
            "WARNING:  terminating walsender process due to replication shutdown timeout"
        );
        assert!(said.detail().is_some());
    }
}

/// A walsender that is not streaming ends at once. It has no WAL to send, and its next command
/// could write WAL.
#[test]
fn an_idle_walsender_ends_at_once() {
    let mut table = Table::new(PgVersion::V18, 5000);
    table.run();
    signal(&mut table, Signal::Usr1);
    assert_eq!(table.next_error().0, "FATAL 57P01");
    assert!(matches!(table.exit, Some(Exit::Fatal(_))));
}

/// After the end of a COPY, or after an error, the process ends.
#[test]
fn after_streaming_it_does_not_return_to_commands() {
    for bad in [false, true] {
        let mut table = Table::streaming(5000, 5000);
        signal(&mut table, Signal::Usr1);
        if bad {
            let frame = Bytes::from_static(b"d\0\0\0\x05r");
            table.conn().apply(crate::call::NetEvent::Data(frame));
            table.run();
            assert_eq!(table.next_error().0, "ERROR 08P01");
        } else {
            table.say(&FrontendMessage::CopyDone);
            assert_eq!(table.next(), Some(BackendMessage::CopyDone));
        }
        assert_eq!(
            (table.next(), table.exit),
            (None, Some(Exit::Normal)),
            "{bad}"
        );
    }
}

/// PostgreSQL refuses commands while the walsender is stopping. A physical client cannot cause this
/// case, so the test sets the flag directly.
#[test]
fn commands_are_refused_while_stopping() {
    let mut table = Table::new(PgVersion::V15, 5000);
    table.run();
    table.sender.got_stopping = true;
    table.query("IDENTIFY_SYSTEM");
    let text = "cannot execute new commands while WAL sender is in stopping mode";
    assert_eq!(
        table.next_error(),
        (String::from("ERROR 55000"), text.into())
    );
    assert_eq!((table.next(), table.exit), (None, Some(Exit::Normal)));
}

#[test]
#[cfg(feature = "planted-bugs")]
fn with_the_bug_it_ends_when_all_wal_is_sent() {
    let planted = crate::base::Planted::NONE.with(crate::base::Bug::ShutdownDropsUnconfirmedTail);
    let mut table = Table::streaming(5000, 5000);
    table.fixture.probe = crate::base::Probe::new(planted);
    let mut table = last_cycle(table);
    assert!(has_left(&mut table));
}
