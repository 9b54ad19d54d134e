//! Statements about slots and WAL positions. Mirrors functions of slotfuncs.c and xlogfuncs.c.

use super::{Kind, Quoted, Scanner, SqlError};
use crate::base::Lsn;
use crate::wire::slot_name::truncated;
use alloc::string::String;
use core::fmt;

/// A statement about slots or WAL positions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SlotStatement {
    /// `SELECT pg_create_physical_replication_slot('name'[, immediately_reserve[, temporary]])`
    Create {
        /// Its name.
        name: String,
        /// Whether the slot reserves WAL at once.
        reserve_wal: bool,
        /// Whether the slot is temporary.
        temporary: bool,
    },
    /// `SELECT pg_create_logical_replication_slot('name', 'plugin')` (not supported).
    CreateLogical,
    /// `SELECT pg_drop_replication_slot('name')`
    Drop(String),
    /// `SELECT pg_replication_slot_advance('name', 'X/X')`
    Advance {
        /// Its name.
        name: String,
        /// The new position.
        upto: Lsn,
    },
    /// `SELECT slot_name, active_pid, restart_lsn, wal_status FROM pg_replication_slots`
    List,
    /// `SELECT pg_current_wal_lsn()`
    CurrentWalLsn,
    /// `SELECT pg_current_wal_flush_lsn()`
    CurrentWalFlushLsn,
}

/// The tokens that follow `SELECT slot_name` in the query of `pg_replication_slots`.
const LIST: [&str; 8] = [
    ",",
    "active_pid",
    ",",
    "restart_lsn",
    ",",
    "wal_status",
    "from",
    "pg_replication_slots",
];

impl SlotStatement {
    /// Parses the text after `SELECT`, whose first word is `word`. Returns `None` if no statement
    /// about slots or WAL positions begins with this word.
    pub(super) fn parse(word: &str, scanner: &mut Scanner<'_>) -> Option<Result<Self, SqlError>> {
        Some(match word {
            "slot_name" => list(scanner),
            "pg_create_physical_replication_slot" => call(scanner, |scanner| {
                let name = slot_name(scanner)?;
                let reserve_wal = scanner.accept(",")? && scanner.boolean()?;
                let temporary = scanner.accept(",")? && scanner.boolean()?;
                Ok(Self::Create {
                    name,
                    reserve_wal,
                    temporary,
                })
            }),
            "pg_create_logical_replication_slot" => call(scanner, |scanner| {
                slot_name(scanner)?;
                scanner.symbol(",")?;
                slot_name(scanner)?;
                Ok(Self::CreateLogical)
            }),
            "pg_drop_replication_slot" => call(scanner, |s| slot_name(s).map(Self::Drop)),
            "pg_replication_slot_advance" => call(scanner, |scanner| {
                let name = slot_name(scanner)?;
                scanner.symbol(",")?;
                let upto = scanner.text()?;
                let upto = upto.parse().map_err(|_| SqlError::Lsn(upto))?;
                Ok(Self::Advance { name, upto })
            }),
            "pg_current_wal_lsn" => call(scanner, |_| Ok(Self::CurrentWalLsn)),
            "pg_current_wal_flush_lsn" => call(scanner, |_| Ok(Self::CurrentWalFlushLsn)),
            _ => return None,
        })
    }
}

fn call(
    scanner: &mut Scanner<'_>,
    arguments: impl FnOnce(&mut Scanner<'_>) -> Result<SlotStatement, SqlError>,
) -> Result<SlotStatement, SqlError> {
    scanner.symbol("(")?;
    let statement = arguments(scanner)?;
    scanner.symbol(")")?;
    Ok(statement)
}

/// A value of type `name`. A name that is too long is truncated without a notice.
fn slot_name(scanner: &mut Scanner<'_>) -> Result<String, SqlError> {
    Ok(truncated(&scanner.text()?).into())
}

fn list(scanner: &mut Scanner<'_>) -> Result<SlotStatement, SqlError> {
    for expected in LIST {
        let token = scanner.must()?;
        let found = match &token.kind {
            Kind::Word(word) => word.as_str(),
            Kind::Number | Kind::Text(_) | Kind::Symbol => token.raw,
        };
        if found != expected {
            return Err(token.unexpected());
        }
    }
    Ok(SlotStatement::List)
}

/// Prints the statement as a client sends it.
impl fmt::Display for SlotStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SELECT ")?;
        match self {
            Self::Create {
                name,
                reserve_wal,
                temporary,
            } => write!(
                f,
                "pg_create_physical_replication_slot({}, {reserve_wal}, {temporary})",
                Quoted(name)
            ),
            Self::CreateLogical => {
                f.write_str("pg_create_logical_replication_slot('slot', 'test_decoding')")
            }
            Self::Drop(name) => write!(f, "pg_drop_replication_slot({})", Quoted(name)),
            Self::Advance { name, upto } => {
                let name = Quoted(name);
                write!(f, "pg_replication_slot_advance({name}, '{upto}')")
            }
            Self::List => f.write_str(
                "slot_name, active_pid, restart_lsn, wal_status FROM pg_replication_slots",
            ),
            Self::CurrentWalLsn => f.write_str("pg_current_wal_lsn()"),
            Self::CurrentWalFlushLsn => f.write_str("pg_current_wal_flush_lsn()"),
        }
    }
}
