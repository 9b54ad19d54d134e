//! The parts of `walsim waldump` that do not access files.

#[path = "../../../sim/src/cli/waldump/filter.rs"]
pub mod filter;
#[path = "../../../sim/src/cli/waldump/getopt.rs"]
pub mod getopt;
#[path = "../../../sim/src/cli/waldump/line.rs"]
pub mod line;
#[path = "../../../sim/src/cli/waldump/options.rs"]
pub mod options;
#[path = "../../../sim/src/cli/waldump/scanf.rs"]
pub mod scanf;
#[path = "../../../sim/src/cli/waldump/stats.rs"]
pub mod stats;
#[path = "../../../sim/src/cli/waldump/stop.rs"]
pub mod stop;

use options::{Options, Stats};
use walsim_core::base::PgVersion;
use walsim_core::wire::describe::Text;
use walsim_core::wire::record::RecordView;

/// Prints a record, or an error.
pub fn show(text: &mut Text, version: PgVersion, record: &RecordView<'_>) {
    for details in [false, true] {
        let _ = line::Lines::new(version, details).add(text, record);
    }
}

/// Prints the statistics of some records.
pub fn count(text: &mut Text, version: PgVersion, records: &[RecordView<'_>]) {
    for by in [Stats::PerRmgr, Stats::PerRecord] {
        let mut table = stats::Table::new();
        table.start_at(walsim_core::base::Lsn::INVALID);
        records.iter().for_each(|record| table.add(record));
        table.show(text, version, by);
    }
}

pub fn options(args: &[Vec<u8>], record: Option<&RecordView<'_>>) {
    let mut out = Vec::new();
    let _ = Options::places(args);
    for version in [PgVersion::V15, PgVersion::V16] {
        let options = Options::parse(args, version, &mut out);
        if let (Ok(options), Some(record)) = (options, record) {
            let _ = options.filter.passes(record);
        }
    }
}
