//! Worker threads. Each thread takes the next seed when it has finished a seed.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

thread_local! {
    static IN_RUN: Cell<bool> = const { Cell::new(false) };
}

/// Silences the panic hook for simulated runs. The world catches a panic of a run, and the verdict
/// contains the message.
pub(super) fn silence_panics_of_runs() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !IN_RUN.get() {
            usual(info);
        }
    }));
}

/// Runs a simulation on this thread. A panic of the simulation prints nothing.
pub(super) fn simulate<T>(run: impl FnOnce() -> T) -> T {
    IN_RUN.set(true);
    let result = run();
    IN_RUN.set(false);
    result
}

/// Lets `jobs` threads run the seeds from `from` on, until `to` or until `go_on` returns false. The
/// seeds are started in order, and every started seed is finished. The calling thread passes each
/// result to `take` as it arrives.
#[expect(
    clippy::disallowed_methods,
    reason = "workers are threads; runs do not use threads"
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
