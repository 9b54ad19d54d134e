//! The same conversations with a real PostgreSQL and with a simulated server of the same version.
//! The real server has version 15, unless `WALSIM_PG_BIN` selects another version. Both servers
//! must send the same bytes, except for values that differ between any two servers ([`mask`]).
//!
//! The client sends a whole conversation, then stops sending and reads to the end. The result
//! therefore does not depend on time. `conversations.txt` contains the conversations, `mask.rs`
//! lists the values that may differ, and [`DIFFERENT`] lists the known differences.

mod mask;
#[path = "../interop/serve.rs"]
mod serve;
#[path = "../interop/server.rs"]
mod server;
mod talk;

use serve::{Serve, log_of};
use server::{Folder, Server, Stop, server_bin, version_of};
use talk::{Conversation, conversations, play};
use walsim_core::base::PgVersion;

/// The conversations with known differences, each with the first version in which it differs and
/// the reason.
const DIFFERENT: [(&str, PgVersion, &str); 8] = [
    (
        "list of slots",
        PgVersion::V15,
        "a column of a view carries the OID that initdb gave to the view",
    ),
    (
        "base backup",
        PgVersion::V15,
        "there is no BASE_BACKUP; a HINT says so",
    ),
    (
        "upload of a manifest",
        PgVersion::V17,
        "there is no UPLOAD_MANIFEST; a HINT says so",
    ),
    (
        "logical slot in a database",
        PgVersion::V19,
        "there is no logical decoding, which works with wal_level = replica since 19",
    ),
    (
        "extended query",
        PgVersion::V15,
        "sessions speak the simple query protocol alone",
    ),
    (
        "function call",
        PgVersion::V15,
        "sessions speak the simple query protocol alone",
    ),
    (
        "select of a constant",
        PgVersion::V15,
        "no SELECT but of a few functions; a HINT says so",
    ),
    (
        "unknown role",
        PgVersion::V15,
        "every client is taken for a superuser",
    ),
];

#[test]
fn answers_equal_those_of_postgresql() {
    let Some(bin) = server_bin() else {
        return;
    };
    let version = version_of(&bin);
    let folder = Folder::new("conversations");
    let settings = "timezone='Etc/UTC'\nautovacuum=off\ncheckpoint_timeout=1d\nwal_keep_size=1GB";
    let theirs = folder.path().join("theirs");
    let mut real = Server::init(&bin, &theirs, &["--wal-segsize=1"], settings);
    real.start();
    let data = folder.path().join("ours");
    let ours = Serve::start(
        &data,
        &[
            "--set",
            &format!("pg_version={}", version.major()),
            "--set",
            "segment=1MB",
            "--set",
            "checkpoint_timeout=1d",
            "--set",
            "wal_keep_size=1GB",
        ],
    );
    let all = conversations();
    assert!(all.len() >= 120, "{} conversations", all.len());
    assert!(DIFFERENT.len() <= 8);
    let mut wrong = Vec::new();
    for conversation in &all {
        let differs = difference(conversation, real.port(), ours.port);
        let reason = DIFFERENT
            .iter()
            .find(|(name, since, _)| *name == conversation.name && *since <= version);
        match (differs, reason) {
            (None, None) | (Some(_), Some(_)) => {}
            (None, Some(_)) => wrong.push(format!("{}: is listed, and equal", conversation.name)),
            (Some(text), None) => wrong.push(format!("{}\n{text}", conversation.name)),
        }
    }
    for (name, ..) in DIFFERENT {
        assert!(all.iter().any(|c| c.name == name), "{name} is not there");
    }
    let differ = DIFFERENT.iter().filter(|(_, since, _)| *since <= version);
    println!("{} conversations, {} differ", all.len(), differ.count());
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        all.len(),
        wrong.join("\n")
    );
    assert!(ours.stop("INT").success(), "{}", log_of(&data));
    real.stop(Stop::Fast);
}

/// Both answers, from the first message that differs. Returns `None` if the answers are equal.
fn difference(conversation: &Conversation, real: u16, ours: u16) -> Option<String> {
    let [theirs, ours] = [real, ours].map(|port| mask::masked(&play(conversation, port)));
    let at = (0..theirs.len().max(ours.len())).find(|n| theirs.get(*n) != ours.get(*n))?;
    let show = |messages: &[String]| {
        let mut rest = messages.iter().skip(at).take(3).cloned();
        let first = rest.next().unwrap_or_else(|| "end of the stream".into());
        [first]
            .into_iter()
            .chain(rest)
            .collect::<Vec<_>>()
            .join("\n          ")
    };
    Some(format!(
        "  message {at}\n  theirs: {}\n  ours:   {}",
        show(&theirs),
        show(&ours)
    ))
}
