//! Fuzzes the public API: runs random programs of user calls, each on an executor of its own, and
//! checks that the books balance.
//!
//! A seed makes a program: the settings of an executor, one or two outside threads, and steps. A
//! step may carry scripts, which handlers, hooks, wakers, callbacks and drops then run. When a
//! program has ended, the following must hold. Every payload was dropped once. No message was both
//! handled and given back. The executor's counts equal the books. No actor lives and no thread is
//! left.
//!
//! The fuzzer runs without the test harness, because threads of the harness trouble the sanitizers.
//!
//! | variable | meaning |
//! |---|---|
//! | `HEIST_FUZZ_PROGRAMS` | number of programs (default 1000) |
//! | `HEIST_FUZZ_SEED` | first seed, then counting up (default: the clock; printed) |
//! | `HEIST_FUZZ_JOBS` | threads that run programs (default 4) |
//! | `HEIST_FUZZ_PATIENCE` | seconds that one program may take (default 60) |
//! | `HEIST_FUZZ_REPEAT` | runs of each program (default 1), each with other thread interleavings |
//! | `HEIST_SOAK_MESSAGES` | runs the soak instead, with this number of counted messages |
//! | `HEIST_FUZZ_SHRINK` | a failing seed: removes steps while the rest still fails |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "a test")]

mod exec;
mod program;
mod shrink;
mod soak;
mod world;

use heist::{Executor, Handle, Policy};
use parking_lot::Mutex;
use program::{End, Program, generate};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use world::{World, careful, is_planned};

/// Longer than any watchdog: a shutdown that takes this long has hung.
const DEADLINE: Duration = Duration::from_secs(1000);

/// Step numbers that the shrinker leaves out.
static WITHOUT: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Reports a broken promise with the program and aborts the process. A panic would not do, because
/// heist may contain the panic.
pub fn fail(seed: u64, what: &str) -> ! {
    eprintln!("fuzz: FAILED, seed {seed}: {what}");
    if std::env::var_os("HEIST_FUZZ_CHILD").is_none() {
        eprintln!("{:#?}", program_of(seed));
        eprintln!(
            "fuzz: again: HEIST_FUZZ_SEED={seed} HEIST_FUZZ_PROGRAMS=1 HEIST_FUZZ_REPEAT=1000"
        );
        eprintln!("fuzz: smaller: HEIST_FUZZ_SHRINK={seed}");
    }
    std::process::abort();
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

fn program_of(seed: u64) -> Program {
    let mut program = generate(seed);
    shrink::leave_out(&mut program, &WITHOUT.lock());
    program
}

type Running = Arc<Mutex<Option<(u64, Instant, Handle, Arc<World>)>>>;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return println!("fuzz_api: test");
    }
    std::panic::set_hook(Box::new(|info| {
        if !is_planned(info.payload()) {
            eprintln!("fuzz: an unplanned panic: {info}");
            std::process::abort();
        }
    }));
    if let Some(seed) = number("HEIST_FUZZ_SHRINK") {
        return shrink::shrink(seed);
    }
    *WITHOUT.lock() = shrink::from_environment();
    let clock =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_millis()
            as u64;
    let first = number("HEIST_FUZZ_SEED").unwrap_or(clock << 24);
    if let Some(messages) = number("HEIST_SOAK_MESSAGES") {
        return soak::soak(
            messages,
            first,
            Duration::from_secs(number("HEIST_FUZZ_PATIENCE").unwrap_or(60)),
        );
    }
    let programs = number("HEIST_FUZZ_PROGRAMS").unwrap_or(1000);
    let repeat = number("HEIST_FUZZ_REPEAT").unwrap_or(1);
    let jobs = number("HEIST_FUZZ_JOBS").unwrap_or(4).clamp(1, (programs * repeat).max(1));
    println!("fuzz: {programs} programs, seeds from {first}, {jobs} at a time");
    let (next, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let totals: Arc<[AtomicU64; 3]> = Arc::default();
    let running: Vec<Running> = (0..jobs).map(|_| Arc::default()).collect();
    let over = Arc::new(AtomicBool::new(false));
    let watch = std::thread::spawn({
        let (running, over) = (running.clone(), Arc::clone(&over));
        move || watch(&running, &over)
    });
    let threads: Vec<_> = running
        .into_iter()
        .map(|running| {
            let (next, totals) = (Arc::clone(&next), Arc::clone(&totals));
            std::thread::spawn(move || {
                loop {
                    let n = next.fetch_add(1, Relaxed);
                    if n >= programs * repeat {
                        return;
                    }
                    let sums = run(first + n / repeat, &running);
                    for (total, sum) in totals.iter().zip(sums) {
                        total.fetch_add(sum, Relaxed);
                    }
                    if n > 0 && n.is_multiple_of(20_000) {
                        println!("fuzz: {n} programs in {:.0} s", began.elapsed().as_secs_f64());
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    over.store(true, Relaxed);
    watch.thread().unpark();
    watch.join().expect("no panic");
    let [handled, dead, panics] = [0, 1, 2].map(|which: usize| totals[which].load(Relaxed));
    println!(
        "fuzz: {:.0} s: {handled} messages handled, {dead} dead letters, {panics} panics",
        began.elapsed().as_secs_f64()
    );
    println!("test result: ok. {} passed; 0 failed", programs * repeat);
}

/// Aborts the process when a program takes too long, and reports where the program hangs.
fn watch(running: &[Running], over: &AtomicBool) {
    let patience = Duration::from_secs(number("HEIST_FUZZ_PATIENCE").unwrap_or(60));
    while !over.load(Relaxed) {
        std::thread::park_timeout(Duration::from_millis(500));
        for slot in running {
            let subject = slot.lock().clone();
            let Some((seed, _, handle, world)) =
                subject.filter(|(_, began, ..)| began.elapsed() > patience)
            else {
                continue;
            };
            eprintln!(
                "fuzz: hangs: seed {seed}: {:?}, {} payloads alive",
                handle.stats(),
                world.alive()
            );
            stacks();
            fail(seed, &format!("it was not over after {patience:?}"));
        }
    }
}

/// Prints the stacks of all threads.
fn stacks() {
    if std::env::var_os("HEIST_FUZZ_CHILD").is_none() {
        let process = std::process::id().to_string();
        let gdb = ["-p", &process, "-batch", "-ex", "thread apply all bt 45"];
        let _ = Command::new("gdb").args(gdb).stdout(std::io::stderr()).status();
    }
}

fn build(program: &Program, hook: impl Fn() + Send + Sync + 'static) -> Executor {
    let policy = [Policy::Stealing, Policy::Sharded, Policy::SharedQueue][program.policy as usize];
    let builder =
        Executor::builder().workers(program.workers).policy(policy).max_spares(program.spares);
    let builder =
        builder.budget_messages(program.budget).spare_keep_alive(Duration::from_micros(500));
    builder.drop_deadline(DEADLINE).on_event(move |_| hook()).build().expect("an executor")
}

/// Runs one program to its end and checks the books. Returns the numbers of handled messages, dead
/// letters and panics.
fn run(seed: u64, running: &Running) -> [u64; 3] {
    let program = program_of(seed);
    let hooked: Arc<Mutex<Option<Arc<World>>>> = Arc::default();
    let (theirs, script) = (Arc::clone(&hooked), program.hook.clone());
    let executor = build(&program, move || {
        let world = theirs.lock().clone();
        if let Some(world) = world {
            exec::run(&world, &script, None);
        }
    });
    let handle = executor.handle();
    let world = World::new(seed, handle.clone());
    *hooked.lock() = Some(Arc::clone(&world));
    *running.lock() = Some((seed, Instant::now(), handle.clone(), Arc::clone(&world)));
    std::thread::scope(|scope| {
        for script in &program.threads[1..] {
            scope.spawn(|| {
                script.iter().for_each(|op| careful(|| exec::run(&world, &vec![op.clone()], None)))
            });
        }
        program.threads[0]
            .iter()
            .for_each(|op| careful(|| exec::run(&world, &vec![op.clone()], None)));
    });
    let clear = || (0..14).for_each(|_| careful(|| world.clear(seed)));
    if program.clear_first {
        clear();
    }
    finish(seed, program.end, executor);
    world.run_dry();
    let left = hooked.lock().take();
    drop(left);
    clear();
    // A shutdown without a waiter may still be running, and the last drops of outside threads may
    // still be on their way.
    wait(seed, "all actors end", || handle.stats().live_actors == 0);
    wait(seed, "all payloads are dropped", || world.alive() == 0);
    wait(seed, "all dedicated threads end", || handle.stats().dedicated_threads == 0);
    wait(seed, "no spare is alive after the end", || handle.stats().spares.alive == 0);
    let stats = handle.stats();
    let (own, dead) = (world.handled.load(Relaxed), stats.dead_letters.total());
    if stats.accepted != stats.handled + dead {
        fail(seed, &format!("accounts differ: {stats:?}"));
    }
    let marks = world.marks.load(Relaxed);
    if own > stats.handled || (own != stats.handled && !marks) {
        fail(seed, &format!("{own} messages were handled, and stats() has {stats:?}"));
    }
    if stats.armed_timers != 0 || stats.spares.blocked != 0 || stats.waiting_actors != 0 {
        fail(seed, &format!("something is left: {stats:?}"));
    }
    if let Err(what) = world.close() {
        fail(seed, &what);
    }
    *running.lock() = None;
    if Arc::strong_count(&world) > 1 {
        wait(seed, "nobody holds the program's world", || Arc::strong_count(&world) == 1);
    }
    [stats.handled, dead, stats.panicked]
}

fn wait(seed: u64, what: &str, condition: impl Fn() -> bool) {
    let limit =
        Instant::now() + Duration::from_secs(number("HEIST_FUZZ_PATIENCE").unwrap_or(60)) / 2;
    let mut looks = 0;
    while !condition() {
        if Instant::now() > limit {
            fail(seed, &format!("in vain: {what}"));
        }
        looks += 1;
        if looks < 50 {
            std::thread::yield_now()
        } else {
            std::thread::sleep(Duration::from_micros(100))
        }
    }
}

fn finish(seed: u64, end: End, executor: Executor) {
    let complete = |report: Result<heist::event::ShutdownReport, heist::WaitError>| match report {
        Ok(report) if report.complete => {}
        other => fail(seed, &format!("the shutdown was not complete: {other:?}")),
    };
    match end {
        End::Shutdown => complete(executor.shutdown(DEADLINE)),
        End::Now => complete(executor.shutdown_now(DEADLINE)),
        End::Drop => drop(executor),
        End::Awaited => complete(futures::executor::block_on(executor.shutdown_async(DEADLINE))),
        End::HalfWay => {
            let handle = executor.handle();
            let mut ending = executor.shutdown_now_async(DEADLINE);
            let waker = std::task::Waker::noop();
            let _ =
                std::pin::Pin::new(&mut ending).poll(&mut std::task::Context::from_waker(waker));
            drop(ending);
            wait(seed, "a dropped shutdown goes on", || {
                handle.last_report().is_some_and(|report| report.complete)
            });
        }
    }
}
