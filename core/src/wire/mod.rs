//! Encoding and decoding of messages, WAL and files. One definition serves both directions.

pub mod backend;
pub mod backup_label;
mod checkpoint;
pub mod clog_records;
pub mod command;
pub mod control_file;
pub mod data_page;
pub mod describe;
pub mod frame;
pub mod frontend;
pub mod generic;
pub mod history;
pub mod layout;
pub mod logical_message;
pub mod page;
mod payload;
pub mod pqformat;
pub mod record;
pub mod replication;
pub mod slot_file;
pub use crate::base::slot_name;
pub mod smgr_records;
pub mod sql;
pub mod standby_records;
pub mod startup;
pub mod xact_prepare;
pub mod xact_records;
pub mod xlog_records;

pub use payload::PayloadError;
