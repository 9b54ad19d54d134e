//! Errors for wrong usage and wrong input. The command prints such an error and exits with status
//! 2.

use miette::{Diagnostic, LabeledSpan, MietteHandlerOpts, NamedSource, SourceCode};
use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::Path;
use walsim::plan::{OverrideError, PlanError, UnitError};
use walsim_core::base::Planted;

/// An error for wrong usage or wrong input. If a file is wrong, the error contains the place in the
/// file.
#[derive(Debug)]
pub(super) struct Refusal {
    message: String,
    help: Option<String>,
    place: Option<Box<Place>>,
}

#[derive(Debug)]
struct Place {
    source: NamedSource<String>,
    label: LabeledSpan,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            place: None,
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The error for a file that cannot be read or written.
    pub(super) fn of_io(path: &Path, doing: &str, error: &std::io::Error) -> Self {
        Self::new(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// The error for a plan file whose text is invalid.
    pub(super) fn of_plan(path: &Path, text: &str, error: PlanError) -> Self {
        let span = error.span.start..error.span.end.max(error.span.start);
        let label = LabeledSpan::new_with_span(Some(error.label), span);
        // A file below the current directory is shown by its relative path.
        let source = NamedSource::new(path.display().to_string(), text.to_owned());
        Self {
            message: error.message,
            help: error.help,
            place: Some(Box::new(Place { source, label })),
        }
    }

    /// Returns an error if this build cannot plant bugs.
    pub(super) fn unless_bugs_can_be_planted() -> Result<(), Self> {
        if Planted::AVAILABLE {
            return Ok(());
        }
        Err(Self::new("this build cannot plant bugs")
            .help("build it with the feature `planted-bugs`, which is on by default"))
    }

    pub(super) fn print(self) {
        let color = std::io::stderr().is_terminal();
        let options = MietteHandlerOpts::new()
            .terminal_links(false)
            .unicode(true)
            .width(100)
            .color(color)
            .context_lines(1);
        let handler = options.build();
        let text = Shown(&self, &handler).to_string();
        // If writing to stderr fails, there is no other place to report the failure.
        let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
    }
}

struct Shown<'a>(&'a Refusal, &'a miette::MietteHandler);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        miette::ReportHandler::debug(self.1, self.0, f)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl Diagnostic for Refusal {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.place
            .as_ref()
            .map(|place| &place.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let place = self.place.as_ref()?;
        Some(Box::new(std::iter::once(place.label.clone())))
    }
}

impl From<OverrideError> for Refusal {
    fn from(error: OverrideError) -> Self {
        Self::new(error.message).help(error.help)
    }
}

impl From<UnitError> for Refusal {
    fn from(error: UnitError) -> Self {
        let message = error.to_string();
        Self::new(message).help(error.help)
    }
}
