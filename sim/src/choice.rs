//! Random choices.
//!
//! Every choice at run time is a hash of (seed, kind, subject, what). Removing one fault from a
//! plan therefore does not change any other choice. Plans are drawn with a stream generator
//! instead.
//!
//! All arithmetic uses integers, because floating-point results differ between platforms. Option 0
//! of a choice never causes a disturbance.

mod drawn;

pub(crate) use drawn::{collected, collected_before_panic};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The kinds of choices, each of which a plan can pin.
pub const KINDS: [&str; 22] = [
    "crash.cut",
    "crash.when",
    "disk.fsync-covers",
    "disk.latency",
    "disk.loss",
    "disk.loss.cut",
    "disk.loss.file",
    "disk.loss.length",
    "disk.loss.name",
    "disk.loss.names",
    "disk.loss.order",
    "disk.loss.prefix",
    "disk.loss.sectors",
    "disk.loss.write",
    "disk.short-write",
    "kill.which",
    "net.cut",
    "net.fragment",
    "net.latency",
    "net.retransmit",
    "session.pause",
    "step.delay",
];

/// The part of the world that a choice concerns. A number is an index into the plan's list of
/// machines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Subject {
    /// The whole world.
    World,
    /// One machine.
    Node(u16),
    /// The link from the first of two machines to the second.
    Link(u16, u16),
    /// The processes of one role on a machine.
    Process(u16, &'static str),
    /// A client session.
    Session(u16),
}

/// Identifies a choice. The meaning of `what` depends on the kind, for example (connection, stream
/// offset) or (inode, operation). `what` never contains a count of all events of the run, because
/// such a count would change whenever a fault is removed from the plan.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// The kind of choice, such as `net.latency`.
    pub kind: &'static str,
    /// The part of the world that the choice concerns.
    pub subject: Subject,
    /// Distinguishes the choices of one kind and one subject.
    pub what: [u64; 2],
}

impl Key {
    /// Makes a key.
    #[must_use]
    pub const fn new(kind: &'static str, subject: Subject, what: [u64; 2]) -> Self {
        Self {
            kind,
            subject,
            what,
        }
    }
}

/// The choices of one run.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Choices {
    seed: u64,
    shared: Arc<Shared>,
}

#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
struct Shared {
    /// Names of the machines, used in the text of keys.
    names: Vec<String>,
    /// Pinned choices, by the text of their keys.
    pins: BTreeMap<String, u64>,
    /// Pinned kinds.
    kinds: BTreeMap<String, u64>,
}

impl Choices {
    /// The choices of a seed without pins.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            shared: Arc::default(),
        }
    }

    /// The choices of a seed, with pins. A pin fixes the value of a choice.
    ///
    /// The text of a pin is either a key, such as `net.latency/primary>standby1/1.4096`, or a kind,
    /// such as `disk.loss`. A key pins one choice. A kind pins all choices of this kind that have
    /// no pin of their own.
    #[must_use]
    pub fn with_pins(seed: u64, names: Vec<String>, pins: BTreeMap<String, u64>) -> Self {
        let (pins, kinds) = pins.into_iter().partition(|(text, _)| text.contains('/'));
        Self {
            seed,
            shared: Arc::new(Shared { names, pins, kinds }),
        }
    }

    /// The 64 random bits of a choice. A pin does not change these bits.
    #[must_use]
    pub fn bits(&self, key: Key) -> u64 {
        let mut buffer = self.encode(key);
        buffer.put(&key.what[1].to_le_bytes());
        xxh3_64(buffer.bytes())
    }

    /// The random bits of a sequence of choices. The keys of the choices differ only in the last
    /// number, which is 0 for the first choice, 1 for the second, and so on. The last number of
    /// `key` is ignored.
    pub fn words(&self, key: Key) -> impl Iterator<Item = u64> + use<> {
        let mut buffer = self.encode(key);
        let len = buffer.len;
        (0u64..).map(move |last| {
            buffer.len = len;
            buffer.put(&last.to_le_bytes());
            xxh3_64(buffer.bytes())
        })
    }

    /// The encoding of a key without its last number.
    fn encode(&self, key: Key) -> Encoder {
        let mut buffer = Encoder::default();
        buffer.put(&self.seed.to_le_bytes());
        buffer.text(key.kind);
        match key.subject {
            Subject::World => buffer.put(&[0]),
            Subject::Node(node) => {
                buffer.put(&[1]);
                buffer.put(&node.to_le_bytes());
            }
            Subject::Link(from, to) => {
                buffer.put(&[2]);
                buffer.put(&from.to_le_bytes());
                buffer.put(&to.to_le_bytes());
            }
            Subject::Process(node, role) => {
                buffer.put(&[3]);
                buffer.put(&node.to_le_bytes());
                buffer.text(role);
            }
            Subject::Session(session) => {
                buffer.put(&[4]);
                buffer.put(&session.to_le_bytes());
            }
        }
        buffer.put(&key.what[0].to_le_bytes());
        buffer
    }

    /// A number from `0..n`. Option 0 causes no disturbance.
    #[must_use]
    pub fn below(&self, key: Key, n: u64) -> u64 {
        assert!(n > 0, "a choice needs an option");
        let value = match self.pinned(key) {
            Some(value) => value.min(n - 1),
            None => scale(self.bits(key), n),
        };
        drawn::note(key, value);
        value
    }

    /// A number from `least..=most`. A pin contains the number itself.
    #[must_use]
    pub fn between(&self, key: Key, least: u64, most: u64) -> u64 {
        assert!(least <= most, "an empty range");
        let value = match self.pinned(key) {
            Some(value) => value.clamp(least, most),
            None => least + scale(self.bits(key), most - least + 1),
        };
        drawn::note(key, value);
        value
    }

    /// True with probability `num / den`. The option false causes no disturbance. A pin of 0 means
    /// false, and 1 means true.
    #[must_use]
    pub fn ratio(&self, key: Key, num: u64, den: u64) -> bool {
        let value = match self.pinned(key) {
            Some(value) => value != 0,
            None => num > 0 && scale(self.bits(key), den) >= den.saturating_sub(num),
        };
        drawn::note(key, value.into());
        value
    }

    /// The text of a key, in the form that pins use.
    #[must_use]
    pub fn text(&self, key: Key) -> String {
        let mut text = String::from(key.kind);
        self.write_key(key, &mut text)
            .expect("writing to a string cannot fail");
        text
    }

    fn write_key(&self, key: Key, text: &mut String) -> fmt::Result {
        let name = |node: u16| match self.shared.names.get(usize::from(node)) {
            Some(name) => name.clone(),
            None => format!("node{node}"),
        };
        match key.subject {
            Subject::World => text.push_str("/world"),
            Subject::Node(node) => write!(text, "/{}", name(node))?,
            Subject::Link(from, to) => write!(text, "/{}>{}", name(from), name(to))?,
            Subject::Process(node, role) => write!(text, "/{}:{role}", name(node))?,
            Subject::Session(session) => write!(text, "/session{session}")?,
        }
        write!(text, "/{}.{}", key.what[0], key.what[1])
    }

    fn pinned(&self, key: Key) -> Option<u64> {
        let Shared { pins, kinds, .. } = &*self.shared;
        let alone = if pins.is_empty() {
            None
        } else {
            pins.get(&self.text(key))
        };
        alone.or_else(|| kinds.get(key.kind)).copied()
    }
}

/// Maps 64 random bits to `0..n` by one multiplication and a shift.
const fn scale(bits: u64, n: u64) -> u64 {
    ((bits as u128 * n as u128) >> 64) as u64
}

/// A buffer on the stack in which a key is encoded.
struct Encoder {
    buffer: [u8; 112],
    len: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            buffer: [0; 112],
            len: 0,
        }
    }
}

impl Encoder {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.buffer[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    fn text(&mut self, text: &str) {
        let len = u8::try_from(text.len()).expect("names of kinds and roles are short");
        assert!(
            len <= 32,
            "a kind or a role is longer than 32 letters: {text}"
        );
        self.put(&[len]);
        self.put(text.as_bytes());
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// The generator that expands a seed into a plan. Its drawing functions are defined here and not
/// taken from a library, because a new release of a library could change the plan of a seed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SimRng(ChaCha8Rng);

impl SimRng {
    /// A generator for one purpose. Generators with different names are independent.
    #[must_use]
    pub fn new(seed: u64, stream: &str) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(xxh3_64(stream.as_bytes()));
        Self(rng)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number from `0..n`.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a choice needs an option");
        scale(self.bits(), n)
    }

    /// A number from `least..=most`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        assert!(least <= most, "an empty range");
        least + self.below(most - least + 1)
    }

    /// True with probability `num / den`.
    pub fn ratio(&mut self, num: u64, den: u64) -> bool {
        self.below(den) < num
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let len = u64::try_from(items.len()).expect("a slice is shorter than 2^64");
        let index = usize::try_from(self.below(len)).expect("below the length of a slice");
        &items[index]
    }

    /// Random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: Key = Key::new("net.latency", Subject::Link(0, 1), [1, 4096]);

    fn pinned(text: &str, value: u64) -> Choices {
        let names = vec!["primary".to_owned(), "standby1".to_owned()];
        Choices::with_pins(7, names, BTreeMap::from([(text.to_owned(), value)]))
    }

    #[test]
    fn words_are_the_bits_of_successive_choices() {
        let choices = Choices::new(42);
        let key = |last| Key::new("golden", Subject::Session(5), [1, last]);
        let words: Vec<u64> = choices.words(key(7)).take(3).collect();
        assert_eq!(words, [0, 1, 2].map(|last| choices.bits(key(last))));
    }

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let choices = Choices::new(42);
        let bits = [
            Subject::World,
            Subject::Node(3),
            Subject::Link(0, 1),
            Subject::Process(1, "walwriter"),
            Subject::Session(5),
        ]
        .map(|subject| choices.bits(Key::new("golden", subject, [1, 2])));
        assert_eq!(bits, GOLDEN_BITS);
        let mut rng = SimRng::new(42, "golden");
        let stream = [0; 4].map(|_| rng.bits());
        assert_eq!(stream, GOLDEN_STREAM);
        let helpers = [
            rng.below(1000),
            rng.between(10, 20),
            u64::from(rng.ratio(1, 2)),
            *rng.pick(&[5, 6, 7]),
        ];
        assert_eq!(helpers, GOLDEN_HELPERS);
    }

    const GOLDEN_BITS: [u64; 5] = [
        412287969747122287,
        5474367154138711344,
        14940450706015579741,
        11626329530196038078,
        5176612791047759763,
    ];
    const GOLDEN_STREAM: [u64; 4] = [
        1509892168028340984,
        5093576197954564854,
        8202975302305588513,
        9372498368807084757,
    ];
    const GOLDEN_HELPERS: [u64; 4] = [825, 20, 1, 5];

    #[test]
    fn every_part_of_a_key_counts() {
        let choices = Choices::new(1);
        let mut seen = std::collections::BTreeSet::new();
        for kind in ["a", "b"] {
            for subject in [Subject::Node(0), Subject::Node(1), Subject::Session(0)] {
                for what in [[0, 0], [0, 1], [1, 0]] {
                    assert!(seen.insert(choices.bits(Key::new(kind, subject, what))));
                }
            }
        }
        assert_ne!(choices.bits(LATENCY), Choices::new(2).bits(LATENCY));
    }

    #[test]
    fn values_stay_in_range_and_reach_its_ends() {
        let choices = Choices::new(3);
        let key = |n| Key::new("range", Subject::World, [n, 0]);
        let drawn: Vec<u64> = (0..1000).map(|n| choices.between(key(n), 10, 13)).collect();
        assert_eq!(drawn.iter().min(), Some(&10));
        assert_eq!(drawn.iter().max(), Some(&13));
        let hits = (0..1000).filter(|n| choices.ratio(key(*n), 1, 4)).count();
        assert!((200..300).contains(&hits), "{hits}");
        assert!(!choices.ratio(key(0), 0, 4) && choices.ratio(key(0), 4, 4));
    }

    #[test]
    fn a_pin_decides_one_choice_alone() {
        let choices = pinned("net.latency/primary>standby1/1.4096", 17);
        assert_eq!(choices.text(LATENCY), "net.latency/primary>standby1/1.4096");
        assert_eq!(choices.between(LATENCY, 0, 1000), 17);
        assert_eq!(choices.below(LATENCY, 4), 3);
        let other = Key {
            what: [1, 4097],
            ..LATENCY
        };
        assert_eq!(
            choices.between(other, 0, 1 << 40),
            Choices::new(7).between(other, 0, 1 << 40)
        );
    }

    #[test]
    fn a_kind_can_be_pinned_as_a_whole_but_for_some() {
        let alone = String::from("net.latency/primary>standby1/1.4096");
        let pins = BTreeMap::from([(String::from("net.latency"), 3), (alone, 5)]);
        let names = vec!["primary".to_owned(), "standby1".to_owned()];
        let choices = Choices::with_pins(7, names, pins);
        let other = Key {
            what: [1, 4097],
            ..LATENCY
        };
        let drawn = [LATENCY, other].map(|key| choices.below(key, 1000));
        assert_eq!(drawn, [5, 3]);
        let fragment = Key::new("net.fragment", Subject::Link(0, 1), [1, 4096]);
        let unpinned = Choices::new(7).below(fragment, 1000);
        assert_eq!(choices.below(fragment, 1000), unpinned);
    }

    #[test]
    fn a_process_has_a_name_that_can_be_pinned() {
        let key = Key::new("step.delay", Subject::Process(1, "startup"), [12, 0]);
        assert!(pinned("step.delay/standby1:startup/12.0", 1).ratio(key, 0, 9));
    }
}
