//! Errands at the crew's end: no worker ends while a chore has not begun.
//!
//! Covers: two workers, after the crew was told to stop. The first chore to begin blocks until the
//! other one has begun. If a worker ends before that, the other worker sleeps for ever, which loom
//! reports. The chores come from a queue, or from timers that one of the workers fires.
//!
//! Does not cover: the queues, which are one count under a lock here, and the table of timers,
//! which is another. The worker's loop is a copy of `Worker::last_task`, and its errand of
//! `Errand::run_next_chore`.

use super::{explore, spawn};
use crate::sched::chores::OwedChores;
use crate::sync::{AtomicUsize, Mutex, Ordering::*, ThreadWaker};
use loom::sync::Arc;
use loom::thread;

/// Chores of one errand.
const CHORES: usize = 2;

struct Crew {
    owed: OwedChores,
    /// The chores left of the errand, while it waits.
    queue: Mutex<usize>,
    timers: Mutex<usize>,
    begun: AtomicUsize,
    // The standard library's, from which a `Waker` is made.
    second: std::sync::Arc<ThreadWaker>,
}

impl Crew {
    fn new(timers: usize) -> Arc<Self> {
        Arc::new(Crew {
            owed: OwedChores::new(),
            queue: Mutex::new(0),
            timers: Mutex::new(timers),
            begun: AtomicUsize::new(0),
            second: ThreadWaker::new(),
        })
    }

    /// As `Scheduler::make_errand` and `push_errand`.
    fn push(&self, chores: usize) {
        if chores > 0 {
            self.owed.add_chores(chores);
            *self.queue.lock() += chores;
        }
    }

    /// As `Scheduler::fire_timers`.
    fn fire(&self) {
        // Counted until the chores are pushed: in between they are in neither place.
        let _visit = self.owed.begin_visit();
        let fired = std::mem::take(&mut *self.timers.lock());
        self.push(fired);
    }

    /// As `Errand::run_next_chore`.
    fn run(&self, chores: usize) {
        // The rest goes back first, since this chore may block until another one has begun.
        *self.queue.lock() += chores - 1;
        self.owed.begin_chore();
        match self.begun.fetch_add(1, AcqRel) {
            0 => _ = self.second.park_until(None),
            _ => self.second.to_waker().wake(),
        }
    }

    /// As `Worker::last_task`, again and again.
    fn work(&self) {
        loop {
            if *self.timers.lock() > 0 {
                self.fire();
            }
            let errand = std::mem::take(&mut *self.queue.lock());
            if errand > 0 {
                self.run(errand);
                continue;
            }
            // The timers first: a visit that empties their table stays counted until its chores are
            // pushed.
            let to_be_cancelled = *self.timers.lock() > 0;
            if !to_be_cancelled && !self.owed.any_left() {
                return;
            }
            thread::yield_now();
        }
    }

    fn run_all(crew: &Arc<Self>) {
        let other = spawn(crew, Crew::work);
        crew.work();
        other.join().unwrap();
        assert_eq!(crew.begun.load(Acquire), CHORES);
    }
}

#[test]
fn a_chore_of_an_errand_does_not_wait_behind_another() {
    explore(3, || {
        let crew = Crew::new(0);
        crew.push(CHORES);
        Crew::run_all(&crew);
    });
}

#[test]
fn a_chore_of_a_timer_does_not_wait_behind_another() {
    explore(3, || Crew::run_all(&Crew::new(CHORES)));
}
