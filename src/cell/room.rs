//! Those who wait for room in a mailbox, oldest first.
//!
//! A waiting sender does not sleep until there is room and then tries again: it leaves its message here, and the turn
//! that gives room back moves the message into the mailbox itself and then wakes the sender. So the order of
//! waiting is the order of arrival, and nobody can slip in between: while a sender is on the list the state word's
//! `ROOM_WAIT` refuses ordinary messages.
//!
//! An actor may not wait inside its turn; it asks for a notice instead (`Context::when_room`): a message to itself
//! that comes when the mailbox has fallen to half its capacity. If many have asked, each of them runs a turn for its
//! notice, and the first few use up the room. So the notices come a few at a time, one for each quarter of the capacity
//! that is free, and the others follow, at each turn's end if there is room then: who was told first has had its turn.
//!
//! What counts against the capacity, here as for plain sends, is *ordinary* messages: notices are [prepaid](super::prepaid).
//!
//! **Why actors that wait for each other's room go on.** A notice for O about T comes when the ordinary messages in T are at most
//! half the capacity. O's `tell` is refused then only if T has got ordinary messages meanwhile, or if senders are in line, of whom
//! each turn of T with room takes one in. So each notice that O handles in vain is behind a message that T accepted after the
//! notice before. Were there notices for ever, and only so many messages, then from some moment on all messages would be handled,
//! since each actor with a message has a turn; no mailbox would hold an ordinary one, and the next `tell` would be accepted.
//!
//! | the list | `ROOM_WAIT` | `NOTICES` | changed under |
//! |---|---|---|---|
//! | somebody more | set; if the list was empty, by the step that finds no room | | the list's lock |
//! | some notices given, others to come, and no sender waits | cleared | set | the same lock |
//! | empty | cleared | cleared | the same lock |
//!
//! Why nobody is forgotten: the first one sets its flag only while `LEN` > 0, so the actor is scheduled, and no turn ends
//! idle while either flag is set; those behind it find one set, under the same lock. Each turn ends with a look at the
//! list, and where it finds room at least one comes off.

use super::envelope::{Envelope, Lane, deliver, deliver_exempt};
use super::header::{Header, Strong};
use super::linked::Linked;
use crate::drops;
use crate::error::Refusal;
use crate::mailbox::state::RoomWait;
use crate::sync::Mutex;
use crate::user;
use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

/// A waiting sender, shared between it and the list.
#[derive(Debug)]
pub(crate) struct Ticket(Mutex<TicketState>);

#[derive(Debug)]
enum TicketState {
    /// `key`: in the list, from `join` on.
    Waiting {
        envelope: NonNull<Envelope>,
        waker: Waker,
        key: Option<usize>,
    },
    Accepted,
    Refused {
        envelope: NonNull<Envelope>,
        refusal: Refusal,
    },
    Taken,
}

// SAFETY: an envelope's message is Send, and the ticket hands it over as a whole.
unsafe impl Send for Ticket {}
// SAFETY: as above; access is under the mutex.
unsafe impl Sync for Ticket {}

/// What a waiting sender finds.
#[derive(Debug)]
pub(crate) enum TicketNow {
    Waiting,
    Accepted,
    Refused(NonNull<Envelope>, Refusal),
}

/// Who waits.
#[derive(Debug)]
enum Waiter {
    /// For any room.
    Sender(Arc<Ticket>),
    /// For half of it: `envelope` then goes to `owner`.
    Notice { owner: Strong, envelope: NonNull<Envelope> },
    /// For those before it.
    Mark { owner: Strong, envelope: NonNull<Envelope> },
}

/// The list. Most actors that could have one never do.
#[derive(Debug, Default)]
pub(crate) struct RoomList(Option<Box<Line>>);

#[derive(Debug, Default)]
struct Line {
    /// Oldest first.
    waiters: Linked<Waiter>,
    /// How many of them are senders.
    senders: usize,
    /// The addresses of those whom a notice is for: to find them without a walk. They live as long as they are listed.
    owners: HashSet<usize>,
}

impl RoomList {
    fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|line| line.waiters.is_empty())
    }

    fn has_notice_for(&self, address: usize) -> bool {
        self.0.as_ref().is_some_and(|line| line.owners.contains(&address))
    }

    fn line(&mut self) -> &mut Line {
        self.0.get_or_insert_default()
    }
}

impl Line {
    fn push(&mut self, waiter: Waiter) -> usize {
        match &waiter {
            Waiter::Sender(_) => self.senders += 1,
            Waiter::Notice { owner, .. } => {
                self.owners.insert(address(owner));
            }
            Waiter::Mark { .. } => {}
        }
        self.waiters.push(waiter)
    }

    fn took_off(&mut self, waiter: &Waiter) {
        match waiter {
            Waiter::Sender(_) => self.senders -= 1,
            Waiter::Notice { owner, .. } => {
                self.owners.remove(&address(owner));
            }
            Waiter::Mark { .. } => {}
        }
    }

    fn pop(&mut self) -> Option<Waiter> {
        let waiter = self.waiters.pop()?;
        self.took_off(&waiter);
        Some(waiter)
    }

    /// One gives up.
    fn remove(&mut self, key: usize) -> Option<Waiter> {
        let waiter = self.waiters.remove(key)?;
        self.took_off(&waiter);
        Some(waiter)
    }
}

fn address(owner: &Strong) -> usize {
    owner.as_ptr().addr().get()
}

// SAFETY: envelopes' messages are Send.
unsafe impl Send for RoomList {}

impl Ticket {
    pub(crate) fn new(envelope: NonNull<Envelope>, waker: Waker) -> Arc<Self> {
        Arc::new(Ticket(Mutex::new(TicketState::Waiting { envelope, waker, key: None })))
    }

    /// Returns what has become of it, and leaves the waker if it still waits. A refused envelope comes back once.
    ///
    /// Where an envelope comes back no waker is cloned or dropped, since that may panic and would lose the message.
    pub(crate) fn look(&self, waker: &Waker) -> TicketNow {
        if let Some(now) = self.look_known(waker) {
            return now;
        }
        let waker = user::clone_waker(waker); // not under the lock
        let mut state = self.0.lock();
        let (now, unused) = match &mut *state {
            TicketState::Waiting { waker: old, .. } => (TicketNow::Waiting, std::mem::replace(old, waker)),
            settled => (Self::settled(settled), waker),
        };
        drop(state);
        drops::waker(Some(unused)); // likewise, and contained
        now
    }

    /// The same where no waker need be left: `None` if the ticket waits with another one.
    fn look_known(&self, waker: &Waker) -> Option<TicketNow> {
        match &mut *self.0.lock() {
            TicketState::Waiting { waker: known, .. } => known.will_wake(waker).then_some(TicketNow::Waiting),
            settled => Some(Self::settled(settled)),
        }
    }

    /// What its sender finds in a ticket that does not wait.
    fn settled(state: &mut TicketState) -> TicketNow {
        match *state {
            TicketState::Refused { envelope, refusal } => {
                *state = TicketState::Taken;
                TicketNow::Refused(envelope, refusal)
            }
            _ => TicketNow::Accepted,
        }
    }
}

/// A ticket that was never listed, or is dropped with its task, still has its waker. The drop of that is the user's: it is
/// contained, since a sender may have its message back in its hands.
impl Drop for Ticket {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *self.0.lock(), TicketState::Taken);
        if let TicketState::Waiting { waker, .. } = state {
            drops::waker(Some(waker));
        }
    }
}

/// Waits in line unless there is room: then the caller may deliver at once.
pub(crate) fn join(header: &Header, ticket: &Arc<Ticket>) -> RoomWait {
    let mut list = header.cold().room.lock();
    let room = header.capacity - 1;
    let found = header.state.wait_for_room(list.is_empty().then(|| beside_prepaid(header, room)));
    if found == RoomWait::Waiting {
        let entry = list.line().push(Waiter::Sender(Arc::clone(ticket)));
        if let TicketState::Waiting { key, .. } = &mut *ticket.0.lock() {
            *key = Some(entry);
        }
    }
    found
}

/// Takes a waiting sender out of the line, in a time that does not grow with it. `None`: too late, look at the ticket.
pub(crate) fn withdraw(header: &Header, ticket: &Arc<Ticket>) -> Option<NonNull<Envelope>> {
    let mut list = header.cold().room.lock();
    let mut state = ticket.0.lock();
    // Under the list's lock a ticket waits exactly if it is listed.
    let TicketState::Waiting { envelope, key: Some(key), .. } = *state else { return None };
    let listed = list.line().remove(key);
    debug_assert!(matches!(&listed, Some(Waiter::Sender(it)) if Arc::ptr_eq(it, ticket)), "another's place");
    if list.is_empty() {
        header.state.clear_room_wait();
    }
    let waiting = std::mem::replace(&mut *state, TicketState::Taken);
    drop(state);
    drop(list);
    drop(listed);
    if let TicketState::Waiting { waker, .. } = waiting {
        drops::waker(Some(waker)); // not under a lock
    }
    Some(envelope)
}

/// Asks for a notice. `Err`: that owner waits for this mailbox already.
pub(crate) fn notify_owner(header: &Header, owner: Strong, envelope: NonNull<Envelope>) -> Result<(), ()> {
    let mut list = header.cold().room.lock();
    if list.has_notice_for(address(&owner)) {
        drop(list);
        return Err(()); // `owner` is let go of after the lock
    }
    match header.state.wait_for_room(list.is_empty().then(|| beside_prepaid(header, half(header)))) {
        RoomWait::Waiting => {
            list.line().push(Waiter::Notice { owner, envelope });
        }
        RoomWait::Room | RoomWait::Closed => {
            drop(list);
            // SAFETY: `owner` is a strong reference, and the envelope was made for it.
            unsafe { deliver_exempt(owner, envelope, Lane::Prepaid) };
        }
    }
    Ok(())
}

/// Delivers an exempt message to the mailbox's owner behind all that waits for room now.
///
/// # Safety
/// `owner` is the actor whose cell `header` is; the envelope is made for it, and the only pointer to it is given up.
pub(crate) unsafe fn follow(header: &Header, owner: Strong, envelope: NonNull<Envelope>) {
    if header.state.peek().room_wait() {
        let mut list = header.cold().room.lock();
        if list.line().senders > 0 {
            list.line().push(Waiter::Mark { owner, envelope });
            return;
        }
    }
    // SAFETY: the caller's.
    unsafe { deliver_exempt(owner, envelope, Lane::Exempt) };
}

/// One notice comes for this part of the capacity.
const NOTICE_PART: u32 = 4;

fn half(header: &Header) -> u32 {
    header.capacity / 2
}

/// With the list's lock: as how great a length so many ordinary messages count.
fn beside_prepaid(header: &Header, ordinary: u32) -> u32 {
    ordinary.saturating_add(header.cold().prepaid.read())
}

/// Moves messages in and gives notices, as far as there is room. Called by the turn that gave it back.
pub(crate) fn serve(this: NonNull<Header>) {
    // SAFETY: the caller holds the runnable.
    let header = unsafe { this.as_ref() };
    let mut wake = Vec::new();
    let mut notices = Vec::new();
    {
        let mut list = header.cold().room.lock();
        let line = list.line();
        // First the count of prepaid messages, which does not get less here, and then the length: or one that comes in between
        // would make room for an ordinary one.
        let waiting = || {
            let prepaid = header.cold().prepaid.read();
            header.state.peek().len().saturating_sub(prepaid)
        };
        let free = header.capacity.saturating_sub(waiting());
        let mut most = free / (header.capacity / NOTICE_PART).max(1);
        while let Some(front) = line.waiters.front() {
            let waiting = waiting();
            match front {
                Waiter::Sender(_) if waiting >= header.capacity => break,
                Waiter::Notice { .. } if waiting > half(header) => break,
                // Unless a sender waits behind it: then plain sends may not use the room anyway.
                Waiter::Notice { .. } if most == 0 && line.senders == 0 => {
                    header.state.notices_to_come();
                    break;
                }
                Waiter::Notice { .. } => most = most.saturating_sub(1),
                Waiter::Sender(_) | Waiter::Mark { .. } => {}
            }
            match line.pop().expect("there was a front") {
                Waiter::Sender(ticket) => {
                    let mut state = ticket.0.lock();
                    let TicketState::Waiting { envelope, .. } = *state else {
                        unreachable!("listed tickets wait")
                    };
                    // SAFETY: the cell is in its turn; the envelope was made for it and leaves the ticket here.
                    let next = match unsafe { deliver(this, envelope, Lane::Exempt) } {
                        Ok(_) => TicketState::Accepted,
                        Err((envelope, refusal)) => TicketState::Refused { envelope, refusal },
                    };
                    wake.push(std::mem::replace(&mut *state, next));
                }
                Waiter::Notice { owner, envelope } => notices.push((owner, envelope, Lane::Prepaid)),
                Waiter::Mark { owner, envelope } => notices.push((owner, envelope, Lane::Exempt)),
            }
        }
        if line.waiters.is_empty() {
            header.state.clear_room_wait();
        }
    }
    settle(wake, notices);
    if let Some(stopwatch) = header.stopwatch() {
        stopwatch.forget_clock(); // the next handler begins after this
    }
}

/// The mailbox is closed: every sender gets its message back, every owner its notice.
pub(crate) fn refuse_all(header: &Header, refusal: Refusal) {
    let Some(cold) = header.cold_if_any() else { return };
    let mut wake = Vec::new();
    let mut notices = Vec::new();
    // Under the list's lock to the end: a ticket that is not listed is settled, or `withdraw` would lose its message.
    let mut list = cold.room.lock();
    let mut line = list.0.take();
    while let Some(waiter) = line.as_mut().and_then(|line| line.waiters.pop()) {
        match waiter {
            Waiter::Sender(ticket) => {
                let mut state = ticket.0.lock();
                let TicketState::Waiting { envelope, .. } = *state else {
                    unreachable!("listed tickets wait")
                };
                wake.push(std::mem::replace(&mut *state, TicketState::Refused { envelope, refusal }));
            }
            Waiter::Notice { owner, envelope } => notices.push((owner, envelope, Lane::Prepaid)),
            Waiter::Mark { owner, envelope } => notices.push((owner, envelope, Lane::Exempt)),
        }
    }
    drop(list);
    settle(wake, notices);
}

/// User code (wakers) and other actors' mailboxes: outside all locks.
fn settle(wake: Vec<TicketState>, notices: Vec<(Strong, NonNull<Envelope>, Lane)>) {
    for waiting in wake {
        if let TicketState::Waiting { waker, .. } = waiting {
            user::wake(waker);
        }
    }
    for (owner, envelope, lane) in notices {
        // SAFETY: `owner` is a strong reference, and the envelope was made for it.
        unsafe { deliver_exempt(owner, envelope, lane) };
    }
}
