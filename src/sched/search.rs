//! A worker without work: searching, firing timers, tidying memory, parking, and waking.
//!
//! [`idle`](super::idle) describes the protocol with other workers. A worker claims its heap when
//! it wakes and releases it before it parks. No user code runs in these steps. Owed wakers and
//! destructors are pushed as an [errand](super::errand).

use super::habit::{Habits, LONG_YIELD};
use super::idle::Woken;
use super::queue::{Policy, pop_cold};
use super::runnable::Runnable;
use super::steal_threshold::Theft;
use super::turn_rates::TurnRates;
use super::worker::Worker;
use crate::sync::chaos;
use crate::time;
use crate::user::Site;
use crossbeam_deque::Steal;
use rand::RngExt;
use std::task::Waker;
use std::time::Duration;

/// The longest search of a worker before it parks.
const SPIN: Duration = Duration::from_micros(50);
/// Number of pauses between two looks of a spinning worker.
const PAUSES: u32 = 3;

impl Worker {
    /// Searches for work, then parks. Returns `None` when the crew stops.
    #[cold]
    pub(super) fn search_or_park(&self) -> Option<Runnable> {
        let scheduler = self.scheduler();
        let dry = time::now();
        let worked = dry.saturating_duration_since(self.clock.get());
        self.count_busy(dry);
        if let Some(theft) = self.theft.take() {
            scheduler.steal_threshold.update_after_theft(
                theft,
                dry,
                self.slot().counters.turns.get(),
            );
        }
        if self.tend_timers(dry, true)
            && let Some(task) = self.next_cold()
        {
            return Some(task);
        }
        let searching = scheduler.idle.try_search();
        self.until_work(searching, None, worked)
    }

    /// Takes over a parked slot, and sleeps there in place of the thread that left. With `catching`
    /// the slot was parked, and this thread has unparked it to rescue stuck work.
    #[cold]
    pub(super) fn park_at_slot(&self, catching: bool) -> Option<Runnable> {
        let mut seen = TurnRates::default();
        let stuck = || self.scheduler().mark_stuck(&mut seen);
        let (slept, counters) = (time::now(), &self.slot().counters);
        counters.parks.add(1);
        let idle = &self.scheduler().idle;
        let woken = if catching { Woken::Caught } else { idle.park_at_slot(self.index, stuck) };
        // Another thread may be tidying the heap of a sleeper.
        self.heap().claim_or_wait();
        counters.wakes.add(1);
        counters.parked_ns.add((time::now() - slept).as_nanos() as u64);
        self.until_work(false, Some(woken), Duration::ZERO)
    }

    /// Searches and parks until there is work. `worked` is the time since the last reading of the
    /// clock that this worker has spent in turns.
    fn until_work(
        &self,
        mut searching: bool,
        mut woken: Option<Woken>,
        worked: Duration,
    ) -> Option<Runnable> {
        let scheduler = self.scheduler();
        let mut patient = searching;
        let task = loop {
            if searching && let Some(task) = self.search_for_work(patient) {
                self.hunt_ended();
                break Some(task);
            }
            // A worker that is not searching takes only bound work, or work found by the rescan in
            // `park_until_woken`.
            let woken = woken.take().unwrap_or_else(|| self.park_until_woken(searching));
            // The wakers' errand, if this worker was the last to park and all was quiet. A
            // sleeper's queue is empty otherwise.
            if let Some(errand) = pop_cold(&self.queue) {
                if matches!(woken, Woken::Searching | Woken::Caught) {
                    self.hunt_ended();
                }
                break Some(errand);
            }
            match woken {
                Woken::Caught => {
                    self.slot().counters.sentinel_catches.add(1);
                    let caught = self.rescue_stuck();
                    if let Some(task) = caught {
                        self.hunt_ended();
                        break Some(task);
                    }
                    searching = true;
                }
                Woken::Searching => searching = true,
                Woken::Running => {
                    searching = false;
                    if let Some(task) = self.take_outside() {
                        break Some(task);
                    }
                }
                Woken::Alarm => {
                    searching = false;
                    // Fires even if other workers were quicker: the former timer waiter must see to
                    // a successor.
                    scheduler.fire_timers(time::now());
                    if let Some(task) = self.next_cold() {
                        break Some(task);
                    }
                }
            }
            if scheduler.idle.is_stopping() && !scheduler.has_work(self.index) {
                if searching {
                    let _ = scheduler.idle.end_search();
                }
                break None;
            }
            // From the second round on the worker has just been woken, so more work is likely.
            patient = true;
        };
        if scheduler.has_sentinel() {
            // This worker may have been the sentinel, whatever it woke up for. Another one must
            // watch work that is still stuck.
            scheduler.idle.ensure_watched();
        }
        let now = time::now();
        // The time without work is no part of the turns that the next reading counts.
        self.clock.set(now.checked_sub(worked).unwrap_or(now));
        self.busy_since.set(now);
        task
    }

    /// Stops searching after work was found. The last searcher looks again, and wakes the next
    /// worker if there is more.
    fn hunt_ended(&self) {
        let scheduler = self.scheduler();
        if scheduler.idle.end_search() && scheduler.has_work(self.index) {
            scheduler.idle.notify_any();
        }
    }

    fn search_for_work(&self, patient: bool) -> Option<Runnable> {
        if let Some(task) = self.look_everywhere() {
            return Some(task);
        }
        // Spinning pays only where it found work lately. Without credit it is tried once in a
        // while.
        let Habits { spins, pauses } = &self.habits;
        if !patient || self.scheduler().idle.is_stopping() {
            return None;
        }
        let spin = spins.attempt()?;
        // With a single processor nothing changes during a pause, so the thread yields after each
        // look. The same holds where all other processors are taken.
        let pause = if self.scheduler().one_processor { None } else { pauses.attempt() };
        let looks = if pause.is_some() { 32 } else { 1 };
        let mut now = time::now();
        let until = now + SPIN;
        let mut yielded = false;
        while now < until {
            // Looks often, since each pause is latency for the next work, and reads the clock
            // rarely.
            for look in 0..looks {
                (0..PAUSES).for_each(|_| crate::sync::spin_hint());
                if self.scheduler().has_work(self.index)
                    && let Some(task) = self.look_everywhere()
                {
                    spin.succeeded();
                    match (pause, yielded, look) {
                        // The work was there at once, which says nothing about pauses.
                        (None, ..) | (_, false, 0) => {}
                        // The yield let the thread run from which the work came.
                        (Some(pause), true, 0) => pause.failed_slightly(),
                        (Some(pause), ..) => pause.succeeded(),
                    }
                    return Some(task);
                }
            }
            // The awaited work may come from a thread waiting for the processor.
            std::thread::yield_now();
            yielded = true;
            let before = std::mem::replace(&mut now, time::now());
            if now - before > LONG_YIELD {
                // A busy process had the processor, and would have it again after each search. A
                // thread that is woken from its sleep comes before that process.
                spin.failed_badly();
                return self.look_everywhere();
            }
        }
        spin.failed_slightly();
        None
    }

    /// Looks everywhere once.
    fn look_everywhere(&self) -> Option<Runnable> {
        if let Some(task) = self.take_outside() {
            return Some(task);
        }
        let scheduler = self.scheduler();
        if scheduler.policy != Policy::Stealing {
            return None;
        }
        // A random first victim, so that thieves spread over the crew.
        let crew = scheduler.slots.len();
        let start = self.rng.borrow_mut().random_range(0..crew);
        (0..crew).map(|i| (start + i) % crew).filter(|&victim| victim != self.index).find_map(
            |victim| {
                scheduler.slots[victim]
                    .wants_thieves(&scheduler.steal_threshold)
                    .then(|| self.steal_from(victim))
                    .flatten()
            },
        )
    }

    fn steal_from(&self, victim: usize) -> Option<Runnable> {
        let counters = &self.slot().counters;
        counters.steals_tried.add(1);
        chaos();
        // One attempt: a lost race means that the victim has thieves enough.
        let victim = &self.scheduler().slots[victim];
        let victims_pace_ns = victim.counters.mean_turn_ns.get();
        match victim.stealer.steal_batch_and_pop(&self.queue) {
            Steal::Success(task) => {
                let theft = Theft { at: time::now(), turns: counters.turns.get(), victims_pace_ns };
                // A rescue is worth any cost, and its pace says nothing about other thefts.
                self.theft.set((!victim.is_stuck()).then_some(theft));
                counters.steals.add(1);
                // A thief's queue was empty, so its length is what the batch brought.
                counters.stolen_items.add(1 + self.queue.len() as u64);
                Some(task)
            }
            Steal::Empty | Steal::Retry => None,
        }
    }

    /// Parks until there is a reason to wake.
    fn park_until_woken(&self, searching: bool) -> Woken {
        let scheduler = self.scheduler();
        let slept = time::now();
        let counters = &self.slot().counters;
        counters.parks.add(1);
        let watch = scheduler.has_sentinel();
        // Made, and counted as owed, under the tickets' lock, so before the crew can be told to
        // stop.
        let errand_of = |wakers| scheduler.make_errand(Site::Waker, wakers, Waker::wake);
        let mut seen = TurnRates::default();
        let mut errand = None;
        if watch {
            // This worker may have been the sentinel before, and tidying memory may take a while.
            scheduler.idle.ensure_watched();
        }
        self.release_heap_and_tidy();
        let woken = scheduler.idle.park_worker(
            self.index,
            searching,
            watch,
            || scheduler.has_work(self.index),
            || scheduler.mark_stuck(&mut seen),
            || {
                scheduler.quiet.announce_rest(
                    || scheduler.check_quiescence(),
                    |wakers| errand = errand_of(wakers),
                )
            },
        );
        // As in `park_at_slot`; the heap is needed before any runnable is run.
        self.heap().claim_or_wait();
        if let Some(errand) = errand {
            self.queue.push(errand);
        }
        counters.wakes.add(1);
        counters.parked_ns.add((time::now() - slept).as_nanos() as u64);
        woken
    }

    /// Takes work behind long turns: a batch from one queue, and runnables in LIFO slots, where no
    /// other thread looks. The rest of these queues is for any thief, as long as the turns go on.
    fn rescue_stuck(&self) -> Option<Runnable> {
        let mut found = None;
        for (victim, slot) in self.scheduler().slots.iter().enumerate() {
            if victim == self.index || !slot.is_marked() {
                continue;
            }
            found = found.or_else(|| self.steal_from(victim));
            if let Some(task) = slot.lifo.take_next() {
                self.slot().counters.stolen_items.add(1);
                match found {
                    None => found = Some(task),
                    Some(_) => self.queue.push(task),
                }
            }
        }
        found
    }

    /// Releases the heap before the worker parks, and tidies the heaps of sleeping owners.
    pub(super) fn release_heap_and_tidy(&self) {
        let scheduler = self.scheduler();
        let alarm = &scheduler.idle.alarm;
        let stop =
            || scheduler.has_work(self.index) || (alarm.is_set() && alarm.may_be_due(time::now()));
        (self.data.flush)(self.data.at);
        self.heap().send_all();
        self.heap().trim_unused(stop);
        // SAFETY: the worker claimed the heap when it began or woke, and does not use the heap
        // afterwards.
        unsafe { self.heap().release_claim() };
        scheduler.memory.tidy_sleeping_heaps(stop);
    }

    /// Releases the heap when the slot is left, and sends all unfinished chains home, which only
    /// the heap's holder can do. Tidies nothing, since the thread is about to block.
    pub(super) fn leave_heap(&self) {
        (self.data.flush)(self.data.at);
        self.heap().send_all();
        // SAFETY: the slot's holder claimed the heap when it took the slot or woke, and does not
        // use the heap afterwards.
        unsafe { self.heap().release_claim() };
    }
}
