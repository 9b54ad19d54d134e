//! A trace for Perfetto (ui.perfetto.dev), as binary protobuf.
//!
//! A node is a process of the trace and a PostgreSQL process is a thread of it. Disk operations are
//! slices, changes of positions are counters, and all other events are instants. A flow connects
//! the two ends of a message.

mod proto;

use super::Flows;
use crate::trace::{Act, DiskAct, Filter, ProcessName, TraceEvent};
use prost::Message;
use proto::{
    CounterDescriptor, DebugAnnotation, ProcessDescriptor, ThreadDescriptor, Trace, TracePacket,
    TrackDescriptor, TrackEvent, Type,
};
use std::collections::BTreeMap;
use walsim_core::base::Pid;

/// All packets are in one sequence.
const SEQUENCE: u32 = 1;

/// Formats the events that match the filter as a Perfetto trace.
///
/// `events` must contain all messages and all completions of disk operations (see
/// [`is_other_end`](super::is_other_end)).
#[must_use]
pub fn perfetto(events: &[TraceEvent], filter: &Filter) -> Vec<u8> {
    let flows = Flows::of(events);
    let ends = ends(events);
    let mut writer = Writer::default();
    for event in events.iter().filter(|event| shows(filter, event)) {
        if let Act::Disk {
            act,
            takes_us: Some(us),
            ..
        } = &event.act
        {
            writer.slice(event, act, *us, ends.get(&event.number).copied());
        } else if let Act::Position { what, of, to, .. } = &event.act {
            writer.counter(event, what, of, to.0);
        } else {
            writer.instant(event, &flows);
        }
    }
    writer.finish()
}

/// The completion of a disk operation is the end of its slice and not an event of its own.
fn shows(filter: &Filter, event: &TraceEvent) -> bool {
    !matches!(event.act, Act::DiskDone { .. }) && filter.admits(event)
}

/// The completion of each disk operation. A process has one operation at a time.
fn ends(events: &[TraceEvent]) -> BTreeMap<u64, &TraceEvent> {
    let mut issued: BTreeMap<(&str, Option<Pid>), &TraceEvent> = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for event in events {
        let key = (event.node.as_str(), event.process.map(|it| it.pid));
        if let Act::Disk {
            takes_us: Some(_), ..
        } = &event.act
        {
            issued.insert(key, event);
        } else if let Act::DiskDone { .. } = &event.act
            && let Some(of) = issued.remove(&key)
        {
            ends.insert(of.number, event);
        }
    }
    ends
}

#[derive(Default)]
struct Writer {
    descriptors: Vec<TracePacket>,
    /// The events in the order of time. Events at the same time have the order of their numbers.
    events: BTreeMap<(u64, u64, bool), TrackEvent>,
    nodes: BTreeMap<String, u64>,
    threads: BTreeMap<(u64, Pid), u64>,
    counters: BTreeMap<(u64, &'static str, String), u64>,
    tracks: u64,
}

impl Writer {
    fn slice(&mut self, event: &TraceEvent, act: &DiskAct, us: u64, end: Option<&TraceEvent>) {
        let track_uuid = Some(self.track(event));
        let mut begin = described(event, Type::SliceBegin);
        begin.track_uuid = track_uuid;
        begin.name = Some(format!("{} {}", act.op, act.file));
        let result = match end.map(|end| &end.act) {
            Some(Act::DiskDone { result, .. }) => result.clone(),
            Some(_) | None => String::from("not completed before the process ended"),
        };
        begin.debug_annotations.push(annotated("result", result));
        let number = end.map_or(u64::MAX, |end| end.number);
        let finish = TrackEvent {
            r#type: Some(Type::SliceEnd.into()),
            track_uuid,
            ..TrackEvent::default()
        };
        self.events.insert((event.at.0, event.number, false), begin);
        let at = end.map_or(event.at.0.saturating_add(us), |end| end.at.0);
        let key = (at, number.min(u64::MAX - event.number), true);
        self.events.insert(key, finish);
    }

    fn counter(&mut self, event: &TraceEvent, what: &'static str, of: &str, value: u64) {
        let node = self.node(&event.node);
        let key = (node, what, of.to_owned());
        let uuid = match self.counters.get(&key) {
            Some(uuid) => *uuid,
            None => {
                let name = match of {
                    "" => what.to_owned(),
                    of => format!("{what} of {of}"),
                };
                let counter = CounterDescriptor {
                    unit_name: Some(String::from("LSN")),
                };
                let uuid = self.describe(TrackDescriptor {
                    name: Some(name),
                    parent_uuid: Some(node),
                    counter: Some(counter),
                    ..TrackDescriptor::default()
                });
                self.counters.insert(key, uuid);
                uuid
            }
        };
        let mut change = described(event, Type::Counter);
        change.track_uuid = Some(uuid);
        change.counter_value = Some(value.cast_signed());
        self.events
            .insert((event.at.0, event.number, false), change);
    }

    fn instant(&mut self, event: &TraceEvent, flows: &Flows) {
        let mut instant = described(event, Type::Instant);
        instant.track_uuid = Some(self.track(event));
        instant.name = Some(name(&event.act));
        // The id of a flow is the number of the event that sent the message.
        if flows.receipt(event.number).is_some() {
            instant.flow_ids.push(event.number);
        }
        instant
            .terminating_flow_ids
            .extend(flows.send(event.number));
        self.events
            .insert((event.at.0, event.number, false), instant);
    }

    /// The track of the event's process. If the event has no process, this is the track of its
    /// node.
    fn track(&mut self, event: &TraceEvent) -> u64 {
        let node = self.node(&event.node);
        match event.process {
            Some(process) => self.thread(node, process),
            None => node,
        }
    }

    fn node(&mut self, name: &str) -> u64 {
        if let Some(uuid) = self.nodes.get(name) {
            return *uuid;
        }
        let shown = if name.is_empty() { "world" } else { name };
        let process = ProcessDescriptor {
            pid: Some(self.next_id()),
            process_name: Some(shown.to_owned()),
        };
        let uuid = self.describe(TrackDescriptor {
            process: Some(process),
            ..TrackDescriptor::default()
        });
        self.nodes.insert(name.to_owned(), uuid);
        uuid
    }

    fn thread(&mut self, node: u64, process: ProcessName) -> u64 {
        if let Some(uuid) = self.threads.get(&(node, process.pid)) {
            return *uuid;
        }
        let thread = ThreadDescriptor {
            pid: i32::try_from(node).ok(),
            tid: Some(self.next_id().into()),
            thread_name: Some(process.to_string()),
        };
        let uuid = self.describe(TrackDescriptor {
            parent_uuid: Some(node),
            thread: Some(thread),
            ..TrackDescriptor::default()
        });
        self.threads.insert((node, process.pid), uuid);
        uuid
    }

    /// The id of the next track, which is also the process id or thread id in Perfetto.
    fn next_id(&self) -> i32 {
        i32::try_from(self.tracks + 1).unwrap_or(i32::MAX)
    }

    fn describe(&mut self, mut descriptor: TrackDescriptor) -> u64 {
        self.tracks += 1;
        descriptor.uuid = Some(self.tracks);
        self.descriptors.push(TracePacket {
            trusted_packet_sequence_id: Some(SEQUENCE),
            track_descriptor: Some(descriptor),
            ..TracePacket::default()
        });
        self.tracks
    }

    fn finish(self) -> Vec<u8> {
        let events = self
            .events
            .into_iter()
            .map(|((at_us, ..), event)| TracePacket {
                timestamp: Some(at_us.saturating_mul(1000)),
                trusted_packet_sequence_id: Some(SEQUENCE),
                track_event: Some(event),
                ..TracePacket::default()
            });
        let packet = self.descriptors.into_iter().chain(events).collect();
        Trace { packet }.encode_to_vec()
    }
}

/// An event with its category and annotations.
fn described(event: &TraceEvent, kind: Type) -> TrackEvent {
    let number = |name: &str, value| DebugAnnotation {
        name: Some(name.to_owned()),
        uint_value: Some(value),
        ..DebugAnnotation::default()
    };
    TrackEvent {
        r#type: Some(kind.into()),
        categories: vec![event.act.kind().to_owned()],
        debug_annotations: vec![
            number("event", event.number),
            number("step", event.step),
            annotated("text", event.act.to_string()),
        ],
        ..TrackEvent::default()
    }
}

fn annotated(name: &str, value: String) -> DebugAnnotation {
    DebugAnnotation {
        name: Some(name.to_owned()),
        string_value: Some(value),
        ..DebugAnnotation::default()
    }
}

/// The name of an instant. A message has its name alone, so that Perfetto can group messages.
fn name(act: &Act) -> String {
    if let Act::Send { message, .. } = act {
        return format!("send {}", message.name());
    }
    if let Act::Receive { message, .. } = act {
        return format!("receive {}", message.name());
    }
    act.to_string()
}
