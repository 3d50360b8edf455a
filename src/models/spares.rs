//! Slots that are left and taken over: against pushes, timers, appointments, and the thread that comes back.
//!
//! Covers: a slot has one holder at a time, who sees what the one before did (what lies there is loom's `UnsafeCell`); no
//! wake-up is lost to a vacant slot, neither work nor a timer nor a duty; whoever is told "quiet" sees what a turn
//! without a slot has done; a spare that nobody needs ends, whatever it was told in between.
//!
//! Does not cover: the queues, as in `idle`; which spare is reserved, which is under one lock. The worker's loop,
//! leaving and coming back are copies of `sched::dry` and `sched::blocking`.

use super::{explore, spawn, wait_idle};
use crate::sched::Quiescence;
use crate::sched::idle::{Idle, Watched, Woken};
use crate::sched::quiet::Quiet;
use crate::sched::spares::{Call, Elsewhere, Spare, Spares};
use crate::sync::{AtomicUsize, Ordering::*};
use crate::time::Duration;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::sync::Arc as StdArc;
use std::task::Waker;

struct Crew {
    idle: Idle,
    quiet: Quiet,
    elsewhere: Elsewhere,
    spare: StdArc<Spare>,
    /// What lies at each slot.
    desks: [UnsafeCell<usize>; 2],
    /// What any worker may take, and what only an owner and the sentinel take.
    shared: AtomicUsize,
    lifo: AtomicUsize,
    /// Timers that are armed.
    timers: AtomicUsize,
    sentinel: bool,
    /// Work still to be handled; with the last of it the crew stops.
    rest: AtomicUsize,
    /// Written by the turn that has blocked, at its end.
    after: UnsafeCell<bool>,
}

fn take(queue: &AtomicUsize) -> bool {
    queue.load(Relaxed) > 0 && queue.fetch_update(Acquire, Relaxed, |n| n.checked_sub(1)).is_ok()
}

/// How a slot was left.
enum Left {
    Vacant,
    Called,
}

impl Crew {
    fn new(workers: usize, work: usize, sentinel: bool) -> Arc<Self> {
        Arc::new(Crew {
            idle: Idle::new(workers),
            quiet: Quiet::new(),
            elsewhere: Elsewhere::new(),
            spare: Spare::new(),
            desks: [UnsafeCell::new(0), UnsafeCell::new(0)],
            shared: AtomicUsize::new(0),
            lifo: AtomicUsize::new(0),
            timers: AtomicUsize::new(0),
            sentinel,
            rest: AtomicUsize::new(work),
            after: UnsafeCell::new(false),
        })
    }

    fn push(&self) {
        self.shared.fetch_add(1, Release);
        self.idle.notify();
    }

    fn arm(&self) {
        self.timers.fetch_add(1, Release);
        if self.idle.alarm.lower(0) {
            self.idle.alarm_lowered();
        }
    }

    fn has_work(&self) -> bool {
        self.shared.load(Relaxed) > 0
    }

    /// As whoever holds the slot may.
    fn at(&self, slot: usize) {
        // SAFETY: loom checks it.
        self.desks[slot].with_mut(|desk| unsafe { *desk += 1 });
    }

    fn handled(&self, slot: usize) {
        self.at(slot);
        if self.rest.fetch_sub(1, AcqRel) == 1 {
            self.idle.stop();
        }
    }

    fn lie_down(&self, slot: usize) -> Woken {
        self.idle.lie_down(slot, || self.lifo.load(Relaxed) > 0)
    }

    /// As `Local::hold`, until the crew stops. `woken`: at a slot that was parked.
    fn work(&self, slot: usize, mut woken: Option<Woken>) {
        let mut searching = false;
        loop {
            if woken.is_none() {
                self.at(slot);
                while take(&self.shared) {
                    if std::mem::replace(&mut searching, false) {
                        self.hunt_ended();
                    }
                    self.handled(slot);
                }
            }
            let mut wakers = Vec::new();
            let woken = woken.take().unwrap_or_else(|| {
                let (has_work, stuck) = (|| self.has_work(), || self.lifo.load(Relaxed) > 0);
                let announce = || self.quiet.announce(|| self.quiescence(), |told| wakers = told);
                self.idle.park(slot, searching, self.sentinel, has_work, stuck, announce)
            });
            wakers.into_iter().for_each(Waker::wake);
            searching = false;
            match woken {
                Woken::Searching => searching = true,
                Woken::Running => {}
                Woken::Caught => {
                    let caught = take(&self.lifo);
                    self.idle.ensure_watched();
                    self.hunt_ended();
                    if caught {
                        self.handled(slot);
                    }
                }
                Woken::Alarm => {
                    let fired = take(&self.timers);
                    self.idle.alarm.set(None);
                    self.idle.ensure_kept();
                    if fired {
                        self.handled(slot);
                    }
                }
            }
            if self.idle.stopping() && !self.has_work() {
                if searching {
                    let _ = self.idle.end_search();
                }
                return;
            }
        }
    }

    fn hunt_ended(&self) {
        if self.idle.end_search() && self.has_work() {
            self.idle.notify();
        }
    }

    /// As `Scheduler::leave_slot`.
    fn leave(&self, slot: usize) -> Left {
        self.elsewhere.leave();
        self.at(slot);
        let spare = StdArc::clone(&self.spare);
        let Some(spare) = self.idle.vacate(slot, spare, self.sentinel, || self.has_work()) else {
            return Left::Vacant;
        };
        spare.call(Call::Work(slot));
        Left::Called
    }

    /// As `Member::step_in`, and what follows when the slot has gone. The turn does something at its end.
    fn come_back(&self, slot: usize, left: Left) {
        let back = match left {
            Left::Vacant => self.idle.take_back(slot).is_some(),
            Left::Called => self.spare.recall(slot),
        };
        if back {
            self.at(slot);
            let _ = self.elsewhere.back();
            self.turn_ends();
            self.spare.call(Call::End);
            self.work(slot, None);
        } else {
            self.turn_ends();
            if self.elsewhere.back() {
                self.announce();
            }
        }
    }

    /// As `Scheduler::announce_from_elsewhere`; the wakers' errand is run here.
    fn announce(&self) {
        let tell = |wakers: Vec<Waker>| wakers.into_iter().for_each(Waker::wake);
        self.quiet.announce(|| self.quiescence(), tell);
    }

    /// As `Scheduler::quiescence`.
    fn quiescence(&self) -> Quiescence {
        let Some(before) = self.idle.all_parked() else { return Quiescence::Busy };
        let quiet = !self.elsewhere.any() && !self.has_work() && self.idle.all_parked() == Some(before);
        if quiet { Quiescence::Quiet } else { Quiescence::Busy }
    }

    fn turn_ends(&self) {
        // SAFETY: loom checks it.
        self.after.with_mut(|after| unsafe { *after = true });
    }

    /// As `Scheduler::work` for a spare.
    fn spare(&self) {
        loop {
            let mut call = self.spare.wait();
            if call == Call::Watch {
                call = match self.idle.watch(&self.spare, || self.lifo.load(Relaxed) > 0) {
                    Watched::Called(call) => call,
                    Watched::Caught(slot) => Call::Catch(slot),
                    Watched::Over => continue,
                };
            }
            return match call {
                Call::Work(slot) => self.work(slot, None),
                Call::Lie(slot) => self.work(slot, Some(self.lie_down(slot))),
                Call::Catch(slot) => self.work(slot, Some(Woken::Caught)),
                Call::Free | Call::End | Call::Watch => {}
            };
        }
    }

    /// The thread blocks until all is done, so whatever is to be done is the spare's.
    fn block_for_good(&self, slot: usize) {
        let _ = self.leave(slot);
    }

    fn wait_idle(&self) {
        wait_idle(&self.quiet, || self.quiescence());
    }
}

/// If a wake-up is lost, the spare sleeps for ever.
#[test]
fn work_comes_to_a_slot_that_is_left() {
    explore(3, || {
        let crew = Crew::new(1, 1, false);
        let spare = spawn(&crew, Crew::spare);
        let blocks = spawn(&crew, |crew| crew.block_for_good(0));
        crew.push();
        blocks.join().unwrap();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// Either the spare gets the slot, or the thread that comes back has it again.
#[test]
fn a_thread_comes_back_while_its_slot_is_woken() {
    explore(3, || {
        let crew = Crew::new(1, 1, false);
        let spare = spawn(&crew, Crew::spare);
        let blocks = spawn(&crew, |crew| {
            let left = crew.leave(0);
            crew.come_back(0, left);
        });
        crew.push();
        blocks.join().unwrap();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// The same with work from the beginning on, so that the spare is called at once.
#[test]
fn a_thread_comes_back_while_its_spare_is_on_the_way() {
    explore(3, || {
        let crew = Crew::new(1, 1, false);
        crew.push();
        let spare = spawn(&crew, Crew::spare);
        let left = crew.leave(0);
        crew.come_back(0, left);
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// Two slots, one of which is left, the other parks: two pieces of work find somebody.
#[test]
fn a_sleeper_and_a_vacant_slot_are_both_woken() {
    explore(2, || {
        let crew = Crew::new(2, 2, false);
        let spare = spawn(&crew, Crew::spare);
        let sleeper = spawn(&crew, |crew| crew.work(1, None));
        crew.block_for_good(0);
        crew.push();
        crew.push();
        sleeper.join().unwrap();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// Nobody sleeps who could wait for the alarm.
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

/// The other worker sleeps and waits for the alarm, and is woken for what only it may run, a turn that never ends: a vacant slot is
/// all there is.
#[test]
fn a_keeper_leaves_only_a_vacant_slot() {
    explore(2, || {
        let crew = Crew::new(2, 1, false);
        let spare = spawn(&crew, Crew::spare);
        let keeper = spawn(&crew, |crew| {
            let woken = crew.idle.park(1, false, false, || crew.has_work(), || false, || false);
            match woken {
                Woken::Alarm => {
                    crew.at(1);
                    assert!(take(&crew.timers));
                    crew.handled(1);
                }
                Woken::Running => {}                   // busy for good
                Woken::Searching => crew.hunt_ended(), // the crew has stopped
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

/// The other worker makes work for its LIFO slot in a turn that never ends: somebody must watch.
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

/// What waits behind the other worker's long turn is there before the slot is left. That worker saw nobody asleep, and
/// appointed nobody.
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

/// Whoever is told that all is quiet sees the end of the turn that went on without a slot, or on its own again. With work,
/// so that the slot may be lost, or without.
fn quiet_comes_after_the_turn(work: bool) {
    explore(3, move || {
        let crew = Crew::new(1, 2, false); // one more than there will be: it does not stop by itself
        if work {
            crew.push();
        }
        let spare = spawn(&crew, Crew::spare);
        let blocks = spawn(&crew, |crew| {
            let left = crew.leave(0);
            crew.come_back(0, left);
        });
        crew.wait_idle();
        // SAFETY: loom checks it.
        assert!(crew.after.with(|after| unsafe { *after }), "told too early");
        crew.idle.stop();
        blocks.join().unwrap();
        spare.join().unwrap();
    });
}

#[test]
fn quiet_comes_after_a_turn_that_took_its_slot_back() {
    quiet_comes_after_the_turn(false);
}

#[test]
fn quiet_comes_after_a_turn_that_lost_its_slot() {
    quiet_comes_after_the_turn(true);
}

/// A thread that left the slot before takes it back, and leaves it again to another spare, while the slot's next holder, who has left it
/// too, finds work. Each spare is in one pair of hands afterwards.
#[test]
fn whose_spare_is_reserved_where_two_have_left_the_slot() {
    explore(3, || {
        let idle = Arc::new(Idle::new(1));
        let (first, second) = (Spare::new(), Spare::new());
        let back_and_away = {
            let (idle, second) = (Arc::clone(&idle), StdArc::clone(&second));
            thread::spawn(move || {
                let took = idle.take_back(0);
                if took.is_some() {
                    let again = idle.vacate(0, second, false, || false);
                    assert!(again.is_none(), "there was nothing to find");
                }
                took
            })
        };
        let mine = idle.vacate(0, StdArc::clone(&first), false, || true);
        let theirs = back_and_away.join().unwrap();
        let left = idle.take_back(0);
        let reserved = [&mine, &theirs, &left].map(Option::as_ref);
        let hands = |spare: &StdArc<Spare>| {
            let called = usize::from(spare.told().is_some());
            called + reserved.into_iter().flatten().filter(|has| StdArc::ptr_eq(has, spare)).count()
        };
        assert_eq!(hands(&first), 1);
        assert_eq!(hands(&second), usize::from(theirs.is_some()));
    });
}

/// The spare is called for a duty between a thread's leaving and its look for work: it sleeps, and is to be woken.
#[test]
fn a_duty_comes_before_the_look_for_work() {
    explore(3, || {
        let crew = Crew::new(2, 1, true);
        let spare = spawn(&crew, Crew::spare);
        let blocks = spawn(&crew, |crew| crew.block_for_good(0));
        // The other worker: makes work for all while it sees nobody asleep, appoints whoever sleeps by now, and blocks for good with its slot.
        crew.push();
        crew.idle.ensure_watched();
        blocks.join().unwrap();
        spare.join().unwrap();
        assert_eq!(crew.rest.load(Relaxed), 0);
    });
}

/// It is let go, reserved again, called and recalled while it lies down, and slept for ever if what told it to look were gone.
#[test]
fn a_spare_that_is_free_again_ends() {
    explore(3, || {
        let spares = Arc::new(Spares::new(1, Duration::ZERO));
        let spare = spares.reserve(&|_| true).expect("there may be one");
        let life = {
            let (spares, me) = (Arc::clone(&spares), StdArc::clone(&spare));
            thread::spawn(move || {
                let mut free = false;
                while let Some(call) = spares.wait(&me, free) {
                    assert_eq!(call, Call::Work(0));
                    free = true;
                }
            })
        };
        spares.let_go(spare);
        if let Some(spare) = spares.reserve(&|_| false) {
            spare.call(Call::Work(0));
            if spare.recall(0) {
                spares.let_go(spare);
            }
        }
        life.join().unwrap();
        assert_eq!(spares.alive(), 0);
    });
}
