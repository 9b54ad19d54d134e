//! REPORT: a standby reports WAL as flushed only if the WAL is durable, and as applied only if the
//! standby has replayed it.

use crate::referee::{
    About, Check, Knowledge, Promise, Ruling, Site, Subscription, WireEnd, WireMessage,
};
use std::fmt::Display;
use walsim_core::base::Lsn;
use walsim_core::wire::replication::{StandbyMessage, StandbyStatus};

const ABOUT: About = About {
    code: "REPORT",
    promise: Promise::Safety,
    statement: "A standby reports as flushed only WAL that is durable on its disk, and as applied only WAL that it has replayed.",
    details: "Checked when the standby sends a status message, because it may crash before the message\n\
              arrives. The flush position is 0, or all WAL below it that was not removed yet is durable on the\n\
              standby's disk; the position in shared memory is not trusted. The apply position is 0, or at\n\
              most the replay position at that time. Durable refers to values: a byte may be rewritten with\n\
              the same value. WAL before the segment that the walreceiver requested is not checked, because a\n\
              startup process that has read a stale first half of a record requests the segment after it, and\n\
              all earlier WAL then counts as received (docs/hazards/stale-first-half-of-a-record.md). The\n\
              write position is not checked. It is legal that write < flush, that apply > flush, and that\n\
              positions are lower than in an earlier session.",
    source: "XLogWalRcvSendReply reports LogstreamResult.Flush, which XLogWalRcvFlush advances after the\n\
             fsync, and GetXLogReplayRecPtr (walreceiver.c)",
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
            "a standby reports WAL as flushed that a crash could still lose"
        } else if status.apply > self.replayed {
            "a standby reports WAL as applied that it has not replayed"
        } else {
            return Ok(());
        };
        let facts: [(&str, &dyn Display); 5] = [
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
        assert!(judge(9000, 0, 3001).unwrap_err().contains("applied"));
    }
}
