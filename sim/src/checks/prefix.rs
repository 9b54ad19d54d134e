//! PREFIX: all nodes of a timeline have the same WAL. WAL that any node has flushed never changes.
//! Only a primary extends WAL. A record is applied only if it is complete and follows the record
//! applied before.

use crate::referee::{
    About, Change, ChangeKind, Check, Difference, DiskEvent, DiskKind, Evidence, FIRST_TIMELINE,
    FileClass, Knowledge, NodeAtEnd, Promise, Replayed, Ruling, Site, Step, Subscription, WalFault,
    difference, segment_of, wal_files,
};
use walsim_core::base::Lsn;

const ABOUT: About = About {
    code: "PREFIX",
    promise: Promise::Safety,
    statement: "All nodes have the same WAL bytes at the same position of a timeline.",
    details: "The first bytes that any node flushes at a WAL position become the reference for \
              that position. All bytes that any node flushes there later must equal the \
              reference. A standby must not have WAL that the primary has never flushed. Replay \
              must apply all records in order, and only complete records.",
    notes: &[
        "Bytes past the last record are not compared.",
        "If all nodes skip an aborted record, the bytes of this record are not compared.",
    ],
    source: "A timeline has one history: a record is overwritten only if it was never flushed \
              (StartupXLOG, xlog.c), and recovery reads records one after the other (ReadRecord, \
              xlogrecovery.c)",
};

const SUBSCRIPTIONS: [Subscription; 3] = [
    Subscription::Change(ChangeKind::Flushed),
    Subscription::Change(ChangeKind::Replayed),
    Subscription::Disk(DiskKind::Write, FileClass::Wal),
];

/// The check has no state. The referee keeps the bytes of all WAL.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Prefix;

impl Check for Prefix {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, _: &Knowledge) -> Ruling {
        match change {
            Change::Flushed(flushed) => match &flushed.fault {
                Some(fault) => Err(flushed_fault(step.site, fault, FLUSHED)),
                None => Ok(()),
            },
            Change::Replayed(replayed) => match &replayed.fault {
                Some(fault) => Err(replayed_fault(step.site, replayed, fault)),
                None => Ok(()),
            },
            Change::Sent(_)
            | Change::Received(..)
            | Change::Slots(_)
            | Change::Reported(_)
            | Change::Pages(_)
            | Change::Checkpoint(_)
            | Change::Records(_) => Ok(()),
        }
    }

    /// Judges a write to a WAL segment.
    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        let geometry = known.geometry();
        let Some((tli, segment)) = segment_of(geometry, event.path) else {
            return Ok(());
        };
        let Some(ledger) = known.ledger(tli) else {
            return Ok(());
        };
        let start = geometry.segment_start(segment);
        let flushed = known.wal_end_of(event.site.host);
        // WAL past the flush position is not compared.
        if start + event.start_of_write() >= flushed {
            return Ok(());
        }
        let (offset, bytes) = event.written();
        let at = start + offset;
        let below = usize::try_from(flushed - at)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        match difference(ledger, false, at, &bytes[..below]) {
            Some(differs) => {
                let message = "flushed WAL was overwritten with different bytes";
                Err(flushed_fault(
                    event.site,
                    &WalFault::Differs(differs),
                    message,
                ))
            }
            None => Ok(()),
        }
    }

    fn audit(&mut self, node: &NodeAtEnd<'_>, known: &Knowledge) -> Ruling {
        let (host, geometry) = (node.site.host, known.geometry());
        let Some(ledger) = known.ledger(FIRST_TIMELINE) else {
            return Ok(());
        };
        let missed = |what: &str, at: Lsn| {
            let message = format!("{what}; the checks after each step missed this");
            Err(node.site.violation(ABOUT.code, &message, &[("at", &at)]))
        };
        let range = ledger.start().max(known.kept_from(host))..known.wal_end_of(host);
        let bytes = wal_files::read(node.disk, geometry, FIRST_TIMELINE, range.clone());
        if (bytes.len() as u64) < range.end.0.saturating_sub(range.start.0) {
            return missed("flushed WAL is missing", range.end);
        }
        let primary = node.view.shmem().settings.primary_conninfo.is_none();
        match difference(ledger, primary, range.start, &bytes) {
            Some(differs) => missed("flushed WAL has changed", differs.at),
            None => Ok(()),
        }
    }
}

const FLUSHED: &str = "flushed WAL differs from the WAL that was flushed earlier at this position";

fn flushed_fault(site: Site<'_>, fault: &WalFault, differs: &str) -> crate::referee::Violation {
    let violation =
        |message: &str, facts: &[(&str, &dyn Evidence)]| site.violation(ABOUT.code, message, facts);
    match fault {
        WalFault::Short { flushed, end } => violation(
            "the flush position is past the end of the WAL on disk",
            &[("flushed", flushed), ("end of the WAL on disk", end)],
        ),
        WalFault::Differs(Difference {
            at,
            here,
            first,
            end,
        }) => {
            let hex =
                |byte: &Option<u8>| byte.map_or_else(String::new, |byte| format!("{byte:#04x}"));
            let (here, first) = (hex(here), hex(first));
            let facts: [(&str, &dyn Evidence); 4] = [
                ("first difference", at),
                ("here", &here),
                ("first flushed", &first),
                ("end of WAL", end),
            ];
            violation(differs, &facts)
        }
        WalFault::Beyond { here, primary } => violation(
            "a standby has WAL that the primary has never flushed",
            &[
                ("flushed on the standby", here),
                ("flushed on the primary", primary),
            ],
        ),
        WalFault::EndsEarly { end, flushed } => violation(
            "recovery ended before the end of flushed WAL, so new WAL would overwrite flushed WAL",
            &[("end of recovery", end), ("flushed before", flushed)],
        ),
        WalFault::WentBack | WalFault::NotWhole | WalFault::NotNext => {
            unreachable!("only replay finds these faults")
        }
    }
}

fn replayed_fault(
    site: Site<'_>,
    replayed: &Replayed,
    fault: &WalFault,
) -> crate::referee::Violation {
    let message = match fault {
        WalFault::WentBack => "the replay position went back",
        WalFault::NotWhole => "replay applied a record that is not complete in the flushed WAL",
        WalFault::NotNext => "the applied record does not follow the last applied record",
        WalFault::Short { .. }
        | WalFault::Differs(_)
        | WalFault::Beyond { .. }
        | WalFault::EndsEarly { .. } => {
            return flushed_fault(site, fault, FLUSHED);
        }
    };
    let facts: [(&str, &dyn Evidence); 3] = [
        ("from", &replayed.from),
        ("to", &replayed.to),
        ("last record", &replayed.read),
    ];
    site.violation(ABOUT.code, message, &facts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::Value;
    use crate::referee::testing::SITE;

    #[test]
    fn every_fault_tells_what_was_compared() {
        let differs = Difference {
            at: Lsn(1123),
            here: Some(6),
            first: None,
            end: Lsn(1500),
        };
        let (here, primary) = (Lsn(9), Lsn(8));
        for (fault, message, fact) in [
            (
                WalFault::Short {
                    flushed: here,
                    end: primary,
                },
                "past the end of the WAL",
                "0/9",
            ),
            (WalFault::Differs(differs), "differs", "0/463"),
            (WalFault::Beyond { here, primary }, "never flushed", "0/9"),
            (
                WalFault::EndsEarly {
                    end: primary,
                    flushed: here,
                },
                "overwrite",
                "0/8",
            ),
        ] {
            let violation = flushed_fault(SITE, &fault, FLUSHED);
            assert!(violation.message.contains(message), "{violation:?}");
            assert_eq!(
                (violation.code, violation.facts[0].value.to_string()),
                ("PREFIX", fact.to_owned())
            );
        }
    }

    #[test]
    fn a_record_that_is_not_the_next_one_is_told_with_its_place() {
        let replayed = Replayed {
            from: Lsn(1),
            to: Lsn(2),
            read: Lsn(3),
            applied: Lsn(0),
            fault: None,
        };
        for (fault, message) in [
            (WalFault::WentBack, "went back"),
            (WalFault::NotWhole, "not complete"),
            (WalFault::NotNext, "does not follow"),
        ] {
            let violation = replayed_fault(SITE, &replayed, &fault);
            assert!(violation.message.contains(message), "{violation:?}");
            assert_eq!(violation.facts[2].value, Value::Lsn(Lsn(3)));
        }
    }
}
