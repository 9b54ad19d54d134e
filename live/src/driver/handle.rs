//! How other threads tell a driver something.

use mio::Waker;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use walsim_core::base::{ConnId, OpId};
use walsim_core::call::Input;

/// What comes from another thread.
#[derive(Debug)]
pub(super) enum News {
    /// An input for the machine.
    Input(Input),
    /// An operation has opened a file.
    Opened(OpId, File),
    /// The addresses of the host that a connection is to be opened to.
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

    /// Gives the machine an input: mostly a signal. A driver that has ended takes none.
    pub fn input(&self, input: Input) {
        self.tell(News::Input(input));
    }

    pub(super) fn tell(&self, news: News) {
        // Neither fails while there is a driver that could hear it.
        if self.news.send(news).is_ok() {
            let _ = self.waker.wake();
        }
    }
}
