//! The commands about slots: their grammar, their options, their rows. Mirrors repl_gram.y, parseCreateReplSlotOptions,
//! CreateReplicationSlot and ReadReplicationSlot.

use super::super::backend::{BackendMessage, Column};
use super::CommandError;
use super::name::identifier;
use super::scanner::{Scanner, Token};
use crate::base::{Lsn, PgVersion, TimelineId};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// An option of CREATE_REPLICATION_SLOT as written.
pub(super) struct SlotOption {
    name: String,
    value: Value,
}

enum Value {
    None,
    Number(u32),
    Text(String),
}

/// `CREATE_REPLICATION_SLOT name [TEMPORARY] PHYSICAL options`. What the options mean is looked at once the whole text
/// has been read.
pub(super) fn create(
    scanner: &mut Scanner<'_>,
) -> Result<(String, bool, Vec<SlotOption>), CommandError> {
    let name = identifier(scanner)?;
    let temporary = scanner.accept(&Token::Word("TEMPORARY"))?;
    if scanner.next()? != Token::Word("PHYSICAL") {
        return Err(CommandError::Syntax);
    }
    let options = if scanner.accept(&Token::Other('('))? {
        in_brackets(scanner)?
    } else {
        legacy(scanner)?
    };
    Ok((name, temporary, options))
}

/// `( name [value], … )`
fn in_brackets(scanner: &mut Scanner<'_>) -> Result<Vec<SlotOption>, CommandError> {
    let mut options = Vec::new();
    loop {
        let name = match scanner.next()? {
            // A keyword names the option that it is elsewhere.
            Token::Word(word) => scanner.folded(word),
            Token::Quoted(name) => name,
            Token::Text(_) | Token::Number(_) | Token::Lsn(_) | Token::Other(_) | Token::End => {
                return Err(CommandError::Syntax);
            }
        };
        let value = match scanner.peek()? {
            Token::Text(text) => Value::Text(text.clone()),
            Token::Number(number) => Value::Number(*number),
            Token::Word(_) | Token::Quoted(_) => Value::Text(identifier(scanner)?),
            Token::Lsn(_) | Token::Other(_) | Token::End => Value::None,
        };
        scanner.pass_value();
        options.push(SlotOption { name, value });
        if scanner.accept(&Token::Other(')'))? {
            return Ok(options);
        }
        if !scanner.accept(&Token::Other(','))? {
            return Err(CommandError::Syntax);
        }
    }
}

/// The form before 15: bare words.
fn legacy(scanner: &mut Scanner<'_>) -> Result<Vec<SlotOption>, CommandError> {
    let mut options = Vec::new();
    while let &Token::Word(word) = scanner.peek()? {
        let name = match word {
            "RESERVE_WAL" => "reserve_wal",
            "TWO_PHASE" => "two_phase",
            "EXPORT_SNAPSHOT" | "NOEXPORT_SNAPSHOT" | "USE_SNAPSHOT" => "snapshot",
            _ => break,
        };
        scanner.next()?;
        options.push(SlotOption {
            name: name.into(),
            value: Value::None,
        });
    }
    Ok(options)
}

/// `parseCreateReplSlotOptions` for a physical slot: is WAL to be reserved?
pub(super) fn reserve_wal(options: &[SlotOption], server: PgVersion) -> Result<bool, CommandError> {
    let mut reserve = None;
    for option in options {
        match option.name.as_str() {
            "reserve_wal" if reserve.is_none() => reserve = Some(option.boolean()?),
            // Twice, or only for logical slots.
            "reserve_wal" | "snapshot" | "two_phase" => {
                return Err(CommandError::ConflictingOptions);
            }
            "failover" if server >= PgVersion::V17 => return Err(CommandError::ConflictingOptions),
            other => return Err(CommandError::UnrecognizedOption(other.to_string())),
        }
    }
    Ok(reserve.unwrap_or(false))
}

impl SlotOption {
    /// `defGetBoolean`
    fn boolean(&self) -> Result<bool, CommandError> {
        let is = |text: &str, words: [&str; 2]| words.iter().any(|w| text.eq_ignore_ascii_case(w));
        match &self.value {
            Value::None | Value::Number(1) => Ok(true),
            Value::Number(0) => Ok(false),
            Value::Text(text) if is(text, ["true", "on"]) => Ok(true),
            Value::Text(text) if is(text, ["false", "off"]) => Ok(false),
            Value::Number(_) | Value::Text(_) => Err(CommandError::NotBoolean(self.name.clone())),
        }
    }
}

/// The result of CREATE_REPLICATION_SLOT. For a physical slot it tells the name and nothing else: `consistent_point` is
/// what a logical client would have confirmed.
pub fn encode_created(name: &str, out: &mut Vec<u8>) {
    let columns = vec![
        Column::text("slot_name"),
        Column::text("consistent_point"),
        Column::text("snapshot_name"),
        Column::text("output_plugin"),
    ];
    BackendMessage::RowDescription(columns).encode(out);
    let consistent_point = Some(Lsn::INVALID.to_string());
    BackendMessage::row([Some(name.to_string()), consistent_point, None, None]).encode(out);
    BackendMessage::CommandComplete("CREATE_REPLICATION_SLOT".to_string()).encode(out);
}

/// The result of READ_REPLICATION_SLOT: a row of NULLs if there is no such slot. `position` is `restart_lsn`, if the
/// slot has one, and its timeline.
pub fn encode_read(exists: bool, position: Option<(Lsn, TimelineId)>, out: &mut Vec<u8>) {
    let columns = vec![
        Column::text("slot_type"),
        Column::text("restart_lsn"),
        Column::int8("restart_tli"),
    ];
    BackendMessage::RowDescription(columns).encode(out);
    BackendMessage::row([
        exists.then(|| "physical".to_string()),
        position.map(|(lsn, _)| lsn.to_string()),
        position.map(|(_, tli)| tli.to_string()),
    ])
    .encode(out);
    BackendMessage::CommandComplete("READ_REPLICATION_SLOT".to_string()).encode(out);
}
