//! The alarm: timers armed against workers that park, and against workers that leave the list of
//! sleepers.
//!
//! Covers: an armed timer is fired, whichever workers sleep and whichever are woken for something
//! else meanwhile, as long as one worker is not in a turn for good. (If the alarm is forgotten, all
//! workers sleep, and loom reports a deadlock.) The timer is fired by the timer waiter that parks,
//! by a timer waiter told to look, by the successor of a timer waiter woken for work, and by a
//! timer waiter that is the sentinel too.
//!
//! Does not cover: the table (a flag under a mutex here), and time: an alarm goes off as soon as it
//! is set, and a timed wait ends at any moment. The worker's loop is a copy of `sched::worker`'s,
//! as in `idle`.

use super::{explore, spawn};
use crate::sched::idle::{Idle, Woken};
use crate::sync::{AtomicUsize, Mutex, Ordering::*};
use loom::sync::Arc;

struct Crew {
    idle: Idle,
    /// Number of armed timers. The mutex stands for the table's lock.
    armed: Mutex<usize>,
    fired: AtomicUsize,
    /// Work that any worker may take. The worker that takes it is busy for good.
    work: AtomicUsize,
    sentinel: bool,
}

impl Crew {
    fn new(workers: usize, sentinel: bool) -> Arc<Self> {
        Arc::new(Crew {
            idle: Idle::new(workers),
            armed: Mutex::new(0),
            fired: AtomicUsize::new(0),
            work: AtomicUsize::new(0),
            sentinel,
        })
    }

    /// Like `Scheduler::arm_timer`.
    fn arm(&self) {
        let mut armed = self.armed.lock();
        *armed += 1;
        // Under the lock, as in the scheduler, so that `fire` cannot raise the alarm in between.
        let lowered = self.idle.alarm.lower_to(0);
        // Released first, as in the scheduler. By the next step the timer may be fired already.
        drop(armed);
        if lowered {
            self.idle.alarm_lowered();
        }
    }

    /// Like `Scheduler::fire_timers`, but fires at most one timer.
    fn fire(&self) {
        let mut armed = self.armed.lock();
        // One timer, so that a second one is left for the other worker.
        if *armed > 0 {
            *armed -= 1;
            self.fired.fetch_add(1, Relaxed);
        }
        // Set under the lock, so that a timer armed now lowers it again afterwards.
        self.idle.alarm.set_next((*armed > 0).then_some(0));
        drop(armed);
        // The timer waiter is awake now; another sleeper must wait for the rest.
        self.idle.ensure_timer_waiter();
    }

    fn stop_after(&self, timers: usize) {
        // Relaxed: a worker that misses the last timer parks, and is woken by the stop.
        if self.fired.load(Relaxed) == timers {
            self.idle.stop_workers();
        }
    }

    fn push(&self) {
        // Pairs with the Acquire in `take`. The look in `has_work` gets no more than a relaxed load
        // gives.
        self.work.fetch_add(1, Release);
        self.idle.notify_any();
    }

    fn has_work(&self) -> bool {
        self.work.load(Relaxed) > 0
    }

    fn take(&self) -> bool {
        self.has_work() && self.work.fetch_update(Acquire, Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    /// Like `Worker::search_or_park`. Returns when the worker has work, when `timers` timers have
    /// been fired, or, with `then_busy`, after one alarm.
    fn work_until(&self, me: usize, timers: usize, then_busy: bool) {
        let mut searching = false;
        loop {
            if searching && self.take() {
                // The last searcher looks again, as in `Worker`, for work pushed while it counted
                // as searching.
                if self.idle.end_search() && self.has_work() {
                    self.idle.notify_any();
                }
                return; // busy for good
            }
            self.stop_after(timers);
            if self.idle.is_stopping() {
                return;
            }
            // No work waits behind a turn here, so the sentinel only shares its sleeper with the
            // alarm.
            let stuck = || false;
            match self.idle.park_worker(
                me,
                searching,
                self.sentinel,
                || self.has_work(),
                stuck,
                || false,
            ) {
                Woken::Caught => unreachable!("nothing is stuck"),
                Woken::Searching => searching = true,
                Woken::Running => searching = false,
                Woken::Alarm => {
                    searching = false;
                    self.fire();
                    if self.sentinel {
                        // The worker that got up may have been the sentinel, so another is
                        // appointed.
                        self.idle.ensure_watched();
                    }
                    if then_busy {
                        break;
                    }
                }
            }
        }
        // A worker that is busy for good may have fired the last timer, and the other worker would
        // sleep for ever.
        self.stop_after(timers);
    }
}

fn fires_all(crew: &Crew, timers: usize) {
    // Relaxed: all workers have been joined.
    assert_eq!(crew.fired.load(Relaxed), timers);
}

#[test]
fn a_timer_against_one_worker_that_parks() {
    explore(3, || {
        let crew = Crew::new(1, false);
        let worker = spawn(&crew, |crew| crew.work_until(0, 1, false));
        crew.arm();
        worker.join().unwrap();
        fires_all(&crew, 1);
    });
}

#[test]
fn timers_from_two_threads_against_one_worker() {
    explore(3, || {
        let crew = Crew::new(1, false);
        let worker = spawn(&crew, |crew| crew.work_until(0, 2, false));
        let other = spawn(&crew, Crew::arm);
        crew.arm();
        worker.join().unwrap();
        other.join().unwrap();
        fires_all(&crew, 2);
    });
}

#[test]
fn a_timer_against_two_workers_that_park() {
    explore(3, || {
        let crew = Crew::new(2, false);
        let workers = [0, 1].map(|me| spawn(&crew, move |crew| crew.work_until(me, 1, false)));
        crew.arm();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        fires_all(&crew, 1);
    });
}

/// One of two sleepers, perhaps the timer waiter, is woken for a turn that never ends.
#[test]
fn the_timer_waiter_leaves_for_work() {
    explore(3, || {
        let crew = Crew::new(2, false);
        let workers = [0, 1].map(|me| spawn(&crew, move |crew| crew.work_until(me, 1, false)));
        crew.push();
        crew.arm();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        fires_all(&crew, 1);
    });
}

/// The same with the timer armed before, so that only the timer waiter's departure matters.
#[test]
fn the_timer_waiter_hands_over() {
    explore(3, || {
        let crew = Crew::new(2, false);
        crew.arm();
        let workers = [0, 1].map(|me| spawn(&crew, move |crew| crew.work_until(me, 1, false)));
        crew.push();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        fires_all(&crew, 1);
    });
}

/// The other worker, this thread, is awake throughout. So the sleeper is the sentinel too, and is
/// appointed as both.
#[test]
fn the_timer_waiter_is_the_sentinel_too() {
    explore(3, || {
        let crew = Crew::new(2, true);
        let worker = spawn(&crew, |crew| crew.work_until(0, 1, false));
        crew.idle.ensure_watched();
        crew.arm();
        worker.join().unwrap();
        fires_all(&crew, 1);
    });
}

/// The timer waiter gets up and does not come back. The other worker must wait for timers armed now
/// or later.
#[test]
fn the_timer_waiter_has_a_long_turn_after_the_first_timer() {
    explore(3, || {
        let crew = Crew::new(2, false);
        let workers = [0, 1].map(|me| spawn(&crew, move |crew| crew.work_until(me, 2, true)));
        crew.arm();
        crew.arm();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        fires_all(&crew, 2);
    });
}

/// The same, with both timers armed before.
#[test]
fn the_timer_waiter_leaves_the_second_timer_to_the_other() {
    explore(3, || {
        let crew = Crew::new(2, false);
        crew.arm();
        crew.arm();
        let workers = [0, 1].map(|me| spawn(&crew, move |crew| crew.work_until(me, 2, true)));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        fires_all(&crew, 2);
    });
}
