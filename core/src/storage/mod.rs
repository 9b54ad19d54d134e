//! F5: files, relations, shared buffers and the control file, as blocking routines. Mirrors
//! src/backend/storage.
//!
//! A blocking routine is a value: one for each C function, and routines nest by containing each
//! other.

pub mod buffer;
pub mod buffer_sync;
pub mod control;
pub mod file;
pub mod relation;
pub mod sync_data_dir;
