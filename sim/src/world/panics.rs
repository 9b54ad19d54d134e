//! Catches a panic of the node or of the simulator. Records where the code panicked, and the time
//! and number of steps of the run.

use super::{Excuses, Outcome, Verdict, World};
use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use walsim_core::base::{MarkSet, Mono};

thread_local! {
    /// File and line of the last panic on this thread.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that was caught.
pub(super) struct Panicked {
    /// File and line.
    place: Option<String>,
    message: String,
}

/// Runs a closure and catches a panic. Only a panic hook learns where the code panicked. The first
/// call installs such a hook, which also calls the hook that was installed before.
pub(super) fn caught(run: AssertUnwindSafe<impl FnOnce()>) -> Result<(), Panicked> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            let place = info
                .location()
                .map(|at| format!("{}:{}", at.file(), at.line()));
            PLACE.set(place);
            usual(info);
        }));
    });
    PLACE.set(None);
    catch_unwind(run).map_err(|panic| Panicked {
        place: PLACE.take(),
        message: message(&*panic),
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| String::from(*text)));
    text.unwrap_or_default()
}

/// The place and the first line of the message.
impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_deref().unwrap_or("an unknown place");
        let first = self.message.lines().next().unwrap_or_default();
        write!(f, "panic at {place}: {first}")
    }
}

impl Panicked {
    /// The outcome of a run that panicked. It has no hash, because the state after a panic is
    /// unreliable.
    pub(super) fn outcome(self, world: Option<&World>) -> Outcome {
        let first = self.message.split([':', '\n']).next().unwrap_or_default();
        let place = self.place.unwrap_or_else(|| first.to_owned());
        let driven = world.and_then(|world| Some(&world.hosts[world.driven?.0].plan.name));
        let steps = world.map_or(0, World::steps);
        let at = world.map_or(Mono(0), World::now);
        Outcome {
            verdict: Verdict::Panic {
                label: format!("ASSERT:{place}"),
                message: self.message,
                node: driven.cloned().unwrap_or_default(),
                at,
                step: steps + 1,
            },
            audited: world.is_some_and(|world| world.audit),
            steps,
            sim_us: at.0,
            hash: 0,
            marks: MarkSet::default(),
            commits: 0,
            wal_bytes: 0,
            segments: 0,
            faults: 0,
            excuses: Excuses::default(),
            idle_faults: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(run: impl FnOnce()) -> String {
        let panicked = caught(AssertUnwindSafe(run)).expect_err("it panics");
        let verdict = panicked.outcome(None).verdict;
        verdict.code().unwrap_or_default().to_owned()
    }

    #[test]
    fn panics_at_different_places_are_different_failures() {
        let panics = |n: u32| {
            if n == 0 {
                panic!("the same words");
            }
            panic!("the same words");
        };
        let (one, other) = (label(|| panics(0)), label(|| panics(1)));
        assert!(one.starts_with("ASSERT:sim/src/world/panics.rs:"), "{one}");
        assert_ne!(one, other);
    }
}
