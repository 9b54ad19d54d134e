//! Shared memory, with one file for each control block. A crash restart replaces all shared memory.

mod buffers;
mod checkpointer;
mod clog;
mod locks;
mod postmaster;
mod procs;
mod recovery;
mod slots;
mod touched;
mod walrcv;
mod walsnd;
mod xlog;

pub use buffers::{BufId, BufTag, Buffer, Buffers, PageChange, Pool};
pub use checkpointer::{CheckpointRequests, CheckpointerCtl, SyncRequests};
pub use clog::{Clog, ClogPage, XactStatus};
pub use locks::{Acquired, CondVarId, CondVars, LockId, LockMode, Locks, Request};
pub use postmaster::{PmSignal, PostmasterCtl};
pub use procs::{PgProc, ProcArray, Role};
pub use recovery::{RecoveryCtl, RecoveryState};
pub use slots::{Entries, Invalidation, ReplicationSlots, Slot};
pub use touched::Touched;
pub use walrcv::{WalRcv, WalRcvState};
pub use walsnd::{WalSnd, WalSndState};
pub use xlog::{INSERTION_LOCKS, ReplayedCheckPoint, WalBuffer, XLogCtl};

use crate::base::{Settings, Xid};
use crate::wire::control_file::ControlFile;
use alloc::string::String;
use alloc::vec::Vec;

/// All shared memory of a server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Shmem {
    /// The configuration of the server.
    pub settings: Settings,
    /// The control file as the postmaster read it, plus later changes. Guarded by
    /// `ControlFileLock`.
    pub control: ControlFile,
    /// LWLocks.
    pub locks: Locks,
    /// Condition variables.
    pub condvars: CondVars,
    /// PGPROC entries and latches.
    pub procs: Touched<ProcArray>,
    /// The insertion of WAL, the WAL buffers, and the write and flush positions.
    pub xlog: Touched<XLogCtl>,
    /// Progress of recovery.
    pub recovery: Touched<RecoveryCtl>,
    /// State that the startup process and the walreceiver share.
    pub walrcv: Touched<WalRcv>,
    /// One entry per possible walsender.
    pub walsnd: Touched<Vec<WalSnd>>,
    /// Replication slots.
    pub slots: Touched<ReplicationSlots>,
    /// The buffer pool.
    pub buffers: Buffers,
    /// Clog pages.
    pub clog: Touched<Clog>,
    /// `ShmemVariableCache->nextXid`. Guarded by `XidGenLock`.
    pub next_xid: Xid,
    /// Checkpoint requests and their outcome.
    pub checkpointer: Touched<CheckpointerCtl>,
    /// The files that the next checkpoint must fsync.
    pub sync_requests: Touched<SyncRequests>,
    /// Signals from children to the postmaster.
    pub postmaster: PostmasterCtl,
}

impl Shmem {
    /// `CreateSharedMemoryAndSemaphores`: shared memory at server start.
    #[must_use]
    pub fn new(settings: Settings, control: ControlFile) -> Self {
        Self {
            locks: Locks::default(),
            condvars: CondVars::default(),
            procs: Touched::default(),
            xlog: XLogCtl::new(&settings).into(),
            recovery: Touched::default(),
            walrcv: Touched::default(),
            walsnd: (0..settings.max_wal_senders)
                .map(|_| WalSnd::default())
                .collect::<Vec<_>>()
                .into(),
            slots: ReplicationSlots::new(settings.max_replication_slots).into(),
            buffers: Buffers::new(settings.shared_buffers),
            clog: Touched::default(),
            next_xid: Xid::FIRST_NORMAL,
            checkpointer: Touched::default(),
            sync_requests: Touched::default(),
            postmaster: PostmasterCtl::default(),
            control,
            settings,
        }
    }

    /// Checks the structs that have changed since the last call. Runs after each step of a process.
    /// Locks are checked where they change.
    ///
    /// # Panics
    /// If an invariant does not hold.
    pub fn check(&mut self) {
        self.procs.check();
        self.xlog.check();
        self.recovery.check();
        self.walrcv.check();
        self.walsnd.check();
        self.slots.check();
        self.buffers.check();
        self.clog.check();
        self.checkpointer.check();
        self.sync_requests.check();
    }

    /// `RecoveryInProgress`
    #[must_use]
    pub fn recovery_in_progress(&self) -> bool {
        self.recovery.state != RecoveryState::Done
    }

    /// The canonical name of a setting and its value as SHOW prints it. Only for settings that have
    /// the same value in all sessions.
    #[must_use]
    pub fn show(&self, name: &str) -> Option<(&'static str, String)> {
        let recovery = self.recovery_in_progress();
        let follow = [
            ("data_checksums", self.control.data_checksum_version > 0),
            ("in_hot_standby", recovery),
            ("transaction_read_only", recovery),
        ];
        match follow
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
        {
            Some((own, set)) => Some((own, String::from(if *set { "on" } else { "off" }))),
            None => self.settings.show(name),
        }
    }

    /// Wakes every walsender (`WalSndWakeup`).
    pub fn wake_walsenders(&mut self) {
        for sender in self.walsnd.iter() {
            if let Some(pid) = sender.pid {
                self.procs.set_latch(pid);
            }
        }
    }
}
