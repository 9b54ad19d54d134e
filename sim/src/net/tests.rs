//! Tests of the network, one for each guarantee.

use super::direction::as_u64;
use super::*;
use std::collections::BTreeMap;
use walsim_core::call::Refusal;

const A: HostId = 0;
const B: HostId = 1;
const PORT: u16 = 5432;
const CALL: ConnId = ConnId {
    incarnation: 1,
    n: 1,
};
const ANSWER: ConnId = ConnId {
    incarnation: 0,
    n: 1,
};
const SECOND: u64 = 1_000_000;

struct Rig {
    net: Net,
    choices: Choices,
    now: Mono,
}

impl Rig {
    /// Two machines. The second one listens.
    fn new() -> Self {
        let names = ["a".to_owned(), "b".to_owned()];
        let mut net = Net::new(&names, LinkSpec::default());
        net.listen(B, Some(PORT));
        Self {
            net,
            choices: Choices::new(1),
            now: Mono(0),
        }
    }

    /// A connection from the first machine to the second. Both sides are ready to read.
    fn connected() -> Self {
        let mut rig = Self::new();
        rig.connect();
        assert_eq!(
            rig.run(SECOND),
            [(B, NetEvent::Accepted), (A, NetEvent::Connected)]
        );
        rig
    }

    fn connect(&mut self) {
        let host = "b".to_owned();
        self.op(A, CALL, &NetOp::Connect { host, port: PORT });
    }

    fn op(&mut self, host: HostId, conn: ConnId, op: &NetOp) {
        self.net.op(self.now, host, conn, op, &self.choices);
    }

    fn send(&mut self, host: HostId, bytes: &[u8]) {
        let conn = if host == A { CALL } else { ANSWER };
        let pieces = [Bytes::copy_from_slice(bytes), Bytes::new()];
        self.op(host, conn, &NetOp::Send(pieces));
    }

    fn read(&mut self, host: HostId, max: u32) {
        let conn = if host == A { CALL } else { ANSWER };
        self.op(host, conn, &NetOp::Read { max });
    }

    fn close(&mut self, host: HostId) {
        let conn = if host == A { CALL } else { ANSWER };
        self.op(host, conn, &NetOp::Close);
    }

    /// Runs the network for this many microseconds, and returns all events.
    fn run(&mut self, us: u64) -> Vec<(HostId, NetEvent)> {
        let until = self.now.after_us(us);
        let mut events = Vec::new();
        while let Some(at) = self.net.next_time().filter(|at| *at <= until) {
            self.now = at;
            while let Some(delivery) = self.net.pop(at, &self.choices) {
                events.push((delivery.host, delivery.event));
            }
        }
        self.now = until;
        events
    }

    /// Like `run`, but returns only the data that `host` received, as one string.
    fn data(&mut self, us: u64, host: HostId) -> String {
        let mut text = Vec::new();
        for (to, event) in self.run(us) {
            if let NetEvent::Data(bytes) = event {
                assert_eq!(to, host);
                text.extend_from_slice(&bytes);
            }
        }
        String::from_utf8(text).expect("the tests send text")
    }
}

#[test]
fn nobody_listening_means_refused() {
    let mut rig = Rig::new();
    rig.net.listen(B, None);
    rig.connect();
    assert_eq!(rig.run(SECOND), [(A, NetEvent::Refused(Refusal::Refused))]);
    let host = "nowhere".to_owned();
    rig.op(A, CALL, &NetOp::Connect { host, port: PORT });
    assert_eq!(rig.run(SECOND), [(A, NetEvent::Refused(Refusal::Refused))]);
}

#[test]
fn data_arrive_only_against_credit() {
    let mut rig = Rig::connected();
    rig.send(A, b"hello");
    assert_eq!(rig.run(SECOND), []);
    rig.read(B, 2);
    assert_eq!(rig.data(SECOND, B), "he");
    rig.read(B, 100);
    assert_eq!(rig.data(SECOND, B), "llo");
}

#[test]
fn a_header_and_its_payload_arrive_together() {
    let mut rig = Rig::connected();
    rig.read(B, 1 << 20);
    let pieces = [Bytes::from_static(b"head"), Bytes::from(vec![0; 8192])];
    rig.op(A, CALL, &NetOp::Send(pieces));
    let events = rig.run(SECOND);
    assert!(matches!(&events[..], [(B, NetEvent::Data(bytes))] if bytes.len() == 8196));
}

#[test]
fn a_stream_may_be_cut_anywhere_but_keeps_its_order() {
    let mut cut_inside = false;
    for seed in 0..50 {
        let mut rig = Rig::connected();
        rig.choices = Choices::new(seed);
        let spec = LinkSpec {
            fragments: 900,
            ..LinkSpec::default()
        };
        rig.net.set_link(A, B, spec);
        rig.read(B, 1000);
        rig.send(A, b"abcdefghijklmnopqrstuvwxyz");
        rig.send(A, b"0123456789");
        let events = rig.run(SECOND);
        cut_inside |= events.len() > 2;
        let text: Vec<u8> = events
            .iter()
            .flat_map(|(_, event)| {
                let NetEvent::Data(bytes) = event else {
                    panic!("unexpected {event:?}");
                };
                bytes.to_vec()
            })
            .collect();
        assert_eq!(text, b"abcdefghijklmnopqrstuvwxyz0123456789");
    }
    assert!(cut_inside);
}

#[test]
fn a_reader_without_credit_stops_its_sender() {
    let mut rig = Rig::connected();
    let chunk = [7; 16 * 1024];
    // The window accepts the first four chunks. For later chunks the sender gets no notification.
    let mut sent = 0;
    for _ in 0..12 {
        rig.send(A, &chunk);
        for (host, event) in rig.run(SECOND) {
            assert_eq!(host, A);
            let NetEvent::Sent(n) = event else {
                panic!("unexpected {event:?}");
            };
            sent += u64::from(n);
        }
    }
    assert_eq!(sent, WINDOW);
    assert_eq!(rig.run(60 * SECOND), []);
    // Reading frees space in the window, and the sender is notified.
    rig.read(B, 1 << 20);
    let events = rig.run(SECOND);
    assert!(
        events
            .iter()
            .any(|(host, event)| *host == A && matches!(event, NetEvent::Sent(_)))
    );
}

#[test]
fn a_machine_can_stop_reading_for_a_while() {
    let mut rig = Rig::connected();
    rig.read(B, 100);
    rig.net.stop_reading(B);
    rig.send(A, b"hello");
    rig.close(A);
    assert_eq!(rig.run(SECOND), []);
    rig.net.resume_reading(rig.now, B);
    assert_eq!(
        rig.run(SECOND),
        [
            (B, NetEvent::Data(Bytes::from_static(b"hello"))),
            (B, NetEvent::Closed)
        ]
    );
}

#[test]
fn an_orderly_close_brings_the_data_first() {
    let mut rig = Rig::connected();
    rig.send(A, b"bye");
    rig.close(A);
    assert_eq!(rig.run(SECOND), []);
    rig.read(B, 100);
    assert_eq!(
        rig.run(SECOND),
        [
            (B, NetEvent::Data(Bytes::from_static(b"bye"))),
            (B, NetEvent::Closed)
        ]
    );
    rig.send(B, b"too late");
    assert_eq!(rig.run(SECOND), [(B, NetEvent::Reset)]);
    assert!(rig.net.conns.is_empty() && rig.net.ends.is_empty());
}

#[test]
fn a_reset_reaches_both_ends_and_loses_what_is_in_flight() {
    let mut rig = Rig::connected();
    rig.read(B, 100);
    rig.send(A, b"lost");
    assert_eq!(rig.net.reset_between(rig.now, A, B), 1);
    assert_eq!(
        rig.run(SECOND),
        [(A, NetEvent::Reset), (B, NetEvent::Reset)]
    );
}

#[test]
fn a_partition_holds_data_until_it_heals() {
    for (from, to) in [(A, B), (B, A)] {
        let mut rig = Rig::connected();
        rig.read(from, 100);
        rig.read(to, 100);
        rig.net.block(from, to);
        rig.send(from, b"one");
        assert_eq!(rig.data(10 * SECOND, to), "");
        // The direction that is not blocked still works.
        rig.send(to, b"two");
        assert_eq!(rig.data(SECOND, from), "two");
        rig.net.heal(rig.now, from, to, &rig.choices);
        assert_eq!(rig.data(150_000, to), "", "not before a retransmission");
        assert_eq!(rig.data(SECOND, to), "one");
    }
}

#[test]
fn a_partition_catches_what_is_on_the_wire() {
    let mut rig = Rig::connected();
    rig.read(B, 100);
    rig.send(A, b"one");
    rig.net.block(A, B);
    assert_eq!(rig.run(10 * SECOND), []);
    rig.send(A, b"two");
    rig.net.heal(rig.now, A, B, &rig.choices);
    assert_eq!(rig.data(2 * SECOND, B), "onetwo");
}

#[test]
fn a_connection_attempt_waits_out_a_partition_or_gives_up() {
    for (from, to) in [(A, B), (B, A)] {
        let mut rig = Rig::new();
        rig.net.block(from, to);
        rig.connect();
        let before = rig.run(10 * SECOND);
        rig.net.heal(rig.now, from, to, &rig.choices);
        let events: Vec<_> = before.into_iter().chain(rig.run(2 * SECOND)).collect();
        assert_eq!(events, [(B, NetEvent::Accepted), (A, NetEvent::Connected)]);
    }
    let mut rig = Rig::new();
    rig.net.block(A, B);
    rig.connect();
    assert_eq!(
        rig.run(200 * SECOND),
        [(A, NetEvent::Refused(Refusal::Refused))]
    );
}

/// If bytes were lost, later bytes must not arrive as if the stream were complete.
#[test]
fn a_connection_that_breaks_during_a_partition_has_no_hole() {
    let mut rig = Rig::connected();
    rig.read(B, 1 << 20);
    rig.net.block(A, B);
    rig.net.block(B, A);
    rig.send(A, b"lost");
    rig.net.reset_between(rig.now, A, B);
    let told = [(A, NetEvent::Reset), (B, NetEvent::Reset)];
    assert_eq!(rig.run(SECOND / 10), told);
}

#[test]
fn a_peer_without_power_looks_alive_until_it_is_back() {
    let mut rig = Rig::connected();
    rig.net.power_off(B);
    rig.send(A, b"anybody?");
    assert_eq!(rig.run(60 * SECOND), []);
    rig.net.power_on(rig.now, B, &rig.choices);
    assert_eq!(rig.run(2 * SECOND), [(A, NetEvent::Reset)]);
}

#[test]
fn a_silent_peer_learns_of_a_power_loss_when_it_sends() {
    let mut rig = Rig::connected();
    rig.net.power_off(B);
    rig.net.power_on(rig.now, B, &rig.choices);
    rig.send(A, b"hello");
    assert_eq!(rig.run(SECOND), [(A, NetEvent::Reset)]);
    rig.connect();
    assert_eq!(rig.run(SECOND), [(A, NetEvent::Refused(Refusal::Refused))]);
}

#[test]
fn a_peer_that_sends_nothing_learns_of_a_power_loss_by_keepalive() {
    let mut rig = Rig::connected();
    rig.net.power_off(B);
    assert_eq!(rig.run(600 * SECOND), []);
    rig.net.power_on(rig.now, B, &rig.choices);
    assert_eq!(rig.run(9 * SECOND), []);
    assert_eq!(rig.run(2 * SECOND), [(A, NetEvent::Reset)]);
}

#[test]
fn what_left_before_a_power_loss_still_arrives() {
    let mut rig = Rig::connected();
    rig.read(A, 1 << 20);
    rig.send(B, &[b'x'; 100_000]);
    rig.net.power_off(B);
    let text = rig.data(SECOND, A);
    assert_eq!(as_u64(text.len()), WINDOW);
}

#[test]
fn a_stall_ends_in_a_burst() {
    let mut rig = Rig::connected();
    rig.read(B, 1 << 20);
    let until = rig.now.after_us(5 * SECOND);
    rig.net.stall(A, B, until);
    for _ in 0..3 {
        rig.send(A, b"x");
        assert_eq!(rig.run(SECOND), []);
    }
    let start = rig.now;
    let events = rig.run(3 * SECOND);
    assert!(!events.is_empty() && rig.net.next_time().is_none_or(|at| at > start));
    assert_eq!(rig.net.undelivered(A, CALL), 0);
}

#[test]
fn bandwidth_is_shared_and_latency_comes_on_top() {
    let mut rig = Rig::connected();
    let spec = LinkSpec {
        latency_us: 1000,
        jitter_us: 0,
        bytes_per_ms: 10,
        fragments: 0,
        ..LinkSpec::default()
    };
    rig.net.set_link(A, B, spec);
    rig.read(B, 1 << 20);
    rig.send(A, &[b'x'; 100]);
    rig.send(A, &[b'y'; 100]);
    assert_eq!(rig.run(10_999), []);
    assert_eq!(rig.data(1, B).len(), 100);
    assert_eq!(rig.data(9_999, B).len(), 0);
    assert_eq!(rig.data(1, B).len(), 100);
}

#[test]
fn a_latency_can_be_pinned() {
    let mut rig = Rig::connected();
    let pins = BTreeMap::from([("net.latency/a>b/2.0".to_owned(), 100)]);
    rig.choices = Choices::with_pins(1, vec!["a".to_owned(), "b".to_owned()], pins);
    rig.read(B, 10);
    rig.send(A, b"x");
    assert_eq!(rig.run(199), []);
    assert_eq!(rig.data(1, B), "x");
}

#[test]
fn a_fork_goes_the_same_way() {
    let mut rig = Rig::connected();
    rig.read(B, 1000);
    rig.send(A, &[b'x'; 500]);
    let mut fork = Rig {
        net: rig.net.clone(),
        choices: rig.choices.clone(),
        now: rig.now,
    };
    assert_eq!(rig.run(SECOND), fork.run(SECOND));
    assert_eq!(
        crate::trace::state_hash(&rig.net),
        crate::trace::state_hash(&fork.net)
    );
}
