//! Reads a plan from text. Checks the schema first, then reads the entries, then checks what the
//! entries mean. Every error contains its place in the text.

use super::errors::PlanError;
use super::fields::{Read, each, number, of_unit, or, small_size, switch, unit};
use super::rows::{self, Field, FileRow, GeometryRow, SettingsRow, SizesRow};
use super::schema::check_schema;
use super::settings::TINY;
use super::tables::{Names, Tables};
use super::units::{seed, signed_us};
use super::{
    Counts, DiskPlan, Expect, NetworkPlan, NodePlan, Origin, PORT, PassDone, Plan, Scenario,
};
use crate::choice::KINDS;
use crate::invariants::{invariant_named, invariants};
use crate::world::{Excuse, STUCK};
use std::collections::BTreeMap;
use toml::Spanned;
use walsim_core::base::{Bug, Geometry, Mark, PgVersion, Settings};
use walsim_core::base::{Setting, did_you_mean, duration_us, kept_settings, size, whole};
use walsim_core::wire::slot_name;

/// The default capacity of a disk. No run needs this much.
pub(super) const DISK_CAPACITY: u64 = 4 << 30;
/// The default length of the active part.
pub(super) const ACTIVE_US: u64 = 10_000_000;

impl Scenario {
    /// Reads a plan file. `name` is the name of the run, unless the file contains a name.
    ///
    /// # Errors
    /// The first error, with its place in the text.
    pub fn parse(text: &str, name: &str) -> Result<Self, PlanError> {
        check_schema(text)?;
        let file: FileRow = toml::from_str(text).map_err(|e| of_toml(text, &e))?;
        let version = or(file.version.as_ref(), PgVersion::V18, version)?;
        let geometry = match &file.geometry {
            None => Geometry::STOCK,
            Some(row) => geometry(row)?,
        };
        let names = Names::of(&file, text)?;
        let nodes = nodes(&file, &names, version, geometry)?;
        let tables = Tables {
            names,
            geometry,
            nodes: nodes.clone(),
        };
        let about = (file.about.as_ref()).map_or_else(String::new, |about| about.text.clone());
        let plan = Plan {
            seed: or(file.seed.as_ref(), 0, |w| unit(w, seed))?,
            name: (file.name.as_ref()).map_or_else(|| name.into(), |name| name.text.clone()),
            about,
            nodes,
            network: network(file.network.as_ref())?,
            disks: disks(file.disks.as_ref())?,
            workload: each(&file.workload, |row, _| tables.workload(row))?,
            faults: each(&file.fault, |row, span| tables.fault(row, span))?,
            actions: each(&file.action, |row, span| tables.action(row, span))?,
            active_us: or(file.active.as_ref(), ACTIVE_US, |w| unit(w, duration_us))?,
            pins: pins(&file.pins)?,
            step_delays: or(file.step_delays.as_ref(), true, switch)?,
        };
        if let Some(flaw) = plan.flaw() {
            return Err(flaw.in_file(&file));
        }
        let expect = file
            .expect
            .as_ref()
            .map(expect)
            .transpose()?
            .unwrap_or_default();
        let origin = file.origin.as_ref();
        let origin = origin.map(|row| origin_of(row, &plan)).transpose()?;
        Ok(Self {
            plan,
            expect,
            origin,
        })
    }
}

/// Converts an error of serde or of the TOML parser. For an unknown key, the help text lists the
/// known keys and suggests the closest one.
pub(super) fn of_toml(text: &str, error: &toml::de::Error) -> PlanError {
    let span = error.span().unwrap_or(0..0);
    let span = span.start.min(text.len())..span.end.min(text.len());
    let message = error.message();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if let (true, [name, known @ ..]) = (message.starts_with("unknown field"), &quoted[..]) {
        let known: Vec<&str> = known.to_vec();
        let error = PlanError::new(
            span,
            "unknown key",
            format!("there is no key `{name}` here"),
        );
        let all = format!("known here: {}", known.join(", "));
        return error.help(match did_you_mean(name, &known) {
            Some(close) => format!("did you mean `{close}`? {all}"),
            None => all,
        });
    }
    if let (true, [name, ..]) = (message.starts_with("missing field"), &quoted[..]) {
        return PlanError::new(span, "incomplete", format!("`{name}` is missing here"));
    }
    PlanError::new(span, "here", message)
}

fn version(field: &Field) -> Read<PgVersion> {
    PgVersion::named(&field.text).ok_or_else(|| {
        let message = format!("version {} is not modeled", field.text);
        PlanError::new(field.span.clone(), "unknown version", message)
            .help("write a number from 15 to 19")
    })
}

fn geometry(row: &Spanned<GeometryRow>) -> Read<Geometry> {
    match row.get_ref() {
        GeometryRow::Named(name) => match name.as_str() {
            "stock" => Ok(Geometry::STOCK),
            "tiny" => Ok(TINY),
            name => Err(PlanError::unknown(
                row.span(),
                "geometry",
                name,
                &["stock", "tiny"],
            )),
        },
        GeometryRow::Sizes(SizesRow {
            wal_page,
            segment,
            data_page,
            sector,
        }) => {
            let [a, b, c, d] = [
                small_size(wal_page)?,
                small_size(segment)?,
                small_size(data_page)?,
                small_size(sector)?,
            ];
            Geometry::new(a, b, c, d).map_err(|e| {
                let field = match e.field {
                    "wal_page" => wal_page,
                    "segment" => segment,
                    "data_page" => data_page,
                    _ => sector,
                };
                PlanError::new(field.span.clone(), "out of range", e.to_string())
            })
        }
    }
}

fn network(row: Option<&rows::NetworkRow>) -> Read<NetworkPlan> {
    let default = NetworkPlan::default();
    let Some(row) = row else { return Ok(default) };
    Ok(NetworkPlan {
        latency_us: or(row.latency.as_ref(), default.latency_us, |w| {
            unit(w, duration_us)
        })?,
        jitter_us: or(row.jitter.as_ref(), default.jitter_us, |w| {
            unit(w, duration_us)
        })?,
        bytes_per_ms: or(row.bytes_per_ms.as_ref(), default.bytes_per_ms, |w| {
            unit(w, size)
        })?,
        fragment: or(row.fragment.as_ref(), default.fragment, switch)?,
        keepalive_us: or(row.keepalive.as_ref(), default.keepalive_us, |w| {
            unit(w, duration_us)
        })?,
    })
}

fn disks(row: Option<&rows::DisksRow>) -> Read<DiskPlan> {
    let default = DiskPlan::default();
    let Some(row) = row else { return Ok(default) };
    Ok(DiskPlan {
        latency_us: or(row.latency.as_ref(), default.latency_us, |w| {
            unit(w, duration_us)
        })?,
        jitter_us: or(row.jitter.as_ref(), default.jitter_us, |w| {
            unit(w, duration_us)
        })?,
        fsync_us: or(row.fsync.as_ref(), default.fsync_us, |w| {
            unit(w, duration_us)
        })?,
    })
}

fn pins(rows: &BTreeMap<Spanned<String>, Field>) -> Read<BTreeMap<String, u64>> {
    let pin = |(key, field): (&Spanned<String>, &Field)| {
        let value = whole(&field.text).or_else(|| seed(&field.text).ok());
        let value = value.ok_or_else(|| {
            let message = format!("`{}` is not a valid value for a choice", field.text);
            PlanError::new(field.span.clone(), "no number", message)
        })?;
        let kind = key.get_ref().split('/').next().unwrap_or_default();
        if !KINDS.contains(&kind) {
            return Err(PlanError::unknown(
                key.span(),
                "kind of choice",
                kind,
                &KINDS,
            ));
        }
        Ok((key.get_ref().clone(), value))
    };
    rows.iter().map(pin).collect()
}

fn nodes(
    file: &FileRow,
    names: &Names,
    version: PgVersion,
    geometry: Geometry,
) -> Read<Vec<NodePlan>> {
    let mut shared = Settings::new(version, geometry);
    settings(&mut shared, &file.settings)?;
    let node = |(index, row): (usize, &Spanned<rows::NodeRow>)| {
        let row = row.get_ref();
        let upstream = match (&row.upstream, index) {
            (None, 0) => None,
            (Some(field), 0) => {
                let message = "the first node is the primary and has no upstream";
                return Err(PlanError::new(
                    field.span.clone(),
                    "no upstream here",
                    message,
                ));
            }
            (None, _) => Some(0),
            (Some(field), _) => Some(names.node(field)?),
        };
        if let (Some(field), Some(upstream)) = (&row.upstream, upstream)
            && upstream != 0
        {
            let message = "cascading standbys are not modeled";
            return Err(
                PlanError::new(field.span.clone(), "not the primary", message)
                    .help(format!("write \"{}\"", names.0[0])),
            );
        }
        let mut own = shared.clone();
        own.cluster_name.clone_from(&row.name.text);
        own.primary_conninfo = upstream.map(|node| (names.0[node].clone(), PORT));
        settings(&mut own, &row.settings)?;
        let drift = or(row.clock_drift_ppm.as_ref(), 0, |field| {
            field.text.parse().map_err(|_| {
                let message = format!("`{}` is not a number of parts per million", field.text);
                PlanError::new(field.span.clone(), "no number", message)
            })
        })?;
        Ok(NodePlan {
            name: row.name.text.clone(),
            settings: own,
            clock_offset_us: or(row.clock_offset.as_ref(), 0, |w| unit(w, signed_us))?,
            clock_drift_ppm: drift,
            disk_capacity: or(row.disk.as_ref(), DISK_CAPACITY, |w| unit(w, size))?,
            slots: row.slots.iter().map(slot_name).collect::<Read<_>>()?,
        })
    };
    file.node.iter().enumerate().map(node).collect()
}

fn origin_of(row: &rows::OriginRow, plan: &Plan) -> Read<Origin> {
    let pass = |row: &rows::PassRow| {
        Ok(PassDone {
            name: row.name.text.clone(),
            changes: number(&row.changes)?,
            left: counts(&row.left)?,
        })
    };
    let replay = row.replay.as_ref();
    Ok(Origin {
        seed: unit(&row.seed, seed)?,
        replay: replay.map_or_else(String::new, |field| field.text.clone()),
        audited: or(row.audited.as_ref(), false, switch)?,
        was: (row.size.as_ref()).map_or(Ok(Counts::of(plan)), counts)?,
        tries: or(row.tries.as_ref(), 0, number)?,
        passes: row.passes.iter().map(pass).collect::<Read<_>>()?,
    })
}

fn counts(row: &rows::CountsRow) -> Read<Counts> {
    Ok(Counts {
        nodes: number(&row.nodes)?,
        workload: number(&row.workload)?,
        faults: number(&row.faults)?,
        actions: number(&row.actions)?,
    })
}

fn slot_name(field: &Field) -> Read<String> {
    match slot_name::validate(&field.text) {
        Ok(()) => Ok(field.text.clone()),
        Err(e) => Err(PlanError::new(
            field.span.clone(),
            "no name for a slot",
            e.to_string(),
        )),
    }
}

fn settings(settings: &mut Settings, rows: &SettingsRow) -> Read<()> {
    for (key, field) in rows {
        setting_at(key)?
            .set_exactly(settings, &field.text)
            .map_err(|e| of_unit(field, e))?;
    }
    Ok(())
}

/// The setting that a key names.
pub(super) fn setting_at(key: &Spanned<String>) -> Read<&'static Setting> {
    let name = key.get_ref();
    kept_settings().find(|s| s.name == name).ok_or_else(|| {
        let known: Vec<&str> = kept_settings().map(|s| s.name).collect();
        PlanError::unknown(key.span(), "setting", name, &known)
    })
}

fn expect(row: &Spanned<rows::ExpectRow>) -> Read<Expect> {
    let (row, span) = (row.get_ref(), row.span());
    if let Some(field) = &row.verdict
        && field.text != "pass"
    {
        return Err(PlanError::unknown(
            field.span.clone(),
            "verdict",
            &field.text,
            &["pass"],
        ));
    }
    let bug = |field: &Field| {
        let known: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        Bug::from_name(&field.text)
            .ok_or_else(|| PlanError::unknown(field.span.clone(), "bug", &field.text, &known))
    };
    let invariant = |field: &Field| {
        let known: Vec<&str> = invariants().iter().map(|i| i.code).chain([STUCK]).collect();
        let found = if field.text == STUCK {
            Some(STUCK)
        } else {
            invariant_named(&field.text).map(|i| i.code)
        };
        found
            .ok_or_else(|| PlanError::unknown(field.span.clone(), "invariant", &field.text, &known))
    };
    let mark = |field: &Field| {
        let known: Vec<&str> = Mark::ALL.iter().map(|mark| mark.name()).collect();
        Mark::from_name(&field.text)
            .ok_or_else(|| PlanError::unknown(field.span.clone(), "mark", &field.text, &known))
    };
    let excuse = |field: &Field| {
        let known: Vec<&str> = Excuse::ALL.iter().map(|excuse| excuse.name()).collect();
        let found = Excuse::ALL.into_iter().find(|it| it.name() == field.text);
        found.ok_or_else(|| PlanError::unknown(field.span.clone(), "excuse", &field.text, &known))
    };
    let expect = Expect {
        bug: row.bug.as_ref().map(bug).transpose()?,
        invariants: row.invariant.0.iter().map(invariant).collect::<Read<_>>()?,
        marks: row.marks.iter().map(mark).collect::<Read<_>>()?,
        excuses: row.excuses.iter().map(excuse).collect::<Read<_>>()?,
    };
    if expect.bug.is_some() && expect.invariants.is_empty() {
        let message = "`bug` requires `invariant`";
        return Err(PlanError::new(span, "`bug` without `invariant`", message)
            .help("write `invariant` too; without `bug`, the run itself must violate it"));
    }
    Ok(expect)
}
