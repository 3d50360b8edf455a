//! Idle protocol: work pushed against workers that park.
//!
//! Covers: no wake-up is lost (the worker that handles the last piece of work stops the crew, so if one is lost
//! everybody sleeps, which loom reports); for work that any worker may take, for a worker's own inbox, for work behind
//! a turn that never ends (the sentinel's), and for the stop itself. Each piece of work is taken once.
//!
//! Does not cover: the queues. A queue here is a count that says "empty" with a relaxed reading: the least that a queue
//! can promise, so that only the protocol's own fences can make a rescan see what was pushed. The worker's loop is a
//! copy of `sched::local`'s, without spinning; a timed wait ends at any moment, so how long a sentinel waits is not looked
//! at.

use super::{explore, spawn};
use crate::sched::idle::{Idle, Woken};
use crate::sync::{AtomicUsize, Ordering::*};
use loom::sync::Arc;
use loom::thread::JoinHandle;

/// A queue of pieces of work that are all alike.
struct Queue(AtomicUsize);

impl Queue {
    fn new() -> Self {
        Queue(AtomicUsize::new(0))
    }
    fn push(&self) {
        self.0.fetch_add(1, Release);
    }
    fn has_work(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
    fn take(&self) -> bool {
        self.has_work() && self.0.fetch_update(Acquire, Relaxed, |n| n.checked_sub(1)).is_ok()
    }
}

struct Crew {
    idle: Idle,
    /// What any worker may take.
    shared: Queue,
    inboxes: [Queue; 2],
    /// What only the owner and the sentinel take.
    lifo: Queue,
    sentinel: bool,
    /// Work still to be handled.
    rest: AtomicUsize,
}

impl Crew {
    /// More `workers` than there are threads: the others are awake throughout, busy with something else.
    fn new(workers: usize, work: usize) -> Arc<Self> {
        Crew::with_sentinel(workers, work, false)
    }

    fn with_sentinel(workers: usize, work: usize, sentinel: bool) -> Arc<Self> {
        Arc::new(Crew {
            idle: Idle::new(workers),
            shared: Queue::new(),
            inboxes: [Queue::new(), Queue::new()],
            lifo: Queue::new(),
            sentinel,
            rest: AtomicUsize::new(work),
        })
    }

    fn push(&self) {
        self.shared.push();
        self.idle.notify();
    }

    fn push_to(&self, worker: usize) {
        self.inboxes[worker].push();
        self.idle.notify_worker(worker);
    }

    /// By a worker, and then it is busy for long.
    fn fill_lifo(&self) {
        self.lifo.push();
        self.idle.ensure_watched();
    }

    fn has_work(&self, me: usize) -> bool {
        self.shared.has_work() || self.inboxes[me].has_work()
    }

    fn take(&self, me: usize) -> bool {
        self.inboxes[me].take() || self.shared.take()
    }

    fn handled(&self) {
        if self.rest.fetch_sub(1, AcqRel) == 1 {
            self.idle.stop();
        }
    }

    /// As `Local::run`.
    fn work(&self, me: usize) {
        while self.take(me) || self.out_of_work(me) {
            self.handled();
        }
    }

    /// As `Local::idle`: true with a piece of work, false when the crew stops.
    fn out_of_work(&self, me: usize) -> bool {
        let found = self.search_and_park(me);
        if self.sentinel {
            self.idle.ensure_watched();
        }
        found
    }

    fn search_and_park(&self, me: usize) -> bool {
        let mut searching = self.idle.try_search();
        loop {
            if searching && self.take(me) {
                self.hunt_ended(me);
                return true;
            }
            let stuck = || self.lifo.has_work();
            match self.idle.park(me, searching, self.sentinel, || self.has_work(me), stuck, || false) {
                Woken::Caught => {
                    if self.lifo.take() {
                        self.hunt_ended(me);
                        return true;
                    }
                    searching = true;
                }
                Woken::Searching => searching = true,
                Woken::Running => {
                    searching = false;
                    if self.take(me) {
                        return true;
                    }
                }
                Woken::Alarm => unreachable!("no timers"),
            }
            if self.idle.stopping() && !self.has_work(me) {
                if searching {
                    let _ = self.idle.end_search();
                }
                return false;
            }
        }
    }

    /// One turn that makes work for its own LIFO slot, and never ends: only the sentinel can take that.
    fn work_for_good(&self, me: usize) {
        if self.take(me) || self.out_of_work(me) {
            self.rest.fetch_add(1, Relaxed);
            self.fill_lifo();
            self.handled();
        }
    }

    fn hunt_ended(&self, me: usize) {
        if self.idle.end_search() && self.has_work(me) {
            self.idle.notify();
        }
    }

    /// Waits for the workers: for ever, if a wake-up was lost.
    fn finish(&self, workers: impl IntoIterator<Item = JoinHandle<()>>) {
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(self.rest.load(Relaxed), 0);
        assert!(!self.shared.has_work() && !self.lifo.has_work());
    }
}

fn worker(crew: &Arc<Crew>, me: usize) -> JoinHandle<()> {
    spawn(crew, move |crew| crew.work(me))
}

#[test]
fn one_push_against_one_worker() {
    explore(3, || {
        let crew = Crew::new(1, 1);
        let worker = worker(&crew, 0);
        crew.push();
        crew.finish([worker]);
    });
}

#[test]
fn a_push_against_two_workers() {
    explore(3, || {
        let crew = Crew::new(2, 1);
        let workers = [worker(&crew, 0), worker(&crew, 1)];
        crew.push();
        crew.finish(workers);
    });
}

#[test]
fn two_pushers_against_one_worker() {
    explore(3, || {
        let crew = Crew::new(1, 2);
        let worker = worker(&crew, 0);
        let other = spawn(&crew, Crew::push);
        crew.push();
        other.join().unwrap();
        crew.finish([worker]);
    });
}

#[test]
fn two_searchers() {
    // Bounded lower: at 3 it takes a minute or more.
    explore(2, || {
        let crew = Crew::new(4, 2);
        let workers = [worker(&crew, 0), worker(&crew, 1)];
        crew.push();
        crew.push();
        crew.finish(workers);
    });
}

#[test]
fn an_own_inbox() {
    // Bounded lower: at 3 it takes a minute or more.
    explore(2, || {
        let crew = Crew::new(2, 2);
        let workers = [worker(&crew, 0), worker(&crew, 1)];
        crew.push_to(0);
        crew.push_to(1);
        crew.finish(workers);
    });
}

#[test]
fn an_own_inbox_and_shared_work() {
    explore(3, || {
        let crew = Crew::new(1, 2);
        let worker = worker(&crew, 0);
        crew.push_to(0);
        crew.push();
        crew.finish([worker]);
    });
}

#[test]
fn a_stop_against_parking() {
    explore(3, || {
        let crew = Crew::new(2, 0);
        let workers = [worker(&crew, 0), worker(&crew, 1)];
        crew.idle.stop();
        crew.finish(workers);
    });
}

/// This thread is the other worker; its turn ends only when the sentinel has taken what waits behind it.
#[test]
fn the_sentinel_takes_what_waits_behind_a_long_turn() {
    explore(3, || {
        let crew = Crew::with_sentinel(2, 1, true);
        let worker = worker(&crew, 0);
        crew.fill_lifo();
        crew.finish([worker]);
    });
}

/// All may sleep, the sentinel having resigned or not. Work from outside wakes a worker, which then has a turn that
/// never ends, and work waits behind it: the other one must watch, and get its tokens one after the other.
#[test]
fn a_sentinel_is_appointed_again() {
    // Bounded lower, as above.
    explore(2, || {
        let crew = Crew::with_sentinel(2, 2, true);
        let sleeper = worker(&crew, 0);
        let busy = spawn(&crew, |crew| crew.work_for_good(1));
        crew.push();
        crew.push();
        crew.finish([sleeper, busy]);
    });
}

/// The same with one piece of work: whoever sleeps meanwhile must not stop watching once the other one is awake.
#[test]
fn a_sentinel_does_not_resign_while_somebody_is_awake() {
    explore(3, || {
        let crew = Crew::with_sentinel(2, 1, true);
        let sleeper = worker(&crew, 0);
        let busy = spawn(&crew, |crew| crew.work_for_good(1));
        crew.push();
        crew.finish([sleeper, busy]);
    });
}

/// The sentinel is woken for what only it may run, and is busy with that for good: another sleeper must watch what waits
/// behind the turn of the third worker, which is this thread.
#[test]
fn a_sentinel_with_work_of_its_own_leaves_a_watch() {
    // Bounded lower, as above.
    explore(2, || {
        let crew = Crew::with_sentinel(3, 2, true);
        let sentinel = spawn(&crew, |crew| {
            if crew.take(0) || crew.out_of_work(0) {
                let busy_for_good = crew.lifo.has_work(); // so this was its own
                crew.handled();
                if !busy_for_good {
                    crew.work(0);
                }
            }
        });
        let sleeper = worker(&crew, 1);
        crew.fill_lifo();
        crew.push_to(0);
        crew.finish([sentinel, sleeper]);
    });
}

/// A worker that is appointed and notified at the same time must hear of both, or of the notification at least.
#[test]
fn an_appointment_against_a_notification() {
    explore(3, || {
        let crew = Crew::new(2, 1);
        let sleeper = worker(&crew, 0);
        let appointer = spawn(&crew, |crew| crew.idle.ensure_watched());
        crew.push();
        crew.finish([sleeper, appointer]);
    });
}

/// Two pieces of work, two workers that are busy for good after one: the one that is woken first must see to it that
/// the other one is woken too, although the second push saw somebody searching and woke nobody.
#[test]
fn the_last_searcher_wakes_the_next() {
    explore(2, || {
        let crew = Crew::new(2, 2);
        let workers = [0, 1].map(|me| {
            spawn(&crew, move |crew| {
                assert!(crew.take(me) || crew.out_of_work(me));
                crew.rest.fetch_sub(1, AcqRel);
            })
        });
        crew.push();
        crew.push();
        crew.finish(workers);
    });
}
