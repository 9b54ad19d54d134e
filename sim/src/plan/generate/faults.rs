//! Draws the faults of a run. Each class of faults is on or off for a whole run, so that some runs
//! have many faults of one class.

use super::{Draw, MS, SECOND, signed};
use crate::plan::{EventKind, Fault, FaultRow, ShutdownMode, When};
use walsim_core::call::Place;
use walsim_core::shmem::Role;

/// The classes of faults.
#[derive(Clone, Copy)]
enum Class {
    PowerLoss,
    NodeCrash,
    Partition,
    Reset,
    Delay,
    FsyncError,
    DiskFull,
    ClockJump,
    StopReading,
    SmartShutdown,
    FastShutdown,
    ImmediateShutdown,
    Kill,
    Pause,
}

impl Class {
    /// Whether faults of this class hit processes. Such a fault is likely to matter more at some
    /// moments in the work of a process, so it may wait for an event.
    const fn strikes_processes(self) -> bool {
        match self {
            Self::PowerLoss
            | Self::NodeCrash
            | Self::SmartShutdown
            | Self::FastShutdown
            | Self::ImmediateShutdown
            | Self::Kill
            | Self::Pause => true,
            Self::Partition
            | Self::Reset
            | Self::Delay
            | Self::FsyncError
            | Self::DiskFull
            | Self::ClockJump
            | Self::StopReading => false,
        }
    }
}

const CLASSES: [Class; 14] = [
    Class::PowerLoss,
    Class::NodeCrash,
    Class::Partition,
    Class::Reset,
    Class::Delay,
    Class::FsyncError,
    Class::DiskFull,
    Class::ClockJump,
    Class::StopReading,
    Class::SmartShutdown,
    Class::FastShutdown,
    Class::ImmediateShutdown,
    Class::Kill,
    Class::Pause,
];

/// C functions in which a stalled process of the primary or of a standby is likely to matter. Each
/// of them is between two halves of an operation, and other processes can see the first half.
const PLACES: [&[Place]; 2] = [
    &[
        Place::CreateCheckPoint,
        Place::CheckPointGuts,
        Place::BufferSync,
        Place::ProcessSyncRequests,
        Place::UpdateControlFile,
        Place::CopyXLogRecordToWAL,
        Place::RecordTransactionCommit,
        Place::XLogWrite,
        Place::IssueXLogFsync,
        Place::XLogFileInit,
        Place::WALRead,
        Place::WalSndLoop,
        Place::StartReplication,
        Place::ServerLoop,
        Place::CreateSlotOnDisk,
        Place::InvalidateObsoleteReplicationSlots,
        Place::PhysicalConfirmReceivedLocation,
        Place::RemoveOldXlogFiles,
        Place::RemoveXlogFile,
        Place::ReplicationSlotAcquire,
        Place::ReplicationSlotReserveWal,
        Place::ReplicationSlotReserveWal,
        Place::ReplicationSlotsComputeRequiredLSN,
        Place::SaveSlotToPath,
        Place::UpdateLastRemovedPtr,
    ],
    &[
        Place::WaitForWALToBecomeAvailable,
        Place::XLogPageRead,
        Place::ApplyWalRecord,
        Place::RequestXLogStreaming,
        Place::ShutdownWalRcv,
        Place::WalReceiverMain,
        Place::XLogWalRcvWrite,
        Place::XLogWalRcvFlush,
        Place::XLogFileInit,
        Place::UpdateControlFile,
        Place::ServerLoop,
        Place::CreateRestartPoint,
        Place::RemoveXlogFile,
        Place::InstallXLogFileSegment,
    ],
];

impl Draw {
    /// Stalls of single processes. Half of the runs have them.
    pub(super) fn stalls(&mut self, nodes: usize, active_us: u64) -> Vec<FaultRow> {
        let count = *self.rng.pick(&[0, 0, 0, 1, 2, 4, 6, 8]);
        let rows = (0..count).map(|_| {
            let node = self.victim(nodes);
            let at = *self.rng.pick(PLACES[usize::from(node > 0)]);
            // Every stall is long enough for other processes to act. Some stalls are long enough
            // for timeouts.
            let for_us = match self.rng.below(3) {
                0 => self.between_ms(MS, 20 * MS),
                1 => self.between_ms(20 * MS, 300 * MS),
                _ => self.between_ms(300 * MS, 2 * SECOND),
            };
            let fault = Fault::Stall { node, at, for_us };
            let when = When::At(self.between_ms(200 * MS, active_us - 500 * MS));
            FaultRow { when, fault }
        });
        rows.collect()
    }

    pub(super) fn faults(&mut self, nodes: usize, active_us: u64) -> Vec<FaultRow> {
        let on: Vec<Class> = CLASSES
            .into_iter()
            .filter(|_| self.rng.ratio(1, 2))
            .collect();
        // A run has between 0 and 6 faults. Few runs have fewer than two, because faults must be
        // able to interact.
        let count = match self.rng.below(40) {
            0 => 0,
            1 => 1,
            2..11 => 2,
            11..21 => 3,
            21..30 => 4,
            30..36 => 5,
            _ => 6,
        };
        if on.is_empty() {
            return Vec::new();
        }
        let rows = (0..count).map(|_| {
            let class = *self.rng.pick(&on);
            self.fault(class, nodes, active_us)
        });
        rows.collect()
    }

    fn fault(&mut self, class: Class, nodes: usize, active_us: u64) -> FaultRow {
        let node = self.victim(nodes);
        let (a, b) = self.link(nodes);
        let at = When::At(self.between_ms(500 * MS, active_us - 500 * MS));
        let off_us = self.rng.between(50, 2000) * MS;
        let for_us = self.rng.between(20, 4000) * MS;
        let when = if class.strikes_processes() {
            self.moment(node, at)
        } else {
            at
        };
        let fault = match class {
            Class::PowerLoss => Fault::PowerLoss { node, off_us },
            Class::NodeCrash => Fault::NodeCrash { node, off_us },
            Class::SmartShutdown => shutdown(node, ShutdownMode::Smart, off_us),
            Class::FastShutdown => shutdown(node, ShutdownMode::Fast, off_us),
            Class::ImmediateShutdown => shutdown(node, ShutdownMode::Immediate, off_us),
            Class::Kill => Fault::Kill {
                node,
                process: self.process(node),
            },
            Class::Pause => Fault::Pause {
                node,
                process: if self.rng.ratio(1, 3) {
                    None
                } else {
                    Some(self.process(node))
                },
                for_us,
            },
            Class::Partition => {
                let one_way = self.rng.ratio(1, 3);
                Fault::Partition {
                    a,
                    b,
                    one_way,
                    for_us,
                }
            }
            Class::Reset => Fault::Reset { a, b },
            Class::Delay => {
                let by_us = self.rng.between(1, 1500) * MS;
                Fault::Delay {
                    a,
                    b,
                    by_us,
                    for_us,
                }
            }
            Class::FsyncError => Fault::FsyncError {
                node,
                path: (*self.rng.pick(&["pg_wal", "pg_wal", "base", "pg_xact"])).into(),
                drop_pages: self.rng.ratio(1, 2),
            },
            Class::DiskFull => {
                let for_us = self.rng.between(20, 1500) * MS;
                Fault::DiskFull { node, for_us }
            }
            Class::ClockJump => {
                let ahead = self.rng.ratio(1, 2);
                let by_us = self.between_ms(MS, 5 * SECOND);
                let by_us = if ahead {
                    signed(by_us * 6)
                } else {
                    -signed(by_us)
                };
                Fault::ClockJump { node, by_us }
            }
            Class::StopReading => Fault::StopReading { node, for_us },
        };
        FaultRow { when, fault }
    }

    /// Draws the kind of process that a fault on this node hits.
    fn process(&mut self, node: usize) -> Role {
        let here: &[Role] = if node == 0 {
            &[
                Role::Backend,
                Role::WalSender,
                Role::WalWriter,
                Role::Checkpointer,
            ]
        } else {
            &[Role::Startup, Role::WalReceiver, Role::Checkpointer]
        };
        *self.rng.pick(here)
    }

    /// Draws a node. It is the primary with probability one half.
    pub(super) fn victim(&mut self, nodes: usize) -> usize {
        if self.rng.ratio(1, 2) {
            0
        } else {
            self.standby(nodes)
        }
    }

    pub(super) fn standby(&mut self, nodes: usize) -> usize {
        let last = u64::try_from(nodes - 1).expect("a few nodes");
        usize::try_from(self.rng.between(1, last)).expect("a few nodes")
    }

    /// Draws a link between the primary and a standby, in either direction.
    fn link(&mut self, nodes: usize) -> (usize, usize) {
        let standby = self.standby(nodes);
        if self.rng.ratio(1, 2) {
            (0, standby)
        } else {
            (standby, 0)
        }
    }

    /// When a fault happens: either at the given time, or at an event at which the fault is likely
    /// to matter.
    fn moment(&mut self, node: usize, at: When) -> When {
        let delicate = self.rng.ratio(1, 2);
        let primary = [
            EventKind::WalWrite,
            EventKind::WalFsync,
            EventKind::WalFsynced,
            EventKind::WalSent,
            EventKind::CommitAcked,
            EventKind::CheckpointDone,
        ];
        let standby = [
            EventKind::WalReceived,
            EventKind::WalReceived,
            EventKind::WalFsync,
            EventKind::WalFsynced,
        ];
        let event = if node == 0 {
            *self.rng.pick(&primary)
        } else {
            *self.rng.pick(&standby)
        };
        let most = if event == EventKind::CheckpointDone {
            4
        } else {
            150
        };
        let nth = self.small(1, most);
        if delicate {
            When::Event { node, event, nth }
        } else {
            at
        }
    }
}

const fn shutdown(node: usize, mode: ShutdownMode, off_us: u64) -> Fault {
    Fault::Shutdown { node, mode, off_us }
}
