//! Exemptions: cases in which PostgreSQL itself violates an invariant, so that checks do not report
//! the violation. Each case is a hazard, which the directory docs/hazards describes. The referee
//! counts how often each exemption is used.

/// A hazard of PostgreSQL that a check does not report, although the hazard violates the invariant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Exemption {
    /// A checkpoint removes WAL that a slot requires according to its state file, but not according
    /// to shared memory: docs/hazards/slot-file-behind-memory.md.
    SlotFileBehindMemory,
}

impl Exemption {
    /// All exemptions.
    pub const ALL: [Self; 1] = [Self::SlotFileBehindMemory];
}

/// Overrides the decision about an exemption, for tests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ForcedExemption {
    /// The exemption.
    pub(crate) exemption: Exemption,
    /// Whether the exemption applies.
    pub(crate) holds: bool,
}
