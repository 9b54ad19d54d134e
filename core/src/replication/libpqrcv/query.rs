//! Sends a command to the upstream and reads the answer. Mirrors libpqrcv_PQexec,
//! libpqrcv_startstreaming and libpqrcv_endstreaming. As in PostgreSQL, there is no timeout.

use super::failure::Failure;
use super::link::{Incoming, Link};
use crate::call::{Place, Poll, Signal};
use crate::sys::Cx;
use crate::wire::backend::BackendMessage;
use crate::wire::command::Command;
use crate::wire::frontend::FrontendMessage;
use alloc::vec::Vec;
use bytes::Bytes;

/// A row. `None` means NULL.
pub type Row = Vec<Option<Bytes>>;

/// The upstream's answer to a command.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// The command has completed. Its result has these rows.
    Done(Rows),
    /// COPY has started.
    CopyBoth,
}

impl Answer {
    /// The rows of the answer. An answer that started a COPY has no rows.
    #[must_use]
    pub fn rows(self) -> Rows {
        match self {
            Self::Done(rows) => rows,
            Self::CopyBoth => Rows::default(),
        }
    }
}

/// The rows of an answer. Only the first row is kept, because no replication command returns more
/// than one.
#[derive(Clone, PartialEq, Eq, Hash, Default, Debug)]
pub struct Rows {
    /// The first row.
    pub first: Option<Row>,
    /// Number of rows received (`PQntuples`).
    pub count: u64,
    /// Number of fields in each row (`PQnfields`).
    pub fields: usize,
}

impl Rows {
    /// The row, if there is exactly one row and the row has at least `least_fields` fields.
    #[must_use]
    pub fn only(&self, least_fields: usize) -> Option<&Row> {
        let fits = self.count == 1 && self.fields >= least_fields;
        self.first.as_ref().filter(|_| fits)
    }
}

/// A command that was sent and is not yet answered.
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

    /// `libpqrcv_endstreaming`: ends the COPY. If there is a next timeline, the answer has a row
    /// with that timeline and its start.
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

    /// Returns the answer when the upstream has sent ReadyForQuery or has started COPY.
    ///
    /// # Errors
    /// The connection broke, or the upstream sent an ErrorResponse. After an ErrorResponse, the
    /// caller must poll until ReadyForQuery before it sends another command.
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
                    assert_eq!(rows.first.is_some(), rows.count > 0, "{}", rows.count);
                    return Poll::Ready(Ok(Answer::Done(rows)));
                }
                Incoming::Message(BackendMessage::CopyBothResponse { .. }) => {
                    return Poll::Ready(Ok(Answer::CopyBoth));
                }
                // All other messages are ignored. Among them is CopyData that the upstream sent
                // before it received the end of the COPY.
                Incoming::Message(_) => {}
            }
        }
    }
}
