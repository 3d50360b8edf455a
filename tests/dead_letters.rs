//! Tests that every accepted message that is not handled is counted once and reported once, on
//! every path. EventLog come one after another, even events that a hook causes itself.

mod common;

use common::*;
use heist::event::DeadLetterReason;
use heist::stats::DeadLetterCounts;
use heist::{Actor, Context, Event, Executor, Handler, Receive, Reply};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Sums up the reported dead letters by reason.
fn told(diary: &[Event]) -> DeadLetterCounts {
    let mut sum = DeadLetterCounts::default();
    for event in diary {
        if let Event::DeadLetters { reason, count, .. } = event {
            *match reason {
                DeadLetterReason::Stopped => &mut sum.stopped,
                DeadLetterReason::Killed => &mut sum.killed,
                DeadLetterReason::Panicked => &mut sum.panicked,
                DeadLetterReason::Shutdown => &mut sum.shutdown,
                DeadLetterReason::Expired => &mut sum.expired,
                DeadLetterReason::Cancelled => &mut sum.cancelled,
                DeadLetterReason::Full => &mut sum.full,
                other => panic!("a new reason: {other:?}"),
            } += count;
        }
    }
    sum
}

/// Keeps the replies of its askers.
struct Keeper(Arc<Mutex<Vec<Reply<u64>>>>);
impl Actor for Keeper {}
struct Question;
impl Receive<Question> for Keeper {
    type Reply = u64;
    fn receive(&mut self, _: Question, reply: Reply<u64>, _: &mut Context<Self>) {
        self.0.lock().unwrap().push(reply);
    }
}

/// Every path to a dead letter is taken once, and counts and events must agree.
#[test]
fn each_dead_letter_is_counted_once_and_told_once() {
    quiet_panics();
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(2).on_event(events.hook()));

    // Behind `stop_now`: 3 told and 1 asked.
    let killed = executor.spawn(Puppet::default());
    let held = Held::hold(&killed);
    (0..3).for_each(|n| killed.tell(Note(n)).unwrap());
    let ask = killed.ask(Note(3)).unwrap();
    killed.stop_now();
    held.release();
    assert!(answer(ask).is_err());
    ended(&killed);

    // Behind a panic: 2.
    let panics = executor.spawn(Puppet::default());
    let held = Held::hold(&panics);
    panics.tell(Run(|_: &mut Puppet, _: &mut Context<Puppet>| intended_panic())).unwrap();
    (0..2).for_each(|n| panics.tell(Note(n)).unwrap());
    held.release();
    ended(&panics);

    // Expired when their turn came: 2, one of them in a batch of its own kind.
    let slow = executor.spawn(Puppet::default());
    let held = Held::hold(&slow);
    let late = [
        slow.ask_deadline(Note(0), Instant::now()).unwrap(),
        slow.ask_deadline(Note(1), Instant::now()).unwrap(),
    ];
    held.release();
    late.into_iter().for_each(|ask| assert!(answer(ask).is_err()));

    // Prepaid, but after the actor's end: an answer.
    let replies = Arc::default();
    let keeper = executor.spawn(Keeper(Arc::clone(&replies)));
    let asker = executor.spawn(Puppet::default());
    let theirs = keeper.clone();
    inside(&asker, move |_, ctx| {
        ctx.ask_then(&theirs, Question, |_, _, _| unreachable!("the asker has stopped")).unwrap();
    });
    within(LONG, "it is asked", || replies.lock().unwrap().len() == 1);
    asker.stop();
    ended(&asker);
    replies.lock().unwrap().pop().unwrap().send(1);

    // Armed for an actor that ends: a timer's message.
    let timed = executor.spawn(Puppet::default());
    timed.tell_after(Duration::from_secs(3600), Note(0)).unwrap().detach();
    timed.stop();
    ended(&timed);

    settle(&executor);
    let counted = executor.stats().dead_letters;
    let mut expected = DeadLetterCounts::default();
    (expected.killed, expected.panicked, expected.expired, expected.stopped) = (4, 2, 2, 2);
    assert_eq!(counted, expected);
    assert_eq!(told(&events.all()), expected);

    // At the executor's end: 2 that wait, and all armed timers.
    let last = executor.spawn(Puppet::default());
    let held = Held::hold(&last);
    (0..2).for_each(|n| last.tell(Note(n)).unwrap());
    let handle = executor.handle();
    let end = std::thread::spawn(move || executor.shutdown_now(Duration::from_secs(LONG)).unwrap());
    within(LONG, "it is closed", || !last.is_running());
    held.release();
    let report = end.join().unwrap();
    assert!(report.complete, "{report:?}");
    assert_eq!(report.dead_letters, handle.stats().dead_letters);
    assert_eq!(told(&events.all()), report.dead_letters);
    assert_eq!(report.dead_letters.shutdown, 2);
}

/// An answer to a stopped actor is a dead letter on the thread that answers. A hook that sends the
/// next answer at each event would nest as deeply as there are answers.
#[test]
fn an_event_that_the_hook_causes_is_told_after_it_returned() {
    const ANSWERS: u64 = 20_000;
    thread_local!(static DEPTH: Cell<u32> = const { Cell::new(0) });
    let replies = Arc::new(Mutex::new(Vec::<Reply<u64>>::new()));
    let (told, deepest) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (theirs, counts) = (Arc::clone(&replies), (Arc::clone(&told), Arc::clone(&deepest)));
    let hook = move |event: &Event| {
        let Event::DeadLetters { count, .. } = event else { return };
        DEPTH.set(DEPTH.get() + 1);
        counts.1.fetch_max(DEPTH.get().into(), Relaxed);
        counts.0.fetch_add(*count, Relaxed);
        let next = theirs.lock().unwrap().pop();
        if let Some(reply) = next {
            reply.send(0); // the asker has stopped
        }
        DEPTH.set(DEPTH.get() - 1);
    };
    let executor = build(Executor::builder().workers(1).on_event(hook));
    let keeper = executor.build(Keeper(Arc::clone(&replies))).unbounded().spawn();
    let asker = executor.spawn(Puppet::default());
    let theirs = keeper.clone();
    inside(&asker, move |_, ctx| {
        for _ in 0..ANSWERS {
            ctx.ask_then(&theirs, Question, |_, _, _| unreachable!("the asker has stopped"))
                .unwrap();
        }
    });
    within(LONG, "all are asked", || replies.lock().unwrap().len() as u64 == ANSWERS);
    asker.stop();
    ended(&asker);
    let first = replies.lock().unwrap().pop().unwrap();
    first.send(0);
    assert_eq!(told.load(Relaxed), ANSWERS, "each was told");
    assert_eq!(deepest.load(Relaxed), 1, "one after the other");
    assert_eq!(executor.stats().dead_letters.stopped, ANSWERS);
    shut_down(&executor);
}

/// The guide's relay ends with its target. Otherwise the relay would ask for room again and again,
/// in vain.
#[test]
fn a_relay_ends_with_its_target() {
    use std::collections::VecDeque;
    struct Relay {
        to: heist::ActorRef<Puppet>,
        held: VecDeque<u64>,
    }
    impl Actor for Relay {}
    struct Room;
    impl Relay {
        fn pass_on(&mut self, ctx: &mut Context<Self>) {
            while let Some(n) = self.held.pop_front() {
                match self.to.tell(Note(n)) {
                    Ok(()) => {}
                    Err(full) if full.is_full() => {
                        self.held.push_front(full.into_message().0);
                        let _ = ctx.when_room(&self.to, Room); // refused if a notice is on its way already
                        return;
                    }
                    Err(_stopped) => return ctx.stop(),
                }
            }
        }
    }
    impl Handler<Note> for Relay {
        type Reply = ();
        fn handle(&mut self, Note(n): Note, ctx: &mut Context<Self>) {
            self.held.push_back(n);
            if self.held.len() == 1 {
                self.pass_on(ctx);
            }
        }
    }
    impl Handler<Room> for Relay {
        type Reply = ();
        fn handle(&mut self, _: Room, ctx: &mut Context<Self>) {
            self.pass_on(ctx);
        }
    }
    let executor = crew(2);
    let target = executor.build(Puppet::default()).capacity(1).spawn();
    let held = Held::hold(&target);
    let relay = executor.spawn(Relay { to: target.clone(), held: VecDeque::new() });
    (0..8).for_each(|n| relay.tell(Note(n)).unwrap());
    within(LONG, "it waits for room", || relay.is_empty());
    target.stop();
    held.release();
    ended(&target);
    ended(&relay);
    shut_down(&executor);
}
