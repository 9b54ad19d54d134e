//! The samples in `tests/golden`: parts of WAL, control files, and slot files. Each part of WAL
//! comes with PostgreSQL's list of its records.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use walsim_core::base::{Geometry, Lsn, PgVersion, Planted, Probe, TimelineId};
use walsim_core::wal::{Next, PageIdent, WalError, WalReader};
use walsim_core::wal::{fragments, init_page, mark_contrecord, mark_overwrite};
use walsim_core::wire::page::{BKP_REMOVABLE, PageHeader};
use walsim_core::wire::record::Record;

/// The stock page size.
pub(crate) const PAGE: usize = 8192;

/// A part of WAL, and PostgreSQL's list of its records.
pub(crate) struct Slice {
    pub(crate) name: String,
    pub(crate) version: PgVersion,
    /// The timeline of the segment's file.
    pub(crate) tli: TimelineId,
    pub(crate) system_identifier: u64,
    /// Position of the first byte.
    pub(crate) start: Lsn,
    pub(crate) first_record: Lsn,
    pub(crate) end: Lsn,
    /// The start of the record whose second half a crash lost, if there is one.
    pub(crate) aborted: Option<Lsn>,
    pub(crate) bytes: Bytes,
    pub(crate) listed: Vec<Listed>,
}

/// The fields that pg_waldump prints of a record.
#[derive(PartialEq, Eq, Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) lsn: Lsn,
    prev: Lsn,
    /// Length without images.
    body_bytes: usize,
    total_bytes: u32,
    xid: u32,
    rmgr: String,
}

impl Listed {
    pub(crate) fn of(record: &Record) -> Self {
        let images = record
            .blocks
            .iter()
            .filter_map(|block| block.image.as_ref());
        let image_bytes: usize = images.map(|image| image.bytes.len()).sum();
        Self {
            lsn: record.lsn,
            prev: record.header.prev,
            body_bytes: record.header.tot_len as usize - image_bytes,
            total_bytes: record.header.tot_len,
            xid: record.header.xid.0,
            rmgr: record.header.rmid.to_string(),
        }
    }

    /// Parses a line such as
    /// `rmgr: XLOG len (rec/tot): 114/ 114, tx: 0, lsn: 0/01000028, prev 0/00000000, desc: …`.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (rmgr, rest) = line.strip_prefix("rmgr: ")?.split_once("len (rec/tot):")?;
        let (lengths, rest) = rest.split_once(", tx:")?;
        let (xid, rest) = rest.split_once(", lsn: ")?;
        let (lsn, rest) = rest.split_once(", prev ")?;
        let (prev, _) = rest.split_once(", desc: ")?;
        let (body, total) = lengths.split_once('/')?;
        Some(Self {
            lsn: lsn.parse().ok()?,
            prev: prev.parse().ok()?,
            body_bytes: body.trim().parse().ok()?,
            total_bytes: total.trim().parse().ok()?,
            xid: xid.trim().parse().ok()?,
            rmgr: rmgr.trim().into(),
        })
    }
}

impl Slice {
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry::STOCK
    }

    pub(crate) fn offset(&self, lsn: Lsn) -> usize {
        usize::try_from(lsn - self.start).expect("inside the slice")
    }

    /// The distance between two bytes that a test changes. In a large slice, this distance reaches
    /// every offset on a page.
    pub(crate) fn stride(&self) -> usize {
        if self.bytes.len() > 2 * PAGE { 211 } else { 3 }
    }

    /// The listed record types, such as `XLOG CHECKPOINT_ONLINE`.
    pub(crate) fn names(&self) -> Vec<String> {
        let text = read(&format!("{}.txt", self.name));
        let name = |line: &str| {
            let rmgr = line.strip_prefix("rmgr: ")?.split_whitespace().next()?;
            let (_, rest) = line.split_once(", desc: ")?;
            Some(format!("{rmgr} {}", rest.split_whitespace().next()?))
        };
        text.lines().filter_map(name).collect()
    }

    /// The descriptions in the list: the text between `desc: ` and the blocks.
    pub(crate) fn descriptions(&self) -> Vec<String> {
        let text = read(&format!("{}.txt", self.name));
        let description = |line: &str| {
            let (_, rest) = line.split_once(", desc: ")?;
            let (description, _) = rest.split_once(", blkref #").unwrap_or((rest, ""));
            Some(description.trim_end().to_owned())
        };
        text.lines().filter_map(description).collect()
    }

    pub(crate) fn reader(&self) -> WalReader {
        let mut reader =
            WalReader::new(self.geometry(), self.version, Some(self.system_identifier));
        reader.set_file_tli(self.tli);
        reader.begin_read(self.first_record);
        reader
    }

    pub(crate) fn read(&self, bytes: &[u8]) -> (Vec<Record>, Option<WalError>) {
        self.read_with(&mut self.reader(), bytes)
    }

    /// Reads records up to the first error. The bytes are those of the slice, or a changed copy.
    pub(crate) fn read_with(
        &self,
        reader: &mut WalReader,
        bytes: &[u8],
    ) -> (Vec<Record>, Option<WalError>) {
        let mut probe = Probe::new(Planted::NONE);
        let mut records = Vec::new();
        while reader.end < self.end {
            match reader.next(&mut probe) {
                Next::Record(record) => records.push(record),
                Next::Need { page, len, .. } => match self.page(bytes, page, len) {
                    Some(page_bytes) => reader.feed(page, page_bytes),
                    None => reader.feed_failed(WalError::Unavailable(page)),
                },
                Next::End(error) => return (records, Some(error)),
            }
        }
        (records, None)
    }

    /// Up to a page of bytes at this position, or `None` if there are fewer than `len` bytes. For a
    /// page before the slice, returns a page header made for this test.
    fn page(&self, bytes: &[u8], page: Lsn, len: u32) -> Option<Bytes> {
        if page < self.start {
            let mut made = vec![0; PAGE];
            init_page(&mut made, &self.geometry(), page, &self.ident());
            return Some(made.into());
        }
        let from = self.offset(page);
        let rest = bytes.get(from..)?;
        let rest = &rest[..rest.len().min(PAGE)];
        (rest.len() >= len as usize).then(|| Bytes::copy_from_slice(rest))
    }

    pub(crate) fn ident(&self) -> PageIdent {
        PageIdent {
            version: self.version,
            tli: self.tli,
            sysid: self.system_identifier,
            removable: true,
        }
    }

    /// The bytes of a record, collected from all pages on which the record lies.
    pub(crate) fn record_bytes(&self, lsn: Lsn, len: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in fragments(self.geometry(), lsn, len) {
            let from = self.offset(part.page) + part.offset as usize;
            bytes.extend_from_slice(&self.bytes[from..from + part.range.len()]);
        }
        bytes
    }

    /// The slice as walsim writes it, and which of its bytes can be compared. Three parts cannot be
    /// compared: the record that continues on the first page, the remains of an aborted record, and
    /// bytes after the end.
    pub(crate) fn write_again(&self, records: &[Record]) -> (Vec<u8>, Vec<bool>) {
        let mut out = vec![0; self.bytes.len()];
        let mut known = vec![false; out.len()];
        let first = self.offset(self.first_record);
        for (number, page) in out.chunks_mut(PAGE).enumerate() {
            let from = number * PAGE;
            let at = self.start + from as u64;
            // Some pages were written during a base backup. The records do not show this, so the
            // flag is taken from the page.
            let header = PageHeader::decode(&self.bytes[from..]).expect("a whole page");
            let mut ident = self.ident();
            ident.removable = header.has(BKP_REMOVABLE);
            // Pages from before the switch to this timeline were copied from the old timeline.
            ident.tli = header.tli;
            if at > self.end {
                break;
            }
            init_page(page, &self.geometry(), at, &ident);
            known[from.max(first)..(from + PAGE).min(self.offset(self.end).max(first))].fill(true);
        }
        for record in records {
            let bytes = self.record_bytes(record.lsn, record.header.tot_len);
            for part in fragments(self.geometry(), record.lsn, record.header.tot_len) {
                let page = self.offset(part.page);
                if let Some(rem_len) = part.rem_len {
                    mark_contrecord(&mut out[page..], rem_len);
                }
                let at = page + part.offset as usize;
                out[at..at + part.range.len()].copy_from_slice(&bytes[part.range]);
            }
            if record.header.is_switch() {
                // Pages after a switch record are zero.
                let rest = self.offset(record.end)..self.offset(record.next).min(out.len());
                let next_page = rest.start.next_multiple_of(PAGE);
                out[next_page.min(rest.end)..rest.end].fill(0);
            }
        }
        if let Some(aborted) = self.aborted {
            let missing = Lsn(aborted
                .0
                .next_multiple_of(u64::from(self.geometry().segment)));
            known[self.offset(aborted)..self.offset(missing)].fill(false);
            mark_overwrite(&mut out[self.offset(missing)..]);
        }
        (out, known)
    }
}

/// The versions for which there are samples.
pub(crate) const GOLDEN: [PgVersion; 2] = [PgVersion::V15, PgVersion::V18];

pub(crate) fn slices() -> impl Iterator<Item = Slice> {
    GOLDEN.into_iter().flat_map(|version| {
        let index: toml::Table = read(&format!("{}.toml", version.major()))
            .parse()
            .expect("an index");
        let identifier = text(&index, "system_identifier").to_owned();
        let slices = index["slice"].as_array().expect("slices").clone();
        assert!(slices.len() >= 13);
        slices.into_iter().map(move |entry| {
            let entry = entry.as_table().expect("a slice");
            let lsn = |key| text(entry, key).parse::<Lsn>().expect("an LSN");
            let lines = read(text(entry, "records"));
            let listed = lines
                .lines()
                .map(|line| Listed::parse(line).unwrap_or_else(|| panic!("a record: {line}")));
            Slice {
                name: text(entry, "file").trim_end_matches(".wal").into(),
                version,
                tli: TimelineId(1),
                system_identifier: identifier.parse().expect("a number"),
                start: lsn("start"),
                first_record: lsn("first_record"),
                end: lsn("end"),
                aborted: entry.contains_key("aborted").then(|| lsn("aborted")),
                bytes: read_bytes(text(entry, "file")).into(),
                listed: listed.collect(),
            }
        })
    })
}

pub(crate) type Said = BTreeMap<String, String>;

pub(crate) fn control_files() -> impl Iterator<Item = (PgVersion, Vec<u8>, Said, String)> {
    GOLDEN.into_iter().flat_map(|version| {
        ["running", "shutdown"].map(|state| {
            let name = format!("{}-pg_control-{state}", version.major());
            (version, read_bytes(&name), said(&name), name)
        })
    })
}

/// The slot files with the server's output for each. All of them are from version 15.
pub(crate) fn slot_files() -> impl Iterator<Item = (PgVersion, Vec<u8>, Said, String)> {
    ["reserved", "unreserved", "temporary", "lost"]
        .into_iter()
        .map(|kind| {
            let name = format!("15-slot-{kind}");
            (PgVersion::V15, read_bytes(&name), said(&name), name)
        })
}

/// Reads lines in the format `label: text`.
fn said(name: &str) -> Said {
    let pair = |line: &str| {
        let (label, text) = line.split_once(':')?;
        Some((label.to_owned(), text.trim().to_owned()))
    };
    let text = read(&format!("{name}.txt"));
    text.lines().filter_map(pair).collect()
}

fn text<'a>(table: &'a toml::Table, key: &str) -> &'a str {
    table[key].as_str().expect("text")
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn read_bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}
