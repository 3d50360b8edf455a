//! Idle protocol: work pushed against workers that park.
//!
//! Covers: no wake-up is lost. (The worker that handles the last piece of work stops the crew. If a
//! wake-up is lost, all workers sleep, and loom reports a deadlock.) Covered are work for any
//! worker, a worker's own inbox, work behind an endless turn (the sentinel's), and the stop itself.
//! Each piece of work is taken once.
//!
//! Does not cover: the queues. A queue here is a count that says "empty" with a relaxed load, the
//! least that a queue can promise. So only the protocol's own fences can make a rescan see a push.
//! The worker's loop is a copy of `sched::worker`'s, without spinning. A timed wait ends at any
//! moment, so the length of a sentinel's wait is not checked.

use super::{explore, spawn};
use crate::sched::idle::{Idle, Woken};
use crate::sync::{AtomicUsize, Ordering::*};
use loom::sync::Arc;
use loom::thread::JoinHandle;

/// A queue of interchangeable pieces of work.
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
        // A read-modify-write alone reads the latest value, and would find work that no fence has
        // made visible.
        self.has_work() && self.0.fetch_update(Acquire, Relaxed, |n| n.checked_sub(1)).is_ok()
    }
}

struct Crew {
    idle: Idle,
    /// Work that any worker may take.
    shared: Queue,
    inboxes: [Queue; 2],
    /// Work that only the owner and the sentinel take.
    lifo: Queue,
    sentinel: bool,
    /// Number of pieces of work still to be handled.
    rest: AtomicUsize,
}

impl Crew {
    /// Makes a crew. With more `workers` than threads, the others are awake throughout, busy with
    /// something else.
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
        self.idle.notify_any();
    }

    fn push_to(&self, worker: usize) {
        self.inboxes[worker].push();
        self.idle.notify_worker(worker);
    }

    /// Called by a worker that is busy for long afterwards.
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
        // AcqRel: the worker that stops the crew sees all others' work.
        if self.rest.fetch_sub(1, AcqRel) == 1 {
            self.idle.stop_workers();
        }
    }

    /// Like `Worker::run`.
    fn work(&self, me: usize) {
        while self.take(me) || self.out_of_work(me) {
            self.handled();
        }
    }

    /// Like `Worker::search_or_park`. Returns `true` with a piece of work, `false` when the crew
    /// stops.
    fn out_of_work(&self, me: usize) -> bool {
        let found = self.search_and_park(me);
        // As in `Worker::until_work`: the sentinel may be the one that got up.
        if self.sentinel {
            self.idle.ensure_watched();
        }
        found
    }

    fn search_and_park(&self, me: usize) -> bool {
        // At most half of the awake workers search at a time.
        let mut searching = self.idle.try_search();
        loop {
            if searching && self.take(me) {
                self.hunt_ended(me);
                return true;
            }
            // Read after the sentinel's timed wait, which ends at any moment here.
            let stuck = || self.lifo.has_work();
            match self.idle.park_worker(
                me,
                searching,
                self.sentinel,
                || self.has_work(me),
                stuck,
                || false,
            ) {
                Woken::Caught => {
                    if self.lifo.take() {
                        self.hunt_ended(me);
                        return true;
                    }
                    // Caught nothing: the sentinel goes on as a searcher.
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
            if self.idle.is_stopping() && !self.has_work(me) {
                if searching {
                    // No other worker is woken for the search: the crew stops.
                    let _ = self.idle.end_search();
                }
                return false;
            }
        }
    }

    /// Runs an endless turn that fills the own LIFO slot, so that only the sentinel can take the
    /// work.
    fn work_for_good(&self, me: usize) {
        if self.take(me) || self.out_of_work(me) {
            // The work is counted before it is pushed, or the crew might stop before it.
            self.rest.fetch_add(1, Relaxed);
            self.fill_lifo();
            self.handled();
        }
    }

    fn hunt_ended(&self, me: usize) {
        if self.idle.end_search() && self.has_work(me) {
            self.idle.notify_any();
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
    // Bounded lower: at 3 preemptions the search takes a minute or more.
    explore(2, || {
        // Four workers, two of them busy throughout: both others may search at the same time.
        let crew = Crew::new(4, 2);
        let workers = [worker(&crew, 0), worker(&crew, 1)];
        crew.push();
        crew.push();
        crew.finish(workers);
    });
}

#[test]
fn an_own_inbox() {
    // Bounded lower: at 3 preemptions the search takes a minute or more.
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
        crew.idle.stop_workers();
        crew.finish(workers);
    });
}

/// This thread is the other worker. The turn ends only when the sentinel has taken the work behind.
#[test]
fn the_sentinel_takes_what_waits_behind_a_long_turn() {
    explore(3, || {
        let crew = Crew::with_sentinel(2, 1, true);
        let worker = worker(&crew, 0);
        crew.fill_lifo();
        crew.finish([worker]);
    });
}

/// All workers may sleep, and the sentinel may have resigned. Work from outside wakes a worker. The
/// worker's turn never ends, with work waiting behind. The other worker must watch, and get its
/// tokens one after the other.
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

/// The same with one piece of work: a worker that sleeps meanwhile must not stop watching once the
/// other is awake.
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

/// The sentinel is woken for bound work, and is busy with the work for good. Another sleeper must
/// watch the work behind the turn of the third worker, which is this thread.
#[test]
fn a_sentinel_with_work_of_its_own_leaves_a_watch() {
    // Bounded lower, as above.
    explore(2, || {
        let crew = Crew::with_sentinel(3, 2, true);
        let sentinel = spawn(&crew, |crew| {
            if crew.take(0) || crew.out_of_work(0) {
                // True if the work taken was the worker's own.
                let busy_for_good = crew.lifo.has_work();
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

/// A worker that is appointed and notified at the same time must hear of both, or at least of the
/// notification.
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

/// Two pieces of work, and two workers that are busy for good after one. The worker woken first
/// must wake the other one, although the second push saw a search and woke no worker.
#[test]
fn the_last_searcher_wakes_the_next() {
    explore(2, || {
        let crew = Crew::new(2, 2);
        let workers = [0, 1].map(|me| {
            spawn(&crew, move |crew| {
                assert!(crew.take(me) || crew.out_of_work(me));
                // Not by `handled`, which stops the crew, and so would wake a forgotten worker.
                crew.rest.fetch_sub(1, AcqRel);
            })
        });
        crew.push();
        crew.push();
        crew.finish(workers);
    });
}
