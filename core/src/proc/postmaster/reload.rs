//! Reloads the configuration. Mirrors SIGHUP_handler (process_pm_reload_request since 16).

use super::{Postmaster, Shutdown};
use crate::call::{LogEvent, Message, Signal};
use crate::sys::Cx;

impl Postmaster {
    /// Applies the configuration files and signals all children. In PostgreSQL each process reads
    /// the files itself, a little later. In walsim all processes see the new values at once. The
    /// signal wakes the processes, so that they compute their timeouts again.
    pub(super) fn process_reload_request(&mut self, cx: &mut Cx<'_>) {
        if !cx.take_signal(Signal::Hup) || self.shutdown > Shutdown::Smart {
            return;
        }
        cx.log(LogEvent::log(Message::Reloading));
        if let Some(config) = cx.kernel.config.clone() {
            for name in cx.shmem.settings.reload(&config) {
                cx.log(LogEvent::log(Message::NeedsRestart(name)));
            }
        }
        self.children.signal(cx, Signal::Hup, |_| true);
    }
}
