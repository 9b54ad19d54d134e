//! `walsim waldump`: reads WAL with our reader and prints it as PostgreSQL's pg_waldump does, to the byte.

mod files;
mod filter;
mod getopt;
mod line;
mod options;
mod pages;
mod scanf;
mod stats;
mod stop;

use files::Range;
use options::Options;
use pages::{Page, Pages};
use stats::Table;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use stop::Stop;
use walsim_core::base::{Lsn, PgVersion, Planted, Probe};
use walsim_core::wal::{Next, Room, WalError, WalReader};
use walsim_core::wire::describe::Text;
use walsim_core::wire::record::RecordView;

/// So much is gathered before it is written.
const FULL: usize = 64 << 10;
/// A follower looks again after this many naps.
const NAPS: u32 = 20;
const NAP: Duration = Duration::from_millis(50);

/// Runs the command with what stands behind its name.
pub(super) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.map(OsString::into_vec).collect();
    // Without a handler SIGINT ends the command without its statistics; there is nothing else to be done about it.
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
    let options = Options::parse(args, &mut out.bytes)?;
    let range = Range::find(&options)?;
    let mut dump = Dump {
        version: range.version,
        start: range.start,
        in_segment: range.geometry.segment_offset(range.start) != 0,
        table: options.stats.map(|_| Table::new()),
        shown: 0,
        options: &options,
        out,
        interrupted,
    };
    let mut reader = WalReader::new(range.geometry, range.version, None);
    reader.set_file_tli(range.timeline);
    reader.find_next_record(range.start);
    let error = dump.read(&mut reader, &mut Pages::new(range, options.follow))?;

    if let (Some(table), Some(by), false) = (&dump.table, options.stats, options.quiet) {
        table.show(dump.out, dump.version, by);
    }
    match error {
        Some(error) if !interrupted.load(Ordering::Relaxed) => Err(Stop::Fatal(format!(
            "error in WAL record at {}: {error}",
            reader.decoded
        ))),
        Some(_) | None => Ok(()),
    }
}

/// What is printed, of which records, and how far it got.
struct Dump<'a> {
    options: &'a Options,
    version: PgVersion,
    start: Lsn,
    /// The start is not that of a segment: then it is told where the first record is.
    in_segment: bool,
    table: Option<Table>,
    shown: i32,
    out: &'a mut Text,
    interrupted: &'a AtomicBool,
}

impl Dump<'_> {
    /// Reads to the end, whatever that is, and returns the error that it is if it is one.
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
                Next::Need { page, len, .. } => match pages.read(page, len)? {
                    Page::Bytes(bytes) => reader.feed(page, bytes),
                    Page::EndReached if first => return Err(self.nothing_found()),
                    Page::EndReached => return Ok(None),
                },
                Next::End(_) if first => return Err(self.nothing_found()),
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

    /// Says where the first record is, if that was not asked for.
    fn begin(&mut self, first: &RecordView<'_>) {
        if first.lsn != self.start && self.in_segment {
            let skipped = first.lsn - self.start;
            self.out.add("first record is after ").lsn(self.start);
            self.out.add(", at ").lsn(first.lsn);
            self.out.add(", skipping over ").dec(skipped);
            self.out
                .add(if skipped == 1 { " byte\n" } else { " bytes\n" });
        }
        if let Some(table) = &mut self.table {
            table.start_at(first.lsn);
        }
    }

    /// Counts or prints a record.
    #[inline]
    fn take(&mut self, record: &RecordView<'_>) -> Result<(), Stop> {
        self.shown = self.shown.saturating_add(1);
        if self.options.quiet {
            return Ok(());
        }
        if let Some(table) = &mut self.table {
            table.add(record);
            return Ok(());
        }
        let added = line::add_record(self.out, self.version, record, self.options.details);
        added.map_err(|error| {
            Stop::Fatal(format!("error in WAL record at {}: {error}", record.lsn))
        })?;
        if self.out.bytes.len() >= FULL {
            flush(self.out).map_err(Stop::Output)?;
        }
        Ok(())
    }

    fn nothing_found(&self) -> Stop {
        Stop::Fatal(format!(
            "could not find a valid record after {}",
            self.start
        ))
    }

    /// Waits for more WAL. Was it interrupted?
    fn nap(&self) -> bool {
        (0..NAPS).any(|_| {
            std::thread::sleep(NAP);
            self.interrupted.load(Ordering::Relaxed)
        })
    }
}

fn flush(out: &mut Text) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&out.bytes).and_then(|()| stdout.flush());
    out.bytes.clear();
    written
}
