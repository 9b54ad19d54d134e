//! From a connection to the place where streaming begins. Mirrors the middle of main and StreamLog of pg_receivewal.c, and
//! the commands of streamutil.c.

use super::PgReceivewalOptions;
use super::start_point::FindStreamingStart;
use super::stream_error::{StreamError, whole_error};
use crate::base::{Geometry, Lsn, TimelineId};
use crate::call::{DiskOp, FilePath, LogEvent, Place, Poll, ReceiveMessage};
use crate::ready_ok;
use crate::replication::libpqrcv::{Answer, Failure, Link, Query, Row};
use crate::sys::Cx;
use crate::wire::command::{Command, SystemIdentity};
use alloc::string::ToString;

/// `ERRCODE_DUPLICATE_OBJECT`
const DUPLICATE_OBJECT: [u8; 5] = *b"42710";

/// Where streaming begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Start {
    pub(super) at: Lsn,
    pub(super) tli: TimelineId,
}

/// The commands before START_REPLICATION.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Prepare {
    /// The first connection: the slot is made, and the segment size is not known yet.
    first: bool,
    identity: Option<SystemIdentity>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Identify,
    Identifying(Query),
    CreateSlot,
    CreatingSlot(Query),
    ShowSize,
    ShowingSize(Query),
    Find(FindStreamingStart),
    ReadingSlot(Query),
    /// Whatever lies before the start was fsynced when it got its name, but we may have died before the directory was.
    DirectorySynced(Start),
}

impl Prepare {
    pub(super) const fn new(first: bool) -> Self {
        Self {
            first,
            identity: None,
            phase: Phase::Identify,
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
        options: &PgReceivewalOptions,
    ) -> Poll<Result<Start, StreamError>> {
        match self.run(cx, link, options) {
            // What main does once, before it streams, is not tried again.
            Poll::Ready(Err(error)) if self.first && self.is_once() => {
                Poll::Ready(Err(error.in_vain()))
            }
            other @ (Poll::Ready(_) | Poll::Yield(_)) => other,
        }
    }

    const fn is_once(&self) -> bool {
        matches!(
            self.phase,
            Phase::Identifying(_) | Phase::CreatingSlot(_) | Phase::ShowingSize(_)
        )
    }

    fn run(
        &mut self,
        cx: &mut Cx<'_>,
        link: &mut Link,
        options: &PgReceivewalOptions,
    ) -> Poll<Result<Start, StreamError>> {
        loop {
            match &mut self.phase {
                Phase::Identify => {
                    let query = Query::send(cx, link, &Command::IdentifySystem);
                    self.phase = Phase::Identifying(query);
                }
                Phase::Identifying(query) => {
                    let failing = |failure| StreamError::command("IDENTIFY_SYSTEM", failure);
                    let answer = ready_ok!(query.poll(cx, link).map(|done| done.map_err(failing)));
                    let identity = row(answer).and_then(|row| SystemIdentity::from_row(&row));
                    let Some(identity) = identity else {
                        return Poll::Ready(Err(StreamError::fatal(ReceiveMessage::Identify)));
                    };
                    if identity.dbname.is_some() {
                        let message = ReceiveMessage::DatabaseSpecific;
                        return Poll::Ready(Err(StreamError::fatal(message)));
                    }
                    self.phase = if self.first {
                        Phase::CreateSlot
                    } else {
                        Phase::Find(FindStreamingStart::new(identity.system_id))
                    };
                    self.identity = Some(identity);
                }
                Phase::CreateSlot => {
                    self.phase = match &options.slot {
                        Some(name) if options.create_slot => {
                            let message = ReceiveMessage::CreatingSlot(name.clone());
                            cx.log(LogEvent::receive(message));
                            Phase::CreatingSlot(Query::send(cx, link, &create(name)))
                        }
                        Some(_) | None => Phase::ShowSize,
                    };
                }
                Phase::CreatingSlot(query) => match query.poll(cx, link) {
                    Poll::Yield(how) => return Poll::Yield(how),
                    // Behind the error the server has one more message for us.
                    Poll::Ready(Err(Failure::Error(fields)))
                        if options.slot_exists_ok && fields.sqlstate == DUPLICATE_OBJECT => {}
                    Poll::Ready(Err(failure)) => {
                        let name = options.slot.clone().unwrap_or_default();
                        let error = StreamError::command(create(&name).to_string(), failure);
                        return Poll::Ready(Err(error));
                    }
                    Poll::Ready(Ok(_)) => self.phase = Phase::ShowSize,
                },
                Phase::ShowSize => {
                    let name = "wal_segment_size".into();
                    let query = Query::send(cx, link, &Command::Show { name });
                    self.phase = Phase::ShowingSize(query);
                }
                Phase::ShowingSize(query) => {
                    let failing = |failure| StreamError::command("SHOW wal_segment_size", failure);
                    let answer = ready_ok!(query.poll(cx, link).map(|done| done.map_err(failing)));
                    match segment_size(&cx.shmem.settings.geometry, row(answer)) {
                        Ok(geometry) => cx.shmem.settings.geometry = geometry,
                        Err(message) => return Poll::Ready(Err(StreamError::fatal(message))),
                    }
                    let find = FindStreamingStart::new(self.identity().system_id);
                    self.phase = Phase::Find(find);
                }
                Phase::Find(find) => match (ready_ok!(find.poll(cx)), &options.slot) {
                    (Some((at, tli)), _) => return Poll::Yield(self.begin(cx, at, tli)),
                    (None, None) => return Poll::Yield(self.begin_at_end(cx)),
                    (None, Some(name)) => {
                        let name = name.clone();
                        let query = Query::send(cx, link, &Command::ReadSlot { name });
                        self.phase = Phase::ReadingSlot(query);
                    }
                },
                Phase::ReadingSlot(query) => {
                    let failing = |failure| StreamError::command("READ_REPLICATION_SLOT", failure);
                    let answer = ready_ok!(query.poll(cx, link).map(|done| done.map_err(failing)));
                    let name = options.slot.clone().unwrap_or_default();
                    return match slot_position(row(answer)) {
                        SlotPosition::Reserved(at, tli) => Poll::Yield(self.begin(cx, at, tli)),
                        // It holds nothing back yet.
                        SlotPosition::Unreserved => Poll::Yield(self.begin_at_end(cx)),
                        SlotPosition::Missing => {
                            Poll::Ready(Err(StreamError::lost(ReceiveMessage::NoSlot(name))))
                        }
                        SlotPosition::Unclear => {
                            Poll::Ready(Err(StreamError::lost(ReceiveMessage::ReadSlot(name))))
                        }
                    };
                }
                Phase::DirectorySynced(start) => {
                    let start = *start;
                    if let Err(e) = cx.done() {
                        let event = LogEvent::file("fsync", FilePath::from("."), e);
                        return Poll::Ready(Err(StreamError::Fatal(event)));
                    }
                    if start.tli > self.identity().timeline {
                        let message = ReceiveMessage::NoTimeline(start.tli);
                        return Poll::Ready(Err(StreamError::lost(message)));
                    }
                    let message = ReceiveMessage::Starting(start.at, start.tli);
                    cx.log(LogEvent::receive(message));
                    return Poll::Ready(Ok(start));
                }
            }
        }
    }

    fn identity(&self) -> &SystemIdentity {
        self.identity.as_ref().expect("asked for first of all")
    }

    /// From the end of the server's WAL.
    fn begin_at_end(&mut self, cx: &mut Cx<'_>) -> crate::call::Yield {
        let SystemIdentity {
            xlogpos, timeline, ..
        } = *self.identity();
        self.begin(cx, xlogpos, timeline)
    }

    /// Streaming always begins at a segment.
    fn begin(&mut self, cx: &mut Cx<'_>, at: Lsn, tli: TimelineId) -> crate::call::Yield {
        let geometry = &cx.shmem.settings.geometry;
        let at = geometry.segment_start(geometry.segment_of(at));
        self.phase = Phase::DirectorySynced(Start { at, tli });
        cx.disk(DiskOp::SyncDir(FilePath::from(".")), Place::StreamLog)
    }
}

/// `CheckServerVersionForStreaming`: of `server_version`, whose first digits are the major version.
pub(super) fn check_version(version: &str) -> Result<(), StreamError> {
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    let major: u32 = version[..digits].parse().unwrap_or(0);
    let version = version.to_string();
    match major {
        0..15 => Err(StreamError::fatal(ReceiveMessage::TooOld(version))),
        15..=18 => Ok(()),
        _ => Err(StreamError::fatal(ReceiveMessage::TooNew(version))),
    }
}

fn create(name: &str) -> Command {
    Command::CreateSlot {
        name: name.into(),
        temporary: false,
        reserve_wal: false,
    }
}

fn row(answer: Answer) -> Option<Row> {
    match answer {
        Answer::Done(row) => row,
        Answer::CopyBoth => None,
    }
}

fn text(row: &Row, column: usize) -> Option<&str> {
    core::str::from_utf8(row.get(column)?.as_ref()?).ok()
}

/// `RetrieveWalSegSize`: a number and its unit.
fn segment_size(known: &Geometry, row: Option<Row>) -> Result<Geometry, ReceiveMessage> {
    let shown = row.as_ref().and_then(|row| text(row, 0));
    let shown = shown.ok_or(ReceiveMessage::SegmentSizeUnparsed)?;
    let digits = shown.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = shown.split_at(digits);
    let multiplier = match unit {
        "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        _ => return Err(ReceiveMessage::SegmentSizeUnparsed),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| ReceiveMessage::SegmentSizeUnparsed)?;
    let bytes = number.saturating_mul(multiplier);
    let Geometry {
        wal_page,
        data_page,
        sector,
        ..
    } = *known;
    let geometry = u32::try_from(bytes)
        .ok()
        .and_then(|segment| Geometry::new(wal_page, segment, data_page, sector).ok());
    geometry.ok_or(ReceiveMessage::SegmentSize(bytes))
}

enum SlotPosition {
    Reserved(Lsn, TimelineId),
    Unreserved,
    Missing,
    Unclear,
}

/// `GetSlotInformation`: type, position, timeline.
fn slot_position(row: Option<Row>) -> SlotPosition {
    let Some(row) = row else {
        return SlotPosition::Unclear;
    };
    let [kind, at, tli] = row.as_slice() else {
        return SlotPosition::Unclear;
    };
    match (kind, at, tli) {
        (None, _, _) => SlotPosition::Missing,
        (Some(_), None, _) => SlotPosition::Unreserved,
        (Some(_), Some(_), _) if text(&row, 0) != Some("physical") => SlotPosition::Unclear,
        (Some(_), Some(_), _) => {
            let at = text(&row, 1).and_then(|at| at.parse().ok());
            let tli = text(&row, 2).and_then(|tli| tli.parse().ok());
            match (at, tli) {
                (Some(at), Some(tli)) => SlotPosition::Reserved(at, TimelineId(tli)),
                _ => SlotPosition::Unclear,
            }
        }
    }
}

/// What the server said in vain of a COPY.
pub(super) fn ended_by(fields: &crate::wire::backend::ErrorFields) -> StreamError {
    // No second attempt finds a segment that was removed. If it is gone when it is to be opened the code is that of a
    // missing file, and while WAL streams no other file is opened. If it went while it was read, the code is whatever
    // errno was left; the routine tells, in every language of messages.
    let in_routine = |name: &str| {
        fields
            .others
            .iter()
            .any(|(code, r)| *code == b'R' && r == name)
    };
    let is_removed = fields.sqlstate == *b"58P01" || in_routine("CheckXLogRemoved");
    let message = ReceiveMessage::Terminated(whole_error(fields));
    if is_removed {
        StreamError::fatal(message)
    } else {
        StreamError::lost(message)
    }
}
