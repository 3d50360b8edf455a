//! Tests P7: what an actor waits for may change during the wait, and user code may hide a wait for
//! a while. The table of waits is right at every instant, so that each cycle is refused.

mod common;

use common::*;
use heist::strategy::{Replicas, Route, SharedQueue, Strategy, ToIndex};
use heist::thread::WorkerThread;
use heist::{
    Actor, ActorRef, Ask, AskError, Context, Executor, Handler, Pool, Receive, Refusal, Reply,
};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

fn named(executor: &Executor, name: &str) -> ActorRef<Puppet> {
    executor.build(Puppet::default()).name(name).spawn()
}

fn wait<R>(mut ask: Ask<R>) -> Result<R, AskError> {
    ask.wait_timeout(Duration::from_secs(LONG))
}

/// Returns the sorted names of the cycle for which a wait was refused, or nothing if it succeeded.
fn cycle<R>(result: Result<R, AskError>) -> Vec<String> {
    let Err(error) = result else { return Vec::new() };
    let Some(cycle) = error.cycle() else { panic!("{error}") };
    let mut names: Vec<_> =
        cycle.actors().iter().map(|actor| actor.name.as_deref().unwrap().to_string()).collect();
    names.sort();
    names
}

/// Polls until the table holds exactly `waits`.
#[track_caller]
fn until_waits(executor: &Executor, waits: &[(&str, &str)]) {
    let name = |name: &Option<Arc<str>>| name.clone().unwrap_or_default();
    within(LONG, &format!("the waits are {waits:?}"), || {
        let all = executor.waits();
        let all: Vec<_> =
            all.iter().map(|wait| (name(&wait.actor.name), name(&wait.target.name))).collect();
        all.len() == waits.len()
            && waits
                .iter()
                .all(|(who, whom)| all.iter().any(|(a, b)| (&**a, &**b) == (*who, *whom)))
    });
}

/// A replica of a pool that runs a function.
struct Replica;
impl Actor for Replica {}
struct Do(Box<dyn FnOnce() -> Vec<String> + Send>);
impl Handler<Do> for Replica {
    type Reply = Vec<String>;
    fn handle(&mut self, Do(f): Do, _: &mut Context<Self>) -> Vec<String> {
        f()
    }
}

fn nothing() -> Do {
    Do(Box::new(Vec::new))
}

/// Blocks a replica until the returned latch is opened, then runs `then`. Fills the replica's
/// mailbox.
fn occupy(
    pool: &Pool<Replica>,
    index: usize,
    then: impl FnOnce() -> Vec<String> + Send + 'static,
) -> (Latch, Ask<Vec<String>>) {
    let (inside, until) = (Latch::new(), Latch::new());
    let (entered, opened) = (inside.clone(), until.clone());
    let blocks = Do(Box::new(move || {
        entered.open();
        heist::blocking(|| opened.wait());
        then()
    }));
    let asked = pool.ask(ToIndex(index), blocks).unwrap();
    inside.wait();
    while pool.tell(ToIndex(index), nothing()).is_ok() {}
    (until, asked)
}

/// Routes to the last replica.
struct Last;
impl Strategy for Last {
    fn route(&self, replicas: &Replicas<'_>) -> Route {
        Route::Index(replicas.len() - 1)
    }
}

/// A stale target in the table would hide the cycle through the second replica.
#[test]
fn p07_a_send_that_goes_on_to_another_replica_waits_for_that_one() {
    let executor = crew(2);
    let pool = executor.pool(2, |_| Replica).name("replica").capacity(1).build().unwrap();
    let sender = named(&executor, "sender");
    let back = sender.clone();
    let (first, asks_back) = occupy(&pool, 0, move || cycle(wait(back.ask(Note(1)).unwrap())));
    let (second, leaves) = occupy(&pool, 1, Vec::new);
    let to = pool.clone();
    let sends = sender.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        to.send_timeout(Last, nothing(), Duration::from_secs(LONG)).map_err(|error| error.refusal())
    }));
    until_waits(&executor, &[("sender", "replica-1")]);
    // The place in line comes back, and the sender takes another, behind the first replica's
    // messages.
    pool.shrink(1).unwrap();
    second.open();
    until_waits(&executor, &[("sender", "replica-0")]);
    first.open();
    assert_eq!(answer(asks_back), Ok(vec!["replica-0".to_string(), "sender".to_string()]));
    assert_eq!(answer(sends.unwrap()), Ok(Ok(())));
    assert_eq!(answer(leaves), Ok(vec![]));
    shut_down(&executor);
}

/// The sender stood in line at replicas that are gone when the waits are listed, and other actors
/// occupy their memory.
#[test]
fn p07_a_send_leaves_the_replicas_that_were_stopped_and_freed() {
    const REPLICAS: usize = 6;
    struct Counted {
        _token: Token,
    }
    impl Actor for Counted {}
    impl Handler<Latch> for Counted {
        type Reply = ();
        fn handle(&mut self, until: Latch, _: &mut Context<Self>) {
            heist::blocking(|| until.wait());
        }
    }
    let (executor, tokens) =
        (build(Executor::builder().workers(2).max_spares(2 * REPLICAS)), Tokens::new());
    let states = tokens.clone();
    let pool = executor
        .pool(REPLICAS, move |_| Counted { _token: states.token() })
        .name("replica")
        .capacity(1)
        .build()
        .unwrap();
    let latches: Vec<Latch> = (0..REPLICAS).map(|_| Latch::new()).collect();
    for (index, until) in latches.iter().enumerate() {
        while pool.tell(ToIndex(index), until.clone()).is_ok() {}
    }
    let (sender, to, open) = (named(&executor, "sender"), pool.clone(), Latch::new());
    open.open();
    let sends = sender.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        to.send_timeout(Last, open, Duration::from_secs(LONG)).map_err(|error| error.refusal())
    }));
    let mut fillers = Vec::new();
    for last in (1..REPLICAS).rev() {
        until_waits(&executor, &[("sender", &format!("replica-{last}"))]);
        let gone = pool.replica(last).unwrap().downgrade();
        pool.shrink(1).unwrap();
        latches[last].open();
        until_waits(&executor, &[("sender", &format!("replica-{}", last - 1))]);
        within(LONG, "that replica's state is dropped", || tokens.alive() == last);
        assert!(gone.upgrade().is_none());
        drop(gone);
        fillers.extend((0..64).map(|_| named(&executor, "filler")));
        until_waits(&executor, &[("sender", &format!("replica-{}", last - 1))]);
    }
    latches[0].open();
    assert_eq!(answer(sends.unwrap()), Ok(Ok(())));
    assert!(executor.waits().is_empty());
    shut_down(&executor);
}

/// The inner wait of the handler must not erase the outer wait, or its cycle would go unnoticed.
#[test]
fn p07_a_wait_in_a_spares_handler_leaves_the_wait_for_which_it_was_started() {
    let (other, told) = (Arc::new(Mutex::new(None::<ActorRef<Puppet>>)), Latch::new());
    let (theirs, waited) = (Arc::clone(&other), told.clone());
    // Runs on the thread of the waiting turn, as a part of that turn.
    let handler = move |spare: WorkerThread| {
        let other = theirs.lock().unwrap().take();
        if let Some(other) = other {
            assert_eq!(wait(other.ask(Note(7)).unwrap()).unwrap(), 7);
            waited.open();
        }
        drop(thread::spawn(|| spare.run()));
        Ok(())
    };
    let executor = build(Executor::builder().workers(3).spare_handler(handler));
    let (asker, asked) = (named(&executor, "asker"), named(&executor, "asked"));
    // Waits without starting a spare.
    let (inside, until) = (Latch::new(), Latch::new());
    let (entered, opened, back) = (inside.clone(), until.clone(), asker.clone());
    let asks_back = asked.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        entered.open();
        opened.wait();
        cycle(wait(back.ask(Note(1)).unwrap()))
    }));
    inside.wait();
    *other.lock().unwrap() = Some(named(&executor, "other"));
    let to = asked.clone();
    let asks = asker.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        cycle(wait(to.ask(Note(2)).unwrap()))
    }));
    told.wait();
    until_waits(&executor, &[("asker", "asked")]);
    until.open();
    assert_eq!(answer(asks_back.unwrap()), Ok(vec!["asked".to_string(), "asker".to_string()]));
    assert_eq!(answer(asks.unwrap()), Ok(vec![]));
    shut_down(&executor);
}

/// While only the handler's wait is known, the other actor begins to wait for this one.
#[test]
fn p07_a_cycle_that_begins_during_a_wait_in_a_spares_handler_is_refused() {
    let other = Arc::new(Mutex::new(None::<ActorRef<Puppet>>));
    let theirs = Arc::clone(&other);
    let handler = move |spare: WorkerThread| {
        let other = theirs.lock().unwrap().take();
        if let Some(other) = other {
            assert_eq!(wait(other.ask(Note(7)).unwrap()).unwrap(), 7);
        }
        drop(thread::spawn(|| spare.run()));
        Ok(())
    };
    let executor = build(Executor::builder().workers(4).spare_handler(handler));
    let (asker, asked) = (named(&executor, "asker"), named(&executor, "asked"));
    let (inside, until) = (Latch::new(), Latch::new());
    let (entered, opened, back) = (inside.clone(), until.clone(), asker.clone());
    let asks_back = asked.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        entered.open();
        opened.wait();
        cycle(wait(back.ask(Note(1)).unwrap()))
    }));
    inside.wait();
    let busy = named(&executor, "other");
    let held = Held::hold(&busy);
    *other.lock().unwrap() = Some(busy);
    let to = asked.clone();
    let asks = asker.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        cycle(wait(to.ask(Note(2)).unwrap()))
    }));
    until_waits(&executor, &[("asker", "other")]);
    until.open();
    until_waits(&executor, &[("asker", "other"), ("asked", "asker")]);
    held.release();
    assert_eq!(answer(asks.unwrap()), Ok(vec!["asked".to_string(), "asker".to_string()]));
    assert_eq!(answer(asks_back.unwrap()), Ok(vec![]));
    shut_down(&executor);
}

/// Forwards its requests. Answers a refused forward with a wait for the asker.
struct Passes {
    to: ActorRef<Puppet>,
    asker: ActorRef<Puppet>,
}
impl Actor for Passes {}

type Work = Box<dyn FnOnce(&mut Puppet, &mut Context<Puppet>) -> Vec<String> + Send>;

impl Receive<Run<Work>> for Passes {
    type Reply = Vec<String>;
    fn receive(&mut self, work: Run<Work>, reply: Reply<Vec<String>>, ctx: &mut Context<Self>) {
        let refused = ctx.forward(&self.to, work, reply).unwrap_err();
        assert_eq!(refused.refusal(), Refusal::Full);
        let (_, reply) = refused.into_parts();
        reply.send(cycle(wait(self.asker.ask(Note(1)).unwrap())));
    }
}

/// A refused forward must not leave the table pointing at the actor that refused.
#[test]
fn p07_a_refused_forward_leaves_the_request_to_whoever_has_taken_it_from_a_queue() {
    let executor = crew(2);
    let asker = named(&executor, "asker");
    let full = executor.build(Puppet::default()).capacity(1).spawn();
    let held = Held::hold_blocking(&full);
    while full.tell(Note(0)).is_ok() {}
    let (to, back) = (full.clone(), asker.clone());
    let passes = move |_| Passes { to: to.clone(), asker: back.clone() };
    let pool = executor.pool(1, passes).name("passes").build().unwrap();
    let work: Run<Work> = Run(Box::new(|_, _| unreachable!("it is not forwarded")));
    let found = inside(&asker, move |_, _| match wait(pool.ask(SharedQueue, work).unwrap()) {
        Ok(names) => names,
        refused => cycle(refused), // both may see the cycle
    });
    assert_eq!(found, ["asker", "passes-0"]);
    held.release();
    shut_down(&executor);
}
