//! The build script of both commands. It sets `WALSIM_VERSION` to the version and the commit, so
//! that a report names the build. Outside of a git checkout `WALSIM_VERSION` is only the version.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../ci/commit.rs");
    // Each commit, checkout and rebase adds a line to the log of HEAD, so a change of this file
    // requires a new build.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let version = env!("CARGO_PKG_VERSION");
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) => println!("cargo::rustc-env=WALSIM_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=WALSIM_VERSION={version}"),
    }
}

/// The first line of git's output, if git succeeds.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?;
    output.status.success().then(|| line.into())
}
