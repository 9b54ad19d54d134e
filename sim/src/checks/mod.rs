//! The built-in checks. Each file contains one invariant. A check relies on what is on disk, keeps
//! state from step to step, and sees only events to which it has subscribed.
//!
//! A check imports neither the world nor another check. State that several checks need is in
//! [`crate::referee::Knowledge`].

mod bites;
mod chain;
mod checkpoint;
mod clog;
mod durable;
mod effort;
mod files;
mod fpi;
mod healthy;
mod keep;
mod live;
mod local;
mod mono;
mod page;
mod prefix;
mod prompt;
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
mod wire;
mod without;
mod xid;

pub use bites::{BITES, Bite, Plant};
pub use without::without;

use crate::referee::Check;

/// All checks. If several checks report a violation in one step, the first check in this list wins.
/// The order therefore puts causes before their consequences.
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
        Box::new(prompt::Prompt::default()),
        Box::new(wire::Wire::default()),
        Box::new(effort::Effort::default()),
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
        Box::new(files::Files::default()),
        Box::new(keep::Keep::default()),
        Box::new(checkpoint::CheckpointAnswer::default()),
        Box::new(fpi::Fpi::default()),
        Box::new(page::Page::default()),
    ]
}
