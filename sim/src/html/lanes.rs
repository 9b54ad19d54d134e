//! The columns of the space-time diagram: nodes, and in them the processes that take part.

use super::record::{Life, Record};
use super::rows::Row;
use crate::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};
use walsim_core::base::Pid;
use walsim_core::shmem::Role;

/// The distance between two processes.
const PITCH: i64 = 30;
/// The extra distance between two nodes.
const GAP: i64 = 22;

/// A node with its columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Group {
    pub(super) node: String,
    /// The x coordinates of the middle of the first column and of the middle of the last column.
    pub(super) x: (i64, i64),
    pub(super) columns: Vec<Column>,
}

/// A column: the server as a whole, or processes with one role, one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Column {
    pub(super) x: i64,
    pub(super) name: &'static str,
    pub(super) lives: Vec<(Pid, Life)>,
}

/// All columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lanes {
    pub(super) groups: Vec<Group>,
    /// The coordinate of each process, and of each node as a whole.
    places: BTreeMap<(String, Option<Pid>), i64>,
    /// The right end.
    pub(super) end: i64,
}

impl Lanes {
    pub(super) fn new(plan: &Plan, record: &Record, rows: &[Row<'_>], start: i64) -> Self {
        let mut names: Vec<&str> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
        for row in rows {
            let node = row.event.node.as_str();
            if !node.is_empty() && !names.contains(&node) {
                names.push(node);
            }
        }
        let mut lanes = Self {
            groups: Vec::new(),
            places: BTreeMap::new(),
            end: start,
        };
        let mut x = start;
        for node in names {
            let mut columns = vec![Column {
                x: 0,
                name: "server",
                lives: Vec::new(),
            }];
            let own = |row: &&Row<'_>| row.event.node == node;
            let pids: BTreeSet<Pid> = (rows.iter().filter(own))
                .filter_map(|row| row.event.process.map(|process| process.pid))
                .collect();
            let lives = pids.into_iter().filter_map(|pid| {
                let life = record.lives.get(&(node.to_owned(), pid))?;
                Some((pid, *life))
            });
            let mut lives: Vec<(Pid, Life)> = lives.collect();
            lives.sort_by_key(|(_, life)| (order(life.role), life.from));
            for (pid, life) in lives {
                columns = with(columns, pid, life);
            }
            for column in &mut columns {
                column.x = x;
                for (pid, _) in &column.lives {
                    lanes.places.insert((node.to_owned(), Some(*pid)), x);
                }
                x += PITCH;
            }
            let (first, last) = (columns[0].x, x - PITCH);
            lanes.places.insert((node.to_owned(), None), first);
            lanes.groups.push(Group {
                node: node.to_owned(),
                x: (first, last),
                columns,
            });
            x += GAP;
        }
        lanes.end = x - GAP - PITCH / 2;
        lanes
    }

    /// The column of an event. Returns `None` for an event of the world.
    pub(super) fn place(&self, node: &str, pid: Option<Pid>) -> Option<i64> {
        let key = (node.to_owned(), pid);
        let whole = || self.places.get(&(node.to_owned(), None));
        self.places.get(&key).or_else(whole).copied()
    }
}

/// Puts a process into the first column of its role that is free, or into a new one.
fn with(mut columns: Vec<Column>, pid: Pid, life: Life) -> Vec<Column> {
    let name = life.role.name();
    let is_free = |column: &&mut Column| {
        let last = column.lives.last().and_then(|(_, life)| life.to);
        column.name == name && last.is_some_and(|to| to <= life.from)
    };
    match columns.iter_mut().find(is_free) {
        Some(column) => column.lives.push((pid, life)),
        None => columns.push(Column {
            x: 0,
            name,
            lives: vec![(pid, life)],
        }),
    }
    columns
}

/// The processes stand in the order in which WAL passes through them.
const fn order(role: Role) -> u8 {
    match role {
        Role::Postmaster => 0,
        Role::WalReceiver => 1,
        Role::Startup => 2,
        Role::Checkpointer => 3,
        Role::Backend => 4,
        Role::WalWriter => 5,
        Role::WalSender => 6,
    }
}
