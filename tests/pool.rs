//! Tests pools: bad input, broadcasts, waits, statistics, the end. `pool_strategies.rs` tests
//! strategies, `pool_replace.rs` losses and successors, `pool_queue.rs` the shared queue,
//! `pool_resize.rs` changes of size.
//!
//! A pool of connections with a thread for each had these faults. None exists here:
//!
//! | fault | test |
//! |---|---|
//! | a thread for each actor, with a 100 ms poll | `a_pool_has_no_threads_of_its_own_and_sleeps` |
//! | asks get each other's replies, also after a timeout | `no_ask_gets_anothers_answer` |
//! | unread replies block the actor | `tells_that_nobody_reads_the_answers_of_block_nobody` |
//! | a timeout that does not count the wait for room | `a_timeout_counts_the_wait_for_room` |
//! | a dead actor reported as a timeout | `pool_replace.rs`: `a_lost_state_is_no_timeout` |
//! | a stop that silently drops queued asks | `a_stop_answers_what_was_asked` |
//! | "running" after a panic | `pool_replace.rs`: `a_pool_that_lost_too_many_is_not_running` |
//! | least loaded picks actor 0 | `pool_strategies.rs`: `least_loaded_is_fair_among_equals` |
//! | least loaded picks a busy actor | `pool_strategies.rs`: `least_loaded_avoids_the_busy` |
//! | an id off by one | `pool_strategies.rs`: `a_given_replica_gets_it_and_no_other` |
//! | an empty pool that divides by zero | `bad_input_is_a_clear_error_with_the_message_inside` |
//! | broadcast one after another | `a_broadcast_asks_all_at_the_same_time` |
//! | a key map that grows without bound | `pool_strategies.rs`: `a_million_keys_take_no_memory` |
//! | a work-stealing pool that was declared and never built | `pool_queue.rs` |
//! | statistics that were collected and could not be read | `statistics_can_be_read` |
//! | CPU affinity that was promised only | `placement.rs`: `workers_are_pinned_to_their_cores` |

mod common;

use common::pools::*;
use common::*;
use heist::pool::{PoolError, PoolStopReason};
use heist::strategy::*;
use heist::{Actor, AskError, Context, Executor, Handler, Pool, Refusal, WaitError};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

#[test]
fn bad_input_is_a_clear_error_with_the_message_inside() {
    let executor = crew(2);
    let none = executor.pool(0, Worker::new).build().unwrap_err();
    assert!(matches!(none, PoolError::NoReplicas));
    assert_eq!(none.to_string(), "a pool needs at least one replica");
    for bad in [0, usize::MAX] {
        assert!(
            matches!(executor.pool(1, Worker::new).capacity(bad).build(), Err(PoolError::Capacity(n)) if n == bad)
        );
        let queue = executor.pool(1, Worker::new).queue_capacity(bad).build();
        assert!(matches!(queue, Err(PoolError::Capacity(n)) if n == bad));
    }
    let one = || executor.pool(1, Worker::new);
    let twice = one().queue_unbounded().queue_capacity(1).build().unwrap_err();
    assert_eq!(
        twice.to_string(),
        "pool not built: `queue_capacity` contradicts `queue_unbounded` (leave one of them out)"
    );
    for none in [one().budget_messages(0), one().budget_time(Duration::ZERO)] {
        assert!(matches!(none.build(), Err(PoolError::Budget)));
    }
    let corrected = one().capacity(0).capacity(3).budget_messages(0).budget_messages(1);
    assert_eq!(corrected.build().unwrap().replica(0).unwrap().capacity(), Some(3));
    let pool = workers(&executor, 3);
    let refused = pool.tell(ToIndex(3), Who).unwrap_err();
    assert_eq!((refused.refusal(), refused.into_message()), (Refusal::NoReplica, Who));
    let refused = pool.send(ToIndex(usize::MAX), Who).unwrap_err();
    assert_eq!((refused.refusal(), refused.into_message()), (Refusal::NoReplica, Who));
    let stranger = executor.spawn(Puppet::default()).id();
    assert_eq!(pool.ask(ToId(stranger), Who).unwrap_err().refusal(), Refusal::NoReplica);
    pool.stop();
    for strategy in
        [Route::RoundRobin, Route::Key(1), Route::SharedQueue, Route::Index(0), Route::Default]
    {
        let refused = pool.tell(strategy, Who).unwrap_err();
        assert_eq!(refused.to_string(), "message not sent: the pool has stopped");
        assert_eq!((refused.refusal(), refused.into_message()), (Refusal::PoolStopped, Who));
        assert_eq!(pool.send(strategy, Who).unwrap_err().refusal(), Refusal::PoolStopped);
        assert_eq!(pool.ask(strategy, Who).unwrap_err().into_message(), Who);
    }
    let outcomes = pool.broadcast(Who).wait();
    assert_eq!(outcomes, vec![Err(AskError::Refused(Refusal::PoolStopped)); 3]);
    assert!(matches!(pool.grow(1), Err(PoolError::Stopped)));
}

#[test]
fn a_factorys_error_comes_out_of_build_and_names_the_index() {
    let executor = crew(2);
    let tokens = Tokens::new();
    let made = tokens.clone();
    struct Connection(#[allow(dead_code)] Token);
    impl Actor for Connection {}
    let open = move |index| {
        if index == 2 { Err("no such database") } else { Ok(Connection(made.token())) }
    };
    let error = executor.try_pool(4, open).build().unwrap_err();
    assert_eq!(chain(&error), "replica 2 could not be made: no such database");
    assert!(matches!(error, PoolError::Factory { index: 2, .. }));
    assert_eq!(tokens.made(), 2);
    tokens.assert_each_dropped_once();
    assert_eq!(executor.stats().live_actors, 0, "nothing was spawned");
}

#[test]
fn a_pool_on_an_executor_that_has_ended_is_an_error() {
    let executor = crew(2);
    let handle = executor.handle();
    shut_down(&executor);
    assert!(matches!(handle.pool(2, Worker::new).build(), Err(PoolError::ShuttingDown)));
}

/// Each replica waits until all of them have arrived.
#[test]
fn a_broadcast_asks_all_at_the_same_time() {
    struct Meeting;
    impl Actor for Meeting {}
    #[derive(Clone)]
    struct Meet {
        here: Arc<AtomicUsize>,
        all: usize,
    }
    impl Handler<Meet> for Meeting {
        type Reply = ();
        fn handle(&mut self, meet: Meet, _: &mut Context<Self>) {
            meet.here.fetch_add(1, Relaxed);
            within(LONG, "the others come", || meet.here.load(Relaxed) == meet.all);
        }
    }
    let executor = crew(4);
    let pool = executor.pool(4, |_| Meeting).build().unwrap();
    let meet = Meet { here: Arc::default(), all: 4 };
    assert_eq!(pool.broadcast(meet).wait_timeout(Duration::from_secs(LONG)), vec![Ok(()); 4]);
}

#[test]
fn a_broadcasts_outcomes_are_in_order_under_one_timeout() {
    on_every_crew(|executor| {
        let pool = executor.pool(3, Worker::new).capacity(1).build().unwrap();
        assert_eq!(pool.broadcast(Who).wait(), [Ok(0), Ok(1), Ok(2)]);
        settle(executor); // their mailboxes are empty again
        let awaited =
            futures::executor::block_on(pool.broadcast_with(|index| Echo(index as u64 * 10)));
        assert_eq!(awaited, [Ok(0), Ok(10), Ok(20)]);
        settle(executor);
        if executor.workers() < 4 || executor.policy() != heist::Policy::Stealing {
            return; // others must run beside the busy replica
        }
        let busy = occupy(&pool, 1);
        let late = pool.broadcast(Echo(7));
        rested(&pool, &[1]);
        let outcomes = late.wait_timeout(Duration::from_millis(10));
        // Its mailbox has one place, and the message in its handler occupies it.
        assert_eq!(outcomes, [Ok(7), Err(AskError::Refused(Refusal::Full)), Ok(7)]);
        busy.open();
        settle(executor);
        let pool = workers(executor, 3);
        let busy = [occupy(&pool, 0), occupy(&pool, 2)];
        let late = pool.broadcast(Echo(8));
        rested(&pool, &[0, 2]);
        let outcomes = late.wait_timeout(Duration::from_millis(10));
        let timed_out = || Err(AskError::TimedOut);
        assert_eq!(outcomes, [timed_out(), Ok(8), timed_out()]);
        busy.iter().for_each(Latch::open);
    });
}

#[test]
fn no_ask_gets_anothers_answer() {
    let executor = crew(2);
    let pool = workers(&executor, 3);
    thread::scope(|scope| {
        for sender in 0..4u64 {
            let pool = &pool;
            scope.spawn(move || {
                for n in 0..500 {
                    let asked = sender << 32 | n;
                    let mut ask = pool.ask(Random, Echo(asked)).unwrap();
                    if n % 10 == 0 {
                        drop(ask.wait_timeout(Duration::ZERO)); // the later answer is discarded
                    } else {
                        assert_eq!(answer(ask), Ok(asked));
                    }
                }
            });
        }
    });
}

#[test]
fn tells_that_nobody_reads_the_answers_of_block_nobody() {
    let executor = crew(2);
    let pool = workers(&executor, 2);
    for n in 0..100_000 {
        pool.send(RoundRobin, Echo(n)).unwrap();
    }
    settle(&executor);
    assert_eq!(answer(pool.ask(RoundRobin, Echo(1)).unwrap()), Ok(1));
}

/// A timeout that began after the wait for room would let the whole call take far longer.
#[test]
fn a_timeout_counts_the_wait_for_room() {
    let executor = crew(2);
    let pool = executor.pool(1, Worker::new).capacity(1).build().unwrap();
    let busy = occupy(&pool, 0);
    assert_eq!(
        pool.ask(ToIndex(0), Who).unwrap_err().refusal(),
        Refusal::Full,
        "an ask does not wait for room"
    );
    let refused = pool.send_timeout(ToIndex(0), Who, Duration::from_millis(1)).unwrap_err();
    assert_eq!((refused.refusal(), refused.into_message()), (Refusal::TimedOut, Who));
    thread::scope(|scope| {
        let sending = scope.spawn(|| pool.send(ToIndex(0), Who));
        within(LONG, "it is in line", || {
            pool.tell(ToIndex(0), Who).is_err() && !sending.is_finished()
        });
        busy.open();
        sending.join().unwrap().unwrap();
    });
    settle(&executor);
    assert_eq!(pool.stats().replicas[0].actor.handled, 2);
}

/// Only the replica itself could make room, and it would be waiting.
#[test]
fn a_replica_does_not_wait_for_room_in_its_own_mailbox() {
    struct Flood(Pool<Worker>);
    impl Handler<Flood> for Worker {
        type Reply = Refusal;
        fn handle(&mut self, Flood(pool): Flood, _: &mut Context<Self>) -> Refusal {
            while pool.tell(ToIndex(0), Who).is_ok() {}
            pool.send(ToIndex(0), Who).unwrap_err().refusal()
        }
    }
    let executor = crew(2);
    let pool = executor.pool(1, Worker::new).capacity(2).build().unwrap();
    let refused = answer(pool.ask(ToIndex(0), Flood(pool.clone())).unwrap());
    assert_eq!(refused, Ok(Refusal::WouldDeadlock));
}

#[test]
fn a_send_can_be_awaited() {
    on_every_crew(|executor| {
        let pool = executor.pool(2, Worker::new).capacity(2).build().unwrap();
        futures::executor::block_on(async {
            for n in 0..100 {
                pool.send_async(ByKey(n), Who).await.unwrap();
            }
        });
        settle(executor);
        let handled: u64 = pool.stats().replicas.iter().map(|replica| replica.actor.handled).sum();
        assert_eq!(handled, 100);
    });
}

#[test]
fn a_stop_answers_what_was_asked() {
    on_every_crew(|executor| {
        let pool = workers(executor, 3);
        let asks: Vec<_> = (0..300u64)
            .map(|n| {
                let route = [Route::RoundRobin, Route::SharedQueue, Route::Key(n)][n as usize % 3];
                pool.ask(route, Echo(n)).unwrap()
            })
            .collect();
        pool.stop();
        assert!(!pool.is_running());
        for (n, ask) in asks.into_iter().enumerate() {
            assert_eq!(answer(ask), Ok(n as u64));
        }
        assert_eq!(
            pool.wait_stopped_timeout(Duration::from_secs(LONG)),
            Ok(PoolStopReason::Stopped)
        );
        settle(executor);
        assert_eq!(executor.stats().dead_letters.total(), 0);
        assert_eq!(executor.stats().live_actors, 0);
    });
}

#[test]
fn stop_now_tells_the_askers() {
    on_every_crew(|executor| {
        let pool = workers(executor, 1);
        let busy = occupy(&pool, 0);
        let asks: Vec<_> =
            [Route::Index(0), Route::SharedQueue].map(|r| pool.ask(r, Who).unwrap()).into();
        pool.stop_now();
        busy.open();
        for ask in asks {
            assert_eq!(answer(ask), Err(AskError::Stopped));
        }
        assert_eq!(pool.wait_stopped(), Ok(PoolStopReason::Killed));
        assert_eq!(executor.stats().dead_letters.killed, 2);
    });
}

#[test]
fn the_last_handle_stops_the_pool() {
    on_every_crew(|executor| {
        let pool = workers(executor, 2);
        let other = pool.clone();
        let end = pool.wait_stopped_async();
        let asked = pool.ask(SharedQueue, Echo(3)).unwrap();
        drop(pool);
        assert!(other.is_running());
        drop(other);
        assert_eq!(answer(asked), Ok(3));
        assert_eq!(futures::executor::block_on(end), PoolStopReason::Dropped);
        settle(executor);
        assert_eq!(executor.stats().live_actors, 0);
    });
}

#[test]
fn a_shutdown_ends_a_pool() {
    for now in [false, true] {
        let executor = crew(2);
        let pool = workers(&executor, 2);
        for n in 0..100 {
            pool.tell(RoundRobin, Echo(n)).unwrap();
            pool.tell(SharedQueue, Echo(n)).unwrap();
        }
        let deadline = Duration::from_secs(LONG);
        let report =
            if now { executor.shutdown_now(deadline) } else { executor.shutdown(deadline) }
                .unwrap();
        assert!(report.complete, "{report:?}");
        assert_eq!(report.handled + report.dead_letters.total(), 200);
        assert!(now || report.handled == 200);
        assert_eq!(pool.wait_stopped(), Ok(PoolStopReason::Shutdown));
        assert!(!pool.is_running());
        assert!(pool.tell(RoundRobin, Who).is_err());
        assert!(pool.tell(SharedQueue, Who).is_err());
    }
}

#[test]
fn wait_stopped_times_out_and_is_refused_on_the_crew() {
    let executor = crew(2);
    let pool = workers(&executor, 2);
    assert_eq!(pool.wait_stopped_timeout(Duration::from_millis(1)), Err(WaitError::TimedOut));
    let theirs = pool.clone();
    let puppet = executor.spawn(Puppet::default());
    assert_eq!(inside(&puppet, move |_, _| theirs.wait_stopped()), Err(WaitError::OnCrew));
}

#[test]
fn a_pool_can_be_used_and_built_inside_handlers() {
    on_every_crew(|executor| {
        let puppet = executor.spawn(Puppet::default());
        let pool = inside(&puppet, |_, ctx| {
            let pool = ctx.handle().pool(3, Worker::new).build().unwrap();
            for n in 0..30 {
                pool.tell(
                    [Route::RoundRobin, Route::SharedQueue, Route::Key(n)][n as usize % 3],
                    Who,
                )
                .unwrap();
            }
            pool
        });
        settle(executor);
        let handled: u64 = pool.stats().replicas.iter().map(|replica| replica.actor.handled).sum();
        assert_eq!(handled, 30);
        inside(&puppet, move |_, _| {
            pool.stop();
            drop(pool);
        });
        settle(executor);
        assert_eq!(executor.stats().live_actors, 1);
    });
}

#[test]
fn statistics_can_be_read() {
    let executor = crew(4);
    let pool = workers(&executor, 3);
    spread(&pool, ToIndex(0), 8);
    spread(&pool, ToIndex(1), 4);
    settle(&executor);
    let stats = pool.stats();
    let handled: Vec<u64> = stats.replicas.iter().map(|replica| replica.actor.handled).collect();
    assert_eq!(handled, [8, 4, 0]);
    assert_eq!(stats.imbalance(), 2.0, "8 against a mean of 4");
    let busy = occupy(&pool, 2);
    (0..5).for_each(|_| pool.tell(ToIndex(2), Who).unwrap());
    let stats = pool.stats();
    assert!(stats.replicas[2].in_work);
    assert_eq!(stats.replicas[2].waiting, 5);
    assert!(!stats.replicas[0].in_work);
    let ids: Vec<_> = stats.replicas.iter().map(|replica| replica.id).collect();
    assert_eq!(ids, pool.ids());
    let others = [occupy(&pool, 0), occupy(&pool, 1)];
    (0..3).for_each(|_| pool.tell(SharedQueue, Who).unwrap());
    within(LONG, "the queue has found nobody", || pool.stats().queued == 3);
    busy.open();
    others.iter().for_each(Latch::open);
    settle(&executor);
    assert_eq!((pool.stats().queued, pool.stats().held), (0, 0));
    pool.stop();
    pool.wait_stopped().unwrap();
    assert_eq!(pool.stats().replicas.len(), 3, "and afterwards");
}

/// More messages than the executor's capacity, in the mailbox and in the queue; one for each turn.
#[test]
fn a_pools_replicas_have_its_capacity_and_its_budget() {
    let executor = build(Executor::builder().workers(2).capacity(2));
    let pool = executor.pool(1, Worker::new).unbounded().queue_unbounded().budget_messages(1);
    let pool = pool.build().unwrap();
    assert_eq!(pool.replica(0).unwrap().capacity(), None);
    let busy = occupy(&pool, 0);
    for _ in 0..50 {
        pool.tell(ToIndex(0), Who).unwrap();
        pool.tell(SharedQueue, Who).unwrap();
    }
    let turns = || executor.stats().workers.iter().map(|worker| worker.turns).sum::<u64>();
    let before = turns();
    busy.open();
    settle(&executor);
    assert_eq!(pool.stats().replicas[0].actor.handled, 101);
    assert!(turns() - before >= 100, "{} turns", turns() - before);
    let bounded = workers(&executor, 1);
    assert_eq!(bounded.replica(0).unwrap().capacity(), Some(2));
}

/// All ways into a replica: its mailbox, the line for room, the shared queue, holds and marks
/// during a change of size, after a loss.
#[test]
fn handling_and_wait_times_can_be_read() {
    struct Fail;
    impl Handler<Fail> for Worker {
        type Reply = ();
        fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
            intended_panic()
        }
    }
    quiet_panics();
    on_every_crew(|executor| {
        let pool = executor
            .pool(2, Worker::new)
            .timing(true)
            .capacity(4)
            .queue_capacity(4)
            .build()
            .unwrap();
        for n in 0..400u64 {
            let route = [Route::RoundRobin, Route::SharedQueue, Route::Key(n), Route::LeastLoaded]
                [n as usize % 4];
            pool.send(route, Echo(n)).unwrap();
            if n == 100 || n == 200 {
                pool.send(Route::Random, Fail).unwrap();
            }
            if n % 150 == 0 {
                let _one_at_a_time = pool.resize(2 + n as usize / 150);
            }
        }
        settle(executor);
        let timed =
            pool.stats().replicas.into_iter().map(|replica| replica.timing.expect("it is timed"));
        let (mut waits, mut handled) = (0, 0);
        for timing in timed {
            waits += timing.wait.count;
            handled += timing.handling.count;
            assert!(timing.wait.max < Duration::from_secs(LONG), "nonsense: {timing:?}");
        }
        assert_eq!(waits, handled);
        assert!(
            (400..450).contains(&handled),
            "{handled}: all messages, those that failed, and marks"
        );
        assert!(workers(executor, 1).stats().replicas[0].timing.is_none());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_pool_has_no_threads_of_its_own_and_sleeps() {
    let executor = crew(2);
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    settle(&executor);
    // Threads of other tests come and go, so only threads of this crew are counted.
    let before = executor.workers();
    let pool = workers(&executor, 500);
    settle(&executor);
    assert_eq!(executor.workers(), before);
    assert!(threads() < 400, "{} threads", threads());
    // Quiet: no thread wakes again.
    let parks = || executor.stats().workers.iter().map(|worker| worker.wakes).sum::<u64>();
    let quiet = parks();
    thread::park_timeout(Duration::from_millis(300));
    assert_eq!(parks(), quiet);
    drop(pool);
}
