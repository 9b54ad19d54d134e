//! Suggestions for misspelled words.

use alloc::vec;
use alloc::vec::Vec;

/// The known word closest to a misspelled word, if one is close enough.
#[must_use]
pub fn did_you_mean<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).max(1);
    let close = known.iter().map(|name| (distance(word, name), *name));
    let (far, name) = close.min_by_key(|(far, _)| *far)?;
    (far <= limit).then_some(name)
}

/// The edit distance of two words, ignoring case. An edit is an insertion, a removal, a
/// replacement, or a swap of neighbors.
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
    fn a_misspelled_word_gets_a_suggestion() {
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
