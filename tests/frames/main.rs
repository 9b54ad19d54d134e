//! What real clients and real servers said to each other, against our codecs, our server and our
//! receivers. `tests/golden/frames/README.md` tells how the captures were made.

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
