//! A violated invariant, with the facts that prove it.

use super::fact::Fact;
use crate::trace::ProcessName;
use walsim_core::base::Mono;

/// A violation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Violation {
    /// The code of the invariant, such as `SEND`.
    pub code: &'static str,
    /// The node.
    pub node: String,
    /// The process whose step violated the invariant. This is `None` if no step of a process did.
    pub process: Option<ProcessName>,
    /// The time.
    pub at: Mono,
    /// What was violated, in one sentence. The facts contain the values.
    pub message: String,
    /// The compared values, each with a name.
    pub facts: Vec<Fact>,
}

impl Violation {
    /// The value of the fact with this name, as text.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<String> {
        let mut facts = self.facts.iter();
        let fact = facts.find(|fact| fact.name == name)?;
        Some(fact.value.to_string())
    }
}
