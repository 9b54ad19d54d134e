//! Escapes texts for a Mermaid sequence diagram.

/// Longer texts are truncated.
const MOST: usize = 110;

/// Escapes a text for the part of a line after the colon, or for the name of a participant.
///
/// `;` ends a statement and `#` begins a character code, so both are written as codes, as Mermaid's
/// documentation says. `<` and `>` would be HTML, and `%%` a comment. A text must not begin with
/// `wrap:`, since that is an option.
pub(super) fn escaped(text: &str) -> String {
    let (text, cut) = match text.char_indices().nth(MOST) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    };
    let mut out = String::new();
    let first = text.trim_start().split_once(':').map(|(word, _)| word);
    let is_option = matches!(first, Some("wrap" | "nowrap"));
    for c in text.chars() {
        match c {
            '#' | ';' | '<' | '>' | '&' | '%' => out += &format!("#{};", u32::from(c)),
            ':' if is_option => out += "#58;",
            '\n' => out += "<br/>",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out + cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_characters_are_codes() {
        assert_eq!(escaped("LOG:  a -> b"), "LOG:  a -#62; b");
        assert_eq!(escaped("a; b #c 50%"), "a#59; b #35;c 50#37;");
        assert_eq!(escaped("<b>&\ttwo\nlines"), "#60;b#62;#38; two<br/>lines");
        assert_eq!(escaped("wrap: a: b"), "wrap#58; a#58; b");
        assert_eq!(escaped(&"ä".repeat(200)), "ä".repeat(MOST) + "…");
    }
}
