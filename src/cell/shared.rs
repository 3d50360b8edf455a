//! A mailbox from which several actors take: a pool's shared queue.
//!
//! The queue is a cell of its own without an actor. So its bound, close, waiting for room,
//! references and accounts are those of any mailbox, and senders notice no difference. Only the
//! turn is special: each message goes to an idle *member*, which handles it like a message of its
//! own. (All members are of the same type, for which the envelopes are made.)
//!
//! A message is never put behind another message of a member. An idle member is given the message,
//! or a member takes it at the end of a turn. In both cases the message goes where ticks go, before
//! the messages in the member's own mailbox. So a message waits in the queue as long as all members
//! are busy, and for nothing but a worker from then on. A member with a mailbox that is never empty
//! takes one message at each turn's end, so neither mailbox starves.
//!
//! Both ends decide by one word, the member's own:
//!
//! | the queue's turn | the member | so |
//! |---|---|---|
//! | `reserve_idle` | idle | is scheduled with one message: the queue's turn pushes its runnable |
//! | all are scheduled: `CHECK_QUEUE` is set | scheduled | looks at the queue before it goes idle |
//! | the same | went idle just before | `request_queue_check` says so: `reserve_idle` |
//! | none was idle: keeps the runnable (*held*) | | a member that looks finds it |
//!
//! A member that looks, under the lock, finds the queue held or not held. If it is held the member
//! takes one message, and the runnable stays held as long as more messages wait. If it is not held,
//! nothing waits, or the queue's turn is still to come and will see this member idle or want it
//! again. Then the member clears `CHECK_QUEUE`. A member that was asked is not asked again before
//! it has looked ([`members`](super::members)).
//!
//! **The right to take** is the lock, under which no user code runs. **While the queue is held**
//! its runnable is in no other queue. Closing the queue, or a member's leaving, pushes the
//! runnable. A killed queue is not held, since the turn looks at the word again under the lock. An
//! executor with a held queue is not quiescent, since all members are scheduled.
//!
//! Loom model: `models::shared`. Needed orderings: `cargo xtask weaken`, group `state`
//! (model `shared`).

use super::counted::Strong;
use super::end;
use super::envelope::Envelope;
use super::header::{Header, Reason};
use super::room;
use super::sharing::{SharedQueue, Sharing};
use crate::mailbox::link::Node;
use crate::mailbox::state::{EndTurn, Reserve};
use crate::sched::runnable::After;
use crate::sync::chaos;
use std::ptr::NonNull;

impl Sharing {
    /// Moves all messages of a hold into a mailbox, behind the messages there, and ends the hold.
    /// Senders that wait for room in the hold are refused, and so are later messages. The caller
    /// ensures that no sender is on the way into the hold.
    pub(crate) fn move_to(&self, to: &Strong) {
        let target = to.header();
        let mut inner = self.0.lock();
        // Without the runnable the hold was killed, and all messages are dead letters.
        let Some(queue) = inner.queue.filter(|_| inner.held) else { return };
        inner.held = false;
        // SAFETY: the hold has not ended, and until it is scheduled its runnable belongs to this
        // call. So this thread is the receiver. `to` is a strong reference to a cell of the same
        // type.
        unsafe {
            let hold = queue.as_ref();
            let mut moved = 0;
            while let Some(node) = hold.inbox.pop(queue.cast()) {
                let Reserve::Accepted { schedule } = target.state.reserve_exempt() else {
                    // Closed, or at the greatest length: the rest becomes dead letters in the
                    // hold's last turn.
                    hold.inbox.put_back(node);
                    break;
                };
                let sent = Envelope::sent_at(Envelope::from_node(node));
                if target.inbox.push(node)
                    && let (Some(stopwatch), Some(sent)) = (target.stopwatch(), sent)
                {
                    stopwatch.pushed_first(sent);
                }
                moved += 1;
                // For each message, since the actor may become idle in between.
                if schedule {
                    Header::schedule(to.as_ptr());
                }
            }
            // With leftovers the hold is killed: they are dead letters.
            let rest = hold.state.give_places_back(moved);
            let scheduled = hold.state.set_closed(rest.len() > 0);
            debug_assert!(!scheduled, "we hold the runnable");
            Header::schedule(queue);
        }
    }
}

/// The finding of a queue's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum QueueFinding {
    /// All linked messages have been given away, this many.
    Given(u32),
    /// No member is idle, and the runnable is held.
    AllBusy,
    /// There are no members, so no message will ever be taken.
    Nobody,
}

impl SharedQueue {
    /// Gives messages to idle members. For the holder of the queue's runnable.
    fn give_to_idle(&mut self, queue: &Header) -> QueueFinding {
        if self.members.len() == 0 {
            return if queue.state.load_snapshot().len() > 0 {
                QueueFinding::Nobody
            } else {
                QueueFinding::Given(0)
            };
        }
        // A message is popped before a member is reserved, since a reserved place needs a message.
        let mut given = 0;
        let found = loop {
            // SAFETY: under the lock and with the runnable, so this thread is the receiver.
            let Some(node) = (unsafe { queue.inbox.pop(NonNull::from(queue).cast()) }) else {
                break QueueFinding::Given(given);
            };
            match self.members.reserve_idle() {
                // SAFETY: the reserved place keeps the member, and by the transition this thread
                // pushes the runnable.
                Some(member) => unsafe {
                    self.put_at_member(member, node);
                    Header::schedule(member);
                    given += 1;
                },
                None => {
                    // SAFETY: this thread is still the receiver, and `node` was popped last.
                    unsafe { queue.inbox.put_back(node) };
                    break QueueFinding::AllBusy;
                }
            }
        };
        // SAFETY: this thread holds the lock and the runnable.
        unsafe { note_first_message(queue) };
        if given > 0 && queue.state.give_places_back(given).has_waiters() {
            // Senders in line for room come first. The turn ends here and comes again.
            return QueueFinding::Given(given);
        }
        if found == QueueFinding::AllBusy && queue.state.load_snapshot().is_killed() {
            // The thread that kills the queue sets the flag and then takes this lock to push a held
            // runnable. A kill before this look is seen here, and a later kill finds the runnable.
            return QueueFinding::Given(given);
        }
        self.held = found == QueueFinding::AllBusy;
        found
    }

    /// Takes a message of the held queue for a member in a turn. Returns `false` if there is none.
    fn take_for_member(&mut self, member: NonNull<Header>) -> bool {
        let Some(queue) = self.queue.filter(|_| self.held) else { return false };
        // SAFETY: the member is in its turn, and the queue has not ended, so both live. Under the
        // lock, while the queue is held, this thread is the queue's receiver.
        unsafe {
            let state = &member.as_ref().state;
            if queue.as_ref().state.load_snapshot().is_killed() {
                // All messages are dead letters, and the thread that kills comes to this lock yet.
                self.release_runnable();
                return false;
            }
            let Reserve::Accepted { .. } = state.reserve_exempt() else { return false };
            let Some(node) = queue.as_ref().inbox.pop(queue.cast()) else {
                // A sender has reserved and not linked yet. The queue's own turn waits for that
                // message.
                let _still_scheduled = state.give_places_back(1);
                self.release_runnable();
                return false;
            };
            self.put_at_member(member, node);
            note_first_message(queue.as_ref());
            let rest = queue.as_ref().state.give_places_back(1);
            if rest.is_from_outside() {
                state.mark_outside();
            }
            if rest.len() == 0 || rest.has_waiters() || rest.is_killed() {
                self.release_runnable(); // the queue's own turn decides
            }
        }
        true
    }

    /// Puts a message where the member finds it before the messages of its own mailbox.
    ///
    /// # Safety
    /// A place is reserved for the message, and the caller gives up the only pointer to it. The
    /// message is of this queue.
    unsafe fn put_at_member(&mut self, member: NonNull<Header>, node: *mut Node) {
        // SAFETY: the reserved place keeps the member. The node was popped, so it is on no queue
        // and this is the only pointer to the envelope.
        unsafe {
            let (member, envelope) = (member.as_ref(), Envelope::from_node(node));
            // Marked before the note exists, so the note is removed before the ask's memory goes.
            if Envelope::mark_if_ask(envelope) {
                self.taken.insert(node.addr(), member.id());
            }
            let cold = member.cold();
            if let Some(stopwatch) = &cold.stopwatch {
                stopwatch.pushing_tick(cold.ticks.inbox(), Envelope::sent_at(envelope));
            }
            cold.ticks.inbox().push(node);
        }
    }
}

/// Tells a timed queue's stopwatch which message is first now.
///
/// # Safety
/// The caller has the right to take.
unsafe fn note_first_message(queue: &Header) {
    if let Some(stopwatch) = queue.stopwatch() {
        // SAFETY: with the right to take this thread is the receiver.
        unsafe { stopwatch.first_is(queue.inbox.load_taken()) };
    }
}

/// Runs the turn of a queue.
///
/// # Safety
/// The caller holds the runnable and gives it up. If the result is `Gone` the caller does not touch
/// the cell any more.
pub(super) unsafe fn run_queue_turn(this: NonNull<Header>) -> After {
    // SAFETY: the runnable keeps the cell until it is held, or until a transition gives it up.
    let header = unsafe { this.as_ref() };
    let sharing = &header.supervised().expect("set before its first turn").sharing;
    let now = header.state.begin_turn();
    // Waiting senders first, so the queue gives their messages to members in this turn.
    if now.has_waiters() && !now.is_closed() {
        room::serve_line(this);
    }
    let mut given = 0;
    if !now.is_killed() {
        chaos();
        // Bound to a name first: as the scrutinee of the match the lock would be held until its
        // end.
        let found = sharing.0.lock().give_to_idle(header);
        match found {
            // The runnable is held, and a member may have taken the last message already: the cell
            // must not be touched.
            QueueFinding::AllBusy => return After::Gone,
            QueueFinding::Given(messages) => given = messages,
            QueueFinding::Nobody => {
                if header.core().is_draining() {
                    // The members have ended in the shutdown, before the actors are closed.
                    header.reason.set(Reason::Shutdown);
                }
                let scheduled = header.state.set_closed(true);
                debug_assert!(!scheduled, "we hold the runnable");
            }
        }
    }
    // No places are owed, since `give_to_idle` has given them back.
    match header.state.end_turn(0, true) {
        EndTurn::Idle => return After::Gone,
        EndTurn::More { .. } if given == 0 => return After::RequeueGap,
        EndTurn::More { from_outside: true } => return After::RequeueOutside,
        EndTurn::More { from_outside: false } | EndTurn::ServeRoom => return After::Requeue,
        EndTurn::Ending | EndTurn::Unreferenced => {}
        EndTurn::CheckQueue | EndTurn::Retire => {
            unreachable!("a queue is no member, and has no state")
        }
    }
    // SAFETY: these endings leave the runnable with this turn, and `begin_ending` is called before
    // `run_ending_turn`.
    unsafe {
        end::begin_ending(header);
        end::run_ending_turn(this)
    }
}

/// Looks at the queue at the end of a member's turn. Afterwards the member has one message more, or
/// `CHECK_QUEUE` is cleared.
pub(super) fn check_queue(this: NonNull<Header>) {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    let Some(supervised) = header.supervised() else { return };
    chaos();
    let mut inner = supervised.sharing.0.lock();
    // Cleared under the lock, under which the queue's turn sets it, so a new request is never lost.
    if !inner.take_for_member(this) {
        inner.members.note_looked(this);
        header.state.clear_queue_check();
    }
}

/// Tests of a queue's turn and a member's look, each beside a kill at one exact moment.
#[cfg(all(test, not(heist_loom), feature = "pool"))]
mod tests {
    use super::*;
    use crate::actor::context::Context;
    use crate::actor::refs::ActorRef;
    use crate::actor::{Actor, Handler};
    use crate::error::AskError;
    use crate::executor::Executor;
    use crate::pool::Pool;
    use crate::pool::strategy::{SharedQueue, ToIndex};
    use crate::time::Duration;
    use crossbeam_channel::{Receiver, Sender, bounded};

    struct Replica;

    impl Actor for Replica {}

    /// Reports its turn, and stays in it.
    struct Stay(Sender<()>, Receiver<()>);

    impl Handler<Stay> for Replica {
        type Reply = ();
        fn handle(&mut self, Stay(inside, until): Stay, _: &mut Context<Self>) {
            inside.send(()).unwrap();
            until.recv().unwrap();
        }
    }

    struct Unhandled;

    impl Handler<Unhandled> for Replica {
        type Reply = ();
        fn handle(&mut self, Unhandled: Unhandled, _: &mut Context<Self>) {
            unreachable!("the queue was killed before");
        }
    }

    /// Runs `test` with a pool whose only replica is busy until the sender is used.
    fn with_busy_replica(test: impl FnOnce(&Pool<Replica>, &ActorRef<Replica>, Sender<()>)) {
        let executor = Executor::builder().workers(2).build().unwrap();
        let pool = executor.pool(1, |_| Replica).build().unwrap();
        let replica = pool.replica(0).unwrap();
        let ((inside, is_inside), (until, leaves)) = (bounded(1), bounded(1));
        replica.tell(Stay(inside, leaves)).unwrap();
        is_inside.recv().unwrap();
        test(&pool, &replica, until);
    }

    /// Returns when the queue is held. Then the test may act for the queue's turn.
    fn wait_until_held(replica: &ActorRef<Replica>) {
        let sharing = &replica.header().supervised().unwrap().sharing;
        while !sharing.0.lock().held {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_queue_that_is_killed_as_its_turn_begins_does_not_wait_for_a_busy_replica() {
        with_busy_replica(|pool, replica, until| {
            let mut ask = pool.ask(SharedQueue, Unhandled).unwrap();
            wait_until_held(replica);
            let queue = {
                let mut inner = replica.header().supervised().unwrap().sharing.0.lock();
                let queue = inner.queue.unwrap();
                // The runnable is the test's now, as in a turn that has begun.
                inner.held = false;
                // SAFETY: the queue has not ended, since the test holds its runnable.
                let header = unsafe { queue.as_ref() };
                assert!(!header.state.set_closed(true), "a turn is under way");
                assert_ne!(inner.give_to_idle(header), QueueFinding::AllBusy);
                queue
            };
            // SAFETY: the test holds the runnable and gives it up.
            unsafe { Header::schedule(queue) };
            assert_eq!(ask.wait_timeout(Duration::from_secs(60)), Err(AskError::Stopped));
            until.send(()).unwrap();
        });
    }

    #[test]
    fn a_replica_takes_nothing_from_a_killed_queue() {
        with_busy_replica(|pool, replica, until| {
            let mut ask = pool.ask(SharedQueue, Unhandled).unwrap();
            wait_until_held(replica);
            {
                let inner = replica.header().supervised().unwrap().sharing.0.lock();
                // SAFETY: a queue that is held has not ended, and the list is locked.
                let queue = unsafe { inner.queue.unwrap().as_ref() };
                // The first half of a kill. The second half pushes the runnable.
                assert!(inner.held && !queue.state.set_closed(true));
            }
            until.send(()).unwrap();
            // The replica's look pushes the runnable.
            assert_eq!(ask.wait_timeout(Duration::from_secs(60)), Err(AskError::Stopped));
        });
    }

    #[test]
    fn a_replica_that_was_asked_to_look_is_not_asked_again_before_it_has_looked() {
        const ALL: usize = 1000;
        let executor = Executor::builder().workers(1).build().unwrap();
        let pool = executor.pool(ALL, |_| Replica).build().unwrap();
        let unasked = |pool: &Pool<Replica>| {
            let replica = pool.replica(0).unwrap();
            let sharing = &replica.header().supervised().unwrap().sharing;
            let inner = sharing.0.lock();
            (inner.members.len(), inner.members.check_places())
        };
        executor.wait_idle().unwrap();
        assert_eq!(unasked(&pool), (ALL, ALL));
        let ((inside, is_inside), (until, leaves)) = (bounded(1), bounded(ALL));
        pool.tell(ToIndex(0), Stay(inside, leaves.clone())).unwrap();
        is_inside.recv().unwrap();
        // The only worker is in a turn, so all others have a turn to come.
        let (inside, _are_inside) = bounded(ALL);
        for index in 1..ALL {
            pool.tell(ToIndex(index), Stay(inside.clone(), leaves.clone())).unwrap();
        }
        {
            let replica = pool.replica(0).unwrap();
            let mut inner = replica.header().supervised().unwrap().sharing.0.lock();
            assert_eq!(inner.members.reserve_idle(), None);
            assert_eq!(inner.members.check_places(), 0, "all are asked");
        }
        (0..ALL).for_each(|_| until.send(()).unwrap());
        executor.wait_idle().unwrap();
        assert_eq!(unasked(&pool), (ALL, ALL), "all have looked");
        // Members leave from the middle of the list.
        for left in [700, 650, 30] {
            pool.resize(left).unwrap();
            executor.wait_idle().unwrap();
            assert_eq!(unasked(&pool), (left, left));
        }
    }
}
