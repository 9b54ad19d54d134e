//! Peers that try to exhaust the server's connections, memory or time.

use crate::client::{Client, Kind, startup};
use crate::flood::assert_memory;
use crate::serve::{Serve, log_of};
use crate::server::Folder;
use walsim_core::wire::backend::BackendMessage;

/// How many clients send commands and do not read the answers.
const SLOW: usize = 20;

/// Checks that another client can use a session.
fn assert_serves(server: &Serve) {
    for replication in ["false", "true"] {
        let mut client = Client::session(server.port, replication);
        client.say(&Kind::Query("SHOW wal_level").once());
        let answer = client.until_ready();
        assert!(
            matches!(answer[1], BackendMessage::DataRow(_)),
            "{answer:?}"
        );
    }
}

/// 50 messages claim a length of 300 MB each, and only a few of their bytes are sent. The claimed
/// length costs no memory.
#[test]
fn a_claimed_length_costs_no_memory() {
    let folder = Folder::new("claims");
    let data = folder.path().join("data");
    let server = Serve::start(&data, &["--set", "max_wal_senders=100"]);
    let claims: Vec<Client> = (0..50)
        .map(|n| {
            let replication = if n % 2 == 0 { "false" } else { "true" };
            let mut client = Client::session(server.port, replication);
            let tag = [b'Q', b'd', b'F', b'P', b'B'][n % 5];
            client.say(&[&[tag][..], &300_000_000u32.to_be_bytes(), &[b'x'; 1000]].concat());
            client
        })
        .collect();
    assert_serves(&server);
    assert_memory(&server);
    drop(claims);
    assert!(server.stop("INT").success(), "{}", log_of(&data));
}

/// A message of 8 MB that arrives in pieces of a few bytes costs about 8 MB of memory.
#[test]
fn pieces_of_a_message_are_joined() {
    let folder = Folder::new("pieces");
    let data = folder.path().join("data");
    let server = Serve::start(&data, &[]);
    let mut client = Client::session(server.port, "true");
    let len = 8u32 << 20;
    client.say(&[&b"d"[..], &(len + 4).to_be_bytes()].concat());
    for _ in 0..len / 64 {
        client.say(&[b'x'; 64]);
    }
    client.say(&Kind::Sync.once());
    assert_eq!(client.until_ready().len(), 1);
    assert_memory(&server);
    assert!(server.stop("INT").success(), "{}", log_of(&data));
}

/// Some clients do not read their answers. Other clients are not delayed, and the server's memory
/// stays within its limit.
#[test]
fn slow_readers_do_not_delay_others() {
    let folder = Folder::new("slow");
    let data = folder.path().join("data");
    let server = Serve::start(&data, &["--set", "max_wal_senders=100"]);
    let mut slow: Vec<Client> = (0..SLOW)
        .map(|n| {
            let replication = if n % 2 == 0 { "false" } else { "true" };
            let client = Client::session(server.port, replication);
            client.say_all(Kind::Query("SHOW server_version").flood());
            client
        })
        .collect();
    assert_serves(&server);
    // One of the slow clients starts to read, and gets all its answers.
    let mut answers = 0;
    while answers < crate::client::FLOOD {
        let answer = slow[0].until_ready();
        assert_eq!(answer.len(), 4, "{answer:?}");
        answers += 1;
    }
    assert_serves(&server);
    assert_memory(&server);
    drop(slow);
    assert!(server.stop("INT").success(), "{}", log_of(&data));
}

/// A standby that requests replies and does not read them.
#[test]
fn a_standby_asks_and_does_not_read() {
    let folder = Folder::new("asks");
    let data = folder.path().join("data");
    let server = Serve::start(&data, &[]);
    let mut client = Client::session(server.port, "true");
    client.query("START_REPLICATION 0/100000");
    assert_eq!(client.next(), Some(BackendMessage::copy_both()));
    let mut status = vec![b'd', 0, 0, 0, 38, b'r'];
    status.resize(38, 0);
    status.push(1);
    client.say_all(status.repeat(400_000));
    assert_serves(&server);
    // All replies arrive, possibly with WAL in between.
    let mut keepalives = 0;
    while keepalives < 400_000 {
        match client.next() {
            Some(BackendMessage::CopyData(payload)) => {
                keepalives += usize::from(payload[0] == b'k')
            }
            other => panic!("{other:?}"),
        }
    }
    assert_memory(&server);
    // If the standby stayed connected, the shutdown would wait until the standby has confirmed the
    // end of WAL.
    drop(client);
    assert!(server.stop("INT").success(), "{}", log_of(&data));
}

/// The server refuses sessions beyond the limits. When a session has ended, a new one is accepted.
#[test]
fn connections_beyond_the_limits_are_refused() {
    for (version, quote) in [("15", ""), ("18", "\"")] {
        let folder = Folder::new(&format!("connections-{version}"));
        let data = folder.path().join("data");
        let server = Serve::start(
            &data,
            &[
                "--set",
                &format!("pg_version={version}"),
                "--set",
                "max_connections=5",
                "--set",
                "max_wal_senders=3",
            ],
        );
        let senders = format!(
            "number of requested standby connections exceeds {quote}max_wal_senders{quote} (currently 3)"
        );
        let cases = [
            ("false", 5, "sorry, too many clients already"),
            ("true", 3, &*senders),
        ];
        let mut held = Vec::new();
        for (replication, room, text) in cases {
            for _ in 0..room {
                held.push(Client::session(server.port, replication));
            }
            let mut late = Client::connect(server.port);
            late.say(&startup(replication));
            match &late.rest()[..] {
                [BackendMessage::ErrorResponse(fields)] => {
                    assert_eq!(
                        (&fields.severity[..], fields.sqlstate),
                        ("FATAL", *b"53300")
                    );
                    assert_eq!(fields.message, text);
                }
                other => panic!("{other:?}"),
            }
        }
        // Connections that have sent no startup packet do not count against the limit. Here they
        // are ten times as many as the limit.
        let silent: Vec<Client> = (0..80).map(|_| Client::connect(server.port)).collect();
        let mut first = held.remove(0);
        first.say(&Kind::Query("SHOW wal_level").once());
        assert_eq!(first.until_ready().len(), 4);
        drop((held, first, silent));
        // The room for a session is free only when the server has noticed the end of the old
        // session.
        crate::server::wait_for("room", || {
            let mut client = Client::connect(server.port);
            client.say(&startup("true"));
            client.until_ready().len() > 1
        });
        assert_memory(&server);
        assert!(server.stop("INT").success(), "{}", log_of(&data));
    }
}
