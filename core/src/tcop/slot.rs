//! Statements about slots and WAL positions. Mirrors slotfuncs.c, and pg_current_wal_lsn and
//! similar functions of xlogfuncs.c.

use super::execute::one_row;
use crate::base::{Lsn, PgVersion};
use crate::call::{LogEvent, Message, Poll, SqlState};
use crate::ready_ok;
use crate::replication::logical::create_logical_slot;
use crate::replication::slot::acquire::release;
use crate::replication::slot::advance::{PgReplicationSlotAdvance, check_slot_requirements};
use crate::replication::slot::create_physical::CreatePhysicalSlot;
use crate::replication::slot::drop::ReplicationSlotDrop;
use crate::replication::slot::status::{SlotRow, pg_get_replication_slots};
use crate::sys::Cx;
use crate::wire::backend::{BackendMessage, Column};
use crate::wire::sql::SlotStatement;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A statement in progress.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum SlotRoutine {
    /// A statement that was finished without waiting.
    Rows(Vec<BackendMessage>),
    Create {
        create: CreatePhysicalSlot,
        name: String,
    },
    Drop(ReplicationSlotDrop),
    Advance {
        advance: PgReplicationSlotAdvance,
        name: String,
    },
}

impl SlotRoutine {
    /// Starts a statement.
    ///
    /// # Errors
    /// The statement has an error that is found without waiting.
    pub(super) fn new(cx: &Cx<'_>, statement: SlotStatement) -> Result<Self, LogEvent> {
        Ok(match statement {
            SlotStatement::Create {
                name,
                reserve_wal,
                temporary,
            } => {
                check_slot_requirements(cx)?;
                let create = CreatePhysicalSlot::by_function(name.clone(), temporary, reserve_wal);
                Self::Create { create, name }
            }
            SlotStatement::Drop(name) => {
                check_slot_requirements(cx)?;
                Self::Drop(ReplicationSlotDrop::new(name, true))
            }
            SlotStatement::Advance { name, upto } => {
                let advance = PgReplicationSlotAdvance::new(name.clone(), upto);
                Self::Advance { advance, name }
            }
            SlotStatement::List => Self::Rows(rows(
                cx.shmem.settings.pg_version,
                &pg_get_replication_slots(cx),
            )),
            SlotStatement::CurrentWalLsn => position(cx, cx.shmem.xlog.write)?,
            SlotStatement::CurrentWalFlushLsn => position(cx, cx.shmem.xlog.flush)?,
            SlotStatement::CreateLogical => {
                return Err(create_logical_slot(cx, true));
            }
        })
    }

    /// The result of the statement, and the number of its rows.
    ///
    /// # Errors
    /// The statement failed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Cx<'_>,
    ) -> Poll<Result<(Vec<BackendMessage>, usize), LogEvent>> {
        let messages = match self {
            Self::Rows(messages) => {
                let messages = core::mem::take(messages);
                let is_row = |m: &&BackendMessage| matches!(m, BackendMessage::DataRow(_));
                let rows = messages.iter().filter(is_row).count();
                return Poll::Ready(Ok((messages, rows)));
            }
            Self::Create { create, name } => {
                ready_ok!(create.poll(cx));
                let index = cx.shmem.slots.find(name).expect("made just now");
                let at = cx.shmem.slots.slots[index].restart_lsn;
                release(cx);
                record(cx.shmem.settings.pg_version, name, at)
            }
            Self::Drop(drop) => {
                ready_ok!(drop.poll(cx));
                one_row(String::new())
            }
            Self::Advance { advance, name } => {
                let end = ready_ok!(advance.poll(cx));
                record(cx.shmem.settings.pg_version, name, end)
            }
        };
        Poll::Ready(Ok((messages, 1)))
    }
}

/// See [`super::execute::result_column`].
pub(super) fn result_column(statement: &SlotStatement) -> Option<Column> {
    Some(match statement {
        SlotStatement::Create { .. } => Column::record("pg_create_physical_replication_slot"),
        SlotStatement::CreateLogical => Column::record("pg_create_logical_replication_slot"),
        SlotStatement::Drop(_) => Column::void("pg_drop_replication_slot"),
        SlotStatement::Advance { .. } => Column::record("pg_replication_slot_advance"),
        SlotStatement::CurrentWalLsn => Column::pg_lsn("pg_current_wal_lsn"),
        SlotStatement::CurrentWalFlushLsn => Column::pg_lsn("pg_current_wal_flush_lsn"),
        SlotStatement::List => return None,
    })
}

fn position(cx: &Cx<'_>, at: Lsn) -> Result<SlotRoutine, LogEvent> {
    if cx.shmem.recovery_in_progress() {
        let state = SqlState::NOT_IN_STATE;
        return Err(LogEvent::error(state, Message::RecoveryInProgress));
    }
    Ok(SlotRoutine::Rows(one_row(cx.text(at).to_string())))
}

/// The name and the position as one composite value. An invalid position is NULL, which is an empty
/// field.
fn record(version: PgVersion, name: &str, at: Lsn) -> Vec<BackendMessage> {
    let value = if at.is_valid() {
        format!("({name},{})", at.text(version))
    } else {
        format!("({name},)")
    };
    one_row(value)
}

fn rows(version: PgVersion, slots: &[SlotRow]) -> Vec<BackendMessage> {
    let columns = Vec::from([
        Column::name("slot_name"),
        Column::int4("active_pid"),
        Column::pg_lsn("restart_lsn"),
        Column::text("wal_status"),
    ]);
    let row = |slot: &SlotRow| {
        BackendMessage::row([
            Some(slot.name.clone()),
            slot.active_pid.map(|pid| pid.n.to_string()),
            slot.restart_lsn.map(|lsn| lsn.text(version).to_string()),
            slot.wal_status.map(|status| status.name().to_string()),
        ])
    };
    let mut messages = Vec::from([BackendMessage::RowDescription(columns)]);
    messages.extend(slots.iter().map(row));
    messages
}
