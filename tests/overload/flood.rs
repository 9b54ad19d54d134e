//! Sends 20,001 messages of one kind at once, for each kind of message and of session. The server
//! must answer each message like the first one, within its memory limit.

use crate::client::{Client, FLOOD, KINDS, Kind, SESSIONS};
use crate::serve::{Serve, log_of};
use crate::server::Folder;
use std::fs;
use walsim_core::wire::backend::{BackendMessage, TxStatus};

/// Memory limit of the server, in kB.
const MOST_MEMORY: u64 = 64 * 1024;

#[test]
fn every_message_of_a_flood_is_answered_15() {
    flood("15");
}

#[test]
fn every_message_of_a_flood_is_answered_18() {
    flood("18");
}

fn flood(version: &str) {
    let folder = Folder::new(&format!("flood-{version}"));
    let data = folder.path().join("data");
    let server = Serve::start(&data, &["--set", &format!("pg_version={version}")]);
    for replication in SESSIONS {
        for kind in KINDS {
            let what = format!("{version}, replication={replication}, {kind:?}");
            let mut client = Client::session(server.port, replication);
            client.say(&kind.once());
            let once = client.until_ready();
            let answer = match kind {
                // The Sync at the end is answered like the other messages.
                Kind::Sync | Kind::Terminate => {
                    assert_eq!(client.until_ready().len(), 1, "{what}");
                    once
                }
                // The server answers only the Sync at the end.
                Kind::Flush | Kind::CopyData | Kind::CopyDone => once[..once.len() - 1].to_vec(),
                Kind::Query(_) => {
                    assert_eq!(client.until_ready().len(), 1, "{what}");
                    once
                }
            };
            client.say_all(kind.flood());
            for n in 0..FLOOD {
                for expected in &answer {
                    assert_eq!(client.next().as_ref(), Some(expected), "{what}: number {n}");
                }
            }
            if matches!(kind, Kind::Terminate) {
                assert_eq!(client.rest(), [], "{what}");
            } else {
                let ready = BackendMessage::ReadyForQuery(TxStatus::Idle);
                assert_eq!(client.next(), Some(ready), "{what}");
                client.finish();
                assert_eq!(client.rest(), [], "{what}");
            }
        }
    }
    assert_memory(&server);
    assert!(server.stop("INT").success(), "{}", log_of(&data));
}

/// Checks the peak memory of the server.
pub(crate) fn assert_memory(server: &Serve) {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it lives");
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|text| text.trim().strip_suffix(" kB"))
        .and_then(|text| text.trim().parse::<u64>().ok())
        .expect("Linux tells it");
    println!("peak memory: {peak} kB");
    assert!(peak < MOST_MEMORY, "peak memory {peak} kB");
}
