//! The measurements of one turn of a timed actor, and what a stopwatch needs an actor's header for.

use super::core::Core;
use super::envelope::Envelope;
use super::header::{Header, Phase};
use super::stopwatch::{Stopwatch, whole_ns};
use crate::mailbox::link::Node;
use crate::sync::Ordering::Relaxed;
use crate::time::{self, Duration, Instant};
use std::cell::Cell;

/// Number of messages measured before the records are updated.
const SAMPLES: usize = 32;

impl Stopwatch {
    /// Notes the first of the messages that were taken, for a queue, from which other actors get
    /// the messages.
    ///
    /// # Safety
    /// `first` is null, or a node of this mailbox. The caller is the mailbox's receiver.
    pub(super) unsafe fn first_is(&self, first: *mut Node) {
        // SAFETY: a node of this mailbox is an envelope, owned by the receiver until the pop.
        let sent =
            (!first.is_null()).then(|| unsafe { Envelope::sent_at(Envelope::from_node(first)) });
        self.messages.taken.store(sent.flatten().map_or(0, |sent| self.ns_of(sent)), Relaxed);
    }

    /// Returns the age at `now` of the oldest message or tick that waits, without the one in hand.
    pub(crate) fn oldest_waiting(&self, header: &Header, now: Instant) -> Option<Duration> {
        let messages = self.messages.oldest_mark(&header.inbox);
        let ticks =
            header.cold_if_any().and_then(|cold| self.ticks.oldest_mark(cold.ticks.inbox()));
        let oldest = [messages, ticks].into_iter().flatten().min()?;
        Some(Duration::from_nanos(self.ns_of(now).saturating_sub(oldest)))
    }
}

/// The measurements of one turn of a timed actor.
#[derive(Debug)]
pub(crate) struct TurnTimer<'a> {
    header: &'a Header,
    watch: &'a Stopwatch,
    queued: Cell<Option<u64>>,
    /// When the message in hand was begun.
    begun: Cell<Option<Instant>>,
    /// Wait and handling of the handled messages, in ns.
    samples: [Cell<(u64, u64)>; SAMPLES],
    len: Cell<usize>,
}

impl<'a> TurnTimer<'a> {
    /// Begins the measurements of a turn.
    pub(crate) fn begin_turn(header: &'a Header, watch: &'a Stopwatch) -> Self {
        let now = time::now();
        let queued = watch.ns_of(now).saturating_sub(watch.runnable.load(Relaxed));
        // In a first turn `started` runs before the first message's handler begins.
        watch.clock.set((header.phase.get() != Phase::New).then_some(now));
        let samples = [const { Cell::new((0, 0)) }; SAMPLES];
        TurnTimer {
            header,
            watch,
            queued: Cell::new(Some(queued)),
            begun: Cell::new(None),
            samples,
            len: Cell::new(0),
        }
    }

    /// Begins a message sent at `sent`. `messages` and `ticks` are the first taken and waiting node
    /// of each kind.
    ///
    /// # Safety
    /// Each of the two is null or a node of this actor's mailbox. Called in the actor's turn.
    pub(crate) unsafe fn begin_message(
        &self,
        sent: Option<Instant>,
        messages: *mut Node,
        ticks: *mut Node,
    ) {
        let watch = self.watch;
        // The end of the message before is the beginning of this one, unless something came
        // between.
        let now = watch.clock.take().unwrap_or_else(time::now);
        let mark_of = |node: *mut Node| {
            if node.is_null() {
                return 0;
            }
            // SAFETY: a node of this mailbox is an envelope, owned by the turn until the pop.
            let sent = unsafe { Envelope::sent_at(Envelope::from_node(node)) };
            sent.map_or(0, |sent| watch.ns_of(sent))
        };
        watch.messages.taken.store(mark_of(messages), Relaxed);
        watch.ticks.taken.store(mark_of(ticks), Relaxed);
        watch.sent.set(sent);
        watch.begun.store(watch.ns_of(now), Relaxed);
        self.begun.set(Some(now));
    }

    /// Ends the message in hand, if there is one.
    pub(crate) fn end_message(&self) {
        let Some(begun) = self.begun.take() else { return };
        let watch = self.watch;
        let now = time::now();
        watch.clock.set(Some(now));
        // A reader adds the time under way to the sum, so the mark goes before the sum grows.
        watch.begun.store(0, Relaxed);
        let sent = watch.sent.take();
        // Not entered, so the counts are those of handled messages.
        if watch.unhandled.take() {
            return;
        }
        let wait = sent.map_or(Duration::ZERO, |sent| begun.saturating_duration_since(sent));
        let handling = whole_ns(now - begun);
        watch.handling_ns.add(handling);
        self.samples[self.len.get()].set((whole_ns(wait), handling));
        self.len.set(self.len.get() + 1);
        if self.len.get() == SAMPLES {
            self.flush_samples();
        }
    }

    /// Ends the measurements, after the last message or a panic.
    pub(crate) fn end_turn(self) {
        self.end_message();
        self.flush_samples();
        // If there is more to do the actor is runnable from now on. Otherwise the next thread that
        // schedules the actor overwrites the instant.
        self.watch.runnable_since(self.watch.clock.take().unwrap_or_else(time::now));
    }

    /// Enters the samples into the actor's record and into the worker's.
    fn flush_samples(&self) {
        let samples = &self.samples[..self.len.replace(0)];
        if !samples.is_empty() {
            let mut record = self.watch.record.lock();
            for (wait, handling) in samples.iter().map(Cell::get) {
                record.wait.add_time(wait);
                record.handling.add_time(handling);
            }
        }
        let core: &Core = self.header.core();
        // The worker is looked up here: user code may have blocked, and the turn gone on elsewhere.
        core.record_times(|record| {
            if let Some(queued) = self.queued.take() {
                record.queued.add_time(queued);
            }
            for (wait, handling) in samples.iter().map(Cell::get) {
                record.wait.add_time(wait);
                record.handling.add_time(handling);
            }
        });
    }
}
