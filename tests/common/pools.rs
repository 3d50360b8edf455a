//! Provides a pool of replicas for tests. Each replica knows its index, answers, and can be kept
//! busy.

use super::*;
use heist::strategy::{Strategy, ToIndex};
use heist::{Actor, Context, Executor, Handler, Pool};

/// A replica that knows its index.
pub(crate) struct Worker {
    index: usize,
    handled: u64,
}

impl Actor for Worker {}

impl Worker {
    pub(crate) fn new(index: usize) -> Self {
        Worker { index, handled: 0 }
    }
}

/// Asks for the index of the replica that handles the message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Who;

impl Handler<Who> for Worker {
    type Reply = usize;
    fn handle(&mut self, _: Who, _: &mut Context<Self>) -> usize {
        self.handled += 1;
        self.index
    }
}

/// Blocks until the latch is open.
pub(crate) struct Block {
    inside: Latch,
    until: Latch,
}

impl Handler<Block> for Worker {
    type Reply = ();
    fn handle(&mut self, block: Block, _: &mut Context<Self>) {
        block.inside.open();
        block.until.wait();
    }
}

/// Answers with the number in the message.
#[derive(Clone)]
pub(crate) struct Echo(pub(crate) u64);

impl Handler<Echo> for Worker {
    type Reply = u64;
    fn handle(&mut self, Echo(n): Echo, _: &mut Context<Self>) -> u64 {
        n
    }
}

pub(crate) fn workers(executor: &Executor, replicas: usize) -> Pool<Worker> {
    executor.pool(replicas, Worker::new).build().expect("a valid pool")
}

/// Keeps a replica busy until the returned latch is opened.
pub(crate) fn occupy(pool: &Pool<Worker>, index: usize) -> Latch {
    let (inside, until) = (Latch::new(), Latch::new());
    pool.tell(ToIndex(index), Block { inside: inside.clone(), until: until.clone() }).unwrap();
    inside.wait();
    until
}

/// Waits until all replicas outside `busy` have empty mailboxes and have ended their turns.
pub(crate) fn rested(pool: &Pool<Worker>, busy: &[usize]) {
    within(LONG, "the others rest", || {
        (0..pool.len()).all(|i| busy.contains(&i) || pool.replica(i).unwrap().is_empty())
    });
}

/// Sends `messages` asks and returns how many each replica handled.
pub(crate) fn spread(pool: &Pool<Worker>, strategy: impl Strategy, messages: usize) -> Vec<usize> {
    let mut got = vec![0; pool.len()];
    for _ in 0..messages {
        got[answer(pool.ask(&strategy, Who).unwrap()).unwrap()] += 1;
    }
    got
}
