//! `walsim waldump`: reads WAL with our WAL reader, and prints exactly what PostgreSQL's pg_waldump
//! prints.

mod files;
mod filter;
mod fullpages;
mod getopt;
mod line;
mod options;
mod pages;
mod scanf;
mod stats;
mod stop;

use files::Range;
use line::Lines;
use options::Options;
use pages::{Page, Pages};
use stats::Table;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stop::{PROGRAM, Stop};
use walsim_core::base::{Lsn, PgVersion, Planted, Probe, TimelineId};
use walsim_core::wal::{Next, Room, WalError, WalReader};
use walsim_core::wire::describe::Text;
use walsim_core::wire::page;
use walsim_core::wire::record::RecordView;

/// Output is written when this many bytes are buffered.
const FULL: usize = 64 << 10;
/// With `--follow`, the number of naps before each search for new WAL. pg_waldump searches a tenth
/// as often.
const NAPS: u32 = 2;
const NAP: Duration = Duration::from_millis(50);

/// Runs the command with the arguments after its name.
pub(super) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.map(OsString::into_vec).collect();
    // If the handler cannot be installed, SIGINT ends the command before it prints the statistics.
    let interrupted = Arc::new(AtomicBool::new(false));
    let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted));

    let mut out = Text::default();
    let mut stop = match dump(&args, &mut out, &interrupted) {
        Ok(()) => Stop::Done,
        Err(stop) => stop,
    };
    if let Err(error) = flush(&mut out) {
        stop = Stop::Output(error);
    }
    stop.finish()
}

fn dump(args: &[Vec<u8>], out: &mut Text, interrupted: &AtomicBool) -> Result<(), Stop> {
    let (folder, file) = Options::places(args);
    let version = files::version_of(folder.as_deref(), file.as_deref());
    let options = Options::parse(args, version, &mut out.bytes)?;
    let range = Range::find(&options)?;
    let version = range.version;
    let mut dump = Dump {
        lines: Lines::new(version, options.details),
        version,
        timeline: range.timeline,
        unknown_magic: range.unknown_magic,
        start: range.start,
        in_segment: range.geometry.segment_offset(range.start) != 0,
        table: options.stats.map(|_| Table::new()),
        shown: 0,
        options: &options,
        out,
        interrupted,
    };
    let mut reader = WalReader::new(range.geometry, version, None);
    reader.set_file_tli(range.timeline);
    reader.find_next_record(range.start);
    let error = dump.read(&mut reader, &mut Pages::new(range, options.follow))?;

    if let (Some(table), Some(by), false) = (&dump.table, options.stats, options.quiet) {
        table.show(dump.out, dump.version, by);
    }
    match error {
        Some(error) if !interrupted.load(Ordering::Relaxed) => Err(Stop::Fatal(format!(
            "error in WAL record at {}: {error}",
            reader.decoded.text(version)
        ))),
        Some(_) | None => Ok(()),
    }
}

/// The state of a dump: what is printed, the filter, and the position reached.
struct Dump<'a> {
    options: &'a Options,
    lines: Lines,
    version: PgVersion,
    timeline: TimelineId,
    unknown_magic: Option<u16>,
    start: Lsn,
    /// Whether the start position is inside a segment. If so, the command prints the position of
    /// the first record.
    in_segment: bool,
    table: Option<Table>,
    shown: i32,
    out: &'a mut Text,
    interrupted: &'a AtomicBool,
}

impl Dump<'_> {
    /// Reads to the end of WAL. Returns an error if an error ended the reading.
    fn read(
        &mut self,
        reader: &mut WalReader,
        pages: &mut Pages,
    ) -> Result<Option<WalError>, Stop> {
        let mut probe = Probe::new(Planted::NONE);
        let mut room = Room::default();
        let mut first = true;
        loop {
            match reader.next_view(&mut probe, &mut room) {
                Next::Record(record) => {
                    if first {
                        self.begin(&record);
                        first = false;
                    }
                    if self.options.filter.passes(&record) {
                        self.take(&record)?;
                        if self.options.limit > 0 && self.shown >= self.options.limit {
                            return Ok(None);
                        }
                    }
                    if self.interrupted.load(Ordering::Relaxed) {
                        return Ok(None);
                    }
                }
                Next::Need { page, len, .. } => {
                    // Reading the next page may take some time, so the output is flushed first.
                    if self.options.follow {
                        flush(self.out).map_err(Stop::Output)?;
                    }
                    match pages.read(page, len)? {
                        Page::Bytes(bytes) => reader.feed(page, bytes),
                        Page::EndReached if first => return Err(self.nothing_found(None)),
                        Page::EndReached => return Ok(None),
                    }
                }
                Next::End(error) if first => return Err(self.nothing_found(Some(&error))),
                Next::End(error) if !self.options.follow => return Ok(Some(error)),
                Next::End(error) => {
                    flush(self.out).map_err(Stop::Output)?;
                    if self.nap() {
                        return Ok(Some(error));
                    }
                    pages.forget();
                }
            }
        }
    }

    /// Prints the position of the first record if it differs from the requested start. Since 17 the
    /// line goes to stderr.
    fn begin(&mut self, first: &RecordView<'_>) {
        if first.lsn != self.start && self.in_segment {
            let skipped = first.lsn - self.start;
            let bytes = if skipped == 1 { "byte" } else { "bytes" };
            let said = format!(
                "first record is after {}, at {}, skipping over {skipped} {bytes}\n",
                self.start.text(self.version),
                first.lsn.text(self.version)
            );
            if self.version >= PgVersion::V17 {
                // If writing to stderr fails, there is no other place to report the failure.
                let _ = io::stderr().write_all(format!("{PROGRAM}: {said}").as_bytes());
            } else {
                self.out.add(said);
            }
        }
        if let Some(table) = &mut self.table {
            table.start_at(first.lsn);
        }
    }

    /// Counts or prints a record.
    #[inline]
    fn take(&mut self, record: &RecordView<'_>) -> Result<(), Stop> {
        self.shown = self.shown.saturating_add(1);
        if let (Some(table), false) = (&mut self.table, self.options.quiet) {
            table.add(record);
        } else if !self.options.quiet {
            let added = self.lines.add(self.out, record);
            added.map_err(|error| {
                let at = record.lsn.text(self.version);
                Stop::Fatal(format!("error in WAL record at {at}: {error}"))
            })?;
        }
        if let Some(folder) = &self.options.save_fullpage {
            fullpages::save(Path::new(OsStr::from_bytes(folder)), self.timeline, record)?;
        }
        if self.out.bytes.len() >= FULL {
            flush(self.out).map_err(Stop::Output)?;
        }
        Ok(())
    }

    /// Since 19 pg_waldump adds the reason, unless the end position was reached.
    fn nothing_found(&self, why: Option<&WalError>) -> Stop {
        let start = self.start.text(self.version);
        let mut error = format!("could not find a valid record after {start}");
        if let Some(why) = why.filter(|_| self.version >= PgVersion::V19) {
            error += &format!(": {why}");
        }
        // pg_waldump prints no detail message here, even if the WAL is of another major version.
        match self.unknown_magic {
            Some(magic) => Stop::Detailed {
                error,
                detail: unknown(magic),
            },
            None => Stop::Fatal(error),
        }
    }

    /// Waits for more WAL. Returns true if SIGINT has arrived.
    fn nap(&self) -> bool {
        (0..NAPS).any(|_| {
            std::thread::sleep(NAP);
            self.interrupted.load(Ordering::Relaxed)
        })
    }
}

/// The error for an unknown magic number.
fn unknown(magic: u16) -> String {
    let known = PgVersion::ALL.map(|version| {
        let (magic, major) = (page::magic(version), version.major());
        format!("{magic:04X} (PostgreSQL {major})")
    });
    let known = known.join(", ");
    format!("The first page has magic number {magic:04X}. Known are {known}.")
}

fn flush(out: &mut Text) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&out.bytes).and_then(|()| stdout.flush());
    out.bytes.clear();
    written
}
