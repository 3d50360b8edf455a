//! An actor that takes batches, notes what comes in each call, and does in one what it is told.

use super::*;
use heist::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

pub(crate) type Act = Box<dyn FnOnce(&mut Context<Member>) + Send>;

/// What is to be done in a batch after its so-many-th message, from 1.
pub(crate) enum What {
    Panic,
    StopNow,
    Stop,
    /// Takes no more.
    Leave,
    Block,
    Do(Act),
}

/// The numbers in each call, one after another.
pub(crate) type Calls = Arc<Mutex<Vec<Vec<u64>>>>;

/// Notes what comes in each call, and answers with a number of its own for each.
#[derive(Default)]
pub(crate) struct Member {
    pub(crate) calls: Calls,
    /// For one batch each.
    pub(crate) plans: VecDeque<(usize, What)>,
    /// Answers are kept until the batch is over.
    pub(crate) at_the_end: bool,
    /// Takes nothing at all.
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

/// Each alone.
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

/// Of the same form as an item, and of another type.
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

/// A turn that goes on until the latch is open.
pub(crate) struct Pause(Latch, Latch);

impl Handler<Pause> for Member {
    type Reply = ();
    fn handle(&mut self, Pause(entered, until): Pause, _: &mut Context<Self>) {
        entered.open();
        blocking(|| until.wait()); // there may be but one worker
    }
}

/// The member's turn goes on until this is released.
pub(crate) fn pause(member: &ActorRef<Member>) -> Held {
    let (entered, until) = (Latch::new(), Latch::new());
    member.tell(Pause(entered.clone(), until.clone())).unwrap();
    entered.wait();
    Held::until(until)
}

pub(crate) fn calls_of(calls: &Calls) -> Vec<Vec<u64>> {
    calls.lock().unwrap().clone()
}

/// Spawns a member with these plans.
pub(crate) fn member(
    executor: &Executor,
    plans: impl IntoIterator<Item = (usize, What)>,
) -> (ActorRef<Member>, Calls) {
    let calls = Calls::default();
    let plans = plans.into_iter().collect();
    (executor.spawn(Member { plans, ..Member::new(&calls) }), calls)
}

pub(crate) fn dead(executor: &Executor) -> DeadLetters {
    executor.stats().dead_letters
}
