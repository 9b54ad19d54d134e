//! Fills the templates.

use super::chart::{Chart, name};
use super::diagram::Diagram;
use super::disks::Disk;
use super::head::{Head, Told, told};
use super::record::Record;
use super::setup::{Setup, setup};
use super::table::{Table, table};
use super::{Page, chart, diagram, disks};
use crate::story::{Absence, Waiting};
use askama::Template;

const CSS: &str = include_str!("report.css");
const JS: &str = include_str!("report.js");

#[derive(Template)]
#[template(path = "report/page.html")]
struct View<'a> {
    css: &'static str,
    js: &'static str,
    head: Head,
    story: Vec<Told>,
    left_out: u64,
    absent: &'a [Absence],
    waits: &'a [Waiting],
    diagram: Diagram,
    chart: Option<Chart>,
    /// For each node its positions at the end, by name.
    ends: Vec<(String, Vec<(String, String)>)>,
    disks: Vec<Disk>,
    disk_width: i64,
    table: Table,
    setup: Setup,
    replay: &'a str,
    version: &'static str,
}

pub(super) fn render(page: &Page<'_>, record: &Record) -> String {
    let nodes = record.positions.nodes.iter();
    let ends = nodes.map(|(node, all)| {
        let all = all.iter().filter(|(_, series)| series.last.is_valid());
        let values = all.map(|(of, series)| (name(of), series.value()));
        (node.clone(), values.collect())
    });
    let view = View {
        css: CSS,
        js: JS,
        head: Head::new(page),
        story: told(&page.story.lines),
        left_out: page.story.left_out,
        absent: &page.story.absent,
        waits: &page.story.waits,
        diagram: diagram::draw(page, record),
        chart: chart::draw(page, record),
        ends: ends.collect(),
        disks: disks::disks(page, record),
        disk_width: disks::WIDTH,
        table: table(page, record),
        setup: setup(page),
        replay: page.replay,
        version: env!("WALSIM_VERSION"),
    };
    view.render().expect("all values of the page can be shown")
}
