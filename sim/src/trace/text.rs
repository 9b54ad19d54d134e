//! Formats an event as a line of text with columns.

use super::event::{Act, DiskAct, TraceEvent};
use std::fmt::{self, Display};
use std::ops::Range;

/// The columns are event, time, node, process, and description.
impl Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = format!("{}.{:06}s", self.at.0 / 1_000_000, self.at.0 % 1_000_000);
        let process = self.process.map(|it| it.to_string()).unwrap_or_default();
        let (number, node) = (self.number, &self.node);
        write!(
            f,
            "{number:>8}  {seconds:>12}  {node:<9}  {process:<17}  {}",
            self.act
        )
    }
}

/// Further ranges are not shown.
const MOST: usize = 4;

fn count(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

impl Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World { text } => f.write_str(text),
            Self::Log { severity, text } => write!(f, "{severity}:  {text}"),
            Self::Client { session, text } => write!(f, "session {session}: {text}"),
            Self::Disk {
                act,
                takes_us,
                fails,
            } => {
                act.fmt(f)?;
                if let Some(us) = takes_us {
                    write!(f, ", takes {us} us")?;
                }
                fails
                    .iter()
                    .try_for_each(|how| write!(f, ", and fails: {how}"))
            }
            Self::DiskDone { act, result } => write!(f, "{act}: {result}"),
            Self::Loss {
                file,
                unsynced,
                lost,
                name,
                ..
            } => {
                let (bytes, of) = (count(lost), count(unsynced));
                write!(f, "power loss: {file} lost {bytes} of {of} unsynced bytes")?;
                lost.iter().take(MOST).try_for_each(|range| {
                    write!(f, " {}+{}", range.start, range.end - range.start)
                })?;
                if lost.len() > MOST {
                    write!(f, " …")?;
                }
                f.write_str(if *name { ", and its name changed" } else { "" })
            }
            Self::Send { peer, message, .. } => write!(f, "send to {peer}: {message}"),
            Self::Receive { peer, message, .. } => write!(f, "receive from {peer}: {message}"),
            Self::Bytes {
                peer,
                sends: true,
                len,
            } => write!(f, "{len} bytes to {peer}"),
            Self::Bytes {
                peer,
                sends: false,
                len,
            } => write!(f, "{len} bytes from {peer}"),
            Self::Connection { peer, what } if peer.is_empty() => write!(f, "connection {what}"),
            Self::Connection { peer, what } => write!(f, "connection with {peer} {what}"),
            Self::Signal { to, signal } => write!(f, "{signal} to {to}"),
            Self::Start { child } => write!(f, "fork {child}"),
            Self::Exit { how } => write!(f, "exit: {how}"),
            Self::Position { what, of, from, to } if of.is_empty() => {
                write!(f, "{what} {from} -> {to}")
            }
            Self::Position { what, of, from, to } => write!(f, "{what} of {of} {from} -> {to}"),
            Self::SlotMinimum { from, to, held_by } => {
                write!(f, "slot minimum {from} -> {to}")?;
                match &held_by[..] {
                    [] if !to.is_valid() => f.write_str(", no slot requires WAL"),
                    [] => f.write_str(", no slot is at this position"),
                    slots => write!(f, ", required by slot {}", slots.join(", ")),
                }
            }
            Self::Slot {
                slot,
                field,
                from,
                to,
            } => write!(f, "slot {slot}: {field} {from} -> {to}"),
            Self::Horizon {
                keep,
                by,
                redo,
                slots,
                wal_end,
                computed,
            } => {
                let again = if *computed > 1 { " again" } else { "" };
                write!(f, "KeepLogSeg{again}: keep WAL from {keep} because of {by}")?;
                write!(
                    f,
                    " (redo point {redo}, slot minimum {slots}, end of WAL {wal_end})"
                )
            }
            Self::Flag { flag, of, set } => {
                f.write_str(if *set { "set " } else { "clear " })?;
                f.write_str(flag)?;
                match of.as_str() {
                    "" => Ok(()),
                    of => write!(f, " of {of}"),
                }
            }
            Self::Record { start } => write!(f, "cannot read the record at {start}"),
            Self::Transaction { xid, status } => write!(f, "transaction {xid} is {status}"),
            Self::Run { place, woken_by } if woken_by.is_empty() => write!(f, "run {place}"),
            Self::Run { place, woken_by } => {
                write!(f, "run {place}, woken by {}", woken_by.join(" and "))
            }
            Self::Latch { of } => write!(f, "set latch of {of}"),
            Self::Lock { lock, taken: true } => write!(f, "take lock {lock}"),
            Self::Lock { lock, taken: false } => write!(f, "release lock {lock}"),
            Self::Wait { place, waits_for } if waits_for.is_empty() => {
                write!(f, "wait in {place} for nothing")
            }
            Self::Choice { choice, value } => write!(f, "choice {choice} = {value}"),
            Self::Wait { place, waits_for } => {
                write!(f, "wait in {place} for {}", waits_for.join(" or "))
            }
        }
    }
}

impl Act {
    /// A short description for reports, without the fields that matter only to programs.
    #[must_use]
    pub fn brief(&self) -> String {
        if let Self::Disk { act, fails, .. } = self {
            return match fails {
                Some(how) => format!("{act} fails: {how}"),
                None => act.to_string(),
            };
        }
        if let Self::DiskDone { act, result } = self {
            return match result.as_str() {
                "ok" => format!("{act} done"),
                error => format!("{act} failed: {error}"),
            };
        }
        if let Self::Send { peer, message, .. } = self {
            return format!("sends to {peer}: {}", message.brief());
        }
        if let Self::Receive { peer, message, .. } = self {
            return format!("receives from {peer}: {}", message.brief());
        }
        if let Self::Start { child } = self {
            return format!("starts {child}");
        }
        if let Self::Exit { how } = self {
            let (how, _) = how.split_once(" after ").unwrap_or((how, ""));
            return match how.strip_prefix("exit status ") {
                Some(status) => format!("exits with status {status}"),
                None => format!("is {how}"),
            };
        }
        self.to_string()
    }
}

impl Display for DiskAct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.op, self.file)?;
        if let Some(to) = &self.to {
            write!(f, " to {to}")?;
        }
        match (self.offset, self.len) {
            (Some(offset), Some(len)) => write!(f, " {offset}+{len}")?,
            (None, Some(len)) => write!(f, " at {len}")?,
            (_, None) => {}
        }
        match (&self.lsn, self.offset) {
            (Some(lsn), Some(_)) => write!(f, " ({}..{})", lsn.start, lsn.end),
            (Some(_) | None, _) => Ok(()),
        }
    }
}
