//! WAL of every kind that one server writes: each resource manager, records of megabytes, images of every sort, a switch,
//! a crash, a prepared transaction, a replication origin.

use super::server::{Server, Stop, run};
use std::path::Path;

/// What a cluster must be configured with for it.
pub(crate) const SETTINGS: &str = "\
    wal_level=logical\nwal_keep_size=4GB\nmax_wal_size=32MB\nmax_prepared_transactions=5\n\
    track_commit_timestamp=on\nautovacuum=off\nwal_log_hints=on\n";

/// How long pgbench runs, and on how much.
#[derive(Clone, Copy)]
pub(crate) struct Bench {
    pub(crate) scale: u32,
    pub(crate) seconds: u32,
}

/// Every access method, files made and removed, statistics dropped.
const ACCESS_METHODS: &str = "
CREATE TABLE t1 (a int GENERATED ALWAYS AS IDENTITY, b text);
CREATE INDEX i1a ON t1 USING btree (a);
CREATE INDEX i1b ON t1 USING hash (b);
INSERT INTO t1 (b) SELECT md5(g::text) FROM generate_series(1, 2000) g;
DELETE FROM t1 WHERE a % 2 = 0;
VACUUM t1;
TRUNCATE t1;
BEGIN;
INSERT INTO t1 (b) VALUES ('three');
ROLLBACK;
CREATE UNLOGGED TABLE t2 (x int);
CREATE INDEX i2 ON t2 USING btree (x);
INSERT INTO t2 SELECT generate_series(1, 10);
CREATE TABLE gin_tbl (id bigserial PRIMARY KEY, data int[]);
CREATE INDEX gin_idx ON gin_tbl USING gin (data) WITH (fastupdate = on);
INSERT INTO gin_tbl (data) SELECT ARRAY[g, g % 10, g % 100] FROM generate_series(1, 3000) g;
DELETE FROM gin_tbl WHERE id < 2000;
VACUUM gin_tbl;
CREATE TABLE gist_tbl (p point);
CREATE INDEX gist_idx ON gist_tbl USING gist (p);
CREATE INDEX spgist_idx ON gist_tbl USING spgist (p);
INSERT INTO gist_tbl SELECT point(g, g % 7) FROM generate_series(1, 2000) g;
DELETE FROM gist_tbl WHERE p[0] < 1000;
VACUUM gist_tbl;
CREATE TABLE brin_tbl (col1 int, col2 text);
CREATE INDEX brin_idx ON brin_tbl USING brin (col1, col2) WITH (pages_per_range = 2);
INSERT INTO brin_tbl SELECT generate_series(1, 5000), 'dummy';
UPDATE brin_tbl SET col2 = 'updated' WHERE col1 BETWEEN 1 AND 2500;
SELECT brin_summarize_new_values('brin_idx');
SELECT brin_desummarize_range('brin_idx', 0);
CREATE EXTENSION bloom;
CREATE TABLE bloom_tbl (i int, t text);
INSERT INTO bloom_tbl SELECT g, md5(g::text) FROM generate_series(1, 5000) g;
CREATE INDEX bloom_idx ON bloom_tbl USING bloom (i, t);
INSERT INTO bloom_tbl SELECT g, md5(g::text) FROM generate_series(1, 500) g;
DELETE FROM bloom_tbl WHERE i % 3 = 0;
VACUUM bloom_tbl;
VACUUM FULL pg_authid;
VACUUM FREEZE;
CREATE DATABASE d1;
CREATE DATABASE d2 STRATEGY file_copy;
DROP DATABASE d1;
";

/// Subtransactions, more than fit into a list, and transactions that are prepared first.
const TRANSACTIONS: &str = "
BEGIN;
INSERT INTO bloom_tbl VALUES (1);
SAVEPOINT a;
INSERT INTO bloom_tbl VALUES (2);
SAVEPOINT b;
CREATE TABLE gone (i int);
ROLLBACK TO a;
CREATE TABLE kept (i int);
DROP TABLE t2;
PREPARE TRANSACTION 'one';
CHECKPOINT;
COMMIT PREPARED 'one';
BEGIN;
CREATE TABLE gone (i int);
INSERT INTO gone VALUES (1);
PREPARE TRANSACTION 'two';
ROLLBACK PREPARED 'two';
BEGIN;
DROP TABLE kept;
COMMIT;
DO $$ BEGIN
    FOR i IN 1..100 LOOP
        BEGIN
            INSERT INTO bloom_tbl VALUES (i);
            IF i % 10 = 0 THEN RAISE 'rolled back'; END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
BEGIN;
SELECT count(*) FROM (SELECT 1 FROM bloom_tbl FOR SHARE) s;
SAVEPOINT a;
UPDATE bloom_tbl SET i = i + 1 WHERE i < 10;
COMMIT;
BEGIN;
LOCK TABLE bloom_tbl IN ACCESS EXCLUSIVE MODE;
SELECT txid_current();
ROLLBACK;
";

/// Records of megabytes, messages, origins, restore points.
const LARGE: &str = "
CREATE TABLE large (b bytea);
ALTER TABLE large ALTER b SET STORAGE EXTERNAL;
INSERT INTO large SELECT decode(string_agg(md5(g::text), ''), 'hex') FROM generate_series(1, 131072) g;
SELECT pg_logical_emit_message(false, 'alone', repeat('x', 3000000));
SELECT pg_logical_emit_message(true, 'inside', 'short');
SELECT pg_logical_emit_message(true, '', '');
SELECT pg_create_restore_point('a place');
SELECT pg_replication_origin_create('elsewhere');
SELECT pg_replication_origin_advance('elsewhere', '0/123');
SELECT pg_replication_origin_session_setup('elsewhere');
BEGIN;
SELECT pg_replication_origin_xact_setup('A/BC', '2001-02-03 04:05:06.789+00');
INSERT INTO bloom_tbl VALUES (0);
COMMIT;
SELECT pg_replication_origin_session_reset();
SELECT pg_replication_origin_drop('elsewhere');
SELECT pg_switch_wal();
";

/// Writes all of it; the server runs before and afterwards. `folder` is one that the server can reach.
pub(crate) fn write(server: &mut Server, folder: &Path, bench: Bench) {
    let scale = bench.scale.to_string();
    run(server
        .client("pgbench")
        .args(["-i", "-q", "-s", &scale, "postgres"]));
    pgbench(server, bench.seconds);
    server.psql(ACCESS_METHODS);
    server.psql(TRANSACTIONS);
    server.psql(LARGE);
    let tablespace = folder.join("tablespace");
    server.make_folder(&tablespace);
    server.psql(&format!(
        "CREATE TABLESPACE elsewhere LOCATION '{}';
        CREATE TABLE far (i int) TABLESPACE elsewhere;
        INSERT INTO far VALUES (1);
        TRUNCATE far;
        DROP TABLE far;
        DROP TABLESPACE elsewhere;",
        tablespace.display()
    ));
    for setting in ["wal_compression=pglz", "wal_consistency_checking=all"] {
        server.configure(setting);
        server.psql("SELECT pg_reload_conf(); CHECKPOINT;");
        pgbench(server, bench.seconds.div_ceil(4));
    }
    server.psql("UPDATE bloom_tbl SET t = 'x' WHERE i < 100;");
    server.configure("wal_compression=off\nwal_consistency_checking=''\nmax_connections=50");
    server.stop(Stop::Immediate);
    server.start();
    pgbench(server, 1);
}

fn pgbench(server: &Server, seconds: u32) {
    let mut pgbench = server.client("pgbench");
    pgbench.args(["-n", "-c", "4", "-T", &seconds.to_string(), "postgres"]);
    run(&mut pgbench);
}
