//! Finds the receipt of each message.

use crate::trace::{Act, TraceEvent};
use std::collections::{BTreeMap, VecDeque};
use walsim_core::base::Pid;

/// The two ends of each message that was received, as numbers of events.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Flows {
    receipts: BTreeMap<u64, u64>,
    sends: BTreeMap<u64, u64>,
}

/// One direction between two machines: the node or session that sends, and the one that receives.
type Direction<'a> = (&'a str, &'a str);

#[derive(Default)]
struct Search<'a> {
    flows: Flows,
    /// Messages that were not yet received.
    sent: BTreeMap<Direction<'a>, VecDeque<&'a TraceEvent>>,
    /// For each receiving process, the process whose messages it receives.
    senders: BTreeMap<(Direction<'a>, Pid), Option<Pid>>,
}

impl Flows {
    /// Finds the ends of the messages in a complete trace.
    #[must_use]
    pub fn of(events: &[TraceEvent]) -> Self {
        let mut search = Search::default();
        for event in events {
            if let Act::Send { peer, .. } = &event.act {
                let direction = (event.node.as_str(), peer.as_str());
                search.sent.entry(direction).or_default().push_back(event);
            } else if let Act::Receive { peer, .. } = &event.act {
                search.receive((peer, &event.node), event);
            }
        }
        search.flows
    }

    /// The receipt of the message that the event `send` sent.
    #[must_use]
    pub fn receipt(&self, send: u64) -> Option<u64> {
        self.receipts.get(&send).copied()
    }

    /// The event that sent the message whose receipt is this event.
    #[must_use]
    pub fn send(&self, receipt: u64) -> Option<u64> {
        self.sends.get(&receipt).copied()
    }

    /// The number of messages that were received.
    #[must_use]
    pub fn len(&self) -> usize {
        self.receipts.len()
    }

    /// Whether no message was received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receipts.is_empty()
    }
}

impl<'a> Search<'a> {
    /// Finds the event that sent this message. Events do not name their connection. Between two
    /// processes there is only one connection, and it keeps the order of messages. Messages that
    /// the process sent before this one, and that were not received, were therefore lost.
    fn receive(&mut self, direction: Direction<'a>, receipt: &TraceEvent) {
        let Some(sent) = self.sent.get_mut(&direction) else {
            return;
        };
        let receiver = pid(receipt).map(|pid| (direction, pid));
        let known = receiver.and_then(|key| self.senders.get(&key).copied());
        let by_known = |event: &&TraceEvent| known == Some(pid(event)) && same(event, receipt);
        // If a process has received nothing yet, its connection is new, and so is its sender.
        let newest = || sent.iter().rev().find(|event| same(event, receipt));
        let Some(found) = sent.iter().find(|it| by_known(it)).or_else(newest) else {
            return;
        };
        let sender = pid(found);
        let place = sent
            .iter()
            .position(|event| pid(event) == sender && same(event, receipt));
        let Some(send) = place.and_then(|place| sent.remove(place)) else {
            return;
        };
        sent.retain(|event| pid(event) != sender || event.number > send.number);
        if let Some(key) = receiver {
            self.senders.insert(key, sender);
        }
        self.flows.receipts.insert(send.number, receipt.number);
        self.flows.sends.insert(receipt.number, send.number);
    }
}

fn pid(event: &TraceEvent) -> Option<Pid> {
    event.process.map(|process| process.pid)
}

/// Whether one event sends the message that the other receives.
fn same(send: &TraceEvent, receipt: &TraceEvent) -> bool {
    let (
        Act::Send { bytes, message, .. },
        Act::Receive {
            bytes: received_bytes,
            message: received,
            ..
        },
    ) = (&send.act, &receipt.act)
    else {
        return false;
    };
    bytes == received_bytes && message == received
}
