//! Parses configuration files. Mirrors the scanner and the parser of guc-file.l. Unlike in
//! PostgreSQL, strings can also be in double quotes, as in TOML.

use super::number::run;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// One setting in a configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfLine {
    /// The name, as written.
    pub name: String,
    /// The value, without quotes.
    pub value: String,
    /// The line number.
    pub line: u32,
}

/// An error: a line that is not a valid setting.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("syntax error in line {line}, near {near}")]
pub struct ConfError {
    /// The line number, from 1.
    pub line: u32,
    near: Near,
}

#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
enum Near {
    #[error("token \"{0}\"")]
    Token(String),
    #[error("end of line")]
    EndOfLine,
}

/// Reads the lines of a configuration file (`ParseConfigFp`).
///
/// # Errors
/// The first line with a syntax error.
pub fn parse_conf_file(text: &str) -> Result<Vec<ConfLine>, ConfError> {
    let mut lines = Vec::new();
    for (number, text) in (1..).zip(text.split('\n')) {
        let mut rest = text;
        let error = |near| ConfError { line: number, near };
        let mut next = || -> Option<(Token, String)> {
            rest = rest.trim_start_matches([' ', '\t', '\r']);
            let (token, len) = scan(rest)?;
            let (raw, after) = rest.split_at(len);
            rest = after;
            Some((token, raw.to_string()))
        };
        let near = |token: Option<(Token, String)>| match token {
            Some((_, raw)) => error(Near::Token(raw)),
            None => error(Near::EndOfLine),
        };
        let name = match next() {
            None => continue,
            Some((Token::Id | Token::QualifiedId, name)) => name,
            other => return Err(near(other)),
        };
        let mut value = next();
        if let Some((Token::Equals, _)) = value {
            value = next();
        }
        let value = match value {
            Some((Token::Id | Token::Bare | Token::Number, raw)) => raw,
            Some((Token::Text, raw)) => unquoted(&raw),
            other => return Err(near(other)),
        };
        if let Some(more) = next() {
            return Err(near(Some(more)));
        }
        lines.push(ConfLine {
            name,
            value,
            line: number,
        });
    }
    Ok(lines)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Id,
    QualifiedId,
    /// `Europe/Berlin`
    Bare,
    Number,
    Text,
    Equals,
    Error,
}

/// The first token of `text`, and its length. The longest match counts. If several matches have
/// this length, the first of them counts.
fn scan(text: &str) -> Option<(Token, usize)> {
    let first = text.chars().next().filter(|c| *c != '#')?;
    let candidates = [
        (Token::Id, id(text)),
        (Token::QualifiedId, qualified_id(text)),
        (Token::Text, quoted(text)),
        (Token::Bare, bare(text)),
        (Token::Number, integer(text).max(real(text))),
        (Token::Equals, usize::from(first == '=')),
        (Token::Error, first.len_utf8()),
    ];
    let mut best = candidates[0];
    for candidate in candidates {
        if candidate.1 > best.1 {
            best = candidate;
        }
    }
    Some(best)
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn is_letter_or_digit(c: char) -> bool {
    is_letter(c) || c.is_ascii_digit()
}

fn id(text: &str) -> usize {
    if text.starts_with(is_letter) {
        run(text, is_letter_or_digit)
    } else {
        0
    }
}

fn qualified_id(text: &str) -> usize {
    let first = id(text);
    match text[first..].strip_prefix('.').map(id) {
        Some(second) if first > 0 && second > 0 => first + 1 + second,
        Some(_) | None => 0,
    }
}

fn bare(text: &str) -> usize {
    let more = |c: char| is_letter_or_digit(c) || "-._:/".contains(c);
    if text.starts_with(is_letter) {
        run(text, more)
    } else {
        0
    }
}

fn sign(text: &str) -> usize {
    usize::from(text.starts_with(['-', '+']))
}

/// The length of an integer: decimal or hexadecimal digits, and the letters of a unit.
fn integer(text: &str) -> usize {
    let begin = sign(text);
    let unsigned = &text[begin..];
    let decimal = run(unsigned, |c| c.is_ascii_digit());
    let hexadecimal = match unsigned.strip_prefix("0x") {
        Some(digits) => match run(digits, |c| c.is_ascii_hexdigit()) {
            0 => 0,
            len => 2 + len,
        },
        None => 0,
    };
    let number = decimal.max(hexadecimal);
    if number == 0 {
        return 0;
    }
    begin + number + run(&unsigned[number..], |c| c.is_ascii_alphabetic())
}

/// The length of a real number: digits with a decimal point, and an exponent.
fn real(text: &str) -> usize {
    let whole = sign(text) + run(&text[sign(text)..], |c| c.is_ascii_digit());
    let Some(fraction) = text[whole..].strip_prefix('.') else {
        return 0;
    };
    let end = whole + 1 + run(fraction, |c| c.is_ascii_digit());
    let Some(exponent) = text[end..].strip_prefix(['e', 'E']) else {
        return end;
    };
    let digits = run(&exponent[sign(exponent)..], |c| c.is_ascii_digit());
    if digits == 0 {
        end
    } else {
        end + 1 + sign(exponent) + digits
    }
}

/// The length of a string with its quotes.
fn quoted(text: &str) -> usize {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        return 0;
    };
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            let doubled = quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == quote);
            if !doubled {
                return at + 1;
            }
            chars.next();
        }
    }
    0
}

/// The text between the quotes (`DeescapeQuotedString`).
fn unquoted(raw: &str) -> String {
    let quote = raw.chars().next().unwrap_or('\'');
    let mut chars = raw[1..raw.len() - 1].chars().peekable();
    let mut text = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' {
            let escaped = chars.next().unwrap_or('\\');
            text.push(match escaped {
                'b' => '\x08',
                'f' => '\x0c',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '0'..='7' if quote == '\'' => {
                    let mut code = escaped.to_digit(8).unwrap_or(0);
                    for _ in 0..2 {
                        let digit = chars.peek().and_then(|c| c.to_digit(8));
                        let Some(digit) = digit else { break };
                        code = code * 8 + digit;
                        chars.next();
                    }
                    char::from_u32(code & 0xFF).unwrap_or('?')
                }
                other => other,
            });
        } else {
            if c == '\'' && quote == '\'' {
                chars.next();
            }
            text.push(c);
        }
    }
    text
}

/// The value in quotes. Both [`parse_conf_file`] and TOML can read the result.
#[must_use]
pub fn quoted_for_conf_file(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn read(line: &str) -> Result<(String, String), String> {
        let lines = parse_conf_file(line).map_err(|e| e.to_string())?;
        let [ConfLine { name, value, .. }] = &lines[..] else {
            return Err("no line".into());
        };
        Ok((name.clone(), value.clone()))
    }

    /// The expected results are those of a real server, except for double quotes.
    #[test]
    fn lines() {
        for (line, name, value) in [
            ("wal_keep_size = 1GB", "wal_keep_size", "1GB"),
            ("wal_keep_size=1024", "wal_keep_size", "1024"),
            (
                "\t wal_keep_size 0x10kB # more\r",
                "wal_keep_size",
                "0x10kB",
            ),
            ("Wal_Keep_Size = '1 GB'", "Wal_Keep_Size", "1 GB"),
            ("a = -1", "a", "-1"),
            ("a = .5", "a", ".5"),
            ("a = 1.5e-3", "a", "1.5e-3"),
            ("a = on", "a", "on"),
            ("TimeZone = Europe/Berlin", "TimeZone", "Europe/Berlin"),
            ("my.own = 'x'", "my.own", "x"),
            ("a = 'it''s'", "a", "it's"),
            (r"a = 'it\'s \\ \101\n'", "a", "it's \\ A\n"),
            ("a = ''", "a", ""),
            ("a = '#'", "a", "#"),
            ("a = \"b \\\"c\\\" \\\\\"", "a", "b \"c\" \\"),
        ] {
            assert_eq!(read(line), Ok((name.into(), value.into())), "{line}");
        }
        assert_eq!(parse_conf_file("\n# nothing\n  \n"), Ok(Vec::new()));
        let two = parse_conf_file("a=1\n\na=2").expect("two lines");
        assert_eq!((two.len(), two[1].line), (2, 3));
    }

    #[test]
    fn invalid_lines() {
        for (line, near) in [
            ("a", "end of line"),
            ("a =", "end of line"),
            ("a = # 1", "end of line"),
            ("= 1", "token \"=\""),
            ("1 = a", "token \"1\""),
            ("a = = 1", "token \"=\""),
            ("a = 1.5GB", "token \"GB\""),
            ("a = 10 s", "token \"s\""),
            ("a = 'open", "token \"'\""),
            ("a = b.c", "token \"b.c\""),
            ("[settings]", "token \"[\""),
            ("a = 1 2", "token \"2\""),
        ] {
            let complaint = format!("syntax error in line 1, near {near}");
            assert_eq!(read(line), Err(complaint), "{line}");
        }
    }

    #[test]
    fn quoted_values_round_trip() {
        for value in ["", "a", "it's", "a \"b\" \\ c", "two\nlines\t", "ü"] {
            let line = format!("a = {}", quoted_for_conf_file(value));
            assert_eq!(read(&line), Ok(("a".into(), value.into())), "{line}");
        }
    }
}
