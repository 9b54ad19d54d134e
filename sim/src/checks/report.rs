//! REPORT: a standby reports WAL as flushed only if the WAL is durable, and as applied only if the
//! standby has replayed it.

use crate::referee::{
    About, Check, Evidence, Knowledge, Promise, Ruling, Site, Subscription, WireEnd, WireMessage,
};
use walsim_core::base::Lsn;
use walsim_core::wire::replication::{StandbyMessage, StandbyStatus};

const ABOUT: About = About {
    code: "REPORT",
    promise: Promise::Safety,
    statement: "A standby reports only durable WAL as flushed, and only replayed WAL as applied.",
    details: "In every status message of a standby, all WAL before the flush position must be \
              durable on the standby's disk. The apply position must not be past the standby's \
              replay position.",
    notes: &[
        "The check reads the disk and ignores the flush position in shared memory.",
        "A reported position of 0 is legal.",
        "WAL that the standby has already removed need not be on its disk.",
        "WAL before the segment that the walreceiver requested is not checked. \
         docs/hazards/stale-first-half-of-a-record.md says why the standby may count that WAL as \
         received.",
        "A byte that is overwritten with the same value stays durable.",
        "The reported write position is not checked. It may be lower than the flush position.",
        "The apply position may be past the flush position.",
        "Positions may be lower than those that the standby reported on an earlier connection.",
    ],
    source: "XLogWalRcvSendReply reports LogstreamResult.Flush as the flush position. \
              XLogWalRcvFlush advances this position only after the fsync. The reported apply \
              position is the result of GetXLogReplayRecPtr (walreceiver.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Message(WireEnd::ClientSends, Some(b'd'))];

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Report;

impl Check for Report {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn on_message(&mut self, message: &WireMessage<'_>, known: &Knowledge) -> Ruling {
        let Ok(StandbyMessage::Status(status)) = StandbyMessage::decode(&message.frame().body)
        else {
            return Ok(());
        };
        let shmem = message.view.shmem();
        let (host, from) = (message.site.host, shmem.walrcv.receive_start);
        let truth = Truth {
            durable: known.durable_until(host, message.disk, from, status.flush),
            replayed: shmem.recovery.last_replayed_end,
        };
        truth.judge(message.site, &status)
    }
}

/// The highest positions that a standby may report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Truth {
    durable: Lsn,
    replayed: Lsn,
}

impl Truth {
    fn judge(self, site: Site<'_>, status: &StandbyStatus) -> Ruling {
        let message = if status.flush > self.durable {
            "a crash could still lose WAL that a standby reports as flushed"
        } else if status.apply > self.replayed {
            "a standby reports an apply position past its replay position"
        } else {
            return Ok(());
        };
        let facts: [(&str, &dyn Evidence); 5] = [
            ("write reported", &status.write),
            ("flush reported", &status.flush),
            ("durable on its disk", &self.durable),
            ("apply reported", &status.apply),
            ("replayed", &self.replayed),
        ];
        Err(site.violation(ABOUT.code, message, &facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::SITE;
    use walsim_core::base::TimestampTz;

    #[test]
    fn only_flush_and_apply_promise_something() {
        let truth = Truth {
            durable: Lsn(2000),
            replayed: Lsn(3000),
        };
        let judge = |write, flush, apply| {
            let status = StandbyStatus {
                write: Lsn(write),
                flush: Lsn(flush),
                apply: Lsn(apply),
                client_time: TimestampTz(0),
                reply_requested: false,
            };
            truth.judge(SITE, &status).map_err(|said| said.message)
        };
        assert_eq!(judge(9000, 2000, 3000), Ok(()));
        assert_eq!(judge(0, 2000, 3000), Ok(()), "segments are written again");
        assert_eq!(judge(0, 0, 0), Ok(()));
        assert!(judge(9000, 2001, 0).unwrap_err().contains("flushed"));
        assert!(judge(9000, 0, 3001).unwrap_err().contains("apply position"));
    }
}
