//! Runs SQL for ordinary sessions, and for walsenders that are attached to a database. Mirrors
//! src/backend/tcop for the statements that [`crate::wire::sql`] parses.

mod execute;
pub mod session;
mod slot;
