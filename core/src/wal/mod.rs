//! Algorithms on WAL without I/O: positions, file names, writing and reading records.

mod builder;
mod error;
pub mod names;
pub mod position;
mod reader;
mod writer;

pub use builder::{Placed, WalBuilder};
pub use error::{PagePlace, WalError};
pub use reader::{Aborted, MAX_RECORD, Next, Room, WalReader};
pub use writer::{Fragment, PageIdent, fragments, init_page, mark_contrecord, mark_overwrite};
