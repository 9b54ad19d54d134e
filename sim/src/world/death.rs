//! Kills servers, alone or together with their machine, and schedules the next start of each
//! server.

use super::{Event, World};
use crate::choice::{Key, Subject};
use crate::referee::{Gone, ServerAct};
use walsim_core::base::{Mark, Mono};

/// How a server is killed, alone or with its machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Doom {
    /// The machine loses power for this many microseconds.
    PowerLoss(u64),
    /// All processes of the server die. The server is started again after this many microseconds.
    Crash(u64),
}

impl World {
    /// Called when the time for the death of a server has come. The seed decides whether the server
    /// dies now or between two effects of its next step.
    pub(super) fn doom(&mut self, row: usize, host: usize, doom: Doom) {
        if self.hosts[host].node.is_none() {
            return;
        }
        self.struck_rows.insert(row);
        let key = Key::new(
            "crash.when",
            Subject::Node(self.hosts[host].index),
            [row as u64, 0],
        );
        if self.choices.below(key, 2) == 0 {
            self.die(host, doom);
        } else {
            self.hosts[host].doomed = Some(doom);
        }
    }

    /// Kills the server at once.
    pub(super) fn die(&mut self, host: usize, doom: Doom) {
        self.faults += 1;
        let index = self.hosts[host].index;
        let (off_us, gone) = match doom {
            Doom::PowerLoss(off_us) => {
                self.hosts[host].forget_server();
                self.hosts[host].conns.clear();
                self.net.power_off(index);
                let page = self.hosts[host].plan.settings.geometry.data_page;
                let before = (self.recorder.is_on()).then(|| self.hosts[host].disk.clone());
                let loss = self.hosts[host].disk.power_loss(page, &self.choices);
                if loss.bytes > 0 {
                    self.marks.insert(Mark::PowerLossLostBytes);
                }
                if loss.reordered {
                    self.marks.insert(Mark::DirectoryChangesReordered);
                }
                let (bytes, names, torn) = (loss.bytes, loss.names, loss.torn.len());
                self.referee.torn(host, &loss.torn);
                let lost = format!("{bytes} bytes and {names} names lost, {torn} pages torn");
                self.emit(Some(host), format!("power loss: {lost}"));
                if let Some(before) = before {
                    self.record_losses(host, &before);
                }
                (off_us, Gone::PowerLoss)
            }
            Doom::Crash(off_us) => {
                self.emit(Some(host), "all processes killed");
                self.server_processes_end(host);
                (off_us, Gone::Crash)
            }
        };
        self.server_event(host, ServerAct::Gone(gone));
        self.causes.forget_server(host);
        self.boot_later(host, self.now.after_us(off_us));
    }

    /// Called when the postmaster has exited. Schedules the next start of the server.
    pub(super) fn server_ended(&mut self, host: usize) {
        self.emit(Some(host), "server stopped");
        let planned = self.hosts[host].boots_at;
        self.server_processes_end(host);
        self.server_event(host, ServerAct::Gone(Gone::Halt));
        self.causes.forget_server(host);
        self.boot_later(host, planned.unwrap_or(self.now.after_ms(1000)));
    }

    fn boot_later(&mut self, host: usize, at: Mono) {
        let at = at.max(self.now.after_us(1));
        self.hosts[host].boots_at = Some(at);
        self.at(at, Event::Boot(host));
    }

    /// Cleans up after the dead processes, as an operating system does. The page cache survives.
    fn server_processes_end(&mut self, host: usize) {
        let state = &mut self.hosts[host];
        let index = state.index;
        for (_, ticket) in std::mem::take(&mut state.ops) {
            let _ = state.disk.complete(ticket, &self.choices);
        }
        for pid in state.pids() {
            state.disk.close_all(pid);
        }
        let conns: Vec<_> = std::mem::take(&mut state.conns).into_keys().collect();
        state.forget_server();
        for conn in conns {
            self.net.close(self.now, index, conn, &self.choices);
        }
        self.net.listen(index, None);
    }
}
