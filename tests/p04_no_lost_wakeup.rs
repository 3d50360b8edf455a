//! Tests P4, no lost wake-up, no idle hands: a message to an idle actor wakes a worker, and work
//! that others may take does not wait behind a long turn while a worker is parked. A lost wake-up
//! makes a wait time out.

mod common;

use common::*;
use heist::*;
use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

type Me<'a> = &'a mut Puppet;
type Ctx<'a> = &'a mut Context<Puppet>;

/// Occupies its worker, like a long computation, until `done` returns `true`.
#[track_caller]
fn spin_until(what: &str, done: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(LONG);
    while !done() {
        assert!(Instant::now() < limit, "{what}");
        // Eight workers on fewer cores must all make progress.
        (0..100).for_each(|_| spin_loop());
        thread::yield_now();
    }
}

/// Silence puts the crew to sleep; its length is not under test. About 10^4 times in all.
#[test]
fn p04_one_message_after_silence() {
    thread::scope(|scope| {
        for workers in CREWS {
            scope.spawn(move || {
                let executor = crew(workers);
                let actors: Vec<_> = (0..16).map(|_| executor.spawn(Puppet::default())).collect();
                settle(&executor);
                let catches =
                    || executor.stats().workers.iter().map(|w| w.sentinel_catches).sum::<u64>();
                let before = catches(); // sixteen at once may have waited behind one another
                for round in 0..3500 {
                    thread::sleep(Duration::from_millis(1));
                    let ask = actors[round % 16].ask(Note(1)).unwrap();
                    assert_eq!(answer(ask), Ok(1));
                }
                assert_eq!(catches(), before, "a wake-up was left to the sentinel");
                shut_down(&executor);
            });
        }
        for policy in [Policy::Sharded, Policy::SharedQueue] {
            scope.spawn(move || {
                for workers in CREWS {
                    let executor = build(Executor::builder().workers(workers).policy(policy));
                    let actors: Vec<_> =
                        (0..16).map(|_| executor.spawn(Puppet::default())).collect();
                    for round in 0..500 {
                        thread::sleep(Duration::from_millis(1));
                        assert_eq!(answer(actors[round % 16].ask(Note(1)).unwrap()), Ok(1));
                    }
                    shut_down(&executor);
                }
            });
        }
    });
}

/// A vacant slot is woken like a parked worker, at every moment of a thread's leaving and
/// returning.
#[test]
fn p04_one_message_while_a_place_is_left() {
    on_every_crew(|executor| {
        let blocker = executor.spawn(Puppet::default());
        let others: Vec<_> = (0..4).map(|_| executor.spawn(Puppet::default())).collect();
        let dice = Dice::new(executor.workers() as u64);
        let begun = Arc::new(AtomicU64::new(0));
        for round in 1..=500 {
            let release = Latch::new();
            let (until, here) = (release.clone(), Arc::clone(&begun));
            let block = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                here.store(round, Relaxed);
                blocking(|| until.wait());
            });
            blocker.tell(block).unwrap();
            within(LONG, "the handler blocks soon", || begun.load(Relaxed) == round);
            (0..dice.below(200)).for_each(|_| spin_loop());
            let ask = others[dice.below(4) as usize].ask(Note(round)).unwrap();
            if dice.below(2) == 0 {
                // With one worker, only a spare can handle the message.
                assert_eq!(answer(ask), Ok(round));
                release.open();
            } else {
                release.open();
                assert_eq!(answer(ask), Ok(round));
            }
        }
    });
}

/// Without the silence, messages meet the crew on its way to sleep, from several threads at once.
#[test]
fn p04_a_message_while_the_crew_goes_to_sleep() {
    on_every_crew(|executor| {
        thread::scope(|scope| {
            for seed in 0..2 {
                scope.spawn(move || {
                    let dice = Dice::new(seed);
                    let (near, far) =
                        (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
                    for _ in 0..1000 {
                        let far = far.clone();
                        let pass_on = Run(move |_: Me<'_>, _: Ctx<'_>| far.ask(Note(1)).unwrap());
                        assert_eq!(answer(answer(near.ask(pass_on).unwrap()).unwrap()), Ok(1));
                        (0..dice.below(20_000)).for_each(|_| spin_loop());
                    }
                });
            }
        });
        settle(executor);
    });
}

/// A busy handler's messages are in its worker's LIFO slot and local queue, and another worker must
/// take them.
#[test]
fn p04_a_heavy_handler_does_not_sit_on_what_it_woke() {
    for policy in [Policy::Stealing, Policy::SharedQueue] {
        for (workers, buddies) in [(2, 1), (2, 40), (8, 1), (8, 40)] {
            let executor = build(Executor::builder().workers(workers).policy(policy));
            let heavy = executor.spawn(Puppet::default());
            let buddies: Vec<_> = (0..buddies).map(|_| executor.spawn(Puppet::default())).collect();
            for round in 0..20 {
                if round % 4 == 0 {
                    // All workers are parked or about to park, and after a while no sentinel is
                    // left.
                    settle(&executor);
                    thread::sleep(Duration::from_millis(5 * round));
                }
                let buddies = buddies.clone();
                let work = Run(move |_: Me<'_>, _: Ctx<'_>| {
                    let ran = Arc::new(AtomicUsize::new(0));
                    for buddy in &buddies {
                        let ran = Arc::clone(&ran);
                        buddy
                            .tell(Run(move |_: Me<'_>, _: Ctx<'_>| ran.fetch_add(1, Release)))
                            .unwrap();
                    }
                    spin_until("a buddy waits behind its waker", || {
                        ran.load(Acquire) == buddies.len()
                    });
                });
                assert_eq!(
                    answer(heavy.ask(work).unwrap()),
                    Ok(()),
                    "under {policy:?}, {workers} workers"
                );
            }
            shut_down(&executor);
        }
    }
}

/// Each handler wakes the next and spins until the next is done, so that all workers but one are
/// busy in turn.
#[test]
fn p04_a_chain_of_heavy_handlers_gets_every_worker() {
    fn dig(chain: Arc<Vec<ActorRef<Puppet>>>, depth: usize, done: Arc<AtomicBool>) {
        let Some(next) = chain.get(depth) else { return done.store(true, Release) };
        let under = Arc::new(AtomicBool::new(false));
        let (deeper, signal) = (Arc::clone(&chain), Arc::clone(&under));
        next.tell(Run(move |_: Me<'_>, _: Ctx<'_>| dig(deeper, depth + 1, signal))).unwrap();
        spin_until("a link of the chain waits", || under.load(Acquire));
        done.store(true, Release);
    }
    for policy in [Policy::Stealing, Policy::SharedQueue] {
        for workers in CREWS {
            let executor = build(Executor::builder().workers(workers).policy(policy));
            let chain = Arc::new(
                (0..workers - 1).map(|_| executor.spawn(Puppet::default())).collect::<Vec<_>>(),
            );
            let root = executor.spawn(Puppet::default());
            for _ in 0..5 {
                let (chain, done) = (Arc::clone(&chain), Arc::new(AtomicBool::new(false)));
                let start = Run(move |_: Me<'_>, _: Ctx<'_>| dig(chain, 0, done));
                assert_eq!(answer(root.ask(start).unwrap()), Ok(()));
            }
            shut_down(&executor);
        }
    }
}

/// A thread tells actors while all workers but one are in long turns.
#[test]
fn p04_outside_work_does_not_wait_behind_long_turns() {
    for policy in [Policy::Stealing, Policy::SharedQueue] {
        for workers in [2, 8] {
            let executor = build(Executor::builder().workers(workers).policy(policy));
            let held: Vec<_> =
                (1..workers).map(|_| Held::hold(&executor.spawn(Puppet::default()))).collect();
            let actors: Vec<_> = (0..100).map(|_| executor.spawn(Puppet::default())).collect();
            let asks: Vec<_> = actors.iter().map(|actor| actor.ask(Note(3)).unwrap()).collect();
            asks.into_iter().for_each(|ask| assert_eq!(answer(ask), Ok(3)));
            drop(held);
            shut_down(&executor);
        }
    }
}

/// A worker that waits for an answer leaves its queued work to the others.
#[test]
fn p04_runnable_work_does_not_wait_behind_a_blocked_worker() {
    for policy in [Policy::Stealing, Policy::SharedQueue] {
        for workers in [2, 8] {
            let executor = build(Executor::builder().workers(workers).policy(policy));
            let waiter = executor.spawn(Puppet::default());
            let friends: Vec<_> = (0..20).map(|_| executor.spawn(Puppet::default())).collect();
            for _ in 0..50 {
                let friends = friends.clone();
                let wait = Run(move |_: Me<'_>, _: Ctx<'_>| {
                    // All friends are runnable in this worker's queues, and none has run.
                    let asks: Vec<_> =
                        friends.iter().map(|friend| friend.ask(Note(1)).unwrap()).collect();
                    asks.into_iter().map(|mut ask| ask.wait().unwrap()).sum::<u64>()
                });
                assert_eq!(answer(waiter.ask(wait).unwrap()), Ok(20));
            }
            // A worker that blocks for long must not take work that arrives later.
            let asked = Latch::new();
            let slow = executor.spawn(Later::default());
            let (target, ready) = (slow.clone(), asked.clone());
            let blocked = waiter.ask(Run(move |_: Me<'_>, _: Ctx<'_>| {
                let mut ask = target.ask(Keep).unwrap();
                ready.open();
                ask.wait().unwrap()
            }));
            asked.wait();
            let asks: Vec<_> = friends.iter().map(|friend| friend.ask(Note(1)).unwrap()).collect();
            asks.into_iter().for_each(|ask| assert_eq!(answer(ask), Ok(1)));
            slow.tell(LetGo).unwrap();
            assert_eq!(answer(blocked.unwrap()), Ok(5));
            shut_down(&executor);
        }
    }
}

/// Answers on request.
#[derive(Default)]
struct Later(Vec<Reply<u64>>);
impl Actor for Later {}
struct Keep;
impl Receive<Keep> for Later {
    type Reply = u64;
    fn receive(&mut self, _: Keep, reply: Reply<u64>, _: &mut Context<Self>) {
        self.0.push(reply);
    }
}
struct LetGo;
impl Handler<LetGo> for Later {
    type Reply = ();
    fn handle(&mut self, _: LetGo, _: &mut Context<Self>) {
        self.0.drain(..).for_each(|reply| reply.send(5));
    }
}

/// No actor ever stops by itself, and all of them make progress.
#[test]
fn p04_ten_thousand_busy_actors_on_two_workers_all_make_progress() {
    struct Busy {
        steps: Arc<AtomicU32>,
        over: Arc<AtomicBool>,
    }
    struct Step;
    impl Actor for Busy {}
    impl Handler<Step> for Busy {
        type Reply = ();
        fn handle(&mut self, _: Step, ctx: &mut Context<Self>) {
            self.steps.fetch_add(1, Relaxed);
            if !self.over.load(Relaxed) {
                ctx.me().tell(Step).unwrap();
            }
        }
    }
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy));
        let over = Arc::new(AtomicBool::new(false));
        let (steps, actors): (Vec<_>, Vec<_>) = (0..10_000)
            .map(|_| {
                let steps = Arc::new(AtomicU32::new(0));
                let busy = Busy { steps: Arc::clone(&steps), over: Arc::clone(&over) };
                (steps, executor.spawn(busy))
            })
            .unzip();
        actors.iter().for_each(|actor| actor.tell(Step).unwrap());
        within(LONG, "each actor's tenth step", || {
            steps.iter().all(|steps| steps.load(Relaxed) >= 10)
        });
        over.store(true, Relaxed);
        settle(&executor);
        shut_down(&executor);
    }
}

/// One handler sends a message to each of many sleeping actors, and the wave must reach all of
/// them.
#[test]
fn p04_a_wave_through_a_sleeping_crew() {
    on_every_crew(|executor| {
        let sleepers: Vec<_> = (0..500).map(|_| executor.spawn(Puppet::default())).collect();
        let source = executor.spawn(Puppet::default());
        for round in 1..=20 {
            settle(executor);
            let sleepers = sleepers.clone();
            let wave = move |_: Me<'_>, _: Ctx<'_>| {
                sleepers.iter().for_each(|to| to.tell(Note(round)).unwrap())
            };
            source.tell(Run(wave)).unwrap();
        }
        settle(executor);
        for sleeper in &sleepers {
            assert_eq!(answer(sleeper.ask(Log).unwrap()).unwrap(), (1..=20).collect::<Vec<_>>());
        }
    });
}
