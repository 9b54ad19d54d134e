//! PostgreSQL's physical streaming replication as sans-IO state machines.
//!
//! A [`node::Node`] is one PostgreSQL server as plain data. A node has no clock, socket, file,
//! thread or random source. Everything that happens to a node is a [`call::Input`]. Everything that
//! a node does to the outside is an ordered list of [`call::Effect`]s. Modules are layers
//! ("floors"), and a module imports only from floors below its own:
//!
//! `base` < `wire` < `wal` < `call` < `shmem` < `sys` < `storage` < `replication` < `access` <
//! `tcop` < `proc` < `node`

#![no_std]

extern crate alloc;

pub mod access;
pub mod base;
pub mod call;
pub mod node;
pub mod proc;
pub mod replication;
pub mod shmem;
pub mod storage;
pub mod sys;
pub mod tcop;
pub mod wal;
pub mod wire;
