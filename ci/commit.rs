//! Build script of both commands: hands them version and commit as `WALSIM_VERSION`, so that a
//! report says which build
//! it is from. Outside a git checkout it is the version alone.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../ci/commit.rs");
    // The log of HEAD grows by a line with each commit, checkout and rebase.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    let version = env!("CARGO_PKG_VERSION");
    match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) => println!("cargo::rustc-env=WALSIM_VERSION={version} ({commit})"),
        None => println!("cargo::rustc-env=WALSIM_VERSION={version}"),
    }
}

/// The first line that git answers, if it does.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?;
    output.status.success().then(|| line.into())
}
