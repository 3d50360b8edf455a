//! Tests intervals: a fixed rate does not drift, and a fixed delay keeps its distance. Missed ticks
//! are counted and never made up for in a burst, not even in a process that was stopped for
//! seconds. A panic ends an interval.

#![allow(clippy::print_stdout)] // the child prints that it is ready

mod common;

use common::*;
use heist::timer::{IntervalMode, Tick};
use heist::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Every tick of an interval, with the instant of its handling.
type Ticks = Arc<Mutex<Vec<(Tick, Instant)>>>;

fn watch(ticks: &Ticks, work: Duration) -> impl FnMut(Tick) -> Run<WatchFn> + Send + use<> {
    let ticks = Arc::clone(ticks);
    move |tick| {
        let ticks = Arc::clone(&ticks);
        Run(Box::new(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            let now = Instant::now();
            while now.elapsed() < work {}
            ticks.lock().unwrap().push((tick, Instant::now()));
        }))
    }
}

type WatchFn = Box<dyn FnOnce(&mut Puppet, &mut Context<Puppet>) + Send>;

/// Checks that ticks are whole periods apart from the first one on, that missed ticks are counted,
/// and that no tick was due before its predecessor had been handled (so no burst).
#[track_caller]
fn assert_fixed_rate(ticks: &[(Tick, Instant)], period: Duration) {
    let first = ticks[0].0;
    let mut periods = 0;
    for (n, (tick, handled)) in ticks.iter().enumerate() {
        assert_eq!(tick.number, n as u64);
        if n > 0 {
            periods += 1 + u32::try_from(tick.missed).unwrap();
            assert!(tick.due > ticks[n - 1].1, "a burst: {:?} {tick:?}", ticks[n - 1]);
        }
        assert_eq!(tick.due, first.due + period * periods, "tick {n} has drifted");
        assert!(*handled >= tick.due, "tick {n} is early");
    }
}

#[test]
fn a_fixed_rate_does_not_drift_and_never_bursts() {
    on_every_crew(|executor| {
        let (actor, ticks) = (executor.spawn(Puppet::default()), Ticks::default());
        let make = watch(&ticks, ms(3));
        let timer = inside(&actor, move |_, ctx| {
            ctx.tell_every(ms(2), IntervalMode::FixedRate, make).unwrap()
        });
        within(LONG, "ten ticks", || ticks.lock().unwrap().len() >= 10);
        assert!(timer.cancel());
        settle(executor);
        let ticks = ticks.lock().unwrap();
        assert_fixed_rate(&ticks, ms(2));
        let missed: u64 = ticks.iter().map(|(tick, _)| tick.missed).sum();
        assert!(missed >= 9, "each took longer than a period, and {missed} were missed");
        assert!(executor.stats().missed_ticks >= missed);
    });
}

#[test]
fn a_fixed_delay_is_counted_from_when_a_tick_was_handled() {
    on_every_crew(|executor| {
        let (actor, ticks) = (executor.spawn(Puppet::default()), Ticks::default());
        let timer =
            actor.tell_every(ms(2), IntervalMode::FixedDelay, watch(&ticks, ms(1))).unwrap();
        within(LONG, "ten ticks", || ticks.lock().unwrap().len() >= 10);
        drop(timer);
        settle(executor);
        for pair in ticks.lock().unwrap().windows(2) {
            let [(before, handled), (tick, _)] = pair else { unreachable!() };
            assert_eq!((tick.number, tick.missed), (before.number + 1, 0));
            assert!(
                tick.due >= *handled + ms(2),
                "{before:?} handled at {handled:?}, then {tick:?}"
            );
        }
    });
}

/// The actor is held for many periods. One tick waits, and the others are missed and counted.
#[test]
fn an_interval_has_one_undelivered_tick_at_the_most() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy));
        let (actor, ticks) = (executor.spawn(Puppet::default()), Ticks::default());
        let other = apart_from(&executor, &actor);
        let timer = actor.tell_every(ms(1), IntervalMode::FixedRate, watch(&ticks, ms(0))).unwrap();
        within(LONG, "it ticks", || !ticks.lock().unwrap().is_empty());
        let held = Held::hold(&actor);
        within(LONG, "a tick waits", || actor.len() == 2);
        // Another timer, armed later, shows that time has passed for the interval too.
        other.tell_after(ms(20), Note(0)).unwrap().detach();
        log_of(&other, 1);
        assert_eq!(actor.len(), 2, "a second tick of one interval");
        let before = ticks.lock().unwrap().len();
        drop(held);
        within(LONG, "it goes on", || ticks.lock().unwrap().len() > before + 2);
        drop(timer);
        settle(&executor);
        let ticks = ticks.lock().unwrap();
        assert_fixed_rate(&ticks, ms(1));
        assert!(ticks[before + 1].0.missed >= 15, "{:?}", &ticks[before..before + 2]);
        shut_down(&executor);
    }
}

/// The actor gets more ticks than it can handle, and one message among them.
#[test]
fn p05_ticks_do_not_starve_messages() {
    on_every_crew(|executor| {
        let actor = executor.build(Puppet::default()).budget_messages(1).spawn();
        inside(&actor, |puppet, ctx| {
            for _ in 0..4 {
                let slow = |_| {
                    Run(|_: &mut Puppet, _: &mut Context<Puppet>| {
                        let until = Instant::now() + Duration::from_micros(300);
                        while Instant::now() < until {}
                    })
                };
                let timer = ctx
                    .tell_every(Duration::from_micros(100), IntervalMode::FixedRate, slow)
                    .unwrap();
                puppet.kept.push(Box::new(timer));
            }
        });
        for n in 0..20 {
            assert_eq!(answer(actor.ask(Note(n)).unwrap()), Ok(n));
        }
        actor.stop();
        ended(&actor);
    });
}

/// A panic while a tick's message is made fails the actor only, and ends the interval.
#[test]
fn p06_a_panic_while_a_tick_is_made_fails_its_actor_only() {
    quiet_panics();
    on_every_crew(|executor| {
        let (actor, tokens) = (executor.spawn(Puppet::default()), Tokens::new());
        let token = tokens.token();
        let make = move |_: Tick| -> Note {
            let _kept = &token;
            intended_panic()
        };
        inside(&actor, move |_, ctx| {
            ctx.tell_every(ms(1), IntervalMode::FixedRate, make).unwrap().detach()
        });
        assert!(matches!(ended(&actor), StopReason::Panicked(_)));
        settle(executor);
        assert_eq!(executor.stats().armed_timers, 0);
        tokens.assert_each_dropped_once();
    });
}

const CHILD: &str = "HEIST_STOPPED_CHILD";
const READY: &str = "the child is ready";
const STOPPED: Duration = Duration::from_secs(2);
const GAP: Duration = Duration::from_secs(1);

/// Ticks until the process notices that it was stopped, and for a while after that.
fn tick_through_a_stop() {
    let executor = crew(2);
    let (actor, rate, delay) =
        (executor.spawn(Puppet::default()), Ticks::default(), Ticks::default());
    let _rate = actor.tell_every(ms(5), IntervalMode::FixedRate, watch(&rate, ms(0))).unwrap();
    let _delay = actor.tell_every(ms(5), IntervalMode::FixedDelay, watch(&delay, ms(0))).unwrap();
    let start = Instant::now();
    let early = Arc::new(Mutex::new(Vec::new()));
    for n in 0..100 {
        // Some timers are due before the stop, some during the stop, and some after it.
        let (due, early) = (start + ms(n * 25), Arc::clone(&early));
        let look = move |_: &mut Puppet, _: &mut Context<Puppet>| {
            if Instant::now() < due {
                early.lock().unwrap().push(n);
            }
        };
        actor.tell_at(due, Run(look)).unwrap().detach();
    }
    within(LONG, "both tick", || {
        [&rate, &delay].iter().all(|ticks| ticks.lock().unwrap().len() > 3)
    });
    println!("\n{READY}");
    let gap =
        |ticks: &[(Tick, Instant)]| ticks.windows(2).position(|pair| pair[1].1 - pair[0].1 >= GAP);
    within(LONG, "it is stopped, and goes on", || {
        let ticks = rate.lock().unwrap();
        gap(&ticks).is_some_and(|at| ticks.len() > at + 20)
    });
    within(LONG, "all timers fire", || executor.stats().armed_timers <= 2);
    assert_eq!(*early.lock().unwrap(), [0u64; 0]);
    let (rate, delay) = (rate.lock().unwrap(), delay.lock().unwrap());
    assert_fixed_rate(&rate, ms(5));
    assert!(rate.iter().map(|(tick, _)| tick.missed).sum::<u64>() >= 150);
    assert!(gap(&delay).is_some());
    assert!(delay.windows(2).all(|pair| pair[1].0.due >= pair[0].1 + ms(5)), "a burst");
}

/// Ends the child process, however the test ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg(unix)]
fn a_process_that_was_stopped_is_late_and_nothing_else() {
    if std::env::var_os(CHILD).is_some() {
        return tick_through_a_stop();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    let test = "a_process_that_was_stopped_is_late_and_nothing_else";
    child.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    let mut child = Ended(child.stdout(Stdio::piped()).spawn().unwrap());
    let pid = child.0.id().to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, pid.as_str()]).status().unwrap().success())
    };
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == READY), "the child ended early");
    signal("-STOP");
    thread::sleep(STOPPED); // the pause that the child must notice
    signal("-CONT");
    assert!(lines.all(|line| line.is_ok()));
    assert!(child.0.wait().unwrap().success(), "the child has failed");
}
