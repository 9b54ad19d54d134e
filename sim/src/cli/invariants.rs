//! `walsim invariants`: lists and describes the invariants.

use super::refusal::Refusal;
use super::{Outcome, say};
use walsim::bugs::bug_info;
use walsim::checks::{BITES, Bite, built_in};
use walsim::invariants::{invariant_named, invariants};
use walsim::plan::known_names;
use walsim::report::Status;
use walsim_core::base::Bug;

/// Columns of a line of prose.
const WIDTH: usize = 100;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// List the codes and statements of all invariants
    List,
    /// Describe one invariant: how it is checked, and which planted bugs may violate it
    Show {
        /// A code, see `walsim invariants list`
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub(super) fn run(command: &Command) -> Outcome {
    match command {
        Command::List => {
            let codes = invariants().iter().map(|invariant| invariant.code.len());
            let width = codes.max().unwrap_or_default();
            for invariant in invariants() {
                say!("{:width$}  {}", invariant.code, invariant.statement);
            }
        }
        Command::Show { id } => show(id)?,
    }
    Ok(Status::Pass)
}

fn show(id: &str) -> Result<(), Refusal> {
    let Some(invariant) = invariant_named(id) else {
        let known: Vec<&str> = invariants().iter().map(|i| i.code).collect();
        let message = format!("there is no invariant `{id}`");
        return Err(Refusal::new(message).help(known_names(id, &known)));
    };
    let title = format!("{}: {}", invariant.code, invariant.statement);
    say!(
        "{}\n\n{}",
        wrapped(&title, ""),
        wrapped(invariant.details, "")
    );
    if !invariant.notes.is_empty() {
        say!("\nNotes:");
        for note in invariant.notes {
            say!("- {}", wrapped(note, "  "));
        }
    }
    let source = format!("From PostgreSQL: {}", invariant.source);
    say!("\n{}\n\nEvents that it checks:", wrapped(&source, ""));
    for check in built_in() {
        if check.about().code == invariant.code {
            for subscription in check.subscriptions() {
                let row =
                    |row: &&Bite| row.code == invariant.code && row.subscription == *subscription;
                if let Some(Bite { planted, .. }) = BITES.iter().find(row) {
                    say!("  {subscription}; tested by {}", planted.bug.name());
                }
            }
        }
    }
    let bugs = Bug::ALL
        .iter()
        .filter(|bug| bug_info(**bug).codes.contains(&invariant.code));
    let bugs: Vec<_> = bugs.map(|bug| bug.name()).collect();
    if !bugs.is_empty() {
        say!("\nPlanted bugs that may violate it: {}", bugs.join(", "));
    }
    Ok(())
}

/// The text in lines of at most [`WIDTH`] columns. Lines after the first begin with `indent`.
fn wrapped(text: &str, indent: &str) -> String {
    let mut lines = String::new();
    let mut column = indent.len();
    for word in text.split(' ') {
        if column + word.len() > WIDTH {
            lines.truncate(lines.trim_end().len());
            lines.push('\n');
            lines.push_str(indent);
            column = indent.len();
        }
        lines.push_str(word);
        lines.push(' ');
        column += word.len() + 1;
    }
    lines.truncate(lines.trim_end().len());
    lines
}
