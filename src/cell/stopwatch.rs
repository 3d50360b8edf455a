//! A timed actor's stopwatch: what its messages wait for, what its handlers take, and who waits now.
//!
//! Timed actors have one in their cold part from their first moment to their last; the others have none, and read no
//! clock. Who looks for it: a sender when it packs (the envelope then has room for the instant of sending), whoever makes
//! the actor runnable, and its turns, which go through a loop of their own.
//!
//! | instant | taken by |
//! |---|---|
//! | a message is accepted | its sender, between reserving the place and linking the envelope, into the envelope |
//! | a tick was due | its timer has it |
//! | the actor is runnable | whoever's transition made it scheduled; its own turn when there is more to do |
//! | a turn begins, each of its handlers begins and ends | the turn; a handler begins when the one before ended |
//!
//! **Collecting.** A turn keeps what it measures on its own stack and enters it, [`SAMPLES`] messages at a time and at its
//! end, into the actor's record and into the worker's, each under a lock that otherwise only readers take. No user
//! code runs under either. A message that turns out not to be handled (expired, cancelled) is not entered, so
//! the count is that of the handled ones.
//!
//! **Who waits now**, for [`Handle::top`](crate::Handle::top). Mailboxes are stacks that are taken whole, so for each of the
//! two (messages, ticks) there is what was taken and what was pushed since. The turn writes down the instant of
//! the first that it has taken, as does whoever puts the first message of an idle actor there; whoever pushes onto an empty
//! stack, that of its own, which is the oldest there. It does so after the push, perhaps late, so the younger instant wins, which is the later stack's. A reader sees by itself
//! whether a stack is empty. All of this is relaxed: a reader may see it a moment too early or too late, and only reports.

use super::core::Core;
use super::envelope::Envelope;
use super::header::{Header, Phase};
use super::times::{Record, Timing};
use crate::mailbox::inbox::{Inbox, Node};
use crate::sync::{AtomicU64, Counter, Mutex, Ordering::Relaxed};
use crate::time::{self, Duration, Instant};
use std::cell::Cell;

/// Messages that a turn keeps before it enters them.
const SAMPLES: usize = 32;

/// An instant as ns after the stopwatch was made, from 1; 0 is none.
type Mark = u64;

/// See the page above.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    made: Instant,
    /// Since when the actor is runnable. Written by who makes it so, who pushes the runnable next; read by its turn.
    runnable: AtomicU64,
    /// When the handler of the message in hand began. Written by turns.
    begun: AtomicU64,
    /// In handlers, but the one under way. Written by turns.
    handling_ns: Counter,
    messages: Line,
    ticks: Line,
    record: Mutex<ActorRecord>,
    /// For the turn: when the message in hand was sent.
    sent: Cell<Option<Instant>>,
    /// For the turn: the clock as it was a moment ago.
    clock: Cell<Option<Instant>>,
    /// For the turn: the message in hand was not handled.
    unhandled: Cell<bool>,
}

/// Since when the first of those waits that were taken, and the first of those that were pushed since.
#[derive(Debug, Default)]
struct Line {
    taken: AtomicU64,
    pushed: AtomicU64,
}

impl Line {
    fn oldest(&self, inbox: &Inbox) -> Option<Mark> {
        match self.taken.load(Relaxed) {
            0 if inbox.nothing_pushed() => None,
            0 => Some(self.pushed.load(Relaxed)),
            taken => Some(taken),
        }
    }
}

#[derive(Debug)]
struct ActorRecord {
    wait: Record,
    handling: Record,
}

impl Stopwatch {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Stopwatch {
            made: time::now(),
            runnable: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            handling_ns: Counter::default(),
            messages: Line::default(),
            ticks: Line::default(),
            record: Mutex::new(ActorRecord { wait: Record::coarse(), handling: Record::coarse() }),
            sent: Cell::new(None),
            clock: Cell::new(None),
            unhandled: Cell::new(false),
        })
    }

    fn mark(&self, at: Instant) -> Mark {
        ns(at.saturating_duration_since(self.made)) + 1
    }

    /// The actor becomes runnable; by who is about to push it.
    pub(crate) fn runnable(&self, now: Instant) {
        // Relaxed: the runnable's way through the queues orders it before the turn that reads it.
        self.runnable.store(self.mark(now), Relaxed);
    }

    #[cold]
    pub(crate) fn runnable_now(&self) {
        self.runnable(time::now());
    }

    /// A message sent at `sent` is put where the turn begins; by who has just made the actor scheduled.
    pub(crate) fn put_first(&self, sent: Instant) {
        self.messages.taken.store(self.mark(sent), Relaxed);
    }

    /// A message sent at `sent` was pushed onto an empty stack.
    pub(crate) fn pushed_first(&self, sent: Instant) {
        self.messages.pushed.fetch_max(self.mark(sent), Relaxed);
    }

    /// For a queue whose messages are given to other actors: what is first of those that were taken.
    ///
    /// # Safety
    /// `first` is of this mailbox, whose receiver the caller is; or null.
    pub(super) unsafe fn first_is(&self, first: *mut Node) {
        // SAFETY: the caller's.
        let sent = (!first.is_null()).then(|| unsafe { Envelope::sent(Envelope::from_node(first)) });
        self.messages.taken.store(sent.flatten().map_or(0, |sent| self.mark(sent)), Relaxed);
    }

    /// A tick is about to be pushed. One at a time: timers fire under a lock.
    pub(crate) fn pushing_tick(&self, ticks: &Inbox, due: Option<Instant>) {
        if let Some(due) = due
            && ticks.nothing_pushed()
        {
            self.ticks.pushed.store(self.mark(due), Relaxed);
        }
    }

    /// In the turn: the message in hand is not handled after all.
    pub(crate) fn not_handled(&self) {
        self.unhandled.set(true);
    }

    /// In the turn: something else took time since the last message.
    pub(crate) fn forget_clock(&self) {
        self.clock.set(None);
    }

    /// In the turn: since when the message in hand was under way.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.sent.get().map(|sent| time::now().saturating_duration_since(sent))
    }

    pub(crate) fn read(&self) -> Timing {
        let record = self.record.lock();
        Timing { wait: record.wait.read(), handling: record.handling.read() }
    }

    /// Time in handlers up to `now`, that of the one under way included.
    pub(crate) fn busy(&self, now: Instant) -> Duration {
        let under_way = match self.begun.load(Relaxed) {
            0 => 0,
            begun => self.mark(now).saturating_sub(begun),
        };
        Duration::from_nanos(self.handling_ns.get() + under_way)
    }

    /// The age at `now` of the oldest message or tick that waits, but for the one in hand.
    pub(crate) fn oldest(&self, header: &Header, now: Instant) -> Option<Duration> {
        let messages = self.messages.oldest(&header.inbox);
        let ticks = header.cold_if_any().and_then(|cold| self.ticks.oldest(cold.ticks.inbox()));
        let oldest = [messages, ticks].into_iter().flatten().min()?;
        Some(Duration::from_nanos(self.mark(now).saturating_sub(oldest)))
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1)
}

/// One turn of a timed actor.
#[derive(Debug)]
pub(crate) struct Lap<'a> {
    header: &'a Header,
    watch: &'a Stopwatch,
    queued: Cell<Option<u64>>,
    /// When the message in hand was begun.
    begun: Cell<Option<Instant>>,
    /// Wait and handling of those that were handled, in ns.
    samples: [Cell<(u64, u64)>; SAMPLES],
    len: Cell<usize>,
}

impl<'a> Lap<'a> {
    /// The turn begins.
    pub(crate) fn begin(header: &'a Header, watch: &'a Stopwatch) -> Self {
        let now = time::now();
        let queued = watch.mark(now).saturating_sub(watch.runnable.load(Relaxed));
        // Before its first message the actor is started.
        watch.clock.set((header.phase.get() != Phase::New).then_some(now));
        let samples = [const { Cell::new((0, 0)) }; SAMPLES];
        Lap {
            header,
            watch,
            queued: Cell::new(Some(queued)),
            begun: Cell::new(None),
            samples,
            len: Cell::new(0),
        }
    }

    /// A message sent at `sent` is taken in hand; behind it wait `messages` and `ticks`, the first of each of what was taken.
    ///
    /// # Safety
    /// Both are of this actor's mailbox, in its turn, or null.
    pub(crate) unsafe fn start(&self, sent: Option<Instant>, messages: *mut Node, ticks: *mut Node) {
        let watch = self.watch;
        let now = watch.clock.take().unwrap_or_else(time::now);
        let mark_of = |node: *mut Node| {
            if node.is_null() {
                return 0;
            }
            // SAFETY: the caller's.
            let sent = unsafe { Envelope::sent(Envelope::from_node(node)) };
            sent.map_or(0, |sent| watch.mark(sent))
        };
        watch.messages.taken.store(mark_of(messages), Relaxed);
        watch.ticks.taken.store(mark_of(ticks), Relaxed);
        watch.sent.set(sent);
        watch.begun.store(watch.mark(now), Relaxed);
        self.begun.set(Some(now));
    }

    /// The message in hand, if any, is done with.
    pub(crate) fn stop(&self) {
        let Some(begun) = self.begun.take() else { return };
        let watch = self.watch;
        let now = time::now();
        watch.clock.set(Some(now));
        watch.begun.store(0, Relaxed);
        let sent = watch.sent.take();
        if watch.unhandled.take() {
            return;
        }
        let wait = sent.map_or(Duration::ZERO, |sent| begun.saturating_duration_since(sent));
        let handling = ns(now - begun);
        watch.handling_ns.add(handling);
        self.samples[self.len.get()].set((ns(wait), handling));
        self.len.set(self.len.get() + 1);
        if self.len.get() == SAMPLES {
            self.enter();
        }
    }

    /// The turn's messages are over, perhaps by a panic.
    pub(crate) fn end(self) {
        self.stop();
        self.enter();
        // If there is more to do it is runnable from now on; if not, whoever makes it so overwrites this.
        self.watch.runnable(self.watch.clock.take().unwrap_or_else(time::now));
    }

    fn enter(&self) {
        let samples = &self.samples[..self.len.replace(0)];
        if !samples.is_empty() {
            let mut record = self.watch.record.lock();
            for (wait, handling) in samples.iter().map(Cell::get) {
                record.wait.add(wait);
                record.handling.add(handling);
            }
        }
        let core: &Core = self.header.core();
        core.record_times(|record| {
            if let Some(queued) = self.queued.take() {
                record.queued.add(queued);
            }
            for (wait, handling) in samples.iter().map(Cell::get) {
                record.wait.add(wait);
                record.handling.add(handling);
            }
        });
    }
}
