//! The command line of pg_waldump. The accepted options depend on the version of the WAL.

use super::filter::Filter;
use super::getopt::{GetOpt, Long, Opt, Spec, Value};
use super::scanf::{Scan, is_space};
use super::stop::{PROGRAM, Stop};
use walsim_core::base::{Lsn, PgVersion, TimelineId};
use walsim_core::wire::describe::fork_number;
use walsim_core::wire::record::{RelLocator, RmgrId};

/// The last built-in resource manager (`RM_MAX_BUILTIN_ID`).
const LAST_BUILT_IN: u8 = 21;
/// The first resource manager id for extensions (`RM_MIN_CUSTOM_ID`).
const FIRST_CUSTOM: i32 = 128;

/// The unit of a `--stats` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stats {
    PerRmgr,
    PerRecord,
}

/// The parsed options.
pub(super) struct Options {
    pub(super) details: bool,
    pub(super) start: Lsn,
    /// The end position. This is `Lsn::INVALID` if the user gave none.
    pub(super) end: Lsn,
    pub(super) follow: bool,
    pub(super) limit: i32,
    pub(super) path: Option<Vec<u8>>,
    pub(super) quiet: bool,
    pub(super) filter: Filter,
    pub(super) timeline: TimelineId,
    pub(super) stats: Option<Stats>,
    /// The directory for full-page images.
    pub(super) save_fullpage: Option<Vec<u8>>,
    /// STARTSEG and ENDSEG.
    pub(super) files: Vec<Vec<u8>>,
}

/// The letter that stands for `--save-fullpage`, which has no letter of its own.
const SAVE_FULLPAGE: char = '\u{1}';

static SPEC: Spec = Spec {
    long: &[
        long("bkp-details", Value::None, 'b'),
        long("block", Value::Required, 'B'),
        long("end", Value::Required, 'e'),
        long("follow", Value::None, 'f'),
        long("fork", Value::Required, 'F'),
        long("fullpage", Value::None, 'w'),
        long("help", Value::None, '?'),
        long("limit", Value::Required, 'n'),
        long("path", Value::Required, 'p'),
        long("quiet", Value::None, 'q'),
        long("relation", Value::Required, 'R'),
        long("rmgr", Value::Required, 'r'),
        long("start", Value::Required, 's'),
        long("timeline", Value::Required, 't'),
        long("xid", Value::Required, 'x'),
        long("version", Value::None, 'V'),
        long("stats", Value::Optional, 'z'),
        long("save-fullpage", Value::Required, SAVE_FULLPAGE),
    ],
    short: "bB:e:fF:n:p:qr:R:s:t:wx:z",
};

const fn long(name: &'static str, value: Value, letter: char) -> Long {
    Long {
        name,
        value,
        letter,
    }
}

impl Options {
    /// The directory and the first file that the arguments name. Invalid arguments are ignored.
    pub(super) fn places(args: &[Vec<u8>]) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let mut folder = None;
        let mut getopt = GetOpt::new(&SPEC, args);
        while let Ok(Some(opt)) = getopt.next() {
            if opt.letter == 'p' {
                folder = opt.value;
            }
        }
        (folder, getopt.operands().into_iter().next())
    }

    /// Parses the arguments. For `--help`, `--version` and the list of resource managers, writes
    /// the answer to `out` and ends the command.
    pub(super) fn parse(
        args: &[Vec<u8>],
        version: PgVersion,
        out: &mut Vec<u8>,
    ) -> Result<Self, Stop> {
        // As in pg_waldump, these two options are accepted only as the first argument.
        match args.first().map(|arg| &arg[..]) {
            Some(b"--help" | b"-?") => {
                out.extend(help().into_bytes());
                return Err(Stop::Done);
            }
            Some(b"--version" | b"-V") => {
                let version = PgVersion::V15.server_version();
                out.extend(format!("{PROGRAM} (PostgreSQL) {version}\n").into_bytes());
                return Err(Stop::Done);
            }
            None => return Err(Stop::bad_argument("no arguments specified")),
            Some(_) => {}
        }
        let mut options = Self {
            details: false,
            start: Lsn::INVALID,
            end: Lsn::INVALID,
            follow: false,
            limit: -1,
            path: None,
            quiet: false,
            filter: Filter::default(),
            timeline: TimelineId(1),
            stats: None,
            save_fullpage: None,
            files: Vec::new(),
        };
        let mut getopt = GetOpt::new(&SPEC, args);
        while let Some(Opt { letter, value }) = getopt.next().map_err(Stop::BadOption)? {
            match value {
                Some(value) if letter == 't' => options.timeline = timeline(&value, version)?,
                Some(value) => options.with_value(letter, value, out)?,
                None => options.without_value(letter)?,
            }
        }
        options.files = getopt.operands();
        options.check()?;
        Ok(options)
    }

    fn without_value(&mut self, letter: char) -> Result<(), Stop> {
        match letter {
            'b' => self.details = true,
            'f' => self.follow = true,
            'q' => self.quiet = true,
            'w' => self.filter.fullpage = true,
            'z' => self.stats = Some(Stats::PerRmgr),
            // `--help` and `--version` are refused after other options.
            _ => {
                let (error, detail) = (None, None);
                return Err(Stop::BadArgument { error, detail });
            }
        }
        Ok(())
    }

    fn with_value(&mut self, letter: char, text: Vec<u8>, out: &mut Vec<u8>) -> Result<(), Stop> {
        let value = &text[..];
        let shown = String::from_utf8_lossy(value);
        let bad = |what: &str| Stop::bad_argument(format!("{what}: \"{shown}\""));
        let location = || lsn(value).ok_or_else(|| bad("invalid WAL location"));
        match letter {
            'B' => {
                let block = Scan(value).unsigned().filter(|&block| block != u32::MAX);
                self.filter.block = Some(block.ok_or_else(|| bad("invalid block number"))?);
            }
            'e' => self.end = location()?,
            'F' => {
                let fork = fork_number(value);
                self.filter.fork = Some(fork.ok_or_else(|| bad("invalid fork name"))?);
            }
            'n' => {
                self.limit = Scan(value).int(usize::MAX).ok_or_else(|| {
                    let option = "-n/--limit";
                    Stop::bad_argument(format!("invalid value \"{shown}\" for option {option}"))
                })?;
            }
            'p' => self.path = Some(text),
            SAVE_FULLPAGE => self.save_fullpage = Some(text),
            'r' => self.rmgr(value, out)?,
            'R' => self.filter.relation = Some(relation(value)?),
            's' => self.start = location()?,
            'x' => {
                let xid = Scan(value).unsigned();
                let xid = xid.ok_or_else(|| bad("invalid transaction ID specification"))?;
                self.filter.xid = Some(xid);
            }
            _ => {
                self.stats = Some(match value {
                    b"record" => Stats::PerRecord,
                    b"rmgr" => Stats::PerRmgr,
                    _ => {
                        let error = format!("unrecognized value for option --stats: {shown}");
                        return Err(Stop::bad_argument(error));
                    }
                });
            }
        }
        Ok(())
    }

    fn rmgr(&mut self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
        let shown = String::from_utf8_lossy(value);
        if value.eq_ignore_ascii_case(b"list") {
            for id in 0..=LAST_BUILT_IN {
                out.extend(format!("{}\n", RmgrId(id)).into_bytes());
            }
            return Err(Stop::Done);
        }
        let mut scan = Scan(value);
        let custom = scan.literal("custom").and_then(|()| scan.int(3));
        let id = match custom {
            Some(id) => {
                let id = u8::try_from(id)
                    .ok()
                    .filter(|id| i32::from(*id) >= FIRST_CUSTOM);
                id.ok_or_else(|| {
                    let error = format!("custom resource manager \"{shown}\" does not exist");
                    Stop::bad_argument(error)
                })?
            }
            None => (0..=LAST_BUILT_IN)
                .find(|id| {
                    let name = RmgrId(*id).name().unwrap_or_default();
                    value.eq_ignore_ascii_case(name.as_bytes())
                })
                .ok_or_else(|| {
                    let error = format!("resource manager \"{shown}\" does not exist");
                    Stop::bad_argument(error)
                })?,
        };
        self.filter.only_rmgr(RmgrId(id));
        Ok(())
    }

    fn check(&self) -> Result<(), Stop> {
        if self.filter.block.is_some() && self.filter.relation.is_none() {
            let error = "option -B/--block requires option -R/--relation to be specified";
            return Err(Stop::bad_argument(error));
        }
        if let Some(third) = self.files.get(2) {
            let first = String::from_utf8_lossy(third);
            let error = format!("too many command-line arguments (first is \"{first}\")");
            return Err(Stop::bad_argument(error));
        }
        Ok(())
    }
}

/// Since 16 the number may have a base other than 10, and text after the number is an error.
fn timeline(value: &[u8], version: PgVersion) -> Result<TimelineId, Stop> {
    let shown = String::from_utf8_lossy(value);
    let option = "-t/--timeline";
    if version == PgVersion::V15 {
        let tli = Scan(value).unsigned();
        return tli.map(TimelineId).ok_or_else(|| {
            Stop::bad_argument(format!("invalid timeline specification: \"{shown}\""))
        });
    }
    let mut scan = Scan(value);
    let number = scan.unsigned_long();
    if scan.0.iter().any(|byte| !is_space(*byte)) {
        let error = format!("invalid value \"{shown}\" for option {option}");
        return Err(Stop::bad_argument(error));
    }
    let tli = number.and_then(|number| u32::try_from(number).ok());
    tli.filter(|tli| *tli > 0)
        .map(TimelineId)
        .ok_or_else(|| Stop::bad_argument(format!("{option} must be in range 1..{}", u32::MAX)))
}

/// `%X/%X`
fn lsn(value: &[u8]) -> Option<Lsn> {
    let mut scan = Scan(value);
    let high = scan.hex(usize::MAX)?;
    scan.literal("/")?;
    let low = scan.hex(usize::MAX)?;
    Some(Lsn(u64::from(high) << 32 | u64::from(low)))
}

fn relation(value: &[u8]) -> Result<RelLocator, Stop> {
    let mut scan = Scan(value);
    let mut scan = || -> Option<RelLocator> {
        let spc = scan.unsigned()?;
        scan.literal("/")?;
        let db = scan.unsigned()?;
        scan.literal("/")?;
        let rel = scan.unsigned()?;
        Some(RelLocator { spc, db, rel })
    };
    let relation = scan().filter(|rel| rel.spc != 0 && rel.rel != 0);
    relation.ok_or_else(|| {
        let shown = String::from_utf8_lossy(value);
        Stop::BadArgument {
            error: Some(format!("invalid relation specification: \"{shown}\"")),
            detail: Some("Expecting \"tablespace OID/database OID/relation filenode\"."),
        }
    })
}

fn help() -> String {
    format!(
        "\
{PROGRAM} decodes and displays PostgreSQL write-ahead logs for debugging.

Usage:
  {PROGRAM} [OPTION]... [STARTSEG [ENDSEG]]

Options:
  -b, --bkp-details      output detailed information about backup blocks
  -B, --block=N          with --relation, only show records that modify block N
  -e, --end=RECPTR       stop reading at WAL location RECPTR
  -f, --follow           keep retrying after reaching end of WAL
  -F, --fork=FORK        only show records that modify blocks in fork FORK;
                         valid names are main, fsm, vm, init
  -n, --limit=N          number of records to display
  -p, --path=PATH        directory in which to find log segment files or a
                         directory with a ./pg_wal that contains such files
                         (default: current directory, ./pg_wal, $PGDATA/pg_wal)
  -q, --quiet            do not print any output, except for errors
  -r, --rmgr=RMGR        only show records generated by resource manager RMGR;
                         use --rmgr=list to list valid resource manager names
  -R, --relation=T/D/R   only show records that modify blocks in relation T/D/R
  -s, --start=RECPTR     start reading at WAL location RECPTR
  -t, --timeline=TLI     timeline from which to read log records
                         (default: 1 or the value used in STARTSEG)
  -V, --version          output version information, then exit
  -w, --fullpage         only show records with a full page write
  -x, --xid=XID          only show records with transaction ID XID
  -z, --stats[=record]   show statistics instead of records
                         (optionally, show per-record statistics)
  --save-fullpage=DIR    save full page images to DIR
  -?, --help             show this help, then exit

All of this is as pg_waldump has it. Beyond it:
  WAL of PostgreSQL 15 to 19 is read, with the names, words and options of its version;
  --save-fullpage is there for 15, too.
  STARTSEG and ENDSEG may be .partial files, which are read as the segments that they begin.
  With --follow each record is written when it is there.
  Times are printed in UTC, whatever TZ says.
"
    )
}
