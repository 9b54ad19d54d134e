//! A run as a Mermaid sequence diagram, short enough for an issue.
//!
//! The participants are processes by their kind, in a box for each node. Messages are arrows, an
//! fsync is an arrow from a process to itself, and faults, log lines and the violation are notes.

mod item;
mod text;

use crate::trace::{Filter, TraceEvent};
use item::{Item, Participant, Place, Rank, items};
use std::collections::BTreeSet;
use text::escaped;

/// The largest number of lines in a diagram.
pub const LINES: usize = 60;

/// Draws the events that match the filter. `story` contains the numbers of the most important
/// events, such as the events of a [`Story`](crate::story::Story). If not all events fit, other
/// events are left out first.
///
/// `events` must contain all messages (see [`is_other_end`](super::is_other_end)).
#[must_use]
pub fn mermaid(events: &[TraceEvent], filter: &Filter, story: &BTreeSet<u64>) -> String {
    let items = items(events, filter, story);
    let chosen = chosen(&items);
    let shown: Vec<&Item> = chosen.iter().filter_map(|at| items.get(*at)).collect();
    let left_out: Vec<&Item> = (0..)
        .zip(&items)
        .filter(|(at, _)| !chosen.contains(at))
        .map(|(_, item)| item)
        .collect();
    let cast = Cast::of(&shown);
    let mut out = String::from("sequenceDiagram\n");
    cast.declare(&mut out);
    for item in shown {
        let label = escaped(&item.label());
        out += &match &item.place {
            Place::Arrow(from, to, lost) => {
                let arrow = if *lost { "-x" } else { "->>" };
                format!("    {}{arrow}{}: {label}\n", cast.id(from), cast.id(to))
            }
            Place::Own(of) => format!("    {0}->>{0}: {label}\n", cast.id(of)),
            Place::Note(of) => format!("    Note over {}: {label}\n", cast.id(of)),
            Place::Node(name) => format!("    Note over {}: {label}\n", cast.ids_of(Some(name))),
            Place::All => format!("    Note over {}: {label}\n", cast.ids_of(None)),
        };
    }
    if !left_out.is_empty() {
        let label = escaped(&counts(&left_out));
        out += &format!("    Note over {}: {label}\n", cast.ids_of(None));
    }
    out
}

/// The indexes of the most important items that fit. Among equally important items, the later ones
/// are shown. Only of first occurrences ([`Rank::First`]) are the earlier ones shown.
fn chosen(items: &[Item]) -> BTreeSet<usize> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|at| {
        let rank = items[*at].rank;
        let place = match rank {
            Rank::First => *at,
            Rank::Story
            | Rank::World
            | Rank::Error
            | Rank::Again
            | Rank::Log
            | Rank::Connection => items.len() - at,
        };
        (rank, place)
    });
    let mut chosen = BTreeSet::new();
    for at in order {
        chosen.insert(at);
        let shown: Vec<&Item> = chosen.iter().map(|at| &items[*at]).collect();
        // Two more lines: the first line of the diagram, and the note about what is left out.
        if Cast::of(&shown).lines() + shown.len() + 2 > LINES {
            chosen.remove(&at);
            break;
        }
    }
    chosen
}

/// What is left out, as text.
fn counts(left_out: &[&Item]) -> String {
    let count = |is: fn(&Place) -> bool| -> u64 {
        let items = left_out.iter().filter(|item| is(&item.place));
        items
            .map(|item| 1 + item.more.map_or(0, |(more, _)| more))
            .sum()
    };
    let parts = [
        (count(|place| matches!(place, Place::Arrow(..))), "messages"),
        (
            count(|place| matches!(place, Place::Own(_))),
            "disk operations",
        ),
        (count(|place| matches!(place, Place::Note(_))), "log lines"),
        (
            count(|place| matches!(place, Place::Node(_) | Place::All)),
            "other events",
        ),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> = parts
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    format!("not shown: {}", parts.join(", "))
}

/// The participants, grouped by node or session in the order of their first item.
struct Cast(Vec<(String, Vec<&'static str>)>);

impl Cast {
    fn of(items: &[&Item]) -> Self {
        let mut cast = Self(Vec::new());
        for item in items {
            match &item.place {
                Place::Arrow(from, to, _) => {
                    cast.add(from);
                    cast.add(to);
                }
                Place::Own(of) | Place::Note(of) => cast.add(of),
                Place::Node(name) => drop(cast.group(name)),
                Place::All => {}
            }
        }
        for (_, roles) in &mut cast.0 {
            if roles.is_empty() {
                roles.push("");
            }
        }
        if cast.0.is_empty() {
            cast.0.push((String::from("world"), vec![""]));
        }
        cast
    }

    fn add(&mut self, (node, role): &Participant) {
        let roles = self.group(node);
        if !roles.contains(role) {
            roles.push(role);
        }
    }

    fn group(&mut self, node: &str) -> &mut Vec<&'static str> {
        let at = self.0.iter().position(|(name, _)| name == node);
        let at = at.unwrap_or_else(|| {
            self.0.push((node.to_owned(), Vec::new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    /// Whether a group is drawn without a box. Such a group has one participant, which stands for
    /// the whole node or session.
    fn is_single(roles: &[&'static str]) -> bool {
        roles == [""]
    }

    fn lines(&self) -> usize {
        let lines = |roles: &[&'static str]| match Self::is_single(roles) {
            true => 1,
            false => roles.len() + 2,
        };
        self.0.iter().map(|(_, roles)| lines(roles)).sum()
    }

    fn declare(&self, out: &mut String) {
        for (node, roles) in &self.0 {
            let name = escaped(node);
            if Self::is_single(roles) {
                let id = self.id(&(node.clone(), ""));
                *out += &format!("    participant {id} as {name}\n");
                continue;
            }
            // Without a color, Mermaid takes a name such as red for the color.
            *out += &format!("    box transparent {name}\n");
            for role in roles {
                let id = self.id(&(node.clone(), role));
                let shown = if role.is_empty() { "server" } else { role };
                *out += &format!("        participant {id} as {}\n", escaped(shown));
            }
            *out += "    end\n";
        }
    }

    fn id(&self, (node, role): &Participant) -> String {
        let all = self.0.iter();
        let mut all = all.flat_map(|(node, roles)| roles.iter().map(move |role| (node, role)));
        let place = all.position(|it| it == (node, role));
        format!("p{}", place.map_or(1, |place| place + 1))
    }

    /// The first and last participant of a node, or of the diagram.
    fn ids_of(&self, node: Option<&str>) -> String {
        let groups: Vec<_> = (self.0.iter())
            .filter(|(name, _)| node.is_none_or(|node| name == node))
            .collect();
        let end = |group: Option<&&(String, Vec<&'static str>)>, last: bool| {
            let (node, roles) = group?;
            let role = if last { roles.last() } else { roles.first() };
            Some(self.id(&(node.clone(), role?)))
        };
        let first = end(groups.first(), false).unwrap_or_default();
        let last = end(groups.last(), true).unwrap_or_default();
        match first == last {
            true => first,
            false => format!("{first},{last}"),
        }
    }
}
