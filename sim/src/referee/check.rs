//! A check: one invariant as a value. The referee does not know any check by name, so your own
//! checks work like the built-in ones.
//!
//! A check describes its invariant ([`About`]) and lists the events that it subscribes to
//! ([`Subscription`]). Each kind of event has a method, which is called only for subscribed events.
//! A method gets the event and the [`Knowledge`] that all checks share, and returns a [`Violation`]
//! if the invariant is violated:
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
//!             details: "The check runs when a process exits.",
//!             notes: &[],
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
//! - It relies on what is on disk, not on positions in shared memory.
//! - It does not depend on another check. State that two checks need belongs in [`Knowledge`].
//! - It may keep state. This is part of the world's state, so it is `Clone`, `Eq` and `Hash`, and
//!   uses only collections with a fixed order.
//! - It subscribes to as few events as possible, because every subscription costs time in each
//!   matching step.
//! - Each subscription has a planted violation that no other subscription reports
//!   (tests/checks_bite.rs).

use super::event::{
    ChangeKind, ClientEvent, ClientKind, DiskEvent, DiskKind, FileClass, NodeAtEnd, ServerEvent,
    ServerKind, Step, WireEnd, WireMessage,
};
use super::{Change, Exemption, Knowledge, Violation};
use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use walsim_core::shmem::Role;

/// The result of a check: nothing, or a violation.
pub type Ruling = Result<(), Violation>;

/// The description of a check.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct About {
    /// The code in reports and plans, such as `SEND`.
    pub code: &'static str,
    /// The kind of the invariant.
    pub promise: Promise,
    /// The invariant in one sentence, on one line.
    pub statement: &'static str,
    /// How the invariant is checked.
    pub details: &'static str,
    /// Terms of `details`, cases that are legal, and cases that are not checked. Each note can be
    /// read without the others.
    pub notes: &'static [&'static str],
    /// Where the invariant comes from in PostgreSQL: the rule, and the C functions that implement
    /// it.
    pub source: &'static str,
}

/// The two kinds of invariants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Promise {
    /// Something bad never happens. After a violation, the command exits with status 1.
    Safety,
    /// Something good happens in time. After a violation, the command exits with status 3.
    Liveness,
}

/// Events to which a check can subscribe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Subscription {
    /// Steps of processes of these roles: [`Check::after_step`].
    Step(&'static [Role]),
    /// Every step of a node, including a step in which no process runs because only data or a
    /// signal arrives. Calls [`Check::after_step`].
    EveryStep,
    /// Steps that have changed this part of shared memory: [`Check::after_change`].
    Change(ChangeKind),
    /// Operations on this class of files: [`Check::on_disk`].
    Disk(DiskKind, FileClass),
    /// Events of a server and its processes: [`Check::on_server`].
    Server(ServerKind),
    /// Events of a client session: [`Check::on_client`].
    Client(ClientKind),
    /// Complete messages at one end of a connection, optionally only those with the given type
    /// byte. Calls [`Check::on_message`].
    Message(WireEnd, Option<u8>),
    /// The quiescent phase begins: [`Check::at_quiescence`].
    Quiescence,
    /// The cluster has converged and the run ends: [`Check::at_end`].
    End,
}

/// One invariant. See the [module](self) for the rules and an example.
pub trait Check: Memory + fmt::Debug + Send + Sync {
    /// The description.
    fn about(&self) -> &About;

    /// The events that this check subscribes to. The list must not change, and must not contain the
    /// same event twice.
    fn subscriptions(&self) -> &[Subscription];

    /// Called after a step when its effects have been executed.
    ///
    /// # Errors
    /// If the invariant is violated.
    fn after_step(&mut self, _step: &Step<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "steps")
    }

    /// Called after a step has changed something in shared memory and its effects have been
    /// executed.
    ///
    /// # Errors
    /// If the invariant is violated.
    fn after_change(
        &mut self,
        _change: Change<'_>,
        _step: &Step<'_>,
        _known: &Knowledge,
    ) -> Ruling {
        unseen(self.about(), "changes")
    }

    /// Called for a disk operation. [`DiskKind`] says whether before or after the operation.
    ///
    /// # Errors
    /// If the invariant is violated.
    fn on_disk(&mut self, _event: &DiskEvent<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "disk operations")
    }

    /// Called for an event of a server or one of its processes.
    ///
    /// # Errors
    /// If the invariant is violated.
    fn on_server(&mut self, _event: &ServerEvent<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "server events")
    }

    /// Called when a client has sent or received something.
    ///
    /// # Errors
    /// If the invariant is violated.
    fn on_client(&mut self, _event: &ClientEvent<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "client events")
    }

    /// Called when a node has sent a message, or has received a message completely.
    ///
    /// # Errors
    /// If the invariant is violated.
    fn on_message(&mut self, _message: &WireMessage<'_>, _known: &Knowledge) -> Ruling {
        unseen(self.about(), "messages")
    }

    /// Called when faults and workload have stopped.
    ///
    /// # Errors
    /// If the invariant is violated.
    fn at_quiescence(&mut self, _nodes: &[NodeAtEnd<'_>], _known: &Knowledge) -> Ruling {
        unseen(self.about(), "the quiescent phase")
    }

    /// How often the check has used this exemption.
    fn exempted(&self, _exemption: Exemption) -> u32 {
        0
    }

    /// Called when the cluster has converged, with all nodes in the order of the plan.
    ///
    /// # Errors
    /// If the invariant is violated.
    fn at_end(&mut self, _nodes: &[NodeAtEnd<'_>], _known: &Knowledge) -> Ruling {
        unseen(self.about(), "the end of the run")
    }

    /// Checks a node without using what the other methods have recorded. Called for all checks, in
    /// every 64th step of an audited run and at the end of that run. This method must not report a
    /// violation that the other methods do not report.
    ///
    /// # Errors
    /// If the other methods have overlooked a violation.
    fn audit(&mut self, _node: &NodeAtEnd<'_>, _known: &Knowledge) -> Ruling {
        Ok(())
    }
}

/// A check that subscribes to an event must implement the method for this event.
fn unseen(about: &About, what: &str) -> ! {
    panic!(
        "{} subscribes to {what}, but does not implement the method for this event",
        about.code
    )
}

/// Lets the world clone, compare and hash a check. This trait is implemented for every `Clone + Eq
/// + Hash` type.
pub trait Memory {
    /// A copy, for a clone of the world.
    fn box_clone(&self) -> Box<dyn Check>;
    /// Adds the state of the check to a hash.
    fn hash_memory(&self, state: &mut dyn Hasher);
    /// Whether `other` has the same type and the same state as this check.
    fn is_same(&self, other: &dyn Check) -> bool;
    /// This check as `dyn Any`. `is_same` uses this method, because it does not know the type of
    /// the other check.
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

/// State that a check keeps for each node. The state of a node is the default until the check
/// changes it.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct PerNode<T>(Vec<T>);

impl<T: Clone + Default> PerNode<T> {
    /// The state for this node.
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
