//! `walsim invariants`: what is checked.

use super::refusal::Refusal;
use super::{Outcome, say};
use walsim::bugs::bug_info;
use walsim::invariants::{INVARIANTS, invariant_named};
use walsim::plan::known_names;
use walsim::report::Status;
use walsim_core::base::Bug;

#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Their codes, and what each promises
    List,
    /// One of them: how it is judged, and which planted bugs violate it
    Show {
        /// A code as `list` prints it
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub(super) fn run(command: &Command) -> Outcome {
    match command {
        Command::List => {
            for invariant in INVARIANTS {
                say!("{:8} {}", invariant.code, invariant.promise);
            }
        }
        Command::Show { id } => show(id)?,
    }
    Ok(Status::Pass)
}

fn show(id: &str) -> Result<(), Refusal> {
    let Some(invariant) = invariant_named(id) else {
        let known: Vec<&str> = INVARIANTS.iter().map(|i| i.code).collect();
        let message = format!("there is no invariant `{id}`");
        return Err(Refusal::new(message).help(known_names(id, &known)));
    };
    say!(
        "{}: {}\n\n{}",
        invariant.code,
        invariant.promise,
        invariant.details
    );
    let bugs = Bug::ALL
        .iter()
        .filter(|bug| bug_info(**bug).codes.contains(&invariant.code));
    let bugs: Vec<_> = bugs.map(|bug| bug.name()).collect();
    if !bugs.is_empty() {
        say!("\nPlanted bugs that violate it: {}", bugs.join(", "));
    }
    Ok(())
}
