//! Rejects plans that can be read but cannot work. The run of such a plan would fail for a reason
//! that has nothing to do with PostgreSQL.

use super::errors::PlanError;
use super::rows::{FileRow, OffRow};
use super::{Fault, NodePlan, Plan};
use std::ops::Range;
use toml::Spanned;
use walsim_core::base::{Settings, did_you_mean, kept_settings, show_size, show_us};
use walsim_core::node::{InitialFile, initdb};

/// How long a server may stay off after the active part of the run has ended. The bound for
/// convergence is at least three times as long.
const OFF_AFTER_END_US: u64 = 10_000_000;

/// Directories in which servers fsync files.
const SYNCED: [&str; 5] = ["base", "global", "pg_replslot", "pg_wal", "pg_xact"];

/// Why a plan cannot work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flaw {
    part: Part,
    /// The error message.
    pub message: String,
    /// A suggestion.
    pub help: String,
}

/// The part of the plan that is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Bandwidth,
    Disk(usize),
    Node(usize),
    Path(usize),
    Off(usize),
}

impl Plan {
    /// The first error in the plan.
    #[must_use]
    pub fn flaw(&self) -> Option<Flaw> {
        let bandwidth = (self.network.bytes_per_ms == 0).then(|| Flaw {
            part: Part::Bandwidth,
            message: "no byte would ever arrive".into(),
            help: "write at least one byte per millisecond; use a `partition` to stop all traffic"
                .into(),
        });
        let nodes = || self.nodes.iter().enumerate();
        let faults = || self.faults.iter().enumerate();
        bandwidth
            .or_else(|| nodes().find_map(|(n, node)| too_small(n, node)))
            .or_else(|| nodes().find_map(|(n, node)| too_new(n, node)))
            .or_else(|| self.without_walsender())
            .or_else(|| {
                faults().find_map(|(n, row)| match &row.fault {
                    Fault::FsyncError { path, .. } => never_synced(n, path),
                    Fault::PowerLoss { off_us, .. }
                    | Fault::NodeCrash { off_us, .. }
                    | Fault::Shutdown { off_us, .. } => {
                        self.stays_off(n, row.when.at_us().unwrap_or(0), *off_us)
                    }
                    Fault::Partition { .. }
                    | Fault::Reset { .. }
                    | Fault::Delay { .. }
                    | Fault::DiskFull { .. }
                    | Fault::ClockJump { .. }
                    | Fault::Kill { .. }
                    | Fault::Pause { .. }
                    | Fault::Stall { .. }
                    | Fault::StopReading { .. } => None,
                })
            })
    }

    fn without_walsender(&self) -> Option<Flaw> {
        let primary = self.nodes.first()?;
        let most = primary.settings.max_wal_senders;
        let mut standbys = (self.nodes.iter().enumerate())
            .filter(|(_, node)| node.settings.primary_conninfo.is_some());
        let (n, node) = standbys.nth(most as usize)?;
        Some(Flaw {
            part: Part::Node(n),
            message: format!(
                "`{}` could not connect: {} runs at most {most} walsenders",
                node.name, primary.name
            ),
            help: "raise max_wal_senders, or remove standbys".into(),
        })
    }

    fn stays_off(&self, fault: usize, at_us: u64, off_us: u64) -> Option<Flaw> {
        let latest = self.active_us.saturating_add(OFF_AFTER_END_US);
        (at_us.saturating_add(off_us) > latest).then(|| Flaw {
            part: Part::Off(fault),
            message: "the server would be off in the quiescent phase".into(),
            help: format!(
                "it must be started again by {}, 10 s after the active part",
                show_us(latest)
            ),
        })
    }
}

/// Checks that the version has all settings that the plan sets.
fn too_new(n: usize, node: &NodePlan) -> Option<Flaw> {
    let settings = &node.settings;
    let default = Settings::new(settings.pg_version, settings.geometry);
    let unknown = kept_settings()
        .filter(|setting| setting.since > settings.pg_version)
        .find(|setting| setting.exact_text(settings) != setting.exact_text(&default))?;
    let (name, since) = (unknown.name, unknown.since.major());
    Some(Flaw {
        part: Part::Node(n),
        message: format!("{name} is a setting of PostgreSQL {since} and later"),
        help: format!("remove {name}, or set `version` to {since} or higher"),
    })
}

/// Checks that the disk has room for a new cluster and one more segment.
fn too_small(n: usize, node: &NodePlan) -> Option<Flaw> {
    let settings = &node.settings;
    let segment = u64::from(settings.geometry.segment);
    // The disk is much larger than a new cluster, so the check need not create one.
    if node.disk_capacity >= 64 * segment {
        return None;
    }
    let cluster = initdb(settings.pg_version, &settings.geometry, 0);
    let sizes = cluster.iter().map(|entry| match entry {
        InitialFile::Dir(_) => 0,
        InitialFile::File { len, .. } => *len,
    });
    let least = sizes.sum::<u64>() + segment;
    (node.disk_capacity < least).then(|| Flaw {
        part: Part::Disk(n),
        message: format!(
            "no server of this geometry runs on {}",
            show_size(node.disk_capacity)
        ),
        help: format!(
            "a new cluster and one more segment take {}",
            show_size(least)
        ),
    })
}

fn never_synced(fault: usize, path: &str) -> Option<Flaw> {
    let first = path.split('/').next().unwrap_or_default();
    // The path may be a prefix of a directory name.
    if SYNCED.iter().any(|dir| dir.starts_with(first)) {
        return None;
    }
    let known = format!("known: {}", SYNCED.join(", "));
    Some(Flaw {
        part: Part::Path(fault),
        message: format!("no server fsyncs a file below `{path}`"),
        help: match did_you_mean(first, &SYNCED) {
            Some(close) => format!("did you mean `{close}`? {known}"),
            None => known,
        },
    })
}

impl Flaw {
    /// Converts this error to an error with a place in the plan's file.
    pub(super) fn in_file(self, file: &FileRow) -> PlanError {
        let (span, label) = match self.part {
            Part::Bandwidth => {
                let field = file.network.as_ref().and_then(|n| n.bytes_per_ms.as_ref());
                (field.map(|f| f.span.clone()), "no bandwidth")
            }
            Part::Disk(n) => {
                let field = file.node[n].get_ref().disk.as_ref();
                (field.map(|f| f.span.clone()), "too small")
            }
            Part::Node(n) => {
                let name = &file.node[n].get_ref().name;
                (Some(name.span.clone()), "one too many")
            }
            Part::Path(n) => {
                let row = file.fault[n].get_ref().fsync_error.as_ref();
                (row.map(|r| r.path.span.clone()), "never synced")
            }
            Part::Off(n) => (off_span(&file.fault[n]), "off for too long"),
        };
        PlanError::new(span.unwrap_or(0..0), label, self.message).help(self.help)
    }
}

fn off_span(row: &Spanned<super::rows::FaultRow>) -> Option<Range<usize>> {
    let fault = row.get_ref();
    let stops = [
        &fault.power_loss,
        &fault.node_crash,
        &fault.smart_shutdown,
        &fault.fast_shutdown,
        &fault.immediate_shutdown,
    ];
    let stop: &OffRow = stops.into_iter().flatten().next()?;
    Some(stop.off.as_ref().unwrap_or(&stop.node).span.clone())
}

#[cfg(test)]
mod tests {
    use crate::plan::Scenario;

    const HEAD: &str = "version = 18\ngeometry = \"tiny\"\nactive = \"5s\"\n";

    fn refused(rest: &str) -> String {
        let text = format!("schema = {}\n{HEAD}{rest}", crate::plan::SCHEMA);
        let error = Scenario::parse(&text, "test").expect_err(rest);
        let place = &text[error.span.clone()];
        format!("{place}: {} ({})", error.message, error.label)
    }

    #[test]
    fn what_cannot_work_is_refused_at_its_place() {
        let primary = "[[node]]\nname = \"primary\"\n";
        for (rest, wanted) in [
            (
                format!("[network]\nbytes_per_ms = 0\n{primary}"),
                "0: no byte would ever arrive (no bandwidth)",
            ),
            (
                format!("{primary}disk = \"0\"\n"),
                "\"0\": no server of this geometry runs on 0 (too small)",
            ),
            (
                format!(
                    "[settings]\nmax_wal_senders = 1\n{primary}[[node]]\nname = \"a\"\n[[node]]\nname = \"b\"\n"
                ),
                "\"b\": `b` could not connect: primary runs at most 1 walsenders (one too many)",
            ),
            (
                format!(
                    "{primary}[[fault]]\nat = \"1s\"\nfsync_error = {{ node = \"primary\", path = \"pg_wall\" }}\n"
                ),
                "\"pg_wall\": no server fsyncs a file below `pg_wall` (never synced)",
            ),
            (
                format!(
                    "{primary}[[fault]]\nat = \"4s\"\npower_loss = {{ node = \"primary\", off = \"100s\" }}\n"
                ),
                "\"100s\": the server would be off in the quiescent phase (off for too long)",
            ),
        ] {
            assert_eq!(refused(&rest), wanted);
        }
    }
}
