//! Reply slot: an answer against a poll, against going away (timeout, dropped future).
//!
//! Covers: the value is delivered or comes back, once; the slot is freed once, after every other use of it; an asker
//! that was told to wait is woken by its latest waker; no waker is kept.
//!
//! Does not cover: what is answered (a reply dropped unsent answers with an error, which is an answer), and who holds
//! the slot's memory.

use super::{explore, spawn};
use crate::mailbox::reply::{Answered, Slot};
use crate::sync::ThreadWaker;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::ptr::NonNull;
use std::task::{Context, Poll};

/// loom sees whether it was published.
type Value = UnsafeCell<u32>;

#[repr(C)]
struct Question {
    slot: Slot<Value>,
    freed: UnsafeCell<bool>,
}

/// What freeing means here; the real memory goes with the last `Arc`, so that loom can look at every use.
unsafe fn free(slot: NonNull<Slot<Value>>) {
    // SAFETY: every slot here lies at the beginning of a `Question`; loom checks that nobody uses it any more.
    unsafe {
        Slot::freed(slot.as_ptr());
        let question = slot.cast::<Question>().as_ref();
        question.freed.with_mut(|freed| assert!(!std::mem::replace(&mut *freed, true), "freed twice"));
    }
}

impl Question {
    fn new() -> Arc<Self> {
        Arc::new(Question { slot: Slot::new(free), freed: UnsafeCell::new(false) })
    }

    fn slot(&self) -> NonNull<Slot<Value>> {
        NonNull::from(&self.slot)
    }

    /// The replier; gives how many values came back.
    fn answer(&self) -> u32 {
        // SAFETY: one replier.
        match unsafe { Slot::answer(self.slot(), UnsafeCell::new(42)) } {
            Answered::Delivered => 0,
            Answered::Wake(waker) => {
                waker.wake();
                0
            }
            Answered::Discarded(value) => {
                // SAFETY: loom checks it.
                assert_eq!(value.with(|value| unsafe { *value }), 42);
                // SAFETY: the value came back, and this is the only release.
                unsafe { Slot::release(self.slot()) };
                1
            }
        }
    }

    /// One poll by the only asker.
    fn poll(&self, waker: &std::sync::Arc<ThreadWaker>) -> bool {
        // SAFETY: one asker, which stops at the answer.
        match unsafe { Slot::poll(self.slot(), &mut Context::from_waker(&waker.waker())) } {
            Poll::Ready(value) => {
                // SAFETY: loom checks it.
                assert_eq!(value.with(|value| unsafe { *value }), 42);
                true
            }
            Poll::Pending => false,
        }
    }

    /// Polls until the answer is there, sleeping in between.
    fn wait(&self, waker: &std::sync::Arc<ThreadWaker>) {
        while !self.poll(waker) {
            waker.park(None);
            thread::yield_now(); // a poll that met the replier half-way woke itself
        }
    }

    fn abandon(&self) -> u32 {
        // SAFETY: one asker, which does nothing afterwards.
        u32::from(unsafe { Slot::abandon(self.slot()) }.is_some())
    }

    /// After everything.
    fn settle(&self, wakers: &[&std::sync::Arc<ThreadWaker>]) {
        // SAFETY: loom checks it.
        assert!(self.freed.with(|freed| unsafe { *freed }), "never freed");
        wakers
            .iter()
            .for_each(|waker| assert_eq!(std::sync::Arc::strong_count(waker), 1, "a waker was kept"));
    }
}

#[test]
fn an_answer_against_polls() {
    explore(3, || {
        let question = Question::new();
        let replier = spawn(&question, Question::answer);
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
        let _hint = question.slot.wanted() && question.slot.ready();
        let delivered = if question.poll(&waker) { 1 } else { question.abandon() };
        assert_eq!(delivered + replier.join().unwrap(), 1);
        question.settle(&[&waker]);
    });
}
