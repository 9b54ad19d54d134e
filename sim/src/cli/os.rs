//! What the operating system measures: CPU time, memory, wall time.

use std::time::{Duration, Instant};

/// The user and system time of this process, which /proc gives in hundredths of a second. On a
/// system without /proc, wall time is used instead.
pub(super) fn cpu_time() -> Duration {
    cpu_from_proc().unwrap_or_else(wall_since_start)
}

fn cpu_from_proc() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command name in parentheses. The name may contain any characters,
    // including parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    // USER_HZ is 100 on every architecture.
    Some(Duration::from_millis(10 * (user + system)))
}

fn wall_since_start() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(now).elapsed()
}

/// The maximum resident set size of this process, in KiB.
pub(super) fn max_rss_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Wall time.
#[expect(
    clippy::disallowed_methods,
    reason = "budgets and reports are in real time"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// The number of workers that can run in parallel on this machine.
pub(super) fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
