//! A check from which one subscription is removed. Tests use it to show what the subscription is
//! for.

use crate::referee::{
    About, Change, Check, ClientEvent, DiskEvent, Knowledge, NodeAtEnd, Ruling, ServerEvent, Step,
    Subscription, WireMessage,
};
use std::hash::{Hash, Hasher};

/// Removes one subscription from a check. The result is never audited, because an audit looks at
/// everything and would find what the subscription finds.
#[must_use]
pub fn without(check: Box<dyn Check>, subscription: Subscription) -> Box<dyn Check> {
    let all = check.subscriptions().iter().copied();
    let left = all.filter(|other| *other != subscription).collect();
    Box::new(Without { check, left })
}

#[derive(Clone, Eq, Debug)]
struct Without {
    check: Box<dyn Check>,
    left: Vec<Subscription>,
}

// A derived implementation would move the box out of `self`.
impl PartialEq for Without {
    fn eq(&self, other: &Self) -> bool {
        *self.check == *other.check && self.left == other.left
    }
}

impl Hash for Without {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.check.hash(state);
        self.left.hash(state);
    }
}

impl Check for Without {
    fn about(&self) -> &About {
        self.check.about()
    }

    fn subscriptions(&self) -> &[Subscription] {
        &self.left
    }

    fn after_step(&mut self, step: &Step<'_>, known: &Knowledge) -> Ruling {
        self.check.after_step(step, known)
    }

    fn after_change(&mut self, change: Change<'_>, step: &Step<'_>, known: &Knowledge) -> Ruling {
        self.check.after_change(change, step, known)
    }

    fn on_disk(&mut self, event: &DiskEvent<'_>, known: &Knowledge) -> Ruling {
        self.check.on_disk(event, known)
    }

    fn on_server(&mut self, event: &ServerEvent<'_>, known: &Knowledge) -> Ruling {
        self.check.on_server(event, known)
    }

    fn on_client(&mut self, event: &ClientEvent<'_>, known: &Knowledge) -> Ruling {
        self.check.on_client(event, known)
    }

    fn on_message(&mut self, message: &WireMessage<'_>, known: &Knowledge) -> Ruling {
        self.check.on_message(message, known)
    }

    fn at_quiescence(&mut self, nodes: &[NodeAtEnd<'_>], known: &Knowledge) -> Ruling {
        self.check.at_quiescence(nodes, known)
    }

    fn at_end(&mut self, nodes: &[NodeAtEnd<'_>], known: &Knowledge) -> Ruling {
        self.check.at_end(nodes, known)
    }
}
