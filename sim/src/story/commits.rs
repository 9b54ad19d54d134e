//! The commit critical sections of the transactions that the violation is about, and checkpoints
//! that did not wait for their end.

use super::absent::{Absence, seconds};
use super::subjects::Subjects;
use super::{Line, Relevance};
use crate::trace::{Act, TraceEvent};
use std::collections::BTreeMap;
use walsim_core::base::Pid;
use walsim_core::shmem::Role;

/// A node and a process.
type Key = (String, Pid);

/// Follows the flag `DELAY_CHKPT_START`. A checkpoint determines its redo point, waits until the
/// processes that have set the flag clear it, and then writes `pg_xact`.
#[derive(Default, Debug)]
pub(super) struct Commits {
    /// The events that set the flags which are set now.
    set: BTreeMap<Key, TraceEvent>,
    /// For each node, the processes that a checkpoint has to wait for: the events that set their
    /// flags.
    awaited: BTreeMap<String, Vec<(Key, u64)>>,
    /// Checkpoints that did not wait, by the number of the event that set the flag.
    early: BTreeMap<u64, Absence>,
    /// The flags of transactions that the violation is about.
    told: Vec<TraceEvent>,
    /// The processes of these transactions that have not cleared their flag.
    open: Vec<Key>,
}

impl Commits {
    pub(super) fn hear(&mut self, event: &TraceEvent, subjects: &Subjects) {
        let Some(process) = event.process else { return };
        let key = (event.node.clone(), process.pid);
        if let Act::Flag { flag, of, set } = &event.act
            && *flag == "DELAY_CHKPT_START"
            && *of == process.pid.to_string()
        {
            self.flag(key, *set, event);
            return;
        }
        if let Act::Transaction { xid, .. } = &event.act
            && subjects.xids.contains(xid)
            && let Some(flag) = self.set.get(&key)
        {
            self.told.push(flag.clone());
            self.open.push(key);
            return;
        }
        if process.role != Role::Checkpointer {
            return;
        }
        if let Act::Position { what: "redo", .. } = &event.act {
            let delaying = self.set.iter().filter(|((node, _), _)| *node == event.node);
            let delaying = delaying.map(|(key, flag)| (key.clone(), flag.number));
            self.awaited.insert(event.node.clone(), delaying.collect());
        }
        if let Act::Disk { act, .. } = &event.act
            && act.op == "write"
            && act.file.starts_with("pg_xact/")
        {
            self.writes_status(event);
        }
    }

    fn flag(&mut self, key: Key, set: bool, event: &TraceEvent) {
        if set {
            self.set.insert(key, event.clone());
            return;
        }
        self.set.remove(&key);
        if self.open.contains(&key) {
            self.open.retain(|open| *open != key);
            self.told.push(event.clone());
        }
    }

    /// The checkpointer writes `pg_xact`. All processes that it has to wait for must have cleared
    /// their flags.
    fn writes_status(&mut self, event: &TraceEvent) {
        let awaited = self.awaited.get(&event.node).into_iter().flatten();
        for (key, number) in awaited {
            let Some(flag) = self.set.get(key).filter(|flag| flag.number == *number) else {
                continue;
            };
            let (Some(committing), Some(process)) = (flag.process, event.process) else {
                continue;
            };
            let (since, at) = (seconds(flag.at), seconds(event.at));
            let absence = Absence {
                node: event.node.clone(),
                after_event: flag.number,
                text: format!(
                    "{process} did not wait until {committing} cleared DELAY_CHKPT_START, which was set at {since}, before it wrote pg_xact at {at}"
                ),
            };
            self.early.entry(*number).or_insert(absence);
        }
    }

    /// The lines about the flags, and the checkpoints that did not wait.
    pub(super) fn tell(mut self) -> (Vec<Line>, Vec<Absence>) {
        let early = self.told.iter();
        let early = early.filter_map(|flag| self.early.remove(&flag.number));
        let early = early.collect();
        let line = |event| Line {
            event,
            text: String::new(),
            relevance: Relevance::Subject,
            score: 74,
            repeats: None,
        };
        (self.told.into_iter().map(line).collect(), early)
    }
}
