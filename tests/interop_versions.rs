//! Compares two lists of the same WAL, for servers of all versions. One list is printed by `walsim
//! waldump`, and the other comes from the server's extension pg_walinspect. pg_waldump is not used,
//! because a newer server may be installed without it.
//!
//! Without PostgreSQL 15 the tests are skipped, or fail if `WALSIM_REQUIRE_PG` is set.
//! `WALSIM_PG_BIN` selects a newer server.

#[path = "interop/server.rs"]
mod server;

use server::{Folder, Server, Stop, run, server_bin};
use std::collections::BTreeSet;
use std::process::Command;

/// A small workload with records of many kinds: heap, indexes, bloom (Generic), messages, a segment
/// switch, and two-phase commit.
const WORKLOAD: &str = "
CREATE EXTENSION bloom;
CREATE TABLE t (i int PRIMARY KEY, b text);
CREATE INDEX ON t USING bloom (i, b);
CREATE INDEX ON t USING gin (to_tsvector('simple', b));
CREATE INDEX ON t USING brin (i);
CREATE SEQUENCE s;
INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 3000) i;
UPDATE t SET b = md5(b) WHERE i % 7 = 0;
DELETE FROM t WHERE i % 11 = 0;
VACUUM t;
SELECT nextval('s') FROM generate_series(1, 100);
CHECKPOINT;
UPDATE t SET b = b || 'x' WHERE i % 5 = 0;
SELECT pg_logical_emit_message(true, 'large', repeat('message ', 100000));
SELECT pg_switch_wal();
BEGIN; INSERT INTO t VALUES (0, 'prepared'); PREPARE TRANSACTION 'p';
COMMIT PREPARED 'p';
BEGIN; INSERT INTO t VALUES (-1, 'aborted'); ROLLBACK;
SELECT pg_create_restore_point('here');
DROP TABLE t;
";

/// The fields of a record that both lists contain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Listed {
    lsn: u64,
    prev: u64,
    xid: u32,
    rmgr: String,
    kind: String,
    length: u32,
}

#[test]
fn every_record_is_listed_as_the_server_lists_it() {
    let Some(bin) = server_bin() else {
        return;
    };
    let folder = Folder::new("versions");
    let settings =
        "wal_keep_size=1GB\nautovacuum=off\nmax_prepared_transactions=2\nwal_compression=pglz";
    let data = folder.path().join("data");
    let mut server = Server::init(&bin, &data, &["--wal-segsize=1"], settings);
    server.start();
    server.psql("CREATE EXTENSION pg_walinspect");
    let start = server.psql("SELECT redo_lsn FROM pg_control_checkpoint()");
    server.psql(WORKLOAD);
    let end = server.psql("SELECT pg_current_wal_flush_lsn()");
    let rows = server.psql(&format!(
        "SELECT start_lsn, prev_lsn, xid, resource_manager, record_type, record_length
         FROM pg_get_wal_records_info('{start}', '{end}')"
    ));
    let mut dump = Command::new(env!("CARGO_BIN_EXE_walsim"));
    dump.arg("waldump").arg("-p").arg(data.join("pg_wal"));
    let lines = run(dump.args(["-s", &start, "-e", &end]));
    server.stop(Stop::Fast);

    let theirs: Vec<Listed> = rows.lines().map(row).collect();
    let ours: Vec<Listed> = lines.lines().map(line).collect();
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their, "left ours");
    }
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.len() > 5000, "{} records", ours.len());
    let kinds: BTreeSet<&str> = ours.iter().map(|listed| &*listed.rmgr).collect();
    for rmgr in [
        "Btree",
        "Generic",
        "Gin",
        "Heap",
        "LogicalMessage",
        "Sequence",
        "Transaction",
        "XLOG",
    ] {
        assert!(kinds.contains(rmgr), "no {rmgr} among {kinds:?}");
    }
}

/// `0/1000028|0/0|0|XLOG|CHECKPOINT_SHUTDOWN|114`
fn row(text: &str) -> Listed {
    let fields: Vec<&str> = text.split('|').collect();
    let [lsn, prev, xid, rmgr, kind, length] = fields[..] else {
        panic!("{text}")
    };
    Listed {
        lsn: position(lsn),
        prev: position(prev),
        xid: xid.parse().expect("a number"),
        rmgr: rmgr.into(),
        kind: kind.into(),
        length: length.parse().expect("a number"),
    }
}

/// Parses `rmgr: XLOG len (rec/tot): 114/ 114, tx: 0, lsn: 0/01000028, prev 0/00000000, desc: ...`
fn line(text: &str) -> Listed {
    let after = |mark: &str| {
        let found = text
            .split_once(mark)
            .unwrap_or_else(|| panic!("no {mark} in {text}"));
        found.1.trim_start()
    };
    let word = |mark: &str| {
        let found = after(mark).split([' ', ',']).next();
        found.unwrap_or_default().to_owned()
    };
    let lengths = after("len (rec/tot):");
    let total = lengths.split_once('/').expect("two lengths").1.trim_start();
    let total = total.split(',').next().unwrap_or_default();
    Listed {
        lsn: position(&word("lsn: ")),
        prev: position(&word("prev ")),
        xid: word("tx: ").parse().expect("a number"),
        rmgr: word("rmgr: "),
        kind: word("desc: "),
        length: total.parse().expect("a number"),
    }
}

fn position(text: &str) -> u64 {
    let (high, low) = text.split_once('/').expect("a position");
    let hex = |digits| u64::from_str_radix(digits, 16).expect("digits");
    (hex(high) << 32) + hex(low)
}
