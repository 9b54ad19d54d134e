//! Reasons for which the command exits early. The messages are pg_waldump's, with another program
//! name.

use std::io::{self, Write};
use std::process::ExitCode;

/// The program name at the beginning of each message.
pub(super) const PROGRAM: &str = "walsim waldump";

/// Why the command exits early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Everything that was requested has been printed.
    Done,
    /// `pg_fatal`
    Fatal(String),
    /// `pg_fatal` followed by a detail message.
    Detailed {
        /// What is wrong.
        error: String,
        /// The detail message.
        detail: String,
    },
    /// Wrong usage, with an error and a detail message. `error` is `None` if getopt has already
    /// printed an error.
    BadArgument {
        error: Option<String>,
        detail: Option<&'static str>,
    },
    /// A message of getopt.
    BadOption(String),
    /// stdout cannot be written.
    Output(io::Error),
}

impl Stop {
    pub(super) fn bad_argument(error: impl Into<String>) -> Self {
        let error = Some(error.into());
        let detail = None;
        Self::BadArgument { error, detail }
    }

    pub(super) fn fatal(message: impl Into<String>) -> Self {
        Self::Fatal(message.into())
    }

    /// Prints the message and returns the exit status.
    pub(super) fn finish(self) -> ExitCode {
        let mut text = String::new();
        let mut say = |kind: &str, message: &str| {
            text += &format!("{PROGRAM}: {kind}{message}\n");
        };
        match &self {
            Self::Done => {}
            Self::Fatal(message) => say("error: ", message),
            Self::Detailed { error, detail } => {
                say("error: ", error);
                say("detail: ", detail);
            }
            Self::BadArgument { error, detail } => {
                if let Some(error) = error {
                    say("error: ", error);
                }
                if let Some(detail) = detail {
                    say("detail: ", detail);
                }
            }
            Self::BadOption(complaint) => say("", complaint),
            // The reader of the pipe has gone. SIGPIPE would kill a C program, and shells would
            // report status 141.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return ExitCode::from(141);
            }
            Self::Output(error) => say("error: could not write: ", &reason(error)),
        }
        if matches!(self, Self::BadArgument { .. } | Self::BadOption(_)) {
            let hint = format!("Try \"{PROGRAM} --help\" for more information.");
            say("hint: ", &hint);
        }
        // If writing to stderr fails, there is no other place to report the failure.
        let _ = io::stderr().write_all(text.as_bytes());
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Fatal(_)
            | Self::Detailed { .. }
            | Self::BadArgument { .. }
            | Self::BadOption(_)
            | Self::Output(_) => ExitCode::FAILURE,
        }
    }
}

/// The message of an error, as `%m` prints it.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((text, _)) => text.into(),
        None => text,
    }
}
