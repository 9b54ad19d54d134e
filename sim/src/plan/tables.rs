//! The tables of a plan file. Converts rows to workload, faults and actions, and replaces names of
//! nodes by their numbers.

use super::errors::{PlanError, known_names};
use super::fields::{Read, number, of_unit, or, small_size, switch, unit};
use super::read::setting_at;
use super::rows::{self, Field, FileRow};
use super::settings::longest_row;
use super::units::signed_us;
use super::{
    Action, ActionRow, EventKind, Fault, FaultRow, NodePlan, PROCESSES, ShutdownMode, When,
    WorkloadRow,
};
use std::collections::BTreeMap;
use std::ops::Range;
use walsim_core::base::Geometry;
use walsim_core::base::{did_you_mean, duration_us, size};
use walsim_core::call::Place;
use walsim_core::shmem::Role;
use walsim_core::wire::sql::Statement;

/// The names of the nodes, in the order of the plan.
pub(super) struct Names(pub(super) Vec<String>);

impl Names {
    pub(super) fn of(file: &FileRow, text: &str) -> Read<Self> {
        let mut names: Vec<String> = Vec::new();
        for row in &file.node {
            let Field { text, span } = &row.get_ref().name;
            if names.contains(text) {
                let message = format!("there are two nodes `{text}`");
                return Err(PlanError::new(span.clone(), "used before", message));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let taken = text == "operator" || text.starts_with("session");
            if text.is_empty() || !text.chars().all(plain) || taken {
                let message = format!("`{text}` cannot name a node");
                return Err(PlanError::new(span.clone(), "no name", message)
                    .help("letters, digits, `_` and `-`; not `operator`, not `session…`"));
            }
            names.push(text.clone());
        }
        if names.is_empty() {
            let end = text.len();
            return Err(
                PlanError::new(end..end, "nothing to run", "there is no node")
                    .help("add `[[node]]` with a `name`; the first node is the primary"),
            );
        }
        Ok(Self(names))
    }

    pub(super) fn node(&self, field: &Field) -> Read<usize> {
        self.0
            .iter()
            .position(|name| *name == field.text)
            .ok_or_else(|| {
                let known: Vec<&str> = self.0.iter().map(String::as_str).collect();
                PlanError::unknown(field.span.clone(), "node", &field.text, &known)
            })
    }

    fn pair(&self, from: &Field, to: &Field) -> Read<(usize, usize)> {
        let (a, b) = (self.node(from)?, self.node(to)?);
        if a == b {
            let message = "a link needs two different nodes";
            return Err(PlanError::new(to.span.clone(), "the same node", message));
        }
        Ok((a, b))
    }
}

/// Converts the rows of a plan file.
pub(super) struct Tables {
    pub(super) names: Names,
    pub(super) geometry: Geometry,
    pub(super) nodes: Vec<NodePlan>,
}

impl Tables {
    pub(super) fn workload(&self, row: &rows::WorkloadRow) -> Read<WorkloadRow> {
        let when = match (&row.at, &row.when) {
            (None, None) => When::At(0),
            (at, when) => self.when(at.as_ref(), when.as_ref(), 0..0)?,
        };
        let bytes = or(row.bytes.as_ref(), 64, small_size)?;
        let most = longest_row(&self.geometry);
        if let Some(field) = &row.bytes
            && bytes > most
        {
            let message = format!("a row of {bytes} bytes does not fit on a page");
            return Err(
                PlanError::new(field.span.clone(), "too large", message).help(format!(
                    "up to {most} bytes fit; `message` has no such limit"
                )),
            );
        }
        Ok(WorkloadRow {
            when,
            session: or(row.session.as_ref(), 0, number::<u16>)?.into(),
            node: or(row.node.as_ref(), 0, |w| self.names.node(w))?,
            transactions: number(&row.transactions)?,
            rows: or(row.rows.as_ref(), 1, number)?,
            bytes,
            message: or(row.message.as_ref(), 0, small_size)?,
            rollback_every: or(row.rollback_every.as_ref(), 0, number)?,
            asynchronous: or(row.asynchronous.as_ref(), false, switch)?,
            pause_us: or(row.pause.as_ref(), 0, |w| unit(w, duration_us))?,
            read_every: or(row.read_every.as_ref(), 0, number)?,
        })
    }

    pub(super) fn fault(&self, row: &rows::FaultRow, span: Range<usize>) -> Read<FaultRow> {
        let when = self.when(row.at.as_ref(), row.when.as_ref(), span.clone())?;
        let kinds = [
            row.power_loss.as_ref().map(|r| {
                self.off(r)
                    .map(|(node, off_us)| Fault::PowerLoss { node, off_us })
            }),
            row.node_crash.as_ref().map(|r| {
                self.off(r)
                    .map(|(node, off_us)| Fault::NodeCrash { node, off_us })
            }),
            self.shutdown(row.smart_shutdown.as_ref(), ShutdownMode::Smart),
            self.shutdown(row.fast_shutdown.as_ref(), ShutdownMode::Fast),
            self.shutdown(row.immediate_shutdown.as_ref(), ShutdownMode::Immediate),
            row.kill.as_ref().map(|r| self.kill(r)),
            row.pause.as_ref().map(|r| self.pause(r)),
            row.stall.as_ref().map(|r| self.stall(r)),
            row.partition.as_ref().map(|r| self.partition(r)),
            row.reset.as_ref().map(|r| {
                let (a, b) = self.names.pair(&r.from, &r.to)?;
                Ok(Fault::Reset { a, b })
            }),
            row.delay.as_ref().map(|r| self.delay(r)),
            row.fsync_error.as_ref().map(|r| self.fsync_error(r)),
            row.disk_full.as_ref().map(|r| {
                self.lasting(r)
                    .map(|(node, for_us)| Fault::DiskFull { node, for_us })
            }),
            row.stop_reading.as_ref().map(|r| {
                self.lasting(r)
                    .map(|(node, for_us)| Fault::StopReading { node, for_us })
            }),
            row.clock_jump.as_ref().map(|r| {
                let node = self.names.node(&r.node)?;
                Ok(Fault::ClockJump {
                    node,
                    by_us: unit(&r.by, signed_us)?,
                })
            }),
        ];
        let help = "power_loss, node_crash, smart_shutdown, fast_shutdown, immediate_shutdown, kill, pause, stall, \
                    partition, reset, delay, fsync_error, disk_full, stop_reading or clock_jump";
        Ok(FaultRow {
            when,
            fault: one_kind(kinds, span, "fault", help)?,
        })
    }

    pub(super) fn action(&self, row: &rows::ActionRow, span: Range<usize>) -> Read<ActionRow> {
        let when = self.when(row.at.as_ref(), row.when.as_ref(), span.clone())?;
        let kinds = [
            row.sql.as_ref().map(|r| {
                Ok(Action::Sql {
                    node: or(r.node.as_ref(), 0, |w| self.names.node(w))?,
                    statement: statement(&r.run)?,
                })
            }),
            row.reload.as_ref().map(|r| self.reload(r)),
            row.grow_disk.as_ref().map(|r| {
                Ok(Action::GrowDisk {
                    node: or(r.node.as_ref(), 0, |w| self.names.node(w))?,
                    by: unit(&r.by, size)?,
                })
            }),
        ];
        Ok(ActionRow {
            when,
            action: one_kind(kinds, span, "action", "sql, reload or grow_disk")?,
        })
    }

    fn reload(&self, row: &rows::ReloadRow) -> Read<Action> {
        let node = or(row.node.as_ref(), 0, |w| self.names.node(w))?;
        let running = &self.nodes[node].settings;
        let mut values = BTreeMap::new();
        for (key, field) in &row.settings {
            let mut edited = running.clone();
            let setting = setting_at(key)?;
            setting
                .set_exactly(&mut edited, &field.text)
                .map_err(|e| of_unit(field, e))?;
            let mut reloaded = running.clone();
            reloaded.reload(&edited);
            if reloaded != edited {
                let message = format!("`{}` takes effect only at server start", setting.name);
                return Err(
                    PlanError::new(key.span(), "not changed by a reload", message)
                        .help("set it under `[settings]` or in the node"),
                );
            }
            values.insert(setting.name.into(), field.text.clone());
        }
        let settings = values;
        Ok(Action::Reload { node, settings })
    }

    fn when(
        &self,
        at: Option<&Field>,
        when: Option<&rows::WhenRow>,
        row: Range<usize>,
    ) -> Read<When> {
        match (at, when) {
            (Some(at), None) => Ok(When::At(unit(at, duration_us)?)),
            (None, Some(when)) => {
                let known: Vec<&str> = EventKind::ALL.iter().map(|e| e.name()).collect();
                let Field { text, span } = &when.event;
                let event = EventKind::from_name(text)
                    .ok_or_else(|| PlanError::unknown(span.clone(), "event", text, &known))?;
                let nth = or(when.nth.as_ref(), 1, number)?;
                if nth == 0 {
                    let span = when.nth.as_ref().map_or(row, |field| field.span.clone());
                    let message = "events are counted from 1";
                    return Err(PlanError::new(span, "never happens", message));
                }
                Ok(When::Event {
                    node: self.names.node(&when.node)?,
                    event,
                    nth,
                })
            }
            (Some(at), Some(_)) => {
                let message = "a row has either `at` or `when`, not both";
                Err(
                    PlanError::new(at.span.clone(), "and a `when` besides", message)
                        .help("remove `at` or `when`"),
                )
            }
            (None, None) => {
                let message = "the row has neither `at` nor `when`";
                Err(PlanError::new(row, "no `at`, no `when`", message).help(
                    "write `at = \"3.2s\"` or `when = { node = \"…\", event = \"…\", nth = 1 }`",
                ))
            }
        }
    }

    fn off(&self, row: &rows::OffRow) -> Read<(usize, u64)> {
        let off_us = or(row.off.as_ref(), 1_000_000, |w| unit(w, duration_us))?;
        Ok((self.names.node(&row.node)?, off_us))
    }

    fn shutdown(&self, row: Option<&rows::OffRow>, mode: ShutdownMode) -> Option<Read<Fault>> {
        row.map(|row| {
            let (node, off_us) = self.off(row)?;
            Ok(Fault::Shutdown { node, mode, off_us })
        })
    }

    fn kill(&self, row: &rows::KillRow) -> Read<Fault> {
        let node = self.names.node(&row.node)?;
        let process = process(&row.process)?;
        if process == Role::Postmaster {
            let message = "a server dies with its postmaster";
            return Err(
                PlanError::new(row.process.span.clone(), "not a valid process", message)
                    .help("`node_crash` kills all processes at once"),
            );
        }
        Ok(Fault::Kill { node, process })
    }

    fn pause(&self, row: &rows::PauseRow) -> Read<Fault> {
        Ok(Fault::Pause {
            node: self.names.node(&row.node)?,
            process: row.process.as_ref().map(process).transpose()?,
            for_us: unit(&row.lasts, duration_us)?,
        })
    }

    fn stall(&self, row: &rows::StallRow) -> Read<Fault> {
        Ok(Fault::Stall {
            node: self.names.node(&row.node)?,
            at: place(&row.at)?,
            for_us: unit(&row.lasts, duration_us)?,
        })
    }

    fn lasting(&self, row: &rows::WhileRow) -> Read<(usize, u64)> {
        Ok((self.names.node(&row.node)?, unit(&row.lasts, duration_us)?))
    }

    fn partition(&self, row: &rows::PartitionRow) -> Read<Fault> {
        let (a, b) = self.names.pair(&row.from, &row.to)?;
        let one_way = or(row.one_way.as_ref(), false, switch)?;
        Ok(Fault::Partition {
            a,
            b,
            one_way,
            for_us: unit(&row.lasts, duration_us)?,
        })
    }

    fn delay(&self, row: &rows::DelayRow) -> Read<Fault> {
        let (a, b) = self.names.pair(&row.from, &row.to)?;
        let (by_us, for_us) = (unit(&row.by, duration_us)?, unit(&row.lasts, duration_us)?);
        Ok(Fault::Delay {
            a,
            b,
            by_us,
            for_us,
        })
    }

    fn fsync_error(&self, row: &rows::FsyncErrorRow) -> Read<Fault> {
        Ok(Fault::FsyncError {
            node: self.names.node(&row.node)?,
            path: row.path.text.clone(),
            drop_pages: or(row.drop_pages.as_ref(), false, switch)?,
        })
    }
}

/// The kind of process with this name.
fn process(field: &Field) -> Read<Role> {
    let found = PROCESSES.into_iter().find(|role| role.name() == field.text);
    found.ok_or_else(|| {
        let known = PROCESSES.map(Role::name);
        PlanError::unknown(field.span.clone(), "process", &field.text, &known)
    })
}

/// The C function with this name. The error suggests only the closest name, because there are too
/// many names to list.
fn place(field: &Field) -> Read<Place> {
    let name = &field.text;
    Place::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = Place::ALL.iter().map(|place| place.name()).collect();
        let help = match did_you_mean(name, &known) {
            Some(close) => format!("did you mean `{close}`?"),
            None => known_names(name, &known),
        };
        let message = format!("no process ends a step in a C function `{name}`");
        PlanError::new(field.span.clone(), "unknown place", message).help(help)
    })
}

/// The operator's statement in this field.
fn statement(field: &Field) -> Read<Statement> {
    let wrong = |message: String| PlanError::new(field.span.clone(), "no statement", message);
    let statement = Statement::parse(&field.text).map_err(|e| wrong(e.to_string()))?;
    match statement {
        Statement::Empty
        | Statement::Begin
        | Statement::Commit
        | Statement::Rollback
        | Statement::Put { .. }
        | Statement::Get { .. }
        | Statement::Set { .. } => {
            let message = "an operator cannot read or write rows";
            Err(wrong(message.into()).help("write a `[[workload]]` row"))
        }
        Statement::Checkpoint
        | Statement::SwitchWal
        | Statement::EmitMessage { .. }
        | Statement::Slot(_)
        | Statement::Show(_) => Ok(statement),
    }
}

/// Requires that an entry of the plan has exactly one kind, such as one kind of fault.
fn one_kind<T, const N: usize>(
    kinds: [Option<Read<T>>; N],
    row: Range<usize>,
    what: &str,
    known: &str,
) -> Read<T> {
    let mut found = kinds.into_iter().flatten();
    match (found.next(), found.next()) {
        (Some(kind), None) => kind,
        (None, _) => Err(
            PlanError::new(row, "no kind", format!("the {what} has no kind"))
                .help(format!("give it one of {known}")),
        ),
        (Some(_), Some(_)) => {
            let message = format!("the row has two kinds of {what}");
            Err(PlanError::new(row, "two kinds", message).help("write a row for each"))
        }
    }
}
