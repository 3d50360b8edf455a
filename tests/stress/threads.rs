//! Runs the threads outside the crew: drivers that send, a thread that answers kept replies, and
//! threads that wait for asks.

use crate::ledger::{is_planned, taking_back};
use crate::node::{answer_to, conclude};
use crate::world::{Note, Rng, SLOTS, Sender, Small, World, ended};
use crate::{explode, fail};
use heist::{ActorRef, Ask, SendError};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

/// Runs a step and contains planned panics, such as the drop of a bad answer.
pub fn careful(step: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(step)) {
        if !is_planned(&*payload) {
            fail("an outside thread panicked");
        }
        // Dropping the payload may panic again, up to twice.
        let again = catch_unwind(AssertUnwindSafe(move || drop(payload)));
        drop(catch_unwind(AssertUnwindSafe(move || drop(again))));
    }
}

/// Makes a waker that panics when woken.
fn bad_waker() -> Waker {
    fn wake(_: *const ()) {
        explode(1);
    }
    static TABLE: RawWakerVTable =
        RawWakerVTable::new(|_| RawWaker::new(ptr::null(), &TABLE), wake, wake, |_| {});
    // SAFETY: the data pointer is null and no function of the table dereferences it.
    unsafe { Waker::new(ptr::null(), &TABLE) }
}

/// Performs random operations from outside until the round has used up its share.
pub fn drive(world: &Arc<World>, index: usize, operations: u32) {
    let mut driver = Driver {
        rng: Rng::new(world.seed ^ (index as u64 + 1) << 50),
        sender: Sender::new(index as u64 + 1, world),
    };
    for _ in 0..operations {
        if world.ledger.spent() || world.over.load(Relaxed) {
            break;
        }
        let kind = driver.rng.below(32) as u8;
        world.doing[index].store(kind, Relaxed);
        careful(|| driver.step(kind));
        world.ledger.progress.fetch_add(1, Relaxed);
    }
    world.doing[index].store(u8::MAX, Relaxed);
}

struct Driver {
    rng: Rng,
    sender: Sender,
}

impl Driver {
    fn step(&mut self, kind: u8) {
        let world = Arc::clone(&self.sender.world);
        let Some(to) = world.pick(&mut self.rng) else { return std::thread::yield_now() };
        let ttl = 1 + self.rng.below(4) as u8;
        match kind {
            0..8 => drop(self.sender.tell(&to, &mut self.rng, ttl)),
            8..10 => self.sender.tell_many(&to, &mut self.rng, ttl),
            10..12 => {
                if let Some((id, ask)) = self.sender.ask(&to, &mut self.rng, ttl, true) {
                    conclude(id, ask, Ask::wait);
                }
            }
            12..14 => {
                let wait = Duration::from_micros(self.rng.below(300));
                if let Some((id, ask)) = self.sender.ask(&to, &mut self.rng, ttl, false)
                    && let Some(ask) = conclude(id, ask, |ask| ask.wait_timeout(wait))
                    && self.rng.one_in(2)
                {
                    world.asks.put((id, ask));
                }
            }
            14 => drop(self.sender.ask(&to, &mut self.rng, ttl, false)),
            15..17 => self.poll_badly(&to, ttl),
            17..20 => self.send(&to, ttl),
            20 => self.send_and_drop(&to, ttl),
            21 => to.stop(),
            22 => to.stop_now(),
            23 => {
                to.stop();
                // Returns once the leftover askers have been told and the state has been dropped.
                if self.rng.one_in(4) && to.wait_stopped().is_err() {
                    fail("a wait for an actor's end failed");
                }
            }
            24 => drop(world.replace(self.rng.below(SLOTS as u64) as usize, &mut self.rng)),
            25 => {
                if let Some(up) = world.upgrade(&mut self.rng) {
                    self.sender.tell(&up, &mut self.rng, ttl);
                }
            }
            26..28 => {
                if let Some(by) = world.pick(&mut self.rng) {
                    self.sender.triangle(&to, &by, &mut self.rng);
                }
            }
            28 => drop(world.handle.wait_idle_timeout(Duration::from_micros(100))),
            29 => drop((
                world.handle.stats(),
                world.handle.top(3),
                to.stats(),
                to.timing(),
                format!("{to:?}"),
            )),
            30 => std::thread::sleep(Duration::from_micros(self.rng.below(200))), // lets workers park
            _ => drop(world.weak.lock().pop()),
        }
    }

    fn send(&mut self, to: &ActorRef<crate::node::Node>, ttl: u8) {
        let letter = self.sender.letter(to, &mut self.rng, ttl);
        let id = letter.token.id;
        if self.rng.one_in(2) {
            self.sender.said(id, to.send(Note(letter)));
        } else {
            let patience = Duration::from_micros(self.rng.below(100));
            self.sender.said(id, to.send_timeout(Small::of(letter), patience));
        }
    }

    /// Enters the queue of senders that wait for room, then leaves the queue again.
    fn send_and_drop(&mut self, to: &ActorRef<crate::node::Node>, ttl: u8) {
        let letter = self.sender.letter(to, &mut self.rng, ttl);
        let id = letter.token.id;
        let mut sending = to.send_async(Note(letter));
        let result: Poll<Result<(), SendError<Note>>> =
            Pin::new(&mut sending).poll(&mut Context::from_waker(&bad_waker()));
        match result {
            Poll::Ready(result) => drop(self.sender.said(id, result)),
            Poll::Pending => {
                if self.rng.one_in(2) {
                    std::thread::yield_now();
                }
                taking_back(|| drop(sending));
                self.sender.world.ledger.settle(id);
            }
        }
    }

    /// Polls an ask with a waker that panics, then perhaps waits for the answer properly.
    fn poll_badly(&mut self, to: &ActorRef<crate::node::Node>, ttl: u8) {
        let Some((id, mut ask)) = self.sender.ask(to, &mut self.rng, ttl, true) else { return };
        match Pin::new(&mut ask).poll(&mut Context::from_waker(&bad_waker())) {
            Poll::Ready(result) => ended(id, result),
            Poll::Pending if self.rng.one_in(2) => drop(conclude(id, ask, Ask::wait)),
            Poll::Pending => drop(ask),
        }
    }
}

/// Answers replies that have left their actor.
pub fn answer(world: &Arc<World>) {
    let mut rng = Rng::new(world.seed ^ 0xa);
    while let Some((id, reply)) = world.replies.take() {
        if rng.one_in(16) {
            std::thread::yield_now();
        }
        careful(|| match rng.below(8) {
            0 => drop(reply),
            1 if !reply.is_wanted() => drop(reply),
            _ => reply.send(answer_to(world, id, &mut rng)),
        });
        world.ledger.progress.fetch_add(1, Relaxed);
        world.replies.open.fetch_sub(1, Relaxed);
    }
}

/// Waits for asks that have left their asker, each to its end.
pub fn wait(world: &Arc<World>) {
    while let Some((id, mut ask)) = world.asks.take() {
        careful(|| match ask.wait() {
            Ok(answer) => ended(id, Ok(answer)),
            Err(error) => ended(id, Err(error)),
        });
        world.ledger.progress.fetch_add(1, Relaxed);
        world.asks.open.fetch_sub(1, Relaxed);
    }
}
