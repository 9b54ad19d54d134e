//! A violated invariant, with the facts that prove it.

use walsim_core::base::Mono;

/// A violation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Violation {
    /// The code of the invariant, such as `SEND`.
    pub code: &'static str,
    /// The node.
    pub node: String,
    /// The time.
    pub at: Mono,
    /// What was violated, in one sentence.
    pub message: String,
    /// The compared values, each with a name.
    pub facts: Vec<(String, String)>,
}
