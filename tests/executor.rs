//! Tests the executor: settings and their errors, threads, quiescence, shutdown, and events.

mod common;

use common::*;
use heist::event::{DeadLetterReason, PanicPlace};
use heist::{Actor, ActorRef, BuildError, Context, Event, Executor, Handler, Refusal, WaitError};
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(LONG);

#[test]
fn every_bad_setting_has_its_error() {
    let builder = Executor::builder;
    let error = |builder: heist::ExecutorBuilder<'_>| builder.build().expect_err("a bad setting");
    assert!(matches!(error(builder().workers(0)), BuildError::Workers(0)));
    assert!(matches!(error(builder().workers(4097)), BuildError::Workers(4097)));
    assert!(matches!(error(builder().capacity(0)), BuildError::Capacity(0)));
    assert!(matches!(error(builder().capacity(usize::MAX)), BuildError::Capacity(usize::MAX)));
    assert!(matches!(error(builder().capacity(1).unbounded()), BuildError::BoundedAndUnbounded));
    assert!(matches!(error(builder().budget_messages(0)), BuildError::Budget));
    assert!(matches!(error(builder().budget_time(Duration::ZERO)), BuildError::Budget));
    assert!(matches!(error(builder().stack_size(0)), BuildError::StackSize));
    assert!(matches!(error(builder().thread_name("a\0b")), BuildError::ThreadName));

    let executor = crew(1);
    let build = || executor.build(Puppet::default());
    for bad in [build().capacity(0), build().capacity(1 << 28), build().budget_messages(0)] {
        let error = bad.try_spawn().unwrap_err();
        assert!(!error.is_shutting_down());
        assert!(error.into_actor().log.is_empty());
    }
    assert!(build().budget_time(Duration::ZERO).try_spawn().is_err());
    assert_eq!(executor.stats().live_actors, 0);
    assert_eq!(build().name("puppet").spawn().name(), Some("puppet"));
}

#[test]
fn the_default_crew_has_a_worker_for_each_cpu() {
    let cpus = thread::available_parallelism().unwrap().get();
    let workers = Executor::new().workers();
    assert!(workers == cpus || workers == cpus + 1, "{workers}: a part of a CPU may count as one");
    assert_eq!(Executor::default().policy(), heist::Policy::Stealing);
}

#[test]
fn threads_have_their_names_and_stacks() {
    /// Uses about 4 MiB of stack, more than the default stack of a thread.
    fn deep(levels: u32) -> u64 {
        let frame = std::hint::black_box([u64::from(levels); 128]);
        if levels == 0 { frame[0] } else { deep(levels - 1) + frame[7] }
    }
    let executor = build(Executor::builder().workers(1).thread_name("named").stack_size(64 << 20));
    let puppet = executor.spawn(Puppet::default());
    let look = Run(|_: &mut Puppet, _: &mut Context<Puppet>| {
        deep(4096);
        thread::current().name().map(String::from)
    });
    assert_eq!(answer(puppet.ask(look).unwrap()).unwrap().as_deref(), Some("named-0"));
}

/// The handler gets the settings of each thread, and starts exactly one thread for each worker.
#[test]
fn a_spawn_handler_starts_the_threads() {
    let indices = Mutex::new(Vec::new());
    let executor = build(
        Executor::builder().workers(3).thread_name("mine").stack_size(1 << 20).spawn_handler(
            |worker| {
                assert_eq!(worker.name(), format!("mine-{}", worker.index()));
                assert_eq!(worker.stack_size(), 1 << 20);
                indices.lock().unwrap().push(worker.index());
                thread::Builder::new()
                    .name("by the handler".into())
                    .spawn(|| worker.run())
                    .map(drop)
            },
        ),
    );
    assert_eq!(*indices.lock().unwrap(), [0, 1, 2]);
    let puppet = executor.spawn(Puppet::default());
    let name =
        Run(|_: &mut Puppet, _: &mut Context<Puppet>| thread::current().name().map(String::from));
    assert_eq!(answer(puppet.ask(name).unwrap()).unwrap().as_deref(), Some("by the handler"));
    shut_down(&executor);
}

/// Threads that were started before a failure have ended when `build` returns.
#[test]
fn a_spawn_handler_may_fail() {
    for failing in 0..3 {
        let ran = Arc::new(AtomicU64::new(0));
        let error = Executor::builder().workers(3).spawn_handler(|worker| {
            if worker.index() == failing {
                return Err(io::Error::other("no more threads"));
            }
            let ran = Arc::clone(&ran);
            drop(thread::spawn(move || {
                worker.run().expect("a new thread works for nobody yet");
                ran.fetch_add(1, Relaxed);
            }));
            Ok(())
        });
        let error = error.build().unwrap_err();
        assert!(matches!(error, BuildError::Thread(_)));
        assert_eq!(error.source().unwrap().to_string(), "no more threads");
        within(LONG, "the started threads end", || ran.load(Relaxed) == failing as u64);
    }
    // `build` fails if the handler drops a worker instead of running it.
    let lost = Executor::builder().workers(2).spawn_handler(|worker| {
        if worker.index() == 1 {
            drop(worker);
        } else {
            thread::spawn(|| worker.run());
        }
        Ok(())
    });
    assert!(matches!(lost.build(), Err(BuildError::ThreadLost)));
}

/// Passes a decreasing number to and fro between two crews.
struct PingPong {
    other: Option<ActorRef<PingPong>>,
    seen: Arc<AtomicU64>,
}

impl Actor for PingPong {}

struct Meet(ActorRef<PingPong>);
struct Ball(u32);

impl Handler<Meet> for PingPong {
    type Reply = ();
    fn handle(&mut self, Meet(other): Meet, _: &mut Context<Self>) {
        self.other = Some(other);
    }
}

impl Handler<Ball> for PingPong {
    type Reply = ();
    fn handle(&mut self, Ball(left): Ball, _: &mut Context<Self>) {
        self.seen.fetch_add(1, Relaxed);
        if left > 0 {
            self.other.as_ref().unwrap().tell(Ball(left - 1)).unwrap();
        }
    }
}

fn ping_pong(one: &Executor, two: &Executor) -> (ActorRef<PingPong>, Arc<AtomicU64>) {
    let seen = Arc::new(AtomicU64::new(0));
    let ping = one.spawn(PingPong { other: None, seen: Arc::clone(&seen) });
    let pong = two.spawn(PingPong { other: Some(ping.clone()), seen: Arc::clone(&seen) });
    ping.tell(Meet(pong)).unwrap();
    (ping, seen)
}

#[test]
fn several_executors_live_side_by_side() {
    let crews = CREWS.map(crew);
    let (ping, seen) = ping_pong(&crews[0], &crews[2]);
    ping.tell(Ball(1000)).unwrap();
    within(LONG, "the ball comes to rest", || seen.load(Relaxed) == 1001);
    drop(ping);
    crews.iter().for_each(settle);
    // One executor ends without an effect on the others.
    shut_down(&crews[0]);
    let puppet = crews[1].spawn(Puppet::default());
    assert_eq!(answer(puppet.ask(Note(1)).unwrap()), Ok(1));
}

/// `wait_idle` covers everything that a message causes, however long the chain and on whichever
/// worker.
#[test]
fn wait_idle_covers_what_a_message_causes() {
    const LENGTH: u32 = 20;
    on_every_crew(|executor| {
        let (ping, seen) = ping_pong(executor, executor);
        for round in 1..=500 {
            ping.tell(Ball(LENGTH)).unwrap();
            executor.wait_idle_timeout(DEADLINE).unwrap();
            assert_eq!(seen.load(Relaxed), round * u64::from(LENGTH + 1), "quiet too early");
        }
        ping.stop();
        // Several threads wait at a time, each for its own chain at least.
        let flows: Vec<_> = (0..3).map(|_| ping_pong(executor, executor)).collect();
        thread::scope(|scope| {
            for (ping, seen) in &flows {
                scope.spawn(move || {
                    for round in 1..=200 {
                        ping.tell(Ball(LENGTH)).unwrap();
                        executor.wait_idle_timeout(DEADLINE).unwrap();
                        assert_eq!(
                            seen.load(Relaxed),
                            round * u64::from(LENGTH + 1),
                            "quiet too early"
                        );
                    }
                });
            }
        });
        flows.iter().for_each(|(ping, _)| ping.stop());
    });
}

#[test]
fn wait_idle_blocks_times_out_and_is_awaited() {
    on_every_crew(|executor| {
        executor.wait_idle().unwrap();
        let puppet = executor.spawn(Puppet::default());
        let held = Held::hold(&puppet);
        assert_eq!(executor.wait_idle_timeout(Duration::from_millis(2)), Err(WaitError::TimedOut));
        let released = Arc::new(AtomicBool::new(false));
        let (seen, handle) = (Arc::clone(&released), executor.handle());
        let blocked = thread::spawn(move || {
            handle.wait_idle().unwrap();
            assert!(seen.load(Relaxed), "quiet in the middle of a turn");
        });
        let mut awaited = executor.wait_idle_async();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::Pin::new(&mut awaited).poll(&mut cx).is_pending());
        released.store(true, Relaxed);
        held.release();
        blocked.join().unwrap();
        futures::executor::block_on(awaited);

        let inside = Run(|_: &mut Puppet, ctx: &mut Context<Puppet>| ctx.handle().wait_idle());
        assert_eq!(answer(puppet.ask(inside).unwrap()), Ok(Err(WaitError::OnCrew)));
    });
}

/// Opens its latch when it is woken.
struct Opens(Latch);

impl std::task::Wake for Opens {
    fn wake(self: Arc<Self>) {
        self.0.open();
    }
}

/// An executor that has ended is quiescent, even for earlier waits.
#[test]
fn wait_idle_ends_with_the_executor() {
    for workers in CREWS {
        let executor = crew(workers);
        let puppet = executor.spawn(Puppet::default());
        let held = Held::hold(&puppet);
        let mut waiting = executor.wait_idle_async();
        let told = Latch::new();
        let waker = std::task::Waker::from(Arc::new(Opens(told.clone())));
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(std::pin::Pin::new(&mut waiting).poll(&mut cx).is_pending());
        let handle = executor.handle();
        let blocked = thread::spawn(move || handle.wait_idle_timeout(DEADLINE));
        let ending = thread::spawn(move || {
            assert!(executor.shutdown_now(DEADLINE).unwrap().complete);
            executor
        });
        within(LONG, "the actor is closed", || !puppet.is_running());
        held.release();
        within(LONG, "the wait is told of the end", || told.is_open());
        assert_eq!(blocked.join().unwrap(), Ok(()));
        futures::executor::block_on(waiting);
        assert_eq!(ending.join().unwrap().wait_idle_timeout(DEADLINE), Ok(()));
    }
}

#[test]
fn shutdown_drains_and_shutdown_now_does_not() {
    for workers in CREWS {
        for now in [false, true] {
            let executor = crew(workers);
            let puppet = executor.spawn(Puppet::default());
            let (ping, seen) = ping_pong(&executor, &executor);
            let held = Held::hold(&puppet);
            puppet.tell_many((0..10).map(Note)).unwrap();
            let target = puppet.clone();
            let start =
                Run(move |_: &mut Puppet, _: &mut Context<Puppet>| ping.tell(Ball(100)).unwrap());
            target.tell(start).unwrap();
            let (executor, ending) = {
                let executor = Arc::new(executor);
                let theirs = Arc::clone(&executor);
                let end = move || {
                    if now { theirs.shutdown_now(DEADLINE) } else { theirs.shutdown(DEADLINE) }
                };
                (executor, thread::spawn(end))
            };
            // Sends from outside are refused as soon as the shutdown has begun, whether or not it
            // drains.
            within(LONG, "the end begins", || {
                puppet.tell(Note(99)).is_err_and(|error| error.refusal() == Refusal::ShuttingDown)
            });
            assert!(executor.try_spawn(Puppet::default()).unwrap_err().is_shutting_down());
            let never = executor.spawn(Puppet::default());
            assert!(!never.is_running());
            assert_eq!(never.tell(Note(1)).unwrap_err().into_message(), Note(1));
            held.release();
            let report = ending.join().unwrap().unwrap();
            assert!(report.complete, "{report:?}");
            assert_eq!(executor.last_report(), Some(report.clone()));
            let stats = executor.stats();
            assert_eq!(stats.accepted, stats.handled + stats.dead_letters.total());
            assert_eq!((report.handled, report.dead_letters), (stats.handled, stats.dead_letters));
            if now {
                assert_eq!(seen.load(Relaxed), 0);
                assert!(report.dead_letters.shutdown >= 11, "{report:?}");
            } else {
                assert_eq!(
                    seen.load(Relaxed),
                    101,
                    "what the drained messages caused is handled too"
                );
                assert_eq!(report.dead_letters.total(), 0);
            }
            // Repeated shutdowns from several threads find the executor ended.
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| assert!(executor.shutdown(DEADLINE).unwrap().complete));
                }
            });
        }
    }
}

#[test]
fn a_shutdown_can_be_awaited() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    for workers in CREWS {
        let executor = crew(workers);
        let puppet = executor.spawn(Puppet::default());
        puppet.tell_many((0..100).map(Note)).unwrap();
        let report = futures::executor::block_on(executor.shutdown_async(DEADLINE)).unwrap();
        assert!(report.complete && report.handled == 100, "{report:?}");

        let executor = crew(workers);
        let ended = async move { executor.shutdown_now_async(DEADLINE).await };
        assert!(runtime.block_on(runtime.spawn(ended)).unwrap().unwrap().complete);

        // A shutdown goes on without being awaited.
        let executor = crew(workers);
        let (handle, puppet) = (executor.handle(), executor.spawn(Puppet::default()));
        drop(executor.shutdown_async(DEADLINE));
        ended_by_shutdown(&puppet);
        within(LONG, "its report", || handle.last_report().is_some_and(|report| report.complete));
    }
}

#[track_caller]
fn ended_by_shutdown(puppet: &ActorRef<Puppet>) {
    assert_eq!(ended(puppet), heist::StopReason::Shutdown);
}

#[test]
fn a_worker_cannot_end_its_own_crew_and_wait() {
    for workers in CREWS {
        let executor = Arc::new(crew(workers));
        let puppet = executor.spawn(Puppet::default());
        let theirs = Arc::clone(&executor);
        let inside = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            (theirs.shutdown(DEADLINE).unwrap_err(), theirs.shutdown_now(DEADLINE).unwrap_err())
        });
        assert_eq!(answer(puppet.ask(inside).unwrap()), Ok((WaitError::OnCrew, WaitError::OnCrew)));
        assert!(puppet.is_running(), "and nothing was shut down");
        within(LONG, "the message is dropped", || Arc::strong_count(&executor) == 1);

        // An awaited shutdown returns the same error there. The consumed executor ends without
        // being waited for.
        let executor = Arc::into_inner(executor).unwrap();
        let inside = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            futures::executor::block_on(executor.shutdown_async(DEADLINE)).unwrap_err()
        });
        assert_eq!(answer(puppet.ask(inside).unwrap()), Ok(WaitError::OnCrew));
        ended_by_shutdown(&puppet);

        // A plain drop does the same.
        let executor = crew(workers);
        let puppet = executor.spawn(Puppet::default());
        let inside = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| drop(executor));
        assert_eq!(answer(puppet.ask(inside).unwrap()), Ok(()));
        ended_by_shutdown(&puppet);
    }
}

/// Spawns and sends from outside race the executor's end. Accepted messages are accounted for,
/// refused ones come back, and every token is dropped once.
#[test]
fn spawn_and_tell_may_race_the_shutdown() {
    struct Keeper(#[allow(dead_code)] Token);
    impl Actor for Keeper {}
    impl Handler<Token> for Keeper {
        type Reply = ();
        fn handle(&mut self, _: Token, _: &mut Context<Self>) {}
    }
    for workers in CREWS {
        for round in 0..60 {
            let tokens = Tokens::new();
            let executor = crew(workers);
            let accepted = AtomicU64::new(0);
            let spawned = Mutex::new(Vec::new());
            thread::scope(|scope| {
                for _ in 0..2 {
                    let (executor, tokens, accepted, spawned) =
                        (&executor, &tokens, &accepted, &spawned);
                    scope.spawn(move || {
                        while let Ok(keeper) = executor.try_spawn(Keeper(tokens.token())) {
                            let told = keeper.tell(tokens.token()).is_ok();
                            accepted.fetch_add(u64::from(told), Relaxed);
                            spawned.lock().unwrap().push(keeper.downgrade());
                        }
                    });
                }
                within(LONG, "some are spawned", || tokens.made() > round);
                let end = if round % 2 == 0 { Executor::shutdown } else { Executor::shutdown_now };
                let report = end(&executor, DEADLINE).unwrap();
                assert!(report.complete, "{report:?}");
            });
            let stats = executor.stats();
            assert_eq!(stats.live_actors, 0);
            assert_eq!(stats.accepted, accepted.load(Relaxed));
            assert_eq!(stats.accepted, stats.handled + stats.dead_letters.total());
            assert!(spawned.lock().unwrap().iter().all(|weak| weak.upgrade().is_none()));
            tokens.assert_each_dropped_once();
        }
    }
}

#[test]
fn the_hook_is_told_of_panics_and_dead_letters() {
    quiet_panics();
    let told = EventLog::new();
    let (builder, channel) = Executor::builder().workers(2).on_event(told.hook()).event_channel(2);
    let executor = build(builder);
    let puppet = executor.spawn(Puppet::default());
    let held = Held::hold(&puppet);
    puppet.tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| intended_panic())).unwrap();
    puppet.tell_many((0..3).map(Note)).unwrap();
    let id = puppet.id();
    held.release();
    ended(&puppet);
    settle(&executor);
    let events = told.all();
    let [
        Event::Panicked { actor, place, text, .. },
        Event::DeadLetters { actor: of, reason, count, type_name, .. },
    ] = &*events
    else {
        panic!("{events:?}")
    };
    assert_eq!((*actor, *place, text.as_str()), (id, PanicPlace::Handler, INTENDED));
    assert_eq!((*of, *reason, *count), (id, DeadLetterReason::Panicked, 3));
    assert!(type_name.ends_with("Puppet"));
    assert_eq!(channel.try_iter().collect::<Vec<_>>(), events);

    // An event that does not fit into the channel is lost, and no thread waits.
    for _ in 0..5 {
        let puppet = executor.spawn(Puppet::default());
        puppet.tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| intended_panic())).unwrap();
        ended(&puppet);
    }
    assert_eq!((channel.len(), told.all().len()), (2, 7));

    // A stuck actor is named. A hook that panics does no harm.
    let stuck = executor.spawn(Puppet::default());
    let held = Held::hold(&stuck);
    assert!(!executor.shutdown_now(Duration::from_millis(20)).unwrap().complete);
    let named = |event: &Event| matches!(event, Event::Stuck { actor, .. } if *actor == stuck.id());
    within(LONG, "the hook is told of it", || told.all().iter().any(named));
    held.release();

    let clumsy = build(Executor::builder().workers(1).on_event(|_| intended_panic()));
    let puppet = clumsy.spawn(Puppet::default());
    puppet.tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| intended_panic())).unwrap();
    ended(&puppet);
    assert_eq!(answer(clumsy.spawn(Puppet::default()).ask(Note(1)).unwrap()), Ok(1));
}

#[test]
fn statistics_count_what_happened() {
    quiet_panics();
    on_every_crew(|executor| {
        let puppets: Vec<_> = (0..10).map(|_| executor.spawn(Puppet::default())).collect();
        for puppet in &puppets {
            puppet.tell_many((0..5).map(Note)).unwrap();
        }
        puppets[0].tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| intended_panic())).unwrap();
        ended(&puppets[0]);
        settle(executor);
        let stats = executor.stats();
        assert_eq!((stats.accepted, stats.handled, stats.panicked), (51, 51, 1));
        assert_eq!((stats.live_actors, stats.dead_letters.total()), (9, 0));
        assert_eq!(stats.workers.len(), executor.workers());
        let sum =
            |of: fn(&heist::stats::WorkerStats) -> u64| stats.workers.iter().map(of).sum::<u64>();
        assert_eq!(sum(|worker| worker.messages), 51);
        assert!(sum(|worker| worker.turns) >= 10);
        assert!(sum(|worker| worker.parks) >= sum(|worker| worker.wakes));
        assert!(
            sum(|worker| worker.injector_takes) > 0 || executor.policy() == heist::Policy::Sharded
        );
        assert!(sum(|worker| worker.steals) <= sum(|worker| worker.steals_tried));
        assert!(stats.workers.iter().any(|worker| !worker.busy.is_zero()));
        let one = puppets[1].stats();
        assert_eq!((one.handled, one.waiting), (5, 0));
        assert!((1..=5).contains(&one.most_waiting));

        let held = Held::hold(&puppets[2]);
        drop(puppets[2].ask(Note(1)).unwrap());
        held.release();
        settle(executor);
        assert_eq!(executor.stats().discarded_replies, 1);
    });
}
