//! Threads for operations that can block. These are disk operations that wait for the disk, and
//! lookups of host names.
//!
//! If all threads are busy, a new thread is started, up to [`MOST`] threads. One slow fsync
//! therefore does not delay other operations.

use super::handle::{Handle, News};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The largest number of threads. A machine has few processes, and each process has at most one
/// operation in progress, so more threads would be idle.
const MOST: usize = 16;

/// Work for a thread. Its result is passed to the driver.
pub(super) type Job = Box<dyn FnOnce() -> Option<News> + Send>;

/// The threads. When the pool is dropped, each thread ends after its current job.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    handle: Handle,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
    closed: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(handle: Handle) -> Self {
        let shared = Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            handle,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Passes a job to a thread. If no thread runs and none can be started, the caller executes the
    /// job.
    pub(super) fn give(&self, job: Job) {
        let mut queue = self.shared.lock();
        queue.jobs.push_back(job);
        if queue.jobs.len() > queue.idle && queue.threads < MOST {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new()
                .name("disk".into())
                .spawn(move || shared.work());
            if started.is_ok() {
                queue.threads += 1;
            } else if queue.threads == 0 {
                let last = queue.jobs.pop_back();
                drop(queue);
                if let Some(news) = last.and_then(|job| job()) {
                    self.shared.handle.send(news);
                }
                return;
            }
        }
        drop(queue);
        self.shared.work.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A poisoned lock is no problem. No thread runs a job while it holds the lock, so a panic
        // of a job cannot damage the queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            if let Some(news) = job() {
                self.handle.send(news);
            }
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            let woken = self.work.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::handle::News;
    use mio::{Poll, Token, Waker};
    use std::sync::mpsc::channel;
    use walsim_core::base::Pid;
    use walsim_core::call::{Input, Signal};

    /// All threads but one are blocked. The remaining thread executes all other jobs.
    #[test]
    fn a_blocked_job_does_not_delay_others() {
        let poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let (sender, news) = channel();
        let pool = Pool::new(Handle::new(sender, waker));
        let signal = |n| News::Input(Input::Signal(Pid::postmaster(n), Signal::Usr1));
        let mut gates = Vec::new();
        for _ in 1..MOST {
            let (open, gate) = channel::<()>();
            gates.push(open);
            pool.give(Box::new(move || {
                let _ = gate.recv();
                None
            }));
        }
        for n in 1..=20 {
            pool.give(Box::new(move || Some(signal(n))));
        }
        for n in 1..=20 {
            let heard = news.recv().unwrap();
            assert!(
                matches!(heard, News::Input(Input::Signal(pid, _)) if pid == Pid::postmaster(n))
            );
        }
    }
}
