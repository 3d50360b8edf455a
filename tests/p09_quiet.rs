//! Tests P9, quiet: with nothing to do, all threads sleep. There is no polling and no periodic
//! wake-up: fresh, after a burst, after a panic, with far timers, and while other threads wait in
//! vain.
//!
//! The tests measure a whole process by the kernel's counts for all its threads. Each test runs
//! itself once more in a child process, which prepares its executors and then blocks. The test
//! observes the child from outside.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout)] // the child prints that it is ready

mod common;

use common::*;
use heist::timer::IntervalMode;
use heist::{Actor, ActorRef, Context, Directory, Executor, Receive, Reply};
use std::any::Any;
use std::fs;
use std::io::{BufRead, BufReader, Read, stdin};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

const CHILD: &str = "HEIST_QUIET_CHILD";
const READY: &str = "the child is ready";

const WINDOW: Duration = Duration::from_secs(2);
const MOST_CPU_NS: u64 = 1_000_000;

/// The kernel's counts for all threads of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Activity {
    threads: usize,
    cpu_ns: u64,
    voluntary_switches: u64,
}

impl Activity {
    fn of(pid: u32) -> Self {
        let mut sum = Activity { threads: 0, cpu_ns: 0, voluntary_switches: 0 };
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let task = task.unwrap().path();
            // A thread on its way out may be gone by now, and the next look does not count it.
            let files = ["schedstat", "status"].map(|name| fs::read_to_string(task.join(name)));
            let [Ok(schedstat), Ok(status)] = files else { continue };
            let switches =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sum.threads += 1;
            sum.cpu_ns += schedstat.split(' ').next().unwrap().parse::<u64>().unwrap();
            sum.voluntary_switches += switches.unwrap().trim().parse::<u64>().unwrap();
        }
        sum
    }
}

/// Ends the child process, however the test ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Checks that the process sleeps after `prepare`. `test` is the name of the calling test. The
/// child keeps the value of `prepare` meanwhile.
fn assert_quiet(test: &str, prepare: impl FnOnce() -> Box<dyn Any>) {
    if std::env::var_os(CHILD).is_some() {
        let kept = prepare();
        println!("\n{READY}");
        let _until_the_parent_closes_it = stdin().read(&mut [0]);
        drop(kept);
        return;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    let mut child = Ended(child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let pid = child.0.id();
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == READY), "the child ended early");

    // The sentinel lingers for some milliseconds. Then the counts must stand still.
    let mut before = Activity::of(pid);
    within(20, "the executors fall asleep", || {
        thread::sleep(Duration::from_millis(50));
        std::mem::replace(&mut before, Activity::of(pid)) == before
    });
    thread::sleep(WINDOW);
    let after = Activity::of(pid);
    assert!(before.threads > CREWS.iter().sum(), "not all threads were seen: {before:?}");
    assert_eq!(
        after.voluntary_switches, before.voluntary_switches,
        "a thread woke up: {before:?} {after:?}"
    );
    assert!(after.cpu_ns - before.cpu_ns <= MOST_CPU_NS, "a thread was busy: {before:?} {after:?}");
}

fn crews() -> Vec<Executor> {
    CREWS.map(crew).into()
}

#[test]
fn p09_a_fresh_executor_sleeps() {
    assert_quiet("p09_a_fresh_executor_sleeps", || Box::new(crews()));
}

/// Actors tell each other, from outside and from inside, with work to steal.
fn burst(executor: &Executor) -> Vec<ActorRef<Puppet>> {
    let actors: Vec<_> = (0..1000).map(|_| executor.spawn(Puppet::default())).collect();
    for round in 0..10 {
        for (i, actor) in actors.iter().enumerate() {
            let next = actors[(i + 1) % actors.len()].clone();
            let pass_on =
                move |_: &mut Puppet, _: &mut Context<Puppet>| drop(next.tell(Note(round)));
            actor.tell(Run(pass_on)).unwrap();
        }
    }
    settle(executor);
    actors
}

#[test]
fn p09_an_executor_sleeps_after_a_burst() {
    assert_quiet("p09_an_executor_sleeps_after_a_burst", || {
        let crews = crews();
        let actors: Vec<_> = crews.iter().map(burst).collect();
        Box::new((actors, crews))
    });
}

#[test]
fn p09_an_executor_sleeps_after_a_panic() {
    assert_quiet("p09_an_executor_sleeps_after_a_panic", || {
        quiet_panics();
        let crews = crews();
        for executor in &crews {
            for actor in burst(executor) {
                actor
                    .tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| intended_panic()))
                    .unwrap();
            }
            settle(executor);
            assert_eq!(executor.stats().panicked, 1000);
        }
        Box::new(crews)
    });
}

/// Starts handlers that block until the gate is free, on more threads than there are workers.
fn block(executor: &Executor, gate: &'static Mutex<()>) -> Vec<ActorRef<Puppet>> {
    let actors: Vec<_> =
        (0..2 * executor.workers()).map(|_| executor.spawn(Puppet::default())).collect();
    for actor in &actors {
        let wait =
            move |_: &mut Puppet, _: &mut Context<Puppet>| heist::blocking(|| drop(gate.lock()));
        actor.tell(Run(wait)).unwrap();
    }
    let blocked = || executor.stats().spares.blocked == actors.len() as u64;
    within(LONG, "all of them block", blocked);
    actors
}

/// Makes crews with short-lived spares, each blocked at one gate until the gate is unlocked.
fn blocked_crews() -> (MutexGuard<'static, ()>, Vec<Vec<ActorRef<Puppet>>>, Vec<Executor>) {
    let gate: &'static Mutex<()> = Box::leak(Box::default());
    let shut = gate.lock().unwrap();
    let stay = Duration::from_millis(20);
    let crews =
        CREWS.map(|workers| build(Executor::builder().workers(workers).spare_keep_alive(stay)));
    let actors = crews.iter().map(|executor| block(executor, gate)).collect();
    (shut, actors, crews.into())
}

#[test]
fn p09_an_executor_sleeps_after_its_spares_have_ended() {
    assert_quiet("p09_an_executor_sleeps_after_its_spares_have_ended", || {
        let (shut, actors, crews) = blocked_crews();
        drop(shut);
        for executor in &crews {
            settle(executor);
            assert!(executor.stats().spares.hand_overs > 0);
            within(LONG, "the spares end", || executor.stats().spares.alive == 0);
        }
        Box::new((actors, crews))
    });
}

/// Vacant slots and the spares reserved for them: all threads sleep until something happens.
#[test]
fn p09_an_executor_sleeps_while_its_handlers_block() {
    assert_quiet("p09_an_executor_sleeps_while_its_handlers_block", || {
        let (shut, actors, crews) = blocked_crews();
        // Surplus spares end. The others stay with the blocked turns.
        let free = |executor: &Executor| {
            let spares = executor.stats().spares;
            spares.alive - spares.blocked
        };
        within(LONG, "the spares that are free end", || {
            crews.iter().all(|executor| free(executor) == 0)
        });
        Box::new((shut, actors, crews))
    });
}

/// Keeps every reply, so that every asker waits.
#[derive(Default)]
struct Miser(Vec<Reply<()>>);

impl Actor for Miser {}

struct Please;

impl Receive<Please> for Miser {
    type Reply = ();
    fn receive(&mut self, _: Please, reply: Reply<()>, _: &mut Context<Self>) {
        self.0.push(reply);
    }
}

#[test]
fn p09_an_executor_sleeps_while_others_wait() {
    assert_quiet("p09_an_executor_sleeps_while_others_wait", || {
        let crews = crews();
        let misers: Vec<_> =
            crews.iter().map(|executor| executor.spawn(Miser::default())).collect();
        let waiting: Vec<_> = misers
            .iter()
            .flat_map(|miser| {
                let (mut ask, end) = (miser.ask(Please).unwrap(), miser.clone());
                [
                    thread::spawn(move || drop(ask.wait())),
                    thread::spawn(move || drop(end.wait_stopped())),
                ]
            })
            .collect();
        crews.iter().for_each(settle);
        Box::new((misers, waiting, crews))
    });
}

/// Half of the timers are armed by the actors themselves, half by others. Some are cancelled, and
/// some earlier ones have fired.
#[test]
fn p09_an_executor_sleeps_with_100_000_far_timers() {
    const TIMERS: u64 = 100_000;
    assert_quiet("p09_an_executor_sleeps_with_100_000_far_timers", || {
        let crews = crews();
        let hour = Duration::from_secs(3600);
        for executor in &crews {
            let actors: Vec<_> = (0..100).map(|_| executor.spawn(Puppet::default())).collect();
            for actor in &actors {
                inside(actor, move |_, ctx| {
                    for n in 0..TIMERS / 200 {
                        ctx.tell_after(hour + Duration::from_micros(n), Note(n)).unwrap().detach();
                    }
                    drop(ctx.tell_after(hour / 2, Note(0)).unwrap());
                });
                for n in 0..TIMERS / 200 {
                    actor.tell_after(hour + Duration::from_micros(n), Note(n)).unwrap().detach();
                }
                actor.tell_every(hour, IntervalMode::FixedRate, |_| Note(0)).unwrap().detach();
                actor.tell_after(Duration::from_millis(1), Note(1)).unwrap().detach();
            }
            for actor in &actors {
                log_of(actor, 1);
            }
            settle(executor);
            assert_eq!(executor.stats().armed_timers, TIMERS + 100);
        }
        Box::new(crews)
    });
}

/// One directory without actors, one that keeps its actors, and one that would passivate them in an
/// hour.
#[test]
fn p09_an_executor_sleeps_with_directories() {
    assert_quiet("p09_an_executor_sleeps_with_directories", || {
        let crews = crews();
        let hour = Duration::from_secs(3600);
        let directories: Vec<_> = crews
            .iter()
            .map(|executor| {
                let build = || Directory::builder(executor);
                let soon = build()
                    .idle_timeout(Duration::from_millis(5))
                    .build(|_: &u64| Puppet::default())
                    .unwrap();
                let never = build().build(|_: &u64| Puppet::default()).unwrap();
                let late = build().idle_timeout(hour).build(|_: &u64| Puppet::default()).unwrap();
                for key in 0..1000 {
                    for directory in [&soon, &never, &late] {
                        directory.tell(&key, Note(key)).unwrap();
                    }
                }
                let held = soon.get(&0);
                within(LONG, "the idle ones go", || soon.len() == 1 && soon.stats().kept == 0);
                within(LONG, "and what looked for them", || executor.stats().armed_timers == 1);
                settle(executor);
                (soon, never, late, held)
            })
            .collect();
        Box::new((directories, crews))
    });
}

/// Pinned actors that told each other, dedicated actors that did so, and an ended dedicated actor.
#[test]
fn p09_an_executor_sleeps_with_kept_and_dedicated_actors() {
    assert_quiet("p09_an_executor_sleeps_with_kept_and_dedicated_actors", || {
        let crews = crews();
        let mut actors = Vec::new();
        for executor in &crews {
            let kept = (0..executor.workers())
                .map(|k| executor.build(Puppet::default()).on_worker(k).spawn());
            let own = (0..3).map(|_| executor.spawn_dedicated(Puppet::default).unwrap());
            let these: Vec<_> = kept.chain(own).collect();
            for round in 0..100 {
                for (i, actor) in these.iter().enumerate() {
                    let next = these[(i + 1) % these.len()].clone();
                    let pass_on =
                        move |_: &mut Puppet, _: &mut Context<Puppet>| drop(next.tell(Note(round)));
                    actor.tell(Run(pass_on)).unwrap();
                }
            }
            drop(executor.spawn_dedicated(Puppet::default).unwrap());
            settle(executor);
            within(LONG, "that thread ends", || executor.stats().dedicated_threads == 3);
            actors.push(these);
        }
        Box::new((actors, crews))
    });
}
