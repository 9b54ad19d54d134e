//! The witness of an excuse: how a standby's attempts to continue ended after faults and workload
//! had stopped. Both servers log how an attempt ended.

use crate::world::World;
use std::fmt;
use walsim_core::base::{Geometry, Lsn, Pid, SegmentNo};
use walsim_core::call::{LogEvent, Message, SlotMessage, SqlState};
use walsim_core::shmem::Role;
use walsim_core::wal::names::parse_segment_name;

/// If the upstream refuses this many attempts in a row for the same reason, the refusal counts as
/// permanent.
const REFUSALS: u32 = 2;
/// A refusal that may be temporary counts as permanent after this many attempts in a row. An end of
/// WAL counts only if the startup process has reached it this many times.
const THRICE: u32 = 3;

/// Why an upstream refuses a standby.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Refusal {
    /// The slot does not exist (SQLSTATE 42704).
    NoSlot(String),
    /// The slot is invalid (SQLSTATE 55000).
    SlotInvalidated(String),
    /// Another process owns the slot (SQLSTATE 55006).
    SlotInUse(String),
    /// The segment was removed before the request (SQLSTATE 58P01) or while the walsender read it
    /// (XX000).
    SegmentRemoved(SegmentNo),
    /// The requested position is ahead of the flush position (SQLSTATE XX000).
    AheadOfFlush(Lsn),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSlot(name) => write!(f, "replication slot \"{name}\" does not exist"),
            Self::SlotInvalidated(name) => write!(f, "replication slot \"{name}\" is invalid"),
            Self::SlotInUse(name) => write!(f, "replication slot \"{name}\" is active"),
            Self::SegmentRemoved(number) => write!(f, "WAL segment {number} has been removed"),
            Self::AheadOfFlush(lsn) => write!(f, "{lsn} is ahead of the flush position"),
        }
    }
}

impl Refusal {
    /// Recognizes a refusal from the SQLSTATE and the message of a walsender's error.
    fn of(event: &LogEvent, geometry: &Geometry) -> Option<Self> {
        match (&event.message, event.sqlstate) {
            (Message::Slot(SlotMessage::Missing(name)), SqlState::UNDEFINED_OBJECT) => {
                Some(Self::NoSlot(name.clone()))
            }
            (Message::Slot(SlotMessage::Invalidated { name, .. }), SqlState::NOT_IN_STATE) => {
                Some(Self::SlotInvalidated(name.clone()))
            }
            (Message::Slot(SlotMessage::Active { name, .. }), SqlState::OBJECT_IN_USE) => {
                Some(Self::SlotInUse(name.clone()))
            }
            (Message::SegmentRemoved(name), SqlState::UNDEFINED_FILE | SqlState::INTERNAL) => {
                parse_segment_name(geometry, name).map(|(_, segment)| Self::SegmentRemoved(segment))
            }
            (Message::AheadOfFlush { start, .. }, SqlState::INTERNAL) => {
                Some(Self::AheadOfFlush(start.lsn))
            }
            _ => None,
        }
    }
}

/// What is known about the attempts of one standby.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(in crate::world) struct Witness {
    /// The replay position of the standby during the attempts. When the standby replays more WAL,
    /// earlier attempts no longer count.
    replayed: Lsn,
    /// A refusal that the upstream has sent, with its message. The standby has not logged this
    /// message yet.
    told: Option<(Refusal, String)>,
    /// The last refusal, and how many attempts in a row have ended with it.
    refused: Option<(Refusal, u32)>,
    /// The ends of WAL that the startup process has reached, and how often it has reached each.
    ends: Vec<(String, u32)>,
}

impl Witness {
    /// Whether at least the last two attempts of the standby ended with this refusal.
    pub(super) fn is_refused(&self, which: impl FnOnce(&Refusal) -> bool) -> bool {
        let refused = self.refused.as_ref();
        refused.is_some_and(|(refusal, times)| *times >= REFUSALS && which(refusal))
    }

    /// Whether at least the last three attempts of the standby ended with this refusal.
    pub(super) fn is_refused_thrice(&self, which: impl FnOnce(&Refusal) -> bool) -> bool {
        let refused = self.refused.as_ref();
        refused.is_some_and(|(refusal, times)| *times >= THRICE && which(refusal))
    }

    /// The last refusal of the standby.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        self.refused.as_ref().map(|(refusal, _)| refusal)
    }

    /// Whether the startup process has reached the same end of WAL three times.
    pub(super) fn has_read_the_same_thrice(&self) -> bool {
        self.ends.iter().any(|(_, times)| *times >= THRICE)
    }

    /// A description for reports.
    pub(in crate::world) fn fact(&self) -> Option<String> {
        let (refusal, times) = self.refused.as_ref()?;
        Some(format!("{refusal}, {times} times"))
    }

    fn at(&mut self, replayed: Lsn) -> &mut Self {
        if self.replayed != replayed {
            *self = Self {
                replayed,
                ..Self::default()
            };
        }
        self
    }

    fn refuse(&mut self, refusal: Refusal) {
        let before = self.refused.take().filter(|(before, _)| *before == refusal);
        let times = before.map_or(0, |(_, times)| times);
        self.refused = Some((refusal, times + 1));
    }

    /// Called when the standby has logged how an attempt ended. Only a refusal changes the count.
    fn ended(&mut self, why: &str) {
        if let Some((refusal, _)) = self.told.take_if(|(_, words)| why.ends_with(&**words)) {
            self.refuse(refusal);
        }
    }

    fn read(&mut self, end: String) {
        match self.ends.iter_mut().find(|(known, _)| *known == end) {
            Some((_, times)) => *times += 1,
            None => self.ends.push((end, 1)),
        }
    }
}

impl World {
    /// Records a log message from the time after faults and workload have stopped.
    pub(in crate::world) fn hear(&mut self, host: usize, pid: Pid, role: Role, event: &LogEvent) {
        match (role, &event.message) {
            (Role::WalSender, _) => {
                let geometry = &self.hosts[host].plan.settings.geometry;
                if let Some(refusal) = Refusal::of(event, geometry)
                    && let Some(standby) = self.served_by(host, pid)
                {
                    let words = event.message.to_string();
                    self.witness(standby).told = Some((refusal, words));
                }
            }
            (Role::WalReceiver, Message::StreamBroken(why) | Message::Upstream { why, .. }) => {
                self.witness(host).ended(why);
            }
            (Role::WalReceiver, Message::UpstreamBehind { start, .. })
                if event.sqlstate == SqlState::NOT_IN_STATE =>
            {
                self.witness(host).refuse(Refusal::AheadOfFlush(*start));
            }
            (Role::Startup, Message::WalEnd(end)) => self.witness(host).read(end.to_string()),
            _ => {}
        }
    }

    fn witness(&mut self, host: usize) -> &mut Witness {
        let node = self.hosts[host].node.as_ref();
        let replayed = node.map_or(Lsn::INVALID, |node| {
            node.view().shmem().recovery.last_replayed_end
        });
        self.witnesses[host].at(replayed)
    }

    /// The host at the other end of a walsender's connection.
    fn served_by(&self, host: usize, pid: Pid) -> Option<usize> {
        let state = &self.hosts[host];
        let (conn, _) = state.conns.iter().find(|(_, owner)| **owner == pid)?;
        let (peer, _) = self.net.peer(state.index, *conn)?;
        Some(usize::from(peer)).filter(|peer| *peer < self.hosts.len())
    }
}
