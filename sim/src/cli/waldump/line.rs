//! Prints one record as text. This module mirrors XLogDumpDisplayRecord and XLogRecGetBlockRefInfo.

use walsim_core::base::PgVersion;
use walsim_core::wire::describe::{Text, fork_name};
use walsim_core::wire::record::{
    APPLY, COMPRESS_LZ4, COMPRESS_PGLZ, COMPRESS_ZSTD, ImageHeader, RMGR_INFO_MASK, RecordView,
    RelLocator, RmgrId,
};

/// The width of the resource manager column.
const NAME_WIDTH: usize = 11;
/// `BLCKSZ`
const DATA_PAGE: u32 = 8192;
const SPACES: &str = "           ";
/// The longest text of `: rel ` and three numbers.
const LONGEST_REL: usize = 40;
/// How many formatted relations are cached.
const REMEMBERED: usize = 16;

/// Prints records. A record is one line, or several lines if block details are shown.
pub(super) struct Lines {
    version: PgVersion,
    details: bool,
    /// A cache of formatted relations. The index is the relation number modulo the size of the
    /// cache.
    rels: [RelText; REMEMBERED],
}

/// A relation as text: `: rel ` and three numbers.
#[derive(Clone, Copy)]
struct RelText {
    rel: RelLocator,
    text: [u8; LONGEST_REL],
    len: usize,
}

impl Lines {
    pub(super) fn new(version: PgVersion, details: bool) -> Self {
        let (spc, db, rel) = (0, 0, 0);
        let none = RelText {
            rel: RelLocator { spc, db, rel },
            text: [0; LONGEST_REL],
            len: 0,
        };
        Self {
            version,
            details,
            rels: [none; REMEMBERED],
        }
    }

    /// Adds the text of a record.
    ///
    /// # Errors
    /// If the record contains a value that PostgreSQL never writes. No text is added then.
    #[inline]
    pub(super) fn add(&mut self, text: &mut Text, record: &RecordView<'_>) -> Result<(), String> {
        let before = text.bytes.len();
        let added = head(text, self.version, record)
            .describe(self.version, record)
            .map_err(|error| error.to_string())
            .and_then(|()| self.blocks(text, record));
        if added.is_err() {
            text.bytes.truncate(before);
        }
        added
    }

    fn blocks(&mut self, text: &mut Text, record: &RecordView<'_>) -> Result<(), String> {
        let details = self.details;
        if details {
            text.add("\n");
        }
        for block in record.blocks() {
            // With two branches, each branch copies a text of constant length, which is faster.
            if details {
                text.add("\tblkref #");
            } else {
                text.add(", blkref #");
            }
            text.dec(block.id);
            self.rel(text, block.header.rel);
            if details || block.header.fork != 0 {
                let fork = block.header.fork;
                let name = fork_name(u32::from(fork));
                let name = name.ok_or_else(|| format!("invalid fork number {fork}"))?;
                text.add(" fork ").add(name);
            }
            text.add(" blk ").dec(block.header.block);
            if let Some(image) = &block.header.image {
                if details {
                    image_details(text, image);
                } else {
                    text.add(" FPW").add(purpose(image));
                }
            }
            if details {
                text.add("\n");
            }
        }
        if !details {
            text.add("\n");
        }
        Ok(())
    }

    fn rel(&mut self, text: &mut Text, rel: RelLocator) {
        let known = &mut self.rels[rel.rel as usize % REMEMBERED];
        let begin = text.bytes.len();
        if known.rel == rel && known.len > 0 {
            // Copying a constant number of bytes is faster.
            text.add(&known.text[..]);
            text.bytes.truncate(begin + known.len);
            return;
        }
        text.add(": rel ").dec(rel.spc);
        text.add("/").dec(rel.db).add("/").dec(rel.rel);
        let added = &text.bytes[begin..];
        known.rel = rel;
        known.len = added.len();
        known.text[..added.len()].copy_from_slice(added);
    }
}

fn head<'t>(text: &'t mut Text, version: PgVersion, record: &RecordView<'_>) -> &'t mut Text {
    let header = &record.header;
    text.add("rmgr: ");
    let begun = text.bytes.len();
    rmgr_name(text, header.rmid);
    let end = text.bytes.len().max(begun + NAME_WIDTH);
    text.add(SPACES);
    text.bytes.truncate(end);
    let record_len = header.tot_len.wrapping_sub(record.image_len);
    text.add(" len (rec/tot): ").dec_right(record_len, 6);
    text.add("/").dec_right(header.tot_len, 6);
    text.add(", tx: ").dec_right(header.xid.0, 10);
    text.add(", lsn: ").lsn_padded(record.lsn);
    text.add(", prev ").lsn_padded(header.prev);
    text.add(", desc: ");
    type_name(text, version, header.rmid, header.info);
    text.add(" ")
}

/// Adds the name of a resource manager to the text.
pub(super) fn rmgr_name(text: &mut Text, rmid: RmgrId) {
    match rmid.name() {
        Some(name) => text.add(name),
        None => text.add(rmid.to_string()),
    };
}

/// Adds the name of a record's type, or UNKNOWN.
pub(super) fn type_name(text: &mut Text, version: PgVersion, rmid: RmgrId, info: u8) {
    match rmid.record_type(version, info) {
        Some(name) => text.add(name),
        None => text.add(format!("UNKNOWN ({:x})", info & RMGR_INFO_MASK)),
    };
}

fn image_details(text: &mut Text, image: &ImageHeader) {
    text.add(" (FPW").add(purpose(image));
    text.add("); hole: offset: ").dec(image.hole_offset);
    text.add(", length: ").dec(image.hole_length);
    let method = if image.info & COMPRESS_PGLZ != 0 {
        "pglz"
    } else if image.info & COMPRESS_LZ4 != 0 {
        "lz4"
    } else if image.info & COMPRESS_ZSTD != 0 {
        "zstd"
    } else {
        return;
    };
    let kept = u32::from(image.hole_length) + u32::from(image.len);
    text.add(", compression saved: ")
        .dec(DATA_PAGE.wrapping_sub(kept));
    text.add(", method: ").add(method);
}

/// Redo applies an image unless the image exists only for a consistency check.
const fn purpose(image: &ImageHeader) -> &'static str {
    if image.info & APPLY != 0 {
        ""
    } else {
        " for WAL verification"
    }
}
