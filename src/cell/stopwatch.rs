//! A timed actor's stopwatch: how long messages wait, how long handlers take, and what waits now.
//!
//! A timed actor has a stopwatch in the cold part from the first moment to the last. Other actors
//! have none and read no clock. Three parties look for a stopwatch: a sender when it packs (the
//! envelope then has room for the instant of sending), the thread that makes the actor runnable,
//! and the actor's turns, which go through a loop of their own.
//!
//! | instant | taken by |
//! |---|---|
//! | a message is accepted | its sender, after reserving and before linking, into the envelope |
//! | a tick was due | its timer has it |
//! | the actor is runnable | the thread that schedules it; its own turn, if there is more to do |
//! | a turn begins, each handler begins and ends | the turn |
//!
//! A handler begins when the previous handler ended, so each message costs a single reading of the
//! clock.
//!
//! **Collecting.** A turn keeps measurements on the stack. At the end, and after each `SAMPLES`
//! messages, the turn enters the measurements into the actor's record and into the worker's. Each
//! record has a lock that otherwise only readers take, and under which no user code runs. A message
//! that turns out not to be handled (expired, cancelled) is not entered, so the count is that of
//! the handled messages.
//!
//! **What waits now**, for [`Handle::top`](crate::Handle::top). Mailboxes are stacks that are taken
//! whole. So each of the two (messages, ticks) has a part that was taken and a part that was pushed
//! since. The turn writes down the instant of the first message taken. A sender that puts the first
//! message of an idle actor there does the same. A sender that pushes onto an empty stack writes
//! down the instant of its own message, the oldest there. The note comes after the push, perhaps
//! late, so the younger instant wins: it belongs to the later stack. A reader sees by itself
//! whether a stack is empty. All of this is relaxed: a reader may see a value a moment too early or
//! too late, and only reports.

use super::times::{Record, Timing};
use crate::mailbox::inbox::Inbox;
use crate::sync::{AtomicU64, Counter, Mutex, Ordering::Relaxed};
use crate::time::{self, Duration, Instant};
use std::cell::Cell;

/// An instant as ns after the stopwatch was made, from 1. 0 is none.
type StopwatchNs = u64;

/// The stopwatch. See the header of this file.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    made: Instant,
    /// Since when the actor is runnable. Written by the thread that schedules the actor, before the
    /// push of the runnable. Read by the turn.
    pub(super) runnable: AtomicU64,
    /// When the handler of the message in hand began, or 0. Written by turns.
    pub(super) begun: AtomicU64,
    /// Time in handlers, without the one under way. Written by turns.
    pub(super) handling_ns: Counter,
    pub(super) messages: OldestSent,
    pub(super) ticks: OldestSent,
    pub(super) record: Mutex<ActorRecord>,
    /// For the turn: when the message in hand was sent.
    pub(super) sent: Cell<Option<Instant>>,
    /// For the turn: a reading of the clock from a moment ago, which saves another one.
    pub(super) clock: Cell<Option<Instant>>,
    /// For the turn: whether the message in hand turned out not to be handled.
    pub(super) unhandled: Cell<bool>,
}

/// Instants of the oldest taken message, and of the oldest message pushed since.
#[derive(Debug, Default)]
pub(super) struct OldestSent {
    pub(super) taken: AtomicU64,
    pushed: AtomicU64,
}

impl OldestSent {
    pub(super) fn oldest_mark(&self, inbox: &Inbox) -> Option<StopwatchNs> {
        match self.taken.load(Relaxed) {
            // Taken messages are older than all messages pushed since.
            0 if inbox.has_nothing_pushed() => None,
            0 => Some(self.pushed.load(Relaxed)),
            taken => Some(taken),
        }
    }
}

#[derive(Debug)]
pub(super) struct ActorRecord {
    pub(super) wait: Record,
    pub(super) handling: Record,
}

impl Stopwatch {
    pub(crate) fn new() -> Box<Self> {
        Box::new(Stopwatch {
            made: time::now(),
            runnable: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            handling_ns: Counter::default(),
            messages: OldestSent::default(),
            ticks: OldestSent::default(),
            record: Mutex::new(ActorRecord { wait: Record::coarse(), handling: Record::coarse() }),
            sent: Cell::new(None),
            clock: Cell::new(None),
            unhandled: Cell::new(false),
        })
    }

    pub(super) fn ns_of(&self, at: Instant) -> StopwatchNs {
        whole_ns(at.saturating_duration_since(self.made)) + 1
    }

    /// Notes that the actor becomes runnable. Called by the thread that is about to push the
    /// runnable.
    pub(crate) fn runnable_since(&self, now: Instant) {
        // Relaxed: the runnable's way through the queues orders the store before the turn's load.
        self.runnable.store(self.ns_of(now), Relaxed);
    }

    #[cold]
    pub(crate) fn runnable_now(&self) {
        self.runnable_since(time::now());
    }

    /// Notes a message sent at `sent` that was put where the turn begins. Called by the sender that
    /// has just scheduled the actor.
    pub(crate) fn put_first(&self, sent: Instant) {
        self.messages.taken.store(self.ns_of(sent), Relaxed);
    }

    /// Notes a message sent at `sent` that was pushed onto an empty stack.
    pub(crate) fn pushed_first(&self, sent: Instant) {
        // The younger instant wins: a late note about an earlier stack must not replace a newer
        // one.
        self.messages.pushed.fetch_max(self.ns_of(sent), Relaxed);
    }

    /// Notes a tick that is about to be pushed. Timers fire under a lock, so one call runs at a
    /// time.
    pub(crate) fn pushing_tick(&self, ticks: &Inbox, due: Option<Instant>) {
        if let Some(due) = due
            && ticks.has_nothing_pushed()
        {
            self.ticks.pushed.store(self.ns_of(due), Relaxed);
        }
    }

    /// Notes, in the turn, that the message in hand is not handled after all.
    pub(crate) fn not_handled(&self) {
        self.unhandled.set(true);
    }

    /// Notes, in the turn, that something else took time since the last message.
    pub(crate) fn forget_clock(&self) {
        self.clock.set(None);
    }

    /// Returns, in the turn, the time since the message in hand was sent.
    pub(crate) fn message_age(&self) -> Option<Duration> {
        self.sent.get().map(|sent| time::now().saturating_duration_since(sent))
    }

    pub(crate) fn read_timing(&self) -> Timing {
        let record = self.record.lock();
        Timing { wait: record.wait.read_times(), handling: record.handling.read_times() }
    }

    /// Returns the time in handlers up to `now`, including the one under way.
    pub(crate) fn busy_until(&self, now: Instant) -> Duration {
        let under_way = match self.begun.load(Relaxed) {
            0 => 0,
            begun => self.ns_of(now).saturating_sub(begun),
        };
        Duration::from_nanos(self.handling_ns.get() + under_way)
    }
}

pub(super) fn whole_ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1)
}
