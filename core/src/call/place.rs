//! [`Place`]: the C function in which a process ends a step. Traces show this function. Faults and
//! checks of the simulator refer to this function.

use core::fmt;

/// The C functions inside which a process can end a step, grouped by source file.
macro_rules! places {
    ($($file:literal { $($variant:ident $(= $text:literal)?,)* })*) => {
        /// The C function in which a process ends a step. The process either waits or lets other
        /// processes run.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Place {
            $($(
                #[doc = concat!("`", spelling!($variant $($text)?), "` of ", $file, ".")]
                $variant,
            )*)*
        }

        impl Place {
            /// All places, grouped by file.
            pub const ALL: &[Self] = &[$($(Self::$variant,)*)*];

            /// The function's name in C.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$variant => spelling!($variant $($text)?),)*)*
                }
            }
        }
    };
}

/// The C name of a variant. It is the variant's own name, unless the C name is not a valid name in
/// Rust.
macro_rules! spelling {
    ($variant:ident) => {
        stringify!($variant)
    };
    ($variant:ident $text:literal) => {
        $text
    };
}

places! {
    "access/heap/hio.c" {
        RelationGetBufferForTuple,
    }
    "access/transam/xact.c" {
        AbortCurrentTransaction,
        RecordTransactionAbort,
        RecordTransactionCommit,
    }
    "access/transam/xlog.c" {
        CheckPointGuts,
        CopyXLogRecordToWAL,
        CreateCheckPoint,
        CreateRestartPoint,
        InstallXLogFileSegment,
        IssueXLogFsync = "issue_xlog_fsync",
        ReadControlFile,
        RecoveryRestartPoint,
        RemoveOldXlogFiles,
        RemoveTempXlogFiles,
        RemoveXlogFile,
        StartupXLOG,
        SwitchIntoArchiveRecovery,
        UpdateControlFile,
        UpdateLastRemovedPtr,
        XLogFileInit,
        XLogFileInitInternal,
        XLogInsertRecord,
        XLogWrite,
    }
    "access/transam/xlogreader.c" {
        WALRead,
    }
    "access/transam/xlogrecovery.c" {
        ApplyWalRecord,
        FinishWalRecovery,
        PerformWalRecovery,
        ReadRecoverySignalFile = "readRecoverySignalFile",
        WaitForWALToBecomeAvailable,
        XLogFileRead,
        XLogPageRead,
    }
    "libpq/be-secure.c" {
        SecureRead = "secure_read",
        SecureWrite = "secure_write",
    }
    "postmaster/checkpointer.c" {
        CheckpointerMain,
        RequestCheckpoint,
    }
    "postmaster/fork_process.c" {
        Fork = "fork",
    }
    "postmaster/postmaster.c" {
        PostmasterMain,
        PostmasterStateMachine,
        ProcessStartupPacket,
        ServerLoop,
    }
    "postmaster/walwriter.c" {
        WalWriterMain,
    }
    "replication/libpqwalreceiver/libpqwalreceiver.c" {
        LibpqrcvConnect = "libpqrcv_connect",
        LibpqrcvPQgetResult = "libpqrcv_PQgetResult",
    }
    "replication/slot.c" {
        CreateSlotOnDisk,
        InvalidateObsoleteReplicationSlots,
        InvalidatePossiblyObsoleteSlot,
        ReplicationSlotAcquire,
        ReplicationSlotDropPtr,
        ReplicationSlotReserveWal,
        ReplicationSlotsComputeRequiredLSN,
        RestoreSlotFromDisk,
        SaveSlotToPath,
        StartupReplicationSlots,
    }
    "replication/walreceiver.c" {
        WalRcvWaitForStartPosition,
        WalReceiverMain,
        XLogWalRcvFlush,
        XLogWalRcvWrite,
    }
    "replication/walreceiverfuncs.c" {
        RequestXLogStreaming,
        ShutdownWalRcv,
    }
    "replication/walsender.c" {
        ExecReplicationCommand = "exec_replication_command",
        IdentifySystem,
        InitWalSender,
        PhysicalConfirmReceivedLocation,
        SendTimeLineHistory,
        StartReplication,
        WalSndErrorCleanup,
        WalSndInitStopping,
        WalSndLoop,
        WalSndSegmentOpen,
        WalSndWait,
        WalSndWaitStopping,
    }
    "storage/buffer/bufmgr.c" {
        BufferAlloc,
        BufferSync,
    }
    "storage/file/fd.c" {
        BasicOpenFile,
        DurableRename = "durable_rename",
        DurableUnlink = "durable_unlink",
        FileRead,
        FileWrite,
        FsyncFname = "fsync_fname",
        SyncDataDirectory,
    }
    "storage/ipc/ipc.c" {
        ProcExit = "proc_exit",
    }
    "storage/ipc/procarray.c" {
        ProcArrayEndTransaction,
    }
    "storage/lmgr/lwlock.c" {
        LWLockAcquire,
    }
    "storage/smgr/md.c" {
        Mdnblocks = "mdnblocks",
    }
    "storage/sync/sync.c" {
        ProcessSyncRequests,
    }
    "tcop/postgres.c" {
        PostgresMain,
    }
    "utils/init/miscinit.c" {
        CreateLockFile,
        UnlinkLockFiles,
    }
    "utils/init/postinit.c" {
        InitPostgres,
        ShutdownPostgres,
    }
    "bin/pg_basebackup/pg_receivewal.c" {
        FindStreamingStart,
        StreamLog,
    }
    "bin/pg_basebackup/receivelog.c" {
        CloseWalfile = "close_walfile",
        HandleCopyStream,
        OpenWalfile = "open_walfile",
        ProcessXLogDataMsg,
        WriteTimeLineHistoryFile = "writeTimeLineHistoryFile",
    }
    "common/rmtree.c" {
        Rmtree = "rmtree",
    }
    "port/pgsleep.c" {
        PgUsleep = "pg_usleep",
    }
}

impl Place {
    /// The place with this C name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|place| place.name() == name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_known_by_the_name_of_its_function() {
        for place in Place::ALL {
            assert_eq!(Place::from_name(place.name()), Some(*place));
        }
        assert_eq!(Place::IssueXLogFsync.name(), "issue_xlog_fsync");
        assert_eq!(Place::WALRead.name(), "WALRead");
        assert_eq!(Place::from_name("walread"), None);
    }
}
