//! Finds out what kind of directory is served: a cluster made by walsim-live, a stopped PostgreSQL
//! cluster, or an empty directory. In an empty directory a cluster is made.

use super::Refusal;
use super::lock_file::LockFile;
use super::settings::{Choice, MARK, apply, read_mark, shape, write_mark};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use walsim_core::base::{Geometry, PgVersion, Settings};
use walsim_core::node::{InitialFile, initdb};
use walsim_core::wire::control_file::{ControlFile, ControlFileError, DbState};

/// Which program made a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// walsim-live made the cluster: the directory contains the settings file.
    Ours,
    /// A PostgreSQL cluster that was shut down. walsim-live sends the cluster's WAL and does not
    /// change the files.
    Stopped,
}

/// A cluster that this process serves. The lock on its directory is held until this value is
/// dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The absolute path of the cluster's directory.
    pub dir: PathBuf,
    /// Which program made the cluster.
    pub kind: Kind,
    /// The settings of the server.
    pub settings: Settings,
    pub(super) lock: LockFile,
}

impl Cluster {
    /// Opens a directory. If the directory is empty or does not exist, makes a cluster there.
    ///
    /// # Errors
    /// If the directory is neither empty nor a cluster, if the version of the cluster is not
    /// supported, if the control file is damaged or says that the server was not shut down, or if a
    /// choice is invalid.
    pub fn open(dir: &Path, choices: &[Choice]) -> Result<Self, Refusal> {
        if is_empty(dir)? {
            make(dir, choices)?;
        }
        let real = fs::canonicalize(dir).map_err(|e| Refusal::file("access directory", dir, &e))?;
        let dir = real.as_path();
        check_access(dir)?;
        let mark = dir.join(MARK);
        let (kind, version, mark) = match fs::read_to_string(&mark) {
            Ok(text) => {
                let kept = read_mark(&text)?;
                (Kind::Ours, shape(&kept)?.version, kept)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                (Kind::Stopped, version_of(dir)?, Vec::new())
            }
            Err(e) => return Err(Refusal::file("read file", &mark, &e)),
        };
        // The lock file is created only when the directory is known to be a cluster.
        let lock = LockFile::create(dir)?;
        let control = control_file(dir, version)?;
        let settings = match kind {
            Kind::Ours => ours(&mark, choices)?,
            Kind::Stopped => stopped(version, &control, choices)?,
        };
        Ok(Self {
            dir: dir.into(),
            kind,
            settings,
            lock,
        })
    }

    /// Reads the settings file again. Settings that were given at the start override the file.
    ///
    /// # Errors
    /// If the file cannot be read, or a value is invalid.
    pub fn reread(&self, choices: &[Choice]) -> Result<Settings, Refusal> {
        let mark = self.dir.join(MARK);
        let text = fs::read_to_string(&mark).map_err(|e| Refusal::file("read file", &mark, &e))?;
        ours(&read_mark(&text)?, choices)
    }
}

fn is_empty(dir: &Path) -> Result<bool, Refusal> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Refusal::file("open directory", dir, &e)),
    }
}

/// Checks access to the directory, as `checkDataDir` does. The directory must belong to the user
/// who starts the server, and other users must not be able to write to it.
fn check_access(dir: &Path) -> Result<(), Refusal> {
    let meta = fs::metadata(dir).map_err(|e| Refusal::file("access directory", dir, &e))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(Refusal(format!(
            "data directory \"{}\" has wrong ownership: the server must be started by the user that owns it",
            dir.display()
        )));
    }
    if meta.mode() & 0o027 != 0 {
        return Err(Refusal(format!(
            "data directory \"{}\" has invalid permissions: they should be u=rwx (0700) or u=rwx,g=rx (0750)",
            dir.display()
        )));
    }
    Ok(())
}

fn ours(kept: &[Choice], choices: &[Choice]) -> Result<Settings, Refusal> {
    let made = shape(kept)?;
    if shape(&[kept, choices].concat())? != made {
        return Err(Refusal::new(
            "pg_version and segment cannot be changed in an existing cluster",
        ));
    }
    let mut settings = Settings::new(made.version, made.geometry);
    apply(&mut settings, kept)?;
    apply(&mut settings, choices)?;
    Ok(settings)
}

fn version_of(dir: &Path) -> Result<PgVersion, Refusal> {
    let path = dir.join("PG_VERSION");
    let text = fs::read_to_string(&path).map_err(|e| {
        if e.kind() == io::ErrorKind::NotFound {
            let dir = dir.display();
            Refusal(format!(
                "directory \"{dir}\" is neither empty nor a cluster: it has no file PG_VERSION"
            ))
        } else {
            Refusal::file("read file", &path, &e)
        }
    })?;
    PgVersion::named(text.trim()).ok_or_else(|| {
        let known = PgVersion::ALL.map(|version| version.major().to_string());
        let (found, known) = (text.trim(), known.join(", "));
        Refusal(format!(
            "the cluster has PostgreSQL version \"{found}\"; known: {known}"
        ))
    })
}

fn stopped(
    version: PgVersion,
    control: &ControlFile,
    choices: &[Choice],
) -> Result<Settings, Refusal> {
    if let Some(Choice { name, .. }) = choices.iter().find(|choice| choice.is_shape()) {
        let text = format!("{name} is that of the cluster, and cannot be chosen");
        return Err(Refusal(text));
    }
    if control.state != DbState::ShutDown {
        return Err(Refusal(format!(
            "database cluster state is \"{}\", not \"shut down\": the end of WAL is known only after a clean shutdown",
            control.state
        )));
    }
    let sizes = (control.xlog_blcksz, control.xlog_seg_size, control.blcksz);
    let geometry = Geometry::new(sizes.0, sizes.1, sizes.2, Geometry::STOCK.sector)
        .map_err(|e| Refusal(format!("{CONTROL_FILE}: {e}")))?;
    let mut settings = Settings::new(version, geometry);
    apply(&mut settings, choices)?;
    Ok(settings)
}

const CONTROL_FILE: &str = "global/pg_control";

fn control_file(dir: &Path, version: PgVersion) -> Result<ControlFile, Refusal> {
    let path = dir.join(CONTROL_FILE);
    let bytes = fs::read(&path).map_err(|e| Refusal::file("read file", &path, &e))?;
    ControlFile::decode(version, &bytes).map_err(|e| {
        let reason = match e {
            ControlFileError::Checksum { .. } => "incorrect checksum in control file".into(),
            ControlFileError::Short(_)
            | ControlFileError::Version { .. }
            | ControlFileError::Incompatible { .. }
            | ControlFileError::State(_)
            | ControlFileError::Size { .. } => format!("unusable control file: {e}"),
        };
        Refusal(format!("{reason} (\"{}\")", path.display()))
    })
}

/// Makes a cluster. The settings file is written last. A directory without this file is not
/// recognized as a cluster, so an incomplete cluster is never served.
fn make(dir: &Path, choices: &[Choice]) -> Result<(), Refusal> {
    let shape = shape(choices)?;
    let mut settings = Settings::new(shape.version, shape.geometry);
    apply(&mut settings, choices)?;
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |e: io::Error| Refusal::file("create", &path, &e)
    };
    let mut builder = DirBuilder::new();
    let created = builder.recursive(true).mode(0o700).create(dir);
    let created =
        created.and_then(|()| fs::set_permissions(dir, fs::Permissions::from_mode(0o700)));
    created.map_err(failed(dir))?;
    let mut dirs = vec![dir.to_path_buf()];
    for entry in initdb(shape.version, &shape.geometry, rand::random()) {
        match entry {
            InitialFile::Dir(path) => {
                let path = dir.join(path.as_str());
                let made = DirBuilder::new().mode(0o700).create(&path);
                made.map_err(failed(&path))?;
                dirs.push(path);
            }
            InitialFile::File { path, bytes, len } => {
                let path = dir.join(path.as_str());
                write(&path, &bytes, len).map_err(failed(&path))?;
            }
        }
    }
    let mark = dir.join(MARK);
    let text = write_mark(shape, choices);
    write(&mark, text.as_bytes(), 0).map_err(failed(&mark))?;
    for dir in dirs.iter().rev() {
        File::open(dir)
            .and_then(|opened| opened.sync_all())
            .map_err(failed(dir))?;
    }
    Ok(())
}

/// Writes a new file of `len` bytes, padded with zeros, and fsyncs the file.
fn write(path: &Path, bytes: &[u8], len: u64) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    let zeros = len.saturating_sub(bytes.len() as u64);
    io::copy(&mut io::Read::take(io::repeat(0), zeros), &mut file)?;
    file.sync_all()
}
