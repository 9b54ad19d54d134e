//! A bench for unit tests: a server's memory, a disk as a map, and as many processes as a test
//! wants, stepped by hand.

use crate::base::{
    Fd, Geometry, Lsn, Now, PgVersion, Pid, Planted, Probe, Settings, TimelineId, TimestampTz, Xid,
};
use crate::call::{
    DiskDone, DiskError, DiskOp, Effect, Effects, FileKind, FilePath, LogEvent, NetOp, OpenFlags,
    Place, Poll, Yield,
};
use crate::shmem::{RecoveryState, Role, Shmem};
use crate::sys::{Cx, Kernel, ProcSys};
use crate::wal::position::lsn_to_bytepos;
use crate::wire::control_file::ControlFile;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use bytes::Bytes;

/// Small pages, small segments.
pub(crate) const TINY: Geometry = Geometry::SMALL;

/// The bench.
pub(crate) struct Bench {
    pub(crate) now: Now,
    pub(crate) shmem: Shmem,
    pub(crate) probe: Probe,
    pub(crate) kernel: Kernel,
    procs: BTreeMap<Pid, ProcSys>,
    /// Files by path. A descriptor stands for a path.
    pub(crate) files: BTreeMap<FilePath, Vec<u8>>,
    descriptors: BTreeMap<Fd, FilePath>,
    pending: BTreeMap<Pid, DiskOp>,
    /// Every operation that was carried out, as `write base/5/16384 0+512`.
    pub(crate) trace: Vec<String>,
    /// An operation whose trace begins so fails.
    pub(crate) fail: Option<(String, DiskError)>,
    pub(crate) log: Vec<LogEvent>,
    pub(crate) net: Vec<NetOp>,
}

impl Bench {
    /// A primary that has just come up, with an empty first page of WAL after its segment header.
    pub(crate) fn primary() -> Self {
        let mut bench = Self::in_recovery();
        let geometry = TINY;
        let start = geometry.segment_start(crate::base::SegmentNo(1));
        let xlog = &mut bench.shmem.xlog;
        xlog.curr_byte_pos = lsn_to_bytepos(&geometry, start);
        xlog.prev_byte_pos = xlog.curr_byte_pos - 64;
        xlog.initialized_upto = start;
        (xlog.write, xlog.flush) = (start, start);
        xlog.insert_tli = TimelineId(1);
        bench.shmem.recovery.state = RecoveryState::Done;
        bench.shmem.recovery.install_segment_active = true;
        bench
    }

    /// A server that replays WAL.
    pub(crate) fn in_recovery() -> Self {
        let mut settings = Settings::new(PgVersion::V15, TINY);
        settings.shared_buffers = 4;
        let control = ControlFile::fresh(PgVersion::V15, &TINY, 7, Lsn(0x1028));
        let mut shmem = Shmem::new(settings, control);
        shmem.next_xid = Xid(10);
        shmem.xlog.redo = Lsn(1);
        let files = [
            (FilePath::from("pg_xact/0000"), vec![0; 512]),
            (FilePath::from("global/pg_control"), vec![0; 8192]),
        ];
        Self {
            now: Now {
                wall: TimestampTz(5),
                ..Now::default()
            },
            shmem,
            probe: Probe::new(Planted::NONE),
            kernel: Kernel::new(1, 0),
            procs: BTreeMap::new(),
            files: files.into_iter().collect(),
            descriptors: BTreeMap::new(),
            pending: BTreeMap::new(),
            trace: Vec::new(),
            fail: None,
            log: Vec::new(),
            net: Vec::new(),
        }
    }

    pub(crate) fn spawn(&mut self, role: Role) -> Pid {
        let pid = self.kernel.pid();
        self.shmem.procs.attach(pid, role);
        self.procs.insert(pid, ProcSys::default());
        pid
    }

    /// The kernel state of a process.
    pub(crate) fn sys(&mut self, pid: Pid) -> &mut ProcSys {
        self.procs.get_mut(&pid).unwrap()
    }

    /// One step of a process. An operation that it issues stays under way.
    pub(crate) fn step<T>(&mut self, pid: Pid, act: impl FnOnce(&mut Cx<'_>) -> T) -> T {
        let mut fx = Effects::default();
        let mut cx = Cx {
            now: self.now,
            me: pid,
            shmem: &mut self.shmem,
            probe: &mut self.probe,
            kernel: &mut self.kernel,
            sys: self.procs.get_mut(&pid).unwrap(),
            fx: &mut fx,
        };
        let result = act(&mut cx);
        for (_, effect) in fx.0 {
            match effect {
                Effect::Disk(_, DiskOp::Close(fd)) => {
                    self.descriptors.remove(&fd);
                }
                Effect::Disk(_, op) => {
                    assert!(self.pending.insert(pid, op).is_none());
                }
                Effect::Log(event) => self.log.push(event),
                Effect::Net(_, op) => self.net.push(op),
                Effect::Exit(_) | Effect::Halt => {}
            }
        }
        result
    }

    /// Carries out the operation that a process has under way, if there is one.
    pub(crate) fn complete(&mut self, pid: Pid) {
        if let Some(op) = self.pending.remove(&pid) {
            let outcome = self.disk(op);
            self.sys(pid).done = Some(outcome);
        }
    }

    /// Polls a routine to its end, carrying out what it asks of the disk.
    pub(crate) fn run<T>(&mut self, pid: Pid, mut poll: impl FnMut(&mut Cx<'_>) -> Poll<T>) -> T {
        for _ in 0..10_000 {
            self.complete(pid);
            match self.step(pid, &mut poll) {
                Poll::Ready(value) => return value,
                Poll::Yield(Yield::Wait(wait)) => {
                    let blocked = wait.op.is_none() && !self.shmem.locks.is_woken(pid);
                    assert!(!blocked, "{pid} waits in {}", wait.why);
                }
                Poll::Yield(Yield::Again(_)) => {}
                Poll::Yield(Yield::Exit(exit)) => panic!("{pid} exits: {exit:?}"),
            }
        }
        panic!("{pid} does not come to an end");
    }

    /// Steps a process until it waits for something else than its disk operation, or exits.
    pub(crate) fn drive(&mut self, pid: Pid, mut step: impl FnMut(&mut Cx<'_>) -> Yield) -> Yield {
        for _ in 0..10_000 {
            self.complete(pid);
            match self.step(pid, &mut step) {
                Yield::Again(_) => {}
                Yield::Wait(wait) if wait.op.is_some() => {}
                how @ (Yield::Wait(_) | Yield::Exit(_)) => return how,
            }
        }
        panic!("{pid} does not come to rest");
    }

    /// Takes the bytes that were sent since the last call.
    pub(crate) fn sent(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        for op in core::mem::take(&mut self.net) {
            if let NetOp::Send(pieces) = op {
                all.extend(pieces.concat());
            }
        }
        all
    }

    /// Polls until the routine is at this place, or is done.
    pub(crate) fn run_to<T>(
        &mut self,
        pid: Pid,
        why: Place,
        mut poll: impl FnMut(&mut Cx<'_>) -> Poll<T>,
    ) {
        loop {
            match self.step(pid, &mut poll) {
                Poll::Yield(Yield::Again(at)) if at == why => return,
                Poll::Yield(Yield::Wait(wait)) if wait.why == why => return,
                Poll::Yield(_) => self.complete(pid),
                Poll::Ready(_) => return,
            }
        }
    }

    /// The operations on files whose path begins so.
    pub(crate) fn trace_of(&self, prefix: &str) -> Vec<&str> {
        let on = |line: &&String| {
            line.split(' ')
                .nth(1)
                .is_some_and(|path| path.starts_with(prefix))
        };
        self.trace.iter().filter(on).map(String::as_str).collect()
    }

    /// Where in the trace a line begins so first.
    pub(crate) fn position(&self, prefix: &str) -> usize {
        let at = self.trace.iter().position(|line| line.starts_with(prefix));
        at.unwrap_or_else(|| panic!("no {prefix} in {:#?}", self.trace))
    }

    fn disk(&mut self, op: DiskOp) -> Result<DiskDone, DiskError> {
        let line = op.describe(|fd| self.descriptors[&fd].to_string());
        let failing = self
            .fail
            .as_ref()
            .filter(|(prefix, _)| line.starts_with(prefix.as_str()));
        if let Some((_, error)) = failing {
            return Err(*error);
        }
        self.trace.push(line);
        self.carry_out(op)
    }

    fn carry_out(&mut self, op: DiskOp) -> Result<DiskDone, DiskError> {
        Ok(match op {
            DiskOp::Open { path, flags } => {
                if flags == OpenFlags::Existing && !self.files.contains_key(&path) {
                    return Err(DiskError::NotFound);
                }
                self.files.entry(path.clone()).or_default();
                let fd = Fd(u32::try_from(self.trace.len()).unwrap());
                self.descriptors.insert(fd, path);
                DiskDone::Opened(fd)
            }
            DiskOp::Read { fd, offset, len } => {
                let file = &self.files[&self.descriptors[&fd]];
                let rest = file
                    .get(usize::try_from(offset).unwrap()..)
                    .unwrap_or_default();
                DiskDone::Data(Bytes::copy_from_slice(
                    &rest[..rest.len().min(len as usize)],
                ))
            }
            DiskOp::Write { fd, offset, data } => {
                self.put(fd, offset, &data);
                DiskDone::Written(u32::try_from(data.len()).unwrap())
            }
            DiskOp::WriteZeros { fd, offset, len } => {
                self.put(fd, offset, &vec![0; len as usize]);
                DiskDone::Written(len)
            }
            DiskOp::Stat(path) => match self.files.get(&path) {
                Some(file) => DiskDone::Stat(FileKind::File(file.len() as u64)),
                None => return Err(DiskError::NotFound),
            },
            DiskOp::Rename { from, to } if self.is_directory(&from) => {
                let inside = format!("{from}/");
                for path in self.files.keys().cloned().collect::<Vec<_>>() {
                    if let Some(name) = path.as_str().strip_prefix(inside.as_str()) {
                        let file = self.files.remove(&path).unwrap();
                        self.files
                            .insert(FilePath::from(format!("{to}/{name}")), file);
                    }
                }
                DiskDone::Done
            }
            DiskOp::Rename { from, to } => {
                let Some(file) = self.files.remove(&from) else {
                    return Err(DiskError::NotFound);
                };
                for path in self.descriptors.values_mut().filter(|path| **path == from) {
                    *path = to.clone();
                }
                self.files.insert(to, file);
                DiskDone::Done
            }
            DiskOp::Unlink(path) => match self.files.remove(&path) {
                Some(_) => DiskDone::Done,
                None => return Err(DiskError::NotFound),
            },
            DiskOp::Truncate { fd, len } => {
                let path = &self.descriptors[&fd];
                self.files
                    .get_mut(path)
                    .unwrap()
                    .resize(usize::try_from(len).unwrap(), 0);
                DiskDone::Done
            }
            DiskOp::List(path) => {
                let inside = self
                    .files
                    .keys()
                    .filter(|file| file.parent() == path.as_str());
                DiskDone::Names(inside.map(|file| String::from(file.name())).collect())
            }
            DiskOp::Close(_)
            | DiskOp::Fsync(_)
            | DiskOp::Mkdir(_)
            | DiskOp::Rmdir(_)
            | DiskOp::SyncDir(_) => DiskDone::Done,
        })
    }

    /// Does anything lie in it? Empty directories are not known.
    fn is_directory(&self, path: &FilePath) -> bool {
        let mut files = self.files.keys();
        files.any(|file| file.parent() == path.as_str())
    }

    fn put(&mut self, fd: Fd, offset: u64, data: &[u8]) {
        let file = self.files.get_mut(&self.descriptors[&fd]).unwrap();
        let at = usize::try_from(offset).unwrap();
        if file.len() < at + data.len() {
            file.resize(at + data.len(), 0);
        }
        file[at..at + data.len()].copy_from_slice(data);
    }
}
