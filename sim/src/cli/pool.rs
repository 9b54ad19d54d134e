//! Workers: threads that take one seed after the other.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

thread_local! {
    static IN_RUN: Cell<bool> = const { Cell::new(false) };
}

/// While a run is simulated, a panic is caught, and its message is part of the verdict.
pub(super) fn silence_panics_of_runs() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !IN_RUN.get() {
            usual(info);
        }
    }));
}

/// Simulates something on this thread; a panic in it prints nothing.
pub(super) fn simulate<T>(run: impl FnOnce() -> T) -> T {
    IN_RUN.set(true);
    let result = run();
    IN_RUN.set(false);
    result
}

/// Lets `jobs` threads work on the seeds from `from` on, in order, until `to` or until `go_on` says
/// no. Every seed that was begun is finished. `take` gets the results on this thread, in the order
/// in which they come.
#[expect(
    clippy::disallowed_methods,
    reason = "workers are threads; a run knows nothing of them"
)]
pub(super) fn each_seed<T: Send>(
    (from, to): (u64, u64),
    jobs: usize,
    go_on: impl Fn() -> bool + Sync,
    work: impl Fn(u64) -> T + Sync,
    mut take: impl FnMut(T),
) {
    let next = AtomicU64::new(from);
    let (results, arrived) = mpsc::sync_channel(4 * jobs);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            let (next, go_on, work, results) = (&next, &go_on, &work, results.clone());
            scope.spawn(move || {
                while go_on() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= to || results.send(simulate(|| work(seed))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        arrived.iter().for_each(&mut take);
    });
}
