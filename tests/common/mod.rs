//! The words that the tests share: crews, waiting with a watchdog, exclusivity, tokens, and an actor that does what it
//! is told.
//!
//! No test sleeps and hopes: it waits for a condition with [`within`], whose limit is there to turn a hang into a
//! message and is never what is tested.

#![allow(dead_code)] // each test uses a part of it

pub(crate) mod batches;
pub(crate) mod diary;
pub(crate) mod hermits;
pub(crate) mod pools;
pub(crate) mod spares;
pub(crate) mod times;

use heist::{Actor, Ask, AskError, Builder, Context, Event, Executor, Handler, Policy, StopReason};
use std::cell::Cell;
use std::panic::{panic_any, set_hook, take_hook};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

/// The crews that every promise is tested on; eight workers on fewer cores are meant.
pub(crate) const CREWS: [usize; 3] = [1, 2, 8];
pub(crate) const POLICIES: [Policy; 3] = [Policy::Stealing, Policy::Sharded, Policy::SharedQueue];

/// Seconds after which a wait is a hang: far more than any wait here needs on a loaded machine. Where hangs are what is
/// looked for, `HEIST_WATCHDOG_SECS` (read when the tests are compiled) makes them shorter.
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

pub(crate) fn build(builder: Builder<'_>) -> Executor {
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

/// Polls until `condition` holds; fails, saying `what` was waited for, if that takes more than `secs`.
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

/// The answer, or why there is none; a hang is a failure.
#[track_caller]
pub(crate) fn answer<R>(ask: Ask<R>) -> Result<R, AskError> {
    let answer = ask.wait_timeout(Duration::from_secs(LONG)).map_err(AskError::from);
    assert!(!matches!(answer, Err(AskError::TimedOut)), "an ask hangs");
    answer
}

/// The text with which an ask's actor panicked.
#[track_caller]
pub(crate) fn cause<R: std::fmt::Debug>(ask: Ask<R>) -> String {
    match answer(ask) {
        Err(AskError::Panicked(text)) => text.to_string(),
        other => panic!("expected a panic's text, not {other:?}"),
    }
}

/// Why the actor ended; a hang is a failure.
#[track_caller]
pub(crate) fn ended<A>(actor: &heist::ActorRef<A>) -> StopReason {
    actor.wait_stopped_timeout(Duration::from_secs(LONG)).expect("the actor ends")
}

/// Waits until nothing is under way, and checks that every accepted message is accounted for.
#[track_caller]
pub(crate) fn settle(executor: &Executor) {
    executor.wait_idle_timeout(Duration::from_secs(LONG)).expect("the crew becomes idle");
    let stats = executor.stats();
    assert_eq!(stats.accepted, stats.handled + stats.dead_letters.total(), "accounts differ: {stats:?}");
}

/// Drains and ends the crew, and checks that nothing is left.
#[track_caller]
pub(crate) fn shut_down(executor: &Executor) {
    let report = executor.shutdown(Duration::from_secs(LONG)).expect("called from outside");
    assert!(report.complete, "something is left: {report:?}");
    let stats = executor.stats();
    assert_eq!(stats.live_actors, 0);
    assert_eq!(stats.accepted, stats.handled + stats.dead_letters.total(), "accounts differ: {stats:?}");
}

/// A door that is opened once, from anywhere, and waited for.
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
    /// Blocks the thread, a worker's included.
    #[track_caller]
    pub(crate) fn wait(&self) {
        let shut = self.0.0.lock().unwrap();
        let limit = Duration::from_secs(LONG);
        let (open, timeout) = self.0.1.wait_timeout_while(shut, limit, |open| !*open).unwrap();
        drop(open); // a failure must not poison the latch for those who open it while they unwind
        assert!(!timeout.timed_out(), "nobody opened the latch");
    }
}

/// Notices when two turns of one actor overlap. Relaxed throughout, so that it orders nothing by itself.
#[derive(Default)]
pub(crate) struct InTurn {
    inside: AtomicBool,
    overlaps: AtomicU64,
}

impl InTurn {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }
    /// Held while the actor's code runs.
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

/// Makes tokens and knows how often each was dropped, so that a loss and a double drop cannot cancel out.
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
        let wrong: Vec<_> = drops.iter().enumerate().filter(|&(_, &drops)| drops != 1).take(10).collect();
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

/// Every panic that a test causes on purpose says so with this; see [`quiet_panics`].
pub(crate) const INTENDED: &str = "intended";

#[track_caller]
pub(crate) fn intended_panic() -> ! {
    panic!("{INTENDED}")
}

/// Keeps intended panics (and payloads that are no text) out of the test's output.
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

/// A panic's payload that panics when it is dropped, `depth` times over.
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

/// Collects what an executor's event hook is told.
#[derive(Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
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

/// An actor that keeps a log and otherwise does what it is told: see [`Run`] and [`Note`].
#[derive(Default)]
pub(crate) struct Puppet {
    pub(crate) log: Vec<u64>,
    /// Dropped with the state.
    pub(crate) kept: Vec<Box<dyn std::any::Any + Send>>,
}

impl Actor for Puppet {}

/// Runs a function inside the actor's turn; its result is the reply.
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

/// Goes into the log.
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

/// Waits until the actor has come to `n` notes, and returns them.
#[track_caller]
pub(crate) fn log_of(actor: &heist::ActorRef<Puppet>, n: usize) -> Vec<u64> {
    let mut log = Vec::new();
    within(LONG, "the notes come", || {
        log = answer(actor.ask(Log).unwrap()).unwrap();
        log.len() >= n
    });
    log
}

/// Runs something inside the actor's turn, and waits for it.
#[track_caller]
pub(crate) fn inside<R: Send + 'static>(
    actor: &heist::ActorRef<Puppet>,
    f: impl FnOnce(&mut Puppet, &mut Context<Puppet>) -> R + Send + 'static,
) -> R {
    answer(actor.ask(Run(f)).unwrap()).unwrap()
}

/// A puppet's turn that goes on until [`release`](Self::release) (or the drop of this), so that messages pile up behind it.
pub(crate) struct Held(Latch);

impl Held {
    /// Returns once the turn is under way.
    #[track_caller]
    pub(crate) fn hold(puppet: &heist::ActorRef<Puppet>) -> Self {
        let (held, entered) = Self::queue(puppet);
        entered.wait();
        held
    }
    /// The same in a way that needs no worker meanwhile.
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
    /// Returns at once; the latch opens when the turn is under way.
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
    /// Whatever it is that goes on until then.
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

/// A puppet that a turn of `other` does not hold up: under `Sharded`, one at home on another worker.
#[track_caller]
pub(crate) fn apart_from(executor: &Executor, other: &heist::ActorRef<Puppet>) -> heist::ActorRef<Puppet> {
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

/// Small, seeded and good enough to shuffle what a test does (SplitMix64).
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
