//! Tests the replica that each strategy of a pool chooses. Each test would notice if the strategy
//! went round instead.

mod common;

use common::pools::*;
use common::*;
use heist::strategy::*;
use heist::{Actor, AskError, Context, Handler, Pool, Refusal};
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context as TaskContext, Waker};
use std::time::{Duration, Instant};

#[test]
fn round_robin_goes_round() {
    on_every_crew(|executor| {
        let pool = workers(executor, 3);
        let first = answer(pool.ask(RoundRobin, Who).unwrap()).unwrap();
        for n in 1..30 {
            assert_eq!(answer(pool.ask(RoundRobin, Who).unwrap()), Ok((first + n) % 3));
        }
        assert_eq!(spread(&pool, RoundRobin, 300), [100; 3]);
    });
}

#[test]
fn random_reaches_all_and_not_in_turn() {
    let executor = crew(2);
    let pool = workers(&executor, 4);
    let who: Vec<usize> =
        (0..2000).map(|_| answer(pool.ask(Random, Who).unwrap()).unwrap()).collect();
    for index in 0..4 {
        let got = who.iter().filter(|&&i| i == index).count();
        assert!((350..650).contains(&got), "replica {index} got {got} of 2000");
    }
    let again = who.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(again > 300, "one in four follows itself, not {again} of 2000");
}

/// Equal replicas are chosen in turn, so that the first in the list gets no more than its share.
#[test]
fn least_loaded_is_fair_among_equals() {
    let executor = crew(2);
    let pool = workers(&executor, 4);
    let busy = occupy(&pool, 1); // so the equal replicas are not adjacent
    let mut got = [0; 4];
    for _ in 0..3000 {
        rested(&pool, &[1]);
        got[answer(pool.ask(LeastLoaded, Who).unwrap()).unwrap()] += 1;
    }
    busy.open();
    assert_eq!(got[1], 0);
    for index in [0, 2, 3] {
        assert!((800..1200).contains(&got[index]), "{got:?}");
    }
}

#[test]
fn least_loaded_avoids_the_busy() {
    let executor = crew(4);
    let pool = workers(&executor, 3);
    // Replica 0 handles one message, replica 1 handles one with five waiting, and replica 2 is
    // idle. Replica 2 is chosen, and once it has two, replica 0.
    let (zero, one) = (occupy(&pool, 0), occupy(&pool, 1));
    for _ in 0..5 {
        pool.tell(ToIndex(1), Who).unwrap();
    }
    for _ in 0..20 {
        rested(&pool, &[0, 1]);
        assert_eq!(answer(pool.ask(LeastLoaded, Who).unwrap()), Ok(2));
    }
    let two = occupy(&pool, 2);
    pool.tell(ToIndex(2), Who).unwrap();
    let asked = pool.ask(LeastLoaded, Who).unwrap();
    zero.open();
    assert_eq!(answer(asked), Ok(0));
    one.open();
    two.open();
}

#[test]
fn two_choices_avoid_the_busy() {
    let executor = crew(4);
    let pool = workers(&executor, 2);
    let busy = occupy(&pool, 0);
    // With two replicas, the strategy looks at both.
    for _ in 0..100 {
        rested(&pool, &[0]);
        assert_eq!(answer(pool.ask(TwoChoices, Who).unwrap()), Ok(1));
    }
    busy.open();
    settle(&executor);
    let pool = workers(&executor, 8);
    // Among equals, none is left out or strongly favoured. A replica on a preempted worker is busy
    // and gets less.
    let got = spread(&pool, TwoChoices, 4000);
    assert!(got.iter().all(|got| (50..1000).contains(got)), "{got:?}");
    assert_eq!(spread(&pool, PoolDefault, 80).iter().sum::<usize>(), 80);
}

#[test]
fn a_key_stays_at_its_replica_in_order() {
    #[derive(Default)]
    struct Keys(HashMap<u64, Vec<u64>>);
    impl Actor for Keys {}
    impl Handler<(u64, u64)> for Keys {
        type Reply = ();
        fn handle(&mut self, (key, n): (u64, u64), _: &mut Context<Self>) {
            self.0.entry(key).or_default().push(n);
        }
    }
    #[derive(Clone)]
    struct All;
    impl Handler<All> for Keys {
        type Reply = HashMap<u64, Vec<u64>>;
        fn handle(&mut self, _: All, _: &mut Context<Self>) -> HashMap<u64, Vec<u64>> {
            self.0.clone()
        }
    }
    on_every_crew(|executor| {
        let pool = executor.pool(5, |_| Keys::default()).build().unwrap();
        for n in 0..50 {
            for key in 0..41 {
                pool.tell(ByKey(key), (key, n)).unwrap();
            }
        }
        let kept: Vec<_> = pool.broadcast(All).wait().into_iter().map(Result::unwrap).collect();
        for key in 0..41 {
            let homes: Vec<_> = kept.iter().filter_map(|kept| kept.get(&key)).collect();
            assert_eq!(homes.len(), 1, "key {key} was at {} replicas", homes.len());
            assert!(homes[0].iter().copied().eq(0..50));
        }
        let used = kept.iter().filter(|kept| !kept.is_empty()).count();
        assert_eq!(used, 5, "41 keys reach all of 5 replicas");
    });
}

#[test]
fn a_million_keys_take_no_memory() {
    // The strategy stores nothing, and the pool knows nothing of keys.
    assert_eq!(size_of::<ByKey<()>>(), 0);
    let executor = crew(2);
    let pool = executor.pool(4, Worker::new).capacity(1 << 20).build().unwrap();
    let mut memory = Vec::new();
    for round in 0..3 {
        for key in 0..300_000u64 {
            pool.send(ByKey((round, key)), Who).unwrap();
        }
        settle(&executor);
        memory.push(executor.stats().memory);
    }
    assert_eq!(memory[1], memory[2], "bytes after each round: {memory:?}");
}

#[test]
fn a_given_replica_gets_it_and_no_other() {
    on_every_crew(|executor| {
        let pool = workers(executor, 4);
        for (index, id) in pool.ids().into_iter().enumerate() {
            assert_eq!(answer(pool.ask(ToIndex(index), Who).unwrap()), Ok(index));
            assert_eq!(answer(pool.ask(ToId(id), Who).unwrap()), Ok(index));
            assert_eq!(pool.replica(index).unwrap().id(), id);
            assert_eq!(pool.choose(ToIndex(index)).unwrap().id(), id);
        }
        assert!(pool.replica(4).is_none());
        assert!(pool.choose(ToIndex(4)).is_none());
    });
}

#[test]
fn a_strategy_of_ones_own_decides() {
    struct Second(Arc<AtomicUsize>);
    impl Strategy for Second {
        fn route(&self, replicas: &Replicas<'_>) -> Route {
            assert_eq!(replicas.len(), 3);
            assert!(!replicas.is_empty());
            assert!(replicas.load(1) < 10);
            self.0.fetch_add(1, Relaxed);
            Route::Id(replicas.id(1))
        }
    }
    let executor = crew(2);
    let asked = Arc::new(AtomicUsize::new(0));
    let pool = executor.pool(3, Worker::new).strategy(Second(Arc::clone(&asked))).build().unwrap();
    for _ in 0..10 {
        assert_eq!(answer(pool.ask(PoolDefault, Who).unwrap()), Ok(1));
        assert_eq!(answer(pool.ask(Second(Arc::clone(&asked)), Who).unwrap()), Ok(1));
        pool.send(Second(Arc::clone(&asked)), Who).unwrap();
    }
    assert_eq!(asked.load(Relaxed), 30);
    assert_eq!(answer(pool.ask(Route::Index(2), Who).unwrap()), Ok(2));
}

/// A strategy of the user's is asked for each message, as the pool's default too, and whether or
/// not it looks at the replicas.
#[test]
fn a_strategy_of_ones_own_is_asked_for_each_message() {
    struct Next(AtomicUsize, bool);
    impl Next {
        fn next(&self) -> Route {
            Route::Index(self.0.fetch_add(1, Relaxed) % 3)
        }
    }
    impl Strategy for Next {
        fn route(&self, _: &Replicas<'_>) -> Route {
            self.next()
        }
        fn fixed(&self) -> Option<Route> {
            self.1.then(|| self.next())
        }
    }
    struct ByDefault;
    impl Strategy for ByDefault {
        fn route(&self, _: &Replicas<'_>) -> Route {
            Route::Default
        }
    }
    fn goes_round(pool: &Pool<Worker>, strategy: impl Strategy) {
        let got: Vec<_> =
            (0..6).map(|_| answer(pool.ask(&strategy, Who).unwrap()).unwrap()).collect();
        assert_eq!(got, [0, 1, 2, 0, 1, 2]);
    }
    let executor = crew(2);
    for fixed in [true, false] {
        let next = || Next(AtomicUsize::new(0), fixed);
        let pool = || executor.pool(3, Worker::new).strategy(next()).build().unwrap();
        goes_round(&pool(), next());
        goes_round(&pool(), PoolDefault);
        goes_round(&pool(), Route::Default);
        goes_round(&pool(), ByDefault);
    }
    let pool = executor.pool(3, Worker::new).strategy(ByDefault).build().unwrap();
    assert_eq!(spread(&pool, PoolDefault, 30).iter().sum::<usize>(), 30);
}

/// A message in transit is dropped when the strategy panics.
#[test]
fn a_panicking_strategy_drops_the_message() {
    struct Panics;
    impl Strategy for Panics {
        fn route(&self, _: &Replicas<'_>) -> Route {
            intended_panic()
        }
    }
    struct Clumsy;
    impl std::hash::Hash for Clumsy {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {
            intended_panic()
        }
    }
    struct Takes;
    impl Actor for Takes {}
    impl Handler<Token> for Takes {
        type Reply = ();
        fn handle(&mut self, _: Token, _: &mut Context<Self>) {}
    }
    fn every_way(pool: &Pool<Takes>, strategy: impl Strategy, tokens: &Tokens) {
        let panics = |f: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
        panics(&|| drop(pool.tell(&strategy, tokens.token())));
        panics(&|| drop(pool.ask(&strategy, tokens.token())));
        panics(&|| drop(pool.send(&strategy, tokens.token())));
        panics(&|| drop(pool.send_timeout(&strategy, tokens.token(), Duration::ZERO)));
        panics(&|| {
            let mut sending = pin!(pool.send_async(&strategy, tokens.token()));
            let _ = sending.as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
        });
    }
    quiet_panics();
    let executor = crew(2);
    let tokens = Tokens::new();
    let pool = executor.pool(2, |_| Takes).build().unwrap();
    every_way(&pool, Panics, &tokens);
    every_way(&pool, ByKey(Clumsy), &tokens);
    pool.send(RoundRobin, tokens.token()).unwrap();
    settle(&executor);
    assert_eq!(tokens.made(), 11);
    tokens.assert_each_dropped_once();
}

/// A strategy that is chosen at run time, or shared, is passed as it is.
#[test]
fn a_pointer_to_a_strategy_is_a_strategy() {
    let executor = crew(1);
    let pool = executor.pool(3, |_| Puppet::default()).build().unwrap();
    let boxed: Box<dyn Strategy + Send + Sync> = Box::new(ToIndex(1));
    let shared: Arc<dyn Strategy + Send + Sync> = Arc::new(ToIndex(2));
    for _ in 0..2 {
        pool.tell(&boxed, Note(1)).unwrap();
        pool.tell(&*shared, Note(2)).unwrap();
    }
    pool.tell(boxed, Note(1)).unwrap();
    pool.tell(Arc::clone(&shared), Note(2)).unwrap();
    settle(&executor);
    let handled = |index| pool.replica(index).unwrap().stats().handled;
    assert_eq!([0, 1, 2].map(handled), [0, 3, 3]);
    let usual = executor.pool(2, |_| Puppet::default()).strategy(shared).build().unwrap();
    assert_eq!(usual.tell(PoolDefault, Note(1)).unwrap_err().refusal(), Refusal::NoReplica);
    shut_down(&executor);
}

/// In a mailbox and in the shared queue.
#[test]
fn an_ask_of_a_pool_expires_by_its_timeout_or_deadline() {
    on_every_crew(|executor| {
        let pool = workers(executor, 2);
        for route in [Route::RoundRobin, Route::SharedQueue, Route::Key(7)] {
            let answers = [Duration::MAX, Duration::from_secs(LONG), Duration::ZERO]
                .map(|limit| answer(pool.ask_timeout(route, Echo(1), limit).unwrap()));
            assert_eq!(answers, [Ok(1), Ok(1), Err(AskError::Expired)], "{route:?}");
            let late = pool.ask_deadline(route, Echo(2), Instant::now()).unwrap();
            assert_eq!(answer(late), Err(AskError::Expired), "{route:?}");
        }
        pool.stop();
        for limit in [Duration::MAX, Duration::ZERO] {
            let refused = pool.ask_timeout(RoundRobin, Who, limit).unwrap_err();
            assert_eq!((refused.refusal(), refused.into_message()), (Refusal::PoolStopped, Who));
        }
    });
}
