//! Locks, running transactions, invalidations. Mirrors standbydesc.c.

use super::known;
use super::text::Text;
use crate::base::{PgVersion, Xid};
use crate::wire::payload::PayloadError;
use crate::wire::standby_records::{RunningXacts, StandbyRecord};
use crate::wire::xact_records::Invalidation;

/// The database of a list of invalidation messages.
#[derive(Clone, Copy, Default)]
pub(super) struct InvalidatedIn {
    pub(super) db: u32,
    pub(super) tablespace: u32,
    pub(super) init_file: bool,
}

impl Text {
    pub(super) fn standby_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        match known(StandbyRecord::decode(info, main))? {
            Some(StandbyRecord::Lock(locks)) => {
                for lock in locks {
                    self.add("xid ").dec(lock.xid.0);
                    self.add(" db ").dec(lock.db);
                    self.add(" rel ").dec(lock.rel).add(" ");
                }
            }
            Some(StandbyRecord::RunningXacts(running)) => self.running_xacts(version, &running),
            Some(StandbyRecord::Invalidations(invalidations)) => {
                let place = InvalidatedIn {
                    db: invalidations.db,
                    tablespace: invalidations.tablespace,
                    init_file: invalidations.init_file_inval,
                };
                self.invalidations(place, &invalidations.msgs);
            }
            None => {}
        }
        Ok(())
    }

    fn running_xacts(&mut self, version: PgVersion, running: &RunningXacts) {
        self.add("nextXid ").dec(running.next_xid.0);
        self.add(" latestCompletedXid ")
            .dec(running.latest_completed_xid.0);
        self.add(" oldestRunningXid ")
            .dec(running.oldest_running_xid.0);
        self.counted_xids(" xacts:", &running.xids);
        if running.overflowed {
            let said = if version >= PgVersion::V16 {
                "; subxid overflowed"
            } else {
                "; subxid ovf"
            };
            self.add(said);
        }
        if version >= PgVersion::V16 {
            self.counted_xids(" subxacts:", &running.subxids);
        }
    }

    fn counted_xids(&mut self, what: &str, xids: &[Xid]) {
        if !xids.is_empty() {
            self.add("; ").dec(xids.len() as u64).add(what).xids(xids);
        }
    }

    pub(super) fn xids(&mut self, xids: &[Xid]) -> &mut Self {
        for xid in xids {
            self.add(" ").dec(xid.0);
        }
        self
    }

    /// `standby_desc_invalidations`
    pub(super) fn invalidations(&mut self, place: InvalidatedIn, msgs: &[Invalidation]) {
        if msgs.is_empty() {
            return;
        }
        if place.init_file {
            self.add("; relcache init file inval dbid ").dec(place.db);
            self.add(" tsid ").dec(place.tablespace);
        }
        self.add("; inval msgs:");
        for msg in msgs {
            match msg.id {
                id @ 0.. => self.add(" catcache ").int(i32::from(id)),
                -1 => self.add(" catalog ").dec(msg.object),
                -2 => self.add(" relcache ").dec(msg.object),
                -3 => self.add(" smgr"),
                -4 => self.add(" relmap db ").dec(msg.db),
                -5 => self.add(" snapshot ").dec(msg.object),
                // Messages of this type exist since 18.
                -6 => self.add(" relsync ").dec(msg.object),
                id => self.add(" unrecognized id ").int(i32::from(id)),
            };
        }
    }
}
