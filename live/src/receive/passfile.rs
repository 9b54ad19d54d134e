//! Password files. This module mirrors passwordFromFile of fe-connect.c.

use std::fs;
use std::path::{Path, PathBuf};

/// The database name that a line must contain to match a replication connection.
const DATABASE: &str = "replication";

/// Whether the file has a password for this server and user. As in libpq, only the first matching
/// line counts. The password itself is not used.
pub(super) fn has_password(file: &Path, host: &str, port: u16, user: &str) -> bool {
    let Ok(text) = fs::read_to_string(file) else {
        return false;
    };
    // A password file uses the name localhost for a server whose socket is in the default
    // directory.
    let host = if host.starts_with('/') && is_default_dir(host) {
        "localhost"
    } else {
        host
    };
    let port = port.to_string();
    let wanted = [host, &port, DATABASE, user];
    let line = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(fields)
        .find(|fields| {
            fields.len() > wanted.len()
                && wanted
                    .iter()
                    .zip(fields)
                    .all(|(wanted, field)| field == "*" || field == wanted)
        });
    line.is_some_and(|fields| !fields[wanted.len()].is_empty())
}

/// The default password file.
pub(super) fn default_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(Path::new(&home).join(".pgpass"))
}

fn is_default_dir(host: &str) -> bool {
    host == super::defaults::socket_dir()
}

/// The fields of a line. A backslash escapes the next character.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let kept = match c {
            ':' => {
                fields.push(String::new());
                continue;
            }
            '\\' => chars.next(),
            other => Some(other),
        };
        if let Some(last) = fields.last_mut() {
            last.extend(kept);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_match_as_in_libpq() {
        let name = format!("walsim-passfile-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        let has = |line: &str| {
            fs::write(&file, format!("# a:1:replication:b:x\n{line}\n")).expect("it is ours");
            has_password(&file, "a", 1, "b")
        };
        for line in [
            "a:1:replication:b:x",
            "*:*:*:*:x",
            "other:1:*:b:y\na:1:*:b:x",
        ] {
            assert!(has(line), "{line}");
        }
        for line in ["", "a:1:db:b:x", "a:1:replication:b", "a\\:1:1:*:b:x"] {
            assert!(!has(line), "{line}");
        }
        fs::remove_file(&file).expect("it is ours");
        assert!(!has_password(&file, "a", 1, "b"));
    }
}
