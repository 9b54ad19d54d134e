//! Runs the `walsim` command, for tests of what it prints and writes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs the command in [`folder`].
pub(crate) fn walsim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_walsim"))
        .args(args)
        .env("NO_COLOR", "1")
        .env_remove("RUST_BACKTRACE")
        .current_dir(folder())
        .output()
        .expect("the command starts")
}

/// The directory for files that the command writes. Each test program has a directory of its own.
/// Paths in messages are relative to this directory.
pub(crate) fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
    std::fs::create_dir_all(&folder).expect("our own folder");
    folder
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The last line of the output, as JSON.
pub(crate) fn last_line(output: &Output) -> serde_json::Value {
    let text = stdout(output);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {text}; {}", stderr(output)))
}
