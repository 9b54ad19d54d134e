//! One command to the upstream and its answer. Mirrors libpqrcv_PQexec, libpqrcv_startstreaming,
//! libpqrcv_endstreaming; they wait without any limit.

use super::failure::Failure;
use super::link::{Incoming, Link};
use crate::call::{Place, Poll, Signal};
use crate::sys::Cx;
use crate::wire::backend::BackendMessage;
use crate::wire::command::Command;
use crate::wire::frontend::FrontendMessage;
use alloc::vec::Vec;
use bytes::Bytes;

/// A row; `None` is NULL.
pub type Row = Vec<Option<Bytes>>;

/// What the upstream answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// The command is done, with its rows.
    Done(Rows),
    /// The COPY begins.
    CopyBoth,
}

impl Answer {
    /// The rows; none of a COPY.
    #[must_use]
    pub fn rows(self) -> Rows {
        match self {
            Self::Done(rows) => rows,
            Self::CopyBoth => Rows::default(),
        }
    }
}

/// The rows of an answer, of which only the first is kept: no replication command has more than
/// one.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Rows {
    /// The first.
    pub first: Option<Row>,
    /// How many came (`PQntuples`).
    pub count: u64,
    /// How many fields each has (`PQnfields`).
    pub fields: usize,
}

impl Rows {
    /// The row, if there is exactly one and it has that many fields at least.
    #[must_use]
    pub fn only(&self, least_fields: usize) -> Option<&Row> {
        let fits = self.count == 1 && self.fields >= least_fields;
        self.first.as_ref().filter(|_| fits)
    }
}

/// A command whose answer is awaited.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Query {
    rows: Rows,
}

impl Query {
    /// Sends a command.
    #[must_use]
    pub fn send(cx: &mut Cx<'_>, link: &Link, command: &Command) -> Self {
        let query = FrontendMessage::Query(command.text(cx.shmem.settings.pg_version));
        cx.send(link.conn(), [query.to_bytes(), Bytes::new()]);
        Self::awaited()
    }

    /// `libpqrcv_endstreaming`: the row, if there is one, names the next timeline and where it
    /// begins.
    #[must_use]
    pub fn end_streaming(cx: &mut Cx<'_>, link: &Link) -> Self {
        let done = FrontendMessage::CopyDone.to_bytes();
        cx.send(link.conn(), [done, Bytes::new()]);
        Self::awaited()
    }

    fn awaited() -> Self {
        let rows = Rows::default();
        Self { rows }
    }

    /// The answer, once the upstream is ready for more or copies.
    ///
    /// # Errors
    /// The upstream refuses, or the connection breaks. Polled again after a refusal, it waits until
    /// the upstream is ready for another command.
    pub fn poll(&mut self, cx: &mut Cx<'_>, link: &mut Link) -> Poll<Result<Answer, Failure>> {
        cx.reset_latch();
        if cx.take_signal(Signal::Term) {
            return Poll::Ready(Err(Failure::Terminated));
        }
        loop {
            match link.receive(cx) {
                Incoming::WouldBlock => return Poll::Yield(link.wait(Place::LibpqrcvPQgetResult)),
                Incoming::Broken(why) => return Poll::Ready(Err(Failure::Broken(why))),
                Incoming::Message(BackendMessage::ErrorResponse(fields)) => {
                    return Poll::Ready(Err(Failure::Error(fields)));
                }
                Incoming::Message(BackendMessage::DataRow(row)) => {
                    self.rows.fields = row.len();
                    self.rows.count += 1;
                    self.rows.first.get_or_insert(row);
                }
                Incoming::Message(BackendMessage::RowDescription(columns)) => {
                    self.rows.fields = columns.len();
                }
                Incoming::Message(BackendMessage::ReadyForQuery(_)) => {
                    let rows = core::mem::take(&mut self.rows);
                    return Poll::Ready(Ok(Answer::Done(rows)));
                }
                Incoming::Message(BackendMessage::CopyBothResponse { .. }) => {
                    return Poll::Ready(Ok(Answer::CopyBoth));
                }
                // The rest says nothing that matters; data that was on its way when the COPY ended
                // is not wanted.
                Incoming::Message(_) => {}
            }
        }
    }
}
