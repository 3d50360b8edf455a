//! Armed timers: a table of timers, and a heap of instants.
//!
//! An executor has one of each, under one lock. The heap is 4-ary, with a quarter of the cache
//! misses of a binary heap's lower levels. The heap's entries and the table's slots know each
//! other's positions. So a timer is cancelled at once, together with its message, however far in
//! the future.
//!
//! A timer keeps its *slot* from arming to the end, under a key that is never used again:
//!
//! | slot | the timer is | leaves it by |
//! |---|---|---|
//! | armed | in the table and the heap | fire (out), cancel (free), the crew's end (free) |
//! | out | in a mailbox, or in work | `end_timer` by its handler (free), `rearm_timer` (armed), cancel (free) |
//! | free | no more: the key is invalid | |
//!
//! A timer may *aim* at an actor. The actor has a list of such timers ([`Aim`]), and ends them when
//! it ends.
//!
//! Only intervals use `rearm_timer`. A timer cancelled while it was out finds its key invalid, and
//! is neither handled nor armed again.
//!
//! Timers are fired under the lock, and reach actors in the order of their instants, whichever
//! worker fires. Where instants are equal, the order is that of arming; an interval keeps the place
//! of its first arming. User code never runs under it, nor between the
//! firing and the next timer waiter's appointment. Timers refused or cancelled then are handed to
//! an [errand](super::errand).
//!
//! Firing has a bounded share of a worker's time, however many timers are due. A visit ends after
//! `VISIT` timers or `VISIT_TIME`, and then turns have at least as long
//! ([`Worker::tend_timers`](super::worker::Worker::tend_timers)).

pub(crate) mod aim;
mod visit;

use super::alarm::Alarm;
use crate::drops;
use crate::sync::{AtomicU32, Mutex};
use crate::time::Instant;
use crate::user::{self, Site};

/// A timer in the table. Dropping an armed timer cancels it.
pub(crate) trait Timed: Send {
    /// Delivers the timer, which is due. Runs no user code. Returns itself if it cannot be
    /// delivered.
    fn deliver_due(self: Box<Self>) -> Result<(), Box<dyn Timed>>;

    /// Reports a due timer that could not be delivered, or an ended aim. May run user code.
    fn report_undeliverable(self: Box<Self>);

    /// Returns `true` if the timer owns a runnable, and no value of a user. Then it is dropped
    /// where it is cancelled, and not put off behind a user's drops, which may wait for the
    /// runnable.
    fn is_runnable(&self) -> bool {
        false
    }

    /// Returns the aim of the timer, if the aim may end before the timer is due. Then the timer
    /// ends with it. Always the same. Runs no user code.
    fn aim(&self) -> Option<&Aim> {
        None
    }
}

/// The first of the timers armed for one actor.
// Relaxed throughout: accesses happen under the table's lock.
#[derive(Debug)]
pub(crate) struct Aim(AtomicU32);

impl Default for Aim {
    fn default() -> Self {
        Aim(AtomicU32::new(NO_SLOT))
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

/// Number of timers fired under one lock.
const BATCH: usize = 64;
/// A table of more slots than this frees its memory when it becomes empty.
const KEPT: usize = 1024;
/// Number of children of each entry of the heap.
const ARITY: usize = 4;
/// Position of a slot that is out.
const OUT: u32 = u32::MAX;
/// End of the list of free slots.
const NO_SLOT: u32 = u32::MAX;
/// Id of a free slot. Ids begin at 1.
const FREE: u64 = 0;

/// Work that a visit leaves for a place where user code may run.
#[derive(Default)]
pub(super) struct Leftovers {
    /// Timers that could not be delivered.
    refused: Vec<Box<dyn Timed>>,
    /// Timers to be dropped.
    cancelled: Vec<Box<dyn Timed>>,
}

/// The table and its lock.
#[derive(Debug)]
pub(crate) struct Timers(Mutex<TimerTable>);

#[derive(Debug)]
struct TimerTable {
    slots: Vec<TimerSlot>,
    first_free: u32,
    heap: Vec<HeapEntry>,
    in_use: usize,
    last_id: u64,
    closed: bool,
}

struct TimerSlot {
    id: u64,
    /// Armed: position in the heap. Free: the next free slot.
    place: u32,
    timed: Option<Box<dyn Timed>>,
    /// Armed: neighbours in the list of the timer's aim.
    before: u32,
    after: u32,
}

impl std::fmt::Debug for TimerSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimerSlot").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Ordered by instant, then by the order of arming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct HeapEntry {
    when: u64,
    id: u64,
    slot: u32,
}

impl Timers {
    pub(super) fn new() -> Self {
        Timers(Mutex::new(TimerTable {
            slots: Vec::new(),
            first_free: NO_SLOT,
            heap: Vec::new(),
            in_use: 0,
            last_id: 0,
            closed: false,
        }))
    }

    /// Returns the number of armed timers.
    pub(crate) fn armed_timers(&self) -> usize {
        self.0.lock().heap.len()
    }

    /// Returns `true` after [`refuse_timers`](Self::refuse_timers).
    pub(crate) fn are_refused(&self) -> bool {
        self.0.lock().closed
    }

    /// Returns `true` after [`refuse_timers`](Self::refuse_timers) while a timer is left that has
    /// not been cancelled.
    pub(super) fn are_to_be_cancelled(&self) -> bool {
        let table = self.0.lock();
        table.closed && !table.heap.is_empty()
    }

    /// See [`Scheduler::arm_timer`](super::Scheduler::arm_timer). Returns `None` if the timer was
    /// not armed, `Some(true)` if the alarm was lowered.
    pub(super) fn arm_timer(
        &self,
        alarm: &Alarm,
        at: Option<Instant>,
        open: impl FnOnce() -> bool,
        make: impl FnOnce(Key) -> Box<dyn Timed>,
    ) -> Option<bool> {
        let when = alarm.count_of(at);
        let mut table = self.0.lock();
        // Under the lock, as the page of `aim` requires.
        if !open() {
            return None;
        }
        let key = table.reserve_slot()?;
        table.put_armed(key, when, make(key));
        Some(alarm.lower_to(when))
    }

    /// Arms a timer that is out again, under its own key. The timer comes back if it was cancelled
    /// meanwhile, or if the crew shuts down. Returns `true` if the alarm was lowered.
    pub(super) fn rearm_timer(
        &self,
        alarm: &Alarm,
        key: Key,
        at: Option<Instant>,
        timed: Box<dyn Timed>,
    ) -> Result<bool, Box<dyn Timed>> {
        let when = alarm.count_of(at);
        let mut table = self.0.lock();
        if table.closed || !table.is_valid(key) {
            return Err(timed);
        }
        table.put_armed(key, when, timed);
        Ok(alarm.lower_to(when))
    }

    /// Returns `true` if the timer was neither cancelled nor ended.
    pub(crate) fn is_valid(&self, key: Key) -> bool {
        self.0.lock().is_valid(key)
    }

    /// Ends a timer that is out. Returns `false` if it had been cancelled.
    pub(crate) fn end_timer(&self, key: Key) -> bool {
        let mut table = self.0.lock();
        let valid = table.is_valid(key);
        if valid {
            table.free_slot(key.slot);
        }
        valid
    }

    /// Cancels a timer. Returns `false` if it is over already.
    pub(crate) fn cancel_timer(&self, key: Key) -> bool {
        let mut table = self.0.lock();
        if !table.is_valid(key) {
            return false;
        }
        let timed = table.take_out(key.slot);
        table.free_slot(key.slot);
        if timed.as_ref().is_some_and(|timed| timed.is_runnable()) {
            drop(table);
            drop(timed);
            return true;
        }
        drop(table);
        // Outside the lock, since the drop of a message is user code.
        drops::run_or_put_off(move || user::run_contained(Site::Drop, || drop(timed)));
        true
    }

    /// Refuses new timers, and makes all armed ones due to be cancelled. Returns `true` if the
    /// alarm was lowered for that.
    pub(super) fn refuse_timers(&self, alarm: &Alarm) -> bool {
        let mut table = self.0.lock();
        table.closed = true;
        !table.heap.is_empty() && alarm.lower_to(0)
    }

    /// Fires due timers, a batch at a time, while the caller `goes_on`. After
    /// [`refuse_timers`](Self::refuse_timers), cancels all timers instead. Runs no user code.
    pub(super) fn fire_due(
        &self,
        alarm: &Alarm,
        now: Instant,
        mut goes_on: impl FnMut() -> bool,
    ) -> Leftovers {
        let now = alarm.count_of(Some(now));
        let mut left = Leftovers::default();
        loop {
            let mut table = self.0.lock();
            let closed = table.closed;
            for _ in 0..BATCH {
                let Some(first) = table.heap.first().filter(|first| closed || first.when <= now)
                else {
                    break;
                };
                let slot = first.slot;
                let timed = table.take_out(slot).expect("what is in the heap is in the table");
                if closed {
                    table.free_slot(slot);
                    if timed.is_runnable() {
                        drop(timed);
                    } else {
                        left.cancelled.push(timed);
                    }
                } else if let Err(back) = timed.deliver_due() {
                    left.refused.push(back);
                }
            }
            // The alarm is set under the table's lock, so that a timer armed afterwards can only
            // lower it.
            let next = table.heap.first().map(|first| first.when);
            alarm.set_next(if closed { next.map(|_| 0) } else { next });
            drop(table);
            if next.is_none_or(|next| !closed && next > now) || !goes_on() {
                return left;
            }
        }
    }
}

impl TimerTable {
    fn is_valid(&self, key: Key) -> bool {
        self.slots.get(key.slot as usize).is_some_and(|slot| slot.id == key.id)
    }

    /// Reserves a slot for a new timer.
    fn reserve_slot(&mut self) -> Option<Key> {
        if self.closed {
            return None;
        }
        let slot = match self.first_free {
            NO_SLOT => {
                let slot = u32::try_from(self.slots.len()).ok().filter(|&slot| slot != NO_SLOT);
                let slot = slot.expect("fewer than 2^32 timers");
                self.slots.push(TimerSlot {
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

    /// Moves a timer from out to armed.
    fn put_armed(&mut self, key: Key, when: u64, timed: Box<dyn Timed>) {
        if let Some(aim) = timed.aim() {
            self.link_to_aim(aim, key.slot);
        }
        self.slots[key.slot as usize].timed = Some(timed);
        self.heap.push(HeapEntry { when, id: key.id, slot: key.slot });
        self.sift_up(self.heap.len() - 1);
    }

    /// Moves a timer from armed to out. Returns `None` if it is out already.
    fn take_out(&mut self, slot: u32) -> Option<Box<dyn Timed>> {
        let entry = &mut self.slots[slot as usize];
        let timed = entry.timed.take()?;
        let place = std::mem::replace(&mut entry.place, OUT) as usize;
        let last = self.heap.pop().expect("it is in the heap");
        if place < self.heap.len() {
            self.heap[place] = last;
            // The entry moved here may belong above or below, so one of the two calls moves it, or
            // neither.
            self.sift_up(place);
            self.sift_down(self.slots[last.slot as usize].place as usize);
        }
        if let Some(aim) = timed.aim() {
            self.unlink_from_aim(aim, slot);
        }
        Some(timed)
    }

    /// Moves a timer from out to free.
    fn free_slot(&mut self, slot: u32) {
        let entry = &mut self.slots[slot as usize];
        (entry.id, entry.place) = (FREE, self.first_free);
        self.first_free = slot;
        self.in_use -= 1;
        if self.in_use == 0 && self.slots.capacity() > KEPT {
            // Old keys stay invalid without their slots, as ids are never used again.
            (self.slots, self.heap, self.first_free) = (Vec::new(), Vec::new(), NO_SLOT);
        }
    }

    fn set_entry(&mut self, place: usize, entry: HeapEntry) {
        self.heap[place] = entry;
        self.slots[entry.slot as usize].place = place as u32;
    }

    /// Moves an entry up to where it is not earlier than its parent.
    fn sift_up(&mut self, mut place: usize) {
        let entry = self.heap[place];
        while place > 0 {
            let above = (place - 1) / ARITY;
            if self.heap[above] <= entry {
                break;
            }
            self.set_entry(place, self.heap[above]);
            place = above;
        }
        self.set_entry(place, entry);
    }

    /// Moves an entry down to where no child is earlier.
    fn sift_down(&mut self, mut place: usize) {
        let entry = self.heap[place];
        loop {
            let below = place * ARITY + 1..self.heap.len().min(place * ARITY + 1 + ARITY);
            let Some(least) = below.min_by_key(|&child| self.heap[child]) else { break };
            if entry <= self.heap[least] {
                break;
            }
            self.set_entry(place, self.heap[least]);
            place = least;
        }
        self.set_entry(place, entry);
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests;
