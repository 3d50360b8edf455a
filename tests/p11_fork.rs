//! Tests P11, self-contained: in a forked child nothing waits and nothing locks, whatever the
//! parent's threads were doing. Each call returns an error or does nothing. The test has a process
//! of its own, because children copy everything in the process.
#![cfg(target_os = "linux")]

mod common;

use common::*;
use heist::pool::PoolError;
use heist::strategy::{PoolDefault, RoundRobin, Strategy};
use heist::{
    Actor, ActorRef, Ask, AskError, Directory, Executor, Handle, Handler, Pool, Refusal, Timer,
    WaitError,
};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, TryRecvError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// Turns a wait that overlooks the fork into a failure instead of a hang.
const LIMIT: Duration = Duration::from_secs(2);

/// Runs `f` in a forked child and returns the low 8 bits of its result. A child that hangs is a
/// failure.
#[track_caller]
fn in_a_child(f: impl FnOnce() -> i32) -> i32 {
    match fork() {
        0 => exit(f()),
        child => result_of(child),
    }
}

/// Forks. Returns 0 in the child, and the child's id in the parent.
fn fork() -> i32 {
    // SAFETY: the child needs no other thread of the parent, as this test checks. The C library
    // keeps its allocator usable after `fork`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no child");
    child
}

/// Ends a child.
fn exit(result: i32) -> ! {
    // SAFETY: `_exit` ends the child and runs none of the process's exit handlers.
    unsafe { libc::_exit(result) }
}

/// Waits for a child and returns the low 8 bits of its result.
#[track_caller]
fn result_of(child: i32) -> i32 {
    let (mut status, begun) = (0, Instant::now());
    loop {
        // SAFETY: `child` is a child of this process, and `status` is a valid place for its status.
        match unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) } {
            0 if begun.elapsed() > Duration::from_secs(LONG) => {
                // SAFETY: `child` has not been waited for, so the id still belongs to the child.
                unsafe { libc::kill(child, libc::SIGKILL) };
                panic!("a forked child hangs");
            }
            0 => thread::sleep(Duration::from_micros(200)),
            _ => break,
        }
    }
    assert!(libc::WIFEXITED(status), "the child died: {status:#x}");
    libc::WEXITSTATUS(status)
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut TaskContext::from_waker(Waker::noop()))
}

/// Everything that a child may have a copy of.
struct World {
    executor: Executor,
    handle: Handle,
    puppet: ActorRef<Puppet>,
    timer: Timer,
    pool: Pool<Puppet>,
    directory: Directory<u64, Puppet>,
    /// Asked before the fork, without an answer.
    before: Ask<u64>,
    _held: Held,
}

impl World {
    fn new(workers: usize) -> Self {
        let executor = crew(workers);
        let holder = executor.spawn(Puppet::default());
        let held = Held::hold(&holder);
        let before = holder.ask(Note(1)).unwrap();
        let puppet = executor.build(Puppet::default()).capacity(4).timing(true).spawn();
        let timer = puppet.tell_after(Duration::from_secs(3600), Note(2)).unwrap();
        let pool = executor.pool(2, |_| Puppet::default()).build().unwrap();
        let directory = Directory::new(&executor, |_: &u64| Puppet::default());
        directory.tell(&1, Note(1)).unwrap();
        World {
            handle: executor.handle(),
            executor,
            puppet,
            timer,
            pool,
            directory,
            before,
            _held: held,
        }
    }

    /// Checks everything in the child. Returns the number of the first unexpected result, or 0, and
    /// drops everything.
    fn look(self) -> i32 {
        let World { executor, handle, puppet, timer, pool, directory, before, _held } = self;
        let mut before = before;
        let asked = before.wait_timeout(LIMIT).unwrap_err();
        let told = puppet.tell(Note(2)).unwrap_err();
        let spawned = handle.try_spawn(Puppet::default());
        let stillborn = handle.spawn(Puppet::default());
        let mut findings = vec![
            asked == AskError::Forked && !before.is_ready(),
            told.refusal() == Refusal::Forked && told.into_message() == Note(2),
            puppet.ask(Note(3)).is_err_and(|error| error.refusal() == Refusal::Forked),
            puppet.send(Note(3)).is_err_and(|error| error.refusal() == Refusal::Forked),
            puppet
                .send_timeout(Note(3), LIMIT)
                .is_err_and(|error| error.refusal() == Refusal::Forked),
            matches!(poll(pin!(puppet.send_async(Note(3)))), Poll::Ready(Err(_))),
            puppet
                .tell_after(LIMIT, Note(3))
                .is_err_and(|error| error.refusal() == Refusal::Forked),
            handle.wait_idle_timeout(LIMIT) == Err(WaitError::Forked),
            poll(pin!(handle.wait_idle_async())).is_pending(),
            puppet.wait_stopped_timeout(LIMIT) == Err(WaitError::Forked),
            poll(pin!(puppet.wait_stopped_async())).is_pending(),
            puppet.downgrade().wait_stopped_timeout(LIMIT) == Err(WaitError::Forked),
            poll(pin!(puppet.downgrade().wait_stopped_async())).is_pending(),
            executor.shutdown(LIMIT) == Err(WaitError::Forked),
            executor.shutdown_now(LIMIT) == Err(WaitError::Forked),
            spawned.is_err_and(|error| error.into_actor().log.is_empty()),
            !stillborn.is_running() && stillborn.clone() == stillborn,
            handle.spawn_dedicated(Puppet::default).is_err(),
            matches!(handle.pool(2, |_| Puppet::default()).build(), Err(PoolError::ShuttingDown)),
            handle.stats() == heist::stats::Stats::default()
                && handle.top(3) == heist::stats::Top::default(),
            handle.last_report().is_none() && puppet.timing().is_none(),
            pool.tell(RoundRobin, Note(4)).is_err_and(|error| error.refusal() == Refusal::Forked),
            pool.send(PoolDefault, Note(4)).is_err_and(|error| error.refusal() == Refusal::Forked),
            matches!(poll(pin!(pool.send_async(seen_by(), Note(4)))), Poll::Ready(Err(_))),
            pool.ask_timeout(RoundRobin, Note(4), LIMIT)
                .is_err_and(|error| error.refusal() == Refusal::Forked),
            pool.resize(5).is_err() && pool.is_empty() && !pool.is_running(),
            pool.wait_stopped_timeout(LIMIT) == Err(WaitError::Forked),
            poll(pin!(pool.wait_stopped_async())).is_pending(),
            directory.tell(&1, Note(5)).is_err_and(|error| error.refusal() == Refusal::Forked),
            directory
                .ask_timeout(&1, Note(5), LIMIT)
                .is_err_and(|error| error.refusal() == Refusal::Forked),
            directory
                .tell_after(&1, LIMIT, Note(5))
                .is_err_and(|error| error.refusal() == Refusal::Forked),
            directory.find(&1).is_none() && !directory.get(&2).is_running(),
            !directory.get_or_spawn(&3, Puppet::default).is_running(),
            !directory.passivate(&1) && directory.is_empty(),
            !timer.is_armed() && !timer.cancel(),
        ];
        puppet.stop();
        pool.stop_now();
        let awaited = poll(pin!(executor.shutdown_async(LIMIT)));
        findings.push(awaited == Poll::Ready(Err(WaitError::Forked)));
        drop((handle, puppet.downgrade(), puppet, stillborn, pool, directory));
        findings.iter().position(|found| !found).map_or(0, |at| at as i32 + 1)
    }
}

/// Calls what only a handler can call. Returns 100 and more for the first unexpected result, or 0.
fn look_through(ctx: &mut heist::Context<Puppet>, other: &ActorRef<Puppet>) -> i32 {
    let is_forked = |error: Refusal| error == Refusal::Forked;
    let findings = [
        ctx.when_room(other, Note(1)).is_err_and(|error| is_forked(error.refusal())),
        ctx.tell_self(Note(1)).is_err_and(|error| is_forked(error.refusal())),
        ctx.tell_after(LIMIT, Note(1)).is_err_and(|error| is_forked(error.refusal())),
        ctx.ask_then(other, Note(1), |_, _, _| {}).is_err_and(|error| is_forked(error.refusal())),
        !ctx.spawn(Puppet::default()).is_running(),
        ctx.spawn_dedicated(Puppet::default).is_err(),
    ];
    findings.iter().position(|found| !found).map_or(0, |at| at as i32 + 100)
}

/// A strategy that reads the replicas.
fn seen_by() -> impl Strategy {
    struct Sees;
    impl Strategy for Sees {
        fn route(&self, replicas: &heist::strategy::Replicas<'_>) -> heist::strategy::Route {
            heist::strategy::Route::Index(replicas.len())
        }
    }
    Sees
}

#[test]
fn p11_a_forked_child_gets_errors() {
    for workers in CREWS {
        let mut world = Some(World::new(workers));
        let theirs = &mut world;
        let found = in_a_child(move || theirs.take().expect("there is one").look());
        assert_eq!(found, 0, "number of what the child found otherwise");
        let World { executor, puppet, .. } = world.expect("the child took its copy only");
        assert_eq!(answer(puppet.ask(Note(5)).unwrap()), Ok(5), "the parent has not noticed");
        shut_down(&executor);
    }
}

/// The crew spawns, sends, arms timers, and changes pools and directories all the time, so that
/// some thread holds a lock at nearly every moment.
#[test]
fn p11_a_child_of_a_busy_crew_drops_its_copy() {
    let world = Arc::new(World::new(2));
    let over = Arc::new(AtomicBool::new(false));
    let outside: Vec<_> = (0..3)
        .map(|number| {
            let (world, over) = (Arc::clone(&world), Arc::clone(&over));
            thread::spawn(move || {
                let dice = Dice::new(number);
                while !over.load(Relaxed) {
                    let key = dice.below(64);
                    let actor = world.executor.spawn(Puppet::default());
                    let _ = actor.tell(Run(|_: &mut Puppet, ctx: &mut heist::Context<Puppet>| {
                        drop(ctx.spawn(Puppet::default()));
                    }));
                    let _ = world.directory.tell(&key, Note(key));
                    world.directory.passivate(&key);
                    let _ = world.pool.tell(RoundRobin, Note(key));
                    let _ = world.pool.resize(2 + key as usize % 2);
                    drop(world.puppet.tell_after(Duration::from_millis(key), Note(key)));
                    let _ = (world.executor.stats(), world.puppet.tell(Note(key)));
                }
            })
        })
        .collect();
    for round in 0..60 {
        thread::sleep(Duration::from_micros(100 * (round % 7)));
        // SAFETY: only the child reads the copy out, and the child never drops the `Arc`.
        let found = in_a_child(|| unsafe { std::ptr::read(Arc::as_ptr(&world)) }.look());
        assert_eq!(found, 0, "number of what the child found otherwise, in round {round}");
    }
    over.store(true, Relaxed);
    outside.into_iter().for_each(|thread| thread.join().unwrap());
    let world = Arc::into_inner(world).expect("the threads have ended");
    assert!(world.timer.is_armed(), "the parent has not noticed");
    drop(world);
}

/// A question with an answer that the test drops in the child. Larger than [`Note`], so that the
/// memory grows fast.
struct Query([u64; 8]);

struct Echo;

impl Actor for Echo {}

impl Handler<Query> for Echo {
    type Reply = u64;
    fn handle(&mut self, Query(words): Query, _: &mut heist::Context<Self>) -> u64 {
        words[0]
    }
}

/// Asks `echo` from two threads, in bursts, until `over`. The executor's memory grows and shrinks
/// all the time, so that its locks are often held.
fn ask_in_bursts(echo: &ActorRef<Echo>, over: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<()>> {
    let burst = |echo: ActorRef<Echo>, over: Arc<AtomicBool>| {
        move || {
            while !over.load(Relaxed) {
                drop((0..20_000).filter_map(|_| echo.ask(Query([0; 8])).ok()).collect::<Vec<_>>());
            }
        }
    };
    (0..2).map(|_| thread::spawn(burst(echo.clone(), Arc::clone(over)))).collect()
}

/// The blocks of the answers go home while other threads of the parent held the memory's lock.
#[test]
fn p11_a_child_drops_many_answers_beside_growing_memory() {
    let executor = build(Executor::builder().workers(1).capacity(1 << 20));
    let echo = executor.spawn(Echo);
    let mut asks: Option<Vec<_>> =
        Some((0..30_000).map(|_| echo.ask(Query([0; 8])).unwrap()).collect());
    executor.wait_idle().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let threads = ask_in_bursts(&echo, &over);
    for _ in 0..40 {
        match fork() {
            0 => {
                drop(asks.take());
                exit(0);
            }
            child => assert_eq!(result_of(child), 0),
        }
    }
    over.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    shut_down(&executor);
}

/// The callbacks would need new memory, and are refused before.
#[test]
fn p11_a_child_that_is_forked_in_a_turn_asks_beside_growing_memory() {
    let executor = build(Executor::builder().workers(2).capacity(1 << 20));
    let echo = executor.spawn(Echo);
    let over = Arc::new(AtomicBool::new(false));
    let threads = ask_in_bursts(&echo, &over);
    let puppet = executor.spawn(Puppet::default());
    inside(&puppet, move |_, ctx| {
        for _ in 0..60 {
            match fork() {
                0 => {
                    let refused = (0..1_000).all(|_| {
                        let wide = [0_u8; 128];
                        let soon = Instant::now() + LIMIT;
                        let asked =
                            ctx.ask_then(&echo, Query([0; 8]), move |_, _, _| _ = wide.len());
                        let dated =
                            ctx.ask_then_deadline(&echo, Query([0; 8]), soon, move |_, _, _| {
                                _ = wide.len()
                            });
                        [asked, dated].into_iter().all(|outcome| {
                            outcome.is_err_and(|error| error.refusal() == Refusal::Forked)
                        })
                    });
                    exit(i32::from(!refused));
                }
                child => assert_eq!(result_of(child), 0),
            }
        }
    });
    over.store(true, Relaxed);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    shut_down(&executor);
}

/// EventLog of the parent's crew come to the parent only, and a child does not wait for them.
#[test]
fn p11_a_child_finds_the_channel_of_events_disconnected() {
    let (builder, events) = Executor::builder().workers(1).event_channel(10);
    let executor = build(builder);
    let late = executor.spawn(Puppet::default());
    drop(late.ask_deadline(Note(1), Instant::now()).unwrap());
    within(LONG, "an event comes", || !events.is_empty());
    let mut events = Some(events);
    let found = in_a_child(|| {
        let mut events = events.take().unwrap();
        let seen = [
            events.is_empty(),
            events.recv().is_err(),
            events.recv_timeout(LIMIT) == Err(RecvTimeoutError::Disconnected),
            events.try_recv() == Err(TryRecvError::Disconnected),
            events.next().is_none(),
        ];
        drop(events);
        i32::from(seen != [true; 5])
    });
    assert_eq!(found, 0);
    assert!(events.unwrap().recv().is_ok());
    shut_down(&executor);
}

/// A shutdown that was begun before the fork goes on in the parent only.
#[test]
fn p11_a_child_is_told_that_a_shutdown_of_before_is_not_its_own() {
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    let held = Held::hold(&puppet);
    let mut shutdown = Some(executor.shutdown_async(Duration::from_secs(LONG)));
    let found = in_a_child(|| {
        let awaited = poll(pin!(shutdown.take().expect("there is one")));
        i32::from(awaited != Poll::Ready(Err(WaitError::Forked)))
    });
    assert_eq!(found, 0);
    drop(held);
    drop(shutdown);
}

/// A worker's thread in the child has the slot of a crew that does not exist there. No wait may ask
/// for a spare or use that crew's table.
#[test]
fn p11_a_child_that_is_forked_in_a_turn_may_wait_for_an_executor_of_its_own() {
    let executor = build(Executor::builder().workers(1).max_spares(0));
    let puppet = executor.spawn(Puppet::default());
    let found = inside(&puppet, |_, _| {
        in_a_child(|| {
            let own = crew(1);
            let theirs = own.spawn(Puppet::default());
            let asked =
                heist::blocking(|| theirs.ask(Note(3)).unwrap().wait_timeout(LIMIT).unwrap());
            let waited = theirs.ask(Note(4)).unwrap().wait_timeout(LIMIT);
            let sound = asked == 3 && matches!(waited, Ok(4)) && own.waits().is_empty();
            std::mem::forget(own);
            i32::from(!sound)
        })
    });
    assert_eq!(found, 0);
    shut_down(&executor);
}

/// A child that is forked in a turn has the thread-locals of a worker. All the same its thread is
/// one outside the crew, whose locks other threads may have held at the fork.
#[test]
fn p11_a_child_that_is_forked_in_a_turn_gets_errors() {
    for workers in [1, 2] {
        // One more for the holder of the world.
        let mut world = World::new(workers + 1);
        let puppet = world.handle.spawn(Puppet::default());
        let sends = Arc::new(AtomicBool::new(true));
        let wants_room = {
            let (sends, target) = (Arc::clone(&sends), world.puppet.clone());
            thread::spawn(move || {
                let refused = Waker::noop();
                while sends.load(Relaxed) {
                    // Enters the list of the waiting senders and leaves it again.
                    let mut sending = target.send_async(Note(1));
                    let _ = Pin::new(&mut sending).poll(&mut TaskContext::from_waker(refused));
                }
            })
        };
        let outside = {
            let (sends, handle) = (Arc::clone(&sends), world.handle.clone());
            thread::spawn(move || {
                while sends.load(Relaxed) {
                    // Wakes and parks the crew, and takes memory. But not without bound, since no
                    // worker is free while the turn forks, and a large process forks slowly.
                    if handle.stats().live_actors < 500 {
                        let _ = handle.spawn(Puppet::default()).tell(Note(1));
                    } else {
                        thread::yield_now();
                    }
                }
            })
        };
        for round in 0..100 {
            let (found, back) = inside(&puppet, move |_, ctx| match fork() {
                0 => exit(look_through(ctx, &world.puppet).max(world.look())),
                child => (result_of(child), world),
            });
            world = back;
            assert_eq!(found, 0, "in round {round}");
        }
        sends.store(false, Relaxed);
        outside.join().unwrap();
        wants_room.join().unwrap();
    }
}

/// Two handlers block again and again, so that the locks of the idle list and of the spares are
/// often held when a third handler forks inside `blocking`. The child's handler continues as an
/// outside thread.
#[test]
fn p11_a_child_forked_while_its_handler_blocks_goes_on() {
    let executor = build(Executor::builder().workers(3).max_spares(8));
    let over = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..2)
        .map(|_| {
            let (actor, over) = (executor.spawn(Puppet::default()), Arc::clone(&over));
            let blocks = Run(move |_: &mut Puppet, _: &mut heist::Context<Puppet>| {
                while !over.load(Relaxed) {
                    heist::blocking(std::hint::spin_loop);
                }
            });
            actor.tell(blocks).unwrap();
            actor
        })
        .collect();
    let puppet = executor.spawn(Puppet::default());
    for round in 0..300 {
        let other = others[0].clone();
        let found = inside(&puppet, move |_, _| match heist::blocking(fork) {
            0 => {
                let told =
                    other.tell(Note(1)).is_err_and(|error| error.refusal() == Refusal::Forked);
                exit(i32::from(!told || heist::blocking(|| 7) != 7))
            }
            child => result_of(child),
        });
        assert_eq!(found, 0, "in round {round}");
    }
    over.store(true, Relaxed);
    shut_down(&executor);
}
