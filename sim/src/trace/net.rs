//! Records messages. Splits the bytes that pass the ends of connections into messages.

use super::event::Act;
use super::message::MessageFields;
use super::recorder::{Recorder, Spot};
use crate::referee::Stream;
use bytes::Bytes;
use walsim_core::base::ConnId;

impl Recorder {
    /// The name of the machine at the other end of a connection. If the connection is gone, this is
    /// the last known name.
    pub(crate) fn peer(&mut self, host: usize, conn: ConnId, machine: Option<u16>) -> String {
        let Some(recording) = &mut self.0 else {
            return String::new();
        };
        let name = machine.and_then(|machine| recording.names.get(usize::from(machine)));
        if let Some(name) = name {
            recording.peers.insert((host, conn), name.clone());
        }
        let peer = recording.peers.get(&(host, conn));
        peer.cloned().unwrap_or_default()
    }

    /// Called when bytes pass one end of a connection.
    pub(crate) fn bytes(
        &mut self,
        spot: Spot,
        conn: ConnId,
        sends: bool,
        peer: String,
        pieces: &[Bytes; 2],
    ) {
        let (Some(recording), Some(host)) = (&mut self.0, spot.host) else {
            return;
        };
        // The id of a connection contains the number of the node's start if the node opened the
        // connection, and 0 if the node accepted it.
        let is_server = conn.incarnation == 0;
        let key = (host, conn, sends);
        let len: usize = pieces.iter().map(Bytes::len).sum();
        let act = Act::Bytes {
            peer: peer.clone(),
            sends,
            len: len as u64,
        };
        recording.add(spot, act);
        let stream = recording.streams.entry(key);
        let stream = stream.or_insert_with(|| Stream::new(is_server == sends));
        pieces.iter().for_each(|piece| stream.push(piece.clone()));
        let frames: Vec<_> = std::iter::from_fn(|| stream.next()).collect();
        for frame in frames {
            let bytes = frame.body.len() as u64 + 5;
            let message = match is_server == sends {
                true => MessageFields::of_backend(frame),
                false => MessageFields::of_frontend(frame),
            };
            let peer = peer.clone();
            let act = match sends {
                true => Act::Send {
                    peer,
                    bytes,
                    message,
                },
                false => Act::Receive {
                    peer,
                    bytes,
                    message,
                },
            };
            recording.add(spot, act);
        }
    }

    /// Called when a connection is closed.
    pub(crate) fn closed(&mut self, host: usize, conn: ConnId) {
        if let Some(recording) = &mut self.0 {
            recording.streams.remove(&(host, conn, true));
            recording.streams.remove(&(host, conn, false));
            recording.peers.remove(&(host, conn));
        }
    }
}
