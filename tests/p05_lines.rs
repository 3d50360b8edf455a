//! Tests P5 beside long lines for room: a turn serves or refuses a bounded part of a line. All
//! waits are counted in messages instead of time.

mod common;

use common::*;
use heist::future::Sending;
use heist::*;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::task::{self, Poll, Waker};

/// Waiters in line, several times as many as a turn takes.
const LINE: u64 = 2_000;

/// Turns of another actor that come at least between the first waiter and the last one.
const TURNS_BETWEEN: u64 = 4;

/// Shared by the actors of a test: the messages that the busy actor has handled.
#[derive(Default)]
struct Beside {
    handled: AtomicU64,
    over: AtomicBool,
}

/// An actor with a mailbox that is never empty.
struct Busy(Arc<Beside>);

impl Actor for Busy {}

struct Go;

impl Handler<Go> for Busy {
    type Reply = ();
    fn handle(&mut self, _: Go, ctx: &mut Context<Self>) {
        self.0.handled.fetch_add(1, Relaxed);
        if !self.0.over.load(Relaxed) {
            ctx.tell_self(Go).unwrap();
        }
    }
}

/// Has the line. Reports what the busy actor had handled when the line was over, in its last message
/// or in its end.
struct Target(Arc<Beside>, Arc<AtomicU64>);

impl Actor for Target {
    fn stopped(&mut self, _: &StopReason) {
        self.1.store(self.0.handled.load(Relaxed), Relaxed);
    }
}

/// Opens the first latch and waits for the second.
struct Hold(Latch, Latch);

impl Handler<Hold> for Target {
    type Reply = ();
    fn handle(&mut self, Hold(inside, until): Hold, _: &mut Context<Self>) {
        inside.open();
        until.wait();
    }
}

struct Item;

impl Handler<Item> for Target {
    type Reply = ();
    fn handle(&mut self, _: Item, _: &mut Context<Self>) {}
}

/// Reports what the busy actor has handled until now.
struct Last;

impl Handler<Last> for Target {
    type Reply = ();
    fn handle(&mut self, _: Last, _: &mut Context<Self>) {
        self.1.store(self.0.handled.load(Relaxed), Relaxed);
    }
}

/// Asks for a notice of room.
struct Owner(ActorRef<Target>);

impl Actor for Owner {}

struct Queue;
struct Room;

impl Handler<Queue> for Owner {
    type Reply = ();
    fn handle(&mut self, _: Queue, ctx: &mut Context<Self>) {
        ctx.when_room(&self.0, Room).unwrap();
    }
}

impl Handler<Room> for Owner {
    type Reply = ();
    fn handle(&mut self, _: Room, _: &mut Context<Self>) {}
}

/// A target that fills the only worker of the executor, with a busy actor whose turn is next.
struct Setting {
    executor: Executor,
    beside: Arc<Beside>,
    last: Arc<AtomicU64>,
    target: ActorRef<Target>,
    until: Latch,
    _busy: ActorRef<Busy>,
}

impl Setting {
    fn new(capacity: usize) -> Self {
        let executor = crew(1);
        let (beside, last) = (Arc::<Beside>::default(), Arc::<AtomicU64>::default());
        let state = Target(Arc::clone(&beside), Arc::clone(&last));
        let target = executor.build(state).capacity(capacity).spawn();
        let busy = executor.build(Busy(Arc::clone(&beside))).budget_messages(1).spawn();
        settle(&executor);
        let (inside, until) = (Latch::new(), Latch::new());
        target.tell(Hold(inside.clone(), until.clone())).unwrap();
        inside.wait();
        target.tell_many((1..capacity).map(|_| Item)).unwrap();
        busy.tell(Go).unwrap();
        Setting { executor, beside, last, target, until, _busy: busy }
    }

    fn end(self) {
        self.beside.over.store(true, Relaxed);
        shut_down(&self.executor);
    }
}

fn begin<M: Send + 'static>(sending: &mut Sending<Target, M>)
where
    Target: Handler<M>,
{
    let mut context = task::Context::from_waker(Waker::noop());
    assert!(Pin::new(sending).poll(&mut context).is_pending());
}

#[test]
fn p05_an_actor_that_ends_refuses_a_part_of_its_line_in_a_turn() {
    let setting = Setting::new(2);
    let mut line: Vec<_> = (0..LINE).map(|_| setting.target.send_async(Item)).collect();
    line.iter_mut().for_each(begin);
    setting.target.stop_now();
    setting.until.open();
    assert_eq!(ended(&setting.target), StopReason::Killed);
    let mut context = task::Context::from_waker(Waker::noop());
    for mut sending in line {
        let refused = Pin::new(&mut sending).poll(&mut context);
        assert!(matches!(refused, Poll::Ready(Err(_))), "the whole line, before the end is told");
    }
    assert!(setting.last.load(Relaxed) >= TURNS_BETWEEN, "the worker was held up");
    setting.end();
}

/// All may have their notices at once, since a sender waits behind them.
#[test]
fn p05_a_turn_gives_notices_to_a_part_of_its_line() {
    let setting = Setting::new(2);
    let others = crew(2);
    let owner = |_| others.spawn(Owner(setting.target.clone()));
    let owners: Vec<_> = (0..LINE).map(owner).collect();
    owners.iter().for_each(|owner| owner.tell(Queue).unwrap());
    settle(&others);
    let mut last = setting.target.send_async(Last);
    begin(&mut last);
    setting.until.open();
    within(LONG, "the last one is handled", || setting.last.load(Relaxed) > 0);
    assert!(setting.last.load(Relaxed) >= TURNS_BETWEEN, "the worker was held up");
    setting.end();
    shut_down(&others);
}
