//! What is wrong with a plan's text, and where: a message, the place, and what could have been
//! meant.

use std::ops::Range;
use walsim_core::base::did_you_mean;

/// A plan that cannot be read. The place is a range of bytes of the text, for a caret under the
/// field.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Range<usize>,
    /// What stands there, in two words.
    pub label: String,
    /// What to do about it.
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

    /// With a hint.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A name that nothing has: `what` is "node", "invariant" and so on.
    #[must_use]
    pub fn unknown(span: Range<usize>, what: &str, name: &str, known: &[&str]) -> Self {
        let message = format!("there is no {what} `{name}`");
        Self::new(span, format!("unknown {what}"), message).help(known_names(name, known))
    }
}

/// `did you mean `x`?`, and all that there is.
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
