//! The server log: lines for `tracing`.

use walsim_core::base::Pid;
use walsim_core::call::{LogEvent, Severity};

/// One event with its number of process, as PostgreSQL's log has it behind the time.
pub(super) fn write(pid: Pid, event: &LogEvent) {
    match event.severity {
        Severity::Log => tracing::info!("[{}] {event}", pid.n),
        Severity::Warning => tracing::warn!("[{}] {event}", pid.n),
        Severity::Error | Severity::Fatal | Severity::Panic => {
            tracing::error!("[{}] {event}", pid.n);
        }
    }
}
