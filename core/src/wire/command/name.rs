//! Names in commands and their quotes. Mirrors IDENT and var_name of repl_gram.y.

use super::CommandError;
use super::scanner::{Scanner, Token};
use crate::base::PgVersion;
use alloc::format;
use alloc::string::String;
use core::fmt;

/// An identifier that is not a keyword.
pub(super) fn identifier(scanner: &mut Scanner<'_>) -> Result<String, CommandError> {
    match scanner.next()? {
        Token::Word(word) if !is_keyword(word, scanner.server) => Ok(scanner.folded(word)),
        Token::Quoted(name) => Ok(name),
        Token::Word(_)
        | Token::Text(_)
        | Token::Number(_)
        | Token::Lsn(_)
        | Token::Other(_)
        | Token::End => Err(CommandError::Syntax),
    }
}

/// Is the word a keyword? A name that is a keyword must be quoted.
fn is_keyword(word: &str, server: PgVersion) -> bool {
    super::begins_command(word, server)
        || matches!(
            word,
            "TIMELINE"
                | "PHYSICAL"
                | "LOGICAL"
                | "SLOT"
                | "TEMPORARY"
                | "RESERVE_WAL"
                | "TWO_PHASE"
                | "EXPORT_SNAPSHOT"
                | "NOEXPORT_SNAPSHOT"
                | "USE_SNAPSHOT"
                | "WAIT"
        )
}

/// `var_name`: identifiers separated by dots.
pub(super) fn var_name(scanner: &mut Scanner<'_>) -> Result<String, CommandError> {
    let mut name = identifier(scanner)?;
    while scanner.accept(&Token::Other('.'))? {
        name = format!("{name}.{}", identifier(scanner)?);
    }
    Ok(name)
}

/// A quoted identifier.
pub(super) struct Identifier<'a>(pub(super) &'a str);

impl fmt::Display for Identifier<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// The name of a setting. It is quoted only if necessary.
pub(super) struct VarName<'a>(pub(super) &'a str);

impl fmt::Display for VarName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.split('.').enumerate() {
            let dot = if i > 0 { "." } else { "" };
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            let digit = |c: char| c.is_ascii_digit();
            // Keywords are in upper case. A word in lower case is therefore a name and needs no
            // quotes.
            if part.starts_with(plain) && part.chars().all(|c| plain(c) || digit(c)) {
                write!(f, "{dot}{part}")?;
            } else {
                write!(f, "{dot}{}", Identifier(part))?;
            }
        }
        Ok(())
    }
}
