//! Gate, idle protocol, and callers that wait for quiescence.
//!
//! Covers: a caller that is told "quiet" sees as handled every message accepted before the
//! question, and all consequences. The caller is told. Senders from outside are between their
//! steps, on the same stripe of the gate and on another.
//!
//! Does not cover: several workers (`sched::idle` has a model of its own); the queues, as in
//! `idle`; refusal of messages while the executor drains, for which loom's SeqCst is too weak.
//! `quiescence` is a copy of `Scheduler::check_quiescence`.

use super::{explore, only_worker, spawn, wait_idle};
use crate::sched::gate::Gate;
use crate::sched::idle::Idle;
use crate::sched::quiescence::Quiescence;
use crate::sched::quiescence::QuiescenceWaiters;
use crate::sync::{AtomicUsize, Ordering::*};
use loom::cell::UnsafeCell;
use loom::sync::Arc;

struct Crew {
    gate: Gate,
    idle: Idle,
    quiet: QuiescenceWaiters,
    injector: AtomicUsize,
    /// Number of accepted messages: the state word's part.
    accepted: AtomicUsize,
    /// Written by the worker, read by a caller that was told "quiet".
    handled: UnsafeCell<usize>,
}

impl Crew {
    fn new() -> Arc<Self> {
        Arc::new(Crew {
            gate: Gate::new(),
            idle: Idle::new(1),
            quiet: QuiescenceWaiters::new(),
            injector: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            handled: UnsafeCell::new(0),
        })
    }

    /// Like `cell::envelope::deliver` from outside.
    fn tell(&self, stripe: usize) {
        // The pass leaves the gate when it is dropped, after the push.
        let mut pass = self.gate.enter_at(stripe);
        self.accepted.fetch_add(1, AcqRel);
        self.injector.fetch_add(1, Release);
        // After the push, and before the sender leaves the gate.
        self.idle.notify_any();
        pass.count_accepted();
    }

    fn take(&self) -> bool {
        self.injector.fetch_update(Acquire, Relaxed, |n| n.checked_sub(1)).is_ok()
    }

    fn work(&self) {
        let work = || {
            while self.take() {
                // SAFETY: only the worker writes, and not while a checker reads; loom's cell
                // reports a violation.
                self.handled.with_mut(|handled| unsafe { *handled += 1 });
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
        // The epoch of the parked workers, read again below: if it is the same, no worker ran in
        // between.
        let Some(before) = self.idle.all_parked() else { return Quiescence::Busy };
        if self.gate.any_inside() {
            return Quiescence::Entering;
        }
        let empty = self.injector.load(Acquire) == 0;
        let after = self.idle.all_parked();
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
    fn check(&self, accepted: usize) {
        self.wait_idle();
        // SAFETY: the worker is parked once "quiet" was told; loom's cell reports a violation.
        assert_eq!(self.handled.with(|handled| unsafe { *handled }), accepted, "told too early");
    }
}

#[test]
fn what_was_told_before() {
    explore(3, || {
        let crew = Crew::new();
        let worker = spawn(&crew, Crew::work);
        crew.tell(0);
        crew.check(1);
        crew.idle.stop_workers();
        worker.join().unwrap();
        assert_eq!(crew.gate.accepted_messages(), 1);
    });
}

#[test]
fn a_sender_between_its_steps() {
    explore(3, || {
        let crew = Crew::new();
        let worker = spawn(&crew, Crew::work);
        let sender = spawn(&crew, |crew| crew.tell(1));
        if crew.accepted.load(Acquire) == 1 {
            // The sender may not have pushed yet.
            crew.check(1);
        } else {
            // Accepted after the question, if at all, so any answer is true; the wait must end.
            crew.wait_idle();
        }
        sender.join().unwrap();
        crew.check(1);
        crew.idle.stop_workers();
        worker.join().unwrap();
    });
}
