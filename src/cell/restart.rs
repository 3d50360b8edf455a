//! Restart: the replacement of an actor's state after a panic or a stop, in the same cell.
//!
//! A restart moves no message. Mailbox, references, id and runnable stay as they are. So the new
//! state (the *successor*) handles what waits, in order and once, by construction. The message that
//! panicked counts as handled, and its asker has the panic's text. The cell's *supervisor*
//! ([`Supervisor`](super::supervisor::Supervisor)) decides whether and when there is a successor,
//! and makes it. The supervisor lies in the cold part, so actors without one pay nothing.
//!
//! | phase | event | phase then | what happens |
//! |---|---|---|---|
//! | new, running | panic, `stop`, `stop_now` | vacant | `stopped` (1), the state is dropped |
//! | new, running | the same, but no successor (2) | ending | as for any actor |
//! | vacant | at once | new | the supervisor makes a state, next turn: `started` |
//! | vacant | later | vacant | the *runnable* goes to a timer |
//! | vacant | no state could be made, and no other try | ending | what waits becomes dead letters |
//!
//! (1) `stopped` runs only if `started` had returned. (2) The supervisor refuses, or the mailbox is
//! closed and empty, or the actor is killed.
//! The `started` of a successor runs before all that waits.
//!
//! **While a successor is awaited** the word says `SCHEDULED`. Senders are accepted within the
//! capacity and push nothing, because the timer holds the one runnable. So the actor has no turn,
//! and no thread polls. A timer that is cancelled (the pool stops at once, or the executor shuts
//! down) gives the runnable back too: the pool's stop ends the actor, and in a shutdown the
//! successor is made at once. If that one is lost too, its delay cannot be kept, and the actor
//! ends. The scheduler counts such runnables. With such a runnable the executor is not quiescent,
//! since messages may wait behind it.
//!
//! **A stop** of such an actor is not the end of its mailbox but of its state, after the message in
//! hand. The state word's `RETIRE` says so. The step that sets the flag makes a turn where there is
//! none, and the last step of a turn sees it. So no stop is lost, whenever it comes. Turns look at
//! a hint beside the flag after each message ([`Header::stop_is_hinted`]). A stop that comes while
//! the cell is vacant was meant for the old state, and is forgotten.
//!
//! Loom model: `models::retire`. Needed orderings: `cargo xtask weaken`, group `retire`.

use super::end;
use super::event::{Event, PanicPlace, ReplicaFailure};
use super::fail::{CaughtPanic, count_panic, fail_actor};
use super::header::{Header, Phase, Reason};
use super::room;
use super::supervisor::{AfterLoss, Supervised, Supervisor};
use crate::error::{AskError, StopReason};
use crate::sched::runnable::After;
use crate::sched::timers::Timed;
use crate::time::{self, Duration};
use crate::user::{self, Site};
use std::ptr::NonNull;

/// Handles the end of a state, after a panic or a stop. Returns what follows the turn, or `None` if
/// there is no successor. Then the turn goes on to the actor's end, or has nothing to replace.
///
/// # Safety
/// The caller holds the runnable, gives it up with the result, and does not touch the cell
/// afterwards. `owed` places are not given back yet.
#[cold]
pub(super) unsafe fn on_state_ended(
    this: NonNull<Header>,
    panic: Option<CaughtPanic>,
    owed: &mut u32,
) -> Option<After> {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    let loss = panic
        .as_ref()
        .map_or(ReplicaFailure::Stopped, |panic| ReplicaFailure::Panicked(panic.text.clone()));
    if let Some(supervised) = header.supervised()
        && release_owed_and_check(header, owed)
    {
        // Before the supervisor decides. Stops until now were meant for the state that ends here.
        header.forget_stop();
        if let Some(AfterLoss::Replace(after)) =
            supervised.with_supervisor(|supervisor| supervisor.on_state_lost(&loss))
        {
            // The owed places may have made room. The successor may take long, so waiting senders
            // are served now.
            if header.state.load_snapshot().has_waiters() {
                room::serve_line(this);
            }
            let cause = stop_and_drop_state(this, panic);
            emit_replaced(header, cause, after);
            // SAFETY: the caller gave up the runnable, and the cell is vacant now.
            return Some(unsafe { replace_state(this, supervised, after) });
        }
        // A panic without a successor is reported by `fail` below.
        if panic.is_none() {
            close_for_good(header, &loss);
        }
    }
    if let Some(panic) = panic {
        fail_actor(header, panic);
    }
    None
}

/// Gives the owed places back, then returns `true` if the actor may still have a successor.
fn release_owed_and_check(header: &Header, owed: &mut u32) -> bool {
    let now = header.state.give_places_back(std::mem::take(owed));
    let over = now.is_killed() || (now.is_closed() && now.len() == 0);
    !over
}

/// Ends the old state: `stopped`, then the drop of the state. Returns how the state was lost.
fn stop_and_drop_state(this: NonNull<Header>, panic: Option<CaughtPanic>) -> ReplicaFailure {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    let (reason, cause) = match panic {
        None => (StopReason::Stopped, AskError::Stopped),
        Some(panic) => {
            let place = if header.phase.get() == Phase::New {
                PanicPlace::Started
            } else {
                PanicPlace::Handler
            };
            let text = panic.text.clone();
            count_panic(header, place, panic);
            (StopReason::Panicked(text.clone()), AskError::Panicked(text))
        }
    };
    if header.phase.get() == Phase::Running {
        // SAFETY: in the actor's turn. By the phase there is a state, and `started` has returned.
        let stopped = || unsafe { (header.vtable().stopped)(this, &reason) };
        if let Err(text) = user::run_guarded(Site::Stopped, stopped) {
            count_panic(header, PanicPlace::Stopped, CaughtPanic::of_no_message(text));
        }
    }
    // Vacant before the drop runs, so that a panic there cannot lead to a second drop.
    header.phase.set(Phase::Vacant);
    // SAFETY: in the actor's turn, once, and nothing uses the state afterwards.
    let drop_state = || unsafe { (header.vtable().drop_state)(this) };
    if let Err(text) = user::run_guarded_for(Site::Drop, &cause, drop_state) {
        count_panic(header, PanicPlace::StateDrop, CaughtPanic::of_no_message(text));
    }
    match reason {
        StopReason::Panicked(text) => ReplicaFailure::Panicked(text),
        _ => ReplicaFailure::Stopped,
    }
}

/// Tells the event hook that another state is to be made after this time, and why. Where the time
/// cannot be kept no other state is made, and nothing is told.
fn emit_replaced(header: &Header, cause: ReplicaFailure, after: Duration) {
    // Before the timer is armed, since the cell may go with its runnable. A shutdown that begins
    // between this look and the arming ends a replica of which a successor was told.
    let waits = || needs_successor(header) && !header.core().scheduler.timers.are_refused();
    if !(after.is_zero() || waits()) {
        return;
    }
    header.core().emit_event(|| Event::Replaced {
        actor: header.id(),
        name: header.name(),
        type_name: header.type_name(),
        cause,
    });
}

/// Runs the turn of a vacant cell: the delay has passed, or the wait was cancelled.
///
/// # Safety
/// The caller holds the runnable, and does not touch the cell if the result is `Gone`.
#[cold]
pub(super) unsafe fn resume_vacant(this: NonNull<Header>) -> After {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    match header.supervised() {
        // SAFETY: the caller gave up the runnable, and the cell is vacant.
        Some(supervised) if release_owed_and_check(header, &mut 0) => unsafe {
            make_successor(this, supervised)
        },
        // SAFETY: the caller gave up the runnable, and the cell has no state.
        _ => unsafe { end_without_state(this) },
    }
}

/// Makes the successor now, or gives the runnable to a timer.
///
/// # Safety
/// The caller holds the runnable of a vacant cell and gives it up.
unsafe fn replace_state(this: NonNull<Header>, supervised: &Supervised, after: Duration) -> After {
    // SAFETY: the caller gave up the runnable. After a `give_to_timer` that returns `false` the
    // runnable is back.
    unsafe {
        if after.is_zero() {
            make_successor(this, supervised)
        } else if give_to_timer(this, supervised, after) {
            After::Gone
        } else {
            // The runnable is still here, and a successor at once would be one without its delay.
            let header = this.as_ref();
            if needs_successor(header) {
                // So the executor shuts down, and arms no timer.
                header.reason.set(Reason::Shutdown);
                let scheduled = header.state.set_closed(true);
                debug_assert!(!scheduled, "we hold the runnable");
            }
            end_without_state(this)
        }
    }
}

/// Returns `true` as long as the actor accepts messages or has some to handle.
fn needs_successor(header: &Header) -> bool {
    let now = header.state.load_snapshot();
    let nothing_left = now.is_closed() && now.len() == 0;
    !(now.is_killed() || nothing_left)
}

/// Makes the successor. After a failure the supervisor decides again.
///
/// # Safety
/// The caller holds the runnable of a vacant cell and gives it up.
unsafe fn make_successor(this: NonNull<Header>, supervised: &Supervised) -> After {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    // A stop in the meantime was meant for the old state.
    header.forget_stop();
    let mut made = Ok(());
    let panic = user::run_guarded(Site::Factory, || {
        // SAFETY: in the turn of the supervisor's own cell, which is vacant.
        let make = |supervisor: &dyn Supervisor| unsafe { supervisor.make_state(this) };
        if let Some(result) = supervised.with_supervisor(make) {
            made = result;
        }
    });
    let loss = match (panic, made) {
        (Ok(()), Ok(())) => {
            header.phase.set(Phase::New);
            // The next turn begins with `started`.
            return After::Requeue;
        }
        (Ok(()), Err(text)) => ReplicaFailure::Factory(text),
        (Err(text), _) => {
            let panic = CaughtPanic::of_no_message(text.clone());
            count_panic(header, PanicPlace::Factory, panic);
            ReplicaFailure::Factory(text.to_string())
        }
    };
    match supervised.with_supervisor(|supervisor| supervisor.on_state_lost(&loss)) {
        Some(AfterLoss::Replace(after)) => {
            emit_replaced(header, loss, after);
            if after.is_zero() {
                // By way of a queue, so a factory that always fails does not keep the worker.
                After::Requeue
            } else {
                // SAFETY: the runnable is still held, and the cell is still vacant.
                unsafe { replace_state(this, supervised, after) }
            }
        }
        _ => {
            close_for_good(header, &loss);
            // SAFETY: the runnable is still held, and the cell has no state.
            unsafe { end_without_state(this) }
        }
    }
}

/// Closes the actor for good. Nothing is accepted any more, and waiting messages are not handled.
fn close_for_good(header: &Header, loss: &ReplicaFailure) {
    if let ReplicaFailure::Panicked(text) = loss {
        header.reason.set(Reason::Panicked);
        *header.cold().panic.lock() = Some(text.clone());
    } else {
        header.reason.set(Reason::Stopped);
    }
    let scheduled = header.state.set_closed(true);
    debug_assert!(!scheduled, "we hold the runnable");
}

/// Ends an actor that has no state.
///
/// # Safety
/// The caller holds the runnable, and does not touch the cell if the result is `Gone`.
unsafe fn end_without_state(this: NonNull<Header>) -> After {
    // SAFETY: the caller gave up the runnable, and `begin_ending` is called before
    // `run_ending_turn`.
    unsafe {
        end::begin_ending(this.as_ref());
        end::run_ending_turn(this)
    }
}

/// A runnable that waits for an instant. Dropping this value pushes the runnable, so the runnable
/// is never lost.
struct Delayed {
    cell: NonNull<Header>,
}

// SAFETY: a runnable may be on any thread.
unsafe impl Send for Delayed {}

/// Gives the runnable to a timer. Returns `false` if no timers are accepted any more, or if the
/// actor needs no successor any more.
///
/// # Safety
/// The caller holds the runnable, and gives it up if the result is `true`.
unsafe fn give_to_timer(this: NonNull<Header>, supervised: &Supervised, after: Duration) -> bool {
    // SAFETY: the caller's runnable keeps the cell until the timer has it.
    let core = unsafe { this.as_ref() }.core();
    // Counted before the runnable is given away, so that the executor never looks quiescent in
    // between.
    core.scheduler.count_delayed();
    // From the arming on this thread does not touch the cell. So the key is published before that,
    // under the timers' lock.
    let armed = core.scheduler.arm_timer(
        time::instant_after(after),
        // A pool that stops first closes or kills, and then looks for timers. So either the pool
        // finds the timer, or this check sees the close.
        // SAFETY: the timer is not armed yet, so the caller's runnable still keeps the cell.
        || needs_successor(unsafe { this.as_ref() }),
        |key| {
            supervised.with_supervisor(|supervisor| supervisor.on_successor_delayed(key));
            Box::new(Delayed { cell: this })
        },
    );
    if !armed {
        core.scheduler.uncount_delayed();
    }
    armed
}

impl Timed for Delayed {
    fn deliver_due(self: Box<Self>) -> Result<(), Box<dyn Timed>> {
        drop(self);
        Ok(())
    }

    fn report_undeliverable(self: Box<Self>) {}

    fn is_runnable(&self) -> bool {
        true
    }
}

impl Drop for Delayed {
    fn drop(&mut self) {
        // SAFETY: the value owns the runnable and pushes it once, and until then the runnable keeps
        // the cell. A thread outside the crew holds the core itself, since the actor may end as
        // soon as the runnable is pushed.
        unsafe {
            let core = self.cell.as_ref().core();
            // A thread outside passes the gate, so the executor does not look quiescent between the
            // count and the push.
            let held = (!core.on_crew()).then(|| core.share());
            let _pass = held.as_ref().map(|core| core.scheduler.gate.enter_gate());
            core.scheduler.uncount_delayed();
            Header::schedule(self.cell);
        }
    }
}
