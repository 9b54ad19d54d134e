//! A conversation with a server. Whatever clients send, the server answers or closes the
//! connection. The server itself keeps running.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use walsim_core::base::{Geometry, PgVersion, Planted, Settings};
use walsim_core::call::NetEvent;
use walsim_core::node::{Node, PmState};
use walsim_core::wire::startup::{StartupMessage, StartupPacket};
use walsim_fuzz::{Drive, Rig, Source, framed};
use walsim_tests::new_cluster;

/// A running server of each version.
static SERVERS: LazyLock<Vec<Rig<Node>>> = LazyLock::new(|| PgVersion::ALL.map(running).into());

fn running(version: PgVersion) -> Rig<Node> {
    let mut settings = Settings::new(version, Geometry::TINY);
    settings.checkpoint_timeout_ms = 3_600_000;
    let disk = new_cluster(&settings);
    let mut rig = Rig::new(Node::boot(settings, 1, 1, Planted::NONE), disk);
    rig.until("the server runs", |rig| {
        rig.machine.view().postmaster_state() == Some(PmState::Run)
    });
    rig
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let version = usize::from(source.byte()) % SERVERS.len();
    let mut rig = SERVERS[version].clone();
    let mut conns = 1;
    let mut conn = rig.accept(conns);
    while !source.is_empty() && !rig.halted {
        let query = |text: &[u8]| framed(b'Q', &[text, &[0]].concat());
        match source.byte() % 16 {
            0 => rig.data(conn, source.counted().to_vec().into()),
            1 | 2 => {
                conns += 1;
                conn = rig.accept(conns);
                let known = ["replication", "database", "options", "application_name"];
                let extra = [source.byte(), source.byte()];
                let mut params = vec![(String::from("user"), String::from("postgres"))];
                for at in extra.into_iter().filter(|at| *at > 0) {
                    let name = known.get(usize::from(at - 1)).copied();
                    let name = name.map_or_else(|| source.text(), String::from);
                    params.push((name, source.text()));
                }
                let pairs: Vec<_> = params
                    .iter()
                    .map(|(a, b)| (a.as_str(), b.as_str()))
                    .collect();
                if pairs
                    .iter()
                    .any(|(a, b)| a.contains('\0') || b.contains('\0'))
                {
                    continue;
                }
                let packet = StartupPacket::Startup(StartupMessage::new(&pairs));
                rig.data(conn, packet.to_bytes());
            }
            3..=6 => rig.data(conn, query(source.counted())),
            7 => rig.data(conn, framed(b'd', source.counted())),
            8 => {
                let mut status = vec![b'r'];
                status.extend_from_slice(source.bytes(33));
                rig.data(conn, framed(b'd', &status));
            }
            9 => {
                let tag = source.byte();
                rig.data(conn, framed(tag, source.counted()));
            }
            10 => rig.pass_ms(source.number(2)),
            11 => {
                rig.pass();
            }
            12 => rig.event(conn, NetEvent::Closed),
            13 => rig.event(conn, NetEvent::Reset),
            14 => rig.stuck = !rig.stuck,
            _ => {
                let n = 1 + u32::from(source.byte()) % conns;
                conn.n = n;
            }
        }
    }
    assert!(!rig.halted, "a client has ended the server");
});
