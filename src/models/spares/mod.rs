//! Slots that are left and taken over: against pushes, timers, appointments, and the thread that
//! comes back.
//!
//! Covers: a slot has one holder at a time, which sees everything done by the previous holder (a
//! slot's data is loom's `UnsafeCell`). No wake-up is lost to a vacant slot, neither work nor a
//! timer nor a duty. A caller that is told "quiet" sees everything done by a turn without a slot. A
//! spare without a use ends, whatever it was told in between.
//!
//! Does not cover: the queues, as in `idle`; which spare is reserved, which is decided under one
//! lock. The worker's loop, leaving and coming back are copies of `sched::search` and
//! `sched::blocking`.

mod duties;

use super::{explore, spawn, wait_idle};
use crate::sched::idle::vacant::Watched;
use crate::sched::idle::{Idle, Woken};
use crate::sched::quiescence::Quiescence;
use crate::sched::quiescence::QuiescenceWaiters;
use crate::sched::spares::{Assignment, Elsewhere, Spare, Spares};
use crate::sync::{AtomicUsize, Ordering::*};
use crate::time::Duration;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::sync::Arc as StdArc;
use std::task::Waker;

struct Crew {
    idle: Idle,
    quiet: QuiescenceWaiters,
    elsewhere: Elsewhere,
    spare: StdArc<Spare>,
    /// Data at each slot.
    desks: [UnsafeCell<usize>; 2],
    /// Work for any worker, and work for the owner and the sentinel only.
    shared: AtomicUsize,
    lifo: AtomicUsize,
    /// Number of armed timers.
    timers: AtomicUsize,
    sentinel: bool,
    /// Number of pieces of work still to be handled. With the last one the crew stops.
    rest: AtomicUsize,
    /// Written at its end by the turn that has blocked.
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
            quiet: QuiescenceWaiters::new(),
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
        self.idle.notify_any();
    }

    fn arm(&self) {
        self.timers.fetch_add(1, Release);
        self.lower_alarm(0);
    }

    /// Arms a timer that is not due in any model's lifetime.
    fn arm_for_later(&self) {
        self.lower_alarm(u64::MAX / 4);
    }

    fn lower_alarm(&self, to: u64) {
        if self.idle.alarm.lower_to(to) {
            self.idle.alarm_lowered();
        }
    }

    fn has_work(&self) -> bool {
        self.shared.load(Relaxed) > 0
    }

    /// Touches the data at a slot, like its holder.
    fn at(&self, slot: usize) {
        // SAFETY: only the slot's holder gets here; loom's cell reports a second one.
        self.desks[slot].with_mut(|desk| unsafe { *desk += 1 });
    }

    fn handled(&self, slot: usize) {
        self.at(slot);
        if self.rest.fetch_sub(1, AcqRel) == 1 {
            self.idle.stop_workers();
        }
    }

    fn park_at_slot(&self, slot: usize) -> Woken {
        self.idle.park_at_slot(slot, || self.lifo.load(Relaxed) > 0)
    }

    /// Like `Worker::hold_slot`, until the crew stops. `woken` is given for a slot that was parked.
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
            // Woken after the park, as in the crate, where they may be user code.
            let mut wakers = Vec::new();
            // A slot that was parked on behalf of another thread goes on from its waking.
            let woken = woken.take().unwrap_or_else(|| {
                let (has_work, stuck) = (|| self.has_work(), || self.lifo.load(Relaxed) > 0);
                let announce =
                    || self.quiet.announce_rest(|| self.quiescence(), |told| wakers = told);
                self.idle.park_worker(slot, searching, self.sentinel, has_work, stuck, announce)
            });
            wakers.into_iter().for_each(Waker::wake);
            searching = false;
            match woken {
                Woken::Searching => searching = true,
                Woken::Running => {}
                Woken::Caught => {
                    // The sentinel may come too late: the owner has taken it.
                    let caught = take(&self.lifo);
                    self.idle.ensure_watched();
                    self.hunt_ended();
                    if caught {
                        self.handled(slot);
                    }
                }
                Woken::Alarm => {
                    let fired = take(&self.timers);
                    // No model arms two timers, so none is left to wait for.
                    self.idle.alarm.set_next(None);
                    self.idle.ensure_timer_waiter();
                    if fired {
                        self.handled(slot);
                    }
                }
            }
            if self.idle.is_stopping() && !self.has_work() {
                if searching {
                    let _ = self.idle.end_search();
                }
                return;
            }
        }
    }

    fn hunt_ended(&self) {
        if self.idle.end_search() && self.has_work() {
            self.idle.notify_any();
        }
    }

    /// Like `Scheduler::leave_slot`.
    fn leave(&self, slot: usize) -> Left {
        // Counted before the slot is left, so that a look for quiescence cannot miss the turn.
        self.elsewhere.count_left();
        self.at(slot);
        // The crew has a single spare, so it is the one reserved.
        let spare = StdArc::clone(&self.spare);
        let Some(spare) = self.idle.vacate_slot(slot, spare, self.sentinel, || self.has_work())
        else {
            return Left::Vacant;
        };
        spare.call_to(Assignment::Run(slot));
        Left::Called
    }

    /// Like `CrewThread::step_in`, and what follows when the slot is gone. The turn writes
    /// `after` at its end.
    fn come_back(&self, slot: usize, left: Left) {
        let back = match left {
            Left::Vacant => self.idle.take_back(slot).is_some(),
            Left::Called => self.spare.take_call_back(slot),
        };
        if back {
            self.at(slot);
            let _ = self.elsewhere.count_back();
            self.turn_ends();
            // The slot is back, so the reserved spare has no use any more.
            self.spare.call_to(Assignment::Exit);
            self.work(slot, None);
        } else {
            self.turn_ends();
            // After the turn's last effect, which a caller that is told "quiet" must see.
            if self.elsewhere.count_back() {
                self.announce();
            }
        }
    }

    /// Like `Scheduler::announce_from_elsewhere`. The wakers' errand runs here.
    fn announce(&self) {
        let tell = |wakers: Vec<Waker>| wakers.into_iter().for_each(Waker::wake);
        self.quiet.announce_rest(|| self.quiescence(), tell);
    }

    /// Like `Scheduler::check_quiescence`.
    fn quiescence(&self) -> Quiescence {
        let Some(before) = self.idle.all_parked() else { return Quiescence::Busy };
        // A turn without a slot counts as running, whatever the slots say.
        let quiet = !self.elsewhere.any_elsewhere()
            && !self.has_work()
            && self.idle.all_parked() == Some(before);
        if quiet { Quiescence::Quiet } else { Quiescence::Busy }
    }

    fn turn_ends(&self) {
        // SAFETY: only the turn that blocked writes, and not while a checker reads; loom's cell
        // reports a violation.
        self.after.with_mut(|after| unsafe { *after = true });
    }

    /// Like `Scheduler::run_crew_thread` for a spare.
    fn spare(&self) {
        loop {
            let mut call = self.spare.wait_for_call();
            if call == Assignment::Watch {
                call = match self.idle.watch_as_spare(&self.spare, || self.lifo.load(Relaxed) > 0) {
                    Watched::Called(call) => call,
                    Watched::Caught(slot) => Assignment::Catch(slot),
                    Watched::Over => continue,
                };
            }
            return match call {
                Assignment::Run(slot) => self.work(slot, None),
                Assignment::Park(slot) => self.work(slot, Some(self.park_at_slot(slot))),
                Assignment::Catch(slot) => self.work(slot, Some(Woken::Caught)),
                // Not needed, so the thread ends, as a spare without a use does.
                Assignment::Idle | Assignment::Exit | Assignment::Watch => {}
            };
        }
    }

    /// Leaves the slot until all work is done, so that the spare must do all of it.
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

/// Either the spare gets the slot, or the returning thread has it again.
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

/// The same with work from the beginning, so that the spare is called at once.
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

/// One of two slots is left, the other parks. Both pieces of work find a thread.
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

/// A caller told that all is quiet sees the end of the turn without a slot, or with the slot again.
/// The slot may be lost with `work`, and is not without.
fn quiet_comes_after_the_turn(work: bool) {
    explore(3, move || {
        // One more than there will be, so that the crew does not stop by itself.
        let crew = Crew::new(1, 2, false);
        if work {
            crew.push();
        }
        let spare = spawn(&crew, Crew::spare);
        let blocks = spawn(&crew, |crew| {
            let left = crew.leave(0);
            crew.come_back(0, left);
        });
        crew.wait_idle();
        // SAFETY: the turn is over once "quiet" was told; loom's cell reports a violation.
        assert!(crew.after.with(|after| unsafe { *after }), "told too early");
        crew.idle.stop_workers();
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

/// An earlier holder takes the slot back, and leaves it again to another spare. Meanwhile the
/// slot's next holder, which has left it too, finds work. Each spare is in one pair of hands
/// afterwards.
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
                    let again = idle.vacate_slot(0, second, false, || false);
                    assert!(again.is_none(), "there was nothing to find");
                }
                took
            })
        };
        let mine = idle.vacate_slot(0, StdArc::clone(&first), false, || true);
        let theirs = back_and_away.join().unwrap();
        let left = idle.take_back(0);
        let reserved = [&mine, &theirs, &left].map(Option::as_ref);
        let hands = |spare: &StdArc<Spare>| {
            let called = usize::from(spare.pending_call().is_some());
            called + reserved.into_iter().flatten().filter(|has| StdArc::ptr_eq(has, spare)).count()
        };
        assert_eq!(hands(&first), 1);
        assert_eq!(hands(&second), usize::from(theirs.is_some()));
    });
}

/// The spare is released, reserved again, called and recalled while it lies down. Without its
/// request to look it would sleep for ever.
#[test]
fn a_spare_that_is_free_again_ends() {
    explore(3, || {
        // No time to stay: a spare that looks while it is free ends.
        let spares = Arc::new(Spares::new(1, Duration::ZERO));
        let spare = spares.reserve_spare(&|_| true).expect("there may be one");
        let life = {
            let (spares, me) = (Arc::clone(&spares), StdArc::clone(&spare));
            thread::spawn(move || {
                let mut free = false;
                while let Some(call) = spares.wait_for_call(&me, free) {
                    assert_eq!(call, Assignment::Run(0));
                    free = true;
                }
            })
        };
        spares.let_go(spare);
        if let Some(spare) = spares.reserve_spare(&|_| false) {
            spare.call_to(Assignment::Run(0));
            if spare.take_call_back(0) {
                spares.let_go(spare);
            }
        }
        life.join().unwrap();
        assert_eq!(spares.alive_threads(), 0);
    });
}
