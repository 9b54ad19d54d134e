//! The contents of a node's data directory: its files, and the WAL records that our WAL reader
//! finds from the oldest segment on.

use crate::disk::{Disk, Entry};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use walsim_core::base::{Lsn, PgVersion, Planted, Probe, SegmentNo, Settings, TimelineId, Xid};
use walsim_core::wal::names::parse_segment_name;
use walsim_core::wal::{Next, WalError, WalReader};
use walsim_core::wire::record::RmgrId;

/// A data directory, copied from a simulated disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DataDirectory {
    /// Files and directories by path, parents first.
    pub entries: Vec<(String, Entry)>,
    /// The newest timeline that has WAL.
    pub timeline: TimelineId,
    /// All WAL records, from the first record of the oldest segment on.
    pub records: Vec<Listed>,
    /// The end of WAL, where no valid record begins.
    pub end_of_wal: Lsn,
    /// The WAL reader's error at the end of WAL.
    pub why: String,
}

/// A record in the list of a dump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The start of the record.
    pub lsn: Lsn,
    /// The length of the record without padding.
    pub len: u32,
    /// The transaction id in the record.
    pub xid: Xid,
    /// The start of the previous record.
    pub prev: Lsn,
    /// The resource manager of the record.
    pub rmgr: RmgrId,
    /// xl_info: the bits of the resource manager, and the flags.
    pub info: u8,
}

/// Formats a record as `0/1000028 114 0 0/0 XLOG 00`.
impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lsn,
            len,
            xid,
            prev,
            rmgr,
            info,
        } = self;
        write!(f, "{lsn} {len} {xid} {prev} {rmgr} {info:02X}")
    }
}

impl DataDirectory {
    /// Reads the data directory of a node. With `platter`, reads the contents that would survive a
    /// power loss. Otherwise reads the contents of the page cache.
    #[must_use]
    pub fn of(disk: &Disk, settings: &Settings, platter: bool) -> Self {
        let entries = disk.dump(platter);
        let (timeline, segments) = segments(&entries, settings);
        let mut records = Vec::new();
        let (end_of_wal, why) = match segments.keys().next() {
            Some(first) => read(&segments, *first, timeline, settings, &mut records),
            None => (Lsn::INVALID, String::from("there is no WAL segment")),
        };
        Self {
            entries,
            timeline,
            records,
            end_of_wal,
            why,
        }
    }

    /// The start of the first record.
    #[must_use]
    pub fn first_record(&self) -> Lsn {
        self.records
            .first()
            .map_or(Lsn::INVALID, |record| record.lsn)
    }
}

type Segments<'a> = BTreeMap<SegmentNo, &'a [u8]>;

/// The segments of the newest timeline.
fn segments<'a>(entries: &'a [(String, Entry)], settings: &Settings) -> (TimelineId, Segments<'a>) {
    let all = entries.iter().filter_map(|(path, entry)| match entry {
        Entry::File(bytes) => {
            let name = path.strip_prefix("pg_wal/")?;
            let (tli, segment) = parse_segment_name(&settings.geometry, name)?;
            Some((tli, segment, bytes.as_slice()))
        }
        Entry::Dir => None,
    });
    let all: Vec<_> = all.collect();
    let newest = all
        .iter()
        .map(|(tli, ..)| *tli)
        .max()
        .unwrap_or(TimelineId(1));
    let of_newest = all.into_iter().filter(|(tli, ..)| *tli == newest);
    (
        newest,
        of_newest
            .map(|(_, segment, bytes)| (segment, bytes))
            .collect(),
    )
}

fn read(
    segments: &Segments<'_>,
    first: SegmentNo,
    timeline: TimelineId,
    settings: &Settings,
    records: &mut Vec<Listed>,
) -> (Lsn, String) {
    let geometry = settings.geometry;
    let version: PgVersion = settings.pg_version;
    let mut reader = WalReader::new(geometry, version, None);
    let mut probe = Probe::new(Planted::NONE);
    reader.find_next_record(geometry.segment_start(first));
    loop {
        match reader.next(&mut probe) {
            Next::Record(record) => records.push(Listed {
                lsn: record.lsn,
                len: record.header.tot_len,
                xid: record.header.xid,
                prev: record.header.prev,
                rmgr: record.header.rmid,
                info: record.header.info,
            }),
            Next::Need { page, .. } => {
                let segment = geometry.segment_of(page);
                let from = geometry.segment_offset(page) as usize;
                let page_len = geometry.wal_page as usize;
                let bytes = segments
                    .get(&segment)
                    .and_then(|s| s.get(from..from + page_len));
                match bytes {
                    Some(bytes) => reader.feed(page, Bytes::copy_from_slice(bytes)),
                    None => reader.feed_failed(WalError::NoFile {
                        geometry,
                        tli: timeline,
                        segment,
                    }),
                }
            }
            Next::End(why) => return (reader.end, why.to_string()),
        }
    }
}
