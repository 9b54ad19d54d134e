//! The link from one machine to another. Each direction is a link of its own.

use walsim_core::base::Mono;

/// The properties of one direction. They may change during a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkSpec {
    /// The minimum travel time of a segment.
    pub latency_us: u64,
    /// The maximum random time that is added to the latency.
    pub jitter_us: u64,
    /// The bandwidth in bytes per millisecond. All connections share it.
    pub bytes_per_ms: u64,
    /// How many of 1,000 segments are cut at a random byte.
    pub fragments: u32,
    /// The time until the sender's TCP keepalive detects a peer that has lost power.
    pub keepalive_us: u64,
}

impl Default for LinkSpec {
    /// A local network.
    fn default() -> Self {
        Self {
            latency_us: 100,
            jitter_us: 100,
            bytes_per_ms: 100_000,
            fragments: 100,
            keepalive_us: super::KEEPALIVE_MS * 1000,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Link {
    pub(super) spec: LinkSpec,
    /// A partition blocks this direction.
    pub(super) blocked: bool,
    /// Nothing arrives before this time.
    pub(super) stalled_until: Mono,
    /// The link is busy until this time.
    pub(super) busy_until: Mono,
    /// Number of connections opened in this direction.
    pub(super) opened: u64,
    pub(super) traffic: Traffic,
}

/// The number of bytes that one machine has sent to another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Traffic {
    /// Bytes that processes of the sender have passed to the kernel.
    pub sent: u64,
    /// Bytes that processes of the receiver have got from the kernel.
    pub received: u64,
}

impl Link {
    /// Puts a segment on the wire. Returns the time at which the last byte of the segment has left.
    pub(super) fn transmit(&mut self, now: Mono, len: u64) -> Mono {
        let start = now.max(self.busy_until);
        self.busy_until = start.after_us(len.saturating_mul(1000) / self.spec.bytes_per_ms.max(1));
        self.busy_until
    }
}
