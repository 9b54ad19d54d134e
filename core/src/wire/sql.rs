//! The SQL grammar of client sessions: a few PostgreSQL statements, and `PUT` and `GET` for rows.
//!
//! Tokens and errors follow scan.l and gram.y for these statements. Any other text is a syntax
//! error.

mod hex;
mod keywords;
mod slot;

pub use slot::SlotStatement;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use hex::{Hex, NO_DIGIT, VALUES};

/// A statement.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Statement {
    /// The text has only blanks and a semicolon. The answer is EmptyQueryResponse.
    Empty,
    /// `BEGIN`
    Begin,
    /// `COMMIT`
    Commit,
    /// `ROLLBACK`
    Rollback,
    /// `PUT rel key 'hex'`: inserts a new version of a row.
    Put {
        /// The relation's number.
        rel: u32,
        /// The row's key.
        key: u64,
        /// The row's value.
        value: Bytes,
    },
    /// `GET rel key`: returns the newest version of a row that is committed or was written by this
    /// session.
    Get {
        /// The relation's number.
        rel: u32,
        /// The row's key.
        key: u64,
    },
    /// `CHECKPOINT`
    Checkpoint,
    /// `SELECT pg_switch_wal()`
    SwitchWal,
    /// `SELECT pg_logical_emit_message(transactional, 'prefix', 'hex')`: writes a record of any
    /// size that changes no data.
    EmitMessage {
        /// Whether the message is part of the transaction.
        transactional: bool,
        /// The prefix.
        prefix: String,
        /// The content.
        content: Bytes,
    },
    /// A statement about slots or WAL positions.
    Slot(SlotStatement),
    /// `SHOW name`
    Show(String),
    /// `SET name = value` or `SET name TO value`.
    Set {
        /// The setting.
        name: String,
        /// The new value of the setting, without quotes.
        value: String,
    },
}

/// The reason why a text is not a valid statement.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum SqlError {
    /// A syntax error at this token.
    #[error("syntax error at or near \"{0}\"")]
    Near(String),
    /// A syntax error at the end of the text.
    #[error("syntax error at end of input")]
    End,
    /// A string is not terminated.
    #[error("unterminated quoted string at or near \"{0}\"")]
    UnterminatedString(String),
    /// A quoted identifier is not terminated.
    #[error("unterminated quoted identifier at or near \"{0}\"")]
    UnterminatedIdentifier(String),
    /// A comment is not terminated.
    #[error("unterminated /* comment at or near \"{0}\"")]
    UnterminatedComment(String),
    /// A statement that only PostgreSQL supports.
    #[error("cannot execute {0} in walsim")]
    Unsupported(String),
    /// An invalid hexadecimal digit.
    #[error("invalid hexadecimal digit: \"{0}\"")]
    HexDigit(char),
    /// An odd number of hexadecimal digits.
    #[error("invalid hexadecimal data: odd number of digits")]
    HexOdd,
    /// An invalid LSN.
    #[error("invalid input syntax for type pg_lsn: \"{0}\"")]
    Lsn(String),
    /// A number that is out of range.
    #[error("value \"{value}\" is out of range for type {kind}")]
    OutOfRange {
        /// The digits.
        value: String,
        /// The expected type.
        kind: &'static str,
    },
}

impl SqlError {
    /// The SQLSTATE.
    #[must_use]
    pub const fn sqlstate(&self) -> [u8; 5] {
        match self {
            Self::Near(_)
            | Self::End
            | Self::UnterminatedString(_)
            | Self::UnterminatedIdentifier(_)
            | Self::UnterminatedComment(_) => *b"42601",
            Self::Unsupported(_) => *b"0A000",
            Self::HexDigit(_) | Self::HexOdd => *b"22023",
            Self::Lsn(_) => *b"22P02",
            Self::OutOfRange { .. } => *b"22003",
        }
    }

    /// The HINT.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unsupported(_) => Some(
                "Sessions run BEGIN, COMMIT, ROLLBACK, CHECKPOINT, SHOW, SET, PUT, GET, and SELECT of functions about \
                 WAL positions, messages and physical slots, one statement at a time.",
            ),
            Self::Near(_)
            | Self::End
            | Self::UnterminatedString(_)
            | Self::UnterminatedIdentifier(_)
            | Self::UnterminatedComment(_)
            | Self::HexDigit(_)
            | Self::HexOdd
            | Self::Lsn(_)
            | Self::OutOfRange { .. } => None,
        }
    }

    /// Does PostgreSQL report the position of this error?
    const fn is_located(&self) -> bool {
        match self {
            Self::Near(_)
            | Self::End
            | Self::UnterminatedString(_)
            | Self::UnterminatedIdentifier(_)
            | Self::UnterminatedComment(_)
            | Self::Lsn(_) => true,
            Self::Unsupported(_) | Self::HexDigit(_) | Self::HexOdd | Self::OutOfRange { .. } => {
                false
            }
        }
    }
}

impl Statement {
    /// Parses one statement, with or without a semicolon.
    ///
    /// # Errors
    /// The text is not a valid statement.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        Self::parse_located(text).map_err(|(error, _)| error)
    }

    /// Parses one statement. An error comes with its position in the text, in characters, counted
    /// from 1.
    ///
    /// # Errors
    /// The text is not a valid statement.
    pub fn parse_located(text: &str) -> Result<Self, (SqlError, Option<u32>)> {
        let mut scanner = Scanner {
            rest: text,
            last: text,
        };
        scanner.whole().map_err(|error| {
            let before = &text[..text.len() - scanner.last.len()];
            let position = u32::try_from(before.chars().count() + 1).ok();
            let position = position.filter(|_| error.is_located());
            (error, position)
        })
    }
}

/// A token, and the piece of text from which it was read.
struct Token<'a> {
    raw: &'a str,
    kind: Kind,
}

enum Kind {
    /// An identifier or keyword, in lower case.
    Word(String),
    Number,
    /// A string. The text is without the quotes.
    Text(String),
    Symbol,
}

impl Token<'_> {
    fn begins_statement(&self) -> bool {
        matches!(&self.kind, Kind::Word(word) if keywords::begins_statement(word) || keywords::is_ours(word))
    }

    fn unexpected(&self) -> SqlError {
        SqlError::Near(self.raw.to_string())
    }
}

struct Scanner<'a> {
    rest: &'a str,
    /// The text from the start of the last token on.
    last: &'a str,
}

impl<'a> Scanner<'a> {
    fn whole(&mut self) -> Result<Statement, SqlError> {
        let statement = self.statement()?;
        let mut semicolon = false;
        while self.accept(";")? {
            semicolon = true;
        }
        match self.next()? {
            None => Ok(statement),
            Some(token) if semicolon && token.begins_statement() => {
                Err(self.unsupported("several statements at once"))
            }
            Some(token) => Err(token.unexpected()),
        }
    }

    /// The error for a statement that walsim does not support. If a later token is invalid, returns
    /// the error for that token.
    fn unsupported(&mut self, what: &str) -> SqlError {
        loop {
            match self.next() {
                Ok(Some(_)) => {}
                Ok(None) => return SqlError::Unsupported(what.to_string()),
                Err(error) => return error,
            }
        }
    }

    fn statement(&mut self) -> Result<Statement, SqlError> {
        let before = self.rest;
        let Some(token) = self.next()? else {
            return Ok(Statement::Empty);
        };
        if token.raw == ";" {
            self.rest = before;
            return Ok(Statement::Empty);
        }
        let Kind::Word(word) = &token.kind else {
            return Err(token.unexpected());
        };
        match word.as_str() {
            _ if token.raw.starts_with('"') => Err(token.unexpected()),
            "begin" => self.block(Statement::Begin),
            "commit" | "end" => self.block(Statement::Commit),
            "rollback" | "abort" => self.block(Statement::Rollback),
            "checkpoint" => Ok(Statement::Checkpoint),
            "put" => Ok(Statement::Put {
                rel: self.number("oid")?,
                key: self.number("bigint")?,
                value: self.hex()?,
            }),
            "get" => Ok(Statement::Get {
                rel: self.number("oid")?,
                key: self.number("bigint")?,
            }),
            "select" => self.function(),
            "show" => Ok(Statement::Show(self.setting_name()?)),
            "set" => self.set(),
            word if keywords::begins_statement(word) => {
                let what = alloc::format!("this {} statement", word.to_ascii_uppercase());
                Err(self.unsupported(&what))
            }
            _ => Err(token.unexpected()),
        }
    }

    /// `opt_transaction`
    fn block(&mut self, statement: Statement) -> Result<Statement, SqlError> {
        let before = self.rest;
        let noise = self.next()?.is_some_and(|token| {
            token.raw.eq_ignore_ascii_case("work") || token.raw.eq_ignore_ascii_case("transaction")
        });
        if !noise {
            self.rest = before;
        }
        Ok(statement)
    }

    fn function(&mut self) -> Result<Statement, SqlError> {
        let Some(token) = self.next()? else {
            return Err(self.unsupported("this SELECT statement"));
        };
        if let Kind::Word(name) = &token.kind
            && let Some(statement) = SlotStatement::parse(name, self)
        {
            return statement.map(Statement::Slot);
        }
        let statement = match &token.kind {
            Kind::Word(name) if name == "pg_switch_wal" => {
                self.symbol("(")?;
                Statement::SwitchWal
            }
            Kind::Word(name) if name == "pg_logical_emit_message" => {
                self.symbol("(")?;
                let transactional = self.boolean()?;
                self.symbol(",")?;
                let prefix = self.text()?;
                self.symbol(",")?;
                Statement::EmitMessage {
                    transactional,
                    prefix,
                    content: self.hex()?,
                }
            }
            Kind::Word(_) | Kind::Number | Kind::Text(_) | Kind::Symbol => {
                return Err(self.unsupported("this SELECT statement"));
            }
        };
        self.symbol(")")?;
        Ok(statement)
    }

    fn set(&mut self) -> Result<Statement, SqlError> {
        let name = self.setting_name()?;
        let token = self.must()?;
        let is_to = matches!(&token.kind, Kind::Word(word) if word == "to");
        if token.raw != "=" && !is_to {
            return Err(token.unexpected());
        }
        let token = self.must()?;
        let value = match token.kind {
            Kind::Word(word) => word,
            Kind::Number => token.raw.to_string(),
            Kind::Text(text) => text,
            Kind::Symbol => return Err(token.unexpected()),
        };
        Ok(Statement::Set { name, value })
    }

    /// A name that consists of words separated by dots.
    fn setting_name(&mut self) -> Result<String, SqlError> {
        let mut name = self.word()?;
        while self.accept(".")? {
            name.push('.');
            name.push_str(&self.word()?);
        }
        Ok(name)
    }

    fn word(&mut self) -> Result<String, SqlError> {
        let token = self.must()?;
        match token.kind {
            Kind::Word(word) => Ok(word),
            Kind::Number | Kind::Text(_) | Kind::Symbol => Err(token.unexpected()),
        }
    }

    fn boolean(&mut self) -> Result<bool, SqlError> {
        let token = self.must()?;
        match &token.kind {
            Kind::Word(word) if word == "true" => Ok(true),
            Kind::Word(word) if word == "false" => Ok(false),
            Kind::Word(_) | Kind::Number | Kind::Text(_) | Kind::Symbol => Err(token.unexpected()),
        }
    }

    fn number<T: core::str::FromStr>(&mut self, kind: &'static str) -> Result<T, SqlError> {
        let token = self.must()?;
        if !matches!(token.kind, Kind::Number) {
            return Err(token.unexpected());
        }
        token.raw.parse().map_err(|_| SqlError::OutOfRange {
            value: token.raw.to_string(),
            kind,
        })
    }

    fn text(&mut self) -> Result<String, SqlError> {
        let token = self.must()?;
        match token.kind {
            Kind::Text(text) => Ok(text),
            Kind::Word(_) | Kind::Number | Kind::Symbol => Err(token.unexpected()),
        }
    }

    fn hex(&mut self) -> Result<Bytes, SqlError> {
        let text = self.text()?;
        if text.len() % 2 != 0 {
            let bad = text.chars().find(|c| !c.is_ascii_hexdigit());
            return Err(bad.map_or(SqlError::HexOdd, SqlError::HexDigit));
        }
        let mut bytes = Vec::with_capacity(text.len() / 2);
        // The content can be long. Therefore all digits are converted first, and one check for
        // invalid digits follows at the end.
        let mut all = 0;
        bytes.extend(text.as_bytes().chunks_exact(2).map(|pair| {
            let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
            all |= high | low;
            high << 4 | low & 15
        }));
        if all & NO_DIGIT != 0 {
            let bad = text.chars().find(|c| !c.is_ascii_hexdigit());
            return Err(SqlError::HexDigit(bad.expect("one byte is no digit")));
        }
        Ok(Bytes::from(bytes))
    }

    fn symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        let token = self.must()?;
        if token.raw == symbol {
            Ok(())
        } else {
            Err(token.unexpected())
        }
    }

    /// Consumes the next token if it is this symbol.
    fn accept(&mut self, symbol: &str) -> Result<bool, SqlError> {
        let before = self.rest;
        if self.next()?.is_some_and(|token| token.raw == symbol) {
            return Ok(true);
        }
        self.rest = before;
        Ok(false)
    }

    fn must(&mut self) -> Result<Token<'a>, SqlError> {
        self.next()?.ok_or(SqlError::End)
    }

    fn next(&mut self) -> Result<Option<Token<'a>>, SqlError> {
        self.skip_blanks()?;
        self.last = self.rest;
        let Some(first) = self.rest.chars().next() else {
            return Ok(None);
        };
        if first == '\'' {
            return self.quoted().map(Some);
        }
        if first == '"' {
            return self.quoted_identifier().map(Some);
        }
        let (len, kind) = if first.is_ascii_digit() {
            (self.run(|c| c.is_ascii_digit()), Kind::Number)
        } else if is_word_start(first) {
            let len = self.run(|c| is_word_start(c) || c.is_ascii_digit() || c == '$');
            (len, Kind::Word(self.rest[..len].to_ascii_lowercase()))
        } else {
            (first.len_utf8(), Kind::Symbol)
        };
        let (raw, rest) = self.rest.split_at(len);
        self.rest = rest;
        Ok(Some(Token { raw, kind }))
    }

    /// Skips white space and comments. C comments can be nested.
    fn skip_blanks(&mut self) -> Result<(), SqlError> {
        loop {
            let blanks = [' ', '\t', '\n', '\r', '\x0c', '\x0b'];
            self.rest = self.rest.trim_start_matches(blanks);
            if self.rest.starts_with("--") {
                self.rest = self.rest.trim_start_matches(|c| c != '\n' && c != '\r');
            } else if self.rest.starts_with("/*") {
                self.skip_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), SqlError> {
        let begin = self.rest;
        let mut depth = 0;
        loop {
            if let Some(rest) = self.rest.strip_prefix("/*") {
                (self.rest, depth) = (rest, depth + 1);
            } else if let Some(rest) = self.rest.strip_prefix("*/") {
                (self.rest, depth) = (rest, depth - 1);
                if depth == 0 {
                    return Ok(());
                }
            } else if let Some(c) = self.rest.chars().next() {
                self.rest = &self.rest[c.len_utf8()..];
            } else {
                self.last = begin;
                return Err(SqlError::UnterminatedComment(begin.to_string()));
            }
        }
    }

    /// A string. Two quotes in a row stand for one quote character.
    fn quoted(&mut self) -> Result<Token<'a>, SqlError> {
        let begin = self.rest;
        let text = self.between('\'');
        let text = text.ok_or_else(|| SqlError::UnterminatedString(begin.to_string()))?;
        let raw = &begin[..begin.len() - self.rest.len()];
        let kind = Kind::Text(text);
        Ok(Token { raw, kind })
    }

    fn quoted_identifier(&mut self) -> Result<Token<'a>, SqlError> {
        let begin = self.rest;
        let text = self.between('"');
        let text = text.ok_or_else(|| SqlError::UnterminatedIdentifier(begin.to_string()))?;
        let raw = &begin[..begin.len() - self.rest.len()];
        let kind = Kind::Word(text);
        Ok(Token { raw, kind })
    }

    /// The text between two quotes. `None` if the second quote is missing.
    fn between(&mut self, quote: char) -> Option<String> {
        let mut text = String::new();
        let mut at = 1;
        loop {
            let len = self.rest[at..].find(quote)?;
            text.push_str(&self.rest[at..at + len]);
            at += len + 1;
            if !self.rest[at..].starts_with(quote) {
                self.rest = &self.rest[at..];
                return Some(text);
            }
            text.push(quote);
            at += 1;
        }
    }

    /// The length of the leading run of characters for which `is` returns true.
    fn run(&self, is: impl Fn(char) -> bool) -> usize {
        self.rest.find(|c| !is(c)).unwrap_or(self.rest.len())
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
    }
}

/// Prints the statement as a client sends it.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Begin => f.write_str("BEGIN"),
            Self::Commit => f.write_str("COMMIT"),
            Self::Rollback => f.write_str("ROLLBACK"),
            Self::Put { rel, key, value } => write!(f, "PUT {rel} {key} '{}'", Hex(value)),
            Self::Get { rel, key } => write!(f, "GET {rel} {key}"),
            Self::Checkpoint => f.write_str("CHECKPOINT"),
            Self::SwitchWal => f.write_str("SELECT pg_switch_wal()"),
            Self::EmitMessage {
                transactional,
                prefix,
                content,
            } => write!(
                f,
                "SELECT pg_logical_emit_message({transactional}, {}, '{}')",
                Quoted(prefix),
                Hex(content)
            ),
            Self::Slot(statement) => statement.fmt(f),
            Self::Show(name) => write!(f, "SHOW {name}"),
            Self::Set { name, value } => write!(f, "SET {name} = {}", Quoted(value)),
        }
    }
}

#[cfg(test)]
mod tests;
