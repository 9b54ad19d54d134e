//! HEALTHY: no process disconnects a peer that still sends messages.

use crate::referee::{
    About, Check, Evidence, Knowledge, PerNode, Promise, Ruling, Site, Step, Subscription, Value,
    WireEnd, WireMessage,
};
use walsim_core::base::{Mono, Now, Pid, TimestampTz};
use walsim_core::call::{Effect, Exit, Message, NetOp};
use walsim_core::shmem::Role;

const ABOUT: About = About {
    code: "HEALTHY",
    promise: Promise::Safety,
    statement: "A walsender or walreceiver times out only if its peer was silent for the whole \
              timeout.",
    details: "When a walsender exits because of wal_sender_timeout, the last message from its \
              standby must be at least wal_sender_timeout old. When a walreceiver exits because \
              of wal_receiver_timeout, the last message from the upstream server must be at least \
              wal_receiver_timeout old.",
    notes: &[
        "For a walsender, the age of a message is measured from the first step in which the \
         walsender could read the message.",
        "For a walsender, the timeout must have passed on the wall clock or on the monotonic \
         clock. The wall clock alone does not suffice, because it can be set back.",
        "If a walsender sends WAL and times out in the same step, this step is not checked. A \
         message can arrive after the walsender has polled its input and before it has read the \
         WAL.",
        "If a reload changes wal_receiver_timeout, the check uses the smaller of the old and the \
         new value.",
    ],
    source: "A walsender measures the time from the last message to its last poll of the socket: \
              ProcessRepliesIfAny, WalSndCheckTimeOut (walsender.c). In a walreceiver, each \
              message postpones the timeout: WalReceiverMain (walreceiver.c)",
};

const SUBSCRIPTIONS: [Subscription; 2] = [
    Subscription::Step(&[Role::WalSender, Role::WalReceiver]),
    Subscription::Message(WireEnd::ServerReceives, Some(b'd')),
];

/// For each node, the times at which its connections last received a message.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Healthy {
    nodes: PerNode<Heard>,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Heard {
    senders: Vec<Sender>,
    receiver: Receiver,
}

/// A walsender that has received a message from its standby.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Sender {
    pid: Pid,
    /// A message has arrived, and the process has not read it yet.
    unread: bool,
    /// When the process made its first step after the last message had arrived.
    heard: Option<Now>,
}

/// The time of the last message to the walreceiver, and `wal_receiver_timeout` at that time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
struct Receiver {
    heard: TimestampTz,
    timeout_ms: u32,
}

impl Check for Healthy {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn on_message(&mut self, message: &WireMessage<'_>, _: &Knowledge) -> Ruling {
        let node = self.nodes.of(message.site.host);
        node.sender(message.pid).unread = true;
        Ok(())
    }

    fn after_step(&mut self, step: &Step<'_>, _: &Knowledge) -> Ruling {
        let node = self.nodes.of(step.site.host);
        match step.ran {
            Some((pid, Role::WalSender)) => node.sender_ran(step, pid),
            Some(_) | None => node.receiver.ran(step),
        }
    }
}

impl Heard {
    /// The entry of a walsender. Adding an entry removes the entries of earlier runs of the server.
    fn sender(&mut self, pid: Pid) -> &mut Sender {
        let known = self.senders.iter().position(|sender| sender.pid == pid);
        let at = known.unwrap_or_else(|| {
            self.senders
                .retain(|sender| sender.pid.incarnation == pid.incarnation);
            self.senders.push(Sender {
                pid,
                unread: false,
                heard: None,
            });
            self.senders.len() - 1
        });
        &mut self.senders[at]
    }

    fn sender_ran(&mut self, step: &Step<'_>, pid: Pid) -> Ruling {
        let Some(at) = self.senders.iter().position(|sender| sender.pid == pid) else {
            return Ok(());
        };
        let sender = &mut self.senders[at];
        let said = |message: &Message| *message == Message::SenderTimeout;
        let effects = || step.effects.0.iter().map(|(_, effect)| effect);
        if effects().any(|effect| matches!(effect, Effect::Log(event) if said(&event.message)))
            && !effects().any(|effect| matches!(effect, Effect::Net(_, NetOp::Send(_))))
            && let Some(heard) = sender.heard
        {
            let timeout_ms = step.view.shmem().settings.wal_sender_timeout_ms;
            let silence = Silence {
                wall_us: step.clock.wall - heard.wall,
                mono: Some((heard.mono, step.clock.mono)),
                timeout_ms,
            };
            let message = "a walsender times out, but the last message from its standby is younger \
              than the timeout";
            silence.judge(step.site, message)?;
        }
        if std::mem::take(&mut sender.unread) {
            sender.heard = Some(step.clock);
        }
        if effects().any(|effect| matches!(effect, Effect::Exit(_))) {
            self.senders.swap_remove(at);
        }
        Ok(())
    }
}

impl Receiver {
    fn ran(&mut self, step: &Step<'_>) -> Ruling {
        let shmem = step.view.shmem();
        let timeout_ms = shmem.settings.wal_receiver_timeout_ms;
        let heard = shmem.walrcv.last_receipt_time;
        if heard != self.heard {
            *self = Self { heard, timeout_ms };
        }
        let timed_out = |effect: &Effect| match effect {
            Effect::Exit(Exit::Fatal(event)) => event.message == Message::ReceiverTimeout,
            Effect::Exit(_)
            | Effect::Disk(..)
            | Effect::Net(..)
            | Effect::Log(_)
            | Effect::Halt => false,
        };
        if !step.effects.0.iter().any(|(_, effect)| timed_out(effect)) {
            return Ok(());
        }
        let silence = Silence {
            wall_us: step.clock.wall - heard,
            mono: None,
            timeout_ms: timeout_ms.min(self.timeout_ms),
        };
        let message = "a walreceiver times out, but the last message from its upstream is younger \
              than the timeout";
        silence.judge(step.site, message)
    }
}

/// The period in which no message from the peer was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Silence {
    wall_us: i64,
    /// The beginning and the end of the period on the monotonic clock, if they are known.
    mono: Option<(Mono, Mono)>,
    timeout_ms: u32,
}

impl Silence {
    fn judge(self, site: Site<'_>, message: &str) -> Ruling {
        let timeout_us = i64::from(self.timeout_ms) * 1000;
        let passed = |(from, to): (Mono, Mono)| to - from >= timeout_us.unsigned_abs();
        if self.wall_us >= timeout_us || self.mono.is_some_and(passed) {
            return Ok(());
        }
        let (silence, timeout) = (self.wall_us.max(0), timeout_us);
        let facts: [(&str, &dyn Evidence); 2] = [
            ("silence", &Value::Duration(silence.unsigned_abs())),
            ("timeout", &Value::Duration(timeout.unsigned_abs())),
        ];
        Err(site.violation(ABOUT.code, message, &facts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referee::testing::SITE;

    #[test]
    fn silence_lasts_as_long_as_the_timeout() {
        let judge = |wall_us, mono| {
            let silence = Silence {
                wall_us,
                mono,
                timeout_ms: 2000,
            };
            silence.judge(SITE, "too early").is_ok()
        };
        assert!(judge(2_000_000, None));
        assert!(!judge(1_999_999, None));
        assert!(!judge(1_999_999, Some((Mono(5), Mono(2_000_004)))));
        assert!(
            judge(-7, Some((Mono(5), Mono(2_000_005)))),
            "the wall clock was set back"
        );
        assert!(
            judge(2_000_000, Some((Mono(5), Mono(6)))),
            "the wall clock was set forward"
        );
    }

    #[test]
    fn senders_of_an_earlier_server_are_forgotten() {
        let mut heard = Heard::default();
        heard.sender(Pid::postmaster(1)).unread = true;
        assert!(heard.sender(Pid::postmaster(1)).unread);
        assert!(!heard.sender(Pid::postmaster(2)).unread);
        assert_eq!(heard.senders.len(), 1);
    }
}
