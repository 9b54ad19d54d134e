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

An empty or absent directory becomes a cluster of our own, whose settings are kept in its file walsim.toml. In the
directory of a real PostgreSQL that was shut down only walsenders run, and nothing changes but postmaster.pid.
SIGTERM, SIGINT and SIGQUIT mean a smart, a fast and an immediate shutdown, SIGHUP reads walsim.toml again."
)]
pub(super) struct Args {
    /// The data directory
    #[arg(short = 'D', value_name = "DIR")]
    dir: PathBuf,
    /// The port to listen on; 0 takes a free one. What was taken is printed
    #[arg(long)]
    port: u16,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Keep committing so many transactions a second, in a cluster of our own
    #[arg(long, value_name = "COMMITS_PER_S", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    workload: Option<u32>,
    /// A setting by PostgreSQL's name; for a new cluster also pg_version and segment
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = Choice::parse)]
    set: Vec<Choice>,
}

/// True after an orderly shutdown.
pub(super) fn run(args: &Args) -> Result<bool, Refusal> {
    let failed = |e: walsim_live::serve::Refusal| Refusal::Failed(e.to_string());
    let addr = resolve(&args.host, args.port)?;
    let cluster = Cluster::open(&args.dir, &args.set).map_err(failed)?;
    if cluster.kind == Kind::Stopped && args.workload.is_some() {
        let text = "--workload needs a cluster of our own: this one only has its WAL sent";
        return Err(Refusal::Usage(text.into()));
    }
    let serving = Serving::start(cluster, args.set.clone(), addr, args.workload).map_err(failed)?;
    say(&format!("listening on {}", serving.addr()));
    let ended = serving
        .run()
        .map_err(|e| Refusal::Failed(format!("could not go on: {e}")))?;
    if let Some(count) = ended.acknowledged {
        say(&format!("{count} transactions were acknowledged"));
    }
    Ok(ended.orderly)
}

/// Results; a reader that has gone away is no error.
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
