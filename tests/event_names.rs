//! Tests that each event tells of which actor and of which message it is: by name and by type.

mod common;

use common::*;
use heist::event::{DeadLetterReason, PanicPlace};
use heist::timer::IntervalMode;
use heist::{
    Actor, ActorRef, Batch, Context, Event, Executor, Handler, Receive, Reply, StopReason,
};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Panics where its field says so.
struct Fragile(&'static str);

impl Actor for Fragile {
    fn started(&mut self, _: &mut Context<Self>) {
        self.panic_in("started");
    }
    fn stopped(&mut self, _: &StopReason) {
        self.panic_in("stopped");
    }
}

impl Fragile {
    fn panic_in(&self, place: &str) {
        if self.0 == place {
            intended_panic();
        }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        self.panic_in("drop");
    }
}

/// A message that panics in its handler.
struct Small;
/// The same, too large to lie in an envelope.
struct Large([u64; 1000]);
/// A message that does not panic.
struct Quiet;

impl Handler<Small> for Fragile {
    type Reply = u32;
    fn handle(&mut self, _: Small, _: &mut Context<Self>) -> u32 {
        intended_panic()
    }
}
impl Handler<Large> for Fragile {
    type Reply = ();
    fn handle(&mut self, Large(numbers): Large, _: &mut Context<Self>) {
        assert!(numbers[999] > 0, "{INTENDED}");
    }
}
impl Handler<Quiet> for Fragile {
    type Reply = u8;
    fn handle(&mut self, _: Quiet, _: &mut Context<Self>) -> u8 {
        7
    }
}

/// Comes in batches.
struct Many;
impl Receive<Many> for Fragile {
    type Reply = ();
    const BATCH: usize = 8;
    fn receive(&mut self, many: Many, reply: Reply<()>, ctx: &mut Context<Self>) {
        self.receive_batch(Batch::of_one(many, reply), ctx);
    }
    fn receive_batch(&mut self, batch: Batch<'_, Many, ()>, _: &mut Context<Self>) {
        assert!(batch.count() == 0, "{INTENDED}");
    }
}

/// Panics when it is dropped unhandled.
struct Explosive;
impl Handler<Explosive> for Fragile {
    type Reply = ();
    fn handle(&mut self, explosive: Explosive, _: &mut Context<Self>) {
        std::mem::forget(explosive);
    }
}
impl Drop for Explosive {
    fn drop(&mut self) {
        intended_panic()
    }
}

/// Lets the actor send something inside its turn.
struct Do<F>(F);
impl<F: FnOnce(&mut Context<Fragile>) + Send + 'static> Handler<Do<F>> for Fragile {
    type Reply = ();
    fn handle(&mut self, Do(f): Do<F>, ctx: &mut Context<Self>) {
        f(ctx);
    }
}

fn begin(executor: &Executor, panics_in: &'static str) -> ActorRef<Fragile> {
    executor.build(Fragile(panics_in)).name("glass").spawn()
}

/// Returns the last part of a type's path.
fn short(type_name: &str) -> &str {
    let path = type_name.split('<').next().unwrap();
    path.rsplit("::").next().unwrap()
}

/// The one panic that the hook was told of: place and message, after a check of the rest.
fn panic_told(events: &EventLog, actor: heist::ActorId) -> (PanicPlace, Option<String>) {
    let all = events.all();
    let mut panics = all.iter().filter_map(|event| match event {
        Event::Panicked { actor: who, name, type_name, message_type, place, text, .. }
            if *who == actor =>
        {
            assert_eq!((name.as_deref(), short(type_name)), (Some("glass"), "Fragile"), "{event}");
            assert_eq!(text.as_str(), INTENDED);
            Some((*place, message_type.map(|message| short(message).to_string())))
        }
        _ => None,
    });
    let told = panics.next().expect("a panic is told");
    assert_eq!(panics.next(), None, "one panic is told once: {all:?}");
    told
}

/// Spawns an actor, makes it panic, and compares what the hook is told.
#[track_caller]
fn check(
    timing: bool,
    panics_in: &'static str,
    acts: impl FnOnce(&ActorRef<Fragile>),
    place: PanicPlace,
    message: Option<&str>,
) {
    let events = EventLog::new();
    let builder = Executor::builder().workers(2).on_event(events.hook());
    #[cfg(feature = "timing")]
    let builder = builder.timing(timing);
    let _ = timing;
    let executor = build(builder);
    let actor = begin(&executor, panics_in);
    acts(&actor);
    ended(&actor);
    assert_eq!(panic_told(&events, actor.id()), (place, message.map(str::to_string)));
    shut_down(&executor);
}

/// Each way of a message to its handler: the panic names the message.
#[test]
fn a_panic_in_a_handler_names_the_message() {
    quiet_panics();
    type Act = fn(&ActorRef<Fragile>);
    let acts: &[(Act, &str)] = &[
        (|to| to.tell(Small).unwrap(), "Small"),
        (|to| to.tell(Large([0; 1000])).unwrap(), "Large"),
        (|to| drop(to.ask(Small).unwrap()), "Small"),
        (|to| drop(to.ask_deadline(Small, far()).unwrap()), "Small"),
        (|to| to.tell(Many).unwrap(), "Many"),
        (|to| drop(to.ask(Many).unwrap()), "Many"),
        (|to| to.tell_after(Duration::ZERO, Small).unwrap().detach(), "Small"),
        (|to| to.tell_after(Duration::ZERO, Many).unwrap().detach(), "Many"),
        (
            |to| {
                let every =
                    to.tell_every(Duration::from_millis(1), IntervalMode::FixedRate, |_| Small);
                every.unwrap().detach();
            },
            "Small",
        ),
        (
            |to| to.tell(Do(|ctx: &mut Context<Fragile>| ctx.tell_self(Small).unwrap())).unwrap(),
            "Small",
        ),
        (
            |to| to.tell(Do(|ctx: &mut Context<Fragile>| ctx.tell_self(Many).unwrap())).unwrap(),
            "Many",
        ),
        // The answer's type, where no message is in hand.
        (
            |to| {
                let asks = Do(|ctx: &mut Context<Fragile>| {
                    let me = ctx.me().clone();
                    ctx.ask_then(&me, Quiet, |_, _, _| intended_panic()).unwrap();
                });
                to.tell(asks).unwrap();
            },
            "u8",
        ),
        // An ask with another actor's callback: the asked one panics.
        (
            |to| {
                let asks = Do(|ctx: &mut Context<Fragile>| {
                    let me = ctx.me().clone();
                    ctx.ask_then(&me, Small, |_, _, _| ()).unwrap();
                });
                to.tell(asks).unwrap();
            },
            "Small",
        ),
        // A message before it does not give its name to the panic.
        (
            |to| {
                to.tell(Quiet).unwrap();
                to.tell(Small).unwrap();
            },
            "Small",
        ),
    ];
    for (act, message) in acts {
        for timing in [false, true] {
            check(timing, "", act, PanicPlace::Handler, Some(message));
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(LONG)
}

/// A message in a slot of a segment comes behind a backlog.
#[test]
fn a_panic_behind_a_backlog_names_the_message() {
    quiet_panics();
    let held = |to: &ActorRef<Fragile>| {
        let (entered, until) = (Latch::new(), Latch::new());
        let (inside, waits) = (entered.clone(), until.clone());
        to.tell(Do(move |_: &mut Context<Fragile>| {
            inside.open();
            waits.wait();
        }))
        .unwrap();
        entered.wait();
        (0..100).for_each(|_| to.tell(Quiet).unwrap());
        (0..2).for_each(|_| to.tell(Small).unwrap());
        until.open();
    };
    check(false, "", held, PanicPlace::Handler, Some("Small"));
}

/// Hooks and the drop of the state: no message is named, not even the one of a panic before.
#[test]
fn a_panic_in_a_hook_names_the_actor() {
    quiet_panics();
    let stop = |to: &ActorRef<Fragile>| to.stop();
    let nothing = |_: &ActorRef<Fragile>| ();
    check(false, "started", nothing, PanicPlace::Started, None);
    check(false, "stopped", stop, PanicPlace::Stopped, None);
    check(false, "drop", stop, PanicPlace::StateDrop, None);

    let events = EventLog::new();
    let executor = build(Executor::builder().workers(1).on_event(events.hook()));
    let actor = begin(&executor, "drop");
    actor.tell(Small).unwrap();
    ended(&actor);
    let told: Vec<_> = events
        .all()
        .into_iter()
        .map(|event| match event {
            Event::Panicked { place, message_type, .. } => (place, message_type.map(short)),
            other => panic!("{other}"),
        })
        .collect();
    let expected = [(PanicPlace::Handler, Some("Small")), (PanicPlace::StateDrop, None)];
    assert_eq!(told, expected);
    // Another actor's hook on the same worker, after that.
    let next = begin(&executor, "started");
    ended(&next);
    assert_eq!(panic_told(&events, next.id()), (PanicPlace::Started, None));
    shut_down(&executor);
}

/// The drop of a message, unhandled or expired.
#[test]
fn a_panic_in_the_drop_of_a_message_names_it() {
    quiet_panics();
    let left = |to: &ActorRef<Fragile>| {
        let me = to.clone();
        to.tell(Do(move |_: &mut Context<Fragile>| {
            me.tell(Explosive).unwrap();
            me.stop_now();
        }))
        .unwrap();
    };
    check(false, "", left, PanicPlace::MessageDrop, Some("Explosive"));
    let late = |to: &ActorRef<Fragile>| drop(to.ask_deadline(Explosive, Instant::now()).unwrap());
    check(false, "", late, PanicPlace::Handler, Some("Explosive"));
}

type Letters = Vec<(DeadLetterReason, String, u64)>;

/// The dead letters told, in order.
fn letters(events: &EventLog) -> Letters {
    let letter = |event| match event {
        Event::DeadLetters { name, type_name, message_type, reason, count, .. } => {
            assert_eq!((name.as_deref(), short(type_name)), (Some("glass"), "Fragile"));
            Some((reason, short(message_type).to_string(), count))
        }
        _ => None,
    };
    events.all().into_iter().filter_map(letter).collect()
}

/// Leftovers are told by type, for each way in which an actor ends.
#[test]
fn leftovers_are_told_by_type() {
    quiet_panics();
    let reasons =
        [DeadLetterReason::Killed, DeadLetterReason::Panicked, DeadLetterReason::Shutdown];
    for reason in reasons {
        let events = EventLog::new();
        let executor = build(Executor::builder().workers(2).on_event(events.hook()));
        let actor = begin(&executor, "");
        let (entered, until) = (Latch::new(), Latch::new());
        let (inside, waits) = (entered.clone(), until.clone());
        actor
            .tell(Do(move |_: &mut Context<Fragile>| {
                inside.open();
                waits.wait();
                if reason == DeadLetterReason::Panicked {
                    intended_panic();
                }
            }))
            .unwrap();
        entered.wait();
        for _ in 0..3 {
            actor.tell(Small).unwrap();
            drop(actor.ask(Quiet).unwrap());
        }
        actor.tell(Many).unwrap();
        match reason {
            DeadLetterReason::Killed => actor.stop_now(),
            DeadLetterReason::Shutdown => {
                std::thread::scope(|scope| {
                    scope.spawn(|| executor.shutdown_now(Duration::from_secs(LONG)).unwrap());
                    within(LONG, "it is closed", || !actor.is_running());
                    until.open();
                });
            }
            _ => {}
        }
        until.open();
        ended(&actor);
        let kinds = [("Small", 3), ("Quiet", 3), ("Many", 1)];
        let expected: Letters =
            kinds.into_iter().map(|(kind, count)| (reason, kind.to_string(), count)).collect();
        assert_eq!(letters(&events), expected);
        shut_down_if_open(&executor, reason);
    }
}

fn shut_down_if_open(executor: &Executor, reason: DeadLetterReason) {
    if reason != DeadLetterReason::Shutdown {
        shut_down(executor);
    }
}

/// One of many types: `N` tells them apart.
struct Kind<const N: usize>;
impl<const N: usize> Handler<Kind<N>> for Fragile {
    type Reply = ();
    fn handle(&mut self, _: Kind<N>, _: &mut Context<Self>) {}
}

/// More types than are counted at the same time: each message is told once all the same.
#[test]
fn leftovers_of_many_types_are_each_told() {
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(1).on_event(events.hook()));
    let actor = begin(&executor, "");
    let me = actor.clone();
    actor
        .tell(Do(move |_: &mut Context<Fragile>| {
            fn all(to: &ActorRef<Fragile>) {
                to.tell(Kind::<0>).unwrap();
                to.tell(Kind::<1>).unwrap();
                to.tell(Kind::<2>).unwrap();
                to.tell(Kind::<3>).unwrap();
                to.tell(Kind::<4>).unwrap();
                to.tell(Kind::<5>).unwrap();
                to.tell(Kind::<6>).unwrap();
                to.tell(Kind::<7>).unwrap();
                to.tell(Kind::<8>).unwrap();
                to.tell(Kind::<9>).unwrap();
            }
            (0..7).for_each(|_| all(&me));
            me.stop_now();
        }))
        .unwrap();
    drop(actor);
    settle(&executor);
    let mut counts = [0; 10];
    for event in events.all() {
        let Event::DeadLetters { message_type, count, .. } = event else { panic!("{event}") };
        let (_, number) = message_type.split_once('<').expect("a number");
        counts[number.trim_end_matches('>').parse::<usize>().unwrap()] += count;
    }
    assert_eq!(counts, [7; 10]);
    assert_eq!(executor.stats().dead_letters.killed, 70);
    shut_down(&executor);
}

/// Dead letters one by one: expired, cancelled, and sent to a stopped actor.
#[test]
fn a_single_dead_letter_names_its_message() {
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(2).on_event(events.hook()));
    let actor = begin(&executor, "");
    let mut expected = Letters::new();
    let mut expect = |reason, message: &str| {
        expected.push((reason, message.to_string(), 1));
        settle(&executor);
        assert_eq!(letters(&events), expected);
    };

    drop(actor.ask_deadline(Quiet, Instant::now()).unwrap());
    expect(DeadLetterReason::Expired, "Quiet");
    drop(actor.ask_deadline(Many, Instant::now()).unwrap());
    expect(DeadLetterReason::Expired, "Many");

    // Due, and cancelled before the turn comes to it.
    for every in [false, true] {
        let me = actor.clone();
        let cancels = Do(move |_: &mut Context<Fragile>| {
            let timer = if every {
                let made = |_: heist::timer::Tick| Quiet;
                me.tell_every(Duration::from_millis(1), IntervalMode::FixedRate, made).unwrap()
            } else {
                me.tell_after(Duration::ZERO, Large([0; 1000])).unwrap()
            };
            // Due when it waits in the mailbox, beside the message in hand.
            within(LONG, "it is due", || me.len() > 1);
            assert!(timer.cancel());
        });
        actor.tell(cancels).unwrap();
        expect(DeadLetterReason::Cancelled, if every { "Quiet" } else { "Large" });
    }

    // An answer to an actor that has stopped; a timer that is armed for it.
    struct Keeper(Arc<Mutex<Vec<Reply<u16>>>>);
    impl Actor for Keeper {}
    impl Receive<Small> for Keeper {
        type Reply = u16;
        fn receive(&mut self, _: Small, reply: Reply<u16>, _: &mut Context<Self>) {
            self.0.lock().unwrap().push(reply);
        }
    }
    let replies = Arc::default();
    let keeper = executor.spawn(Keeper(Arc::clone(&replies)));
    let asks = Do(move |ctx: &mut Context<Fragile>| {
        ctx.ask_then(&keeper, Small, |_, _, _| unreachable!("it has stopped")).unwrap();
    });
    actor.tell(asks).unwrap();
    within(LONG, "it is asked", || replies.lock().unwrap().len() == 1);
    actor.tell_after(Duration::from_secs(3600), Large([0; 1000])).unwrap().detach();
    actor.stop();
    ended(&actor);
    expect(DeadLetterReason::Stopped, "Large");
    replies.lock().unwrap().pop().unwrap().send(1);
    expect(DeadLetterReason::Stopped, "u16");
    shut_down(&executor);
}

/// A stuck actor, in the event and in the report.
#[test]
fn a_stuck_actor_is_named() {
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(1).on_event(events.hook()));
    let (actor, entered, until) = (begin(&executor, ""), Latch::new(), Latch::new());
    let (inside, waits) = (entered.clone(), until.clone());
    actor
        .tell(Do(move |_: &mut Context<Fragile>| {
            inside.open();
            waits.wait();
        }))
        .unwrap();
    entered.wait();
    let report = executor.shutdown_now(Duration::from_millis(10)).unwrap();
    assert_eq!(report.unfinished[0].name.as_deref(), Some("glass"));
    assert!(report.unfinished[0].to_string().starts_with("glass ("));
    let stuck = |event: &Event| {
        matches!(event, Event::Stuck { name: Some(name), type_name, .. }
        if &**name == "glass" && short(type_name) == "Fragile")
    };
    within(LONG, "it is told", || events.all().iter().any(stuck));
    until.open();
    ended(&actor);
}

/// A replaced replica is told with its name, and its panic with the message.
#[cfg(feature = "pool")]
#[test]
fn a_replaced_replica_is_named() {
    quiet_panics();
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(1).on_event(events.hook()));
    let pool = executor.pool(1, |_| Fragile("")).name("glass").build().unwrap();
    pool.tell(heist::strategy::ToIndex(0), Small).unwrap();
    settle(&executor);
    let told: Vec<_> = events.all();
    assert!(
        matches!(&told[..], [
            Event::Panicked { name: Some(first), message_type: Some(message), .. },
            Event::Replaced { name: Some(second), type_name, .. },
        ] if &**first == "glass-0" && first == second && short(message) == "Small"
            && short(type_name) == "Fragile"),
        "{told:?}"
    );
    shut_down(&executor);
}

/// The text of an event says all of it.
#[test]
fn the_text_of_an_event_names_actor_and_message() {
    quiet_panics();
    let events = EventLog::new();
    let executor = build(Executor::builder().workers(1).on_event(events.hook()));
    let actor = begin(&executor, "");
    let me = actor.clone();
    let fails = Do(move |ctx: &mut Context<Fragile>| {
        me.tell(Small).unwrap();
        ctx.me().tell(Quiet).unwrap();
    });
    actor.tell(fails).unwrap();
    ended(&actor);
    let id = actor.id();
    let texts: Vec<_> = events.all().iter().map(ToString::to_string).collect();
    let expected = [
        format!(
            "actor glass (event_names::Fragile {id}) panicked in its handler of \
             event_names::Small: intended"
        ),
        format!(
            "messages of event_names::Quiet to actor glass (event_names::Fragile {id}) not \
             handled: 1, the actor had panicked"
        ),
    ];
    assert_eq!(texts, expected);
    shut_down(&executor);
}
