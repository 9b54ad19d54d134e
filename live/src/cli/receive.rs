//! `walsim-live receive`

use super::{Refusal, log};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use walsim_core::base::{Lsn, Now, Pid};
use walsim_core::call::{Exit, Input, LogEvent, Message, ReceiveMessage, Severity};
use walsim_core::node::{PgReceivewal, PgReceivewalOptions};
use walsim_live::driver::Host;
use walsim_live::receive::{Config, parse_with, run as receive};

const PROGRAM: &str = "walsim-live";
/// The interval at which the progress display is updated.
const DRAW: Duration = Duration::from_millis(200);

/// Like pg_receivewal. The name of each finished segment is printed to stdout when the segment is
/// durable under this name.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Args {
    /// Connection string: key=value pairs of libpq, or a postgresql:// URI. Missing values are
    /// taken from PGHOST and the other environment variables of libpq
    #[arg(short = 'd', long = "dbname", value_name = "CONNSTR")]
    conninfo: Option<String>,
    /// Database server host or socket directory
    #[arg(short = 'h', long, value_name = "HOSTNAME")]
    host: Option<String>,
    /// Database server port number
    #[arg(short = 'p', long, allow_negative_numbers = true)]
    port: Option<String>,
    /// Connect as specified database user
    #[arg(short = 'U', long, value_name = "NAME")]
    username: Option<String>,
    /// Accepted for compatibility: there is never a password prompt
    #[arg(short = 'w', long)]
    no_password: bool,
    /// Refused: passwords are not supported
    #[arg(short = 'W', long, conflicts_with = "no_password")]
    password: bool,
    /// Receive into this directory, which must exist
    #[arg(short = 'D', long = "directory", value_name = "DIR")]
    directory: PathBuf,
    /// Replication slot to use
    #[arg(short = 'S', long, value_name = "SLOTNAME")]
    slot: Option<String>,
    /// Create the replication slot first
    #[arg(long, requires = "slot")]
    create_slot: bool,
    /// Do not error if the slot already exists when creating it
    #[arg(long)]
    if_not_exists: bool,
    /// Flush and report write-ahead log immediately after writing
    #[arg(long)]
    synchronous: bool,
    /// Time between status packets sent to the server, in seconds or with a unit (ms, s, min); 0
    /// sends none
    #[arg(short = 's', long, value_name = "TIME", default_value = "10", value_parser = interval_ms, allow_negative_numbers = true)]
    status_interval: u32,
    /// Exit after receiving the specified LSN
    #[arg(short = 'E', long, value_name = "LSN", value_parser = lsn)]
    endpos: Option<Lsn>,
    /// Do not loop on connection lost
    #[arg(short = 'n', long)]
    no_loop: bool,
    /// Output verbose messages
    #[arg(short = 'v', long)]
    verbose: bool,
    /// Print the time before each message
    #[arg(long)]
    timestamps: bool,
    /// Print help
    #[arg(short = '?', long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// Runs the command. Returns true if the receiver ended in an orderly way.
pub(super) fn run(args: &Args) -> Result<bool, Refusal> {
    if args.password {
        let text = "-W/--password is not supported";
        return Err(Refusal::Usage(text.into()));
    }
    let text = args.conninfo.as_deref().unwrap_or_default();
    let options = [
        ("host", &args.host),
        ("port", &args.port),
        ("user", &args.username),
    ];
    let options = options
        .into_iter()
        .filter_map(|(keyword, value)| Some((keyword, value.as_deref()?)));
    let conninfo = parse_with(text, options, PROGRAM);
    let conninfo = conninfo.map_err(|e| Refusal::Usage(e.to_string()))?;
    let dir = &args.directory;
    if let Err(e) = std::fs::read_dir(dir) {
        let dir = dir.display();
        let text = format!("could not open directory \"{dir}\": {e}");
        return Err(Refusal::Failed(text));
    }
    let config = Config {
        options: PgReceivewalOptions {
            conninfo,
            slot: args.slot.clone(),
            create_slot: args.create_slot,
            slot_exists_ok: args.if_not_exists,
            synchronous: args.synchronous,
            no_loop: args.no_loop,
            endpos: args.endpos.unwrap_or(Lsn::INVALID),
        },
        status_interval_ms: args.status_interval,
    };
    let exit = receive(config, dir, Terminal::new(args.verbose, args.timestamps));
    let exit = exit.map_err(|e| Refusal::Failed(e.to_string()))?;
    Ok(exit == Some(Exit::Normal))
}

fn lsn(text: &str) -> Result<Lsn, String> {
    let wrong = || format!("could not parse end position \"{text}\"");
    text.parse().map_err(|_| wrong())
}

fn interval_ms(text: &str) -> Result<u32, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "min" => Some(60_000),
        _ => None,
    };
    let ms = number.parse().ok().zip(factor);
    let ms = ms.and_then(|(number, factor): (u32, u32)| number.checked_mul(factor));
    // PostgreSQL stores intervals as int.
    let ms = ms.filter(|ms| i32::try_from(*ms).is_ok());
    ms.ok_or_else(|| "expected a number of seconds, or a number with the unit ms, s or min".into())
}

/// Prints the receiver's messages. If stderr is a terminal, also shows the progress.
struct Terminal {
    verbose: bool,
    timestamps: bool,
    bar: ProgressBar,
    drawn: Option<(Instant, Lsn)>,
}

impl Terminal {
    fn new(verbose: bool, timestamps: bool) -> Self {
        let bar = ProgressBar::no_length();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self {
            verbose,
            timestamps,
            bar,
            drawn: None,
        }
    }

    fn draw(&mut self, machine: &PgReceivewal) {
        if self.bar.is_hidden() {
            return;
        }
        let now = Instant::now();
        let before = self.drawn.filter(|(at, _)| now - *at < DRAW);
        if before.is_some() {
            return;
        }
        let Some((written, flushed)) = machine.received().filter(|(at, _)| at.is_valid()) else {
            return;
        };
        let message = match self.drawn.replace((now, written)) {
            Some((at, from)) if from <= written && from.is_valid() => {
                let ms = u64::try_from((now - at).as_millis())
                    .unwrap_or(u64::MAX)
                    .max(1);
                let rate = (written - from).saturating_mul(1000) / ms / 1024;
                format!("written {written}, durable {flushed}, {rate} kB/s")
            }
            _ => format!("written {written}, durable {flushed}"),
        };
        self.bar.set_message(message);
        self.bar.tick();
    }
}

impl Host<PgReceivewal> for Terminal {
    fn input(&mut self, machine: &mut PgReceivewal, _: Now, _: &Input) {
        self.draw(machine);
    }

    fn idle(&mut self, machine: &PgReceivewal) {
        // Before a pause, shows the newest position if it has not been shown yet.
        let shown = self.drawn.map(|(_, at)| at);
        if machine.received().map(|(at, _)| at) != shown {
            self.drawn = None;
        }
        self.draw(machine);
    }

    fn log(&mut self, _: Pid, event: &LogEvent) {
        if let Message::Receive(message) = &event.message {
            if let ReceiveMessage::Finished { name, .. } = message {
                // A closed stdout is no reason to stop receiving.
                let _ = writeln!(std::io::stdout(), "{name}");
            }
            if message.is_verbose() && !self.verbose {
                return;
            }
        }
        let label = match event.severity {
            Severity::Log => "",
            Severity::Warning => "warning: ",
            Severity::Error | Severity::Fatal | Severity::Panic => "error: ",
        };
        let stamp = match self.timestamps {
            true => log::timestamp() + " ",
            false => String::new(),
        };
        let mut text = format!("{stamp}{PROGRAM}: {label}{}\n", event.message);
        if let Message::Receive(message) = &event.message
            && let Some(hint) = message.hint()
        {
            text += &format!("{stamp}{PROGRAM}: hint: {hint}\n");
        }
        self.bar.suspend(|| {
            let _ = std::io::stderr().write_all(text.as_bytes());
        });
    }
}
