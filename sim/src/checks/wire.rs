//! WIRE: what a server sends follows the protocol.

use crate::referee::{
    About, Check, Evidence, Knowledge, PerNode, Promise, Ruling, Subscription, Value, WireEnd,
    WireMessage,
};
use walsim_core::base::{ConnId, Pid};

const ABOUT: About = About {
    code: "WIRE",
    promise: Promise::Safety,
    statement: "A server sends its messages in an order that the protocol allows.",
    details: "The answer to a command must end with CommandComplete, EmptyQueryResponse or \
              ErrorResponse, and then ReadyForQuery must follow. Before a DataRow, the server \
              must send a RowDescription. CopyData and CopyDone are legal only inside a COPY, and \
              WAL is not legal after CopyDone.",
    notes: &[
        "ParameterStatus and notices are legal at any time.",
        "Keepalives are legal after CopyDone.",
        "COPY 0 is legal without CopyDone.",
        "A command may be answered by two CommandCompletes.",
        "An error is legal after CopyBothResponse.",
        "A server may close a connection without a message.",
        "Clients in the simulator never send Sync. So a server sends ReadyForQuery only after \
         another answer.",
    ],
    source: "The chapter Frontend/Backend Protocol of the manual describes the order of messages. \
              These functions implement it: PostgresMain (postgres.c), exec_replication_command, \
              StartReplication and WalSndDone (walsender.c)",
};

const SUBSCRIPTIONS: [Subscription; 1] = [Subscription::Message(WireEnd::ServerSends, None)];

/// The body of the CommandComplete with which a walsender ends at a shutdown.
const LAST_WORD: &[u8] = b"COPY 0\0";

/// For each node, the states of its connections.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Wire {
    nodes: PerNode<Vec<Conversation>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Conversation {
    conn: ConnId,
    pid: Pid,
    talk: Talk,
}

/// The state of a connection, which determines what the server may send next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Talk {
    /// Before the first ReadyForQuery.
    Startup,
    /// A command runs, or the server waits for the next command.
    Command {
        /// Columns were described.
        rows: bool,
        /// The command has ended.
        ended: bool,
    },
    /// A COPY in both directions.
    Copy {
        /// CopyDone was sent.
        done: bool,
    },
    /// `COPY 0` was sent, and the walsender exits.
    Ended,
}

impl Evidence for Talk {
    fn value(&self) -> Value {
        let state = match self {
            Self::Startup => "before the first ReadyForQuery",
            Self::Command { ended: true, .. } => "after the end of a command",
            Self::Command { rows: true, .. } => "in a command, after RowDescription",
            Self::Command { .. } => "in a command, or before one",
            Self::Copy { done: true } => "in a COPY, after CopyDone",
            Self::Copy { done: false } => "in a COPY",
            Self::Ended => "after COPY 0",
        };
        Value::Text(String::from(state))
    }
}

impl Check for Wire {
    fn about(&self) -> &About {
        &ABOUT
    }

    fn subscriptions(&self) -> &[Subscription] {
        &SUBSCRIPTIONS
    }

    fn on_message(&mut self, message: &WireMessage<'_>, _: &Knowledge) -> Ruling {
        let conversations = self.nodes.of(message.site.host);
        let known = conversations.iter().position(|it| it.conn == message.conn);
        let at = known.unwrap_or_else(|| {
            conversations.retain(|it| message.view.process(it.pid).is_some());
            conversations.push(Conversation {
                conn: message.conn,
                pid: message.pid,
                talk: Talk::Startup,
            });
            conversations.len() - 1
        });
        let conversation = &mut conversations[at];
        let before = conversation.talk;
        match before.after(message.tag, &message.parts[0]) {
            Ok(talk) => {
                conversation.talk = talk;
                Ok(())
            }
            Err(why) => {
                let tag = char::from(message.tag);
                let facts: [(&str, &dyn Evidence); 3] = [
                    ("type of the message", &tag),
                    ("process", &message.pid),
                    ("state of the conversation", &before),
                ];
                Err(message.site.violation(ABOUT.code, why, &facts))
            }
        }
    }
}

impl Talk {
    /// The state after this message.
    ///
    /// # Errors
    /// If the protocol does not allow the message in this state. The error is the reason.
    fn after(self, tag: u8, body: &[u8]) -> Result<Self, &'static str> {
        let command = |rows, ended| Ok(Self::Command { rows, ended });
        match (tag, self) {
            // ParameterStatus, NoticeResponse
            (b'S' | b'N', _) => Ok(self),
            (_, Self::Ended) => Err("a walsender sends a message after COPY 0"),
            (b'R' | b'K' | b'v', Self::Startup) => Ok(self),
            (b'R' | b'K' | b'v', _) => Err("a server authenticates a client for a second time"),
            // ErrorResponse
            (b'E', _) => command(false, true),
            (b'Z', Self::Startup | Self::Command { ended: true, .. }) => command(false, false),
            (b'Z', Self::Command { ended: false, .. } | Self::Copy { .. }) => {
                Err("a server sends ReadyForQuery, but has not completed the last command")
            }
            // CopyBothResponse
            (b'W', Self::Command { ended: false, .. }) => Ok(Self::Copy { done: false }),
            (b'd', Self::Copy { done: false }) => Ok(self),
            (b'd', Self::Copy { done: true }) if body.first() == Some(&b'k') => Ok(self),
            (b'd', Self::Copy { .. }) => Err("a server sends WAL after CopyDone"),
            (b'c', Self::Copy { done: false }) => Ok(Self::Copy { done: true }),
            (b'd' | b'c', _) => Err("a server sends CopyData or CopyDone outside of a COPY"),
            (b'C', Self::Copy { .. }) if body == LAST_WORD => Ok(Self::Ended),
            (b'C', Self::Copy { done: true } | Self::Command { .. }) => command(false, true),
            (b'T', Self::Copy { done: true } | Self::Command { .. }) => command(true, false),
            (b'D', Self::Command { rows: true, .. }) => Ok(self),
            (b'D', _) => Err("a server sends a row without a description of its columns"),
            // EmptyQueryResponse
            (b'I', Self::Command { .. }) => command(false, true),
            _ => Err("a server sends a message that the protocol does not allow in this state"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error that the last of these messages causes, if any. `d` means CopyData with a
    /// keepalive, and `w` means CopyData with WAL.
    fn complaint(messages: &str) -> Option<&'static str> {
        let mut talk = Talk::Startup;
        for tag in messages.bytes() {
            let (tag, body): (u8, &[u8]) = match tag {
                b'w' => (b'd', b"w"),
                b'd' => (b'd', b"k"),
                b'!' => (b'C', LAST_WORD),
                tag => (tag, b""),
            };
            talk = match talk.after(tag, body) {
                Ok(talk) => talk,
                Err(why) => return Some(why),
            };
        }
        None
    }

    #[test]
    fn what_the_protocol_allows_is_legal() {
        for legal in [
            "RSSKZTDCZCZIZEZ",
            "RKZTDCCZ",
            "RKZWwdwNSwcdSdTDCCSZ",
            "RKZW!",
            "RKZWwc!S",
            "RKZWEZ",
            "RE",
        ] {
            assert_eq!(complaint(legal), None, "{legal}");
        }
    }

    #[test]
    fn what_it_does_not_allow_is_reported() {
        for (wrong, word) in [
            ("RKZTDZ", "not completed"),
            ("RKZZ", "not completed"),
            ("RKZDCZ", "without a description"),
            ("RKZd", "outside"),
            ("RKZWwcw", "after CopyDone"),
            ("RKZWwcc", "outside"),
            ("RKZWZ", "not completed"),
            ("RKZW!Z", "after COPY 0"),
            ("RKZWCZ", "does not allow"),
            ("RKZR", "second time"),
        ] {
            let why = complaint(wrong);
            assert!(
                why.is_some_and(|why| why.contains(word)),
                "{wrong}: {why:?}"
            );
        }
    }
}
