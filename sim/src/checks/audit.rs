//! The audit: everything that the checks of a step conclude from what has changed, found out again from scratch. It
//! must never find more.

use super::ledger::Ledger;
use super::page::Page;
use super::{Judged, Known, wal_files};
use crate::world::Violation;
use walsim_core::base::{Lsn, TimelineId};
use walsim_core::shmem::LockId;

/// How many steps lie between two audits. In each step the WAL that has grown would be compared once more, and a run of
/// some ten thousand steps would take minutes. At the end of the run every node is looked at.
pub(super) const EVERY: u64 = 64;

/// Looks at one node.
pub(super) fn audit(
    node: Judged<'_>,
    (tli, ledger): (TimelineId, &Ledger),
    known: &Known,
    pages: &mut Page,
) -> Result<(), Violation> {
    let geometry = &node.shmem.settings.geometry;
    let from = ledger.start().max(known.kept);
    let range = from..known.wal;
    let bytes = wal_files::read(node.disk, geometry, tli, range.clone());
    if (bytes.len() as u64) < range.end.0.saturating_sub(range.start.0) {
        return Err(missed(
            node,
            "PREFIX",
            "flushed WAL has vanished",
            known.wal,
        ));
    }
    let differs = if node.shmem.settings.primary_conninfo.is_none() {
        ledger.difference(range.start, &bytes)
    } else {
        ledger.difference_on_a_standby(range.start, &bytes)
    };
    if let Some(at) = differs {
        return Err(missed(node, "PREFIX", "flushed WAL has changed", at));
    }
    let range = from..known.stable;
    let stable = wal_files::stable_until(node.disk, geometry, tli, range);
    if stable < known.stable {
        return Err(missed(
            node,
            "REPLAY",
            "durable WAL is durable no more",
            stable,
        ));
    }
    let shmem = node.shmem;
    for (id, buffer) in (0..).zip(&shmem.buffers.pool) {
        // Whoever changes a page, or reads one in, holds a lock until its bytes and its LSN belong together.
        let held = [LockId::BufferContent(id), LockId::BufferIo(id)];
        let busy = held.into_iter().any(|lock| shmem.locks.is_held(lock));
        if let Some(tag) = buffer.tag.filter(|_| buffer.valid && !busy) {
            pages.seen(node.site, tag, &buffer.page)?;
        }
    }
    Ok(())
}

fn missed(node: Judged<'_>, code: &'static str, what: &str, at: Lsn) -> Violation {
    let message = format!("the audit sees what the checks of the steps have not seen: {what}");
    node.site.violation(code, &message, &[("at", &at)])
}
