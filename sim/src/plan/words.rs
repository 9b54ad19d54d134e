//! Words of a plan file to values: what every row needs.

use super::errors::PlanError;
use super::rows::Word;
use std::ops::Range;
use toml::Spanned;
use walsim_core::base::{UnitError, size, whole};

pub(super) type Read<T> = Result<T, PlanError>;

/// Applies `read` to a word that may be absent.
pub(super) fn or<T>(word: Option<&Word>, default: T, read: impl Fn(&Word) -> Read<T>) -> Read<T> {
    word.map_or(Ok(default), read)
}

pub(super) fn each<R, T>(
    rows: &[Spanned<R>],
    read: impl Fn(&R, Range<usize>) -> Read<T>,
) -> Read<Vec<T>> {
    rows.iter()
        .map(|row| read(row.get_ref(), row.span()))
        .collect()
}

pub(super) fn unit<T>(word: &Word, read: fn(&str) -> Result<T, UnitError>) -> Read<T> {
    read(&word.text).map_err(|e| of_unit(word, e))
}

pub(super) fn of_unit(word: &Word, error: UnitError) -> PlanError {
    let label = format!("no {}", error.what);
    PlanError::new(word.span.clone(), label, error.to_string()).help(error.help)
}

pub(super) fn number<T: TryFrom<u64>>(word: &Word) -> Read<T> {
    let number = whole(&word.text).and_then(|n| T::try_from(n).ok());
    number.ok_or_else(|| {
        let message = format!("`{}` is no number that fits here", word.text);
        PlanError::new(word.span.clone(), "no number", message)
    })
}

/// A size that a row's field can hold.
pub(super) fn small_size(word: &Word) -> Read<u32> {
    let bytes = unit(word, size)?;
    u32::try_from(bytes).map_err(|_| {
        let message = format!("{} is more than a row can have", word.text);
        PlanError::new(word.span.clone(), "too large", message)
    })
}

pub(super) fn switch(word: &Word) -> Read<bool> {
    match word.text.as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        text => {
            let message = format!("`{text}` is no switch");
            Err(PlanError::new(word.span.clone(), "no switch", message).help("write true or false"))
        }
    }
}
