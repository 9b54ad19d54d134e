//! The parameter `options` of a startup packet. It has the syntax of a server's command line.
//! Mirrors pg_split_opts of postinit.c and process_postgres_switches of postgres.c.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};
use core::iter::Peekable;
use core::str::Chars;

/// A setting from a switch: its name and its value.
pub type Switch = (String, String);

/// Why a command line is refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum OptionError {
    /// `-c name` or `--name` without a value, as written.
    NoValue(String),
    /// A word that is not a switch.
    Invalid(String),
}

/// Returns the settings that the switches set, in order, and the first error. Switches after the
/// error are ignored.
#[must_use]
pub fn command_line(options: &str) -> (Vec<Switch>, Option<OptionError>) {
    let mut switches = Vec::new();
    let error = getopt(&split(options), &mut switches);
    (switches, error.err())
}

/// `pg_split_opts`: splits the text at blanks. A backslash escapes the next character.
fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = options.chars().peekable();
    let is_blank = |c: char| c.is_ascii_whitespace() || c == '\x0b';
    loop {
        while rest.next_if(|c| is_blank(*c)).is_some() {}
        if rest.peek().is_none() {
            return words;
        }
        words.push(word(&mut rest, is_blank));
    }
}

fn word(rest: &mut Peekable<Chars<'_>>, is_blank: impl Fn(char) -> bool) -> String {
    let mut word = String::new();
    while let Some(c) = rest.next_if(|c| !is_blank(*c)) {
        if c == '\\' {
            word.extend(rest.next());
        } else {
            word.push(c);
        }
    }
    word
}

/// As in getopt of the C library, words that are not switches are checked after all switches.
fn getopt(words: &[String], switches: &mut Vec<Switch>) -> Result<(), OptionError> {
    let mut others = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(flags) = word.strip_prefix('-').filter(|flags| !flags.is_empty()) else {
            others.push(word);
            continue;
        };
        if flags == "-" {
            others.extend(rest.by_ref());
            break;
        }
        for (at, flag) in flags.char_indices() {
            let behind = &flags[at + flag.len_utf8()..];
            if !"BCDdfhkNprStvWc-".contains(flag) {
                switches.extend(plain(flag, word)?);
                continue;
            }
            let argument = if behind.is_empty() {
                rest.next().map(String::as_str)
            } else {
                Some(behind)
            };
            let argument = argument.ok_or_else(|| OptionError::Invalid(word.clone()))?;
            switches.extend(with_argument(flag, argument, word)?);
            break;
        }
    }
    match others.first() {
        Some(other) => Err(OptionError::Invalid((*other).clone())),
        None => Ok(()),
    }
}

/// A switch without an argument.
fn plain(flag: char, word: &str) -> Result<Option<Switch>, OptionError> {
    let (name, value) = match flag {
        'e' => ("datestyle", "euro"),
        'F' => ("fsync", "false"),
        'i' => ("listen_addresses", "*"),
        'l' => ("ssl", "true"),
        'O' => ("allow_system_table_mods", "true"),
        'P' => ("ignore_system_indexes", "true"),
        's' => ("log_statement_stats", "true"),
        'b' | 'E' | 'j' | 'n' | 'T' => return Ok(None),
        _ => return Err(OptionError::Invalid(word.to_string())),
    };
    Ok(Some((name.to_string(), value.to_string())))
}

fn with_argument(flag: char, argument: &str, word: &str) -> Result<Vec<Switch>, OptionError> {
    let name = match flag {
        'c' | '-' => {
            let Some((name, value)) = argument.split_once('=') else {
                let written = if flag == 'c' { "-c " } else { "--" };
                return Err(OptionError::NoValue(format!("{written}{argument}")));
            };
            return Ok(vec![(name.replace('-', "_"), value.to_string())]);
        }
        'B' => "shared_buffers",
        'h' => "listen_addresses",
        'k' => "unix_socket_directories",
        'N' => "max_connections",
        'p' => "port",
        'S' => "work_mem",
        'W' => "post_auth_delay",
        // These switches are ignored, because a client cannot use them, or because they have no
        // effect on a session.
        'C' | 'D' | 'd' | 'r' | 'v' => return Ok(Vec::new()),
        _ => return Err(OptionError::Invalid(word.to_string())),
    };
    Ok(vec![(name.to_string(), argument.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(options: &str, expected: &[(&str, &str)], error: Option<OptionError>) {
        let (switches, found) = command_line(options);
        let switches: Vec<_> = switches
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        assert_eq!((&switches[..], found), (expected, error), "{options}");
    }

    /// The expected errors are PostgreSQL 15's.
    #[test]
    fn switches() {
        let invalid = |text: &str| Some(OptionError::Invalid(text.into()));
        let no_value = |text: &str| Some(OptionError::NoValue(text.into()));
        read("", &[], None);
        read("  ", &[], None);
        read("-c a=b", &[("a", "b")], None);
        read("-ca=b --c-d=e\\ f", &[("a", "b"), ("c_d", "e f")], None);
        read("-c a=", &[("a", "")], None);
        read(
            "-F -N5",
            &[("fsync", "false"), ("max_connections", "5")],
            None,
        );
        read("-c", &[], invalid("-c"));
        read("-c a", &[], no_value("-c a"));
        read("--foo", &[], no_value("--foo"));
        read("abc", &[], invalid("abc"));
        read("abc -c a=b", &[("a", "b")], invalid("abc"));
        read("-Z", &[], invalid("-Z"));
        read("-c a=b -Z", &[("a", "b")], invalid("-Z"));
        read("-- x", &[], invalid("x"));
    }
}
