//! PostgreSQL's physical streaming replication as sans-IO state machines.
//!
//! A [`node::Node`] is one PostgreSQL server as plain data. It has no clock, socket, file, thread
//! or random source: everything that happens to it is one [`call::Input`], everything it wants done
//! is an ordered list of [`call::Effect`]s. Modules are floors; imports only go down:
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
