//! Converts fields of a plan file to values.

use super::errors::PlanError;
use super::rows::Field;
use std::ops::Range;
use toml::Spanned;
use walsim_core::base::{UnitError, size, whole};

pub(super) type Read<T> = Result<T, PlanError>;

/// Applies `read` to a field that may be absent.
pub(super) fn or<T>(
    field: Option<&Field>,
    default: T,
    read: impl Fn(&Field) -> Read<T>,
) -> Read<T> {
    field.map_or(Ok(default), read)
}

pub(super) fn each<R, T>(
    rows: &[Spanned<R>],
    read: impl Fn(&R, Range<usize>) -> Read<T>,
) -> Read<Vec<T>> {
    rows.iter()
        .map(|row| read(row.get_ref(), row.span()))
        .collect()
}

pub(super) fn unit<T>(field: &Field, read: fn(&str) -> Result<T, UnitError>) -> Read<T> {
    read(&field.text).map_err(|e| of_unit(field, e))
}

pub(super) fn of_unit(field: &Field, error: UnitError) -> PlanError {
    let label = format!("no {}", error.what);
    PlanError::new(field.span.clone(), label, error.to_string()).help(error.help)
}

pub(super) fn number<T: TryFrom<u64>>(field: &Field) -> Read<T> {
    let number = whole(&field.text).and_then(|n| T::try_from(n).ok());
    number.ok_or_else(|| {
        let message = format!("`{}` is not a number in the valid range", field.text);
        PlanError::new(field.span.clone(), "no number", message)
    })
}

/// A size, which must fit in 32 bits.
pub(super) fn small_size(field: &Field) -> Read<u32> {
    let bytes = unit(field, size)?;
    u32::try_from(bytes).map_err(|_| {
        let message = format!("{} is too large for this field", field.text);
        PlanError::new(field.span.clone(), "too large", message)
    })
}

pub(super) fn switch(field: &Field) -> Read<bool> {
    match field.text.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        text => {
            let message = format!("`{text}` is not a boolean");
            Err(PlanError::new(field.span.clone(), "not a boolean", message)
                .help("write true or false"))
        }
    }
}
