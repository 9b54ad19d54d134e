//! REPORT: a standby reports no WAL as flushed that it could still lose, and none as applied that
//! it has not replayed.

use crate::referee::{
    About, Check, Knowledge, Promise, Ruling, Site, Subscription, WireEnd, WireMessage,
};
use std::fmt::Display;
use walsim_core::base::Lsn;
use walsim_core::wire::replication::{StandbyMessage, StandbyStatus};

const ABOUT: About = About {
    code: "REPORT",
    promise: Promise::Safety,
    statement: "A standby reports as flushed only what is durable on its disk, and as applied only what it has replayed.",
    details: "Judged when a status message is built, not when it arrives: the standby may crash in between. Flush is 0,\n\
              or every byte below it that has not been removed yet is stable on that disk, whatever shared memory\n\
              claims; apply is 0, or at most the replayed position at that moment. Stable is meant by value: equal\n\
              bytes may be written again. What lies before the segment that the walreceiver was asked for is not\n\
              looked at: startup that has read a stale first half of a record asks for the segment after it, and\n\
              everything before counts as received (docs/hazards/stale-first-half-of-a-record.md). The written\n\
              position promises nothing. Write < flush, apply > flush, and positions lower than in an earlier session\n\
              are legal.",
    source: "XLogWalRcvSendReply reports LogstreamResult.Flush, which XLogWalRcvFlush raises after the fsync, and\n\
             GetXLogReplayRecPtr (walreceiver.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Message(WireEnd::ClientSends, Some(b'd'))];

/// Remembers nothing.
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

/// What a standby may report at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Truth {
    durable: Lsn,
    replayed: Lsn,
}

impl Truth {
    fn judge(self, site: Site<'_>, status: &StandbyStatus) -> Ruling {
        let message = if status.flush > self.durable {
            "a standby reports WAL as flushed that a crash could take from it"
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
