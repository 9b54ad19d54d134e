//! DURABLE, its part about shutdown: when a walsender leaves because the server has been stopped in good order, its
//! standby has flushed all WAL, the shutdown checkpoint included. Whoever switches over relies on that.
//!
//! `COPY 0` is what a walsender says then and at no other time: who ends by a timeout, by an error, by a signal or with
//! its connection does not say it.

use super::{Site, control_file};
use crate::disk::Disk;
use crate::world::Violation;
use bytes::Bytes;
use std::fmt::Display;
use walsim_core::base::{Geometry, Lsn, PgVersion};
use walsim_core::wire::control_file::DbState;

const CODE: &str = "DURABLE";

/// CommandComplete.
const LAST_WORD: &[u8] = b"C\0\0\0\x0bCOPY 0\0";

/// Are these bytes a walsender's last ones?
pub(crate) fn is_last_word(pieces: &[Bytes; 2]) -> bool {
    pieces[0].starts_with(LAST_WORD)
}

/// The shutdown checkpoint of a primary is durable before its walsenders are told to leave: where it ends.
pub(super) fn shutdown_checkpoint(
    site: Site<'_>,
    disk: &Disk,
    (version, geometry): (PgVersion, &Geometry),
) -> Result<Lsn, Violation> {
    match control_file::on_platter(disk, version) {
        Some(control) if control.state == DbState::ShutDown => Ok(control_file::checkpoint_end(
            disk,
            geometry,
            control.checkpoint,
        )),
        control => {
            let state = control.map(|control| control.state);
            let state = format!("{state:?}");
            let message = "a walsender leaves before the shutdown checkpoint is durable";
            Err(site.violation(CODE, message, &[("control file", &state)]))
        }
    }
}

/// How a walsender leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Leaving<'a> {
    /// End of what it has sent.
    pub(super) sent: Lsn,
    /// End of the shutdown checkpoint, on a primary.
    pub(super) checkpoint: Option<Lsn>,
    pub(super) peer: &'a str,
    /// Up to where the peer's disk keeps its WAL whatever happens.
    pub(super) stable: Lsn,
}

impl Leaving<'_> {
    pub(super) fn judge(self, site: Site<'_>) -> Result<(), Violation> {
        let message = if self.checkpoint.is_some_and(|end| self.sent < end) {
            "a walsender leaves without having sent the shutdown checkpoint"
        } else if self.stable < self.sent {
            "a walsender leaves though its standby could still lose WAL that it was sent"
        } else {
            return Ok(());
        };
        let checkpoint = self.checkpoint.unwrap_or(Lsn::INVALID);
        let facts: [(&str, &dyn Display); 4] = [
            ("sent", &self.sent),
            ("end of the shutdown checkpoint", &checkpoint),
            ("standby", &self.peer),
            ("durable on its disk", &self.stable),
        ];
        Err(site.violation(CODE, message, &facts))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, SITE, TINY, builder, message};
    use super::*;
    use crate::disk::Content;
    use walsim_core::wire::backend::BackendMessage;
    use walsim_core::wire::control_file::ControlFile;

    #[test]
    fn the_last_word_is_known_among_others() {
        let said = |tag: &str| {
            let mut frame = Vec::new();
            BackendMessage::CommandComplete(tag.into()).encode(&mut frame);
            is_last_word(&[frame.into(), Bytes::new()])
        };
        assert!(said("COPY 0"));
        assert!(!said("COPY 01") && !said("START_STREAMING"));
    }

    #[test]
    fn a_standby_must_have_flushed_what_it_was_sent() {
        let mut wal = builder();
        let first = wal.append(&message(3, 10));
        let mut standby = Bench::new(wal.bytes());
        let second = wal.append(&message(3, 10));
        // Received and written is not flushed.
        standby.write_wal(wal.bytes());
        let mut leave = |sent: Lsn, checkpoint| {
            let known = &mut standby.known;
            let stable = known.stable_until(&standby.disk, &TINY, sent);
            let peer = "n2";
            let leaving = Leaving {
                sent,
                checkpoint,
                peer,
                stable,
            };
            leaving.judge(SITE).map_err(|violation| violation.message)
        };
        assert_eq!(leave(first.end, Some(first.end)), Ok(()));
        assert_eq!(leave(first.end, None), Ok(()));
        assert!(leave(second.end, None).unwrap_err().contains("lose"));
        let unsent = leave(first.end, Some(second.end));
        assert!(unsent.unwrap_err().contains("without having sent"));
    }

    #[test]
    fn the_shutdown_checkpoint_must_be_durable() {
        let (version, mut wal) = (PgVersion::V15, builder());
        let record = wal.append(&message(3, 10));
        let mut primary = Bench::new(wal.bytes());
        let mut found = |state| {
            let mut control = ControlFile::fresh(version, &TINY, 1, record.start);
            control.state = state;
            let control = Content::new(&control.encode(version));
            primary.disk.set_up_file(control_file::PATH, control);
            let found = shutdown_checkpoint(SITE, &primary.disk, (version, &TINY));
            found.map_err(|violation| violation.code)
        };
        assert_eq!(found(DbState::ShutDown), Ok(record.end));
        assert_eq!(found(DbState::ShuttingDown), Err("DURABLE"));
    }
}
