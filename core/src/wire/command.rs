//! The replication commands. Mirrors repl_scanner.l and repl_gram.y.
//!
//! Keywords must be in upper case. The lower-case `identify_system` is an identifier, and a command
//! that starts with an identifier is SQL.

mod history;
mod identity;
mod name;
mod scanner;
mod show;
mod slot;

pub use history::TimelineHistory;
pub use identity::SystemIdentity;
pub use scanner::Truncation;
pub use show::encode_shown;
pub use slot::{encode_created, encode_read};

use crate::base::{Lsn, PgVersion, TimelineId};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use name::{Identifier, VarName};
use scanner::{Scanner, Token};

/// A replication command.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// `IDENTIFY_SYSTEM`
    IdentifySystem,
    /// `START_REPLICATION [SLOT name] [PHYSICAL] X/X [TIMELINE n]`
    StartReplication {
        /// The slot to stream from.
        slot: Option<String>,
        /// The start position.
        start: Lsn,
        /// The timeline. `None` means the current timeline of the server.
        timeline: Option<TimelineId>,
    },
    /// `CREATE_REPLICATION_SLOT name [TEMPORARY] PHYSICAL [(RESERVE_WAL [boolean])]`
    CreateSlot {
        /// The name of the slot.
        name: String,
        /// Whether the slot is temporary.
        temporary: bool,
        /// Whether the slot reserves WAL at once. If not, it reserves WAL at the first status
        /// update.
        reserve_wal: bool,
    },
    /// `CREATE_REPLICATION_SLOT name [TEMPORARY] LOGICAL plugin …` (not supported)
    CreateLogicalSlot,
    /// `START_REPLICATION SLOT name LOGICAL X/X …` (not supported)
    StartLogicalReplication {
        /// Its slot.
        slot: String,
    },
    /// `BASE_BACKUP [(option, …)]` (not supported)
    BaseBackup,
    /// `UPLOAD_MANIFEST`, since 17 (not supported)
    UploadManifest,
    /// `ALTER_REPLICATION_SLOT name (option, …)`, since 17. Only for logical slots.
    AlterSlot {
        /// The name of the slot.
        name: String,
    },
    /// `DROP_REPLICATION_SLOT name [WAIT]`
    DropSlot {
        /// The name of the slot.
        name: String,
        /// Whether the command waits until no process has acquired the slot.
        wait: bool,
    },
    /// `READ_REPLICATION_SLOT name`
    ReadSlot {
        /// The name of the slot.
        name: String,
    },
    /// `TIMELINE_HISTORY n`
    TimelineHistory(TimelineId),
    /// `SHOW name`
    Show {
        /// The setting.
        name: String,
    },
}

/// Why a replication command is invalid.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum CommandError {
    /// A syntax error.
    #[error("syntax error")]
    Syntax,
    /// A quoted string is not terminated. The text is then not parsed as SQL, even if the string is
    /// its first token.
    #[error("unterminated quoted string")]
    UnterminatedString,
    /// `TIMELINE 0`
    #[error("invalid timeline 0")]
    TimelineZero,
    /// An option is given twice, or does not apply to physical slots.
    #[error("conflicting or redundant options")]
    ConflictingOptions,
    /// An unknown option.
    #[error("unrecognized option: {0}")]
    UnrecognizedOption(String),
    /// An invalid value of the option SNAPSHOT.
    #[error("unrecognized value for CREATE_REPLICATION_SLOT option \"snapshot\": \"{0}\"")]
    Snapshot(String),
    /// An option requires a value that is missing.
    #[error("{0} requires a parameter")]
    NoParameter(String),
    /// The value of an option is not a boolean.
    #[error("{0} requires a Boolean value")]
    NotBoolean(String),
}

impl CommandError {
    /// The SQLSTATE.
    #[must_use]
    pub const fn sqlstate(&self) -> [u8; 5] {
        match self {
            Self::Syntax
            | Self::UnterminatedString
            | Self::TimelineZero
            | Self::ConflictingOptions
            | Self::NoParameter(_)
            | Self::NotBoolean(_) => *b"42601",
            Self::Snapshot(_) => *b"22023",
            Self::UnrecognizedOption(_) => *b"XX000",
        }
    }
}

/// The result of parsing the text of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// The command. `None` if the first token is not a replication keyword. The text is then SQL.
    pub command: Result<Option<Command>, CommandError>,
    /// Identifiers that were truncated. A NOTICE is sent for each, before the answer.
    pub truncations: Vec<Truncation>,
}

impl Command {
    /// Parses a command text (`exec_replication_command`).
    #[must_use]
    pub fn parse(text: &str, server: PgVersion) -> Parsed {
        let mut scanner = Scanner::new(text, server);
        let command = parse(&mut scanner);
        let truncations = scanner.truncations;
        Parsed {
            command,
            truncations,
        }
    }

    /// Is it a command that creates, changes, reads or uses a slot?
    #[must_use]
    pub const fn needs_slots(&self) -> bool {
        match self {
            Self::StartReplication { slot, .. } => slot.is_some(),
            Self::CreateSlot { .. }
            | Self::CreateLogicalSlot
            | Self::StartLogicalReplication { .. }
            | Self::AlterSlot { .. }
            | Self::DropSlot { .. }
            | Self::ReadSlot { .. } => true,
            Self::IdentifySystem
            | Self::TimelineHistory(_)
            | Self::BaseBackup
            | Self::UploadManifest
            | Self::Show { .. } => false,
        }
    }

    /// The text of the command as a walreceiver of this version sends it. Quotes in a name are
    /// doubled only since 18. Since 19, LSNs are padded.
    #[must_use]
    pub fn text(&self, client: PgVersion) -> String {
        let Self::StartReplication {
            slot,
            start,
            timeline,
        } = self
        else {
            return self.to_string();
        };
        let slot = match slot {
            None => String::new(),
            Some(slot) if client < PgVersion::V18 => format!("SLOT \"{slot}\" "),
            Some(slot) => format!("SLOT {} ", Identifier(slot)),
        };
        let start = start.text(client);
        let timeline = timeline.map(|n| format!(" TIMELINE {n}"));
        let timeline = timeline.unwrap_or_default();
        format!("START_REPLICATION {slot}{start}{timeline}")
    }
}

fn parse(scanner: &mut Scanner<'_>) -> Result<Option<Command>, CommandError> {
    let mut slot = None;
    let mut command = match scanner.next()? {
        Token::Word("IDENTIFY_SYSTEM") => Command::IdentifySystem,
        Token::Word("START_REPLICATION") => start_replication(scanner)?,
        Token::Word("CREATE_REPLICATION_SLOT") => {
            slot = Some(slot::create(scanner)?);
            Command::CreateLogicalSlot
        }
        Token::Word("BASE_BACKUP") => {
            if scanner.accept(&Token::Other('('))? {
                slot::in_brackets(scanner)?;
            }
            Command::BaseBackup
        }
        Token::Word("UPLOAD_MANIFEST") if scanner.server >= PgVersion::V17 => {
            Command::UploadManifest
        }
        Token::Word("ALTER_REPLICATION_SLOT") if scanner.server >= PgVersion::V17 => {
            let name = name::identifier(scanner)?;
            if !scanner.accept(&Token::Other('('))? {
                return Err(CommandError::Syntax);
            }
            slot::in_brackets(scanner)?;
            Command::AlterSlot { name }
        }
        Token::Word("DROP_REPLICATION_SLOT") => Command::DropSlot {
            name: name::identifier(scanner)?,
            wait: scanner.accept(&Token::Word("WAIT"))?,
        },
        Token::Word("READ_REPLICATION_SLOT") => Command::ReadSlot {
            name: name::var_name(scanner)?,
        },
        Token::Word("TIMELINE_HISTORY") => Command::TimelineHistory(timeline(scanner)?),
        Token::Word("SHOW") => Command::Show {
            name: name::var_name(scanner)?,
        },
        Token::Word(_)
        | Token::Quoted(_)
        | Token::Text(_)
        | Token::Number(_)
        | Token::Lsn(_)
        | Token::Other(_)
        | Token::End => return Ok(None),
    };
    scanner.accept(&Token::Other(';'))?;
    if scanner.next()? != Token::End {
        return Err(CommandError::Syntax);
    }
    // Options are checked when the command is executed, after the whole text was parsed.
    if let Some(slot) = slot {
        command = slot.command(scanner.server)?;
    }
    Ok(Some(command))
}

fn start_replication(scanner: &mut Scanner<'_>) -> Result<Command, CommandError> {
    let slot = if scanner.accept(&Token::Word("SLOT"))? {
        Some(name::identifier(scanner)?)
    } else {
        None
    };
    if let Some(slot) = &slot
        && scanner.accept(&Token::Word("LOGICAL"))?
    {
        return start_logical_replication(scanner, slot.clone());
    }
    scanner.accept(&Token::Word("PHYSICAL"))?;
    let Token::Lsn(start) = scanner.next()? else {
        return Err(CommandError::Syntax);
    };
    let timeline = if scanner.accept(&Token::Word("TIMELINE"))? {
        Some(timeline(scanner)?)
    } else {
        None
    };
    Ok(Command::StartReplication {
        slot,
        start,
        timeline,
    })
}

/// The rest of START_REPLICATION for a logical slot: the position, and the options of the output
/// plugin. An option is a name, with or without a string.
fn start_logical_replication(
    scanner: &mut Scanner<'_>,
    slot: String,
) -> Result<Command, CommandError> {
    let Token::Lsn(_) = scanner.next()? else {
        return Err(CommandError::Syntax);
    };
    if scanner.accept(&Token::Other('('))? {
        loop {
            name::identifier(scanner)?;
            if matches!(scanner.peek()?, Token::Text(_)) {
                scanner.next()?;
            }
            if scanner.accept(&Token::Other(')'))? {
                break;
            }
            if !scanner.accept(&Token::Other(','))? {
                return Err(CommandError::Syntax);
            }
        }
    }
    Ok(Command::StartLogicalReplication { slot })
}

fn timeline(scanner: &mut Scanner<'_>) -> Result<TimelineId, CommandError> {
    match scanner.next()? {
        Token::Number(0) => Err(CommandError::TimelineZero),
        Token::Number(n) => Ok(TimelineId(n)),
        Token::Word(_)
        | Token::Quoted(_)
        | Token::Text(_)
        | Token::Lsn(_)
        | Token::Other(_)
        | Token::End => Err(CommandError::Syntax),
    }
}

/// Does a replication command begin with this word (`replication_scanner_is_replication_command`)?
fn begins_command(word: &str, server: PgVersion) -> bool {
    match word {
        "IDENTIFY_SYSTEM"
        | "BASE_BACKUP"
        | "START_REPLICATION"
        | "CREATE_REPLICATION_SLOT"
        | "DROP_REPLICATION_SLOT"
        | "READ_REPLICATION_SLOT"
        | "TIMELINE_HISTORY"
        | "SHOW" => true,
        "ALTER_REPLICATION_SLOT" | "UPLOAD_MANIFEST" => server >= PgVersion::V17,
        _ => false,
    }
}

/// The text of a command as clients write it. All names are quoted, except names of settings, which
/// are quoted only if necessary.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdentifySystem => f.write_str("IDENTIFY_SYSTEM"),
            Self::StartReplication {
                slot,
                start,
                timeline,
            } => {
                f.write_str("START_REPLICATION ")?;
                if let Some(slot) = slot {
                    write!(f, "SLOT {} ", Identifier(slot))?;
                }
                write!(f, "{start}")?;
                match timeline {
                    Some(timeline) => write!(f, " TIMELINE {timeline}"),
                    None => Ok(()),
                }
            }
            Self::CreateSlot {
                name,
                temporary,
                reserve_wal,
            } => {
                let temporary = if *temporary { " TEMPORARY" } else { "" };
                let options = if *reserve_wal { " (RESERVE_WAL)" } else { "" };
                let name = Identifier(name);
                write!(
                    f,
                    "CREATE_REPLICATION_SLOT {name}{temporary} PHYSICAL{options}"
                )
            }
            Self::CreateLogicalSlot => {
                f.write_str("CREATE_REPLICATION_SLOT \"slot\" LOGICAL \"test_decoding\"")
            }
            Self::StartLogicalReplication { slot } => {
                write!(f, "START_REPLICATION SLOT {} LOGICAL 0/0", Identifier(slot))
            }
            Self::BaseBackup => f.write_str("BASE_BACKUP"),
            Self::UploadManifest => f.write_str("UPLOAD_MANIFEST"),
            Self::AlterSlot { name } => {
                write!(f, "ALTER_REPLICATION_SLOT {} (FAILOVER)", Identifier(name))
            }
            Self::DropSlot { name, wait } => {
                let wait = if *wait { " WAIT" } else { "" };
                write!(f, "DROP_REPLICATION_SLOT {}{wait}", Identifier(name))
            }
            Self::ReadSlot { name } => write!(f, "READ_REPLICATION_SLOT {}", Identifier(name)),
            Self::TimelineHistory(timeline) => write!(f, "TIMELINE_HISTORY {timeline}"),
            Self::Show { name } => write!(f, "SHOW {}", VarName(name)),
        }
    }
}

#[cfg(test)]
mod tests;
