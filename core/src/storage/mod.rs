//! Files, relations, shared buffers and the control file. Mirrors src/backend/storage.
//!
//! walsim implements a C function that can wait as a routine. A routine is a struct whose `poll`
//! runs the function up to its next wait. A routine contains the routines that it calls.

pub mod buffer;
pub mod buffer_sync;
pub mod control;
pub mod file;
pub mod relation;
pub mod sync_data_dir;
