//! State word: the last reference dropped, against an upgrade, against a send; and waiting for the
//! end.
//!
//! Covers: the end comes once, when no thread can reach the actor, and not before. The memory is
//! freed once, after every other use. A thread that waits for the end is told, and sees everything
//! done by the last turn.
//!
//! Does not cover: the registry, which is another way to a cell (under its lock); several actors.
//! The weak count is a copy of `cell::header`'s.

use super::{explore, spawn};
use crate::mailbox::state::{EndTurn, Release, Reserve, State};
use crate::sync::{AtomicU32, Mutex, Ordering::*, ThreadWaker};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::task::Waker;

struct Cell {
    state: State,
    weak: AtomicU32,
    inner: UnsafeCell<Inner>,
    /// Read by threads that use the memory outside a turn, written when the cell is freed.
    memory: UnsafeCell<()>,
    /// Written by each thread before it drops its last reference, read when an unreferenced actor
    /// ends.
    before: [UnsafeCell<()>; 3],
    /// Wakers of threads that wait for the end.
    stop: Mutex<Vec<Waker>>,
}

#[derive(Default)]
struct Inner {
    handled: u32,
    ended: u32,
    freed: bool,
}

impl Cell {
    /// Makes a cell with one strong reference and `weak` weak ones. The first turn is over.
    fn new(weak: u32) -> Arc<Self> {
        let cell = Cell {
            state: State::new(),
            // One for the actor itself, given up with its last strong reference or its end.
            weak: AtomicU32::new(1 + weak),
            inner: UnsafeCell::new(Inner::default()),
            memory: UnsafeCell::new(()),
            before: [(); 3].map(UnsafeCell::new),
            stop: Mutex::new(Vec::new()),
        };
        cell.turns();
        Arc::new(cell)
    }

    fn touch<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: only turns and the freeing get here, and they do not overlap; loom's cell reports
        // a violation.
        self.inner.with_mut(|inner| f(unsafe { &mut *inner }))
    }

    /// Called by a holder of a strong reference.
    fn tell(&self) {
        let Reserve::Accepted { schedule } = self.state.reserve_place(9, false) else {
            panic!("collected while referenced")
        };
        if schedule {
            self.turns();
        }
    }

    /// Called by thread number `me`, with its only reference.
    fn release(&self, me: usize) {
        self.before[me].with_mut(|_| ());
        match self.state.release_ref() {
            Release::Nothing => {}
            Release::Schedule => self.turns(),
            // The strong references hold one weak count together.
            Release::Free => self.release_weak(),
        }
    }

    fn release_weak(&self) {
        if self.weak.fetch_sub(1, AcqRel) == 1 {
            // SAFETY: the weak count was the last, so no thread uses the word any more. The real
            // memory goes with the last `Arc`.
            unsafe { State::mark_freed(std::ptr::from_ref(&self.state).cast_mut()) };
            self.memory.with_mut(|_| ());
            self.touch(|inner| assert!(!std::mem::replace(&mut inner.freed, true), "freed twice"));
        }
    }

    /// Like `cell::turn` and `cell::end`; every message with a place counts as handled.
    fn turns(&self) {
        loop {
            let waiting = self.state.begin_turn().len();
            self.touch(|inner| inner.handled += waiting);
            if self.state.end_idle(waiting) {
                return;
            }
            match self.state.end_turn(waiting, false) {
                EndTurn::Idle => return,
                EndTurn::More { .. } => {}
                EndTurn::Ending => return self.end(),
                EndTurn::Unreferenced => {
                    // The end reads each thread's write before the drop of its last reference.
                    self.before.iter().for_each(|before| before.with(|_| ()));
                    return self.end();
                }
                EndTurn::ServeRoom | EndTurn::CheckQueue | EndTurn::Retire => {
                    unreachable!("nobody waits for room, shares, or has a successor")
                }
            }
        }
    }

    fn end(&self) {
        self.touch(|inner| inner.ended += 1);
        let mut secured = false;
        let dead = loop {
            match self.state.set_dead(secured) {
                Some(dead) => break dead,
                None => {
                    // There are waiters: the cell must live until they are told, so the turn takes
                    // a weak count first.
                    self.weak.fetch_add(1, Relaxed);
                    secured = true;
                }
            }
        };
        // After the word: a waiter that comes from here on sees "dead" and does not wait.
        if dead.tell_waiters {
            let wakers = std::mem::take(&mut *self.stop.lock());
            // A use of the cell after its death: only the extra weak count keeps the memory.
            self.memory.with(|_| ());
            wakers.into_iter().for_each(Waker::wake);
        }
        if dead.free {
            self.release_weak();
        }
        if secured {
            self.release_weak();
        }
    }

    /// Like `actor::refs::Stopped`. Called by a holder of a strong reference.
    fn wait_for_end(&self) {
        let waker = ThreadWaker::new();
        loop {
            let mut waiting = self.stop.lock();
            // Asked under the lock, so that the last turn takes the list after this thread's entry,
            // or this thread sees "dead".
            if !self.state.wait_for_stop() {
                return;
            }
            waiting.push(waker.to_waker());
            drop(waiting);
            waker.park_until(None);
            if self.state.load_snapshot().is_dead() {
                // An acquiring step, so that the waiter sees everything before the end.
                let _ = self.state.wait_for_stop();
                return;
            }
        }
    }

    /// Checks that the actor ended once and its memory was freed once, after all threads have
    /// ended.
    fn settle(&self, handled: u32) {
        self.touch(|inner| {
            assert_eq!((inner.handled, inner.ended, inner.freed), (handled, 1, true))
        });
    }
}

#[test]
fn the_last_reference_against_an_upgrade() {
    explore(3, || {
        let cell = Cell::new(1);
        let upgrader = spawn(&cell, |cell| {
            let upgraded = cell.state.try_upgrade();
            if upgraded {
                cell.tell();
                cell.release(1);
            }
            cell.release_weak();
            u32::from(upgraded)
        });
        cell.release(0);
        let told = upgrader.join().unwrap();
        cell.settle(told);
    });
}

#[test]
fn references_dropped_against_an_upgrade_and_a_send() {
    explore(3, || {
        let cell = Cell::new(1);
        cell.state.add_ref();
        let sender = spawn(&cell, |cell| {
            cell.tell();
            cell.release(1);
        });
        let upgrader = spawn(&cell, |cell| {
            if cell.state.try_upgrade() {
                cell.release(2);
            }
            cell.release_weak();
        });
        cell.release(0);
        sender.join().unwrap();
        upgrader.join().unwrap();
        cell.settle(1);
    });
}

#[test]
fn the_last_reference_against_a_stop() {
    explore(3, || {
        let cell = Cell::new(0);
        cell.state.add_ref();
        let stopper = spawn(&cell, |cell| {
            if cell.state.set_closed(false) {
                cell.turns();
            }
            cell.release(1);
        });
        cell.release(0);
        stopper.join().unwrap();
        cell.settle(0);
    });
}

#[test]
fn the_last_reference_against_a_detach() {
    explore(3, || {
        let cell = Cell::new(0);
        cell.state.add_ref();
        // A reserved place makes a turn due, which meets the detach and the last release.
        assert_eq!(cell.state.reserve_place(9, false), Reserve::Accepted { schedule: true });
        // A worker runs the turn, without a reference.
        let worker = spawn(&cell, Cell::turns);
        let detacher = spawn(&cell, |cell| {
            cell.state.set_detached();
            cell.release(1);
        });
        cell.release(0);
        worker.join().unwrap();
        detacher.join().unwrap();
        cell.touch(|inner| assert_eq!(inner.ended, 0, "a detached actor needs no reference"));
        assert!(cell.state.set_closed(false));
        cell.turns();
        cell.settle(1);
    });
}

#[test]
fn the_last_reference_against_the_last_turn() {
    explore(3, || {
        let cell = Cell::new(0);
        assert!(cell.state.set_closed(false));
        let worker = spawn(&cell, Cell::turns);
        cell.release(0);
        worker.join().unwrap();
        cell.settle(0);
    });
}

#[test]
fn waiting_for_the_end() {
    explore(3, || {
        let cell = Cell::new(0);
        cell.state.add_ref();
        let waiter = spawn(&cell, |cell| {
            cell.wait_for_end();
            // SAFETY: the actor has ended, so no turn writes any more; loom's cell reports a
            // violation.
            cell.inner.with(|inner| assert_eq!(unsafe { (*inner).ended }, 1));
            cell.release(1);
        });
        // A worker runs the last turn, without a reference.
        assert!(cell.state.set_closed(false));
        let worker = spawn(&cell, Cell::turns);
        cell.release(0);
        waiter.join().unwrap();
        worker.join().unwrap();
        cell.settle(0);
    });
}

/// Like the model above, but the waiting thread gives up soon.
#[test]
fn giving_up_waiting_for_the_end() {
    explore(3, || {
        let cell = Cell::new(0);
        cell.state.add_ref();
        let waiter = spawn(&cell, |cell| {
            let mut waiting = cell.stop.lock();
            if cell.state.wait_for_stop() {
                waiting.push(ThreadWaker::new().to_waker());
            }
            // The waker stays in the list, so the end has a waiter to tell that is gone.
            drop(waiting);
            cell.release(1);
        });
        assert!(cell.state.set_closed(false));
        let worker = spawn(&cell, Cell::turns);
        cell.release(0);
        waiter.join().unwrap();
        worker.join().unwrap();
        cell.settle(0);
    });
}
