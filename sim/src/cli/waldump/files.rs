//! Finds the directory and the segment files to read. This module follows the second half of
//! pg_waldump's main().

use super::fullpages;
use super::options::Options;
use super::scanf::Scan;
use super::stop::{Stop, reason};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use walsim_core::base::{Geometry, Lsn, PgVersion, SegmentNo, TimelineId};
use walsim_core::wal::names::segment_name;
use walsim_core::wire::page::{self, LongPageHeader};

/// The size of WAL pages and of data pages (`XLOG_BLCKSZ`, `BLCKSZ`). pg_waldump has these sizes
/// compiled in, too.
pub(super) const PAGE: u32 = 8192;
const LEAST_SEGMENT: u32 = 1 << 20;
const MOST_SEGMENT: u32 = 1 << 30;

/// The WAL to read.
pub(super) struct Range {
    pub(super) folder: PathBuf,
    pub(super) geometry: Geometry,
    pub(super) version: PgVersion,
    /// The magic number of the first page. This is `None` if a known version uses this number.
    pub(super) unknown_magic: Option<u16>,
    pub(super) timeline: TimelineId,
    pub(super) start: Lsn,
    /// The end position. This is `Lsn::INVALID` if the user gave none.
    pub(super) end: Lsn,
    /// Segments for which the command line names a `.partial` file.
    pub(super) partial: Vec<SegmentNo>,
}

/// What the first page of a file says about the whole file.
struct Found {
    magic: u16,
    segment: u32,
    /// The magic number of the second page, if the file has a second page. If the first page is
    /// damaged, this number shows the version.
    second: Option<u16>,
}

impl Found {
    /// The version of the WAL. WAL of an unknown version cannot be read. Errors about such WAL have
    /// the texts of 15.
    fn version(&self) -> PgVersion {
        let mut magics = [Some(self.magic), self.second].into_iter().flatten();
        magics.find_map(page::version).unwrap_or(PgVersion::V15)
    }
}

/// The version of the WAL to which the options and file names refer. This is 15 if no file shows
/// the version.
pub(super) fn version_of(folder: Option<&[u8]>, file: Option<&[u8]>) -> PgVersion {
    let (directory, name) = file.map_or((None, None), |file| {
        let (directory, name) = split_path(file);
        (directory, Some(name))
    });
    let folder = folder.or(directory).map(path);
    let found = identify_target_directory(folder, name);
    found.map_or(PgVersion::V15, |(_, found)| found.version())
}

impl Range {
    /// Finds the directory and the files that the options name.
    pub(super) fn find(options: &Options) -> Result<Self, Stop> {
        let mut folder = options.path.as_deref().map(path);
        if let Some(folder) = &folder {
            verify_directory(folder).map_err(Stop::bad_argument)?;
        }
        if let Some(folder) = &options.save_fullpage {
            fullpages::create_directory(path(folder))?;
        }
        let Some(first) = options.files.first() else {
            let (folder, found) = identify_target_directory(folder, None)?;
            return Self::new(folder, &found, options).checked();
        };
        let (directory, name) = split_path(first);
        if folder.is_none()
            && let Some(directory) = directory
        {
            verify_directory(path(directory)).map_err(Stop::Fatal)?;
            folder = Some(path(directory));
        }
        let (folder, found) = identify_target_directory(folder, Some(name))?;
        let mut range = Self::new(folder, &found, options);
        range.between(options, name)?;
        range.checked()
    }

    fn new(folder: PathBuf, found: &Found, options: &Options) -> Self {
        Self {
            folder,
            geometry: Geometry {
                wal_page: PAGE,
                segment: found.segment,
                data_page: PAGE,
                sector: 512,
            },
            version: found.version(),
            unknown_magic: Some(found.magic).filter(|magic| page::version(*magic).is_none()),
            timeline: options.timeline,
            start: options.start,
            end: options.end,
            partial: Vec::new(),
        }
    }

    /// Takes the start and the end position from the file names.
    fn between(&mut self, options: &Options, name: &[u8]) -> Result<(), Stop> {
        let first = self.named_segment(name)?;
        if !self.start.is_valid() {
            self.start = self.start_of(first);
        } else if self.geometry.segment_of(self.start) != first {
            return Err(Stop::bad_argument(format!(
                "start WAL location {} is not inside file \"{}\"",
                self.start.text(self.version),
                shown(name)
            )));
        }
        let mut last = first;
        if let Some(second) = options.files.get(1) {
            last = self.named_segment(split_path(second).1)?;
            if last < first {
                return Err(Stop::fatal(format!(
                    "ENDSEG {} is before STARTSEG {}",
                    shown(second),
                    shown(&options.files[0])
                )));
            }
        }
        let behind = self.start_of(SegmentNo(last.0.wrapping_add(1)));
        if !self.end.is_valid() {
            self.end = behind;
        }
        if self.geometry.segment_of(self.end) != last && self.end != behind {
            return Err(Stop::bad_argument(format!(
                "end WAL location {} is not inside file \"{}\"",
                self.end.text(self.version),
                options.files.last().map_or("".into(), |file| shown(file))
            )));
        }
        Ok(())
    }

    /// The segment to which a file name refers. Also sets the timeline.
    fn named_segment(&mut self, name: &[u8]) -> Result<SegmentNo, Stop> {
        if open_in(&self.folder, name)?.is_none() {
            let message = format!("could not open file \"{}\"", shown(name));
            return Err(Stop::Fatal(message));
        }
        let mut scan = Scan(name);
        let mut field = || scan.hex(8);
        // pg_waldump would continue with uninitialized values if the name has fewer fields.
        let (Some(tli), Some(high), Some(low)) = (field(), field(), field()) else {
            let message = format!("could not parse WAL file name \"{}\"", shown(name));
            return Err(Stop::Fatal(message));
        };
        self.timeline = TimelineId(tli);
        let per_id = (1 << 32) / u64::from(self.geometry.segment);
        let segment = SegmentNo(u64::from(high) * per_id + u64::from(low));
        let whole = segment_name(&self.geometry, self.timeline, segment);
        if name == format!("{whole}.partial").as_bytes() {
            self.partial.push(segment);
        }
        Ok(segment)
    }

    /// The first byte of a segment. As in C, the number wraps around at the end of the address
    /// space.
    const fn start_of(&self, segment: SegmentNo) -> Lsn {
        Lsn(segment.0.wrapping_mul(self.geometry.segment as u64))
    }

    fn checked(self) -> Result<Self, Stop> {
        if self.start.is_valid() {
            Ok(self)
        } else {
            Err(Stop::bad_argument("no start WAL location given"))
        }
    }
}

/// Opens a file of the directory (`open_file_in_directory`). Returns `None` if the file does not
/// exist.
pub(super) fn open_in(folder: &Path, name: &[u8]) -> Result<Option<File>, Stop> {
    match File::open(folder.join(path(name))) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let (name, reason) = (shown(name), reason(&error));
            let message = format!("could not open file \"{name}\": {reason}");
            Err(Stop::Fatal(message))
        }
    }
}

/// Tries the directories in which segments may be.
fn identify_target_directory(
    folder: Option<&Path>,
    name: Option<&[u8]>,
) -> Result<(PathBuf, Found), Stop> {
    let places = match folder {
        Some(folder) => vec![folder.to_owned(), folder.join("pg_wal")],
        None => {
            let data = pgdata().map(|data| data.join("pg_wal"));
            let here = [PathBuf::from("."), PathBuf::from("pg_wal")];
            here.into_iter().chain(data).collect()
        }
    };
    for place in places {
        if let Some(found) = search_directory(&place, name)? {
            return Ok((place, found));
        }
    }
    Err(Stop::Fatal(match name {
        Some(name) => format!("could not locate WAL file \"{}\"", shown(name)),
        None => "could not find any WAL file".into(),
    }))
}

#[expect(
    clippy::disallowed_methods,
    reason = "PostgreSQL's programs find a cluster by PGDATA"
)]
fn pgdata() -> Option<PathBuf> {
    std::env::var_os("PGDATA").map(PathBuf::from)
}

/// Reads the first page of the named file. If no file is named, reads the first page of any
/// segment.
fn search_directory(folder: &Path, name: Option<&[u8]>) -> Result<Option<Found>, Stop> {
    let name = match name {
        Some(name) => name.to_vec(),
        None => match any_segment(folder) {
            Some(name) => name,
            None => return Ok(None),
        },
    };
    let Some(mut file) = open_in(folder, &name)? else {
        return Ok(None);
    };
    let mut bytes = vec![0; PAGE as usize];
    let shown = shown(&name);
    let got = file.read(&mut bytes).map_err(|error| {
        let reason = reason(&error);
        Stop::Fatal(format!("could not read file \"{shown}\": {reason}"))
    })?;
    if got != bytes.len() {
        let message = format!("could not read file \"{shown}\": read {got} of {PAGE}");
        return Err(Stop::Fatal(message));
    }
    let header = LongPageHeader::decode(&bytes).expect("a page is longer");
    let mut magic = [0; 2];
    let second = file.read_exact(&mut magic);
    let found = Found {
        magic: header.std.magic,
        segment: header.seg_size,
        second: second.is_ok().then(|| u16::from_le_bytes(magic)),
    };
    let range = LEAST_SEGMENT..=MOST_SEGMENT;
    if found.segment.is_power_of_two() && range.contains(&found.segment) {
        Ok(Some(found))
    } else {
        Err(bad_segment_size(&found, &shown))
    }
}

fn bad_segment_size(found: &Found, file: &str) -> Stop {
    let size = found.segment.cast_signed();
    let bytes = if size == 1 { "byte" } else { "bytes" };
    if found.version() >= PgVersion::V17 {
        return Stop::Detailed {
            error: format!("invalid WAL segment size in WAL file \"{file}\" ({size} {bytes})"),
            detail: "The WAL segment size must be a power of two between 1 MB and 1 GB.".into(),
        };
    }
    Stop::Fatal(format!(
        "WAL segment size must be a power of two between 1 MB and 1 GB, but the WAL file \"{file}\" \
         header specifies {size} {bytes}"
    ))
}

/// The first file in the directory that has the name of a segment (`IsXLogFileName`).
fn any_segment(folder: &Path) -> Option<Vec<u8>> {
    let names = fs::read_dir(folder).ok()?.flatten();
    let mut names = names.map(|entry| entry.file_name().as_bytes().to_vec());
    names.find(|name| {
        let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
        name.len() == 24 && name.iter().all(digit)
    })
}

/// Checks that the directory can be opened. The error text is pg_waldump's.
fn verify_directory(folder: &Path) -> Result<(), String> {
    match fs::read_dir(folder) {
        Ok(_) => Ok(()),
        Err(error) => {
            let shown = shown(folder.as_os_str().as_bytes());
            let reason = reason(&error);
            Err(format!("could not open directory \"{shown}\": {reason}"))
        }
    }
}

/// Splits a path into directory and file, as dirname(1) and basename(1) do.
fn split_path(path: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (Some(&path[..at]), &path[at + 1..]),
        None => (None, path),
    }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

fn shown(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
