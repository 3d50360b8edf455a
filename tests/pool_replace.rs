//! Tests that a replica that panics or stops has a successor, and that no message is lost.

mod common;

use common::diary::Entries;
use common::*;
use heist::event::{PanicPlace, ReplicaFailure};
use heist::pool::PoolStopReason;
use heist::strategy::*;
use heist::timer::{IntervalMode, Tick};
use heist::{Actor, AskError, Context, Event, Executor, Handler, Pool, Refusal, StopReason};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Records what it handles. Every state has a number.
struct Noting {
    state: u64,
    log: Arc<Mutex<Vec<(u64, u64)>>>,
    entries: Entries,
    _token: Token,
}

impl Actor for Noting {
    fn started(&mut self, _: &mut Context<Self>) {
        self.entries.write(format!("{} started", self.state));
    }
    fn stopped(&mut self, reason: &StopReason) {
        self.entries.write(format!("{} {reason}", self.state));
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.entries.write(format!("{} dropped", self.state));
    }
}

impl Handler<u64> for Noting {
    type Reply = u64;
    fn handle(&mut self, n: u64, _: &mut Context<Self>) -> u64 {
        self.log.lock().unwrap().push((self.state, n));
        self.state
    }
}

/// What a replica is told to do.
enum Do {
    Panic,
    Stop,
    StopNow,
    Wait(Latch, Latch),
}

impl Handler<Do> for Noting {
    type Reply = ();
    fn handle(&mut self, what: Do, ctx: &mut Context<Self>) {
        match what {
            Do::Panic => intended_panic(),
            Do::Stop => ctx.stop(),
            Do::StopNow => ctx.me().stop_now(),
            Do::Wait(inside, until) => {
                inside.open();
                until.wait();
            }
        }
    }
}

/// What the tests inspect.
#[derive(Default)]
struct Seen {
    log: Arc<Mutex<Vec<(u64, u64)>>>,
    entries: Entries,
    tokens: Tokens,
    made: Arc<AtomicU64>,
}

impl Seen {
    fn factory(&self) -> impl Fn(usize) -> Noting + Send + Sync + 'static {
        let (log, entries) = (Arc::clone(&self.log), self.entries.clone());
        let (tokens, made) = (self.tokens.clone(), Arc::clone(&self.made));
        move |_| Noting {
            state: made.fetch_add(1, Relaxed),
            log: Arc::clone(&log),
            entries: entries.clone(),
            _token: tokens.token(),
        }
    }
    fn log(&self) -> Vec<(u64, u64)> {
        self.log.lock().unwrap().clone()
    }
}

/// Makes a pool of one replica, so that everything has one order.
fn alone(executor: &Executor, seen: &Seen) -> Pool<Noting> {
    let pool = executor.pool(1, seen.factory()).failure_limit(1000, Duration::from_secs(3600));
    pool.backoff(Duration::from_micros(100), Duration::from_millis(1)).build().unwrap()
}

/// Holds the replica, so that all later messages wait.
fn hold(pool: &Pool<Noting>) -> Latch {
    let (inside, until) = (Latch::new(), Latch::new());
    pool.tell(ToIndex(0), Do::Wait(inside.clone(), until.clone())).unwrap();
    inside.wait();
    until
}

#[test]
fn what_waits_is_handled_by_the_successor_in_order() {
    quiet_panics();
    on_every_crew(|executor| {
        let seen = Seen::default();
        let pool = alone(executor, &seen);
        let id = pool.ids()[0];
        let until = hold(&pool);
        let before = pool.ask(ToIndex(0), 0u64).unwrap();
        let panics = pool.ask(ToIndex(0), Do::Panic).unwrap();
        let after: Vec<_> = (1..=50u64).map(|n| pool.ask(ToIndex(0), n).unwrap()).collect();
        let again = pool.ask(ToIndex(0), Do::Panic).unwrap();
        let last = pool.ask(ToIndex(0), 51u64).unwrap();
        until.open();
        assert_eq!(answer(before), Ok(0));
        assert_eq!(
            cause(panics),
            INTENDED,
            "the asker of the message that panicked gets the cause"
        );
        for ask in after {
            assert_eq!(answer(ask), Ok(1));
        }
        assert_eq!(cause(again), INTENDED);
        assert_eq!(answer(last), Ok(2));
        let expected = (0..=51u64).map(|n| (u64::from(n > 0) + u64::from(n > 50), n));
        assert!(seen.log().into_iter().eq(expected), "{:?}", seen.log());
        assert_eq!(pool.ids()[0], id, "the same actor");
        let stats = pool.stats();
        assert_eq!((stats.replicas[0].failed, stats.replicas[0].replaced), (2, 2));
        settle(executor);
        assert_eq!((executor.stats().panicked, executor.stats().dead_letters.total()), (2, 0));
        pool.stop();
        pool.wait_stopped().unwrap();
        settle(executor);
        seen.tokens.assert_each_dropped_once();
    });
}

/// Each state has ended before the next begins.
#[test]
fn a_replacement_has_its_order() {
    quiet_panics();
    on_every_crew(|executor| {
        let seen = Seen::default();
        let pool = alone(executor, &seen);
        pool.tell(ToIndex(0), Do::Panic).unwrap();
        pool.tell(ToIndex(0), Do::Stop).unwrap();
        settle(executor);
        pool.stop();
        pool.wait_stopped().unwrap();
        let order = [
            "0 started",
            "0 panicked: intended",
            "0 dropped",
            "1 started",
            "1 stopped",
            "1 dropped",
            "2 started",
            "2 stopped",
            "2 dropped",
        ];
        assert_eq!(seen.entries.all(), order);
    });
}

#[test]
fn a_replica_that_stops_is_replaced_and_loses_nothing() {
    on_every_crew(|executor| {
        for stop in [|| Do::Stop, || Do::StopNow] {
            let seen = Seen::default();
            let pool = alone(executor, &seen);
            let until = hold(&pool);
            pool.tell(ToIndex(0), 1u64).unwrap();
            pool.tell(ToIndex(0), stop()).unwrap();
            pool.tell(ToIndex(0), 2u64).unwrap();
            until.open();
            settle(executor);
            assert_eq!(seen.log(), [(0, 1), (1, 2)]);
            // Stopped from outside while idle.
            pool.replica(0).unwrap().stop();
            settle(executor);
            pool.replica(0).unwrap().stop_now();
            settle(executor);
            assert_eq!(answer(pool.ask(ToIndex(0), 3u64).unwrap()), Ok(3));
            assert_eq!(
                (pool.stats().replicas[0].failed, pool.stats().replicas[0].replaced),
                (0, 3)
            );
            assert!(pool.replica(0).unwrap().is_running());
            assert_eq!(executor.stats().dead_letters.total(), 0);
        }
    });
}

/// A stop may come at any step of a turn, even between its look at the mailbox and its last step.
/// The next message must reach a new state in every case.
#[test]
fn a_stop_at_the_end_of_a_turn_is_not_lost() {
    let executor = crew(1);
    let seen = Seen::default();
    let pool = executor.pool(1, seen.factory()).failure_limit(u32::MAX, Duration::from_millis(1));
    let pool = pool.backoff(Duration::ZERO, Duration::ZERO).build().unwrap();
    let replica = pool.replica(0).unwrap();
    for round in 0..1000u64 {
        let made = seen.made.load(Relaxed);
        pool.tell(ToIndex(0), round).unwrap();
        within(10, "the message to be handled", || {
            seen.log.lock().unwrap().len() as u64 > 2 * round
        });
        for _ in 0..round * 7 % 97 {
            std::hint::spin_loop();
        }
        replica.stop();
        settle(&executor);
        assert_eq!(seen.made.load(Relaxed), made + 1, "the stop of round {round} was lost");
        pool.tell(ToIndex(0), round).unwrap();
        within(10, "the next one, too", || seen.log.lock().unwrap().len() as u64 == 2 * round + 2);
        let log = seen.log();
        assert_eq!(log[log.len() - 2].0 + 1, log[log.len() - 1].0, "it met the old state");
    }
    shut_down(&executor);
}

#[test]
fn a_lost_state_is_no_timeout() {
    quiet_panics();
    let executor = crew(2);
    let seen = Seen::default();
    let pool = alone(&executor, &seen);
    let error = pool
        .ask(ToIndex(0), Do::Panic)
        .unwrap()
        .wait_timeout(Duration::from_secs(LONG))
        .unwrap_err();
    assert!(matches!(error, AskError::Panicked(text) if text.as_str() == INTENDED));
}

/// While a successor is awaited, messages are accepted within the capacity, handled later, and no
/// turn runs meanwhile.
#[test]
fn messages_wait_for_the_successor_within_the_capacity() {
    quiet_panics();
    let executor = crew(2);
    let seen = Seen::default();
    let factory = seen.factory();
    let works = Arc::new(AtomicBool::new(true));
    let may = Arc::clone(&works);
    let open = move |index| if may.load(Relaxed) { Ok(factory(index)) } else { Err("no database") };
    let pool =
        executor.try_pool(1, open).capacity(4).failure_limit(u32::MAX, Duration::from_secs(3600));
    let pool = pool.backoff(Duration::from_millis(1), Duration::from_millis(2)).build().unwrap();
    works.store(false, Relaxed);
    pool.tell(ToIndex(0), Do::Panic).unwrap();
    within(LONG, "the factory has failed", || pool.stats().replicas[0].replaced > 3);
    assert!(pool.stats().replicas[0].absent);
    let asks: Vec<_> = (0..4u64).map(|n| pool.ask(ToIndex(0), n).unwrap()).collect();
    let refused = pool.tell(ToIndex(0), 4u64).unwrap_err();
    assert_eq!((refused.refusal(), refused.into_message()), (Refusal::Full, 4));
    // Not idle: messages wait and will be handled.
    assert!(executor.wait_idle_timeout(Duration::from_millis(20)).is_err());
    assert!(seen.log().is_empty());
    works.store(true, Relaxed);
    for ask in asks {
        assert_eq!(answer(ask), Ok(1));
    }
    assert_eq!(seen.log(), [(1, 0), (1, 1), (1, 2), (1, 3)]);
    settle(&executor);
    assert!(!pool.stats().replicas[0].absent);
}

/// Makes a pool and puts its next successor an hour away.
fn far_successor(executor: &Executor, seen: &Seen) -> Pool<Noting> {
    let hour = Duration::from_secs(3600);
    let pool = executor
        .pool(2, seen.factory())
        .backoff(hour, hour)
        .failure_limit(1000, hour)
        .build()
        .unwrap();
    for _ in 0..2 {
        let _ = answer(pool.ask(ToIndex(0), Do::Panic).unwrap());
    }
    within(LONG, "it waits", || {
        pool.stats().replicas[0].absent && pool.stats().replicas[0].replaced == 2
    });
    pool
}

/// A replica without a state must get no messages by load, and its backoff must wake no worker.
#[test]
fn backoff_is_after_the_second_loss_and_keeps_nobody_awake() {
    quiet_panics();
    let executor = crew(2);
    let seen = Seen::default();
    let pool = far_successor(&executor, &seen);
    let waiting = pool.ask(ToIndex(0), 1u64).unwrap();
    assert_eq!(answer(pool.ask(ToIndex(1), 2u64).unwrap()), Ok(1), "the others go on");
    for _ in 0..100 {
        assert_eq!(
            answer(pool.ask(LeastLoaded, 3u64).unwrap()),
            Ok(1),
            "who has no state is not chosen"
        );
    }
    assert_eq!(answer(pool.ask(SharedQueue, 3u64).unwrap()), Ok(1), "nor does it take");
    within(LONG, "all sleep", || {
        let wakes = || executor.stats().workers.iter().map(|worker| worker.wakes).sum::<u64>();
        let before = wakes();
        thread::park_timeout(Duration::from_millis(50));
        wakes() == before
    });
    assert!(!waiting.is_ready());
    // The shutdown does not wait for the successor, but loses nothing.
    assert!(executor.shutdown(Duration::from_secs(LONG)).unwrap().complete);
    assert_eq!(answer(waiting), Ok(3));
}

#[test]
fn a_pool_that_stops_at_once_does_not_wait_for_a_successor() {
    quiet_panics();
    let executor = crew(2);
    let seen = Seen::default();
    let pool = far_successor(&executor, &seen);
    let waiting = pool.ask(ToIndex(0), 1u64).unwrap();
    pool.stop_now();
    assert_eq!(answer(waiting), Err(AskError::Stopped));
    assert_eq!(pool.wait_stopped_timeout(Duration::from_secs(LONG)), Ok(PoolStopReason::Killed));
    settle(&executor);
    seen.tokens.assert_each_dropped_once();
}

#[test]
fn a_pool_that_lost_too_many_is_not_running() {
    quiet_panics();
    on_every_crew(|executor| {
        let seen = Seen::default();
        let window = Duration::from_secs(3600);
        let pool = executor
            .pool(2, seen.factory())
            .backoff(Duration::ZERO, Duration::ZERO)
            .failure_limit(3, window);
        let pool = pool.build().unwrap();
        for _ in 0..3 {
            assert_eq!(cause(pool.ask(ToIndex(0), Do::Panic).unwrap()), INTENDED);
            settle(executor);
            assert!(pool.is_running());
        }
        let until = hold(&pool);
        let others = pool.ask(ToIndex(1), 1u64).unwrap();
        let last = pool.ask(ToIndex(0), Do::Panic).unwrap();
        let behind = pool.ask(ToIndex(0), 2u64).unwrap();
        until.open();
        assert_eq!(cause(last), INTENDED);
        assert_eq!(cause(behind), INTENDED, "there is nobody for it any more");
        assert_eq!(answer(others), Ok(1), "the others handle what they have");
        let end = pool.wait_stopped_timeout(Duration::from_secs(LONG)).unwrap();
        match &end {
            PoolStopReason::ReplacedTooOften {
                replacements: 3,
                window: w,
                last: ReplicaFailure::Panicked(text),
                ..
            } => {
                assert_eq!((w, text.as_str()), (&window, INTENDED));
            }
            other => panic!("{other:?}"),
        }
        assert!(end.to_string().contains("more than 3"), "{end}");
        assert!(!pool.is_running());
        assert_eq!(pool.tell(ToIndex(1), 3u64).unwrap_err().refusal(), Refusal::PoolStopped);
        settle(executor);
        seen.tokens.assert_each_dropped_once();
    });
}

#[test]
fn a_factory_that_fails_or_panics_is_tried_again_up_to_the_limit() {
    quiet_panics();
    for panics in [false, true] {
        let events = EventLog::new();
        let executor = build(Executor::builder().workers(2).on_event(events.hook()));
        let seen = Seen::default();
        let factory = seen.factory();
        let first = AtomicBool::new(true);
        let open = move |index| match first.swap(false, Relaxed) {
            true => Ok(factory(index)),
            false if panics => intended_panic(),
            false => Err("intended: no database"),
        };
        let pool =
            executor.try_pool(1, open).backoff(Duration::from_micros(1), Duration::from_millis(1));
        let pool = pool.failure_limit(5, Duration::from_secs(3600)).build().unwrap();
        let waiting = {
            let until = hold(&pool);
            pool.tell(ToIndex(0), Do::Stop).unwrap();
            let waiting = pool.ask(ToIndex(0), 1u64).unwrap();
            until.open();
            waiting
        };
        assert_eq!(answer(waiting), Err(AskError::Stopped));
        match pool.wait_stopped_timeout(Duration::from_secs(LONG)).unwrap() {
            PoolStopReason::ReplacedTooOften { last: ReplicaFailure::Factory(text), .. } => {
                assert!(text.starts_with(INTENDED), "{text}");
            }
            other => panic!("{other:?}"),
        }
        settle(&executor);
        assert_eq!(executor.stats().panicked, if panics { 5 } else { 0 });
        assert_eq!(executor.stats().dead_letters.total(), 1);
        // Each try except the last, which has no successor.
        let told = |cause: fn(&ReplicaFailure) -> bool| {
            let replaced =
                |event: &Event| matches!(event, Event::Replaced { cause: it, .. } if cause(it));
            events.all().iter().filter(|event| replaced(event)).count()
        };
        assert_eq!(told(|cause| *cause == ReplicaFailure::Stopped), 1);
        assert_eq!(
            told(
                |cause| matches!(cause, ReplicaFailure::Factory(text) if text.starts_with(INTENDED))
            ),
            4
        );
        assert_eq!(pool.stats().replicas[0].replaced, 5);
        seen.tokens.assert_each_dropped_once();
    }
}

#[test]
fn the_hook_is_told_of_losses() {
    quiet_panics();
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(2).on_event(events.hook()));
    let seen = Seen::default();
    let pool = alone(&executor, &seen);
    pool.tell(ToIndex(0), Do::Panic).unwrap();
    pool.tell(ToIndex(0), Do::Stop).unwrap();
    settle(&executor);
    let id = pool.ids()[0];
    let all = events.all();
    assert!(
        matches!(&all[0], Event::Panicked { actor, place: PanicPlace::Handler, .. } if *actor == id)
    );
    assert!(
        matches!(&all[1], Event::Replaced { actor, cause: ReplicaFailure::Panicked(_), .. } if *actor == id)
    );
    assert!(matches!(&all[2], Event::Replaced { cause: ReplicaFailure::Stopped, .. }));
    assert_eq!(all.len(), 3);
}

/// A replica that always fails at its start, and a replica that also fails at its end.
#[test]
fn hooks_and_drops_may_panic() {
    quiet_panics();
    struct Bad(u64);
    impl Actor for Bad {
        fn started(&mut self, _: &mut Context<Self>) {
            if self.0 == 1 {
                intended_panic()
            }
        }
        fn stopped(&mut self, _: &StopReason) {
            intended_panic()
        }
    }
    impl Drop for Bad {
        fn drop(&mut self) {
            if !thread::panicking() {
                intended_panic()
            }
        }
    }
    impl Handler<u64> for Bad {
        type Reply = u64;
        fn handle(&mut self, n: u64, _: &mut Context<Self>) -> u64 {
            if n == 0 { intended_panic() } else { self.0 }
        }
    }
    on_every_crew(|executor| {
        let made = AtomicU64::new(0);
        let pool = executor.pool(1, move |_| Bad(made.fetch_add(1, Relaxed))).build().unwrap();
        pool.tell(ToIndex(0), 0u64).unwrap();
        assert_eq!(
            answer(pool.ask(ToIndex(0), 1u64).unwrap()),
            Ok(2),
            "the one after the one that did not start"
        );
        settle(executor);
        // Handler, `stopped` and drop of the first state, start and drop of the second.
        assert_eq!(executor.stats().panicked, 5);
        pool.stop();
        pool.wait_stopped().unwrap();
    });
}

/// Senders, panics and stops at the same time: messages of a sender to a replica come in order,
/// none is lost, and none comes twice.
#[test]
fn nothing_is_lost_or_overtaken_while_replicas_are_lost() {
    quiet_panics();
    const SENDERS: u64 = 4;
    const EACH: u64 = 2_000;
    for workers in CREWS {
        let executor = crew(workers);
        let seen = Seen::default();
        let pool = executor.pool(3, seen.factory()).failure_limit(u32::MAX, Duration::from_secs(1));
        let pool =
            pool.backoff(Duration::from_micros(10), Duration::from_micros(200)).build().unwrap();
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let pool = &pool;
                scope.spawn(move || {
                    for n in 0..EACH {
                        pool.send(ByKey(sender), sender << 32 | n).unwrap();
                        if n % 97 == 0 {
                            pool.send(ByKey(sender), Do::Panic).unwrap();
                        } else if n % 89 == 0 {
                            pool.send(Random, Do::Stop).unwrap();
                        }
                    }
                });
            }
        });
        settle(&executor);
        let log = seen.log();
        assert_eq!(log.len() as u64, SENDERS * EACH);
        for sender in 0..SENDERS {
            let own =
                log.iter().map(|(_, n)| n).filter(|n| *n >> 32 == sender).map(|n| n & 0xffff_ffff);
            assert!(own.eq(0..EACH), "sender {sender}'s messages are out of order");
        }
        pool.stop();
        pool.wait_stopped().unwrap();
        shut_down(&executor);
        seen.tokens.assert_each_dropped_once();
    }
}

/// A replica goes on after a panic, and so does an interval of which a tick has panicked, in its
/// handler or while its message was made. Each tick is handled once.
#[test]
fn p03_an_interval_goes_on_after_a_panic_over_its_tick() {
    const HOUR: Duration = Duration::from_secs(3_600);
    const PANICS: [u64; 2] = [2, 5];
    quiet_panics();
    on_every_crew(|executor| {
        for mode in [IntervalMode::FixedRate, IntervalMode::FixedDelay] {
            let pool = executor.pool(1, |_| Puppet::default());
            let pool = pool.failure_limit(u32::MAX, HOUR).backoff(Duration::ZERO, Duration::ZERO);
            let pool = pool.build().unwrap();
            let seen = Arc::<Mutex<Vec<u64>>>::default();
            let theirs = Arc::clone(&seen);
            let make = move |tick: Tick| {
                theirs.lock().unwrap().push(tick.number);
                if tick.number == PANICS[0] {
                    intended_panic()
                }
                Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                    if tick.number == PANICS[1] {
                        intended_panic()
                    }
                })
            };
            let replica = pool.replica(0).unwrap();
            let ticking = replica.tell_every(Duration::from_millis(1), mode, make).unwrap();
            within(LONG, "it goes on", || seen.lock().unwrap().len() > 10);
            assert!(ticking.is_armed());
            assert!(ticking.cancel(), "it could be cancelled");
            settle(executor);
            let seen = seen.lock().unwrap();
            assert!(seen.iter().copied().eq(0..seen.len() as u64), "{seen:?}");
            let stats = pool.stats();
            assert_eq!((stats.replicas[0].failed, stats.replicas[0].replaced), (2, 2));
            assert_eq!(executor.stats().armed_timers, 0);
        }
    });
}

/// No state comes after the limit, so the interval ends with the replica.
#[test]
fn an_interval_ends_with_a_replica_that_lost_too_many() {
    quiet_panics();
    on_every_crew(|executor| {
        let pool = executor.pool(1, |_| Puppet::default());
        let pool = pool.failure_limit(0, Duration::from_secs(3_600)).build().unwrap();
        let make = |_: Tick| -> Note { intended_panic() };
        let replica = pool.replica(0).unwrap();
        let every = Duration::from_millis(1);
        let ticking = replica.tell_every(every, IntervalMode::FixedRate, make).unwrap();
        pool.wait_stopped_timeout(Duration::from_secs(LONG)).unwrap();
        assert!(!ticking.is_armed());
        settle(executor);
        assert_eq!(executor.stats().armed_timers, 0);
    });
}
