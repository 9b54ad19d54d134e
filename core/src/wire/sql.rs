//! The closed grammar of client sessions: a handful of statements in PostgreSQL's spelling, and
//! rows as `PUT` and `GET`.
//!
//! Words and complaints follow scan.l and gram.y as far as the statements go; anything else is a
//! syntax error.

mod hex;
mod keywords;
mod slot;

pub use slot::SlotStatement;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use hex::{Hex, NO_DIGIT, VALUES};

/// What a session can do.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Statement {
    /// Nothing but blanks and a semicolon: answered by EmptyQueryResponse.
    Empty,
    /// `BEGIN`
    Begin,
    /// `COMMIT`
    Commit,
    /// `ROLLBACK`
    Rollback,
    /// `PUT rel key 'hex'`: a new version of a row.
    Put {
        /// The relation's number.
        rel: u32,
        /// The row's key.
        key: u64,
        /// The row's value.
        value: Bytes,
    },
    /// `GET rel key`: the newest version that is committed, or our own.
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
    /// `SELECT pg_logical_emit_message(transactional, 'prefix', 'hex')`: a record of any size that
    /// changes nothing.
    EmitMessage {
        /// Does it belong to the transaction?
        transactional: bool,
        /// Who wrote it.
        prefix: String,
        /// What.
        content: Bytes,
    },
    /// Something about slots or positions.
    Slot(SlotStatement),
    /// `SHOW name`
    Show(String),
    /// `SET name = value`, also with `TO`
    Set {
        /// The setting.
        name: String,
        /// Its new value, without quotes.
        value: String,
    },
}

/// A text that is no statement.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum SqlError {
    /// A token that does not fit.
    #[error("syntax error at or near \"{0}\"")]
    Near(String),
    /// Something is missing.
    #[error("syntax error at end of input")]
    End,
    /// A quote is still open at the end.
    #[error("unterminated quoted string at or near \"{0}\"")]
    UnterminatedString(String),
    /// A double quote is still open at the end.
    #[error("unterminated quoted identifier at or near \"{0}\"")]
    UnterminatedIdentifier(String),
    /// A comment is still open at the end.
    #[error("unterminated /* comment at or near \"{0}\"")]
    UnterminatedComment(String),
    /// PostgreSQL knows it, and we do not.
    #[error("cannot execute {0} in walsim")]
    Unsupported(String),
    /// Not a digit of a hexadecimal value.
    #[error("invalid hexadecimal digit: \"{0}\"")]
    HexDigit(char),
    /// Half a byte.
    #[error("invalid hexadecimal data: odd number of digits")]
    HexOdd,
    /// A position that is none.
    #[error("invalid input syntax for type pg_lsn: \"{0}\"")]
    Lsn(String),
    /// A number that does not fit.
    #[error("value \"{value}\" is out of range for type {kind}")]
    OutOfRange {
        /// The digits.
        value: String,
        /// What they should be.
        kind: &'static str,
    },
}

impl SqlError {
    /// The code that goes with the text.
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

    /// What the server adds as HINT.
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

    /// Does PostgreSQL tell where in the text it stands?
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
    /// Reads one statement, with or without a semicolon.
    ///
    /// # Errors
    /// Where the text leaves the grammar.
    pub fn parse(text: &str) -> Result<Self, SqlError> {
        Self::parse_located(text).map_err(|(error, _)| error)
    }

    /// The same; with an error comes its position in the text, in characters from 1.
    ///
    /// # Errors
    /// Where the text leaves the grammar.
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

/// One token and the text that it came from.
struct Token<'a> {
    raw: &'a str,
    kind: Kind,
}

enum Kind {
    /// An identifier or keyword, in lower case.
    Word(String),
    Number,
    /// A string, without its quotes.
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
    /// The text from the last token on.
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

    /// What PostgreSQL would run, unless the rest of the text has no tokens.
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

    /// A word, or several with dots between them.
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
        // Contents may be long: look digits up, and look at their soundness once, at the end.
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

    /// Takes the symbol if it comes next.
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

    /// White space and comments; those of C can be nested.
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

    /// A string; a doubled quote stands for one.
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

    /// What stands between two quotes; nothing if the second one is missing.
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

    /// Length of the longest run of such characters.
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

/// What a client sends.
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
