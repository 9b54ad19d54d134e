//! Drives one `Machine` of walsim-core on real files and sockets. The machine's disk operations
//! become system calls in a directory. Its connections become sockets. Its waits become sleeps of
//! the driver's thread.
//!
//! One thread runs the machine and its sockets. A pool of threads executes the operations that can
//! wait for a disk.
//!
//! Inputs are passed in the order in which they happen. Processes run in the order in which the
//! machine lists them. All effects of a step are executed in order before the next step. The driver
//! does not interpret the bytes.

mod clock;
mod errno;
mod files;
mod handle;
mod log;
mod pool;
mod signals;
mod socket;
mod sockets;

pub use handle::Handle;

use clock::Clock;
use files::Files;
use handle::News;
use mio::{Events, Poll, Token, Waker};
use pool::Pool;
use signals::Signals;
use sockets::{Inbox, Sockets};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use walsim_core::base::{Mono, Now, Pid};
use walsim_core::call::{DiskOp, Effect, Effects, Exit, Input, LogEvent, Machine, RunSet};

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const LISTENER: Token = Token(2);
const FIRST_CONN: usize = 3;

/// While processes can run, the driver polls the kernel for events once in this many rounds.
const ROUNDS: u32 = 16;

/// How long to wait, after the machine has ended, until its output is sent.
const LEAVE: Duration = Duration::from_secs(5);

/// How long to wait, after all output is sent, until the peers have closed their connections.
const ARRIVE: Duration = Duration::from_millis(100);

/// Observes all inputs and effects of the machine, in their order.
pub trait Host<M> {
    /// Called before the machine gets an input.
    fn input(&mut self, _machine: &mut M, _now: Now, _input: &Input) {}

    /// Called before an effect is executed.
    fn effect(&mut self, _now: Now, _pid: Pid, _effect: &Effect) {}

    /// Called when no process can run.
    fn idle(&mut self, _machine: &M) {}

    /// Called for each log message.
    fn log(&mut self, pid: Pid, event: &LogEvent) {
        log::write(pid, event);
    }
}

/// No observer.
impl<M> Host<M> for () {}

/// A machine with its sockets and files.
#[derive(Debug)]
pub struct Driver<M, H = ()> {
    machine: M,
    host: H,
    clock: Clock,
    poll: Poll,
    events: Events,
    news: Receiver<News>,
    handle: Handle,
    pool: Pool,
    files: Files,
    sockets: Sockets,
    signals: Option<Signals>,
    inbox: Inbox,
    effects: Effects,
    runnable: RunSet,
    /// How the last process ended.
    last_exit: Option<Exit>,
    halted: bool,
}

impl<M: Machine, H: Host<M>> Driver<M, H> {
    /// A driver for a machine. The machine's paths are relative to `dir`.
    ///
    /// # Errors
    /// If no more descriptors are available.
    pub fn new(machine: M, dir: &Path, host: H) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let (sender, news) = channel();
        let handle = Handle::new(sender, Arc::new(waker));
        Ok(Self {
            machine,
            host,
            clock: Clock::new(),
            events: Events::with_capacity(256),
            news,
            pool: Pool::new(handle.clone()),
            handle,
            files: Files::new(dir),
            sockets: Sockets::new(poll.registry().try_clone()?, FIRST_CONN),
            poll,
            signals: None,
            inbox: Inbox::new(),
            effects: Effects::default(),
            runnable: RunSet::default(),
            last_exit: None,
            halted: false,
        })
    }

    /// Listens for connections to the machine. Returns the address. If the given port is 0, the
    /// returned address contains the port that the kernel chose.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub fn listen(&mut self, addr: SocketAddr) -> io::Result<SocketAddr> {
        self.sockets.listen(addr, LISTENER)
    }

    /// From now on each SIGTERM, SIGINT, SIGQUIT and SIGHUP that this program gets is passed to the
    /// process `pid` of the machine.
    ///
    /// # Errors
    /// If the handlers cannot be set.
    pub fn take_signals(&mut self, pid: Pid) -> io::Result<()> {
        self.signals = Some(Signals::new(pid, self.poll.registry(), SIGNALS)?);
        Ok(())
    }

    /// A handle for passing inputs from other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The observer.
    #[must_use]
    pub const fn host(&self) -> &H {
        &self.host
    }

    /// The observer, for changes.
    pub const fn host_mut(&mut self) -> &mut H {
        &mut self.host
    }

    /// Drives the machine until it ends. Waits until all its output is sent. Returns how its last
    /// process ended.
    ///
    /// # Errors
    /// If the kernel cannot be polled.
    pub fn run(&mut self) -> io::Result<Option<Exit>> {
        while self.turn(None)? {}
        self.leave()?;
        Ok(self.last_exit.clone())
    }

    /// Runs all processes that can run. Then sleeps until an event, a timeout of the machine, or
    /// `limit`. Returns false if the machine has ended.
    ///
    /// # Errors
    /// If the kernel cannot be polled.
    pub fn turn(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        self.work()?;
        if self.halted {
            return Ok(false);
        }
        self.host.idle(&self.machine);
        let wakeup = self.machine.next_wakeup();
        let due = wakeup.into_iter().chain(self.sockets.next_time()).min();
        let sleep = due.map(|due| self.clock.left(due));
        self.look(sleep.into_iter().chain(limit).min())?;
        Ok(true)
    }

    fn work(&mut self) -> io::Result<()> {
        let mut rounds = 0;
        loop {
            self.take_news();
            let now = self.clock.mono();
            self.sockets.tick(now, &mut self.inbox);
            self.hand_over();
            let mut runnable = std::mem::take(&mut self.runnable);
            self.machine.runnable(self.clock.now(), &mut runnable);
            for pid in &runnable.0 {
                self.step(Input::Run(*pid));
            }
            let idle = runnable.0.is_empty();
            self.runnable = runnable;
            let read = self.sockets.read_wanted(&mut self.inbox);
            if self.halted || idle && !read && self.inbox.is_empty() {
                return Ok(());
            }
            rounds += 1;
            if rounds == ROUNDS {
                rounds = 0;
                self.look(Some(Duration::ZERO))?;
            }
        }
    }

    /// Passes all events of the inbox to the machine.
    fn hand_over(&mut self) {
        while let Some(input) = self.inbox.pop_front() {
            self.step(input);
        }
    }

    fn take_news(&mut self) {
        while let Ok(news) = self.news.try_recv() {
            match news {
                News::Opened(op, file) => self.inbox.extend(self.files.opened(op, file)),
                News::Resolved(conn, found) => {
                    let now = self.clock.mono();
                    self.sockets.resolved(now, conn, found, &mut self.inbox);
                }
                News::Input(input) => {
                    if let Input::Disk(op, _) = &input {
                        self.files.forget(*op);
                    }
                    self.inbox.push_back(input);
                }
            }
        }
    }

    fn step(&mut self, input: Input) {
        if self.halted {
            return;
        }
        let now = self.clock.now();
        self.host.input(&mut self.machine, now, &input);
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.step(now, input, &mut effects);
        for (pid, effect) in effects.0.drain(..) {
            self.host.effect(now, pid, &effect);
            self.carry_out(now.mono, pid, effect);
        }
        self.effects = effects;
    }

    fn carry_out(&mut self, now: Mono, pid: Pid, effect: Effect) {
        match effect {
            Effect::Disk(op, call) => {
                let answered = !matches!(call, DiskOp::Close(_));
                let outcome = self.files.issue(pid, op, call, &self.pool);
                if let Some(outcome) = outcome.filter(|_| answered) {
                    self.inbox.push_back(Input::Disk(op, outcome));
                }
            }
            Effect::Net(conn, call) => {
                let (pool, inbox) = (&self.pool, &mut self.inbox);
                self.sockets.op(now, pid, conn, call, pool, inbox);
            }
            Effect::Log(event) => self.host.log(pid, &event),
            Effect::Exit(exit) => {
                self.files.close_all(pid, &self.pool);
                self.sockets.close_all(now, pid, &mut self.inbox);
                self.last_exit = Some(exit);
            }
            Effect::Halt => {
                self.halted = true;
                self.sockets.shut(now, &mut self.inbox);
            }
        }
    }

    /// Polls the kernel for events. Waits for at most `sleep`.
    fn look(&mut self, sleep: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, sleep) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(e) => return Err(e),
        }
        let now = self.clock.mono();
        for event in &self.events {
            match event.token() {
                WAKER => {}
                SIGNALS => self
                    .inbox
                    .extend(self.signals.iter_mut().flat_map(Signals::take)),
                LISTENER => self.sockets.accept(now, &mut self.inbox),
                Token(_) => self.sockets.ready(now, event, &mut self.inbox),
            }
        }
        Ok(())
    }

    /// Sends the remaining output after the machine has ended.
    fn leave(&mut self) -> io::Result<()> {
        let began = self.clock.mono();
        let (leave, arrive) = (after(began, LEAVE), after(began, ARRIVE));
        loop {
            let now = self.clock.mono();
            let until = if self.sockets.has_unsent() {
                leave
            } else {
                arrive
            };
            if now >= until || !self.sockets.is_busy() {
                return Ok(());
            }
            self.look(Some(self.clock.left(until)))?;
            self.inbox.clear();
        }
    }
}

fn after(time: Mono, duration: Duration) -> Mono {
    time.after_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
