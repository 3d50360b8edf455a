//! Tests of a queue's turn and a member's look, each beside a kill at one exact moment.

use super::QueueFinding;
use crate::actor::context::Context;
use crate::actor::refs::ActorRef;
use crate::actor::{Actor, Handler};
use crate::error::AskError;
use crate::executor::Executor;
use crate::pool::Pool;
use crate::pool::strategy::SharedQueue;
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

struct Question;

impl Handler<Question> for Replica {
    type Reply = ();
    fn handle(&mut self, Question: Question, _: &mut Context<Self>) {
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
        let mut ask = pool.ask(SharedQueue, Question).unwrap();
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
        unsafe { crate::cell::header::Header::schedule(queue) };
        assert_eq!(ask.wait_timeout(Duration::from_secs(60)), Err(AskError::Stopped));
        until.send(()).unwrap();
    });
}

#[test]
fn a_replica_takes_nothing_from_a_killed_queue() {
    with_busy_replica(|pool, replica, until| {
        let mut ask = pool.ask(SharedQueue, Question).unwrap();
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
