//! Passes events from other threads to a driver.

use mio::Waker;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use walsim_core::base::{ConnId, OpId};
use walsim_core::call::Input;

/// An event from another thread.
#[derive(Debug)]
pub(super) enum News {
    /// An input for the machine.
    Input(Input),
    /// The pool has opened a file.
    Opened(OpId, File),
    /// The addresses of the host to which the machine opens this connection.
    Resolved(ConnId, io::Result<Vec<SocketAddr>>),
}

/// Gives inputs to a driver that runs in another thread.
#[derive(Clone, Debug)]
pub struct Handle {
    news: Sender<News>,
    waker: Arc<Waker>,
}

impl Handle {
    pub(super) const fn new(news: Sender<News>, waker: Arc<Waker>) -> Self {
        Self { news, waker }
    }

    /// Passes an input, usually a signal, to the machine. Does nothing if the driver has ended.
    pub fn input(&self, input: Input) {
        self.send(News::Input(input));
    }

    pub(super) fn send(&self, news: News) {
        // Sending fails if the driver no longer exists.
        if self.news.send(news).is_ok() {
            let _ = self.waker.wake();
        }
    }
}
