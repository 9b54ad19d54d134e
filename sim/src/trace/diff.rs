//! The first difference of two traces.

use super::TraceEvent;
use std::collections::VecDeque;
use std::fmt::{self, Display};

/// The number of equal events shown before the difference.
const BEFORE: usize = 8;
/// How many events of each trace are shown from the difference on.
const AFTER: usize = 12;

/// An event of a trace that can be compared.
pub trait Compared: PartialEq + Display {
    /// The number of steps before the event.
    fn step(&self) -> u64;
}

impl Compared for TraceEvent {
    fn step(&self) -> u64 {
        self.step
    }
}

/// The first difference of two traces, with its context. `Display` formats it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The number of the first step whose events differ, from 1.
    pub step: u64,
    /// The last equal events before this step.
    pub before: Vec<String>,
    /// The events of the first trace, from the difference on. The list is empty if the first trace
    /// has ended.
    pub one: Vec<String>,
    /// The events of the second trace, from the difference on. The list is empty if the second
    /// trace has ended.
    pub other: Vec<String>,
}

impl Difference {
    /// Compares two traces. Returns `None` if they are equal.
    pub fn first<R: Compared>(
        mut one: impl Iterator<Item = R>,
        mut other: impl Iterator<Item = R>,
    ) -> Option<Self> {
        let mut before: VecDeque<R> = VecDeque::new();
        loop {
            let (a, b) = (one.next(), other.next());
            if a == b {
                before.push_back(a?);
                if before.len() > BEFORE {
                    before.pop_front();
                }
                continue;
            }
            let steps = [&a, &b].into_iter().flatten().map(Compared::step);
            let text = |event: R| event.to_string();
            return Some(Self {
                step: steps.min().unwrap_or(0) + 1,
                before: before.into_iter().map(text).collect(),
                one: a.into_iter().chain(one).take(AFTER).map(text).collect(),
                other: b.into_iter().chain(other).take(AFTER).map(text).collect(),
            });
        }
    }
}

impl Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the traces first differ at step {}", self.step)?;
        let part = |f: &mut fmt::Formatter<'_>, mark: char, lines: &[String]| {
            if lines.is_empty() {
                return writeln!(f, "{mark} (this trace has ended)");
            }
            lines
                .iter()
                .try_for_each(|line| writeln!(f, "{mark} {line}"))
        };
        if !self.before.is_empty() {
            part(f, ' ', &self.before)?;
        }
        part(f, '-', &self.one)?;
        part(f, '+', &self.other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(PartialEq, Eq)]
    struct Numbered(u64);

    impl Display for Numbered {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "event {}", self.0)
        }
    }

    impl Compared for Numbered {
        fn step(&self) -> u64 {
            self.0
        }
    }

    fn differ(one: &[u64], other: &[u64]) -> Option<Difference> {
        let events = |of: &[u64]| of.iter().map(|n| Numbered(*n)).collect::<Vec<_>>();
        Difference::first(events(one).into_iter(), events(other).into_iter())
    }

    #[test]
    fn the_first_difference_is_shown_with_its_context() {
        assert_eq!(differ(&[1, 2], &[1, 2]), None);
        let found = differ(&[1, 2, 4], &[1, 2, 5]).expect("they differ");
        assert_eq!(found.step, 5);
        let expected =
            "the traces first differ at step 5\n  event 1\n  event 2\n- event 4\n+ event 5\n";
        assert_eq!(found.to_string(), expected);
        let found = differ(&[1], &[1, 2]).expect("one is longer");
        assert!(found.one.is_empty() && found.to_string().contains("has ended"));
    }
}
