//! The checks that are built in: one invariant per file. They judge against the disk's truth, keep
//! what they remember from step to step, and look only at what they have subscribed to.
//!
//! None of them imports the world or another one; what they share is [`crate::referee::Knowledge`].

mod bites;
mod chain;
mod checkpoint;
mod clog;
mod durable;
mod fpi;
mod healthy;
mod keep;
mod live;
mod local;
mod mono;
mod page;
mod prefix;
mod recover;
mod replay;
mod report;
mod retain;
mod send;
mod slot;
mod slot_drop;
mod slot_invalid;
mod slot_moves;
mod slot_owner;
mod without;
mod xid;

pub use bites::{BITES, Bite, Plant};
pub use without::without;

use crate::referee::Check;

/// All of them. Where several object to one step the first in this list is heard: a cause stands
/// before what follows from it.
#[must_use]
pub fn built_in() -> Vec<Box<dyn Check>> {
    vec![
        Box::new(recover::Recover::default()),
        Box::new(live::Live::default()),
        Box::new(chain::Chain::default()),
        Box::new(prefix::Prefix),
        Box::new(send::Send),
        Box::new(replay::Replay),
        Box::new(report::Report),
        Box::new(healthy::Healthy::default()),
        Box::new(xid::XidVisibility::default()),
        Box::new(clog::Clog::default()),
        Box::new(local::Local),
        Box::new(durable::Durable),
        Box::new(slot_drop::SlotDrop),
        Box::new(slot_invalid::SlotInvalid),
        Box::new(slot_moves::SlotMoves),
        Box::new(slot_owner::SlotOwner),
        Box::new(slot::Slot::default()),
        Box::new(mono::Mono::default()),
        Box::new(retain::Retain),
        Box::new(keep::Keep::default()),
        Box::new(checkpoint::CheckpointAnswer::default()),
        Box::new(fpi::Fpi::default()),
        Box::new(page::Page::default()),
    ]
}
