//! Prints the events of `tracing` on stderr if `WALSIM_LOG` is set.

use super::refusal::Refusal;
use std::io::IsTerminal;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Subscribes to the events that `WALSIM_LOG` selects, such as `walsim=info` or
/// `walsim::log=warn,walsim::violation=error`.
#[expect(
    clippy::disallowed_methods,
    reason = "the filter selects what is printed; it does not change a run"
)]
pub(super) fn subscribe() -> Result<(), Refusal> {
    let Some(filter) = std::env::var_os("WALSIM_LOG") else {
        return Ok(());
    };
    let text = filter.to_string_lossy();
    let targets: Targets = text.parse().map_err(|error| {
        Refusal::new(format!("WALSIM_LOG={text}: {error}"))
            .help("write a level, or targets with levels, such as walsim=info,walsim::log=warn")
    })?;
    // Events contain simulated time. The time of day would differ between two equal runs.
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_filter(targets);
    tracing_subscriber::registry().with(lines).init();
    Ok(())
}
