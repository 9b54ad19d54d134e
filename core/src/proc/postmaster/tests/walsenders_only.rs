//! A server that runs only walsenders. It starts no process that would write. A shutdown still
//! waits until standbys have confirmed all WAL.

use super::*;

fn table(version: PgVersion, state: PmState, kinds: &[Kind]) -> Table {
    let mut table = Table::new(version, state, kinds);
    table.fixture.kernel.walsenders_only = true;
    table.fixture.kernel.locked = true;
    table
}

#[test]
fn no_other_child_is_started() {
    for version in PgVersion::ALL {
        let mut table = table(version, PmState::Startup, &[Kind::Startup]);
        assert_eq!(table.on("0 startup"), "Run", "{version:?}");
        assert_eq!(table.on("connect"), "+Backend Run", "{version:?}");
    }
}

/// Walsenders first get the signal that the server is stopping, then the signal that no more WAL
/// will be written.
#[test]
fn walsenders_end_when_their_peers_have_confirmed_all_wal() {
    for version in PgVersion::ALL {
        for how in ["smart", "fast"] {
            let mut table = table(version, PmState::Run, &[Kind::WalSender]);
            let told = "Usr1>WalSender Usr2>WalSender WaitXlogArchival";
            assert_eq!(table.on(how), told, "{version:?} {how}");
            assert_eq!(table.on("0 walsender"), "leaves", "{version:?} {how}");
            // The driver holds the lock on the directory. The server therefore removes no lock
            // file.
            assert!(table.fixture.trace.is_empty());
            assert_eq!(table.last_line(), "LOG:  database system is shut down");
        }
    }
}

#[test]
fn an_immediate_shutdown_does_not_wait_for_confirmation() {
    for version in PgVersion::ALL {
        let mut table = table(version, PmState::Run, &[Kind::WalSender]);
        assert!(table.on("immediate").starts_with("Quit>WalSender Wait"));
        assert_eq!(table.on("2 walsender"), "leaves", "{version:?}");
    }
}
