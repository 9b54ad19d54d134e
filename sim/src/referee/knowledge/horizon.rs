//! Computes which WAL a checkpoint must not remove, from settings and positions only.

use crate::referee::fact::{Evidence, Value};
use walsim_core::base::{Geometry, Lsn, PgVersion, SegmentNo, Settings};
use walsim_core::shmem::{Shmem, Slot};

/// The lowest position that slots require. This is `None` if they require no WAL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Least(pub Option<Lsn>);

impl Least {
    /// Whether a checkpoint saves the slots before it reads the minimum of their positions. This is
    /// the order since 18.
    pub const fn is_saved_first(settings: &Settings) -> bool {
        settings.pg_version.major() >= 18
    }

    /// The lower of two positions. `None` is higher than any position.
    pub fn min(self, other: Self) -> Self {
        Self(self.0.into_iter().chain(other.0).min())
    }
}

impl Evidence for Least {
    fn value(&self) -> Value {
        match self.0 {
            Some(lsn) => Value::Lsn(lsn),
            None => Value::Text(String::from("nothing")),
        }
    }
}

/// The lowest position that a slot in shared memory requires.
pub(super) fn required(shmem: &Shmem) -> Least {
    let slots = shmem.slots.slots.iter();
    Least(
        slots
            .filter_map(|slot| held(shmem.settings.pg_version, slot))
            .min(),
    )
}

fn held(version: PgVersion, slot: &Slot) -> Option<Lsn> {
    let at = Some(slot.restart_lsn).filter(|at| slot.in_use && at.is_valid())?;
    let saved = slot.last_saved_restart_lsn;
    match version {
        // In 15 an invalidated slot retains WAL again when its standby reports a position.
        PgVersion::V15 => Some(at),
        _ if slot.invalidated.is_some() => None,
        PgVersion::V18 | PgVersion::V19 if !slot.temporary && saved.is_valid() => {
            Some(at.min(saved))
        }
        PgVersion::V16 | PgVersion::V17 | PgVersion::V18 | PgVersion::V19 => Some(at),
    }
}

/// The values of the settings that retain or limit WAL.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// `wal_keep_size`
    pub keep: u64,
    /// `max_slot_wal_keep_size`
    slots: Option<u64>,
}

impl Limits {
    /// Takes the values from a server's settings.
    #[must_use]
    pub const fn of(settings: &Settings) -> Self {
        Self {
            keep: settings.wal_keep_size,
            slots: settings.max_slot_wal_keep_size,
        }
    }

    /// For each setting, the one of two values that retains more WAL.
    #[must_use]
    pub fn widest(self, other: Self) -> Self {
        Self {
            keep: self.keep.max(other.keep),
            slots: self.slots.zip(other.slots).map(|(a, b)| a.max(b)),
        }
    }
}

/// The first segment that must be kept. A size setting counts whole segments, back from the segment
/// in which WAL ends.
#[must_use]
pub fn horizon(
    geometry: &Geometry,
    redo: Lsn,
    end: Lsn,
    slots: Least,
    limits: Limits,
) -> SegmentNo {
    let last = geometry.segment_of(end).0;
    let back = |bytes: u64| last.saturating_sub(bytes / u64::from(geometry.segment));
    let for_slots = slots.0.filter(|at| *at < end).map_or(last, |at| {
        let wanted = geometry.segment_of(at).0;
        limits.slots.map_or(wanted, |limit| wanted.max(back(limit)))
    });
    let for_size = back(limits.keep).max(1);
    let for_recovery = geometry.segment_of(redo).0;
    SegmentNo(for_slots.min(for_size).min(for_recovery))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{GEOMETRY, shmem};
    use walsim_core::shmem::Invalidation;

    fn at(segment: u64) -> Lsn {
        Lsn(segment * 1024 + 40)
    }

    #[test]
    fn the_neediest_decides() {
        let some = |segment| Least(Some(at(segment)));
        let none = Least(None);
        let unlimited = |keep| Limits { keep, slots: None };
        let limited = |segments: u64| Limits {
            keep: 0,
            slots: Some(segments * 1024 + 1023),
        };
        for (slots, limits, expected, why) in [
            (none, unlimited(0), 18, "recovery"),
            (some(19), unlimited(0), 18, "a slot behind the redo point"),
            (some(5), unlimited(0), 5, "a slot"),
            (some(21), unlimited(0), 18, "a slot beyond the end"),
            (some(5), limited(15), 5, "within the limit of slots"),
            (some(5), limited(14), 6, "beyond it"),
            (some(5), limited(0), 18, "a limit of less than a segment"),
            (none, unlimited(8 * 1024 + 1023), 12, "wal_keep_size"),
            (some(5), unlimited(8 * 1024), 5, "a slot that retains more"),
            (none, unlimited(1 << 40), 1, "more than exists"),
            (none, unlimited(1024), 18, "less than recovery needs"),
        ] {
            let found = horizon(&GEOMETRY, at(18), at(20), slots, limits);
            assert_eq!(found, SegmentNo(expected), "{why}");
        }
    }

    #[test]
    fn wider_limits_keep_more() {
        let limits = |keep, slots| Limits { keep, slots };
        let widest = limits(1, Some(9)).widest(limits(2, Some(8)));
        assert_eq!(widest, limits(2, Some(9)));
        assert_eq!(widest.widest(limits(0, None)), limits(2, None));
    }

    #[test]
    fn slots_hold_what_their_version_says() {
        let lost = Some(Invalidation::WalRemoved(Lsn(1)));
        let slot = |restart: u64, saved: u64, invalidated| Slot {
            in_use: true,
            restart_lsn: Lsn(restart),
            last_saved_restart_lsn: Lsn(saved),
            invalidated,
            ..Slot::default()
        };
        for (slot, on_15, on_18, why) in [
            (slot(50, 0, None), Some(50), Some(50), "never saved"),
            (slot(50, 40, None), Some(50), Some(40), "saved before"),
            (slot(50, 60, None), Some(50), Some(50), "went back"),
            (slot(0, 0, None), None, None, "without a position"),
            (slot(0, 0, lost), None, None, "invalidated"),
            (slot(50, 0, lost), Some(50), None, "and reported again"),
        ] {
            let mut shmem = shmem();
            shmem.slots.slots[3] = slot;
            shmem.slots.slots[4].restart_lsn = Lsn(7);
            for (version, expected) in [(PgVersion::V15, on_15), (PgVersion::V18, on_18)] {
                shmem.settings.pg_version = version;
                assert_eq!(required(&shmem), Least(expected.map(Lsn)), "{why}");
            }
        }
        let (a, b) = (Least(Some(Lsn(1))), Least(Some(Lsn(2))));
        assert_eq!((a.min(b), Least(None).min(b)), (a, b));
    }
}
