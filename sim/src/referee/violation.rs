//! A broken promise, and the facts that show it.

use walsim_core::base::Mono;

/// An invariant that was violated.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Violation {
    /// The invariant, such as `SEND`.
    pub code: &'static str,
    /// On which node.
    pub node: String,
    /// When.
    pub at: Mono,
    /// What is wrong, in one sentence.
    pub message: String,
    /// The facts that were compared: what, and its value.
    pub facts: Vec<(String, String)>,
}
