//! Restoring slots at server start.

use super::*;
use crate::call::DiskError;
use crate::shmem::Invalidation;
use crate::wire::slot_file::Persistency;

fn put(fixture: &mut Fixture, name: &str, file: &SlotFile) {
    let bytes = file.encode(fixture.shmem.settings.pg_version);
    fixture.dirs.insert(format!("pg_replslot/{name}"));
    fixture
        .files
        .insert(format!("pg_replslot/{name}/state"), bytes);
}

fn file(name: &str) -> SlotFile {
    SlotFile {
        name: name.into(),
        restart_lsn: Lsn(5000),
        ..SlotFile::default()
    }
}

#[test]
fn slots_are_restored_and_leftovers_removed() {
    for version in PgVersion::ALL {
        let (mut fixture, _) = server(version, Planted::NONE);
        put(&mut fixture, "good", &file("good"));
        let lost = SlotFile {
            restart_lsn: Lsn::INVALID,
            invalidated_at: Lsn(77),
            cause: 1,
            ..file("lost")
        };
        put(&mut fixture, "lost", &lost);
        for (name, persistency) in [
            ("ended", Persistency::TEMPORARY),
            ("halfway", Persistency::EPHEMERAL),
        ] {
            let file = SlotFile {
                persistency,
                ..file(name)
            };
            put(&mut fixture, name, &file);
        }
        put(&mut fixture, "going.tmp", &file("going"));
        for path in ["good/state.tmp", "notes"] {
            fixture
                .files
                .insert(format!("pg_replslot/{path}"), Vec::new());
        }
        assert_eq!(fixture.restart(), Ok(()));
        let left = ["good", "good/state", "lost", "lost/state", "notes"];
        assert_eq!(fixture.slot_names(), left, "a file is none of ours");
        let good = fixture.slot("good");
        assert_eq!((good.restart_lsn, good.active_pid), (Lsn(5000), None));
        assert!(!good.temporary && !good.dirty);
        let at = match version {
            PgVersion::V15 => Lsn(77),
            PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => Lsn::INVALID,
        };
        let why = Some(Invalidation::WalRemoved(at));
        assert_eq!(fixture.slot("lost").invalidated, why);
        assert_eq!(fixture.shmem.slots.required_lsn, Lsn(5000));
        // A file is fsynced before it is read.
        let trace = fixture.short_trace();
        let of = |text: &str| trace.iter().position(|op| op == text);
        let read = of("read pg_replslot/good/state").unwrap();
        assert!(of("fsync pg_replslot/good/state").is_some_and(|at| at < read));
        assert!(of("syncdir pg_replslot/good").is_some_and(|at| at < read));
    }
}

#[test]
fn damaged_or_too_many_slots_prevent_the_start() {
    let good = file("s").encode(PgVersion::V15);
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let path = "pg_replslot/s/state";
    for (bytes, code, text) in [
        (
            changed(0),
            "PANIC XX001",
            format!(
                "replication slot file \"{path}\" has wrong magic number: 17112224 instead of 17112225"
            ),
        ),
        (
            changed(8),
            "PANIC XX001",
            format!("replication slot file \"{path}\" has unsupported version 3"),
        ),
        (
            good[..100].to_vec(),
            "PANIC XX001",
            format!("could not read file \"{path}\": read 84 of 184"),
        ),
        (
            SlotFile {
                database: 5,
                ..file("s")
            }
            .encode(PgVersion::V15),
            "FATAL 55000",
            "logical replication slot \"s\" exists, but wal_level < logical".into(),
        ),
    ] {
        let (mut fixture, _) = server(PgVersion::V15, Planted::NONE);
        put(&mut fixture, "s", &file("s"));
        fixture.files.insert(path.into(), bytes);
        assert_eq!(said(fixture.restart()), (code.into(), text));
    }
    let (mut fixture, _) = server(PgVersion::V15, Planted::NONE);
    fixture.shmem.settings.max_replication_slots = 1;
    for name in ["a", "b"] {
        put(&mut fixture, name, &file(name));
    }
    let text = "too many replication slots active before shutdown";
    assert_eq!(said(fixture.restart()), ("FATAL XX000".into(), text.into()));
}

#[test]
fn disk_errors_prevent_the_start() {
    for (operation, code, text) in [
        (
            "list pg_replslot",
            "ERROR 58030",
            "could not open directory \"pg_replslot\": Input/output error",
        ),
        (
            "unlink pg_replslot/s/state.tmp",
            "PANIC 58030",
            "could not remove file \"pg_replslot/s/state.tmp\": Input/output error",
        ),
        (
            "open pg_replslot/s/state",
            "PANIC 58030",
            "could not open file \"pg_replslot/s/state\": Input/output error",
        ),
        (
            "fsync pg_replslot/s/state",
            "PANIC 58030",
            "could not fsync file \"pg_replslot/s/state\": Input/output error",
        ),
        (
            "read pg_replslot/s/state",
            "PANIC 58030",
            "could not read file \"pg_replslot/s/state\": Input/output error",
        ),
    ] {
        let (mut fixture, _) = server(PgVersion::V18, Planted::NONE);
        put(&mut fixture, "s", &file("s"));
        fixture.failing.insert(operation.into(), DiskError::Io);
        assert_eq!(said(fixture.restart()), (code.into(), text.into()));
    }
}
