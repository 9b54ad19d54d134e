//! Commands about slots. Mirrors CreateReplicationSlot, DropReplicationSlot and ReadReplicationSlot
//! of walsender.c.

use super::commands::flush_position;
use super::{Phase, WalSender};
use crate::call::{LogEvent, Message, Place, Poll, SlotMessage, SqlState, Yield};
use crate::ready_ok;
use crate::replication::slot::acquire::release;
use crate::replication::slot::create_physical::CreatePhysicalSlot;
use crate::replication::slot::drop::ReplicationSlotDrop;
use crate::sys::Cx;
use crate::wire::backend::{BackendMessage, ErrorFields};
use crate::wire::command::{Truncation, encode_created, encode_read};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

/// A command about slots that uses the disk or waits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum SlotCommand {
    Create {
        create: CreatePhysicalSlot,
        name: String,
    },
    Drop(ReplicationSlotDrop),
}

impl SlotCommand {
    pub(super) fn create(name: String, temporary: bool, reserve_wal: bool) -> Self {
        let create = CreatePhysicalSlot::by_command(name.clone(), temporary, reserve_wal);
        Self::Create { create, name }
    }

    pub(super) const fn drop(name: String, wait: bool) -> Self {
        Self::Drop(ReplicationSlotDrop::new(name, !wait))
    }

    /// Returns the answer, without ReadyForQuery.
    fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<Result<Vec<u8>, LogEvent>> {
        let mut out = Vec::new();
        match self {
            Self::Create { create, name } => {
                ready_ok!(create.poll(cx));
                assert!(cx.sys.my_slot.is_some(), "{name} is acquired");
                encode_created(cx.shmem.settings.pg_version, name, &mut out);
                release(cx);
            }
            Self::Drop(drop) => {
                ready_ok!(drop.poll(cx));
                assert_eq!(cx.sys.my_slot, None, "the slot is gone");
                let tag = "DROP_REPLICATION_SLOT".to_string();
                BackendMessage::CommandComplete(tag).encode(&mut out);
            }
        }
        Poll::Ready(Ok(out))
    }
}

impl WalSender {
    pub(super) fn begin_slot(&mut self, cx: &mut Cx<'_>, command: SlotCommand) -> Yield {
        assert_eq!(cx.sys.my_slot, None, "a session acquires one slot");
        self.phase = Phase::Slot(command);
        self.slot_command(cx)
    }

    pub(super) fn slot_command(&mut self, cx: &mut Cx<'_>) -> Yield {
        let Phase::Slot(command) = &mut self.phase else {
            unreachable!("only called for such a command")
        };
        match command.poll(cx) {
            Poll::Yield(how) => how,
            Poll::Ready(Ok(out)) => self.answer(cx, out),
            Poll::Ready(Err(event)) => self.fail(cx, event),
        }
    }

    /// `ReadReplicationSlot`: does not acquire the slot. The command therefore also works for a
    /// slot in use.
    pub(super) fn read_slot(&mut self, cx: &mut Cx<'_>, name: &str) -> Yield {
        let slots = &cx.shmem.slots;
        let slot = slots.find(name).map(|index| &slots.slots[index]);
        let restart_lsn = slot.map(|slot| slot.restart_lsn);
        // In walsim all WAL is on one timeline.
        let (_, tli) = flush_position(cx);
        let position = restart_lsn.filter(|lsn| lsn.is_valid());
        let mut out = Vec::new();
        encode_read(
            cx.shmem.settings.pg_version,
            slot.is_some(),
            position.map(|lsn| (lsn, tli)),
            &mut out,
        );
        self.answer(cx, out)
    }

    /// `AlterReplicationSlot`: the error for physical slots.
    pub(super) fn alter_slot(&mut self, cx: &mut Cx<'_>, name: String) -> Yield {
        let event = if cx.shmem.slots.find(&name).is_some() {
            let text = "cannot use ALTER_REPLICATION_SLOT with a physical replication slot";
            let message = Message::Protocol(text.to_string());
            LogEvent::error(SqlState::FEATURE_NOT_SUPPORTED, message)
        } else {
            LogEvent::slot(SqlState::UNDEFINED_OBJECT, SlotMessage::Missing(name))
        };
        self.error(cx, event)
    }

    /// Sends an answer and waits for the next command.
    pub(super) fn answer(&mut self, cx: &mut Cx<'_>, mut out: Vec<u8>) -> Yield {
        assert_eq!(cx.sys.my_slot, None, "the command has ended");
        assert_eq!(cx.sys.op, None, "a disk operation is under way");
        self.ready_for_query().encode(&mut out);
        cx.send(self.conn, [Bytes::from(out), Bytes::new()]);
        self.phase = Phase::Command;
        Yield::Again(Place::ExecReplicationCommand)
    }

    /// Sends NOTICEs about truncated identifiers.
    pub(super) fn send_truncation_notices(&self, cx: &mut Cx<'_>, truncations: &[Truncation]) {
        let notices = truncations.iter().map(|Truncation { from, to }| {
            let text = format!("identifier \"{from}\" will be truncated to \"{to}\"");
            let fields = ErrorFields::new("NOTICE", SqlState::NAME_TOO_LONG.0, text);
            BackendMessage::NoticeResponse(fields)
        });
        let notices: Vec<_> = notices.collect();
        if !notices.is_empty() {
            self.send(cx, &notices);
        }
    }
}
