//! The command line. Results go to stdout. The server log and errors go to stderr.

mod log;
mod receive;
mod serve;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

const EXIT_STATUS: &str = "\
Exit status:
  0  an orderly end
  1  anything else
  2  wrong usage";

/// Runs walsim's server and its receiver on real sockets and files
#[derive(Parser)]
#[command(name = "walsim-live", version = version(), after_help = EXIT_STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Receive WAL from a server into a directory, for backups
    Receive(receive::Args),
    /// Run a server, or send the WAL of a stopped one
    Serve(serve::Args),
}

/// Why a command cannot run.
enum Refusal {
    /// Wrong usage. The exit status is 2.
    Usage(String),
    /// Any other error. The exit status is 1.
    Failed(String),
}

/// Runs the command.
pub(crate) fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Receive(args) => receive::run(&args),
        Command::Serve(args) => {
            log::start();
            serve::run(&args)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(Refusal::Usage(text)) => {
            eprintln!("walsim-live: error: {text}");
            ExitCode::from(2)
        }
        Err(Refusal::Failed(text)) => {
            eprintln!("walsim-live: error: {text}");
            ExitCode::from(1)
        }
    }
}

/// The version. The text says whether planted bugs are compiled in. A build of several packages
/// compiles them in if the features of any package enable them.
fn version() -> &'static str {
    if walsim_core::base::Planted::AVAILABLE {
        concat!(
            env!("WALSIM_VERSION"),
            " (built together with walsim: planted bugs are compiled in, all of them off)"
        )
    } else {
        env!("WALSIM_VERSION")
    }
}
