//! State word and inbox: a queue from which several members take.
//!
//! Covers: no message stays in the queue while a member is idle, whether senders, the queue's turn,
//! members that look, and messages to a member's own mailbox meet. Each message is handled once. A
//! queue that closes while it is held goes on to its end. A queue that is killed at any moment of
//! its turn ends while its members are busy.
//!
//! Does not cover: waiting for room in the queue (see `room`), members that end. The queue's turn,
//! `look` and the state under the lock are copies of `cell::shared`'s. Turns run on the scheduling
//! thread, after its current work.

use super::{explore, spawn};
use crate::mailbox::inbox::Inbox;
use crate::mailbox::link::Node;
use crate::mailbox::state::{EndTurn, Reserve, State};
use crate::sync::Mutex;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::ptr::NonNull;

/// A mailbox, of a member or of the queue.
struct Cell {
    state: State,
    inbox: Inbox,
    /// For a member: touched in its turns.
    handled: UnsafeCell<u32>,
}

impl Cell {
    /// Makes a cell with its first turn over.
    fn new() -> Self {
        let cell = Cell { state: State::new(), inbox: Inbox::new(), handled: UnsafeCell::new(0) };
        assert_eq!(cell.state.end_turn(0, false), EndTurn::Idle);
        cell
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Turn {
    Queue,
    Member(usize),
}

struct Pool {
    queue: Cell,
    members: Vec<Cell>,
    held: Mutex<bool>,
    /// The members that were asked to look, and have not looked. Touched under the lock of `held`.
    asked: UnsafeCell<Vec<bool>>,
    /// Messages of the queue that its end has discarded.
    discarded: UnsafeCell<u32>,
}

/// Runnables scheduled by one thread.
#[derive(Default)]
struct TurnQueue(Vec<Turn>);

impl Pool {
    fn new(members: usize) -> Arc<Self> {
        let asked = UnsafeCell::new(vec![false; members]);
        let members = (0..members).map(|_| Cell::new()).collect();
        Arc::new(Pool {
            queue: Cell::new(),
            members,
            held: Mutex::new(false),
            asked,
            discarded: UnsafeCell::new(0),
        })
    }

    fn cell(&self, turn: Turn) -> &Cell {
        match turn {
            Turn::Queue => &self.queue,
            Turn::Member(index) => &self.members[index],
        }
    }

    /// Sends, and runs the turns that follow. Returns `false` if the mailbox is closed.
    fn send(&self, to: Turn) -> bool {
        let cell = self.cell(to);
        // Never full: waiting for room is not part of the model.
        let Reserve::Accepted { schedule } = cell.state.reserve_place(100, false) else {
            return false;
        };
        // SAFETY: the node is given up here, and a turn frees it once.
        unsafe { cell.inbox.push(Box::into_raw(Box::new(Node::new()))) };
        if schedule {
            self.work(to);
        }
        true
    }

    fn work(&self, first: Turn) {
        let mut worker = TurnQueue(vec![first]);
        while !worker.0.is_empty() {
            match worker.0.remove(0) {
                Turn::Queue => self.queue_turn(&mut worker),
                Turn::Member(index) => self.member_turn(index, &mut worker),
            }
        }
    }

    fn queue_turn(&self, worker: &mut TurnQueue) {
        let killed = self.queue.state.begin_turn().is_killed();
        let given = if killed {
            0
        } else {
            let mut held = self.held.lock();
            let mut given = 0;
            loop {
                // SAFETY: the caller holds the lock and the queue's runnable, so it is the only
                // receiver.
                let Some(node) = (unsafe { self.queue.inbox.pop(NonNull::dangling()) }) else {
                    break;
                };
                let Some(member) = self.idle_member() else {
                    // SAFETY: the caller holds the lock and the queue's runnable, and the node has
                    // just been popped.
                    unsafe { self.queue.inbox.put_back(node) };
                    // A killed queue goes on to its end. The look is under the lock that `close`
                    // takes after the flag.
                    *held = !self.queue.state.load_snapshot().is_killed();
                    break;
                };
                // SAFETY: `idle_member` reserved a place for the node, which is given up here.
                unsafe { self.members[member].inbox.push(node) };
                worker.0.push(Turn::Member(member));
                given += 1;
            }
            if given > 0 {
                let _rest = self.queue.state.give_places_back(given);
            }
            // A held queue keeps its runnable, so that members can take from it under the lock. The
            // runnable stays with the queue: the member that takes the last message pushes it.
            if *held {
                return;
            }
            given
        };
        // Nothing is owed: the places were given back above. No sender waits in line here.
        match self.queue.state.end_turn(0, true) {
            EndTurn::Idle => {}
            EndTurn::More { .. } => {
                if given == 0 {
                    thread::yield_now(); // the gap
                }
                worker.0.push(Turn::Queue);
            }
            EndTurn::Ending => self.end_queue(worker),
            other => unreachable!("{other:?}"),
        }
    }

    fn end_queue(&self, worker: &mut TurnQueue) {
        let mut discarded = 0;
        // SAFETY: the caller holds the queue's runnable, which no member has any more.
        while let Some(node) = unsafe { self.queue.inbox.pop(NonNull::dangling()) } {
            // SAFETY: `send` made the node from a box, and it was popped once.
            drop(unsafe { Box::from_raw(node) });
            discarded += 1;
        }
        // SAFETY: only the runnable's holder counts; loom's cell reports a second one.
        self.discarded.with_mut(|all| unsafe { *all += discarded });
        if self.queue.state.give_places_back(discarded).len() > 0 {
            thread::yield_now(); // the gap
            return worker.0.push(Turn::Queue);
        }
        let dead = self.queue.state.set_dead(true);
        assert!(dead.is_some());
    }

    fn idle_member(&self) -> Option<usize> {
        let state = |index: usize| &self.members[index].state;
        self.asked.with_mut(|asked| {
            // SAFETY: the caller holds the lock; loom's cell reports an unordered access.
            let asked = unsafe { &mut *asked };
            let unasked: Vec<_> = (0..asked.len()).filter(|&index| !asked[index]).collect();
            // A member that is asked must look at the queue before it goes idle. So each is asked
            // once, and tried again.
            unasked.iter().copied().find(|&index| state(index).reserve_idle()).or_else(|| {
                unasked.into_iter().find(|&index| {
                    asked[index] = true;
                    state(index).request_queue_check() && state(index).reserve_idle()
                })
            })
        })
    }

    fn look(&self, index: usize, worker: &mut TurnQueue) {
        let member = &self.members[index];
        let mut held = self.held.lock();
        // Nothing to take: the member may go idle.
        if !*held || !self.take(member, &mut held, worker) {
            // SAFETY: under the lock; loom's cell reports an unordered access.
            self.asked.with_mut(|asked| unsafe { (&mut *asked)[index] = false });
            member.state.clear_queue_check();
        }
    }

    fn take(&self, member: &Cell, held: &mut bool, worker: &mut TurnQueue) -> bool {
        // The messages of a killed queue are its end's.
        if self.queue.state.load_snapshot().is_killed() {
            *held = false;
            worker.0.push(Turn::Queue);
            return false;
        }
        // First a place at the member, which may be closed. Then no message has been popped.
        let Reserve::Accepted { .. } = member.state.reserve_exempt() else { return false };
        // SAFETY: the caller holds the lock, and the held queue's runnable lies under the lock.
        let Some(node) = (unsafe { self.queue.inbox.pop(NonNull::dangling()) }) else {
            let _rest = member.state.give_places_back(1);
            *held = false;
            worker.0.push(Turn::Queue);
            return false;
        };
        // SAFETY: `reserve_exempt` reserved a place for the node, which is given up here.
        unsafe { member.inbox.push(node) };
        let rest = self.queue.state.give_places_back(1);
        if rest.len() == 0 || rest.is_killed() {
            *held = false;
            worker.0.push(Turn::Queue);
        }
        true
    }

    fn close(&self, kill: bool) {
        if self.queue.state.set_closed(kill) {
            // Closing an idle queue schedules its last turn.
            return self.work(Turn::Queue);
        }
        let mut held = self.held.lock();
        // A held queue has no turn that would see the close, so its runnable is pushed.
        if std::mem::take(&mut *held) {
            drop(held);
            self.work(Turn::Queue);
        }
    }

    fn member_turn(&self, index: usize, worker: &mut TurnQueue) {
        let member = &self.members[index];
        let waiting = member.state.begin_turn().len();
        let (mut total, mut served) = (0, false);
        // SAFETY: the caller holds the member's runnable, and `send` made the node from a box.
        while total < waiting
            && let Some(node) = unsafe { member.inbox.pop(NonNull::dangling()) }
        {
            // SAFETY: the node was popped once. Only the runnable's holder counts; loom's cell
            // reports a second one.
            drop(unsafe { Box::from_raw(node) });
            member.handled.with_mut(|handled| unsafe { *handled += 1 });
            total += 1;
        }
        let mut owed = total;
        loop {
            match member.state.end_turn(owed, served) {
                EndTurn::Idle => return,
                EndTurn::More { .. } => {
                    if total == 0 && waiting > 0 {
                        thread::yield_now(); // the gap
                    }
                    return worker.0.push(Turn::Member(index));
                }
                EndTurn::CheckQueue => self.look(index, worker),
                other => unreachable!("{other:?}"),
            }
            (owed, served) = (0, true);
        }
    }

    fn settle(&self, accepted: u32) {
        assert_eq!(self.queue.state.load_snapshot().len(), 0, "left in the queue");
        // SAFETY: all threads have ended; loom's cell reports an unordered write.
        let handled = |member: &Cell| member.handled.with(|handled| unsafe { *handled });
        // SAFETY: the same.
        let discarded = self.discarded.with(|discarded| unsafe { *discarded });
        assert_eq!(self.members.iter().map(handled).sum::<u32>() + discarded, accepted);
    }
}

#[test]
fn nothing_stays_in_the_queue_while_a_member_is_idle() {
    explore(2, || {
        let pool = Pool::new(1);
        let shared = spawn(&pool, |pool| assert!(pool.send(Turn::Queue)));
        let own = spawn(&pool, |pool| assert!(pool.send(Turn::Member(0))));
        assert!(pool.send(Turn::Queue));
        shared.join().unwrap();
        own.join().unwrap();
        pool.settle(3);
        assert!(pool.send(Turn::Queue));
        pool.settle(4);
    });
}

#[test]
fn two_members_and_one_queue() {
    explore(2, || {
        let pool = Pool::new(2);
        let others = [(); 2].map(|()| spawn(&pool, |pool| assert!(pool.send(Turn::Queue))));
        assert!(pool.send(Turn::Member(0)));
        others.into_iter().for_each(|other| other.join().unwrap());
        pool.settle(3);
    });
}

#[test]
fn a_queue_that_closes_gives_away_what_it_has_and_ends() {
    explore(3, || {
        let pool = Pool::new(1);
        let sent = spawn(&pool, |pool| u32::from(pool.send(Turn::Queue)));
        let own = spawn(&pool, |pool| assert!(pool.send(Turn::Member(0))));
        pool.close(false);
        let sent = sent.join().unwrap();
        own.join().unwrap();
        pool.settle(1 + sent);
        assert!(pool.queue.state.load_snapshot().is_dead(), "it has ended");
    });
}

#[test]
fn a_queue_that_is_killed_ends_while_its_member_is_busy() {
    explore(3, || {
        let pool = Pool::new(1);
        // The member's runnable exists, and its turn comes after everything else.
        assert!(pool.members[0].state.reserve_idle());
        // SAFETY: the place was reserved for the node, and a turn frees it once.
        unsafe { pool.members[0].inbox.push(Box::into_raw(Box::new(Node::new()))) };
        let sent = spawn(&pool, |pool| u32::from(pool.send(Turn::Queue)));
        pool.close(true);
        let sent = sent.join().unwrap();
        assert!(pool.queue.state.load_snapshot().is_dead(), "it has ended beside the busy member");
        pool.work(Turn::Member(0));
        pool.settle(1 + sent);
    });
}

#[test]
fn a_member_and_the_kill_of_a_held_queue() {
    explore(3, || {
        let pool = Pool::new(1);
        assert!(pool.members[0].state.reserve_idle());
        // SAFETY: the place was reserved for the node, and a turn frees it once.
        unsafe { pool.members[0].inbox.push(Box::into_raw(Box::new(Node::new()))) };
        assert!(pool.send(Turn::Queue), "all are busy, so the queue is held");
        let member = spawn(&pool, |pool| pool.work(Turn::Member(0)));
        pool.close(true);
        member.join().unwrap();
        pool.settle(2);
        assert!(pool.queue.state.load_snapshot().is_dead(), "it has ended");
    });
}
