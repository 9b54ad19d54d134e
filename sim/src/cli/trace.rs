//! `--trace`: prints the events of a run as they happen, one per line, using `tracing`.

use std::fmt;
use std::io::{self, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Runs a closure and writes its trace on this thread to `writer`.
pub(super) fn traced<W: Write + 'static, T>(writer: fn() -> W, run: impl FnOnce() -> T) -> T {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(move || Patient(writer()))
        .event_format(Play)
        .finish();
    tracing::subscriber::with_default(subscriber, run)
}

/// A writer that ignores a closed pipe (`| head`).
struct Patient<W>(W);

impl<W: Write> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Runs a closure without a trace, even inside [`traced`].
pub(super) fn untraced<T>(run: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::new(), run)
}

/// Formats a line as `  12.403s  standby1  text`.
struct Play;

impl<S, N> FormatEvent<S, N> for Play
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let Line { at, node, text } = line;
        writeln!(writer, "{at:>10}  {node:<9}  {text}")
    }
}

#[derive(Default)]
struct Line {
    at: String,
    node: String,
    text: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "at" => self.at = format!("{value:?}"),
            "node" => self.node = format!("{value:?}"),
            "message" => self.text.insert_str(0, &format!("{value:?}")),
            name => self.text.push_str(&format!(" {name}={value:?}")),
        }
    }
}
