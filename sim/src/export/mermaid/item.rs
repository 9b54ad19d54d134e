//! The events of a run as items of a sequence diagram.

use crate::export::Flows;
use crate::trace::{Act, Filter, MessageFields, TraceEvent};
use std::collections::{BTreeMap, BTreeSet};
use walsim_core::base::{Lsn, Mono};

/// A node or session, and the kind of the process. The kind is empty for a session, and for a node
/// if the event has no process.
pub(super) type Participant = (String, &'static str);

/// How important an item is, from most to least. The diagram shows as many items as fit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    /// The violation, and the events that led to it.
    Story,
    /// Faults, actions of operators, starts and stops of servers, failed disk operations.
    World,
    /// Errors in the server log.
    Error,
    /// The first occurrence of a message or fsync in the run.
    First,
    /// Further occurrences.
    Again,
    /// Other lines of the server log.
    Log,
    /// Messages that set up or maintain a connection.
    Connection,
}

/// Where an item is drawn.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Place {
    /// A message. It may have been lost.
    Arrow(Participant, Participant, bool),
    /// An fsync, or a disk operation that fails.
    Own(Participant),
    /// A note over one participant.
    Note(Participant),
    /// A note over the participants of a node.
    Node(String),
    /// A note over all participants.
    All,
}

/// An item of the diagram.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) number: u64,
    pub(super) at: Mono,
    pub(super) rank: Rank,
    pub(super) place: Place,
    /// What equal items have in common.
    shape: String,
    pub(super) text: String,
    /// The end of the WAL that the item is about.
    upto: Option<Lsn>,
    /// Later items that are equal to this one and are not shown: their number, and the time of the
    /// last one.
    pub(super) more: Option<(u64, Mono)>,
}

impl Item {
    /// The text after the colon.
    pub(super) fn label(&self) -> String {
        let mut label = format!("{} {}", seconds(self.at), self.text);
        if let Some((more, until)) = self.more {
            label += &format!(" ({more} more until {}", seconds(until));
            if let Some(upto) = self.upto {
                label += &format!(", up to {upto}");
            }
            label.push(')');
        }
        label
    }
}

fn seconds(at: Mono) -> String {
    format!("{}.{:03}s", at.0 / 1_000_000, at.0 / 1_000 % 1_000)
}

/// The items of a run, with repeats collapsed.
pub(super) fn items(events: &[TraceEvent], filter: &Filter, story: &BTreeSet<u64>) -> Vec<Item> {
    let items = Finder::new(events, filter, story).items();
    collapsed(items)
}

/// Collapses equal items into one. Equal items are not collapsed if an item of rank [`Rank::World`]
/// or [`Rank::Story`] is between them.
fn collapsed(items: Vec<Item>) -> Vec<Item> {
    let mut kept: Vec<Item> = Vec::new();
    let mut recent: BTreeMap<(Place, String), usize> = BTreeMap::new();
    let mut seen: BTreeSet<(Place, String)> = BTreeSet::new();
    for mut item in items {
        let key = (item.place.clone(), item.shape.clone());
        if item.rank <= Rank::World {
            recent.clear();
        } else if let Some(same) = recent.get(&key).and_then(|at| kept.get_mut(*at)) {
            let more = same.more.map_or(0, |(more, _)| more);
            same.more = Some((more + 1, item.at));
            same.upto = same.upto.max(item.upto);
            continue;
        } else {
            recent.insert(key.clone(), kept.len());
        }
        if item.rank == Rank::First && !seen.insert(key) {
            item.rank = Rank::Again;
        }
        kept.push(item);
    }
    kept
}

struct Finder<'a> {
    events: &'a [TraceEvent],
    by_number: BTreeMap<u64, &'a TraceEvent>,
    filter: &'a Filter,
    story: &'a BTreeSet<u64>,
    flows: Flows,
    /// The nodes whose receipts of messages are in the trace. The trace does not contain receipts
    /// by client sessions.
    receiving: BTreeSet<&'a str>,
    /// The process that received the last message of a sender.
    receivers: BTreeMap<(Participant, String), Participant>,
}

impl<'a> Finder<'a> {
    fn new(events: &'a [TraceEvent], filter: &'a Filter, story: &'a BTreeSet<u64>) -> Self {
        Self {
            events,
            by_number: events.iter().map(|event| (event.number, event)).collect(),
            filter,
            story,
            flows: Flows::of(events),
            receiving: (events.iter())
                .filter(|event| matches!(event.act, Act::Receive { .. }))
                .map(|event| event.node.as_str())
                .collect(),
            receivers: BTreeMap::new(),
        }
    }

    fn items(mut self) -> Vec<Item> {
        let events = self.events.iter();
        let mut items: Vec<Item> = events.filter_map(|event| self.item(event)).collect();
        items.sort_by_key(|item| item.number);
        items
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "events of other kinds do not show in a sequence diagram"
    )]
    fn item(&mut self, event: &TraceEvent) -> Option<Item> {
        let item = match &event.act {
            Act::Send { peer, message, .. } => return self.message(event, peer, message),
            Act::World { text } => {
                let (rank, place) = match event.node.is_empty() {
                    _ if event.act.is_verdict() => (Rank::Story, Place::All),
                    true => (Rank::World, Place::All),
                    false => (Rank::World, Place::Node(event.node.clone())),
                };
                new(event, rank, place, text.clone())
            }
            Act::Log { severity, text } => {
                let rank = if severity == "LOG" {
                    Rank::Log
                } else {
                    Rank::Error
                };
                let place = Place::Note(participant(event));
                new(event, rank, place, format!("{severity}: {text}"))
            }
            Act::Disk { act, fails, .. } => {
                // A failed unlink is not shown, because servers also remove temporary files that do
                // not exist.
                let rank = match fails {
                    Some(_) if act.op != "unlink" => Rank::World,
                    None if act.op.starts_with("fsync") => Rank::First,
                    Some(_) | None => return None,
                };
                new(
                    event,
                    rank,
                    Place::Own(participant(event)),
                    event.act.brief(),
                )
            }
            Act::Receive { peer, message, .. } if self.flows.send(event.number).is_none() => {
                let place = Place::Arrow((peer.clone(), ""), participant(event), false);
                of_message(event, message, place)
            }
            _ => return None,
        };
        self.filter.admits(event).then(|| self.ranked(item))
    }

    /// A message is drawn at the time at which it is sent. The arrow points to the process that
    /// receives it.
    fn message(&mut self, event: &TraceEvent, peer: &str, message: &MessageFields) -> Option<Item> {
        let receipt = self.flows.receipt(event.number);
        let receipt = receipt.and_then(|number| self.by_number.get(&number).copied());
        let from = participant(event);
        let key = (from.clone(), peer.to_owned());
        if let Some(receipt) = receipt {
            self.receivers.insert(key.clone(), participant(receipt));
        }
        let ends = [Some(event), receipt];
        if !ends
            .into_iter()
            .flatten()
            .any(|end| self.filter.admits(end))
        {
            return None;
        }
        let to = self.receivers.get(&key).cloned();
        let to = to.unwrap_or_else(|| (peer.to_owned(), ""));
        let lost = receipt.is_none() && self.receiving.contains(peer);
        let mut item = of_message(event, message, Place::Arrow(from, to, lost));
        if lost {
            item.text += ", not received";
        }
        if receipt.is_some_and(|receipt| self.story.contains(&receipt.number)) {
            item.rank = Rank::Story;
        }
        Some(self.ranked(item))
    }

    fn ranked(&self, mut item: Item) -> Item {
        if self.story.contains(&item.number) {
            item.rank = Rank::Story;
        }
        item
    }
}

fn new(event: &TraceEvent, rank: Rank, place: Place, text: String) -> Item {
    Item {
        number: event.number,
        at: event.at,
        rank,
        place,
        shape: text.clone(),
        text,
        upto: None,
        more: None,
    }
}

fn of_message(event: &TraceEvent, message: &MessageFields, place: Place) -> Item {
    Item {
        shape: message.name().to_owned(),
        upto: message.lsn().map(|lsn| lsn.end),
        ..new(event, rank(message), place, message.to_string())
    }
}

fn participant(event: &TraceEvent) -> Participant {
    let role = event.process.map_or("", |process| process.role.name());
    (event.node.clone(), role)
}

fn rank(message: &MessageFields) -> Rank {
    const DATA: [&str; 4] = ["Query", "CommandComplete", "ErrorResponse", "CopyDone"];
    match message {
        MessageFields::XLogData { .. } | MessageFields::StandbyStatusUpdate { .. } => Rank::First,
        MessageFields::Other { name, .. } if DATA.contains(name) => Rank::First,
        MessageFields::Keepalive { .. }
        | MessageFields::HotStandbyFeedback { .. }
        | MessageFields::Other { .. } => Rank::Connection,
    }
}
