//! Relation files. Mirrors smgrdesc.c.

use super::known;
use super::relpath::fork_name;
use super::text::Text;
use crate::base::PgVersion;
use crate::wire::payload::PayloadError;
use crate::wire::smgr_records::SmgrRecord;

impl Text {
    pub(super) fn smgr_desc(
        &mut self,
        version: PgVersion,
        info: u8,
        main: &[u8],
    ) -> Result<(), PayloadError> {
        match known(SmgrRecord::decode(info, main))? {
            Some(SmgrRecord::Create(create)) => {
                let fork = fork_name(create.fork).ok_or(PayloadError::BadFork(create.fork))?;
                self.relpath(version, create.rel, fork);
            }
            Some(SmgrRecord::Truncate(truncate)) => {
                self.relpath(version, truncate.rel, "main")
                    .add(" to ")
                    .dec(truncate.blocks)
                    .add(" blocks flags ")
                    .int(truncate.flags);
            }
            None => {}
        }
        Ok(())
    }
}
