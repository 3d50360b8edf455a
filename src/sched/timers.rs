//! The timers that are armed: a table of them, and a heap of instants.
//!
//! One of each for an executor, under one lock: a 4-ary heap (a quarter of the cache misses of a binary one's lower
//! levels), whose entries and the table's slots know each other's places, so that a timer is cancelled at once, and takes
//! its message with it, however far it is from being due.
//!
//! A timer's *slot* stays its own from arming to the end, under a key that is never used again:
//!
//! | slot | the timer is | leaves it by |
//! |---|---|---|
//! | armed | in the table and the heap | fire (out) · cancel (free) · the crew's end (free) |
//! | out | in a mailbox, or being handled | `end`, by whoever handled it (free) · `rearm`, for an interval (armed) · cancel (free) |
//! | free | no more: the key is invalid | |
//!
//! What a timer *aims* at, an actor, knows those that are armed for it ([`Aim`]), and ends them when it ends.
//!
//! So a timer that was cancelled while it was out finds its key invalid, and is neither handled nor armed again.
//!
//! Fired is under the lock, so that timers reach their actors in the order of their instants, and of their arming where
//! those are equal, whoever fires. User code is never under it, nor between the firing and the next keeper's
//! appointment: what is refused or cancelled then is handed to an [errand](super::errand).
//!
//! Firing has a bounded share of a worker's time, however much is due: a visit ends after [`VISIT`] timers or
//! [`VISIT_TIME`], and then turns have at least as long ([`Local::tend_timers`](super::local::Local::tend_timers)).

mod aim;

pub(crate) use aim::{Abandoned, Aim};

use super::Scheduler;
use super::alarm::Alarm;
use crate::drops;
use crate::sync::Mutex;
use crate::time::{self, Duration, Instant};
use crate::user::{self, Site};

/// What the table holds. Dropping it before it was fired cancels it.
pub(crate) trait Timed: Send {
    /// It is due. Runs no user code; what cannot be delivered comes back.
    fn fire(self: Box<Self>) -> Result<(), Box<dyn Timed>>;

    /// It was due and could not be delivered, or what it aims at has ended. May run user code.
    fn undeliverable(self: Box<Self>);

    /// What it aims at, if that may end before the timer is due: then the timer ends with it. Always the same. Runs no user code.
    fn aim(&self) -> Option<&Aim> {
        None
    }
}

/// Names one timer, for as long as there is a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    slot: u32,
    id: u64,
}

impl Key {
    /// The key of no timer.
    pub(crate) const NONE: Key = Key { slot: u32::MAX, id: u64::MAX };
}

/// Timers fired under one lock.
const BATCH: usize = 64;
/// A table of more slots than this gives its memory back when it has become empty.
const KEPT: usize = 1024;
/// Children of each entry of the heap.
const ARITY: usize = 4;
/// A slot's place while it is out.
const OUT: u32 = u32::MAX;
/// The end of the list of free slots.
const NO_SLOT: u32 = u32::MAX;
/// The id of a free slot; ids begin at 1.
const FREE: u64 = 0;

/// Fired in one visit, before other things get their turn.
const VISIT: usize = 1024;
/// A visit ends after this time, give or take a batch.
const VISIT_TIME: Duration = Duration::from_micros(100);

/// What a visit leaves to be done where user code may run.
#[derive(Default)]
pub(super) struct Leftovers {
    /// Could not be delivered.
    refused: Vec<Box<dyn Timed>>,
    /// To be dropped.
    cancelled: Vec<Box<dyn Timed>>,
}

impl Scheduler {
    /// Arms a timer for an instant, or for never, if what it aims at is `open`; `make` gets its key. `false`, and `make` was not
    /// called: that is not open, or the executor shuts down. Both are called under the lock.
    #[must_use]
    pub(crate) fn arm(
        &self,
        at: Option<Instant>,
        open: impl FnOnce() -> bool,
        make: impl FnOnce(Key) -> Box<dyn Timed>,
    ) -> bool {
        if self.forked() {
            return false;
        }
        let lowered = self.timers.arm(&self.idle.alarm, at, open, make);
        if lowered == Some(true) {
            self.idle.alarm_lowered();
        }
        lowered.is_some()
    }

    /// Arms a timer that is out once more. It comes back if it was cancelled, or the executor shuts down.
    pub(crate) fn rearm(
        &self,
        key: Key,
        at: Option<Instant>,
        timed: Box<dyn Timed>,
    ) -> Result<(), Box<dyn Timed>> {
        if self.timers.rearm(&self.idle.alarm, key, at, timed)? {
            self.idle.alarm_lowered();
        }
        Ok(())
    }

    /// On a worker, between turns: fires what is due. It may be that something is due still.
    #[cold]
    pub(super) fn fire_timers(&self, now: Instant) {
        let mut rest = VISIT / BATCH;
        let goes_on = || {
            rest -= 1;
            rest > 0 && time::now().saturating_duration_since(now) < VISIT_TIME
        };
        let _visit = self.errands.visit();
        let left = self.timers.fire(&self.idle.alarm, now, goes_on);
        // Before anything of the users': from now on somebody else waits for the next one.
        self.idle.ensure_kept();
        let refused = self.errand(Site::Hook, left.refused, |timed| timed.undeliverable());
        let cancelled = self.errand(Site::Drop, left.cancelled, drop);
        refused.into_iter().chain(cancelled).for_each(|errand| self.push_errand(errand));
    }

    /// Cancels a timer. `false`: it is over already, or in the parent of this forked child.
    pub(crate) fn cancel(&self, key: Key) -> bool {
        !self.forked() && self.timers.cancel(key)
    }

    /// Cancels all timers, on the crew, and refuses new ones.
    pub(crate) fn close_timers(&self) {
        if self.timers.close(&self.idle.alarm) {
            self.idle.alarm_lowered();
        }
    }
}

/// The table and its lock.
#[derive(Debug)]
pub(crate) struct Timers(Mutex<Table>);

#[derive(Debug)]
struct Table {
    slots: Vec<Slot>,
    first_free: u32,
    heap: Vec<Entry>,
    in_use: usize,
    last_id: u64,
    closed: bool,
}

struct Slot {
    id: u64,
    /// Armed: in the heap. Free: the next free slot.
    place: u32,
    timed: Option<Box<dyn Timed>>,
    /// Armed: its neighbours in the list of what it aims at.
    before: u32,
    after: u32,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("id", &self.id).finish_non_exhaustive()
    }
}

/// By instant, then by the order of arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    when: u64,
    id: u64,
    slot: u32,
}

impl Timers {
    pub(super) fn new() -> Self {
        Timers(Mutex::new(Table {
            slots: Vec::new(),
            first_free: NO_SLOT,
            heap: Vec::new(),
            in_use: 0,
            last_id: 0,
            closed: false,
        }))
    }

    /// Timers armed now.
    pub(crate) fn armed(&self) -> usize {
        self.0.lock().heap.len()
    }

    /// Returns `true` after [`close`](Self::close) while a timer is left that has not been cancelled.
    pub(super) fn are_to_be_cancelled(&self) -> bool {
        let table = self.0.lock();
        table.closed && !table.heap.is_empty()
    }

    /// See [`Scheduler::arm`]. `None`: not armed. True: the alarm was lowered.
    pub(super) fn arm(
        &self,
        alarm: &Alarm,
        at: Option<Instant>,
        open: impl FnOnce() -> bool,
        make: impl FnOnce(Key) -> Box<dyn Timed>,
    ) -> Option<bool> {
        let when = alarm.count(at);
        let mut table = self.0.lock();
        if !open() {
            return None;
        }
        let key = table.reserve()?;
        table.put(key, when, make(key));
        Some(alarm.lower(when))
    }

    /// Arms a timer that is out again, under its own key. It comes back if it was cancelled meanwhile, or the crew shuts
    /// down. True: the alarm was lowered.
    pub(super) fn rearm(
        &self,
        alarm: &Alarm,
        key: Key,
        at: Option<Instant>,
        timed: Box<dyn Timed>,
    ) -> Result<bool, Box<dyn Timed>> {
        let when = alarm.count(at);
        let mut table = self.0.lock();
        if table.closed || !table.is_valid(key) {
            return Err(timed);
        }
        table.put(key, when, timed);
        Ok(alarm.lower(when))
    }

    /// Was it neither cancelled nor ended?
    pub(crate) fn is_valid(&self, key: Key) -> bool {
        self.0.lock().is_valid(key)
    }

    /// A timer that is out is over. `false`: it had been cancelled.
    pub(crate) fn end(&self, key: Key) -> bool {
        let mut table = self.0.lock();
        let valid = table.is_valid(key);
        if valid {
            table.free(key.slot);
        }
        valid
    }

    /// `false`: it is over already.
    pub(crate) fn cancel(&self, key: Key) -> bool {
        let mut table = self.0.lock();
        if !table.is_valid(key) {
            return false;
        }
        let timed = table.take_out(key.slot);
        table.free(key.slot);
        drop(table);
        drops::run(move || user::contain(Site::Drop, || drop(timed))); // not under the lock
        true
    }

    /// Nothing more is armed; what is armed is due to be cancelled. True: the alarm was lowered for that.
    pub(super) fn close(&self, alarm: &Alarm) -> bool {
        let mut table = self.0.lock();
        table.closed = true;
        !table.heap.is_empty() && alarm.lower(0)
    }

    /// Fires what is due; after [`close`](Self::close), cancels everything. A batch at a time, while the caller `goes_on`.
    /// Runs no user code.
    pub(super) fn fire(&self, alarm: &Alarm, now: Instant, mut goes_on: impl FnMut() -> bool) -> Leftovers {
        let now = alarm.count(Some(now));
        let mut left = Leftovers::default();
        loop {
            let mut table = self.0.lock();
            let closed = table.closed;
            for _ in 0..BATCH {
                let Some(first) = table.heap.first().filter(|first| closed || first.when <= now) else {
                    break;
                };
                let slot = first.slot;
                let timed = table.take_out(slot).expect("what is in the heap is in the table");
                if closed {
                    table.free(slot);
                    left.cancelled.push(timed);
                } else if let Err(back) = timed.fire() {
                    left.refused.push(back);
                }
            }
            let next = table.heap.first().map(|first| first.when);
            alarm.set(if closed { next.map(|_| 0) } else { next });
            drop(table);
            if next.is_none_or(|next| !closed && next > now) || !goes_on() {
                return left;
            }
        }
    }
}

impl Table {
    fn is_valid(&self, key: Key) -> bool {
        self.slots.get(key.slot as usize).is_some_and(|slot| slot.id == key.id)
    }

    /// A slot of its own for a new timer.
    fn reserve(&mut self) -> Option<Key> {
        if self.closed {
            return None;
        }
        let slot = match self.first_free {
            NO_SLOT => {
                let slot = u32::try_from(self.slots.len()).ok().filter(|&slot| slot != NO_SLOT);
                let slot = slot.expect("fewer than 2^32 timers");
                self.slots.push(Slot {
                    id: FREE,
                    place: NO_SLOT,
                    timed: None,
                    before: NO_SLOT,
                    after: NO_SLOT,
                });
                slot
            }
            free => free,
        };
        self.last_id += 1;
        self.in_use += 1;
        let entry = &mut self.slots[slot as usize];
        self.first_free = entry.place;
        (entry.id, entry.place) = (self.last_id, OUT);
        Some(Key { slot, id: self.last_id })
    }

    /// From out to armed.
    fn put(&mut self, key: Key, when: u64, timed: Box<dyn Timed>) {
        if let Some(aim) = timed.aim() {
            self.link(aim, key.slot);
        }
        self.slots[key.slot as usize].timed = Some(timed);
        self.heap.push(Entry { when, id: key.id, slot: key.slot });
        self.rise(self.heap.len() - 1);
    }

    /// From armed to out; `None` if it is out already.
    fn take_out(&mut self, slot: u32) -> Option<Box<dyn Timed>> {
        let entry = &mut self.slots[slot as usize];
        let timed = entry.timed.take()?;
        let place = std::mem::replace(&mut entry.place, OUT) as usize;
        let last = self.heap.pop().expect("it is in the heap");
        if place < self.heap.len() {
            self.heap[place] = last;
            // One of the two moves it, or neither.
            self.rise(place);
            self.sink(self.slots[last.slot as usize].place as usize);
        }
        if let Some(aim) = timed.aim() {
            self.unlink(aim, slot);
        }
        Some(timed)
    }

    /// From out to free.
    fn free(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        (entry.id, entry.place) = (FREE, self.first_free);
        self.first_free = slot;
        self.in_use -= 1;
        if self.in_use == 0 && self.slots.capacity() > KEPT {
            (self.slots, self.heap, self.first_free) = (Vec::new(), Vec::new(), NO_SLOT);
        }
    }

    fn set(&mut self, place: usize, entry: Entry) {
        self.heap[place] = entry;
        self.slots[entry.slot as usize].place = place as u32;
    }

    /// Up to where it is not earlier than what is above it.
    fn rise(&mut self, mut place: usize) {
        let entry = self.heap[place];
        while place > 0 {
            let above = (place - 1) / ARITY;
            if self.heap[above] <= entry {
                break;
            }
            self.set(place, self.heap[above]);
            place = above;
        }
        self.set(place, entry);
    }

    /// Down to where nothing below it is earlier.
    fn sink(&mut self, mut place: usize) {
        let entry = self.heap[place];
        loop {
            let below = place * ARITY + 1..self.heap.len().min(place * ARITY + 1 + ARITY);
            let Some(least) = below.min_by_key(|&child| self.heap[child]) else { break };
            if entry <= self.heap[least] {
                break;
            }
            self.set(place, self.heap[least]);
            place = least;
        }
        self.set(place, entry);
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests;
