//! Starts streaming on an open connection, after a check that the upstream has the WAL. Mirrors the
//! start of the loop in WalReceiverMain.

use super::{check_interrupts, failing};
use crate::base::{Lsn, PgVersion, TimestampTz};
use crate::call::{LogEvent, Message, Place, Poll, SqlState, Wait, Yield};
use crate::ready_ok;
use crate::replication::libpqrcv::{Answer, Link, Query, Rows};
use crate::sys::Cx;
use crate::wire::command::{Command, SystemIdentity};
use alloc::format;

/// Runs IDENTIFY_SYSTEM, checks its result, and runs START_REPLICATION.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct StartStream {
    start: Lsn,
    /// The time at which the upstream was first found to be behind this server.
    behind_since: Option<TimestampTz>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Identify,
    Identifying(Query),
    /// The upstream is behind this server. The walreceiver checks again at `until`.
    Behind {
        until: TimestampTz,
    },
    Starting(Query),
}

impl StartStream {
    pub(super) const fn new(start: Lsn) -> Self {
        Self {
            start,
            behind_since: None,
            phase: Phase::Identify,
        }
    }

    /// # Errors
    /// The upstream has another system identifier, has an older timeline or flush position, or
    /// refuses the command.
    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
    ) -> Poll<Result<Answer, LogEvent>> {
        loop {
            match &mut self.phase {
                Phase::Identify => {
                    // `RequestXLogStreaming` asks for whole segments. `WalReceiverMain`:
                    // `Assert(startpointTLI != 0)`.
                    let offset = cx.shmem.settings.geometry.segment_offset(self.start);
                    assert_eq!(offset, 0, "{} is in a segment", self.start);
                    assert_ne!(link.tli.0, 0, "no timeline is requested");
                    let query = Query::send(cx, link, &Command::IdentifySystem);
                    self.phase = Phase::Identifying(query);
                }
                Phase::Identifying(query) => {
                    let what = "could not receive database system identifier and timeline ID from the primary server";
                    let answer = query.poll(cx, link).map(|done| done.map_err(failing(what)));
                    let rows = ready_ok!(answer).rows();
                    let upstream = match check(cx, link, &rows) {
                        Ok(upstream) => upstream,
                        Err(event) => return Poll::Ready(Err(event)),
                    };
                    if self.must_wait(cx, link, &upstream) {
                        if let Err(event) = self.give_up(cx, &upstream) {
                            return Poll::Ready(Err(event));
                        }
                        let retry_ms = cx.shmem.settings.wal_retrieve_retry_interval_ms;
                        let until = cx.now.wall + i64::from(retry_ms) * 1000;
                        self.phase = Phase::Behind { until };
                        return Poll::Yield(Self::sleep(cx, until));
                    }
                    let slot = Some(link.slot_name.clone());
                    let command = Command::StartReplication {
                        slot: slot.filter(|name| !name.is_empty()),
                        start: self.start,
                        timeline: Some(link.tli),
                    };
                    self.phase = Phase::Starting(Query::send(cx, link, &command));
                }
                Phase::Behind { until } => {
                    let woken = cx.woken_by();
                    assert!(self.behind_since.is_some(), "the upstream is behind");
                    cx.reset_latch();
                    if let Err(event) = check_interrupts(cx) {
                        return Poll::Ready(Err(event));
                    }
                    if !woken.latch && !woken.timeout {
                        return Poll::Yield(Self::sleep(cx, *until));
                    }
                    self.phase = Phase::Identify;
                }
                Phase::Starting(query) => {
                    let what = "could not start WAL streaming";
                    return query.poll(cx, link).map(|done| done.map_err(failing(what)));
                }
            }
        }
    }

    /// Since 18.6 the walreceiver waits if the upstream's flush position is at most a segment
    /// behind the requested start. A standby that has just started can be that far behind. Before
    /// 18.6 START_REPLICATION fails.
    fn must_wait(&self, cx: &Cx<'_>, link: &Link, upstream: &SystemIdentity) -> bool {
        let settings = &cx.shmem.settings;
        settings.pg_version >= PgVersion::V18
            && upstream.timeline == link.tli
            && self.start > upstream.xlogpos
            && self.start - upstream.xlogpos <= u64::from(settings.geometry.segment)
    }

    fn give_up(&mut self, cx: &mut Cx<'_>, upstream: &SystemIdentity) -> Result<(), LogEvent> {
        let flush = upstream.xlogpos;
        assert!(flush < self.start, "{flush} is not behind");
        let message = Message::UpstreamBehind {
            start: self.start,
            flush,
        };
        let now = cx.now.wall;
        let timeout_ms = cx.shmem.settings.wal_receiver_timeout_ms;
        let Some(since) = self.behind_since else {
            self.behind_since = Some(now);
            cx.log(LogEvent::log(message));
            return Ok(());
        };
        if timeout_ms > 0 && now - since >= i64::from(timeout_ms) * 1000 {
            return Err(LogEvent::error(SqlState::NOT_IN_STATE, message));
        }
        Ok(())
    }

    fn sleep(cx: &Cx<'_>, until: TimestampTz) -> Yield {
        Yield::Wait(Wait::latch(Some(cx.until(until)), Place::WalReceiverMain))
    }
}

fn check(cx: &Cx<'_>, link: &Link, rows: &Rows) -> Result<SystemIdentity, LogEvent> {
    let upstream = rows
        .only(3)
        .and_then(|row| SystemIdentity::from_row(row))
        .ok_or_else(|| invalid_response(rows))?;
    if upstream.system_id != cx.shmem.control.system_identifier {
        let code = SqlState::NOT_IN_STATE;
        return Err(LogEvent::error(code, Message::SystemIdDiffers));
    }
    if upstream.timeline < link.tli {
        let message = Message::TimelineBehind {
            primary: upstream.timeline,
            ours: link.tli,
        };
        return Err(LogEvent::error(SqlState::NOT_IN_STATE, message));
    }
    Ok(upstream)
}

fn invalid_response(rows: &Rows) -> LogEvent {
    let message = Message::Upstream {
        what: "invalid response from primary server",
        why: format!(
            "Could not identify system: got {} rows and {} fields, expected 1 rows and 3 or more fields.",
            rows.count, rows.fields
        ),
    };
    LogEvent::error(SqlState::PROTOCOL_VIOLATION, message)
}
