//! The rows of a plan file, as serde sees them. Each kind of row is a struct with one optional field per kind: tagged
//! enums would lose the place of an error.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use toml::Spanned;

/// One value, as the text that was written, with its place: string, number or switch alike.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let scalar = Spanned::<Scalar>::deserialize(deserializer)?;
        let span = scalar.span();
        let Scalar(text) = scalar.into_inner();
        Ok(Self { text, span })
    }
}

#[derive(Clone, Debug)]
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a switch")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar(text.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar(number.to_string()))
    }

    fn visit_bool<E: Error>(self, switch: bool) -> Result<Scalar, E> {
        Ok(Scalar(switch.to_string()))
    }
}

/// The first thing that is read: a file of another schema may differ in everything else.
#[derive(Deserialize)]
pub(super) struct SchemaRow {
    pub(super) schema: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRow {
    #[serde(rename = "schema")]
    pub(super) _schema: Word,
    pub(super) name: Option<Word>,
    pub(super) about: Option<Word>,
    pub(super) seed: Option<Word>,
    pub(super) version: Option<Word>,
    pub(super) geometry: Option<Spanned<GeometryRow>>,
    pub(super) active: Option<Word>,
    pub(super) step_delays: Option<Word>,
    #[serde(default)]
    pub(super) settings: SettingsRow,
    pub(super) network: Option<NetworkRow>,
    pub(super) disks: Option<DisksRow>,
    #[serde(default)]
    pub(super) node: Vec<Spanned<NodeRow>>,
    #[serde(default)]
    pub(super) workload: Vec<Spanned<WorkloadRow>>,
    #[serde(default)]
    pub(super) fault: Vec<Spanned<FaultRow>>,
    #[serde(default)]
    pub(super) action: Vec<Spanned<ActionRow>>,
    #[serde(default)]
    pub(super) pins: BTreeMap<Spanned<String>, Word>,
    pub(super) expect: Option<Spanned<ExpectRow>>,
}

pub(super) type SettingsRow = BTreeMap<Spanned<String>, Word>;

/// `"stock"`, `"tiny"`, or the four sizes.
pub(super) enum GeometryRow {
    Named(String),
    Sizes(SizesRow),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SizesRow {
    pub(super) wal_page: Word,
    pub(super) segment: Word,
    pub(super) data_page: Word,
    pub(super) sector: Word,
}

impl<'de> Deserialize<'de> for GeometryRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GeometryVisitor)
    }
}

struct GeometryVisitor;

impl<'de> Visitor<'de> for GeometryVisitor {
    type Value = GeometryRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"stock\", \"tiny\" or { wal_page, segment, data_page, sector }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<GeometryRow, E> {
        Ok(GeometryRow::Named(text.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GeometryRow, A::Error> {
        SizesRow::deserialize(MapAccessDeserializer::new(map)).map(GeometryRow::Sizes)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkRow {
    pub(super) latency: Option<Word>,
    pub(super) jitter: Option<Word>,
    pub(super) bytes_per_ms: Option<Word>,
    pub(super) fragment: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DisksRow {
    pub(super) latency: Option<Word>,
    pub(super) jitter: Option<Word>,
    pub(super) fsync: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeRow {
    pub(super) name: Word,
    pub(super) upstream: Option<Word>,
    pub(super) clock_offset: Option<Word>,
    pub(super) clock_drift_ppm: Option<Word>,
    pub(super) disk: Option<Word>,
    #[serde(default)]
    pub(super) slots: Vec<Word>,
    #[serde(default)]
    pub(super) settings: SettingsRow,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhenRow {
    pub(super) node: Word,
    pub(super) event: Word,
    pub(super) nth: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadRow {
    pub(super) at: Option<Word>,
    pub(super) when: Option<WhenRow>,
    pub(super) session: Option<Word>,
    pub(super) node: Option<Word>,
    pub(super) transactions: Word,
    pub(super) rows: Option<Word>,
    pub(super) bytes: Option<Word>,
    pub(super) message: Option<Word>,
    pub(super) rollback_every: Option<Word>,
    pub(super) asynchronous: Option<Word>,
    pub(super) pause: Option<Word>,
    pub(super) read_every: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultRow {
    pub(super) at: Option<Word>,
    pub(super) when: Option<WhenRow>,
    pub(super) power_loss: Option<OffRow>,
    pub(super) node_crash: Option<OffRow>,
    pub(super) smart_shutdown: Option<OffRow>,
    pub(super) fast_shutdown: Option<OffRow>,
    pub(super) immediate_shutdown: Option<OffRow>,
    pub(super) kill: Option<KillRow>,
    pub(super) pause: Option<PauseRow>,
    pub(super) stall: Option<StallRow>,
    pub(super) partition: Option<PartitionRow>,
    pub(super) reset: Option<LinkRow>,
    pub(super) delay: Option<DelayRow>,
    pub(super) fsync_error: Option<FsyncErrorRow>,
    pub(super) disk_full: Option<WhileRow>,
    pub(super) stop_reading: Option<WhileRow>,
    pub(super) clock_jump: Option<ClockJumpRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OffRow {
    pub(super) node: Word,
    pub(super) off: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KillRow {
    pub(super) node: Word,
    pub(super) process: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseRow {
    pub(super) node: Word,
    pub(super) process: Option<Word>,
    #[serde(rename = "for")]
    pub(super) lasts: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StallRow {
    pub(super) node: Word,
    pub(super) at: Word,
    #[serde(rename = "for")]
    pub(super) lasts: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartitionRow {
    pub(super) from: Word,
    pub(super) to: Word,
    pub(super) one_way: Option<Word>,
    #[serde(rename = "for")]
    pub(super) lasts: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkRow {
    pub(super) from: Word,
    pub(super) to: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DelayRow {
    pub(super) from: Word,
    pub(super) to: Word,
    pub(super) by: Word,
    #[serde(rename = "for")]
    pub(super) lasts: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FsyncErrorRow {
    pub(super) node: Word,
    pub(super) path: Word,
    pub(super) drop_pages: Option<Word>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhileRow {
    pub(super) node: Word,
    #[serde(rename = "for")]
    pub(super) lasts: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClockJumpRow {
    pub(super) node: Word,
    pub(super) by: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionRow {
    pub(super) at: Option<Word>,
    pub(super) when: Option<WhenRow>,
    pub(super) sql: Option<SqlRow>,
    pub(super) reload: Option<ReloadRow>,
    pub(super) grow_disk: Option<GrowDiskRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlRow {
    pub(super) node: Option<Word>,
    pub(super) run: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadRow {
    pub(super) node: Option<Word>,
    pub(super) settings: SettingsRow,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrowDiskRow {
    pub(super) node: Option<Word>,
    pub(super) by: Word,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectRow {
    pub(super) verdict: Option<Word>,
    pub(super) bug: Option<Word>,
    #[serde(default)]
    pub(super) invariant: Words,
    #[serde(default)]
    pub(super) marks: Vec<Word>,
}

/// One word, or a list of them.
#[derive(Default)]
pub(super) struct Words(pub(super) Vec<Word>);

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Spanned::<OneOrMore>::deserialize(deserializer)?;
        let span = list.span();
        Ok(match list.into_inner() {
            OneOrMore::One(text) => Self(vec![Word { text, span }]),
            OneOrMore::More(words) => Self(words),
        })
    }
}

enum OneOrMore {
    One(String),
    More(Vec<Word>),
}

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.into()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<OneOrMore, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                Ok(OneOrMore::More(words))
            }
        }
        deserializer.deserialize_any(ListVisitor)
    }
}
