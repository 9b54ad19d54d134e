//! Serves a real directory. The directory contains a cluster made by walsim-live, or a stopped
//! PostgreSQL cluster whose WAL is sent.

mod cluster;
mod host;
mod lock_file;
mod settings;
mod workload;

pub use cluster::{Cluster, Kind};
pub use host::{Ended, Serving};
pub use settings::{Choice, MARK};

/// Why a directory cannot be served, as a text of one line.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

impl Refusal {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// A file operation failed.
    fn file(what: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        // Rust adds the error number to the text. PostgreSQL's %m does not contain it.
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default();
        Self(format!("could not {what} \"{}\": {reason}", path.display()))
    }
}
