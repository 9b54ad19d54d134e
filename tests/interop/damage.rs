//! Damaged segments: each byte of two pages changed, damaged headers, truncated files, lost and
//! stale pages.
//!
//! pg_waldump and `walsim waldump` must list the same records and report the same error.

use super::dumps::Dumps;
use super::server::{Folder, Server, Stop, run};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use walsim_core::base::{Geometry, Lsn};

const PAGE: usize = 8192;
const SEGMENT: usize = 1 << 20;
/// The number of threads. Two are enough, because each case runs two programs.
const WORKERS: usize = 2;

/// A kind of damage.
#[derive(Clone, Copy, Debug)]
enum Damage {
    /// A byte is changed by XOR with another byte.
    Xor(usize, u8),
    /// The file is truncated at this length.
    Truncated(usize),
    /// A page is zero, as if it was never written.
    Zeroed(usize),
    /// A page has the content of a recycled segment.
    Stale(usize),
}

/// A segment to damage.
struct Sample {
    name: String,
    bytes: Vec<u8>,
    /// The previous segment. A recycled file would contain its bytes.
    stale: Vec<u8>,
    /// The position of the first record in the segment. If a byte is changed, the programs read the
    /// file only up to `soon`.
    first: String,
    soon: String,
}

impl Damage {
    /// All cases. The cases with a changed byte come first.
    fn all() -> Vec<Self> {
        let flipped = (0..40).chain(PAGE..3 * PAGE);
        let flipped = flipped.flat_map(|at| [0x01, 0x80].map(|mask| Self::Xor(at, mask)));
        let truncated = (0..SEGMENT).step_by(512).map(Self::Truncated);
        let pages = (0..SEGMENT / PAGE).flat_map(|page| [Self::Zeroed(page), Self::Stale(page)]);
        flipped.chain(truncated).chain(pages).collect()
    }

    fn apply(self, file: &File, sample: &Sample) {
        let done = match self {
            Self::Xor(at, mask) => file.write_all_at(&[sample.bytes[at] ^ mask], at as u64),
            Self::Truncated(len) => file.set_len(len as u64),
            Self::Zeroed(page) => file.write_all_at(&[0; PAGE], (page * PAGE) as u64),
            Self::Stale(page) => {
                let at = page * PAGE;
                file.write_all_at(&sample.stale[at..at + PAGE], at as u64)
            }
        };
        done.expect("our own file");
    }

    /// Restores the file.
    fn undo(self, file: &File, sample: &Sample) {
        let (from, to) = match self {
            Self::Xor(at, _) => (at, at + 1),
            Self::Truncated(len) => (len, SEGMENT),
            Self::Zeroed(page) | Self::Stale(page) => (page * PAGE, (page + 1) * PAGE),
        };
        let written = file.write_all_at(&sample.bytes[from..to], from as u64);
        written.expect("our own file");
    }
}

/// Compares every `step`th case.
pub(crate) fn compare(bin: &Path, step: usize) {
    let folder = Folder::new("waldump-damage");
    let sample = Sample::make(bin, folder.path());
    let cases = Damage::all();
    // After every eight cases the selection shifts by one. Without this shift, some masks and some
    // bytes of a field would never be selected.
    let chosen = (0..cases.len()).filter(|n| (n + n / 8) % step == 0);
    let chosen: Vec<_> = chosen.map(|n| cases[n]).collect();
    let failed = in_parallel(&chosen, |worker, cases| {
        sample.run(bin, &folder.path().join(format!("worker{worker}")), cases)
    });
    let shown = failed[..failed.len().min(10)].join("\n");
    assert!(
        failed.is_empty(),
        "{} of {} cases:\n{shown}",
        failed.len(),
        chosen.len()
    );
    println!("{} cases of damage agree", chosen.len());
}

#[expect(
    clippy::disallowed_methods,
    reason = "programs are run, nothing is simulated"
)]
fn in_parallel(
    cases: &[Damage],
    work: impl Fn(usize, &[Damage]) -> Vec<String> + Sync,
) -> Vec<String> {
    let share = cases.len().div_ceil(WORKERS);
    std::thread::scope(|scope| {
        let shares = cases.chunks(share).enumerate();
        let workers = shares.map(|(n, cases)| {
            scope.spawn({
                let work = &work;
                move || work(n, cases)
            })
        });
        let workers: Vec<_> = workers.collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .flat_map(|failed| failed.expect("it does not panic"))
            .collect()
    })
}

impl Sample {
    /// A segment of a busy server, with images and small records.
    fn make(bin: &Path, folder: &Path) -> Self {
        let data = folder.join("data");
        let mut server = Server::init(bin, &data, &["--wal-segsize=1"], "wal_keep_size=1GB");
        server.start();
        run(server.client("pgbench").args(["-i", "-q", "postgres"]));
        server.psql("CHECKPOINT");
        let before: Lsn = server
            .psql("SELECT pg_current_wal_lsn()")
            .parse()
            .expect("an LSN");
        run(server.client("pgbench").args(["-n", "-T", "2", "postgres"]));
        server.stop(Stop::Fast);

        let start = Geometry::STOCK.segment_of(before).0 + 1;
        let start = Lsn(start * SEGMENT as u64);
        let read = |lsn: Lsn| {
            let name = Server::segment_of(&lsn.to_string());
            let bytes = fs::read(data.join("pg_wal").join(&name)).expect("pgbench filled it");
            assert_eq!(bytes.len(), SEGMENT);
            (name, bytes)
        };
        let (_, stale) = read(Lsn(start.0 - SEGMENT as u64));
        let (name, bytes) = read(start);
        let dumps = Dumps::new(bin, folder);
        let first = dumps
            .agree(&["-n", "1", &format!("data/pg_wal/{name}")])
            .stdout;
        let first = String::from_utf8_lossy(&first).into_owned();
        let (_, first) = first.split_once("lsn: ").expect("one record");
        let (first, _) = first.split_once(',').expect("one record");
        Self {
            name,
            bytes,
            stale,
            first: first.into(),
            soon: (start + 6 * PAGE as u64).to_string(),
        }
    }

    /// Runs cases in a folder. Returns the differences that were found.
    fn run(&self, bin: &Path, folder: &Path, cases: &[Damage]) -> Vec<String> {
        fs::create_dir(folder).expect("our own folder");
        fs::write(folder.join(&self.name), &self.bytes).expect("our own folder");
        let file = File::options().write(true).open(folder.join(&self.name));
        let file = file.expect("just written");
        let dumps = Dumps::new(bin, folder);
        let failed = cases.iter().filter_map(|case| {
            case.apply(&file, self);
            let mut args = vec!["-s", &self.first, &self.name];
            if matches!(case, Damage::Xor(..)) {
                args.extend(["-e", &self.soon]);
            }
            let (theirs, ours) = (dumps.theirs(&args), dumps.ours(&args));
            case.undo(&file, self);
            let difference = theirs.difference(&ours)?;
            Some(format!("{case:?}: {difference}"))
        });
        failed.collect()
    }
}
