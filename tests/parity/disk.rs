//! The promises of `DiskOp`. Each has a test.

use crate::fake::FakeDisk;
use crate::real::RealDisk;
use crate::{ONE, OTHER};
use bytes::Bytes;
use walsim_core::base::{Fd, Pid};
use walsim_core::call::{DiskDone, DiskError, DiskOp, FileKind, FilePath, OpenFlags};

pub(crate) type Outcome = Result<DiskDone, DiskError>;

/// An empty directory, and the operations of processes in it.
pub(crate) trait FileSystem: Sized {
    /// Makes an empty directory. `name` must differ between tests that run at the same time.
    fn new(name: &str) -> Self;

    /// Executes an operation and returns its answer.
    fn call(&mut self, pid: Pid, op: DiskOp) -> Outcome;

    /// Closes a descriptor. This is the only operation without an answer.
    fn close(&mut self, pid: Pid, op: DiskOp);

    /// Ends a process.
    fn exit(&mut self, pid: Pid);

    fn one(&mut self, op: DiskOp) -> Outcome {
        self.call(ONE, op)
    }

    fn open(&mut self, path: &str, flags: OpenFlags) -> Result<Fd, DiskError> {
        let path = FilePath::from(path);
        match self.one(DiskOp::Open { path, flags })? {
            DiskDone::Opened(fd) => Ok(fd),
            other => panic!("an open gives {other:?}"),
        }
    }

    /// Creates a file with this content.
    fn file(&mut self, path: &str, bytes: &[u8]) -> Fd {
        let fd = self.open(path, OpenFlags::CreateNew).expect("it is new");
        assert_eq!(self.write(fd, 0, bytes), Ok(bytes.len()));
        fd
    }

    fn write(&mut self, fd: Fd, offset: u64, bytes: &[u8]) -> Result<usize, DiskError> {
        let data = Bytes::copy_from_slice(bytes);
        match self.one(DiskOp::Write { fd, offset, data })? {
            DiskDone::Written(n) => Ok(n as usize),
            other => panic!("a write gives {other:?}"),
        }
    }

    fn read(&mut self, fd: Fd, offset: u64, len: u32) -> Vec<u8> {
        match self.one(DiskOp::Read { fd, offset, len }) {
            Ok(DiskDone::Data(bytes)) => bytes.to_vec(),
            other => panic!("a read gives {other:?}"),
        }
    }

    fn text(&mut self, fd: Fd) -> String {
        String::from_utf8(self.read(fd, 0, 1000)).expect("a text")
    }

    fn stat(&mut self, path: &str) -> Result<FileKind, DiskError> {
        match self.one(DiskOp::Stat(path.into()))? {
            DiskDone::Stat(kind) => Ok(kind),
            other => panic!("a stat gives {other:?}"),
        }
    }

    fn list(&mut self, path: &str) -> Result<Vec<String>, DiskError> {
        match self.one(DiskOp::List(path.into()))? {
            DiskDone::Names(mut names) => {
                names.sort();
                Ok(names)
            }
            other => panic!("a list gives {other:?}"),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> Outcome {
        let (from, to) = (from.into(), to.into());
        self.one(DiskOp::Rename { from, to })
    }

    fn unlink(&mut self, path: &str) -> Outcome {
        self.one(DiskOp::Unlink(path.into()))
    }

    fn mkdir(&mut self, path: &str) -> Outcome {
        self.one(DiskOp::Mkdir(path.into()))
    }

    fn rmdir(&mut self, path: &str) -> Outcome {
        self.one(DiskOp::Rmdir(path.into()))
    }
}

const DONE: Outcome = Ok(DiskDone::Done);

/// Makes two tests of each function below. One test uses the simulated disk, and the other the real
/// file system.
macro_rules! against_both {
    ($($(#[$about:meta])* fn $name:ident($disk:ident: &mut impl FileSystem) $body:block)*) => {
        $($(#[$about])*
        fn $name<D: FileSystem>($disk: &mut D) $body)*

        mod fake_disk {
            $(#[test]
            fn $name() {
                super::$name(&mut <super::FakeDisk as super::FileSystem>::new(stringify!($name)));
            })*
        }

        mod real_disk {
            $(#[test]
            fn $name() {
                super::$name(&mut <super::RealDisk as super::FileSystem>::new(stringify!($name)));
            })*
        }
    };
}

against_both! {
    /// The flags Existing, Create, CreateNew and CreateTruncate, each for an absent name, a file
    /// and a directory.
    fn open_flags(disk: &mut impl FileSystem) {
        use OpenFlags::{Create, CreateNew, CreateTruncate, Existing};
        assert_eq!(disk.open("x", Existing), Err(DiskError::NotFound));
        for (path, flags) in [("a", Create), ("b", CreateNew), ("c", CreateTruncate)] {
            let fd = disk.open(path, flags).expect("nothing is in the way");
            assert_eq!(disk.stat(path), Ok(FileKind::File(0)));
            assert_eq!(disk.write(fd, 0, b"text"), Ok(4));
        }
        for (path, flags, text) in [("a", Create, "text"), ("b", Existing, "text"), ("c", CreateTruncate, "")] {
            let fd = disk.open(path, flags).expect("nothing is in the way");
            assert_eq!(disk.text(fd), text, "{flags:?}");
        }
        assert_eq!(disk.open("a", CreateNew), Err(DiskError::Exists));
        disk.mkdir("d").expect("nothing is in the way");
        for flags in [Existing, Create, CreateTruncate] {
            assert_eq!(disk.open("d", flags), Err(DiskError::IsDir), "{flags:?}");
        }
        assert_eq!(disk.open("d", CreateNew), Err(DiskError::Exists));
        for flags in [Existing, Create, CreateNew, CreateTruncate] {
            assert_eq!(disk.open("a/x", flags), Err(DiskError::NotDir), "{flags:?}");
            assert_eq!(disk.open("no/x", flags), Err(DiskError::NotFound), "{flags:?}");
        }
    }

    /// A read is short only at the end of the file. Past the end, a read returns no bytes.
    fn reads_end_where_the_file_ends(disk: &mut impl FileSystem) {
        let fd = disk.file("a", b"0123456789");
        assert_eq!(disk.read(fd, 0, 10), b"0123456789");
        assert_eq!(disk.read(fd, 4, 3), b"456");
        assert_eq!(disk.read(fd, 8, 100), b"89");
        assert_eq!(disk.read(fd, 10, 1), b"");
        assert_eq!(disk.read(fd, 1 << 40, 1), b"");
        assert_eq!(disk.read(fd, 3, 0), b"");
    }

    /// Bytes that were never written are read as zeros.
    fn holes_are_zeros(disk: &mut impl FileSystem) {
        let fd = disk.file("a", b"begin");
        assert_eq!(disk.write(fd, 1 << 20, b"end"), Ok(3));
        assert_eq!(disk.stat("a"), Ok(FileKind::File((1 << 20) + 3)));
        assert_eq!(disk.read(fd, 3, 10), b"in\0\0\0\0\0\0\0\0");
        assert_eq!(disk.read(fd, (1 << 20) - 2, 100), b"\0\0end");
        let zeros = disk.read(fd, 5, (1 << 20) - 5);
        assert_eq!(zeros, vec![0; (1 << 20) - 5]);
        // An empty write does not extend the file.
        assert_eq!(disk.write(fd, 1 << 30, b""), Ok(0));
        assert_eq!(disk.stat("a"), Ok(FileKind::File((1 << 20) + 3)));
    }

    fn writes_overwrite_and_extend(disk: &mut impl FileSystem) {
        let fd = disk.file("a", b"0123456789");
        assert_eq!(disk.write(fd, 8, b"abcd"), Ok(4));
        assert_eq!(disk.write(fd, 2, b"--"), Ok(2));
        assert_eq!(disk.text(fd), "01--4567abcd");
        let large: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        assert_eq!(disk.write(fd, 5, &large), Ok(large.len()));
        assert_eq!(disk.read(fd, 5, 300_001), large);
    }

    fn zeros_are_written(disk: &mut impl FileSystem) {
        let fd = disk.file("a", b"0123456789");
        let zeros = |offset, len| DiskOp::WriteZeros { fd, offset, len };
        assert_eq!(disk.one(zeros(3, 2)), Ok(DiskDone::Written(2)));
        assert_eq!(disk.text(fd), "012\u{0}\u{0}56789");
        assert_eq!(disk.one(zeros(8, 200_000)), Ok(DiskDone::Written(200_000)));
        assert_eq!(disk.stat("a"), Ok(FileKind::File(200_008)));
        assert_eq!(disk.read(fd, 7, 3), b"7\0\0");
        assert_eq!(disk.one(zeros(400_000, 0)), Ok(DiskDone::Written(0)));
        assert_eq!(disk.stat("a"), Ok(FileKind::File(200_008)));
    }

    /// Truncated bytes do not come back when the file is extended.
    fn truncation_cuts_and_extends(disk: &mut impl FileSystem) {
        let fd = disk.file("a", b"0123456789");
        let truncate = |len| DiskOp::Truncate { fd, len };
        assert_eq!(disk.one(truncate(4)), DONE);
        assert_eq!(disk.text(fd), "0123");
        assert_eq!(disk.one(truncate(8)), DONE);
        assert_eq!(disk.text(fd), "0123\0\0\0\0");
        assert_eq!(disk.one(truncate(0)), DONE);
        assert_eq!(disk.stat("a"), Ok(FileKind::File(0)));
        assert_eq!(disk.write(fd, 2, b"x"), Ok(1));
        assert_eq!(disk.text(fd), "\0\0x");
    }

    /// A descriptor refers to the file, not to its name.
    fn an_unlinked_file_can_be_used_while_it_is_open(disk: &mut impl FileSystem) {
        let old = disk.file("a", b"old");
        assert_eq!(disk.unlink("a"), DONE);
        assert_eq!(disk.stat("a"), Err(DiskError::NotFound));
        assert_eq!(disk.list("."), Ok(vec![]));
        assert_eq!(disk.text(old), "old");
        assert_eq!(disk.write(old, 3, b"er"), Ok(2));
        assert_eq!(disk.one(DiskOp::Fsync(old)), DONE);
        let new = disk.file("a", b"new");
        assert_eq!((disk.text(old).as_str(), disk.text(new).as_str()), ("older", "new"));
        assert_eq!(disk.stat("a"), Ok(FileKind::File(3)));
    }

    fn a_rename_replaces_and_keeps_the_file(disk: &mut impl FileSystem) {
        let a = disk.file("a", b"aaaa");
        let b = disk.file("b", b"b");
        assert_eq!(disk.rename("a", "b"), DONE);
        assert_eq!(disk.stat("a"), Err(DiskError::NotFound));
        assert_eq!(disk.stat("b"), Ok(FileKind::File(4)));
        assert_eq!((disk.text(a).as_str(), disk.text(b).as_str()), ("aaaa", "b"));
        assert_eq!(disk.write(a, 4, b"!"), Ok(1));
        assert_eq!(disk.stat("b"), Ok(FileKind::File(5)));
        // A file can be renamed to its own name.
        assert_eq!(disk.rename("b", "b"), DONE);
        assert_eq!(disk.list("."), Ok(vec!["b".into()]));
    }

    fn invalid_renames(disk: &mut impl FileSystem) {
        disk.file("a", b"a");
        for path in ["d", "e", "e/f"] {
            assert_eq!(disk.mkdir(path), DONE);
        }
        for (from, to, error) in [
            ("no", "x", DiskError::NotFound),
            ("a", "no/x", DiskError::NotFound),
            ("a", "a/x", DiskError::NotDir),
            ("a", "d", DiskError::IsDir),
            ("d", "a", DiskError::NotDir),
            ("d", "e", DiskError::NotEmpty),
        ] {
            assert_eq!(disk.rename(from, to), Err(error), "{from} -> {to}");
        }
        // An empty directory can be replaced. The entries of a renamed directory move with it.
        assert_eq!(disk.rename("e", "d"), DONE);
        assert_eq!(disk.list("."), Ok(vec!["a".into(), "d".into()]));
        assert_eq!(disk.list("d"), Ok(vec!["f".into()]));
        assert_eq!(disk.rename("a", "d/f/a"), DONE);
        assert_eq!(disk.stat("d/f/a"), Ok(FileKind::File(1)));
    }

    fn directories(disk: &mut impl FileSystem) {
        assert_eq!(disk.mkdir("d"), DONE);
        assert_eq!(disk.mkdir("d"), Err(DiskError::Exists));
        disk.file("a", b"");
        assert_eq!(disk.mkdir("a"), Err(DiskError::Exists));
        assert_eq!(disk.mkdir("no/d"), Err(DiskError::NotFound));
        assert_eq!(disk.mkdir("a/d"), Err(DiskError::NotDir));
        disk.file("d/x", b"");
        assert_eq!(disk.mkdir("d/y"), DONE);
        assert_eq!(disk.stat("d"), Ok(FileKind::Dir));
        assert_eq!(disk.list("d"), Ok(vec!["x".into(), "y".into()]));
        assert_eq!(disk.list("."), Ok(vec!["a".into(), "d".into()]));
        assert_eq!(disk.list("a"), Err(DiskError::NotDir));
        assert_eq!(disk.list("no"), Err(DiskError::NotFound));
        assert_eq!(disk.rmdir("d"), Err(DiskError::NotEmpty));
        assert_eq!(disk.rmdir("a"), Err(DiskError::NotDir));
        assert_eq!(disk.rmdir("no"), Err(DiskError::NotFound));
        assert_eq!(disk.unlink("d/y"), Err(DiskError::IsDir));
        assert_eq!(disk.unlink("no"), Err(DiskError::NotFound));
        assert_eq!(disk.rmdir("d/y"), DONE);
        assert_eq!(disk.unlink("d/x"), DONE);
        assert_eq!(disk.rmdir("d"), DONE);
        assert_eq!(disk.list("."), Ok(vec!["a".into()]));
    }

    fn stat_returns_the_kind_of_file(disk: &mut impl FileSystem) {
        disk.file("a", b"123");
        assert_eq!(disk.stat("."), Ok(FileKind::Dir));
        assert_eq!(disk.stat("a"), Ok(FileKind::File(3)));
        assert_eq!(disk.stat("a/b"), Err(DiskError::NotDir));
        assert_eq!(disk.stat("no"), Err(DiskError::NotFound));
        assert_eq!(disk.stat("no/b"), Err(DiskError::NotFound));
    }

    fn files_and_directories_can_be_synced(disk: &mut impl FileSystem) {
        let fd = disk.file("a", b"123");
        assert_eq!(disk.mkdir("d"), DONE);
        for _ in 0..2 {
            assert_eq!(disk.one(DiskOp::Fsync(fd)), DONE);
        }
        for path in [".", "d"] {
            assert_eq!(disk.one(DiskOp::SyncDir(path.into())), DONE);
        }
        assert_eq!(disk.one(DiskOp::SyncDir("no".into())), Err(DiskError::NotFound));
    }

    /// A descriptor is invalid after its close and after the end of its process. A process can use
    /// only its own descriptors.
    fn a_descriptor_belongs_to_its_process(disk: &mut impl FileSystem) {
        let fd = disk.file("a", b"123");
        let bad = Err(DiskError::BadFd);
        let read = DiskOp::Read { fd, offset: 0, len: 3 };
        assert_eq!(disk.call(OTHER, read.clone()), bad);
        disk.close(OTHER, DiskOp::Close(fd));
        let flags = OpenFlags::Existing;
        let opened = disk.call(OTHER, DiskOp::Open { path: "a".into(), flags });
        let Ok(DiskDone::Opened(theirs)) = opened else { panic!("{opened:?}") };
        assert_ne!(theirs, fd);
        disk.exit(OTHER);
        assert_eq!(disk.call(OTHER, DiskOp::Fsync(theirs)), bad);
        assert_eq!(disk.text(fd), "123");
        disk.close(ONE, DiskOp::Close(fd));
        for op in [
            read,
            DiskOp::Write { fd, offset: 0, data: Bytes::from_static(b"x") },
            DiskOp::WriteZeros { fd, offset: 0, len: 1 },
            DiskOp::Fsync(fd),
            DiskOp::Truncate { fd, len: 0 },
        ] {
            assert_eq!(disk.one(op), bad);
        }
        assert_eq!(disk.stat("a"), Ok(FileKind::File(3)));
        // The number of the closed descriptor is not used again.
        assert_ne!(disk.open("a", flags), Ok(fd));
    }
}
