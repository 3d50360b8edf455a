//! Tests messages and states of 512 KiB with default settings: each way to send, to spawn and to
//! restart.
//!
//! In a debug build, each function that a value passes through copies the value on the stack. These
//! tests are therefore most telling in debug builds, where an overflow ends the process.

mod common;

use common::*;
use heist::strategy::{RoundRobin, SharedQueue};
use heist::timer::IntervalMode;
use heist::{
    Actor, ActorRef, Batch, Context, Directory, Executor, Handler, Receive, Refusal, Reply,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

const LARGE: usize = 512 << 10;

/// A message or a state of 512 KiB of equal bytes.
struct Large([u8; LARGE]);

impl Large {
    fn of(byte: u8) -> Self {
        Large([byte; LARGE])
    }

    /// Returns the byte, after checking that nothing was lost on the way.
    fn byte(&self) -> u8 {
        assert!(self.0.iter().all(|&byte| byte == self.0[0]));
        self.0[0]
    }
}

/// The same for a handler that takes batches.
struct Row(Large);

/// Sums up its messages, and sends large messages from within its turns.
#[derive(Default)]
struct Sink {
    sum: u64,
    largest_batch: usize,
}
impl Actor for Sink {}

impl Handler<Large> for Sink {
    type Reply = u64;
    fn handle(&mut self, large: Large, _: &mut Context<Self>) -> u64 {
        self.sum += u64::from(large.byte());
        self.sum
    }
}

impl Receive<Row> for Sink {
    type Reply = u64;
    const BATCH: usize = 8;
    fn receive(&mut self, Row(large): Row, reply: Reply<u64>, _: &mut Context<Self>) {
        self.sum += u64::from(large.byte());
        reply.send(self.sum);
    }
    fn receive_batch(&mut self, batch: Batch<'_, Row, u64>, ctx: &mut Context<Self>) {
        let mut rows = 0;
        for (row, reply) in batch {
            rows += 1;
            self.receive(row, reply, ctx);
        }
        self.largest_batch = self.largest_batch.max(rows);
    }
}

struct Sum;
impl Handler<Sum> for Sink {
    type Reply = u64;
    fn handle(&mut self, _: Sum, _: &mut Context<Self>) -> u64 {
        self.sum
    }
}

/// Holds its actor in a turn until the latch opens.
struct Hold(Latch);
impl Handler<Hold> for Sink {
    type Reply = ();
    fn handle(&mut self, Hold(latch): Hold, _: &mut Context<Self>) {
        heist::blocking(|| latch.wait());
    }
}

/// Runs a function in a turn.
struct Inside;
impl Actor for Inside {}
type Step = Box<dyn FnOnce(&mut Context<Inside>) + Send>;
struct Run(Step);
impl Handler<Run> for Inside {
    type Reply = ();
    fn handle(&mut self, Run(f): Run, ctx: &mut Context<Self>) {
        f(ctx);
    }
}
impl Handler<Large> for Inside {
    type Reply = ();
    fn handle(&mut self, large: Large, ctx: &mut Context<Self>) {
        assert_eq!(large.byte(), 1);
        ctx.stop();
    }
}

fn sum(sink: &ActorRef<Sink>) -> u64 {
    answer(sink.ask(Sum).unwrap()).unwrap()
}

/// Runs `f` in a handler, on a worker's stack.
fn in_a_turn(executor: &Executor, f: impl FnOnce(&mut Context<Inside>) + Send + 'static) {
    let inside = executor.spawn(Inside);
    answer(inside.ask(Run(Box::new(f))).unwrap()).unwrap();
}

/// Runs `f` on a thread with the stack of a program's main thread.
fn outside(f: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(8 << 20).spawn(f).unwrap().join().unwrap();
}

/// Runs `f` in a separate stack frame, because a debug build adds up the stack of all statements of
/// a function.
#[inline(never)]
fn step<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Sends to an actor in every possible way.
fn send_in_each_way(sink: &ActorRef<Sink>) {
    let soon = Instant::now() + Duration::from_secs(LONG);
    step(|| sink.tell(Large::of(1)).unwrap());
    step(|| assert_eq!(answer(sink.ask(Large::of(1)).unwrap()).unwrap(), 2));
    step(|| assert_eq!(answer(sink.ask_deadline(Large::of(1), soon).unwrap()).unwrap(), 3));
    step(|| sink.send(Large::of(1)).unwrap());
    step(|| sink.send_timeout(Large::of(1), Duration::from_secs(LONG)).unwrap());
    step(|| futures::executor::block_on(sink.send_async(Large::of(1))).unwrap());
    step(|| sink.recipient::<Large>().tell(Large::of(1)).unwrap());
    step(|| answer(sink.asker::<Large>().ask(Large::of(1)).unwrap()).unwrap());
    step(|| sink.tell(Row(Large::of(1))).unwrap());
    step(|| answer(sink.ask(Row(Large::of(1))).unwrap()).unwrap());
    step(|| sink.tell_after(Duration::from_millis(1), Large::of(1)).unwrap().detach());
    step(|| sink.tell_at(Instant::now(), Large::of(1)).unwrap().detach());
    step(|| assert_eq!(sink.send_async(Large::of(7)).cancel().unwrap().byte(), 7));
    within(LONG, "all are handled, ticks too", || sum(sink) == 12);
}

#[test]
fn large_messages_are_sent_in_each_way_from_a_handler() {
    let executor = Executor::new();
    let sink = executor.spawn(Sink::default());
    in_a_turn(&executor, move |_| send_in_each_way(&sink));
    shut_down(&executor);
}

#[test]
fn large_messages_are_sent_in_each_way_from_outside() {
    let executor = Executor::new();
    let sink = executor.spawn(Sink::default());
    outside(move || send_in_each_way(&sink));
    shut_down(&executor);
}

#[test]
fn large_messages_are_sent_to_timed_actors_and_to_dedicated_ones() {
    let executor = Executor::new();
    let timed = executor.build(Sink::default()).timing(true).spawn();
    let dedicated = executor.spawn_dedicated(Sink::default).unwrap();
    outside(move || {
        send_in_each_way(&timed);
        send_in_each_way(&dedicated);
    });
    shut_down(&executor);
}

#[test]
fn large_messages_come_by_a_context() {
    let executor = Executor::new();
    let sink = executor.spawn(Sink::default());
    let seen = Arc::new(AtomicUsize::new(0));
    let (told, other) = (Arc::clone(&seen), sink.clone());
    let again = executor.spawn(Inside);
    again.tell(Run(Box::new(|ctx| ctx.tell_self(Large::of(1)).unwrap()))).unwrap();
    let notice = executor.spawn(Inside);
    let target = sink.clone();
    notice.tell(Run(Box::new(move |ctx| ctx.when_room(&target, Large::of(1)).unwrap()))).unwrap();
    let tick = executor.spawn(Inside);
    let arm =
        |ctx: &mut Context<Inside>| ctx.tell_after(Duration::ZERO, Large::of(1)).unwrap().detach();
    tick.tell(Run(Box::new(arm))).unwrap();
    let every = executor.spawn(Inside);
    let arm = |ctx: &mut Context<Inside>| {
        ctx.tell_every(Duration::from_millis(1), IntervalMode::FixedDelay, |_| Large::of(1))
            .unwrap()
            .detach();
    };
    every.tell(Run(Box::new(arm))).unwrap();
    in_a_turn(&executor, move |ctx| {
        let counted = Arc::clone(&told);
        step(|| {
            ctx.ask_then(&other, Large::of(1), move |_, answer, _| {
                counted.fetch_add(answer.unwrap() as usize, Relaxed);
            })
            .unwrap();
        });
        let soon = Instant::now() + Duration::from_secs(LONG);
        step(|| {
            ctx.ask_then_deadline(&other, Large::of(1), soon, move |_, answer, _| {
                told.fetch_add(answer.unwrap() as usize, Relaxed);
            })
            .unwrap();
        });
    });
    for inside in [again, notice, tick, every] {
        ended(&inside);
    }
    within(LONG, "both answers come", || seen.load(Relaxed) == 3);
    shut_down(&executor);
}

/// A batch of large messages, and a sender that waits for room meanwhile. A refused message comes
/// back whole.
#[test]
fn large_messages_wait_come_together_and_come_back() {
    let executor = Executor::new();
    let sink = executor.build(Sink::default()).capacity(8).spawn();
    let latch = Latch::new();
    sink.tell(Hold(latch.clone())).unwrap();
    let theirs = sink.clone();
    outside(move || {
        within(LONG, "it is in its turn", || theirs.stats().most_waiting > 0 || theirs.len() == 1);
        for _ in 0..7 {
            step(|| theirs.tell(Row(Large::of(1))).unwrap());
        }
        step(|| {
            let full = theirs.tell(Row(Large::of(2))).unwrap_err();
            assert_eq!((full.refusal(), full.into_message().0.byte()), (Refusal::Full, 2));
        });
        step(|| {
            let late =
                theirs.send_timeout(Row(Large::of(3)), Duration::from_millis(1)).unwrap_err();
            assert_eq!((late.refusal(), late.into_message().0.byte()), (Refusal::TimedOut, 3));
        });
        let waiting = thread::Builder::new().stack_size(8 << 20).spawn({
            let theirs = theirs.clone();
            move || theirs.send(Row(Large::of(1))).unwrap()
        });
        latch.open();
        waiting.unwrap().join().unwrap();
        within(LONG, "all are handled", || theirs.is_empty());
        assert_eq!(sum(&theirs), 8);
    });
    sink.stop();
    ended(&sink);
    outside(move || {
        let stopped = sink.ask(Large::of(4)).unwrap_err();
        assert_eq!((stopped.refusal(), stopped.into_message().byte()), (Refusal::Stopped, 4));
    });
    shut_down(&executor);
}

/// A state of 512 KiB.
struct State {
    large: Large,
    dropped: Arc<AtomicUsize>,
}
impl State {
    fn new(dropped: &Arc<AtomicUsize>) -> Self {
        State { large: Large::of(9), dropped: Arc::clone(dropped) }
    }
}
impl Actor for State {}
impl Drop for State {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Relaxed);
    }
}
struct Look;
impl Handler<Look> for State {
    type Reply = u8;
    fn handle(&mut self, _: Look, _: &mut Context<Self>) -> u8 {
        self.large.byte()
    }
}
struct Fail;
impl Handler<Fail> for State {
    type Reply = ();
    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        intended_panic()
    }
}

fn look(actor: &ActorRef<State>) -> u8 {
    answer(actor.ask(Look).unwrap()).unwrap()
}

fn spawn_in_each_way(handle: &heist::Handle, dropped: &Arc<AtomicUsize>) {
    step(|| assert_eq!(look(&handle.spawn(State::new(dropped))), 9));
    step(|| assert_eq!(look(&handle.try_spawn(State::new(dropped)).unwrap()), 9));
    let built =
        step(|| handle.build(State::new(dropped)).name("large").capacity(4).on_worker(0).spawn());
    assert_eq!(look(&built), 9);
    let theirs = Arc::clone(dropped);
    assert_eq!(look(&handle.spawn_dedicated(move || State::new(&theirs)).unwrap()), 9);
    step(|| {
        let refused = handle.build(State::new(dropped)).capacity(0).try_spawn().unwrap_err();
        assert_eq!(refused.into_actor().large.byte(), 9);
    });
    step(|| drop(handle.build(State::new(dropped))));
}

#[test]
fn large_states_are_spawned_in_each_way() {
    let executor = Executor::new();
    let dropped = Arc::new(AtomicUsize::new(0));
    let theirs = Arc::clone(&dropped);
    in_a_turn(&executor, move |ctx| {
        spawn_in_each_way(&ctx.handle(), &theirs);
        assert_eq!(look(&ctx.spawn(State::new(&theirs))), 9);
    });
    let (handle, theirs) = (executor.handle(), Arc::clone(&dropped));
    outside(move || spawn_in_each_way(&handle, &theirs));
    settle(&executor);
    within(LONG, "each state is dropped once", || dropped.load(Relaxed) == 13);
    shut_down(&executor);
    // The executor accepts nothing more, so the state comes back or is dropped here.
    let theirs = Arc::clone(&dropped);
    outside(move || {
        step(|| {
            let refused = executor.try_spawn(State::new(&theirs)).unwrap_err();
            assert_eq!(refused.into_actor().large.byte(), 9);
        });
        step(|| assert!(!executor.spawn(State::new(&theirs)).is_running()));
        assert_eq!(theirs.load(Relaxed), 15);
    });
}

#[test]
fn large_states_begin_anew_in_a_pool_and_in_a_directory() {
    quiet_panics();
    outside(|| {
        let executor = Executor::new();
        let dropped = Arc::new(AtomicUsize::new(0));
        let (theirs, by_key) = (Arc::clone(&dropped), Arc::clone(&dropped));
        let pool = executor.pool(2, move |_| State::new(&theirs)).build().unwrap();
        let directory = Directory::new(&executor, move |_: &u8| State::new(&by_key));
        for replica in 0..2 {
            let replica = pool.replica(replica).unwrap();
            assert_eq!(look(&replica), 9);
            assert!(answer(replica.ask(Fail).unwrap()).is_err());
            assert_eq!(look(&replica), 9);
        }
        assert_eq!(answer(directory.ask(&1, Look).unwrap()).unwrap(), 9);
        assert!(answer(directory.ask(&1, Fail).unwrap()).is_err());
        // Messages that still reach the lost state are answered with the panic.
        let again = || answer(directory.ask(&1, Look).unwrap()) == Ok(9);
        within(LONG, "the next one is there", again);
        drop(directory);
        drop(pool);
        settle(&executor);
        within(LONG, "each state is dropped once", || dropped.load(Relaxed) == 6);
        shut_down(&executor);
    });
}

#[test]
fn large_messages_go_through_pools_and_directories() {
    let executor = Executor::new();
    let pool = executor.pool(2, |_| Sink::default()).build().unwrap();
    let directory = Directory::new(&executor, |_: &u8| Sink::default());
    let send = move || {
        let soon = Instant::now() + Duration::from_secs(LONG);
        step(|| pool.tell(RoundRobin, Large::of(1)).unwrap());
        step(|| pool.tell(SharedQueue, Large::of(1)).unwrap());
        step(|| answer(pool.ask(RoundRobin, Large::of(1)).unwrap()).unwrap());
        step(|| answer(pool.ask(SharedQueue, Large::of(1)).unwrap()).unwrap());
        step(|| answer(pool.ask_deadline(RoundRobin, Large::of(1), soon).unwrap()).unwrap());
        step(|| pool.send(RoundRobin, Large::of(1)).unwrap());
        step(|| futures::executor::block_on(pool.send_async(RoundRobin, Large::of(1))).unwrap());
        step(|| drop(pool.send_async(RoundRobin, Large::of(1))));
        let sum = || pool.broadcast_with(|_| Sum).wait_timeout(Duration::from_secs(LONG));
        within(LONG, "all are handled", || sum().into_iter().map(Result::unwrap).sum::<u64>() == 7);
        let mut made = 0;
        let answers = pool.broadcast_with(|_| {
            made += 1;
            Large::of(1)
        });
        assert!(
            answers
                .wait_timeout(Duration::from_secs(LONG))
                .into_iter()
                .all(|answer| answer.is_ok())
        );
        step(|| directory.tell(&1, Large::of(1)).unwrap());
        step(|| assert_eq!(answer(directory.ask(&1, Large::of(1)).unwrap()).unwrap(), 2));
    };
    in_a_turn(&executor, move |_| send());
    shut_down(&executor);
}

/// A boxed message may be several times larger, as the documentation says.
#[test]
fn what_is_larger_goes_in_a_box() {
    struct Huge(Box<[u8]>);
    impl Handler<Huge> for Sink {
        type Reply = usize;
        fn handle(&mut self, Huge(bytes): Huge, _: &mut Context<Self>) -> usize {
            bytes.len()
        }
    }
    let executor = Executor::new();
    let sink = executor.spawn(Sink::default());
    let ask = sink.ask(Huge(vec![0; 64 << 20].into())).unwrap();
    assert_eq!(answer(ask).unwrap(), 64 << 20);
    shut_down(&executor);
}

/// A large message travels in a box, and must not be confused with a message that is such a box
/// itself.
#[test]
fn a_box_of_a_large_message_is_another_message() {
    /// Just large enough to be boxed.
    struct Page([u8; 8 << 10]);
    struct Both(Vec<&'static str>);
    impl Actor for Both {}
    impl Handler<Page> for Both {
        type Reply = ();
        fn handle(&mut self, page: Page, _: &mut Context<Self>) {
            assert_eq!(page.0[0], 1);
            self.0.push("large");
        }
    }
    impl Handler<Box<Page>> for Both {
        type Reply = ();
        fn handle(&mut self, page: Box<Page>, _: &mut Context<Self>) {
            assert_eq!(page.0[0], 1);
            self.0.push("box");
        }
    }
    impl Handler<Arc<Latch>> for Both {
        type Reply = ();
        fn handle(&mut self, latch: Arc<Latch>, _: &mut Context<Self>) {
            heist::blocking(|| latch.wait());
        }
    }
    struct Seen;
    impl Handler<Seen> for Both {
        type Reply = Vec<&'static str>;
        fn handle(&mut self, _: Seen, _: &mut Context<Self>) -> Vec<&'static str> {
            std::mem::take(&mut self.0)
        }
    }
    let executor = Executor::new();
    let both = executor.spawn(Both(Vec::new()));
    for box_last in [true, false] {
        let latch = Arc::new(Latch::new());
        both.tell(Arc::clone(&latch)).unwrap();
        let (mut expected, large, boxed) = (Vec::new(), "large", "box");
        // Enough messages wait to share a block.
        for n in 0..20 {
            if (n < 15) == box_last {
                both.tell(Page([1; 8 << 10])).unwrap();
                expected.push(large);
            } else {
                both.tell(Box::new(Page([1; 8 << 10]))).unwrap();
                expected.push(boxed);
            }
        }
        let seen = both.ask(Seen).unwrap();
        latch.open();
        assert_eq!(answer(seen).unwrap(), expected);
    }
    shut_down(&executor);
}
