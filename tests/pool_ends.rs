//! Ends of pools: the factory is let go of, and a replica that waits for its successor does not
//! hold the end up. For comparison, a directory, which has no such end.

mod common;

use common::*;
use heist::pool::{PoolError, PoolStopReason};
use heist::strategy::{ByKey, Replicas, Route, SharedQueue, Strategy, ToIndex};
use heist::{Actor, ActorRef, Ask, Context, Directory, Event, Executor, Handler, Pool, Refusal};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{self, Wake, Waker};
use std::thread;
use std::time::Duration;

struct Part;
impl Actor for Part {}

struct Fail;
impl Handler<Fail> for Part {
    type Reply = ();
    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        intended_panic()
    }
}

struct Nothing;
impl Handler<Nothing> for Part {
    type Reply = ();
    fn handle(&mut self, _: Nothing, _: &mut Context<Self>) {}
}

/// Opens the first latch and waits for the second.
struct Hold(Latch, Latch);
impl Handler<Hold> for Part {
    type Reply = ();
    fn handle(&mut self, Hold(begun, until): Hold, _: &mut Context<Self>) {
        begun.open();
        until.wait();
    }
}

/// The pool's own strategy, which goes when the pool's last part does.
struct Usual {
    _token: Token,
}
impl Strategy for Usual {
    fn route(&self, _: &Replicas<'_>) -> Route {
        Route::Random
    }
}

/// A task that is told of the end.
#[derive(Default)]
struct Told(AtomicBool);
impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

/// Panics when it is dropped.
struct Armed;
impl Drop for Armed {
    fn drop(&mut self) {
        intended_panic()
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

/// Makes a pool whose factory holds the pool.
fn cyclic(executor: &Executor, factory: &Tokens, all: &Tokens) -> Pool<Part> {
    let own = Arc::<OnceLock<Pool<Part>>>::default();
    let theirs = (Arc::clone(&own), factory.token(), Armed);
    let make = move |_| {
        let _holds = &theirs;
        Part
    };
    let pool =
        executor.pool(2, make).strategy(Usual { _token: all.token() }).failure_limit(3, HOUR);
    let pool = pool.backoff(Duration::ZERO, Duration::ZERO).build().unwrap();
    own.set(pool.clone()).unwrap();
    pool
}

#[test]
fn p10_a_factory_that_holds_its_pool_goes_with_the_pools_end() {
    quiet_panics();
    for way in 0..4 {
        let (executor, factory, all) = (crew(2), Tokens::new(), Tokens::new());
        let pool = cyclic(&executor, &factory, &all);
        assert_eq!(factory.alive(), 1);
        let (told, mut awaited) = (Arc::new(Told::default()), pool.wait_stopped_async());
        let waker = Waker::from(Arc::clone(&told));
        assert!(Pin::new(&mut awaited).poll(&mut task::Context::from_waker(&waker)).is_pending());
        let end = match way {
            0 => {
                pool.stop();
                PoolStopReason::Stopped
            }
            1 => {
                pool.stop_now();
                PoolStopReason::Killed
            }
            2 => {
                shut_down(&executor);
                PoolStopReason::Shutdown
            }
            _ => {
                while pool.tell(ToIndex(0), Fail).is_ok() {}
                pool.wait_stopped_timeout(Duration::from_secs(LONG)).unwrap()
            }
        };
        assert_eq!(pool.wait_stopped_timeout(Duration::from_secs(LONG)), Ok(end));
        within(LONG, "the end is told", || told.0.load(Relaxed));
        assert_eq!(factory.alive(), 0, "the factory is gone before the end is told");
        assert!(matches!(pool.grow(1), Err(PoolError::Stopped | PoolError::ShuttingDown)));
        assert_eq!(all.alive(), 1, "a handle is left");
        drop((pool, awaited));
        within(LONG, "the pool is freed", || all.alive() == 0);
        shut_down(&executor);
    }
}

/// The end may come at any moment of the loss: while the state is dropped, before or after the
/// replica has its timer, or when it rests until its successor is made.
#[test]
fn p07_a_pool_that_stops_at_once_ends_at_any_moment_of_a_backoff() {
    quiet_panics();
    let dice = Dice::new(7);
    for round in 0..300 {
        let executor = crew(1 + round % 2);
        let made = Arc::new(Mutex::new(0));
        let theirs = Arc::clone(&made);
        let make = move |_| {
            *theirs.lock().unwrap() += 1;
            Part
        };
        let pool =
            executor.pool(2, make).backoff(HOUR, HOUR).failure_limit(1_000, HOUR).build().unwrap();
        for _ in 0..2 {
            pool.tell(ToIndex(0), Fail).unwrap();
        }
        pool.tell(ToIndex(1), Fail).unwrap();
        if round % 3 == 0 {
            within(LONG, "it waits", || {
                pool.stats().replicas[0].absent && *made.lock().unwrap() == 4
            });
        }
        (0..dice.below(30)).for_each(|_| thread::yield_now());
        if round % 5 == 0 {
            pool.replica(0).unwrap().stop_now(); // a state that is not there
        }
        if round % 4 == 0 {
            shut_down(&executor);
        } else {
            pool.stop_now();
            let end = pool.wait_stopped_timeout(Duration::from_secs(LONG));
            assert_eq!(end, Ok(PoolStopReason::Killed));
        }
        assert!(*made.lock().unwrap() <= 6, "a successor an hour early: {made:?} in round {round}");
    }
}

/// Counts the successors that the event hook is told of.
fn count_replaced(told: &Arc<AtomicUsize>) -> impl Fn(&Event) + Send + Sync + use<> {
    let told = Arc::clone(told);
    move |event| {
        if matches!(event, Event::Replaced { .. }) {
            told.fetch_add(1, Relaxed);
        }
    }
}

/// Makes a pool with one state and no other. Counts the attempts to make one.
fn without_successor(executor: &Executor, replicas: usize, made: &Arc<AtomicUsize>) -> Pool<Part> {
    let theirs = Arc::clone(made);
    let make =
        move |_| if theirs.fetch_add(1, Relaxed) < replicas { Ok(Part) } else { Err("no state") };
    let pool = executor.try_pool(replicas, make).backoff(HOUR, HOUR);
    pool.failure_limit(u32::MAX, Duration::MAX).build().unwrap()
}

/// No timer is armed in a shutdown, so a delay cannot be kept. It must not become none: the factory
/// would be called without end.
#[test]
fn a_shutdown_ends_a_replica_that_would_have_to_wait_once_more() {
    quiet_panics();
    for busy in [false, true] {
        let (told, made) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let executor = build(Executor::builder().workers(1).on_event(count_replaced(&told)));
        let pool = without_successor(&executor, 1, &made);
        if busy {
            // The losses are in the shutdown.
            let (begun, held) = (Latch::new(), Latch::new());
            let part = executor.spawn(Part);
            part.tell(Hold(begun.clone(), held.clone())).unwrap();
            begun.wait();
            pool.tell(ToIndex(0), Fail).unwrap();
            pool.tell(ToIndex(0), Fail).unwrap();
            pool.tell(SharedQueue, Fail).unwrap();
            pool.tell(SharedQueue, Fail).unwrap();
            thread::scope(|scope| {
                let shutdown = scope.spawn(|| shut_down(&executor));
                within(LONG, "the shutdown begins", || {
                    part.tell(Nothing).is_err_and(|error| error.refusal() == Refusal::ShuttingDown)
                });
                held.open();
                shutdown.join().unwrap();
            });
        } else {
            for _ in 0..3 {
                pool.tell(ToIndex(0), Fail).unwrap();
            }
            pool.tell(SharedQueue, Fail).unwrap();
            within(LONG, "it waits", || {
                made.load(Relaxed) == 2 && executor.stats().armed_timers == 1
            });
            shut_down(&executor);
        }
        assert_eq!(made.load(Relaxed), if busy { 2 } else { 3 });
        let dead = executor.stats().dead_letters;
        assert_eq!((dead.shutdown, dead.total()), (3, 3));
        // One successor for each attempt that came, and none for the one that could not wait.
        let replaced = pool.stats().replicas[0].replaced;
        let attempts = made.load(Relaxed) - 1;
        assert_eq!((told.load(Relaxed), replaced), (attempts, attempts as u64));
        assert_eq!(pool.wait_stopped_timeout(Duration::ZERO), Ok(PoolStopReason::Shutdown));
    }
}

/// The end of a leaving replica is what a shrink waits for. A replica that has ended before tells
/// no end any more.
#[test]
fn p07_a_shrink_is_over_although_its_replica_has_ended_before() {
    quiet_panics();
    const KEYS: u64 = 64;
    for _ in 0..5 {
        let told = Arc::<AtomicUsize>::default();
        let executor = build(Executor::builder().workers(2).on_event(count_replaced(&told)));
        let pool = executor.pool(3, |_| Part).backoff(HOUR, HOUR).build().unwrap();
        let (puppet, go) = (executor.spawn(Puppet::default()), Latch::new());
        let (theirs, until) = (pool.clone(), go.clone());
        let asked = puppet.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            until.wait();
            let leaving = theirs.replica(2).unwrap();
            theirs.tell(ToIndex(2), Fail).unwrap();
            theirs.tell(ToIndex(2), Fail).unwrap();
            let mut ended = leaving.wait_stopped_async();
            within(LONG, "no timer for the successor in a shutdown", || {
                let waker = &mut task::Context::from_waker(Waker::noop());
                Pin::new(&mut ended).poll(waker).is_ready()
            });
            assert_eq!(theirs.stats().replicas[2].replaced, 1);
            theirs.resize(2).unwrap();
            let resized = !theirs.is_resizing();
            (0..KEYS).for_each(|key| theirs.tell(ByKey(key), Nothing).unwrap());
            resized
        }));
        thread::scope(|scope| {
            let shutdown = scope.spawn(|| shut_down(&executor));
            within(LONG, "the shutdown begins", || {
                puppet.tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| ())).is_err()
            });
            go.open();
            shutdown.join().unwrap();
        });
        let resized = asked.unwrap().wait().unwrap();
        assert_eq!(told.load(Relaxed), 1, "the second loss has no successor");
        assert_eq!(executor.stats().dead_letters.total(), 0, "messages were held for ever");
        assert!(resized, "nobody is waited for");
    }
}

/// A replica without a state needs no other one once nothing can come any more.
#[test]
fn a_graceful_stop_and_a_shrink_do_not_sit_out_a_backoff_with_nothing_to_handle() {
    quiet_panics();
    for shrinks in [false, true] {
        let (executor, made) = (crew(1), Arc::<AtomicUsize>::default());
        let pool = without_successor(&executor, 2, &made);
        pool.tell(ToIndex(1), Fail).unwrap();
        within(LONG, "it waits", || made.load(Relaxed) == 3 && executor.stats().armed_timers == 1);
        if shrinks {
            let leaving = pool.replica(1).unwrap();
            pool.shrink(1).unwrap();
            leaving.wait_stopped_timeout(Duration::from_secs(LONG)).expect("it ends");
            assert!(pool.is_running());
        }
        pool.stop();
        assert_eq!(
            pool.wait_stopped_timeout(Duration::from_secs(LONG)),
            Ok(PoolStopReason::Stopped)
        );
        assert_eq!(made.load(Relaxed), 3, "no other state was made for the end");
        shut_down(&executor);
    }
}

/// An answer with an ask of the same kind in it, so that dropping one drops the next. The innermost
/// one calls the function.
struct Nested(#[expect(dead_code)] Option<Ask<Nested>>, Option<Box<dyn FnOnce() + Send>>);
impl Drop for Nested {
    fn drop(&mut self) {
        self.1.take().into_iter().for_each(|f| f());
    }
}

struct Give(Nested);
impl Handler<Give> for Part {
    type Reply = Nested;
    fn handle(&mut self, Give(nested): Give, _: &mut Context<Self>) -> Nested {
        nested
    }
}

/// A replica's delays are its own, and not those of a replica that had its index before.
#[test]
fn a_replica_added_after_a_shrink_does_not_inherit_losses() {
    quiet_panics();
    let executor = crew(1);
    let pool = executor.pool(2, |_| Part).backoff(HOUR, HOUR).build().unwrap();
    for _ in 0..3 {
        // The first loss of each replica has no delay.
        pool.tell(ToIndex(1), Fail).unwrap();
        assert_eq!(answer(pool.ask(ToIndex(1), Nothing).unwrap()), Ok(()));
        pool.shrink(1).unwrap();
        within(LONG, "the replica has ended", || !pool.is_resizing());
        pool.grow(1).unwrap();
        within(LONG, "the pool has grown", || !pool.is_resizing());
    }
    shut_down(&executor);
}

/// A runnable is no user's value. The pool's end must not wait for the user's drop that stopped the
/// pool, however deeply that drop is nested in others.
#[test]
fn p07_a_stop_inside_nested_drops_ends_a_backoff_at_once() {
    quiet_panics();
    for depth in 1..7 {
        let (executor, made) = (crew(1), Arc::<AtomicUsize>::default());
        let pool = without_successor(&executor, 1, &made);
        pool.tell(ToIndex(0), Fail).unwrap();
        within(LONG, "it waits", || made.load(Relaxed) == 2 && executor.stats().armed_timers == 1);
        let (giver, ends) = (executor.spawn(Part), Arc::<OnceLock<_>>::default());
        let (to, end) = (pool.clone(), Arc::clone(&ends));
        let stops = Box::new(move || {
            to.stop_now();
            end.set(to.wait_stopped_timeout(Duration::from_secs(LONG))).unwrap();
        });
        let mut nested = giver.ask(Give(Nested(None, Some(stops)))).unwrap();
        for _ in 1..depth {
            nested = giver.ask(Give(Nested(Some(nested), None))).unwrap();
        }
        within(LONG, "the answer is there", || nested.is_ready());
        drop(nested);
        assert_eq!(ends.get(), Some(&Ok(PoolStopReason::Killed)), "{depth} drops deep");
        shut_down(&executor);
    }
}

/// See `docs/limits.md`: such a cycle is the user's to break.
#[test]
fn a_function_that_holds_its_directory_is_let_go_of_with_the_users_cell() {
    let (executor, tokens) = (crew(2), Tokens::new());
    let own = Arc::<Mutex<Option<Directory<u32, Part>>>>::default();
    let theirs = (Arc::clone(&own), tokens.token());
    let directory = Directory::new(&executor, move |_: &u32| {
        let (own, _token) = &theirs;
        assert!(own.lock().unwrap().as_ref().is_some_and(|own| own.len() == 1));
        Part
    });
    *own.lock().unwrap() = Some(directory.clone());
    assert!(directory.get(&7).is_running());
    drop(directory);
    shut_down(&executor);
    drop(executor);
    assert_eq!(tokens.alive(), 1, "the limit is no longer one: say so in docs/limits.md");
    let own = own.lock().unwrap().take();
    drop(own);
    assert_eq!(tokens.alive(), 0);
}

/// A change of size whose factory is under way at the executor's end comes too late. It must not
/// make the ended pool look alive, even for a moment: a wait that began then would never end.
#[test]
fn p07_a_change_that_comes_too_late_leaves_the_pool_ended() {
    const CHANGES: usize = 8;
    for _ in 0..10 {
        let executor = crew(1);
        let (made, go) = (Arc::new(AtomicUsize::new(0)), Latch::new());
        let (count, until) = (Arc::clone(&made), go.clone());
        let factory = move |index: usize| {
            if index > 0 {
                count.fetch_add(1, Relaxed);
                until.wait();
            }
            Part
        };
        let pool = executor.pool(1, factory).build().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let changes: Vec<_> = (0..CHANGES).map(|_| scope.spawn(|| pool.resize(2))).collect();
            within(LONG, "all changes are in the factory", || made.load(Relaxed) == CHANGES);
            shut_down(&executor);
            assert_eq!(pool.wait_stopped(), Ok(PoolStopReason::Shutdown));
            let waits = scope.spawn(|| {
                while !over.load(Relaxed) {
                    let told = pool.wait_stopped_timeout(Duration::ZERO);
                    assert_eq!(told, Ok(PoolStopReason::Shutdown), "an ended pool looks alive");
                }
            });
            go.open();
            let refused = |change: thread::ScopedJoinHandle<'_, Result<(), PoolError>>| {
                assert!(matches!(change.join().unwrap(), Err(PoolError::ShuttingDown)));
            };
            changes.into_iter().for_each(refused);
            over.store(true, Relaxed);
            waits.join().unwrap();
        });
    }
}

/// A waker of a pool's end finds each replica ended and counted.
#[test]
fn a_pools_end_is_told_after_the_end_of_each_replica() {
    struct Looks(Mutex<Vec<ActorRef<Part>>>, heist::Handle, AtomicUsize);
    impl Wake for Looks {
        fn wake(self: Arc<Self>) {
            let replicas = self.0.lock().unwrap().split_off(0);
            let over = |replica: &ActorRef<Part>| {
                let mut wait = replica.wait_stopped_async();
                Pin::new(&mut wait).poll(&mut task::Context::from_waker(Waker::noop())).is_ready()
            };
            let right = replicas.iter().all(over) && self.1.stats().live_actors == 0;
            self.2.store(1 + usize::from(right), Relaxed);
        }
    }
    on_every_crew(|executor| {
        for now in [false, true] {
            let pool = executor.pool(3, |_| Part).build().unwrap();
            let replicas: Vec<_> = (0..3).map(|n| pool.replica(n).unwrap()).collect();
            let looks = Arc::new(Looks(
                Mutex::new(replicas.clone()),
                executor.handle(),
                AtomicUsize::new(0),
            ));
            let (waker, mut wait) = (Waker::from(Arc::clone(&looks)), pool.wait_stopped_async());
            assert!(Pin::new(&mut wait).poll(&mut task::Context::from_waker(&waker)).is_pending());
            if now {
                pool.stop_now()
            } else {
                pool.stop()
            }
            pool.wait_stopped().unwrap();
            for replica in replicas {
                replica.wait_stopped_timeout(Duration::ZERO).expect("it has ended");
            }
            within(LONG, "the waker runs", || looks.2.load(Relaxed) > 0);
            assert_eq!(looks.2.load(Relaxed), 2);
        }
    });
}

/// With a walk over all replicas for each end, this takes minutes.
#[test]
fn the_end_of_a_replica_costs_the_same_in_a_large_pool() {
    const ALL: usize = 200_000;
    let executor = crew(2);
    let pool = executor.pool(ALL, |_| Part).build().unwrap();
    pool.resize(ALL / 2).unwrap();
    within(LONG, "half of them have left", || !pool.is_resizing());
    pool.stop();
    pool.wait_stopped_timeout(Duration::from_secs(LONG)).unwrap();
}
