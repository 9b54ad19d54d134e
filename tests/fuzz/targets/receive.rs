//! A conversation with a receiver. Whatever the server sends, the receiver continues, retries, or
//! ends with a message.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use walsim::disk::{Content, Disk, DiskSpec};
use walsim_core::base::{Geometry, Lsn, PgVersion, Settings, TimestampTz};
use walsim_core::call::{Input, NetEvent, Refusal, Signal};
use walsim_core::node::{ConnInfo, PgReceivewal, PgReceivewalOptions};
use walsim_core::wire::backend::{BackendMessage, ErrorFields, TxStatus};
use walsim_core::wire::replication::{Keepalive, WalMessage, XLogDataHeader};
use walsim_fuzz::{Drive, Rig, Source, framed};

fn options(bits: u8, endpos: u64) -> PgReceivewalOptions {
    let has = |bit: u8| bits & bit != 0;
    PgReceivewalOptions {
        conninfo: ConnInfo {
            host: String::from("server"),
            port: 5432,
            user: String::from("postgres"),
            application_name: String::from("receiver"),
            connect_timeout_ms: if has(1) { 5000 } else { 0 },
            has_password: has(4),
        },
        slot: has(2).then(|| String::from("backup")),
        create_slot: has(2) && has(4),
        slot_exists_ok: has(8),
        synchronous: has(16),
        no_loop: has(32),
        endpos: if has(64) { Lsn(endpos) } else { Lsn::INVALID },
    }
}

fn started(source: &mut Source<'_>) -> Rig<PgReceivewal> {
    let bits = source.byte();
    let endpos = if bits & 64 == 0 { 0 } else { source.number(8) };
    let mut disk = Disk::new(0, DiskSpec::default(), 128, 1 << 32);
    if bits & 128 != 0 {
        for _ in 0..source.byte() % 4 {
            let name = source.text();
            if !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != ".." {
                let mut content = Content::new(source.counted());
                content.zero(100, u64::from(source.byte()) << 13);
                disk.set_up_file(&name, content);
            }
        }
    }
    let geometry = Geometry::new(512, 4 * 512, 1024, 128).expect("sound sizes");
    let settings = Settings::new(PgVersion::V18, geometry);
    let machine = PgReceivewal::start(settings, options(bits, endpos), 1);
    let mut rig = Rig::new(machine, disk);
    rig.settle();
    rig
}

fn row(source: &mut Source<'_>) -> BackendMessage {
    let value = |source: &mut Source<'_>| match source.byte() {
        0 => None,
        _ => Some(Bytes::copy_from_slice(source.counted())),
    };
    BackendMessage::DataRow((0..source.byte() % 8).map(|_| value(source)).collect())
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let mut rig = started(&mut source);
    while !source.is_empty() && !rig.halted {
        let Some(conn) = rig.opened else {
            rig.pass();
            let _ = source.byte();
            continue;
        };
        let say = |rig: &mut Rig<PgReceivewal>, messages: &[BackendMessage]| {
            let mut out = Vec::new();
            messages.iter().for_each(|message| message.encode(&mut out));
            rig.data(conn, out.into());
        };
        let ready = BackendMessage::ReadyForQuery(TxStatus::Idle);
        let written = rig.machine.received().map_or(Lsn::INVALID, |(at, _)| at);
        match source.byte() % 20 {
            0 => rig.data(conn, Bytes::copy_from_slice(source.counted())),
            1 => rig.event(conn, NetEvent::Connected),
            2 => {
                let version = BackendMessage::ParameterStatus {
                    name: String::from("server_version"),
                    value: source.text().replace('\0', ""),
                };
                say(
                    &mut rig,
                    &[BackendMessage::AuthenticationOk, version, ready],
                );
            }
            3 | 4 => {
                let row = row(&mut source);
                say(&mut rig, &[row, ready]);
            }
            5 => say(&mut rig, &[BackendMessage::copy_both()]),
            // WAL at the expected position, or near it.
            6..=8 => {
                let header = XLogDataHeader {
                    start: written,
                    wal_end: Lsn(source.number(1)),
                    send_time: TimestampTz(0),
                };
                let len = usize::try_from(source.number(2)).expect("two bytes");
                let message = WalMessage::XLogData(header, vec![7; len].into());
                rig.data(conn, message.to_frame());
            }
            9 => {
                let header = XLogDataHeader {
                    start: Lsn(source.number(8)),
                    wal_end: Lsn(source.number(8)),
                    send_time: TimestampTz(0),
                };
                let data = Bytes::copy_from_slice(source.counted());
                rig.data(conn, WalMessage::XLogData(header, data).to_frame());
            }
            10 => {
                let keepalive = WalMessage::Keepalive(Keepalive {
                    wal_end: Lsn(source.number(8)),
                    send_time: TimestampTz(0),
                    reply_requested: source.byte() % 2 == 0,
                });
                rig.data(conn, keepalive.to_frame());
            }
            11 => say(&mut rig, &[BackendMessage::CopyDone]),
            12 => {
                let row = row(&mut source);
                let tag = BackendMessage::CommandComplete(String::from("START_REPLICATION"));
                say(&mut rig, &[BackendMessage::CopyDone, row, tag, ready]);
            }
            13 => {
                let code = [b"58P01", b"XX000", b"57P01", b"42710"][usize::from(source.byte() % 4)];
                let mut fields = ErrorFields::new("ERROR", *code, source.text().replace('\0', ""));
                let routine = ["StartReplication", "tliSwitchPoint", "CheckXLogRemoved"];
                let routine = routine.get(usize::from(source.byte()));
                fields
                    .others
                    .extend(routine.map(|name| (b'R', String::from(*name))));
                say(&mut rig, &[BackendMessage::ErrorResponse(fields), ready]);
            }
            14 => {
                let tag = source.byte();
                rig.data(conn, framed(tag, source.counted()));
            }
            15 => rig.event(conn, NetEvent::Closed),
            16 => rig.event(conn, NetEvent::Reset),
            17 => rig.event(conn, NetEvent::Refused(Refusal::Refused)),
            18 => {
                rig.pass();
            }
            _ => {
                let ms = source.number(2);
                if ms == 0 {
                    let pid = rig.machine.pid();
                    rig.input(Input::Signal(pid, Signal::Term));
                }
                rig.pass_ms(ms);
            }
        }
    }
});
