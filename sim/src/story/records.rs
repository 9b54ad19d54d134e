//! The WAL records that the nodes have at the end of a run. The story uses them to name the records
//! at a position.

use crate::dump::DataDirectory;
use crate::world::World;
use std::collections::BTreeMap;
use walsim_core::base::{Lsn, PgVersion, Xid};

/// The records of all nodes at the end of a run.
#[derive(Default, Debug)]
pub(super) struct End {
    records: BTreeMap<Lsn, String>,
}

/// Reads the WAL of the nodes. If two nodes have different records at a position, the first node
/// counts.
pub(super) fn of(world: &World) -> End {
    let mut end = End::default();
    for (host, settings) in world.settings().enumerate() {
        let data = DataDirectory::of(world.disk(host), settings, false);
        for record in &data.records {
            let name = name(settings.pg_version, record);
            end.records.entry(record.lsn).or_insert(name);
        }
    }
    end
}

fn name(version: PgVersion, record: &crate::dump::Listed) -> String {
    let rmgr = record.rmgr;
    let kind = rmgr.record_type(version, record.info).unwrap_or_default();
    let rmgr = rmgr.to_string();
    let kind = if kind == rmgr {
        rmgr
    } else {
        format!("{rmgr} {kind}")
    };
    match record.xid {
        Xid::INVALID => kind,
        xid => format!("{kind} of transaction {xid}"),
    }
}

impl End {
    /// The names of the records that begin in a range, in parentheses.
    pub(super) fn records_in(&self, from: Lsn, to: Lsn) -> String {
        let names: Vec<&str> = self
            .records
            .range(from..to)
            .map(|(_, name)| name.trim_end())
            .collect();
        match &names[..] {
            [] => String::new(),
            [name] => format!(" ({name})"),
            [name, rest @ ..] => format!(" ({name} and {} more)", rest.len()),
        }
    }
}
