//! Properties that hold for WAL, damage and garbage that proptest generates.

use super::*;
use proptest::prelude::*;

fn bodies() -> impl Strategy<Value = Vec<Option<RecordBody>>> {
    let rel = RelLocator {
        spc: 1663,
        db: 5,
        rel: 16384,
    };
    let with_image = (any::<u8>(), 0usize..80).prop_map(move |(fill, len)| {
        let mut body = RecordBody::new(RmgrId::GENERIC, 0, Xid(9), Bytes::new());
        let mut block = BlockPart::new(0, rel, u32::from(fill));
        block.image = (fill % 2 == 0).then(|| Image::of_page(&[fill; 512], true));
        block.data = vec![fill; len].into();
        block.keep_data = true;
        body.blocks.push(block);
        body
    });
    let body = prop_oneof![
        4 => (0usize..300).prop_map(|len| Some(message(len))),
        1 => (300usize..3000).prop_map(|len| Some(message(len))),
        2 => with_image.prop_map(Some),
        1 => Just(None),
    ];
    prop::collection::vec(body, 1..12)
}

fn build(wal: &mut WalBuilder, bodies: &[Option<RecordBody>]) -> Vec<(RecordBody, Placed)> {
    let switch = RecordBody::new(RmgrId::XLOG, 0x40, Xid::INVALID, Bytes::new());
    bodies
        .iter()
        .map(|body| {
            let body = body.as_ref().unwrap_or(&switch);
            (body.clone(), wal.append(body))
        })
        .collect()
}

fn geometries() -> impl Strategy<Value = Geometry> {
    prop_oneof![
        Just(Geometry::SMALLEST),
        Just(geometry(256, 2048)),
        Just(geometry(512, 4096)),
        Just(geometry(8192, 32768)),
    ]
}

fn versions() -> impl Strategy<Value = PgVersion> {
    prop_oneof![Just(PgVersion::V15), Just(PgVersion::V18)]
}

proptest! {
    #![proptest_config(crate::base::testing::cases(48))]

    /// Generated WAL is read back exactly. The WAL has switches, and records that cross pages and
    /// segments. The reader is fed whole pages, or only the bytes that it requested. It starts at
    /// the first record or at a later record.
    #[test]
    fn what_was_written_is_read_back(
        geometry in geometries(),
        version in versions(),
        bodies in bodies(),
        stingy: bool,
        from in any::<prop::sample::Index>(),
    ) {
        let mut wal = builder(geometry, version);
        let written = build(&mut wal, &bodies);
        let source = Source { stingy, ..source(&wal, geometry) };
        let from = from.index(written.len());
        let mut reader = reader(geometry, version);
        if from > 0 {
            reader.begin_read(written[from].1.start);
        }
        let (records, _) = source.read_all(&mut reader);
        prop_assert_eq!(records.len(), written.len() - from);
        for (record, (body, placed)) in records.iter().zip(&written[from..]) {
            prop_assert_eq!(&RecordBody::from(record), body);
            let Placed { start, end, next } = *placed;
            prop_assert_eq!([record.lsn, record.end, record.next], [start, end, next]);
        }
        prop_assert_eq!(reader.end, wal.end());
    }

    /// If any byte of the WAL is changed, the records that are returned are still a prefix of the
    /// written records.
    #[test]
    fn a_changed_byte_ends_the_wal(
        geometry in prop_oneof![Just(Geometry::SMALLEST), Just(geometry(512, 4096))],
        bodies in bodies(),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        stingy: bool,
    ) {
        let version = PgVersion::V18;
        let mut wal = builder(geometry, version);
        let written = build(&mut wal, &bodies);
        let mut bytes = wal.bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let source = Source { geometry, bytes: &bytes, stingy };
        let (records, error) = source.read_all(&mut reader(geometry, version));
        prop_assert!(!error.to_string().is_empty());
        for (record, (body, placed)) in records.iter().zip(&written) {
            prop_assert_eq!(&RecordBody::from(record), body);
            prop_assert_eq!(record.lsn, placed.start);
        }
        prop_assert!(records.len() <= written.len());
        // Segments before the changed byte are not affected.
        let changed = geometry.segment_start(SegmentNo(1)) + at as u64;
        let intact = written.iter().filter(|(_, placed)| placed.next <= geometry.page_start(changed));
        prop_assert!(records.len() >= intact.count());
    }

    /// If the WAL is cut off anywhere and zeros or no bytes follow, reading ends at the cut.
    #[test]
    fn a_torn_tail_ends_the_wal(bodies in bodies(), cut in any::<prop::sample::Index>(), zeros: bool) {
        let mut wal = builder(Geometry::SMALLEST, PgVersion::V15);
        let written = build(&mut wal, &bodies);
        let mut bytes = wal.bytes().to_vec();
        let cut = cut.index(bytes.len());
        if zeros { bytes[cut..].fill(0) } else { bytes.truncate(cut) }
        let source = Source { geometry: Geometry::SMALLEST, bytes: &bytes, stingy: true };
        let (records, _) = source.read_all(&mut reader(Geometry::SMALLEST, PgVersion::V15));
        let cut = Lsn(1024) + cut as u64;
        // A record on the page with the cut can still be complete. A record that needs bytes beyond
        // the cut cannot.
        for (record, (body, _)) in records.iter().zip(&written) {
            prop_assert_eq!(&RecordBody::from(record), body);
        }
        let whole = written.iter().filter(|(_, placed)| placed.end <= cut).count();
        prop_assert!(records.len() >= whole && records.len() <= whole + 1);
    }

    /// Garbage never causes a panic.
    #[test]
    fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), 2048), header: bool) {
        let mut bytes = bytes;
        if header {
            let mut wal = builder(Geometry::SMALLEST, PgVersion::V18);
            wal.append(&message(1900));
            for page in 0..8 {
                let from = page * 256;
                let len = if page % 4 == 0 { 40 } else { 24 };
                bytes[from..from + len].copy_from_slice(&wal.bytes()[from..from + len]);
            }
        }
        let source = Source { geometry: Geometry::SMALLEST, bytes: &bytes, stingy: false };
        let (records, _) = source.read_all(&mut reader(Geometry::SMALLEST, PgVersion::V18));
        prop_assert_eq!(records.len(), 0);
    }
}
