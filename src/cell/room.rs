//! The room list: senders and actors that wait for room in a mailbox, oldest first.
//!
//! A waiting sender does not sleep until there is room and then try again. Its message is left
//! here. The turn that gives room back moves the message into the mailbox itself, and then has the
//! sender woken ([`Scheduler::wake_after_turn`](crate::sched::Scheduler::wake_after_turn)). So the
//! order of waiting is the order of arrival. No other sender can slip in between: while a sender is
//! on the list the state word's `ROOM_WAIT` refuses ordinary messages.
//!
//! An actor may not wait inside its turn. Instead an actor asks for a notice
//! (`Context::when_room`): a message to itself, delivered when the mailbox has fallen to half its
//! capacity. If many actors have asked, each of them runs a turn for its notice, and the first few
//! use up the room. So the notices come a few at a time, one for each free quarter of the capacity.
//! The others follow at the ends of later turns, if there is room then. By then the first ones have
//! had a turn.
//!
//! Only *ordinary* messages count against the capacity, here as for plain sends: notices are
//! [prepaid](super::prepaid).
//!
//! **Why actors that wait for each other's room go on.** A notice for O about T comes when the
//! ordinary messages in T are at most half the capacity. O's `tell` is refused then only if T has
//! got ordinary messages meanwhile, or if senders are in line. Then each turn of T with room takes
//! one of their messages in. So each notice that O handles in vain comes after a message that T
//! accepted after the notice before. Suppose that there were notices for ever and a finite number
//! of messages. Then from some moment on all messages would be handled, since each actor with a
//! message has a turn. No mailbox would hold an ordinary message, and the next `tell` would be
//! accepted.
//!
//! | the list | `ROOM_WAIT` | `NOTICES` |
//! |---|---|---|
//! | gets a waiter | set; on an empty list by the step that finds no room | |
//! | some notices given, others to come, and no sender waits | cleared | set |
//! | becomes empty | cleared | cleared |
//!
//! All three rows happen under the list's lock.
//!
//! **Why no waiter is forgotten**: the first waiter sets its flag only while `LEN` > 0, so the
//! actor is scheduled, and no turn ends idle while either flag is set. Later waiters find a flag
//! set, under the same lock. Each turn ends with a look at the list, and if it finds room at least
//! one waiter comes off.
//!
//! Loom model: `models::room`. Needed orderings: `cargo xtask weaken`, group `room`.

use super::cold::Cold;
use super::counted::Strong;
use super::deliver::{Lane, deliver};
use super::envelope::Envelope;
use super::exempt::{deliver_mark, deliver_notice};
use super::header::Header;
use super::room_list::{Ticket, TicketState, Waiter, address_of};
use crate::drops;
use crate::error::Refusal;
use crate::mailbox::link::Node;
use crate::mailbox::state::RoomWait;
use crate::sched::worker::Worker;
use crate::sync::Mutex;
use crate::user;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

/// The state of a ticket, as the waiting sender finds it.
#[derive(Debug)]
pub(crate) enum TicketNow {
    Waiting,
    Accepted,
    Refused(NonNull<Envelope>, Refusal),
}

impl Ticket {
    pub(crate) fn new(envelope: NonNull<Envelope>, waker: Waker) -> Arc<Self> {
        Arc::new(Ticket(Mutex::new(TicketState::Waiting {
            node: Envelope::node_of(envelope),
            waker,
            key: None,
            outside: false,
        })))
    }

    /// Returns what has become of the message. If the ticket still waits, leaves the waker in it. A
    /// refused envelope comes back once.
    ///
    /// A call that returns the envelope neither clones nor drops a waker, since that may panic and
    /// would lose the message.
    pub(crate) fn poll_state(&self, waker: &Waker) -> TicketNow {
        if let Some(now) = self.poll_known(waker) {
            return now;
        }
        let waker = user::clone_waker(waker); // user code, so not under the lock
        let mut state = self.0.lock();
        let (now, unused) = match &mut *state {
            // The ticket may have been settled since the first look.
            TicketState::Waiting { waker: old, .. } => {
                (TicketNow::Waiting, std::mem::replace(old, waker))
            }
            settled => (Self::take_settled(settled), waker),
        };
        drop(state);
        drops::drop_waker(Some(unused)); // user code, so not under the lock, and contained
        now
    }

    /// The part of [`poll_state`](Self::poll_state) that needs no waker. Returns `None` if the
    /// ticket waits with another waker.
    fn poll_known(&self, waker: &Waker) -> Option<TicketNow> {
        match &mut *self.0.lock() {
            TicketState::Waiting { waker: known, .. } => {
                known.will_wake(waker).then_some(TicketNow::Waiting)
            }
            settled => Some(Self::take_settled(settled)),
        }
    }

    /// Returns the result in a settled ticket.
    fn take_settled(state: &mut TicketState) -> TicketNow {
        match *state {
            TicketState::Refused { node, refusal } => {
                *state = TicketState::Taken;
                // SAFETY: `new` made the node from an envelope.
                TicketNow::Refused(unsafe { Envelope::from_node(node) }, refusal)
            }
            _ => TicketNow::Accepted,
        }
    }
}

/// Puts a sender in line, unless there is room. Then the caller may deliver at once.
pub(crate) fn join_line(header: &Header, ticket: &Arc<Ticket>) -> RoomWait {
    let mut list = header.cold().room.lock();
    // A sender behind others does not look at the room: the flag is set already, and earlier
    // waiters come first.
    let room = header.capacity - 1;
    let found = header.state.wait_for_room(list.is_empty().then(|| beside_prepaid(header, room)));
    if found == RoomWait::Waiting {
        let entry = list.get_or_make_queue().push(Waiter::Sender(Arc::clone(ticket)));
        if let TicketState::Waiting { key, outside, .. } = &mut *ticket.0.lock() {
            *key = Some(entry);
            *outside = Worker::with(&header.core().scheduler, |worker| worker.is_none());
        }
    }
    found
}

/// Takes a waiting sender out of the line, in a time that does not grow with the line. Returns
/// `None` if it is too late: the ticket is settled.
pub(crate) fn leave_line(header: &Header, ticket: &Arc<Ticket>) -> Option<NonNull<Envelope>> {
    let mut list = header.cold().room.lock();
    let mut state = ticket.0.lock();
    // Under the list's lock a ticket waits if and only if it is listed.
    let TicketState::Waiting { node, key: Some(key), .. } = *state else { return None };
    let listed = list.get_or_make_queue().remove(key);
    debug_assert!(
        matches!(&listed, Some(Waiter::Sender(it)) if Arc::ptr_eq(it, ticket)),
        "another's place"
    );
    if list.is_empty() {
        header.state.clear_room_wait();
    }
    let waiting = std::mem::replace(&mut *state, TicketState::Taken);
    drop(state);
    drop(list);
    drop(listed);
    if let TicketState::Waiting { waker, .. } = waiting {
        drops::drop_waker(Some(waker)); // user code, so not under a lock
    }
    // SAFETY: `Ticket::new` made the node from an envelope.
    Some(unsafe { Envelope::from_node(node) })
}

/// Asks for a notice. Returns `Err` if the owner waits for this mailbox already.
pub(crate) fn notify_owner(
    header: &Header,
    owner: Strong,
    envelope: NonNull<Envelope>,
) -> Result<(), ()> {
    let mut list = header.cold().room.lock();
    if list.has_notice_for(address_of(&owner)) {
        drop(list); // before `owner` is dropped
        return Err(());
    }
    match header
        .state
        .wait_for_room(list.is_empty().then(|| beside_prepaid(header, half_capacity(header))))
    {
        RoomWait::Waiting => {
            list.get_or_make_queue()
                .push(Waiter::Notice { owner, node: Envelope::node_of(envelope) });
        }
        RoomWait::Room | RoomWait::Closed => {
            drop(list);
            // SAFETY: `owner` is a strong reference, and the envelope was made for it and given up.
            unsafe { deliver_notice(owner, envelope) };
        }
    }
    Ok(())
}

/// Delivers an exempt message to the mailbox's owner, behind all that wait for room now.
///
/// # Safety
/// `owner` is the actor with the cell `header`. The envelope is made for it, and the caller gives
/// up the only pointer to it.
pub(crate) unsafe fn deliver_behind_line(
    header: &Header,
    owner: Strong,
    envelope: NonNull<Envelope>,
) {
    if header.state.load_snapshot().has_room_wait() {
        let mut list = header.cold().room.lock();
        // Only senders' messages come into this mailbox, so other waiters need no mark.
        if list.get_or_make_queue().senders > 0 {
            list.get_or_make_queue()
                .push(Waiter::Mark { owner, node: Envelope::node_of(envelope) });
            return;
        }
    }
    // SAFETY: `owner` is a strong reference, and the envelope is made for it and given up.
    unsafe { deliver_mark(owner, envelope) };
}

/// Waiters that are served or refused in one go, so that a long line does not hold up the worker.
const AT_ONCE: usize = 256;

/// One notice comes for each free part of this size.
const NOTICE_PART: u32 = 4;

fn half_capacity(header: &Header) -> u32 {
    header.capacity / 2
}

/// Returns the length of the mailbox when it holds so many ordinary messages beside the prepaid
/// ones. Called with the list's lock.
fn beside_prepaid(header: &Header, ordinary: u32) -> u32 {
    ordinary.saturating_add(header.cold().prepaid.read_count())
}

/// Moves messages into the mailbox and gives notices, as far as there is room, to some waiters. For
/// the others the flag stays set, so the turn comes again. Called by the turn that has given room
/// back, with the runnable.
pub(crate) fn serve_line(this: NonNull<Header>) {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    let mut wake = Vec::new();
    let mut notices = Vec::new();
    {
        let mut list = header.cold().room.lock();
        let line = list.get_or_make_queue();
        // The count of prepaid messages comes first, which does not fall under the lock, and the
        // length second. In the other order a prepaid message that comes in between would make room
        // for an ordinary one.
        let waiting = || {
            let prepaid = header.cold().prepaid.read_count();
            header.state.load_snapshot().len().saturating_sub(prepaid)
        };
        let free = header.capacity.saturating_sub(waiting());
        let mut most = free / (header.capacity / NOTICE_PART).max(1);
        for _ in 0..AT_ONCE {
            let Some(front) = line.waiters.front() else { break };
            // Looked up for each waiter, since each message that is moved in takes room.
            let waiting = waiting();
            match front {
                Waiter::Sender(_) if waiting >= header.capacity => break,
                Waiter::Notice { .. } if waiting > half_capacity(header) => break,
                // Only so many at a time, and plain sends may use the rest of the room. If a sender
                // waits behind the notice, plain sends may not use the room anyway, so holding the
                // notice back would gain nothing.
                Waiter::Notice { .. } if most == 0 && line.senders == 0 => {
                    header.state.set_notices_to_come();
                    break;
                }
                Waiter::Notice { .. } => most = most.saturating_sub(1),
                Waiter::Sender(_) | Waiter::Mark { .. } => {}
            }
            match line.pop().expect("there was a front") {
                Waiter::Sender(ticket) => {
                    let mut state = ticket.0.lock();
                    let TicketState::Waiting { node, outside, .. } = *state else {
                        unreachable!("listed tickets wait")
                    };
                    if outside {
                        header.state.mark_outside();
                    }
                    // SAFETY: the cell's turn runs here and keeps the cell. The envelope was made
                    // for the cell and leaves the ticket with this call.
                    let next =
                        match unsafe { deliver(this, Envelope::from_node(node), Lane::Exempt) } {
                            Ok(_) => TicketState::Accepted,
                            Err((_, refusal)) => TicketState::Refused { node, refusal },
                        };
                    wake.push(std::mem::replace(&mut *state, next));
                }
                // Only collected here: a refused delivery drops the message, which is user code.
                Waiter::Notice { owner, node } => {
                    notices.push((owner, node, deliver_notice as Deliver))
                }
                Waiter::Mark { owner, node } => {
                    notices.push((owner, node, deliver_mark as Deliver))
                }
            }
        }
        if line.waiters.is_empty() {
            header.state.clear_room_wait();
        }
    }
    notify_and_wake(header, wake, notices);
    if let Some(stopwatch) = header.stopwatch() {
        // The next handler begins after this.
        stopwatch.forget_clock();
    }
}

/// Refuses waiters of a closed mailbox: each sender gets its message back, each owner its notice.
/// Returns `false` if there are more: a long line must not hold up the worker.
#[inline]
pub(crate) fn refuse_some(header: &Header, refusal: Refusal) -> bool {
    // Most actors end without ever having had a waiter, and pay no call for it.
    header.cold_if_any().is_none_or(|cold| refuse_waiters(header, cold, refusal))
}

#[inline(never)]
fn refuse_waiters(header: &Header, cold: &Cold, refusal: Refusal) -> bool {
    let mut wake = Vec::new();
    let mut notices = Vec::new();
    // A ticket is settled under the list's lock. `leave_line` takes a ticket that is not listed for
    // a settled one, and would lose its message.
    let mut list = cold.room.lock();
    for _ in 0..AT_ONCE {
        match list.0.as_mut().and_then(|line| line.pop()) {
            Some(Waiter::Sender(ticket)) => {
                let mut state = ticket.0.lock();
                let TicketState::Waiting { node, .. } = *state else {
                    unreachable!("listed tickets wait")
                };
                wake.push(std::mem::replace(&mut *state, TicketState::Refused { node, refusal }));
            }
            Some(Waiter::Notice { owner, node }) => {
                notices.push((owner, node, deliver_notice as Deliver))
            }
            Some(Waiter::Mark { owner, node }) => {
                notices.push((owner, node, deliver_mark as Deliver))
            }
            None => break,
        }
    }
    let all = list.is_empty();
    if all {
        list.0 = None;
    }
    drop(list);
    notify_and_wake(header, wake, notices);
    all
}

/// Function that delivers a notice or a mark.
type Deliver = unsafe fn(Strong, NonNull<Envelope>);

/// Delivers notices (other actors' mailboxes) and has senders woken (user code), outside all locks.
/// The notices come first, since a waker may block.
fn notify_and_wake(
    header: &Header,
    wake: Vec<TicketState>,
    notices: Vec<(Strong, *mut Node, Deliver)>,
) {
    for (owner, node, deliver) in notices {
        // SAFETY: `owner` is a strong reference, and the envelope was made for it and left the
        // list.
        unsafe { deliver(owner, Envelope::from_node(node)) };
    }
    let wakers = wake.into_iter().filter_map(|state| match state {
        TicketState::Waiting { waker, .. } => Some(waker),
        _ => None,
    });
    header.core().scheduler.wake_after_turn(wakers.collect());
}
