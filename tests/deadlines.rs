//! Tests asks with a deadline: an expired ask is not handled, its asker is told, and the message is
//! accounted for.

mod common;

use common::*;
use heist::event::DeadLetterReason;
use heist::*;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

/// Records its handling in the log and its drop in the tokens.
struct Load(#[allow(dead_code)] Token);
impl Handler<Load> for Puppet {
    type Reply = ();
    fn handle(&mut self, _: Load, _: &mut Context<Self>) {
        self.log.push(1);
    }
}

/// The deadline passes while the messages wait.
#[test]
fn what_has_expired_before_its_turn_is_not_handled_and_its_asker_is_told() {
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(2).on_event(events.hook()));
    let (actor, tokens) = (executor.spawn(Puppet::default()), Tokens::new());
    let held = Held::hold(&actor);
    let soon = Instant::now() + Duration::from_millis(5);
    let asks: Vec<_> =
        (0..10).map(|_| actor.ask_deadline(Load(tokens.token()), soon).unwrap()).collect();
    let in_between = actor.ask(Note(5)).unwrap();
    within(LONG, "the deadline passes", || Instant::now() > soon);
    assert!(!asks[0].is_ready(), "told in its turn");
    drop(held);
    asks.into_iter().for_each(|ask| assert_eq!(answer(ask), Err(AskError::Expired)));
    assert_eq!(answer(in_between), Ok(5));
    assert_eq!(answer(actor.ask(Log).unwrap()).unwrap(), [5], "one that expired was handled");
    settle(&executor);
    let dead = executor.stats().dead_letters;
    assert_eq!((dead.expired, dead.total()), (10, 10));
    assert_eq!((executor.stats().handled, actor.stats().handled), (3, 3));
    let told = |event: &Event| {
        matches!(event, Event::DeadLetters { reason: DeadLetterReason::Expired, count: 1, .. })
    };
    assert_eq!(events.all().iter().filter(|event| told(event)).count(), 10);
    tokens.assert_each_dropped_once();
    shut_down(&executor);
}

#[test]
fn p03_every_ask_with_a_deadline_is_answered_or_expired() {
    on_every_crew(|executor| {
        let actor = executor.build(Puppet::default()).unbounded().spawn();
        let now = Instant::now();
        let asks: Vec<_> = (0..500)
            .map(|n| (n, actor.ask_deadline(Note(n), now + Duration::from_micros(n * 4)).unwrap()))
            .collect();
        let (mut answered, mut expired) = (Vec::new(), 0);
        for (n, ask) in asks {
            match answer(ask) {
                Ok(back) => {
                    assert_eq!(back, n);
                    answered.push(n);
                }
                Err(AskError::Expired) => expired += 1,
                other => panic!("{other:?}"),
            }
        }
        let log = answer(actor.ask(Log).unwrap()).unwrap();
        settle(executor);
        assert_eq!(log, answered);
        assert_eq!(executor.stats().dead_letters.expired, expired);
        assert!(expired > 0, "the first was due when it was sent");
    });
}

/// By actor reference, by `Asker`, and by an actor that does not wait.
#[test]
fn a_deadline_is_kept_by_every_way_to_ask() {
    on_every_crew(|executor| {
        let (actor, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        assert_eq!(answer(actor.ask_deadline(Note(1), far()).unwrap()), Ok(1));
        let asker: Asker<Note, u64> = actor.asker();
        assert_eq!(answer(asker.ask_deadline(Note(2), far()).unwrap()), Ok(2));
        assert_eq!(
            answer(asker.ask_deadline(Note(3), Instant::now()).unwrap()),
            Err(AskError::Expired)
        );
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (theirs, target) = (Arc::clone(&heard), actor.clone());
        let ask = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
            for (deadline, n) in [(far(), 4), (Instant::now(), 5)] {
                let heard = Arc::clone(&theirs);
                ctx.ask_then_deadline(&target, Note(n), deadline, move |_, result, _| {
                    heard.lock().unwrap().push(result)
                })
                .unwrap();
            }
        });
        answer(other.ask(ask).unwrap()).unwrap();
        settle(executor);
        assert_eq!(*heard.lock().unwrap(), [Ok(4), Err(AskError::Expired)]);
        assert_eq!(answer(actor.ask(Log).unwrap()).unwrap(), [1, 2, 4]);
    });
}

#[test]
fn a_refused_ask_hands_the_message_back() {
    let executor = crew(1);
    let actor = executor.build(Puppet::default()).capacity(1).spawn();
    settle(&executor);
    let held = Held::hold(&actor);
    let full = actor.ask_deadline(Note(1), far()).unwrap_err();
    assert_eq!((full.refusal(), full.into_message()), (Refusal::Full, Note(1)));
    drop(held);
    actor.stop();
    ended(&actor);
    let stopped = actor.ask_deadline(Note(2), Instant::now()).unwrap_err();
    assert_eq!((stopped.refusal(), stopped.into_message()), (Refusal::Stopped, Note(2)));
}

/// The actor ends first. Its end is then the reason, whatever the deadline.
#[test]
fn an_actor_that_ends_says_so_to_those_with_a_deadline() {
    let executor = crew(2);
    let (actor, tokens) = (executor.spawn(Puppet::default()), Tokens::new());
    let held = Held::hold(&actor);
    let asks =
        [far(), Instant::now()].map(|by| actor.ask_deadline(Load(tokens.token()), by).unwrap());
    actor.stop_now();
    drop(held);
    asks.into_iter().for_each(|ask| assert_eq!(answer(ask), Err(AskError::Stopped)));
    settle(&executor);
    assert_eq!(executor.stats().dead_letters.killed, 2);
    tokens.assert_each_dropped_once();
}

/// An expired message panics when dropped. Its actor fails, and the asker was told before.
#[test]
fn p06_a_panic_in_the_drop_of_what_expired_fails_its_actor_only() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            intended_panic();
        }
    }
    impl Handler<Loud> for Puppet {
        type Reply = ();
        fn handle(&mut self, loud: Loud, _: &mut Context<Self>) {
            std::mem::forget(loud);
        }
    }
    quiet_panics();
    on_every_crew(|executor| {
        let actor = executor.spawn(Puppet::default());
        let ask = actor.ask_deadline(Loud, Instant::now()).unwrap();
        assert_eq!(answer(ask), Err(AskError::Expired));
        assert!(matches!(ended(&actor), StopReason::Panicked(_)));
        settle(executor);
        assert_eq!(executor.stats().dead_letters.expired, 1);
    });
}
