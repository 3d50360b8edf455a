//! Reply slot: an answer against a poll, and against abandonment (timeout, dropped future).
//!
//! Covers: the value is delivered or comes back, once. The slot is freed once, after every other
//! use. An asker that was told to wait is woken through its latest waker. No waker is kept.
//!
//! Does not cover: what is answered (a reply dropped unsent answers with an error, which is an
//! answer), and the owner of the slot's memory.

use super::{explore, spawn};
use crate::mailbox::reply_slot::{Answered, ReplySlot};
use crate::sync::ThreadWaker;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// An answer. loom sees whether it was published.
type Value = UnsafeCell<u32>;

#[repr(C)]
struct Question {
    slot: ReplySlot<Value>,
    freed: UnsafeCell<bool>,
}

/// Marks the question as freed. The real memory goes with the last `Arc`, so that loom can check
/// every use.
unsafe fn free(slot: NonNull<ReplySlot<Value>>) {
    // SAFETY: every slot here is the first field of a `Question`, which the model's `Arc` keeps.
    // loom's cell reports a use after this write.
    unsafe {
        ReplySlot::mark_freed(slot.as_ptr());
        let question = slot.cast::<Question>().as_ref();
        question
            .freed
            .with_mut(|freed| assert!(!std::mem::replace(&mut *freed, true), "freed twice"));
    }
}

impl Question {
    fn new() -> Arc<Self> {
        Arc::new(Question { slot: ReplySlot::new(free), freed: UnsafeCell::new(false) })
    }

    fn slot(&self) -> NonNull<ReplySlot<Value>> {
        NonNull::from(&self.slot)
    }

    /// Answers as the replier. Returns how many values came back.
    fn answer(&self) -> u32 {
        // SAFETY: there is one replier, which answers once.
        match unsafe { ReplySlot::store_answer(self.slot(), UnsafeCell::new(42)) } {
            Answered::Delivered => 0,
            Answered::Wake(waker) => {
                waker.wake();
                0
            }
            Answered::Discarded(value) => {
                // SAFETY: the value came back, so this thread alone has it; loom's cell reports a
                // violation.
                assert_eq!(value.with(|value| unsafe { *value }), 42);
                // SAFETY: the value came back, and this is the only release.
                unsafe { ReplySlot::free_by_replier(self.slot()) };
                1
            }
        }
    }

    /// Polls once. Returns `true` with the answer. There is only one asker.
    fn poll(&self, waker: &std::sync::Arc<ThreadWaker>) -> bool {
        // SAFETY: there is one asker, and it does not poll after the answer.
        match unsafe {
            ReplySlot::poll_answer(self.slot(), &mut Context::from_waker(&waker.to_waker()))
        } {
            Poll::Ready(value) => {
                // SAFETY: the answer was delivered, so the value is the asker's; loom's cell
                // reports an unpublished read.
                assert_eq!(value.with(|value| unsafe { *value }), 42);
                true
            }
            Poll::Pending => false,
        }
    }

    /// Polls until the answer is there, sleeping in between.
    fn wait(&self, waker: &std::sync::Arc<ThreadWaker>) {
        while !self.poll(waker) {
            waker.park_until(None);
            // A poll that met the replier half-way woke itself, so the loop must let the replier
            // run.
            thread::yield_now();
        }
    }

    fn abandon(&self) -> u32 {
        // SAFETY: there is one asker, which does not use the slot afterwards.
        u32::from(unsafe { ReplySlot::abandon_by_asker(self.slot()) }.is_some())
    }

    /// Checks that the slot was freed and no waker is kept, after all threads have ended.
    fn settle(&self, wakers: &[&std::sync::Arc<ThreadWaker>]) {
        // SAFETY: all threads have ended; loom's cell reports an unordered write.
        assert!(self.freed.with(|freed| unsafe { *freed }), "never freed");
        wakers.iter().for_each(|waker| {
            assert_eq!(std::sync::Arc::strong_count(waker), 1, "a waker was kept")
        });
    }
}

#[test]
fn an_answer_against_polls() {
    explore(3, || {
        let question = Question::new();
        let replier = spawn(&question, Question::answer);
        // One waker for all polls, so a later poll finds its own waker known.
        let waker = ThreadWaker::new();
        question.wait(&waker);
        assert_eq!(replier.join().unwrap(), 0);
        question.settle(&[&waker]);
    });
}

#[test]
fn an_answer_against_polls_with_different_wakers() {
    explore(3, || {
        let question = Question::new();
        let replier = spawn(&question, Question::answer);
        let (first, second) = (ThreadWaker::new(), ThreadWaker::new());
        // The second poll replaces a waker that the replier may just be taking.
        if !question.poll(&first) {
            question.wait(&second);
        }
        assert_eq!(replier.join().unwrap(), 0);
        question.settle(&[&first, &second]);
    });
}

#[test]
fn an_answer_against_going_away() {
    explore(3, || {
        let question = Question::new();
        let replier = spawn(&question, Question::answer);
        let delivered = question.abandon();
        assert_eq!(delivered + replier.join().unwrap(), 1);
        question.settle(&[]);
    });
}

#[test]
fn an_answer_against_a_poll_and_going_away() {
    explore(3, || {
        let question = Question::new();
        let replier = spawn(&question, Question::answer);
        let waker = ThreadWaker::new();
        // Both hints are read at any moment, and must not race.
        let _hint = question.slot.is_wanted() && question.slot.is_ready();
        // An answer that came before the asker went away is delivered by `abandon`.
        let delivered = if question.poll(&waker) { 1 } else { question.abandon() };
        assert_eq!(delivered + replier.join().unwrap(), 1);
        question.settle(&[&waker]);
    });
}
