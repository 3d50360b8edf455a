//! A dedicated thread, beside a worker, and callers that wait for quiescence.
//!
//! Covers: a caller that is told "quiet" sees as handled every message accepted before the
//! question, on the dedicated thread too, and all that the thread's turn caused on a worker. The
//! caller is told, whichever of the two threads comes to rest last. No runnable that was left is
//! lost.
//!
//! Does not cover: the queues, as in `idle`; what a runnable is (a token here). `quiescence` is a
//! copy of `Scheduler::check_quiescence`, and the thread's loop a copy of `cell::dedicated`'s.

use super::{explore, only_worker, spawn, wait_idle};
use crate::sched::dedicated_turns::DedicatedTurns;
use crate::sched::gate::Gate;
use crate::sched::idle::Idle;
use crate::sched::quiescence::Quiescence;
use crate::sched::quiescence::QuiescenceWaiters;
use crate::sync::{AtomicUsize, Ordering::*, Parker};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::task::Waker;

struct Crew {
    gate: Gate,
    idle: Idle,
    quiet: QuiescenceWaiters,
    apart: DedicatedTurns,
    home: Parker<()>,
    injector: AtomicUsize,
    /// Messages of the actor apart that wait: the state word's part. Not 0 means scheduled.
    scheduled: AtomicUsize,
    accepted: AtomicUsize,
    /// Written by the dedicated thread, `caused` by the worker; both read by a caller that was told
    /// "quiet".
    handled: UnsafeCell<usize>,
    caused: UnsafeCell<usize>,
}

impl Crew {
    fn new() -> Arc<Self> {
        Arc::new(Crew {
            gate: Gate::new(),
            idle: Idle::new(1),
            quiet: QuiescenceWaiters::new(),
            apart: DedicatedTurns::new(),
            home: Parker::new(),
            injector: AtomicUsize::new(0),
            scheduled: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            handled: UnsafeCell::new(0),
            caused: UnsafeCell::new(0),
        })
    }

    /// Like `cell::envelope::deliver` from outside, to the actor apart.
    fn tell(&self) {
        let mut pass = self.gate.enter_gate();
        // Like the state word: one step counts the message and says whether a runnable is due.
        let idle = self.scheduled.fetch_add(1, AcqRel) == 0;
        // Pairs with the Acquire load of a checker, which asks only about a message accepted
        // before.
        self.accepted.fetch_add(1, Release);
        if idle {
            self.leave();
        }
        // Counted as accepted in the step with which the sender leaves the gate.
        pass.count_accepted();
    }

    /// Like `Scheduler::push_to_dedicated`.
    fn leave(&self) {
        // Counted before the token is left, so that a look for quiescence never misses a thread
        // about to wake.
        self.apart.count_begun();
        self.home.unpark(());
    }

    /// Like `cell::dedicated`: runs until `messages` messages are handled. With `causes`, each of
    /// them causes work on the worker.
    fn live_apart(&self, messages: usize, causes: bool) {
        let mut handled = 0;
        while handled < messages {
            // Untimed: a token that is never left shows as a deadlock.
            assert!(self.home.park(None).is_some());
            let mut waiting = self.scheduled.load(Acquire);
            loop {
                for _ in 0..waiting {
                    // SAFETY: only the dedicated thread writes, and never while a checker reads;
                    // loom's cell reports a violation.
                    self.handled.with_mut(|handled| unsafe { *handled += 1 });
                    if causes {
                        self.injector.fetch_add(1, Release);
                        self.idle.notify_any();
                    }
                }
                handled += waiting;
                // The turn's end: messages that came meanwhile make another round instead of
                // another token.
                let before = self.scheduled.fetch_sub(waiting, AcqRel);
                waiting = before - waiting;
                if waiting == 0 {
                    break;
                }
            }
            // Counted as at rest only after everything that the turn did.
            if self.apart.count_ended() {
                self.announce();
            }
        }
    }

    /// Like `Scheduler::announce_from_elsewhere`. The wakers' errand is a notification of the
    /// worker, or runs here.
    fn announce(&self) {
        self.quiet.announce_rest(
            || self.quiescence(),
            |wakers| {
                // No wakers: a sender is entering, so the worker must look again after the sender.
                if wakers.is_empty() {
                    self.idle.notify_worker(0);
                }
                wakers.into_iter().for_each(Waker::wake);
            },
        );
    }

    fn take(&self) -> bool {
        self.injector.fetch_update(Acquire, Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    fn work(&self) {
        let work = || {
            while self.take() {
                // SAFETY: only the worker writes, and never while a checker reads; loom's cell
                // reports a violation.
                self.caused.with_mut(|caused| unsafe { *caused += 1 });
            }
        };
        only_worker(
            &self.idle,
            &self.quiet,
            || self.quiescence(),
            || self.injector.load(Acquire) > 0,
            work,
        );
    }

    fn quiescence(&self) -> Quiescence {
        // Both epochs, before and after the look at the queue: equal epochs mean that nothing ran
        // in between.
        let still = || Some((self.idle.all_parked()?, self.apart.word_if_asleep()?));
        let Some(before) = still() else { return Quiescence::Busy };
        // A sender between two steps may still push.
        if self.gate.any_inside() {
            return Quiescence::Entering;
        }
        let empty = self.injector.load(Acquire) == 0;
        let after = still();
        if !empty {
            Quiescence::Entering
        } else if after == Some(before) {
            Quiescence::Quiet
        } else {
            Quiescence::Busy
        }
    }

    fn wait_idle(&self) {
        wait_idle(&self.quiet, || self.quiescence());
    }

    /// Waits for quiescence and checks that the answer is true. All messages of the model were
    /// accepted before.
    fn check(&self, accepted: usize, caused: usize) {
        self.wait_idle();
        // SAFETY: both writers are at rest once "quiet" was told; loom's cells report a violation.
        let seen = unsafe { (self.handled.with(|n| *n), self.caused.with(|n| *n)) };
        assert_eq!(seen, (accepted, caused), "told too early");
    }
}

#[test]
fn what_was_told_to_an_actor_apart_and_what_it_caused() {
    explore(3, || {
        let crew = Crew::new();
        let worker = spawn(&crew, Crew::work);
        let apart = spawn(&crew, |crew| crew.live_apart(1, true));
        crew.tell();
        crew.check(1, 1);
        crew.idle.stop_workers();
        worker.join().unwrap();
        apart.join().unwrap();
    });
}

/// The second message comes while the thread is in its turn, about to sleep, or asleep. No thread
/// but this one looks at the result.
#[test]
fn an_actor_apart_is_woken_again() {
    explore(2, || {
        let crew = Crew::new();
        let worker = spawn(&crew, Crew::work);
        let apart = spawn(&crew, |crew| crew.live_apart(2, false));
        crew.tell();
        crew.tell();
        crew.check(2, 0);
        crew.idle.stop_workers();
        worker.join().unwrap();
        apart.join().unwrap();
    });
}

/// The message was accepted before the question. Its runnable is left, and run, while the answer is
/// looked for.
#[test]
fn a_sender_to_an_actor_apart_between_its_steps() {
    explore(3, || {
        let crew = Crew::new();
        let worker = spawn(&crew, Crew::work);
        let apart = spawn(&crew, |crew| crew.live_apart(1, true));
        let sender = spawn(&crew, Crew::tell);
        // Before the message is accepted there is nothing to check, and nothing to wait for.
        if crew.accepted.load(Acquire) == 1 {
            crew.check(1, 1);
            crew.idle.stop_workers();
            worker.join().unwrap();
        }
        sender.join().unwrap();
        apart.join().unwrap();
        // Here the worker may still run, unjoined, where there was nothing to check.
        crew.idle.stop_workers();
    });
}
