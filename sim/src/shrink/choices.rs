//! Pins choices: all choices of one kind get one fixed value. Also tries other seeds, with which
//! the plan may need fewer entries.

use super::rows::without;
use super::simplify::simplified;
use super::{Search, Size};

/// The shrinker tries to fix all choices of one of these kinds to this value. Each value makes a
/// run simpler. For example, a server dies between two steps. A power loss keeps no unsynced write
/// or keeps all of them. An fsync does not cover bytes written while it runs.
const BORING: [(&str, u64); 7] = [
    ("crash.when", 0),
    ("disk.loss", 1),
    ("disk.loss", 0),
    ("disk.fsync-covers", 0),
    ("disk.short-write", 0),
    ("net.retransmit", 0),
    ("session.pause", 0),
];

/// How many other seeds are tried.
const SEEDS: u64 = 8;

/// Tries to pin each kind of choice to one value. Keeps the pin if the run changes and still fails.
/// A later pin can make an earlier pin useless. So the function finally removes every pin without
/// which the run stays the same.
pub(super) fn pin_kinds(search: &mut Search<'_>) {
    for (kind, value) in BORING {
        if search.best.pins.contains_key(kind) {
            continue;
        }
        let mut candidate = search.best.clone();
        candidate.pins.insert(kind.into(), value);
        let hash = search.failed.hash;
        let judged = search.judge(&candidate);
        if let Some(failed) = judged.filter(|failed| failed.hash != hash) {
            search.accept(candidate, failed);
        }
    }
    let names: Vec<String> = search.best.pins.keys().cloned().collect();
    for name in names {
        let mut candidate = search.best.clone();
        candidate.pins.remove(&name);
        let hash = search.failed.hash;
        let judged = search.judge(&candidate);
        if let Some(failed) = judged.filter(|failed| failed.hash == hash) {
            search.accept(candidate, failed);
        }
    }
}

/// Tries other seeds, beginning with 0, on smaller candidates. A candidate has one workload row,
/// fault or action less than the best plan, or has default values everywhere.
pub(super) fn other_seed(search: &mut Search<'_>) -> bool {
    let rows = Size::of(&search.best).steps;
    let less = (0..rows)
        .rev()
        .map(|row| without(&search.best, row..row + 1));
    let simpler = simplified(&search.best);
    let all_simple = (simpler != search.best).then_some(simpler);
    let candidates: Vec<_> = less.chain(all_simple).collect();
    for candidate in candidates {
        for seed in 0..SEEDS {
            let mut candidate = candidate.clone();
            candidate.seed = seed;
            if search.attempt(candidate) {
                return true;
            }
        }
    }
    false
}
