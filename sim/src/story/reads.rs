//! The WAL that a process read last, and where the files with this WAL came from.
//!
//! The facts of a violation do not always name a position. If recovery fails or makes no progress,
//! the violation is about the last pages that recovery has read.

use super::absent::{Absence, seconds};
use super::subjects::Subjects;
use super::{Line, Relevance, Repeats};
use crate::trace::{Act, TraceEvent};
use std::collections::BTreeMap;
use walsim_core::shmem::Role;

/// The number of pages that count as read last.
const PAGES: usize = 3;

#[derive(Debug)]
struct Page {
    first: TraceEvent,
    last: TraceEvent,
    count: u64,
}

/// Follows reads of WAL by startup processes, and renames of WAL segments.
#[derive(Default, Debug)]
pub(super) struct Reads {
    /// The pages that were read, by node, number of the node's start, file and offset.
    pages: BTreeMap<(String, u32, String, u64), Page>,
    /// For each segment, by node and file: the renames that gave it its name, and its removals.
    names: BTreeMap<(String, String), Vec<TraceEvent>>,
    /// The recycled segments, by node and new name. Each has its rename, and the end of the bytes
    /// that were written since the rename.
    recycled: BTreeMap<(String, String), (TraceEvent, u64)>,
}

impl Reads {
    pub(super) fn hear(&mut self, event: &TraceEvent, subjects: &Subjects) {
        let Act::Disk {
            act, fails: None, ..
        } = &event.act
        else {
            return;
        };
        if !subjects.nodes.contains(&event.node) {
            return;
        }
        let is_wal = |path: &str| path.starts_with("pg_wal/0");
        match (act.op, &act.to, act.offset) {
            ("read", _, Some(offset)) if is_wal(&act.file) => {
                let Some(process) = event.process.filter(|it| it.role == Role::Startup) else {
                    return;
                };
                let incarnation = process.pid.incarnation;
                let key = (event.node.clone(), incarnation, act.file.clone(), offset);
                let page = self.pages.entry(key).or_insert_with(|| Page {
                    first: event.clone(),
                    last: event.clone(),
                    count: 0,
                });
                page.count += 1;
                page.last = event.clone();
            }
            ("rename", Some(to), _) if is_wal(to) => {
                let key = (event.node.clone(), to.clone());
                if is_wal(&act.file) {
                    self.recycled.insert(key.clone(), (event.clone(), 0));
                }
                self.names.entry(key).or_default().push(event.clone());
            }
            ("write", _, Some(offset)) => {
                let key = (event.node.clone(), act.file.clone());
                if let Some((_, written)) = self.recycled.get_mut(&key) {
                    let end = offset.saturating_add(act.len.unwrap_or(0));
                    *written = (*written).max(end);
                }
            }
            ("unlink", ..) if is_wal(&act.file) => {
                let names = self.names.entry((event.node.clone(), act.file.clone()));
                names.or_default().push(event.clone());
            }
            _ => {}
        }
    }

    /// The last pages that startup processes read, and the history of the files that contain the
    /// pages. The list is empty if the violation is not about recovery.
    pub(super) fn tell(self, subjects: &Subjects) -> (Vec<Line>, Vec<Absence>) {
        if !subjects.hangs && subjects.code != "RECOVER" {
            return (Vec::new(), Vec::new());
        }
        let mut pages: Vec<_> = self.pages.into_iter().collect();
        pages.retain(|((node, ..), _)| *node == subjects.node);
        pages.sort_by_key(|(_, page)| u64::MAX - page.last.number);
        pages.truncate(PAGES);
        let (mut lines, mut absent) = (Vec::new(), Vec::new());
        for ((node, _, file, offset), page) in pages {
            let key = (node, file);
            let names = self.names.get(&key).into_iter().flatten();
            lines.extend(
                names
                    .rev()
                    .take(2)
                    .map(|event| line(event.clone(), 84, None)),
            );
            if let Some((rename, written)) = self.recycled.get(&key) {
                let Act::Disk { act, .. } = &page.last.act else {
                    continue;
                };
                if offset.saturating_add(act.len.unwrap_or(0)) > *written {
                    absent.extend(stale(rename, &page.last, *written));
                }
            }
            lines.push(page.line());
        }
        absent.dedup_by(|one, other| one.after_event == other.after_event);
        (lines, absent)
    }
}

impl Page {
    fn line(self) -> Line {
        let repeats = (self.count > 1).then(|| Repeats {
            more: self.count - 1,
            last_event: self.last.number,
            until: self.last.at,
        });
        line(self.first, 74, repeats)
    }
}

fn line(event: TraceEvent, score: u32, repeats: Option<Repeats>) -> Line {
    Line {
        event,
        text: String::new(),
        relevance: Relevance::Subject,
        score,
        repeats,
    }
}

/// A process read a segment that still contains old WAL.
fn stale(rename: &TraceEvent, read: &TraceEvent, written: u64) -> Option<Absence> {
    let Act::Disk { act, .. } = &rename.act else {
        return None;
    };
    let (from, to, at) = (&act.file, act.to.as_deref()?, seconds(rename.at));
    let by = read.process?;
    let not_written = match written {
        0 => String::from("was not written"),
        end => format!("was written only up to byte {end}"),
    };
    Some(Absence {
        node: rename.node.clone(),
        after_event: rename.number,
        text: format!(
            "{to} {not_written} after it was recycled from {from} at {at}; {by} read the old WAL in it"
        ),
    })
}
