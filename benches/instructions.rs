//! Runs the hot paths for `scripts/instructions.sh`, which counts instructions under valgrind.
//! `cargo bench` only checks the answers.
//!
//! | workload | row | one operation is |
//! |---|---|---|
//! | outside-busy | tell-outside-busy | `tell` from outside the crew to a scheduled actor |
//! | | turn-message-outside | a message of such a backlog, in a turn (another thread's memory) |
//! | outside-idle | tell-outside-idle | `tell` from outside to an idle actor: gate, injector |
//! | | turn-injector | taking that actor from the injector, and its turn |
//! | ask-wait | ask-outside-wait | `ask` from outside, its turn, `wait` when the answer is there |
//! | ask-await | ask-outside-await | the same, polled before its turn (answer wakes) and after |
//! | inside-busy | tell-inside-busy | `tell` inside a turn to a scheduled actor |
//! | | turn-message | a message of such a backlog, in a turn |
//! | inside-idle | tell-inside-idle | `tell` inside a turn to an idle actor (LIFO slot, queue) |
//! | | turn-local | taking that actor from the local queue, and its turn |
//! | hop | hop | `tell` inside a turn to an idle actor and its turn, by way of the LIFO slot |
//! | ask-then | ask-inside | `ask_then`, the turn that answers, the turn of the answer |
//! | spawn | spawn | `spawn` inside a turn, and dropping the reference |
//! | | end | the first turn of such an actor, which is also its last |
//! | steal | steal | stealing an actor (in batches, as they come) and its turn |
//!
//! The counts include a few instructions of this file's loops and handlers, and the allocator. A
//! thousand messages or actors at once make the allocator and the queues resize, unlike a hop.
//!
//! # What makes the counts repeat
//!
//! Only one thread runs at a time, and no thread spins while counted. For sends from outside, the
//! worker is held in a turn until a batch is sent, then the main thread sleeps until the worker is
//! held again. Thief and victim alternate in the same way, so that no worker runs out of work.
//! Waking and searching cannot be counted this way; both cost time more than instructions.
//!
//! Valgrind resets its counts in [`counts_begin`] and writes them in [`counts_end`]. The first
//! rounds, in which queues grow and means settle, are not counted.

#![allow(clippy::print_stdout, reason = "what was counted, for the script")]

use heist::{Actor, ActorRef, Ask, Context, Executor, Handler};
use std::hint::black_box;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Condvar, Mutex};
use std::task::{self, Poll, Waker};
use std::time::Duration;

/// Operations in a round: fewer than a mailbox holds, and enough that costs of once a round vanish.
const BATCH: u32 = 1_000;
const WARM_UP: u32 = 4;
const ROUNDS: u32 = WARM_UP + 8;
const WATCHDOG: Duration = Duration::from_secs(60);

const WORKLOADS: [(&str, fn()); 10] = [
    ("outside-busy", outside_busy),
    ("outside-idle", outside_idle),
    ("ask-wait", ask_wait),
    ("ask-await", ask_await),
    ("inside-busy", inside_busy),
    ("inside-idle", inside_idle),
    ("hop", hop),
    ("ask-then", ask_then),
    ("spawn", spawn),
    ("steal", steal),
];

/// Runs `list`, `count WORKLOAD` (one workload), or all workloads for other arguments.
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["list"] => WORKLOADS.iter().for_each(|(name, _)| println!("{name}")),
        ["count", wanted] => {
            COUNT_FROM.store(WARM_UP, Relaxed);
            let (_, run) =
                WORKLOADS.iter().find(|(name, _)| *name == wanted).expect("one of the list");
            run();
        }
        // With a real clock, the sentinel may take the held victim's work, so that nothing is left.
        _ => WORKLOADS
            .iter()
            .filter(|(name, _)| cfg!(heist_steps) || *name != "steal")
            .for_each(|(_, run)| run()),
    }
}

/// The first round that is counted.
static COUNT_FROM: AtomicU32 = AtomicU32::new(u32::MAX);
static COUNTING: AtomicBool = AtomicBool::new(false);

fn begin_round(round: u32) {
    COUNTING.store(round >= COUNT_FROM.load(Relaxed), Relaxed);
}

// The bodies differ, or the compiler would merge the functions. The script knows their names.
#[inline(never)]
fn counts_begin() {
    black_box("begin");
}

#[inline(never)]
fn counts_end() {
    black_box("end");
}

/// Ends an interval of `operations` operations, 0 if an earlier interval of the row has them.
fn end(row: &str, operations: u32) {
    if COUNTING.load(Relaxed) {
        counts_end();
        println!("{row} {operations}");
    }
}

/// Lets one thread wake another, which does not spin.
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    const fn new() -> Self {
        Bell { rung: Mutex::new(false), changed: Condvar::new() }
    }
    fn ring(&self) {
        *self.rung.lock().expect("nobody panics under it") = true;
        self.changed.notify_one();
    }
    fn wait(&self) {
        let rung = self.rung.lock().expect("nobody panics under it");
        let waited = self.changed.wait_timeout_while(rung, WATCHDOG, |rung| !*rung);
        let (mut rung, timeout) = waited.expect("nobody panics under it");
        assert!(
            !timeout.timed_out(),
            "nobody rang: actors were not taken in the order expected here"
        );
        *rung = false;
    }
}

/// Rung when a worker has reached a [`Holder`].
static HELD: Bell = Bell::new();
/// Rung when the holder may continue.
static RELEASED: Bell = Bell::new();
static DONE: Bell = Bell::new();

/// Makes the default crew, except that no turn ends by its time budget, however slow the machine.
fn crew(workers: usize) -> Executor {
    let builder = Executor::builder().workers(workers).budget_time(Duration::from_secs(3_600));
    builder.build().expect("a valid crew")
}

fn finish(executor: &Executor) {
    let report = executor.shutdown(Duration::from_secs(3_600)).expect("called from outside");
    assert!(report.complete && report.dead_letters.total() == 0, "{report:?}");
}

/// An actor that does next to nothing.
struct Sink(u64);
impl Actor for Sink {}

struct Add(u64);
impl Handler<Add> for Sink {
    type Reply = ();
    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) {
        self.0 += n;
    }
}

struct Sum;
impl Handler<Sum> for Sink {
    type Reply = u64;
    fn handle(&mut self, _: Sum, _: &mut Context<Self>) -> u64 {
        self.0
    }
}

struct Double(u32);
impl Handler<Double> for Sink {
    type Reply = u64;
    fn handle(&mut self, Double(n): Double, _: &mut Context<Self>) -> u64 {
        self.0 += 1;
        2 * u64::from(n)
    }
}

fn sinks(executor: &Executor, count: u32) -> Vec<ActorRef<Sink>> {
    (0..count).map(|_| executor.spawn(Sink(0))).collect()
}

fn sum_of(sinks: &[ActorRef<Sink>]) -> u64 {
    let asks: Vec<_> = sinks.iter().map(|sink| sink.ask(Sum).expect("running")).collect();
    asks.into_iter().map(|mut ask| ask.wait().expect("an answer")).sum()
}

/// Holds its worker in a turn, and counts the worker's operations between two such turns.
struct Holder {
    row: &'static str,
    operations: u32,
}
impl Actor for Holder {}

struct Hold;
impl Handler<Hold> for Holder {
    type Reply = ();
    fn handle(&mut self, _: Hold, _: &mut Context<Self>) {
        end(self.row, self.operations);
        HELD.ring();
        RELEASED.wait();
        counts_begin();
    }
}

/// Makes two holders, because a holder in its turn cannot also be queued behind the batch.
fn holders(executor: &Executor, row: &'static str, operations: u32) -> [ActorRef<Holder>; 2] {
    let holders = [(); 2].map(|()| executor.spawn(Holder { row, operations }));
    executor.wait_idle().expect("called from outside"); // so that no first turn is left
    holders
}

/// Sends batches from outside while the only worker is held, then counts each batch as `turn`.
fn outside(executor: &Executor, turn: &'static str, operations: u32, mut send: impl FnMut()) {
    let holders = holders(executor, turn, operations);
    holders[0].tell(Hold).expect("room");
    HELD.wait();
    for round in 0..ROUNDS {
        begin_round(round);
        send();
        holders[(round as usize + 1) % 2].tell(Hold).expect("room");
        RELEASED.ring();
        HELD.wait();
    }
    RELEASED.ring();
}

fn outside_busy() {
    let executor = crew(1);
    let sink = sinks(&executor, 1);
    outside(&executor, "turn-message-outside", BATCH, || {
        sink[0].tell(Add(0)).expect("room");
        counts_begin();
        for n in 1..=BATCH {
            sink[0].tell(Add(n.into())).expect("room");
        }
        end("tell-outside-busy", BATCH);
    });
    assert_eq!(sum_of(&sink), u64::from(ROUNDS * BATCH * (BATCH + 1) / 2));
    finish(&executor);
}

fn outside_idle() {
    let executor = crew(1);
    let sinks = sinks(&executor, BATCH);
    outside(&executor, "turn-injector", BATCH, || {
        counts_begin();
        for sink in &sinks {
            sink.tell(Add(1)).expect("room");
        }
        end("tell-outside-idle", BATCH);
    });
    assert_eq!(sum_of(&sinks), u64::from(ROUNDS * BATCH));
    finish(&executor);
}

/// Counts round trips. The answers of a round are taken at the beginning of the next.
fn asks(row: &'static str, sent: impl Fn(&mut Ask<u64>), answer: impl Fn(Ask<u64>) -> u64) {
    let executor = crew(1);
    let sink = sinks(&executor, 1);
    let mut asks = Vec::with_capacity(BATCH as usize);
    let mut answered = 0;
    outside(&executor, row, 0, || {
        counts_begin();
        answered += asks.drain(..).map(&answer).sum::<u64>();
        end(row, 0);
        counts_begin();
        for n in 1..=BATCH {
            let mut ask = sink[0].ask(Double(n)).expect("room");
            sent(&mut ask);
            asks.push(ask);
        }
        end(row, BATCH);
    });
    answered += asks.drain(..).map(answer).sum::<u64>();
    assert_eq!(answered, u64::from(ROUNDS * BATCH * (BATCH + 1)));
    finish(&executor);
}

fn ask_wait() {
    let answer = |mut ask: Ask<u64>| {
        assert!(ask.is_ready(), "it was not answered before the worker was held again");
        ask.wait().expect("an answer")
    };
    asks("ask-outside-wait", |_| {}, answer);
}

fn ask_await() {
    fn poll(ask: &mut Ask<u64>) -> Poll<u64> {
        let mut context = task::Context::from_waker(Waker::noop());
        Pin::new(ask).poll(&mut context).map(|answer| answer.expect("an answer"))
    }
    let sent = |ask: &mut Ask<u64>| assert!(poll(ask).is_pending(), "the worker is held");
    asks("ask-outside-await", sent, |mut ask| match poll(&mut ask) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it was not answered before the worker was held again"),
    });
}

/// Runs a function again and again, inside turns.
struct Driver<F> {
    round: u32,
    batch: F,
}
impl<F: FnMut() + Send + 'static> Actor for Driver<F> {}

struct Go;
impl<F: FnMut() + Send + 'static> Handler<Go> for Driver<F> {
    type Reply = ();
    fn handle(&mut self, _: Go, ctx: &mut Context<Self>) {
        begin_round(self.round);
        (self.batch)();
        self.round += 1;
        if self.round < ROUNDS {
            // Behind everything that the batch has made runnable.
            ctx.me().tell(Go).expect("room");
        } else {
            DONE.ring();
        }
    }
}

fn inside(executor: &Executor, batch: impl FnMut() + Send + 'static) {
    let driver = executor.spawn(Driver { round: 0, batch });
    driver.tell(Go).expect("room");
    DONE.wait();
}

fn inside_busy() {
    let executor = crew(1);
    let sink = sinks(&executor, 1);
    let to = sink[0].clone();
    inside(&executor, move || {
        end("turn-message", BATCH); // the operations of the previous round
        to.tell(Add(0)).expect("room");
        counts_begin();
        for n in 1..=BATCH {
            to.tell(Add(n.into())).expect("room");
        }
        end("tell-inside-busy", BATCH);
        counts_begin();
    });
    assert_eq!(sum_of(&sink), u64::from(ROUNDS * BATCH * (BATCH + 1) / 2));
    finish(&executor);
}

fn inside_idle() {
    let executor = crew(1);
    let sinks = sinks(&executor, BATCH);
    let to = sinks.clone();
    inside(&executor, move || {
        end("turn-local", BATCH); // the operations of the previous round
        counts_begin();
        for sink in &to {
            sink.tell(Add(1)).expect("room");
        }
        end("tell-inside-idle", BATCH);
        counts_begin();
    });
    assert_eq!(sum_of(&sinks), u64::from(ROUNDS * BATCH));
    finish(&executor);
}

fn spawn() {
    let executor = crew(1);
    let handle = executor.handle();
    inside(&executor, move || {
        end("end", BATCH); // the operations of the previous round
        counts_begin();
        for n in 0..BATCH {
            drop(handle.spawn(Sink(n.into())));
        }
        end("spawn", BATCH);
        counts_begin();
    });
    executor.wait_idle().expect("called from outside");
    assert_eq!(executor.stats().live_actors, 0);
    finish(&executor);
}

/// One of two players that know each other.
struct Player(Option<ActorRef<Player>>);
impl Actor for Player {}

struct Meet(ActorRef<Player>);
impl Handler<Meet> for Player {
    type Reply = ();
    fn handle(&mut self, Meet(other): Meet, _: &mut Context<Self>) {
        self.0 = Some(other);
    }
}

struct Pass(u32);
impl Handler<Pass> for Player {
    type Reply = ();
    fn handle(&mut self, Pass(n): Pass, _: &mut Context<Self>) {
        if next_operation("hop", n) {
            self.0.as_ref().expect("they have met").tell(Pass(n + 1)).expect("room");
        }
    }
}

/// Begins the next of consecutive operations. Returns `false` after the last.
fn next_operation(row: &str, n: u32) -> bool {
    if n.is_multiple_of(BATCH) {
        end(row, BATCH); // the previous round
        begin_round(n / BATCH);
        counts_begin();
    }
    if n == ROUNDS * BATCH {
        DONE.ring();
    }
    n < ROUNDS * BATCH
}

fn hop() {
    let executor = crew(1);
    let first = executor.spawn(Player(None));
    let second = executor.spawn(Player(Some(first.clone())));
    first.tell(Meet(second)).expect("room");
    first.tell(Pass(0)).expect("room");
    DONE.wait();
    finish(&executor);
}

struct Asker(ActorRef<Sink>);
impl Actor for Asker {}
struct AskOnce(u32);
impl Handler<AskOnce> for Asker {
    type Reply = ();
    fn handle(&mut self, AskOnce(n): AskOnce, ctx: &mut Context<Self>) {
        if next_operation("ask-inside", n) {
            let then = move |me: &mut Self, answer: Result<u64, _>, ctx: &mut Context<Self>| {
                assert_eq!(answer.ok(), Some(2 * u64::from(n)));
                me.handle(AskOnce(n + 1), ctx);
            };
            ctx.ask_then(&self.0, Double(n), then).expect("room");
        }
    }
}

fn ask_then() {
    let executor = crew(1);
    let sink = sinks(&executor, 1);
    let asker = executor.spawn(Asker(sink[0].clone()));
    asker.tell(AskOnce(0)).expect("room");
    DONE.wait();
    assert_eq!(sum_of(&sink), u64::from(ROUNDS * BATCH));
    finish(&executor);
}

/// Makes a batch runnable on its worker, then stays in its turn until all of it is stolen.
struct Victim;
impl Actor for Victim {}

struct Load {
    round: u32,
    sinks: Vec<ActorRef<Sink>>,
    thief: [ActorRef<Holder>; 2],
    victim: [ActorRef<Victim>; 2],
}

impl Handler<Box<Load>> for Victim {
    type Reply = ();
    fn handle(&mut self, mut load: Box<Load>, _: &mut Context<Self>) {
        if load.round == ROUNDS {
            RELEASED.ring();
            DONE.ring();
            return;
        }
        begin_round(load.round);
        for sink in &load.sinks {
            sink.tell(Add(1)).expect("room");
        }
        load.round += 1;
        let next = load.round as usize % 2;
        load.thief[next].tell(Hold).expect("room");
        // Takes the LIFO slot, which thieves leave alone, so that everything else is in the queue.
        load.victim[next].clone().tell(load).expect("room");
        RELEASED.ring();
        HELD.wait();
    }
}

fn steal() {
    let executor = crew(2);
    let sinks = sinks(&executor, BATCH);
    let thief = holders(&executor, "steal", BATCH);
    let victim = [(); 2].map(|()| executor.spawn(Victim));
    executor.wait_idle().expect("called from outside");
    thief[0].tell(Hold).expect("room");
    HELD.wait();
    let load = Load { round: 0, sinks: sinks.clone(), thief, victim };
    load.victim[0].clone().tell(Box::new(load)).expect("room");
    DONE.wait();
    assert_eq!(sum_of(&sinks), u64::from(ROUNDS * BATCH));
    let stolen: u64 = executor.stats().workers.iter().map(|worker| worker.stolen_items).sum();
    assert!(stolen >= u64::from(ROUNDS * BATCH), "only {stolen} were stolen");
    finish(&executor);
}
