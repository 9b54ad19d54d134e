//! Compares captured messages between real clients and real servers with walsim's codecs, server
//! and receivers. `tests/golden/frames/README.md` describes how the captures were made.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test looks at the messages that concern it"
)]

mod answers;
mod capture;
mod codec;
mod node;
mod receiver;
mod recorded;
