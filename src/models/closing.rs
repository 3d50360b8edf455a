//! The crew's end: a closed executor's last actor stops the crew.
//!
//! Covers: at least one thread stops the crew, and none does while an actor lives. Actors end on
//! several threads meanwhile, spawn others, and are refused.
//!
//! Does not cover: the walk over the cells. Whether an actor lives is written down in a count that
//! loom does not see, between the same two steps as in the crate.

use super::{explore, spawn};
use crate::cell::closing::{Closing, count_living};
use crate::sync::{Counter, Mutex};
use loom::sync::Arc;
// Not loom's: the checks must not order what the protocol leaves unordered.
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// The threads that count. Each is the only writer of its counts.
const THREADS: usize = 3;

struct Crew {
    closing: Closing,
    /// Whether the only shard refuses new cells.
    shard_closed: Mutex<bool>,
    spawned: [Counter; THREADS],
    gone: [Counter; THREADS],
    living: AtomicUsize,
    stops: AtomicUsize,
}

impl Crew {
    /// Makes a crew with `actors` that were spawned before the other threads began.
    fn new(actors: usize) -> Arc<Self> {
        let counts = || [Counter::default(), Counter::default(), Counter::default()];
        let crew = Arc::new(Crew {
            closing: Closing::new(),
            shard_closed: Mutex::new(false),
            spawned: counts(),
            gone: counts(),
            living: AtomicUsize::new(actors),
            stops: AtomicUsize::new(0),
        });
        crew.spawned[0].add(actors as u64);
        crew
    }

    /// As `Core::count_not_gone`.
    fn count_not_gone(&self) -> u64 {
        let sum = |counts: &[Counter]| counts.iter().map(Counter::get).sum();
        count_living(|| sum(&self.gone), || sum(&self.spawned))
    }

    /// As `Scheduler::stop_crew`.
    fn stop(&self) {
        assert_eq!(self.living.load(SeqCst), 0, "the crew is stopped while an actor lives");
        self.stops.fetch_add(1, SeqCst);
    }

    /// As `Core::count_gone`.
    fn count_gone(&self, thread: usize) {
        // The stop may come twice, from two threads that both see no actor left.
        if self.closing.count_gone(|| self.gone[thread].add(1), || self.count_not_gone()) {
            self.stop();
        }
    }

    fn end_actor(&self, thread: usize) {
        // Before the count: `stop` asserts that no actor lives.
        self.living.fetch_sub(1, SeqCst);
        self.count_gone(thread);
    }

    /// As `Spawner::enroll_cell`. Returns `true` if an actor was spawned.
    fn spawn_actor(&self, thread: usize) -> bool {
        // Before the shard is asked, so a close finds the cell refused or counted.
        self.spawned[thread].add(1);
        let closed = self.shard_closed.lock();
        // Under the shard's lock, so a close that comes later sees the actor alive.
        if !*closed {
            self.living.fetch_add(1, SeqCst);
            return true;
        }
        drop(closed);
        self.count_gone(thread);
        false
    }

    /// As `Core::close_all`.
    fn close_all(&self) {
        *self.shard_closed.lock() = true;
        if self.closing.close(|| (), || self.count_not_gone()) {
            self.stop();
        }
    }

    fn check(&self) {
        assert_eq!(self.living.load(SeqCst), 0);
        assert!(self.stops.load(SeqCst) > 0, "nobody stops the crew");
    }
}

#[test]
fn the_last_of_several_ends_stops_the_crew() {
    explore(3, || {
        let crew = Crew::new(2);
        let first = spawn(&crew, |crew| crew.end_actor(1));
        let second = spawn(&crew, |crew| crew.end_actor(2));
        crew.close_all();
        first.join().unwrap();
        second.join().unwrap();
        crew.check();
    });
}

/// An end that reads the flag also reads what was spawned before it was set.
#[test]
fn a_spawn_before_the_close_is_waited_for() {
    explore(3, || {
        let crew = Crew::new(1);
        let other = spawn(&crew, |crew| crew.end_actor(1));
        // Two actors from here on, and one lives until the end: a stop before is too early.
        assert!(crew.spawn_actor(0), "the shard is open");
        crew.close_all();
        other.join().unwrap();
        assert_eq!(crew.stops.load(SeqCst), 0);
        crew.end_actor(0);
        crew.check();
    });
}

/// A spawn that is refused is counted as spawned and as gone, and neither without the other.
#[test]
fn a_refused_spawn_does_not_stand_for_an_actor_that_lives() {
    explore(3, || {
        // The second actor ends last of all, so a stop before is too early.
        let crew = Crew::new(2);
        let spawner = spawn(&crew, |crew| {
            if crew.spawn_actor(1) {
                crew.end_actor(1);
            }
        });
        let other = spawn(&crew, |crew| crew.end_actor(2));
        crew.close_all();
        spawner.join().unwrap();
        other.join().unwrap();
        assert_eq!(crew.stops.load(SeqCst), 0);
        crew.end_actor(0);
        crew.check();
    });
}
