//! Tests of records: records of real servers, round trips, and all kinds of damage.

use super::*;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use bytes::Bytes;
use proptest::prelude::*;

const PAGE: u32 = 512;
const REL: RelLocator = RelLocator {
    spc: 1663,
    db: 5,
    rel: 16384,
};

fn finished(body: &RecordBody, page_size: u32) -> Vec<u8> {
    let mut record = body.assemble(page_size);
    record.finish(Lsn(0x28));
    record.bytes().to_vec()
}

fn headed(body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(RecordHeader::LEN + body.len()).expect("short");
    let mut bytes = len.to_le_bytes().to_vec();
    bytes.resize(RecordHeader::LEN, 0);
    bytes.extend_from_slice(body);
    bytes
}

fn decode(bytes: &[u8], page_size: u32) -> Result<Record, RecordError> {
    Record::decode(&Bytes::copy_from_slice(bytes), [Lsn(0x60); 3], page_size)
}

fn page(lower: u16, upper: u16) -> Vec<u8> {
    let mut page: Vec<u8> = (0..=255).cycle().map(|i| i | 1).take(512).collect();
    page[12..14].copy_from_slice(&lower.to_le_bytes());
    page[14..16].copy_from_slice(&upper.to_le_bytes());
    page
}

/// Lengths of records from a real server.
#[test]
fn lengths_of_real_records() {
    let next_oid = RecordBody::new(RmgrId::XLOG, 0x30, Xid::INVALID, vec![0; 4]);
    assert_eq!(next_oid.assemble(8192).len(), 30);
    let checkpoint = RecordBody::new(RmgrId::XLOG, 0x10, Xid::INVALID, vec![0; 88]);
    assert_eq!(checkpoint.assemble(8192).len(), 114);
    let mut fpi = RecordBody::new(RmgrId::XLOG, 0xA0, Xid::INVALID, Bytes::new());
    let mut block = BlockPart::new(0, REL, 7);
    block.image = Some(Image::of_page(&[1; 8192], true));
    fpi.blocks.push(block);
    assert_eq!(fpi.assemble(8192).len(), 8241);
    let long = RecordBody::new(RmgrId::LOGICAL_MESSAGE, 0, Xid::INVALID, vec![0; 256]);
    assert_eq!(long.assemble(8192).len(), 24 + 5 + 256);
    let switch = RecordBody::new(RmgrId::XLOG, 0x40, Xid::INVALID, Bytes::new());
    assert_eq!(switch.assemble(8192).len(), 24);
    assert!(switch.assemble(8192).is_switch());
}

/// The checksum covers the body first, then the header. It equals the result of `checksum`.
#[test]
fn checksum_covers_body_then_header() {
    let bytes = finished(
        &RecordBody::new(RmgrId::XLOG, 0x30, Xid(9), vec![1, 2]),
        PAGE,
    );
    let mut turned = bytes[24..].to_vec();
    turned.extend_from_slice(&bytes[..20]);
    let header = RecordHeader::decode(&bytes).expect("whole");
    assert_eq!(header.crc, crc32c::crc32c(&turned));
    assert_eq!(header.crc, checksum(&bytes));
    assert_eq!(header.prev, Lsn(0x28));
}

/// Block data is omitted if redo uses the image, unless the data must be kept. If consecutive
/// blocks belong to the same relation, the relation is written once.
#[test]
fn blocks_leave_out_what_redo_does_not_need() {
    let mut body = RecordBody::new(RmgrId::GENERIC, 0, Xid(3), Bytes::new());
    for id in 0..3 {
        let mut block = BlockPart::new(id * 2, REL, u32::from(id));
        block.data = Bytes::from_static(b"delta");
        body.blocks.push(block);
    }
    body.blocks[0].image = Some(Image::of_page(&page(30, 100), true));
    body.blocks[1].image = body.blocks[0].image.clone();
    body.blocks[1].keep_data = true;
    let bytes = finished(&body, PAGE);
    assert_eq!(
        bytes.len(),
        24 + 3 * 8 + 2 * 5 + 12 + 2 * (512 - 70) + 2 * 5
    );
    let record = decode(&bytes, PAGE).expect("valid");
    let has_data: Vec<_> = record.blocks.iter().map(|b| b.has_data).collect();
    assert_eq!(has_data, [false, true, true]);
    assert!(record.blocks.iter().all(|b| b.rel == REL));
    assert_eq!(finished(&RecordBody::from(&record), PAGE), bytes);
}

/// Only a page with a plausible header has a hole. In the restored page the hole is zeroed.
#[test]
fn images_leave_the_hole_out() {
    for (lower, upper, hole) in [
        (30, 100, (30, 70)),
        (24, 512, (24, 488)),
        (23, 100, (0, 0)),
        (100, 100, (0, 0)),
        (30, 513, (0, 0)),
    ] {
        let mut page = page(lower, upper);
        let image = Image::of_page(&page, true);
        assert_eq!((image.hole_offset, image.hole_length), hole);
        assert_eq!(image.bytes.len(), 512 - usize::from(hole.1));
        assert_eq!(image.info & HAS_HOLE != 0, hole.1 > 0);
        page[usize::from(hole.0)..usize::from(hole.0 + hole.1)].fill(0);
        assert_eq!(image.restore(PAGE), Ok(page));
    }
    assert_eq!(Image::of_page(&page(30, 100), false).bytes.len(), 512);
}

#[test]
fn images_that_make_no_page_are_refused() {
    let mut image = Image::of_page(&page(30, 100), true);
    image.info |= COMPRESS_ZSTD;
    assert_eq!(image.restore(PAGE), Err(ImageError::Compressed("zstd")));
    image.info |= COMPRESS_LZ4;
    assert_eq!(image.restore(PAGE), Err(ImageError::Damaged("LZ4")));
    image.info = APPLY | HAS_HOLE;
    image.hole_length = 9;
    assert!(matches!(
        image.restore(PAGE),
        Err(ImageError::WrongSize { .. })
    ));
}

/// Each case has bytes after the record header that fail one check of the structure.
#[test]
fn structure_is_checked() {
    let block = |flags: u8, data_len: u16, rest: &[u8]| {
        let mut body = vec![0, flags];
        body.extend_from_slice(&data_len.to_le_bytes());
        body.extend_from_slice(rest);
        body.resize(body.len() + 40, 0);
        body
    };
    let image = |len: u16, hole: u16, info: u8| {
        let mut rest = len.to_le_bytes().to_vec();
        rest.extend_from_slice(&hole.to_le_bytes());
        rest.push(info);
        rest.extend_from_slice(&40u16.to_le_bytes());
        block(0x10, 0, &rest)
    };
    for (body, text) in [
        (vec![1], "record with invalid length"),
        (vec![255], "record with invalid length"),
        (vec![255, 9, 1], "record with invalid length"),
        (
            vec![254, 255, 255, 255, 255, 1],
            "record with invalid length",
        ),
        (vec![33, 0], "invalid block_id 33"),
        (vec![251, 0], "invalid block_id 251"),
        (
            block(0x20, 0, &[]),
            "BKPBLOCK_HAS_DATA set, but no data included",
        ),
        (
            block(0, 7, &[]),
            "BKPBLOCK_HAS_DATA not set, but data length is 7",
        ),
        (
            block(0x80, 0, &[]),
            "BKPBLOCK_SAME_REL set but no previous rel",
        ),
        (
            image(512, 5, HAS_HOLE),
            "BKPIMAGE_HAS_HOLE set, but hole offset 5 length 0 block image length 512",
        ),
        (
            image(500, 0, HAS_HOLE),
            "BKPIMAGE_HAS_HOLE set, but hole offset 0 length 12 block image length 500",
        ),
        (
            image(512, 3, 0),
            "BKPIMAGE_HAS_HOLE not set, but hole offset 3 length 0",
        ),
        (
            image(500, 0, 0),
            "BKPIMAGE_HAS_HOLE not set, but hole offset 0 length 12",
        ),
        (
            image(512, 0, COMPRESS_PGLZ),
            "BKPIMAGE_COMPRESSED set, but block image length 512",
        ),
        (
            image(513, 0, 0),
            "block image length 513 exceeds the page size",
        ),
        (
            image(600, 30, COMPRESS_PGLZ | HAS_HOLE),
            "block image length 600 exceeds the page size",
        ),
        (
            image(500, 501, HAS_HOLE),
            "hole offset 501 length 12 exceeds the page size",
        ),
        (
            image(90, 500, COMPRESS_ZSTD | HAS_HOLE),
            "hole offset 500 length 40 exceeds the page size",
        ),
    ] {
        let error = decode(&headed(&body), PAGE).expect_err(text);
        assert_eq!(error.to_string(), text);
    }
    let mut twice = vec![4, 0, 0, 0];
    twice.extend_from_slice(&[0; 16]);
    twice.extend_from_slice(&[4, 0, 0, 0]);
    twice.extend_from_slice(&[0; 16]);
    assert_eq!(
        decode(&headed(&twice), PAGE),
        Err(RecordError::OutOfOrder(4))
    );
}

fn bodies() -> impl Strategy<Value = RecordBody> {
    let block = (
        0u8..4,
        0u32..3,
        any::<(u32, bool)>(),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::option::of((20u16..520, 20u16..520, any::<bool>())),
    );
    (
        (0u8..=21, any::<u8>(), any::<u32>()),
        prop::collection::vec(block, 0..4),
        prop::option::of(any::<u16>()),
        prop::option::of(any::<u32>()),
        prop_oneof![0usize..40, 250usize..700],
        any::<u8>(),
    )
        .prop_map(
            |((rmid, info, xid), blocks, origin, top, len, fill)| RecordBody {
                rmid: RmgrId(rmid),
                info,
                xid: Xid(xid),
                blocks: blocks
                    .into_iter()
                    .zip((0u8..).step_by(3))
                    .map(
                        |((fork, rel, (block, will_init), data, image), id)| BlockPart {
                            id,
                            fork,
                            rel: RelLocator { rel, ..REL },
                            block,
                            will_init,
                            keep_data: true,
                            image: image.map(|(lower, upper, std)| {
                                Image::of_page(&page(lower, upper), std)
                            }),
                            data: data.into(),
                        },
                    )
                    .collect(),
                origin,
                top_xid: top.map(Xid),
                main: vec![fill; len].into(),
            },
        )
}

proptest! {
    #![proptest_config(crate::base::testing::cases(64))]

    #[test]
    fn round_trip(body in bodies()) {
        let bytes = finished(&body, PAGE);
        let record = decode(&bytes, PAGE).expect("our own");
        prop_assert_eq!(checksum(&bytes), record.header.crc);
        prop_assert_eq!(RecordBody::from(&record), body);
    }

    /// Damage that the checksum does not detect results in an error or in another record, never in
    /// a panic.
    #[test]
    fn damage_is_no_panic(body in bodies(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let mut bytes = finished(&body, PAGE);
        let whole = bytes.clone();
        for len in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..len], PAGE), Err(RecordError::InvalidLength));
        }
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(record) = decode(&bytes, PAGE) {
            for block in &record.blocks {
                if let Some(image) = &block.image {
                    let len = image.restore(PAGE).map(|page| page.len());
                    prop_assert!(len.is_err() || len == Ok(PAGE as usize));
                }
            }
            let same = finished(&RecordBody::from(&record), PAGE);
            prop_assert!(decode(&same, PAGE).is_ok());
        }
        prop_assert!(checksum(&bytes) != checksum(&whole) || (20..24).contains(&at));
    }
}
