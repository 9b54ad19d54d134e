//! The rows of a plan file, as serde reads them. A row is one entry of a list, such as one
//! `[[fault]]`. A row that can be of several kinds is a struct with one optional field for each
//! kind. A tagged enum would be shorter, but its errors would not say where in the file the mistake
//! is.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use toml::Spanned;

/// A value as text, with its place in the file. In the file the value may be a string, a number or
/// a boolean.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) text: String,
    pub(super) span: Range<usize>,
}

impl<'de> Deserialize<'de> for Field {
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
        f.write_str("a string, a number or a boolean")
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

/// The schema number of a file. It is read first, because a file of another schema may differ in
/// everything else.
#[derive(Deserialize)]
pub(super) struct SchemaRow {
    pub(super) schema: Option<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileRow {
    #[serde(rename = "schema")]
    pub(super) _schema: Field,
    pub(super) name: Option<Field>,
    pub(super) about: Option<Field>,
    pub(super) seed: Option<Field>,
    pub(super) version: Option<Field>,
    pub(super) geometry: Option<Spanned<GeometryRow>>,
    pub(super) active: Option<Field>,
    pub(super) step_delays: Option<Field>,
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
    pub(super) pins: BTreeMap<Spanned<String>, Field>,
    pub(super) expect: Option<Spanned<ExpectRow>>,
    pub(super) origin: Option<OriginRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OriginRow {
    pub(super) seed: Field,
    pub(super) replay: Option<Field>,
    pub(super) audited: Option<Field>,
    pub(super) tries: Option<Field>,
    pub(super) size: Option<CountsRow>,
    #[serde(default)]
    pub(super) passes: Vec<PassRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CountsRow {
    pub(super) nodes: Field,
    pub(super) workload: Field,
    pub(super) faults: Field,
    pub(super) actions: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PassRow {
    pub(super) name: Field,
    pub(super) changes: Field,
    pub(super) left: CountsRow,
}

pub(super) type SettingsRow = BTreeMap<Spanned<String>, Field>;

/// The sizes of pages, segments and sectors: `"stock"`, `"tiny"`, or the four sizes.
pub(super) enum GeometryRow {
    Named(String),
    Sizes(SizesRow),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SizesRow {
    pub(super) wal_page: Field,
    pub(super) segment: Field,
    pub(super) data_page: Field,
    pub(super) sector: Field,
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
    pub(super) latency: Option<Field>,
    pub(super) jitter: Option<Field>,
    pub(super) bytes_per_ms: Option<Field>,
    pub(super) fragment: Option<Field>,
    pub(super) keepalive: Option<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DisksRow {
    pub(super) latency: Option<Field>,
    pub(super) jitter: Option<Field>,
    pub(super) fsync: Option<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeRow {
    pub(super) name: Field,
    pub(super) upstream: Option<Field>,
    pub(super) clock_offset: Option<Field>,
    pub(super) clock_drift_ppm: Option<Field>,
    pub(super) disk: Option<Field>,
    #[serde(default)]
    pub(super) slots: Vec<Field>,
    #[serde(default)]
    pub(super) settings: SettingsRow,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhenRow {
    pub(super) node: Field,
    pub(super) event: Field,
    pub(super) nth: Option<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadRow {
    pub(super) at: Option<Field>,
    pub(super) when: Option<WhenRow>,
    pub(super) session: Option<Field>,
    pub(super) node: Option<Field>,
    pub(super) transactions: Field,
    pub(super) rows: Option<Field>,
    pub(super) bytes: Option<Field>,
    pub(super) message: Option<Field>,
    pub(super) rollback_every: Option<Field>,
    pub(super) asynchronous: Option<Field>,
    pub(super) pause: Option<Field>,
    pub(super) read_every: Option<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultRow {
    pub(super) at: Option<Field>,
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
    pub(super) node: Field,
    pub(super) off: Option<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KillRow {
    pub(super) node: Field,
    pub(super) process: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PauseRow {
    pub(super) node: Field,
    pub(super) process: Option<Field>,
    #[serde(rename = "for")]
    pub(super) lasts: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StallRow {
    pub(super) node: Field,
    pub(super) at: Field,
    #[serde(rename = "for")]
    pub(super) lasts: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PartitionRow {
    pub(super) from: Field,
    pub(super) to: Field,
    pub(super) one_way: Option<Field>,
    #[serde(rename = "for")]
    pub(super) lasts: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkRow {
    pub(super) from: Field,
    pub(super) to: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DelayRow {
    pub(super) from: Field,
    pub(super) to: Field,
    pub(super) by: Field,
    #[serde(rename = "for")]
    pub(super) lasts: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FsyncErrorRow {
    pub(super) node: Field,
    pub(super) path: Field,
    pub(super) drop_pages: Option<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhileRow {
    pub(super) node: Field,
    #[serde(rename = "for")]
    pub(super) lasts: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClockJumpRow {
    pub(super) node: Field,
    pub(super) by: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActionRow {
    pub(super) at: Option<Field>,
    pub(super) when: Option<WhenRow>,
    pub(super) sql: Option<SqlRow>,
    pub(super) reload: Option<ReloadRow>,
    pub(super) grow_disk: Option<GrowDiskRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlRow {
    pub(super) node: Option<Field>,
    pub(super) run: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReloadRow {
    pub(super) node: Option<Field>,
    pub(super) settings: SettingsRow,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrowDiskRow {
    pub(super) node: Option<Field>,
    pub(super) by: Field,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExpectRow {
    pub(super) verdict: Option<Field>,
    pub(super) bug: Option<Field>,
    #[serde(default)]
    pub(super) invariant: FieldList,
    #[serde(default)]
    pub(super) marks: Vec<Field>,
    #[serde(default)]
    pub(super) excuses: Vec<Field>,
}

/// One field, or a list of fields.
#[derive(Default)]
pub(super) struct FieldList(pub(super) Vec<Field>);

impl<'de> Deserialize<'de> for FieldList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Spanned::<OneOrMore>::deserialize(deserializer)?;
        let span = list.span();
        Ok(match list.into_inner() {
            OneOrMore::One(text) => Self(vec![Field { text, span }]),
            OneOrMore::More(words) => Self(words),
        })
    }
}

enum OneOrMore {
    One(String),
    More(Vec<Field>),
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
                while let Some(field) = list.next_element()? {
                    words.push(field);
                }
                Ok(OneOrMore::More(words))
            }
        }
        deserializer.deserialize_any(ListVisitor)
    }
}
