//! Commits, aborts, prepared transactions. Mirrors xactdesc.c.

use super::standby::InvalidatedIn;
use super::text::Text;
use crate::base::PgVersion;
use crate::wire::payload::PayloadError;
use crate::wire::record::RelLocator;
use crate::wire::xact_prepare::{XactAssignment, XactPrepare, decode_invalidations};
use crate::wire::xact_records::{Origin, StatsItem, XactEnd, xinfo};

impl Text {
    /// Describes a Transaction record. `origin` is the replication origin of the record, or 0.
    pub(super) fn xact_desc(
        &mut self,
        version: PgVersion,
        origin: u16,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        match info & 0x70 {
            0x00 | 0x30 => {
                let end = XactEnd::decode(version, info, main)?;
                self.xact_end(version, &end);
                let place = InvalidatedIn {
                    db: end.db.map_or(0, |place| place.db),
                    tablespace: end.db.map_or(0, |place| place.tablespace),
                    init_file: end.flags & xinfo::UPDATE_RELCACHE_FILE != 0,
                };
                self.dropped_stats("", &end.stats);
                self.invalidations(place, &end.invals);
                if end.flags & xinfo::APPLY_FEEDBACK != 0 {
                    self.add("; apply_feedback");
                }
                if end.flags & xinfo::FORCE_SYNC != 0 {
                    self.add("; sync");
                }
                self.replicated_from(version, origin, end.origin);
            }
            0x20 | 0x40 => {
                let end = XactEnd::decode(version, info, main)?;
                self.xact_end(version, &end);
                self.replicated_from(version, origin, end.origin);
                self.dropped_stats("", &end.stats);
            }
            0x10 => self.prepare(version, origin, &XactPrepare::decode(version, main)?),
            0x50 => {
                let assignment = XactAssignment::decode(main)?;
                self.add("xtop ").dec(assignment.top.0);
                self.add(": subxacts:").xids(&assignment.subxacts);
            }
            0x60 => self.invalidations(InvalidatedIn::default(), &decode_invalidations(main)?),
            _ => {}
        }
        Ok(())
    }

    /// Adds the part that commits and aborts have in common.
    fn xact_end(&mut self, version: PgVersion, end: &XactEnd) {
        if let Some(xid) = end.twophase.filter(|xid| xid.is_valid()) {
            self.dec(xid.0).add(": ");
        }
        self.timestamp(end.time);
        self.relations(version, "rels", &end.rels);
        if !end.subxacts.is_empty() {
            self.add("; subxacts:").xids(&end.subxacts);
        }
    }

    fn prepare(&mut self, version: PgVersion, origin: u16, prepare: &XactPrepare) {
        self.add("gid ").cstr(&prepare.gid).add(": ");
        self.timestamp(prepare.time);
        self.relations(version, "rels(commit)", &prepare.commit_rels);
        self.relations(version, "rels(abort)", &prepare.abort_rels);
        self.dropped_stats("commit ", &prepare.commit_stats);
        self.dropped_stats("abort ", &prepare.abort_stats);
        if !prepare.subxacts.is_empty() {
            self.add("; subxacts:").xids(&prepare.subxacts);
        }
        let place = InvalidatedIn {
            db: prepare.db,
            tablespace: 0,
            init_file: prepare.init_file_inval,
        };
        self.invalidations(place, &prepare.invals);
        self.replicated_from(version, origin, (origin != 0).then_some(prepare.origin));
    }

    fn relations(&mut self, version: PgVersion, label: &str, rels: &[RelLocator]) {
        if rels.is_empty() {
            return;
        }
        self.add("; ").add(label).add(":");
        for rel in rels {
            self.add(" ").relpath(version, *rel, "main");
        }
    }

    fn dropped_stats(&mut self, when: &str, stats: &[StatsItem]) {
        if stats.is_empty() {
            return;
        }
        self.add("; ").add(when).add("dropped stats:");
        for item in stats {
            let object = u64::from(item.object_high) << 32 | u64::from(item.object);
            self.add(" ").int(item.kind);
            self.add("/").dec(item.db).add("/").dec(object);
        }
    }

    fn replicated_from(&mut self, version: PgVersion, node: u16, origin: Option<Origin>) {
        if let Some(origin) = origin {
            self.add("; origin: node ").dec(node);
            self.add(", lsn ").lsn_of(version, origin.lsn);
            self.add(", at ").timestamp(origin.time);
        }
    }
}
