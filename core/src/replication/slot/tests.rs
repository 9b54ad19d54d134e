//! Tests of slots on a server with a fake disk and several processes.

mod crash;
mod owners;
mod positions;
mod start;

use super::acquire::{acquire_nowait, release};
use super::create_physical::CreatePhysicalSlot;
use super::my_slot;
use super::save::SaveSlotToPath;
use super::startup::StartupReplicationSlots;
use crate::base::{Lsn, PgVersion, Pid, Planted};
use crate::call::{LogEvent, Poll};
use crate::shmem::{RecoveryState, Role, Shmem, Slot};
use crate::sys::Cx;
use crate::sys::testing::Fixture;
use crate::wire::slot_file::SlotFile;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The redo pointer, in segment 3.
const REDO: Lsn = Lsn(3 * 1024 + 40);

/// A server with one session. Segments have 1024 bytes.
fn server(version: PgVersion, planted: Planted) -> (Fixture, Pid) {
    let mut fixture = Fixture::new(version, planted);
    fixture.shmem.recovery.state = RecoveryState::Done;
    fixture.shmem.xlog.redo = REDO;
    let pid = fixture.spawn(Role::Backend);
    (fixture, pid)
}

impl Fixture {
    /// Runs a routine to its end. The routine must not wait for other processes.
    fn finish<T>(&mut self, pid: Pid, poll: impl FnMut(&mut Cx<'_>) -> Poll<T>) -> T {
        self.drive(pid, poll)
            .unwrap_or_else(|wait| panic!("waits: {wait:?}"))
    }

    /// Creates a slot without an owner, with restart_lsn `at`.
    fn slot_at(&mut self, pid: Pid, name: &str, at: Lsn) {
        self.create(pid, name, false, false).unwrap();
        self.step(pid, |cx| {
            let slot = my_slot(cx);
            slot.restart_lsn = at;
            slot.mark_dirty();
        });
        self.save(pid).unwrap();
        self.step(pid, release);
    }

    fn create(
        &mut self,
        pid: Pid,
        name: &str,
        temporary: bool,
        reserve: bool,
    ) -> Result<(), LogEvent> {
        let mut create = CreatePhysicalSlot::by_function(name.into(), temporary, reserve);
        self.finish(pid, |cx| create.poll(cx))
    }

    fn acquire(&mut self, pid: Pid, name: &str) -> Result<(), LogEvent> {
        self.step(pid, |cx| acquire_nowait(cx, name))
    }

    /// Saves the slot that the process has acquired.
    fn save(&mut self, pid: Pid) -> Result<(), LogEvent> {
        let mut save = self.step(pid, |cx| SaveSlotToPath::mine(cx));
        self.finish(pid, |cx| save.poll(cx))
    }

    /// Cleans up as after an error.
    fn clean_up(&mut self, pid: Pid) {
        self.step(pid, |cx| {
            cx.release_everything();
            release(cx);
        });
    }

    fn slot(&self, name: &str) -> &Slot {
        let index = self.shmem.slots.find(name).expect("there is such a slot");
        &self.shmem.slots.slots[index]
    }

    fn slot_file(&self, name: &str) -> SlotFile {
        let bytes = &self.files[&format!("pg_replslot/{name}/state")];
        SlotFile::decode(self.shmem.settings.pg_version, bytes).unwrap()
    }

    /// Crashes and restarts the server.
    fn restart(&mut self) -> Result<(), LogEvent> {
        let (settings, control) = (self.shmem.settings.clone(), self.shmem.control.clone());
        self.shmem = Shmem::new(settings, control);
        self.shmem.xlog.redo = REDO;
        let startup = self.spawn(Role::Startup);
        let mut slots = StartupReplicationSlots::new();
        let outcome = self.finish(startup, |cx| slots.poll(cx));
        self.shmem.recovery.state = RecoveryState::Done;
        outcome
    }

    /// The names of all files below pg_replslot.
    fn slot_names(&self) -> Vec<String> {
        let all = self.files.keys().chain(&self.dirs);
        let mut names: Vec<_> = all
            .filter_map(|path| path.strip_prefix("pg_replslot/"))
            .map(String::from)
            .collect();
        names.sort_unstable();
        names
    }
}

fn said(outcome: Result<(), LogEvent>) -> (String, String) {
    let event = outcome.expect_err("it fails");
    let code = event.sqlstate;
    let text = event.message.to_string();
    (format!("{} {code:?}", event.severity), text)
}
