//! The command line. Only this part of the simulator uses threads, wall time, the terminal and
//! files.
//!
//! Results go to stdout. Progress and errors go to stderr. The exit status says what was found.

mod bench;
mod bugs;
mod doctor;
mod export;
mod fuzz;
mod invariants;
mod json;
mod log;
mod os;
mod output;
mod pages;
mod pool;
mod refusal;
mod replay;
mod scenarios;
mod shrink;
mod terminal;
mod trace;
mod trace_diff;
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
  3  a cluster did not converge, and no legal reason excuses it
  4  a run was not deterministic
  5  an assertion failed
  6  no seed reached a mandatory state";

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
    /// Run one seed or plan file
    Replay(replay::Args),
    /// Shrink the plan of a failing seed or plan file
    Shrink(shrink::Args),
    /// List and run the scenarios under scenarios/
    #[command(subcommand)]
    Scenarios(scenarios::Command),
    /// List the historical bugs that can be planted, and hunt for them
    #[command(subcommand)]
    Bugs(bugs::Command),
    /// List and describe the invariants
    #[command(subcommand)]
    Invariants(invariants::Command),
    /// Measure speed and memory
    Bench(bench::Args),
    /// Check that this build is deterministic
    Doctor(doctor::Args),
    /// Compare and export the traces of runs
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Print WAL like pg_waldump, with its options
    #[command(disable_help_flag = true)]
    Waldump {
        /// See `walsim waldump --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

#[derive(Subcommand)]
enum TraceCommand {
    /// Show the first step in which two traces differ
    Diff(trace_diff::Args),
    /// Write the trace of a run for Perfetto, Mermaid or programs
    Export(Box<export::Args>),
}

/// `println!` for results. A closed pipe (`| head`) is not an error.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}
use say;

/// Output format: text for people, or one JSON object per line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs the command.
pub(crate) fn main() -> ExitCode {
    // The world catches a panic of a simulated run and reports it as a finding. A panic of the
    // command itself is shown as usual.
    pool::silence_panics_of_runs();
    // The arguments of waldump follow pg_waldump's rules, including `--`.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|command| command == "waldump") {
        return waldump::run(args);
    }
    let cli = Cli::parse();
    if let Err(refusal) = log::subscribe() {
        refusal.print();
        return ExitCode::from(2);
    }
    let outcome = match cli.command {
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Shrink(args) => shrink::run(&args),
        Command::Scenarios(command) => scenarios::run(&command),
        Command::Bugs(command) => bugs::run(&command),
        Command::Invariants(command) => invariants::run(&command),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Trace(TraceCommand::Diff(args)) => trace_diff::run(&args),
        Command::Trace(TraceCommand::Export(args)) => export::run(&args),
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
