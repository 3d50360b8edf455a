//! Stresses a random mesh of actors in which everything may go wrong, with books that must balance.
//!
//! Each round builds an executor, with each policy and with 1, 2, 3 and 8 workers in turn. Actors
//! and outside threads send each other messages in every supported way. Meanwhile handlers, hooks,
//! drops, wakers and panic payloads panic, actors stop, mailboxes fill up, handlers block, and
//! replies travel. A round ends in one of six ways, some of them in the middle of the work. The
//! checks at the end are:
//!
//! - Every message was handled, became a dead letter, or came back, exactly once ([`ledger`] has
//!   one row for each message).
//! - Every payload and every state was dropped exactly once. States were dropped on the crew, after
//!   `started` and `stopped`.
//! - Every ask ended with its own answer.
//! - No wait was refused as a cycle, because handlers wait only for actors in higher slots.
//! - Turns of one actor never overlapped.
//! - Numbers from one sender came in order, and the triangle of sends was causal.
//! - No timer fired early or after its cancellation.
//! - `stats()` equals the books, at quiet moments and at the end.
//! - Each message handled by a timed actor was timed once.
//!
//! The test runs without the test harness, because threads of the harness trouble the sanitizers.
//! The `--cfg heist_chaos` build finds the most.
//!
//! | variable | meaning |
//! |---|---|
//! | `HEIST_STRESS_SEED` | first seed, then counting up (default: the clock; printed) |
//! | `HEIST_STRESS_ROUNDS` | number of rounds (default 300); 0 runs without end |
//! | `HEIST_STRESS_SECONDS` | no new round begins after this time |
//! | `HEIST_STRESS_PATIENCE` | seconds without any progress that count as a hang (default 60) |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "a test")]

mod ledger;
mod node;
mod threads;
mod watch;
mod world;

use heist::{Event, Executor, ExecutorBuilder, Policy, Refusal};
use ledger::{Fates, explode};
use node::answer_to;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use world::{Note, Rng, Sender, Timing, World};

const DRIVERS: usize = 3;
/// Longer than any watchdog: a shutdown that takes this long has hung.
const DEADLINE: Duration = Duration::from_secs(1000);

static SEED: AtomicU64 = AtomicU64::new(0);

/// Reports a broken promise and aborts the process. A panic would not do, because heist may contain
/// the panic.
pub fn fail(what: &str) -> ! {
    let seed = SEED.load(Relaxed);
    eprintln!("stress: FAILED, seed {seed}: {what}");
    eprintln!("stress: to run it again: HEIST_STRESS_SEED={seed} HEIST_STRESS_ROUNDS=1");
    std::process::abort();
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return println!("stress: test");
    }
    std::panic::set_hook(Box::new(|info| {
        if !ledger::is_planned(info.payload()) {
            fail(&format!("an unplanned panic: {info}"));
        }
    }));
    let clock =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis()
            as u64;
    let first = number("HEIST_STRESS_SEED").unwrap_or(clock);
    let rounds = number("HEIST_STRESS_ROUNDS").unwrap_or(300);
    let end =
        number("HEIST_STRESS_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let watch = watch::start(Duration::from_secs(number("HEIST_STRESS_PATIENCE").unwrap_or(60)));
    println!("stress: seeds from {first}, chaos {}", if cfg!(heist_chaos) { "on" } else { "off" });
    let mut sum = Sum::default();
    let (began, mut said) = (Instant::now(), Instant::now());
    while (rounds == 0 || sum.rounds < rounds) && end.is_none_or(|end| Instant::now() < end) {
        round(first + sum.rounds, &watch, &mut sum);
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            println!("stress: {:4.0} s, {sum}", began.elapsed().as_secs_f64());
        }
    }
    println!("stress: {:4.0} s, {sum}", began.elapsed().as_secs_f64());
    println!("test result: ok. {} passed; 0 failed", sum.rounds);
}

/// Totals over all rounds, printed to show that the rounds exercised something.
#[derive(Default)]
struct Sum {
    rounds: u64,
    handled: u64,
    dead: u64,
    refused: u64,
    answers: u64,
    actors: u64,
    panics: u64,
    steals: u64,
    catches: u64,
    hand_overs: u64,
    kept: u64,
    may_not_wait: u64,
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sum {
            rounds, handled, dead, refused, answers, actors, panics, steals, catches, ..
        } = self;
        write!(
            f,
            "{rounds} rounds: {actors} actors, {handled} messages handled, {dead} dead, {refused} refused, "
        )?;
        write!(
            f,
            "{answers} answers, {panics} panics, {steals} steals, {catches} sentinel catches, "
        )?;
        let Sum { hand_overs, kept, may_not_wait, .. } = self;
        write!(f, "{hand_overs} hand-overs, {kept} blocked without, {may_not_wait} waits refused")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Drain,
    Now,
    Drop,
}

/// Returns a builder for the crew. With `pinned`, workers are pinned to the processors in turn
/// where the system and the process's affinity mask allow pinning.
fn crew(workers: usize, pinned: bool) -> ExecutorBuilder<'static> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let pin = || Executor::builder().pin_workers((0..workers).map(|worker| worker % processors));
    if pinned && pin().build().is_ok() { pin() } else { Executor::builder().workers(workers) }
}

fn round(seed: u64, watch: &watch::Watch, sum: &mut Sum) {
    SEED.store(seed, Relaxed);
    let mut rng = Rng::new(seed);
    let policy = [Policy::Stealing, Policy::Sharded, Policy::SharedQueue][seed as usize % 3];
    let workers = [1, 2, 3, 8][seed as usize / 3 % 4];
    let end = [End::Drain, End::Now, End::Drop][rng.below(3) as usize];
    let in_the_middle = rng.one_in(2);
    let timing = [Timing::None, Timing::Some, Timing::All][rng.below(3) as usize];
    let heard = Arc::new(AtomicU64::new(0));
    let hook = Arc::clone(&heard);
    let pinned = rng.one_in(3);
    let executor = crew(workers, pinned)
        .policy(policy)
        .capacity(1 + rng.below(24) as usize)
        .budget_messages([2, 16, 128][rng.below(3) as usize])
        .timing(timing == Timing::All)
        .drop_deadline(DEADLINE)
        .max_spares([0, 1, 3, 16][rng.below(4) as usize])
        .spare_keep_alive(Duration::from_micros(rng.below(2) * rng.below(3000)))
        .on_event(move |event| {
            if let Event::Panicked { .. } = event {
                let count = hook.fetch_add(1, Relaxed);
                if count % 16 == 5 {
                    explode(count as u32); // heist swallows a panic of the hook
                }
            }
        })
        .build()
        .unwrap_or_else(|error| fail(&format!("no executor: {error}")));
    let world = World::new(seed, executor.handle(), DRIVERS, timing);
    watch.look_at(Some((
        Arc::clone(&world),
        format!(
            "{policy:?}, {workers} workers, pinned: {pinned}, {end:?}, middle: {in_the_middle}"
        ),
    )));

    let mut fates = Fates::default();
    std::thread::scope(|scope| {
        let waiters = (0..2).map(|_| scope.spawn(|| threads::wait(&world))).collect::<Vec<_>>();
        let answerer = scope.spawn(|| threads::answer(&world));
        let operations = 400 + rng.below(800) as u32;
        let drivers: Vec<_> = (0..DRIVERS)
            .map(|index| {
                scope.spawn({
                    let world = &world;
                    move || threads::drive(world, index, operations)
                })
            })
            .collect();
        let join_drivers = |drivers: Vec<std::thread::ScopedJoinHandle<'_, ()>>| {
            drivers
                .into_iter()
                .for_each(|driver| driver.join().unwrap_or_else(|_| fail("a driver panicked")));
        };
        if in_the_middle {
            let share = rng.below(4000) as u32;
            while world.ledger.used() < share && !drivers.iter().all(|driver| driver.is_finished())
            {
                std::thread::yield_now();
            }
            finish(executor, end);
            world.over.store(true, Relaxed);
            join_drivers(drivers);
        } else {
            join_drivers(drivers);
            balance_at_quiet(&world);
            finish(executor, end);
        }
        refuse_from_now_on(&world);
        world.replies.close();
        answerer.join().unwrap_or_else(|_| fail("the answering thread panicked"));
        for (id, reply) in std::mem::take(&mut *world.late.lock()) {
            threads::careful(|| reply.send(answer_to(&world, id, &mut rng)));
        }
        world.asks.close();
        waiters
            .into_iter()
            .for_each(|waiter| waiter.join().unwrap_or_else(|_| fail("a waiter panicked")));
        fates = world.ledger.close(false);
    });
    watch.look_at(None);
    let stats = world.handle.stats();
    if !fates.agree_with(&stats)
        || stats.live_actors != 0
        || stats.armed_timers != 0
        || stats.dedicated_threads != 0
    {
        fail(&format!("at the end stats() has {stats:?}, the books {fates:?}"));
    }
    check_times(&world, fates.handled);
    if stats.panicked != heard.load(Relaxed) {
        fail(&format!("{} panics counted, {} told", stats.panicked, heard.load(Relaxed)));
    }
    let (made, dropped) = (world.made.load(Relaxed), world.dropped.load(Relaxed));
    if made != dropped {
        fail(&format!("{made} states were made and {dropped} dropped"));
    }
    sum.rounds += 1;
    sum.handled += fates.handled;
    sum.dead += fates.dead;
    sum.refused += fates.refused;
    sum.answers += fates.answers;
    sum.actors += made;
    sum.panics += stats.panicked;
    if stats.spares.blocked != 0 {
        fail(&format!("something blocks at the end: {stats:?}"));
    }
    sum.hand_overs += stats.spares.hand_overs;
    sum.kept += stats.spares.kept;
    sum.may_not_wait += stats.spares.refused;
    sum.steals += stats.workers.iter().map(|worker| worker.steals).sum::<u64>();
    sum.catches += stats.workers.iter().map(|worker| worker.sentinel_catches).sum::<u64>();
}

/// Checks the books while no outside thread sends and before anything is torn down.
fn balance_at_quiet(world: &Arc<World>) {
    let quiet =
        || world.handle.wait_idle().unwrap_or_else(|error| fail(&format!("wait_idle: {error}")));
    // Reads the armed timers first, because one atomic step accepts a tick and removes its timer.
    let owed = || (world.handle.stats().armed_timers, world.replies.open.load(Relaxed));
    let accepted = || world.handle.stats().accepted;
    // Messages of the answering thread and of timers cause further messages, which may involve the
    // thread and timers again. A timer may fire between the check of the crew and the check of the
    // timers, and its message may arm the next timer. Therefore nothing may be owed before and
    // after the quiet moment, and nothing may have been accepted in between.
    loop {
        quiet();
        let before = accepted();
        if owed() == (0, 0) {
            quiet();
            if owed() == (0, 0) && accepted() == before {
                break;
            }
        }
        std::thread::yield_now();
    }
    let fates = world.ledger.close(true);
    let stats = world.handle.stats();
    if !fates.agree_with(&stats) {
        fail(&format!("at quiet stats() has {stats:?}, the books {fates:?}"));
    }
    check_times(world, fates.handled);
    for actor in world.slots.iter().filter_map(|slot| slot.lock().clone()) {
        let (timing, handled) = (actor.timing(), actor.stats().handled);
        if timing
            .is_some_and(|timing| (timing.wait.count, timing.handling.count) != (handled, handled))
        {
            fail(&format!("{actor:?} handled {handled} messages, and has {timing:?}"));
        }
    }
    if !world.handle.top(usize::MAX).longest_waiting.is_empty() {
        fail("at quiet something waits");
    }
}

/// Checks that each message handled by a timed actor has one wait time and one handling time.
fn check_times(world: &World, handled: u64) {
    let times = world.handle.stats().timing;
    let (wait, handling) = times.map_or((0, 0), |times| (times.wait.count, times.handling.count));
    let right = match world.timing {
        Timing::None => times.is_none(),
        Timing::Some => handling <= handled,
        Timing::All => handling == handled,
    };
    if !right || wait != handling {
        fail(&format!("{:?} timed, {handled} handled, but {times:?}", world.timing));
    }
}

fn finish(executor: Executor, end: End) {
    let handle = executor.handle();
    let report = match end {
        End::Drain => executor.shutdown(DEADLINE),
        End::Now => executor.shutdown_now(DEADLINE),
        End::Drop => {
            drop(executor);
            Ok(handle.last_report().unwrap_or_else(|| fail("a dropped executor left no report")))
        }
    };
    match report {
        Ok(report) if report.complete && report.unfinished.is_empty() => {}
        other => fail(&format!("the shutdown was not complete: {other:?}")),
    }
}

/// Checks that references are safe and return errors after the executor's end.
fn refuse_from_now_on(world: &Arc<World>) {
    let mut rng = Rng::new(world.seed);
    let mut sender = Sender::new(99, world);
    for slot in &world.slots {
        let Some(actor) = slot.lock().take() else { continue };
        let letter = sender.letter(&actor, &mut rng, 0);
        let id = letter.token.id;
        match actor.tell(Note(letter)) {
            Err(error) if error.refusal() == Refusal::ShuttingDown => {
                sender.refuse(id, error.into_message().0)
            }
            other => fail(&format!("a message to a dead executor: {other:?}")),
        }
    }
    world.weak.lock().clear();
}
