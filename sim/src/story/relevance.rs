//! Judges how much an event has to do with the violation.

use super::Relevance;
use super::subjects::{Subjects, positions_in};
use crate::trace::{Act, DiskAct, MessageFields, TraceEvent};
use walsim_core::base::Lsn;
use walsim_core::call::Place;
use walsim_core::shmem::Role;
use walsim_core::wal::names::parse_segment_name;

/// The relevance of an event, and its score. Returns `None` if the event is not worth telling.
pub(super) fn judge(event: &TraceEvent, subjects: &Subjects) -> Option<(Relevance, u32)> {
    let (relevance, score) = judge_act(event, subjects)?;
    let score = match relevance {
        Relevance::Subject if subjects.retention && is_wal(&event.act) => score.min(34),
        Relevance::Verdict
        | Relevance::Fault
        | Relevance::Subject
        | Relevance::Log
        | Relevance::Context => score,
    };
    // If an event begins or ends exactly at a position in the facts, it is most likely to matter.
    let exact = is_exact(&event.act, subjects) && relevance == Relevance::Subject;
    let score = score + if exact { 12 } else { 0 };
    // The violation may be about other nodes. An event of this node is then less likely to matter.
    let elsewhere = !event.node.is_empty() && !subjects.nodes.contains(&event.node);
    let less = if elsewhere { 12 } else { 0 };
    (score > less).then(|| (relevance, score - less))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "events of other kinds have no position"
)]
fn is_exact(act: &Act, subjects: &Subjects) -> bool {
    let point = |lsn: &Lsn| subjects.points.contains(lsn);
    match act {
        Act::Position { to, .. } => point(to),
        Act::Send {
            message: MessageFields::XLogData { start, end, .. },
            ..
        } => point(start) || point(end),
        Act::Send {
            message: MessageFields::StandbyStatusUpdate { flush, apply, .. },
            ..
        } => point(flush) || point(apply),
        Act::Disk { act, .. } if act.op == "write" => {
            act.lsn.as_ref().is_some_and(|lsn| point(&lsn.end))
        }
        _ => false,
    }
}

/// The event is about the contents of WAL, not about the names of segments.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "events of other kinds contain no WAL"
)]
fn is_wal(act: &Act) -> bool {
    match act {
        Act::Disk { act, .. } | Act::DiskDone { act, .. } => {
            act.lsn.is_some() && !matches!(act.op, "rename" | "unlink")
        }
        Act::Send { message, .. } | Act::Receive { message, .. } => message.lsn().is_some(),
        Act::Position { what, .. } => *what != "restart_lsn" && *what != "redo",
        _ => false,
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "events of other kinds explain nothing"
)]
fn judge_act(event: &TraceEvent, subjects: &Subjects) -> Option<(Relevance, u32)> {
    let role = event.process.map(|process| process.role);
    let is_party = (event.process).is_some_and(|it| subjects.processes.contains(&it.pid));
    let party = if is_party { 6 } else { 0 };
    Some(match &event.act {
        act if act.is_verdict() => (Relevance::Verdict, 200),
        Act::World { text } => (Relevance::Fault, world(text)),
        Act::Log { severity, text } => (Relevance::Log, log(severity, text, subjects)),
        Act::Client { text, .. } => return client(text, subjects),
        Act::Loss { file, lsn, .. } => {
            let in_wal = lsn.as_ref().is_some_and(|lsn| subjects.has_wal(lsn));
            let about = in_wal || subjects.files.contains(file);
            return about.then_some((Relevance::Fault, 84));
        }
        Act::Disk { act, fails, .. } => {
            let (relevance, score) = disk(act, subjects)?;
            match fails {
                None if act.op.starts_with("fsync") => (Relevance::Context, 12),
                // The event for the completion shows the error.
                Some(_) => return None,
                None => (relevance, score + party),
            }
        }
        Act::DiskDone { act, result } if result != "ok" => {
            (Relevance::Subject, failed(act, result, subjects)?)
        }
        // An fsync is shown only by its completion.
        Act::DiskDone { act, .. } if act.op.starts_with("fsync") => {
            let (relevance, score) = disk(act, subjects)?;
            (relevance, score + party)
        }
        Act::Send { message, .. } => message_score(message, subjects, true, role)?,
        Act::Receive { message, .. } => message_score(message, subjects, false, role)?,
        Act::Position { what, of, from, to } => position(what, of, (*from, *to), subjects)?,
        Act::SlotMinimum { .. } | Act::Horizon { .. } | Act::Slot { .. } | Act::Record { .. } => {
            (Relevance::Subject, decided(event, subjects)?)
        }
        Act::Flag { flag, .. } if *flag != "DELAY_CHKPT_START" && subjects.hangs => {
            (Relevance::Context, 54)
        }
        Act::Signal {
            signal: "SIGKILL" | "SIGQUIT" | "SIGTERM" | "SIGINT",
            ..
        } => (Relevance::Context, 36),
        Act::Exit { how } if how == "exit status 0" && role == Some(Role::Backend) => return None,
        Act::Exit { .. } if role == Some(Role::Backend) => (Relevance::Context, 20),
        Act::Exit { .. } => (Relevance::Context, 44 + party),
        Act::Start { child } => match child.role {
            Role::WalReceiver | Role::WalSender => (Relevance::Context, 34),
            Role::Backend => return None,
            Role::Postmaster | Role::WalWriter | Role::Checkpointer | Role::Startup => {
                (Relevance::Context, 12)
            }
        },
        Act::Connection {
            what: "reset" | "refused",
            ..
        } => (Relevance::Context, 30),
        Act::Transaction { xid, .. } if subjects.xids.contains(xid) => (Relevance::Subject, 80),
        Act::Run { place, .. } if *place == Place::ServerLoop && subjects.hangs => {
            (Relevance::Context, 46)
        }
        Act::Run { place, .. } => (Relevance::Context, decision(*place, subjects)? + party),
        _ => return None,
    })
}

/// The score of an event of the world. Faults and actions of the operator are causes. The start of
/// a server is a cause only after a fault.
fn world(text: &str) -> u32 {
    match text {
        "server started" | "accepts connections" => 32,
        "faults and workload stop" => 40,
        "server stopped" => 60,
        _ => 85,
    }
}

/// Log lines that a server writes at each start.
const BANNER: [&str; 4] = [
    "starting PostgreSQL",
    "database system was shut down at",
    "database system is ready to accept",
    "entering standby mode",
];

fn log(severity: &str, text: &str, subjects: &Subjects) -> u32 {
    let named = subjects
        .slots
        .iter()
        .any(|slot| text.contains(slot.as_str()));
    let mut positions = positions_in(text);
    let near = positions.any(|at| subjects.has_wal(&(at..Lsn(at.0.saturating_add(1)))));
    let more = if named || near { 8 } else { 0 };
    match severity {
        "LOG" if BANNER.iter().any(|start| text.starts_with(start)) => 14,
        "LOG" => 46 + more,
        _ if text.contains("the database system is starting up") => 16,
        _ => 60 + more,
    }
}

fn client(text: &str, subjects: &Subjects) -> Option<(Relevance, u32)> {
    let named = subjects
        .slots
        .iter()
        .any(|slot| text.contains(slot.as_str()));
    if named {
        return Some((Relevance::Subject, 72));
    }
    if text.starts_with("does not find") || text.starts_with("got an error for COMMIT") {
        return Some((Relevance::Subject, 72));
    }
    let is_command = text.starts_with("CHECKPOINT") || text.contains("pg_");
    if is_command && !text.contains("pg_logical_emit_message") {
        return Some((Relevance::Context, 50));
    }
    None
}

/// The score of a failed operation. Returns `None` if only a file does not exist, because this is
/// mostly expected.
fn failed(act: &DiskAct, result: &str, subjects: &Subjects) -> Option<u32> {
    let expected = result.starts_with("No such file") && act.op != "fsync";
    if expected {
        return None;
    }
    let subject = slot_of(&act.file).is_some_and(|slot| subjects.slots.contains(slot));
    Some(if subject { 96 } else { 90 })
}

fn disk(act: &DiskAct, subjects: &Subjects) -> Option<(Relevance, u32)> {
    let score = subject_score(act, subjects)?;
    Some((Relevance::Subject, score))
}

/// The score of a disk operation on a file that the violation is about.
fn subject_score(act: &DiskAct, subjects: &Subjects) -> Option<u32> {
    let touches = |path: &str| {
        subjects.files.contains(path)
            || segment_is_subject(path, subjects)
            || slot_of(path).is_some_and(|slot| subjects.slots.contains(slot))
    };
    let bytes = act.offset.zip(act.len);
    let in_block = || {
        let bytes = bytes.map(|(at, len)| at..at.saturating_add(len));
        subjects.blocks.iter().any(|(path, block)| {
            *path == act.file
                && bytes
                    .as_ref()
                    .is_none_or(|bytes| bytes.start < block.end && block.start < bytes.end)
        })
    };
    let target = act.to.as_deref().is_some_and(touches);
    match act.op {
        "write" | "write-zeros" => {
            let in_wal = act.lsn.as_ref().is_some_and(|lsn| subjects.has_wal(lsn));
            let in_slot = slot_of(&act.file).is_some() && touches(&act.file);
            if act.op == "write-zeros" {
                return in_wal.then_some(40);
            }
            let is_status = act.file.starts_with("pg_xact/") && !subjects.xids.is_empty();
            match (in_wal || in_block() || is_status, in_slot) {
                (true, _) => Some(68),
                (false, true) => Some(50),
                (false, false) => None,
            }
        }
        "fsync" | "truncate" => {
            let subject = touches(&act.file) || in_block();
            subject.then_some(52)
        }
        // A new segment gets its name.
        "rename" if target && act.file.starts_with("pg_wal/xlogtemp") => Some(58),
        "rename" if touches(&act.file) || target => Some(78),
        "unlink" | "rmdir" if touches(&act.file) => Some(78),
        "fsync-directory" => {
            let subject = !subjects.wal.is_empty() && act.file == "pg_wal";
            subject.then_some(42)
        }
        // Recovery reads the first page of a segment, or a page that contains WAL of the violation.
        "read" if act.offset == Some(0) || act.lsn.is_some() => {
            let in_wal = act.lsn.as_ref().is_some_and(|lsn| subjects.has_wal(lsn));
            in_wal.then_some(30)
        }
        _ => None,
    }
}

fn segment_is_subject(path: &str, subjects: &Subjects) -> bool {
    let geometry = &subjects.geometry;
    let name = path.strip_prefix("pg_wal/");
    let Some((_, segment)) = name.and_then(|name| parse_segment_name(geometry, name)) else {
        return false;
    };
    let start = geometry.segment_start(segment);
    subjects.has_wal(&(start..Lsn(start.0.saturating_add(geometry.segment.into()))))
}

/// The slot to which a file belongs.
fn slot_of(path: &str) -> Option<&str> {
    path.strip_prefix("pg_replslot/")?.split('/').next()
}

fn message_score(
    message: &MessageFields,
    subjects: &Subjects,
    sends: bool,
    role: Option<Role>,
) -> Option<(Relevance, u32)> {
    let score = match message {
        MessageFields::XLogData { start, end, .. } => {
            let has = subjects.has_wal(&(*start..*end));
            has.then_some(if sends { 62 } else { 60 })?
        }
        MessageFields::StandbyStatusUpdate { .. } if sends => {
            let range = message.lsn()?;
            let wide = range.start..Lsn(range.end.0.saturating_add(1));
            subjects.has_wal(&wide).then_some(48)?
        }
        MessageFields::Other { name, text } => match *name {
            "Query" if text.starts_with("START_REPLICATION") && sends => 50,
            "CommandComplete" if text.starts_with("COPY") && sends => 62,
            "CopyDone" if sends => 54,
            _ if role == Some(Role::Backend) => return None,
            _ => return None,
        },
        MessageFields::StandbyStatusUpdate { .. }
        | MessageFields::Keepalive { .. }
        | MessageFields::HotStandbyFeedback { .. } => return None,
    };
    Some((Relevance::Subject, score))
}

fn position(
    what: &str,
    of: &str,
    (from, to): (Lsn, Lsn),
    subjects: &Subjects,
) -> Option<(Relevance, u32)> {
    if what == "restart_lsn" {
        return subjects
            .slots
            .contains(of)
            .then_some((Relevance::Subject, 72));
    }
    let passes = subjects.passes(from, to);
    let score = match what {
        "redo" if from.is_valid() => 56,
        "insert" if passes && from.is_valid() => 60,
        "write" if passes && from.is_valid() => 46,
        "flush" | "replayed" | "flushed" if passes && from.is_valid() => 62,
        "received" | "sent" if passes && from.is_valid() => 44,
        "reported flush" | "reported apply" if passes && from.is_valid() => 40,
        // The position went back: after a crash, recovery ended before WAL that was flushed
        // earlier.
        "insert" | "flush" if !from.is_valid() => return None,
        _ => return None,
    };
    Some((Relevance::Subject, score))
}

/// The score of a decision about slots or old WAL, or of a record that cannot be read. `None` for a
/// node that the violation is not about.
fn decided(event: &TraceEvent, subjects: &Subjects) -> Option<u32> {
    let about = subjects.retention || subjects.hangs;
    if !subjects.nodes.contains(&event.node) {
        return None;
    }
    if let Act::Record { .. } = &event.act {
        let is_party = (event.process).is_some_and(|it| subjects.processes.contains(&it.pid));
        return (subjects.hangs || subjects.code == "RECOVER" || is_party).then_some(64);
    }
    if let Act::Slot { slot, field, .. } = &event.act {
        let score = match *field {
            "invalidated" => 76,
            "in_use" | "last_saved_restart_lsn" => 46,
            "dirty" | "just_dirtied" => 40,
            _ => 26,
        };
        return (about && subjects.slots.contains(slot)).then_some(score);
    }
    if let Act::Horizon { .. } = &event.act {
        return subjects.retention.then_some(78);
    }
    let same = matches!(&event.act, Act::SlotMinimum { from, to, .. } if from == to);
    subjects.retention.then_some(if same { 66 } else { 74 })
}

/// When it matters that a process comes to a C function: if the run hangs, if the violation is
/// about slots, or always.
#[derive(Clone, Copy, PartialEq, Eq)]
enum If {
    Hangs,
    Slots,
    Always,
}

/// The C functions whose decisions can explain a violation, with the scores of their events.
const DECISIONS: [(Place, If, u32); 5] = [
    (Place::RequestXLogStreaming, If::Hangs, 58),
    (Place::InvalidateObsoleteReplicationSlots, If::Slots, 40),
    (Place::ReplicationSlotReserveWal, If::Slots, 58),
    (Place::WalSndWaitStopping, If::Always, 40),
    (Place::WalSndInitStopping, If::Always, 40),
];

fn decision(at: Place, subjects: &Subjects) -> Option<u32> {
    let (_, when, score) = DECISIONS.iter().find(|(place, ..)| *place == at)?;
    let matters = match when {
        If::Hangs => subjects.hangs,
        If::Slots => !subjects.slots.is_empty(),
        If::Always => true,
    };
    matters.then_some(*score)
}
