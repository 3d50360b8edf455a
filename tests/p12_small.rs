//! Tests P12, small: bytes of an idle actor and an armed timer, allocations of a tell, an ask, a
//! spawn and a tick, timed or not, no growth over time, and memory that is returned after a burst.
//!
//! The allocator itself counts, and the executor counts the chunks that it takes from the system.
//! Allocations are counted by thread and therefore exact. Bytes are counted for the whole process,
//! so the tests of this file run one at a time.
#![allow(clippy::print_stdout)] // prints the sizes for inspection

mod common;

use common::*;
use heist::timer::IntervalMode;
use heist::{Actor, ActorRef, Context, Executor, Handler};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

struct Counting;

static LIVE_BYTES: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static ALLOCATIONS_HERE: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: i64, allocations: u64) {
    LIVE_BYTES.fetch_add(bytes, Relaxed);
    let _at_a_threads_end = ALLOCATIONS_HERE.try_with(|here| here.set(here.get() + allocations));
}

// SAFETY: every call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64, 1);
        // SAFETY: `GlobalAlloc` requires a layout of non-zero size, and `System` requires nothing
        // else.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64), 0);
        // SAFETY: `at` was allocated by `System` with this layout, because every allocation is
        // forwarded to `System`.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64, 1);
        // SAFETY: `at` was allocated by `System` with this layout, and `GlobalAlloc` requires a
        // valid non-zero `size`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live_bytes() -> i64 {
    LIVE_BYTES.load(Relaxed)
}

/// Returns the number of allocations that this thread has made.
fn allocations() -> u64 {
    ALLOCATIONS_HERE.get()
}

/// Returns the number of allocations that `f` makes on this thread.
fn allocated_by(f: impl FnOnce()) -> u64 {
    let before = allocations();
    f();
    allocations() - before
}

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The header of a cell, its entry in the registry, and the actor's state.
const HEADER: i64 = 80;
const PLACE: i64 = 8;
const STATE: i64 = 8;
/// What the queues keep, whatever the number of actors: old buffers, which the epoch collector
/// frees at some later time. The collector is global, so old buffers of other tests count too.
const SLACK: i64 = 256 * 1024;

/// Sends from outside pass a queue that allocates at most one block for 31 entries.
const BLOCK: u64 = 31;

#[derive(Default)]
struct Small(#[allow(dead_code)] u64);

impl Actor for Small {}

/// Answered with the number of allocations that the handling thread has made so far.
struct Ping;

impl Handler<Ping> for Small {
    type Reply = u64;
    fn handle(&mut self, _: Ping, _: &mut Context<Self>) -> u64 {
        allocations()
    }
}

/// The size of one chunk. A few chunks hold messages and cells even when hardly anything is in use.
const CHUNK: u64 = 2 << 20;

/// Returns the resident memory of the process.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}

#[test]
fn p12_an_idle_actor_takes_its_cell_and_a_place() {
    const ACTORS: i64 = 1 << 18; // a power of two: the registry's table is full
    let _alone = alone();
    for workers in CREWS {
        let executor = crew(workers);
        let mut actors = Vec::with_capacity(ACTORS as usize);
        settle(&executor);
        let held = || live_bytes() + executor.stats().memory as i64;
        let before = held();
        actors.extend((0..ACTORS).map(|_| executor.spawn(Small::default())));
        settle(&executor);
        let bytes = held() - before;
        println!(
            "{workers} workers: {:.1} bytes an actor with a state of {STATE}",
            bytes as f64 / ACTORS as f64
        );
        // Sizes are multiples of 16 bytes, and the last chunk is only partly used.
        let cell = (HEADER + STATE + 15) / 16 * 16;
        let most = ACTORS * (cell + PLACE) + SLACK + 2 * CHUNK as i64;
        assert!(bytes <= most, "{bytes} bytes for {ACTORS} actors");

        // One message to each actor leaves nothing behind, and neither does the actors' end.
        actors.iter().for_each(|actor| actor.tell(Ping).unwrap());
        settle(&executor);
        assert!(held() - before <= most, "{} bytes more", held() - before - bytes);
        actors.clear();
        settle(&executor);
        let few = (3 + workers) as i64 * CHUNK as i64; // see below, at the burst
        assert!(held() - before <= SLACK + few, "{} bytes stay", held() - before);
    }
}

const MESSAGES: u64 = 10_000;

/// The largest message that is promised to cost no allocation.
struct Large(#[allow(dead_code)] [u8; 64]);

impl Handler<Large> for Small {
    type Reply = ();
    fn handle(&mut self, _: Large, _: &mut Context<Self>) {}
}

/// Keeps its turn until the second latch is opened.
struct Pause(Latch, Latch);

impl Handler<Pause> for Small {
    type Reply = ();
    fn handle(&mut self, Pause(entered, until): Pause, _: &mut Context<Self>) {
        entered.open();
        until.wait();
    }
}

/// Larger than any block of the executor's own memory.
struct Huge(#[allow(dead_code)] [u8; 1024]);

impl Handler<Huge> for Small {
    type Reply = ();
    fn handle(&mut self, _: Huge, _: &mut Context<Self>) {}
}

/// Tells `MESSAGES` from inside a turn. Returns the number of allocations.
fn tell_from_inside<M: Send + 'static>(
    teller: &ActorRef<Puppet>,
    sink: &ActorRef<Small>,
    message: impl Fn() -> M + Send + 'static,
) -> u64
where
    Small: Handler<M>,
{
    let sink = sink.clone();
    let burst = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        allocated_by(|| (0..MESSAGES).for_each(|_| sink.tell(message()).unwrap()))
    });
    answer(teller.ask(burst).unwrap()).unwrap()
}

/// From inside and from outside, on one worker and across workers.
#[test]
fn p12_a_tell_allocates_nothing() {
    let _alone = alone();
    for workers in CREWS {
        let executor = crew(workers);
        let sink = executor.build(Small::default()).unbounded().spawn();
        let teller = executor.spawn(Puppet::default());
        let mut before = 0;
        for round in 0..10 {
            let inside = tell_from_inside(&teller, &sink, || Large([1; 64]));
            assert_eq!(inside, 0, "from inside, on {workers} workers");
            settle(&executor);

            let (entered, until) = (Latch::new(), Latch::new());
            sink.tell(Pause(entered.clone(), until.clone())).unwrap();
            entered.wait();
            let outside =
                allocated_by(|| (0..MESSAGES).for_each(|_| sink.tell(Large([2; 64])).unwrap()));
            until.open();
            settle(&executor);
            // The sink stays in its turn, so nothing is queued. The pool may note a chunk.
            assert!(outside <= 4, "{outside} from outside, on {workers} workers");
            if round == 4 {
                before = executor.stats().memory;
            }
        }
        assert!(
            executor.stats().memory <= before.max(4 * CHUNK),
            "and the executor's memory does not grow"
        );
        assert!(tell_from_inside(&teller, &sink, || Huge([3; 1024])) <= MESSAGES);
    }
}

/// Like untimed tells, except for the histograms, which grow when a time exceeds all earlier times,
/// three times each.
#[test]
fn p12_a_timed_tell_allocates_nothing() {
    const HISTOGRAMS: u64 = 5 * 3; // two of an actor, three of a worker
    let _alone = alone();
    let executor = crew(1);
    let sink = executor.build(Small::default()).unbounded().timing(true).spawn();
    let teller = executor.spawn(Puppet::default());
    let first = answer(sink.ask(Ping).unwrap()).unwrap();
    let (mut told, mut before) = (0, 0);
    for round in 0..10 {
        told += tell_from_inside(&teller, &sink, || Large([1; 64]));
        settle(&executor);
        if round == 4 {
            before = executor.stats().memory;
        }
    }
    assert_eq!(told, 0, "the sender's side");
    assert!(
        executor.stats().memory <= before.max(4 * CHUNK),
        "and the executor's memory does not grow"
    );
    // On the worker's side too, which is the same thread. The teller's turns and their asks
    // allocate little.
    let handled = answer(sink.ask(Ping).unwrap()).unwrap() - first;
    println!("{handled} allocations for {} timed messages", 10 * MESSAGES);
    assert!(handled <= HISTOGRAMS + 64, "{handled} allocations");
    settle(&executor);
    assert_eq!(sink.timing().unwrap().wait.count, 10 * MESSAGES + 2);
}

/// Checks the figures in the documentation of `SpawnBuilder::timing`.
#[test]
fn p12_a_timed_actor_takes_what_its_documentation_says() {
    let _alone = alone();
    let executor = crew(1);
    let teller = executor.spawn(Puppet::default());
    const ACTORS: i64 = 1 << 12;
    let mut actors: Vec<ActorRef<Small>> = Vec::with_capacity(ACTORS as usize);
    settle(&executor);
    let before = live_bytes();
    actors.extend((0..ACTORS).map(|_| executor.build(Small::default()).timing(true).spawn()));
    settle(&executor);
    let idle = (live_bytes() - before) / ACTORS - PLACE;
    let targets = actors.clone();
    inside(&teller, move |_, _| {
        targets.iter().for_each(|actor| actor.tell(Large([1; 64])).unwrap())
    });
    settle(&executor);
    let used = (live_bytes() - before) / ACTORS - PLACE - idle;
    println!("{idle} bytes for a timed actor, and {used} from its first message on");
    // At most twice 3,100 bytes, for times of an hour. Here messages wait for milliseconds, and the
    // handlers are short.
    assert!(idle <= 600 && used <= 6_200, "{idle} and {used} bytes");
}

/// A tell to an idle actor passes the injector too.
#[test]
fn p12_a_tell_from_outside_that_schedules_allocates_a_block_of_the_injector_now_and_then() {
    let _alone = alone();
    let executor = crew(1);
    let sink = executor.spawn(Small::default());
    let mut scheduled = 0;
    for _ in 0..MESSAGES {
        scheduled += allocated_by(|| sink.tell(Ping).unwrap());
        settle(&executor);
    }
    assert!(scheduled <= MESSAGES / BLOCK + 1, "{scheduled} allocations");
}

#[test]
fn p12_an_ask_and_its_answer_allocate_nothing() {
    let _alone = alone();
    let executor = crew(1);
    let small = executor.spawn(Small::default());
    let ask = || small.ask(Ping).unwrap().wait().unwrap();
    let first = ask(); // a thread's first wait makes its waker
    let asked = allocated_by(|| (0..MESSAGES).for_each(|_| _ = std::hint::black_box(ask())));
    let answered = ask() - first;
    println!("{asked} allocations for {MESSAGES} asks, {answered} for their answers");
    assert!(asked <= MESSAGES / BLOCK + 1, "{asked} allocations, but for the injector's blocks");
    assert!(answered <= 8, "{answered} allocations on the worker's side");
}

#[test]
fn p12_a_spawn_allocates_nothing_but_what_grows() {
    const ACTORS: u64 = 1 << 14;
    /// Allocations for growth: the registry's table and the worker's queue double. The old buffer
    /// of the queue costs a few more on its way to the epoch collector. The pool notes its chunks.
    const DOUBLINGS: u64 = 4 * 16;
    let _alone = alone();
    let executor = crew(1);
    let mut actors = Vec::with_capacity(ACTORS as usize);
    let outside =
        allocated_by(|| actors.extend((0..ACTORS).map(|_| executor.spawn(Small::default()))));
    assert!(outside <= ACTORS / BLOCK + DOUBLINGS, "{outside} allocations");

    let spawner = executor.spawn(Puppet::default());
    let inside = spawner.ask(Run(|_: &mut Puppet, ctx: &mut Context<Puppet>| {
        let mut actors = Vec::with_capacity(ACTORS as usize);
        allocated_by(|| actors.extend((0..ACTORS).map(|_| ctx.spawn(Small::default()))))
    }));
    let inside = answer(inside.unwrap()).unwrap();
    println!("{ACTORS} actors: {outside} allocations from outside, {inside} from inside");
    assert!(inside <= DOUBLINGS, "{inside} allocations");
}

impl Handler<Ping> for Puppet {
    type Reply = ();
    fn handle(&mut self, _: Ping, _: &mut Context<Self>) {}
}

/// A message of 8 bytes that the handler drops.
struct Word(u64);

impl Handler<Word> for Puppet {
    type Reply = ();
    fn handle(&mut self, word: Word, _: &mut Context<Self>) {
        std::hint::black_box(word.0);
    }
}

/// Millions of messages wait at once, from an actor and from outside. Afterwards nothing is left.
#[test]
fn p12_memory_goes_back_after_a_burst() {
    const MESSAGES: u64 = 3_000_000;
    /// The least that a message takes: its link, in a segment of fifteen.
    const BURST: u64 = MESSAGES * (32 + 15 * 8) / 15;
    let _alone = alone();
    for workers in CREWS {
        let executor = crew(workers);
        let sink = executor.build(Puppet::default()).unbounded().spawn();
        let teller = executor.spawn(Puppet::default());
        settle(&executor);
        for outside in [false, true] {
            // A single worker in the teller's turn does not run the sink.
            let busy = (outside || workers > 1).then(|| Held::hold(&sink));
            // Memory of the pool and of the process. The process counts only in differences,
            // because an earlier crew may have ended just now.
            let look = |executor: &Executor| (executor.stats().memory, resident());
            let (full, resident_then) = if outside {
                (0..MESSAGES).for_each(|_| sink.tell(Word(1)).unwrap());
                look(&executor)
            } else {
                let (sink, handle) = (sink.clone(), executor.handle());
                let burst = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                    (0..MESSAGES).for_each(|_| sink.tell(Word(1)).unwrap());
                    (handle.stats().memory, resident())
                });
                answer(teller.ask(burst).unwrap()).unwrap()
            };
            assert!(full >= BURST, "{full}: that was no burst");
            drop(busy);
            settle(&executor);
            let (held, resident_now) = look(&executor);
            let gone = resident_then.saturating_sub(resident_now);
            println!(
                "{workers} workers, from outside: {outside}: {full} bytes, {held} held, {gone} went back"
            );
            // One chunk in use, one kept, and one for the last few slabs of each heap.
            assert!(held <= (3 + workers as u64) * CHUNK, "{held} bytes held of {full}");
            assert!(gone >= BURST / 3 * 2, "{gone} bytes of {full} went back to the system");
        }
        shut_down(&executor);
    }
}

struct Of<const N: usize>([u64; N]);

impl<const N: usize> Handler<Of<N>> for Puppet {
    type Reply = ();
    fn handle(&mut self, message: Of<N>, _: &mut Context<Self>) {
        std::hint::black_box(message.0);
    }
}

/// Checks how many bytes each message of a backlog from inside takes.
#[track_caller]
fn backlog_takes(bytes: f64, send: impl Fn(&ActorRef<Puppet>, u64) + Send + 'static) {
    const MESSAGES: u64 = 1 << 20;
    // The only worker is in the teller's turn, so all messages wait.
    let executor = crew(1);
    let sink = executor.build(Puppet::default()).unbounded().spawn();
    let (teller, handle) = (executor.spawn(Puppet::default()), executor.handle());
    let flood = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        (0..MESSAGES).for_each(|n| send(&sink, n));
        handle.stats().memory as f64 / MESSAGES as f64
    });
    let each = answer(teller.ask(flood).unwrap()).unwrap();
    println!("{each} bytes each, {bytes} expected");
    // Two chunks of 2 MiB more, for cells and asks and because memory comes in chunks.
    assert!((bytes..bytes + 5.0).contains(&(each + 0.5)), "{each} bytes each instead of {bytes}");
    shut_down(&executor);
}

/// Fifteen messages share a block of 32 bytes and their own, seven if they are larger than 8 bytes.
/// Messages larger than 32 bytes have a block each, behind 16 bytes.
#[test]
fn p12_a_backlog_of_small_messages_takes_little_more_than_they_do() {
    let _alone = alone();
    backlog_takes(32.0 / 15.0, |to, _| to.tell(Ping).unwrap());
    backlog_takes(160.0 / 15.0, |to, n| to.tell(Of([n])).unwrap());
    backlog_takes(160.0 / 7.0, |to, n| to.tell(Of([n; 2])).unwrap());
    backlog_takes(256.0 / 7.0, |to, n| to.tell(Of([n; 4])).unwrap());
    backlog_takes(64.0, |to, n| to.tell(Of([n; 5])).unwrap());
}

/// Most messages take a block of 24 bytes, and one in 34 takes a segment of 160 bytes for itself.
#[test]
fn p12_a_backlog_whose_types_alternate_takes_little_more_than_without_segments() {
    let _alone = alone();
    backlog_takes(24.0 * 33.0 / 34.0 + 160.0 / 34.0, |to, n| match n % 2 {
        0 => to.tell(Of([n])).unwrap(),
        _ => to.tell(Word(n)).unwrap(),
    });
}

/// A box of 56 bytes for a message of 8 (48 bytes without the message), an entry of 24 in the heap,
/// and a slot of 48 in the table, of which 16 link the timers that end with one actor.
#[test]
fn p12_an_armed_timer_takes_its_message_and_its_place() {
    const TIMERS: i64 = 1 << 17; // a power of two: table and heap are full
    const TIMER: i64 = 48 + 48 + 24;
    let _alone = alone();
    let executor = crew(2);
    let (actor, hour) = (executor.spawn(Puppet::default()), Duration::from_secs(3600));
    let mut timers = Vec::with_capacity(TIMERS as usize);
    settle(&executor);
    let before = live_bytes();
    let allocations = allocated_by(|| {
        timers.extend((0..TIMERS).map(|n| actor.tell_after(hour, Note(n as u64)).unwrap()));
    });
    let bytes = live_bytes() - before;
    println!("{:.1} bytes an armed timer with a message of 8", bytes as f64 / TIMERS as f64);
    assert!(bytes <= TIMERS * (TIMER + 8) + SLACK, "{bytes} bytes for {TIMERS} timers");
    assert!(allocations <= TIMERS as u64 + 64, "{allocations} allocations for {TIMERS} timers");
    timers.clear();
    assert!(live_bytes() - before <= SLACK, "{} bytes stay", live_bytes() - before);
}

/// Counted on the only worker: nothing is allocated from the tenth tick to the sixtieth.
#[test]
fn p12_a_tick_allocates_nothing() {
    let _alone = alone();
    let executor = crew(1);
    let actor = executor.spawn(Puppet::default());
    let count =
        |_| Run(|puppet: &mut Puppet, _: &mut Context<Puppet>| puppet.log.push(allocations()));
    inside(&actor, move |puppet, ctx| {
        puppet.log.reserve(10_000);
        ctx.tell_every(Duration::from_millis(1), IntervalMode::FixedRate, count).unwrap().detach();
    });
    within(LONG, "sixty ticks", || actor.stats().handled > 61);
    let counts = answer(actor.ask(Log).unwrap()).unwrap();
    assert_eq!(counts[60] - counts[10], 0, "{counts:?}");
    actor.stop();
}

fn round(executor: &Executor) {
    let actors: Vec<_> = (0..1000).map(|_| executor.spawn(Small::default())).collect();
    let asks: Vec<_> = actors.iter().map(|actor| actor.ask(Ping).unwrap()).collect();
    actors.iter().for_each(|actor| actor.tell(Ping).unwrap());
    let weak: Vec<_> = actors.iter().map(ActorRef::downgrade).collect();
    actors.iter().step_by(2).for_each(ActorRef::stop);
    actors.iter().step_by(5).for_each(ActorRef::stop_now);
    drop(asks);
    drop(actors);
    settle(executor);
    assert!(weak.iter().all(|weak| weak.upgrade().is_none()), "an actor is left");
}

#[test]
fn p12_spawning_and_stopping_does_not_grow() {
    let _alone = alone();
    for workers in CREWS {
        let executor = crew(workers);
        (0..10).for_each(|_| round(&executor));
        let held = || live_bytes() + executor.stats().memory as i64;
        let before = held();
        (0..100).for_each(|_| round(&executor));
        let grown = held() - before;
        println!("{workers} workers: {grown} bytes more after 100 rounds");
        assert!(grown <= SLACK + 2 * CHUNK as i64, "{grown} bytes more after 100 rounds");
    }
}
