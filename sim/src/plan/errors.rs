//! An error in the text of a plan: a message, the place, and a suggestion.

use std::ops::Range;
use walsim_core::base::did_you_mean;

/// An error in the text of a plan. The place is a range of bytes in the text, and the command shows
/// it with a caret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// The error message.
    pub message: String,
    /// The place of the error.
    pub span: Range<usize>,
    /// A short label for the place.
    pub label: String,
    /// A suggestion.
    pub help: Option<String>,
}

impl PlanError {
    /// An error at a place.
    #[must_use]
    pub fn new(span: Range<usize>, label: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
            label: label.into(),
            help: None,
        }
    }

    /// Adds a suggestion.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The error for an unknown name. `what` is "node", "invariant" and so on.
    #[must_use]
    pub fn unknown(span: Range<usize>, what: &str, name: &str, known: &[&str]) -> Self {
        let message = format!("there is no {what} `{name}`");
        Self::new(span, format!("unknown {what}"), message).help(known_names(name, known))
    }
}

/// Formats `did you mean `x`?` and the list of known names.
#[must_use]
pub fn known_names(name: &str, known: &[&str]) -> String {
    let all = match known {
        [] => String::from("there is none"),
        names => format!("known: {}", names.join(", ")),
    };
    match did_you_mean(name, known) {
        Some(close) => format!("did you mean `{close}`? {all}"),
        None => all,
    }
}
