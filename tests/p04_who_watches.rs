//! Tests P4 and P5 with wrong estimates: after each step by which a thread stops searching, some
//! worker still watches the work behind a long turn. Outside work keeps its share even when turns
//! suddenly become long.

mod common;

use common::*;
use heist::thread::WorkerThread;
use heist::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// A long computation that ends when something else has run meanwhile.
#[track_caller]
fn compute_until(what: &str, done: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(LONG);
    while !done() {
        assert!(Instant::now() < limit, "{what}");
        thread::yield_now();
    }
}

/// `busy` sends a message while the other worker is in a turn, so it appoints no sentinel, and
/// computes until that message is handled. Then the handler on the other worker blocks, and its
/// slot becomes vacant.
#[test]
fn p04_a_slot_that_is_left_watches() {
    for spares_before in [false, true] {
        let executor = crew(2);
        let [blocks, busy, told] = [(); 3].map(|()| executor.spawn(Puppet::default()));
        if spares_before {
            inside(&blocks, |_, _| blocking(|| ()));
        }
        for _ in 0..20 {
            settle(&executor);
            let (entered, sent) = (Latch::new(), Arc::new(AtomicBool::new(false)));
            let over = Latch::new();
            let (inside, ready, until) = (entered.clone(), Arc::clone(&sent), over.clone());
            let block = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                inside.open();
                compute_until("the other turn goes on", || ready.load(Acquire));
                blocking(|| until.wait());
            });
            blocks.tell(block).unwrap();
            entered.wait();
            let (told, sends) = (told.clone(), Arc::clone(&sent));
            let ask = busy.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                let ran = Arc::new(AtomicBool::new(false));
                let here = Arc::clone(&ran);
                told.tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                    here.store(true, Release)
                }))
                .unwrap();
                sends.store(true, Release);
                compute_until("it is taken from behind this turn", || ran.load(Acquire));
            }));
            answer(ask.unwrap()).unwrap();
            over.open();
        }
        shut_down(&executor);
    }
}

/// Produces many tiny turns, so that each worker's mean is small.
struct Rally(OnceLock<ActorRef<Rally>>);

impl Actor for Rally {}

struct Ball(u32);

impl Handler<Ball> for Rally {
    type Reply = ();
    fn handle(&mut self, Ball(rest): Ball, _: &mut Context<Self>) {
        if rest > 0 {
            self.0.get().expect("set by Meet").tell(Ball(rest - 1)).unwrap();
        }
    }
}

struct Meet(ActorRef<Rally>);

impl Handler<Meet> for Rally {
    type Reply = ();
    fn handle(&mut self, Meet(other): Meet, _: &mut Context<Self>) {
        assert!(self.0.set(other).is_ok());
    }
}

fn make_means_small(executor: &Executor) {
    let [one, two] = [(); 2].map(|()| executor.spawn(Rally(OnceLock::new())));
    answer(one.ask(Meet(two.clone())).unwrap()).unwrap();
    answer(two.ask(Meet(one.clone())).unwrap()).unwrap();
    for _ in 0..4 {
        one.tell(Ball(20_000)).unwrap();
        settle(executor);
    }
    one.stop();
    two.stop();
}

/// Several long turns, each with one runnable in the LIFO slot behind it, and one free worker.
#[test]
fn p04_what_is_stuck_behind_several_turns_is_taken() {
    let executor = crew(4);
    for _ in 0..20 {
        let turns: Vec<_> = (0..3)
            .map(|_| {
                let (busy, told) =
                    (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
                let ask = busy.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                    let ran = Arc::new(AtomicBool::new(false));
                    let here = Arc::clone(&ran);
                    let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                        here.store(true, Release)
                    });
                    told.tell(run).unwrap();
                    compute_until("it is taken from behind this turn", || ran.load(Acquire));
                }));
                (busy, ask.unwrap())
            })
            .collect();
        turns.into_iter().for_each(|(_, ask)| answer(ask).unwrap());
    }
    shut_down(&executor);
}

/// A turn of one millisecond.
struct Heavy(Arc<AtomicU64>);

impl Handler<Heavy> for Puppet {
    type Reply = ();
    fn handle(&mut self, Heavy(turns): Heavy, _: &mut Context<Self>) {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1) {
            thread::yield_now();
        }
        turns.fetch_add(1, Release);
    }
}

/// Turns of nanoseconds are followed by a hundred turns of a millisecond each. An outside message
/// must wait for only a turn or two, fewer than lie between two readings of the clock. The best of
/// several tries counts, because the asking thread may lose its processor in between.
#[test]
fn p05_outside_work_does_not_wait_behind_turns_that_became_long() {
    let executor = crew(1);
    let (fan, cold) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let waited = (0..5).map(|_| {
        make_means_small(&executor);
        let turns = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&turns);
        let all: Vec<_> = (0..100).map(|_| executor.spawn(Puppet::default())).collect();
        settle(&executor);
        inside(&fan, move |_, _| {
            for puppet in all {
                puppet.tell(Heavy(Arc::clone(&count))).unwrap();
                puppet.detach();
            }
        });
        let before = turns.load(Acquire);
        let seen = Arc::clone(&turns);
        let at = inside(&cold, move |_, _| seen.load(Acquire));
        settle(&executor);
        at - before
    });
    let least = waited.min().expect("some tries");
    assert!(least <= 4, "it waited for {least} turns");
    shut_down(&executor);
}

/// The handler for a spare waits for an answer on the only worker, before the worker's slot is
/// vacant.
#[test]
fn p07_a_wait_in_the_handler_of_a_spare_is_refused() {
    let log: Arc<OnceLock<ActorRef<Puppet>>> = Arc::default();
    let seen: Arc<OnceLock<Result<u64, AskError>>> = Arc::default();
    let (theirs, outcome) = (Arc::clone(&log), Arc::clone(&seen));
    let handler = move |spare: WorkerThread| {
        if let Some(log) = theirs.get() {
            let answer = log.ask(Note(7)).unwrap().wait_timeout(Duration::from_secs(LONG));
            let _ = outcome.set(answer);
        }
        drop(thread::spawn(|| spare.run()));
        Ok(())
    };
    let executor = build(Executor::builder().workers(1).spare_handler(handler));
    assert!(log.set(executor.spawn(Puppet::default())).is_ok());
    let blocks = executor.spawn(Puppet::default());
    inside(&blocks, |_, _| blocking(|| ()));
    assert_eq!(seen.get(), Some(&Err(AskError::NoSpare)));
    assert_eq!(executor.stats().spares.alive, 1, "no spare was started for the handler");
    shut_down(&executor);
}
