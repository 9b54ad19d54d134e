//! Random operations on the simulated disk and on the real file system. Both must give the same
//! answers.

use crate::disk::{FileSystem, Outcome};
use crate::fake::FakeDisk;
use crate::real::RealDisk;
use crate::{ONE, OTHER};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use walsim_core::base::{Fd, Pid};
use walsim_core::call::{DiskDone, DiskOp, FilePath, OpenFlags};

/// The names of files and directories. There are few of them, so that operations affect each other.
const PATHS: [&str; 8] = ["a", "b", "d", "e", "d/a", "d/e", "d/e/x", "a/b"];

/// An operation. Descriptors are numbered in the order in which they were opened.
#[derive(Clone, Debug)]
enum Step {
    Open(&'static str, OpenFlags),
    Close(usize),
    Read(usize, u64, u32),
    Write(usize, u64, Vec<u8>),
    WriteZeros(usize, u64, u32),
    Fsync(usize),
    Truncate(usize, u64),
    Stat(&'static str),
    Rename(&'static str, &'static str),
    Unlink(&'static str),
    Mkdir(&'static str),
    Rmdir(&'static str),
    List(&'static str),
    SyncDir(&'static str),
    /// The process ends.
    Exit,
}

fn step() -> impl Strategy<Value = Step> {
    let path = || prop::sample::select(PATHS.as_slice());
    let fd = || 0..3usize;
    let offset = || prop_oneof![0..20u64, 0..10_000u64];
    let flags = prop::sample::select(vec![
        OpenFlags::Existing,
        OpenFlags::Create,
        OpenFlags::CreateNew,
        OpenFlags::CreateTruncate,
    ]);
    let bytes = prop::collection::vec(1..255u8, 0..200);
    prop_oneof![
        6 => (path(), flags).prop_map(|(path, flags)| Step::Open(path, flags)),
        1 => fd().prop_map(Step::Close),
        5 => (fd(), offset(), 0..9000u32).prop_map(|(fd, at, len)| Step::Read(fd, at, len)),
        6 => (fd(), offset(), bytes).prop_map(|(fd, at, bytes)| Step::Write(fd, at, bytes)),
        1 => (fd(), offset(), 0..9000u32).prop_map(|(fd, at, len)| Step::WriteZeros(fd, at, len)),
        1 => fd().prop_map(Step::Fsync),
        2 => (fd(), offset()).prop_map(|(fd, len)| Step::Truncate(fd, len)),
        2 => path().prop_map(Step::Stat),
        4 => (path(), path()).prop_map(|(from, to)| Step::Rename(from, to)),
        3 => path().prop_map(Step::Unlink),
        3 => path().prop_map(Step::Mkdir),
        2 => path().prop_map(Step::Rmdir),
        2 => path().prop_map(Step::List),
        1 => path().prop_map(Step::SyncDir),
        1 => Just(Step::Exit),
    ]
}

/// A file system, and the descriptors that it has opened.
struct World<D> {
    disk: D,
    fds: Vec<Fd>,
}

impl<D: FileSystem> World<D> {
    fn new() -> Self {
        Self {
            disk: D::new("at-random"),
            fds: Vec::new(),
        }
    }

    /// The descriptor with this number, counted from the newest one, which is 0. Too high a number
    /// gives an invalid descriptor.
    fn fd(&self, nth: usize) -> Fd {
        self.fds
            .iter()
            .rev()
            .nth(nth)
            .copied()
            .unwrap_or(Fd(u32::MAX))
    }

    fn take(&mut self, pid: Pid, step: &Step) -> Outcome {
        let path = FilePath::from;
        let op = match *step {
            Step::Open(name, flags) => DiskOp::Open {
                path: path(name),
                flags,
            },
            Step::Close(nth) => {
                let op = DiskOp::Close(self.fd(nth));
                self.disk.close(pid, op);
                return Ok(DiskDone::Done);
            }
            Step::Exit => {
                self.disk.exit(pid);
                return Ok(DiskDone::Done);
            }
            Step::Read(nth, offset, len) => DiskOp::Read {
                fd: self.fd(nth),
                offset,
                len,
            },
            Step::Write(nth, offset, ref bytes) => DiskOp::Write {
                fd: self.fd(nth),
                offset,
                data: Bytes::copy_from_slice(bytes),
            },
            Step::WriteZeros(nth, offset, len) => DiskOp::WriteZeros {
                fd: self.fd(nth),
                offset,
                len,
            },
            Step::Fsync(nth) => DiskOp::Fsync(self.fd(nth)),
            Step::Truncate(nth, len) => DiskOp::Truncate {
                fd: self.fd(nth),
                len,
            },
            Step::Stat(name) => DiskOp::Stat(path(name)),
            Step::Rename(from, to) => DiskOp::Rename {
                from: path(from),
                to: path(to),
            },
            Step::Unlink(name) => DiskOp::Unlink(path(name)),
            Step::Mkdir(name) => DiskOp::Mkdir(path(name)),
            Step::Rmdir(name) => DiskOp::Rmdir(path(name)),
            Step::List(name) => DiskOp::List(path(name)),
            Step::SyncDir(name) => DiskOp::SyncDir(path(name)),
        };
        match self.disk.call(pid, op)? {
            DiskDone::Opened(fd) => {
                self.fds.push(fd);
                // The simulated disk and the real file system number descriptors differently.
                Ok(DiskDone::Opened(Fd(0)))
            }
            DiskDone::Names(mut names) => {
                names.sort();
                Ok(DiskDone::Names(names))
            }
            done @ (DiskDone::Done
            | DiskDone::Data(_)
            | DiskDone::Written(_)
            | DiskDone::Stat(_)) => Ok(done),
        }
    }
}

#[test]
fn random_operations_have_the_same_answers() {
    let mut config = ProptestConfig::with_cases(100);
    config.failure_persistence = None;
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(0x5745_4C53);
    }
    let steps = prop::collection::vec((prop::bool::weighted(0.2), step()), 1..60);
    let counts = std::cell::Cell::new((0, 0));
    TestRunner::new(config)
        .run(&steps, |steps| {
            let (mut fake, mut real) = (World::<FakeDisk>::new(), World::<RealDisk>::new());
            let mut done = Vec::new();
            // Some names exist already, so that not all operations fail.
            let begin = [
                Step::Mkdir("d"),
                Step::Mkdir("d/e"),
                Step::Open("a", OpenFlags::Create),
                Step::Open("d/a", OpenFlags::Create),
            ];
            let begin = begin.map(|step| (false, step));
            for (other, step) in begin.iter().chain(&steps) {
                let pid = if *other { OTHER } else { ONE };
                let (theirs, ours) = (real.take(pid, step), fake.take(pid, step));
                done.push(step);
                let (good, bad) = counts.get();
                counts.set(if theirs.is_ok() {
                    (good + 1, bad)
                } else {
                    (good, bad + 1)
                });
                prop_assert_eq!(theirs, ours, "real against fake, last of {:?}", done);
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let (succeeded, failed) = counts.get();
    // Both successes and errors have occurred.
    assert!(
        succeeded > 1000 && failed > 1000,
        "{succeeded} and {failed}"
    );
}
