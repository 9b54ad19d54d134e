//! HTML reports. `replay --report` writes one. A command that stores the plan of a failure writes a
//! report beside the plan.

use super::pool;
use super::refusal::Refusal;
use std::fs;
use std::path::{Path, PathBuf};
use walsim::html::Page;

/// The number of failures of a campaign that get a report beside their plans. A report has up to
/// 2 MB, and its run is repeated to make it. Further failures can be replayed with `--report`.
pub(super) const PAGES: u64 = 20;

/// Writes a report.
pub(super) fn write(path: &Path, page: &Page<'_>) -> Result<(), Refusal> {
    let html = pool::simulate(|| page.html());
    fs::write(path, html).map_err(|e| Refusal::of_io(path, "write", &e))
}

/// The path of the report beside a plan.
pub(super) fn beside(plan: &Path) -> PathBuf {
    plan.with_extension("html")
}
