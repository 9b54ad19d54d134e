//! Finds out for what each process waits, and since when.

use super::subjects::Subjects;
use super::words::digits_hidden;
use crate::trace::{Act, ProcessName, TraceEvent};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use walsim_core::base::Mono;
use walsim_core::call::Place;
use walsim_core::shmem::LockId;

/// A process that waits at the end of the run.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Waiting {
    /// Its node.
    pub node: String,
    /// The process.
    #[serde(serialize_with = "shown")]
    pub process: ProcessName,
    /// The C function in which the process waits.
    #[serde(rename = "at", serialize_with = "shown")]
    pub place: Place,
    /// The conditions for which the process waits. The first that becomes true ends the wait.
    pub waits_for: Vec<String>,
    /// The time since which the process has done nothing but wait for these conditions.
    #[serde(rename = "since_us", serialize_with = "super::microseconds")]
    pub since: Mono,
    /// The process or node that must act first. This is empty if only time has to pass.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub until_acts: String,
}

fn shown<T: std::fmt::Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

#[derive(Debug)]
struct Wait {
    place: Place,
    waits_for: Vec<String>,
    since: Mono,
    /// The process has run since it began to wait, and has done something.
    acted: bool,
}

type Key = (String, ProcessName);

/// Follows the waits of all processes.
#[derive(Default, Debug)]
pub(super) struct Waits {
    waits: BTreeMap<(String, u32, u32), (Key, Wait)>,
    locks: BTreeMap<(String, LockId), ProcessName>,
}

impl Waits {
    pub(super) fn hear(&mut self, event: &TraceEvent) {
        let Some(process) = event.process else {
            let stops = matches!(&event.act, Act::World { text } if stops_server(text));
            if stops {
                self.waits.retain(|(node, ..), _| *node != event.node);
                self.locks.retain(|(node, _), _| *node != event.node);
            }
            return;
        };
        let pid = process.pid;
        let key = (event.node.clone(), pid.incarnation, pid.n);
        if let Act::Wait { place, waits_for } = &event.act {
            self.begins((event.node.clone(), process), *place, waits_for, event.at);
            return;
        }
        if let Act::Exit { .. } = &event.act {
            self.waits.remove(&key);
            self.locks
                .retain(|(node, _), owner| *node != event.node || owner.pid != pid);
            return;
        }
        if let Act::Lock { lock, taken } = &event.act {
            let at = (event.node.clone(), *lock);
            match taken {
                true => drop(self.locks.insert(at, process)),
                false => drop(self.locks.remove(&at)),
            }
            return;
        }
        if event.act.row().acts
            && let Some((_, wait)) = self.waits.get_mut(&key)
        {
            wait.acted = true;
        }
    }

    /// A process begins to wait. If it does nothing but wait for the same conditions again, it has
    /// waited since the first time.
    fn begins(&mut self, of: Key, place: Place, waits_for: &[String], at: Mono) {
        let shape = |list: &[String]| list.iter().map(|it| digits_hidden(it)).collect();
        let now: Vec<String> = shape(waits_for);
        let pid = of.1.pid;
        let key = (of.0.clone(), pid.incarnation, pid.n);
        let since = match self.waits.get(&key) {
            Some((_, was)) if was.place == place && !was.acted && now == shape(&was.waits_for) => {
                was.since
            }
            Some(_) | None => at,
        };
        let wait = Wait {
            place,
            waits_for: waits_for.to_vec(),
            since,
            acted: false,
        };
        self.waits.insert(key, (of, wait));
    }

    /// The waits on the nodes that the verdict is about.
    pub(super) fn of(&self, subjects: &Subjects) -> Vec<Waiting> {
        let all = self.waits.values();
        let ours = all.filter(|((node, _), _)| subjects.nodes.contains(node));
        let waiting = ours.map(|((node, process), wait)| Waiting {
            node: node.clone(),
            process: *process,
            place: wait.place,
            waits_for: wait.waits_for.clone(),
            since: wait.since,
            until_acts: self.actor(node, wait),
        });
        waiting.collect()
    }

    fn actor(&self, node: &str, wait: &Wait) -> String {
        let holder = self.locks.iter().find(|((of, lock), _)| {
            of == node
                && wait
                    .waits_for
                    .iter()
                    .any(|it| *it == format!("lock {lock}"))
        });
        match holder {
            Some((_, process)) => format!("{process}, which holds the lock"),
            None => String::from(acts(wait.place)),
        }
    }
}

fn stops_server(text: &str) -> bool {
    text.starts_with("power loss") || text == "all processes killed" || text == "server stopped"
}

/// The processes that can end a wait in these C functions.
const ACTORS: [(Place, &str); 14] = [
    (
        Place::WaitForWALToBecomeAvailable,
        "a walreceiver that flushes more WAL; the postmaster starts it",
    ),
    (Place::WalReceiverMain, UPSTREAM),
    (Place::LibpqrcvPQgetResult, UPSTREAM),
    (Place::LibpqrcvConnect, UPSTREAM),
    (
        Place::WalRcvWaitForStartPosition,
        "the startup process, which requests streaming",
    ),
    (Place::WalSndWait, FLUSHES),
    (Place::WalSndLoop, FLUSHES),
    (
        Place::WalSndWaitStopping,
        "the walsenders, which have to exit",
    ),
    (
        Place::ServerLoop,
        "a client that connects, or a process that signals the postmaster",
    ),
    (
        Place::CheckpointerMain,
        "a process that requests a checkpoint, or time",
    ),
    (Place::PostgresMain, "the client of the session"),
    (Place::RequestCheckpoint, "the checkpointer"),
    (
        Place::ReplicationSlotAcquire,
        "the process that owns the slot",
    ),
    (
        Place::PostmasterStateMachine,
        "the child processes, which have to exit",
    ),
];

const UPSTREAM: &str = "the walsender of the upstream";
const FLUSHES: &str = "a process that flushes WAL, or the standby";

fn acts(at: Place) -> &'static str {
    let actor = ACTORS.iter().find(|(place, _)| *place == at);
    actor.map_or("", |(_, actor)| actor)
}
