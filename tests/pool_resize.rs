//! Tests more and fewer replicas while the pool is in use. No message is lost, and each key keeps
//! its order.

mod common;

use common::*;
use heist::pool::{PoolError, PoolStopReason};
use heist::strategy::*;
use heist::{Actor, AskError, Context, Executor, Handler, Pool, Refusal, StopReason};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Everything that the replicas saw, in one log: (replica, key, number).
type Log = Arc<Mutex<Vec<(usize, u64, u64)>>>;

struct Shard {
    index: usize,
    log: Log,
    _token: Token,
}

impl Actor for Shard {}

#[derive(Debug, PartialEq)]
struct Item {
    key: u64,
    n: u64,
}

impl Handler<Item> for Shard {
    type Reply = usize;
    fn handle(&mut self, Item { key, n }: Item, _: &mut Context<Self>) -> usize {
        self.log.lock().unwrap().push((self.index, key, n));
        self.index
    }
}

struct Block {
    inside: Latch,
    until: Latch,
}

impl Handler<Block> for Shard {
    type Reply = ();
    fn handle(&mut self, block: Block, _: &mut Context<Self>) {
        block.inside.open();
        block.until.wait();
    }
}

struct Panic;

impl Handler<Panic> for Shard {
    type Reply = ();
    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        intended_panic()
    }
}

struct Fixture {
    pool: Pool<Shard>,
    log: Log,
    tokens: Tokens,
}

fn shards(executor: &Executor, replicas: usize, capacity: usize) -> Fixture {
    let (log, tokens) = (Log::default(), Tokens::new());
    let (theirs, made) = (Arc::clone(&log), tokens.clone());
    let factory = move |index| Shard { index, log: Arc::clone(&theirs), _token: made.token() };
    let pool = executor.pool(replicas, factory).capacity(capacity).queue_capacity(capacity);
    let pool = pool
        .failure_limit(u32::MAX, Duration::from_secs(1))
        .backoff(Duration::ZERO, Duration::ZERO);
    Fixture { pool: pool.build().unwrap(), log, tokens }
}

fn occupy(pool: &Pool<Shard>, index: usize) -> Latch {
    let (inside, until) = (Latch::new(), Latch::new());
    pool.tell(ToIndex(index), Block { inside: inside.clone(), until: until.clone() }).unwrap();
    inside.wait();
    until
}

/// Returns the replica that each key is routed to now.
fn homes(pool: &Pool<Shard>, keys: u64) -> Vec<usize> {
    (0..keys)
        .map(|key| answer(pool.ask(ByKey(key), Item { key, n: u64::MAX }).unwrap()).unwrap())
        .collect()
}

/// Moving other keys too would break their order and their caches for nothing.
#[test]
fn one_replica_more_moves_its_share_of_the_keys_and_no_others() {
    let executor = crew(2);
    let Fixture { pool, .. } = shards(&executor, 4, 100);
    let before = homes(&pool, 5_000);
    pool.grow(1).unwrap();
    assert_eq!(pool.len(), 5);
    settle(&executor);
    assert!(!pool.is_resizing());
    let after = homes(&pool, 5_000);
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert!((850..1150).contains(&moved), "{moved} of 5,000 moved to the fifth");
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *after == 4));
    pool.shrink(1).unwrap();
    settle(&executor);
    assert_eq!(homes(&pool, 5_000), before);
}

#[test]
fn new_replicas_take_part_in_everything() {
    on_every_crew(|executor| {
        let Fixture { pool, .. } = shards(executor, 1, 100);
        pool.resize(3).unwrap();
        assert_eq!((pool.len(), pool.ids().len()), (3, 3));
        settle(executor);
        let round: BTreeSet<_> = (0..3)
            .map(|n| answer(pool.ask(RoundRobin, Item { key: 0, n }).unwrap()).unwrap())
            .collect();
        assert_eq!(round.len(), 3);
        assert_eq!(answer(pool.ask(ToIndex(2), Item { key: 0, n: 0 }).unwrap()), Ok(2));
        if executor.workers() > 2 && executor.policy() != heist::Policy::Sharded {
            let busy = [occupy(&pool, 0), occupy(&pool, 1)];
            assert_eq!(answer(pool.ask(SharedQueue, Item { key: 0, n: 0 }).unwrap()), Ok(2));
            busy.iter().for_each(Latch::open);
        }
    });
}

/// A removed replica keeps its accepted messages, and a second change waits for its end.
/// The marks of a change are no messages: neither handled nor, in a replica that ends before its
/// mark, dead.
#[test]
fn a_change_counts_no_messages() {
    on_every_crew(|executor| {
        let fixture = shards(executor, 2, 100);
        let pool = &fixture.pool;
        settle(executor);
        let none = executor.stats();
        for replicas in [3, 5, 1, 4] {
            pool.resize(replicas).unwrap();
            settle(executor);
        }
        let stats = executor.stats();
        assert_eq!((stats.accepted, stats.handled), (none.accepted, none.handled));
        assert!(pool.stats().replicas.iter().all(|replica| replica.actor.handled == 0));
        // One handled message, and one that is dead; the mark behind them is neither.
        let until = occupy(pool, 0);
        pool.tell(ToIndex(0), Item { key: 0, n: 0 }).unwrap();
        pool.resize(5).unwrap();
        pool.stop_now();
        until.open();
        pool.wait_stopped_timeout(Duration::from_secs(LONG)).unwrap();
        settle(executor);
        let stats = executor.stats();
        assert_eq!(stats.accepted - none.accepted, 2);
        assert_eq!((stats.handled - none.handled, stats.dead_letters.total()), (1, 1));
    });
}

#[test]
fn who_is_let_go_of_handles_what_it_has() {
    on_every_crew(|executor| {
        let Fixture { pool, log, tokens } = shards(executor, 3, 100);
        let last = pool.replica(2).unwrap();
        let until = occupy(&pool, 2);
        let asks: Vec<_> =
            (0..50).map(|n| pool.ask(ToIndex(2), Item { key: 0, n }).unwrap()).collect();
        pool.shrink(2).unwrap();
        assert_eq!(pool.len(), 1);
        assert_eq!(
            pool.tell(ToIndex(2), Item { key: 0, n: 0 }).unwrap_err().refusal(),
            Refusal::NoReplica
        );
        assert!(pool.is_resizing());
        assert!(matches!(pool.grow(1), Err(PoolError::Resizing)), "one change at a time");
        until.open();
        for ask in asks {
            assert_eq!(answer(ask), Ok(2));
        }
        assert_eq!(ended(&last), StopReason::Stopped);
        settle(executor);
        assert_eq!(log.lock().unwrap().len(), 50);
        assert_eq!(tokens.alive(), 1);
        assert_eq!(executor.stats().dead_letters.total(), 0);
        pool.grow(2).unwrap();
        assert_eq!(answer(pool.ask(ToIndex(2), Item { key: 0, n: 0 }).unwrap()), Ok(2));
    });
}

/// A sender that waits for room at a removed replica is sent on to another.
#[test]
fn who_waits_for_room_at_a_replica_that_goes_is_sent_on() {
    let executor = crew(4);
    let Fixture { pool, log, .. } = shards(&executor, 2, 1);
    let until = occupy(&pool, 1);
    struct LastOfTwo;
    impl Strategy for LastOfTwo {
        fn route(&self, replicas: &Replicas<'_>) -> Route {
            Route::Index(replicas.len() - 1)
        }
    }
    let item = Item { key: 0, n: 7 };
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.send(LastOfTwo, item));
        within(LONG, "it is in line", || {
            !waits.is_finished() && pool.replica(1).unwrap().len() == 1
        });
        thread::park_timeout(Duration::from_millis(20));
        pool.shrink(1).unwrap();
        until.open();
        waits.join().unwrap().unwrap();
    });
    settle(&executor);
    assert_eq!(*log.lock().unwrap(), [(0, 0, 7)]);
}

/// The messages of a moved key wait for the key's old replica, and for nothing else.
#[test]
fn a_moved_key_waits_for_its_old_replica_only() {
    let executor = crew(4);
    let Fixture { pool, log, .. } = shards(&executor, 2, 1000);
    let before = homes(&pool, 300);
    settle(&executor);
    log.lock().unwrap().clear();
    let until = occupy(&pool, 0);
    for key in (0..300).filter(|&key| before[key as usize] == 0) {
        pool.tell(ByKey(key), Item { key, n: 0 }).unwrap();
    }
    pool.grow(1).unwrap();
    within(LONG, "the other old replica has passed its mark", || {
        pool.replica(1).unwrap().is_empty()
    });
    let mut held = Vec::new();
    let mut free = 0;
    for key in 0..300 {
        let ask = pool.ask(ByKey(key), Item { key, n: 1 }).unwrap();
        if before[key as usize] == 0 {
            held.push(ask);
        } else {
            answer(ask).unwrap(); // whether the key has moved or not
            free += 1;
        }
    }
    assert!(free > 50 && held.len() > 50);
    assert!(pool.stats().held > 10, "{:?}", pool.stats());
    assert!(held.iter().all(|ask| !ask.is_ready()));
    assert_eq!(
        answer(pool.ask(ToIndex(2), Item { key: 999, n: 0 }).unwrap()),
        Ok(2),
        "the new one works"
    );
    until.open();
    for ask in held {
        answer(ask).unwrap();
    }
    settle(&executor);
    assert_eq!(pool.stats().held, 0);
    let log = log.lock().unwrap();
    for key in (0..300).filter(|&key| before[key as usize] == 0) {
        let order: Vec<_> = log.iter().filter(|item| item.1 == key).map(|item| item.2).collect();
        assert_eq!(order, [0, 1], "key {key}");
    }
}

/// The size changes all the time under load, replicas panic, mailboxes are small. Each key's
/// numbers must arrive in order, all of them, once. Order means the order of handling over all
/// replicas.
/// A limit: what is held back is in no mailbox yet, so other routes to the same replica come first.
#[test]
fn beside_a_change_other_routes_overtake_a_key() {
    let executor = crew(2);
    let Fixture { pool, log, .. } = shards(&executor, 1, 100);
    let until = occupy(&pool, 0);
    pool.resize(2).unwrap();
    const KEYS: u64 = 64;
    (0..KEYS).for_each(|key| pool.tell(ByKey(key), Item { key, n: 0 }).unwrap());
    assert!(pool.stats().held > 0, "some keys move");
    let other = pool.ask(ToIndex(1), Item { key: KEYS, n: 1 }).unwrap();
    assert_eq!(answer(other), Ok(1));
    assert_eq!(*log.lock().unwrap(), [(1, KEYS, 1)], "it waits for no key");
    until.open();
    within(LONG, "the change is over", || !pool.is_resizing());
    settle(&executor);
    assert_eq!(log.lock().unwrap().len() as u64, KEYS + 1);
}

fn keys_keep_their_order(executor: &Executor, panics: bool, capacity: usize) {
    const SENDERS: u64 = 3;
    const KEYS: u64 = 20;
    /// The least number of rounds and of changes.
    const EACH: u64 = 200;
    const CHANGES: u64 = 20;
    let Fixture { pool, log, tokens } = shards(executor, 3, capacity);
    let over = AtomicBool::new(false);
    let changes = AtomicU64::new(0);
    let mut rounds = Vec::new();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let pool = &pool;
                let changes = &changes;
                scope.spawn(move || {
                    let mut n = 0;
                    while n < EACH || changes.load(Relaxed) < CHANGES {
                        for key in 0..KEYS {
                            let key = sender << 32 | key;
                            pool.send(ByKey(key), Item { key, n }).unwrap();
                        }
                        if panics && n % 20 == 0 {
                            pool.send(Random, Panic).unwrap();
                        }
                        n += 1;
                    }
                    n
                })
            })
            .collect();
        scope.spawn(|| {
            let dice = Dice::new(capacity as u64);
            while !over.load(Relaxed) {
                match pool.resize(1 + dice.below(6) as usize) {
                    Ok(()) => _ = changes.fetch_add(1, Relaxed),
                    Err(PoolError::Resizing) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        });
        rounds = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        over.store(true, Relaxed);
    });
    settle(executor);
    let mut next: HashMap<u64, u64> = HashMap::new();
    for &(index, key, n) in &*log.lock().unwrap() {
        let expected = next.entry(key).or_default();
        assert_eq!(n, *expected, "key {key:x} at replica {index}");
        *expected += 1;
    }
    assert_eq!(next.len() as u64, SENDERS * KEYS);
    assert!(next.iter().all(|(key, &count)| count == rounds[(key >> 32) as usize]));
    assert_eq!(executor.stats().dead_letters.total(), 0);
    pool.stop();
    pool.wait_stopped().unwrap();
    settle(executor);
    assert_eq!(executor.stats().live_actors, 0);
    tokens.assert_each_dropped_once();
}

#[test]
fn a_keys_order_is_kept_while_the_pool_changes() {
    for workers in CREWS {
        keys_keep_their_order(&crew(workers), false, 1000);
    }
}

#[test]
fn a_keys_order_is_kept_with_narrow_mailboxes() {
    for workers in CREWS {
        keys_keep_their_order(&crew(workers), false, 2);
    }
}

#[test]
fn a_keys_order_is_kept_with_losses() {
    quiet_panics();
    for workers in CREWS {
        keys_keep_their_order(&crew(workers), true, 16);
    }
}

#[test]
fn a_change_that_cannot_be_is_an_error_and_changes_nothing() {
    let executor = crew(2);
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    struct Plain;
    impl Actor for Plain {}
    let open = move |index| match fails.load(Relaxed) && index == 3 {
        true => Err("too many connections"),
        false => Ok(Plain),
    };
    let pool = executor.try_pool(2, open).build().unwrap();
    let ids = pool.ids();
    assert!(matches!(pool.resize(0), Err(PoolError::NoReplicas)));
    assert!(matches!(pool.shrink(2), Err(PoolError::NoReplicas)));
    failing.store(true, Relaxed);
    let error = pool.grow(2).unwrap_err();
    assert_eq!(chain(&error), "replica 3 could not be made: too many connections");
    assert_eq!(pool.ids(), ids);
    pool.resize(2).unwrap();
    assert!(!pool.is_resizing());
    pool.stop();
    assert!(matches!(pool.grow(1), Err(PoolError::Stopped)));
}

/// A stop, at once or not, and a shutdown, in the middle of a change.
#[test]
fn a_pool_may_end_while_it_changes() {
    for (kill, shutdown) in [(false, false), (true, false), (false, true), (true, true)] {
        for to in [1, 4] {
            let executor = crew(2);
            let Fixture { pool, log, tokens } = shards(&executor, 2, 1000);
            let until = occupy(&pool, 1);
            pool.tell(ToIndex(1), Item { key: 0, n: 0 }).unwrap();
            pool.resize(to).unwrap();
            let asks: Vec<_> =
                (0..100).map(|key| pool.ask(ByKey(key), Item { key, n: 1 }).unwrap()).collect();
            let open = thread::spawn(move || {
                thread::park_timeout(Duration::from_millis(20));
                until.open();
            });
            let deadline = Duration::from_secs(LONG);
            match (kill, shutdown) {
                (false, false) => pool.stop(),
                (true, false) => pool.stop_now(),
                (false, true) => assert!(executor.shutdown(deadline).unwrap().complete),
                (true, true) => assert!(executor.shutdown_now(deadline).unwrap().complete),
            }
            for ask in asks {
                match answer(ask) {
                    Ok(_) => {}
                    Err(AskError::Stopped) if kill => {}
                    other => panic!("{other:?}"),
                }
            }
            open.join().unwrap();
            let end = pool.wait_stopped_timeout(deadline).unwrap();
            let expected = match (kill, shutdown) {
                (_, true) => PoolStopReason::Shutdown,
                (true, false) => PoolStopReason::Killed,
                (false, false) => PoolStopReason::Stopped,
            };
            assert_eq!(end, expected);
            if !shutdown {
                settle(&executor);
            }
            let stats = executor.stats();
            assert_eq!(stats.accepted, stats.handled + stats.dead_letters.total());
            assert!(kill || log.lock().unwrap().len() == 101);
            tokens.assert_each_dropped_once();
        }
    }
}

/// A replica that a shrink removes still belongs to the pool.
#[test]
fn a_stop_at_once_reaches_those_that_are_let_go_of() {
    let executor = crew(2);
    let Fixture { pool, log, tokens } = shards(&executor, 2, 1000);
    let until = occupy(&pool, 1);
    let asks: Vec<_> =
        (0..100).map(|n| pool.ask(ToIndex(1), Item { key: 0, n }).unwrap()).collect();
    pool.shrink(1).unwrap();
    pool.stop_now();
    until.open();
    assert_eq!(
        pool.wait_stopped_timeout(Duration::from_secs(LONG)).unwrap(),
        PoolStopReason::Killed
    );
    for ask in asks {
        assert_eq!(answer(ask), Err(AskError::Stopped));
    }
    assert!(log.lock().unwrap().is_empty());
    settle(&executor);
    assert_eq!(executor.stats().dead_letters.total(), 100);
    tokens.assert_each_dropped_once();
}

/// A change makes mailboxes for moved keys with messages, not for each pair of replicas.
#[test]
fn no_more_holds_than_keys_on_the_way() {
    let executor = crew(2);
    let (before, after, keys) = (100, 200, 10);
    let Fixture { pool, log, tokens } = shards(&executor, before, 1000);
    let until = occupy(&pool, 0);
    let live = |executor: &Executor| usize::try_from(executor.stats().live_actors).unwrap();
    assert_eq!(live(&executor), before + 1, "the replicas and the queue");
    pool.resize(after).unwrap();
    assert!(pool.is_resizing());
    assert_eq!(live(&executor), after + 1, "nothing was sent");
    let asks: Vec<_> = (0..2 * keys)
        .map(|n| pool.ask(ByKey(n % keys), Item { key: n % keys, n }).unwrap())
        .collect();
    assert!(live(&executor) <= after + 1 + keys as usize);
    until.open();
    for ask in asks {
        answer(ask).unwrap();
    }
    within(LONG, "the change ends", || !pool.is_resizing());
    settle(&executor);
    assert_eq!(live(&executor), after + 1);
    assert_eq!(pool.stats().held, 0);
    for key in 0..keys {
        let of_key: Vec<_> =
            log.lock().unwrap().iter().filter(|item| item.1 == key).map(|item| item.2).collect();
        assert_eq!(of_key, [key, key + keys]);
    }
    drop(pool);
    within(LONG, "all have ended", || live(&executor) == 0);
    tokens.assert_each_dropped_once();
}

/// The number may come from a configuration, so memory for the replicas must not be asked for before
/// their number is checked.
#[test]
fn a_pool_of_too_many_replicas_is_an_error() {
    struct Plain;
    impl Actor for Plain {}
    let executor = crew(1);
    let pool = executor.pool(1, |_| Plain).build().unwrap();
    for many in [usize::MAX, 1 << 44, (1 << 24) + 1] {
        let too_many = |refused| matches!(refused, Err(PoolError::TooManyReplicas(n)) if n >= many);
        assert!(too_many(pool.grow(many)));
        assert!(too_many(pool.resize(many)));
        assert!(too_many(executor.pool(many, |_| Plain).build().map(drop)));
    }
    assert_eq!(
        pool.resize(usize::MAX).unwrap_err().to_string(),
        format!("a pool has at most 2^24 replicas, not {}", usize::MAX)
    );
    pool.grow(1).expect("nothing has changed");
    assert_eq!(pool.len(), 2);
}
