//! Timeline history files. Mirrors timeline.c (readTimeLineHistory, writeTimeLineHistory).

use crate::base::{Lsn, PgVersion, TimelineId};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// One line of a history file: a timeline that was left, and the position at which it was left.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HistoryLine {
    /// The timeline.
    pub tli: TimelineId,
    /// Where the next timeline branched off.
    pub switchpoint: Lsn,
    /// The reason for the switch, as a text for users. Servers ignore the text.
    pub reason: String,
}

/// The reason why a file is not a valid history file. The number is the line number, counted from
/// 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file is not text.
    #[error("history file is not valid UTF-8")]
    Encoding,
    /// A line does not begin with a timeline number.
    #[error("syntax error in history file, line {0}: expected a numeric timeline ID")]
    Timeline(usize),
    /// A line has no position after the timeline number.
    #[error(
        "syntax error in history file, line {0}: expected a write-ahead log switchpoint location"
    )]
    Switchpoint(usize),
    /// Timelines do not increase.
    #[error("invalid data in history file, line {0}: timeline IDs must be in increasing sequence")]
    Order(usize),
}

/// Reads a history file. Skips empty lines and comments.
///
/// # Errors
/// The first invalid line.
pub fn decode(bytes: &[u8]) -> Result<Vec<HistoryLine>, HistoryError> {
    let text = core::str::from_utf8(bytes).map_err(|_| HistoryError::Encoding)?;
    let mut lines: Vec<HistoryLine> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.splitn(3, '\t');
        let tli = fields.next().and_then(|field| field.parse().ok());
        let tli = TimelineId(tli.ok_or(HistoryError::Timeline(number))?);
        let switchpoint = fields.next().and_then(|field| field.parse().ok());
        let switchpoint = switchpoint.ok_or(HistoryError::Switchpoint(number))?;
        if lines.last().is_some_and(|last| tli <= last.tli) {
            return Err(HistoryError::Order(number));
        }
        let reason = fields.next().unwrap_or_default().to_string();
        lines.push(HistoryLine {
            tli,
            switchpoint,
            reason,
        });
    }
    Ok(lines)
}

/// The content of a history file as a promotion writes it. Each promotion copies the previous
/// history file and appends an empty line and a new line. Since 19, LSNs are padded.
#[must_use]
pub fn encode(version: PgVersion, lines: &[HistoryLine]) -> String {
    let line = |line: &HistoryLine| {
        let switchpoint = line.switchpoint.text(version);
        format!("{}\t{switchpoint}\t{}\n", line.tli, line.reason)
    };
    let lines: Vec<String> = lines.iter().map(line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<HistoryLine> {
        [(1, 0x300_0028), (2, 0x16_B374_D848)]
            .map(|(tli, at)| HistoryLine {
                tli: TimelineId(tli),
                switchpoint: Lsn(at),
                reason: "no recovery target specified".into(),
            })
            .into()
    }

    #[test]
    fn comes_back_in_the_form_of_its_version() {
        let reason = "no recovery target specified";
        assert_eq!(
            encode(PgVersion::V18, &two()),
            format!("1\t0/3000028\t{reason}\n\n2\t16/B374D848\t{reason}\n")
        );
        assert_eq!(
            encode(PgVersion::V19, &two()[..1]),
            format!("1\t0/03000028\t{reason}\n")
        );
        for version in PgVersion::ALL {
            assert_eq!(decode(encode(version, &two()).as_bytes()), Ok(two()));
        }
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_line() {
        for (text, expected) in [
            ("\n# no comment counts\n  \n", Ok(Vec::new())),
            ("one\t0/1\tx\n", Err(HistoryError::Timeline(1))),
            ("\n1\tnowhere\tx\n", Err(HistoryError::Switchpoint(2))),
            ("1\n", Err(HistoryError::Switchpoint(1))),
            ("2\t0/1\tx\n2\t0/2\tx\n", Err(HistoryError::Order(2))),
        ] {
            assert_eq!(decode(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(decode(b"\xFF"), Err(HistoryError::Encoding));
    }
}
