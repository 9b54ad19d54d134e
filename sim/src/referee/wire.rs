//! Splits the bytes that pass an end of a connection into messages.
//!
//! Servers mostly send whole messages, and the referee shows a whole message without copying it.
//! The beginning of an incomplete message is kept until the rest arrives. The startup packet has no
//! type byte and is skipped.

use super::index::Index;
use super::{Peer, Ruling, Site, WireEnd, WireMessage};
use crate::disk::Disk;
use bytes::Bytes;
use std::collections::BTreeMap;
use walsim_core::base::{ConnId, Pid};
use walsim_core::node::NodeView;
use walsim_core::wire::frame::{Frame, FrameReader};

/// Bytes at one end of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) site: Site<'a>,
    pub(crate) view: NodeView<'a>,
    pub(crate) disk: &'a Disk,
    pub(crate) conn: ConnId,
    pub(crate) pid: Pid,
    pub(crate) peer: Option<Peer<'a>>,
    /// Whether the node sends or receives the bytes.
    pub(crate) sends: bool,
    pub(crate) pieces: &'a [Bytes; 2],
}

/// The incomplete messages. The key is node, connection and direction.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(super) struct Wire(BTreeMap<(usize, ConnId, bool), Stream>);

/// The bytes of one direction of a connection, cut into messages.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Stream {
    reader: FrameReader,
    /// The startup packet has passed, or none is sent in this direction.
    started: bool,
    /// The bytes do not form valid messages, so no more are shown.
    garbage: bool,
}

impl End<'_> {
    fn wire_end(&self) -> WireEnd {
        // The id of a connection contains the number of the node's start if the node opened the
        // connection, and 0 if the node accepted it.
        match (self.conn.incarnation == 0, self.sends) {
            (true, true) => WireEnd::ServerSends,
            (true, false) => WireEnd::ServerReceives,
            (false, true) => WireEnd::ClientSends,
            (false, false) => WireEnd::ClientReceives,
        }
    }

    fn message<'a>(&'a self, end: WireEnd, tag: u8, parts: &'a [Bytes; 2]) -> WireMessage<'a> {
        WireMessage {
            site: self.site,
            view: self.view,
            disk: self.disk,
            end,
            conn: self.conn,
            pid: self.pid,
            peer: self.peer,
            tag,
            parts,
        }
    }
}

impl Wire {
    /// Calls `show` for every message that these bytes complete.
    pub(super) fn bytes(
        &mut self,
        bytes: &End<'_>,
        index: &Index,
        mut show: impl FnMut(&WireMessage<'_>) -> Ruling,
    ) -> Ruling {
        let end = bytes.wire_end();
        if !index.sees(end) {
            return Ok(());
        }
        let key = (bytes.site.host, bytes.conn, bytes.sends);
        let starts = matches!(end, WireEnd::ClientSends | WireEnd::ServerReceives);
        if !starts && !self.0.contains_key(&key) {
            let rest = whole(bytes.pieces, |tag, parts| {
                if index.messages(end, tag).next().is_none() {
                    return Ok(());
                }
                show(&bytes.message(end, tag, parts))
            })?;
            if rest.iter().all(Bytes::is_empty) {
                return Ok(());
            }
            let mut stream = Stream::new(true);
            rest.into_iter().for_each(|piece| stream.push(piece));
            self.0.insert(key, stream);
            return Ok(());
        }
        let stream = self.0.entry(key).or_default();
        bytes
            .pieces
            .iter()
            .for_each(|piece| stream.push(piece.clone()));
        while let Some(Frame { tag, body }) = stream.next() {
            show(&bytes.message(end, tag, &[body, Bytes::new()]))?;
        }
        if !starts && stream.reader.buffered() == 0 {
            self.0.remove(&key);
        }
        Ok(())
    }

    /// Forgets a connection that was closed.
    pub(super) fn forget(&mut self, host: usize, conn: ConnId) {
        self.0.remove(&(host, conn, true));
        self.0.remove(&(host, conn, false));
    }

    /// Forgets all connections of a server that has stopped.
    pub(super) fn forget_node(&mut self, host: usize) {
        self.0.retain(|(other, _, _), _| *other != host);
    }
}

impl Stream {
    /// The state before any bytes. A client's bytes begin with a startup packet, which is skipped.
    pub(crate) fn new(is_server: bool) -> Self {
        Self {
            started: is_server,
            ..Self::default()
        }
    }

    /// Adds bytes that have passed this end of the connection.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.reader.push(bytes);
    }

    /// The next complete message.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        if self.garbage {
            return None;
        }
        if !self.started {
            match self.reader.next_startup() {
                Ok(packet) => self.started = packet.is_some(),
                Err(_) => self.garbage = true,
            }
            if !self.started {
                return None;
            }
        }
        match self.reader.next(|_| Ok(u32::MAX)) {
            Ok(frame) => frame,
            Err(_) => {
                self.garbage = true;
                None
            }
        }
    }
}

/// Calls `show` for whole messages, which are not copied. Returns the beginning of an incomplete
/// message.
fn whole(
    pieces: &[Bytes; 2],
    mut show: impl FnMut(u8, &[Bytes; 2]) -> Ruling,
) -> Result<[Bytes; 2], super::Violation> {
    let [mut head, mut rest] = pieces.clone();
    loop {
        if head.is_empty() {
            (head, rest) = (rest, Bytes::new());
        }
        let (Some(tag), Some(len)) = (head.first().copied(), head.get(1..5)) else {
            return Ok([head, rest]);
        };
        let len = u32::from_be_bytes(len.try_into().expect("four bytes")) as usize;
        let end = len.saturating_add(1);
        if end <= head.len() && len >= 4 {
            let body = head.slice(5..end);
            head = head.slice(end..);
            show(tag, &[body, Bytes::new()])?;
        } else if end == head.len() + rest.len() && len >= 4 {
            show(tag, &[head.slice(5..), rest])?;
            return Ok([Bytes::new(), Bytes::new()]);
        } else {
            return Ok([head, rest]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(pieces: [&'static [u8]; 2]) -> (Vec<(u8, Vec<u8>)>, usize) {
        let mut seen = Vec::new();
        let rest = whole(&pieces.map(Bytes::from_static), |tag, [head, rest]| {
            seen.push((tag, [&head[..], &rest[..]].concat()));
            Ok(())
        });
        (
            seen,
            rest.expect("nothing objects")
                .map(|piece| piece.len())
                .iter()
                .sum(),
        )
    }

    #[test]
    fn messages_are_cut_where_they_end() {
        let ready = b"Z\0\0\0\x05I";
        assert_eq!(frames([ready, b""]), (vec![(b'Z', b"I".to_vec())], 0));
        assert_eq!(frames([b"", ready]), (vec![(b'Z', b"I".to_vec())], 0));
        let data = (b'd', b"wabc".to_vec());
        assert_eq!(frames([b"d\0\0\0\x08w", b"abc"]), (vec![data.clone()], 0));
        let both = vec![(b'Z', b"I".to_vec()), data];
        assert_eq!(frames([b"Z\0\0\0\x05Id\0\0\0\x08w", b"abc"]), (both, 0));
        assert_eq!(frames([b"d\0\0\0\x08w", b"ab"]), (vec![], 8));
        assert_eq!(frames([b"d\0\0", b""]), (vec![], 3));
    }

    #[test]
    fn what_was_begun_is_finished_by_what_follows() {
        let mut stream = Stream::default();
        let startup = [0, 0, 0, 8, 0, 3, 0, 0];
        stream.reader.push(Bytes::copy_from_slice(&startup[..5]));
        assert_eq!(stream.next(), None);
        stream.reader.push(Bytes::copy_from_slice(&startup[5..]));
        stream.reader.push(Bytes::from_static(b"Q\0\0\0\x05"));
        assert_eq!(stream.next(), None);
        stream.reader.push(Bytes::from_static(b"\0p\0\0\0\0"));
        assert_eq!(
            stream.next(),
            Some(Frame {
                tag: b'Q',
                body: Bytes::from_static(b"\0")
            })
        );
        assert_eq!(stream.next(), None, "no message is that short");
        assert!(stream.garbage);
    }
}
