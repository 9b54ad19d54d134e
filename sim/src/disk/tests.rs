//! Tests of the disk. Each test covers one guarantee.

use super::*;
use std::collections::BTreeMap;

const A: Pid = Pid::postmaster(1);
const B: Pid = Pid {
    incarnation: 1,
    n: 2,
};

/// A disk, its choices, and helpers for system calls.
struct Rig {
    disk: Disk,
    choices: Choices,
}

impl Rig {
    fn new() -> Self {
        let mut disk = Disk::new(0, DiskSpec::default(), 64, 1 << 20);
        for dir in ["pg_wal", "base", "global"] {
            disk.set_up_dir(dir);
        }
        Self {
            disk,
            choices: Choices::new(1),
        }
    }

    /// Pins the choices whose keys have these texts.
    fn pin(mut self, pins: &[(&str, u64)]) -> Self {
        let pins: BTreeMap<String, u64> = pins
            .iter()
            .map(|(key, value)| ((*key).to_owned(), *value))
            .collect();
        self.choices = Choices::with_pins(1, Vec::new(), pins);
        self
    }

    fn issue(&mut self, op: &DiskOp) -> Ticket {
        self.disk.issue(A, op, &self.choices).0
    }

    fn complete(&mut self, ticket: Ticket) -> Result<DiskDone, DiskError> {
        self.disk.complete(ticket, &self.choices)
    }

    fn run(&mut self, op: &DiskOp) -> Result<DiskDone, DiskError> {
        self.disk.call(A, op, &self.choices)
    }

    fn open(&mut self, path: &str, flags: OpenFlags) -> Fd {
        let path = FilePath::from(path);
        match self.run(&DiskOp::Open { path, flags }) {
            Ok(DiskDone::Opened(fd)) => fd,
            other => panic!("not opened: {other:?}"),
        }
    }

    fn write(&mut self, fd: Fd, offset: u64, data: &[u8]) -> Result<DiskDone, DiskError> {
        let data = Bytes::copy_from_slice(data);
        self.run(&DiskOp::Write { fd, offset, data })
    }

    /// A durable file with a durable name.
    fn durable(&mut self, path: &str, data: &[u8]) -> Fd {
        self.disk.set_up_file(path, Content::new(data));
        self.open(path, OpenFlags::Existing)
    }

    fn fsync(&mut self, fd: Fd) {
        self.run(&DiskOp::Fsync(fd)).expect("no fault is planned");
    }

    fn sync_dir(&mut self, path: &str) {
        self.run(&DiskOp::SyncDir(path.into())).expect("it exists");
    }

    fn rename(&mut self, from: &str, to: &str) {
        let (from, to) = (from.into(), to.into());
        self.run(&DiskOp::Rename { from, to }).expect("it exists");
    }

    fn lose_power(&mut self) -> PowerLoss {
        self.disk.power_loss(256, &self.choices)
    }

    fn text(&self, path: &str) -> Option<String> {
        let bytes = self.disk.read_cached(path, 0, 1 << 20)?;
        Some(String::from_utf8(bytes).expect("the tests write text"))
    }
}

/// With this pin, a power loss destroys all unsynced data.
const LOSE_ALL: &[(&str, u64)] = &[("disk.loss/node0/1.0", 1)];

#[test]
fn an_fsync_covers_only_what_was_written_before_its_issue() {
    let inode = 5;
    let covers = format!("disk.fsync-covers/node0/{inode}.2");
    for (choice, expected) in [(0, "aacc"), (1, "aabb")] {
        let mut rig = Rig::new().pin(&[LOSE_ALL[0], (covers.as_str(), choice)]);
        let fd = rig.durable("pg_wal/x", b"cccc");
        rig.write(fd, 0, b"aa").unwrap();
        let fsync = rig.issue(&DiskOp::Fsync(fd));
        rig.write(fd, 2, b"bb").unwrap();
        rig.complete(fsync).unwrap();
        assert!(rig.disk.is_stable("pg_wal/x", 0..2));
        assert_eq!(rig.disk.is_stable("pg_wal/x", 2..4), choice == 1);
        rig.lose_power();
        assert_eq!(rig.text("pg_wal/x").as_deref(), Some(expected));
    }
}

#[test]
fn a_write_copies_its_bytes_when_issued_and_a_read_yields_them_as_of_completion() {
    let mut rig = Rig::new();
    let fd = rig.durable("pg_wal/x", b"old");
    let read = rig.issue(&DiskOp::Read {
        fd,
        offset: 0,
        len: 10,
    });
    let data = Bytes::from_static(b"new");
    let write = rig.issue(&DiskOp::Write {
        fd,
        offset: 0,
        data,
    });
    let read = rig.complete(read);
    assert_eq!(read, Ok(DiskDone::Data(Bytes::from_static(b"new"))));
    assert_eq!(rig.complete(write), Ok(DiskDone::Written(3)));
}

#[test]
fn an_unlinked_inode_can_be_read_while_it_is_open() {
    let mut rig = Rig::new();
    let fd = rig.durable("pg_wal/x", b"old");
    rig.run(&DiskOp::Unlink("pg_wal/x".into())).unwrap();
    let other = rig.open("pg_wal/x", OpenFlags::CreateNew);
    rig.write(other, 0, b"new").unwrap();
    rig.sync_dir("pg_wal");
    let read = |fd| DiskOp::Read {
        fd,
        offset: 0,
        len: 10,
    };
    assert_eq!(
        rig.run(&read(fd)),
        Ok(DiskDone::Data(Bytes::from_static(b"old")))
    );
    let late = rig.issue(&read(fd));
    rig.run(&DiskOp::Close(fd)).unwrap();
    assert_eq!(
        rig.complete(late),
        Ok(DiskDone::Data(Bytes::from_static(b"old")))
    );
    assert_eq!(rig.disk.space().0, 3, "the old file is freed");
    assert_eq!(rig.run(&read(fd)), Err(DiskError::BadFd));
}

#[test]
fn a_descriptor_belongs_to_one_process() {
    let mut rig = Rig::new();
    let fd = rig.durable("pg_wal/x", b"old");
    let closed = rig.disk.call(B, &DiskOp::Close(fd), &rig.choices);
    assert_eq!(closed, Err(DiskError::BadFd));
    rig.disk.close_all(A);
    assert_eq!(rig.run(&DiskOp::Fsync(fd)), Err(DiskError::BadFd));
}

#[test]
fn a_write_is_torn_at_sectors() {
    // One of the write's four sectors survives in part.
    let pins = [
        ("disk.loss/node0/1.0", 3),
        ("disk.loss.write/node0/5.1", 2),
        ("disk.loss.cut/node0/5.1", 1),
    ];
    let mut rig = Rig::new().pin(&pins);
    let fd = rig.durable("base/x", &[b'a'; 256]);
    rig.write(fd, 0, &[b'b'; 256]).unwrap();
    let loss = rig.lose_power();
    let expected = format!("{}{}", "b".repeat(64), "a".repeat(192));
    assert_eq!(rig.text("base/x"), Some(expected));
    assert_eq!(loss.torn, vec![(FilePath::from("base/x"), 0)]);
    assert_eq!(loss.bytes, 256);
}

#[test]
fn every_sector_survives_in_some_version_that_the_cache_had() {
    for seed in 0..200 {
        let mut rig = Rig::new();
        rig.choices = Choices::new(seed);
        let fd = rig.durable("base/x", &[b'a'; 256]);
        rig.write(fd, 0, &[b'b'; 200]).unwrap();
        rig.write(fd, 100, &[b'c'; 156]).unwrap();
        rig.lose_power();
        let now = rig.text("base/x").unwrap();
        assert_eq!(now.len(), 256);
        for (index, sector) in now.as_bytes().chunks(64).enumerate() {
            let versions: [Vec<u8>; 3] = [
                vec![b'a'; 64],
                (0..64)
                    .map(|i| if index * 64 + i < 200 { b'b' } else { b'a' })
                    .collect(),
                (0..64)
                    .map(|i| if index * 64 + i < 100 { b'b' } else { b'c' })
                    .collect(),
            ];
            assert!(versions.iter().any(|v| v == sector), "seed {seed}: {now}");
        }
    }
}

#[test]
fn pg_control_is_written_all_or_nothing() {
    for seed in 0..200 {
        let mut rig = Rig::new();
        rig.choices = Choices::new(seed);
        let fd = rig.durable("global/pg_control", &[b'a'; 8192]);
        rig.write(fd, 0, &[b'b'; 8192]).unwrap();
        rig.lose_power();
        let text = rig.text("global/pg_control").unwrap();
        let first = &text[..1];
        assert_eq!(text, first.repeat(8192), "seed {seed}");
    }
}

#[test]
fn the_death_of_a_process_keeps_the_page_cache() {
    let mut rig = Rig::new();
    let fd = rig.open("pg_wal/x", OpenFlags::CreateNew);
    rig.write(fd, 0, b"unsynced").unwrap();
    rig.disk.close_all(A);
    assert_eq!(rig.text("pg_wal/x").as_deref(), Some("unsynced"));
}

#[test]
fn a_new_file_is_gone_unless_it_or_its_directory_was_synced() {
    let mut rig = Rig::new().pin(LOSE_ALL);
    let fd = rig.open("pg_wal/x", OpenFlags::CreateNew);
    rig.write(fd, 0, b"lost").unwrap();
    let fd = rig.open("global/y", OpenFlags::CreateNew);
    rig.write(fd, 0, b"synced").unwrap();
    rig.fsync(fd);
    assert!(!rig.disk.is_stable("pg_wal/x", 0..4));
    assert!(rig.disk.is_stable("global/y", 0..6));
    rig.lose_power();
    assert!(!rig.disk.exists("pg_wal/x"));
    assert_eq!(rig.text("global/y").as_deref(), Some("synced"));
}

#[test]
fn a_rename_without_a_directory_sync_is_undone() {
    for synced in [false, true] {
        let mut rig = Rig::new().pin(LOSE_ALL);
        rig.durable("pg_wal/new", b"new");
        rig.durable("pg_wal/old", b"old");
        rig.rename("pg_wal/new", "pg_wal/old");
        assert_eq!(rig.text("pg_wal/old").as_deref(), Some("new"));
        if synced {
            rig.sync_dir("pg_wal");
        }
        assert_eq!(rig.disk.is_stable("pg_wal/old", 0..3), synced);
        rig.lose_power();
        let old = rig.text("pg_wal/old");
        assert_eq!(old.as_deref(), Some(if synced { "new" } else { "old" }));
        assert_eq!(rig.disk.exists("pg_wal/new"), !synced);
    }
}

#[test]
fn an_fsync_covers_a_new_name_only_by_exception() {
    for (covers, fails) in [(false, false), (true, false), (true, true)] {
        let mut rig = Rig::new().pin(LOSE_ALL);
        let fd = rig.durable("pg_wal/old", b"x");
        assert_eq!(rig.disk.renamer(fd), None);
        rig.rename("pg_wal/old", "pg_wal/new");
        assert_eq!(rig.disk.renamer(fd), Some(A));
        if fails {
            rig.disk.inject(DiskFault {
                kind: DiskFaultKind::FsyncKeeps,
                prefix: String::new(),
                left: 1,
            });
        }
        let mut fsync = rig.issue(&DiskOp::Fsync(fd));
        if covers {
            rig.disk.cover_name(&mut fsync);
        }
        assert_eq!(rig.complete(fsync).is_err(), fails);
        let durable = covers && !fails;
        assert_eq!(rig.disk.renamer(fd).is_none(), durable);
        rig.lose_power();
        assert_eq!(rig.disk.exists("pg_wal/new"), durable);
    }
}

#[test]
fn a_directory_sync_covers_only_what_was_changed_before_its_issue() {
    let mut rig = Rig::new().pin(LOSE_ALL);
    rig.durable("pg_wal/a", b"a");
    rig.durable("pg_wal/b", b"b");
    rig.rename("pg_wal/a", "pg_wal/c");
    let sync = rig.issue(&DiskOp::SyncDir("pg_wal".into()));
    rig.run(&DiskOp::Unlink("pg_wal/b".into())).unwrap();
    rig.complete(sync).unwrap();
    rig.lose_power();
    assert_eq!(rig.disk.list("pg_wal"), ["b", "c"]);
}

fn ordered(seed: u64, order: u64) -> Choices {
    let pins = BTreeMap::from([("disk.loss.order".to_owned(), order)]);
    Choices::with_pins(seed, Vec::new(), pins)
}

/// The names in `base` and the loss of each of 400 power losses. Before, a file is created, another
/// one moved into the directory, and a third one created.
fn survivors(order: u64) -> Vec<(Vec<String>, PowerLoss)> {
    let lose = |seed| {
        let mut rig = Rig::new();
        rig.choices = ordered(seed, order);
        rig.durable("pg_wal/a", b"a");
        rig.open("base/first", OpenFlags::CreateNew);
        rig.rename("pg_wal/a", "base/second");
        rig.open("base/third", OpenFlags::CreateNew);
        let loss = rig.lose_power();
        let moved = rig.disk.exists("base/second");
        assert_ne!(
            rig.disk.exists("pg_wal/a"),
            moved,
            "seed {seed}: half of a rename"
        );
        (rig.disk.list("base"), loss)
    };
    (0..400).map(lose).collect()
}

#[test]
fn names_survive_in_order_in_half_of_the_directories() {
    let mut seen = std::collections::BTreeSet::new();
    for (names, loss) in survivors(0) {
        let prefix = ["first", "second", "third"];
        assert_eq!(names, prefix[..names.len()]);
        assert!(!loss.reordered);
        seen.insert(names.len());
    }
    assert_eq!(seen.len(), 4, "every cut is drawn");
}

#[test]
fn names_survive_in_any_order() {
    let mut seen = std::collections::BTreeSet::new();
    for (names, loss) in survivors(1) {
        let prefix = ["first", "second", "third"];
        assert_eq!(loss.reordered, names != prefix[..names.len()], "{names:?}");
        seen.insert(names);
    }
    assert_eq!(seen.len(), 8, "every subset is drawn");
}

/// A change depends on the earlier changes of the same name, and on nothing else.
#[test]
fn changes_of_one_name_survive_in_order() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let mut rig = Rig::new();
        rig.choices = ordered(seed, 1);
        rig.durable("pg_wal/a", b"old");
        rig.rename("pg_wal/a", "pg_wal/b");
        rig.rename("pg_wal/b", "pg_wal/c");
        rig.open("pg_wal/a", OpenFlags::CreateNew);
        rig.open("pg_wal/d", OpenFlags::CreateNew);
        rig.lose_power();
        seen.insert(rig.disk.list("pg_wal").concat());
    }
    let all = ["a", "ad", "b", "bd", "ab", "abd", "c", "cd", "ac", "acd"];
    assert!(
        seen.iter().all(|names| all.contains(&names.as_str())),
        "{seen:?}"
    );
    assert_eq!(seen.len(), all.len());
}

/// An fsync of a new file makes the name of this file durable, and no other change of the
/// directory.
#[test]
fn an_fsync_of_a_new_file_covers_no_other_name() {
    let mut rig = Rig::new().pin(LOSE_ALL);
    rig.durable("pg_wal/a", b"a");
    rig.durable("pg_wal/b", b"b");
    rig.run(&DiskOp::Unlink("pg_wal/a".into())).unwrap();
    rig.run(&DiskOp::Unlink("pg_wal/b".into())).unwrap();
    let new = rig.open("pg_wal/b", OpenFlags::CreateNew);
    rig.fsync(new);
    rig.lose_power();
    assert_eq!(rig.disk.list("pg_wal"), ["a", "b"]);
    assert_eq!(rig.text("pg_wal/b").as_deref(), Some(""));
}

/// The name of a fsynced new file survives, whatever happens to the removal of an older file of the
/// same name.
#[test]
fn an_fsync_of_a_new_file_covers_earlier_changes_of_its_name() {
    for seed in 0..20 {
        let mut rig = Rig::new();
        rig.choices = ordered(seed, 1);
        rig.durable("pg_wal/b", b"old");
        rig.run(&DiskOp::Unlink("pg_wal/b".into())).unwrap();
        let new = rig.open("pg_wal/b", OpenFlags::CreateNew);
        rig.fsync(new);
        rig.lose_power();
        assert_eq!(rig.text("pg_wal/b").as_deref(), Some(""), "seed {seed}");
    }
}

#[test]
fn a_full_disk_gives_short_writes() {
    let mut rig = Rig::new();
    let fd = rig.open("pg_wal/x", OpenFlags::CreateNew);
    let zeros = |offset, len| DiskOp::WriteZeros { fd, offset, len };
    rig.run(&zeros(0, (1 << 20) - 100)).unwrap();
    let end = (1 << 20) - 100;
    assert_eq!(rig.write(fd, end, &[1; 300]), Ok(DiskDone::Written(100)));
    assert_eq!(rig.write(fd, end + 100, &[1]), Err(DiskError::NoSpace));
    assert_eq!(rig.write(fd, 0, &[1; 300]), Ok(DiskDone::Written(300)));
}

#[test]
fn a_full_disk_can_be_injected_for_some_files() {
    let mut rig = Rig::new().pin(&[("disk.short-write/node0/5.1", 1)]);
    rig.disk.inject(DiskFault {
        kind: DiskFaultKind::Full,
        prefix: "pg_wal/".to_owned(),
        left: u32::MAX,
    });
    let fd = rig.open("pg_wal/x", OpenFlags::CreateNew);
    assert_eq!(rig.write(fd, 0, &[1; 10]), Ok(DiskDone::Written(5)));
    let data = rig.open("base/x", OpenFlags::CreateNew);
    assert_eq!(rig.write(data, 0, &[1; 10]), Ok(DiskDone::Written(10)));
    rig.disk.heal();
    assert_eq!(rig.write(fd, 5, &[1; 10]), Ok(DiskDone::Written(10)));
}

#[test]
fn after_a_failed_fsync_the_data_are_dirty_or_dropped() {
    for (kind, cached) in [
        (DiskFaultKind::FsyncKeeps, "new"),
        (DiskFaultKind::FsyncDrops, "old"),
    ] {
        let mut rig = Rig::new().pin(&[LOSE_ALL[0], ("disk.loss.write/node0/5.1", 1)]);
        let fd = rig.durable("pg_wal/x", b"old");
        rig.write(fd, 0, b"new").unwrap();
        let prefix = String::new();
        rig.disk.inject(DiskFault {
            kind,
            prefix,
            left: 1,
        });
        assert_eq!(rig.run(&DiskOp::Fsync(fd)), Err(DiskError::Io));
        assert_eq!(rig.text("pg_wal/x").as_deref(), Some(cached));
        assert_eq!(
            rig.disk.is_stable("pg_wal/x", 0..3),
            kind == DiskFaultKind::FsyncDrops
        );
        // The next fsync succeeds, but cannot bring back the data that the kernel has dropped.
        rig.fsync(fd);
        rig.lose_power();
        assert_eq!(rig.text("pg_wal/x").as_deref(), Some(cached));
    }
}

#[test]
fn writing_the_same_bytes_again_keeps_them_stable() {
    let mut rig = Rig::new().pin(LOSE_ALL);
    let fd = rig.durable("pg_wal/x", b"aaaa____");
    rig.write(fd, 0, b"aaaabb__").unwrap();
    assert!(rig.disk.is_stable("pg_wal/x", 0..4));
    assert_eq!(rig.disk.stable_until("pg_wal/x", 0), 4);
    assert_eq!(rig.disk.stable_until("pg_wal/x", 4), 4);
    assert_eq!(rig.disk.stable_until("pg_wal/x", 6), 8);
    rig.fsync(fd);
    assert_eq!(rig.disk.stable_until("pg_wal/x", 0), 8);
    assert!(
        !rig.disk.is_stable("pg_wal/x", 0..9),
        "the file ends before"
    );
}

#[test]
fn a_truncation_survives_with_what_follows_it_or_not_at_all() {
    for seed in 0..100 {
        let mut rig = Rig::new();
        rig.choices = Choices::new(seed);
        let fd = rig.durable("base/x", b"aaaaaaaa");
        rig.run(&DiskOp::Truncate { fd, len: 2 }).unwrap();
        rig.write(fd, 2, b"b").unwrap();
        rig.lose_power();
        let now = rig.text("base/x").unwrap();
        assert!(
            ["aaaaaaaa", "aa", "aab", "aa\0"].contains(&now.as_str()),
            "seed {seed}: {now}"
        );
    }
}

#[test]
fn errors_are_those_of_the_system_calls() {
    let mut rig = Rig::new();
    let open = |path: &str, flags| DiskOp::Open {
        path: path.into(),
        flags,
    };
    rig.durable("pg_wal/x", b"x");
    let cases = [
        (open("pg_wal/y", OpenFlags::Existing), DiskError::NotFound),
        (open("nowhere/y", OpenFlags::Create), DiskError::NotFound),
        (open("pg_wal/x", OpenFlags::CreateNew), DiskError::Exists),
        (open("pg_wal", OpenFlags::Existing), DiskError::IsDir),
        (open("pg_wal/x/y", OpenFlags::Create), DiskError::NotDir),
        (DiskOp::Rmdir("pg_wal".into()), DiskError::NotEmpty),
        (DiskOp::Mkdir("base".into()), DiskError::Exists),
        (DiskOp::List("pg_wal/x".into()), DiskError::NotDir),
        (DiskOp::Unlink("base".into()), DiskError::IsDir),
    ];
    for (op, error) in cases {
        assert_eq!(rig.run(&op), Err(error), "{op:?}");
    }
}

#[test]
fn a_slow_disk_takes_its_time() {
    let mut rig = Rig::new();
    let fd = rig.durable("pg_wal/x", b"x");
    let (_, fast) = rig.disk.issue(A, &DiskOp::Fsync(fd), &rig.choices);
    assert!((250..=400).contains(&fast), "{fast}");
    rig.disk.inject(DiskFault {
        kind: DiskFaultKind::Slow(1000),
        prefix: String::new(),
        left: u32::MAX,
    });
    let (_, slow) = rig.disk.issue(A, &DiskOp::Fsync(fd), &rig.choices);
    assert!(slow >= 250_000, "{slow}");
}

#[test]
fn a_copy_shares_nothing_that_is_written_later() {
    let mut rig = Rig::new();
    let fd = rig.durable("pg_wal/x", b"old");
    rig.write(fd, 0, b"new").unwrap();
    let fork = rig.disk.clone();
    let copy = rig.disk.copy_for(1, 1 << 20);
    rig.write(fd, 0, b"xxx").unwrap();
    assert_eq!(fork.read_cached("pg_wal/x", 0, 9), Some(b"new".to_vec()));
    assert_eq!(fork.read_platter("pg_wal/x", 0, 9), Some(b"old".to_vec()));
    assert_eq!(copy.read_platter("pg_wal/x", 0, 9), Some(b"new".to_vec()));
    let paths: Vec<String> = copy.dump(true).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["base", "global", "pg_wal", "pg_wal/x"]);
}

/// After a power loss a name refers to a file to which it referred at some time since the last
/// fsync of its directory.
#[test]
fn a_name_may_stand_for_whatever_it_has_stood_for_since_the_last_fsync() {
    let mut rig = Rig::new();
    let path = "pg_wal/state";
    rig.durable(path, b"1");
    let replace = |rig: &mut Rig, bytes: &[u8]| {
        let temp = rig.open("pg_wal/state.tmp", OpenFlags::CreateNew);
        rig.write(temp, 0, bytes).unwrap();
        rig.run(&DiskOp::Fsync(temp)).unwrap();
        rig.rename("pg_wal/state.tmp", path);
    };
    let found = |rig: &Rig| {
        let mut found = rig.disk.reachable(path, 9);
        found.sort();
        String::from_utf8(found.concat()).unwrap()
    };
    assert_eq!(found(&rig), "1");
    replace(&mut rig, b"2");
    assert_eq!(found(&rig), "12");
    rig.sync_dir("pg_wal");
    assert_eq!(found(&rig), "2");
    replace(&mut rig, b"3");
    rig.rename("pg_wal", "gone");
    assert_eq!(found(&rig), "23");
    let names = rig.disk.reachable_names("gone");
    assert_eq!(
        names.iter().map(|n| &**n).collect::<Vec<_>>(),
        ["state", "state.tmp"]
    );
    assert!(rig.disk.reachable("pg_wal/nothing", 9).is_empty());
}
