//! F8: running SQL, for ordinary sessions and for walsenders that are attached to a database.
//! Mirrors src/backend/tcop as far as the grammar of [`crate::wire::sql`] goes.

mod execute;
pub mod session;
mod slot;
