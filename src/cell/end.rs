//! An actor's last turns: leftovers, `stopped`, the drop of the state, and then nothing but memory.
//!
//! The steps below happen in this order. Each step is finished before the next one begins, and the
//! leftovers may take several turns:
//!
//! 1. waiting messages become dead letters, and their askers are told; so do timers that are armed
//!    for the actor;
//! 2. waiting senders get their messages back;
//! 3. `stopped` runs, if `started` had returned;
//! 4. the state is dropped;
//! 5. the actor is counted as ended, and the state word says dead;
//! 6. the supervisor is told, then threads and tasks that wait for the end, and the memory goes
//!    with the last reference. The crew may end after this step, no earlier.
//!
//! A panic in any step is reported, and the other steps happen nevertheless. Unless the actor had
//! panicked before, the panic becomes the reason of the end for all later steps.
//!
//! Loom model of step 5: `models::references`. Needed orderings: `cargo xtask weaken`,
//! group `state`.

use super::cold::Cold;
use super::dead_letters::LeftByType;
use super::envelope::Envelope;
use super::event::{DeadLetterReason, PanicPlace};
use super::fail;
use super::header::{Header, Phase, Reason};
use super::room;
use super::sharing;
use crate::error::{AskError, Refusal, StopReason};
use crate::mailbox::link::Node;
use crate::panics::PanicText;
use crate::sched::crew_thread;
use crate::sched::runnable::Affinity;
use crate::sched::runnable::After;
use crate::sched::timers::aim::Abandoned;
use crate::user::{self, Site};
use std::ptr::NonNull;
use std::task::Waker;

/// Dead letters made in one turn, so that a long mailbox does not hold up the worker.
const LETTERS: u32 = 256;

/// Begins the actor's end, after the last of its ordinary turns.
pub(crate) fn begin_ending(header: &Header) {
    header.phase.set(match header.phase.get() {
        Phase::New => Phase::EndingUnstarted,
        Phase::Vacant | Phase::Queue => Phase::EndingVacant,
        _ => Phase::Ending,
    });
    // A reason that is set already comes from a panic or a lost last reference, and is more
    // precise.
    if header.reason.get() == Reason::None {
        header.reason.set(if header.core().is_closing() {
            Reason::Shutdown
        } else if header.state.load_snapshot().is_killed() {
            Reason::Killed
        } else {
            Reason::Stopped
        });
    }
}

/// Returns why the actor ends, with the panic's text.
pub(crate) fn stop_reason_of(header: &Header) -> StopReason {
    match header.reason.get() {
        Reason::None | Reason::Stopped => StopReason::Stopped,
        Reason::Killed => StopReason::Killed,
        Reason::Unreferenced => StopReason::Unreferenced,
        Reason::Shutdown => StopReason::Shutdown,
        Reason::Panicked => {
            let text = header.cold().panic.lock().clone();
            StopReason::Panicked(text.expect("set together with the reason"))
        }
    }
}

/// Runs one of the last turns.
///
/// # Safety
/// The caller holds the runnable, and [`begin_ending`] was called. If the result is `Gone` the
/// caller does not touch the cell any more.
pub(crate) unsafe fn run_ending_turn(this: NonNull<Header>) -> After {
    // SAFETY: the runnable keeps the cell alive until `set_dead`.
    let header = unsafe { this.as_ref() };
    // A message that was reserved and not linked yet cannot be discarded. The turn ends at such a
    // gap and comes again, so no step below runs before the mailbox is empty. The mailbox is
    // closed, so its length only falls.
    let taken = discard_leftovers(header);
    let rest =
        if taken > 0 { header.state.give_places_back(taken) } else { header.state.load_snapshot() };
    if rest.len() > 0 {
        return if taken == 0 { After::RequeueGap } else { After::Requeue };
    }
    if !abandon_timers(header, LETTERS as usize) {
        return After::Requeue;
    }
    let refusal = if header.core().is_closing() { Refusal::ShuttingDown } else { Refusal::Stopped };
    // A closed mailbox gets no waiters, so the line only falls and stays empty.
    if !room::refuse_some(header, refusal) {
        return After::Requeue;
    }
    if header.phase.get() == Phase::Ending {
        let reason = stop_reason_of(header);
        // SAFETY: in the actor's turn, and the state is there, since the phase was `Running` before
        // `begin_ending`.
        let outcome = user::run_guarded(Site::Stopped, || unsafe {
            (header.vtable().stopped)(this, &reason)
        });
        report_outcome(header, outcome, PanicPlace::Stopped);
    }
    // The phase is `Ended` before the drop runs, so a panic there cannot lead to a second drop.
    if header.phase.replace(Phase::Ended) != Phase::EndingVacant && header.vtable().needs_drop {
        // SAFETY: in the actor's turn, once. Nothing uses the state afterwards.
        let outcome = user::run_guarded_for(Site::Drop, &cause_for_askers(header), || unsafe {
            (header.vtable().drop_state)(this)
        });
        report_outcome(header, outcome, PanicPlace::StateDrop);
    }
    let mut supervisor = None;
    if let Some(Cold { affinity: bound, supervised, .. }) = header.cold_if_any() {
        if let &Affinity::Worker(home) = bound {
            header.core().scheduler.remove_pinned(home);
        }
        if let Some(supervised) = supervised {
            sharing::unlist_cell(this, supervised);
            supervisor =
                supervised.supervisor.take().map(|supervisor| (supervisor, stop_reason_of(header)));
        }
    }
    // The steps below may free the cell, here or on another thread, and run wakers. A waker must
    // not find itself in a turn of this actor.
    crew_thread::Current::forget_actor();
    // The core must outlive the cell's last count, and this thread of the crew keeps the core.
    let core = NonNull::from(header.core());
    // Before the word says dead: a waiter that sees the end also sees it counted.
    header.core().count_ended();
    // After `set_dead` another thread may free the cell at any moment. If there are waiters to
    // tell, this thread needs a weak count of its own first. Most actors have no waiters, so the
    // first try goes without.
    let mut secured = false;
    let dead = loop {
        match header.state.set_dead(secured) {
            Some(dead) => break dead,
            None => {
                header.add_weak();
                secured = true;
            }
        }
    };
    let mut wakers = if dead.tell_waiters { take_waiters(header) } else { Vec::new() };
    // After the word says dead: a waiter for a pool's end finds each replica ended.
    if let Some((supervisor, reason)) = supervisor {
        // The actor is dead, so a shutdown names the thread instead.
        // SAFETY: the thread belongs to the crew and keeps the core for longer than this call.
        let _listed = unsafe { core.as_ref() }.scheduler.actorless.list_here();
        user::run_contained(Site::Supervisor, || wakers.extend(supervisor.on_actor_ended(&reason)));
        user::run_contained(Site::Drop, || drop(supervisor));
    }
    // SAFETY: the thread belongs to the crew and keeps the core for longer than this call.
    unsafe { core.as_ref() }.scheduler.wake_with_help(wakers);
    // SAFETY: with `free` the strong side's weak count is this thread's to release, with `secured`
    // a second weak count from above. The thread belongs to the crew and keeps the core for longer
    // than this call.
    unsafe {
        if dead.free {
            Header::release_weak(this);
        }
        if secured {
            Header::release_weak(this);
        }
        core.as_ref().count_gone();
    }
    After::Gone
}

/// Returns the error for askers that get no answer.
fn cause_for_askers(header: &Header) -> AskError {
    match stop_reason_of(header) {
        StopReason::Panicked(text) => AskError::Panicked(text),
        _ => AskError::Stopped,
    }
}

fn discard_leftovers(header: &Header) -> u32 {
    if header.state.load_snapshot().len() == 0 {
        return 0; // closed, so nothing comes any more
    }
    let cause = &cause_for_askers(header);
    let reason = match header.reason.get() {
        Reason::Panicked => DeadLetterReason::Panicked,
        Reason::Shutdown => DeadLetterReason::Shutdown,
        Reason::Killed => DeadLetterReason::Killed,
        _ => DeadLetterReason::Stopped,
    };
    let mut leftovers = LeftByType::new(header, reason);
    let mut taken = 0;
    while taken < LETTERS {
        // SAFETY: this thread holds the runnable and so is the receiver.
        let Some(node) = (unsafe { pop_next(header) }) else { break };
        taken += 1;
        // SAFETY: all nodes are envelopes of this mailbox, and this one was just popped.
        let (envelope, message_type, counted) = unsafe {
            let envelope = Envelope::from_node(node);
            (envelope, Envelope::message_type(envelope), Envelope::is_counted(envelope))
        };
        if counted {
            leftovers.add(message_type);
        }
        // SAFETY: the envelope was popped, so no other pointer exists, and comes from the cell's
        // pool.
        let drop_it =
            || unsafe { Envelope::discard_message(envelope, cause.clone(), header.pool_held()) };
        if let Err(text) = user::run_guarded_for(Site::Drop, cause, drop_it) {
            report_panic(header, text, PanicPlace::MessageDrop, Some(message_type));
        }
    }
    leftovers.tell();
    taken
}

#[inline]
fn report_outcome(header: &Header, outcome: Result<(), PanicText>, place: PanicPlace) {
    if let Err(text) = outcome {
        report_panic(header, text, place, None);
    }
}

#[cold]
fn report_panic(
    header: &Header,
    text: PanicText,
    place: PanicPlace,
    message_type: Option<&'static str>,
) {
    if header.reason.get() != Reason::Panicked {
        *header.cold().panic.lock() = Some(text.clone());
        header.reason.set(Reason::Panicked);
    }
    fail::tell_panic(header, place, message_type, text);
}

/// Takes the wakers of all waiters for the actor's end.
fn take_waiters(header: &Header) -> Vec<Waker> {
    header.cold_if_any().map_or_else(Vec::new, |cold| cold.stop.lock().take_all())
}

/// Pops a waiting tick or message.
///
/// # Safety
/// The caller is the receiver: it holds the runnable.
unsafe fn pop_next(header: &Header) -> Option<*mut Node> {
    // SAFETY: the caller holds the runnable and so is the receiver.
    let message = || unsafe { header.inbox.pop(NonNull::from(header).cast()) };
    match header.cold_if_any() {
        None => message(),
        // SAFETY: the caller holds the runnable and so is the receiver of the ticks too.
        Some(cold) => unsafe {
            cold.ticks.pop_or(NonNull::from(header).cast(), |tick| tick, message)
        },
    }
}

/// Turns timers that are armed for an actor into dead letters, in the last turns of the closed
/// actor. Returns `false` if there may be more.
fn abandon_timers(header: &Header, most: usize) -> bool {
    let Some(cold) = header.cold_if_any() else { return true };
    let Abandoned { timers, cancelled } =
        header.core().scheduler.timers.take_out_for(&cold.ticks.aim, most);
    // Outside the timers' lock, since a dropped message is user code.
    let all = timers.len() < most;
    for timed in timers {
        user::run_contained(Site::Drop, || {
            if cancelled { drop(timed) } else { timed.report_undeliverable() }
        });
    }
    all
}
