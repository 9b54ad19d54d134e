//! Runs pg_waldump and `walsim waldump` with the same arguments, and compares what they say.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Resource managers whose records both describe in full; of the others we say no more than the type.
const DESCRIBED: [&[u8]; 6] = [
    b"XLOG",
    b"Transaction",
    b"Storage",
    b"Standby",
    b"Generic",
    b"LogicalMessage",
];

/// What a command said, with its own name taken out.
#[derive(PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) status: Option<i32>,
}

/// The two commands.
pub(crate) struct Dumps {
    pg_waldump: PathBuf,
    folder: PathBuf,
}

impl Dumps {
    /// Commands that run in `folder`.
    pub(crate) fn new(bin: &Path, folder: &Path) -> Self {
        Self {
            pg_waldump: bin.join("pg_waldump"),
            folder: folder.into(),
        }
    }

    pub(crate) fn theirs<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        let mut command = Command::new(&self.pg_waldump);
        // getopt prints the path that the command was started by.
        let path = self.pg_waldump.display().to_string();
        self.run(command.args(args), &[&path, "pg_waldump"])
    }

    pub(crate) fn ours<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walsim"));
        self.run(command.arg("waldump").args(args), &["walsim waldump"])
    }

    /// Runs both and returns what they agree on.
    ///
    /// # Panics
    /// If they do not agree.
    pub(crate) fn agree<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        let (theirs, ours) = (self.theirs(args), self.ours(args));
        let shown: Vec<_> = args.iter().map(AsRef::as_ref).collect();
        if let Some(difference) = theirs.difference(&ours) {
            panic!("{shown:?}: {difference}");
        }
        ours
    }

    fn run(&self, command: &mut Command, names: &[&str]) -> Said {
        command
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env_remove("PGDATA");
        let output = command.current_dir(&self.folder).output();
        let output = output.expect("the command starts");
        let mut stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        for name in names {
            stderr = stderr.replace(&format!("{name}: "), "PROGRAM: ");
            stderr = stderr.replace(&format!("\"{name} "), "\"PROGRAM ");
        }
        Said {
            stdout: output.stdout,
            stderr,
            status: output.status.code(),
        }
    }
}

impl Said {
    /// Where two commands differ, apart from descriptions that only one of them gives.
    pub(crate) fn difference(&self, ours: &Self) -> Option<String> {
        if self.stderr != ours.stderr || self.status != ours.status {
            return Some(format!(
                "they end with {:?} and say {:?}, we end with {:?} and say {:?}",
                self.status, self.stderr, ours.status, ours.stderr
            ));
        }
        let (mut their_lines, mut our_lines) = (lines(&self.stdout), lines(&ours.stdout));
        for number in 1.. {
            let (their, our) = (their_lines.next(), our_lines.next());
            if their.is_none() && our.is_none() {
                break;
            }
            if their.map(cut) != our.map(cut) {
                let shown = |line: Option<&[u8]>| {
                    line.map(|line| {
                        String::from_utf8_lossy(&line[..line.len().min(500)]).into_owned()
                    })
                };
                let (their, our) = (shown(their), shown(our));
                return Some(format!("line {number}: they say {their:?}, we say {our:?}"));
            }
        }
        None
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|&byte| byte == b'\n')
}

/// The parts of a line that must be equal: up to the record's type, and from its blocks on.
fn cut(line: &[u8]) -> (&[u8], &[u8]) {
    let Some(rest) = line.strip_prefix(b"rmgr: ") else {
        return (line, b"");
    };
    let name = rest.split(|&byte| byte == b' ').next();
    let desc = find(line, b"desc: ").map(|at| at + b"desc: ".len());
    let (Some(desc), false) = (desc, name.is_some_and(|name| DESCRIBED.contains(&name))) else {
        return (line, b"");
    };
    let unknown = line[desc..].starts_with(b"UNKNOWN ");
    let words = line[desc..].split_inclusive(|&byte| byte == b' ');
    let words = words.take(if unknown { 2 } else { 1 });
    let (head, rest) = line.split_at(desc + words.map(<[u8]>::len).sum::<usize>());
    let blocks = find(rest, b", blkref #").unwrap_or(rest.len() - 1);
    (head, &rest[blocks..])
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}
