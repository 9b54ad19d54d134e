//! The disks. For each power loss: what was not durable, and what was lost. For the end of the run:
//! what a power loss would destroy.

use super::Page;
use super::axis::scaled;
use super::record::Record;
use super::text::{counted, seconds, total};
use crate::trace::Act;
use crate::world::Verdict;
use std::ops::Range;
use walsim_core::base::{Geometry, Lsn};
use walsim_core::wal::names::parse_segment_name;

/// The width of the picture of a file.
pub(super) const WIDTH: i64 = 480;
/// The number of ranges that are listed for a file.
const RANGES: usize = 8;
/// The number of files that are listed for a disk.
const FILES: usize = 24;

/// The state of a disk at one time.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) title: String,
    /// The event of the power loss. This is `None` for the end of the run.
    pub(super) event: Option<u64>,
    /// Whether the files of this disk are shown when the page is opened.
    pub(super) open: bool,
    pub(super) summary: String,
    pub(super) files: Vec<File>,
    pub(super) more: usize,
}

/// A file with unsynced bytes.
#[derive(Debug)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) unsynced: Vec<(i64, i64)>,
    pub(super) lost: Vec<(i64, i64)>,
    pub(super) text: String,
    pub(super) ranges: Vec<String>,
    pub(super) more: usize,
}

/// The power losses in their order, then the end of the run.
pub(super) fn disks(page: &Page<'_>, record: &Record) -> Vec<Disk> {
    let geometry = page.plan.nodes.first().map(|node| node.settings.geometry);
    let Some(geometry) = geometry else {
        return Vec::new();
    };
    let mut disks = Vec::new();
    for event in record.events.values() {
        let Act::World { text } = &event.act else {
            continue;
        };
        let Some(summary) = text.strip_prefix("power loss: ") else {
            continue;
        };
        // The events of lost files directly follow the event of the power loss.
        let losses = record
            .events
            .range(event.number + 1..)
            .map(|(_, event)| event);
        let losses = losses.map_while(|loss| {
            if let Act::Loss {
                file,
                unsynced,
                lost,
                name,
                ..
            } = &loss.act
                && loss.node == event.node
            {
                return Some((file, unsynced, lost, *name));
            }
            None
        });
        let mut files: Vec<File> = losses
            .map(|(file, unsynced, lost, name)| {
                shown(&geometry, file, unsynced, Some((lost, name)))
            })
            .collect();
        let more = files.len().saturating_sub(FILES);
        files.truncate(FILES);
        disks.push(Disk {
            title: format!("{} loses power at {} s", event.node, seconds(event.at.0)),
            event: Some(event.number),
            open: true,
            summary: summary.to_owned(),
            files,
            more,
        });
    }
    disks.extend(at_the_end(page, record, &geometry));
    disks
}

/// The disks at the end of the run.
fn at_the_end(page: &Page<'_>, record: &Record, geometry: &Geometry) -> Vec<Disk> {
    let found = match &page.outcome.verdict {
        Verdict::Violation(found) | Verdict::NoConvergence(found) | Verdict::Stuck(found) => {
            Some(found)
        }
        Verdict::Pass | Verdict::Panic { .. } => None,
    };
    let disks = record.unsynced.iter().map(|(node, unsynced)| {
        let bytes: u64 = unsynced.iter().map(|file| total(&file.bytes)).sum();
        let shown =
            |file: &crate::disk::Unsynced| shown(geometry, file.file.as_str(), &file.bytes, None);
        Disk {
            title: format!("{node} at the end of the run"),
            event: None,
            open: found.is_some_and(|found| found.node == *node),
            summary: match unsynced.len() {
                0 => String::from("everything is durable"),
                _ => format!(
                    "{} are not durable: a power loss could lose them",
                    counted(bytes, "byte")
                ),
            },
            files: unsynced.iter().take(FILES).map(shown).collect(),
            more: unsynced.len().saturating_sub(FILES),
        }
    });
    disks.collect()
}

fn shown(
    geometry: &Geometry,
    file: &str,
    unsynced: &[Range<u64>],
    loss: Option<(&Vec<Range<u64>>, bool)>,
) -> File {
    let first = unsynced.first().map_or(0, |range| range.start);
    let last = unsynced.last().map_or(0, |range| range.end);
    let x = |at: u64| scaled(at.saturating_sub(first), last - first, WIDTH);
    let bars = |ranges: &[Range<u64>]| -> Vec<(i64, i64)> {
        let bars = ranges
            .iter()
            .map(|range| (x(range.start), (x(range.end) - x(range.start)).max(2)));
        bars.collect()
    };
    let (lost, name) = loss.map_or((&[][..], false), |(lost, name)| (lost.as_slice(), name));
    let mut text = match loss {
        None => format!("{} not durable", counted(total(unsynced), "byte")),
        Some(_) if unsynced.is_empty() => String::from("no unsynced bytes"),
        Some(_) => format!(
            "{} of {} lost{}",
            super::text::grouped(total(lost)),
            counted(total(unsynced), "unsynced byte"),
            match total(lost) {
                0 => "",
                all if all == total(unsynced) => "",
                _ => " (torn)",
            }
        ),
    };
    if name {
        text += "; its name changed";
    }
    let listed = if loss.is_some() { lost } else { unsynced };
    File {
        name: file.to_owned(),
        first,
        last,
        unsynced: bars(unsynced),
        lost: bars(lost),
        text,
        ranges: listed
            .iter()
            .take(RANGES)
            .map(|range| place(geometry, file, range))
            .collect(),
        more: listed.len().saturating_sub(RANGES),
    }
}

/// A range of bytes, with its positions if the file is a WAL segment.
fn place(geometry: &Geometry, file: &str, range: &Range<u64>) -> String {
    let bytes = format!("bytes {}..{}", range.start, range.end);
    let name = file.strip_prefix("pg_wal/");
    let Some((_, segment)) = name.and_then(|name| parse_segment_name(geometry, name)) else {
        return bytes;
    };
    let start = geometry.segment_start(segment).0;
    let lsn = |at: u64| Lsn(start.saturating_add(at));
    format!("{bytes} (WAL {}..{})", lsn(range.start), lsn(range.end))
}
