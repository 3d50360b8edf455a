//! Tests P7: a wait that can never finish is refused, whatever it goes through: other executors,
//! forwarded requests, a pool's queue, keys that move, actors that follow others. The error names
//! the actors of the cycle, and the ask comes back.

mod common;

use common::*;
use heist::error::WaitCycle;
use heist::strategy::{ByKey, SharedQueue, ToIndex};
use heist::{
    Actor, ActorRef, Ask, AskError, Context, Directory, Event, Executor, Handler, Pool, Receive,
    Refusal, Reply, WaitError,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn named(executor: &Executor, name: &str) -> ActorRef<Puppet> {
    executor.build(Puppet::default()).name(name).spawn()
}

fn names(cycle: &WaitCycle) -> Vec<String> {
    cycle
        .actors()
        .iter()
        .map(|actor| actor.name.as_deref().unwrap_or_default().to_string())
        .collect()
}

/// Returns the names of the cycle for which a wait in a handler was refused, or nothing if it
/// succeeded.
fn refused<R>(result: Result<R, AskError>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(AskError::WouldDeadlock(cycle)) => names(&cycle),
        Err(error) => panic!("{error}"),
    }
}

fn wait<R>(mut ask: Ask<R>) -> Result<R, AskError> {
    ask.wait_timeout(Duration::from_secs(LONG))
}

/// Asks each actor in the handler of the previous one. The last actor asks `back`.
fn round(mut way: Vec<ActorRef<Puppet>>, back: ActorRef<Puppet>) -> Vec<String> {
    let Some(next) = (!way.is_empty()).then(|| way.remove(0)) else {
        return refused(wait(back.ask(Note(1)).unwrap()));
    };
    let ask =
        next.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| round(way, back))).unwrap();
    outcome(wait(ask))
}

/// Returns the outcome of a wait when another wait may close the same cycle at the same moment.
/// Where a cycle goes through several tables, a forward or a queue, both waits may be refused. See
/// `cell/waits/mod.rs`.
fn outcome(result: Result<Vec<String>, AskError>) -> Vec<String> {
    result.unwrap_or_else(|error| refused::<Vec<String>>(Err(error)))
}

/// Checks the actors of the cycle, whichever of its waits was refused.
#[track_caller]
fn assert_cycle(mut cycle: Vec<String>, expected: &[&str]) {
    if let Some(first) = cycle.iter().position(|name| name == expected[0]) {
        cycle.rotate_left(first);
    }
    assert_eq!(cycle, expected);
}

/// Each executor sees only its own part of the cycle, so a search must follow waits across crews.
#[test]
fn p07_a_cycle_through_other_executors_is_refused_and_names_its_actors() {
    for executors in 1..=3 {
        let crews: Vec<_> = (0..executors).map(|_| crew(1)).collect();
        let actors: Vec<_> = ["a", "b", "c"]
            .iter()
            .enumerate()
            .map(|(i, name)| named(&crews[i % executors], name))
            .collect();
        let cycle = round(actors.clone(), actors[0].clone());
        assert_cycle(cycle, &["c", "a", "b"]);
        // No other wait is refused, and all actors go on.
        assert_eq!(round(actors[1..].to_vec(), actors[0].clone()), [""; 0]);
        crews.iter().for_each(shut_down);
    }
}

#[test]
fn p07_the_refusal_reads_well_and_is_an_event() {
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(1).on_event(events.hook()));
    let (a, b) = (named(&executor, "a"), named(&executor, "b"));
    let first = a.clone();
    let second = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        wait(first.ask(Note(1)).unwrap()).unwrap_err().to_string()
    });
    let text = inside(&a, move |_, _| wait(b.ask(second).unwrap()).unwrap());
    assert!(text.ends_with("b waits for a waits for b)"), "{text}");
    let told = |event: &Event| matches!(event, Event::WaitRefused { cycle, .. } if cycle.actors().len() == 2);
    assert!(events.all().iter().any(told));
}

/// Waits for room and for an actor's end.
#[test]
fn p07_other_waits_are_part_of_a_cycle_too() {
    let (one, two) = (crew(1), crew(1));
    let (a, b) = (named(&one, "a"), named(&two, "b"));
    let (back, waits) = (a.clone(), one.handle());
    let sends = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        // Otherwise both waits may be refused.
        within(LONG, "a waits", || waits.waits().len() == 1);
        while back.tell(Note(0)).is_ok() {}
        let refused = back.send_timeout(Note(7), Duration::from_secs(LONG)).unwrap_err();
        assert_eq!(refused.refusal(), Refusal::WouldDeadlock);
        assert_eq!(refused.into_message(), Note(7));
        back.wait_stopped_timeout(Duration::from_secs(LONG))
    });
    let ended = inside(&a, move |_, _| wait(b.ask(sends).unwrap()).unwrap());
    assert_eq!(ended, Err(WaitError::WouldDeadlock));
    shut_down(&one);
    shut_down(&two);
}

/// Forwards its requests.
struct Relay(ActorRef<Puppet>);
impl Actor for Relay {}

type Work = Box<dyn FnOnce(&mut Puppet, &mut Context<Puppet>) -> Vec<String> + Send>;

impl Receive<Run<Work>> for Relay {
    type Reply = Vec<String>;
    fn receive(&mut self, work: Run<Work>, reply: Reply<Vec<String>>, ctx: &mut Context<Self>) {
        if let Err(error) = ctx.forward(&self.0, work, reply) {
            assert_eq!(error.refusal(), Refusal::WouldDeadlock);
            let cycle = names(error.cycle().unwrap());
            let (_, reply) = error.into_parts();
            reply.send(cycle);
        }
    }
}

/// Waits inside the handler for the given actor.
impl Handler<ActorRef<Puppet>> for Relay {
    type Reply = bool;
    fn handle(&mut self, other: ActorRef<Puppet>, _: &mut Context<Self>) -> bool {
        wait(other.ask(Note(1)).unwrap()).is_ok()
    }
}

fn work(f: impl FnOnce() -> Vec<String> + Send + 'static) -> Run<Work> {
    Run(Box::new(|_: &mut Puppet, _: &mut Context<Puppet>| f()))
}

/// The cycle leads through the actor that has the request now. The relay must not count any more.
#[test]
fn p07_a_request_is_followed_to_whom_it_was_forwarded() {
    for executors in [1, 2] {
        let crews: Vec<_> = (0..executors).map(|_| crew(1)).collect();
        let (asker, answers) = (named(&crews[0], "asker"), named(&crews[executors - 1], "answers"));
        let relay = crews[0].spawn(Relay(answers));
        let back = asker.clone();
        let asked = work(move || refused(wait(back.ask(Note(1)).unwrap())));
        let to = relay.clone();
        let cycle = inside(&asker, move |_, _| outcome(wait(to.ask(asked).unwrap())));
        assert_cycle(cycle, &["answers", "asker"]);

        // The relay has forwarded the request, so it may wait for the asker.
        let (waits, until) = (Latch::new(), Latch::new());
        let (begun, end) = (waits.clone(), until.clone());
        let asked = work(move || {
            begun.open();
            heist::blocking(|| end.wait());
            Vec::new()
        });
        let to = relay.clone();
        let asking = asker.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            wait(to.ask(asked).unwrap()).unwrap()
        }));
        waits.wait();
        let waiting = relay.ask(asker.clone()).unwrap();
        within(LONG, "the relay waits", || crews[0].waits().len() == 2);
        let mut list: Vec<_> =
            crews[0].waits().into_iter().map(|wait| (wait.actor.id, wait.target.id)).collect();
        list.sort();
        let mut expected = vec![(asker.id(), relay.id()), (relay.id(), asker.id())];
        expected.sort();
        assert_eq!(list, expected);
        until.open();
        assert_eq!(answer(asking.unwrap()), Ok(vec![]));
        assert_eq!(answer(waiting), Ok(true));
        crews.iter().for_each(shut_down);
    }
}

/// The cycle would be closed by the forward instead of a wait, so the forward must be refused.
#[test]
fn p07_a_forward_that_would_close_a_cycle_is_refused_and_hands_the_request_back() {
    let executor = crew(1);
    let (asker, answers) = (named(&executor, "asker"), named(&executor, "answers"));
    let obstacle = executor.spawn(Puppet::default());
    let relay = executor.build(Relay(answers.clone())).name("relay").spawn();
    let waiting = |n| within(LONG, "it waits", || executor.waits().len() == n);
    let held = Held::hold_blocking(&obstacle);
    let first = relay.ask(obstacle).unwrap();
    waiting(1);
    let asked = work(|| unreachable!("it is not forwarded"));
    let asking = asker.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        outcome(wait(relay.ask(asked).unwrap()))
    }));
    waiting(2);
    let back = asker.clone();
    let waits = answers.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        refused(wait(back.ask(Note(1)).unwrap()))
    }));
    waiting(3);
    held.release();
    assert_eq!(answer(first), Ok(true));
    assert_cycle(answer(asking.unwrap()).unwrap(), &["answers", "asker"]);
    assert_eq!(answer(waits.unwrap()), Ok(vec![]));
    shut_down(&executor);
}

/// A replica of a pool that runs a function with its index.
struct Replica(usize);
impl Actor for Replica {}
struct Do(Box<dyn FnOnce(usize) -> Vec<String> + Send>);
impl Handler<Do> for Replica {
    type Reply = Vec<String>;
    fn handle(&mut self, Do(f): Do, _: &mut Context<Self>) -> Vec<String> {
        f(self.0)
    }
}

fn pool(executor: &Executor, replicas: usize) -> Pool<Replica> {
    executor.pool(replicas, Replica).name("replica").build().unwrap()
}

/// A message in a shared queue has no receiver yet, so the taking replica must be noted.
#[test]
fn p07_who_has_taken_a_message_from_a_queue_is_waited_for() {
    for replicas in [1, 3] {
        let executor = crew(2);
        let (pool, asker) = (pool(&executor, replicas), named(&executor, "asker"));
        let back = asker.clone();
        // The other replicas have no work and will not answer this message.
        let asked = Do(Box::new(move |_| refused(wait(back.ask(Note(1)).unwrap()))));
        let to = pool.clone();
        let cycle = inside(&asker, move |_, _| outcome(wait(to.ask(SharedQueue, asked).unwrap())));
        assert!(cycle.len() == 2 && cycle.iter().any(|name| name == "asker"), "{cycle:?}");
        // The next message is a different one, perhaps in the same memory.
        let back = asker.clone();
        let fine = Do(Box::new(move |_| refused(wait(back.ask(Note(1)).unwrap()))));
        assert_eq!(answer(pool.ask(SharedQueue, fine).unwrap()), Ok(vec![]));
        shut_down(&executor);
    }
}

/// A replica may take a second message from the queue before it has handled the first. The first
/// one must stay noted.
#[test]
fn p07_an_ask_taken_before_another_message_is_followed() {
    // With one message a turn, the replica takes a message at the end of each turn.
    let executor = Executor::builder().workers(2).budget_messages(1).build().unwrap();
    let (pool, asker) = (pool(&executor, 2), named(&executor, "asker"));
    // The other replica is busy, so it takes nothing, and would go on.
    let untils = [Latch::new(), Latch::new()];
    let held = [1, 0].map(|index| {
        let (busy, until) = (Latch::new(), untils[index].clone());
        let begun = busy.clone();
        let hold = Do(Box::new(move |_| {
            busy.open();
            heist::blocking(|| until.wait());
            Vec::new()
        }));
        let ask = if index == 1 { pool.ask(ToIndex(1), hold) } else { pool.ask(SharedQueue, hold) };
        begun.wait();
        ask.unwrap()
    });
    let (to, back) = (pool.clone(), asker.clone());
    let asked = Do(Box::new(move |_| refused(wait(back.ask(Note(1)).unwrap()))));
    let asks = asker.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        outcome(wait(to.ask(SharedQueue, asked).unwrap()))
    }));
    within(LONG, "the asker waits", || executor.waits().len() == 1);
    // More messages in the queue, and in the replica's own mailbox, which takes turns with it.
    let nothing = || Do(Box::new(|_| Vec::new()));
    pool.tell(SharedQueue, nothing()).unwrap();
    pool.tell(ToIndex(0), nothing()).unwrap();
    pool.tell(ToIndex(0), nothing()).unwrap();
    untils[0].open();
    assert_cycle(answer(asks.unwrap()).unwrap(), &["asker", "replica-0"]);
    untils[1].open();
    held.into_iter().for_each(|ask| assert_eq!(answer(ask), Ok(vec![])));
    shut_down(&executor);
}

/// A told message, of a size that decides which memory the next ask gets.
struct Told<const SIZE: usize>(Box<dyn FnOnce() + Send>, [u8; SIZE]);
impl<const SIZE: usize> Handler<Told<SIZE>> for Replica {
    type Reply = ();
    fn handle(&mut self, Told(f, _): Told<SIZE>, _: &mut Context<Self>) {
        f();
    }
}

/// The memory of a told message is free when its handler runs. An ask that gets this memory, and
/// that an idle replica will answer, must not count as taken by the replica in that handler.
#[test]
fn p07_an_ask_in_the_memory_of_a_taken_message_is_not_taken() {
    fn with_size<const SIZE: usize>() {
        let executor = crew(1);
        let (pool, asker) = (pool(&executor, 2), named(&executor, "asker"));
        let (asks, teller) = (pool.clone(), named(&executor, "teller"));
        let (answers, answered) = std::sync::mpsc::channel();
        let told = Box::new(move || {
            // Large, so that this message does not get the memory itself.
            let far = [0_u8; 600];
            let ask = asker.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                let nothing = Do(Box::new(move |_| vec![far.len().to_string()]));
                outcome(wait(asks.ask(SharedQueue, nothing).unwrap()))
            }));
            answers.send(wait(ask.unwrap()).ok()).unwrap();
        });
        inside(&teller, move |_, _| pool.tell(SharedQueue, Told::<SIZE>(told, [0; SIZE])).unwrap());
        let answer = answered.recv_timeout(Duration::from_secs(LONG)).expect("the handler ends");
        assert_eq!(answer, Some(vec!["600".to_string()]), "a told message with {SIZE} bytes more");
        shut_down(&executor);
    }
    with_size::<56>();
    with_size::<64>();
    with_size::<72>();
    with_size::<80>();
}

/// Every replica waits for the queue, so no replica is left to take the message.
#[test]
fn p07_a_queue_whose_takers_all_wait_for_it_is_not_waited_for() {
    let executor = crew(1);
    let pool = pool(&executor, 3);
    let all = Latch::new();
    let inside = Arc::new(Mutex::new(0));
    let asks: Vec<_> = (0..3)
        .map(|index| {
            let (to, all, inside) = (pool.clone(), all.clone(), Arc::clone(&inside));
            let asks = Do(Box::new(move |_| {
                *inside.lock().unwrap() += 1;
                heist::blocking(|| all.wait());
                refused(wait(to.ask(SharedQueue, Do(Box::new(|_| Vec::new()))).unwrap()))
            }));
            pool.ask(ToIndex(index), asks).unwrap()
        })
        .collect();
    within(LONG, "all are in their handlers", || *inside.lock().unwrap() == 3);
    all.open();
    let cycles: Vec<_> = asks.into_iter().map(|ask| answer(ask).unwrap()).collect();
    let refusals = cycles.iter().filter(|cycle| cycle.len() == 3).count();
    // Refused replicas answer the others, and two of them may see each other.
    assert!(
        refusals >= 1 && cycles.iter().all(|cycle| [0, 3].contains(&cycle.len())),
        "{cycles:?}"
    );
    shut_down(&executor);
}

/// The counterpart: one free replica is enough, and refusing the wait would be wrong.
#[test]
fn p07_a_queue_with_a_taker_that_goes_on_is_waited_for() {
    let executor = crew(2);
    let (pool, asker) = (pool(&executor, 2), named(&executor, "asker"));
    let (busy, until) = (Latch::new(), Latch::new());
    // One replica is busy and will take the message.
    let held = {
        let (busy, until) = (busy.clone(), until.clone());
        let hold = Do(Box::new(move |_| {
            busy.open();
            heist::blocking(|| until.wait());
            Vec::new()
        }));
        pool.ask(ToIndex(0), hold).unwrap()
    };
    busy.wait();
    // The other replica waits for the asker, which waits for the queue.
    let (begun, goes_on) = (Latch::new(), Latch::new());
    let waits = {
        let (asker, begun, goes_on) = (asker.clone(), begun.clone(), goes_on.clone());
        let waits = Do(Box::new(move |_| {
            begun.open();
            heist::blocking(|| goes_on.wait());
            refused(wait(asker.ask(Note(1)).unwrap()))
        }));
        pool.ask(ToIndex(1), waits).unwrap()
    };
    begun.wait();
    let to = pool.clone();
    let asks = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        refused(wait(to.ask(SharedQueue, Do(Box::new(|_| Vec::new()))).unwrap()))
    });
    let asking = asker.ask(asks).unwrap();
    within(LONG, "the asker waits", || executor.waits().len() == 1);
    goes_on.open();
    within(LONG, "both wait", || executor.waits().len() == 2);
    until.open();
    assert_eq!(answer(held), Ok(vec![]));
    assert_eq!(answer(asking), Ok(vec![]));
    assert_eq!(answer(waits), Ok(vec![]));
    shut_down(&executor);
}

/// The moved key waits for its old replica, and that replica is the asker itself.
#[test]
fn p07_a_key_that_moves_away_from_the_asker_is_not_waited_for() {
    let executor = crew(2);
    let pool = pool(&executor, 1);
    let moves = {
        let probe = self::pool(&executor, 2);
        let home = |key: u64| {
            let index = Arc::new(Mutex::new(0));
            let theirs = Arc::clone(&index);
            let tell = Do(Box::new(move |replica| {
                *theirs.lock().unwrap() = replica;
                Vec::new()
            }));
            answer(probe.ask(ByKey(key), tell).unwrap()).unwrap();
            *index.lock().unwrap()
        };
        (0..100).find(|&key| home(key) == 1).unwrap()
    };
    let to = pool.clone();
    // The replica's own mark of the moved key is behind this message.
    let asks = Do(Box::new(move |_| {
        to.grow(1).unwrap();
        refused(wait(to.ask(ByKey(moves), Do(Box::new(|_| Vec::new()))).unwrap()))
    }));
    assert_eq!(answer(pool.ask(ToIndex(0), asks).unwrap()), Ok(vec!["replica-0".to_string()]));
    within(LONG, "the change ends", || !pool.is_resizing());
    shut_down(&executor);
}

/// In its last hook, asks the actor that follows it under the same key.
struct Keyed {
    directory: Arc<Mutex<Option<Directory<u8, Keyed>>>>,
    result: Arc<Mutex<Vec<Option<AskError>>>>,
}

impl Actor for Keyed {
    fn stopped(&mut self, _: &heist::StopReason) {
        let directory = self.directory.lock().unwrap().clone();
        if let Some(directory) = directory {
            let asked = directory.ask(&1, ()).unwrap().wait_timeout(Duration::from_secs(LONG));
            self.result.lock().unwrap().push(asked.err());
        }
    }
}

impl Handler<()> for Keyed {
    type Reply = ();
    fn handle(&mut self, (): (), _: &mut Context<Self>) {}
}

/// The successor starts only after this actor's end, so the wait could never finish.
#[test]
fn p07_an_actor_that_ends_does_not_wait_for_its_successor() {
    let executor = crew(2);
    let (directory, result) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(Vec::new())));
    let (theirs, results) = (Arc::clone(&directory), Arc::clone(&result));
    let make = move |_: &u8| Keyed { directory: Arc::clone(&theirs), result: Arc::clone(&results) };
    let keys = Directory::new(&executor, make);
    *directory.lock().unwrap() = Some(keys.clone());
    let first = keys.get(&1);
    answer(first.ask(()).unwrap()).unwrap();
    first.stop();
    ended(&first);
    assert!(matches!(&**result.lock().unwrap(), [Some(AskError::WouldDeadlock(_))]));
    *directory.lock().unwrap() = None;
    answer(keys.ask(&1, ()).unwrap()).unwrap();
    shut_down(&executor);
}

/// Actors of several executors ask each other at random. Each ask ends with an answer or a refusal.
#[test]
fn p07_whoever_asks_whomever_all_ends() {
    let crews = [crew(2), crew(1)];
    let actors: Vec<_> = (0..6).map(|n| crews[n % 2].spawn(Puppet::default())).collect();
    fn ask(actors: Arc<Vec<ActorRef<Puppet>>>, seed: u64, depth: u32) {
        if depth == 0 {
            return;
        }
        let dice = Dice::new(seed);
        let target = actors[dice.below(actors.len() as u64) as usize].clone();
        let next = seed.wrapping_mul(31).wrapping_add(u64::from(depth));
        let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| ask(actors, next, depth - 1));
        if let Ok(ask) = target.ask(run) {
            match wait(ask) {
                Ok(()) => {}
                Err(error) => assert!(error.cycle().is_some(), "{error}"),
            }
        }
    }
    let actors = Arc::new(actors);
    for seed in 0..200 {
        let asks: Vec<_> = (0..6)
            .map(|n| {
                let theirs = Arc::clone(&actors);
                let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                    ask(theirs, seed * 6 + n, 4)
                });
                actors[n as usize].ask(run).unwrap()
            })
            .collect();
        asks.into_iter().for_each(|ask| answer(ask).unwrap());
    }
    crews.iter().for_each(shut_down);
}
