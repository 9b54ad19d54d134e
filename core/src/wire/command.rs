//! The commands of a walsender. Mirrors repl_scanner.l and repl_gram.y.
//!
//! Keywords are upper case only: `identify_system` is an identifier, and so a command that starts
//! with it is SQL.

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

/// What a client asks of a walsender.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// `IDENTIFY_SYSTEM`
    IdentifySystem,
    /// `START_REPLICATION [SLOT name] [PHYSICAL] X/X [TIMELINE n]`
    StartReplication {
        /// The slot that it streams from.
        slot: Option<String>,
        /// The first byte to send.
        start: Lsn,
        /// On which timeline; absent: the server's own.
        timeline: Option<TimelineId>,
    },
    /// `CREATE_REPLICATION_SLOT name [TEMPORARY] PHYSICAL [(RESERVE_WAL [boolean])]`
    CreateSlot {
        /// Its name.
        name: String,
        /// It ends with the session.
        temporary: bool,
        /// It holds WAL from the beginning, and not only from its first report.
        reserve_wal: bool,
    },
    /// `CREATE_REPLICATION_SLOT name [TEMPORARY] LOGICAL plugin …`, which no server of ours can do
    CreateLogicalSlot,
    /// `START_REPLICATION SLOT name LOGICAL X/X …`, which no server of ours can do
    StartLogicalReplication,
    /// `BASE_BACKUP [(option, …)]`, which no server of ours can do
    BaseBackup,
    /// `UPLOAD_MANIFEST`, since 17; which no server of ours can do
    UploadManifest,
    /// `ALTER_REPLICATION_SLOT name (option, …)`, since 17; for logical slots
    AlterSlot {
        /// Its name.
        name: String,
    },
    /// `DROP_REPLICATION_SLOT name [WAIT]`
    DropSlot {
        /// Its name.
        name: String,
        /// Wait until no process has it.
        wait: bool,
    },
    /// `READ_REPLICATION_SLOT name`
    ReadSlot {
        /// Its name.
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

/// A text that starts like a replication command and is none.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum CommandError {
    /// It does not fit the grammar.
    #[error("syntax error")]
    Syntax,
    /// A quote is still open at the end. Found even where the text starts with the quote.
    #[error("unterminated quoted string")]
    UnterminatedString,
    /// `TIMELINE 0`
    #[error("invalid timeline 0")]
    TimelineZero,
    /// An option twice, or one that a physical slot has not.
    #[error("conflicting or redundant options")]
    ConflictingOptions,
    /// An option that there is not.
    #[error("unrecognized option: {0}")]
    UnrecognizedOption(String),
    /// An option has a value that it cannot have.
    #[error("unrecognized value for CREATE_REPLICATION_SLOT option \"snapshot\": \"{0}\"")]
    Snapshot(String),
    /// An option needs a value.
    #[error("{0} requires a parameter")]
    NoParameter(String),
    /// The value of an option is neither true nor false.
    #[error("{0} requires a Boolean value")]
    NotBoolean(String),
}

impl CommandError {
    /// The code that goes with the text.
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

/// What came of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// `None`: the first token is no replication keyword, so it is SQL.
    pub command: Result<Option<Command>, CommandError>,
    /// Notices to the client, which come first.
    pub truncations: Vec<Truncation>,
}

impl Command {
    /// Reads a command text (`exec_replication_command`).
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

    /// Does it make, use or look at a slot?
    #[must_use]
    pub const fn needs_slots(&self) -> bool {
        match self {
            Self::StartReplication { slot, .. } => slot.is_some(),
            Self::CreateSlot { .. }
            | Self::CreateLogicalSlot
            | Self::StartLogicalReplication
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

    /// As the walreceiver of a version sends it: only since 18 does it double quotes in a name.
    #[must_use]
    pub fn text(&self, client: PgVersion) -> String {
        match (self, client) {
            (
                Self::StartReplication {
                    slot: Some(slot),
                    start,
                    timeline,
                },
                PgVersion::V15 | PgVersion::V16 | PgVersion::V17,
            ) => {
                let timeline = timeline.map(|n| format!(" TIMELINE {n}"));
                let timeline = timeline.unwrap_or_default();
                format!("START_REPLICATION SLOT \"{slot}\" {start}{timeline}")
            }
            _ => self.to_string(),
        }
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
    // Options are looked at when the command is carried out, and so after the whole text.
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
    if slot.is_some() && scanner.accept(&Token::Word("LOGICAL"))? {
        return start_logical_replication(scanner);
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

/// The position, and the options of the output plugin: names, each with a string or without.
fn start_logical_replication(scanner: &mut Scanner<'_>) -> Result<Command, CommandError> {
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
    Ok(Command::StartLogicalReplication)
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

/// The first words that make a text a replication command
/// (`replication_scanner_is_replication_command`).
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

/// As clients write it, with quotes around names, but for those of settings.
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
            Self::StartLogicalReplication => {
                f.write_str("START_REPLICATION SLOT \"slot\" LOGICAL 0/0")
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
