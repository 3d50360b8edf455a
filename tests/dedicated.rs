//! Actors on threads of their own: what holds for all actors holds for them, and their threads come and go with them.

mod common;

use common::*;
use heist::{
    Actor, ActorRef, AskError, Context, Event, Executor, Fixed, Handler, PanicPlace, Refusal, StopReason,
    Timer, WaitError,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(LONG);

/// Keeps what it is told in what is not `Send`, and says where its code ran.
struct Hermit {
    log: Rc<RefCell<Vec<u64>>>,
    seen: Arc<Mutex<Vec<ThreadId>>>,
    in_turn: Arc<InTurn>,
    timers: Vec<Timer>,
    _token: Token,
}

#[derive(Clone, Default)]
struct Traces {
    seen: Arc<Mutex<Vec<ThreadId>>>,
    in_turn: Arc<InTurn>,
    tokens: Tokens,
}

impl Traces {
    fn factory(&self) -> impl FnOnce() -> Hermit + Send + 'static {
        let traces = self.clone();
        move || {
            let hermit = Hermit {
                log: Rc::default(),
                seen: traces.seen,
                in_turn: traces.in_turn,
                timers: Vec::new(),
                _token: traces.tokens.token(),
            };
            hermit.note();
            hermit
        }
    }

    /// After the actor's end: all of it ran on one thread, one thing at a time, and its state is gone.
    #[track_caller]
    fn assert_all_on_one_thread(&self) {
        let seen = self.seen.lock().unwrap();
        assert!(seen.len() >= 2 && seen.iter().all(|&thread| thread == seen[0]), "{seen:?}");
        assert_ne!(seen[0], thread::current().id());
        assert_eq!(self.in_turn.overlaps(), 0);
        self.tokens.assert_each_dropped_once();
    }
}

impl Hermit {
    fn note(&self) {
        let _inside = self.in_turn.enter();
        self.seen.lock().unwrap().push(thread::current().id());
    }
}

impl Actor for Hermit {
    fn started(&mut self, _: &mut Context<Self>) {
        self.note();
    }
    fn stopped(&mut self, _: &StopReason) {
        self.note();
    }
}

impl Drop for Hermit {
    fn drop(&mut self) {
        self.note();
    }
}

impl Handler<Note> for Hermit {
    type Reply = u64;
    fn handle(&mut self, Note(n): Note, _: &mut Context<Self>) -> u64 {
        self.note();
        self.log.borrow_mut().push(n);
        n
    }
}

impl Handler<Log> for Hermit {
    type Reply = Vec<u64>;
    fn handle(&mut self, _: Log, _: &mut Context<Self>) -> Vec<u64> {
        self.log.borrow().clone()
    }
}

impl<F, R> Handler<Run<F>> for Hermit
where
    F: FnOnce(&mut Hermit, &mut Context<Hermit>) -> R + Send + 'static,
    R: Send + 'static,
{
    type Reply = R;
    fn handle(&mut self, Run(f): Run<F>, ctx: &mut Context<Self>) -> R {
        self.note();
        f(self, ctx)
    }
}

#[track_caller]
fn within_turn<R: Send + 'static>(
    hermit: &ActorRef<Hermit>,
    f: impl FnOnce(&mut Hermit, &mut Context<Hermit>) -> R + Send + 'static,
) -> R {
    answer(hermit.ask(Run(f)).unwrap()).unwrap()
}

/// A hermit's turn that goes on until the latch is opened; returns once it is under way.
fn hold(hermit: &ActorRef<Hermit>) -> Latch {
    let (entered, until) = (Latch::new(), Latch::new());
    let (inside, release) = (entered.clone(), until.clone());
    let held = Run(move |_: &mut Hermit, _: &mut Context<Hermit>| {
        inside.open();
        release.wait();
    });
    hermit.tell(held).unwrap();
    entered.wait();
    until
}

#[track_caller]
fn threads_gone(executor: &Executor) {
    within(LONG, "the dedicated threads end", || executor.stats().dedicated_threads == 0);
}

#[test]
fn it_is_made_runs_and_is_dropped_on_one_thread_of_its_own() {
    on_every_crew(|executor| {
        let traces: Vec<Traces> = (0..3).map(|_| Traces::default()).collect();
        let hermits: Vec<_> =
            traces.iter().map(|traces| executor.spawn_dedicated(traces.factory()).unwrap()).collect();
        for n in 0..100 {
            hermits.iter().for_each(|hermit| hermit.tell(Note(n)).unwrap());
        }
        for hermit in &hermits {
            assert_eq!(answer(hermit.ask(Log).unwrap()).unwrap(), (0..100).collect::<Vec<_>>());
            hermit.stop();
            assert_eq!(ended(hermit), StopReason::Stopped);
        }
        traces.iter().for_each(Traces::assert_all_on_one_thread);
        let threads: Vec<_> = traces.iter().map(|traces| traces.seen.lock().unwrap()[0]).collect();
        assert!(threads[0] != threads[1] && threads[1] != threads[2] && threads[2] != threads[0]);
        threads_gone(executor);
    });
}

#[test]
fn it_has_a_name_a_capacity_and_its_thread_too() {
    let executor = build(Executor::builder().workers(1).thread_name("here").capacity(7));
    let builder = executor.build_dedicated(Traces::default().factory()).name("hermit").capacity(3);
    let hermit = builder.budget_messages(1).try_spawn().unwrap();
    assert_eq!((hermit.name(), hermit.capacity()), (Some("hermit"), Some(3)));
    let name = within_turn(&hermit, |_, _| thread::current().name().map(String::from));
    assert_eq!(name.as_deref(), Some("here-own-0"));
    let other = executor.spawn_dedicated(Traces::default().factory()).unwrap();
    assert_eq!(other.capacity(), Some(7));

    let until = hold(&hermit);
    for n in 0..2 {
        hermit.tell(Note(n)).unwrap();
    }
    let refused = hermit.tell(Note(2)).unwrap_err();
    assert_eq!((refused.refusal(), refused.into_message()), (Refusal::Full, Note(2)));
    until.open();
    settle(&executor);
}

#[test]
fn messages_come_in_order_from_everywhere_and_are_counted() {
    struct Numbered(u64, u64);
    impl Handler<Numbered> for Hermit {
        type Reply = ();
        fn handle(&mut self, Numbered(sender, n): Numbered, _: &mut Context<Self>) {
            self.log.borrow_mut().push(sender << 32 | n);
        }
    }
    const EACH: u64 = 2_000;
    under_every_policy(|executor| {
        let hermit = executor.build_dedicated(Traces::default().factory()).unbounded().try_spawn().unwrap();
        let other = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        // From outside, from workers, from another dedicated thread.
        let inside: Vec<_> = (0..2).map(|_| executor.spawn(Puppet::default())).collect();
        for (sender, puppet) in inside.iter().enumerate() {
            let to = hermit.clone();
            let send = move |_: &mut Puppet, _: &mut Context<Puppet>| {
                (0..EACH).for_each(|n| to.tell(Numbered(sender as u64, n)).unwrap());
            };
            puppet.tell(Run(send)).unwrap();
        }
        let to = hermit.clone();
        let send = move |_: &mut Hermit, _: &mut Context<Hermit>| {
            (0..EACH).for_each(|n| to.tell(Numbered(2, n)).unwrap());
        };
        other.tell(Run(send)).unwrap();
        (0..EACH).for_each(|n| hermit.tell(Numbered(3, n)).unwrap());
        settle(executor);
        let log = answer(hermit.ask(Log).unwrap()).unwrap();
        for sender in 0..4 {
            let from: Vec<u64> =
                log.iter().filter(|&&entry| entry >> 32 == sender).map(|entry| entry & 0xffff_ffff).collect();
            assert_eq!(from, (0..EACH).collect::<Vec<_>>(), "sender {sender}");
        }
        settle(executor); // the question too
        assert_eq!(hermit.stats().handled, 4 * EACH + 1);
    });
}

fn under_every_policy(test: impl Fn(&Executor)) {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy));
        test(&executor);
        shut_down(&executor);
        assert_eq!(executor.stats().dedicated_threads, 0);
    }
}

/// Each message is answered by one from the other side, so both sleep and are woken all the time.
#[test]
fn p04_it_is_woken_whenever_there_is_something() {
    under_every_policy(|executor| {
        let hermit = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        let other = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        for n in 0..500 {
            assert_eq!(answer(hermit.ask(Note(n)).unwrap()), Ok(n));
            let to = hermit.clone();
            let asked = within_turn(&other, move |_, _| to.ask(Note(n)).unwrap());
            assert_eq!(answer(asked), Ok(n));
        }
    });
}

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
                    hermit.tell(Run(|_: &mut Hermit, ctx: &mut Context<Hermit>| ctx.stop())).unwrap();
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

/// The last reference is dropped elsewhere; the final turn is on its own thread.
#[test]
fn the_last_reference_ends_it_on_its_own_thread() {
    under_every_policy(|executor| {
        let traces = Traces::default();
        let hermit = executor.spawn_dedicated(traces.factory()).unwrap();
        hermit.tell(Note(1)).unwrap();
        drop(hermit);
        threads_gone(executor);
        traces.assert_all_on_one_thread();
        assert_eq!(traces.seen.lock().unwrap().len(), 5, "made, started, handled, stopped, dropped");
        // And one that is detached lives on until the executor ends.
        let traces = Traces::default();
        executor.spawn_dedicated(traces.factory()).unwrap().detach();
        settle(executor);
        assert_eq!(executor.stats().dedicated_threads, 1);
        shut_down(executor);
        traces.assert_all_on_one_thread();
    });
}

#[test]
fn p06_a_factory_that_panics_fails_its_actor_with_the_cause() {
    quiet_panics();
    let events = Events::new();
    let executor = build(Executor::builder().workers(1).on_event(events.hook()));
    let until = Latch::new();
    let release = until.clone();
    let hermit = executor.spawn_dedicated(move || -> Hermit {
        release.wait();
        intended_panic()
    });
    let hermit = hermit.unwrap();
    let ask = hermit.ask(Note(1)).unwrap();
    hermit.tell(Note(2)).unwrap();
    until.open();
    assert_eq!(cause(ask), INTENDED);
    assert!(matches!(ended(&hermit), StopReason::Panicked(text) if text.to_string() == INTENDED));
    threads_gone(&executor);
    let stats = executor.stats();
    assert_eq!((stats.panicked, stats.dead_letters.panicked, stats.live_actors), (1, 2, 0));
    let place = |event: &Event| matches!(event, Event::Panicked { place: PanicPlace::Started, .. });
    assert_eq!(events.all().iter().filter(|event| place(event)).count(), 1);
    settle(&executor);
}

/// Stopped at once while, or before, it is made: never started, and what was made is dropped once.
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

#[test]
fn wait_idle_covers_it_and_what_it_causes() {
    on_every_crew(|executor| {
        let hermit = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        let until = hold(&hermit);
        let early = executor.wait_idle_timeout(Duration::from_millis(20));
        assert_eq!(early, Err(WaitError::TimedOut), "it is in its turn");
        until.open();
        settle(executor);

        // Back and forth between it, a worker's actor and another one of its kind, until there is nothing left to do.
        let handled = Arc::new(AtomicU64::new(0));
        let other = executor.spawn_dedicated(Traces::default().factory()).unwrap();
        for round in 0..100 {
            let puppet = executor.spawn(Puppet::default());
            let (count, far) = (Arc::clone(&handled), other.clone());
            let chain = move |_: &mut Hermit, _: &mut Context<Hermit>| {
                let last = Run(move |_: &mut Hermit, _: &mut Context<Hermit>| {
                    count.fetch_add(1, Relaxed);
                });
                let middle = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| far.tell(last).unwrap());
                puppet.tell(middle).unwrap();
            };
            hermit.tell(Run(chain)).unwrap();
            settle(executor);
            assert_eq!(handled.load(Relaxed), round + 1, "told too early");
        }
        // The factory is part of it.
        let (slow, made) = (Latch::new(), Arc::new(AtomicU64::new(0)));
        let (release, count) = (slow.clone(), Arc::clone(&made));
        let factory = Traces::default().factory();
        let late = executor.spawn_dedicated(move || {
            release.wait();
            count.fetch_add(1, Relaxed);
            factory()
        });
        assert_eq!(executor.wait_idle_timeout(Duration::from_millis(5)), Err(WaitError::TimedOut));
        slow.open();
        settle(executor);
        assert_eq!(made.load(Relaxed), 1);
        drop(late);
    });
}

/// More of them than workers, all blocked in their handlers, and nobody is refused; the crew goes on.
#[test]
fn p07_it_may_wait_inside_its_handlers() {
    under_every_policy(|executor| {
        let answers = executor.spawn(Puppet::default());
        let hermits: Vec<_> =
            (0..6).map(|_| executor.spawn_dedicated(Traces::default().factory()).unwrap()).collect();
        let open = Latch::new();
        let all: Vec<_> = hermits
            .iter()
            .enumerate()
            .map(|(n, hermit)| {
                let (puppet, next, open) = (answers.clone(), hermits.get(n + 1).cloned(), open.clone());
                let waits = Run(move |_: &mut Hermit, _: &mut Context<Hermit>| {
                    open.wait();
                    let mine = puppet.ask(Note(n as u64)).unwrap().wait_timeout(DEADLINE).unwrap();
                    // Also for one another, in a chain.
                    next.map_or(Ok(mine), |next| next.ask(Note(n as u64)).unwrap().wait_timeout(DEADLINE))
                });
                hermit.ask(waits).unwrap()
            })
            .collect();
        open.open();
        for (n, ask) in all.into_iter().enumerate() {
            assert_eq!(answer(ask).unwrap().unwrap(), n as u64);
        }
    });
}

#[test]
fn p07_what_would_wait_for_itself_is_refused() {
    let executor = crew(1);
    let hermit = executor.build_dedicated(Traces::default().factory()).capacity(1).try_spawn().unwrap();
    let me = hermit.clone();
    let handle = executor.handle();
    within_turn(&hermit, move |_, ctx| {
        let refused = handle.wait_idle();
        assert_eq!(refused, Err(WaitError::OnCrew));
        assert_eq!(ctx.me().wait_stopped(), Err(WaitError::OnCrew));
        // Its one place is that of the message in hand.
        let refused = me.send(Note(1)).unwrap_err();
        assert_eq!((refused.refusal(), refused.into_message()), (Refusal::WouldDeadlock, Note(1)));
    });
    let roomy = executor.spawn_dedicated(Traces::default().factory()).unwrap();
    let me = roomy.clone();
    within_turn(&roomy, move |_, _| {
        let refused = me.ask(Note(1)).unwrap().wait().unwrap_err();
        assert_eq!(*refused.error(), AskError::WouldDeadlock);
        drop(refused.into_ask());
    });
    // Nor may it end its own crew and wait; dropping the executor there only signals.
    let inner = crew(1);
    let inside = inner.spawn_dedicated(Traces::default().factory()).unwrap();
    let outcome = inside.ask(Run(move |_: &mut Hermit, _: &mut Context<Hermit>| {
        let refused = inner.shutdown(DEADLINE);
        drop(inner);
        refused
    }));
    assert_eq!(answer(outcome.unwrap()).unwrap(), Err(WaitError::OnCrew));
    assert!(matches!(ended(&inside), StopReason::Killed | StopReason::Shutdown));
}

#[test]
fn timers_callbacks_and_notices_of_room_come_to_it() {
    under_every_policy(|executor| {
        let traces = Traces::default();
        let hermit = executor.spawn_dedicated(traces.factory()).unwrap();
        let puppet = executor.build(Puppet::default()).capacity(2).spawn();
        let to = puppet.clone();
        within_turn(&hermit, move |me, ctx| {
            ctx.tell_after(Duration::from_millis(2), Note(1)).unwrap().detach();
            let every = Duration::from_millis(1);
            me.timers.push(ctx.tell_every(every, Fixed::Delay, |tick| Note(100 + tick.number)).unwrap());
            ctx.ask_then(&to, Note(2), |me, answer, _| {
                me.note();
                me.log.borrow_mut().push(answer.unwrap());
            })
            .unwrap();
            ctx.when_room(&to, Note(3)).unwrap();
            ctx.again(Note(4)).unwrap();
        });
        hermit.tell_after(Duration::from_millis(1), Note(5)).unwrap().detach();
        within(LONG, "all of it comes", || {
            let log = answer(hermit.ask(Log).unwrap()).unwrap();
            [1, 2, 3, 4, 5].iter().all(|n| log.contains(n)) && log.iter().filter(|&&n| n > 100).count() >= 3
        });
        within_turn(&hermit, |me, _| me.timers.clear());
        settle(executor);
        hermit.stop();
        ended(&hermit);
        traces.assert_all_on_one_thread();
    });
}

/// While the executor drains, what it sends and spawns is the crew's own.
#[test]
fn p10_a_shutdown_lets_it_finish_and_takes_its_thread_along() {
    on_every_crew(|executor| {
        let traces: Vec<Traces> = (0..4).map(|_| Traces::default()).collect();
        let hermits: Vec<_> =
            traces.iter().map(|traces| executor.spawn_dedicated(traces.factory()).unwrap()).collect();
        let puppet = executor.spawn(Puppet::default());
        let until = hold(&hermits[0]);
        let (to, next, spawned) = (puppet.clone(), hermits[1].clone(), Arc::new(AtomicU64::new(0)));
        let (count, handle) = (Arc::clone(&spawned), executor.handle());
        let last = Run(move |_: &mut Hermit, ctx: &mut Context<Hermit>| {
            assert_eq!(handle.try_spawn(Puppet::default()).map(ActorRef::detach).map_err(drop), Ok(()));
            assert!(ctx.spawn_dedicated(Traces::default().factory()).is_ok());
            to.tell(Note(1)).expect("of the crew");
            next.tell(Note(2)).expect("of the crew");
            count.fetch_add(1, Relaxed);
        });
        hermits[0].tell(last).unwrap();
        thread::scope(|scope| {
            let shutdown = scope.spawn(|| executor.shutdown(DEADLINE).unwrap());
            // From outside nothing more is taken.
            within(LONG, "it drains", || {
                hermits[2].tell(Note(3)).is_err_and(|error| error.refusal() == Refusal::ShuttingDown)
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
        drop(error.into_actor()()); // the factory is back, and works
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

#[test]
fn what_cannot_be_spawned_hands_the_factory_back() {
    // The workers' threads are the handler's; those of dedicated actors cannot have such a stack.
    let builder = Executor::builder().workers(1).stack_size(1 << 60);
    let handler = |worker: heist::WorkerThread| thread::Builder::new().spawn(|| worker.run()).map(drop);
    let executor = build(builder.spawn_handler(handler));
    let traces = Traces::default();
    let error = executor.spawn_dedicated(traces.factory()).unwrap_err();
    assert!(!error.is_shutting_down());
    assert!(std::error::Error::source(&error).is_some());
    assert!(error.to_string().starts_with("actor not spawned: its thread could not be started: "), "{error}");
    let hermit = error.into_actor()();
    assert_eq!(traces.tokens.alive(), 1);
    drop(hermit);
    let error = executor.build_dedicated(traces.factory()).capacity(0).try_spawn().unwrap_err();
    assert!(error.to_string().contains("a mailbox for 0 messages"), "{error}");
    assert_eq!((executor.stats().live_actors, executor.stats().dedicated_threads), (0, 0));
    settle(&executor);
}

/// Spawned and ended by the hundred, from everywhere: their threads are gone when they are, not only at the end.
#[cfg(target_os = "linux")]
#[test]
fn p10_ended_threads_are_gone_from_the_process() {
    let alive = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::path::PathBuf| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        tasks.filter(|task| name(task.as_ref().unwrap().path()).starts_with("gone-own")).count()
    };
    let executor = build(Executor::builder().workers(2).thread_name("gone"));
    let puppet = executor.spawn(Puppet::default());
    for _ in 0..50 {
        let traces = Traces::default();
        let hermit = executor.spawn_dedicated(traces.factory()).unwrap();
        let factory = traces.factory();
        let other = inside(&puppet, move |_, ctx| ctx.spawn_dedicated(factory).map_err(drop).unwrap());
        hermit.stop();
        other.stop();
        ended(&hermit);
        ended(&other);
        within(LONG, "the threads are gone", || alive() == 0);
    }
    shut_down(&executor);
    assert_eq!(alive(), 0);
}
