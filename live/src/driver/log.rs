//! Writes the server log with `tracing`.

use walsim_core::base::Pid;
use walsim_core::call::{LogEvent, Severity};

/// Logs an event. As in PostgreSQL's log, the process id comes first.
pub(super) fn write(pid: Pid, event: &LogEvent) {
    line(pid, event.severity, &event.to_string());
    if let Some(detail) = event.detail() {
        line(pid, event.severity, &format!("DETAIL:  {detail}"));
    }
    if let Some(hint) = event.hint() {
        line(pid, event.severity, &format!("HINT:  {hint}"));
    }
}

fn line(pid: Pid, severity: Severity, text: &str) {
    match severity {
        Severity::Log => tracing::info!("[{}] {text}", pid.n),
        Severity::Warning => tracing::warn!("[{}] {text}", pid.n),
        Severity::Error | Severity::Fatal | Severity::Panic => {
            tracing::error!("[{}] {text}", pid.n);
        }
    }
}
