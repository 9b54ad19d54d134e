//! Signals from the operating system.

use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use std::io;
use walsim_core::base::Pid;
use walsim_core::call::{Input, Signal};

/// Passes the signals that a server handles to its postmaster.
pub(super) struct Signals {
    pid: Pid,
    source: signal_hook_mio::v1_0::Signals,
}

impl std::fmt::Debug for Signals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signals")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

impl Signals {
    pub(super) fn new(pid: Pid, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut source = signal_hook_mio::v1_0::Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
        registry.register(&mut source, token, Interest::READABLE)?;
        Ok(Self { pid, source })
    }

    /// The signals that have arrived since the last call.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Input> + use<'_> {
        let pid = self.pid;
        self.source.pending().filter_map(move |number| {
            let signal = match number {
                SIGHUP => Signal::Hup,
                SIGINT => Signal::Int,
                SIGQUIT => Signal::Quit,
                SIGTERM => Signal::Term,
                _ => return None,
            };
            Some(Input::Signal(pid, signal))
        })
    }
}
