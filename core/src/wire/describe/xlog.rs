//! Checkpoints, backups and changed settings. Mirrors xlogdesc.c.

use super::known;
use super::text::Text;
use crate::base::{Lsn, PgVersion, WalLevel};
use crate::wire::payload::PayloadError;
use crate::wire::xlog_records::{CheckPoint, ParameterChange, XlogRecord, wal_level};

impl Text {
    pub(super) fn xlog_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        let Some(record) = known(XlogRecord::decode(version, info, main))? else {
            return Ok(());
        };
        match record {
            XlogRecord::CheckpointShutdown(checkpoint) => {
                self.checkpoint(version, &checkpoint).add("shutdown");
            }
            XlogRecord::CheckpointOnline(checkpoint) => {
                self.checkpoint(version, &checkpoint).add("online");
            }
            XlogRecord::NextOid(oid) => _ = self.dec(oid),
            XlogRecord::RestorePoint(point) => _ = self.cstr(&point.name),
            XlogRecord::BackupEnd(start) => _ = self.lsn_of(version, start),
            XlogRecord::ParameterChange(change) => self.parameter_change(&change),
            XlogRecord::FpwChange(on) | XlogRecord::LogicalDecodingStatus(on) => _ = self.truth(on),
            XlogRecord::EndOfRecovery(end, level) => {
                self.add("tli ").dec(end.this_tli.0);
                self.add("; prev tli ").dec(end.prev_tli.0);
                self.add("; time ").timestamp(end.time);
                if version >= PgVersion::V17 {
                    self.add("; wal_level ").add(wal_level_name(level));
                }
            }
            XlogRecord::OverwriteContrecord(overwrite) => {
                self.add("lsn ").lsn_of(version, overwrite.overwritten_lsn);
                self.add("; time ").timestamp(overwrite.time);
            }
            XlogRecord::CheckpointRedo(level) => {
                self.add("wal_level ").add(wal_level_name(level));
            }
            XlogRecord::Noop | XlogRecord::Switch | XlogRecord::FpiForHint | XlogRecord::Fpi => {}
        }
        Ok(())
    }

    fn checkpoint(&mut self, version: PgVersion, checkpoint: &CheckPoint) -> &mut Self {
        self.add("redo ").lsn_of(version, checkpoint.redo);
        self.with("; tli ", checkpoint.this_tli.0);
        self.with("; prev tli ", checkpoint.prev_tli.0);
        self.add("; fpw ").truth(checkpoint.full_page_writes);
        if version >= PgVersion::V17 {
            let level = wal_level_name(checkpoint.wal_level);
            self.add("; wal_level ").add(level);
        }
        // Since 19.
        if version >= PgVersion::V19 {
            self.add("; logical decoding ")
                .truth(checkpoint.logical_decoding);
        }
        self.add("; xid ").full_xid(checkpoint.next_xid);
        self.with("; oid ", checkpoint.next_oid);
        self.with("; multi ", checkpoint.next_multi);
        self.with("; offset ", checkpoint.next_multi_offset);
        self.with("; oldest xid ", checkpoint.oldest_xid.0);
        self.with(" in DB ", checkpoint.oldest_xid_db);
        self.with("; oldest multi ", checkpoint.oldest_multi);
        self.with(" in DB ", checkpoint.oldest_multi_db);
        self.with(
            "; oldest/newest commit timestamp xid: ",
            checkpoint.oldest_commit_ts_xid.0,
        );
        self.with("/", checkpoint.newest_commit_ts_xid.0);
        self.with("; oldest running xid ", checkpoint.oldest_active_xid.0);
        self.add("; ")
    }

    fn truth(&mut self, is: bool) -> &mut Self {
        self.add(if is { "true" } else { "false" })
    }

    fn parameter_change(&mut self, change: &ParameterChange) {
        let switch = |on: bool| if on { "on" } else { "off" };
        self.add("max_connections=").int(change.max_connections);
        self.add(" max_worker_processes=")
            .int(change.max_worker_processes);
        self.add(" max_wal_senders=").int(change.max_wal_senders);
        self.add(" max_prepared_xacts=")
            .int(change.max_prepared_xacts);
        self.add(" max_locks_per_xact=")
            .int(change.max_locks_per_xact);
        self.add(" wal_level=")
            .add(wal_level_name(change.wal_level));
        self.add(" wal_log_hints=")
            .add(switch(change.wal_log_hints));
        self.add(" track_commit_timestamp=")
            .add(switch(change.track_commit_timestamp));
    }

    /// Adds an LSN in the format of this version. Since 19 the second half always has eight digits.
    pub fn lsn_of(&mut self, version: PgVersion, lsn: Lsn) -> &mut Self {
        if version >= PgVersion::V19 {
            self.lsn_padded(lsn)
        } else {
            self.lsn(lsn)
        }
    }

    /// Adds an LSN (`%X/%X`).
    pub fn lsn(&mut self, lsn: Lsn) -> &mut Self {
        let (high, low) = halves(lsn);
        self.hex(high, 1).add("/").hex(low, 1)
    }

    /// Adds an LSN whose second half always has eight digits (`%X/%08X`).
    #[inline]
    pub fn lsn_padded(&mut self, lsn: Lsn) -> &mut Self {
        let (high, low) = halves(lsn);
        self.hex(high, 1).add("/").hex(low, 8)
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "cut in two on purpose")]
const fn halves(lsn: Lsn) -> (u32, u32) {
    ((lsn.0 >> 32) as u32, lsn.0 as u32)
}

/// `wal_level_options`
const fn wal_level_name(number: i32) -> &'static str {
    match wal_level(number) {
        Some(WalLevel::Minimal) => "minimal",
        Some(WalLevel::Replica) => "replica",
        Some(WalLevel::Logical) => "logical",
        None => "?",
    }
}
