//! The hash of a run: a rolling XXH3 hash over a canonical little-endian encoding of every step.
//!
//! `Debug` output and `usize` values are never hashed, because they differ between builds.
//! [`state_hash`] hashes the state of a value that derives `Hash`.

use bytes::Bytes;
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use walsim_core::base::{ConnId, Now, OpId, Pid};
use walsim_core::call::{
    DiskDone, DiskError, DiskOp, Effect, Effects, Exit, FileKind, FilePath, Input, LogEvent,
    NetEvent, NetOp, OpenFlags, Severity, Signal,
};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The rolling hash, and how many steps it covers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RunHash {
    digest: u64,
    steps: u64,
    /// A buffer for the encoding of one step. Its memory is reused by the next step.
    buffer: Vec<u8>,
    text: String,
}

/// Hashes the digest and the number of steps. The digest covers everything that was recorded.
impl Hash for RunHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
        self.steps.hash(state);
    }
}

impl RunHash {
    /// The hash so far.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// Steps recorded so far.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Begins the record of a step. `machine` is the machine's index in the plan's list.
    pub fn begin(&mut self, machine: u16, now: Now, input: &Input) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.digest.to_le_bytes());
        self.buffer.extend_from_slice(&machine.to_le_bytes());
        self.u64(now.mono.0);
        self.buffer.extend_from_slice(&now.wall.0.to_le_bytes());
        self.input(input);
    }

    /// Ends the record of a step with its effects.
    pub fn end(&mut self, effects: &Effects) {
        for (pid, effect) in &effects.0 {
            self.pid(*pid);
            self.effect(effect);
        }
        self.digest = xxh3_64(&self.buffer);
        self.steps += 1;
    }

    /// Records something other than a step, such as a fault.
    pub fn note(&mut self, words: &[u64]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.digest.to_le_bytes());
        for word in words {
            self.u64(*word);
        }
        self.digest = xxh3_64(&self.buffer);
    }

    fn tag(&mut self, tag: u8) {
        self.buffer.push(tag);
    }

    fn u32(&mut self, value: u32) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    /// Records a payload. A long payload is hashed on its own, and only its hash is recorded, so
    /// that its bytes are not copied.
    fn bytes(&mut self, bytes: &[u8]) {
        self.u64(u64::try_from(bytes.len()).expect("a slice is shorter than 2^64"));
        if bytes.len() <= 64 {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.u64(xxh3_64(bytes));
        }
    }

    fn pid(&mut self, id: Pid) {
        self.u32(id.incarnation);
        self.u32(id.n);
    }

    fn op(&mut self, id: OpId) {
        self.u32(id.incarnation);
        self.u32(id.n);
    }

    fn conn(&mut self, id: ConnId) {
        self.u32(id.incarnation);
        self.u32(id.n);
    }

    fn path(&mut self, path: &FilePath) {
        self.bytes(path.as_str().as_bytes());
    }

    fn input(&mut self, input: &Input) {
        match input {
            Input::Run(pid) => {
                self.tag(1);
                self.pid(*pid);
            }
            Input::Net(conn, event) => {
                self.tag(2);
                self.conn(*conn);
                self.net_event(event);
            }
            Input::Disk(op, result) => {
                self.tag(3);
                self.op(*op);
                match result {
                    Ok(done) => self.disk_done(done),
                    Err(error) => self.tag(disk_error(*error)),
                }
            }
            Input::Signal(pid, signal) => {
                self.tag(4);
                self.pid(*pid);
                self.tag(signal_number(*signal));
            }
        }
    }

    fn net_event(&mut self, event: &NetEvent) {
        match event {
            NetEvent::Accepted => self.tag(1),
            NetEvent::Connected => self.tag(2),
            NetEvent::Refused(_) => self.tag(3),
            NetEvent::Data(bytes) => {
                self.tag(4);
                self.bytes(bytes);
            }
            NetEvent::Sent(n) => {
                self.tag(5);
                self.u32(*n);
            }
            NetEvent::Closed => self.tag(6),
            NetEvent::Reset => self.tag(7),
        }
    }

    fn disk_done(&mut self, done: &DiskDone) {
        match done {
            DiskDone::Done => self.tag(1),
            DiskDone::Opened(fd) => {
                self.tag(2);
                self.u32(fd.0);
            }
            DiskDone::Data(bytes) => {
                self.tag(3);
                self.bytes(bytes);
            }
            DiskDone::Written(n) => {
                self.tag(4);
                self.u32(*n);
            }
            DiskDone::Stat(FileKind::File(len)) => {
                self.tag(5);
                self.u64(*len);
            }
            DiskDone::Stat(FileKind::Dir) => self.tag(6),
            DiskDone::Names(names) => {
                self.tag(7);
                for name in names {
                    self.bytes(name.as_bytes());
                }
            }
        }
    }

    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Disk(op, call) => {
                self.tag(1);
                self.op(*op);
                self.disk_op(call);
            }
            Effect::Net(conn, call) => {
                self.tag(2);
                self.conn(*conn);
                self.net_op(call);
            }
            Effect::Log(event) => {
                self.tag(3);
                self.log(event);
            }
            Effect::Exit(exit) => {
                self.tag(4);
                self.exit(exit);
            }
            Effect::Halt => self.tag(5),
        }
    }

    fn disk_op(&mut self, call: &DiskOp) {
        match call {
            DiskOp::Open { path, flags } => {
                self.tag(1);
                self.path(path);
                self.tag(match flags {
                    OpenFlags::Existing => 1,
                    OpenFlags::Create => 2,
                    OpenFlags::CreateNew => 3,
                    OpenFlags::CreateTruncate => 4,
                });
            }
            DiskOp::Close(fd) => {
                self.tag(2);
                self.u32(fd.0);
            }
            DiskOp::Read { fd, offset, len } => {
                self.tag(3);
                self.u32(fd.0);
                self.u64(*offset);
                self.u32(*len);
            }
            DiskOp::Write { fd, offset, data } => {
                self.tag(4);
                self.u32(fd.0);
                self.u64(*offset);
                self.bytes(data);
            }
            DiskOp::WriteZeros { fd, offset, len } => {
                self.tag(5);
                self.u32(fd.0);
                self.u64(*offset);
                self.u32(*len);
            }
            DiskOp::Fsync(fd) => {
                self.tag(6);
                self.u32(fd.0);
            }
            DiskOp::Truncate { fd, len } => {
                self.tag(7);
                self.u32(fd.0);
                self.u64(*len);
            }
            DiskOp::Stat(path) => {
                self.tag(8);
                self.path(path);
            }
            DiskOp::Rename { from, to } => {
                self.tag(9);
                self.path(from);
                self.path(to);
            }
            DiskOp::Unlink(path) => {
                self.tag(10);
                self.path(path);
            }
            DiskOp::Mkdir(path) => {
                self.tag(11);
                self.path(path);
            }
            DiskOp::Rmdir(path) => {
                self.tag(12);
                self.path(path);
            }
            DiskOp::List(path) => {
                self.tag(13);
                self.path(path);
            }
            DiskOp::SyncDir(path) => {
                self.tag(14);
                self.path(path);
            }
        }
    }

    fn net_op(&mut self, call: &NetOp) {
        match call {
            NetOp::Connect { host, port } => {
                self.tag(1);
                self.bytes(host.as_bytes());
                self.u32(u32::from(*port));
            }
            NetOp::Read { max } => {
                self.tag(2);
                self.u32(*max);
            }
            NetOp::Send(pieces) => {
                self.tag(3);
                pieces.iter().for_each(|piece: &Bytes| self.bytes(piece));
            }
            NetOp::HandOver(pid) => {
                self.tag(4);
                self.pid(*pid);
            }
            NetOp::Close => self.tag(5),
        }
    }

    /// Records a log event by its text. Log events are rare, so the cost of the text does not
    /// matter.
    fn log(&mut self, event: &LogEvent) {
        self.tag(match event.severity {
            Severity::Log => 1,
            Severity::Warning => 2,
            Severity::Error => 3,
            Severity::Fatal => 4,
            Severity::Panic => 5,
        });
        self.buffer.extend_from_slice(&event.sqlstate.0);
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        write!(text, "{}", event.message).expect("writing to a string cannot fail");
        self.bytes(text.as_bytes());
        self.text = text;
    }

    fn exit(&mut self, exit: &Exit) {
        match exit {
            Exit::Normal => self.tag(1),
            Exit::Fatal(event) => {
                self.tag(2);
                self.log(event);
            }
            Exit::Panic(event) => {
                self.tag(3);
                self.log(event);
            }
            Exit::Silent => self.tag(6),
            Exit::Quit => self.tag(4),
            Exit::Killed => self.tag(5),
        }
    }
}

const fn disk_error(error: DiskError) -> u8 {
    match error {
        DiskError::NotFound => 0x81,
        DiskError::Exists => 0x82,
        DiskError::Io => 0x83,
        DiskError::NoSpace => 0x84,
        DiskError::BadFd => 0x85,
        DiskError::NotDir => 0x86,
        DiskError::IsDir => 0x87,
        DiskError::NotEmpty => 0x88,
        DiskError::Quota => 0x89,
        DiskError::Access => 0x8a,
        DiskError::NotPermitted => 0x8b,
        DiskError::ReadOnly => 0x8c,
        DiskError::TooManyFiles => 0x8d,
        // The simulated disk returns no other errors.
        DiskError::Other(_) => 0x8e,
    }
}

const fn signal_number(signal: Signal) -> u8 {
    match signal {
        Signal::Hup => 1,
        Signal::Int => 2,
        Signal::Quit => 3,
        Signal::Kill => 9,
        Signal::Usr1 => 10,
        Signal::Usr2 => 12,
        Signal::Term => 15,
        Signal::Cont => 18,
        Signal::Stop => 19,
    }
}

/// A `Hasher` that gives the same result on every platform. It hashes fixed-width little-endian
/// values with XXH3.
#[derive(Default)]
struct StableHasher(Xxh3);

macro_rules! little_endian {
    ($($name:ident($ty:ty) as $wide:ty),*) => {$(
        fn $name(&mut self, value: $ty) {
            self.0.update(&(value as $wide).to_le_bytes());
        }
    )*};
}

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        self.0.digest()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    little_endian!(
        write_u8(u8) as u8,
        write_u16(u16) as u16,
        write_u32(u32) as u32,
        write_u64(u64) as u64,
        write_u128(u128) as u128,
        write_usize(usize) as u64,
        write_i8(i8) as i8,
        write_i16(i16) as i16,
        write_i32(i32) as i32,
        write_i64(i64) as i64,
        write_i128(i128) as i128,
        write_isize(isize) as i64
    );
}

/// The hash of a state. The state must derive `Hash`.
#[must_use]
pub fn state_hash<T: Hash + ?Sized>(state: &T) -> u64 {
    let mut hasher = StableHasher::default();
    state.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use walsim_core::base::{Mono, TimestampTz};
    use walsim_core::call::Message;

    const NOW: Now = Now {
        mono: Mono(5),
        wall: TimestampTz(-7),
    };
    const PID: Pid = Pid {
        incarnation: 1,
        n: 2,
    };

    fn digest(input: &Input, effects: Vec<Effect>) -> u64 {
        let mut trace = RunHash::default();
        trace.begin(0, NOW, input);
        trace.end(&Effects(effects.into_iter().map(|e| (PID, e)).collect()));
        trace.digest()
    }

    #[test]
    fn every_part_of_a_step_counts() {
        let conn = ConnId {
            incarnation: 0,
            n: 1,
        };
        let run = Input::Run(PID);
        let send = |bytes: &'static [u8]| {
            Effect::Net(conn, NetOp::Send([Bytes::from_static(bytes), Bytes::new()]))
        };
        let digests = [
            digest(&run, vec![]),
            digest(&Input::Signal(PID, Signal::Hup), vec![]),
            digest(&run, vec![send(b"a")]),
            digest(&run, vec![send(b"b")]),
            digest(&run, vec![send(&[0; 65])]),
            digest(&run, vec![send(&[0; 66])]),
            digest(&run, vec![Effect::Halt]),
            digest(&run, vec![Effect::Log(LogEvent::log(Message::ShutDown))]),
            digest(
                &run,
                vec![Effect::Log(LogEvent::log(Message::Starting(15)))],
            ),
        ];
        let distinct: std::collections::BTreeSet<u64> = digests.into();
        assert_eq!(distinct.len(), digests.len());
    }

    #[test]
    fn the_hash_rolls() {
        let mut trace = RunHash::default();
        let step = |trace: &mut RunHash| {
            trace.begin(0, NOW, &Input::Run(PID));
            trace.end(&Effects::default());
            trace.digest()
        };
        assert_ne!(step(&mut trace), step(&mut trace));
        assert_eq!(trace.steps(), 2);
        trace.note(&[1]);
        assert_ne!(trace.digest(), 0);
    }

    #[test]
    fn a_state_hash_is_the_same_for_ever() {
        assert_eq!(state_hash(&(1u8, -2isize, "x", [3usize])), GOLDEN_STATE);
        assert_eq!(digest(&Input::Run(PID), vec![Effect::Halt]), GOLDEN_STEP);
    }

    const GOLDEN_STATE: u64 = 3148086171252878181;
    const GOLDEN_STEP: u64 = 12322660020332840186;
}
