//! The WAL positions of a node. A comparison of the positions before and after a step shows which
//! of them have changed.

use std::collections::BTreeMap;
use walsim_core::base::Lsn;
use walsim_core::node::NodeView;
use walsim_core::wal::position::bytepos_to_end;

/// The name of a position, and the slot or walsender to which the position belongs. The second text
/// is empty for other positions.
pub(super) type Name = (&'static str, String);

/// All positions of a node.
pub(super) fn positions(view: &NodeView<'_>) -> BTreeMap<Name, Lsn> {
    let shmem = view.shmem();
    let xlog = &shmem.xlog;
    let geometry = &shmem.settings.geometry;
    let own = [
        ("insert", bytepos_to_end(geometry, xlog.curr_byte_pos)),
        ("write", xlog.write),
        ("flush", xlog.flush),
        ("redo", xlog.redo),
        ("received", shmem.walrcv.written_upto),
        ("flushed", shmem.walrcv.flushed_upto),
        ("replayed", shmem.recovery.last_replayed_end),
    ];
    let own = own.map(|(what, lsn)| ((what, String::new()), lsn));
    let senders = shmem.walsnd.iter().filter_map(|sender| {
        let of = sender.pid?.to_string();
        let reported = [
            ("sent", sender.sent),
            ("reported write", sender.write),
            ("reported flush", sender.flush),
            ("reported apply", sender.apply),
        ];
        Some(reported.map(|(what, lsn)| ((what, of.clone()), lsn)))
    });
    let slots = shmem.slots.slots.iter().filter(|slot| slot.in_use);
    let slots = slots.map(|slot| (("restart_lsn", slot.name.clone()), slot.restart_lsn));
    own.into_iter()
        .chain(senders.flatten())
        .chain(slots)
        // A slot that was invalidated has no position any more.
        .filter(|((what, _), lsn)| lsn.is_valid() || *what == "restart_lsn")
        .collect()
}
