//! A server for unit tests: shared memory, processes that the test runs step by step, and a disk in
//! memory.

use crate::base::{Fd, Lsn, Mono, Now, PgVersion, Pid, Planted, Probe, SegmentNo, Settings};
use crate::base::{Geometry, TimelineId, TimestampTz, Xid};
use crate::call::{
    DiskError, DiskOp, Effect, Effects, Exit, LogEvent, NetOp, Place, Poll, Wait, Woken, Yield,
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

pub(crate) struct Fixture {
    pub(crate) shmem: Shmem,
    pub(crate) probe: Probe,
    pub(crate) kernel: Kernel,
    pub(crate) now: Now,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) dirs: BTreeSet<String>,
    /// The disk operations that were executed or have failed. An example of a line is `write
    /// base/5/16384 0+512`.
    pub(crate) trace: Vec<String>,
    pub(crate) logs: Vec<LogEvent>,
    /// The network operations. Each comes with the length of `trace` at the time of the operation.
    pub(crate) net: Vec<(usize, NetOp)>,
    /// The operations that fail. The key is the first words of the operation's line in `trace`.
    pub(crate) failing: BTreeMap<String, DiskError>,
    pub(crate) procs: BTreeMap<Pid, ProcSys>,
    pub(super) fds: BTreeMap<Fd, String>,
    pub(super) next_fd: u32,
    /// Whether an operation is executed only by [`Fixture::complete`], instead of when it is
    /// issued.
    deferred: bool,
    in_progress: BTreeMap<Pid, DiskOp>,
}

impl Fixture {
    /// A server with the smallest geometry. Its disk has directories, but no files.
    pub(crate) fn new(version: PgVersion, planted: Planted) -> Self {
        Self::with(Settings::new(version, Geometry::SMALLEST), planted)
    }

    /// A primary that has just started. The first page of its WAL contains only the segment header.
    /// A disk operation stays in progress until [`Fixture::complete`].
    pub(crate) fn primary() -> Self {
        let mut fixture = Self::in_recovery();
        let geometry = fixture.shmem.settings.geometry;
        let start = geometry.segment_start(SegmentNo(1));
        let xlog = &mut fixture.shmem.xlog;
        xlog.curr_byte_pos = lsn_to_bytepos(&geometry, start);
        xlog.prev_byte_pos = xlog.curr_byte_pos - 64;
        xlog.initialized_upto = start;
        (xlog.write, xlog.flush, xlog.request_write) = (start, start, start);
        xlog.insert_tli = TimelineId(1);
        fixture.shmem.recovery.state = RecoveryState::Done;
        fixture.shmem.recovery.install_segment_active = true;
        fixture
    }

    /// A server that replays WAL. A disk operation stays in progress until [`Fixture::complete`].
    pub(crate) fn in_recovery() -> Self {
        let mut settings = Settings::new(PgVersion::V15, Geometry::SMALL);
        settings.shared_buffers = 4;
        let mut fixture = Self::with(settings, Planted::NONE);
        fixture.shmem.next_xid = Xid(10);
        fixture.shmem.xlog.redo = Lsn(1);
        fixture.deferred = true;
        fixture
    }

    fn with(settings: Settings, planted: Planted) -> Self {
        let (version, geometry) = (settings.pg_version, settings.geometry);
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
            next_fd: 0,
            deferred: false,
            in_progress: BTreeMap::new(),
        }
    }

    pub(crate) fn spawn(&mut self, role: Role) -> Pid {
        let pid = self.kernel.pid();
        self.shmem.procs.attach(pid, role);
        self.procs.insert(pid, ProcSys::default());
        pid
    }

    /// WAL that begins with the checkpoint record of a new cluster.
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

    /// Writes the segments of `wal` to pg_wal.
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

    /// A primary that continues after `wal`.
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

    /// The records on disk from position `from` on. Each has its start, its resource manager and
    /// its type.
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

    /// The bytes of pg_wal, as a reader of WAL would find them.
    pub(crate) fn read_wal(&self, from: Lsn, len: usize) -> &[u8] {
        let geometry = &self.shmem.settings.geometry;
        let file = &self.files[&self.segment_path(geometry.segment_of(from))];
        let at = geometry.segment_offset(from) as usize;
        &file[at..at + len]
    }

    /// The kernel state of a process.
    pub(crate) fn sys(&mut self, pid: Pid) -> &mut ProcSys {
        self.procs.get_mut(&pid).expect("spawned")
    }

    /// One step of a process.
    pub(crate) fn step<T>(&mut self, pid: Pid, act: impl FnOnce(&mut Cx<'_>) -> T) -> T {
        let mut fx = Effects::default();
        let mut cx = Cx {
            now: self.now,
            me: pid,
            shmem: &mut self.shmem,
            probe: &mut self.probe,
            kernel: &mut self.kernel,
            sys: self.procs.get_mut(&pid).expect("spawned"),
            fx: &mut fx,
        };
        let outcome = act(&mut cx);
        for (_, effect) in fx.0 {
            match effect {
                // No process waits for the result of a close.
                Effect::Disk(_, op @ DiskOp::Close(_)) => {
                    let _ = self.disk(op);
                }
                Effect::Disk(_, op) => {
                    assert!(self.in_progress.insert(pid, op).is_none());
                    if !self.deferred {
                        self.complete(pid);
                    }
                }
                Effect::Log(event) => self.logs.push(event),
                Effect::Net(_, op) => self.net.push((self.trace.len(), op)),
                Effect::Exit(_) | Effect::Halt => {}
            }
        }
        outcome
    }

    /// Executes the operation that the process has in progress, if there is one.
    pub(crate) fn complete(&mut self, pid: Pid) {
        if let Some(op) = self.in_progress.remove(&pid) {
            let outcome = self.disk(op);
            self.sys(pid).done = Some(outcome);
        }
    }

    /// Steps a process until it exits, or waits for an event other than the disk.
    pub(crate) fn settle(&mut self, pid: Pid, mut step: impl FnMut(&mut Cx<'_>) -> Yield) -> Yield {
        for _ in 0..100_000 {
            self.complete(pid);
            match self.step(pid, &mut step) {
                Yield::Again(_) => {}
                Yield::Wait(wait) if wait.op.is_some() => {}
                how @ (Yield::Wait(_) | Yield::Exit(_)) => return how,
            }
        }
        panic!("livelock: {:?}", self.trace.last());
    }

    /// Polls until the routine is done, or waits for an event other than the disk.
    pub(crate) fn drive<T>(
        &mut self,
        pid: Pid,
        mut poll: impl FnMut(&mut Cx<'_>) -> Poll<T>,
    ) -> Result<T, Wait> {
        let mut value = None;
        let how = self.settle(pid, |cx| match poll(cx) {
            Poll::Yield(how) => how,
            Poll::Ready(ready) => {
                value = Some(ready);
                Yield::Exit(Exit::Normal)
            }
        });
        match (value, how) {
            (Some(value), _) => Ok(value),
            (None, Yield::Wait(wait)) => Err(wait),
            (None, how) => panic!("a routine does not end so: {how:?}"),
        }
    }

    /// Polls a routine to its end. The routine may wait for the disk. No other process may hold a
    /// lock that the routine needs.
    pub(crate) fn run<T>(&mut self, pid: Pid, mut poll: impl FnMut(&mut Cx<'_>) -> Poll<T>) -> T {
        loop {
            match self.drive(pid, &mut poll) {
                Ok(value) => return value,
                Err(wait) => {
                    let woken = self.shmem.locks.is_woken(pid);
                    assert!(woken, "{pid} waits in {}", wait.why);
                }
            }
        }
    }

    /// Polls until the routine yields at this place, or is done.
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

    /// Returns and removes the bytes that were sent since the last call.
    pub(crate) fn sent(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        for (_, op) in core::mem::take(&mut self.net) {
            if let NetOp::Send(pieces) = op {
                all.extend(pieces.concat());
            }
        }
        all
    }

    /// Will the next checkpoint fsync the file?
    pub(crate) fn will_fsync(&self, path: &str) -> bool {
        self.shmem.sync_requests.files.contains(&path.into())
    }

    /// The lines of the trace for files whose path has this prefix.
    pub(crate) fn trace_of(&self, prefix: &str) -> Vec<&str> {
        let on = |line: &&String| {
            let path = line.split(' ').nth(1);
            path.is_some_and(|path| path.starts_with(prefix))
        };
        self.trace.iter().filter(on).map(String::as_str).collect()
    }

    /// The lines of the trace without positions and lengths, such as `write base/5/16384`.
    pub(crate) fn short_trace(&self) -> Vec<String> {
        let short = |line: &String| {
            let words: Vec<_> = line.split(' ').take(2).collect();
            words.join(" ")
        };
        self.trace.iter().map(short).collect()
    }

    /// The index of the first line of the trace that has this prefix.
    pub(crate) fn position(&self, prefix: &str) -> usize {
        let at = self.trace.iter().position(|line| line.starts_with(prefix));
        at.unwrap_or_else(|| panic!("no {prefix} in {:#?}", self.trace))
    }

    /// Can a process with this wait run? The rule is that of `Node`, except that a disk operation
    /// has always completed.
    pub(crate) fn wake(&mut self, pid: Pid, wait: &Wait) -> bool {
        let sys = self.procs.get_mut(&pid).expect("spawned");
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
}
