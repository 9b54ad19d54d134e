//! Prepares streaming: identifies the server, creates the slot if requested, and finds the start
//! position. Mirrors the middle part of main and StreamLog of pg_receivewal.c, and the commands of
//! streamutil.c.

use super::PgReceivewalOptions;
use super::start_point::FindStreamingStart;
use super::stream_error::{NOT_IN_HISTORY, StreamError, counts};
use crate::base::{Geometry, Lsn, TimelineId};
use crate::call::{DiskOp, FilePath, LogEvent, Place, Poll, ReceiveMessage};
use crate::ready_ok;
use crate::replication::libpqrcv::{Failure, Link, Query, Row, Rows};
use crate::sys::Cx;
use crate::wire::command::{Command, SystemIdentity};
use alloc::string::{String, ToString};

/// `ERRCODE_DUPLICATE_OBJECT`
const DUPLICATE_OBJECT: [u8; 5] = *b"42710";

/// Where streaming starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Start {
    pub(super) at: Lsn,
    pub(super) tli: TimelineId,
}

/// The commands before START_REPLICATION.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Prepare {
    /// Whether this is the first connection, which creates the slot and queries the segment size.
    first: bool,
    identity: Option<SystemIdentity>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Identify,
    Identifying(Query),
    CreateSlot,
    CreatingSlot {
        query: Query,
        /// Whether the server said that the slot already exists. The rest of the error response has
        /// not arrived yet.
        exists: bool,
    },
    ShowSize,
    ShowingSize(Query),
    Find(FindStreamingStart),
    ReadingSlot(Query),
    /// Waits for an fsync of the directory. A crash can have prevented this fsync after the last
    /// rename. The files before the start position are already durable.
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
            // As in main of pg_receivewal.c, the receiver does not retry after a failure of these
            // first steps.
            Poll::Ready(Err(error)) if self.first && self.is_once() => {
                Poll::Ready(Err(error.in_vain()))
            }
            other @ (Poll::Ready(_) | Poll::Yield(_)) => other,
        }
    }

    const fn is_once(&self) -> bool {
        matches!(
            self.phase,
            Phase::Identifying(_) | Phase::CreatingSlot { .. } | Phase::ShowingSize(_)
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
                    ready_ok!(Poll::Ready(self.on_identity(&answer.rows())));
                }
                Phase::CreateSlot => {
                    assert!(self.first, "the slot is created once");
                    self.phase = match &options.slot {
                        Some(name) if options.create_slot => creating(cx, link, name),
                        Some(_) | None => Phase::ShowSize,
                    };
                }
                Phase::CreatingSlot { query, exists } => match query.poll(cx, link) {
                    Poll::Yield(how) => return Poll::Yield(how),
                    // The error response is complete. ReadyForQuery follows.
                    Poll::Ready(Err(Failure::Error(fields)))
                        if options.slot_exists_ok && fields.sqlstate == DUPLICATE_OBJECT =>
                    {
                        *exists = true;
                    }
                    Poll::Ready(Err(failure)) => {
                        let command = create(&slot_name(options)).to_string();
                        return Poll::Ready(Err(StreamError::command(command, failure)));
                    }
                    Poll::Ready(Ok(answer)) => {
                        let rows = answer.rows();
                        if !*exists && rows.only(4).is_none() {
                            return Poll::Ready(Err(no_slot_row(options, &rows)));
                        }
                        self.phase = Phase::ShowSize;
                    }
                },
                Phase::ShowSize => {
                    let name = "wal_segment_size".into();
                    let query = Query::send(cx, link, &Command::Show { name });
                    self.phase = Phase::ShowingSize(query);
                }
                Phase::ShowingSize(query) => {
                    let failing = |failure| StreamError::command("SHOW wal_segment_size", failure);
                    let answer = ready_ok!(query.poll(cx, link).map(|done| done.map_err(failing)));
                    ready_ok!(Poll::Ready(self.on_segment_size(cx, &answer.rows())));
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
                    assert!(options.slot.is_some(), "there is a slot to read");
                    let failing = |failure| StreamError::command("READ_REPLICATION_SLOT", failure);
                    let answer = ready_ok!(query.poll(cx, link).map(|done| done.map_err(failing)));
                    let name = slot_name(options);
                    return match slot_position(&answer.rows(), name) {
                        Ok(Some((at, tli))) => Poll::Yield(self.begin(cx, at, tli)),
                        // The slot has no restart_lsn yet.
                        Ok(None) => Poll::Yield(self.begin_at_end(cx)),
                        Err(message) => Poll::Ready(Err(StreamError::fatal(message))),
                    };
                }
                Phase::DirectorySynced(start) => {
                    let start = *start;
                    return Poll::Ready(self.on_directory_synced(cx, link, start));
                }
            }
        }
    }

    fn on_identity(&mut self, rows: &Rows) -> Result<(), StreamError> {
        let identity = identified(rows).map_err(StreamError::fatal)?;
        self.phase = if self.first {
            Phase::CreateSlot
        } else {
            Phase::Find(FindStreamingStart::new(identity.system_id))
        };
        self.identity = Some(identity);
        Ok(())
    }

    fn on_segment_size(&mut self, cx: &mut Cx<'_>, rows: &Rows) -> Result<(), StreamError> {
        assert!(self.first, "the geometry does not change later");
        let ours = cx.shmem.settings.geometry;
        let geometry = segment_size(&ours, rows).map_err(StreamError::fatal)?;
        cx.shmem.settings.geometry = geometry;
        self.phase = Phase::Find(FindStreamingStart::new(self.identity().system_id));
        Ok(())
    }

    fn on_directory_synced(
        &self,
        cx: &mut Cx<'_>,
        link: &Link,
        start: Start,
    ) -> Result<Start, StreamError> {
        if let Err(e) = cx.done() {
            let event = LogEvent::file("fsync", FilePath::from("."), e);
            return Err(StreamError::Fatal(event));
        }
        if start.tli > self.identity().timeline {
            return Err(no_timeline(start.tli, link.is_standby));
        }
        let message = ReceiveMessage::Starting(start.at, start.tli);
        cx.log(LogEvent::receive(message));
        Ok(start)
    }

    fn identity(&self) -> &SystemIdentity {
        self.identity.as_ref().expect("asked for first of all")
    }

    /// Streaming starts at the end of the server's WAL.
    fn begin_at_end(&mut self, cx: &mut Cx<'_>) -> crate::call::Yield {
        let SystemIdentity {
            xlogpos, timeline, ..
        } = *self.identity();
        self.begin(cx, xlogpos, timeline)
    }

    /// Streaming starts at the beginning of the segment that contains `at`.
    fn begin(&mut self, cx: &mut Cx<'_>, at: Lsn, tli: TimelineId) -> crate::call::Yield {
        let geometry = &cx.shmem.settings.geometry;
        let at = geometry.segment_start(geometry.segment_of(at));
        self.phase = Phase::DirectorySynced(Start { at, tli });
        cx.disk(DiskOp::SyncDir(FilePath::from(".")), Place::StreamLog)
    }
}

/// `CheckServerVersionForStreaming`: the leading digits of `server_version` are the major version.
pub(super) fn check_version(version: &str) -> Result<(), StreamError> {
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    let major: u32 = version[..digits].parse().unwrap_or(0);
    let version = version.to_string();
    match major {
        0..15 => Err(StreamError::fatal(ReceiveMessage::TooOld(version))),
        15..=19 => Ok(()),
        _ => Err(StreamError::fatal(ReceiveMessage::TooNew(version))),
    }
}

fn creating(cx: &mut Cx<'_>, link: &mut Link, name: &str) -> Phase {
    let message = ReceiveMessage::CreatingSlot(name.into());
    cx.log(LogEvent::receive(message));
    let query = Query::send(cx, link, &create(name));
    let exists = false;
    Phase::CreatingSlot { query, exists }
}

fn slot_name(options: &PgReceivewalOptions) -> String {
    options.slot.clone().unwrap_or_default()
}

/// The error if the answer to CREATE_REPLICATION_SLOT is not exactly one row.
fn no_slot_row(options: &PgReceivewalOptions, rows: &Rows) -> StreamError {
    let name = slot_name(options);
    let rows = counts(rows, 4);
    StreamError::fatal(ReceiveMessage::CreateSlotRows { name, rows })
}

fn create(name: &str) -> Command {
    Command::CreateSlot {
        name: name.into(),
        temporary: false,
        reserve_wal: false,
    }
}

/// A field as text. NULL becomes empty, as in `PQgetvalue`.
pub(super) fn shown(row: &Row, column: usize) -> String {
    let bytes = row.get(column).and_then(|value| value.as_deref());
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

fn is_null(row: &Row, column: usize) -> bool {
    row.get(column).is_none_or(Option::is_none)
}

/// `RunIdentifySystem`. A connection to a database is refused.
fn identified(rows: &Rows) -> Result<SystemIdentity, ReceiveMessage> {
    for least in [3, 4] {
        if rows.only(least).is_none() {
            return Err(ReceiveMessage::IdentifyRows(counts(rows, least)));
        }
    }
    let row = rows.only(4).ok_or(ReceiveMessage::Identify)?;
    let identity = SystemIdentity::from_row(row).ok_or_else(|| {
        let location = shown(row, 2);
        match location.parse::<Lsn>() {
            Ok(_) => ReceiveMessage::Identify,
            Err(_) => ReceiveMessage::UnparsedLocation(location),
        }
    })?;
    if is_null(row, 3) {
        Ok(identity)
    } else {
        Err(ReceiveMessage::DatabaseSpecific)
    }
}

/// The error for a timeline that the server does not have. A retry helps only on a standby, because
/// a standby may switch to the timeline later.
fn no_timeline(tli: TimelineId, is_standby: bool) -> StreamError {
    let hint = (!is_standby).then_some(NOT_IN_HISTORY);
    let message = ReceiveMessage::NoTimeline { tli, hint };
    if is_standby {
        StreamError::lost(message)
    } else {
        StreamError::fatal(message)
    }
}

/// `RetrieveWalSegSize`: parses a number and its unit.
fn segment_size(known: &Geometry, rows: &Rows) -> Result<Geometry, ReceiveMessage> {
    let row = rows
        .only(1)
        .ok_or_else(|| ReceiveMessage::SegmentSizeRows(counts(rows, 1)))?;
    let shown = shown(row, 0);
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

/// `GetSlotInformation`: the restart_lsn and its timeline, or `None` if the slot has no
/// restart_lsn.
fn slot_position(rows: &Rows, name: String) -> Result<Option<(Lsn, TimelineId)>, ReceiveMessage> {
    let Some(row) = rows.only(3).filter(|_| rows.fields == 3) else {
        let rows = counts(rows, 3);
        return Err(ReceiveMessage::ReadSlotRows { name, rows });
    };
    if is_null(row, 0) {
        return Err(ReceiveMessage::NoSlot(name));
    }
    let kind = shown(row, 0);
    if kind != "physical" {
        return Err(ReceiveMessage::SlotType(kind));
    }
    if is_null(row, 1) {
        return Ok(None);
    }
    let lsn = shown(row, 1);
    match lsn.parse() {
        Ok(at) => Ok(Some((at, TimelineId(shown(row, 2).parse().unwrap_or(0))))),
        Err(_) => Err(ReceiveMessage::UnparsedSlot { lsn, name }),
    }
}
