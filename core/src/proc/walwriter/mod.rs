//! The walwriter: flushes WAL in the background, so that asynchronous commits become durable.
//! Mirrors walwriter.c.

use crate::access::xlog_flush::XLogBackgroundFlush;
use crate::base::TimestampTz;
use crate::call::{Exit, Place, Poll, Signal, Wait, Yield};
use crate::sys::Cx;

/// The number of idle rounds before the walwriter sleeps longer (`LOOPS_UNTIL_HIBERNATE`).
const LOOPS_UNTIL_HIBERNATE: u32 = 50;
/// The factor by which the sleep of an idle walwriter grows (`HIBERNATE_FACTOR`).
const HIBERNATE_FACTOR: u64 = 25;

/// The walwriter process. It never inserts WAL, and exits only when it is told to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WalWriter {
    last_flush: TimestampTz,
    /// The number of idle rounds left before the walwriter hibernates.
    left_till_hibernate: u32,
    flush: Option<XLogBackgroundFlush>,
}

impl Default for WalWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl WalWriter {
    /// A newly started walwriter.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            last_flush: TimestampTz(0),
            left_till_hibernate: LOOPS_UNTIL_HIBERNATE,
            flush: None,
        }
    }

    /// One round of `WalWriterMain`, or a part of a round.
    pub fn step(&mut self, cx: &mut Cx<'_>) -> Yield {
        let flush = match &mut self.flush {
            Some(flush) => flush,
            None => {
                cx.reset_latch();
                // The next sleep uses the new settings. A SIGHUP therefore needs no further action.
                cx.take_signal(Signal::Hup);
                if cx.take_signal(Signal::Term) {
                    return Yield::Exit(Exit::Normal);
                }
                assert!(!cx.shmem.recovery_in_progress(), "{} has no WAL", cx.me);
                self.flush.insert(XLogBackgroundFlush::new(self.last_flush))
            }
        };
        let (last_flush, busy) = match flush.poll(cx) {
            Poll::Yield(how) => return how,
            Poll::Ready(Err(e)) => return Yield::Exit(Exit::Panic(e)),
            Poll::Ready(Ok(outcome)) => outcome,
        };
        assert_eq!(cx.sys.op, None, "a disk operation is under way");
        self.flush = None;
        self.last_flush = last_flush;
        self.left_till_hibernate = if busy {
            LOOPS_UNTIL_HIBERNATE
        } else {
            self.left_till_hibernate.saturating_sub(1)
        };
        let delay = u64::from(cx.shmem.settings.wal_writer_delay_ms);
        let factor = if self.left_till_hibernate > 0 {
            1
        } else {
            HIBERNATE_FACTOR
        };
        Yield::Wait(Wait::latch(
            Some(cx.now.mono.after_ms(delay * factor)),
            Place::WalWriterMain,
        ))
    }
}
