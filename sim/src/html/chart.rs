//! The chart of WAL positions: one panel for each node, with a common time axis.

use super::Page;
use super::axis::{Tick, scaled};
use super::positions::{Positions, Series, SeriesName, is_end};
use super::record::Record;
use crate::trace::Act;
use std::fmt::Write;
use walsim_core::base::Lsn;

/// The left end of the time axis.
pub(super) const LEFT: i64 = 86;
/// The length of the time axis.
pub(super) const WIDTH: i64 = 720;
const RIGHT: i64 = 200;
/// The height of the strip with the numbers of the events that led to the violation.
const STRIP: i64 = 34;
const PANEL: i64 = 150;
/// The distance between two panels. The name of the node is drawn there.
const GAP: i64 = 34;
/// The height of a label.
const LABEL: i64 = 13;
/// Marks nearer to each other than this are joined.
const NEAR: i64 = 44;

/// The picture, ready for its template.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) width: i64,
    pub(super) height: i64,
    pub(super) left: i64,
    pub(super) right: i64,
    pub(super) ticks: Vec<Tick>,
    pub(super) squeezed: Vec<(i64, i64)>,
    pub(super) story: Vec<Numbers>,
    pub(super) verdict: Option<i64>,
    pub(super) panels: Vec<Panel>,
    pub(super) bottom: i64,
}

/// Events that led to the violation, at nearly the same time. They share one label.
#[derive(Debug)]
pub(super) struct Numbers {
    pub(super) x: i64,
    pub(super) text: String,
    pub(super) width: i64,
    /// The first event.
    pub(super) number: u64,
}

/// One node.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) node: String,
    pub(super) top: i64,
    pub(super) bottom: i64,
    pub(super) grid: Vec<(i64, String)>,
    /// Spans in which the server is down.
    pub(super) downs: Vec<(i64, i64)>,
    pub(super) faults: Vec<Fault>,
    pub(super) lines: Vec<Line>,
}

/// A fault of a node.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) x: i64,
    pub(super) number: u64,
    pub(super) title: String,
}

/// One position.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) path: String,
    pub(super) name: String,
    pub(super) value: String,
    /// Where the line ends, and where its label is.
    pub(super) end: (i64, i64),
    pub(super) label: i64,
}

/// Draws the chart. Returns `None` if no node has a position.
pub(super) fn draw(page: &Page<'_>, record: &Record) -> Option<Chart> {
    let positions = &record.positions;
    let (low, high) = positions.bounds()?;
    let mut top = STRIP + GAP;
    let mut panels = Vec::new();
    for (node, all) in &positions.nodes {
        let y = |lsn: Lsn| top + PANEL - scaled(lsn.0.saturating_sub(low.0), high.0 - low.0, PANEL);
        let drawn = all.iter().filter(|((what, _), _)| class(what).is_some());
        let mut lines: Vec<Line> = drawn
            .filter_map(|(name, series)| line(name, series, positions, &y))
            .collect();
        spread(&mut lines, top + 4, top + PANEL);
        let third = (high.0 - low.0) / 2;
        let grid = [low, Lsn(low.0 + third), high].map(|lsn| (y(lsn), lsn.to_string()));
        panels.push(Panel {
            node: node.clone(),
            top,
            bottom: top + PANEL,
            grid: grid.into(),
            downs: downs(record, node),
            faults: faults(record, node),
            lines,
        });
        top += PANEL + GAP;
    }
    let bottom = top - GAP;
    let failed = page.outcome.verdict.code().is_some();
    Some(Chart {
        width: LEFT + WIDTH + RIGHT,
        height: bottom + 26,
        left: LEFT,
        right: LEFT + WIDTH,
        ticks: positions.axis.ticks(),
        squeezed: positions.axis.squeezed.clone(),
        story: numbers(page, positions),
        verdict: failed.then_some(LEFT + WIDTH),
        panels,
        bottom,
    })
}

/// The class of a line in the chart. Returns `None` if the chart does not show the position.
fn class(what: &str) -> Option<&'static str> {
    Some(match what {
        "insert" => "insert",
        "write" => "write",
        "flush" => "flush",
        "redo" => "redo",
        "sent" => "sent",
        "reported flush" => "reported",
        "received" => "received",
        "flushed" => "flushed",
        "replayed" => "replayed",
        "restart_lsn" => "slot",
        _ => return None,
    })
}

/// A position with its slot or standby: `flushed by standby1`.
pub(super) fn name((what, of): &SeriesName) -> String {
    match (*what, of.as_str()) {
        ("restart_lsn", slot) => format!("slot {slot}"),
        (what, "") => what.to_owned(),
        ("sent", to) => format!("sent to {to}"),
        ("reported write", by) => format!("written by {by}"),
        ("reported flush", by) => format!("flushed by {by}"),
        ("reported apply", by) => format!("applied by {by}"),
        (what, of) => format!("{what} {of}"),
    }
}

fn line(
    name_of: &SeriesName,
    series: &Series,
    positions: &Positions,
    y: &dyn Fn(Lsn) -> i64,
) -> Option<Line> {
    let mut path = String::new();
    let mut pen = None;
    let mut end = None;
    for (x, lsn) in &series.points {
        if !lsn.is_valid() {
            if pen.is_some() {
                write!(path, "H{x}").expect("writing to a string cannot fail");
                end = pen.map(|y: i64| (*x, y));
            }
            pen = None;
            continue;
        }
        let at = y(*lsn);
        let step = match pen {
            None => format!("M{x} {at}"),
            Some(before) if before == at => continue,
            Some(_) => format!("H{x}V{at}"),
        };
        path += &step;
        pen = Some(at);
    }
    if let Some(at) = pen {
        let x = positions.axis.x(u64::MAX);
        write!(path, "H{x}").expect("writing to a string cannot fail");
        end = Some((x, at));
    }
    let end = end?;
    Some(Line {
        class: class(name_of.0)?,
        path,
        name: match series.invalidated {
            true => name(name_of) + " (invalidated)",
            false => name(name_of),
        },
        value: series.value(),
        end,
        label: end.1 + 4,
    })
}

/// Moves labels apart, between `top` and `bottom`.
fn spread(lines: &mut [Line], top: i64, bottom: i64) {
    lines.sort_by_key(|line| line.label);
    let mut least = top;
    for line in lines.iter_mut() {
        line.label = line.label.max(least);
        least = line.label + LABEL;
    }
    let mut most = bottom.max(least - LABEL);
    if lines.last().is_some_and(|line| line.label > bottom) {
        let height = LABEL * i64::try_from(lines.len()).unwrap_or(0);
        most = bottom.max(top + height - LABEL);
    }
    for line in lines.iter_mut().rev() {
        line.label = line.label.min(most);
        most = line.label - LABEL;
    }
}

fn downs(record: &Record, node: &str) -> Vec<(i64, i64)> {
    let axis = &record.positions.axis;
    let (mut downs, mut since) = (Vec::new(), None);
    for event in record.events.values().filter(|event| event.node == node) {
        if let Act::World { text } = &event.act {
            if is_end(text) {
                since = since.or(Some(axis.x(event.at.0)));
            } else if text == "server started"
                && let Some(from) = since.take()
            {
                downs.push((from, axis.x(event.at.0)));
            }
        }
    }
    downs.extend(since.map(|from| (from, axis.x(u64::MAX))));
    downs
}

fn faults(record: &Record, node: &str) -> Vec<Fault> {
    let of_node = |text: &str| text.split(' ').any(|word| word == node);
    let is_fault = |event: &&crate::trace::TraceEvent| {
        let Act::World { text } = &event.act else {
            return false;
        };
        if event.node.is_empty() {
            return of_node(text) && !text.contains(" violated: ");
        }
        let is_routine = matches!(text.as_str(), "server started" | "accepts connections");
        event.node == node && !is_routine && !text.starts_with("operator: ")
    };
    let events = record.events.values().filter(is_fault);
    let mut faults: Vec<Fault> = Vec::new();
    for event in events {
        let x = record.positions.axis.x(event.at.0);
        let title = format!("{} s: {}", super::text::seconds(event.at.0), event.act);
        match faults.last_mut() {
            Some(last) if x - last.x < 8 => last.title += &format!("\n{title}"),
            _ => faults.push(Fault {
                x,
                number: event.number,
                title,
            }),
        }
    }
    faults
}

/// The numbers of the events that led to the violation, which are drawn above the chart.
fn numbers(page: &Page<'_>, positions: &Positions) -> Vec<Numbers> {
    let mut groups: Vec<(i64, usize, usize, u64)> = Vec::new();
    for (index, line) in page.story.lines.iter().enumerate() {
        let x = positions.axis.x(line.event.at.0);
        match groups.last_mut() {
            Some((at, _, last, _)) if x - *at < NEAR => *last = index + 1,
            _ => groups.push((x, index + 1, index + 1, line.event.number)),
        }
    }
    let text = |first, last| match first == last {
        true => format!("{first}"),
        false => format!("{first}–{last}"),
    };
    groups
        .into_iter()
        .map(|(x, first, last, number)| Numbers {
            x,
            width: 14 + 7 * i64::try_from(text(first, last).chars().count()).unwrap_or(0),
            text: text(first, last),
            number,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: i64) -> Line {
        Line {
            class: "flush",
            path: String::new(),
            name: String::new(),
            value: String::new(),
            end: (0, label),
            label,
        }
    }

    #[test]
    fn labels_do_not_overlap() {
        let mut lines: Vec<Line> = [100, 100, 98, 20, 150, 150].map(line).into();
        spread(&mut lines, 4, 150);
        let labels: Vec<i64> = lines.iter().map(|line| line.label).collect();
        assert!(
            labels.windows(2).all(|pair| pair[1] - pair[0] >= LABEL),
            "{labels:?}"
        );
        assert!(
            labels.iter().all(|label| (4..=150).contains(label)),
            "{labels:?}"
        );
    }

    #[test]
    fn a_server_that_is_down_has_no_position() {
        let series = Series {
            points: vec![(10, Lsn(1)), (20, Lsn(5)), (30, Lsn(0)), (40, Lsn(5))],
            last: Lsn(5),
            invalidated: false,
        };
        let axis = super::super::axis::Axis::new([].into_iter(), 100, 0, 50);
        let plan = crate::plan::generate(crate::plan::Profile::Faultless, 0);
        let positions = Positions::new(&plan, axis);
        let y = |lsn: Lsn| 100 - i64::try_from(lsn.0).expect("small");
        let name = ("flush", String::new());
        let line = super::line(&name, &series, &positions, &y).expect("there are positions");
        assert_eq!(line.path, "M10 99H20V95H30M40 95H50");
    }
}
