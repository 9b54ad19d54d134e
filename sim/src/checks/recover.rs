//! RECOVER: a server starts from every state that a crash can leave on its disk. As long as the
//! disk does not fail, no process aborts and no server stops.

use crate::referee::{
    About, Check, DiskEvent, DiskKind, Evidence, FIRST_TIMELINE, FileClass, Knowledge, PerNode,
    Promise, Ruling, ServerAct, ServerEvent, ServerKind, Site, Subscription, is_disk_failure,
    segment_of,
};
use walsim_core::base::{Lsn, SegmentNo};
use walsim_core::call::{DiskError, Exit, Message};
use walsim_core::shmem::Role;
use walsim_core::wire::control_file::ControlFile;

const ABOUT: About = About {
    code: "RECOVER",
    promise: Promise::Safety,
    statement: "A server starts from every state that a crash can leave on its disk.",
    details: "The startup process and the postmaster must not exit with an error, and no process \
              may PANIC. Exits and PANICs because of a disk error are legal. A server must not \
              shut down without a request. A WAL segment may be removed only if it ends at or \
              before the redo point in the durable pg_control.",
    notes: &[
        "A process may exit after an error of its disk.",
        "A full disk can make the end-of-recovery checkpoint fail. The startup process may then \
         exit.",
        "If a fault kills the startup process, the server may end.",
    ],
    source: "A server starts from every state that a crash can leave: StartupXLOG (xlog.c), \
              PerformWalRecovery (xlogrecovery.c). A checkpoint does not remove WAL that recovery \
              needs: RemoveOldXlogFiles (xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 3] = [
    Subscription::Server(ServerKind::Exit),
    Subscription::Server(ServerKind::Halt),
    Subscription::Disk(DiskKind::Remove, FileClass::Wal),
];

/// For each node, the last run of the server in which a disk error ended the startup process or the
/// postmaster.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Recover {
    disk_ended: PerNode<u32>,
}

impl Check for Recover {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn on_server(&mut self, event: &ServerEvent<'_>, known: &Knowledge) -> Ruling {
        let host = event.site.host;
        match event.act {
            ServerAct::Exited { pid, role, exit } => {
                // If a process fails to rename a new segment into place, the same process later
                // finds that the segment is missing.
                if known.disk_failed(host) == Some(pid) && is_missing_file(exit) {
                    return Ok(());
                }
                // If the disk is full, the end-of-recovery checkpoint fails. The error of the
                // startup process does not name the cause (RequestCheckpoint: "Consult recent
                // messages in the server log for details").
                if known.checkpoint_disk_failed(host) && is_failed_checkpoint(exit) {
                    *self.disk_ended.of(host) = event.site.boot;
                    return Ok(());
                }
                self.ended(
                    event.site,
                    role.unwrap_or(Role::Backend),
                    exit,
                    may_end(event, known),
                )
            }
            ServerAct::Halted => self.halted(event.site, may_end(event, known)),
            ServerAct::Booted
            | ServerAct::Opened(_)
            | ServerAct::Gone(_)
            | ServerAct::Signaled { .. }
            | ServerAct::Logged { .. }
            | ServerAct::Fault(_) => Ok(()),
        }
    }

    /// Judges the removal of a WAL segment, which is about to happen.
    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        let geometry = known.geometry();
        let Some((FIRST_TIMELINE, segment)) = segment_of(geometry, event.path) else {
            return Ok(());
        };
        let end = geometry.segment_start(SegmentNo(segment.0 + 1));
        removed(event.site, known.control(event.site.host), end)
    }
}

/// Whether the server may stop, because a shutdown was requested or a fault killed its startup
/// process.
fn may_end(event: &ServerEvent<'_>, known: &Knowledge) -> bool {
    let orders = known.orders(event.site.host);
    orders.shutdown || orders.startup_killed
}

impl Recover {
    fn ended(&mut self, site: Site<'_>, role: Role, exit: &Exit, may_end: bool) -> Ruling {
        let event = match exit {
            Exit::Normal | Exit::Silent | Exit::Quit | Exit::Killed => return Ok(()),
            Exit::Panic(event) => event,
            Exit::Fatal(event) => match role {
                Role::Startup | Role::Postmaster => event,
                // Processes of other roles may exit with FATAL during normal operation. The
                // postmaster starts them again.
                Role::Backend
                | Role::WalSender
                | Role::WalWriter
                | Role::Checkpointer
                | Role::WalReceiver => {
                    return Ok(());
                }
            },
        };
        let vital = matches!(role, Role::Startup | Role::Postmaster);
        if is_disk_failure(event) {
            if vital {
                *self.disk_ended.of(site.host) = site.boot;
            }
            return Ok(());
        }
        if role == Role::Postmaster && (may_end || *self.disk_ended.of(site.host) == site.boot) {
            return Ok(());
        }
        let message = match role {
            Role::Startup => {
                "the startup process exited although the state of the disk is recoverable"
            }
            Role::Postmaster => "the server did not start",
            Role::Backend
            | Role::WalSender
            | Role::WalWriter
            | Role::Checkpointer
            | Role::WalReceiver => "a process aborted although its disk works",
        };
        let facts: [(&str, &dyn Evidence); 2] = [("process", &role), ("said", event)];
        Err(site.violation(ABOUT.code, message, &facts))
    }

    fn halted(&mut self, site: Site<'_>, may_end: bool) -> Ruling {
        if may_end || *self.disk_ended.of(site.host) == site.boot {
            return Ok(());
        }
        Err(site.violation(ABOUT.code, "a server shut down without a request", &[]))
    }
}

/// Checks the removal of a WAL segment that ends at `end`. `control` is the control file after a
/// power loss. Recovery begins at its redo point, so the segment must end at or before this point.
fn removed(site: Site<'_>, control: Option<&ControlFile>, end: Lsn) -> Ruling {
    let redo = control.map_or(Lsn::INVALID, |control| control.checkpoint_copy.redo);
    if end <= redo {
        return Ok(());
    }
    let message = "a WAL segment that recovery requires is being removed";
    let facts: [(&str, &dyn Evidence); 2] =
        [("redo point on disk", &redo), ("end of the segment", &end)];
    Err(site.violation(ABOUT.code, message, &facts))
}

fn is_failed_checkpoint(exit: &Exit) -> bool {
    matches!(exit, Exit::Fatal(event) if event.message == Message::CheckpointFailed)
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
    use super::*;
    use crate::referee::testing::{GEOMETRY, SITE};
    use walsim_core::base::PgVersion;
    use walsim_core::call::{FilePath, LogEvent, SqlState};

    fn file(error: DiskError) -> LogEvent {
        LogEvent::file("fsync", FilePath::from("pg_wal/1"), error).in_critical_section()
    }

    fn bites(role: Role, exit: &Exit) -> bool {
        Recover::default().ended(SITE, role, exit, false).is_err()
    }

    #[test]
    fn recovery_that_fails_bites() {
        let lost = LogEvent::panic(
            SqlState::INTERNAL,
            Message::NoCheckpoint(Lsn(40).text(PgVersion::V18)),
        );
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
    fn a_segment_goes_once_recovery_begins_after_it() {
        let mut control = ControlFile::fresh(PgVersion::V15, &GEOMETRY, 1, Lsn(4096 + 40));
        control.checkpoint_copy.redo = Lsn(3072 + 500);
        for (end, allowed) in [(2048, true), (3072, true), (4096, false), (5120, false)] {
            let outcome = removed(SITE, Some(&control), Lsn(end));
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
        let mut check = Recover::default();
        check.halted(SITE, true).expect("told to");
        assert!(check.halted(SITE, false).is_err());
        let failed = Exit::Panic(file(DiskError::Io));
        check
            .ended(SITE, Role::Startup, &failed, false)
            .expect("excused");
        let failed = LogEvent::fatal(SqlState::INTERNAL, Message::StartupFailed);
        let ends = Exit::Fatal(failed);
        check
            .ended(SITE, Role::Postmaster, &ends, false)
            .expect("excused");
        check.halted(SITE, false).expect("excused");
        let next = Site {
            boot: SITE.boot + 1,
            ..SITE
        };
        assert!(check.ended(next, Role::Postmaster, &ends, false).is_err());
        assert!(check.halted(next, false).is_err());
    }
}
