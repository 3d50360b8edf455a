//! Tests P7, deadlines are total: whatever user code does, no wait exceeds its limit. Each test
//! holds up its target until the wait has returned, so that no test depends on how long anything
//! took.

mod common;

use common::*;
use heist::{Actor, AskError, Context, Event, Executor, WaitError};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{self, Wake, Waker};
use std::thread;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(20);

/// A thread-local value that blocks its thread when dropped.
struct Lingers {
    entered: Latch,
    until: Latch,
}

impl Drop for Lingers {
    fn drop(&mut self) {
        self.entered.open();
        self.until.wait();
    }
}

thread_local!(static LINGERS: RefCell<Option<Lingers>> = const { RefCell::new(None) });

/// Makes the calling thread linger at its end.
fn linger(entered: &Latch, until: &Latch) {
    let lingers = || Lingers { entered: entered.clone(), until: until.clone() };
    LINGERS.with_borrow_mut(|place| _ = place.get_or_insert_with(lingers));
}

/// Joining a thread includes destructors of its thread-locals, which user code may delay for ever.
#[test]
fn p07_a_shutdown_does_not_wait_for_a_thread_locals_destructor() {
    for dedicated in [false, true] {
        let executor = crew(1);
        let (entered, until) = (Latch::new(), Latch::new());
        let held = Held::until(until.clone());
        let puppet = if dedicated {
            executor.spawn_dedicated(Puppet::default).unwrap()
        } else {
            executor.spawn(Puppet::default())
        };
        inside(&puppet, {
            let (entered, until) = (entered.clone(), until.clone());
            move |_, _| linger(&entered, &until)
        });
        let report = executor.shutdown(SHORT).unwrap();
        assert!(!report.complete, "a thread has not ended");
        assert_eq!(report.unfinished_count, 0, "{report:?}");
        entered.wait();
        let report = executor.shutdown_now(SHORT).unwrap();
        let name = if dedicated { "heist-own-0" } else { "heist-0" };
        assert_eq!(report.unfinished_threads, [name]);
        held.release();
        let report = executor.shutdown_now(Duration::from_secs(LONG)).unwrap();
        assert!(report.complete && report.unfinished_threads.is_empty(), "{report:?}");
    }
}

/// A waker of an actor's end, or of a wait for quiescence, blocks after the last actor has ended.
#[test]
fn p07_a_shutdown_names_the_thread_of_a_waker() {
    struct Blocks(Latch, Latch);
    impl Wake for Blocks {
        fn wake(self: Arc<Self>) {
            self.0.open();
            self.1.wait();
        }
    }
    for (of_an_end, dedicated) in [(true, false), (true, true), (false, false)] {
        let executor = crew(1);
        let (entered, until) = (Latch::new(), Latch::new());
        let held = Held::until(until.clone());
        let puppet = if dedicated {
            executor.spawn_dedicated(Puppet::default).unwrap()
        } else {
            executor.spawn(Puppet::default())
        };
        let busy = Held::hold(&puppet);
        let (mut end, mut idle) = (puppet.wait_stopped_async(), executor.wait_idle_async());
        let waker = Waker::from(Arc::new(Blocks(entered.clone(), until)));
        let mut cx = task::Context::from_waker(&waker);
        let poll = match of_an_end {
            true => Pin::new(&mut end).poll(&mut cx).is_pending(),
            false => Pin::new(&mut idle).poll(&mut cx).is_pending(),
        };
        assert!(poll);
        if of_an_end {
            puppet.stop();
        }
        busy.release();
        entered.wait();
        let report = executor.shutdown(SHORT).unwrap();
        let name = if dedicated { "heist-own-0" } else { "heist-0" };
        assert!(!report.complete, "the thread is still there");
        assert_eq!(report.unfinished_threads, [name]);
        held.release();
        let report = executor.shutdown_now(Duration::from_secs(LONG)).unwrap();
        assert!(report.complete && report.unfinished_threads.is_empty(), "{report:?}");
    }
}

#[test]
fn p07_dropping_an_executor_does_not_wait_for_a_thread_locals_destructor() {
    let executor = build(Executor::builder().workers(2).drop_deadline(SHORT));
    let (entered, until) = (Latch::new(), Latch::new());
    let held = Held::until(until.clone());
    let puppet = executor.spawn(Puppet::default());
    inside(&puppet, {
        let entered = entered.clone();
        move |_, _| linger(&entered, &until)
    });
    let handle = executor.handle();
    drop(executor);
    assert!(!handle.last_report().unwrap().complete);
    entered.wait();
    held.release();
}

/// A spare that joined another spare before ending would add up the delays of their destructors.
#[test]
fn p07_a_spare_that_ends_waits_for_no_other() {
    let events = EventLog::new();
    let builder =
        Executor::builder().workers(1).max_spares(2).spare_keep_alive(Duration::from_millis(1));
    let executor = build(builder.on_event(events.hook()));
    let ended =
        || events.all().iter().filter(|event| matches!(event, Event::SpareEnded { .. })).count();
    let (entered, until) = (Latch::new(), Latch::new());
    let held = Held::until(until.clone());
    // Each thread that runs the actor lingers at its end. While there are two threads, one of them
    // is to end.
    let (one, two) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    for round in 0..3 {
        let blocks = Latch::new();
        let other = {
            let blocks = blocks.clone();
            let (entered, until) = (entered.clone(), until.clone());
            let run = move |_: &mut Puppet, _: &mut Context<Puppet>| {
                linger(&entered, &until);
                heist::blocking(|| blocks.wait());
            };
            one.ask(Run(run)).unwrap()
        };
        let (entered, until) = (entered.clone(), until.clone());
        inside(&two, move |_, _| linger(&entered, &until));
        blocks.open();
        answer(other).unwrap();
        within(LONG, "a spare ends while another lingers", || ended() > round);
    }
    entered.wait();
    let report = executor.shutdown(SHORT).unwrap();
    assert!(!report.complete);
    held.release();
    shut_down(&executor);
}

#[test]
fn p07_a_slow_event_hook_does_not_hold_up_a_shutdown() {
    let (told, until, over) = (Latch::new(), Latch::new(), Latch::new());
    let hold_hook = Held::until(until.clone());
    let hook = {
        let (told, over) = (told.clone(), over.clone());
        move |event: &Event| {
            if matches!(event, Event::Stuck { .. }) {
                let _opens = Held::until(over.clone()); // however the hook ends
                told.open();
                until.wait();
            }
        }
    };
    let executor = build(Executor::builder().workers(1).on_event(hook));
    let stuck = executor.spawn(Puppet::default());
    let held = Held::hold(&stuck);
    let report = executor.shutdown(SHORT).unwrap();
    assert!(!over.is_open(), "the shutdown has waited for the hook");
    assert_eq!(report.unfinished[0].id, stuck.id());
    assert_eq!(report.unfinished_threads, ["heist-shutdown"], "the hook runs there");
    told.wait();
    assert_eq!(executor.last_report(), Some(report));
    drop((held, hold_hook));
    shut_down(&executor);
}

/// A second shutdown must not be bound to the longer deadline of the first.
#[test]
fn p07_two_shutdowns_have_two_deadlines() {
    let executor = crew(1);
    let stuck = executor.spawn(Puppet::default());
    let held = Held::hold(&stuck);
    thread::scope(|scope| {
        let patient = scope.spawn(|| executor.shutdown(Duration::from_secs(LONG)).unwrap());
        within(LONG, "a shutdown is under way", || stuck.tell(Note(1)).is_err());
        let report = executor.shutdown_now(SHORT).unwrap();
        assert!(!report.complete && !patient.is_finished());
        assert_eq!(report.unfinished_count, 1);
        held.release();
        assert!(patient.join().unwrap().complete);
    });
}

/// Closing 20,000 actors takes longer than the deadline, and the report must stay short.
#[test]
fn p07_more_actors_than_can_be_closed_in_time_are_closed_later() {
    let executor = crew(1);
    let actors: Vec<_> = (0..20_000).map(|_| executor.spawn(Puppet::default())).collect();
    let held = Held::hold(&actors[0]);
    let report = executor.shutdown_now(Duration::ZERO).unwrap();
    assert!(!report.complete);
    assert!(
        report.unfinished.len() <= 1000 && report.unfinished_count > 1000,
        "{}",
        report.unfinished_count
    );
    within(LONG, "all are closed", || !actors.last().unwrap().is_running());
    held.release();
    shut_down(&executor);
}

/// An actor without work.
struct Idle;
impl Actor for Idle {}

/// Runs `wait` in a handler of an executor with one worker, and checks that other actors go on
/// meanwhile.
#[track_caller]
fn takes_a_spare(wait: impl FnOnce(&Executor) + Send + 'static) {
    let (executor, other) = (crew(1), crew(1));
    let obstacle = other.spawn(Puppet::default());
    let held = Held::hold(&obstacle);
    let (waits, goes_on) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let entered = Latch::new();
    let waiting = {
        let entered = entered.clone();
        let run = move |_: &mut Puppet, _: &mut Context<Puppet>| {
            entered.open();
            wait(&other);
            other
        };
        waits.ask(Run(run)).unwrap()
    };
    entered.wait();
    assert_eq!(answer(goes_on.ask(Note(1)).unwrap()), Ok(1), "a spare has the worker's slot");
    assert!(!waiting.is_ready());
    held.release();
    let other = answer(waiting).unwrap();
    drop(obstacle);
    shut_down(&executor);
    shut_down(&other);
}

/// A wait for another crew blocks this crew's worker, so its slot must pass to a spare.
#[test]
fn p07_waiting_for_another_executor_takes_a_spare() {
    let long = Duration::from_secs(LONG);
    takes_a_spare(|other| other.wait_idle().unwrap());
    takes_a_spare(move |other| other.wait_idle_timeout(long).unwrap());
    takes_a_spare(move |other| assert!(other.shutdown(long).unwrap().complete));
    takes_a_spare(move |other| assert!(other.shutdown_now(long).unwrap().complete));
    takes_a_spare(|other| {
        let idle = other.spawn(Idle);
        idle.stop();
        idle.wait_stopped().unwrap();
    });
    takes_a_spare(|other| {
        let pool = other.pool(2, |_| Idle).build().unwrap();
        pool.stop();
        pool.wait_stopped().unwrap();
    });
}

#[test]
fn p07_dropping_another_executor_takes_a_spare() {
    let executor = crew(1);
    let other = build(Executor::builder().workers(1).drop_deadline(Duration::from_secs(LONG)));
    let held = Held::hold(&other.spawn(Puppet::default()));
    let (drops, goes_on) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let dropping =
        drops.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| drop(other))).unwrap();
    assert_eq!(answer(goes_on.ask(Note(1)).unwrap()), Ok(1));
    assert!(!dropping.is_ready());
    held.release();
    answer(dropping).unwrap();
    shut_down(&executor);
}

/// Without a spare, the wait would freeze the only worker, so each kind of wait is refused.
#[test]
fn p07_the_last_unblocked_worker_does_not_wait_for_another_executor() {
    let executor = build(Executor::builder().workers(1).max_spares(0));
    let other = crew(1);
    let puppet = other.spawn(Puppet::default());
    let held = Held::hold(&puppet);
    let (handle, stops) = (other.handle(), puppet.clone());
    let waits = executor.spawn(Puppet::default());
    let (idle, stopped, other, ended) = inside(&waits, move |_, _| {
        let pool = handle.pool(1, |_| Idle).build().unwrap();
        let ended = pool.wait_stopped();
        (handle.wait_idle(), stops.wait_stopped(), (other.shutdown(SHORT), other), ended)
    });
    assert_eq!(idle, Err(WaitError::NoSpare));
    assert_eq!(stopped, Err(WaitError::NoSpare));
    assert_eq!(ended, Err(WaitError::NoSpare));
    assert_eq!(other.0, Err(WaitError::NoSpare));
    held.release();
    assert_eq!(answer(puppet.ask(Note(1)).unwrap()), Ok(1), "nothing was shut down");
    shut_down(&other.1);
    shut_down(&executor);
}

#[test]
fn p07_two_executors_that_wait_for_each_other_go_on() {
    let (one, two) = (crew(1), crew(1));
    let waiter = |executor: &Executor, other: &Executor, entered: &Latch, until: &Latch| {
        let puppet = executor.spawn(Puppet::default());
        let (other, entered, until) = (other.handle(), entered.clone(), until.clone());
        let run = move |_: &mut Puppet, _: &mut Context<Puppet>| {
            entered.open();
            // Neither executor becomes idle while the other waits.
            while !until.is_open() {
                assert_eq!(other.wait_idle_timeout(SHORT), Err(WaitError::TimedOut));
            }
        };
        puppet.ask(Run(run)).unwrap()
    };
    let (here, there, until) = (Latch::new(), Latch::new(), Latch::new());
    let held = Held::until(until.clone());
    let asks = [waiter(&one, &two, &here, &until), waiter(&two, &one, &there, &until)];
    here.wait();
    there.wait();
    for executor in [&one, &two] {
        assert_eq!(answer(executor.spawn(Puppet::default()).ask(Note(1)).unwrap()), Ok(1));
    }
    held.release();
    for ask in asks {
        // The actor that stops first lets the other executor become idle.
        let ended = answer(ask);
        assert!(matches!(ended, Ok(()) | Err(AskError::Panicked(_))), "{ended:?}");
    }
    shut_down(&one);
    shut_down(&two);
}

/// Holds up the event of a started spare.
#[derive(Clone, Default)]
struct SlowHook {
    until: Latch,
    /// Whether the hook has returned, or panicked.
    over: Arc<AtomicBool>,
}

impl SlowHook {
    fn crew(&self) -> Executor {
        let this = self.clone();
        let hook = move |event: &Event| {
            if let Event::SpareStarted { .. } = event {
                let _over = OnDrop(|| this.over.store(true, SeqCst));
                this.until.wait();
            }
        };
        build(Executor::builder().workers(2).on_event(hook))
    }
}

/// Calls a function when dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A wait in a handler starts a spare first. The wait does not include the hook.
#[test]
fn p07_a_hook_that_is_told_of_a_spare_does_not_hold_up_a_wait() {
    let slow = SlowHook::default();
    let executor = slow.crew();
    let (asks, asked) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let held = Held::hold(&asked);
    let waited = inside(&asks, move |_, _| asked.ask(Note(1)).unwrap().wait_timeout(SHORT));
    assert_eq!(waited, Err(AskError::TimedOut));
    assert!(!slow.over.load(SeqCst), "the wait waited for the hook");
    slow.until.open();
    drop(held);
    shut_down(&executor);
}

/// The same for the end of another executor.
#[test]
fn p07_a_hook_that_is_told_of_a_spare_does_not_hold_up_a_shutdown() {
    let slow = SlowHook::default();
    let executor = slow.crew();
    let ends = executor.spawn(Puppet::default());
    assert!(inside(&ends, |_, _| crew(1).shutdown_now(SHORT).is_ok()));
    assert!(!slow.over.load(SeqCst), "the shutdown waited for the hook");
    slow.until.open();
    shut_down(&executor);
}
