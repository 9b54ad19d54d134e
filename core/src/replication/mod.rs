//! Replication slots, the choice of WAL to keep, and the client side of a replication connection.
//! Mirrors src/backend/replication.

pub mod libpqrcv;
pub mod logical;
pub mod slot;
pub mod wal_horizon;
pub mod walrcv_funcs;
