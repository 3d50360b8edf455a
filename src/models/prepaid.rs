//! Prepaid messages: the bound on ordinary ones is exact.
//!
//! Covers: never more ordinary messages in a mailbox than its capacity, while prepaid messages come
//! and a turn gives places back. The count of prepaid messages balances at the end. A full mailbox
//! in which a prepaid message lies accepts an ordinary message in its place.
//!
//! Does not cover: the inbox, and threads in line for room. Messages lie in a list that loom does
//! not see. Each entry is made and removed between two steps that loom sees, so the list is always
//! what the state word says.

use super::{explore, spawn};
use crate::cell::prepaid::Prepaid;
use crate::mailbox::state::{Reserve, State};
use crate::sync::Mutex;
use loom::sync::Arc;

const CAPACITY: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ordinary,
    Prepaid,
}

struct Mailbox {
    state: State,
    prepaid: Prepaid,
    /// The lock of the room list.
    room: Mutex<()>,
    /// Messages in the mailbox, the first `in_hand` of them in the turn.
    messages: std::sync::Mutex<Vec<Kind>>,
}

impl Mailbox {
    /// Makes a mailbox; its only runnable belongs to the caller.
    fn new() -> Arc<Self> {
        Arc::new(Mailbox {
            state: State::new(),
            prepaid: Prepaid::default(),
            room: Mutex::new(()),
            messages: std::sync::Mutex::default(),
        })
    }

    fn count(&self, kind: Kind) -> usize {
        self.messages.lock().unwrap().iter().filter(|&&one| one == kind).count()
    }

    /// Sends an ordinary message, like `cell::envelope::push_message`.
    fn send(&self) -> bool {
        // Without the lock first, like a sender that finds room by the length alone.
        let mut reserved = self.state.reserve_place(CAPACITY, false);
        if reserved == Reserve::Full && self.prepaid.has_any() {
            let _list = self.room.lock();
            reserved = self.state.reserve_place(CAPACITY + self.prepaid.read_count(), false);
            self.enter(reserved);
        } else {
            self.enter(reserved);
        }
        matches!(reserved, Reserve::Accepted { .. })
    }

    fn enter(&self, reserved: Reserve) {
        if let Reserve::Accepted { schedule } = reserved {
            assert!(!schedule, "the runnable exists throughout");
            self.messages.lock().unwrap().push(Kind::Ordinary);
            assert!(self.count(Kind::Ordinary) <= CAPACITY as usize, "more than the capacity");
        }
    }

    /// Sends a prepaid message.
    fn send_prepaid(&self) {
        // First the place, then the count, which must never be ahead of the length.
        assert!(matches!(self.state.reserve_exempt(), Reserve::Accepted { .. }));
        self.messages.lock().unwrap().push(Kind::Prepaid);
        self.prepaid.add_one();
    }

    /// Handles what waits, and gives the places back in the middle of the turn.
    fn handle(&self) {
        let _ = self.state.begin_turn();
        // loom switches threads only at steps that it sees, so the list changes together with the
        // step that gives the places back.
        let in_hand = self.messages.lock().unwrap().clone();
        let prepaid = in_hand.iter().filter(|&&kind| kind == Kind::Prepaid).count() as u32;
        if prepaid > 0 {
            let _list = self.room.lock();
            self.prepaid.subtract_handled(prepaid);
        }
        let _ = self.state.give_places_back(in_hand.len() as u32);
        self.messages.lock().unwrap().drain(..in_hand.len());
    }

    fn check(&self) {
        assert_eq!(self.prepaid.read_count() as usize, self.count(Kind::Prepaid));
        let free = self.count(Kind::Ordinary) < CAPACITY as usize;
        assert_eq!(self.send(), free, "an ordinary message counts ordinary ones only");
    }
}

#[test]
fn ordinary_messages_keep_their_bound_while_a_turn_gives_places_back() {
    explore(3, || {
        let mailbox = Mailbox::new();
        // The sender's first attempt may then find a full mailbox without an ordinary message.
        mailbox.send_prepaid();
        let sender = spawn(&mailbox, |mailbox| {
            mailbox.send();
            mailbox.send();
        });
        mailbox.handle();
        mailbox.handle();
        sender.join().unwrap();
        mailbox.check();
    });
}

#[test]
fn ordinary_messages_keep_their_bound_while_prepaid_ones_come() {
    explore(3, || {
        let mailbox = Mailbox::new();
        let timer = spawn(&mailbox, |mailbox| mailbox.send_prepaid());
        let sender = spawn(&mailbox, |mailbox| {
            mailbox.send();
            mailbox.send();
        });
        mailbox.handle();
        timer.join().unwrap();
        sender.join().unwrap();
        mailbox.check();
    });
}
