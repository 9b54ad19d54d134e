//! RECOVER: a server starts from whatever a crash left behind, and none of its processes ends for want of anything but
//! a working disk.

use super::{Scene, Site, control_file};
use crate::disk::Disk;
use crate::world::Violation;
use walsim_core::base::{Lsn, PgVersion, Pid};
use walsim_core::call::{DiskError, Effect, Exit, LogEvent, Message};
use walsim_core::shmem::Role;

const CODE: &str = "RECOVER";

/// Per node: it may end, as it was told to, or as its disk has failed it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Recover {
    may_end: Vec<bool>,
    /// Per node: the last process that has logged a failure of its disk and gone on.
    failed: Vec<Option<Pid>>,
}

impl Recover {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            may_end: vec![false; nodes],
            failed: vec![None; nodes],
        }
    }

    /// A server was started.
    pub(super) fn booted(&mut self, host: usize) {
        self.may_end[host] = false;
    }

    /// Somebody kills a process. A server does not try again what its startup process did not survive
    /// (`STARTUP_CRASHED`).
    pub(super) fn killed(&mut self, host: usize, role: Role) {
        self.may_end[host] |= role == Role::Startup;
    }

    pub(super) fn after_step(&mut self, scene: &Scene<'_>) -> Result<(), Violation> {
        for (pid, effect) in &scene.effects.0 {
            match effect {
                Effect::Log(event) => {
                    if matches!(event.message, Message::ShutdownRequest(_)) {
                        self.may_end[scene.host] = true;
                    }
                    if is_excused(event) {
                        self.failed[scene.host] = Some(*pid);
                    }
                }
                Effect::Exit(exit) => {
                    let role = match scene.ran {
                        Some((ran, role)) if ran == *pid => role,
                        _ if pid.n == Pid::postmaster(pid.incarnation).n => Role::Postmaster,
                        Some(_) | None => Role::Backend,
                    };
                    // A segment that could not be put into place is missed by whoever made it.
                    let misses = self.failed[scene.host] == Some(*pid) && is_missing_file(exit);
                    if !misses {
                        self.ended(scene.site(), scene.host, role, exit)?;
                    }
                }
                Effect::Halt => self.halted(scene.site(), scene.host)?,
                Effect::Disk(..) | Effect::Net(..) => {}
            }
        }
        Ok(())
    }

    fn ended(
        &mut self,
        site: Site<'_>,
        host: usize,
        role: Role,
        exit: &Exit,
    ) -> Result<(), Violation> {
        let event = match exit {
            Exit::Normal | Exit::Silent | Exit::Quit | Exit::Killed => return Ok(()),
            Exit::Panic(event) => event,
            Exit::Fatal(event) => match role {
                Role::Startup | Role::Postmaster => event,
                // Others end like that in the course of events, and are started again.
                Role::Backend
                | Role::WalSender
                | Role::WalWriter
                | Role::Checkpointer
                | Role::WalReceiver => return Ok(()),
            },
        };
        let vital = matches!(role, Role::Startup | Role::Postmaster);
        if is_excused(event) {
            self.may_end[host] |= vital;
            return Ok(());
        }
        if role == Role::Postmaster && self.may_end[host] {
            return Ok(());
        }
        let message = match role {
            Role::Startup => "the startup process cannot recover from what is on the disk",
            Role::Postmaster => "the server does not start",
            Role::Backend
            | Role::WalSender
            | Role::WalWriter
            | Role::Checkpointer
            | Role::WalReceiver => "a process aborted though its disk works",
        };
        let facts: [(&str, &dyn std::fmt::Display); 2] =
            [("process", &role.name()), ("said", event)];
        Err(site.violation(CODE, message, &facts))
    }

    fn halted(&self, site: Site<'_>, host: usize) -> Result<(), Violation> {
        if self.may_end[host] {
            return Ok(());
        }
        Err(site.violation(CODE, "a server ended that nobody had told to", &[]))
    }
}

/// A segment of WAL goes that ends at `end`. The control file that a loss of power would leave must name a redo point
/// behind it, since recovery begins there.
pub(super) fn removed(
    site: Site<'_>,
    disk: &Disk,
    version: PgVersion,
    end: Lsn,
) -> Result<(), Violation> {
    let control = control_file::on_platter(disk, version);
    let redo = control.map_or(Lsn::INVALID, |control| control.checkpoint_copy.redo);
    if end <= redo {
        return Ok(());
    }
    let message = "a segment of WAL is removed that recovery would begin with or come to";
    Err(site.violation(
        CODE,
        message,
        &[("redo point on disk", &redo), ("end of the segment", &end)],
    ))
}

/// The fake disk fails and runs full only if a fault says so; and whoever is told to go may go.
fn is_excused(event: &LogEvent) -> bool {
    if let Message::File { error, .. } = &event.message {
        return matches!(error, DiskError::Io | DiskError::NoSpace);
    }
    event.message == Message::AdminShutdown
}

fn is_missing_file(exit: &Exit) -> bool {
    let (Exit::Fatal(event) | Exit::Panic(event)) = exit else {
        return false;
    };
    matches!(
        &event.message,
        Message::File {
            error: DiskError::NotFound,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Bench, SITE, TINY};
    use super::*;
    use crate::disk::Content;
    use walsim_core::call::{FilePath, SqlState};
    use walsim_core::wire::control_file::ControlFile;

    fn file(error: DiskError) -> LogEvent {
        LogEvent::file("fsync", FilePath::from("pg_wal/1"), error).in_critical_section()
    }

    fn bites(role: Role, exit: &Exit) -> bool {
        Recover::new(1).ended(SITE, 0, role, exit).is_err()
    }

    #[test]
    fn recovery_that_fails_bites() {
        let lost = LogEvent::panic(SqlState::INTERNAL, Message::NoCheckpoint(Lsn(40)));
        assert!(bites(Role::Startup, &Exit::Panic(lost.clone())));
        assert!(bites(Role::Startup, &Exit::Fatal(lost.clone())));
        assert!(bites(
            Role::Startup,
            &Exit::Panic(file(DiskError::NotFound))
        ));
        assert!(bites(Role::Postmaster, &Exit::Fatal(lost.clone())));
        assert!(bites(Role::Backend, &Exit::Panic(lost.clone())));
        assert!(!bites(Role::WalReceiver, &Exit::Fatal(lost)));
    }

    #[test]
    fn a_segment_goes_once_recovery_begins_behind_it() {
        let mut bench = Bench::new(&[]);
        let version = PgVersion::V15;
        let mut control = ControlFile::fresh(version, &TINY, 1, Lsn(4096 + 40));
        control.checkpoint_copy.redo = Lsn(3072 + 500);
        let content = Content::new(&control.encode(version));
        bench.disk.set_up_file(control_file::PATH, content);
        for (end, allowed) in [(2048, true), (3072, true), (4096, false), (5120, false)] {
            let outcome = removed(SITE, &bench.disk, version, Lsn(end));
            assert_eq!(outcome.is_ok(), allowed, "{end}");
        }
    }

    #[test]
    fn a_disk_that_fails_excuses() {
        for error in [DiskError::Io, DiskError::NoSpace] {
            assert!(!bites(Role::Startup, &Exit::Panic(file(error))));
            assert!(!bites(Role::WalWriter, &Exit::Panic(file(error))));
        }
    }

    #[test]
    fn a_server_ends_only_if_it_was_told_to_or_cannot_go_on() {
        let mut check = Recover::new(1);
        assert!(check.halted(SITE, 0).is_err());
        check
            .ended(SITE, 0, Role::Startup, &Exit::Panic(file(DiskError::Io)))
            .expect("excused");
        let failed = LogEvent::fatal(SqlState::INTERNAL, Message::StartupFailed);
        check
            .ended(SITE, 0, Role::Postmaster, &Exit::Fatal(failed.clone()))
            .expect("excused");
        check.halted(SITE, 0).expect("excused");
        check.booted(0);
        assert!(
            check
                .ended(SITE, 0, Role::Postmaster, &Exit::Fatal(failed))
                .is_err()
        );
        assert!(check.halted(SITE, 0).is_err());
    }
}
