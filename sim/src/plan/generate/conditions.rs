//! Draws settings that change how servers behave for a whole run: what is switched off, and a limit
//! that leaves no reserve.

use super::{Draw, MS, SECOND};
use crate::plan::{Fault, FaultRow, NetworkPlan, NodePlan, When};

impl Draw {
    /// Draws settings that few servers have. Each of them is rare, so that most runs have the usual
    /// settings. Returns faults after which these settings matter.
    pub(super) fn conditions(
        &mut self,
        nodes: &mut [NodePlan],
        network: &mut NetworkPlan,
        active_us: u64,
    ) -> Vec<FaultRow> {
        if self.rng.ratio(1, 12) {
            let node = self.standby(nodes.len());
            nodes[node].settings.hot_standby = false;
        }
        if self.rng.ratio(1, 12) {
            let node = self.standby(nodes.len());
            nodes[node].settings.wal_receiver_status_interval_ms = 0;
        }
        if self.rng.ratio(1, 12) {
            let node = self.victim(nodes.len());
            nodes[node].settings.wal_recycle = false;
        }
        let mut faults = self.full_walsenders(nodes, active_us);
        faults.extend(self.timeouts_off(nodes, network, active_us));
        faults
    }

    /// As many walsenders as standbys. A standby that reconnects is refused while its old walsender
    /// still runs.
    fn full_walsenders(&mut self, nodes: &mut [NodePlan], active_us: u64) -> Vec<FaultRow> {
        let standby = self.standby(nodes.len());
        let off_us = self.between_ms(50 * MS, 500 * MS);
        let when = When::At(self.between_ms(500 * MS, active_us - 500 * MS));
        if !self.rng.ratio(1, 12) {
            return Vec::new();
        }
        let senders = u32::try_from(nodes.len() - 1).expect("a few standbys");
        // A standby needs the same value as its primary.
        for node in nodes {
            node.settings.max_wal_senders = senders;
        }
        let fault = Fault::PowerLoss {
            node: standby,
            off_us,
        };
        vec![FaultRow { when, fault }]
    }

    /// Switches timeouts off, so that only TCP keepalive detects a peer that has lost power.
    fn timeouts_off(
        &mut self,
        nodes: &mut [NodePlan],
        network: &mut NetworkPlan,
        active_us: u64,
    ) -> Vec<FaultRow> {
        let which = self.rng.below(48);
        let keepalive_us = self.between_ms(SECOND, 5 * SECOND);
        let off_us = self.between_ms(50 * MS, SECOND);
        let when = When::At(self.between_ms(500 * MS, active_us - 500 * MS));
        let (sender, receiver) = (which < 4, (2..6).contains(&which));
        if !sender && !receiver {
            return Vec::new();
        }
        network.keepalive_us = keepalive_us;
        for node in nodes {
            let settings = &mut node.settings;
            if sender {
                settings.wal_sender_timeout_ms = 0;
            }
            // A walreceiver that sends nothing gets no reset from a peer that has power again.
            if receiver {
                settings.wal_receiver_timeout_ms = 0;
                settings.wal_receiver_status_interval_ms = 0;
            }
        }
        let fault = Fault::PowerLoss { node: 0, off_us };
        vec![FaultRow { when, fault }]
    }
}
