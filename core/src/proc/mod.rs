//! The processes of a server, one folder each. The code of one process never imports that of
//! another.

pub mod accept;
pub mod backend;
pub mod checkpointer;
pub mod pg_receivewal;
pub mod postmaster;
pub mod startup;
pub mod walreceiver;
pub mod walsender;
pub mod walwriter;
