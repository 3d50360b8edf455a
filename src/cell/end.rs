//! An actor's last turns: leftovers, `stopped`, the state's drop, and then nothing but memory.
//!
//! In this order, each step finished before the next begins, spread over as many turns as the leftovers need:
//!
//! 1. what waits becomes dead letters, and its askers are told; so do timers that are armed for it;
//! 2. senders that wait for room get their messages back;
//! 3. `stopped` runs, if `started` had returned;
//! 4. the state is dropped;
//! 5. the word says dead; whoever waits for the end is told; the memory goes with the last reference.
//!
//! A panic in any of them is reported and does not keep the others from happening. Unless the actor had panicked before
//! it is why the actor ended, for all that comes after it.

use super::envelope::Envelope;
use super::event::{DeadLetterReason, Event, PanicPlace};
use super::header::{Cold, Header, Phase, Reason};
use super::restart;
use super::room;
use super::ticks;
use crate::error::{AskError, Refusal, StopReason};
use crate::panics::PanicText;
use crate::sched::bound::Bound;
use crate::sched::member;
use crate::sched::task::After;
use crate::user::{self, Site};
use std::ptr::NonNull;

/// Dead letters in one turn.
const LETTERS: u32 = 256;

/// The last of the actor's ordinary turns is over.
pub(crate) fn begin(header: &Header) {
    header.phase.set(match header.phase.get() {
        Phase::New => Phase::EndingUnstarted,
        Phase::Vacant | Phase::Queue => Phase::EndingVacant,
        _ => Phase::Ending,
    });
    if header.reason.get() == Reason::None {
        header.reason.set(if header.core().closing() {
            Reason::Shutdown
        } else if header.state.peek().killed() {
            Reason::Killed
        } else {
            Reason::Stopped
        });
    }
}

/// Why it ends, with the panic's text.
pub(crate) fn reason(header: &Header) -> StopReason {
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

/// One of the last turns.
///
/// # Safety
/// The caller holds the runnable, and [`begin`] was called. When the result is `Gone` the cell must not be touched.
pub(crate) unsafe fn proceed(this: NonNull<Header>) -> After {
    // SAFETY: the runnable keeps the cell alive until `set_dead`.
    let header = unsafe { this.as_ref() };
    let taken = discard_leftovers(header);
    let rest = if taken > 0 { header.state.give_back(taken) } else { header.state.peek() };
    if rest.len() > 0 {
        return if taken == 0 { After::RequeueGap } else { After::Requeue };
    }
    if !ticks::abandon_timers(header, LETTERS as usize) {
        return After::Requeue;
    }
    let refusal = if header.core().closing() { Refusal::ShuttingDown } else { Refusal::Stopped };
    room::refuse_all(header, refusal);
    if header.phase.get() == Phase::Ending {
        let reason = reason(header);
        // SAFETY: in the actor's turn.
        let outcome = user::guard(Site::Stopped, || unsafe { (header.vtable().stopped)(this, &reason) });
        report(header, outcome, PanicPlace::Stopped);
    }
    if header.phase.replace(Phase::Ended) != Phase::EndingVacant && header.vtable().needs_drop {
        // SAFETY: in the actor's turn, once, and nothing uses the state afterwards.
        let outcome =
            user::guard_for(Site::Drop, &cause(header), || unsafe { (header.vtable().drop_state)(this) });
        report(header, outcome, PanicPlace::StateDrop);
    }
    if let Some(Cold { bound, kept, .. }) = header.cold_if_any() {
        if let &Bound::Worker(home) = bound {
            header.core().scheduler.move_out(home);
        }
        if let Some(kept) = kept {
            restart::ended(this, kept);
        }
    }
    // What follows may free the cell, here or on another thread, and runs wakers: to them this is nobody's turn any more.
    member::Current::forget();
    // The cell alone must not be what keeps the core: this thread does.
    let core = NonNull::from(header.core());
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
    if dead.tell_waiters {
        wake_waiters(header);
    }
    // SAFETY: `free` says that the strong side's weak count is ours to let go; `secured`, that we took one; the core
    // outlives both because this thread, of the crew, holds it.
    unsafe {
        if dead.free {
            Header::release_weak(this);
        }
        if secured {
            Header::release_weak(this);
        }
        core.as_ref().ended();
    }
    After::Gone
}

/// What those are told who get no answer.
fn cause(header: &Header) -> AskError {
    match reason(header) {
        StopReason::Panicked(text) => AskError::Panicked(text),
        _ => AskError::Stopped,
    }
}

fn discard_leftovers(header: &Header) -> u32 {
    if header.state.peek().len() == 0 {
        return 0; // closed, so nothing comes any more
    }
    let (cause, reason) = (&cause(header), header.reason.get());
    let mut taken = 0;
    while taken < LETTERS {
        // SAFETY: we hold the runnable.
        let Some(node) = (unsafe { ticks::take(header) }) else { break };
        taken += 1;
        // SAFETY: popped, so the pointer is the only one.
        let drop_it =
            || unsafe { Envelope::discard(Envelope::from_node(node), cause.clone(), header.held()) };
        report(header, user::guard_for(Site::Drop, cause, drop_it), PanicPlace::MessageDrop);
    }
    if taken > 0 {
        let reason = match reason {
            Reason::Panicked => DeadLetterReason::Panicked,
            Reason::Shutdown => DeadLetterReason::Shutdown,
            Reason::Killed => DeadLetterReason::Killed,
            _ => DeadLetterReason::Stopped,
        };
        let core = header.core();
        core.count_dead(reason, u64::from(taken));
        core.emit(|| Event::DeadLetters {
            actor: header.id(),
            type_name: header.type_name(),
            reason,
            count: u64::from(taken),
        });
    }
    taken
}

#[inline]
fn report(header: &Header, outcome: Result<(), PanicText>, place: PanicPlace) {
    if let Err(text) = outcome {
        report_panic(header, text, place);
    }
}

#[cold]
fn report_panic(header: &Header, text: PanicText, place: PanicPlace) {
    {
        let core = header.core();
        core.count_here(|tally| &tally.panicked, 1);
        if header.reason.get() != Reason::Panicked {
            *header.cold().panic.lock() = Some(text.clone());
            header.reason.set(Reason::Panicked);
        }
        core.emit(|| Event::Panicked { actor: header.id(), type_name: header.type_name(), place, text });
    }
}

/// Tells everybody who waits for the end.
fn wake_waiters(header: &Header) {
    let Some(cold) = header.cold_if_any() else { return };
    let wakers = cold.stop.lock().take_all();
    wakers.into_iter().for_each(user::wake);
}
