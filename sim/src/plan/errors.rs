//! What is wrong with a plan's text, and where: a message, the place, and what could have been meant.

use std::ops::Range;

/// A plan that cannot be read. The place is a range of bytes of the text, for a caret under the word.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Range<usize>,
    /// What stands there, in two words.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl PlanError {
    /// An error at a place.
    #[must_use]
    pub fn new(span: Range<usize>, label: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span,
            label: label.into(),
            help: None,
        }
    }

    /// With a hint.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A name that nothing has: `what` is "node", "invariant" and so on.
    #[must_use]
    pub fn unknown(span: Range<usize>, what: &str, name: &str, known: &[&str]) -> Self {
        let message = format!("there is no {what} `{name}`");
        Self::new(span, format!("unknown {what}"), message).help(known_names(name, known))
    }
}

/// `did you mean `x`?`, and all that there is.
#[must_use]
pub fn known_names(name: &str, known: &[&str]) -> String {
    let all = match known {
        [] => String::from("there is none"),
        names => format!("known: {}", names.join(", ")),
    };
    match did_you_mean(name, known) {
        Some(close) => format!("did you mean `{close}`? {all}"),
        None => all,
    }
}

/// The known word that is closest to a misspelt one, if any is close.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let close = known.iter().map(|name| (distance(word, name), *name));
    let (far, name) = close.min_by_key(|(far, _)| *far)?;
    (far <= limit).then_some(name)
}

/// Insertions, removals, replacements and swaps of neighbours that lead from one word to the other, whatever the case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (letters(a), letters(b));
    let mut before = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = above[j] + usize::from(x != y);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && *x == b[j - 1] {
                let swapped: &Vec<usize> = &before;
                least = least.min(swapped[j - 1] + 1);
            }
            row.push(least);
        }
        before = above;
        above = row;
    }
    above[b.len()]
}

fn letters(word: &str) -> Vec<char> {
    word.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_its_neighbour() {
        let known = ["standby1", "standby2", "primary"];
        for (word, meant) in [
            ("stanby1", Some("standby1")),
            ("primray", Some("primary")),
            ("PRIMARY", Some("primary")),
            ("node", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(word, &known), meant, "{word}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, far) in [("", "abc", 3), ("kitten", "sitting", 3), ("ab", "ba", 1)] {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }
}
