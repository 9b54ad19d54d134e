//! Removes the directory of a slot. Mirrors rmtree.

use crate::call::{DiskDone, DiskOp, FilePath, LogEvent, Message, Place, Poll, SqlState};
use crate::sys::Cx;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// `rmtree` for a directory that contains only files. Nothing is fsynced. If the files reappear
/// after a loss of power, the next start removes them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Rmtree {
    path: FilePath,
    complete: bool,
    phase: Phase,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    Start,
    Listed,
    Unlinked(Vec<String>),
    Removed,
}

impl Rmtree {
    pub(super) fn new(path: impl Into<FilePath>) -> Self {
        Self {
            path: path.into(),
            complete: true,
            phase: Phase::Start,
        }
    }

    /// Returns false and logs a WARNING if anything could not be removed.
    pub(super) fn poll(&mut self, cx: &mut Cx<'_>) -> Poll<bool> {
        let op = match &mut self.phase {
            Phase::Start => {
                self.phase = Phase::Listed;
                DiskOp::List(self.path.clone())
            }
            Phase::Listed => match cx.done() {
                Ok(DiskDone::Names(mut names)) => {
                    names.reverse();
                    self.next(names)
                }
                Ok(done) => panic!("a list gives names, not {done:?}"),
                Err(_) => return self.end(cx, false),
            },
            Phase::Unlinked(names) => {
                let names = core::mem::take(names);
                self.complete &= cx.done().is_ok();
                self.next(names)
            }
            Phase::Removed => {
                let complete = cx.done().is_ok() && self.complete;
                return self.end(cx, complete);
            }
        };
        Poll::Yield(cx.disk(op, Place::Rmtree))
    }

    fn next(&mut self, mut names: Vec<String>) -> DiskOp {
        match names.pop() {
            Some(name) => {
                // A name must not lead out of the directory.
                assert!(!name.contains('/') && name != "..", "{name}");
                self.phase = Phase::Unlinked(names);
                DiskOp::Unlink(FilePath::from(format!("{}/{name}", self.path)))
            }
            None => {
                self.phase = Phase::Removed;
                DiskOp::Rmdir(self.path.clone())
            }
        }
    }

    fn end(&self, cx: &mut Cx<'_>, complete: bool) -> Poll<bool> {
        if !complete {
            let message = Message::RemoveDir(self.path.clone());
            cx.log(LogEvent::warning(SqlState::OK, message));
        }
        Poll::Ready(complete)
    }
}
