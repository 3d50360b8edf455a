//! Tests P8, bounded: a mailbox never holds more than its capacity and its owner's prepaid
//! messages. A full mailbox returns an error with the message, or lets senders wait for room,
//! oldest first.

mod common;

use common::*;
use heist::{
    Actor, ActorRef, Context, DEFAULT_CAPACITY, Executor, Handler, Receive, Refusal, Reply,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

const CAPACITY: usize = 8;

fn bounded(executor: &Executor) -> ActorRef<Puppet> {
    executor.build(Puppet::default()).capacity(CAPACITY).spawn()
}

/// Fills the rest of a mailbox with notes, counting up from `from`. Returns their number.
fn fill(puppet: &ActorRef<Puppet>, from: u64) -> u64 {
    (from..).find(|&n| puppet.tell(Note(n)).is_err()).unwrap() - from
}

fn run<R: Send + 'static>(
    puppet: &ActorRef<Puppet>,
    f: impl FnOnce(&mut Puppet, &mut Context<Puppet>) -> R + Send + 'static,
) -> R {
    answer(puppet.ask(Run(f)).unwrap()).unwrap()
}

#[test]
fn p08_a_full_mailbox_hands_the_message_back() {
    on_every_crew(|executor| {
        let puppet = bounded(executor);
        let held = Held::hold(&puppet);
        // The message in its handler still occupies a place.
        assert_eq!(fill(&puppet, 0), CAPACITY as u64 - 1);
        assert_eq!((puppet.len(), puppet.capacity()), (CAPACITY, Some(CAPACITY)));
        let error = puppet.tell(Note(77)).unwrap_err();
        assert_eq!((error.refusal(), error.into_message()), (Refusal::Full, Note(77)));
        let error = puppet.ask(Note(78)).unwrap_err();
        assert_eq!((error.refusal(), error.into_message()), (Refusal::Full, Note(78)));
        let error = puppet.recipient().tell(Note(79)).unwrap_err();
        assert_eq!((error.is_full(), error.into_message()), (true, Note(79)));
        let error = puppet.asker().ask(Note(80)).unwrap_err();
        assert_eq!((error.is_full(), error.into_message()), (true, Note(80)));
        let error = puppet.tell_many((81..90).map(Note)).unwrap_err();
        assert_eq!((error.accepted(), error.refusal()), (0, Refusal::Full));
        let (message, rest) = error.into_parts();
        assert_eq!((message, rest.count()), (Note(81), 8));
        let error = puppet.send_timeout(Note(90), Duration::ZERO).unwrap_err();
        assert_eq!((error.refusal(), error.into_message()), (Refusal::TimedOut, Note(90)));
        held.release();
        settle(executor);
        assert_eq!(puppet.len(), 0);
        assert_eq!(
            run(&puppet, |puppet, _| puppet.log.clone()),
            (0..CAPACITY as u64 - 1).collect::<Vec<_>>()
        );
    });
}

#[test]
fn p08_capacity_is_bounded_by_default_and_can_be_chosen() {
    let executor = crew(1);
    assert_eq!(executor.spawn(Puppet::default()).capacity(), Some(DEFAULT_CAPACITY));
    assert_eq!(executor.build(Puppet::default()).capacity(3).spawn().capacity(), Some(3));
    assert_eq!(executor.build(Puppet::default()).unbounded().spawn().capacity(), None);
    let small = build(Executor::builder().workers(1).capacity(5));
    assert_eq!(small.spawn(Puppet::default()).capacity(), Some(5));
    let open = build(Executor::builder().workers(1).unbounded());
    assert_eq!(open.spawn(Puppet::default()).capacity(), None);

    let puppet = open.spawn(Puppet::default());
    let held = Held::hold(&puppet);
    let many = 10 * DEFAULT_CAPACITY as u64;
    assert_eq!(puppet.tell_many((0..many).map(Note)).unwrap(), many as usize);
    assert_eq!(puppet.len(), many as usize + 1);
    held.release();
    settle(&open);
    assert_eq!(run(&puppet, |puppet, _| puppet.log.len()), many as usize);
    assert_eq!(puppet.stats().most_waiting, many as usize);
}

/// Counts messages in its mailbox and in handlers from both sides, independently of the mailbox.
struct Counted {
    inside: Arc<AtomicUsize>,
}

impl Actor for Counted {}

/// Counted by the sender after its acceptance, so that the count can only be too low.
struct Item;

impl Handler<Item> for Counted {
    type Reply = ();
    fn handle(&mut self, _: Item, _: &mut Context<Self>) {
        // The sender may not have counted the message yet.
        within(LONG, "the sender counts", || {
            self.inside.fetch_update(Relaxed, Relaxed, |inside| inside.checked_sub(1)).is_ok()
        });
    }
}

/// A capacity check apart from the push would let racing senders exceed the capacity.
#[test]
fn p08_racing_senders_never_exceed_the_capacity() {
    const SENDERS: u64 = 4;
    const EACH: u64 = 5_000;
    for workers in CREWS {
        let executor = crew(workers);
        let inside = Arc::new(AtomicUsize::new(0));
        let actor =
            executor.build(Counted { inside: Arc::clone(&inside) }).capacity(CAPACITY).spawn();
        let refused = AtomicU64::new(0);
        thread::scope(|scope| {
            for sender in 0..SENDERS {
                let (actor, inside, refused) = (&actor, &inside, &refused);
                scope.spawn(move || {
                    for i in 0..EACH {
                        // Every second message waits for room, and the others retry.
                        if (sender + i) % 2 == 0 {
                            actor.send(Item).unwrap();
                        } else {
                            while let Err(error) = actor.tell(Item) {
                                assert_eq!(error.refusal(), Refusal::Full);
                                refused.fetch_add(1, Relaxed);
                                thread::yield_now();
                            }
                        }
                        let seen = inside.fetch_add(1, Relaxed) + 1;
                        assert!(seen <= CAPACITY, "{seen} messages in {CAPACITY} places");
                        assert!(actor.len() <= CAPACITY, "len {}", actor.len());
                    }
                });
            }
        });
        settle(&executor);
        assert_eq!(actor.stats().handled, SENDERS * EACH);
        assert!(actor.stats().most_waiting <= CAPACITY);
        assert_eq!(inside.load(Relaxed), 0);
        shut_down(&executor);
    }
}

/// Keeps replies until told to give them.
#[derive(Default)]
struct Later(Vec<Reply<u64>>);

impl Actor for Later {}

struct AnswerMe;
struct AnswerAll;

impl Receive<AnswerMe> for Later {
    type Reply = u64;
    fn receive(&mut self, _: AnswerMe, reply: Reply<u64>, _: &mut Context<Self>) {
        self.0.push(reply);
    }
}

impl Handler<AnswerAll> for Later {
    type Reply = ();
    fn handle(&mut self, _: AnswerAll, _: &mut Context<Self>) {
        (1000..).zip(self.0.drain(..)).for_each(|(n, reply)| reply.send(n));
    }
}

/// Prepaid messages come on top of the capacity, but in order.
#[test]
fn p08_prepaid_messages_come_on_top_and_in_order() {
    on_every_crew(|executor| {
        let puppet = bounded(executor);
        let later = executor.spawn(Later::default());
        let theirs = later.clone();
        run(&puppet, move |_, ctx| {
            let log =
                |me: &mut Puppet, n: Result<u64, _>, _: &mut Context<_>| me.log.push(n.unwrap());
            (0..3).for_each(|_| ctx.ask_then(&theirs, AnswerMe, log).unwrap());
        });
        settle(executor);
        let mine = puppet.clone();
        let held = {
            // One `tell_self` for each handled message. A second is refused while the first is
            // under way.
            let (entered, release) = (Latch::new(), Latch::new());
            let (inside, until) = (entered.clone(), release.clone());
            let turn = move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
                fill(&mine, 0);
                ctx.tell_self(Note(500)).unwrap();
                let second = ctx.tell_self(Note(501)).unwrap_err();
                assert_eq!((second.refusal(), second.into_message()), (Refusal::Full, Note(501)));
                inside.open();
                until.wait();
            };
            puppet.tell(Run(turn)).unwrap();
            entered.wait();
            release
        };
        assert_eq!(puppet.len(), CAPACITY + 1);
        if executor.workers() > 1 && executor.policy() != heist::Policy::Sharded {
            // The answers arrive while the mailbox is full.
            answer(later.ask(AnswerAll).unwrap()).unwrap();
            assert_eq!(puppet.len(), CAPACITY + 1 + 3);
        } else {
            later.tell(AnswerAll).unwrap();
        }
        assert!(puppet.tell(Note(77)).unwrap_err().is_full());
        held.open();
        settle(executor);
        let expected = (0..CAPACITY as u64 - 1).chain([500, 1000, 1001, 1002]).collect::<Vec<_>>();
        assert_eq!(run(&puppet, |puppet, _| puppet.log.clone()), expected);
    });
}

/// A mailbox with prepaid messages holds as many other messages as without, even after many prepaid
/// ones have come and gone.
#[test]
fn p08_what_is_prepaid_does_not_count_against_the_others() {
    on_every_crew(|executor| {
        let puppet = bounded(executor);
        for _ in 0..50 {
            let (entered, release) = (Latch::new(), Latch::new());
            let (inside, until) = (entered.clone(), release.clone());
            let turn = move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
                ctx.tell_self(Note(500)).unwrap();
                let me = ctx.me().clone();
                ctx.when_room(&me, Note(501)).unwrap(); // there is room already
                inside.open();
                until.wait();
            };
            puppet.tell(Run(turn)).unwrap();
            entered.wait();
            let accepted = (0..).take_while(|&n| puppet.tell(Note(n)).is_ok()).count();
            assert_eq!((accepted, puppet.len()), (CAPACITY - 1, CAPACITY + 2), "one is in hand");
            release.open();
            settle(executor);
        }
    });
}

#[test]
fn p08_waiting_senders_come_oldest_first_and_tell_cannot_barge() {
    on_every_crew(|executor| {
        const SENDERS: u64 = 6;
        let puppet = bounded(executor);
        let held = Held::hold(&puppet);
        let filled = fill(&puppet, 0);
        let mut waiting = Vec::new();
        for n in 0..SENDERS {
            // A pending future stands in line.
            let mut send = Box::pin(puppet.send_async(Note(100 + n)));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(send.as_mut().poll(&mut cx).is_pending());
            waiting.push(send);
        }
        let blocked = puppet.clone();
        let blocked = thread::spawn(move || blocked.send(Note(200)));
        assert!(puppet.tell(Note(300)).unwrap_err().is_full());
        held.release();
        for send in waiting {
            futures::executor::block_on(send).unwrap();
        }
        blocked.join().unwrap().unwrap();
        settle(executor);
        let mut log = run(&puppet, |puppet, _| puppet.log.clone());
        log.retain(|&n| n != 200); // the thread may have come before or after the older senders were in line
        assert_eq!(log, (0..filled).chain(100..100 + SENDERS).collect::<Vec<_>>());
    });
}

/// A place that becomes free belongs to the waiting sender. An insistent `tell` must not get it
/// first.
#[test]
fn p08_an_insistent_tell_gets_no_place_before_those_who_wait() {
    const ROUNDS: u64 = 300;
    for workers in CREWS {
        let executor = crew(workers);
        let puppet = executor.build(Puppet::default()).capacity(1).spawn();
        for round in 0..ROUNDS {
            let held = Held::hold(&puppet);
            let mut send = puppet.send_async(Note(2 * round));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(std::pin::Pin::new(&mut send).poll(&mut cx).is_pending());
            let rival = puppet.clone();
            let rival = thread::spawn(move || while rival.tell(Note(2 * round + 1)).is_err() {});
            held.release();
            futures::executor::block_on(send).unwrap();
            rival.join().unwrap();
            settle(&executor);
        }
        assert_eq!(answer(puppet.ask(Log).unwrap()).unwrap(), (0..2 * ROUNDS).collect::<Vec<_>>());
        shut_down(&executor);
    }
}

#[test]
fn p08_a_sender_that_gives_up_takes_its_message_with_it() {
    on_every_crew(|executor| {
        let puppet = bounded(executor);
        let held = Held::hold(&puppet);
        let filled = fill(&puppet, 0);
        let error = puppet.send_timeout(Note(100), Duration::from_millis(1)).unwrap_err();
        assert_eq!((error.refusal(), error.into_message()), (Refusal::TimedOut, Note(100)));
        let mut dropped = Box::pin(puppet.send_async(Note(101)));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(dropped.as_mut().poll(&mut cx).is_pending());
        drop(dropped);
        held.release();
        settle(executor);
        // No sender waits any more, so that `tell` succeeds again.
        puppet.tell(Note(filled)).unwrap();
        let log = answer(puppet.ask(Log).unwrap()).unwrap();
        assert_eq!(log, (0..=filled).collect::<Vec<_>>());
    });
}

#[test]
fn p08_waiting_senders_get_their_messages_back_when_the_actor_ends() {
    on_every_crew(|executor| {
        for kill in [false, true] {
            let puppet = bounded(executor);
            let held = Held::hold(&puppet);
            fill(&puppet, 0);
            let mut send = Box::pin(puppet.send_async(Note(100)));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(send.as_mut().poll(&mut cx).is_pending());
            if kill {
                puppet.stop_now()
            } else {
                puppet.stop()
            }
            held.release();
            let error = futures::executor::block_on(send).unwrap_err();
            assert_eq!((error.refusal(), error.into_message()), (Refusal::Stopped, Note(100)));
            ended(&puppet);
        }
    });
}

/// Makes the puppet ask for the notice `note` when `target` has room.
fn when_room(
    puppet: &ActorRef<Puppet>,
    target: &ActorRef<Gated>,
    note: u64,
) -> Result<(), Refusal> {
    let target = target.clone();
    run(puppet, move |_, ctx| ctx.when_room(&target, Note(note)).map_err(|error| error.refusal()))
}

/// Handles one message for each permit.
struct Gated(crossbeam_channel::Receiver<()>);

impl Actor for Gated {}

impl Handler<Item> for Gated {
    type Reply = ();
    fn handle(&mut self, _: Item, _: &mut Context<Self>) {
        self.0.recv_timeout(Duration::from_secs(LONG)).expect("a permit comes");
    }
}

#[test]
fn p08_a_notice_of_room_comes_at_half_the_capacity() {
    for workers in [2, 8] {
        let executor = crew(workers);
        let (permits, gate) = crossbeam_channel::unbounded();
        // One message a turn, so that each place is returned at once.
        let target = executor.build(Gated(gate)).capacity(CAPACITY).budget_messages(1).spawn();
        let puppet = executor.spawn(Puppet::default());
        assert_eq!(when_room(&puppet, &target, 1), Ok(()), "there is room now");
        within(LONG, "the notice of room that is there", || puppet.stats().handled == 2);

        target.tell_many((0..CAPACITY).map(|_| Item)).unwrap();
        assert_eq!(when_room(&puppet, &target, 2), Ok(()));
        assert_eq!(when_room(&puppet, &target, 3), Err(Refusal::Full), "one for each target");
        let other = bounded(&executor);
        assert_eq!(when_room(&other, &target, 4), Ok(()), "one for each owner");
        for left in (CAPACITY / 2..CAPACITY).rev() {
            let log = answer(puppet.ask(Log).unwrap()).unwrap();
            assert_eq!(log, [1], "{} messages wait", target.len());
            permits.send(()).unwrap();
            within(LONG, "a message is handled", || target.len() == left);
        }
        for (owner, notice) in [(&puppet, vec![1, 2]), (&other, vec![4])] {
            within(LONG, "the notice comes", || answer(owner.ask(Log).unwrap()).unwrap() == notice);
        }
        assert_eq!(target.len(), CAPACITY / 2);
        // The next notice is prepaid again, and comes even if the target ends.
        target.tell_many((0..CAPACITY / 2).map(|_| Item)).unwrap();
        assert_eq!(when_room(&puppet, &target, 5), Ok(()));
        target.stop_now();
        permits.send(()).unwrap();
        within(LONG, "the notice of an end", || {
            answer(puppet.ask(Log).unwrap()).unwrap() == [1, 2, 5]
        });
        shut_down(&executor);
    }
}

/// The first owners alone could use up the room. An owner that does not use its notice must not
/// keep the others waiting.
#[test]
fn p08_notices_of_room_come_a_few_at_a_time_and_all_come() {
    const OWNERS: usize = 5 * CAPACITY;
    for workers in [2, 8] {
        let executor = crew(workers);
        let (permits, gate) = crossbeam_channel::unbounded();
        let target = executor.build(Gated(gate)).capacity(CAPACITY).budget_messages(1).spawn();
        let owners: Vec<_> = (0..OWNERS).map(|_| executor.spawn(Puppet::default())).collect();
        let noticed = || {
            owners.iter().filter(|owner| answer(owner.ask(Log).unwrap()).unwrap() == [1]).count()
        };
        target.tell_many((0..CAPACITY).map(|_| Item)).unwrap();
        owners.iter().for_each(|owner| assert_eq!(when_room(owner, &target, 1), Ok(())));
        assert_eq!(target.tell(Item).unwrap_err().refusal(), Refusal::Full);
        for _ in 0..CAPACITY / 2 {
            assert_eq!(noticed(), 0);
            permits.send(()).unwrap();
        }
        // One notice for each free quarter of the capacity.
        within(LONG, "the first few", || noticed() == 2);
        target.tell(Item).unwrap();
        assert_eq!(noticed(), 2, "the room is not for those alone");
        // No further message is sent.
        (0..=CAPACITY / 2).for_each(|_| permits.send(()).unwrap());
        within(LONG, "all get theirs", || noticed() == OWNERS);
        within(LONG, "all is handled", || target.is_empty());
        target.tell_many((0..CAPACITY).map(|_| Item)).unwrap();
        (0..CAPACITY).for_each(|_| permits.send(()).unwrap());
        shut_down(&executor);
    }
}
