//! Accepts new connections, and decides whether to refuse them. Mirrors BackendStartup and
//! canAcceptConnections.

use super::children::Kind;
use super::{PmState, Postmaster, Shutdown};
use crate::base::PgVersion;
use crate::call::{LogEvent, Message, SqlState};
use crate::sys::{Cx, Fork};

/// The number of other children: the defaults of `autovacuum_max_workers` and
/// `max_worker_processes`, and one autovacuum launcher.
const OTHER_CHILDREN: u32 = 3 + 1 + 8;

impl Postmaster {
    /// Forks a child for every new connection. A connection that will be refused also needs a
    /// child, because the child reads the startup packet before it refuses. In the last states of a
    /// shutdown or crash restart, new connections stay in the socket's queue.
    pub(super) fn accept(&mut self, cx: &mut Cx<'_>) {
        if self.state >= PmState::WaitDeadEnd {
            return;
        }
        while let Some(conn) = cx.accept() {
            let refusal = self.refusal(cx);
            let kind = if refusal.is_some() {
                Kind::DeadEnd
            } else {
                Kind::Backend
            };
            self.fork(cx, Fork::Backend(conn, refusal), kind);
        }
    }

    /// `canAcceptConnections`: the error with which a new connection is refused, or `None`.
    fn refusal(&mut self, cx: &Cx<'_>) -> Option<LogEvent> {
        let open = matches!(self.state, PmState::Run | PmState::HotStandby);
        if open && self.conns_allowed {
            let settings = &cx.shmem.settings;
            // `MaxLivePostmasterChildren`. Since 18 this limit covers only backends and walsenders.
            let others = match settings.pg_version {
                PgVersion::V15 | PgVersion::V16 | PgVersion::V17 => OTHER_CHILDREN,
                PgVersion::V18 | PgVersion::V19 => 0,
            };
            let room = 2 * (settings.max_connections + settings.max_wal_senders + others) as usize;
            let sessions = |kind| matches!(kind, Kind::Backend | Kind::WalSender);
            if self.children.count(cx, sessions) < room {
                return None;
            }
            let (code, message) = (SqlState::TOO_MANY_CONNECTIONS, Message::TooManyClients);
            return Some(LogEvent::fatal(code, message));
        }
        let message = if open || self.shutdown > Shutdown::No {
            Message::ShuttingDown
        } else {
            self.not_open_yet(cx)
        };
        Some(LogEvent::fatal(SqlState::CANNOT_CONNECT_NOW, message))
    }

    fn not_open_yet(&self, cx: &Cx<'_>) -> Message {
        let settings = &cx.shmem.settings;
        if !self.fatal_error && self.state == PmState::Startup {
            Message::StartingUp
        } else if self.fatal_error || self.state != PmState::Recovery {
            Message::InRecoveryMode
        } else if !settings.hot_standby {
            Message::NotAccepting
        } else if self.consistent && settings.pg_version >= PgVersion::V18 {
            // Since 18 the startup process tells the postmaster that recovery is consistent, even
            // if hot standby cannot begin yet.
            Message::NoSnapshotYet
        } else {
            Message::NotYetAccepting
        }
    }
}
