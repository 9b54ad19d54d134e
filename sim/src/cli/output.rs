//! Output files. The command checks every path before the work starts, so that no result is lost
//! because its file cannot be written.

use super::refusal::Refusal;
use std::fs::{self, OpenOptions};
use std::path::Path;
use walsim::plan::Scenario;

/// Creates a directory, and checks that files can be created in the directory.
pub(super) fn try_dir(dir: &Path) -> Result<(), Refusal> {
    fs::create_dir_all(dir).map_err(|e| Refusal::of_io(dir, "create", &e))?;
    // Another process may check the same directory at the same time.
    let trial = dir.join(format!(".walsim-trial-{}", std::process::id()));
    fs::write(&trial, []).map_err(|e| Refusal::of_io(dir, "write into", &e))?;
    fs::remove_file(&trial).map_err(|e| Refusal::of_io(&trial, "remove", &e))
}

/// Checks that a file can be written. Does not change the contents of the file.
pub(super) fn try_file(path: &Path) -> Result<(), Refusal> {
    let there = path.exists();
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir).map_err(|e| Refusal::of_io(dir, "create", &e))?;
    }
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|e| Refusal::of_io(path, "write", &e))?;
    if there {
        return Ok(());
    }
    fs::remove_file(path).map_err(|e| Refusal::of_io(path, "remove", &e))
}

/// Writes a plan file and returns its path. The last line of the file names this build and gives
/// the hash of the run.
pub(super) fn store(
    dir: &Path,
    name: &str,
    scenario: &Scenario,
    hash: u64,
) -> Result<String, Refusal> {
    let path = dir.join(name);
    fs::create_dir_all(dir).map_err(|e| Refusal::of_io(dir, "create", &e))?;
    let text = with_origin(scenario.to_toml(), hash);
    fs::write(&path, text).map_err(|e| Refusal::of_io(&path, "write", &e))?;
    Ok(path.display().to_string())
}

/// The text of a plan, followed by a line that names this build and gives the hash of the run.
pub(super) fn with_origin(text: String, hash: u64) -> String {
    let version = env!("WALSIM_VERSION");
    format!(
        "{}\n\n# Made by walsim {version}; the hash of the run is {hash:#018x}.\n",
        text.trim_end()
    )
}
