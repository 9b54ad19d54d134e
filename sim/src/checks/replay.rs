//! REPLAY: a record is applied only if no crash can take its WAL away, and a page is written only if recovery will find
//! the WAL that made it.

use super::{Known, Scene, Site};
use crate::disk::Disk;
use crate::world::Violation;
use walsim_core::base::{Geometry, Lsn, PgVersion};
use walsim_core::shmem::{RecoveryState, WalRcvState};
use walsim_core::wire::control_file::ControlFile;

const CODE: &str = "REPLAY";

/// Per node: the end of the last record looked at, and the durable minimum recovery point.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Replay {
    nodes: Vec<(Lsn, Lsn)>,
}

impl Replay {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            nodes: vec![(Lsn::INVALID, Lsn::INVALID); nodes],
        }
    }

    /// The shared memory of a node is new.
    pub(super) fn forget(&mut self, host: usize) {
        self.nodes[host] = (Lsn::INVALID, Lsn::INVALID);
    }

    /// Runs after PREFIX, which finds out what was applied.
    pub(super) fn after_step(
        &mut self,
        scene: &Scene<'_>,
        known: &mut Known,
    ) -> Result<(), Violation> {
        let applied = known.applied;
        let seen = &mut self.nodes[scene.host].0;
        if applied == *seen {
            return Ok(());
        }
        *seen = applied;
        let walrcv = &scene.view.shmem().walrcv;
        if walrcv.state == WalRcvState::Streaming {
            streamed(scene.site(), applied, walrcv.flushed_upto)?;
        }
        let stable = known.stable_until(scene.disk, &scene.geometry, applied);
        durable(scene.site(), applied, stable)
    }

    /// A data page with this LSN was written to its file.
    pub(super) fn page_written(
        &mut self,
        host: usize,
        page: PageWrite<'_>,
        known: &mut Known,
    ) -> Result<(), Violation> {
        if known.recovery != RecoveryState::Archive {
            let stable = known.stable_until(page.disk, &page.geometry, page.lsn);
            return logged(page.site, page.lsn, stable);
        }
        let point = &mut self.nodes[host].1;
        if page.lsn > *point {
            *point = min_recovery_point(page.disk, page.version);
        }
        announced(page.site, page.lsn, *point)
    }
}

/// A data page on its way to a file.
pub(super) struct PageWrite<'a> {
    pub(super) site: Site<'a>,
    pub(super) disk: &'a Disk,
    pub(super) geometry: Geometry,
    pub(super) version: PgVersion,
    pub(super) lsn: Lsn,
}

/// As a crash would find it.
fn min_recovery_point(disk: &Disk, version: PgVersion) -> Lsn {
    let bytes = disk
        .read_platter("global/pg_control", 0, 512)
        .unwrap_or_default();
    ControlFile::decode(version, &bytes).map_or(Lsn::INVALID, |control| control.min_recovery_point)
}

fn streamed(site: Site<'_>, applied: Lsn, flushed: Lsn) -> Result<(), Violation> {
    if applied <= flushed {
        return Ok(());
    }
    let message = "a record was applied that had come over the stream and was not yet flushed";
    Err(site.violation(
        CODE,
        message,
        &[("applied", &applied), ("flushed", &flushed)],
    ))
}

fn durable(site: Site<'_>, applied: Lsn, stable: Lsn) -> Result<(), Violation> {
    if applied <= stable {
        return Ok(());
    }
    let message = "a record was applied that a crash of this node could still take away";
    Err(site.violation(
        CODE,
        message,
        &[("applied", &applied), ("durable on its disk", &stable)],
    ))
}

fn logged(site: Site<'_>, lsn: Lsn, stable: Lsn) -> Result<(), Violation> {
    if lsn <= stable {
        return Ok(());
    }
    let message = "a page was written before the WAL that describes its change was durable";
    Err(site.violation(CODE, message, &[("page", &lsn), ("durable WAL", &stable)]))
}

fn announced(site: Site<'_>, lsn: Lsn, point: Lsn) -> Result<(), Violation> {
    if lsn <= point {
        return Ok(());
    }
    let message = "a page was written that is newer than the durable minimum recovery point";
    Err(site.violation(
        CODE,
        message,
        &[("page", &lsn), ("minimum recovery point", &point)],
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, SITE, TINY, builder, message};
    use super::*;
    use crate::disk::Content;

    #[test]
    fn a_record_is_applied_once_its_wal_is_durable() {
        let mut wal = builder();
        let first = wal.append(&message(3, 10));
        let mut bench = Bench::new(wal.bytes());
        let second = wal.append(&message(3, 10));
        bench.write_wal(wal.bytes());
        let mut check = |upto| {
            let stable = bench.known.stable_until(&bench.disk, &TINY, upto);
            durable(SITE, upto, stable)
        };
        assert_eq!(check(first.end), Ok(()));
        assert_eq!(check(second.end).expect_err("it bites").code, "REPLAY");
    }

    #[test]
    fn the_stream_is_read_up_to_what_is_flushed() {
        assert_eq!(streamed(SITE, Lsn(8), Lsn(8)), Ok(()));
        assert!(streamed(SITE, Lsn(16), Lsn(8)).is_err());
    }

    /// On a standby the control file speaks for a page, elsewhere the WAL itself.
    #[test]
    fn a_page_is_not_written_before_recovery_knows_of_it() {
        let mut wal = builder();
        let first = wal.append(&message(3, 10));
        let mut bench = Bench::new(wal.bytes());
        let version = PgVersion::V15;
        let mut control = ControlFile::fresh(version, &TINY, 1, first.start);
        control.min_recovery_point = Lsn(5000);
        bench
            .disk
            .set_up_file("global/pg_control", Content::new(&control.encode(version)));
        let mut replay = Replay::new(1);
        let mut write = |lsn, recovery| {
            bench.known.recovery = recovery;
            let disk = &bench.disk;
            let page = PageWrite {
                site: SITE,
                disk,
                geometry: TINY,
                version,
                lsn,
            };
            replay.page_written(0, page, &mut bench.known).is_ok()
        };
        assert!(write(Lsn(5000), RecoveryState::Archive));
        assert!(!write(Lsn(5008), RecoveryState::Archive));
        assert!(write(first.end, RecoveryState::Done));
        assert!(!write(Lsn(5000), RecoveryState::Done));
    }
}
