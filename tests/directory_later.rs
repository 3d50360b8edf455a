//! Tests delayed messages to keys: the key's actor is found or made when the timer is due, and the
//! timer keeps no actor. `timers.rs` tests timers.

mod common;

use common::*;
use heist::{Context, Directory, Executor, Handler, Refusal};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const FAR: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_millis(1);

fn puppets(executor: &Executor) -> Directory<u64, Puppet> {
    Directory::new(executor, |&key| Puppet { log: vec![key], kept: Vec::new() })
}

/// Carries a token, and logs its handling.
struct Load(#[allow(dead_code)] Token);
impl Handler<Load> for Puppet {
    type Reply = ();
    fn handle(&mut self, _: Load, _: &mut Context<Self>) {
        self.log.push(0);
    }
}

#[test]
fn the_keys_actor_is_made_when_the_timer_is_due_and_not_before() {
    on_every_crew(|executor| {
        let directory = puppets(executor);
        let far = directory.tell_after(&1, FAR, Note(4)).unwrap();
        settle(executor);
        assert!(far.is_armed() && directory.find(&1).is_none());
        assert_eq!(directory.stats().spawned, 0);
        directory.tell_after(&2, SOON, Note(5)).unwrap().detach();
        within(LONG, "the timer is due", || directory.find(&2).is_some());
        assert_eq!(log_of(&directory.get(&2), 2), [2, 5]);
        directory.tell_at(&2, Instant::now(), Note(6)).unwrap().detach();
        assert_eq!(log_of(&directory.get(&2), 3), [2, 5, 6]);
        assert!(far.cancel() && directory.find(&1).is_none());
        within(LONG, "nothing but the actor is left", || executor.stats().live_actors == 1);
    });
}

#[test]
fn an_armed_timer_keeps_no_actor() {
    on_every_crew(|executor| {
        let directory = puppets(executor);
        directory.tell(&1, Note(1)).unwrap();
        let far = directory.tell_after(&1, FAR, Note(2)).unwrap();
        directory.passivate(&1);
        within(LONG, "the actor ends", || directory.is_empty());
        assert!(far.is_armed());
    });
}

/// The first actor is stopped and cannot end yet. The message is for the next one.
#[test]
fn the_keys_next_actor_gets_what_is_due_after_a_stop() {
    let executor = crew(2);
    let directory = puppets(&executor);
    let first = directory.get(&1);
    let held = Held::hold(&first);
    first.stop();
    directory.tell_after(&1, SOON, Note(7)).unwrap().detach();
    within(LONG, "the next actor is there", || directory.find(&1).is_some());
    let next = directory.get(&1);
    assert_ne!(next, first);
    within(LONG, "the message waits", || next.len() == 1);
    drop(held);
    assert_eq!(log_of(&next, 2), [1, 7]);
}

#[test]
fn p08_a_delayed_message_is_exempt_from_the_capacity() {
    let executor = crew(2);
    let directory =
        Directory::builder(&executor).capacity(1).build(|_: &u64| Puppet::default()).unwrap();
    let actor = directory.get(&1);
    settle(&executor);
    let held = Held::hold(&actor);
    let timers: Vec<_> = (0..5).map(|n| directory.tell_after(&1, SOON, Note(n)).unwrap()).collect();
    assert!(directory.tell(&1, Note(9)).unwrap_err().is_full());
    within(LONG, "they are delivered", || actor.len() == 6);
    drop(held);
    within(LONG, "they are handled", || actor.stats().handled == 6);
    timers.into_iter().for_each(|timer| assert!(!timer.cancel()));
}

/// Until the message is handled, wherever it is.
#[test]
fn a_delayed_message_is_cancelled_by_its_handle() {
    let executor = crew(2);
    let (directory, tokens) = (puppets(&executor), Tokens::new());
    assert!(directory.tell_after(&1, FAR, Load(tokens.token())).unwrap().cancel());
    drop(directory.tell_after(&1, FAR, Load(tokens.token())).unwrap());
    tokens.assert_each_dropped_once();
    assert!(directory.is_empty());
    let actor = directory.get(&1);
    let held = Held::hold(&actor);
    let waits = directory.tell_after(&1, SOON, Load(tokens.token())).unwrap();
    within(LONG, "the message waits", || actor.len() == 2);
    assert!(waits.is_armed() && waits.cancel());
    drop(held);
    assert_eq!(answer(actor.ask(Log).unwrap()).unwrap(), [1]);
    settle(&executor);
    let dead = executor.stats().dead_letters;
    assert_eq!((dead.cancelled, dead.total()), (1, 1));
    tokens.assert_each_dropped_once();
    shut_down(&executor);
    let stats = executor.stats();
    assert_eq!(stats.accepted, stats.handled + stats.dead_letters.total());
}

/// All are armed in a turn of the one worker, so none is due before the last is armed.
#[test]
fn delayed_messages_to_a_key_come_in_the_order_of_their_instants() {
    let executor = crew(1);
    let directory = puppets(&executor);
    let theirs = directory.clone();
    inside(&executor.spawn(Puppet::default()), move |_, _| {
        let start = Instant::now() + SOON;
        for n in 0..500 {
            // Armed out of order: 7 and 500 have no common divisor.
            let n = n * 7 % 500;
            let at = start + Duration::from_micros(20 * n);
            theirs.tell_at(&1, at, Note(1000 + n)).unwrap().detach();
            theirs.tell_at(&(2 + n), at, Note(n)).unwrap().detach();
        }
    });
    let log = log_of(&directory.get(&1), 501);
    assert!(log.is_sorted(), "{log:?}");
}

/// By a thread outside and by an actor, while the executor drains, and after its end.
#[test]
fn a_delayed_message_is_refused_once_the_executor_shuts_down() {
    let executor = crew(2);
    let (directory, tokens) = (puppets(&executor), Tokens::new());
    let armed = directory.tell_after(&1, FAR, Load(tokens.token())).unwrap();
    let puppet = executor.spawn(Puppet::default());
    let (inside, go_on) = (Latch::new(), Latch::new());
    let (entered, begun, theirs) = (inside.clone(), go_on.clone(), directory.clone());
    let on_crew = puppet.ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        entered.open();
        begun.wait();
        let refused = theirs.tell_after(&1, SOON, Note(8)).unwrap_err();
        (refused.refusal(), refused.into_message())
    }));
    inside.wait();
    let shutdown = executor.shutdown_async(Duration::from_secs(LONG));
    within(LONG, "the shutdown begins, and a timer is refused", || {
        directory.tell_after(&1, FAR, Note(9)).is_err_and(|refused| {
            refused.refusal() == Refusal::ShuttingDown && refused.into_message() == Note(9)
        })
    });
    go_on.open();
    assert_eq!(answer(on_crew.unwrap()), Ok((Refusal::ShuttingDown, Note(8))));
    let report = futures::executor::block_on(shutdown).unwrap();
    assert!(report.complete, "{report:?}");
    assert!(!armed.is_armed());
    tokens.assert_each_dropped_once();
    let refused = directory.tell_at(&1, Instant::now(), Note(9)).unwrap_err();
    assert_eq!((refused.refusal(), refused.into_message()), (Refusal::ShuttingDown, Note(9)));
}

#[test]
fn p03_what_is_armed_when_the_last_handle_goes_is_a_dead_letter() {
    on_every_crew(|executor| {
        let (directory, tokens) = (puppets(executor), Tokens::new());
        let before = executor.stats().dead_letters.stopped;
        let armed = directory.tell_after(&1, FAR, Load(tokens.token())).unwrap();
        let other = directory.clone();
        drop(directory);
        settle(executor);
        assert!(armed.is_armed());
        drop(other);
        within(LONG, "no actor is left", || executor.stats().live_actors == 0);
        assert_eq!(executor.stats().dead_letters.stopped, before + 1);
        tokens.assert_each_dropped_once();
        assert!(!armed.is_armed());
    });
}

/// A key with a hash that panics, once told.
#[derive(Clone)]
struct Moody(u64, Arc<AtomicBool>);
impl PartialEq for Moody {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl Eq for Moody {}
impl Hash for Moody {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.1.load(Relaxed) {
            intended_panic()
        }
        self.0.hash(state);
    }
}

/// Panics when it is dropped, unless a panic unwinds already.
struct Bomb;
impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            intended_panic()
        }
    }
}
impl Handler<Bomb> for Puppet {
    type Reply = ();
    fn handle(&mut self, bomb: Bomb, _: &mut Context<Self>) {
        std::mem::forget(bomb);
        self.log.push(0);
    }
}

#[test]
fn p06_a_key_that_panics_costs_its_own_message_only() {
    quiet_panics();
    let executor = crew(2);
    let directory = Directory::new(&executor, |_: &Moody| Puppet::default());
    let panics = Arc::new(AtomicBool::new(true));
    let (bad, good) = (Moody(1, panics), Moody(2, Arc::default()));
    let far = directory.tell_after(&good, FAR, Note(1)).unwrap();
    directory.tell_after(&bad, SOON, Bomb).unwrap().detach();
    within(LONG, "a dead letter", || executor.stats().dead_letters.panicked == 1);
    directory.tell_after(&good, SOON, Note(2)).unwrap().detach();
    within(LONG, "the timer is due", || directory.find(&good).is_some());
    assert_eq!(log_of(&directory.get(&good), 1), [2]);
    assert!(far.is_armed());
    assert!(far.cancel());
}

/// Larger than what travels unboxed.
struct Large([u8; 100_000]);
impl Handler<Large> for Puppet {
    type Reply = ();
    fn handle(&mut self, Large(bytes): Large, _: &mut Context<Self>) {
        self.log.push(bytes[99_999].into());
    }
}

#[test]
fn a_large_message_may_be_delayed() {
    let executor = crew(1);
    let directory = puppets(&executor);
    directory.tell_after(&1, SOON, Large([3; 100_000])).unwrap().detach();
    within(LONG, "the timer is due", || directory.find(&1).is_some());
    assert_eq!(log_of(&directory.get(&1), 2), [1, 3]);
    shut_down(&executor);
    let refused = directory.tell_after(&1, SOON, Large([4; 100_000])).unwrap_err();
    assert_eq!(refused.into_message().0[0], 4);
}

/// The message waits since it was due.
#[test]
#[cfg(feature = "timing")]
fn a_delayed_message_has_an_age() {
    struct Timed(Vec<Option<Duration>>);
    impl heist::Actor for Timed {}
    impl Handler<Note> for Timed {
        type Reply = usize;
        fn handle(&mut self, _: Note, ctx: &mut Context<Self>) -> usize {
            self.0.push(ctx.message_age());
            self.0.iter().flatten().filter(|age| **age < FAR).count()
        }
    }
    let executor = build(Executor::builder().workers(2).timing(true));
    let directory = Directory::new(&executor, |_: &u64| Timed(Vec::new()));
    directory.tell_after(&1, SOON, Note(1)).unwrap().detach();
    within(LONG, "the timer is due", || directory.find(&1).is_some());
    let actor = directory.get(&1);
    within(LONG, "it is handled", || actor.stats().handled >= 1);
    assert_eq!(answer(actor.ask(Note(2)).unwrap()), Ok(2));
    within(LONG, "the turn's end", || actor.timing().unwrap().wait.count == 2);
}
