//! The command line: the only part of the simulator that knows threads, wall time, the terminal and
//! files.
//!
//! Results go to stdout, progress and complaints to stderr. The exit status says what was found.

mod bench;
mod bugs;
mod doctor;
mod fuzz;
mod invariants;
mod json;
mod os;
mod output;
mod pool;
mod refusal;
mod replay;
mod scenarios;
mod shrink;
mod trace;
mod values;
mod waldump;

use clap::{Parser, Subcommand};
use refusal::Refusal;
use std::ffi::OsString;
use std::process::ExitCode;
use walsim::report::Status;

const EXIT_STATUS: &str = "\
Exit status:
  0  nothing was found
  1  an invariant was violated
  2  wrong usage or wrong input
  3  a cluster did not converge, and there is no legal reason
  4  a run did not repeat itself
  5  an assertion failed
  6  a situation that must occur did not";

/// A deterministic simulator that tries to break PostgreSQL's physical streaming replication
#[derive(Parser)]
#[command(name = "walsim", version = env!("WALSIM_VERSION"), after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Simulate many clusters, one per seed
    Fuzz(fuzz::Args),
    /// Run one seed or plan file again
    Replay(replay::Args),
    /// Make the plan of a failing seed or plan file small
    Shrink(shrink::Args),
    /// The plays under scenarios/
    #[command(subcommand)]
    Scenarios(scenarios::Command),
    /// Historical bugs that can be planted
    #[command(subcommand)]
    Bugs(bugs::Command),
    /// What is checked
    #[command(subcommand)]
    Invariants(invariants::Command),
    /// How fast is it?
    Bench(bench::Args),
    /// Does this build repeat itself?
    Doctor(doctor::Args),
    /// Decode WAL as pg_waldump does, with its options
    #[command(disable_help_flag = true)]
    Waldump {
        /// See `walsim waldump --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// `println!` for results. A reader that has gone away (`| head`) is no error.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}
use say;

/// How results are written: for people, or one JSON object per line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs the command.
pub(crate) fn main() -> ExitCode {
    // A panic of a simulated run is a finding and part of its report; one of the command itself is
    // shown as always.
    pool::silence_panics_of_runs();
    // Its arguments follow pg_waldump's rules, not ours, down to `--`.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|command| command == "waldump") {
        return waldump::run(args);
    }
    let outcome = match Cli::parse().command {
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Shrink(args) => shrink::run(&args),
        Command::Scenarios(command) => scenarios::run(&command),
        Command::Bugs(command) => bugs::run(&command),
        Command::Invariants(command) => invariants::run(&command),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Waldump { args } => return waldump::run(args.into_iter()),
    };
    match outcome {
        Ok(status) => ExitCode::from(status.code()),
        Err(refusal) => {
            refusal.print();
            ExitCode::from(2)
        }
    }
}

type Outcome = Result<Status, Refusal>;
