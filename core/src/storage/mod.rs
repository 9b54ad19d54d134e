//! F5: blocking routines as values. One value per C function; routines nest by containing each other.

#[cfg(test)]
pub(crate) mod bench;
pub mod buffer;
pub mod buffer_sync;
pub mod checkpoint;
pub mod checkpoint_request;
pub mod clog;
pub mod control;
pub mod file;
pub mod generic_xlog;
pub mod heap;
pub mod libpqrcv;
pub mod recovery;
pub mod redo;
pub mod relation;
pub mod restartpoint;
pub mod slot;
pub mod sync_data_dir;
#[cfg(test)]
pub(crate) mod testing;
pub mod wal_buffers;
pub mod wal_file;
pub mod wal_horizon;
pub mod wal_install;
pub mod wal_read;
pub mod wal_release;
pub mod wal_removal;
pub mod walrcv_funcs;
pub mod xact;
pub mod xlog_flush;
pub mod xlog_insert;
pub mod xlog_write;
