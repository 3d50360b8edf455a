//! Provides helpers shared by all tests: crews, waits with a watchdog, overlap detection, drop
//! counting, and a scriptable actor.
//!
//! No test sleeps and hopes. A test waits for a condition with [`within`]. The limit of `within`
//! turns a hang into a failure with a message, and is never under test.

#![allow(dead_code)] // each test uses only a part of the helpers

pub(crate) mod batches;
pub(crate) mod chains;
pub(crate) mod diary;
pub(crate) mod hermits;
pub(crate) mod live_bytes;
#[cfg(feature = "pool")]
pub(crate) mod pools;
pub(crate) mod spares;
#[cfg(feature = "timing")]
pub(crate) mod times;

use heist::{
    Actor, Ask, AskError, Context, Event, Executor, ExecutorBuilder, Handler, Policy, StopReason,
};
use std::cell::Cell;
use std::panic::{panic_any, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

/// Crew sizes for every promise. Eight workers deliberately exceed the number of cores.
pub(crate) const CREWS: [usize; 3] = [1, 2, 8];
pub(crate) const POLICIES: [Policy; 3] = [Policy::Stealing, Policy::Sharded, Policy::SharedQueue];

/// Seconds after which a wait counts as a hang: far more than any wait here needs on a loaded
/// machine. `HEIST_WATCHDOG_SECS`, read at compile time, shortens the limit for runs in which hangs
/// are expected.
pub(crate) const LONG: u64 = match option_env!("HEIST_WATCHDOG_SECS") {
    None => 60,
    Some(secs) => match u64::from_str_radix(secs, 10) {
        Ok(secs) => secs,
        Err(_) => panic!("HEIST_WATCHDOG_SECS is a number of seconds"),
    },
};

pub(crate) fn crew(workers: usize) -> Executor {
    build(Executor::builder().workers(workers))
}

pub(crate) fn build(builder: ExecutorBuilder<'_>) -> Executor {
    builder.build().expect("a valid crew")
}

/// Runs `test` with a crew of each size, under each policy.
pub(crate) fn on_every_crew(test: impl Fn(&Executor)) {
    for policy in POLICIES {
        for workers in CREWS {
            let executor = build(Executor::builder().workers(workers).policy(policy));
            test(&executor);
            shut_down(&executor);
        }
    }
}

/// Polls until `condition` holds. Panics with `what` if that takes more than `secs` seconds.
#[track_caller]
pub(crate) fn within(secs: u64, what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(secs);
    let mut looks = 0;
    while !condition() {
        assert!(Instant::now() < limit, "waited for {secs} s in vain: {what}");
        looks += 1;
        if looks < 100 {
            thread::yield_now();
        } else {
            thread::park_timeout(Duration::from_micros(500));
        }
    }
}

/// Waits for the answer or for the error. Panics if the ask hangs.
#[track_caller]
pub(crate) fn answer<R>(mut ask: Ask<R>) -> Result<R, AskError> {
    let answer = ask.wait_timeout(Duration::from_secs(LONG));
    assert!(!matches!(answer, Err(AskError::TimedOut)), "an ask hangs");
    answer
}

/// Returns the text of the panic that failed the ask.
#[track_caller]
pub(crate) fn cause<R: std::fmt::Debug>(ask: Ask<R>) -> String {
    match answer(ask) {
        Err(AskError::Panicked(text)) => text.to_string(),
        other => panic!("expected a panic's text, not {other:?}"),
    }
}

/// Waits for the actor's end and returns its reason. Panics if the actor does not end.
#[track_caller]
/// Returns an error's text with those of its sources, as a program would print them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(crate) fn ended<A>(actor: &heist::ActorRef<A>) -> StopReason {
    actor.wait_stopped_timeout(Duration::from_secs(LONG)).expect("the actor ends")
}

/// Waits until the crew is idle, then checks that every accepted message is accounted for.
#[track_caller]
pub(crate) fn settle(executor: &Executor) {
    executor.wait_idle_timeout(Duration::from_secs(LONG)).expect("the crew becomes idle");
    let stats = executor.stats();
    assert_eq!(
        stats.accepted,
        stats.handled + stats.dead_letters.total(),
        "accounts differ: {stats:?}"
    );
}

/// Drains and ends the crew, then checks that nothing is left.
#[track_caller]
pub(crate) fn shut_down(executor: &Executor) {
    let report = executor.shutdown(Duration::from_secs(LONG)).expect("called from outside");
    assert!(report.complete, "something is left: {report:?}");
    let stats = executor.stats();
    assert_eq!((stats.live_actors, stats.spares.alive), (0, 0));
    assert_eq!(
        stats.accepted,
        stats.handled + stats.dead_letters.total(),
        "accounts differ: {stats:?}"
    );
}

/// A gate that any thread opens once and any number of threads wait for.
#[derive(Clone, Default)]
pub(crate) struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
    pub(crate) fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap()
    }
    /// Blocks the calling thread until the latch is open. Called on a worker, blocks the worker.
    #[track_caller]
    pub(crate) fn wait(&self) {
        let shut = self.0.0.lock().unwrap();
        let limit = Duration::from_secs(LONG);
        let (open, timeout) = self.0.1.wait_timeout_while(shut, limit, |open| !*open).unwrap();
        drop(open); // a failed wait must not poison the latch for threads that open it during unwinding
        assert!(!timeout.timed_out(), "nobody opened the latch");
    }
}

/// Detects overlapping turns of one actor. All accesses are `Relaxed`, so that the detector itself
/// orders nothing.
#[derive(Default)]
pub(crate) struct InTurn {
    inside: AtomicBool,
    overlaps: AtomicU64,
}

impl InTurn {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }
    /// Marks the actor's code as running until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> InTurnGuard {
        if self.inside.swap(true, Relaxed) {
            self.overlaps.fetch_add(1, Relaxed);
        }
        InTurnGuard(Arc::clone(self))
    }
    pub(crate) fn overlaps(&self) -> u64 {
        self.overlaps.load(Relaxed)
    }
}

pub(crate) struct InTurnGuard(Arc<InTurn>);

impl Drop for InTurnGuard {
    fn drop(&mut self) {
        if !self.0.inside.swap(false, Relaxed) {
            self.0.overlaps.fetch_add(1, Relaxed);
        }
    }
}

/// Makes tokens and counts the drops of each, so that a leak and a double drop cannot cancel out.
#[derive(Clone, Default)]
pub(crate) struct Tokens(Arc<Mutex<Vec<u8>>>);

impl Tokens {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn token(&self) -> Token {
        let mut drops = self.0.lock().unwrap();
        drops.push(0);
        Token { number: drops.len() - 1, tokens: self.clone() }
    }
    pub(crate) fn made(&self) -> usize {
        self.0.lock().unwrap().len()
    }
    pub(crate) fn alive(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|&&drops| drops == 0).count()
    }
    #[track_caller]
    pub(crate) fn assert_each_dropped_once(&self) {
        let drops = self.0.lock().unwrap();
        let wrong: Vec<_> =
            drops.iter().enumerate().filter(|&(_, &drops)| drops != 1).take(10).collect();
        assert!(wrong.is_empty(), "(token, drops) of {}: {wrong:?}", drops.len());
    }
}

/// Counts its own drop.
pub(crate) struct Token {
    pub(crate) number: usize,
    tokens: Tokens,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.tokens.0.lock().unwrap()[self.number] += 1;
    }
}

/// The text of every panic that a test causes on purpose. See [`quiet_panics`].
pub(crate) const INTENDED: &str = "intended";

#[track_caller]
pub(crate) fn intended_panic() -> ! {
    panic!("{INTENDED}")
}

/// Keeps intended panics and payloads that are not text out of the test's output.
pub(crate) fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |info| {
            if info.payload_as_str().is_some_and(|text| !text.starts_with(INTENDED)) {
                loud(info);
            }
        }));
    });
}

/// A panic payload that panics again when dropped, `depth` times over.
pub(crate) struct Bomb(pub(crate) u32);

impl Bomb {
    pub(crate) fn explode(depth: u32) -> ! {
        panic_any(Bomb(depth))
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Bomb(self.0 - 1));
        }
    }
}

/// Collects the events of an executor's event hook.
#[derive(Clone, Default)]
pub(crate) struct EventLog(Arc<Mutex<Vec<Event>>>);

impl EventLog {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn hook(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let events = self.clone();
        move |event| events.0.lock().unwrap().push(event.clone())
    }
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }
}

/// A scriptable actor with a log. See [`Run`] and [`Note`].
#[derive(Default)]
pub(crate) struct Puppet {
    pub(crate) log: Vec<u64>,
    /// Values to drop together with the state.
    pub(crate) kept: Vec<Box<dyn std::any::Any + Send>>,
}

impl Actor for Puppet {}

/// Runs a function inside the actor's turn. The function's result is the reply.
pub(crate) struct Run<F>(pub(crate) F);

impl<F, R> Handler<Run<F>> for Puppet
where
    F: FnOnce(&mut Puppet, &mut Context<Puppet>) -> R + Send + 'static,
    R: Send + 'static,
{
    type Reply = R;
    fn handle(&mut self, Run(f): Run<F>, ctx: &mut Context<Self>) -> R {
        f(self, ctx)
    }
}

/// Appends a number to the log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Note(pub(crate) u64);

impl Handler<Note> for Puppet {
    type Reply = u64;
    fn handle(&mut self, Note(n): Note, _: &mut Context<Self>) -> u64 {
        self.log.push(n);
        n
    }
}

/// Reads the log.
pub(crate) struct Log;

impl Handler<Log> for Puppet {
    type Reply = Vec<u64>;
    fn handle(&mut self, _: Log, _: &mut Context<Self>) -> Vec<u64> {
        self.log.clone()
    }
}

/// Waits until the log holds `n` notes, then returns the log.
#[track_caller]
pub(crate) fn log_of(actor: &heist::ActorRef<Puppet>, n: usize) -> Vec<u64> {
    let mut log = Vec::new();
    within(LONG, "the notes come", || {
        log = answer(actor.ask(Log).unwrap()).unwrap();
        log.len() >= n
    });
    log
}

/// Runs a function inside the actor's turn and returns the result.
#[track_caller]
pub(crate) fn inside<R: Send + 'static>(
    actor: &heist::ActorRef<Puppet>,
    f: impl FnOnce(&mut Puppet, &mut Context<Puppet>) -> R + Send + 'static,
) -> R {
    answer(actor.ask(Run(f)).unwrap()).unwrap()
}

/// Holds an actor in a turn until [`release`](Self::release) or the drop of this guard, so that
/// messages pile up behind the turn.
pub(crate) struct Held(Latch);

impl Held {
    /// Starts a turn that holds the puppet. Returns once the turn has begun.
    #[track_caller]
    pub(crate) fn hold(puppet: &heist::ActorRef<Puppet>) -> Self {
        let (held, entered) = Self::queue(puppet);
        entered.wait();
        held
    }
    /// Like `hold`, but the held turn gives up its worker through `heist::blocking`.
    #[track_caller]
    pub(crate) fn hold_blocking(puppet: &heist::ActorRef<Puppet>) -> Self {
        let (entered, release) = (Latch::new(), Latch::new());
        let (inside, until) = (entered.clone(), release.clone());
        let hold = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            inside.open();
            heist::blocking(|| until.wait());
        });
        puppet.tell(hold).expect("room for the hold");
        entered.wait();
        Held(release)
    }
    /// Queues the holding turn and returns at once. The returned latch opens when the turn begins.
    #[track_caller]
    pub(crate) fn queue(puppet: &heist::ActorRef<Puppet>) -> (Self, Latch) {
        let (entered, release) = (Latch::new(), Latch::new());
        let (inside, until) = (entered.clone(), release.clone());
        let hold = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            inside.open();
            until.wait();
        });
        puppet.tell(hold).expect("room for the hold");
        (Held(release), entered)
    }
    /// Makes a guard that opens `release` when dropped.
    pub(crate) fn until(release: Latch) -> Self {
        Held(release)
    }
    pub(crate) fn release(self) {}
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Spawns a puppet that runs while `other` is held in a turn. Under `Sharded`, the puppet belongs
/// to another worker than `other`.
#[track_caller]
pub(crate) fn apart_from(
    executor: &Executor,
    other: &heist::ActorRef<Puppet>,
) -> heist::ActorRef<Puppet> {
    assert!(executor.workers() > 1, "there is but one worker");
    let home = |puppet: &heist::ActorRef<Puppet>| {
        let here = Run(|_: &mut Puppet, _: &mut Context<Puppet>| thread::current().id());
        answer(puppet.ask(here).expect("room to ask")).expect("an answer")
    };
    let theirs = home(other);
    loop {
        let puppet = executor.spawn(Puppet::default());
        if executor.policy() != Policy::Sharded || home(&puppet) != theirs {
            return puppet;
        }
    }
}

/// A small seeded generator (SplitMix64), good enough to shuffle the steps of a test.
pub(crate) struct Dice(Cell<u64>);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(Cell::new(seed))
    }
    pub(crate) fn below(&self, n: u64) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % n
    }
}
