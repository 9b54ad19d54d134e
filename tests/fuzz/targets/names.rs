//! File names, flags and connection strings.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use walsim::disk::{Content, Disk, DiskSpec};
use walsim::plan::{Overrides, Profile, duration_us, seed, show_size, show_us, signed_us, size};
use walsim_core::base::{
    Geometry, Lsn, PgVersion, SegmentNo, Settings, TimelineId, duration_us as core_duration,
    setting_named,
};
use walsim_core::call::NetEvent;
use walsim_core::node::{ConnInfo, PgReceivewal, PgReceivewalOptions};
use walsim_core::wal::names::{WalFile, parse_segment_name, segment_name};
use walsim_core::wire::backend::{BackendMessage, TxStatus};
use walsim_core::wire::command::Command;
use walsim_core::wire::sql::Statement;
use walsim_fuzz::{Drive, Rig, Source};

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    match source.byte() % 4 {
        0 => directory(&mut source),
        1 => flags(&String::from_utf8_lossy(source.0)),
        2 => commands(&String::from_utf8_lossy(source.0)),
        _ => names(&String::from_utf8_lossy(source.0)),
    }
});

/// Checks that a name which can be parsed is printed as the same name.
fn names(text: &str) {
    for segment in [1 << 20, 1 << 24, 1 << 30] {
        let geometry = Geometry {
            segment,
            ..Geometry::STOCK
        };
        if let Some(file) = WalFile::parse(&geometry, text) {
            assert_eq!(file.name(&geometry), text);
        }
        if let Some((tli, number)) = parse_segment_name(&geometry, text) {
            assert_eq!(segment_name(&geometry, tli, number), text);
            let start = geometry.segment_start(number);
            assert_eq!(geometry.segment_of(start), number);
        }
        let _ = segment_name(&geometry, TimelineId(u32::MAX), SegmentNo(u64::MAX));
    }
}

fn flags(text: &str) {
    let _ = walsim_live::receive::parse(text, "fuzz");
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse(), Ok(lsn));
        let geometry = Geometry::STOCK;
        let _ = (geometry.segment_before(lsn), lsn.align8());
    }
    if let Ok(us) = duration_us(text) {
        let _ = (core_duration(&show_us(us)), signed_us(text));
    }
    if let Ok(bytes) = size(text) {
        assert_eq!(size(&show_size(bytes)), Ok(bytes));
    }
    let _ = seed(text);
    if let Ok(overrides) = Overrides::parse([text]) {
        let mut plan = walsim::plan::generate(Profile::Default, 1);
        overrides.apply(&mut plan);
        let _ = overrides.generate(Profile::Default, 1);
    }
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    for version in PgVersion::ALL {
        set(version, name, value);
    }
}

/// Sets a setting, first by the rules of a configuration file, and then by those of a plan. A
/// plan's value is read back from its text.
fn set(version: PgVersion, name: &str, value: &str) {
    let mut settings = Settings::new(version, Geometry::STOCK);
    let shows = settings.show(name).is_some();
    if settings.set(name, value).is_ok() {
        assert_eq!(settings.show(name).is_some(), shows);
    }
    let Some(setting) = setting_named(name) else {
        return;
    };
    let mut exact = Settings::new(version, Geometry::STOCK);
    if setting.set_exactly(&mut exact, value).is_ok() {
        let text = setting.exact_text(&exact);
        let mut again = Settings::new(version, Geometry::STOCK);
        assert_eq!(setting.set_exactly(&mut again, &text), Ok(()), "{text}");
        assert_eq!(setting.exact_text(&again), text);
    }
}

fn commands(text: &str) {
    let _ = Statement::parse(text);
    for version in PgVersion::ALL {
        let _ = Command::parse(text, version);
    }
}

/// Lets a receiver find its start position, for any contents of its directory.
fn directory(source: &mut Source<'_>) {
    let mut disk = Disk::new(0, DiskSpec::default(), 512, 1 << 40);
    let size = 1u64 << (20 + source.byte() % 11);
    for _ in 0..1 + source.byte() % 4 {
        let kind = source.byte();
        let name = if kind % 2 == 0 {
            let suffix = ["", ".partial", ".gz", ".gz.partial", ".lz4"];
            let numbers = [source.number(4), source.number(4), source.number(4)];
            let [tli, high, low] = numbers;
            let suffix = suffix[usize::from(source.byte()) % suffix.len()];
            format!("{tli:08X}{high:08X}{low:08X}{suffix}")
        } else {
            source.text()
        };
        if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
            continue;
        }
        let mut content = Content::new(source.counted());
        if kind & 4 == 0 {
            content.zero(40, size - 40);
        }
        disk.set_up_file(&name, content);
    }
    let settings = Settings::new(PgVersion::V18, Geometry::STOCK);
    let options = PgReceivewalOptions {
        conninfo: ConnInfo {
            host: String::from("server"),
            port: 5432,
            user: String::from("postgres"),
            application_name: String::from("receiver"),
            connect_timeout_ms: 0,
            has_password: false,
        },
        slot: None,
        create_slot: false,
        slot_exists_ok: false,
        synchronous: true,
        no_loop: true,
        endpos: Lsn::INVALID,
    };
    let mut rig = Rig::new(PgReceivewal::start(settings, options, 1), disk);
    rig.settle();
    let ready = BackendMessage::ReadyForQuery(TxStatus::Idle);
    let version = BackendMessage::ParameterStatus {
        name: String::from("server_version"),
        value: String::from("18.0"),
    };
    let row = |values: [&str; 3]| {
        BackendMessage::DataRow(
            values
                .map(|v| Some(Bytes::copy_from_slice(v.as_bytes())))
                .into(),
        )
    };
    let at = Lsn(source.number(8)).to_string();
    let shown = format!("{}MB", size >> 20);
    let shown = BackendMessage::DataRow(vec![Some(shown.into())]);
    let Some(conn) = rig.opened else { return };
    rig.event(conn, NetEvent::Connected);
    for messages in [
        vec![BackendMessage::AuthenticationOk, version, ready.clone()],
        vec![row(["7", "1", &at]), ready.clone()],
        vec![shown, ready.clone()],
        vec![BackendMessage::copy_both()],
    ] {
        let mut out = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut out));
        rig.data(conn, out.into());
    }
}
