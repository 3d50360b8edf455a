//! State word and inbox: waiting for room in a full mailbox.
//!
//! Covers: each waiter gets its message in, or back when the actor stops. Plain sends do not barge.
//! When the list is empty the flags are clear, so that the mailbox accepts again. A sender that
//! withdraws has its message. Each notice of room comes, although notices come one by one.
//!
//! The list is a copy of `cell::room`'s. As in `mailbox`, turns run at once where they were
//! scheduled.

use super::{explore, spawn};
use crate::mailbox::inbox::Inbox;
use crate::mailbox::link::Node;
use crate::mailbox::state::{EndTurn, Reserve, RoomWait, State};
use crate::sync::{Mutex, Parker};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::collections::VecDeque;
use std::ptr::NonNull;

/// Capacity of all mailboxes here.
const CAPACITY: u32 = 1;

/// Whether a waiting sender got its message in. For a notice: whether the actor may try again.
type Ticket = Arc<Parker<bool>>;

enum Waiter {
    Sender(Ticket),
    Notice(Ticket),
}

impl Waiter {
    fn ticket(&self) -> &Ticket {
        match self {
            Waiter::Sender(ticket) | Waiter::Notice(ticket) => ticket,
        }
    }

    fn is_sender(&self) -> bool {
        matches!(self, Waiter::Sender(_))
    }
}

struct Actor {
    state: State,
    inbox: Inbox,
    room: Mutex<VecDeque<Waiter>>,
    handled: UnsafeCell<u32>,
    early: bool,
}

impl Actor {
    /// Makes an actor with its first turn over.
    fn new(early: bool) -> Arc<Self> {
        let actor = Actor {
            state: State::new(),
            inbox: Inbox::new(),
            room: Mutex::new(VecDeque::new()),
            handled: UnsafeCell::new(0),
            early,
        };
        actor.turns();
        Arc::new(actor)
    }

    fn push(&self, reserved: Reserve) -> bool {
        let Reserve::Accepted { schedule } = reserved else { return false };
        // SAFETY: the node is given up here, and the turn frees it once.
        unsafe { self.inbox.push(Box::into_raw(Box::new(Node::new()))) };
        if schedule {
            self.turns();
        }
        true
    }

    fn tell(&self) -> bool {
        self.push(self.state.reserve_place(CAPACITY, false))
    }

    /// Waits for room. Returns `false` if the actor stopped first.
    fn send(&self) -> bool {
        let ticket: Ticket = Arc::new(Parker::new());
        loop {
            if self.tell() {
                return true;
            }
            match self.join(&ticket) {
                RoomWait::Waiting => return ticket.park(None).expect("untimed"),
                RoomWait::Closed => return false,
                // Room came between the refusal and the look at the word.
                RoomWait::Room => thread::yield_now(),
            }
        }
    }

    fn join(&self, ticket: &Ticket) -> RoomWait {
        let mut list = self.room.lock();
        // Only the first in line may find room instead. Behind others the flag is set already.
        let found = self.state.wait_for_room(list.is_empty().then_some(CAPACITY - 1));
        if found == RoomWait::Waiting {
            list.push_back(Waiter::Sender(Arc::clone(ticket)));
        }
        found
    }

    /// Leaves the line. Returns `false` if the turn has taken the waiter already.
    fn withdraw(&self, ticket: &Ticket) -> bool {
        let mut list = self.room.lock();
        let Some(at) = list.iter().position(|other| Arc::ptr_eq(other.ticket(), ticket)) else {
            return false;
        };
        // Under the lock, so either the sender leaves the line or the turn has moved its message.
        list.remove(at);
        if list.is_empty() {
            self.state.clear_room_wait();
        }
        true
    }

    /// Sends like an actor: asks for a notice where there is no room, and goes on when the notice
    /// comes. With `once`, gives up after the notice. Returns how many messages were sent.
    fn tell_when_room(&self, once: bool) -> u32 {
        let ticket: Ticket = Arc::new(Parker::new());
        while !self.tell() {
            let mut list = self.room.lock();
            // Half of the capacity, rounded down.
            let found = self.state.wait_for_room(list.is_empty().then_some(CAPACITY / 2));
            if found == RoomWait::Waiting {
                list.push_back(Waiter::Notice(Arc::clone(&ticket)));
                drop(list);
                assert!(ticket.park(None).expect("untimed"), "nobody stops it");
                if once {
                    return 0;
                }
            } else {
                drop(list);
                thread::yield_now();
            }
        }
        1
    }

    fn serve(&self) {
        let mut wake = Vec::new();
        let mut list = self.room.lock();
        // One notice at a time, the fewest that the real list gives.
        let mut most = 1_usize;
        while let Some(front) = list.front()
            && self.state.load_snapshot().len() < CAPACITY
        {
            if !front.is_sender() && most == 0 && !list.iter().any(Waiter::is_sender) {
                self.state.set_notices_to_come();
                break;
            }
            // One sender at a time, too. The flag stays, and the turn comes again.
            if front.is_sender() && !wake.is_empty() {
                break;
            }
            let waiter = list.pop_front().expect("there was a front");
            // Schedules nothing under the lock: the caller holds the runnable.
            let accepted = !waiter.is_sender() || self.push(self.state.reserve_exempt());
            most = most.saturating_sub(usize::from(!waiter.is_sender()));
            wake.push((waiter, accepted));
        }
        if list.is_empty() {
            self.state.clear_room_wait();
        }
        drop(list);
        wake.into_iter().for_each(|(waiter, accepted)| waiter.ticket().unpark(accepted));
    }

    fn take(&self) -> bool {
        // SAFETY: the caller holds the runnable, and `push` made the node from a box.
        let taken =
            unsafe { self.inbox.pop(NonNull::dangling()).map(|node| drop(Box::from_raw(node))) };
        taken.is_some()
    }

    fn turns(&self) {
        loop {
            let waiting = self.state.begin_turn().len();
            assert!(waiting <= CAPACITY, "somebody slipped in");
            let (mut total, mut owed, mut served) = (0, 0, false);
            while total < waiting && self.take() {
                // SAFETY: only the runnable's holder gets here; loom's cell reports a second one.
                self.handled.with_mut(|handled| unsafe { *handled += 1 });
                (total, owed) = (total + 1, owed + 1);
                if self.early {
                    let now = self.state.give_places_back(std::mem::take(&mut owed));
                    // A closed mailbox gives no room; its end answers the line.
                    if now.has_room_wait() && !now.is_closed() {
                        self.serve();
                    }
                }
            }
            let after = loop {
                match self.state.end_turn(owed, served) {
                    EndTurn::ServeRoom => self.serve(),
                    after => break after,
                }
                // The places are given back once, and the line is served once a turn.
                (owed, served) = (0, true);
            };
            match after {
                EndTurn::Idle => return,
                // A gap: a place is reserved, but its message is not linked yet.
                EndTurn::More { .. } if total == 0 && waiting > 0 => thread::yield_now(),
                EndTurn::More { .. } => {}
                EndTurn::Ending => {
                    std::mem::take(&mut *self.room.lock())
                        .iter()
                        .for_each(|waiter| waiter.ticket().unpark(false));
                    let _nobody = self.state.set_dead(false);
                    return;
                }
                EndTurn::ServeRoom
                | EndTurn::CheckQueue
                | EndTurn::Retire
                | EndTurn::Unreferenced => {
                    unreachable!("served; nobody shares; one reference is held")
                }
            }
        }
    }

    fn settle(&self, accepted: u32) {
        let now = self.state.load_snapshot();
        assert_eq!(now.len(), 0, "left in the mailbox");
        assert!(self.room.lock().is_empty(), "left in the line");
        // SAFETY: all threads have ended; loom's cell reports an unordered write.
        assert_eq!(self.handled.with(|handled| unsafe { *handled }), accepted);
        assert!(now.is_closed() || !now.has_waiters(), "a flag stayed");
    }
}

#[test]
fn everybody_who_waits_gets_in() {
    for early in [false, true] {
        explore(3, move || {
            let actor = Actor::new(early);
            let others = [(); 2].map(|()| spawn(&actor, |actor| assert!(actor.send())));
            assert!(actor.send());
            others.into_iter().for_each(|other| other.join().unwrap());
            actor.settle(3);
            assert!(actor.tell(), "there is room again");
        });
    }
}

#[test]
fn a_stop_sends_home_who_waits() {
    explore(3, || {
        let actor = Actor::new(false);
        let others = [(); 2].map(|()| spawn(&actor, |actor| u32::from(actor.send())));
        if actor.state.set_closed(false) {
            actor.turns();
        }
        let accepted = others.map(|other| other.join().unwrap());
        actor.settle(accepted.iter().sum());
    });
}

#[test]
fn a_sender_that_withdraws_leaves_no_flag() {
    explore(3, || {
        let actor = Actor::new(false);
        let other = spawn(&actor, |actor| u32::from(actor.tell()));
        let ticket: Ticket = Arc::new(Parker::new());
        let sent = actor.tell()
            || match actor.join(&ticket) {
                RoomWait::Waiting => {
                    !actor.withdraw(&ticket) && ticket.park(None).expect("untimed")
                }
                RoomWait::Room => actor.tell(),
                RoomWait::Closed => unreachable!("nobody stops it"),
            };
        let told = other.join().unwrap();
        actor.settle(told + u32::from(sent));
    });
}

/// Two actors ask for a notice and get it one after the other; a plain sender may come between. A
/// forgotten actor would wait for ever: the actor notified first may have nothing to send, and so
/// causes no turn that could serve the next.
#[test]
fn notices_that_come_one_by_one_all_come() {
    for (early, once) in [(false, false), (true, false), (false, true), (true, true)] {
        explore(2, move || {
            let actor = Actor::new(early);
            let others = [(); 2].map(|()| spawn(&actor, move |actor| actor.tell_when_room(once)));
            let told = actor.tell_when_room(once);
            let others = others.map(|other| other.join().unwrap());
            actor.settle(told + others.iter().sum::<u32>());
            assert!(actor.tell(), "there is room again");
        });
    }
}

/// One sender waits behind notices, and one before.
#[test]
fn senders_and_notices_wait_in_one_line() {
    explore(2, || {
        let actor = Actor::new(false);
        let notice = spawn(&actor, |actor| actor.tell_when_room(false));
        let sender = spawn(&actor, |actor| assert!(actor.send()));
        assert_eq!(actor.tell_when_room(false) + notice.join().unwrap(), 2);
        sender.join().unwrap();
        actor.settle(3);
    });
}
