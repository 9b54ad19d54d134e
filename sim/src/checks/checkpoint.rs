//! CHECKPOINT: the CHECKPOINT command succeeds only if a checkpoint that began after the command is
//! durable.

use crate::referee::{
    About, Answer, Check, ClientAct, ClientEvent, ClientKind, Knowledge, Promise, Ruling, Site,
    Subscription,
};
use std::collections::BTreeMap;
use walsim_core::base::Lsn;
use walsim_core::shmem::RecoveryState;
use walsim_core::wal::position::bytepos_to_start;
use walsim_core::wire::sql::Statement;

const ABOUT: About = About {
    code: "CHECKPOINT",
    promise: Promise::Safety,
    statement: "When CHECKPOINT succeeds, pg_control on disk points to a checkpoint that began \
              after the command was sent.",
    details: "The check runs when a client of a primary receives the answer to CHECKPOINT. The \
              redo point in the durable pg_control must be at or past the insert position that \
              the primary had when the client sent the command.",
    notes: &["On a standby CHECKPOINT may succeed without a restartpoint."],
    source: "RequestCheckpoint waits for a checkpoint that was started after the request, and \
              reports an error if a checkpoint has failed since then (checkpointer.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Client(ClientKind::Statement),
    Subscription::Client(ClientKind::Answer),
];

/// The CHECKPOINT commands that are running. For each session, the insert position of the primary
/// when the session sent the command.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct CheckpointAnswer {
    asked: BTreeMap<usize, Lsn>,
}

impl Check for CheckpointAnswer {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn on_client(&mut self, event: &ClientEvent<'_>, known: &Knowledge) -> Ruling {
        let host = event.site.host;
        match event.act {
            ClientAct::Statement(statement) => {
                // If the session has reconnected, the command of its earlier connection will get no
                // answer.
                self.asked.remove(&event.session);
                if *statement == Statement::Checkpoint
                    && let Some(view) = event.view
                    && known.recovery(host) == RecoveryState::Done
                {
                    let at = view.shmem().xlog.curr_byte_pos;
                    let at = bytepos_to_start(known.geometry(), at);
                    self.asked.insert(event.session, at);
                }
                Ok(())
            }
            ClientAct::Answer(Statement::Checkpoint, answer) => {
                let asked = self.asked.remove(&event.session);
                let control = known.control(host);
                let redo = control.map(|control| control.checkpoint_copy.redo);
                answered(event.site, asked, answer, redo.unwrap_or_default())
            }
            ClientAct::Answer(..) | ClientAct::Commit(_) | ClientAct::RowMissing(_) => Ok(()),
        }
    }
}

fn answered(site: Site<'_>, asked: Option<Lsn>, answer: &Answer, redo: Lsn) -> Ruling {
    match (asked, answer) {
        (Some(asked), Answer::Complete { .. }) if redo < asked => {
            let message = "CHECKPOINT succeeded, but the checkpoint in the durable pg_control \
              began before the command";
            Err(site.violation(
                ABOUT.code,
                message,
                &[
                    ("insert position at the request", &asked),
                    ("redo point of the last checkpoint", &redo),
                ],
            ))
        }
        (_, Answer::Complete { .. } | Answer::Error) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::SITE;

    #[test]
    fn success_means_a_checkpoint_since_the_command() {
        let done = Answer::Complete {
            tag: "CHECKPOINT".into(),
            warned: false,
        };
        let judge = |asked: Option<u64>, answer: &Answer, redo: u64| {
            answered(SITE, asked.map(Lsn), answer, Lsn(redo)).is_ok()
        };
        assert!(!judge(Some(2000), &done, 1999));
        assert!(judge(Some(2000), &done, 2000));
        assert!(judge(Some(2000), &done, 9000), "a later one is fine");
        assert!(judge(Some(2000), &Answer::Error, 1999));
        assert!(judge(None, &done, 1999), "a standby may skip it");
    }
}
