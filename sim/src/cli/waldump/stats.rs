//! Statistics of records. This module mirrors xlogstats.c and XLogDumpDisplayStats.

use super::line::{rmgr_name, type_name};
use super::options::Stats;
use std::fmt::Write as _;
use walsim_core::base::{Lsn, PgVersion};
use walsim_core::wire::describe::Text;
use walsim_core::wire::record::{RecordView, RmgrId};

/// One line of the table.
#[derive(Clone, Copy, Default)]
struct Count {
    records: u64,
    /// The bytes of the records, without their images.
    record_len: u64,
    image_len: u64,
}

/// The table of statistics.
pub(super) struct Table {
    /// Sixteen counts for each resource manager, one for each type.
    counts: Vec<[Count; 16]>,
    /// The start of the first record.
    start: Lsn,
    /// The end of the last record. This is invalid if no record was counted.
    end: Lsn,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            counts: vec![[Count::default(); 16]; 256],
            start: Lsn::INVALID,
            end: Lsn::INVALID,
        }
    }

    pub(super) const fn start_at(&mut self, first: Lsn) {
        self.start = first;
    }

    /// `XLogRecStoreStats`
    #[inline]
    pub(super) fn add(&mut self, record: &RecordView<'_>) {
        let rmid = record.header.rmid;
        let mut kind = usize::from(record.header.info >> 4);
        if rmid == RmgrId::TRANSACTION {
            // The highest bit is XLOG_XACT_HAS_INFO, which is not a part of the type.
            kind &= 0x7;
        }
        let count = &mut self.counts[usize::from(rmid.0)][kind];
        count.records += 1;
        count.record_len += u64::from(record.header.tot_len.wrapping_sub(record.image_len));
        count.image_len += u64::from(record.image_len);
        self.end = record.next;
    }

    /// Prints the table. Prints nothing if no record was counted.
    pub(super) fn show(&self, text: &mut Text, version: PgVersion, by: Stats) {
        if !self.end.is_valid() {
            return;
        }
        let total = Count::sum(self.counts.iter().flatten());
        text.add("WAL statistics between ")
            .lsn_of(version, self.start);
        text.add(" and ").lsn_of(version, self.end).add(":\n");
        heading(text);
        for (id, kinds) in (0..=u8::MAX).map(RmgrId).zip(&self.counts) {
            if !id.is_valid() {
                continue;
            }
            match by {
                Stats::PerRmgr => {
                    let count = Count::sum(kinds);
                    if id.name().is_some() || count.records > 0 {
                        let mut name = Text::default();
                        rmgr_name(&mut name, id);
                        count.row(text, &name, &total);
                    }
                }
                Stats::PerRecord => {
                    for (info, count) in (0..=u8::MAX).step_by(16).zip(kinds) {
                        if count.records > 0 {
                            let mut name = Text::default();
                            rmgr_name(&mut name, id);
                            name.add("/");
                            type_name(&mut name, version, id, info);
                            count.row(text, &name, &total);
                        }
                    }
                }
            }
        }
        total.last_row(text);
    }
}

fn heading(text: &mut Text) {
    for [name, n, record, image, combined, percent] in [
        [
            "Type",
            "N",
            "Record size",
            "FPI size",
            "Combined size",
            "(%)",
        ],
        [
            "----",
            "-",
            "-----------",
            "--------",
            "-------------",
            "---",
        ],
    ] {
        writeln!(
            text,
            "{name:<27} {n:>20} {percent:>8} {record:>20} {percent:>8} {image:>20} {percent:>8} \
             {combined:>20} {percent:>8}"
        )
        .expect("writing to memory cannot fail");
    }
}

impl Count {
    fn sum<'a>(counts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for count in counts {
            sum.records += count.records;
            sum.record_len += count.record_len;
            sum.image_len += count.image_len;
        }
        sum
    }

    const fn len(&self) -> u64 {
        self.record_len + self.image_len
    }

    /// `XLogDumpStatsRow`: percentages refer to the column total.
    fn row(&self, text: &mut Text, name: &Text, total: &Self) {
        text.add(&name.bytes);
        text.add(" ".repeat(27usize.saturating_sub(name.bytes.len())));
        for (part, whole) in [
            (self.records, total.records),
            (self.record_len, total.record_len),
            (self.image_len, total.image_len),
            (self.len(), total.len()),
        ] {
            let percent = percent(part, whole);
            write!(text, " {part:>20} ({percent:6.2})").expect("writing to memory cannot fail");
        }
        text.add("\n");
    }

    /// Prints the totals. The percentages are the shares of records and images in their combined
    /// size.
    fn last_row(&self, text: &mut Text) {
        let (dashes, none) = ("--------", "");
        writeln!(
            text,
            "{none:<27} {dashes:>20} {none:>8} {dashes:>20} {none:>8} {dashes:>20} {none:>8} \
             {dashes:>20}"
        )
        .expect("writing to memory cannot fail");
        let share = |part| format!("[{:.2}%]", percent(part, self.len()));
        writeln!(
            text,
            "{:<27} {:>20} {none:<9}{:>20} {:<9}{:>20} {:<9}{:>20} {:<6}",
            "Total",
            self.records,
            self.record_len,
            share(self.record_len),
            self.image_len,
            share(self.image_len),
            self.len(),
            "[100%]"
        )
        .expect("writing to memory cannot fail");
    }
}

#[expect(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "pg_waldump prints these numbers"
)]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}
