//! Tests timers: never early, in the order of their instants, ahead of waiting messages;
//! cancellation; which timers keep an actor alive; the end. `intervals.rs` tests intervals.
//! `cargo bench --bench timers` measures how late timers are.

mod common;

use common::*;
use heist::timer::{IntervalMode, TimerError};
use heist::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const FAR: Duration = Duration::from_secs(3600);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Logs its handling, and counts a handling before the due instant as early.
struct At(Instant, Arc<AtomicU64>);

impl Handler<At> for Puppet {
    type Reply = ();
    fn handle(&mut self, At(due, early): At, _: &mut Context<Self>) {
        early.fetch_add(u64::from(Instant::now() < due), Relaxed);
        self.log.push(0);
    }
}

#[test]
fn a_timer_is_never_early() {
    on_every_crew(|executor| {
        let (actor, early) = (executor.spawn(Puppet::default()), Arc::new(AtomicU64::new(0)));
        let theirs = Arc::clone(&early);
        inside(&actor, move |_, ctx| {
            for micros in (0..20_000).step_by(400) {
                let delay = Duration::from_micros(micros);
                let at = At(Instant::now() + delay, Arc::clone(&theirs));
                ctx.tell_after(delay, at).unwrap().detach();
            }
        });
        for micros in (0..20_000).step_by(400) {
            let due = Instant::now() + Duration::from_micros(micros);
            actor.tell_at(due, At(due, Arc::clone(&early))).unwrap().detach();
        }
        log_of(&actor, 100);
        assert_eq!(early.load(Relaxed), 0);
    });
}

/// Timers fire by instant, whatever the order of arming. Timers of one instant fire in the order of
/// arming. Some are cancelled.
#[test]
fn timers_come_in_the_order_of_their_instants() {
    on_every_crew(|executor| {
        let actor = executor.build(Puppet::default()).unbounded().spawn();
        let (dice, start) = (Dice::new(1), Instant::now());
        let mut expected = Vec::new();
        let mut cancelled = Vec::new();
        for n in 0..2000 {
            let step = dice.below(100);
            let timer =
                actor.tell_at(start + ms(200) + Duration::from_micros(step * 10), Note(n)).unwrap();
            if dice.below(3) == 0 {
                cancelled.push(timer);
            } else {
                expected.push((step, n));
                timer.detach();
            }
        }
        let late = start.elapsed() > ms(200); // then the cancellations come too late
        for timer in cancelled {
            assert!(timer.cancel() || late);
        }
        expected.sort();
        let log = log_of(&actor, expected.len());
        if !late {
            assert_eq!(log, expected.into_iter().map(|(_, n)| n).collect::<Vec<_>>());
        }
    });
}

/// Armed from outside, by the actor itself and by another actor. A past instant is due at once.
#[test]
fn anybody_may_arm_a_timer_for_anybody() {
    on_every_crew(|executor| {
        let (one, two) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let past = Instant::now();
        one.tell_at(past, Note(1)).unwrap().detach();
        let other = two.clone();
        inside(&one, move |_, ctx| {
            ctx.tell_at(past, Note(2)).unwrap().detach();
            other.tell_after(ms(1), Note(3)).unwrap().detach();
        });
        let mut log = log_of(&one, 2);
        log.sort();
        assert_eq!(log, [1, 2]);
        assert_eq!(log_of(&two, 1), [3]);
    });
}

/// All workers sleep, one of them until a far timer is due. Then an earlier timer is armed.
#[test]
fn an_earlier_timer_wakes_a_sleeping_crew() {
    on_every_crew(|executor| {
        let actor = executor.spawn(Puppet::default());
        let _far = actor.tell_after(FAR, Note(0)).unwrap();
        for n in 1..20 {
            settle(executor);
            actor.tell_after(ms(n % 3), Note(n)).unwrap().detach();
            within(LONG, "the timer fires", || actor.stats().handled == n);
        }
    });
}

/// The handler that armed the timer runs until the timer has fired. One worker is free.
#[test]
fn a_timer_fires_beside_a_long_turn() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy));
        let busy = executor.spawn(Puppet::default());
        let other = apart_from(&executor, &busy);
        inside(&busy, move |_, _| {
            for n in 1..10 {
                let handled = other.stats().handled;
                other.tell_after(ms(n % 3), Note(n)).unwrap().detach();
                within(LONG, "the timer fires", || other.stats().handled > handled);
            }
        });
        shut_down(&executor);
    }
}

/// Sends itself a message again and again.
struct Restless {
    over: Arc<AtomicBool>,
    fired: Arc<AtomicU64>,
}

impl Actor for Restless {}

#[derive(Clone, Copy)]
struct Go;
impl Handler<Go> for Restless {
    type Reply = ();
    fn handle(&mut self, _: Go, ctx: &mut Context<Self>) {
        if !self.over.load(Relaxed) {
            ctx.me().tell(Go).unwrap();
        }
    }
}

struct Fired;
impl Handler<Fired> for Restless {
    type Reply = ();
    fn handle(&mut self, _: Fired, _: &mut Context<Self>) {
        self.fired.fetch_add(1, Relaxed);
    }
}

/// Each worker always has something to do, so that no worker ever parks or searches.
#[test]
fn p05_timers_fire_while_no_mailbox_ever_empties() {
    on_every_crew(|executor| {
        let (over, fired) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let restless = || Restless { over: Arc::clone(&over), fired: Arc::clone(&fired) };
        let actors: Vec<_> =
            (0..2 * executor.workers()).map(|_| executor.spawn(restless())).collect();
        actors.iter().for_each(|actor| (0..10).for_each(|_| actor.tell(Go).unwrap()));
        for round in 1..=5 {
            actors.iter().for_each(|actor| actor.tell_after(ms(1), Fired).unwrap().detach());
            within(LONG, "all fire", || fired.load(Relaxed) == round * actors.len() as u64);
        }
        over.store(true, Relaxed);
        settle(executor);
    });
}

#[test]
fn p02_a_due_timer_overtakes_what_waits_and_takes_turns_with_it() {
    on_every_crew(|executor| {
        let actor = executor.spawn(Puppet::default());
        let _cold = actor.tell_after(FAR, Note(0)).unwrap(); // so that the held turn knows of ticks
        let held = Held::hold(&actor);
        (1..=4).for_each(|n| drop(actor.tell(Note(n))));
        let due = Instant::now();
        [11, 12].into_iter().for_each(|n| actor.tell_at(due, Note(n)).unwrap().detach());
        if executor.workers() == 1 {
            drop(held); // only this worker could fire them: they come when the turn is over
            let log = log_of(&actor, 6);
            let ticks: Vec<_> = log.iter().filter(|&&n| n > 10).collect();
            assert_eq!(ticks, [&11, &12]);
            return;
        }
        within(LONG, "both are delivered", || actor.len() == 7);
        drop(held);
        assert_eq!(log_of(&actor, 6), [11, 1, 12, 2, 3, 4]);
    });
}

#[test]
fn p08_a_timers_message_is_exempt_from_the_capacity() {
    on_every_crew(|executor| {
        let actor = executor.build(Puppet::default()).capacity(1).spawn();
        settle(executor);
        let held = Held::hold(&actor);
        let far: Vec<_> = (0..5).map(|n| actor.tell_after(ms(1), Note(n)).unwrap()).collect();
        assert!(actor.tell(Note(9)).unwrap_err().is_full());
        if executor.workers() > 1 {
            within(LONG, "they are delivered", || actor.len() == 6);
        }
        drop(held);
        within(LONG, "they are handled", || actor.stats().handled == 6);
        far.into_iter().for_each(|timer| assert!(!timer.cancel()));
    });
}

/// Carries a token, and logs its handling.
struct Load(#[allow(dead_code)] Token);
impl Handler<Load> for Puppet {
    type Reply = ();
    fn handle(&mut self, _: Load, _: &mut Context<Self>) {
        self.log.push(1);
    }
}

#[test]
fn a_timer_is_cancelled_by_its_handle_or_its_drop_unless_detached() {
    on_every_crew(|executor| {
        let (actor, tokens) = (executor.spawn(Puppet::default()), Tokens::new());
        let arm = |delay| actor.tell_after(delay, Load(tokens.token())).unwrap();
        let (cancelled, dropped) = (arm(FAR), arm(FAR));
        assert!(cancelled.is_armed());
        assert_eq!(executor.stats().armed_timers, 2);
        assert!(cancelled.cancel());
        drop(dropped);
        assert_eq!(tokens.alive(), 0, "a message lives longer than its timer");
        assert_eq!(executor.stats().armed_timers, 0);
        arm(ms(1)).detach();
        let kept = arm(ms(2));
        log_of(&actor, 2);
        assert!(!kept.is_armed());
        assert!(!kept.cancel());
        settle(executor);
        assert_eq!(executor.stats().dead_letters.total(), 0);
        tokens.assert_each_dropped_once();
    });
}

/// Cancelled while in the mailbox after its due instant: not handled, but accounted for.
#[test]
fn p03_what_is_cancelled_after_it_was_due_is_a_dead_letter() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy));
        let (actor, tokens) = (executor.spawn(Puppet::default()), Tokens::new());
        let held = Held::hold(&actor);
        let once = actor.tell_after(ms(1), Load(tokens.token())).unwrap();
        let every = actor.tell_every(ms(1), IntervalMode::FixedRate, |_| Note(7)).unwrap();
        within(LONG, "both are delivered", || actor.len() == 3);
        assert!(once.is_armed() && every.is_armed());
        assert!(once.cancel() && every.cancel());
        drop(held);
        assert_eq!(answer(actor.ask(Log).unwrap()).unwrap(), []);
        settle(&executor);
        assert_eq!(actor.stats().handled, 1 + 1, "the hold and the look");
        let dead = executor.stats().dead_letters;
        assert_eq!((dead.cancelled, dead.total()), (2, 2));
        tokens.assert_each_dropped_once();
        shut_down(&executor);
    }
}

/// Cancelled just when due: if `cancel` returns `true`, the message is never handled.
#[test]
fn a_cancelled_timer_is_not_handled_whoever_was_quicker() {
    on_every_crew(|executor| {
        let (actor, tokens) =
            (executor.build(Puppet::default()).unbounded().spawn(), Tokens::new());
        let mut handled = 0;
        for round in 0..20 {
            let due = Instant::now() + Duration::from_micros(round * 20);
            let timers: Vec<_> =
                (0..50).map(|_| actor.tell_at(due, Load(tokens.token())).unwrap()).collect();
            while Instant::now() < due {}
            handled += timers.into_iter().map(Timer::cancel).filter(|&yes| !yes).count();
        }
        settle(executor);
        assert_eq!(answer(actor.ask(Log).unwrap()).unwrap().len(), handled);
        tokens.assert_each_dropped_once();
    });
}

#[test]
fn what_cannot_be_armed_is_an_error_with_the_message_inside() {
    let executor = crew(2);
    let actor = executor.spawn(Puppet::default());
    assert_eq!(
        actor.tell_every(ms(0), IntervalMode::FixedDelay, |_| Note(0)).unwrap_err(),
        TimerError::ZeroPeriod
    );
    let theirs = actor.clone();
    let own = inside(&actor, move |_, ctx| {
        ctx.stop();
        let after = ctx.tell_after(ms(1), Note(5)).unwrap_err();
        (
            after.refusal(),
            after.into_message(),
            ctx.tell_every(ms(1), IntervalMode::FixedRate, |_| Note(0)).unwrap_err(),
        )
    });
    assert_eq!(own, (Refusal::Stopped, Note(5), TimerError::Stopped));
    ended(&theirs);
    let error = theirs.tell_after(ms(1), Note(6)).unwrap_err();
    assert_eq!((error.refusal(), error.into_message()), (Refusal::Stopped, Note(6)));
    let never = executor.spawn(Puppet::default());
    let timers = (
        never.tell_after(Duration::MAX, Note(1)),
        never.tell_every(Duration::MAX, IntervalMode::FixedRate, |_| Note(1)),
    );
    assert!(timers.0.unwrap().is_armed() && timers.1.unwrap().is_armed());
    shut_down(&executor);
    let error = never.tell_after(ms(1), Note(7)).unwrap_err();
    assert_eq!((error.refusal(), error.into_message()), (Refusal::ShuttingDown, Note(7)));
    assert_eq!(
        never.tell_every(ms(1), IntervalMode::FixedRate, |_| Note(0)).unwrap_err(),
        TimerError::ShuttingDown
    );
}

/// Rule 6 of `docs/rules.md`: an actor's own timers keep the actor until handled. Timers that
/// others armed for the actor do not.
#[test]
fn a_timer_of_its_own_keeps_an_actor_and_anothers_does_not() {
    on_every_crew(|executor| {
        let (kept, lost) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let tokens = Tokens::new();
        let (state, load) = (tokens.token(), tokens.token());
        inside(&kept, move |puppet, ctx| {
            puppet.kept.push(Box::new(state));
            ctx.tell_after(ms(20), Load(load)).unwrap().detach();
        });
        drop(kept);
        let (weak, timer) = (lost.downgrade(), lost.tell_after(FAR, Note(0)).unwrap());
        drop(lost);
        within(LONG, "the other one ends, and the timer with it", || !timer.is_armed());
        assert!(weak.upgrade().is_none());
        within(LONG, "its own timer fires, and then it ends", || tokens.alive() == 0);
        settle(executor);
        assert_eq!(executor.stats().dead_letters.total(), 1, "what was armed for the other one");
        tokens.assert_each_dropped_once();
    });
}

/// The message was not accepted before its due instant. It is accepted when its actor ends, and
/// becomes a dead letter.
#[test]
fn p03_a_tick_for_an_actor_that_has_ended_is_a_dead_letter() {
    on_every_crew(|executor| {
        let tokens = Tokens::new();
        // Tries again if the machine was so slow that the timers came first.
        while {
            let (actor, due) = (executor.spawn(Puppet::default()), Instant::now() + ms(1000));
            actor.tell_at(due, Load(tokens.token())).unwrap().detach();
            let guarded = tokens.token();
            let make = move |_| {
                let _all_of_it = &guarded;
                Note(0)
            };
            actor.tell_every(ms(1001), IntervalMode::FixedRate, make).unwrap().detach();
            let before = executor.stats();
            actor.stop();
            ended(&actor);
            let late = Instant::now() >= due;
            assert!(late || tokens.alive() == 0, "they end with it");
            settle(executor);
            let after = executor.stats();
            assert_eq!(after.armed_timers, 0);
            assert!(late || after.accepted - before.accepted == 2);
            assert!(late || after.dead_letters.stopped - before.dead_letters.stopped == 2);
            late
        } {}
        tokens.assert_each_dropped_once();
    });
}

/// Records the thread on which it is dropped.
struct Where(Arc<Mutex<Vec<String>>>);
impl Drop for Where {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(thread::current().name().unwrap_or_default().to_string());
    }
}
impl Handler<Where> for Puppet {
    type Reply = ();
    fn handle(&mut self, _: Where, _: &mut Context<Self>) {}
}

/// Rule 10 of `docs/rules.md`: far timers do not delay a shutdown, and their messages are dropped
/// on the crew.
#[test]
fn p10_a_shutdown_cancels_all_timers_on_the_crew() {
    for policy in POLICIES {
        for workers in CREWS {
            for now in [false, true] {
                let executor = build(Executor::builder().workers(workers).policy(policy));
                let actors: Vec<_> = (0..10).map(|_| executor.spawn(Puppet::default())).collect();
                let places = Arc::new(Mutex::new(Vec::new()));
                for actor in &actors {
                    let (own, others) = (Where(Arc::clone(&places)), Where(Arc::clone(&places)));
                    let making = Where(Arc::clone(&places));
                    inside(actor, move |_, ctx| ctx.tell_after(FAR, own).unwrap().detach());
                    actor.tell_after(FAR, others).unwrap().detach();
                    let make = move |_| Note(Arc::strong_count(&making.0) as u64);
                    actor.tell_every(FAR, IntervalMode::FixedDelay, make).unwrap().detach();
                }
                let limit = Duration::from_secs(LONG);
                let end = if now { executor.shutdown_now(limit) } else { executor.shutdown(limit) };
                assert!(end.unwrap().complete);
                let places = places.lock().unwrap();
                assert_eq!(places.len(), 30);
                assert!(places.iter().all(|place| place.starts_with("heist-")), "{places:?}");
                assert_eq!(executor.stats().armed_timers, 0);
                assert_eq!(executor.stats().accepted, executor.stats().handled);
            }
        }
    }
}

/// A tick delivered before the shutdown is handled.
#[test]
fn a_shutdown_handles_the_ticks_that_wait() {
    let executor = crew(2);
    let (actor, tokens) = (executor.spawn(Puppet::default()), Tokens::new());
    let held = Held::hold(&actor);
    let timer = actor.tell_after(ms(1), Load(tokens.token())).unwrap();
    let every = actor.tell_every(ms(1), IntervalMode::FixedRate, |_| Note(0)).unwrap();
    within(LONG, "both are delivered", || actor.len() == 3);
    let release = thread::spawn({
        let handle = executor.handle();
        let actor = actor.clone();
        move || {
            // The shutdown has begun once a timer is refused.
            within(LONG, "the shutdown begins", || {
                actor.tell_after(FAR, Note(0)).is_err_and(|e| e.refusal() == Refusal::ShuttingDown)
            });
            drop((held, handle));
        }
    });
    shut_down(&executor);
    release.join().unwrap();
    assert_eq!(executor.stats().handled, 3);
    assert!(!timer.is_armed() && !timer.cancel());
    assert!(!every.is_armed() && !every.cancel());
    tokens.assert_each_dropped_once();
}

/// Arms, cancels and reads timers in its drop, which would never end under the timers' lock.
struct Nosy {
    actor: ActorRef<Puppet>,
    other: Option<Timer>,
    dropped: Arc<AtomicU64>,
}
impl Drop for Nosy {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Relaxed);
        let _refused_at_the_end = self.actor.tell_after(FAR, Note(0)).map(Timer::cancel);
        if let Some(other) = self.other.take() {
            assert!(other.is_armed() || !other.cancel());
        }
        intended_panic();
    }
}
impl Handler<Nosy> for Puppet {
    type Reply = ();
    fn handle(&mut self, nosy: Nosy, _: &mut Context<Self>) {
        std::mem::forget(nosy);
    }
}

/// Cancelled, expired, and dropped by the shutdown. The panic of a drop stays inside.
#[test]
fn p10_no_message_is_dropped_under_the_timers_lock() {
    quiet_panics();
    on_every_crew(|executor| {
        let (actor, late) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let dropped = Arc::new(AtomicU64::new(0));
        let nosy = || Nosy {
            actor: actor.clone(),
            other: Some(actor.tell_after(FAR, Note(0)).unwrap()),
            dropped: Arc::clone(&dropped),
        };
        assert!(actor.tell_after(FAR, nosy()).unwrap().cancel());
        assert_eq!(dropped.load(Relaxed), 1);
        late.tell_after(ms(1), nosy()).unwrap().detach();
        late.stop();
        within(LONG, "it comes too late, or is handled", || {
            dropped.load(Relaxed) == 2 || late.stats().handled == 1
        });
        let before = dropped.load(Relaxed);
        actor.tell_after(FAR, nosy()).unwrap().detach();
        shut_down(executor);
        assert_eq!(dropped.load(Relaxed), before + 1);
    });
}
