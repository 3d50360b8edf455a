//! Tests races of actors by key: many senders at once, with passivation among them.

mod common;

use common::*;
use heist::{Actor, Context, Directory, Executor, Handler, StopReason};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

/// The state of a key without an actor: the last number from each sender.
type Store = Arc<Mutex<HashMap<u64, Vec<u64>>>>;

/// State shared by all actors of one test.
#[derive(Default)]
struct World {
    store: Store,
    in_turn: Mutex<HashMap<u64, Arc<InTurn>>>,
    made: AtomicU64,
    handled: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// Checks that each sender's numbers arrive in sequence, from incarnation to incarnation, and that
/// no two incarnations are alive at once.
struct Ledger {
    key: u64,
    last: Vec<u64>,
    world: Arc<World>,
    /// Held from `make` to the drop of the state.
    alive: Option<InTurnGuard>,
}

impl Ledger {
    fn load(key: u64, senders: usize, world: &Arc<World>) -> Self {
        world.made.fetch_add(1, Relaxed);
        let in_turn = Arc::clone(world.in_turn.lock().unwrap().entry(key).or_default());
        let alive = Some(in_turn.enter());
        let last = world.store.lock().unwrap().remove(&key).unwrap_or_else(|| vec![0; senders]);
        Ledger { key, last, world: Arc::clone(world), alive }
    }
}

impl Actor for Ledger {
    fn stopped(&mut self, reason: &StopReason) {
        if !matches!(reason, StopReason::Unreferenced | StopReason::Stopped | StopReason::Shutdown)
        {
            self.world.wrong.lock().unwrap().push(format!("{}: {reason}", self.key));
        }
        self.world.store.lock().unwrap().insert(self.key, self.last.clone());
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        thread::yield_now(); // no other incarnation may begin between `stopped` and the end of this drop
        drop(self.alive.take());
    }
}

struct Number {
    sender: usize,
    number: u64,
    last_words: bool,
}

impl Handler<Number> for Ledger {
    type Reply = ();
    fn handle(&mut self, message: Number, ctx: &mut Context<Self>) {
        let last = &mut self.last[message.sender];
        if message.number != *last + 1 {
            let wrong =
                format!("{}: {} after {last} from {}", self.key, message.number, message.sender);
            self.world.wrong.lock().unwrap().push(wrong);
        }
        *last = message.number;
        self.world.handled.fetch_add(1, Relaxed);
        if message.last_words {
            ctx.stop();
        }
    }
}

const SENDERS: usize = 6;
const KEYS: u64 = 40;
const PASSIVATIONS: u64 = 500;

/// Sends numbers to all keys until `enough` is set. Returns how many were sent.
fn send(directory: &Directory<u64, Ledger>, sender: usize, enough: &AtomicBool) -> u64 {
    let dice = Dice::new(sender as u64);
    let mut next = vec![1; KEYS as usize];
    let mut sent = 0;
    while !enough.load(Relaxed) {
        let key = dice.below(KEYS);
        let number = next[key as usize];
        let mut message = Number { sender, number, last_words: dice.below(50) == 0 };
        // Uses a kept reference, a look-up for each message, or an ask. Some of the actors stop
        // themselves.
        let outcome = match dice.below(3) {
            0 => directory.tell(&key, message),
            1 => directory.ask(&key, message).map(drop),
            _ => {
                message.last_words = false;
                let actor = directory.get(&key);
                match actor.tell(message) {
                    // The actor has stopped itself since, so the message goes through the
                    // directory.
                    Err(error) if !error.is_full() => directory.tell(&key, error.into_message()),
                    done => done,
                }
            }
        };
        match outcome {
            Ok(()) => {
                next[key as usize] += 1;
                sent += 1;
            }
            Err(error) => {
                assert!(error.is_full(), "{error}");
                thread::yield_now();
            }
        }
    }
    sent
}

/// Like `settle`, but a directory's sweep may begin at any moment.
fn come_to_rest(executor: &Executor) {
    within(LONG, "everything is accounted for, and nothing is under way", || {
        executor.wait_idle_timeout(Duration::from_secs(LONG)).expect("the crew becomes idle");
        let stats = executor.stats();
        stats.accepted == stats.handled + stats.dead_letters.total()
    });
}

/// Ends actors in the way that `build` sets, among many senders. Actors end hundreds of times.
fn churn(
    executor: &Executor,
    build: impl FnOnce(
        heist::directory::DirectoryBuilder<u64, Ledger>,
    ) -> heist::directory::DirectoryBuilder<u64, Ledger>,
) {
    let world = Arc::new(World::default());
    let theirs = Arc::clone(&world);
    let directory = build(Directory::builder(executor).capacity(16))
        .build(move |&key| Ledger::load(key, SENDERS, &theirs))
        .unwrap();
    let enough = AtomicBool::new(false);
    let sent: u64 = thread::scope(|scope| {
        let (directory, enough) = (&directory, &enough);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| scope.spawn(move || send(directory, sender, enough)))
            .collect();
        let dice = Dice::new(99);
        let mut looks = 0;
        within(LONG, "the actors end again and again", || {
            looks += 1;
            directory.passivate(&dice.below(KEYS));
            directory.stats().passivated > PASSIVATIONS
                && world.made.load(Relaxed) > PASSIVATIONS
                && looks > 1000
        });
        enough.store(true, Relaxed);
        senders.into_iter().map(|sender| sender.join().unwrap()).sum()
    });
    come_to_rest(executor);
    for key in 0..KEYS {
        directory.passivate(&key);
    }
    within(LONG, "all are let go of", || directory.is_empty());
    come_to_rest(executor);
    assert_eq!(*world.wrong.lock().unwrap(), [""; 0]);
    assert_eq!(world.handled.load(Relaxed), sent);
    let stored: u64 = world.store.lock().unwrap().values().flatten().sum();
    assert_eq!(stored, sent, "the last numbers add up");
    assert!(world.in_turn.lock().unwrap().values().all(|in_turn| in_turn.overlaps() == 0));
    assert_eq!(world.made.load(Relaxed), directory.stats().spawned);
    assert_eq!(executor.stats().dead_letters.total(), 0);
}

#[test]
fn no_message_is_lost_doubled_or_disordered_by_passivation() {
    on_every_crew(|executor| churn(executor, |builder| builder));
}

#[test]
fn nor_with_a_limit_of_a_few() {
    on_every_crew(|executor| churn(executor, |builder| builder.max_actors(4)));
}

#[test]
fn nor_with_a_short_idle_time() {
    on_every_crew(|executor| {
        churn(executor, |builder| builder.idle_timeout(Duration::from_micros(300)))
    });
}

/// Without a single winner, a key would have two actors, and each would get some of the messages.
#[test]
fn of_many_who_ask_for_a_key_one_makes_its_actor() {
    on_every_crew(|executor| {
        let makes = Arc::new(AtomicU64::new(0));
        let directory =
            Directory::new(executor, |_: &u64| -> Puppet { unreachable!("each is given one") });
        let together = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for key in 0..200 {
                        together.wait();
                        let makes = Arc::clone(&makes);
                        let make = move || {
                            makes.fetch_add(1, Relaxed);
                            Puppet::default()
                        };
                        directory.get_or_spawn(&key, make).tell(Note(key)).unwrap();
                    }
                });
            }
        });
        settle(executor);
        assert_eq!((makes.load(Relaxed), directory.len()), (200, 200));
        for key in 0..200 {
            assert_eq!(log_of(&directory.get(&key), 8), [key; 8]);
        }
    });
}

/// Actors of a directory send to each other through the directory, while the directory passivates
/// them.
#[test]
fn actors_of_a_directory_reach_each_other() {
    struct Hop {
        directory: Directory<u64, Hopper>,
        left: u64,
    }
    struct Hopper {
        key: u64,
        hops: Arc<AtomicU64>,
    }
    impl Actor for Hopper {}
    impl Handler<Hop> for Hopper {
        type Reply = ();
        fn handle(&mut self, Hop { directory, left }: Hop, _: &mut Context<Self>) {
            self.hops.fetch_add(1, Relaxed);
            if left > 0 {
                let to = (self.key * 7 + left) % 50;
                let hop = Hop { directory: directory.clone(), left: left - 1 };
                assert!(directory.tell(&to, hop).is_ok());
            }
        }
    }
    on_every_crew(|executor| {
        let hops = Arc::new(AtomicU64::new(0));
        let theirs = Arc::clone(&hops);
        let make = move |&key: &u64| Hopper { key, hops: Arc::clone(&theirs) };
        let directory = Directory::builder(executor).max_actors(5).build(make).unwrap();
        for key in 0..20 {
            directory.tell(&key, Hop { directory: directory.clone(), left: 999 }).unwrap();
        }
        settle(executor);
        assert_eq!(hops.load(Relaxed), 20 * 1000);
        assert!(directory.stats().passivated > 1000);
    });
}

/// A table that kept entries of ended actors would grow with every key.
#[test]
fn a_million_keys_pass_through_a_small_table() {
    let executor = crew(2);
    let build =
        Directory::builder(&executor).max_actors(1000).idle_timeout(Duration::from_millis(20));
    let directory = build.build(|_: &u64| Puppet::default()).unwrap();
    let mut most = 0;
    for batch in 0..200 {
        for key in 0..5000 {
            directory.tell(&(5000 * batch + key), Note(key)).unwrap();
        }
        come_to_rest(&executor);
        most = most.max(directory.len());
    }
    assert!(most <= 1000, "{most} keys were in the table");
    within(LONG, "the last ones go too", || directory.is_empty());
    assert_eq!(directory.stats().spawned, 1_000_000);
    come_to_rest(&executor);
    assert_eq!(executor.stats().dead_letters.total(), 0);
    let memory = executor.stats().memory;
    assert!(memory <= 16 << 20, "{memory} bytes are held");
}

/// Passivation during a shutdown must neither lose an accepted message nor leave an actor behind.
#[test]
fn a_shutdown_in_the_middle_leaves_nothing() {
    for workers in CREWS {
        for round in 0..20 {
            let executor = crew(workers);
            let world = Arc::new(World::default());
            let theirs = Arc::clone(&world);
            let build = Directory::builder(&executor)
                .max_actors(8)
                .idle_timeout(Duration::from_micros(200));
            let directory = build.build(move |&key| Ledger::load(key, SENDERS, &theirs)).unwrap();
            let accepted: u64 = thread::scope(|scope| {
                let directory = &directory;
                let senders: Vec<_> = (0..SENDERS)
                    .map(|sender| {
                        scope.spawn(move || {
                            let mut sent = 0;
                            loop {
                                let key = sent % KEYS;
                                let number = sent / KEYS + 1;
                                let message = Number { sender, number, last_words: false };
                                match directory.tell(&key, message) {
                                    Ok(()) => sent += 1,
                                    Err(error) if error.is_full() => thread::yield_now(),
                                    Err(_) => break sent,
                                }
                            }
                        })
                    })
                    .collect();
                within(LONG, "it is under way", || world.handled.load(Relaxed) > 100 * round);
                shut_down(&executor);
                senders.into_iter().map(|sender| sender.join().unwrap()).sum()
            });
            assert_eq!(*world.wrong.lock().unwrap(), [""; 0]);
            assert_eq!(world.handled.load(Relaxed), accepted, "what was accepted was handled");
            assert!(directory.is_empty());
            assert_eq!(world.store.lock().unwrap().values().flatten().sum::<u64>(), accepted);
        }
    }
}
