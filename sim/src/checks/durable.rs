//! DURABLE: when a walsender exits because of a clean shutdown, its standby has flushed all WAL,
//! including the shutdown checkpoint. A planned switchover relies on this.
//!
//! A walsender sends `COPY 0` only at a clean shutdown. It does not send `COPY 0` when it exits
//! after a timeout, an error, a signal or a closed connection.

use crate::disk::Disk;
use crate::referee::{
    About, Check, Evidence, Knowledge, Promise, Ruling, Site, Subscription, Value, Violation,
    WireEnd, WireMessage, control_file,
};
use walsim_core::base::{Geometry, Lsn};
use walsim_core::shmem::RecoveryState;
use walsim_core::wire::control_file::{ControlFile, DbState};

const ABOUT: About = About {
    code: "DURABLE",
    promise: Promise::Safety,
    statement: "At a clean shutdown, a walsender exits only after all WAL is durable on its \
              standby's disk.",
    details: "The check runs when a walsender sends COPY 0, its last message at a smart or fast \
              shutdown. All WAL that the walsender has sent must be durable on the standby's \
              disk. On a primary, the walsender must also have sent the shutdown checkpoint \
              record, and pg_control must have the state DB_SHUTDOWNED.",
    notes: &[
        "The check reads the disk of the standby and ignores the positions that the standby has \
         reported.",
        "A receiver that is not a server of the run is not checked.",
        "If a walsender exits because of a timeout, an error, a signal or a closed connection, it \
         sends no COPY 0. Such an exit is not checked.",
    ],
    source: "A walsender that is told to stop sends all WAL, waits until its peer has confirmed \
              it, and sends COPY 0: WalSndDone (walsender.c). ShutdownXLOG has written the \
              checkpoint before (xlog.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Message(WireEnd::ServerSends, Some(b'C'))];

/// The body of the CommandComplete that a walsender sends before it exits.
const LAST_WORD: &[u8] = b"COPY 0\0";

/// Stateless.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Durable;

impl Check for Durable {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    /// The check skips a connection that is already closed. It also skips a receiver that is not a
    /// node, because such a receiver has no disk in the simulator.
    fn on_message(&mut self, message: &WireMessage<'_>, known: &Knowledge) -> Ruling {
        let Some(peer) = message.peer.filter(|_| message.parts[0] == LAST_WORD) else {
            return Ok(());
        };
        let (site, host) = (message.site, message.site.host);
        let checkpoint = match known.recovery(host) {
            RecoveryState::Done => {
                let sizes = (message.disk, known.geometry());
                Some(shutdown_checkpoint(site, known.control(host), sizes)?)
            }
            RecoveryState::Crash | RecoveryState::Archive => None,
        };
        let sent = known.sent(host, message.pid);
        let standby = peer.site.host;
        let leaving = Leaving {
            sent,
            checkpoint,
            peer: peer.site.name,
            stable: known.durable_until(standby, peer.disk, Lsn::INVALID, sent),
        };
        leaving.judge(site)
    }
}

/// The end of the shutdown checkpoint record. The record must be durable before the walsenders of a
/// primary exit.
fn shutdown_checkpoint(
    site: Site<'_>,
    control: Option<&ControlFile>,
    (disk, geometry): (&Disk, &Geometry),
) -> Result<Lsn, Violation> {
    match control {
        Some(control) if control.state == DbState::ShutDown => Ok(control_file::checkpoint_end(
            disk,
            geometry,
            control.checkpoint,
        )),
        control => {
            let state = control.map_or(DbState::Startup, |control| control.state);
            let message = "a walsender exits before the shutdown checkpoint is durable";
            Err(site.violation(ABOUT.code, message, &[("control file", &state)]))
        }
    }
}

/// A walsender that is about to exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Leaving<'a> {
    /// The end of the WAL that the walsender has sent.
    sent: Lsn,
    /// The end of the shutdown checkpoint record. This is `None` on a standby.
    checkpoint: Option<Lsn>,
    peer: &'a str,
    /// The end of the WAL that is durable on the peer's disk.
    stable: Lsn,
}

impl Leaving<'_> {
    fn judge(self, site: Site<'_>) -> Ruling {
        let message = if self.checkpoint.is_some_and(|end| self.sent < end) {
            "a walsender exits without having sent the shutdown checkpoint"
        } else if self.stable < self.sent {
            "a walsender exits although its standby could still lose WAL that it received"
        } else {
            return Ok(());
        };
        let checkpoint = self.checkpoint.unwrap_or(Lsn::INVALID);
        let facts: [(&str, &dyn Evidence); 4] = [
            ("sent", &self.sent),
            ("end of the shutdown checkpoint", &checkpoint),
            ("standby", &Value::node(self.peer)),
            ("durable on its disk", &self.stable),
        ];
        Err(site.violation(ABOUT.code, message, &facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::{GEOMETRY, NodeFixture, SITE, builder, message};
    use walsim_core::base::PgVersion;

    #[test]
    fn a_standby_must_have_flushed_what_it_was_sent() {
        let mut wal = builder();
        let first = wal.append(&message(3, 10));
        let mut standby = NodeFixture::new(wal.bytes());
        let second = wal.append(&message(3, 10));
        // The standby has written this WAL but not flushed it, so the WAL is not durable.
        standby.write_wal(wal.bytes());
        let leave = |sent: Lsn, checkpoint| {
            let stable = standby.node.stable_until(&standby.disk, &GEOMETRY, sent);
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
        let primary = NodeFixture::new(wal.bytes());
        let found = |state| {
            let mut control = ControlFile::fresh(version, &GEOMETRY, 1, record.start);
            control.state = state;
            let found = shutdown_checkpoint(SITE, Some(&control), (&primary.disk, &GEOMETRY));
            found.map_err(|violation| violation.code)
        };
        assert_eq!(found(DbState::ShutDown), Ok(record.end));
        assert_eq!(found(DbState::ShuttingDown), Err("DURABLE"));
    }
}
