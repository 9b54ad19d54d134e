//! Receives WAL into a directory: `walsim-live receive` without its command line.

mod conninfo;
mod defaults;
mod lock;
mod passfile;

pub use conninfo::{ConnInfoError, parse, parse_with};

use crate::driver::{Driver, Host};
use lock::DirectoryLock;
use std::io;
use std::path::Path;
use walsim_core::base::{Geometry, PgVersion, Settings};
use walsim_core::call::Exit;
use walsim_core::node::{PgReceivewal, PgReceivewalOptions};

/// What a receiver is told to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// From where, and until when.
    pub options: PgReceivewalOptions,
    /// `--status-interval`; 0 switches status updates off.
    pub status_interval_ms: u32,
}

/// Receives into a directory until the end: how it came.
///
/// # Errors
/// If another receiver uses the directory, or the system refuses a socket, or does not tell any
/// more what happens.
pub fn run<H: Host<PgReceivewal>>(config: Config, dir: &Path, host: H) -> io::Result<Option<Exit>> {
    let _lock = DirectoryLock::take(dir)?;
    let mut driver = driver(config, dir, host)?;
    let pid = driver.machine().pid();
    driver.take_signals(pid)?;
    driver.run()
}

/// A receiver on real sockets and files that has not begun yet.
///
/// # Errors
/// If the system has no more descriptors.
pub fn driver<H: Host<PgReceivewal>>(
    config: Config,
    dir: &Path,
    host: H,
) -> io::Result<Driver<PgReceivewal, H>> {
    // Pages and sectors are those of an ordinary build; the server tells its segment size.
    let mut settings = Settings::new(PgVersion::V18, Geometry::STOCK);
    settings.wal_receiver_status_interval_ms = config.status_interval_ms;
    Driver::new(PgReceivewal::start(settings, config.options, 1), dir, host)
}
