//! What lies between two machines, one direction at a time.

use walsim_core::base::Mono;

/// The properties of one direction between two machines. They may change in the course of a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkSpec {
    /// The least time that a segment travels.
    pub latency_us: u64,
    /// What chance may add to it.
    pub jitter_us: u64,
    /// Bandwidth in bytes per millisecond, shared by all connections.
    pub bytes_per_ms: u64,
    /// How many of a thousand segments are cut short at any byte.
    pub fragments: u32,
}

impl Default for LinkSpec {
    /// A local network.
    fn default() -> Self {
        Self {
            latency_us: 100,
            jitter_us: 100,
            bytes_per_ms: 100_000,
            fragments: 100,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Link {
    pub(super) spec: LinkSpec,
    /// Nothing gets through.
    pub(super) blocked: bool,
    /// Nothing arrives before.
    pub(super) stalled_until: Mono,
    /// The wire is taken until.
    pub(super) busy_until: Mono,
    /// Connections opened in this direction so far.
    pub(super) opened: u64,
}

impl Link {
    /// Puts a segment on the wire: when its last byte has left.
    pub(super) fn transmit(&mut self, now: Mono, len: u64) -> Mono {
        let start = now.max(self.busy_until);
        self.busy_until = start.after_us(len.saturating_mul(1000) / self.spec.bytes_per_ms.max(1));
        self.busy_until
    }
}
