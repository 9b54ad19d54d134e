//! Formats two parts of a report in columns: the events that led to the failure, and what the
//! processes wait for.

use super::layout::{Look, Style, hanging};
use crate::story::{Line, Relevance, Story, Waiting};

/// If a report is at least this wide, the process has a column of its own.
const WIDE: usize = 100;

pub(super) fn told(story: &Story, look: Look) -> String {
    let mut text = String::new();
    if !story.lines.is_empty() {
        text += "\n  what led to it:\n";
        let columns = Columns::of(&story.lines, look);
        for line in &story.lines {
            text += &columns.line(line, look);
        }
    }
    if !story.absent.is_empty() {
        text += "\n  what is missing:\n";
        for absence in &story.absent {
            text += &hanging(
                &format!("    {}  ", absence.node),
                &absence.text,
                look,
                Style::Bold,
            );
        }
    }
    if !story.waits.is_empty() {
        text += "\n  what the processes wait for:\n";
        for waiting in &story.waits {
            text += &wait(waiting, look);
        }
    }
    text
}

#[derive(Clone, Copy)]
struct Columns {
    node: usize,
    process: Option<usize>,
}

impl Columns {
    fn of(lines: &[Line], look: Look) -> Self {
        let node = lines.iter().map(|line| line.event.node.len()).max();
        let process = lines.iter().filter_map(|line| line.event.process);
        let process = process.map(|process| process.to_string().len()).max();
        let is_wide = look.width >= WIDE;
        Self {
            node: node.unwrap_or(0),
            process: process.filter(|_| is_wide),
        }
    }

    fn line(self, line: &Line, look: Look) -> String {
        let event = &line.event;
        let process = event.process.map(|process| process.to_string());
        let process = process.unwrap_or_default();
        let (mark, style) = match line.relevance {
            Relevance::Verdict => (">", Style::Red),
            Relevance::Fault => ("!", Style::Yellow),
            Relevance::Subject => ("*", Style::Plain),
            Relevance::Log => (" ", Style::Cyan),
            Relevance::Context => (" ", Style::Faint),
        };
        let (node, at) = (self.node, seconds(event.at.0));
        let mut head = format!("  {mark} {at:>11}  {:node$}  ", event.node);
        let mut text = line.text.clone();
        match self.process {
            Some(width) => head += &format!("{process:width$}  "),
            None if process.is_empty() => {}
            None => text = format!("{process}: {text}"),
        }
        if let Some(repeats) = line.repeats {
            let (more, until) = (repeats.more, seconds(repeats.until.0));
            let times = if more == 1 {
                "once more at"
            } else {
                "times more until"
            };
            text += &match more {
                1 => format!(" ... {times} {until}"),
                more => format!(" ... {more} {times} {until}"),
            };
        }
        hanging(&head, &text, look, style)
    }
}

/// A time in seconds, with microseconds. The events of a failure are often only microseconds apart.
fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

fn wait(waiting: &Waiting, look: Look) -> String {
    let Waiting {
        node,
        process,
        place,
        waits_for,
        since,
        until_acts,
    } = waiting;
    let reasons = match waits_for.is_empty() {
        true => String::from("nothing that could end the wait"),
        false => waits_for.join(" or "),
    };
    let mut text = format!("since {since}: in {place} for {reasons}");
    if !until_acts.is_empty() {
        text += &format!("; has to act: {until_acts}");
    }
    hanging(
        &format!("    {node} {process}  "),
        &text,
        look,
        Style::Plain,
    )
}
