//! Reads pages of segments. This module follows WALDumpReadPage, WALDumpOpenSegment and WALRead.
//!
//! One read covers several pages. If a read fails, the message names a single page, because
//! pg_waldump reads single pages.

use super::files::{PAGE, Range, open_in};
use super::stop::{Stop, reason};
use bytes::{Bytes, BytesMut};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;
use walsim_core::base::{Geometry, Lsn, PgVersion, SegmentNo, TimelineId};
use walsim_core::wal::names::segment_name;

/// The size of one read. Two pieces of this size should fit into the L2 cache.
const PIECE: usize = 128 << 10;
/// How often `--follow` tries to open a segment that does not exist yet. The next constant is the
/// delay between two attempts.
const TRIES: u32 = 10;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The source of pages.
pub(super) struct Pages {
    folder: PathBuf,
    geometry: Geometry,
    version: PgVersion,
    timeline: TimelineId,
    /// The end position. This is `Lsn::INVALID` if the user gave none.
    end: Lsn,
    partial: Vec<SegmentNo>,
    follow: bool,
    open: Option<(SegmentNo, File)>,
    /// The last piece that was read, and its position.
    piece: (Lsn, Bytes),
    /// The piece before the last one. It is kept to reuse its memory.
    spare: Bytes,
}

/// A page, or the answer that the dump ends before this page.
pub(super) enum Page {
    Bytes(Bytes),
    EndReached,
}

impl Pages {
    pub(super) fn new(range: Range, follow: bool) -> Self {
        Self {
            folder: range.folder,
            geometry: range.geometry,
            version: range.version,
            timeline: range.timeline,
            end: range.end,
            partial: range.partial,
            follow,
            open: None,
            piece: (Lsn::INVALID, Bytes::new()),
            spare: Bytes::new(),
        }
    }

    /// Returns at least the first `len` bytes of a page.
    pub(super) fn read(&mut self, page: Lsn, len: u32) -> Result<Page, Stop> {
        let mut wanted = PAGE;
        if self.end.is_valid() {
            let left = self.end.0.saturating_sub(page.0);
            if left < u64::from(len) {
                return Ok(Page::EndReached);
            }
            wanted = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        }
        if let Some(bytes) = self.in_piece(page, wanted) {
            return Ok(Page::Bytes(bytes));
        }
        self.read_piece(page, wanted)?;
        let bytes = self.in_piece(page, wanted);
        Ok(Page::Bytes(bytes.expect("just read")))
    }

    /// Drops the bytes that were read, because the file may have grown.
    pub(super) fn forget(&mut self) {
        self.piece = (Lsn::INVALID, Bytes::new());
    }

    fn in_piece(&self, page: Lsn, wanted: u32) -> Option<Bytes> {
        let (start, bytes) = &self.piece;
        let from = usize::try_from(page.0.checked_sub(start.0)?).ok()?;
        let to = from.checked_add(wanted as usize)?;
        (to <= bytes.len()).then(|| bytes.slice(from..to))
    }

    /// Reads at least `wanted` bytes from the start of a page.
    fn read_piece(&mut self, page: Lsn, wanted: u32) -> Result<(), Stop> {
        let segment = self.geometry.segment_of(page);
        let offset = self.geometry.segment_offset(page);
        let most = PIECE.min((self.geometry.segment - offset) as usize);
        let mut buffer = std::mem::take(&mut self.spare)
            .try_into_mut()
            .unwrap_or_default();
        buffer.resize(most, 0);
        let (got, error) = {
            let file = self.segment(segment)?;
            read_at(file, &mut buffer, offset)
        };
        let wanted = wanted as usize;
        if got < wanted {
            return Err(self.short_read(segment, offset, got, wanted, error));
        }
        buffer.truncate(got);
        let piece = (page, BytesMut::freeze(buffer));
        self.spare = std::mem::replace(&mut self.piece, piece).1;
        Ok(())
    }

    fn short_read(
        &self,
        segment: SegmentNo,
        offset: u32,
        got: usize,
        wanted: usize,
        error: Option<io::Error>,
    ) -> Stop {
        let mut name = segment_name(&self.geometry, self.timeline, segment);
        if self.version >= PgVersion::V17 {
            name = format!("\"{name}\"");
        }
        let why = match error {
            Some(error) => reason(&error),
            None => format!("read 0 of {}", wanted - got),
        };
        let offset = offset as usize + got;
        let message = format!("could not read from file {name}, offset {offset}: {why}");
        Stop::Fatal(message)
    }

    fn segment(&mut self, segment: SegmentNo) -> Result<&File, Stop> {
        let open = match self.open.take() {
            Some((number, file)) if number == segment => (number, file),
            _ => (segment, self.open_segment(segment)?),
        };
        Ok(&self.open.insert(open).1)
    }

    fn open_segment(&self, segment: SegmentNo) -> Result<File, Stop> {
        let name = segment_name(&self.geometry, self.timeline, segment);
        let mut file = name.clone();
        if self.partial.contains(&segment) {
            file += ".partial";
        }
        // When a server has filled a segment, it may need a moment to create the next segment. With
        // `--follow` we wait for the file. pg_waldump waits even without `--follow`.
        for _ in 0..if self.follow { TRIES } else { 1 } {
            if let Some(file) = open_in(&self.folder, file.as_bytes())? {
                return Ok(file);
            }
            if self.follow {
                std::thread::sleep(TRY_AGAIN_AFTER);
            }
        }
        let why = reason(&io::Error::from_raw_os_error(NO_ENTRY));
        let message = format!("could not find file \"{name}\": {why}");
        Err(Stop::Fatal(message))
    }
}

/// `ENOENT`
const NO_ENTRY: i32 = 2;

/// Reads until the buffer is full, the file ends or an error occurs. Returns the number of bytes
/// that were read, and the error.
fn read_at(file: &File, buffer: &mut [u8], offset: u32) -> (usize, Option<io::Error>) {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], u64::from(offset) + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (got, Some(error)),
        }
    }
    (got, None)
}
