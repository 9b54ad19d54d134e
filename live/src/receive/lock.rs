//! Ensures that only one receiver uses a directory.
//!
//! The lock is an flock on the directory itself, because pg_receivewal's directory has no lock
//! file. The kernel releases the lock when the process ends. pg_receivewal neither takes nor checks
//! this lock.

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::path::Path;

/// The lock. It is held until this value is dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _directory: File,
}

impl DirectoryLock {
    /// Locks the directory. Fails at once if another receiver has locked it.
    pub(super) fn take(dir: &Path) -> io::Result<Self> {
        let directory = File::open(dir)?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                _directory: directory,
            }),
            Err(e) => {
                let why = match e {
                    Errno::WOULDBLOCK => "another receiver is using it".into(),
                    other => io::Error::from(other).to_string(),
                };
                let dir = dir.display();
                let text = format!("could not lock directory \"{dir}\": {why}");
                Err(io::Error::new(e.kind(), text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_receiver_per_directory() {
        let name = format!("walsim-lock-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).expect("it is ours");
        let first = DirectoryLock::take(&dir).expect("nobody has it");
        let second = DirectoryLock::take(&dir).expect_err("it is taken");
        assert_eq!(
            second.to_string(),
            format!(
                "could not lock directory \"{}\": another receiver is using it",
                dir.display()
            )
        );
        drop(first);
        DirectoryLock::take(&dir).expect("it is free again");
        assert_eq!(std::fs::read_dir(&dir).expect("it is ours").count(), 0);
        std::fs::remove_dir(&dir).expect("it is ours");
    }
}
