//! Determines, from the files in the directory, where to start streaming. Mirrors
//! FindStreamingStart and is_xlogfilename of pg_receivewal.c.
//!
//! Unlike pg_receivewal, it also checks that the files have the server's system identifier.

use super::stream_error::{StreamError, error};
use super::wal_file::size;
use crate::base::{Fd, Lsn, SegmentNo, TimelineId};
use crate::call::{
    DiskDone, DiskOp, FilePath, LogEvent, Message, OpenFlags, Place, Poll, ReceiveMessage, SqlState,
};
use crate::storage::file::{opened, read};
use crate::sys::Cx;
use crate::wal::names::parse_segment_name;
use crate::wire::page::{LONG_HEADER, LongPageHeader};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The compression of a segment file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Packed {
    No,
    Gzip,
    Lz4,
}

/// A segment file in the directory.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Found {
    segment: SegmentNo,
    tli: TimelineId,
    complete: bool,
    packed: Packed,
    name: String,
}

/// `FindStreamingStart`
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct FindStreamingStart {
    system_id: u64,
    /// Names that are still to be checked.
    rest: Vec<String>,
    highest: Option<Found>,
    /// The files whose first page is read, to compare its system identifier with the server's.
    witnesses: Vec<Found>,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Begin,
    Listed,
    Next,
    Looked(String, Packed),
    PackedOpened(String, u64),
    PackedRead(String, Fd),
    Witness,
    WitnessOpened(Found),
    WitnessRead(Found, Fd),
}

impl FindStreamingStart {
    pub(super) const fn new(system_id: u64) -> Self {
        Self {
            system_id,
            rest: Vec::new(),
            highest: None,
            witnesses: Vec::new(),
            phase: Phase::Begin,
        }
    }

    /// Returns the start of the highest segment if that segment is incomplete. Otherwise returns
    /// the start of the next segment.
    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
    ) -> Poll<Result<Option<(Lsn, TimelineId)>, StreamError>> {
        loop {
            let op = match core::mem::replace(&mut self.phase, Phase::Next) {
                Phase::Begin => {
                    self.phase = Phase::Listed;
                    DiskOp::List(FilePath::from("."))
                }
                Phase::Listed => {
                    match cx.done() {
                        Ok(DiskDone::Names(names)) => self.rest = names,
                        Ok(other) => panic!("a list gives names, not {other:?}"),
                        Err(error) => {
                            let path = FilePath::from(".");
                            let message = Message::OpenDir { path, error };
                            let event = LogEvent::error(SqlState::from(error), message);
                            return Poll::Ready(Err(StreamError::Fatal(event)));
                        }
                    }
                    continue;
                }
                Phase::Next => {
                    let Some(name) = self.rest.pop() else {
                        self.phase = Phase::Witness;
                        continue;
                    };
                    let path = FilePath::from(name.as_str());
                    match parts(&name) {
                        None => continue,
                        Some((_, _, false)) => {
                            self.note(cx, &name);
                            continue;
                        }
                        Some((_, Packed::Lz4, true)) => {
                            return Poll::Ready(Err(StreamError::fatal(ReceiveMessage::Lz4(name))));
                        }
                        Some((_, packed, true)) => self.phase = Phase::Looked(name, packed),
                    }
                    DiskOp::Stat(path)
                }
                Phase::Looked(name, packed) => match (size(cx), packed) {
                    (Err(e), _) => return failed("stat", &name, e),
                    // The file was removed after the directory was read.
                    (Ok(None), _) => continue,
                    (Ok(Some(size)), Packed::Gzip) => {
                        let op = open(&name);
                        self.phase = Phase::PackedOpened(name, size);
                        op
                    }
                    (Ok(Some(size)), Packed::No | Packed::Lz4) => {
                        if size == u64::from(cx.shmem.settings.geometry.segment) {
                            self.note(cx, &name);
                        } else {
                            warn(cx, ReceiveMessage::WrongSize { name, size });
                        }
                        continue;
                    }
                },
                // The last four bytes of a gzip file hold its uncompressed length.
                Phase::PackedOpened(name, size) => match cx.done() {
                    Ok(_) if size < 4 => {
                        let path = FilePath::from(name);
                        let message = ReceiveMessage::ShortCompressed { path, got: size };
                        return Poll::Ready(Err(StreamError::fatal(message)));
                    }
                    Ok(done) => {
                        let fd = opened(done);
                        self.phase = Phase::PackedRead(name, fd);
                        DiskOp::Read {
                            fd,
                            offset: size - 4,
                            len: 4,
                        }
                    }
                    Err(e) => return failed("open compressed", &name, e),
                },
                Phase::PackedRead(name, fd) => {
                    cx.close(fd);
                    match cx.done().map(read) {
                        Ok(bytes) => self.note_packed(cx, name, &bytes),
                        Err(e) => return failed("read compressed", &name, e),
                    }
                    continue;
                }
                Phase::Witness => match self.witnesses.pop() {
                    None => return Poll::Ready(self.start(cx)),
                    Some(found) => {
                        assert_eq!(found.packed, Packed::No, "{}", found.name);
                        assert!(self.witnesses.len() <= 1, "one complete, one not");
                        let op = open(&found.name);
                        self.phase = Phase::WitnessOpened(found);
                        op
                    }
                },
                Phase::WitnessOpened(found) => match cx.done() {
                    Ok(done) => {
                        let fd = opened(done);
                        self.phase = Phase::WitnessRead(found, fd);
                        DiskOp::Read {
                            fd,
                            offset: 0,
                            len: u32::try_from(LongPageHeader::LEN).expect("40 bytes"),
                        }
                    }
                    Err(e) => return failed("open", &found.name, e),
                },
                Phase::WitnessRead(found, fd) => {
                    cx.close(fd);
                    let outcome = match cx.done().map(read) {
                        Ok(bytes) => self.check(cx, &found, &bytes),
                        Err(e) => return failed("read", &found.name, e),
                    };
                    if let Err(error) = outcome {
                        return Poll::Ready(Err(error));
                    }
                    self.phase = Phase::Witness;
                    continue;
                }
            };
            return Poll::Yield(cx.disk(op, Place::FindStreamingStart));
        }
    }

    fn note_packed(&mut self, cx: &mut Cx<'_>, name: String, last: &[u8]) {
        let size = last.try_into().map_or(0, u32::from_le_bytes);
        if size == cx.shmem.settings.geometry.segment {
            self.note(cx, &name);
        } else {
            warn(cx, ReceiveMessage::WrongUncompressedSize { name, size });
        }
    }

    /// Remembers a valid segment if it is the highest so far.
    fn note(&mut self, cx: &Cx<'_>, name: &str) {
        let Some((stem, packed, complete)) = parts(name) else {
            return;
        };
        let Some((tli, segment)) = parse_segment_name(&cx.shmem.settings.geometry, stem) else {
            return;
        };
        let found = Found {
            segment,
            tli,
            complete,
            packed,
            name: name.to_string(),
        };
        let rank = |found: &Found| (found.segment, found.tli, found.complete);
        if packed == Packed::No {
            // One complete and one partial segment are checked. The partial segment alone would not
            // be enough, because its first page may not be written yet.
            match self.witnesses.iter_mut().find(|w| w.complete == complete) {
                Some(known) if rank(known) < rank(&found) => *known = found.clone(),
                Some(_) => {}
                None => self.witnesses.push(found.clone()),
            }
        }
        let is_higher = |known: &Found| rank(known) < rank(&found);
        // Segment 0 is never used.
        if segment > SegmentNo(0) && self.highest.as_ref().is_none_or(is_higher) {
            self.highest = Some(found);
        }
    }

    /// A first page of zeros is accepted, because the file may have been padded and not yet
    /// written.
    fn check(&self, cx: &Cx<'_>, found: &Found, bytes: &[u8]) -> Result<(), StreamError> {
        let geometry = &cx.shmem.settings.geometry;
        let Ok(header) = LongPageHeader::decode(bytes) else {
            return Ok(());
        };
        let is_header = header.std.has(LONG_HEADER)
            && header.std.pageaddr == geometry.segment_start(found.segment);
        if !is_header || header.sysid == self.system_id {
            return Ok(());
        }
        Err(StreamError::Fatal(error(ReceiveMessage::OtherSystem {
            name: found.name.clone(),
            found: header.sysid,
            server: self.system_id,
        })))
    }

    /// Where streaming starts. If the highest segment is the last possible segment, returns an
    /// error. In pg_receivewal the next position then wraps around to 0, which means that no
    /// segment was found. pg_receivewal therefore starts streaming at the end of the server's WAL.
    fn start(&self, cx: &Cx<'_>) -> Result<Option<(Lsn, TimelineId)>, StreamError> {
        let Some(found) = &self.highest else {
            return Ok(None);
        };
        assert_ne!(found.segment, SegmentNo(0), "segment 0 is never used");
        let bytes = u64::from(cx.shmem.settings.geometry.segment);
        let segment = found.segment.0 + u64::from(found.complete);
        match segment.checked_mul(bytes) {
            Some(start) => Ok(Some((Lsn(start), found.tli))),
            None => {
                let name = found.name.clone();
                Err(StreamError::fatal(ReceiveMessage::LastSegment(name)))
            }
        }
    }
}

/// `is_xlogfilename`: the first 24 characters, the compression, and whether the segment is
/// complete.
fn parts(name: &str) -> Option<(&str, Packed, bool)> {
    let digits = |b: &u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    if name.bytes().take_while(|b| digits(b)).count() != 24 {
        return None;
    }
    let (stem, suffix) = name.split_at(24);
    let (packed, complete) = match suffix {
        "" => (Packed::No, true),
        ".gz" => (Packed::Gzip, true),
        ".lz4" => (Packed::Lz4, true),
        ".partial" => (Packed::No, false),
        ".gz.partial" => (Packed::Gzip, false),
        ".lz4.partial" => (Packed::Lz4, false),
        _ => return None,
    };
    Some((stem, packed, complete))
}

fn open(name: &str) -> DiskOp {
    DiskOp::Open {
        path: FilePath::from(name),
        flags: OpenFlags::Existing,
    }
}

fn warn(cx: &mut Cx<'_>, message: ReceiveMessage) {
    let message = Message::Receive(message);
    cx.log(LogEvent::warning(SqlState::OK, message));
}

fn failed<T>(
    what: &'static str,
    name: &str,
    error: crate::call::DiskError,
) -> Poll<Result<T, StreamError>> {
    let event = LogEvent::file(what, FilePath::from(name), error);
    Poll::Ready(Err(StreamError::Fatal(event)))
}
