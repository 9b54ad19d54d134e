//! If a check does not report a violation that PostgreSQL has too (an exemption), this counts as
//! the use of an excuse.

use super::{Excuse, Excuses, Forced};
use crate::referee::{Exemption, ForcedExemption};
use crate::world::World;

impl From<Exemption> for Excuse {
    fn from(exemption: Exemption) -> Self {
        match exemption {
            Exemption::SlotFileBehindMemory => Self::SlotFileBehindMemory,
        }
    }
}

impl World {
    /// The excuses that were used, including the exemptions that the checks used.
    pub(in crate::world) fn used_excuses(&self) -> Excuses {
        let mut used = self.excuses;
        for exemption in Exemption::ALL {
            used.add_times(exemption.into(), self.referee.exempted(exemption));
        }
        used
    }

    /// For tests: forces the decision about one part of an excuse from now on. An exemption has a
    /// cause and no witness.
    pub fn force(&mut self, forced: Forced) {
        self.forced = Some(forced);
        let exempts = |exemption: &Exemption| Excuse::from(*exemption) == forced.excuse;
        if let Some(exemption) = Exemption::ALL.into_iter().find(exempts) {
            let holds = forced.holds;
            self.referee.force(ForcedExemption { exemption, holds });
        }
    }
}
