//! Ticks: messages that a timer sends. Ticks have a queue of their own, and overtake.
//!
//! A tick that is due goes before the waiting messages. Otherwise a full mailbox would make every
//! timer late. Where both kinds wait they alternate, so timers that are due all the time do not
//! keep the messages waiting for ever. Ticks among themselves come in the order in which they were
//! due.
//!
//! A tick has a place in the mailbox like any other message. The place is counted in `LEN`, is
//! exempt from the capacity, and keeps the actor until the tick is handled. Only the link goes
//! elsewhere, into the cold part, which an actor has from its first timer on. Actors without timers
//! pay nothing.
//!
//! A tick may be due and then not be wanted any more: its timer was cancelled, or its deadline has
//! passed. Such a tick was accepted but is not handled. It becomes a dead letter in its turn.

use super::envelope::Envelope;
use super::event::{DeadLetterReason, Event};
use super::header::Header;
use super::prepaid;
use crate::mailbox::inbox::Inbox;
use crate::mailbox::link::Node;
use crate::mailbox::state::Reserve;
use crate::sched::timers::{Abandoned, Aim};
use crate::user::{self, Site};
use std::cell::Cell;
use std::ptr::NonNull;

/// An actor's ticks that are due. All methods but the push are for the holder of the runnable.
#[derive(Debug)]
pub(crate) struct Ticks {
    inbox: Inbox,
    /// Whether the last message was a tick.
    last: Cell<bool>,
    /// The armed timers for this actor.
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

    /// Pops the next tick, or else what `message` returns: the next message. After a tick the
    /// message comes first.
    ///
    /// # Safety
    /// The caller is the receiver: it holds the runnable.
    #[inline]
    pub(crate) unsafe fn pop_or<T>(
        &self,
        this: NonNull<Header>,
        as_is: impl FnOnce(*mut Node) -> T,
        message: impl Fn() -> Option<T>,
    ) -> Option<T> {
        // Cleared even if no message waits: then another tick may follow this one.
        if self.last.replace(false)
            && let Some(message) = message()
        {
            return Some(message);
        }
        // SAFETY: the caller holds the runnable and so is the receiver. All nodes are envelopes of
        // this actor.
        let tick = unsafe { self.inbox.pop(this.cast()) };
        self.last.set(tick.is_some());
        tick.map(as_is).or_else(message)
    }
}

/// Pops a waiting tick or message.
///
/// # Safety
/// The caller is the receiver: it holds the runnable.
pub(crate) unsafe fn pop_next(header: &Header) -> Option<*mut Node> {
    // SAFETY: the caller holds the runnable and so is the receiver.
    let message = || unsafe { header.inbox.pop(NonNull::from(header).cast()) };
    match header.cold_if_any() {
        None => message(),
        // SAFETY: the caller holds the runnable and so is the receiver of the ticks too.
        Some(cold) => unsafe { cold.ticks.pop_or(NonNull::from(header), |tick| tick, message) },
    }
}

/// Puts a tick into a mailbox, and the actor into a queue if it was idle. Returns `false` if the
/// actor has closed. Then the envelope comes back to the caller. Runs no user code.
///
/// # Safety
/// Called on a worker of the crew, which keeps the core. The caller holds a strong or weak count of
/// the cell, which may go with the envelope. It gives up the only pointer to an envelope made for
/// the cell. The actor has its cold part.
#[must_use]
pub(crate) unsafe fn deliver_tick(header: NonNull<Header>, envelope: NonNull<Envelope>) -> bool {
    // SAFETY: the caller's count keeps the memory. From the reservation on, the reserved place
    // keeps the actor until the envelope is handled. After the push the actor is touched only with
    // the runnable.
    unsafe {
        let this = header.as_ref();
        let core = this.core();
        // In this order, so the count of prepaid messages is never ahead of `LEN`.
        let cold = this.cold_if_any().expect("made when the timer was armed");
        let Reserve::Accepted { schedule } = this.state.reserve_exempt() else { return false };
        cold.prepaid.add_one();
        core.count_here(|tally| &tally.accepted, 1);
        // Before the push, since the stopwatch looks whether the stack is empty.
        if let Some(stopwatch) = &cold.stopwatch {
            stopwatch.pushing_tick(&cold.ticks.inbox, Envelope::sent_at(envelope));
        }
        cold.ticks.inbox.push(Envelope::node_of(envelope));
        if schedule {
            Header::schedule(header);
        }
    }
    true
}

/// Turns timers that are armed for an actor into dead letters, in the last turns of the closed
/// actor. Returns `false` if there may be more.
pub(super) fn abandon_timers(header: &Header, most: usize) -> bool {
    let Some(cold) = header.cold_if_any() else { return true };
    let Abandoned { timers, cancelled } = header.core().scheduler.timers.take_out_for(&cold.ticks.aim, most);
    // Outside the timers' lock, since a dropped message is user code.
    let all = timers.len() < most;
    for timed in timers {
        user::run_contained(
            Site::Drop,
            || if cancelled { drop(timed) } else { timed.report_undeliverable() },
        );
    }
    all
}

/// Accounts for a tick or another exempt message that the mailbox has refused: it counts as
/// accepted and dead.
#[cold]
pub(crate) fn count_undeliverable(header: &Header) {
    let core = header.core();
    let reason = if !header.state.load_snapshot().is_closed() {
        DeadLetterReason::Full // the one other reason to refuse what is exempt
    } else if core.is_closing() {
        DeadLetterReason::Shutdown
    } else {
        DeadLetterReason::Stopped
    };
    core.count_here(|tally| &tally.accepted, 1);
    dead_letter(header, reason);
}

/// Accounts for a message in hand that is not handled after all. Called inside the actor's turn.
#[cold]
pub(crate) fn not_handled(header: &Header, reason: DeadLetterReason) {
    if let Some(stopwatch) = header.stopwatch() {
        stopwatch.not_handled();
    }
    passed_over(header, reason);
}

/// Accounts for a message passed over by a batch, while another message is in hand. Called inside
/// the actor's turn.
#[cold]
pub(crate) fn passed_over(header: &Header, reason: DeadLetterReason) {
    prepaid::note_unhandled();
    dead_letter(header, reason);
}

fn dead_letter(header: &Header, reason: DeadLetterReason) {
    let core = header.core();
    core.count_dead(reason, 1);
    core.emit_event(|| Event::DeadLetters {
        actor: header.id(),
        type_name: header.type_name(),
        reason,
        count: 1,
    });
}
