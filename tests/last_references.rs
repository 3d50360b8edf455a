//! Tests values that outlive their executor and are dropped by several threads at the same moment.
//! The last drop frees the memory that all of them share, so no thread may use that memory after
//! its own drop.
//!
//! AddressSanitizer makes these tests most telling: `scripts/sanitize.sh address`.

mod common;

use common::*;
use heist::{Actor, ActorRef, AskError, Context, Executor, Handler, Receive, Reply};
use std::any::Any;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Barrier, mpsc};
use std::task::{Context as TaskContext, Waker};
use std::thread;
use std::time::{Duration, Instant};

/// An actor of `BYTES` bytes that hands its replies to the test.
struct Sized<const BYTES: usize> {
    _state: [u8; BYTES],
    replies: mpsc::Sender<Reply<Large>>,
}

impl<const BYTES: usize> Actor for Sized<BYTES> {}

/// An answer too large for a pooled reply slot.
type Large = [u64; 40];

/// Answered by the holder of the reply.
struct Later;

impl<const BYTES: usize> Receive<Later> for Sized<BYTES> {
    type Reply = Large;
    fn receive(&mut self, _: Later, reply: Reply<Large>, _: &mut Context<Self>) {
        let _ = self.replies.send(reply);
    }
}

/// A message of `WORDS` words, answered with the first word.
struct Words<const WORDS: usize>([u64; WORDS]);

impl<const BYTES: usize, const WORDS: usize> Handler<Words<WORDS>> for Sized<BYTES> {
    type Reply = u64;
    fn handle(&mut self, Words(words): Words<WORDS>, _: &mut Context<Self>) -> u64 {
        words[0]
    }
}

type Thing = Box<dyn Any + Send>;

/// Makes one of each value that can be held of an actor.
fn things<const BYTES: usize>(executor: &Executor) -> Vec<Thing> {
    let (replies, kept) = mpsc::channel();
    let state = Sized::<BYTES> { _state: [0; BYTES], replies };
    let actor: ActorRef<Sized<BYTES>> = executor.build(state).capacity(4).name("somebody").spawn();
    let mut things: Vec<Thing> = Vec::new();
    let answered = [actor.ask(Words([1; 1])).unwrap(), actor.ask(Words([1; 2])).unwrap()];
    for ask in answered {
        within(LONG, "an answer", || ask.is_ready());
        things.push(Box::new(ask));
    }
    for _ in 0..2 {
        let ask = actor.ask(Later).unwrap();
        let reply = kept.recv_timeout(Duration::from_secs(LONG)).unwrap();
        things.extend([Box::new(ask) as Thing, Box::new(reply)]);
    }
    things.push(Box::new(actor.downgrade()));
    things.push(Box::new(actor.recipient::<Words<1>>()));
    things.push(Box::new(actor.asker::<Words<20>>()));
    things.push(Box::new(actor.tell_after(Duration::from_secs(3600), Words([1; 3])).unwrap()));
    things.push(Box::new(executor.handle()));
    things.push(Box::new(actor.wait_stopped_async()));
    things.push(Box::new(actor.downgrade().wait_stopped_async()));
    things.push(Box::new(actor.send_async(Words([1; 4]))));
    // A sender waits in line when the actor ends, and its message is refused.
    let blocked = executor.spawn(Puppet::default());
    let held = Held::hold(&blocked);
    while blocked.tell(Note(1)).is_ok() {}
    let mut waiting = blocked.send_async(Note(2));
    let polled = pin!(&mut waiting).as_mut().poll(&mut TaskContext::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    things.push(Box::new(waiting));
    blocked.stop_now();
    drop(held);
    things.push(Box::new(blocked));
    things.push(Box::new(actor));
    things
}

/// Ends the executor, then lets several threads drop the remaining values at the same moment.
fn at_once(round: u64, threads: usize, make: impl Fn(&Executor) -> Vec<Thing>) {
    let dice = Dice::new(round);
    let executor = crew(1 + (round % 2) as usize);
    let mut shares: Vec<Vec<Thing>> = (0..threads).map(|_| Vec::new()).collect();
    for thing in make(&executor) {
        shares[dice.below(threads as u64) as usize].push(thing);
    }
    drop(executor);
    let barrier = Arc::new(Barrier::new(threads));
    let threads: Vec<_> = shares
        .into_iter()
        .map(|share| {
            let (barrier, wait) = (Arc::clone(&barrier), Duration::from_nanos(dice.below(2_000)));
            thread::spawn(move || {
                barrier.wait();
                let start = Instant::now();
                while start.elapsed() < wait {}
                drop(share);
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn rounds(of: u64) -> u64 {
    std::env::var("HEIST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(of)
}

#[test]
fn whatever_outlives_its_executor_is_dropped_by_several_threads_at_once() {
    for round in 0..rounds(60) {
        at_once(round, 2 + (round % 3) as usize, things::<1>);
        at_once(round, 2 + (round % 3) as usize, things::<400>); // a cell from the system's allocator
    }
}

#[test]
fn two_last_references_are_dropped_by_two_threads_at_once() {
    // A long name widens the window between the removal of the first cell from the registry and the
    // end of its drop.
    for round in 0..rounds(100) {
        at_once(round, 2, |executor| {
            let first = executor.build(Puppet::default()).name("x".repeat(1 << 20)).spawn();
            vec![Box::new(first), Box::new(executor.spawn(Puppet::default()))]
        });
    }
}

/// The asker's drop races the reply, and either of them frees the reply slot.
#[test]
fn a_reply_is_given_while_its_asker_lets_go_after_the_executors_end() {
    for round in 0..rounds(100) {
        let executor = crew(1);
        let (replies, kept) = mpsc::channel();
        let actor = executor.spawn(Sized::<1> { _state: [0], replies });
        let pairs: Vec<_> = (0..4)
            .map(|_| {
                (actor.ask(Later).unwrap(), kept.recv_timeout(Duration::from_secs(LONG)).unwrap())
            })
            .collect();
        drop((actor, executor));
        let barrier = Arc::new(Barrier::new(2));
        let (asks, replies): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let there = Arc::clone(&barrier);
        let answers = thread::spawn(move || {
            there.wait();
            replies.into_iter().for_each(|reply| reply.send([7; 40]));
        });
        barrier.wait();
        for (number, ask) in asks.into_iter().enumerate() {
            if (number as u64 + round).is_multiple_of(2) {
                drop(ask);
            } else {
                assert_eq!(answer(ask), Ok([7; 40]));
            }
        }
        answers.join().unwrap();
    }
}

/// Cells spawned after the end belong to no crew, so the threads themselves must free them.
#[test]
fn what_is_made_after_the_end_is_dropped_by_several_threads_at_once() {
    for round in 0..rounds(100) {
        let executor = crew(1);
        let handle = executor.handle();
        drop(executor);
        let barrier = Arc::new(Barrier::new(2));
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (handle, barrier) = (handle.clone(), Arc::clone(&barrier));
                thread::spawn(move || {
                    let dead = handle.spawn(Puppet::default());
                    let weak = dead.downgrade();
                    assert!(dead.tell(Note(round)).is_err());
                    drop(handle);
                    barrier.wait();
                    drop(dead);
                    assert!(weak.upgrade().is_none());
                })
            })
            .collect();
        drop(handle);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// The executor is gone before the answer is read, so the reply slot must outlive it.
#[test]
fn an_ask_of_what_has_ended_is_told_so() {
    let executor = crew(1);
    let actor = executor.spawn(Puppet::default());
    let held = Held::hold(&actor);
    let ask = actor.ask(Log).unwrap();

    let end = thread::spawn(move || drop(executor));
    within(LONG, "the actor is closed", || !actor.is_running());
    drop(held);
    end.join().unwrap();
    drop(actor);
    assert_eq!(answer(ask), Err(AskError::Stopped));
}
