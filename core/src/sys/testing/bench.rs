//! A bench for routines: shared memory, processes, and a disk in memory that answers at once. For
//! tests alone.

use crate::base::{Fd, Lsn, Mono, Now, PgVersion, Pid, Planted, Probe, SegmentNo, Settings};
use crate::base::{Geometry, TimelineId, TimestampTz, Xid};
use crate::call::{
    DiskDone, DiskError, DiskOp, Effect, Effects, FileKind, FilePath, LogEvent, NetOp, OpenFlags,
    Poll, Wait, Woken, Yield,
};
use crate::shmem::{RecoveryState, Role, Shmem};
use crate::sys::{Conn, Cx, Kernel, ProcSys};
use crate::wal::names::segment_name;
use crate::wal::position::lsn_to_bytepos;
use crate::wal::{Next, PageIdent, WalBuilder, WalError, WalReader};
use crate::wire::control_file::{ControlFile, DbState};
use crate::wire::record::{RecordBody, RmgrId};
use crate::wire::xlog_records::XlogRecord;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

pub(crate) const SYSID: u64 = 77;

/// Small enough that everything crosses pages.
pub(crate) const TINY: Geometry = Geometry::SMALLEST;

pub(crate) struct Bench {
    pub(crate) shmem: Shmem,
    pub(crate) probe: Probe,
    pub(crate) kernel: Kernel,
    pub(crate) now: Now,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) dirs: BTreeSet<String>,
    /// Every disk operation, as `open pg_wal/…`.
    pub(crate) trace: Vec<String>,
    pub(crate) logs: Vec<LogEvent>,
    /// Acts on connections, each with the length that `trace` had then.
    pub(crate) net: Vec<(usize, NetOp)>,
    /// What fails, by the text that stands in `trace`.
    pub(crate) failing: BTreeMap<String, DiskError>,
    pub(crate) procs: BTreeMap<Pid, ProcSys>,
    fds: BTreeMap<Fd, String>,
}

impl Bench {
    /// A server whose disk is empty but for its directories.
    pub(crate) fn new(version: PgVersion, geometry: Geometry, planted: Planted) -> Self {
        let settings = Settings::new(version, geometry);
        let checkpoint = geometry.segment_start(SegmentNo(1)) + 40;
        let control = ControlFile::fresh(version, &geometry, SYSID, checkpoint);
        let file = control.encode(version);
        let dirs = [
            ".",
            "base",
            "base/5",
            "global",
            "pg_replslot",
            "pg_wal",
            "pg_xact",
        ];
        let files = [
            ("global/pg_control", file),
            ("pg_xact/0000", alloc::vec![0; 512]),
        ];
        Self {
            shmem: Shmem::new(settings, control),
            probe: Probe::new(planted),
            kernel: Kernel::new(1, 7),
            now: Now {
                mono: Mono(0),
                wall: TimestampTz(1_000_000_000),
            },
            files: files
                .into_iter()
                .map(|(path, bytes)| (path.to_string(), bytes))
                .collect(),
            dirs: dirs.into_iter().map(ToString::to_string).collect(),
            trace: Vec::new(),
            logs: Vec::new(),
            net: Vec::new(),
            failing: BTreeMap::new(),
            procs: BTreeMap::new(),
            fds: BTreeMap::new(),
        }
    }

    pub(crate) fn attach(&mut self, role: Role) -> Pid {
        let pid = self.kernel.pid();
        self.shmem.procs.attach(pid, role);
        self.procs.insert(pid, ProcSys::default());
        pid
    }

    /// WAL that begins with the checkpoint of a fresh cluster.
    pub(crate) fn wal(&self) -> WalBuilder {
        let settings = &self.shmem.settings;
        let version = settings.pg_version;
        let ident = PageIdent {
            version,
            tli: TimelineId(1),
            sysid: SYSID,
            removable: true,
        };
        let mut wal = WalBuilder::new(settings.geometry, ident, SegmentNo(1));
        wal.append(&self.xlog(&XlogRecord::CheckpointShutdown(
            self.shmem.control.checkpoint_copy,
        )));
        wal
    }

    /// A record of the XLOG resource manager.
    pub(crate) fn xlog(&self, record: &XlogRecord) -> RecordBody {
        let main = record.encode(self.shmem.settings.pg_version);
        RecordBody::new(RmgrId::XLOG, record.info(), Xid::INVALID, main)
    }

    /// Puts segments where a server looks for them.
    pub(crate) fn install(&mut self, wal: &WalBuilder) {
        for (segment, bytes) in wal.segments() {
            let path = self.segment_path(segment);
            self.files.insert(path, bytes);
        }
    }

    pub(crate) fn segment_path(&self, segment: SegmentNo) -> String {
        let name = segment_name(&self.shmem.settings.geometry, TimelineId(1), segment);
        format!("pg_wal/{name}")
    }

    /// A primary that goes on after `wal`.
    pub(crate) fn in_production(&mut self, wal: &WalBuilder) {
        self.install(wal);
        let geometry = self.shmem.settings.geometry;
        let page = geometry.page_start(wal.end());
        let bytes = self.read_wal(page, geometry.wal_page as usize).to_vec();
        self.shmem.recovery.state = RecoveryState::Done;
        self.shmem.recovery.install_segment_active = true;
        self.shmem.next_xid = Xid::FIRST_NORMAL;
        self.shmem.control.state = DbState::InProduction;
        let xlog = &mut self.shmem.xlog;
        xlog.insert_tli = TimelineId(1);
        xlog.prev_tli = TimelineId(1);
        xlog.prev_byte_pos = lsn_to_bytepos(&geometry, wal.prev());
        xlog.curr_byte_pos = lsn_to_bytepos(&geometry, wal.end());
        (xlog.write, xlog.flush, xlog.request_write) = (wal.end(), wal.end(), wal.end());
        xlog.initialized_upto = page + u64::from(geometry.wal_page);
        let index = xlog.buffer_index(page, geometry.wal_page);
        xlog.buffers[index].end = xlog.initialized_upto;
        xlog.buffers[index].page = Arc::new(bytes);
    }

    /// The WAL on disk from a record on: where each starts, whose it is, its type.
    pub(crate) fn records(&self, from: Lsn) -> Vec<(Lsn, RmgrId, u8)> {
        let settings = &self.shmem.settings;
        let mut reader = WalReader::new(settings.geometry, settings.pg_version, Some(SYSID));
        reader.begin_read(from);
        let mut found = Vec::new();
        loop {
            match reader.next(&mut Probe::default()) {
                Next::Record(record) => {
                    found.push((record.lsn, record.header.rmid, record.header.rmgr_info()));
                }
                Next::Need { page, .. } => {
                    let segment = settings.geometry.segment_of(page);
                    if self.files.contains_key(&self.segment_path(segment)) {
                        let bytes = self.read_wal(page, settings.geometry.wal_page as usize);
                        reader.feed(page, Bytes::copy_from_slice(bytes));
                    } else {
                        reader.feed_failed(WalError::Unavailable(page));
                    }
                }
                Next::End(_) => return found,
            }
        }
    }

    /// Bytes of pg_wal as a reader would find them.
    pub(crate) fn read_wal(&self, from: Lsn, len: usize) -> &[u8] {
        let geometry = &self.shmem.settings.geometry;
        let file = &self.files[&self.segment_path(geometry.segment_of(from))];
        let at = geometry.segment_offset(from) as usize;
        &file[at..at + len]
    }

    pub(crate) fn step<T>(&mut self, pid: Pid, run: impl FnOnce(&mut Cx<'_>) -> T) -> T {
        let mut fx = Effects::default();
        let mut sys = self.procs.remove(&pid).expect("attached");
        let mut cx = Cx {
            now: self.now,
            me: pid,
            shmem: &mut self.shmem,
            probe: &mut self.probe,
            kernel: &mut self.kernel,
            sys: &mut sys,
            fx: &mut fx,
        };
        let outcome = run(&mut cx);
        for (_, effect) in fx.0 {
            match effect {
                Effect::Disk(id, op) => {
                    let done = self.disk(op);
                    if sys.op == Some(id) {
                        sys.done = Some(done);
                    }
                }
                Effect::Log(event) => self.logs.push(event),
                Effect::Net(_, op) => self.net.push((self.trace.len(), op)),
                Effect::Exit(_) | Effect::Halt => {}
            }
        }
        self.procs.insert(pid, sys);
        outcome
    }

    /// Polls until the routine is done or waits for something else than the disk.
    pub(crate) fn drive<T>(
        &mut self,
        pid: Pid,
        mut poll: impl FnMut(&mut Cx<'_>) -> Poll<T>,
    ) -> Result<T, Wait> {
        for _ in 0..100_000 {
            match self.step(pid, &mut poll) {
                Poll::Ready(value) => return Ok(value),
                Poll::Yield(Yield::Again(_)) => {}
                Poll::Yield(Yield::Wait(wait)) if wait.op.is_some() => {}
                Poll::Yield(Yield::Wait(wait)) => return Err(wait),
                Poll::Yield(Yield::Exit(exit)) => panic!("a routine does not exit: {exit:?}"),
            }
        }
        panic!("livelock: {:?}", self.trace.last());
    }

    /// Can a process run that waits so? Decided as the node does; the disk has always answered.
    pub(crate) fn wake(&mut self, pid: Pid, wait: &Wait) -> bool {
        let sys = self.procs.get_mut(&pid).expect("attached");
        let conn = |id| sys.conns.get(&id);
        let woken = Woken {
            latch: wait.latch && self.shmem.procs.latch(pid),
            readable: wait
                .readable
                .is_some_and(|id| conn(id).is_none_or(Conn::readable)),
            writable: wait.writable.is_some_and(|id| {
                conn(id).is_none_or(|c| c.connected() && !c.send_pending() || c.end().is_some())
            }),
            timeout: wait.until.is_some_and(|until| until <= self.now.mono),
        };
        sys.woken = woken;
        let Woken {
            latch,
            readable,
            writable,
            timeout,
        } = woken;
        let queued = wait.condvar && self.shmem.condvars.is_woken(pid)
            || wait.lock && self.shmem.locks.is_woken(pid);
        wait.op.is_some() || queued || latch || readable || writable || timeout
    }

    /// Lets time pass on both clocks.
    pub(crate) fn pass_ms(&mut self, ms: u32) {
        self.now.mono = self.now.mono.after_ms(ms.into());
        self.now.wall = self.now.wall + i64::from(ms) * 1000;
    }

    fn disk(&mut self, op: DiskOp) -> Result<DiskDone, DiskError> {
        let path = |fd: &Fd| self.fds.get(fd).cloned().ok_or(DiskError::BadFd);
        let (verb, path) = match &op {
            DiskOp::Open { path, .. } => ("open", path.to_string()),
            DiskOp::Close(fd) => ("close", path(fd)?),
            DiskOp::Read { fd, .. } => ("read", path(fd)?),
            DiskOp::Write { fd, .. } | DiskOp::WriteZeros { fd, .. } => ("write", path(fd)?),
            DiskOp::Fsync(fd) => ("fsync", path(fd)?),
            DiskOp::Truncate { fd, .. } => ("truncate", path(fd)?),
            DiskOp::Stat(path) => ("stat", path.to_string()),
            DiskOp::Rename { from, .. } => ("rename", from.to_string()),
            DiskOp::Unlink(path) => ("unlink", path.to_string()),
            DiskOp::Mkdir(path) => ("mkdir", path.to_string()),
            DiskOp::Rmdir(path) => ("rmdir", path.to_string()),
            DiskOp::List(path) => ("list", path.to_string()),
            DiskOp::SyncDir(path) => ("syncdir", path.to_string()),
        };
        let text = format!("{verb} {path}");
        self.trace.push(text.clone());
        if let Some(error) = self.failing.get(&text) {
            return Err(*error);
        }
        self.execute(op, path)
    }

    fn execute(&mut self, op: DiskOp, path: String) -> Result<DiskDone, DiskError> {
        match op {
            DiskOp::Open { flags, .. } => {
                let exists = self.files.contains_key(&path);
                match flags {
                    OpenFlags::Existing if !exists => return Err(DiskError::NotFound),
                    OpenFlags::CreateNew if exists => return Err(DiskError::Exists),
                    OpenFlags::Existing => {}
                    OpenFlags::Create | OpenFlags::CreateNew => {
                        self.files.entry(path.clone()).or_default();
                    }
                    OpenFlags::CreateTruncate => {
                        self.files.insert(path.clone(), Vec::new());
                    }
                }
                let fd = Fd(u32::try_from(self.trace.len()).expect("few operations"));
                self.fds.insert(fd, path);
                Ok(DiskDone::Opened(fd))
            }
            DiskOp::Read { offset, len, .. } => {
                let file = &self.files[&path];
                let from = usize::try_from(offset).expect("small").min(file.len());
                let to = (from + len as usize).min(file.len());
                Ok(DiskDone::Data(Bytes::copy_from_slice(&file[from..to])))
            }
            DiskOp::Write { offset, data, .. } => Ok(self.write(&path, offset, &data)),
            DiskOp::WriteZeros { offset, len, .. } => {
                Ok(self.write(&path, offset, &alloc::vec![0; len as usize]))
            }
            DiskOp::Truncate { len, .. } => {
                let len = usize::try_from(len).expect("small");
                self.files.get_mut(&path).expect("open").resize(len, 0);
                Ok(DiskDone::Done)
            }
            DiskOp::Stat(_) if self.dirs.contains(&path) => Ok(DiskDone::Stat(FileKind::Dir)),
            DiskOp::Stat(_) => {
                let file = self.files.get(&path).ok_or(DiskError::NotFound)?;
                Ok(DiskDone::Stat(FileKind::File(file.len() as u64)))
            }
            DiskOp::Rename { to, .. } if self.dirs.contains(&path) => {
                self.rename_dir(&path, to.as_str())
            }
            DiskOp::Rename { to, .. } => {
                let file = self.files.remove(&path).ok_or(DiskError::NotFound)?;
                self.files.insert(to.to_string(), file);
                Ok(DiskDone::Done)
            }
            DiskOp::Unlink(_) => self
                .files
                .remove(&path)
                .map(|_| DiskDone::Done)
                .ok_or(DiskError::NotFound),
            DiskOp::List(_) => Ok(DiskDone::Names(self.names(&path))),
            DiskOp::Mkdir(_) if !self.dirs.insert(path) => Err(DiskError::Exists),
            DiskOp::Rmdir(path) if !self.names(path.as_str()).is_empty() => {
                Err(DiskError::NotEmpty)
            }
            DiskOp::Rmdir(path) if !self.dirs.remove(path.as_str()) => Err(DiskError::NotFound),
            DiskOp::Close(_)
            | DiskOp::Fsync(_)
            | DiskOp::Mkdir(_)
            | DiskOp::Rmdir(_)
            | DiskOp::SyncDir(_) => Ok(DiskDone::Done),
        }
    }

    fn rename_dir(&mut self, from: &str, to: &str) -> Result<DiskDone, DiskError> {
        if !self.dirs.insert(to.into()) {
            return Err(DiskError::NotEmpty);
        }
        self.dirs.remove(from);
        for name in self.names(from) {
            let file = self.files.remove(&format!("{from}/{name}"));
            let file = file.expect("directories that are renamed hold files alone");
            self.files.insert(format!("{to}/{name}"), file);
        }
        Ok(DiskDone::Done)
    }

    fn write(&mut self, path: &str, offset: u64, data: &[u8]) -> DiskDone {
        let file = self.files.get_mut(path).expect("open");
        let from = usize::try_from(offset).expect("small");
        let to = from + data.len();
        if file.len() < to {
            file.resize(to, 0);
        }
        file[from..to].copy_from_slice(data);
        DiskDone::Written(u32::try_from(data.len()).expect("small"))
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let all = self
            .files
            .keys()
            .chain(&self.dirs)
            .filter(|path| *path != ".");
        let here = all.filter(|path| FilePath::from(path.as_str()).parent() == directory);
        let mut names: Vec<String> = here
            .map(|path| FilePath::from(path.as_str()).name().to_string())
            .collect();
        names.sort_unstable();
        names
    }
}
