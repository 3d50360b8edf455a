//! Tests the ends of dedicated actors, alone and with their executor, and the ends of their
//! threads.

mod common;

use common::hermits::*;
use common::*;
use heist::{ActorRef, Context, Executor, Refusal, StopReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

#[test]
fn it_ends_like_every_actor_and_its_thread_with_it() {
    quiet_panics();
    on_every_crew(|executor| {
        type End = fn(ActorRef<Hermit>) -> ActorRef<Hermit>;
        type Expected = fn(&StopReason) -> bool;
        let ends: [(End, Expected); 4] = [
            (
                |hermit| {
                    hermit.stop();
                    hermit
                },
                |why| *why == StopReason::Stopped,
            ),
            (
                |hermit| {
                    hermit.stop_now();
                    hermit
                },
                |why| *why == StopReason::Killed,
            ),
            (
                |hermit| {
                    let panics = Run(|_: &mut Hermit, _: &mut Context<Hermit>| intended_panic());
                    assert_eq!(cause(hermit.ask(panics).unwrap()), INTENDED);
                    hermit
                },
                |why| matches!(why, StopReason::Panicked(text) if text.to_string() == INTENDED),
            ),
            (
                |hermit| {
                    hermit
                        .tell(Run(|_: &mut Hermit, ctx: &mut Context<Hermit>| ctx.stop()))
                        .unwrap();
                    hermit
                },
                |why| *why == StopReason::Stopped,
            ),
        ];
        for (end, expected) in ends {
            let traces = Traces::default();
            let hermit = executor.spawn_dedicated(traces.factory()).unwrap();
            assert_eq!(answer(hermit.ask(Note(1)).unwrap()), Ok(1));
            let hermit = end(hermit);
            let why = ended(&hermit);
            assert!(expected(&why), "{why}");
            assert_eq!(hermit.tell(Note(2)).unwrap_err().refusal(), Refusal::Stopped);
            traces.assert_all_on_one_thread();
            threads_gone(executor);
        }
    });
}

/// The last reference is dropped on another thread, and the final turn runs on the actor's own
/// thread.
#[test]
fn the_last_reference_ends_it_on_its_own_thread() {
    under_every_policy(|executor| {
        let traces = Traces::default();
        let hermit = executor.spawn_dedicated(traces.factory()).unwrap();
        hermit.tell(Note(1)).unwrap();
        drop(hermit);
        threads_gone(executor);
        traces.assert_all_on_one_thread();
        assert_eq!(
            traces.seen.lock().unwrap().len(),
            5,
            "made, started, handled, stopped, dropped"
        );
        // A detached actor lives until the executor ends.
        let traces = Traces::default();
        executor.spawn_dedicated(traces.factory()).unwrap().detach();
        settle(executor);
        assert_eq!(executor.stats().dedicated_threads, 1);
        shut_down(executor);
        traces.assert_all_on_one_thread();
    });
}

/// Stopped at once, during its making or before: the actor is never started, and a state that was
/// made is dropped once.
#[test]
fn p10_one_that_is_killed_before_it_began_leaves_nothing() {
    let executor = crew(1);
    for round in 0..200 {
        let traces = Traces::default();
        let in_factory = traces.tokens.token();
        let factory = traces.factory();
        let hermit = executor
            .spawn_dedicated(move || {
                drop(in_factory);
                factory()
            })
            .unwrap();
        hermit.tell(Note(round)).unwrap();
        hermit.stop_now();
        let why = ended(&hermit);
        assert_eq!(why, StopReason::Killed);
        within(LONG, "all is dropped", || traces.tokens.alive() == 0);
        traces.tokens.assert_each_dropped_once();
        threads_gone(&executor);
    }
    settle(&executor);
}

/// While the executor drains, sends and spawns of a dedicated actor count as the crew's own.
#[test]
fn p10_a_shutdown_lets_it_finish_and_takes_its_thread_along() {
    on_every_crew(|executor| {
        let traces: Vec<Traces> = (0..4).map(|_| Traces::default()).collect();
        let hermits: Vec<_> = traces
            .iter()
            .map(|traces| executor.spawn_dedicated(traces.factory()).unwrap())
            .collect();
        let puppet = executor.spawn(Puppet::default());
        let until = hold(&hermits[0]);
        let (to, next, spawned) = (puppet.clone(), hermits[1].clone(), Arc::new(AtomicU64::new(0)));
        let (count, handle) = (Arc::clone(&spawned), executor.handle());
        let last = Run(move |_: &mut Hermit, ctx: &mut Context<Hermit>| {
            assert_eq!(
                handle.try_spawn(Puppet::default()).map(ActorRef::detach).map_err(drop),
                Ok(())
            );
            assert!(ctx.spawn_dedicated(Traces::default().factory()).is_ok());
            to.tell(Note(1)).expect("of the crew");
            next.tell(Note(2)).expect("of the crew");
            count.fetch_add(1, Relaxed);
        });
        hermits[0].tell(last).unwrap();
        thread::scope(|scope| {
            let shutdown = scope.spawn(|| executor.shutdown(DEADLINE).unwrap());
            // Sends from outside are refused.
            within(LONG, "it drains", || {
                hermits[2]
                    .tell(Note(3))
                    .is_err_and(|error| error.refusal() == Refusal::ShuttingDown)
            });
            until.open();
            assert!(shutdown.join().unwrap().complete);
        });
        assert_eq!(spawned.load(Relaxed), 1);
        traces.iter().for_each(Traces::assert_all_on_one_thread);
        assert_eq!(executor.stats().dedicated_threads, 0);
        assert_eq!(puppet.stats().handled, 1);
        let error = executor.spawn_dedicated(Traces::default().factory()).unwrap_err();
        assert!(error.is_shutting_down());
        drop(error.into_actor()()); // the returned factory still works
    });
}

#[test]
fn p07_a_shutdown_names_one_that_does_not_end_and_leaves_its_thread() {
    let executor = crew(1);
    let traces = Traces::default();
    let hermit = executor.spawn_dedicated(traces.factory()).unwrap();
    let until = hold(&hermit);
    let report = executor.shutdown_now(Duration::from_millis(50)).unwrap();
    assert!(!report.complete);
    let named: Vec<_> = report.unfinished.iter().map(|unfinished| unfinished.id).collect();
    assert_eq!(named, [hermit.id()]);
    until.open();
    ended(&hermit);
    let report = executor.shutdown_now(DEADLINE).unwrap();
    assert!(report.complete, "{report:?}");
    traces.assert_all_on_one_thread();
}

/// Hundreds of dedicated actors are spawned and ended from everywhere. Their threads end with them,
/// not only with the executor.
#[cfg(target_os = "linux")]
#[test]
fn p10_ended_threads_are_gone_from_the_process() {
    let alive = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::path::PathBuf| {
            std::fs::read_to_string(task.join("comm")).unwrap_or_default()
        };
        tasks.filter(|task| name(task.as_ref().unwrap().path()).starts_with("gone-own")).count()
    };
    let executor = build(Executor::builder().workers(2).thread_name("gone"));
    let puppet = executor.spawn(Puppet::default());
    for _ in 0..50 {
        let traces = Traces::default();
        let hermit = executor.spawn_dedicated(traces.factory()).unwrap();
        let factory = traces.factory();
        let other =
            inside(&puppet, move |_, ctx| ctx.spawn_dedicated(factory).map_err(drop).unwrap());
        hermit.stop();
        other.stop();
        ended(&hermit);
        ended(&other);
        within(LONG, "the threads are gone", || alive() == 0);
    }
    shut_down(&executor);
    assert_eq!(alive(), 0);
}
