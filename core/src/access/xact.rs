//! Starts and ends transactions. Mirrors varsup.c (GetNewTransactionId), xact.c
//! (RecordTransactionCommit, RecordTransactionAbort), procarray.c (ProcArrayEndTransaction) and
//! message.c (LogLogicalMessage).

use super::clog::{ClogExtend, ClogSet};
use super::xlog_flush::XLogFlush;
use super::xlog_insert::{Inserted, Insertion, XLogInsert};
use crate::base::{Bug, Lsn, Xid};
use crate::call::{LogEvent, Place, Poll, Yield};
use crate::shmem::{LockId, LockMode, Role, XactStatus};
use crate::storage::relation;
use crate::sys::Cx;
use crate::wal::position::bytepos_to_start;
use crate::wire::logical_message::LogicalMessage;
use crate::wire::record::RmgrId;
use crate::wire::xact_records::{XactEnd, XactOp};
use crate::{ready, ready_ok};
use bytes::Bytes;

/// `GetNewTransactionId`: assigns an id to the transaction of the process. First creates the clog
/// page of the id if necessary.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct AssignXid {
    phase: AssignPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum AssignPhase {
    #[default]
    Lock,
    Extend(Xid, ClogExtend),
}

impl AssignXid {
    /// Assigns an id to the transaction of the running process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// WAL could not be written.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Xid, LogEvent>> {
        loop {
            match &mut self.phase {
                AssignPhase::Lock => {
                    assert!(
                        !cx.shmem.recovery_in_progress(),
                        "no transaction ids are assigned during recovery"
                    );
                    ready!(cx.acquire(LockId::XidGen, LockMode::Exclusive));
                    let xid = cx.shmem.next_xid;
                    self.phase = AssignPhase::Extend(xid, ClogExtend::new(xid));
                }
                AssignPhase::Extend(xid, extend) => {
                    let xid = *xid;
                    ready_ok!(extend.poll(cx));
                    assert!(cx.holds(LockId::XidGen), "{} assigns {}", cx.me, xid.0);
                    assert_eq!(cx.shmem.next_xid, xid, "another process assigned it");
                    cx.shmem.next_xid = after(xid);
                    // The id is published before the lock is released. A process that sees the next
                    // id must also see this transaction as running.
                    set_running(cx, xid);
                    cx.release(LockId::XidGen);
                    return Poll::Ready(Ok(xid));
                }
            }
        }
    }
}

/// `TransactionIdAdvance`
#[must_use]
pub const fn after(xid: Xid) -> Xid {
    match xid.0.wrapping_add(1) {
        0..3 => Xid::FIRST_NORMAL,
        next => Xid(next),
    }
}

fn set_running(cx: &mut Cx<'_>, xid: Xid) {
    let me = cx.me;
    if let Some(proc) = cx.shmem.procs.get_mut(me) {
        proc.xid = xid;
    }
}

fn delay_checkpoint(cx: &mut Cx<'_>, delay: bool) {
    let me = cx.me;
    if let Some(proc) = cx.shmem.procs.get_mut(me) {
        // The critical sections of a process do not overlap.
        assert_ne!(proc.delay_checkpoint, delay, "{me}");
        proc.delay_checkpoint = delay;
    }
}

/// `XLogSetAsyncXactLSN`: the walwriter will flush WAL up to `lsn`.
fn set_async_lsn(cx: &mut Cx<'_>, lsn: Lsn) {
    // XLogInsertRecord returns a position after the next page header for a switch record that fills
    // its page.
    let reserved = bytepos_to_start(&cx.shmem.settings.geometry, cx.shmem.xlog.curr_byte_pos);
    assert!(
        lsn.is_valid() && lsn <= reserved,
        "{lsn} is beyond {reserved}"
    );
    cx.shmem.xlog.async_commit = cx.shmem.xlog.async_commit.max(lsn);
    cx.shmem.procs.set_latch_of(Role::WalWriter);
}

fn end_record(cx: &Cx<'_>, op: XactOp, xid: Xid) -> XLogInsert {
    let end = XactEnd::new(op, cx.now.wall);
    let main = end.encode(cx.shmem.settings.pg_version);
    XLogInsert::new(Insertion::new(RmgrId::TRANSACTION, end.info(), xid, main))
}

/// `CommitTransaction`. All steps except the last are a critical section. The order of the steps
/// matters:
///
/// - The delay flag is set before the record is inserted. Replay from a redo point after the record
///   would not set the status. A checkpoint with such a redo point therefore waits until the status
///   is set.
/// - The status is set after the flush. A clog page that shows the commit is therefore written only
///   after the record.
/// - The id is removed from the running transactions last. Other sessions see the rows only after
///   that.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CommitTransaction {
    xid: Xid,
    synchronous: bool,
    wrote: Option<Lsn>,
    phase: CommitPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum CommitPhase {
    Start,
    Insert(XLogInsert),
    Flush(Inserted, XLogFlush),
    SetStatus(Inserted, ClogSet),
    ClearDelay(Inserted),
    EndTransaction(Inserted),
}

impl CommitTransaction {
    /// Commits transaction `xid`, which is invalid if no id was assigned. `synchronous` means that
    /// the commit waits for the flush. `wrote` is the end of the last record that the transaction
    /// wrote.
    #[must_use]
    pub const fn new(xid: Xid, synchronous: bool, wrote: Option<Lsn>) -> Self {
        Self {
            xid,
            synchronous,
            wrote,
            phase: CommitPhase::Start,
        }
    }

    /// Returns the end of the commit record, or `None` if no record was written.
    ///
    /// # Errors
    /// A PANIC for any failure, because the transaction is then in an unknown state.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Option<Lsn>, LogEvent>> {
        self.advance(cx)
            .map(|outcome| outcome.map_err(LogEvent::in_critical_section))
    }

    fn advance(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Option<Lsn>, LogEvent>> {
        let why = Place::RecordTransactionCommit;
        self.phase = match &mut self.phase {
            CommitPhase::Start => {
                if !self.xid.is_valid() {
                    if let Some(end) = self.wrote {
                        set_async_lsn(cx, end);
                    }
                    return Poll::Ready(Ok(None));
                }
                delay_checkpoint(cx, true);
                CommitPhase::Insert(end_record(cx, XactOp::Commit, self.xid))
            }
            CommitPhase::Insert(insert) => {
                let inserted = ready_ok!(insert.poll(cx));
                if !self.synchronous {
                    end_before_status(cx);
                }
                if self.synchronous {
                    CommitPhase::Flush(inserted, XLogFlush::new(inserted.end))
                } else {
                    set_async_lsn(cx, inserted.end);
                    let set = ClogSet::new(self.xid, XactStatus::Committed, inserted.end);
                    CommitPhase::SetStatus(inserted, set)
                }
            }
            CommitPhase::Flush(inserted, flush) => {
                ready_ok!(flush.poll(cx));
                let flushed = cx.shmem.xlog.flush;
                assert!(inserted.end <= flushed, "{inserted:?}: {flushed}");
                end_before_status(cx);
                let set = ClogSet::new(self.xid, XactStatus::Committed, Lsn::INVALID);
                CommitPhase::SetStatus(*inserted, set)
            }
            CommitPhase::SetStatus(inserted, set) => {
                ready_ok!(set.poll(cx));
                CommitPhase::ClearDelay(*inserted)
            }
            CommitPhase::ClearDelay(inserted) => {
                delay_checkpoint(cx, false);
                CommitPhase::EndTransaction(*inserted)
            }
            CommitPhase::EndTransaction(inserted) => {
                let running = cx.shmem.procs.get(cx.me).map(|proc| proc.xid);
                let gone = cx.has_bug(Bug::XidEndsBeforeStatus);
                assert!(gone || running == Some(self.xid), "{running:?}");
                set_running(cx, Xid::INVALID);
                return Poll::Ready(Ok(Some(inserted.end)));
            }
        };
        Poll::Yield(Yield::Again(why))
    }
}

/// With the planted bug, the id is removed from the running transactions before the status is set.
/// Another process can then read a status that is not set yet.
fn end_before_status(cx: &mut Cx<'_>) {
    if cx.planted(Bug::XidEndsBeforeStatus) {
        set_running(cx, Xid::INVALID);
    }
}

/// `AbortTransaction`, after locks and pins were released. The abort record is not flushed: without
/// the record the transaction also counts as aborted.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AbortTransaction {
    xid: Xid,
    phase: AbortPhase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum AbortPhase {
    Start,
    Insert(XLogInsert),
    SetStatus(ClogSet),
    EndTransaction,
}

impl AbortTransaction {
    /// Aborts transaction `xid`, which is invalid if no id was assigned.
    #[must_use]
    pub const fn new(xid: Xid) -> Self {
        Self {
            xid,
            phase: AbortPhase::Start,
        }
    }

    /// # Errors
    /// A PANIC for any failure.
    pub fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        self.advance(cx)
            .map(|outcome| outcome.map_err(LogEvent::in_critical_section))
    }

    fn advance(&mut self, cx: &mut Cx<'_>) -> Poll<Result<(), LogEvent>> {
        let why = Place::RecordTransactionAbort;
        loop {
            match &mut self.phase {
                AbortPhase::Start => {
                    if !self.xid.is_valid() {
                        return Poll::Ready(Ok(()));
                    }
                    self.phase = AbortPhase::Insert(end_record(cx, XactOp::Abort, self.xid));
                }
                AbortPhase::Insert(insert) => {
                    let inserted = ready_ok!(insert.poll(cx));
                    set_async_lsn(cx, inserted.end);
                    let set = ClogSet::new(self.xid, XactStatus::Aborted, Lsn::INVALID);
                    self.phase = AbortPhase::SetStatus(set);
                    return Poll::Yield(Yield::Again(why));
                }
                AbortPhase::SetStatus(set) => {
                    ready_ok!(set.poll(cx));
                    self.phase = AbortPhase::EndTransaction;
                    return Poll::Yield(Yield::Again(Place::ProcArrayEndTransaction));
                }
                AbortPhase::EndTransaction => {
                    let running = cx.shmem.procs.get(cx.me).map(|proc| proc.xid);
                    assert_eq!(running, Some(self.xid), "it ends once");
                    set_running(cx, Xid::INVALID);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// `LogLogicalMessage`: a record of any size that changes no data.
#[must_use]
pub fn logical_message(xid: Xid, transactional: bool, prefix: &str, message: Bytes) -> XLogInsert {
    let prefix = [prefix.as_bytes(), &[0]].concat();
    let record = LogicalMessage {
        db: relation::DATABASE,
        transactional,
        prefix: Bytes::from(prefix),
        message,
    };
    let main = record.encode();
    XLogInsert::new(Insertion::new(
        RmgrId::LOGICAL_MESSAGE,
        LogicalMessage::INFO,
        xid,
        main,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::clog::ClogStatus;
    use crate::sys::testing::Fixture;
    use alloc::vec::Vec;

    fn assign(fixture: &mut Fixture, pid: crate::base::Pid) -> Xid {
        let mut assign = AssignXid::new();
        fixture.run(pid, |cx| assign.poll(cx)).unwrap()
    }

    /// The state that another process sees after each step of a commit.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Seen {
        delays: bool,
        inserted: bool,
        durable: bool,
        committed: bool,
        running: bool,
    }

    fn history(synchronous: bool) -> Vec<Seen> {
        let mut fixture = Fixture::primary();
        let pid = fixture.spawn(Role::Backend);
        let xid = assign(&mut fixture, pid);
        let before = fixture.shmem.xlog.curr_byte_pos;
        let flushed = fixture.shmem.xlog.flush;
        let mut commit = CommitTransaction::new(xid, synchronous, None);
        let mut history: Vec<Seen> = Vec::new();
        loop {
            fixture.complete(pid);
            let done = matches!(
                fixture.step(pid, |cx| commit.poll(cx)),
                Poll::Ready(Ok(Some(_)))
            );
            let proc = fixture.shmem.procs.get(pid).unwrap();
            let seen = Seen {
                delays: proc.delay_checkpoint,
                inserted: fixture.shmem.xlog.curr_byte_pos > before,
                durable: fixture.shmem.xlog.flush > flushed,
                committed: fixture.shmem.clog.status(xid, 512) == Some(XactStatus::Committed),
                running: proc.xid.is_valid(),
            };
            if history.last() != Some(&seen) {
                history.push(seen);
            }
            if done {
                return history;
            }
        }
    }

    /// A commit makes each of these changes in a separate step, in this order: sets the delay flag,
    /// inserts the record, flushes, sets the status, clears the delay flag, leaves the running
    /// transactions.
    #[test]
    fn the_steps_of_a_commit_are_in_order() {
        let begin = Seen {
            delays: true,
            inserted: false,
            durable: false,
            committed: false,
            running: true,
        };
        let inserted = Seen {
            inserted: true,
            ..begin
        };
        let durable = Seen {
            durable: true,
            ..inserted
        };
        let committed = Seen {
            committed: true,
            ..durable
        };
        let cleared = Seen {
            delays: false,
            ..committed
        };
        let ended = Seen {
            running: false,
            ..cleared
        };
        assert_eq!(
            history(true),
            [begin, inserted, durable, committed, cleared, ended]
        );
        let committed = Seen {
            committed: true,
            ..inserted
        };
        let cleared = Seen {
            delays: false,
            ..committed
        };
        let ended = Seen {
            running: false,
            ..cleared
        };
        assert_eq!(history(false), [begin, inserted, committed, cleared, ended]);
    }

    /// The clog page that shows an asynchronous commit is written only after the commit record is
    /// flushed.
    #[test]
    fn a_clog_page_is_written_after_its_commit_is_flushed() {
        let mut fixture = Fixture::primary();
        let pid = fixture.spawn(Role::Backend);
        let xid = assign(&mut fixture, pid);
        let mut commit = CommitTransaction::new(xid, false, None);
        let end = fixture.run(pid, |cx| commit.poll(cx)).unwrap().unwrap();
        assert!(fixture.shmem.xlog.flush < end && fixture.shmem.xlog.async_commit == end);
        let mut write = crate::access::clog::CheckPointClog::new();
        fixture.run(pid, |cx| write.poll(cx)).unwrap();
        assert!(fixture.shmem.xlog.flush >= end);
        assert!(fixture.position("fsync pg_wal/") < fixture.position("write pg_xact/0000"));
    }

    /// If an id is the first on its clog page, the page is zeroed and logged before the id is
    /// assigned.
    #[test]
    fn a_new_clog_page_is_logged_first() {
        let mut fixture = Fixture::primary();
        let pid = fixture.spawn(Role::Backend);
        fixture.shmem.next_xid = Xid(512 * 4 - 1);
        let before = fixture.shmem.xlog.curr_byte_pos;
        assert_eq!(assign(&mut fixture, pid), Xid(2047));
        assert_eq!(fixture.shmem.xlog.curr_byte_pos, before);
        let mut second = AssignXid::new();
        fixture.run_to(pid, Place::CopyXLogRecordToWAL, |cx| second.poll(cx));
        assert_eq!(fixture.shmem.next_xid, Xid(2048));
        assert!(fixture.shmem.clog.pages.contains_key(&1));
        assert_eq!(fixture.run(pid, |cx| second.poll(cx)), Ok(Xid(2048)));
        assert!(fixture.shmem.xlog.curr_byte_pos > before);
        assert_eq!(fixture.shmem.next_xid, Xid(2049));
    }

    #[test]
    fn an_abort_flushes_nothing() {
        let mut fixture = Fixture::primary();
        let pid = fixture.spawn(Role::Backend);
        let xid = assign(&mut fixture, pid);
        let flushed = fixture.shmem.xlog.flush;
        let mut abort = AbortTransaction::new(xid);
        fixture.run(pid, |cx| abort.poll(cx)).unwrap();
        let mut status = ClogStatus::new(xid);
        assert_eq!(
            fixture.run(pid, |cx| status.poll(cx)),
            Ok(XactStatus::Aborted)
        );
        assert_eq!(fixture.shmem.xlog.flush, flushed);
        assert!(fixture.shmem.procs.running_xids().is_empty());
    }

    #[test]
    fn a_transaction_that_only_read_writes_nothing() {
        let mut fixture = Fixture::primary();
        let pid = fixture.spawn(Role::Backend);
        let before = fixture.shmem.xlog.curr_byte_pos;
        let mut commit = CommitTransaction::new(Xid::INVALID, true, None);
        assert_eq!(fixture.run(pid, |cx| commit.poll(cx)), Ok(None));
        let mut abort = AbortTransaction::new(Xid::INVALID);
        assert_eq!(fixture.run(pid, |cx| abort.poll(cx)), Ok(()));
        assert_eq!(fixture.shmem.xlog.curr_byte_pos, before);
    }
}
