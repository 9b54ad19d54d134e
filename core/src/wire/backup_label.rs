//! The file `backup_label`, from which recovery of a base backup starts. Mirrors xlogbackup.c
//! (build_backup_content) and xlogrecovery.c (read_backup_label).

use crate::base::{Lsn, PgVersion, TimelineId};
use alloc::format;
use alloc::string::{String, ToString};

/// The content of `backup_label`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BackupLabel {
    /// Where replay must begin.
    pub start: Lsn,
    /// The name of the segment that contains `start`.
    pub file: String,
    /// The checkpoint with which the backup began.
    pub checkpoint: Lsn,
    /// The backup method. PostgreSQL evaluates only `streamed`.
    pub method: String,
    /// `primary` or `standby`.
    pub from: String,
    /// The start time of the backup, as text.
    pub start_time: String,
    /// The label that was given to the backup.
    pub label: String,
    /// The timeline of `start`.
    pub start_tli: TimelineId,
}

/// An error: the name of a line that is missing or invalid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[error("invalid data in file \"backup_label\": expected a line \"{0}: …\"")]
pub struct BackupLabelError(pub &'static str);

impl BackupLabel {
    /// Reads the file.
    ///
    /// # Errors
    /// The first line that is missing or invalid.
    pub fn decode(bytes: &[u8]) -> Result<Self, BackupLabelError> {
        const START: &str = "START WAL LOCATION";
        let text = core::str::from_utf8(bytes).map_err(|_| BackupLabelError(START))?;
        let mut lines = text.lines();
        let mut field = |name: &'static str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(": "))
                .ok_or(BackupLabelError(name))
        };
        let start = field(START)?.split_once(" (file ");
        let (start, file) = start.ok_or(BackupLabelError(START))?;
        let file = file.strip_suffix(')').ok_or(BackupLabelError(START))?;
        let checkpoint = field("CHECKPOINT LOCATION")?.parse();
        Ok(Self {
            start: start.parse().map_err(|_| BackupLabelError(START))?,
            file: file.to_string(),
            checkpoint: checkpoint.map_err(|_| BackupLabelError("CHECKPOINT LOCATION"))?,
            method: field("BACKUP METHOD")?.to_string(),
            from: field("BACKUP FROM")?.to_string(),
            start_time: field("START TIME")?.to_string(),
            label: field("LABEL")?.to_string(),
            start_tli: field("START TIMELINE")?
                .parse()
                .map(TimelineId)
                .map_err(|_| BackupLabelError("START TIMELINE"))?,
        })
    }

    /// The content of the file as this version writes it. Since 19, LSNs are padded.
    #[must_use]
    pub fn encode(&self, version: PgVersion) -> String {
        format!(
            "START WAL LOCATION: {} (file {})\nCHECKPOINT LOCATION: {}\nBACKUP METHOD: {}\n\
             BACKUP FROM: {}\nSTART TIME: {}\nLABEL: {}\nSTART TIMELINE: {}\n",
            self.start.text(version),
            self.file,
            self.checkpoint.text(version),
            self.method,
            self.from,
            self.start_time,
            self.label,
            self.start_tli
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_in_the_form_of_its_version() {
        let label = BackupLabel {
            start: Lsn(0x260_0028),
            file: "000000010000000000000026".into(),
            checkpoint: Lsn(0x260_0080),
            method: "streamed".into(),
            from: "primary".into(),
            start_time: "2026-11-30 13:17:12 UTC".into(),
            label: "a: b (c)".into(),
            start_tli: TimelineId(1),
        };
        let first = |version| label.encode(version).lines().next().map(String::from);
        let line = |at| Some(format!("START WAL LOCATION: {at} (file {})", label.file));
        assert_eq!(first(PgVersion::V18), line("0/2600028"));
        assert_eq!(first(PgVersion::V19), line("0/02600028"));
        for version in PgVersion::ALL {
            let text = label.encode(version);
            assert_eq!(BackupLabel::decode(text.as_bytes()), Ok(label.clone()));
            // In a file that ends too early, a line is missing.
            for (at, _) in text.match_indices('\n') {
                let cut = BackupLabel::decode(&text.as_bytes()[..at]);
                assert_eq!(cut.is_ok(), at + 1 == text.len(), "{cut:?}");
            }
        }
    }
}
