//! Runs pg_waldump and `walsim waldump` with the same arguments, and compares their output.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a command has printed, with the program's name masked.
#[derive(PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    pub(crate) status: Option<i32>,
}

/// Both commands.
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
        // getopt prints the path with which the command was started.
        let path = self.pg_waldump.display().to_string();
        self.run(command.args(args), &[&path, "pg_waldump"])
    }

    pub(crate) fn ours<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        let mut said = self.ours_whole(args);
        // If walsim finds no record in a file because it does not know the version, it prints one
        // line more than pg_waldump.
        let more = "PROGRAM: detail: The first page has magic number ";
        let lines = said.stderr.split_inclusive('\n');
        said.stderr = lines.filter(|line| !line.starts_with(more)).collect();
        said
    }

    /// The output of `walsim waldump`, including the detail line that pg_waldump does not print.
    pub(crate) fn ours_whole<S: AsRef<OsStr>>(&self, args: &[S]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walsim"));
        self.run(command.arg("waldump").args(args), &["walsim waldump"])
    }

    /// Runs both commands and returns the output that they have in common.
    ///
    /// # Panics
    /// If the output differs.
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
    /// The difference between two outputs.
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
            if their != our {
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
