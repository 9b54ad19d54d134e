//! The scanner of the replication grammar. Mirrors repl_scanner.l.

use super::super::slot_name::truncated;
use super::CommandError;
use crate::base::{Lsn, PgVersion};
use alloc::string::String;
use alloc::vec::Vec;

/// An identifier that was truncated because it was too long. The client gets a NOTICE.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Truncation {
    /// The identifier as written.
    pub from: String,
    /// The truncated identifier.
    pub to: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token<'a> {
    /// An unquoted word: a keyword or an identifier.
    Word(&'a str),
    /// An identifier in double quotes.
    Quoted(String),
    /// A string in single quotes.
    Text(String),
    Number(u32),
    Lsn(Lsn),
    Other(char),
    End,
}

pub(super) struct Scanner<'a> {
    rest: &'a str,
    /// The version of the server. Later versions have more keywords.
    pub(super) server: PgVersion,
    peeked: Option<Token<'a>>,
    /// The identifiers that were truncated.
    pub(super) truncations: Vec<Truncation>,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a str, server: PgVersion) -> Self {
        Self {
            rest: text,
            server,
            peeked: None,
            truncations: Vec::new(),
        }
    }

    pub(super) fn peek(&mut self) -> Result<&Token<'a>, CommandError> {
        let token = match self.peeked.take() {
            Some(token) => token,
            None => self.scan()?,
        };
        Ok(self.peeked.insert(token))
    }

    pub(super) fn next(&mut self) -> Result<Token<'a>, CommandError> {
        match self.peeked.take() {
            Some(token) => Ok(token),
            None => self.scan(),
        }
    }

    /// Consumes the next token if it is equal to `token`.
    pub(super) fn accept(&mut self, token: &Token<'_>) -> Result<bool, CommandError> {
        let there = self.peek()? == token;
        if there {
            self.peeked = None;
        }
        Ok(there)
    }

    /// Consumes the peeked token if it is a string or a number.
    pub(super) fn pass_value(&mut self) {
        let value = |token: &mut Token<'_>| matches!(token, Token::Text(_) | Token::Number(_));
        self.peeked.take_if(value);
    }

    /// Converts a word to an identifier: changes it to lower case, and truncates it.
    pub(super) fn folded(&mut self, word: &str) -> String {
        self.cut_name(word.to_ascii_lowercase())
    }

    fn cut_name(&mut self, name: String) -> String {
        let to = truncated(&name);
        if to.len() == name.len() {
            return name;
        }
        let to = String::from(to);
        self.truncations.push(Truncation {
            from: name,
            to: to.clone(),
        });
        to
    }

    fn scan(&mut self) -> Result<Token<'a>, CommandError> {
        self.rest = self
            .rest
            .trim_start_matches([' ', '\t', '\n', '\r', '\x0c', '\x0b']);
        let Some(first) = self.rest.chars().next() else {
            return Ok(Token::End);
        };
        // The longest match counts. `AB/0` is therefore a position, although `AB` alone could be a
        // word.
        let high = run(self.rest, |c| c.is_ascii_hexdigit());
        if high > 0 && self.rest[high..].starts_with('/') {
            let low = run(&self.rest[high + 1..], |c| c.is_ascii_hexdigit());
            if low > 0 {
                let halves = self.cut(high + 1 + low).split_at(high);
                let [high, low] = [halves.0, &halves.1[1..]].map(|half| low_32_bits(half, 16));
                return Ok(Token::Lsn(Lsn(u64::from(high) << 32 | u64::from(low))));
            }
        }
        if first.is_ascii_digit() {
            let len = run(self.rest, |c| c.is_ascii_digit());
            return Ok(Token::Number(low_32_bits(self.cut(len), 10)));
        }
        if is_word_start(first) {
            let is_word = |c: char| is_word_start(c) || c.is_ascii_digit() || c == '$';
            let len = run(self.rest, is_word);
            return Ok(Token::Word(self.cut(len)));
        }
        if first == '\'' {
            return self.quoted('\'').map(Token::Text);
        }
        if first == '"' {
            let name = self.quoted('"')?;
            return Ok(Token::Quoted(self.cut_name(name)));
        }
        self.cut(first.len_utf8());
        Ok(Token::Other(first))
    }

    /// The text between two quotes. Two quotes in a row stand for one quote character.
    fn quoted(&mut self, quote: char) -> Result<String, CommandError> {
        let mut text = String::new();
        loop {
            self.cut(1);
            let end = self.rest.find(quote);
            let end = end.ok_or(CommandError::UnterminatedString)?;
            text.push_str(self.cut(end));
            self.cut(1);
            if !self.rest.starts_with(quote) {
                return Ok(text);
            }
            text.push(quote);
        }
    }

    fn cut(&mut self, len: usize) -> &'a str {
        let (token, rest) = self.rest.split_at(len);
        self.rest = rest;
        token
    }
}

/// `strtoul`, with the result stored in a `uint32`. A number that needs more than 64 bits becomes
/// all ones.
fn low_32_bits(digits: &str, base: u32) -> u32 {
    let number = u64::from_str_radix(digits, base).unwrap_or(u64::MAX);
    u32::try_from(number & u64::from(u32::MAX)).expect("32 bits are left")
}

/// The length of the leading run of characters for which `is` returns true.
fn run(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is(c)).unwrap_or(text.len())
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}
