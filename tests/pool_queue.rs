//! Tests the shared queue of a pool, first in, first out, from which idle replicas take messages.

mod common;

use common::*;
use heist::strategy::*;
use heist::{Actor, AskError, Context, Executor, Handler, Pool, Refusal};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

struct Worker {
    index: usize,
    log: Arc<Mutex<Vec<u64>>>,
    in_turn: Arc<InTurn>,
}

impl Actor for Worker {}

impl Handler<u64> for Worker {
    type Reply = usize;
    fn handle(&mut self, n: u64, _: &mut Context<Self>) -> usize {
        let _inside = self.in_turn.enter();
        self.log.lock().unwrap().push(n);
        self.index
    }
}

struct Block {
    inside: Latch,
    until: Latch,
}

impl Block {
    fn new() -> (Self, Latch, Latch) {
        let (inside, until) = (Latch::new(), Latch::new());
        (Block { inside: inside.clone(), until: until.clone() }, inside, until)
    }
}

impl Handler<Block> for Worker {
    type Reply = ();
    fn handle(&mut self, block: Block, _: &mut Context<Self>) {
        block.inside.open();
        block.until.wait();
    }
}

struct Panic;

impl Handler<Panic> for Worker {
    type Reply = ();
    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        intended_panic()
    }
}

type Log = Arc<Mutex<Vec<u64>>>;

fn pool(executor: &Executor, replicas: usize, capacity: usize) -> (Pool<Worker>, Log) {
    let log = Log::default();
    let theirs = Arc::clone(&log);
    let factory = move |index| Worker { index, log: Arc::clone(&theirs), in_turn: InTurn::new() };
    let pool = executor
        .pool(replicas, factory)
        .queue_capacity(capacity)
        .failure_limit(u32::MAX, Duration::from_secs(1));
    (pool.backoff(Duration::ZERO, Duration::ZERO).build().unwrap(), log)
}

/// Occupies a replica until the returned latch is opened.
fn occupy(pool: &Pool<Worker>, route: Route) -> Latch {
    let (block, inside, until) = Block::new();
    pool.tell(route, block).unwrap();
    inside.wait();
    until
}

#[test]
fn no_message_waits_behind_a_slow_one_while_a_replica_is_idle() {
    let executor = crew(4);
    let (pool, _) = pool(&executor, 3, 100);
    // Any replica may get a slow message. The queue finds the one that is left.
    let first = occupy(&pool, Route::SharedQueue);
    let second = occupy(&pool, Route::SharedQueue);
    for n in 0..200 {
        answer(pool.ask(SharedQueue, n).unwrap()).unwrap();
    }
    let third = occupy(&pool, Route::SharedQueue);
    let waiting: Vec<_> = (0..20).map(|n| pool.ask(SharedQueue, n).unwrap()).collect();
    within(LONG, "all are busy", || pool.stats().queued == 20);
    second.open(); // this one goes on and does everything
    let by: Vec<usize> = waiting.into_iter().map(|ask| answer(ask).unwrap()).collect();
    assert!(by.iter().all(|&index| index == by[0]));
    first.open();
    third.open();
}

/// All replicas are busy except for one moment. A replica that becomes idle takes from the queue,
/// whatever it was busy with.
#[test]
fn who_comes_from_its_own_mailbox_takes_from_the_queue() {
    let executor = crew(4);
    let (pool, _) = pool(&executor, 2, 100);
    let busy = [occupy(&pool, Route::Index(0)), occupy(&pool, Route::Index(1))];
    let waiting = pool.ask(SharedQueue, 1).unwrap();
    within(LONG, "it waits", || pool.stats().queued == 1);
    busy[1].open();
    assert_eq!(answer(waiting), Ok(1));
    busy[0].open();
}

#[test]
fn the_queue_is_first_in_first_out() {
    on_every_crew(|executor| {
        let (pool, log) = pool(executor, 1, 1000);
        for n in 0..500 {
            pool.tell(SharedQueue, n).unwrap();
        }
        settle(executor);
        assert!(log.lock().unwrap().iter().copied().eq(0..500));
    });
}

#[test]
fn the_queues_capacity_counts() {
    let executor = crew(2);
    let (pool, _) = pool(&executor, 1, 3);
    let until = occupy(&pool, Route::SharedQueue);
    let mut asks: Vec<_> = (0..3).map(|n| pool.ask(SharedQueue, n).unwrap()).collect();
    let refused = pool.ask(SharedQueue, 3).unwrap_err();
    assert_eq!(
        (refused.refusal(), refused.into_message()),
        (Refusal::Full, 3),
        "an ask is refused at once"
    );
    assert!(pool.tell(SharedQueue, 3).unwrap_err().is_full());
    let refused = pool.send_timeout(SharedQueue, 3, Duration::from_millis(1)).unwrap_err();
    assert_eq!((refused.refusal(), refused.into_message()), (Refusal::TimedOut, 3));
    asks.push(pool.ask(ToIndex(0), 4).unwrap()); // the replica's own mailbox has room
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.send(SharedQueue, 5));
        within(LONG, "it is in line", || !waits.is_finished() && pool.stats().queued == 3);
        until.open();
        waits.join().unwrap().unwrap();
    });
    for ask in asks {
        assert_eq!(answer(ask), Ok(0));
    }
    settle(&executor);
}

/// The queue and the replicas' own mailboxes do not starve each other.
#[test]
fn the_queue_and_the_mailboxes_take_turns() {
    struct Again(Arc<AtomicU64>);
    impl Handler<Again> for Worker {
        type Reply = ();
        fn handle(&mut self, again: Again, ctx: &mut Context<Self>) {
            again.0.fetch_add(1, Relaxed);
            let _until_it_stops = ctx.me().tell(again);
        }
    }
    on_every_crew(|executor| {
        let (pool, _) = pool(executor, 2, 100);
        let turns = Arc::new(AtomicU64::new(0));
        for index in 0..2 {
            pool.tell(ToIndex(index), Again(Arc::clone(&turns))).unwrap();
        }
        for n in 0..100 {
            answer(pool.ask(SharedQueue, n).unwrap()).unwrap(); // although no replica is ever idle
            answer(pool.ask(ByKey(n), n).unwrap()).unwrap();
        }
        // The other way round: a queue that is never empty.
        let before = turns.load(Relaxed);
        let flood = AtomicU64::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                while flood.load(Relaxed) == 0 {
                    pool.send(SharedQueue, 1).unwrap();
                }
            });
            within(LONG, "the mailboxes' turns", || turns.load(Relaxed) > before + 100);
            flood.store(1, Relaxed);
        });
        pool.stop_now();
        pool.wait_stopped().unwrap();
    });
}

#[test]
fn a_stop_drains_the_queue_and_a_stop_at_once_does_not() {
    on_every_crew(|executor| {
        for now in [false, true] {
            let (pool, log) = pool(executor, 1, 100);
            let dead = executor.stats().dead_letters.total();
            let until = occupy(&pool, Route::SharedQueue);
            let asks: Vec<_> = (0..50).map(|n| pool.ask(SharedQueue, n).unwrap()).collect();
            if now {
                pool.stop_now();
            } else {
                pool.stop();
            }
            assert_eq!(pool.tell(SharedQueue, 50).unwrap_err().refusal(), Refusal::PoolStopped);
            until.open();
            for ask in asks {
                assert_eq!(answer(ask), if now { Err(AskError::Stopped) } else { Ok(0) });
            }
            pool.wait_stopped().unwrap();
            settle(executor);
            assert_eq!(log.lock().unwrap().len(), if now { 0 } else { 50 });
            assert_eq!(executor.stats().dead_letters.total() - dead, if now { 50 } else { 0 });
        }
    });
}

/// A sender in line would otherwise wait for a queue that no replica serves any more.
#[test]
fn a_stop_sends_home_who_waits_for_room_in_the_queue() {
    let executor = crew(2);
    let (pool, _) = pool(&executor, 1, 1);
    let until = occupy(&pool, Route::SharedQueue);
    pool.tell(SharedQueue, 0).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| pool.send(SharedQueue, 1));
        within(LONG, "it is in line", || pool.stats().queued == 1 && !waits.is_finished());
        thread::park_timeout(Duration::from_millis(20));
        pool.stop_now();
        until.open();
        let refused = waits.join().unwrap().unwrap_err();
        assert_eq!((refused.refusal(), refused.into_message()), (Refusal::PoolStopped, 1));
    });
}

/// `wait_idle` covers messages in the shared queue.
#[test]
fn idle_means_an_empty_queue() {
    for workers in CREWS {
        let executor = crew(workers);
        let (pool, log) = pool(&executor, 2, 10_000);
        for round in 1..20 {
            for n in 0..500 {
                pool.tell(SharedQueue, n).unwrap();
            }
            settle(&executor);
            assert_eq!(log.lock().unwrap().len(), round * 500);
        }
    }
}

#[test]
fn a_shutdown_drains_the_queue() {
    for workers in CREWS {
        let executor = crew(workers);
        let (pool, log) = pool(&executor, 3, 10_000);
        for n in 0..5_000 {
            pool.tell(SharedQueue, n).unwrap();
        }
        shut_down(&executor);
        assert_eq!(log.lock().unwrap().len(), 5_000);
        assert_eq!(executor.stats().dead_letters.total(), 0);
    }
}

/// Replicas are lost while they handle a message of the queue, or just as they get one.
#[test]
fn losses_lose_nothing_of_the_queue() {
    quiet_panics();
    for workers in CREWS {
        let executor = crew(workers);
        let (pool, log) = pool(&executor, 3, 64);
        thread::scope(|scope| {
            for sender in 0..3u64 {
                let pool = &pool;
                scope.spawn(move || {
                    for n in 0..2_000 {
                        pool.send(SharedQueue, sender << 32 | n).unwrap();
                        if n % 50 == 0 {
                            pool.send(
                                [Route::SharedQueue, Route::Random][n as usize / 50 % 2],
                                Panic,
                            )
                            .unwrap();
                        }
                    }
                });
            }
        });
        settle(&executor);
        let mut log = log.lock().unwrap().clone();
        log.sort_unstable();
        let all: Vec<u64> =
            (0..3u64).flat_map(|sender| (0..2_000).map(move |n| sender << 32 | n)).collect();
        assert!(log == all, "{} handled of {}", log.len(), all.len());
        pool.stop();
        pool.wait_stopped().unwrap();
    }
}

/// Silence, then one message, again and again: an idle replica is found every time.
#[test]
fn one_message_after_silence_finds_a_replica() {
    let executor = crew(2);
    let (pool, _) = pool(&executor, 4, 10);
    for n in 0..20_000 {
        answer(pool.ask(SharedQueue, n).unwrap()).unwrap();
        if n % 3 == 0 {
            pool.tell(Random, n).unwrap();
        }
    }
}

/// Many senders, few places, few replicas: senders meet busy and idle replicas at every moment.
#[test]
fn everything_that_is_sent_through_a_narrow_queue_is_handled_once() {
    for workers in CREWS {
        let executor = crew(workers);
        let (pool, log) = pool(&executor, 3, 2);
        thread::scope(|scope| {
            for sender in 0..4u64 {
                let pool = &pool;
                scope.spawn(move || {
                    for n in 0..3_000 {
                        pool.send(SharedQueue, sender << 32 | n).unwrap();
                        if n % 7 == 0 {
                            let _full_is_fine = pool.tell(RoundRobin, u64::MAX);
                        }
                    }
                });
            }
        });
        settle(&executor);
        let mut log: Vec<_> =
            log.lock().unwrap().iter().copied().filter(|&n| n != u64::MAX).collect();
        log.sort_unstable();
        assert!(
            log.into_iter()
                .eq((0..4u64).flat_map(|sender| (0..3_000).map(move |n| sender << 32 | n)))
        );
    }
}

/// A thousand messages sent from a single turn must all be handled.
#[test]
fn sending_to_the_queue_inside_a_replica() {
    struct Split(u64);
    impl Handler<Split> for Worker {
        type Reply = ();
        fn handle(&mut self, Split(n): Split, _: &mut Context<Self>) {
            self.log.lock().unwrap().push(n);
        }
    }
    on_every_crew(|executor| {
        let (pool, log) = pool(executor, 4, 5_000);
        let theirs = pool.clone();
        let puppet = executor.spawn(Puppet::default());
        inside(&puppet, move |_, _| {
            for n in 0..1_000 {
                theirs.tell(SharedQueue, Split(n)).unwrap();
            }
        });
        settle(executor);
        assert_eq!(log.lock().unwrap().len(), 1_000);
    });
}
