//! Facts about a violation: named values with types. Reports format the facts as text. The facts
//! are also used to find the events that led to the violation.

use serde::{Serialize, Serializer};
use std::fmt::{self, Display};
use walsim_core::base::{Lsn, Mono, Pid, Xid};
use walsim_core::call::{LogEvent, Place};
use walsim_core::node::PmState;
use walsim_core::shmem::{Role, WalRcvState, XactStatus};
use walsim_core::wire::control_file::DbState;

/// A value that a check has compared, or that identifies what the violation is about.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Fact {
    /// What the value is, such as `durable on its disk`.
    pub name: String,
    /// The value.
    #[serde(flatten)]
    pub value: Value,
}

impl Fact {
    /// A fact.
    pub fn new(name: impl Into<String>, value: &dyn Evidence) -> Self {
        let (name, value) = (name.into(), value.value());
        Self { name, value }
    }
}

/// The value of a fact. Its JSON form has the fields `type` and `value`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(tag = "type", content = "value", rename_all = "kebab-case")]
pub enum Value {
    /// A WAL position.
    #[serde(serialize_with = "shown")]
    Lsn(Lsn),
    /// The path of a file, relative to the data directory.
    File(String),
    /// The name of a replication slot.
    Slot(String),
    /// The name of a node.
    Node(String),
    /// The kind of a process, such as `walsender`.
    Role(&'static str),
    /// A process.
    #[serde(serialize_with = "shown")]
    Process(Pid),
    /// A transaction.
    #[serde(serialize_with = "shown")]
    Xid(Xid),
    /// The number of a relation's file.
    Relation(u32),
    /// A block of the relation that an earlier fact names.
    Block(u32),
    /// A number.
    Number(u64),
    /// A simulated time. In JSON it is in microseconds.
    #[serde(serialize_with = "microseconds")]
    Time(Mono),
    /// A duration in microseconds.
    Duration(u64),
    /// A text.
    Text(String),
}

impl Value {
    /// The path of a file, relative to the data directory.
    #[must_use]
    pub fn file(path: impl Into<String>) -> Self {
        Self::File(path.into())
    }

    /// A replication slot.
    #[must_use]
    pub fn slot(name: &str) -> Self {
        Self::Slot(name.into())
    }

    /// A node.
    #[must_use]
    pub fn node(name: &str) -> Self {
        Self::Node(name.into())
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lsn(lsn) => lsn.fmt(f),
            Self::Role(name) => f.write_str(name),
            Self::Process(pid) => pid.fmt(f),
            Self::Xid(xid) => xid.fmt(f),
            Self::Relation(number) | Self::Block(number) => number.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Time(at) => at.fmt(f),
            Self::Duration(us) if us % 1000 == 0 => write!(f, "{} ms", us / 1000),
            Self::Duration(us) => write!(f, "{}.{:03} ms", us / 1000, us % 1000),
            Self::File(text) | Self::Slot(text) | Self::Node(text) | Self::Text(text) => {
                f.write_str(text)
            }
        }
    }
}

fn shown<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn microseconds<S: Serializer>(at: &Mono, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(at.0)
}

/// A value that can become a fact.
pub trait Evidence {
    /// The value of the fact.
    fn value(&self) -> Value;
}

impl Evidence for Value {
    fn value(&self) -> Value {
        self.clone()
    }
}

/// Numbers of bytes, segments, files and so on.
macro_rules! numbers {
    ($($type:ty),*) => {
        $(impl Evidence for $type {
            fn value(&self) -> Value {
                Value::Number(u64::try_from(*self).expect("at most 64 bits"))
            }
        })*
    };
}
numbers!(u16, u32, u64, usize);

/// Types for which [`Value`] has a variant.
macro_rules! values {
    ($($type:ty: $value:expr),* $(,)?) => {
        $(impl Evidence for $type {
            fn value(&self) -> Value {
                let value: fn(&$type) -> Value = $value;
                value(self)
            }
        })*
    };
}
values! {
    Lsn: |lsn| Value::Lsn(*lsn),
    Xid: |xid| Value::Xid(*xid),
    Pid: |pid| Value::Process(*pid),
    Mono: |at| Value::Time(*at),
    Role: |role| Value::Role(role.name()),
    Place: |place| Value::Text(place.to_string()),
    LogEvent: |event| Value::Text(event.to_string()),
    char: |text| Value::Text(text.to_string()),
    DbState: |state| Value::Text(state.to_string()),
    PmState: |state| Value::Text(String::from(state.name())),
    WalRcvState: |state| Value::Text(String::from(state.name())),
    String: |text| Value::Text(text.clone()),
    &str: |text| Value::Text(String::from(*text)),
    bool: |holds| Value::Text(String::from(if *holds { "yes" } else { "no" })),
}

/// The status of a transaction is `unknown` if the status file does not exist.
impl Evidence for Option<XactStatus> {
    fn value(&self) -> Value {
        let status = match self {
            None => "unknown",
            Some(XactStatus::InProgress) => "in progress",
            Some(XactStatus::Committed) => "committed",
            Some(XactStatus::Aborted) => "aborted",
            Some(XactStatus::SubCommitted) => "sub-committed",
        };
        Value::Text(String::from(status))
    }
}
