//! A check: one invariant as a value. The referee knows none by name; a check of your own goes
//! through the same door.
//!
//! A check says what it promises ([`About`]) and which events it wants to see ([`Subscription`]).
//! Each kind of event has a method, which is called for what the check has subscribed to and for
//! nothing else. A method gets the event and the [`Knowledge`] that all checks share, and returns a
//! [`Violation`] if the promise is broken:
//!
//! ```
//! use walsim::referee::{About, Check, Knowledge, Promise, Ruling, ServerAct, ServerEvent,
//! ServerKind, Subscription};
//!
//! /// No process may abort.
//! #[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
//! struct NoPanic;
//!
//! impl Check for NoPanic {
//!     fn about(&self) -> &About {
//!         &About {
//!             code: "NOPANIC",
//!             promise: Promise::Safety,
//!             statement: "No process ends by PANIC.",
//!             details: "Judged when a process exits, whatever its reason.",
//!             source: "errfinish (elog.c)",
//!         }
//!     }
//!
//!     fn subscriptions(&self) -> &[Subscription] {
//!         &[Subscription::Server(ServerKind::Exit)]
//!     }
//!
//!     fn on_server(&mut self, event: &ServerEvent<'_>, _: &Knowledge) -> Ruling {
//!         use walsim_core::call::Exit;
//!         let ServerAct::Exited { exit: Exit::Panic(said), .. } = &event.act else {
//!             return Ok(());
//!         };
//!         Err(event.site.violation("NOPANIC", "a process aborted", &[("said", said)]))
//!     }
//! }
//!
//! # let plan = walsim::plan::generate(walsim::plan::Profile::Faultless, 1);
//! let mut checks = walsim::checks::built_in();
//! checks.push(Box::new(NoPanic));
//! let outcome = walsim::world::run_with(&plan, Default::default(), false, checks);
//! # assert_eq!(outcome.verdict, walsim::world::Verdict::Pass);
//! ```
//!
//! Rules for a check:
//!
//! - It judges by the disk's truth, not by what shared memory claims.
//! - It depends on no other check. What two checks need is [`Knowledge`].
//! - It may remember what it likes; its memory is part of the world's state, so it is `Clone`, `Eq`
//!   and `Hash`, and holds nothing whose order is not fixed.
//! - It subscribes to as little as it can: a step pays for its subscribers alone.
//! - Each subscription has a planted violation that it alone reports (tests/checks_bite.rs).

use super::event::{
    ChangeKind, ClientEvent, ClientKind, DiskEvent, DiskKind, FileClass, NodeAtEnd, ServerEvent,
    ServerKind, Step, WireEnd, WireMessage,
};
use super::{Change, Knowledge, Violation};
use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use walsim_core::shmem::Role;

/// Whether a promise has held, as far as an event shows.
pub type Ruling = Result<(), Violation>;

/// What a check is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct About {
    /// The code that reports and plans use, such as `SEND`.
    pub code: &'static str,
    /// What kind of promise it is.
    pub promise: Promise,
    /// What it promises, in one sentence.
    pub statement: &'static str,
    /// How it is judged, and what is exempt.
    pub details: &'static str,
    /// Where the promise comes from: the rule in words, and the C functions that keep it.
    pub source: &'static str,
}

/// The two kinds of promises.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Promise {
    /// Something bad never happens. A run that breaks it ends with status 1.
    Safety,
    /// Something good happens in time. A run that breaks it ends with status 3.
    Liveness,
}

/// Events that a check wants to see.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Subscription {
    /// Steps of processes of these kinds: [`Check::after_step`].
    Step(&'static [Role]),
    /// Every step, also one in which data or a signal arrives and no process runs:
    /// [`Check::after_step`].
    EveryStep,
    /// Steps that have changed something in shared memory: [`Check::after_change`].
    Change(ChangeKind),
    /// An operation on a kind of file: [`Check::on_disk`].
    Disk(DiskKind, FileClass),
    /// What happens to a server and its processes: [`Check::on_server`].
    Server(ServerKind),
    /// What a client session says and hears: [`Check::on_client`].
    Client(ClientKind),
    /// Complete messages, seen at one end of a connection; with a type byte, messages of that type
    /// alone: [`Check::on_message`].
    Message(WireEnd, Option<u8>),
    /// Faults and workload have stopped: [`Check::at_quiescence`].
    Quiescence,
    /// Everything has converged, and the run is over: [`Check::at_end`].
    End,
}

/// One invariant. See the [module](self) for the rules and an example.
pub trait Check: Memory + fmt::Debug + Send + Sync {
    /// Its code, what it promises, and where that comes from.
    fn about(&self) -> &About;

    /// What it wants to see; the same at all times. No two of them may name the same event.
    fn subscriptions(&self) -> &[Subscription];

    /// A step was made and its effects were carried out.
    ///
    /// # Errors
    /// The promise is broken.
    fn after_step(&mut self, _step: &Step<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "steps")
    }

    /// A step has changed something in shared memory; its effects were carried out.
    ///
    /// # Errors
    /// The promise is broken.
    fn after_change(
        &mut self,
        _change: Change<'_>,
        _step: &Step<'_>,
        _known: &Knowledge,
    ) -> Ruling {
        unseen(self.about(), "changes")
    }

    /// A disk operation: when in its life is said by its kind.
    ///
    /// # Errors
    /// The promise is broken.
    fn on_disk(&mut self, _event: &DiskEvent<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "disk operations")
    }

    /// Something happened to a server or to one of its processes.
    ///
    /// # Errors
    /// The promise is broken.
    fn on_server(&mut self, _event: &ServerEvent<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "server events")
    }

    /// A client said or heard something.
    ///
    /// # Errors
    /// The promise is broken.
    fn on_client(&mut self, _event: &ClientEvent<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "client events")
    }

    /// A node has sent a message, or all of one has arrived.
    ///
    /// # Errors
    /// The promise is broken.
    fn on_message(&mut self, _message: &WireMessage<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "messages")
    }

    /// Faults and workload have stopped.
    ///
    /// # Errors
    /// The promise is broken.
    fn at_quiescence(&mut self, _nodes: &[NodeAtEnd<'_>], _known: &Knowledge) -> Ruling {
        unseen(self.about(), "the quiescent phase")
    }

    /// Everything has converged: the nodes that have, in the order of the plan.
    ///
    /// # Errors
    /// The promise is broken.
    fn at_end(&mut self, _nodes: &[NodeAtEnd<'_>], _known: &Knowledge) -> Ruling {
        unseen(self.about(), "the end of the run")
    }

    /// The naive full check of a node, for audits: all that the check concludes from changes, found
    /// out again from scratch. It must never find more. Called every 64th step of an audited run,
    /// and at its end, unasked.
    ///
    /// # Errors
    /// The other methods have overlooked something.
    fn audit(&mut self, _node: &NodeAtEnd<'_>, _known: &Knowledge) -> Ruling {
        Ok(())
    }
}

/// A check that subscribes to something and does not look at it would promise nothing.
fn unseen(about: &About, what: &str) -> ! {
    panic!(
        "{} subscribes to {what} and does not look at them",
        about.code
    )
}

/// What the world needs of a check so that it can be forked and hashed. Every `Clone + Eq + Hash`
/// type has it.
pub trait Memory {
    /// A copy, for a fork of the world.
    fn box_clone(&self) -> Box<dyn Check>;
    /// Adds everything that it remembers to a hash.
    fn hash_memory(&self, state: &mut dyn Hasher);
    /// The same check that remembers the same?
    fn is_same(&self, other: &dyn Check) -> bool;
    /// For a comparison with another.
    fn as_any(&self) -> &dyn Any;
}

impl<T: Check + Clone + Eq + Hash + 'static> Memory for T {
    fn box_clone(&self) -> Box<dyn Check> {
        Box::new(self.clone())
    }

    fn hash_memory(&self, mut state: &mut dyn Hasher) {
        self.hash(&mut state);
    }

    fn is_same(&self, other: &dyn Check) -> bool {
        other.as_any().downcast_ref::<T>() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Clone for Box<dyn Check> {
    fn clone(&self) -> Self {
        (**self).box_clone()
    }
}

impl PartialEq for dyn Check {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other)
    }
}

impl Eq for dyn Check {}

impl Hash for dyn Check {
    fn hash<H: Hasher>(&self, mut state: &mut H) {
        self.hash_memory(&mut state);
    }
}

/// What a check remembers of each node; of one that it has not met yet, the default.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct PerNode<T>(Vec<T>);

impl<T: Clone + Default> PerNode<T> {
    /// Of this node.
    pub fn of(&mut self, host: usize) -> &mut T {
        if self.0.len() <= host {
            self.0.resize(host + 1, T::default());
        }
        &mut self.0[host]
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(roles) => {
                let names: Vec<_> = roles.iter().map(|role| role.name()).collect();
                write!(f, "steps of {}", names.join(", "))
            }
            Self::EveryStep => f.write_str("every step"),
            Self::Change(kind) => write!(f, "changes: {kind}"),
            Self::Disk(kind, class) => write!(f, "disk: {kind} of {class}"),
            Self::Server(kind) => write!(f, "server: {kind}"),
            Self::Client(kind) => write!(f, "client: {kind}"),
            Self::Message(end, Some(tag)) => {
                write!(f, "messages of type '{}' as {end}", char::from(*tag))
            }
            Self::Message(end, None) => write!(f, "messages as {end}"),
            Self::Quiescence => f.write_str("the quiescent phase begins"),
            Self::End => f.write_str("end of the run"),
        }
    }
}
