//! Paths of a relation's files. Mirrors common/relpath.c (GetRelationPath, forkNames).

use super::text::Text;
use crate::base::PgVersion;
use crate::wire::control_file::versions;
use crate::wire::record::RelLocator;

/// The tablespace of shared catalogs (`GLOBALTABLESPACE_OID`).
const GLOBAL: u32 = 1664;
/// The default tablespace (`DEFAULTTABLESPACE_OID`).
const DEFAULT: u32 = 1663;
const FORK_NAMES: [&str; 4] = ["main", "fsm", "vm", "init"];

/// The name of a fork, or `None` if the number is invalid.
#[must_use]
pub fn fork_name(fork: u32) -> Option<&'static str> {
    let fork = usize::try_from(fork).ok()?;
    FORK_NAMES.get(fork).copied()
}

/// The fork with this name (`forkname_to_number`).
#[must_use]
pub fn fork_number(name: &[u8]) -> Option<u8> {
    (0..4).find(|&fork| fork_name(u32::from(fork)).is_some_and(|n| n.as_bytes() == name))
}

impl Text {
    /// Adds the path of a relation's fork, relative to the data directory (`relpathperm`).
    pub fn relpath(&mut self, version: PgVersion, rel: RelLocator, fork: &str) -> &mut Self {
        match rel.spc {
            GLOBAL => self.add("global/"),
            DEFAULT => self.add("base/").dec(rel.db).add("/"),
            tablespace => self
                .add("pg_tblspc/")
                .dec(tablespace)
                .add("/PG_")
                .dec(version.major())
                .add("_")
                .dec(versions(version).1)
                .add("/")
                .dec(rel.db)
                .add("/"),
        };
        self.dec(rel.rel);
        if fork != FORK_NAMES[0] {
            self.add("_").add(fork);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_by_tablespace_and_fork() {
        for (version, spc, fork, expected) in [
            (PgVersion::V15, 1664, "main", "global/16384"),
            (PgVersion::V15, 1663, "init", "base/5/16384_init"),
            (
                PgVersion::V15,
                9,
                "main",
                "pg_tblspc/9/PG_15_202209061/5/16384",
            ),
            (
                PgVersion::V18,
                9,
                "vm",
                "pg_tblspc/9/PG_18_202506291/5/16384_vm",
            ),
        ] {
            let (db, rel) = (5, 16384);
            let mut text = Text::default();
            text.relpath(version, RelLocator { spc, db, rel }, fork);
            assert_eq!(text.bytes, expected.as_bytes());
        }
        assert_eq!((fork_number(b"vm"), fork_number(b"VM")), (Some(2), None));
        assert_eq!((fork_name(3), fork_name(4)), (Some("init"), None));
    }
}
