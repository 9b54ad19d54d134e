//! Executes the effects of a node. Effects are disk operations, network operations, log messages
//! and exits of processes.

use super::host::Host;
use super::{Event, Excuse, World};
use crate::disk::Ticket;
use crate::net::{Delivery, Net};
use crate::plan::EventKind;
use crate::referee::{DiskAct, End, Peer, Written};
use bytes::Bytes;
use std::ops::Range;
use walsim_core::base::{ConnId, Fd, Mark, Mono, OpId, Pid};
use walsim_core::call::{
    DiskOp, Effect, Effects, Exit, FilePath, Input, Message, NetEvent, NetOp, SlotMessage,
};
use walsim_core::node::Node;
use walsim_core::shmem::Role;

/// What a disk operation changes, as far as checks need to know.
enum Change<'a> {
    None,
    Written(Fd, Range<u64>),
    /// A name is about to be removed. If a rename removes it, the second path is the new name.
    Removed(&'a FilePath, Option<&'a FilePath>),
}

impl<'a> Change<'a> {
    fn of(call: &'a DiskOp) -> Self {
        match call {
            DiskOp::Write { fd, offset, data } => {
                Self::Written(*fd, *offset..*offset + data.len() as u64)
            }
            DiskOp::Rename { from, to } => Self::Removed(from, Some(to)),
            DiskOp::Unlink(path) | DiskOp::Rmdir(path) => Self::Removed(path, None),
            DiskOp::WriteZeros { .. }
            | DiskOp::Open { .. }
            | DiskOp::Close(_)
            | DiskOp::Read { .. }
            | DiskOp::Fsync(_)
            | DiskOp::Truncate { .. }
            | DiskOp::Stat(_)
            | DiskOp::Mkdir(_)
            | DiskOp::List(_)
            | DiskOp::SyncDir(_) => Self::None,
        }
    }
}

impl World {
    /// Executes the effects in order. Returns true if a fault killed the node between two effects.
    /// The effects after that point are dropped.
    pub(super) fn carry_out(
        &mut self,
        host: usize,
        ran: Option<(Pid, Role)>,
        effects: &mut Effects,
    ) -> bool {
        let cut = self.hosts[host].doomed.take().map(|doom| {
            let key = crate::choice::Key::new(
                "crash.cut",
                crate::choice::Subject::Node(self.hosts[host].index),
                [self.hosts[host].incarnation.into(), 0],
            );
            let at = self.choices.below(key, effects.0.len() as u64 + 1);
            (
                doom,
                usize::try_from(at).expect("at most the number of effects"),
            )
        });
        let mut halted = false;
        for (index, (pid, effect)) in effects.0.iter().enumerate() {
            if let Some((doom, at)) = &cut
                && *at == index
            {
                self.die(host, *doom);
                return true;
            }
            if let Some(doom) = self
                .event_of(host, ran, *pid, effect)
                .and_then(|e| self.fire(host, e))
            {
                self.die(host, doom);
                return true;
            }
            self.record_effect(host, ran, *pid, effect);
            match effect {
                Effect::Disk(op, call) => self.disk_op(host, *pid, *op, call),
                Effect::Net(conn, call) => self.net_op(host, *pid, *conn, call),
                Effect::Log(event) => {
                    if let Some((_, role)) = ran.filter(|(ran, _)| ran == pid) {
                        self.note_cause(host, *pid, role, event);
                        if self.quiescence.is_some() {
                            self.hear(host, *pid, role, event);
                        }
                    }
                    if let Message::Slot(SlotMessage::Missing(name)) = &event.message
                        && ran.is_some_and(|(_, role)| role == Role::WalSender)
                        && self.dropped_slots.contains(&(host, name.clone()))
                    {
                        self.marks.insert(Mark::SlotDroppedUnderStandby);
                    }
                }
                Effect::Exit(exit) => self.process_ended(host, *pid, exit),
                Effect::Halt => halted = true,
            }
        }
        if let Some((doom, _)) = cut {
            self.die(host, doom);
            return true;
        }
        if halted {
            self.check(host, None, effects);
            self.server_ended(host);
            return true;
        }
        self.note_state(host);
        false
    }

    fn disk_op(&mut self, host: usize, pid: Pid, op: OpId, call: &DiskOp) {
        let change = Change::of(call);
        if let Change::Removed(path, to) = change {
            if !self.disk_event(host, Some(pid), path, DiskAct::Remove(to)) {
                return;
            }
            let geometry = &self.hosts[host].plan.settings.geometry;
            self.causes.removes(host, geometry, path);
        }
        self.record_issue(host, op, call);
        let (ticket, delay_us) = self.issue(host, pid, call);
        self.record_issued((host, pid, op), call, &ticket, delay_us);
        let state = &mut self.hosts[host];
        if matches!(call, DiskOp::Close(_)) {
            // A close is completed at once, because no process waits for its result.
            let _ = state.disk.complete(ticket, &self.choices);
            return;
        }
        state.ops.insert(op, ticket);
        self.at(self.now.after_us(delay_us), Event::Disk(host, op));
        match change {
            Change::Written(fd, range) => {
                if let Some(path) = self.hosts[host].disk.path_of(fd).cloned() {
                    self.disk_event(host, Some(pid), &path, DiskAct::Write(Written::new(range)));
                }
            }
            Change::Removed(from, Some(to)) => {
                self.disk_event(host, Some(pid), to, DiskAct::Rename(from));
            }
            Change::Removed(_, None) | Change::None => {}
        }
    }

    /// Issues a disk operation. Returns its ticket, and its duration in microseconds.
    fn issue(&mut self, host: usize, pid: Pid, call: &DiskOp) -> (Ticket, u64) {
        self.note_install(host, pid, call);
        let skips_error = self.skips_error(host, pid, call);
        let covers_name = matches!(call, DiskOp::Fsync(fd) if self.covers_name(host, pid, *fd));
        let (disk, choices) = (&mut self.hosts[host].disk, &self.choices);
        let (mut ticket, delay_us) = match skips_error {
            Some(_) => disk.without_faults(|disk| disk.issue(pid, call, choices)),
            None => disk.issue(pid, call, choices),
        };
        if covers_name {
            disk.cover_name(&mut ticket);
            self.excuses.add(Excuse::SegmentNameNotDurable);
        }
        if let Some(excuse) = skips_error {
            self.excuses.add(excuse);
        }
        (ticket, delay_us)
    }

    fn net_op(&mut self, host: usize, pid: Pid, conn: ConnId, call: &NetOp) {
        if let NetOp::Send(pieces) = call {
            self.show_bytes(host, pid, conn, pieces, true);
        }
        let state = &mut self.hosts[host];
        match call {
            NetOp::Connect { .. } => {
                state.conns.insert(conn, pid);
            }
            NetOp::HandOver(to) => {
                state.conns.insert(conn, *to);
            }
            NetOp::Close => {
                state.conns.remove(&conn);
                self.referee.closed(host, conn);
            }
            NetOp::Read { .. } | NetOp::Send(_) => {}
        }
        self.net
            .op(self.now, state.index, conn, call, &self.choices);
    }

    /// Passes bytes at a node's end of a connection to the referee.
    fn show_bytes(
        &mut self,
        host: usize,
        pid: Pid,
        conn: ConnId,
        pieces: &[Bytes; 2],
        sends: bool,
    ) {
        let state = &self.hosts[host];
        let Some(view) = state.node.as_ref().map(Node::view) else {
            return;
        };
        if !self.referee.listens() {
            return;
        }
        let ruling = self.referee.bytes(&End {
            site: state.site(self.now),
            view,
            disk: &state.disk,
            conn,
            pid,
            peer: peer(&self.hosts, &self.net, self.now, (host, conn)),
            sends,
            pieces,
        });
        self.judge(ruling);
    }

    /// Delivers a network event to a node or to a session.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let host = usize::from(delivery.host);
        if host >= self.hosts.len() {
            self.deliver_to_session(host - self.hosts.len(), delivery.conn, delivery.event);
            return;
        }
        if delivery.event == NetEvent::Reset && self.net.was_keepalive() {
            let settings = &self.hosts[host].plan.settings;
            if settings
                .wal_sender_timeout_ms
                .min(settings.wal_receiver_timeout_ms)
                == 0
            {
                self.marks.insert(Mark::KeepaliveDetectedLoss);
            }
        }
        if delivery.event == NetEvent::Accepted {
            let incarnation = self.hosts[host].incarnation;
            self.hosts[host]
                .conns
                .insert(delivery.conn, Pid::postmaster(incarnation));
        }
        if let NetEvent::Data(bytes) = &delivery.event
            && let Some(pid) = self.hosts[host].conns.get(&delivery.conn).copied()
        {
            let pieces = [bytes.clone(), Bytes::new()];
            self.show_bytes(host, pid, delivery.conn, &pieces, false);
        }
        self.record_delivery(host, delivery.conn, &delivery.event);
        self.drive(host, Input::Net(delivery.conn, delivery.event));
    }

    fn process_ended(&mut self, host: usize, pid: Pid, exit: &Exit) {
        self.causes.ended(host, pid, exit);
        let state = &mut self.hosts[host];
        state.forget(pid);
        let index = state.index;
        let owned: Vec<ConnId> = state
            .conns
            .iter()
            .filter(|(_, owner)| **owner == pid)
            .map(|(conn, _)| *conn)
            .collect();
        for conn in owned {
            self.hosts[host].conns.remove(&conn);
            self.referee.closed(host, conn);
            self.net.close(self.now, index, conn, &self.choices);
        }
        match exit {
            Exit::Panic(_) => self.emit(Some(host), format!("process {pid} aborted")),
            Exit::Normal | Exit::Fatal(_) | Exit::Silent | Exit::Quit | Exit::Killed => {}
        }
    }

    /// The event that an effect causes. The event is computed only if an entry of the plan waits
    /// for an event.
    fn event_of(
        &self,
        host: usize,
        ran: Option<(Pid, Role)>,
        pid: Pid,
        effect: &Effect,
    ) -> Option<EventKind> {
        if !self.waits_for_events() {
            return None;
        }
        let state = &self.hosts[host];
        // If the process exited in this step, the node no longer lists the process. The role is
        // then taken from the step.
        let role = ran.filter(|(ran, _)| *ran == pid).map(|(_, role)| role);
        let in_wal = |fd| state.disk.path_of(fd).is_some_and(is_segment);
        match effect {
            Effect::Disk(_, DiskOp::Write { fd, .. }) if in_wal(*fd) => Some(match role {
                Some(Role::WalReceiver) => EventKind::WalReceived,
                _ => EventKind::WalWrite,
            }),
            Effect::Disk(_, DiskOp::Fsync(fd)) if in_wal(*fd) => Some(EventKind::WalFsync),
            Effect::Net(_, NetOp::Send(pieces)) if role == Some(Role::WalSender) => {
                let wal = pieces[0].first() == Some(&b'd') && pieces[0].get(5) == Some(&b'w');
                wal.then_some(EventKind::WalSent)
            }
            Effect::Disk(_, DiskOp::Rename { from, .. } | DiskOp::Unlink(from))
                if is_segment(from) =>
            {
                Some(EventKind::SegmentRemoved)
            }
            Effect::Disk(_, DiskOp::Rename { to, .. }) if is_slot_state(to) => {
                Some(EventKind::SlotSaved)
            }
            Effect::Log(event) if event.message == Message::Checkpoint("complete") => {
                Some(EventKind::CheckpointDone)
            }
            Effect::Exit(_) if role == Some(Role::WalReceiver) => Some(EventKind::WalreceiverEnded),
            Effect::Disk(..)
            | Effect::Net(..)
            | Effect::Log(_)
            | Effect::Exit(_)
            | Effect::Halt => None,
        }
    }
}

/// Whether the path is a WAL segment that has its final name.
pub(super) fn is_segment(path: &FilePath) -> bool {
    path.as_str().starts_with("pg_wal/0")
}

fn is_slot_state(path: &FilePath) -> bool {
    path.as_str().starts_with("pg_replslot/") && path.name() == "state"
}

/// The node at the other end of a connection.
fn peer<'a>(
    hosts: &'a [Host],
    net: &Net,
    now: Mono,
    (host, conn): (usize, ConnId),
) -> Option<Peer<'a>> {
    let (peer, _) = net.peer(hosts[host].index, conn)?;
    let peer = hosts.get(usize::from(peer))?;
    Some(Peer {
        site: peer.site(now),
        disk: &peer.disk,
    })
}
