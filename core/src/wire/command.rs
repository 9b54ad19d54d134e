//! The commands of a walsender. Mirrors repl_scanner.l and repl_gram.y.
//!
//! Keywords are upper case only: `identify_system` is an identifier, and so a command that starts with it is SQL.

use super::backend::{BackendMessage, Column};
use crate::base::{Lsn, PgVersion, TimelineId};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use core::str::FromStr;

/// What a client asks of a walsender.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// `IDENTIFY_SYSTEM`
    IdentifySystem,
    /// `START_REPLICATION [PHYSICAL] X/X [TIMELINE n]`
    StartReplication {
        /// The first byte to send.
        start: Lsn,
        /// On which timeline; absent: the server's own.
        timeline: Option<TimelineId>,
    },
}

/// A command of the replication grammar that is none. Always an ERROR with 42601.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
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
}

impl CommandError {
    /// The code that goes with the text.
    #[must_use]
    pub const fn sqlstate(self) -> [u8; 5] {
        *b"42601"
    }
}

impl Command {
    /// Reads a command text (`exec_replication_command`). `None`: the first token is no replication keyword, so it is SQL.
    ///
    /// # Errors
    /// A text that starts like a replication command and does not go on like one that this server knows.
    pub fn parse(text: &str, server: PgVersion) -> Result<Option<Self>, CommandError> {
        let mut scanner = Scanner { rest: text };
        let first = scanner.next()?;
        let command = match first {
            Token::Word("IDENTIFY_SYSTEM") => Self::IdentifySystem,
            Token::Word("START_REPLICATION") => start_replication(&mut scanner)?,
            Token::Word(word) if is_keyword(word, server) => return Err(CommandError::Syntax),
            Token::Word(_)
            | Token::Quoted
            | Token::Number(_)
            | Token::Lsn(_)
            | Token::Other(_)
            | Token::End => return Ok(None),
        };
        if scanner.peek()? == Token::Other(';') {
            scanner.next()?;
        }
        if scanner.next()? == Token::End {
            Ok(Some(command))
        } else {
            Err(CommandError::Syntax)
        }
    }
}

fn start_replication(scanner: &mut Scanner<'_>) -> Result<Command, CommandError> {
    let mut token = scanner.next()?;
    if token == Token::Word("PHYSICAL") {
        token = scanner.next()?;
    }
    let Token::Lsn(start) = token else {
        return Err(CommandError::Syntax);
    };
    if scanner.peek()? != Token::Word("TIMELINE") {
        let timeline = None;
        return Ok(Command::StartReplication { start, timeline });
    }
    scanner.next()?;
    match scanner.next()? {
        Token::Number(0) => Err(CommandError::TimelineZero),
        Token::Number(n) => Ok(Command::StartReplication {
            start,
            timeline: Some(TimelineId(n)),
        }),
        Token::Word(_) | Token::Quoted | Token::Lsn(_) | Token::Other(_) | Token::End => {
            Err(CommandError::Syntax)
        }
    }
}

/// The first words that make a text a replication command (`replication_scanner_is_replication_command`).
fn is_keyword(word: &str, server: PgVersion) -> bool {
    match word {
        "IDENTIFY_SYSTEM"
        | "BASE_BACKUP"
        | "START_REPLICATION"
        | "CREATE_REPLICATION_SLOT"
        | "DROP_REPLICATION_SLOT"
        | "READ_REPLICATION_SLOT"
        | "TIMELINE_HISTORY"
        | "SHOW" => true,
        "ALTER_REPLICATION_SLOT" | "UPLOAD_MANIFEST" => server >= PgVersion::V18,
        _ => false,
    }
}

/// As the walreceiver and pg_receivewal write it.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IdentifySystem => f.write_str("IDENTIFY_SYSTEM"),
            Self::StartReplication { start, timeline } => {
                write!(f, "START_REPLICATION {start}")?;
                match timeline {
                    Some(timeline) => write!(f, " TIMELINE {timeline}"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token<'a> {
    Word(&'a str),
    /// A string or a quoted identifier; no command here takes one.
    Quoted,
    Number(u32),
    Lsn(Lsn),
    Other(char),
    End,
}

struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Result<Token<'a>, CommandError> {
        Scanner { rest: self.rest }.next()
    }

    fn next(&mut self) -> Result<Token<'a>, CommandError> {
        self.rest = self
            .rest
            .trim_start_matches([' ', '\t', '\n', '\r', '\x0c', '\x0b']);
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        // The longest match wins: `AB/0` is a position although `AB` could be a word.
        let high = self.run(|c| c.is_ascii_hexdigit());
        if high > 0 && self.rest[high..].starts_with('/') {
            let low = Scanner {
                rest: &self.rest[high + 1..],
            }
            .run(|c| c.is_ascii_hexdigit());
            if low > 0 {
                let text = self.cut(high + 1 + low);
                return text
                    .parse()
                    .map(Token::Lsn)
                    .map_err(|_| CommandError::Syntax);
            }
        }
        if first.is_ascii_digit() {
            let len = self.run(|c| c.is_ascii_digit());
            let number = self.cut(len).parse();
            // PostgreSQL reduces a larger number modulo 2^32, which nobody can want.
            return number.map(Token::Number).map_err(|_| CommandError::Syntax);
        }
        if is_word_start(first) {
            let len = self.run(|c| is_word_start(c) || c.is_ascii_digit() || c == '$');
            return Ok(Token::Word(self.cut(len)));
        }
        if first == '\'' || first == '"' {
            self.cut(1);
            let end = self
                .rest
                .find(first)
                .ok_or(CommandError::UnterminatedString)?;
            self.cut(end + 1);
            // A doubled quote goes on: the second half is scanned like another string.
            while self.rest.starts_with(first) {
                self.cut(1);
                let end = self
                    .rest
                    .find(first)
                    .ok_or(CommandError::UnterminatedString)?;
                self.cut(end + 1);
            }
            return Ok(Token::Quoted);
        }
        self.cut(first.len_utf8());
        Ok(Token::Other(first))
    }

    /// Length of the longest run of such characters.
    fn run(&self, is: impl Fn(char) -> bool) -> usize {
        self.rest.find(|c| !is(c)).unwrap_or(self.rest.len())
    }

    fn cut(&mut self, len: usize) -> &'a str {
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        token
    }
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

/// The result of IDENTIFY_SYSTEM.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SystemIdentity {
    /// Made by initdb; the same on all copies.
    pub system_id: u64,
    /// The timeline at the end of the server's WAL.
    pub timeline: TimelineId,
    /// How far the server has flushed.
    pub xlogpos: Lsn,
    /// NULL for a physical walsender.
    pub dbname: Option<String>,
}

impl SystemIdentity {
    /// Appends columns, row and completion (`IdentifySystem`).
    pub fn encode(&self, server: PgVersion, out: &mut Vec<u8>) {
        let timeline = match server {
            PgVersion::V15 => Column::int4("timeline"),
            PgVersion::V18 => Column::int8("timeline"),
        };
        let columns = vec![
            Column::text("systemid"),
            timeline,
            Column::text("xlogpos"),
            Column::text("dbname"),
        ];
        BackendMessage::RowDescription(columns).encode(out);
        BackendMessage::row([
            Some(self.system_id.to_string()),
            Some(self.timeline.to_string()),
            Some(self.xlogpos.to_string()),
            self.dbname.clone(),
        ])
        .encode(out);
        BackendMessage::CommandComplete("IDENTIFY_SYSTEM".to_string()).encode(out);
    }

    /// Reads the row (`libpqrcv_identify_system`), which may grow columns in later versions.
    #[must_use]
    pub fn from_row(row: &[Option<Bytes>]) -> Option<Self> {
        fn text<T: FromStr>(value: &Option<Bytes>) -> Option<T> {
            core::str::from_utf8(value.as_ref()?).ok()?.parse().ok()
        }
        let [system_id, timeline, xlogpos, rest @ ..] = row else {
            return None;
        };
        Some(Self {
            system_id: text(system_id)?,
            timeline: TimelineId(text(timeline)?),
            xlogpos: text(xlogpos)?,
            dbname: rest.first().and_then(text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::backend::backend_limit;
    use super::super::frame::FrameReader;
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Option<Command>, CommandError> {
        Command::parse(text, PgVersion::V15)
    }

    fn start(start: u64, timeline: Option<u32>) -> Result<Option<Command>, CommandError> {
        Ok(Some(Command::StartReplication {
            start: Lsn(start),
            timeline: timeline.map(TimelineId),
        }))
    }

    #[test]
    fn what_receivers_send() {
        assert_eq!(parse("IDENTIFY_SYSTEM"), Ok(Some(Command::IdentifySystem)));
        assert_eq!(
            parse("START_REPLICATION 0/1300000 TIMELINE 2"),
            start(0x130_0000, Some(2))
        );
        assert_eq!(
            parse("\tSTART_REPLICATION PHYSICAL AB/cd\n;"),
            start(0xAB_0000_00CD, None)
        );
    }

    #[test]
    fn what_is_not_a_replication_keyword_is_sql() {
        for text in [
            "",
            "  ",
            "identify_system",
            "IDENTIFY_SYSTEMS",
            "SELECT 1",
            "'SHOW'",
            "1",
            "0/1",
            ";",
            "ALTER_REPLICATION_SLOT x",
        ] {
            assert_eq!(parse(text), Ok(None), "{text:?}");
        }
        let later = Command::parse("ALTER_REPLICATION_SLOT x", PgVersion::V18);
        assert_eq!(later, Err(CommandError::Syntax));
    }

    #[test]
    fn what_the_grammar_refuses() {
        for text in [
            "IDENTIFY_SYSTEM 1",
            "IDENTIFY_SYSTEM;;",
            "IDENTIFY_SYSTEM; IDENTIFY_SYSTEM",
            "START_REPLICATION",
            "START_REPLICATION 0",
            "START_REPLICATION 0/",
            "START_REPLICATION 0/123456789",
            "START_REPLICATION physical 0/1",
            "START_REPLICATION 0/1 TIMELINE",
            "START_REPLICATION 0/1 TIMELINE x",
            "START_REPLICATION 0/1 TIMELINE 99999999999999",
            "START_REPLICATION SLOT s 0/1",
            "START_REPLICATION LOGICAL 0/1",
            "START_REPLICATION 'it''s' 0/1",
        ] {
            assert_eq!(parse(text), Err(CommandError::Syntax), "{text:?}");
        }
        assert_eq!(
            parse("START_REPLICATION 0/1 TIMELINE 0"),
            Err(CommandError::TimelineZero)
        );
        for text in ["'", "START_REPLICATION \"x", "'it''", "IDENTIFY_SYSTEM '"] {
            assert_eq!(
                parse(text),
                Err(CommandError::UnterminatedString),
                "{text:?}"
            );
        }
    }

    /// The row as PostgreSQL 15 and 18 send it.
    #[test]
    fn identity() {
        let identity = SystemIdentity {
            system_id: 7_710_309_314_411_937_630,
            timeline: TimelineId(2),
            xlogpos: Lsn(0x190_B520),
            dbname: None,
        };
        let mut out = Vec::new();
        identity.encode(PgVersion::V15, &mut out);
        let columns = b"T\0\0\0\x6f\0\x04systemid\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0timeline\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0xlogpos\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0dbname\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
        let row = b"D\0\0\0\x33\0\x04\0\0\0\x137710309314411937630\0\0\0\x012\0\0\0\t0/190B520\xff\xff\xff\xff";
        let complete = b"C\0\0\0\x14IDENTIFY_SYSTEM\0";
        assert_eq!(out, [&columns[..], row, complete].concat());

        let mut later = Vec::new();
        identity.encode(PgVersion::V18, &mut later);
        assert_ne!(out, later, "the timeline is an int8 there");

        let mut reader = FrameReader::default();
        reader.push(later.into());
        reader.next(backend_limit).unwrap();
        let row = BackendMessage::decode(reader.next(backend_limit).unwrap().unwrap());
        let Ok(BackendMessage::DataRow(row)) = row else {
            panic!("{row:?}");
        };
        assert_eq!(SystemIdentity::from_row(&row), Some(identity));
        assert_eq!(SystemIdentity::from_row(&row[..2]), None);
        assert_eq!(SystemIdentity::from_row(&[None, None, None]), None);
    }

    proptest! {
        #[test]
        fn round_trip(start in any::<u64>(), timeline in prop::option::of(1u32..)) {
            let command = Command::StartReplication { start: Lsn(start), timeline: timeline.map(TimelineId) };
            prop_assert_eq!(parse(&command.to_string()), Ok(Some(command)));
        }

        #[test]
        fn garbage_is_an_error(text in "(START_REPLICATION|IDENTIFY_SYSTEM)?[ 0-9A-F/'\";é]{0,12}|.{0,20}") {
            let _ = parse(&text);
        }
    }
}
