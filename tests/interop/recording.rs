//! Observes a receiver on real files. The receiver must not report a flush position before the
//! fsync has returned.

use bytes::Bytes;
use std::collections::BTreeMap;
use walsim_core::base::{Fd, Geometry, Lsn, Now, OpId, Pid};
use walsim_core::call::{DiskDone, DiskOp, Effect, Input, NetOp};
use walsim_core::node::PgReceivewal;
use walsim_core::wal::names::parse_segment_name;
use walsim_core::wire::frame::FrameReader;
use walsim_core::wire::frontend::{FrontendMessage, command_limit};
use walsim_core::wire::replication::StandbyMessage;
use walsim_live::driver::Host;

/// The events observed so far.
#[derive(Default)]
pub(crate) struct Recording {
    opening: BTreeMap<OpId, String>,
    files: BTreeMap<Fd, String>,
    /// The writes to each file that were not fsynced yet. Each has its start and its number.
    dirty: BTreeMap<String, Vec<(Lsn, u64)>>,
    writes: u64,
    /// The fsyncs in progress. Each has the path of its file, and the number of the last write
    /// before the fsync.
    syncing: BTreeMap<OpId, (String, u64)>,
    started: bool,
    said: FrameReader,
    /// How many flush positions the receiver has reported. `flushed` is the highest of them.
    pub(crate) reports: u32,
    pub(crate) flushed: Lsn,
}

impl Recording {
    fn disk(&mut self, op: OpId, call: &DiskOp) {
        if let DiskOp::Open { path, .. } = call {
            self.opening.insert(op, path.as_str().into());
        } else if let DiskOp::Write { fd, offset, .. } = call {
            let path = &self.files[fd];
            let stem = path.trim_end_matches(".partial");
            if let Some((_, segment)) = parse_segment_name(&Geometry::STOCK, stem) {
                let at = Geometry::STOCK.segment_start(segment) + *offset;
                self.writes += 1;
                let pieces = self.dirty.entry(path.clone()).or_default();
                pieces.push((at, self.writes));
            }
        } else if let DiskOp::Fsync(fd) = call {
            let covered = (self.files[fd].clone(), self.writes);
            self.syncing.insert(op, covered);
        } else if let DiskOp::Rename { from, to } = call
            && let Some(pieces) = self.dirty.remove(from.as_str())
        {
            self.dirty.insert(to.as_str().into(), pieces);
        }
    }

    fn sent(&mut self, piece: &Bytes) {
        if piece.is_empty() {
            return;
        }
        // The startup packet has no type byte.
        if !self.started {
            self.started = true;
            return;
        }
        self.said.push(piece.clone());
        while let Some(frame) = self.said.next(command_limit).expect("it sends frames") {
            let message = FrontendMessage::decode(frame).expect("it sends messages");
            let FrontendMessage::CopyData(payload) = message else {
                continue;
            };
            let Ok(StandbyMessage::Status(status)) = StandbyMessage::decode(&payload) else {
                continue;
            };
            self.reports += 1;
            self.flushed = self.flushed.max(status.flush);
            for (path, pieces) in &self.dirty {
                let early = pieces.iter().find(|(at, _)| *at < status.flush);
                assert_eq!(early, None, "{path} is not durable, but {status:?}");
            }
        }
    }
}

impl Host<PgReceivewal> for Recording {
    fn input(&mut self, _: &mut PgReceivewal, _: Now, input: &Input) {
        let Input::Disk(op, outcome) = input else {
            return;
        };
        if let (Some(path), Ok(DiskDone::Opened(fd))) = (self.opening.remove(op), outcome) {
            self.files.insert(*fd, path);
        }
        if let Some((path, upto)) = self.syncing.remove(op) {
            assert!(outcome.is_ok(), "{outcome:?}");
            if let Some(pieces) = self.dirty.get_mut(&path) {
                pieces.retain(|(_, number)| *number > upto);
            }
        }
    }

    fn effect(&mut self, _: Now, _: Pid, effect: &Effect) {
        match effect {
            Effect::Disk(op, call) => self.disk(*op, call),
            Effect::Net(_, NetOp::Send(pieces)) => pieces.iter().for_each(|piece| self.sent(piece)),
            Effect::Net(..) | Effect::Log(_) | Effect::Exit(_) | Effect::Halt => {}
        }
    }
}
