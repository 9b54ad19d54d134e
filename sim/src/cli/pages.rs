//! HTML reports. `replay --report` writes one. A command that stores the plan of a failure writes a
//! report beside the plan.

use super::pool;
use super::refusal::Refusal;
use std::fs;
use std::path::{Path, PathBuf};
use walsim::html::Page;

/// The number of failures of a campaign whose plans and reports are kept. A report has 100 to
/// 500 kB, and its run is repeated twice to make it. Further failures are only printed.
pub(super) const KEPT: usize = 1000;

/// Writes a report.
pub(super) fn write(path: &Path, page: &Page<'_>) -> Result<(), Refusal> {
    let html = pool::simulate(|| page.html());
    fs::write(path, html).map_err(|e| Refusal::of_io(path, "write", &e))
}

/// The path of the report beside a plan.
pub(super) fn beside(plan: &Path) -> PathBuf {
    plan.with_extension("html")
}
