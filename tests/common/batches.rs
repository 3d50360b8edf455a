//! Provides an actor for tests of batches. `Member` records the messages of each call and follows a
//! plan.

use super::*;
use heist::stats::DeadLetterCounts;
use heist::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

pub(crate) type Act = Box<dyn FnOnce(&mut Context<Member>) + Send>;

/// A step of a plan, taken after the n-th message of a batch (counted from 1).
pub(crate) enum What {
    Panic,
    StopNow,
    Stop,
    /// Returns without taking more messages.
    Leave,
    Block,
    Do(Act),
}

/// The message numbers of each call, in the order of the calls.
pub(crate) type Calls = Arc<Mutex<Vec<Vec<u64>>>>;

/// Records the messages of each call and answers every message with its number plus 1000.
#[derive(Default)]
pub(crate) struct Member {
    pub(crate) calls: Calls,
    /// One plan for each batch.
    pub(crate) plans: VecDeque<(usize, What)>,
    /// Keeps all answers until the batch has ended.
    pub(crate) at_the_end: bool,
    /// Returns without taking any message.
    pub(crate) blind: bool,
}

impl Actor for Member {}

impl Member {
    pub(crate) fn new(calls: &Calls) -> Self {
        Member { calls: Arc::clone(calls), ..Member::default() }
    }

    fn begin(&self) {
        self.calls.lock().unwrap().push(Vec::new());
    }

    fn note(&self, n: u64) {
        self.calls.lock().unwrap().last_mut().unwrap().push(n);
    }
}

pub(crate) struct Item(pub(crate) u64, pub(crate) Option<Token>);

pub(crate) fn item(n: u64) -> Item {
    Item(n, None)
}

pub(crate) const LIMIT: usize = 4;

impl Receive<Item> for Member {
    type Reply = u64;
    const BATCH: usize = LIMIT;

    fn receive(&mut self, _: Item, _: Reply<u64>, _: &mut Context<Self>) {
        panic!("messages that may come in batches do so");
    }

    fn receive_batch(&mut self, mut batch: Batch<'_, Item, u64>, ctx: &mut Context<Self>) {
        self.begin();
        if self.blind {
            return;
        }
        let mut kept = Vec::new();
        let mut plan = self.plans.pop_front();
        for (taken, (Item(n, _token), reply)) in (1..).zip(batch.by_ref()) {
            self.note(n);
            match plan.take_if(|(after, _)| *after == taken).map(|(_, what)| what) {
                None => {}
                Some(What::Panic) => intended_panic(),
                Some(What::StopNow) => ctx.me().stop_now(),
                Some(What::Stop) => ctx.stop(),
                Some(What::Leave) => {
                    reply.send(n + 1000);
                    return;
                }
                Some(What::Block) => blocking(|| ()),
                Some(What::Do(act)) => act(ctx),
            }
            if self.at_the_end {
                kept.push((n, reply));
            } else {
                reply.send(n + 1000);
            }
        }
        assert!(batch.next().is_none(), "a batch that has ended goes on");
        kept.into_iter().for_each(|(n, reply)| reply.send(n + 1000));
    }
}

/// A message type without batches: each message is handled alone.
pub(crate) struct Single(pub(crate) u64);

impl Receive<Single> for Member {
    type Reply = u64;
    fn receive(&mut self, Single(n): Single, reply: Reply<u64>, _: &mut Context<Self>) {
        self.begin();
        self.note(n);
        reply.send(n + 1000);
    }
    fn receive_batch(&mut self, _: Batch<'_, Single, u64>, _: &mut Context<Self>) {
        panic!("they come alone");
    }
}

/// A message with the layout of `Item` but of another type.
pub(crate) struct Other(pub(crate) u64, pub(crate) Option<Token>);

impl Receive<Other> for Member {
    type Reply = u64;
    const BATCH: usize = LIMIT;
    fn receive(&mut self, Other(n, _token): Other, reply: Reply<u64>, _: &mut Context<Self>) {
        self.note(n);
        reply.send(n + 1000);
    }
    fn receive_batch(&mut self, batch: Batch<'_, Other, u64>, ctx: &mut Context<Self>) {
        self.begin();
        batch.for_each(|(other, reply)| self.receive(other, reply, ctx));
    }
}

/// Holds the turn until the second latch is open.
pub(crate) struct Pause(Latch, Latch);

impl Handler<Pause> for Member {
    type Reply = ();
    fn handle(&mut self, Pause(entered, until): Pause, _: &mut Context<Self>) {
        entered.open();
        blocking(|| until.wait()); // with one worker, a plain wait would stop the crew
    }
}

/// Holds `member` in a turn until the returned guard is released.
pub(crate) fn pause(member: &ActorRef<Member>) -> Held {
    let (entered, until) = (Latch::new(), Latch::new());
    member.tell(Pause(entered.clone(), until.clone())).unwrap();
    entered.wait();
    Held::until(until)
}

pub(crate) fn calls_of(calls: &Calls) -> Vec<Vec<u64>> {
    calls.lock().unwrap().clone()
}

/// Spawns a member with the given plans.
pub(crate) fn member(
    executor: &Executor,
    plans: impl IntoIterator<Item = (usize, What)>,
) -> (ActorRef<Member>, Calls) {
    let calls = Calls::default();
    let plans = plans.into_iter().collect();
    (executor.spawn(Member { plans, ..Member::new(&calls) }), calls)
}

pub(crate) fn dead(executor: &Executor) -> DeadLetterCounts {
    executor.stats().dead_letters
}
