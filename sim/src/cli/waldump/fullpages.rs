//! Saves full-page images to files. This module mirrors create_fullpage_directory and
//! XLogRecordSaveFPWs of pg_waldump.

use super::files::PAGE;
use super::stop::{Stop, reason};
use bytes::Bytes;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use walsim_core::base::TimelineId;
use walsim_core::wire::describe::fork_name;
use walsim_core::wire::record::{BlockView, Image, ImageError, RecordView};

/// `PG_DIR_MODE_OWNER`
const OWNER_ONLY: u32 = 0o700;

/// Creates the directory. An existing directory must be empty.
pub(super) fn create_directory(folder: &Path) -> Result<(), Stop> {
    let shown = String::from_utf8_lossy(folder.as_os_str().as_bytes());
    let failed = |what: &str, error| {
        let reason = reason(&error);
        Stop::Fatal(format!("could not {what} directory \"{shown}\": {reason}"))
    };
    match fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => {
                let error = format!("directory \"{shown}\" exists but is not empty");
                Err(Stop::Fatal(error))
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(OWNER_ONLY).create(folder);
            made.map_err(|error| failed("create", error))
        }
        Err(error) => Err(failed("access", error)),
    }
}

/// Writes each image of the record to a file of its own. The image is decompressed, and its unused
/// space is filled with zeros.
pub(super) fn save(
    folder: &Path,
    timeline: TimelineId,
    record: &RecordView<'_>,
) -> Result<(), Stop> {
    for block in record.blocks() {
        let Some(page) = restore(record, &block)? else {
            continue;
        };
        let header = &block.header;
        let fork = fork_name(u32::from(header.fork));
        let fork =
            fork.ok_or_else(|| Stop::Fatal(format!("invalid fork number: {}", header.fork)))?;
        let name = format!(
            "{:08X}-{:08X}-{:08X}.{}.{}.{}.{}_{fork}",
            timeline.0,
            record.lsn.0 >> 32,
            record.lsn.0 & 0xFFFF_FFFF,
            header.rel.spc,
            header.rel.db,
            header.rel.rel,
            header.block,
        );
        let file = folder.join(name);
        fs::write(&file, page).map_err(|error| {
            let shown = String::from_utf8_lossy(file.as_os_str().as_bytes());
            let reason = reason(&error);
            Stop::Fatal(format!("could not write file \"{shown}\": {reason}"))
        })?;
    }
    Ok(())
}

/// The page that an image contains (`RestoreBlockImage`). Returns `None` if the block has no image.
fn restore(record: &RecordView<'_>, block: &BlockView<'_>) -> Result<Option<Vec<u8>>, Stop> {
    let Some(header) = block.header.image else {
        return Ok(None);
    };
    let image = Image {
        hole_offset: header.hole_offset,
        hole_length: header.hole_length,
        info: header.info,
        bytes: Bytes::copy_from_slice(block.image),
    };
    let restored = image.restore(PAGE).map_err(|error| {
        let (lsn, id) = (record.lsn, block.id);
        Stop::Fatal(match error {
            ImageError::Compressed(method) => format!(
                "could not restore image at {lsn} compressed with {method} not supported by build, \
                 block {id}"
            ),
            ImageError::Damaged(_) => format!("could not decompress image at {lsn}, block {id}"),
            ImageError::WrongSize { .. } => {
                format!("could not restore image at {lsn} with invalid state, block {id}: {error}")
            }
        })
    });
    restored.map(Some)
}
