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

/// The configuration of a receiver.
#[derive(Clone, Debug)]
pub struct Config {
    /// The connection, the slot and when to stop.
    pub options: PgReceivewalOptions,
    /// The value of `--status-interval`. 0 disables status updates.
    pub status_interval_ms: u32,
}

/// Receives WAL into a directory. Returns how the receiver ended.
///
/// # Errors
/// If another receiver uses the directory, a socket cannot be created, or the kernel cannot be
/// polled.
pub fn run<H: Host<PgReceivewal>>(config: Config, dir: &Path, host: H) -> io::Result<Option<Exit>> {
    let _lock = DirectoryLock::take(dir)?;
    let mut driver = driver(config, dir, host)?;
    let pid = driver.machine().pid();
    driver.take_signals(pid)?;
    driver.run()
}

/// A receiver on real sockets and files that does not run yet.
///
/// # Errors
/// If no more descriptors are available.
pub fn driver<H: Host<PgReceivewal>>(
    config: Config,
    dir: &Path,
    host: H,
) -> io::Result<Driver<PgReceivewal, H>> {
    // An ordinary build of PostgreSQL has these page and sector sizes. The segment size is taken
    // from the server.
    let mut settings = Settings::new(PgVersion::V18, Geometry::STOCK);
    settings.wal_receiver_status_interval_ms = config.status_interval_ms;
    Driver::new(PgReceivewal::start(settings, config.options, 1), dir, host)
}
