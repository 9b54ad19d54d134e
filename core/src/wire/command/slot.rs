//! Commands about slots: grammar, options and results. Mirrors repl_gram.y,
//! parseCreateReplSlotOptions, CreateReplicationSlot and ReadReplicationSlot.

use super::super::backend::{BackendMessage, Column};
use super::name::identifier;
use super::scanner::{Scanner, Token};
use super::{Command, CommandError};
use crate::base::{Lsn, PgVersion, TimelineId};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// An option of CREATE_REPLICATION_SLOT, as parsed.
pub(super) struct SlotOption {
    name: String,
    value: Value,
}

enum Value {
    None,
    Number(u32),
    Text(String),
}

/// CREATE_REPLICATION_SLOT, as parsed.
pub(super) struct NewSlot {
    name: String,
    temporary: bool,
    logical: bool,
    options: Vec<SlotOption>,
}

/// `CREATE_REPLICATION_SLOT name [TEMPORARY] { PHYSICAL | LOGICAL plugin } options`. The options
/// are checked after the whole text was parsed.
pub(super) fn create(scanner: &mut Scanner<'_>) -> Result<NewSlot, CommandError> {
    let name = identifier(scanner)?;
    let temporary = scanner.accept(&Token::Word("TEMPORARY"))?;
    let logical = scanner.accept(&Token::Word("LOGICAL"))?;
    if logical {
        identifier(scanner)?;
    } else if scanner.next()? != Token::Word("PHYSICAL") {
        return Err(CommandError::Syntax);
    }
    let options = if scanner.accept(&Token::Other('('))? {
        in_brackets(scanner)?
    } else {
        legacy(scanner)?
    };
    Ok(NewSlot {
        name,
        temporary,
        logical,
        options,
    })
}

impl NewSlot {
    /// `parseCreateReplSlotOptions`
    pub(super) fn command(self, server: PgVersion) -> Result<Command, CommandError> {
        if self.logical {
            check_logical(&self.options, server)?;
            return Ok(Command::CreateLogicalSlot);
        }
        Ok(Command::CreateSlot {
            name: self.name,
            temporary: self.temporary,
            reserve_wal: reserve_wal(&self.options, server)?,
        })
    }
}

/// `( name [value], … )`
pub(super) fn in_brackets(scanner: &mut Scanner<'_>) -> Result<Vec<SlotOption>, CommandError> {
    let mut options = Vec::new();
    loop {
        let name = match scanner.next()? {
            // At this place a keyword is the name of an option.
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

/// The syntax before 15: options without parentheses.
fn legacy(scanner: &mut Scanner<'_>) -> Result<Vec<SlotOption>, CommandError> {
    let mut options = Vec::new();
    while let &Token::Word(word) = scanner.peek()? {
        let snapshot = |value: &str| ("snapshot", Value::Text(value.into()));
        let (name, value) = match word {
            "RESERVE_WAL" => ("reserve_wal", Value::None),
            "TWO_PHASE" => ("two_phase", Value::None),
            "EXPORT_SNAPSHOT" => snapshot("export"),
            "NOEXPORT_SNAPSHOT" => snapshot("nothing"),
            "USE_SNAPSHOT" => snapshot("use"),
            _ => break,
        };
        scanner.next()?;
        let name = name.into();
        options.push(SlotOption { name, value });
    }
    Ok(options)
}

/// `parseCreateReplSlotOptions` for a physical slot. Returns whether the slot reserves WAL at once.
fn reserve_wal(options: &[SlotOption], server: PgVersion) -> Result<bool, CommandError> {
    let mut reserve = None;
    for option in options {
        match option.name.as_str() {
            "reserve_wal" if reserve.is_none() => reserve = Some(option.boolean()?),
            // The option was given twice, or is an option for logical slots.
            "reserve_wal" | "snapshot" | "two_phase" => {
                return Err(CommandError::ConflictingOptions);
            }
            "failover" if server >= PgVersion::V17 => return Err(CommandError::ConflictingOptions),
            other => return Err(CommandError::UnrecognizedOption(other.to_string())),
        }
    }
    Ok(reserve.unwrap_or(false))
}

/// `parseCreateReplSlotOptions` for a logical slot. Returns only errors, because logical slots are
/// not supported.
fn check_logical(options: &[SlotOption], server: PgVersion) -> Result<(), CommandError> {
    let mut given = Vec::new();
    for option in options {
        let name = option.name.as_str();
        if given.contains(&name) {
            return Err(CommandError::ConflictingOptions);
        }
        given.push(name);
        match name {
            "snapshot" => {
                let action = option.text()?;
                if !matches!(&*action, "export" | "nothing" | "use") {
                    return Err(CommandError::Snapshot(action));
                }
            }
            "two_phase" => {
                option.boolean()?;
            }
            "failover" if server >= PgVersion::V17 => {
                option.boolean()?;
            }
            "reserve_wal" => return Err(CommandError::ConflictingOptions),
            other => return Err(CommandError::UnrecognizedOption(other.to_string())),
        }
    }
    Ok(())
}

impl SlotOption {
    /// `defGetString`
    fn text(&self) -> Result<String, CommandError> {
        match &self.value {
            Value::None => Err(CommandError::NoParameter(self.name.clone())),
            Value::Number(number) => Ok(number.to_string()),
            Value::Text(text) => Ok(text.clone()),
        }
    }

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

/// The result of CREATE_REPLICATION_SLOT for a physical slot. `consistent_point` is 0/0, because
/// only a logical slot has a consistent point.
pub fn encode_created(server: PgVersion, name: &str, out: &mut Vec<u8>) {
    let columns = vec![
        Column::text("slot_name"),
        Column::text("consistent_point"),
        Column::text("snapshot_name"),
        Column::text("output_plugin"),
    ];
    BackendMessage::RowDescription(columns).encode(out);
    let consistent_point = Some(Lsn::INVALID.text(server).to_string());
    BackendMessage::row([Some(name.to_string()), consistent_point, None, None]).encode(out);
    BackendMessage::CommandComplete("CREATE_REPLICATION_SLOT".to_string()).encode(out);
}

/// The result of READ_REPLICATION_SLOT. All columns are NULL if the slot does not exist. `position`
/// is the slot's restart_lsn and the timeline of this LSN. It is `None` if the slot has no
/// restart_lsn.
pub fn encode_read(
    server: PgVersion,
    exists: bool,
    position: Option<(Lsn, TimelineId)>,
    out: &mut Vec<u8>,
) {
    let columns = vec![
        Column::text("slot_type"),
        Column::text("restart_lsn"),
        Column::int8("restart_tli"),
    ];
    BackendMessage::RowDescription(columns).encode(out);
    BackendMessage::row([
        exists.then(|| "physical".to_string()),
        position.map(|(lsn, _)| lsn.text(server).to_string()),
        position.map(|(_, tli)| tli.to_string()),
    ])
    .encode(out);
    BackendMessage::CommandComplete("READ_REPLICATION_SLOT".to_string()).encode(out);
}
