//! Sends a given number of counted messages on executors that run fuzzer programs at the same time
//! (the soak).
//!
//! Counters tell each other numbered messages in batches, ask each other, and receive more from
//! outside threads. A receiver knows the last number from each sender, so that a lost, doubled or
//! reordered message is noticed at once. An epoch is the life of one executor. Settings vary from
//! epoch to epoch. At the end of an epoch every accepted message must have been handled.

use crate::program::{Rng, generate};
use crate::world::{World, careful};
use crate::{exec, fail};
use heist::{Actor, ActorRef, AskError, Context, Executor, Handle, Handler, Policy, StopReason};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

const COUNTERS: usize = 6;
const OUTSIDE: usize = 2;
const SENDERS: usize = COUNTERS + OUTSIDE;
const BATCH: u64 = 256;
/// Number of counted messages in one epoch.
const EPOCH: u64 = if cfg!(debug_assertions) { 1_000_000 } else { 20_000_000 };

/// State shared by all actors and threads of an epoch.
struct Flood {
    seed: u64,
    received: AtomicU64,
    answers: AtomicU64,
    over: AtomicBool,
    /// Counts by sender and receiver, written when each party ends.
    sent: Mutex<[[u64; COUNTERS]; SENDERS]>,
    got: Mutex<[[u64; COUNTERS]; SENDERS]>,
}

struct Counter {
    me: usize,
    flood: Arc<Flood>,
    peers: Vec<ActorRef<Counter>>,
    sent: [u64; COUNTERS],
    got: [u64; SENDERS],
    fresh: u64,
}

struct Peers(Vec<ActorRef<Counter>>);

/// A message small enough for a segment.
struct Count {
    from: u32,
    number: u64,
}

struct Go;
struct Echo(u64);

impl Counter {
    fn new(me: usize, flood: &Arc<Flood>) -> Self {
        let flood = Arc::clone(flood);
        Counter { me, flood, peers: Vec::new(), sent: [0; COUNTERS], got: [0; SENDERS], fresh: 0 }
    }
}

impl Actor for Counter {
    fn stopped(&mut self, _: &StopReason) {
        self.flood.received.fetch_add(self.fresh, Relaxed);
        self.flood.sent.lock()[self.me] = self.sent;
        let mut got = self.flood.got.lock();
        (0..SENDERS).for_each(|from| got[from][self.me] = self.got[from]);
    }
}

impl Handler<Peers> for Counter {
    type Reply = ();
    fn handle(&mut self, Peers(peers): Peers, ctx: &mut Context<Self>) {
        self.peers = peers;
        let _ = ctx.tell_self(Go);
    }
}

impl Handler<Count> for Counter {
    type Reply = ();
    fn handle(&mut self, Count { from, number }: Count, _: &mut Context<Self>) {
        let last = &mut self.got[from as usize];
        if number != *last + 1 {
            fail(self.flood.seed, &format!("{number} follows {last} from {from} to {}", self.me));
        }
        *last = number;
        self.fresh += 1;
        if self.fresh == 1024 {
            self.flood.received.fetch_add(self.fresh, Relaxed);
            self.fresh = 0;
        }
    }
}

impl Handler<Echo> for Counter {
    type Reply = u64;
    fn handle(&mut self, Echo(number): Echo, _: &mut Context<Self>) -> u64 {
        number
    }
}

/// Sends as many messages of a batch as the mailbox has room for.
fn batch(to: &ActorRef<Counter>, from: usize, sent: &mut u64) {
    let first = *sent;
    let numbers = (1..=BATCH).map(|n| Count { from: from as u32, number: first + n });
    *sent += match to.tell_many(numbers) {
        Ok(accepted) => accepted as u64,
        Err(error) => error.accepted() as u64,
    };
}

impl Handler<Go> for Counter {
    type Reply = ();
    fn handle(&mut self, _: Go, ctx: &mut Context<Self>) {
        if self.flood.over.load(Relaxed) {
            self.peers.clear(); // otherwise the peers would keep each other alive
            return;
        }
        for peer in 0..COUNTERS {
            batch(&self.peers[peer], self.me, &mut self.sent[peer]);
        }
        let number = self.sent[0];
        let peer = self.peers[number as usize % COUNTERS].clone();
        let asked =
            ctx.ask_then(&peer, Echo(number), move |me: &mut Self, answer, _| match answer {
                Ok(echo) if echo == number => drop(me.flood.answers.fetch_add(1, Relaxed) as u32),
                Ok(_) | Err(AskError::NoReply | AskError::TimedOut) => {
                    fail(me.flood.seed, "a wrong answer")
                }
                Err(_) => {}
            });
        drop(asked);
        let _ = ctx.tell_self(Go);
    }
}

/// Runs fuzzer programs on the executor until the epoch is over.
fn programs(handle: &Handle, first: u64, over: &AtomicBool) -> (u64, Vec<Arc<World>>) {
    let (mut seed, mut open) = (first, Vec::new());
    while !over.load(Relaxed) {
        let program = generate(seed);
        let world = World::new(seed, handle.clone());
        for script in &program.threads {
            script.iter().for_each(|op| careful(|| exec::run(&world, &vec![op.clone()], None)));
        }
        (0..14).for_each(|_| careful(|| world.clear(seed)));
        seed += 1;
        // Detached actors live until the executor's end, and a pool may be about to make a replica.
        open.push(world);
    }
    (seed - first, open)
}

pub fn soak(messages: u64, first: u64, patience: Duration) {
    let (began, mut total, mut ran, mut epochs) = (Instant::now(), 0, 0, 0);
    println!("soak: {messages} counted messages, seeds from {first}");
    while total < messages {
        let (received, programs) = epoch(first + (epochs << 20), patience);
        (total, ran, epochs) = (total + received, ran + programs, epochs + 1);
        println!(
            "soak: {:6.0} s, {epochs} epochs: {total} messages counted beside {ran} programs",
            began.elapsed().as_secs_f64()
        );
    }
    println!("test result: ok. {epochs} passed; 0 failed");
}

/// Runs one executor from start to shutdown. Returns the number of messages counted and of programs
/// run.
fn epoch(seed: u64, patience: Duration) -> (u64, u64) {
    let mut rng = Rng::new(seed);
    let policy = [Policy::Stealing, Policy::Sharded, Policy::SharedQueue][rng.below(3) as usize];
    let builder =
        Executor::builder().workers(1 + rng.below(4) as usize).policy(policy).timing(rng.one_in(4));
    let builder = builder
        .max_spares(rng.below(9) as usize)
        .spare_keep_alive(Duration::from_millis(rng.below(3)));
    let executor = builder.build().expect("an executor");
    let flood = Arc::new(Flood {
        seed,
        received: AtomicU64::new(0),
        answers: AtomicU64::new(0),
        over: AtomicBool::new(false),
        sent: Mutex::default(),
        got: Mutex::default(),
    });
    let capacity = [300, 1000, 8000][rng.below(3) as usize];
    let counters: Vec<_> = (0..COUNTERS)
        .map(|me| {
            executor.build(Counter::new(me, &flood)).capacity(capacity).timing(me == 0).spawn()
        })
        .collect();
    counters.iter().for_each(|counter| counter.tell(Peers(counters.clone())).expect("room"));
    let (mut ran, mut open) = (0, Vec::new());
    std::thread::scope(|scope| {
        for outside in COUNTERS..SENDERS {
            let (flood, counters) = (&flood, &counters);
            scope.spawn(move || {
                let mut sent = [0; COUNTERS];
                while !flood.over.load(Relaxed) {
                    (0..COUNTERS).for_each(|to| batch(&counters[to], outside, &mut sent[to]));
                    std::thread::yield_now();
                }
                flood.sent.lock()[outside] = sent;
            });
        }
        let handle = executor.handle();
        let fuzzing = scope.spawn({
            let flood = &flood;
            move || programs(&handle, seed, &flood.over)
        });
        let (mut last, mut since) = (0, Instant::now());
        while flood.received.load(Relaxed) < EPOCH {
            std::thread::sleep(Duration::from_millis(20));
            let now = flood.received.load(Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > patience {
                crate::stacks();
                fail(
                    seed,
                    &format!("nothing was counted for {patience:?}: {:?}", executor.stats()),
                );
            }
        }
        flood.over.store(true, Relaxed);
        (ran, open) = fuzzing.join().expect("no panic");
    });
    drop(counters);
    let report = executor.shutdown(patience).expect("from outside");
    open.iter().for_each(|world| world.run_dry());
    let stats = executor.stats();
    drop(executor);
    if !report.complete || stats.accepted != stats.handled + stats.dead_letters.total() {
        fail(seed, &format!("{report:?}, {stats:?}"));
    }
    let (sent, got) = (*flood.sent.lock(), *flood.got.lock());
    if sent != got {
        fail(seed, &format!("sent {sent:?}, and got {got:?}"));
    }
    for world in open {
        (0..14).for_each(|_| careful(|| world.clear(seed)));
        crate::wait(world.seed, "all payloads are dropped", || world.alive() == 0);
        if let Err(what) = world.close() {
            fail(world.seed, &what);
        }
    }
    let received = flood.received.load(Relaxed);
    if received != sent.iter().flatten().sum::<u64>() || flood.answers.load(Relaxed) == 0 {
        fail(seed, &format!("{received} messages counted, and {sent:?} sent"));
    }
    (received, ran)
}
