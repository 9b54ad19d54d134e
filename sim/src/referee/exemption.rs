//! Exemptions of the checks: hazards of PostgreSQL, described in docs/hazards, that violate an
//! invariant and are not reported. Each use is counted.

/// A hazard that a check does not report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Exemption {
    /// A checkpoint removes WAL that only the state file of a slot requires:
    /// docs/hazards/slot-file-behind-memory.md.
    SlotFileBehindMemory,
}

impl Exemption {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::SlotFileBehindMemory];
}

/// Overrides the decision about an exemption, for tests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ForcedExemption {
    /// The exemption.
    pub(crate) exemption: Exemption,
    /// Whether it applies.
    pub(crate) holds: bool,
}
