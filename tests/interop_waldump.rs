//! PostgreSQL's WAL, read by `walsim waldump` and by PostgreSQL's own pg_waldump: they must print the same.
//!
//! Skipped where PostgreSQL 15 is not installed, unless `WALSIM_REQUIRE_PG` is set.

#[path = "interop/server.rs"]
mod server;

use server::{Folder, Server, Stop, postgres_bin};

/// The helper itself: a server that was killed starts again and has what was committed.
#[test]
fn a_server_starts_and_ends_in_every_way() {
    let Some(bin) = postgres_bin() else {
        return;
    };
    let folder = Folder::new("server");
    let mut server = Server::init(&bin, &folder.path().join("data"), &["--wal-segsize=1"], "");
    server.start();
    server.psql("CREATE TABLE t (i int); INSERT INTO t VALUES (1);");
    server.stop(Stop::Fast);
    server.start();
    server.psql("INSERT INTO t VALUES (2);");
    server.kill();
    server.start();
    assert_eq!(server.psql("SELECT sum(i) FROM t"), "3");
    server.stop(Stop::Immediate);
}
