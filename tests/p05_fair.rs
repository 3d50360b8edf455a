//! Tests P5, fair: a turn ends at its budget of messages and of time. Outside work is not starved
//! by inside work, a cold actor not by hot ones, and no actor by a pair that only talks to each
//! other. All waits are counted in messages instead of time.

mod common;

use common::*;
#[cfg(feature = "pool")]
use heist::strategy::SharedQueue;
use heist::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The most turns that a worker takes between two looks at outside work.
const TURNS_TO_OUTSIDE: u64 = 256;

/// Shared by all actors of a test: the number of messages handled by hot actors, and whether the
/// test is over.
#[derive(Default)]
struct Heat {
    handled: AtomicU64,
    over: AtomicBool,
}

/// An actor with a mailbox that is never empty.
struct Hot {
    heat: Arc<Heat>,
    /// `true` for `tell_self`, `false` for a message to itself, `None` for a message to the
    /// partner.
    again: Option<bool>,
    partner: Option<ActorRef<Hot>>,
}

#[derive(Clone, Copy)]
struct Go;
struct Partner(Option<ActorRef<Hot>>);

impl Actor for Hot {}

impl Handler<Go> for Hot {
    type Reply = ();
    fn handle(&mut self, _: Go, ctx: &mut Context<Self>) {
        self.heat.handled.fetch_add(1, Relaxed);
        if self.heat.over.load(Relaxed) {
            return;
        }
        match self.again {
            Some(true) => ctx.tell_self(Go).unwrap(),
            Some(false) => ctx.me().tell(Go).unwrap(),
            None => self.partner.as_ref().unwrap().tell(Go).unwrap(),
        }
    }
}

impl Handler<Partner> for Hot {
    type Reply = ();
    fn handle(&mut self, Partner(partner): Partner, _: &mut Context<Self>) {
        self.partner = partner;
    }
}

fn hot(executor: &Executor, heat: &Arc<Heat>, again: bool) -> ActorRef<Hot> {
    executor.spawn(Hot { heat: Arc::clone(heat), again: Some(again), partner: None })
}

fn every_small_crew(test: impl Fn(&Executor)) {
    for policy in POLICIES {
        for workers in [1, 2] {
            let executor = build(Executor::builder().workers(workers).policy(policy));
            test(&executor);
            shut_down(&executor);
        }
    }
}

/// One actor that never rests for each worker and one more, and a thousand questions from outside.
#[test]
fn p05_outside_asks_are_answered_beside_actors_that_never_rest() {
    on_every_crew(|executor| {
        for again in [true, false] {
            let heat = Arc::new(Heat::default());
            let hots: Vec<_> =
                (0..executor.workers() + 1).map(|_| hot(executor, &heat, again)).collect();
            hots.iter().for_each(|hot| hot.tell(Go).unwrap());
            let actors: Vec<_> = (0..10).map(|_| executor.spawn(Puppet::default())).collect();
            for n in 0..100 {
                let asks: Vec<_> = actors.iter().map(|actor| actor.ask(Note(n)).unwrap()).collect();
                asks.into_iter().for_each(|ask| assert_eq!(answer(ask), Ok(n)));
            }
            assert!(heat.handled.load(Relaxed) > 0);
            heat.over.store(true, Relaxed);
            settle(executor);
        }
    });
}

/// Prepares the actors while the only worker is held. Returns the number of messages handled by hot
/// actors before the cold one.
fn before_the_cold_one(
    executor: &Executor,
    prepare: impl FnOnce(&Arc<Heat>) -> Vec<ActorRef<Hot>>,
) -> u64 {
    assert_eq!(executor.workers(), 1);
    let heat = Arc::new(Heat::default());
    let (holder, cold) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let _hots = prepare(&heat);
    within(LONG, "the hot ones to be hot", || heat.handled.load(Relaxed) > 1000);
    // From here to `drop(held)` nothing else runs.
    let held = Held::hold(&holder);
    let (before, seen) = (heat.handled.load(Relaxed), Arc::clone(&heat));
    let look = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        seen.over.store(true, Relaxed);
        seen.handled.load(Relaxed) - before
    });
    let ask = cold.ask(look).unwrap();
    drop(held);
    answer(ask).unwrap()
}

/// Bounds the wait in messages: one round of the queue, and the turns until the worker looks
/// outside.
#[test]
fn p05_a_cold_actor_waits_for_a_bounded_number_of_hot_turns() {
    const HOTS: u64 = 50;
    for policy in POLICIES {
        for again in [true, false] {
            let executor = build(Executor::builder().workers(1).policy(policy));
            let waited = before_the_cold_one(&executor, |heat| {
                let hots: Vec<_> = (0..HOTS).map(|_| hot(&executor, heat, again)).collect();
                hots.iter().for_each(|hot| hot.tell(Go).unwrap());
                hots
            });
            // One message a turn, because a self-sender's turn ends with the messages that waited
            // when it began.
            let bound = TURNS_TO_OUTSIDE + HOTS + 1;
            assert!(waited <= bound, "{waited} turns of hot actors went first under {policy:?}");
            shut_down(&executor);
        }
    }
}

/// A flood in one mailbox is cut into turns, and a cold actor gets its turn in between.
#[test]
fn p05_a_flooded_actor_does_not_keep_a_cold_one_waiting() {
    for policy in POLICIES {
        let executor =
            build(Executor::builder().workers(1).policy(policy).budget_messages(10).unbounded());
        let holder = executor.spawn(Puppet::default());
        let (flooded, cold) =
            (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        settle(&executor);
        let held = Held::hold(&holder);
        let handled = Arc::new(AtomicU64::new(0));
        for _ in 0..10_000 {
            let handled = Arc::clone(&handled);
            let count =
                move |_: &mut Puppet, _: &mut Context<Puppet>| handled.fetch_add(1, Relaxed);
            flooded.tell(Run(count)).unwrap();
        }
        let look = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| handled.load(Relaxed));
        let ask = cold.ask(look).unwrap();
        drop(held);
        let first = answer(ask).unwrap();
        assert!(
            first <= 10 * (TURNS_TO_OUTSIDE + 2),
            "{first} messages went first under {policy:?}"
        );
        shut_down(&executor);
    }
}

/// Returns how many messages of the first actor are handled before the second of two queued actors
/// gets its turn.
fn messages_before_the_second(
    executor: &Executor,
    first: SpawnBuilder<'_, Puppet>,
    each: Duration,
) -> u64 {
    let (first, spawn) = (first.spawn(), || executor.spawn(Puppet::default()));
    let (source, second, last) = (spawn(), spawn(), spawn());
    settle(executor);
    let handled = Arc::new(AtomicU64::new(0));
    let line_up = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        for _ in 0..500 {
            let handled = Arc::clone(&handled);
            let work = move |_: &mut Puppet, _: &mut Context<Puppet>| {
                let start = Instant::now();
                while start.elapsed() < each {
                    std::hint::spin_loop();
                }
                handled.fetch_add(1, Relaxed);
            };
            first.tell(Run(work)).unwrap();
        }
        let look = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| handled.load(Relaxed));
        let ask = second.ask(look).unwrap();
        // Takes the LIFO slot, so that the two actors stand in the queue one behind the other.
        last.tell(Note(0)).unwrap();
        ask
    });
    answer(answer(source.ask(line_up).unwrap()).unwrap()).unwrap()
}

#[test]
fn p05_a_turn_ends_at_its_budget_of_messages() {
    let ample = Duration::from_secs(LONG);
    for policy in POLICIES {
        // The crew's budget, then the actor's own.
        let crew = Executor::builder().workers(1).policy(policy).budget_time(ample);
        let executor = build(crew.budget_messages(7));
        let first = executor.build(Puppet::default());
        assert_eq!(messages_before_the_second(&executor, first, Duration::ZERO), 7, "{policy:?}");
        let first = executor.build(Puppet::default()).budget_messages(3);
        assert_eq!(messages_before_the_second(&executor, first, Duration::ZERO), 3, "{policy:?}");
        shut_down(&executor);
    }
}

/// The clock is read only now and then. A turn may therefore overshoot by the messages of a few
/// readings, but not by the whole mailbox.
#[test]
fn p05_a_turn_ends_at_its_budget_of_time() {
    const LOOKS: u64 = 3 * 16;
    let message = Duration::from_micros(200);
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(1).policy(policy).budget_time(message));
        let first = executor.build(Puppet::default());
        let by_crew = messages_before_the_second(&executor, first, message);
        assert!(by_crew <= LOOKS, "{by_crew} messages in a turn of one message's time, {policy:?}");
        shut_down(&executor);

        let executor = build(
            Executor::builder().workers(1).policy(policy).budget_time(Duration::from_secs(LONG)),
        );
        let first = executor.build(Puppet::default()).budget_time(message);
        let by_actor = messages_before_the_second(&executor, first, message);
        assert!(
            by_actor <= LOOKS,
            "{by_actor} messages in a turn of one message's time, {policy:?}"
        );
        shut_down(&executor);
    }
}

/// A turn handles no more than waited when it began, whatever its budget, so that a self-sender
/// cannot keep its worker.
#[test]
fn p05_a_self_senders_turn_ends() {
    every_small_crew(|executor| {
        for again in [true, false] {
            let heat = Arc::new(Heat::default());
            let turns = || executor.stats().workers.iter().map(|worker| worker.turns).sum::<u64>();
            let hot = hot(executor, &heat, again);
            settle(executor);
            let before = turns();
            hot.tell(Go).unwrap();
            within(LONG, "some messages", || heat.handled.load(Relaxed) >= 1000);
            heat.over.store(true, Relaxed);
            settle(executor);
            assert_eq!(turns() - before, heat.handled.load(Relaxed), "one message, one turn");
        }
    });
}

/// Two actors that only talk to each other, through the LIFO slot.
fn ping_pong(executor: &Executor, heat: &Arc<Heat>) -> Vec<ActorRef<Hot>> {
    let spawn = |()| executor.spawn(Hot { heat: Arc::clone(heat), again: None, partner: None });
    let pair = [(); 2].map(spawn);
    pair[0].tell(Partner(Some(pair[1].clone()))).unwrap();
    pair[1].tell(Partner(Some(pair[0].clone()))).unwrap();
    pair[0].tell(Go).unwrap();
    pair.into()
}

/// A third actor waits in the local queue, and a fourth outside.
#[test]
fn p05_a_ping_pong_pair_does_not_starve_the_others() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(1).policy(policy));
        let (of_pair, of_third) = (Arc::new(Heat::default()), Arc::new(Heat::default()));
        let pair = ping_pong(&executor, &of_pair);
        let third = hot(&executor, &of_third, true);
        third.tell(Go).unwrap();
        within(LONG, "turns of the third one", || of_third.handled.load(Relaxed) >= 1000);
        let outsider = executor.spawn(Puppet::default());
        assert_eq!(answer(outsider.ask(Note(1)).unwrap()), Ok(1));
        of_pair.over.store(true, Relaxed);
        of_third.over.store(true, Relaxed);
        settle(&executor);
        pair.iter().for_each(|actor| actor.tell(Partner(None)).unwrap()); // the two keep each other alive
        shut_down(&executor);
    }
}

/// The same, counted: only a bounded run of the pair in the LIFO slot goes before work in the local
/// queue.
#[test]
fn p05_the_lifo_slot_is_left_after_a_bounded_run() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(1).policy(policy));
        let waited = before_the_cold_one(&executor, |heat| ping_pong(&executor, heat));
        assert!(
            waited <= TURNS_TO_OUTSIDE + 32,
            "{waited} turns of the pair went first under {policy:?}"
        );
        shut_down(&executor);
    }
}

/// Answers with the number of hot messages handled since its last turn, and stays in its turn until
/// it has been asked again.
struct Desk {
    heat: Arc<Heat>,
    asked: Arc<AtomicU64>,
    /// Hot messages handled at the end of the last turn.
    before: u64,
}

impl Actor for Desk {}

struct Question(u64);

impl Receive<Question> for Desk {
    type Reply = u64;
    fn receive(&mut self, Question(n): Question, reply: Reply<u64>, _: &mut Context<Self>) {
        let now = self.heat.handled.load(Relaxed);
        reply.send(now - self.before);
        within(LONG, "the next question", || self.asked.load(Acquire) > n);
        self.before = now;
    }
}

/// A thread outside that asks again at the moment of its answer finds the actor in its turn. Its
/// message still is outside work, and does not wait for a round of the local queue.
#[test]
fn p05_an_outside_thread_that_asks_again_at_once_does_not_wait_behind_all_local_work() {
    const ASKS: u64 = 20;
    for policy in [Policy::Stealing, Policy::Sharded] {
        let executor = build(Executor::builder().workers(1).policy(policy));
        let (heat, asked) = (Arc::new(Heat::default()), Arc::new(AtomicU64::new(0)));
        let _hots = many_hot(&executor, &heat);
        let desk =
            executor.spawn(Desk { heat: Arc::clone(&heat), asked: Arc::clone(&asked), before: 0 });
        let mut waited = Vec::new();
        let mut ask = desk.ask(Question(0)).unwrap();
        for n in 1..=ASKS {
            waited.push(answer(ask).unwrap());
            ask = desk.ask(Question(n)).unwrap();
            asked.store(n, Release);
        }
        asked.store(u64::MAX, Release);
        answer(ask).unwrap();
        heat.over.store(true, Relaxed);
        // The first question has waited since its start.
        let most = waited[1..].iter().max().unwrap();
        assert!(*most <= 2 * TURNS_TO_OUTSIDE, "{most} hot turns went first under {policy:?}");
        shut_down(&executor);
    }
}

/// Notes the number of hot messages handled before each message.
struct Noting {
    heat: Arc<Heat>,
    notes: Arc<Mutex<Vec<u64>>>,
}

impl Actor for Noting {}

impl Handler<Work> for Noting {
    type Reply = u64;
    fn handle(&mut self, _: Work, _: &mut Context<Self>) -> u64 {
        self.notes.lock().unwrap().push(self.heat.handled.load(Relaxed));
        0
    }
}

/// More hot actors than outside work may wait for.
const HOTS: u64 = 5000;

fn many_hot(executor: &Executor, heat: &Arc<Heat>) -> Vec<ActorRef<Hot>> {
    let hots: Vec<_> = (0..HOTS).map(|_| hot(executor, heat, true)).collect();
    hots.iter().for_each(|hot| hot.tell(Go).unwrap());
    within(LONG, "the hot ones to be hot", || heat.handled.load(Relaxed) > 4 * HOTS);
    hots
}

/// Messages from outside for several actors come during one turn. Each has its share of the turns,
/// and none waits for a round of the local queue.
#[test]
fn p05_outside_messages_that_come_together_do_not_wait_behind_all_local_work() {
    const DESKS: u64 = 8;
    let executor = crew(1);
    let (heat, notes) = (Arc::new(Heat::default()), Arc::default());
    let holder = executor.spawn(Puppet::default());
    let spawn = |_| executor.spawn(Noting { heat: Arc::clone(&heat), notes: Arc::clone(&notes) });
    let desks: Vec<_> = (0..DESKS).map(spawn).collect();
    let hots = many_hot(&executor, &heat);
    let held = Held::hold(&holder);
    let before = heat.handled.load(Relaxed);
    desks.iter().for_each(|desk| desk.tell(Work).unwrap());
    drop(held);
    within(LONG, "the messages", || notes.lock().unwrap().len() as u64 == DESKS);
    heat.over.store(true, Relaxed);
    let waited: Vec<_> = notes.lock().unwrap().iter().map(|now| now - before).collect();
    assert!(
        waited[DESKS as usize - 1] <= (DESKS + 1) * TURNS_TO_OUTSIDE,
        "hot turns first: {waited:?}"
    );
    drop(hots);
    shut_down(&executor);
}

/// Returns the median number of hot messages between two of the noted messages.
fn median_between(notes: &Mutex<Vec<u64>>) -> u64 {
    let notes = notes.lock().unwrap();
    let mut between: Vec<_> = notes.windows(2).map(|pair| pair[1] - pair[0]).collect();
    between.sort_unstable();
    between[between.len() / 2]
}

/// A thread outside waits for room each time, so its message comes into the mailbox in a turn.
#[test]
fn p05_an_outside_thread_that_waits_for_room_does_not_wait_behind_all_local_work() {
    let executor = crew(1);
    let (heat, notes) = (Arc::new(Heat::default()), Arc::default());
    let noting = Noting { heat: Arc::clone(&heat), notes: Arc::clone(&notes) };
    let desk = executor.build(noting).capacity(1).spawn();
    let hots = many_hot(&executor, &heat);
    (0..40).for_each(|_| desk.send(Work).unwrap());
    heat.over.store(true, Relaxed);
    let waited = median_between(&notes);
    assert!(waited <= 2 * TURNS_TO_OUTSIDE, "{waited} hot turns went first");
    drop(hots);
    shut_down(&executor);
}

/// Several threads outside ask the only replica of a pool through its shared queue. It takes the
/// next message in a turn.
#[cfg(feature = "pool")]
#[test]
fn p05_outside_messages_in_a_shared_queue_do_not_wait_behind_all_local_work() {
    const ASKERS: u64 = 4;
    let executor = crew(1);
    let (heat, notes) = (Arc::new(Heat::default()), Arc::<Mutex<Vec<u64>>>::default());
    let factory = {
        let (heat, notes) = (Arc::clone(&heat), Arc::clone(&notes));
        move |_| Noting { heat: Arc::clone(&heat), notes: Arc::clone(&notes) }
    };
    let pool = executor.pool(1, factory).build().unwrap();
    let hots = many_hot(&executor, &heat);
    std::thread::scope(|scope| {
        for _ in 0..ASKERS {
            scope.spawn(|| {
                (0..20).for_each(|_| _ = answer(pool.ask(SharedQueue, Work).unwrap()).unwrap());
            });
        }
    });
    heat.over.store(true, Relaxed);
    let waited = median_between(&notes);
    assert!(waited <= 2 * TURNS_TO_OUTSIDE, "{waited} hot turns went first");
    drop(hots);
    shut_down(&executor);
}

/// Takes long, and counts how often it was handled without a hot message in between.
struct Long {
    heat: Arc<Heat>,
    /// Hot messages at the end of the last message, and messages in a row since that number
    /// changed.
    last: (u64, u64),
    most: u64,
}

impl Actor for Long {}

struct Work;

impl Handler<Work> for Long {
    type Reply = u64;
    fn handle(&mut self, _: Work, _: &mut Context<Self>) -> u64 {
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(300) {
            std::hint::spin_loop();
        }
        let hot = self.heat.handled.load(Relaxed);
        self.last = if hot == self.last.0 { (hot, self.last.1 + 1) } else { (hot, 1) };
        self.most = self.most.max(self.last.1);
        self.most
    }
}

/// Threads outside ask again at once, and each answer takes long. Outside work then is due after
/// each turn. All the same a turn of local work comes between two of outside work.
#[test]
fn p05_long_outside_work_does_not_starve_local_work() {
    const ASKERS: u64 = 2;
    for policy in [Policy::Stealing, Policy::Sharded] {
        let executor = build(Executor::builder().workers(1).policy(policy));
        let heat = Arc::new(Heat::default());
        let hots = [(); 2].map(|()| hot(&executor, &heat, true));
        hots.iter().for_each(|hot| hot.tell(Go).unwrap());
        let long = executor.spawn(Long { heat: Arc::clone(&heat), last: (0, 0), most: 0 });
        std::thread::scope(|scope| {
            for _ in 0..ASKERS {
                scope.spawn(|| (0..200).for_each(|_| _ = answer(long.ask(Work).unwrap()).unwrap()));
            }
        });
        let most = answer(long.ask(Work).unwrap()).unwrap();
        heat.over.store(true, Relaxed);
        assert!(most <= 16, "{most} messages from outside in a row under {policy:?}");
        shut_down(&executor);
    }
}
