//! `walsim-live serve`

use super::Refusal;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use walsim_live::serve::{Choice, Cluster, Kind, Serving};

#[derive(clap::Args)]
#[command(
    about = "Run a server, or send the WAL of a stopped one",
    long_about = "\
Run a server, or send the WAL of a stopped one.

An empty or absent directory becomes a new cluster, whose settings are in its file walsim.toml. For a PostgreSQL cluster
that was shut down, only walsenders run, and no file but postmaster.pid is changed. SIGTERM, SIGINT and SIGQUIT request
a smart, fast or immediate shutdown; SIGHUP reloads walsim.toml."
)]
pub(super) struct Args {
    /// The data directory
    #[arg(short = 'D', value_name = "DIR")]
    dir: PathBuf,
    /// The port to listen on; 0 chooses a free port. The address is printed
    #[arg(long)]
    port: u16,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Commit this number of transactions per second; only for a cluster made by walsim-live
    #[arg(long, value_name = "COMMITS_PER_S", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    workload: Option<u32>,
    /// A setting, by PostgreSQL's name; for a new cluster also pg_version and segment
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = Choice::parse)]
    set: Vec<Choice>,
}

/// Runs the command. Returns true after an orderly shutdown.
pub(super) fn run(args: &Args) -> Result<bool, Refusal> {
    let failed = |e: walsim_live::serve::Refusal| Refusal::Failed(e.to_string());
    let addr = resolve(&args.host, args.port)?;
    let cluster = Cluster::open(&args.dir, &args.set).map_err(failed)?;
    if cluster.kind == Kind::Stopped && args.workload.is_some() {
        let text =
            "--workload requires a cluster made by walsim-live; of this one only the WAL is sent";
        return Err(Refusal::Usage(text.into()));
    }
    let serving = Serving::start(cluster, args.set.clone(), addr, args.workload).map_err(failed)?;
    say(&format!("listening on {}", serving.addr()));
    let ended = serving
        .run()
        .map_err(|e| Refusal::Failed(format!("could not continue: {e}")))?;
    if let Some(count) = ended.acknowledged {
        say(&format!("{count} transactions were acknowledged"));
    }
    Ok(ended.orderly)
}

/// Prints a result. A closed stdout is not an error.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, Refusal> {
    let found = (host, port).to_socket_addrs().map(|mut addrs| addrs.next());
    match found {
        Ok(Some(addr)) => Ok(addr),
        Ok(None) => Err(Refusal::Failed(format!("host \"{host}\" has no address"))),
        Err(e) => Err(Refusal::Failed(format!(
            "could not translate host name \"{host}\" to address: {e}"
        ))),
    }
}
