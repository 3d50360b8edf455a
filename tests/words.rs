//! Tests sentences in the documentation of public items that no other test shows: return values,
//! counts, places of events, and what a wait covers.

mod common;

use common::*;
use heist::event::PanicPlace;
use heist::strategy::ToIndex;
use heist::timer::IntervalMode;
use heist::{
    Actor, AskError, Context, Directory, Event, Executor, Handler, Receive, Reply, StopReason,
    WaitError,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Keeps the replies of its messages where the test can inspect them.
#[derive(Clone, Default)]
struct Keeper(Arc<Mutex<Vec<Reply<u64>>>>);

impl Actor for Keeper {}

struct Question;

impl Receive<Question> for Keeper {
    type Reply = u64;
    fn receive(&mut self, _: Question, reply: Reply<u64>, _: &mut Context<Self>) {
        self.0.lock().unwrap().push(reply);
    }
}

/// `Reply::is_wanted`: a reply is wanted as long as its ask exists, even after a timeout.
#[test]
fn a_reply_is_wanted_until_its_ask_is_dropped() {
    let executor = crew(1);
    let keeper = Keeper::default();
    let replies = Arc::clone(&keeper.0);
    let actor = executor.spawn(keeper);
    let mut ask = actor.ask(Question).unwrap();
    settle(&executor);
    let wanted = || replies.lock().unwrap()[0].is_wanted();
    let timed_out = ask.wait_timeout(ms(1)).unwrap_err();
    assert_eq!(timed_out, AskError::TimedOut);
    assert!(wanted(), "the ask is still here");
    drop(ask);
    assert!(!wanted());
    replies.lock().unwrap().pop().unwrap().send(1);
    assert_eq!(executor.stats().discarded_replies, 1);
    shut_down(&executor);
}

/// `AskError::Stopped` and `AskError::Panicked` also answer handled messages with their reply in
/// the state.
#[test]
fn a_reply_in_a_state_ends_with_it() {
    quiet_panics();
    #[derive(Default)]
    struct Owner(Vec<Reply<u64>>);
    impl Actor for Owner {}
    impl Receive<Question> for Owner {
        type Reply = u64;
        fn receive(&mut self, _: Question, reply: Reply<u64>, _: &mut Context<Self>) {
            self.0.push(reply);
        }
    }
    struct Panic;
    impl Handler<Panic> for Owner {
        type Reply = ();
        fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
            intended_panic()
        }
    }
    let executor = crew(1);
    let stops = executor.spawn(Owner::default());
    let ask = stops.ask(Question).unwrap();
    stops.stop();
    assert_eq!(answer(ask), Err(AskError::Stopped));
    let panics = executor.spawn(Owner::default());
    let ask = panics.ask(Question).unwrap();
    panics.tell(Panic).unwrap();
    assert_eq!(cause(ask), INTENDED);
    assert_eq!(executor.stats().dead_letters.total(), 0, "both were handled");
    shut_down(&executor);
}

/// `Reply`: an asker learns of a caught panic that dropped its reply when the turn ends, at the
/// latest.
#[test]
fn a_caught_panic_is_told_when_the_turn_ends() {
    quiet_panics();
    struct Catches;
    impl Actor for Catches {}
    impl Receive<Question> for Catches {
        type Reply = u64;
        fn receive(&mut self, _: Question, reply: Reply<u64>, _: &mut Context<Self>) {
            let caught = catch_unwind(AssertUnwindSafe(move || {
                let _reply = reply;
                intended_panic()
            }));
            assert!(caught.is_err());
        }
    }
    let executor = crew(1);
    let catches = executor.spawn(Catches);
    let ask = catches.ask(Question).unwrap();
    settle(&executor); // the turn is over, well within the 100 ms
    assert!(ask.is_ready());
    assert_eq!(answer(ask), Err(AskError::NoReply));
    assert_eq!(executor.stats().panicked, 0);
    shut_down(&executor);
}

/// `Timer::cancel` of an interval: a tick being handled goes on, and no other tick comes.
#[test]
fn an_interval_that_is_cancelled_while_a_tick_is_handled_has_no_other() {
    struct Tick(Latch, Latch);
    impl Handler<Tick> for Puppet {
        type Reply = ();
        fn handle(&mut self, Tick(entered, until): Tick, _: &mut Context<Self>) {
            entered.open();
            until.wait();
        }
    }
    let executor = crew(2);
    let puppet = executor.spawn(Puppet::default());
    let (entered, until) = (Latch::new(), Latch::new());
    let (inside, goes_on) = (entered.clone(), until.clone());
    let timer = puppet
        .tell_every(ms(1), IntervalMode::FixedRate, move |_| Tick(inside.clone(), goes_on.clone()))
        .unwrap();
    entered.wait();
    assert!(timer.is_armed());
    assert!(timer.cancel());
    until.open();
    settle(&executor);
    let stats = executor.stats();
    assert_eq!((stats.handled, stats.dead_letters.total(), stats.armed_timers), (1, 0, 0));
    shut_down(&executor);
}

/// `Handle::last_report`, after the drop of an executor on its own crew.
#[test]
fn an_executor_that_is_dropped_on_its_own_crew_has_no_report() {
    let executor = crew(2);
    let handle = executor.handle();
    let (puppet, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    puppet.tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| drop(executor))).unwrap();
    assert_eq!(ended(&other), StopReason::Shutdown);
    ended(&puppet);
    assert_eq!(handle.last_report(), None);

    let executor = crew(1);
    let handle = executor.handle();
    assert_eq!(handle.last_report(), None);
    drop(executor);
    assert!(handle.last_report().unwrap().complete);
}

/// `Executor::shutdown_async`, on a thread of its own crew.
#[test]
fn a_shutdown_that_is_awaited_on_its_own_crew_is_refused_and_stops_now() {
    let executor = crew(2);
    let (puppet, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let (telling, told) = std::sync::mpsc::channel();
    let ends = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        let shutdown = executor.shutdown_async(Duration::from_secs(LONG));
        telling.send(futures::executor::block_on(shutdown)).unwrap();
    });
    puppet.tell(ends).unwrap();
    assert_eq!(told.recv_timeout(Duration::from_secs(LONG)).unwrap(), Err(WaitError::OnCrew));
    assert_eq!(ended(&other), StopReason::Shutdown);
    ended(&puppet);
}

/// `Stats::live_actors`, `Stats::armed_timers` and `Handle::wait_idle`: the share of a pool.
#[test]
fn a_pools_queue_is_a_live_actor_and_its_backoff_a_timer_that_is_waited_for() {
    let executor = crew(2);
    let hour = Duration::from_secs(3600);
    let pool = executor.pool(3, |_| Puppet::default()).backoff(hour, hour).build().unwrap();
    settle(&executor);
    assert_eq!((executor.stats().live_actors, executor.stats().armed_timers), (4, 0));
    for _ in 0..2 {
        let stops = Run(|_: &mut Puppet, ctx: &mut Context<Puppet>| ctx.stop());
        answer(pool.ask(ToIndex(1), stops).unwrap()).unwrap();
    }
    within(LONG, "the second loss has its backoff", || executor.stats().armed_timers == 1);
    assert!(pool.stats().replicas[1].absent);
    assert_eq!(executor.wait_idle_timeout(ms(20)), Err(WaitError::TimedOut));
    pool.stop_now();
    shut_down(&executor);
}

/// `PanicPlace::Started` also covers functions that make an actor's state in its first turn.
#[test]
fn a_function_that_makes_a_state_panics_in_the_first_turn() {
    quiet_panics();
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(1).on_event(events.hook()));
    let directory = Directory::new(&executor, |_: &u32| -> Puppet { intended_panic() });
    assert_eq!(cause(directory.ask(&1, Note(1)).unwrap()), INTENDED);
    let dedicated = executor.spawn_dedicated(|| -> Puppet { intended_panic() }).unwrap();
    assert!(matches!(ended(&dedicated), StopReason::Panicked(_)));
    settle(&executor);
    let places: Vec<PanicPlace> = events
        .all()
        .iter()
        .filter_map(
            |event| if let Event::Panicked { place, .. } = event { Some(*place) } else { None },
        )
        .collect();
    assert_eq!(places, [PanicPlace::Started; 2]);
    shut_down(&executor);
}

/// `DirectoryStats::passivated` also counts explicit passivations.
#[test]
fn a_passivation_by_hand_is_counted() {
    let executor = crew(1);
    let directory = Directory::new(&executor, |_: &u32| Puppet::default());
    directory.tell(&1, Note(1)).unwrap();
    assert!(directory.passivate(&1));
    assert!(!directory.passivate(&1), "it was let go already");
    assert!(!directory.passivate(&2), "there is none");
    assert_eq!(directory.stats().passivated, 1);
    shut_down(&executor);
}

/// `Context::tell_self` is refused with the executor's reason once the executor has closed the
/// actor.
#[test]
fn what_a_stopping_actor_tells_itself_is_refused_with_the_reason() {
    let executor = crew(2);
    let puppet = executor.spawn(Puppet::default());
    let refused = inside(&puppet, |_, ctx| {
        ctx.stop();
        ctx.tell_self(Note(1)).unwrap_err().refusal()
    });
    assert_eq!(refused, heist::Refusal::Stopped);
    shut_down(&executor);
}

/// Rule 2: of exempt messages, answers count against the capacity for others, and due timers do
/// not.
#[test]
fn answers_count_against_the_capacity_and_due_timers_do_not() {
    let executor = crew(2);
    for answered in [true, false] {
        let keeper = Keeper::default();
        let replies = Arc::clone(&keeper.0);
        let keeper = executor.spawn(keeper);
        let puppet = executor.build(Puppet::default()).capacity(2).spawn();
        inside(&puppet, move |_, ctx| ctx.ask_then(&keeper, Question, |_, _, _| ()).unwrap());
        settle(&executor);
        let held = Held::hold(&puppet); // occupies the first of two places
        let reply = replies.lock().unwrap().pop().unwrap();
        if answered {
            reply.send(1);
        } else {
            puppet.tell_after(Duration::ZERO, Note(0)).unwrap().detach();
        }
        within(LONG, "it comes on top", || puppet.len() == 2);
        assert_eq!(puppet.tell(Note(1)).is_err(), answered);
        held.release();
        settle(&executor);
    }
    shut_down(&executor);
}
