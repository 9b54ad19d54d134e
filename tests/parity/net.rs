//! The promises of `NetOp` and `NetEvent`. Each has a test.

use crate::fake::FakeNet;
use crate::real::RealNet;
use bytes::Bytes;
use walsim_core::base::ConnId;
use walsim_core::call::{NetEvent, NetOp, SEND_WINDOW};

/// One of the two machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// The machine that connects.
    Caller,
    /// The machine that listens.
    Callee,
}

impl End {
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Caller => 0,
            Self::Callee => 1,
        }
    }
}

/// Two machines and the network between them.
pub(crate) trait Network: Sized {
    fn new() -> Self;

    /// The address at which the second machine listens.
    fn address(&self) -> (String, u16);

    /// An address at which nothing listens.
    fn deaf_address(&self) -> (String, u16);

    /// An address through which the second machine can also be reached. The test can break a
    /// connection to this address.
    fn fragile_address(&mut self) -> (String, u16);

    /// Breaks a connection that uses the fragile address.
    fn break_it(&mut self);

    fn call(&mut self, end: End, conn: ConnId, op: NetOp);

    /// Waits until nothing more happens.
    fn settle(&mut self);

    /// The events of a machine since the last call.
    fn take(&mut self, end: End) -> Vec<(ConnId, NetEvent)>;
}

/// Both ends of one connection.
struct Pair<N> {
    net: N,
    conns: [ConnId; 2],
    ends: [Heard; 2],
}

/// What one end has done, and the events that it has got.
#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    /// Lengths of the received pieces.
    pieces: Vec<usize>,
    credit: u64,
    sent: u64,
    freed: u64,
    closed: u32,
    reset: u32,
}

fn connect<N: Network>(net: &mut N, n: u32, (host, port): (String, u16)) -> ConnId {
    let conn = ConnId { incarnation: 1, n };
    net.call(End::Caller, conn, NetOp::Connect { host, port });
    net.settle();
    conn
}

impl<N: Network> Pair<N> {
    fn new() -> Self {
        let net = N::new();
        let address = net.address();
        Self::at(net, address)
    }

    fn at(mut net: N, address: (String, u16)) -> Self {
        let caller = connect(&mut net, 1, address);
        assert_eq!(net.take(End::Caller), [(caller, NetEvent::Connected)]);
        let accepted = net.take(End::Callee);
        let [(callee, NetEvent::Accepted)] = accepted[..] else {
            panic!("{accepted:?}")
        };
        Self {
            net,
            conns: [caller, callee],
            ends: [Heard::default(), Heard::default()],
        }
    }

    fn act(&mut self, end: End, op: NetOp) {
        let heard = &mut self.ends[end.index()];
        match &op {
            NetOp::Read { max } => heard.credit += u64::from(*max),
            NetOp::Send(pieces) => heard.sent += pieces.iter().map(|p| p.len() as u64).sum::<u64>(),
            NetOp::Connect { .. } | NetOp::HandOver(_) | NetOp::Close => {}
        }
        let conn = self.conns[end.index()];
        self.net.call(end, conn, op);
    }

    fn send(&mut self, end: End, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        self.act(end, NetOp::Send([bytes, Bytes::new()]));
    }

    fn read(&mut self, end: End, max: u32) {
        self.act(end, NetOp::Read { max });
    }

    fn close(&mut self, end: End) {
        self.act(end, NetOp::Close);
    }

    /// Lets the network run. Checks what must be true at every time.
    fn settle(&mut self) {
        self.net.settle();
        for end in [End::Caller, End::Callee] {
            for (conn, event) in self.net.take(end) {
                assert_eq!(conn, self.conns[end.index()]);
                let heard = &mut self.ends[end.index()];
                assert_eq!(heard.reset, 0, "{event:?} behind the end");
                // If an end sends after the peer has closed, this end can get a reset.
                let late = event == NetEvent::Reset && heard.sent > 0;
                assert!(heard.closed == 0 || late, "{event:?} behind the end");
                match event {
                    NetEvent::Data(bytes) => {
                        assert!(!bytes.is_empty(), "an event without bytes");
                        let len = bytes.len() as u64;
                        assert!(len <= heard.credit, "{len} bytes against {}", heard.credit);
                        heard.credit -= len;
                        heard.pieces.push(bytes.len());
                        heard.bytes.extend_from_slice(&bytes);
                    }
                    NetEvent::Sent(n) => {
                        assert!(n > 0);
                        heard.freed += u64::from(n);
                        assert!(heard.freed <= heard.sent, "more left than was sent");
                    }
                    NetEvent::Closed => heard.closed += 1,
                    NetEvent::Reset => heard.reset += 1,
                    NetEvent::Accepted | NetEvent::Connected | NetEvent::Refused(_) => {
                        panic!("{event:?} once more")
                    }
                }
            }
        }
    }

    fn of(&self, end: End) -> &Heard {
        &self.ends[end.index()]
    }

    /// Whether output is pending, as `pq_is_send_pending` would say.
    fn pending(&self, end: End) -> bool {
        let heard = self.of(end);
        heard.sent - heard.freed > u64::from(SEND_WINDOW)
    }
}

fn noise(len: usize) -> Vec<u8> {
    let byte = |n: usize| u8::try_from((n * 7 + n / 251) % 256).expect("a byte");
    (0..len).map(byte).collect()
}

/// Makes two tests of each function below. One test uses the simulated network, and the other real
/// sockets.
macro_rules! against_both {
    ($($(#[$about:meta])* fn $name:ident<N: Network>() $body:block)*) => {
        $($(#[$about])*
        fn $name<N: Network>() $body)*

        mod fake_network {
            $(#[test]
            fn $name() {
                super::$name::<super::FakeNet>();
            })*
        }

        mod real_sockets {
            $(#[test]
            fn $name() {
                super::$name::<super::RealNet>();
            })*
        }
    };
}

against_both! {
    fn without_a_listener_a_connection_is_refused<N: Network>() {
        let mut net = N::new();
        let address = net.deaf_address();
        let conn = connect(&mut net, 1, address);
        let told = net.take(End::Caller);
        assert!(matches!(told[..], [(to, NetEvent::Refused(_))] if to == conn), "{told:?}");
        assert_eq!(net.take(End::Callee), []);
        // The refused connection does not affect the next one.
        let address = net.address();
        let conn = connect(&mut net, 2, address);
        assert_eq!(net.take(End::Caller), [(conn, NetEvent::Connected)]);
    }

    /// If the receiver has allowed no bytes (no credit), no bytes are delivered.
    fn nothing_arrives_without_credit<N: Network>() {
        for (from, to) in [(End::Caller, End::Callee), (End::Callee, End::Caller)] {
            let mut pair = Pair::<N>::new();
            pair.send(from, b"hello");
            pair.settle();
            assert_eq!(pair.of(to).bytes, b"");
            for (credit, text) in [(2, "he"), (1, "hel"), (100, "hello")] {
                pair.read(to, credit);
                pair.settle();
                assert_eq!(pair.of(to).bytes, text.as_bytes());
            }
            // A receiver that has allowed more bytes than have arrived has unused credit. Unused
            // credit adds up, and applies to later bytes.
            pair.read(to, 4);
            pair.send(from, &noise(200));
            pair.settle();
            assert_eq!(pair.of(to).bytes.len(), 2 + 1 + 100 + 4);
        }
    }

    /// All bytes arrive in order in both directions, whatever pieces are sent and however many
    /// bytes the receiver allows at a time.
    fn bytes_arrive_in_order<N: Network>() {
        let mut pair = Pair::<N>::new();
        let ends = [(End::Caller, End::Callee), (End::Callee, End::Caller)];
        let text = noise(400_000);
        let mut at = 0;
        for n in 1.. {
            let len = (n * n * 37 % 9001).min(text.len() - at);
            let head = Bytes::copy_from_slice(&text[at..at + len / 3]);
            let tail = Bytes::copy_from_slice(&text[at + len / 3..at + len]);
            at += len;
            for (from, to) in ends {
                pair.act(from, NetOp::Send([head.clone(), tail.clone()]));
                pair.read(to, u32::try_from(n * 311 % 7001).expect("small"));
            }
            if n % 16 == 0 {
                pair.settle();
            }
            if at == text.len() {
                break;
            }
        }
        for (_, to) in ends {
            pair.read(to, 400_000);
        }
        pair.settle();
        for (_, to) in ends {
            assert!(pair.of(to).bytes == text, "{to:?} got something else");
        }
    }

    /// If a sender is faster than the reader, its output becomes pending. All bytes arrive when the
    /// other end reads.
    fn a_slow_reader_makes_output_pending<N: Network>() {
        let mut pair = Pair::<N>::new();
        let text = noise(16 << 20);
        for piece in text.chunks(1 << 20) {
            pair.send(End::Caller, piece);
        }
        pair.settle();
        assert!(pair.pending(End::Caller), "nothing holds the sender up");
        let stuck = pair.of(End::Caller).freed;
        pair.settle();
        assert_eq!(pair.of(End::Caller).freed, stuck);
        while pair.of(End::Callee).bytes.len() < text.len() {
            let before = pair.of(End::Callee).bytes.len();
            pair.read(End::Callee, 4 << 20);
            pair.settle();
            let got = pair.of(End::Callee).bytes.len() - before;
            assert_eq!(got, (text.len() - before).min(4 << 20), "all that was asked for");
        }
        assert!(pair.of(End::Callee).bytes == text);
        assert!(!pair.pending(End::Caller), "what has arrived is not pending");
    }

    /// The end of the stream comes once, after the last byte. It is delivered even if the receiver
    /// has allowed no more bytes.
    fn the_end_comes_last<N: Network>() {
        let mut pair = Pair::<N>::new();
        let text = noise(300_000);
        pair.send(End::Caller, &text);
        pair.close(End::Caller);
        pair.settle();
        assert_eq!(pair.of(End::Callee).closed, 0, "before what was said");
        pair.read(End::Callee, 299_999);
        pair.settle();
        assert_eq!((pair.of(End::Callee).bytes.len(), pair.of(End::Callee).closed), (299_999, 0));
        pair.read(End::Callee, 1);
        pair.settle();
        assert!(pair.of(End::Callee).bytes == text);
        assert_eq!((pair.of(End::Callee).closed, pair.of(End::Callee).reset), (1, 0));
    }

    fn the_end_needs_no_credit<N: Network>() {
        for (from, to) in [(End::Caller, End::Callee), (End::Callee, End::Caller)] {
            let mut pair = Pair::<N>::new();
            pair.close(from);
            pair.settle();
            assert_eq!((pair.of(to).closed, pair.of(to).bytes.len()), (1, 0));
            assert_eq!((pair.of(from).closed, pair.of(from).reset), (0, 0), "it is gone");
        }
    }

    /// Bytes that were sent before a close arrive. This holds even if the other end keeps sending
    /// and has not read anything yet.
    fn what_was_sent_before_a_close_arrives<N: Network>() {
        let mut pair = Pair::<N>::new();
        let text = noise(40_000);
        pair.read(End::Callee, 10);
        pair.send(End::Callee, &noise(5000));
        pair.settle();
        pair.send(End::Caller, &text);
        pair.close(End::Caller);
        pair.send(End::Callee, &noise(5000));
        pair.read(End::Callee, 1 << 20);
        pair.settle();
        assert!(pair.of(End::Callee).bytes == text, "{} of 40000", pair.of(End::Callee).bytes.len());
    }

    /// After a close the connection has no more events, and operations on it do nothing.
    fn after_a_close_there_are_no_events<N: Network>() {
        let mut pair = Pair::<N>::new();
        pair.read(End::Callee, 100);
        pair.close(End::Caller);
        pair.send(End::Caller, b"too late");
        pair.read(End::Caller, 100);
        pair.close(End::Caller);
        pair.send(End::Callee, b"hello");
        pair.settle();
        assert_eq!(pair.of(End::Callee).bytes, b"");
        let heard = pair.of(End::Caller);
        assert_eq!((heard.bytes.len(), heard.closed, heard.reset, heard.freed), (0, 0, 0, 0));
    }

    /// After one end has closed, the other end closes as well.
    fn both_ends_close<N: Network>() {
        let mut pair = Pair::<N>::new();
        pair.close(End::Caller);
        pair.settle();
        pair.close(End::Callee);
        pair.settle();
        assert_eq!((pair.of(End::Callee).closed, pair.of(End::Callee).reset), (1, 0));
        assert_eq!((pair.of(End::Caller).closed, pair.of(End::Caller).reset), (0, 0));
    }

    fn a_broken_connection_is_reported_to_both_ends<N: Network>() {
        let mut net = N::new();
        let address = net.fragile_address();
        let mut pair = Pair::at(net, address);
        pair.read(End::Caller, 100);
        pair.net.break_it();
        pair.settle();
        for end in [End::Caller, End::Callee] {
            assert_eq!((pair.of(end).reset, pair.of(end).closed), (1, 0), "{end:?}");
            // The connection is gone.
            pair.send(end, b"hello");
            pair.close(end);
        }
        pair.settle();
    }

    /// Each connection has its own id. Nothing on one connection affects another.
    fn connections_are_separate<N: Network>() {
        let mut net = N::new();
        let mut ids = Vec::new();
        for n in 1..=3 {
            let address = net.address();
            let caller = connect(&mut net, n, address);
            assert_eq!(net.take(End::Caller), [(caller, NetEvent::Connected)]);
            let accepted = net.take(End::Callee);
            let [(callee, NetEvent::Accepted)] = accepted[..] else { panic!("{accepted:?}") };
            assert!(!ids.contains(&callee));
            assert_eq!(callee.incarnation, 0, "the world's own number");
            ids.push(callee);
        }
        let bytes = Bytes::from_static(b"to the second");
        let second = ConnId { incarnation: 1, n: 2 };
        for id in &ids {
            net.call(End::Callee, *id, NetOp::Read { max: 100 });
        }
        net.call(End::Caller, second, NetOp::Send([bytes.clone(), Bytes::new()]));
        net.call(End::Caller, ConnId { incarnation: 1, n: 1 }, NetOp::Close);
        net.settle();
        let mut told = net.take(End::Callee);
        told.sort_by_key(|(id, _)| *id);
        assert_eq!(told, [(ids[0], NetEvent::Closed), (ids[1], NetEvent::Data(bytes))]);
    }
}
