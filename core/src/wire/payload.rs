//! Functions that the decoders of main data share.

use super::layout::{Cursor, Field, Short};
use super::record::RmgrId;
use alloc::vec::Vec;

/// Why main data is invalid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum PayloadError {
    /// The data ends inside a field.
    #[error("record is too short: {0}")]
    Short(#[from] Short),
    /// A negative count.
    #[error("{field} is {count}: expected 0 or more")]
    BadCount {
        /// The field.
        field: &'static str,
        /// The count.
        count: i32,
    },
    /// An invalid fork number.
    #[error("invalid fork number {0}")]
    BadFork(u32),
    /// The record type is unknown or not implemented.
    #[error("unexpected record type {info:#04x} of resource manager {rmid}")]
    UnknownType {
        /// The resource manager.
        rmid: RmgrId,
        /// The type bits of `xl_info`.
        info: u8,
    },
}

/// Reads an `i32` count, then that number of items. First checks that enough bytes are left.
pub(super) fn counted<T: Field>(
    cursor: &mut Cursor<'_>,
    field: &'static str,
) -> Result<Vec<T>, PayloadError> {
    let number = cursor.take(field)?;
    items(cursor, field, count(field, number)?)
}

/// A count that must not be negative.
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

/// Appends an `i32` count, then the items.
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
