//! What the decoders of main data share.

use super::layout::{Cursor, Field, Short};
use super::record::RmgrId;
use alloc::vec::Vec;

/// Main data that is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum PayloadError {
    /// It ends inside a field.
    #[error("record is too short: {0}")]
    Short(#[from] Short),
    /// A negative count.
    #[error("{field} is {count}: expected 0 or more")]
    BadCount {
        /// Which.
        field: &'static str,
        /// What it says.
        count: i32,
    },
    /// A relation has no such fork.
    #[error("invalid fork number {0}")]
    BadFork(u32),
    /// A type of record that is not implemented, or does not exist.
    #[error("unexpected record type {info:#04x} of resource manager {rmid}")]
    UnknownType {
        /// Whose.
        rmid: RmgrId,
        /// The type bits of `xl_info`.
        info: u8,
    },
}

/// Reads `i32 n` and then `n` items, without believing `n` before it is known that they fit.
pub(super) fn counted<T: Field>(
    cursor: &mut Cursor<'_>,
    field: &'static str,
) -> Result<Vec<T>, PayloadError> {
    let number = cursor.take(field)?;
    items(cursor, field, count(field, number)?)
}

/// A count, which cannot be negative.
pub(super) fn count(field: &'static str, count: i32) -> Result<usize, PayloadError> {
    usize::try_from(count).map_err(|_| PayloadError::BadCount { field, count })
}

/// Reads `count` items.
pub(super) fn items<T: Field>(
    cursor: &mut Cursor<'_>,
    field: &'static str,
    count: usize,
) -> Result<Vec<T>, PayloadError> {
    let need = count.saturating_mul(T::LEN);
    let have = cursor.rest().len();
    if need > have {
        return Err(Short { field, need, have }.into());
    }
    (0..count).map(|_| Ok(cursor.take(field)?)).collect()
}

/// Appends `i32 n` and then the items.
pub(super) fn put_counted<T: Field>(items: &[T], out: &mut Vec<u8>) {
    put_count(items.len(), out);
    for item in items {
        item.write(out, super::layout::Order::Disk);
    }
}

/// Appends an `i32` count.
pub(super) fn put_count(count: usize, out: &mut Vec<u8>) {
    let count = i32::try_from(count).expect("a record holds less than 2^31 items");
    out.extend_from_slice(&count.to_le_bytes());
}
