//! State word and inbox: senders, turns, and a stop.
//!
//! Covers: each accepted message is handled or becomes a dead letter, once and in its sender's
//! order. Turns do not overlap, whichever thread runs them. Nothing stays in a mailbox of an actor
//! that is not scheduled. A full or closed mailbox accepts nothing. A stop lets messages accepted
//! before it be handled.
//!
//! Does not cover: the queues, waiting for room, panics. A turn runs at once on the thread that was
//! told to schedule it. A thread told wrongly is caught in the act, and no queue lends
//! synchronization.

use super::{explore, spawn};
use crate::mailbox::inbox::Inbox;
use crate::mailbox::link::Node;
use crate::mailbox::state::{EndTurn, Reserve, State};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::ptr::NonNull;

#[repr(C)]
struct Message {
    node: Node,
    /// Sender and number. loom sees whether the content was published.
    content: UnsafeCell<(usize, u32)>,
}

#[derive(Default)]
struct Inner {
    handled: u32,
    dead: u32,
    ended: bool,
    latest: [u32; 3],
}

struct Actor {
    state: State,
    inbox: Inbox,
    capacity: u32,
    /// Number of messages in a turn.
    budget: u32,
    /// Whether a turn gives back each place as soon as possible.
    early: bool,
    /// State that one turn at a time may touch.
    inner: UnsafeCell<Inner>,
}

impl Actor {
    /// Makes an actor, with its first turn already over.
    fn new(capacity: u32, budget: u32, early: bool) -> Arc<Self> {
        let actor = Actor {
            state: State::new(),
            inbox: Inbox::new(),
            capacity,
            budget,
            early,
            inner: UnsafeCell::new(Inner::default()),
        };
        // A new word is scheduled, as its creator pushes the first turn.
        actor.turns();
        Arc::new(actor)
    }

    fn tell(&self, sender: usize, number: u32) -> bool {
        // From outside, so that turns also meet the mark of outside senders.
        match self.state.reserve_place(self.capacity, true) {
            Reserve::Accepted { schedule } => {
                let message = Message { node: Node::new(), content: UnsafeCell::new((0, 0)) };
                // Written separately: loom takes an initial value that is made just after the
                // reservation for published by the reservation.
                // SAFETY: the sender alone has the message until the push.
                message.content.with_mut(|content| unsafe { *content = (sender, number) });
                let node = Box::into_raw(Box::new(message)).cast();
                // SAFETY: the sender gives the node up here, and `take` alone gets it back. A
                // sender told to schedule holds the runnable, so it is the receiver.
                unsafe {
                    if schedule {
                        // The sender runs the turn itself here; in the crate it would push the
                        // runnable.
                        self.inbox.put_first(node);
                        self.turns();
                    } else {
                        self.inbox.push(node);
                    }
                }
                true
            }
            Reserve::Full | Reserve::Closed => false,
        }
    }

    fn stop(&self, kill: bool) {
        if self.state.set_closed(kill) {
            self.turns();
        }
    }

    fn take(&self) -> Option<(usize, u32)> {
        // SAFETY: the caller holds the runnable, so it is the only receiver.
        let node = unsafe { self.inbox.pop(NonNull::dangling()) }?;
        // SAFETY: `tell` made the node from a box, and the inbox hands it out once.
        let message = unsafe { Box::from_raw(node.cast::<Message>()) };
        // SAFETY: the receiver alone has the message; loom's cell reports a read that races with
        // the sender's write.
        Some(message.content.with(|content| unsafe { *content }))
    }

    fn touch<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: only turns get here, and turns do not overlap; loom's cell reports a violation.
        self.inner.with_mut(|inner| f(unsafe { &mut *inner }))
    }

    /// Runs turns until the runnable is given up, like `cell::turn` and `cell::end`.
    fn turns(&self) {
        loop {
            // A turn handles the messages present at its beginning, like the real turn.
            let most = self.state.begin_turn().len().min(self.budget);
            // The flag is in loom's cell, so a turn that overlaps the end is reported even where
            // the value is right.
            if self.touch(|inner| inner.ended) {
                panic!("a turn after the end");
            }
            let (mut total, mut owed) = (0, 0);
            while total < most && !self.state.load_snapshot().is_killed() {
                let Some((sender, number)) = self.take() else { break };
                self.touch(|inner| {
                    inner.handled += 1;
                    assert!(inner.latest[sender] < number, "out of order");
                    inner.latest[sender] = number;
                });
                (total, owed) = (total + 1, owed + 1);
                if self.early {
                    let _ = self.state.give_places_back(std::mem::take(&mut owed));
                }
            }
            // The usual end first, as in a turn. Where places are given back early, the general end
            // alone.
            if !self.early && self.state.end_idle(owed) {
                return;
            }
            match self.state.end_turn(owed, false) {
                EndTurn::Idle => return,
                // A gap: a message has a place, but is not linked yet. The turn ends instead of
                // waiting for the sender.
                EndTurn::More { .. } if total == 0 => thread::yield_now(),
                // The loop stands for the queue, through which the runnable would come again.
                EndTurn::More { .. } => {}
                EndTurn::Ending => return self.end(),
                EndTurn::ServeRoom
                | EndTurn::CheckQueue
                | EndTurn::Retire
                | EndTurn::Unreferenced => {
                    unreachable!("nobody waits, one reference is held")
                }
            }
        }
    }

    fn end(&self) {
        loop {
            let mut taken = 0;
            while self.take().is_some() {
                taken += 1;
            }
            self.touch(|inner| inner.dead += taken);
            // The word counts a reserved place before its message is linked, so the end waits for
            // the message.
            if self.state.give_places_back(taken).len() == 0 {
                break;
            }
            // The gap, as above.
            thread::yield_now();
        }
        self.touch(|inner| inner.ended = true);
        let dead = self.state.set_dead(false).expect("nobody waits for the end");
        assert!(!dead.free, "the reference is held");
    }

    /// Checks that the counts are right and nothing is left, after all threads have ended.
    fn settle(&self, accepted: u32) -> (u32, u32) {
        let now = self.state.load_snapshot();
        assert_eq!(now.len(), 0, "left in the mailbox");
        let (handled, dead, ended) = self.touch(|inner| (inner.handled, inner.dead, inner.ended));
        assert_eq!(handled + dead, accepted);
        assert_eq!((now.is_closed(), now.is_dead()), (ended, ended));
        if !ended {
            // A close schedules an idle actor. With a lost runnable the flag would still be set.
            assert!(self.state.set_closed(true), "scheduled, but nobody runs it");
        }
        (handled, dead)
    }
}

/// Sends messages with numbers from 1. Returns how many were accepted.
fn sender(actor: &Arc<Actor>, sender: usize, messages: u32) -> thread::JoinHandle<u32> {
    spawn(actor, move |actor| {
        (1..=messages).filter(|&number| actor.tell(sender, number)).count() as u32
    })
}

#[test]
fn senders_and_turns() {
    explore(3, || {
        // Room for all, and a budget of one: each turn's end may meet a send.
        let actor = Actor::new(3, 1, false);
        let (first, second) = (sender(&actor, 0, 2), sender(&actor, 1, 1));
        let accepted = first.join().unwrap() + second.join().unwrap();
        assert_eq!(accepted, 3, "there was room");
        assert_eq!(actor.settle(accepted), (3, 0));
    });
}

#[test]
fn a_full_mailbox_and_places_given_back_within_the_turn() {
    explore(3, || {
        // Room for one: a second message needs the place of the first, inside the same turn or
        // later.
        let actor = Actor::new(1, 2, true);
        let (first, second) = (sender(&actor, 0, 2), sender(&actor, 1, 1));
        let accepted = first.join().unwrap() + second.join().unwrap();
        assert!(accepted >= 1);
        assert_eq!(actor.settle(accepted), (accepted, 0));
    });
}

#[test]
fn a_stop_lets_what_was_accepted_be_handled() {
    explore(3, || {
        let actor = Actor::new(2, 1, false);
        let (first, second) = (sender(&actor, 0, 1), sender(&actor, 1, 1));
        actor.stop(false);
        assert!(!actor.tell(2, 1), "accepted after the stop");
        let accepted = first.join().unwrap() + second.join().unwrap();
        assert_eq!(actor.settle(accepted), (accepted, 0));
    });
}

#[test]
fn a_kill_makes_dead_letters() {
    explore(3, || {
        let actor = Actor::new(2, 2, false);
        let (first, second) = (sender(&actor, 0, 2), sender(&actor, 1, 1));
        actor.stop(true);
        let accepted = first.join().unwrap() + second.join().unwrap();
        let _either = actor.settle(accepted);
    });
}
