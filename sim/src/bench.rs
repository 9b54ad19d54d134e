//! The workloads of `walsim bench`: the fixed seeds of a profile, single codecs, and plans of
//! growing size. The command itself measures the time.

use crate::plan::{Plan, Profile, generate};
use crate::world::{Outcome, Verdict};
use bytes::Bytes;
use walsim_core::base::{
    Geometry, PgVersion, Planted, Probe, SegmentNo, TimelineId, TimestampTz, Xid,
};
use walsim_core::wal::{Next, PageIdent, WalBuilder, WalError, WalReader};
use walsim_core::wire::logical_message::LogicalMessage;
use walsim_core::wire::record::{RecordBody, RmgrId, checksum};
use walsim_core::wire::xact_records::{XactEnd, XactOp};

/// The seeds of a bench.
pub const SEEDS: std::ops::Range<u64> = 0..2000;

/// Totals over the runs of a bench.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Runs that had enough activity to count.
    pub counted: u64,
    /// Runs that did not pass.
    pub failures: u64,
    /// Steps.
    pub steps: u64,
    /// Acknowledged commits.
    pub commits: u64,
    /// Bytes of WAL.
    pub wal_bytes: u64,
    /// Faults that took effect.
    pub faults: u64,
    /// Simulated microseconds.
    pub sim_us: u64,
}

impl Totals {
    /// Adds a run. The run counts if it acknowledged at least 100 commits and filled 4 segments. In
    /// a profile with faults, at least 2 faults must also have taken effect.
    pub fn add(&mut self, profile: Profile, outcome: &Outcome) {
        let least_faults = match profile {
            Profile::Default => 2,
            Profile::Faultless => 0,
        };
        let counts =
            outcome.commits >= 100 && outcome.segments >= 4 && outcome.faults >= least_faults;
        self.runs += 1;
        self.counted += u64::from(counts);
        self.failures += u64::from(outcome.verdict != Verdict::Pass);
        self.steps += outcome.steps;
        self.commits += outcome.commits;
        self.wal_bytes += outcome.wal_bytes;
        self.faults += outcome.faults;
        self.sim_us += outcome.sim_us;
    }
}

/// A plan without faults, with `nodes` nodes and `times` times as many commits as usual.
#[must_use]
pub fn grown(seed: u64, nodes: usize, times: u32) -> Plan {
    let mut plan = generate(Profile::Faultless, seed);
    let standby = plan.nodes[1].clone();
    plan.nodes.truncate(1);
    for n in 1..nodes {
        let mut node = standby.clone();
        node.name = format!("standby{n}");
        node.settings.cluster_name.clone_from(&node.name);
        plan.nodes.push(node);
    }
    for node in &mut plan.nodes {
        node.settings.max_wal_senders = 16;
    }
    for row in &mut plan.workload {
        row.transactions *= times;
        row.pause_us /= u64::from(times);
    }
    plan
}

/// A codec to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// Assembles records, and writes the records to pages.
    WalWrite,
    /// Reads records from pages, and checks and decodes the records.
    WalRead,
    /// Computes the checksum only.
    Checksum,
}

impl Codec {
    /// All codecs.
    pub const ALL: [Self; 3] = [Self::WalWrite, Self::WalRead, Self::Checksum];

    /// The name in the output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WalWrite => "wal-write",
            Self::WalRead => "wal-read",
            Self::Checksum => "crc32c",
        }
    }
}

/// A sample of WAL for measuring codecs. Like replicated WAL, it contains small and large records.
#[derive(Debug)]
pub struct Sample {
    bodies: Vec<RecordBody>,
    wal: Bytes,
    records: Vec<Bytes>,
}

const ROUND: usize = 400;

impl Default for Sample {
    fn default() -> Self {
        let bodies: Vec<_> = (0..ROUND).map(body).collect();
        let wal = write(&bodies);
        let mut records = Vec::new();
        for body in &bodies {
            let mut record = body.assemble(Geometry::STOCK.data_page);
            record.finish(walsim_core::base::Lsn(8));
            records.push(Bytes::copy_from_slice(record.bytes()));
        }
        Self {
            bodies,
            wal: Bytes::from(wal),
            records,
        }
    }
}

impl Sample {
    /// Processes the sample once, and returns the number of bytes processed.
    ///
    /// # Panics
    /// If the codec does not reach the end of the sample.
    #[must_use]
    pub fn pass(&self, codec: Codec) -> usize {
        match codec {
            Codec::WalWrite => write(&self.bodies).len(),
            Codec::WalRead => {
                assert_eq!(read(&self.wal), self.bodies.len(), "the sample is good");
                self.wal.len()
            }
            Codec::Checksum => {
                let sum = self
                    .records
                    .iter()
                    .map(|r| u64::from(checksum(r)))
                    .sum::<u64>();
                assert_ne!(sum, 0, "checksums are not all zero");
                self.records.iter().map(Bytes::len).sum()
            }
        }
    }
}

fn body(n: usize) -> RecordBody {
    if n.is_multiple_of(4) {
        let end = XactEnd::new(XactOp::Commit, TimestampTz(0));
        let main = end.encode(PgVersion::V18);
        return RecordBody::new(RmgrId::TRANSACTION, end.info(), Xid(9), main);
    }
    let len = if n.is_multiple_of(50) {
        20_000
    } else {
        60 + n % 300
    };
    let message = LogicalMessage {
        db: 5,
        transactional: false,
        prefix: b"bench\0"[..].into(),
        message: vec![b'x'; len].into(),
    };
    RecordBody::new(RmgrId::LOGICAL_MESSAGE, 0, Xid(9), message.encode())
}

fn write(bodies: &[RecordBody]) -> Vec<u8> {
    let ident = PageIdent {
        version: PgVersion::V18,
        tli: TimelineId(1),
        sysid: 1,
        removable: true,
    };
    let mut wal = WalBuilder::new(Geometry::STOCK, ident, SegmentNo(1));
    for body in bodies {
        wal.append(body);
    }
    wal.bytes().to_vec()
}

fn read(wal: &Bytes) -> usize {
    let geometry = Geometry::STOCK;
    let start = geometry.segment_start(SegmentNo(1));
    let mut reader = WalReader::new(geometry, PgVersion::V18, None);
    let mut probe = Probe::new(Planted::NONE);
    reader.find_next_record(start);
    let mut count = 0;
    loop {
        match reader.next(&mut probe) {
            Next::Record(_) => count += 1,
            Next::Need { page, .. } => {
                let from = usize::try_from(page - start).expect("within the sample");
                let to = (from + geometry.wal_page as usize).min(wal.len());
                if from < to {
                    reader.feed(page, wal.slice(from..to));
                } else {
                    reader.feed_failed(WalError::Unavailable(page));
                }
            }
            Next::End(_) => return count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_works_through_the_sample() {
        let sample = Sample::default();
        for codec in Codec::ALL {
            assert!(sample.pass(codec) > 100_000, "{}", codec.name());
        }
    }

    #[test]
    fn a_grown_plan_has_its_nodes_and_commits() {
        let (one, ten) = (grown(1, 3, 1), grown(1, 12, 10));
        assert_eq!((one.nodes.len(), ten.nodes.len()), (3, 12));
        assert_eq!(
            ten.workload[0].transactions,
            10 * one.workload[0].transactions
        );
        assert_eq!(ten.nodes[11].settings.cluster_name, "standby11");
    }
}
