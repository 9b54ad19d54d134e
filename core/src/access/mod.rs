//! WAL insertion and flush, transactions, redo, checkpoints. Mirrors src/backend/access.

pub mod buffers;
pub mod checkpoint;
mod checkpoint_guts;
pub mod checkpoint_request;
pub mod clog;
pub mod generic_xlog;
pub mod heap;
pub mod recovery;
pub mod redo;
pub mod restartpoint;
pub mod wal_buffers;
pub mod wal_file;
pub mod wal_install;
pub mod wal_read;
pub mod wal_release;
pub mod wal_removal;
pub mod xact;
pub mod xlog_flush;
pub mod xlog_insert;
pub mod xlog_write;
