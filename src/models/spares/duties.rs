//! Slots that are left, against the duties of parked workers: to wait for the alarm, and to watch.
//!
//! The crew is that of [`spares`](super).

use super::*;

/// There is no sleeper that could wait for the alarm.
#[test]
fn a_timer_against_a_slot_that_is_left() {
    explore(3, || {
        let crew = Crew::new(1, 1, false);
        let spare = spawn(&crew, Crew::spare);
        let blocks = spawn(&crew, |crew| crew.block_for_good(0));
        crew.arm();
        blocks.join().unwrap();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// The slot's spare is called to wait for the alarm, while the thread that leaves the slot finds
/// work. The pusher saw no parked worker, so only that thread can wake the slot.
#[test]
fn work_is_found_at_a_slot_that_waits_for_the_alarm() {
    explore(3, || {
        let crew = Crew::new(1, 1, false);
        crew.push();
        let spare = spawn(&crew, Crew::spare);
        let arms = spawn(&crew, Crew::arm_for_later);
        crew.block_for_good(0);
        arms.join().unwrap();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// The other worker sleeps and waits for the alarm, and is woken for an endless turn of bound work.
/// Only the vacant slot is left.
#[test]
fn a_timer_waiter_leaves_only_a_vacant_slot() {
    explore(2, || {
        let crew = Crew::new(2, 1, false);
        let spare = spawn(&crew, Crew::spare);
        let keeper = spawn(&crew, |crew| {
            let woken =
                crew.idle.park_worker(1, false, false, || crew.has_work(), || false, || false);
            match woken {
                Woken::Alarm => {
                    crew.at(1);
                    assert!(take(&crew.timers));
                    crew.handled(1);
                }
                // The worker is busy for good.
                Woken::Running => {}
                // The crew has stopped.
                Woken::Searching => crew.hunt_ended(),
                Woken::Caught => unreachable!("nobody watches"),
            }
        });
        crew.block_for_good(0);
        crew.arm();
        crew.idle.notify_worker(1);
        keeper.join().unwrap();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// The other worker fills its LIFO slot in a turn that never ends, so some thread must watch.
#[test]
fn a_vacant_slot_gets_a_sentinel() {
    explore(3, || {
        let crew = Crew::new(2, 1, true);
        let spare = spawn(&crew, Crew::spare);
        crew.block_for_good(0);
        crew.lifo.fetch_add(1, Release);
        crew.idle.ensure_watched();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// Work waits behind the other worker's long turn before the slot is left. The worker saw no
/// sleeper, and appointed none.
#[test]
fn a_slot_that_is_left_gets_a_sentinel_for_what_waits_already() {
    explore(3, || {
        let crew = Crew::new(2, 1, true);
        let spare = spawn(&crew, Crew::spare);
        let blocks = spawn(&crew, |crew| crew.block_for_good(0));
        // The other worker, this thread, in a turn that never ends.
        crew.lifo.fetch_add(1, Release);
        crew.idle.ensure_watched();
        blocks.join().unwrap();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// The spare is called for a duty between a thread's departure and its look for work. The spare
/// sleeps, and must be woken.
#[test]
fn a_duty_comes_before_the_look_for_work() {
    explore(3, || {
        let crew = Crew::new(2, 1, true);
        let spare = spawn(&crew, Crew::spare);
        let blocks = spawn(&crew, |crew| crew.block_for_good(0));
        // The other worker makes work for all while it sees no sleeper, appoints any thread that
        // sleeps by now, and blocks for good with its slot.
        crew.push();
        crew.idle.ensure_watched();
        blocks.join().unwrap();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}
