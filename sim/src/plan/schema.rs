//! The schema of a plan file. Tells the user how to change a file that has an older schema.

use super::errors::PlanError;
use super::fields::Read;
use super::read::of_toml;
use super::rows::{Field, FileRow, SchemaRow, SettingsRow};
use walsim_core::base::{Kind, Unit, setting_named, show_size, whole};

/// The schema that this build reads and writes.
pub const SCHEMA: u32 = 2;

/// Returns an error if the file has a different schema.
pub(super) fn check_schema(text: &str) -> Read<()> {
    let row: SchemaRow = toml::from_str(text).map_err(|e| of_toml(text, &e))?;
    let Some(Field { text: schema, span }) = row.schema else {
        return Err(
            PlanError::new(0..0, "no schema", "the file does not name its schema")
                .help(format!("write `schema = {SCHEMA}` at its top")),
        );
    };
    if schema == SCHEMA.to_string() {
        return Ok(());
    }
    if schema == "1" {
        return Err(of_schema_1(text, span));
    }
    let newer = whole(&schema).is_some_and(|n| n > u64::from(SCHEMA));
    let help = if newer {
        format!("the file is of a newer walsim; this one reads schema {SCHEMA}")
    } else {
        format!("this walsim reads schema {SCHEMA}; `walsim replay SEED` makes a new plan")
    };
    let message = format!("schema {schema} is not known");
    Err(PlanError::new(span, "unknown schema", message).help(help))
}

/// The error for a file of schema 1, which had other units and counted the sizes of settings in
/// bytes.
fn of_schema_1(text: &str, schema: std::ops::Range<usize>) -> PlanError {
    let file = match toml::from_str::<FileRow>(text) {
        Ok(file) => file,
        Err(error) => return of_toml(text, &error),
    };
    let reloads = file.action.iter().filter_map(|row| {
        let reload = row.get_ref().reload.as_ref()?;
        Some(&reload.settings)
    });
    let nodes = file.node.iter().map(|row| &row.get_ref().settings);
    let all = [&file.settings].into_iter().chain(nodes).chain(reloads);
    let mut changes: Vec<Change> = all.flat_map(changes).collect();
    changes.sort_by_key(|change| change.span.start);
    let message = "schema 1 belongs to an older walsim";
    let Some(first) = changes.first() else {
        return PlanError::new(schema, "older schema", message).help(format!(
            "write `schema = {SCHEMA}`; nothing else in this file has to change"
        ));
    };
    let line = |at: usize| 1 + text[..at].matches('\n').count();
    let lines = changes.iter().map(|change| {
        let Change { span, name, now } = change;
        format!("\nline {}: {name} = \"{now}\"", line(span.start))
    });
    let help = format!(
        "settings now have PostgreSQL's units; write `schema = {SCHEMA}` in line {}, and{}",
        line(schema.start),
        lines.collect::<String>()
    );
    PlanError::new(first.span.clone(), "has different units now", message).help(help)
}

/// A value that must be written differently in schema 2.
struct Change {
    span: std::ops::Range<usize>,
    name: String,
    now: String,
}

fn changes(rows: &SettingsRow) -> Vec<Change> {
    let changed = rows.iter().filter_map(|(name, field)| {
        let setting = setting_named(name.get_ref())?;
        let is_size = matches!(
            setting.kind,
            Kind::Int {
                unit: Some(Unit::Megabyte),
                ..
            }
        );
        let now = match whole(&field.text) {
            Some(0) => return None,
            Some(bytes) => show_size(bytes),
            None => field.text.replace("iB", "B").replace("KB", "kB"),
        };
        (is_size && now != field.text).then(|| Change {
            span: field.span.clone(),
            name: setting.name.into(),
            now,
        })
    });
    changed.collect()
}
