//! Ticks: messages that a timer sends. They have a queue of their own, and overtake.
//!
//! A tick that is due goes before the messages that wait, or a full mailbox would make every timer
//! late. But where both wait they take turns, so that timers that are due all the time do not keep
//! the messages waiting for ever. Among themselves ticks come in the order in which they were due.
//!
//! A tick has its place in the mailbox like any other message: it is counted in `LEN`, exempt from
//! the capacity, and that place is what keeps the actor until the tick is handled. Only the link
//! goes elsewhere, into the cold part, which an actor has from its first timer on: who has no
//! timers pays nothing.
//!
//! What is due and then not wanted any more (its timer was cancelled; its deadline has passed, if
//! it was asked) has been accepted, but is not handled: it becomes a dead letter in its turn.

use super::envelope::Envelope;
use super::event::{DeadLetterReason, Event};
use super::header::Header;
use super::prepaid;
use crate::mailbox::inbox::{Inbox, Node};
use crate::mailbox::state::Reserve;
use crate::sched::timers::{Abandoned, Aim};
use crate::user::{self, Site};
use std::cell::Cell;
use std::ptr::NonNull;

/// An actor's ticks that are due. All but the pushing is for the holder of the runnable.
#[derive(Debug)]
pub(crate) struct Ticks {
    inbox: Inbox,
    /// The last message was a tick.
    last: Cell<bool>,
    /// Its timers that are armed.
    pub(crate) aim: Aim,
}

impl Default for Ticks {
    fn default() -> Self {
        Ticks { inbox: Inbox::new(), last: Cell::new(false), aim: Aim::default() }
    }
}

impl Ticks {
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// The next tick, or what `message` gives: the next message.
    ///
    /// # Safety
    /// As for [`Inbox::pop`].
    #[inline]
    pub(crate) unsafe fn pop_or<T>(
        &self,
        this: NonNull<Header>,
        as_is: impl FnOnce(*mut Node) -> T,
        message: impl Fn() -> Option<T>,
    ) -> Option<T> {
        if self.last.replace(false)
            && let Some(message) = message()
        {
            return Some(message);
        }
        // SAFETY: the caller's.
        let tick = unsafe { self.inbox.pop(this.cast()) };
        self.last.set(tick.is_some());
        tick.map(as_is).or_else(message)
    }
}

/// What waits, of whichever kind.
///
/// # Safety
/// As for [`Inbox::pop`].
pub(crate) unsafe fn take(header: &Header) -> Option<*mut Node> {
    // SAFETY: the caller's.
    let message = || unsafe { header.inbox.pop(NonNull::from(header).cast()) };
    match header.cold_if_any() {
        None => message(),
        // SAFETY: the caller's.
        Some(cold) => unsafe { cold.ticks.pop_or(NonNull::from(header), |tick| tick, message) },
    }
}

/// Puts a tick into a mailbox, and the actor into a queue if it was idle. `false`: the actor has
/// closed, and the envelope is the caller's again. Runs no user code.
///
/// # Safety
/// On a worker of the crew, which keeps the core. The caller holds a strong or weak count of the
/// cell, which may go with the envelope, and gives up the only pointer to an envelope made for it.
/// The actor has its cold part.
#[must_use]
pub(crate) unsafe fn deliver(header: NonNull<Header>, envelope: NonNull<Envelope>) -> bool {
    // SAFETY: the caller's count keeps the memory; from the reservation on the place that was reserved keeps the actor
    // until the envelope is handled, and nothing of it is touched after the push unless we hold its runnable.
    unsafe {
        let this = header.as_ref();
        let core = this.core();
        let cold = this.cold_if_any().expect("made when the timer was armed");
        let Reserve::Accepted { schedule } = this.state.reserve_exempt() else { return false };
        cold.prepaid.add_one();
        core.count_here(|tally| &tally.accepted, 1);
        if let Some(stopwatch) = &cold.stopwatch {
            stopwatch.pushing_tick(&cold.ticks.inbox, Envelope::sent(envelope));
        }
        cold.ticks.inbox.push(Envelope::node(envelope));
        if schedule {
            Header::schedule(header);
        }
    }
    true
}

/// The actor has closed, and has its last turns: what is armed for it is a dead letter now. Returns
/// `false` if there may be more.
pub(super) fn abandon_timers(header: &Header, most: usize) -> bool {
    let Some(cold) = header.cold_if_any() else { return true };
    let Abandoned { timers, cancelled } = header.core().scheduler.timers.abandon(&cold.ticks.aim, most);
    let all = timers.len() < most;
    for timed in timers {
        user::contain(Site::Drop, || if cancelled { drop(timed) } else { timed.undeliverable() });
    }
    all
}

/// Accounts for a tick, or for a message that an actor has prepaid, which its mailbox has refused:
/// it counts as accepted and dead.
#[cold]
pub(crate) fn undeliverable(header: &Header) {
    let core = header.core();
    let reason = if !header.state.peek().closed() {
        DeadLetterReason::Full // the one other reason to refuse what is exempt
    } else if core.closing() {
        DeadLetterReason::Shutdown
    } else {
        DeadLetterReason::Stopped
    };
    core.count_here(|tally| &tally.accepted, 1);
    dead_letter(header, reason);
}

/// The message that is being handled is not handled after all. Inside the actor's turn.
#[cold]
pub(crate) fn not_handled(header: &Header, reason: DeadLetterReason) {
    if let Some(stopwatch) = header.stopwatch() {
        stopwatch.not_handled();
    }
    passed_over(header, reason);
}

/// A message that a batch came to is not handled; the one in hand is another. Inside the actor's
/// turn.
#[cold]
pub(crate) fn passed_over(header: &Header, reason: DeadLetterReason) {
    prepaid::unhandled();
    dead_letter(header, reason);
}

fn dead_letter(header: &Header, reason: DeadLetterReason) {
    let core = header.core();
    core.count_dead(reason, 1);
    core.emit(|| Event::DeadLetters { actor: header.id(), type_name: header.type_name(), reason, count: 1 });
}
