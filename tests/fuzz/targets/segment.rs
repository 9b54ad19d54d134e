//! WAL with any content is decoded, described as in waldump, and counted.

#![no_main]
#![allow(dead_code, reason = "parts of a command that run without it")]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use walsim_core::base::{Geometry, Lsn, PgVersion, Planted, Probe, SegmentNo};
use walsim_core::wal::{Next, Room, WalError, WalReader};
use walsim_core::wire::describe::Text;
use walsim_core::wire::record::{Record, RecordParts, RecordView, checksum};
use walsim_fuzz::Source;

mod waldump;

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let version = PgVersion::ALL[usize::from(source.byte()) % PgVersion::ALL.len()];
    match source.byte() % 4 {
        0 | 1 => record(version, &mut source),
        2 => segment(version, &mut source),
        _ => {
            let args: Vec<_> = source
                .0
                .split(|byte| *byte == 0)
                .map(<[u8]>::to_vec)
                .collect();
            waldump::options(&args, None);
        }
    }
});

/// Decodes a record with a valid length and checksum. The rest of its content is arbitrary.
fn record(version: PgVersion, source: &mut Source<'_>) {
    let page_size = if source.byte() % 2 == 0 { 8192 } else { 1024 };
    let at = Lsn(source.number(8));
    let mut bytes = source.0.to_vec();
    if bytes.len() < 24 {
        return;
    }
    let len = u32::try_from(bytes.len()).expect("inputs are short");
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    let crc = checksum(&bytes);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    let Ok(parts) = RecordParts::decode(&bytes, [at; 3], page_size) else {
        return;
    };
    look(version, page_size, &parts.view(&bytes));
    let whole = Record::from_parts(&parts, &Bytes::from(bytes.clone()));
    for block in &whole.blocks {
        if let Some(image) = &block.image {
            let _ = image.restore(page_size);
        }
    }
}

fn look(version: PgVersion, page_size: u32, record: &RecordView<'_>) {
    let mut text = Text::default();
    let _ = text.describe(version, record);
    if page_size == 8192 {
        waldump::show(&mut text, version, record);
        waldump::count(&mut text, version, std::slice::from_ref(record));
    }
}

/// Reads a segment that contains the bytes of the input.
fn segment(version: PgVersion, source: &mut Source<'_>) {
    let stock = source.byte() % 2 == 0;
    let geometry = if stock {
        Geometry::STOCK
    } else {
        Geometry::TINY
    };
    let from = source.number(8);
    let wal = Bytes::copy_from_slice(source.0);
    let mut reader = WalReader::new(geometry, version, None);
    let first = match from {
        0 => geometry.segment_start(SegmentNo(1)),
        other => geometry.page_start(Lsn(other)),
    };
    reader.find_next_record(first);
    let (mut probe, mut room) = (Probe::new(Planted::NONE), Room::default());
    for _ in 0..10_000 {
        match reader.next_view(&mut probe, &mut room) {
            Next::Record(record) => look(version, geometry.data_page, &record),
            Next::Need { page, len, .. } => {
                let at = page
                    .0
                    .checked_sub(first.0)
                    .and_then(|at| usize::try_from(at).ok());
                let to = at.and_then(|at| at.checked_add(len as usize));
                match at.zip(to).filter(|(_, to)| *to <= wal.len()) {
                    Some((at, _)) => {
                        let to = wal.len().min(at + geometry.wal_page as usize);
                        reader.feed(page, wal.slice(at..to));
                    }
                    None => reader.feed_failed(WalError::Unavailable(page)),
                }
            }
            Next::End(error) => {
                let _ = error.to_string();
                return;
            }
        }
    }
}
