//! The server log on stderr. As in PostgreSQL, each line begins with the time.

use std::fmt::{self, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts to print log messages.
pub(super) fn start() {
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr);
    lines.event_format(Lines).init();
}

/// Formats log lines as with `log_line_prefix = '%m '`. The process id is part of the message.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = Text(String::new());
        event.record(&mut text);
        writeln!(writer, "{} {}", timestamp(), text.0)
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// The current time as `2026-11-21 15:30:00.123 UTC`.
pub(super) fn timestamp() -> String {
    let mut text = String::new();
    let told = SystemTime.format_time(&mut Writer::new(&mut text));
    match (told, text.get(..10), text.get(11..23)) {
        (Ok(()), Some(day), Some(time)) => format!("{day} {time} UTC"),
        _ => text,
    }
}
