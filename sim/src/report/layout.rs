//! Lays out text for a terminal: wraps lines, aligns columns, and adds colors.

/// How a report is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// The number of columns, at least [`Look::NARROWEST`].
    pub width: usize,
    /// Whether to use colors.
    pub color: bool,
}

impl Look {
    /// The smallest width. A report on a narrower terminal gets this width.
    pub const NARROWEST: usize = 60;
    /// For files and pipes.
    pub const PLAIN: Self = Self {
        width: 100,
        color: false,
    };

    /// A text in a style. Without colors, the text is unchanged.
    pub(super) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Plain => return text.to_owned(),
            Style::Bold => 1,
            Style::Faint => 2,
            Style::Red => 31,
            Style::Yellow => 33,
            Style::Cyan => 36,
        };
        if self.color && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A style of text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Style {
    Plain,
    Bold,
    Faint,
    Red,
    Yellow,
    Cyan,
}

/// Splits a text into lines of at most `width` characters, at spaces if possible.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut length = 0;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + rest.len() > width {
            lines.push(String::new());
            length = 0;
        }
        let line = lines.last_mut().expect("never empty");
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        while length + rest.len() > width {
            let tail = rest.split_off(width - length);
            let line = lines.last_mut().expect("never empty");
            line.extend(rest);
            lines.push(String::new());
            (rest, length) = (tail, 0);
        }
        length += rest.len();
        lines.last_mut().expect("never empty").extend(rest);
    }
    lines
}

/// A line that begins with `head`, followed by `text`. If the text needs more lines, these are
/// indented by the width of the head.
pub(super) fn hanging(head: &str, text: &str, look: Look, style: Style) -> String {
    let indent = head.chars().count();
    let lines = wrapped(text, look.width.saturating_sub(indent).max(20));
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        let painted = look.paint(style, line);
        let start = if number == 0 {
            head
        } else {
            &" ".repeat(indent)
        };
        out += format!("{start}{painted}").trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_words_are_split_and_others_kept() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrapped("", 3), [""]);
        let look = Look {
            width: 30,
            color: true,
        };
        let text = hanging(
            "  head  ",
            "four words of some length here",
            look,
            Style::Red,
        );
        let plain = text.replace("\x1b[31m", "").replace("\x1b[0m", "");
        assert_eq!(plain, "  head  four words of some\n        length here\n");
    }
}
