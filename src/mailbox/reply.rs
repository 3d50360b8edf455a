//! The reply slot: one value from whoever answers to whoever asked, through a state byte and no lock.
//!
//! | state | the waker is | the value is | who may move on, to |
//! |---|---|---|---|
//! | `EMPTY` | the asker's to write | unset | replier: `READY`; asker: `WAITING` or `GONE` |
//! | `WAITING` | set | unset | replier: `LOCKED`; asker: back to `EMPTY` |
//! | `LOCKED` | the replier's to take | set | replier: `READY`; asker: `GONE` |
//! | `READY` | none | the asker's | the asker takes the value and frees the slot |
//! | `GONE` | none | unset, or still the replier's | the replier frees the slot |
//!
//! Each side lets go of the slot exactly once, and the last one frees it: the asker in `READY`, the replier when its
//! own transition meets `GONE`. So an asker that goes away (timeout, dropped future) costs nothing and can never meet
//! a later answer, nor a later ask this one's: each ask has a slot of its own.
//!
//! Neither side ever waits for the other. An asker that polls while the replier holds `LOCKED` (two instructions)
//! asks to be polled again.
//!
//! Ordering: every transition that hands the value or the waker over is a Release that the other side's Acquire on
//! its own transition (or load) reads from.

use crate::drops;
use crate::sync::{AtomicBool, AtomicU8, Ordering::*, UnsafeCell, chaos};
use crate::user;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

const EMPTY: u8 = 0;
const WAITING: u8 = 1;
const LOCKED: u8 = 2;
const READY: u8 = 3;
const GONE: u8 = 4;

/// The slot; it lives inside an allocation that `free` knows how to give back.
pub(crate) struct Slot<T> {
    state: AtomicU8,
    /// Set by the replier for whoever frees the slot; of no meaning here.
    forwarded: AtomicBool,
    free: unsafe fn(NonNull<Slot<T>>),
    waker: UnsafeCell<Option<Waker>>,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// What the replier must see to after it has answered.
#[must_use]
pub(crate) enum Answered<T> {
    /// The asker will find it by itself.
    Delivered,
    /// The asker sleeps: wake it.
    Wake(Waker),
    /// Nobody wants it: the value comes back, and the slot is the replier's to [`release`](Slot::release).
    Discarded(T),
}

impl<T> Slot<T> {
    /// `free` gives back the slot's allocation; value and waker are gone by then.
    pub(crate) fn new(free: unsafe fn(NonNull<Slot<T>>)) -> Self {
        Slot {
            state: AtomicU8::new(EMPTY),
            forwarded: AtomicBool::new(false),
            free,
            waker: UnsafeCell::new(None),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    fn take_waker(&self) -> Option<Waker> {
        // SAFETY: called only by the side that the table gives the waker to.
        self.waker.with_mut(|waker| unsafe { (*waker).take() })
    }

    fn read_value(&self) -> T {
        // SAFETY: called once, by the side that the table gives the value to, after it was written.
        self.value.with_mut(|value| unsafe { (*value).assume_init_read() })
    }

    /// The replier's side: answers, and lets go of the slot.
    ///
    /// # Safety
    /// Called once, by the only replier; `slot` is not used by it afterwards, unless the value comes back.
    pub(crate) unsafe fn answer(slot: NonNull<Self>, value: T) -> Answered<T> {
        // SAFETY: the replier has not let go yet, so the slot lives.
        let this = unsafe { slot.as_ref() };
        // SAFETY: the value is the replier's until READY.
        this.value.with_mut(|place| unsafe { (*place).write(value) });
        chaos();
        let discard = |this: &Self| Answered::Discarded(this.read_value());
        let mut state = this.state.load(Relaxed);
        loop {
            match state {
                EMPTY => match this.state.compare_exchange(EMPTY, READY, AcqRel, Acquire) {
                    Ok(_) => return Answered::Delivered,
                    Err(seen) => state = seen,
                },
                WAITING => match this.state.compare_exchange(WAITING, LOCKED, AcqRel, Acquire) {
                    Ok(_) => {
                        let waker = this.take_waker().expect("set before WAITING");
                        chaos();
                        return match this.state.compare_exchange(LOCKED, READY, AcqRel, Acquire) {
                            Ok(_) => Answered::Wake(waker),
                            Err(_) => {
                                drops::waker(Some(waker));
                                discard(this)
                            }
                        };
                    }
                    Err(seen) => state = seen,
                },
                _ => {
                    // An RMW that acquires: what the asker did to the slot is over before it is freed.
                    let gone = this.state.fetch_or(0, AcqRel);
                    debug_assert_eq!(gone, GONE);
                    return discard(this);
                }
            }
        }
    }

    /// The replier's side, after its value came back: frees the slot.
    ///
    /// # Safety
    /// Once, after [`answer`](Self::answer) gave `Discarded`.
    pub(crate) unsafe fn release(slot: NonNull<Self>) {
        // SAFETY: GONE: the asker has let go, and so do we.
        unsafe { (slot.as_ref().free)(slot) };
    }

    /// The replier's side: does anybody still wait? A hint, for work that can be saved.
    pub(crate) fn wanted(&self) -> bool {
        self.state.load(Relaxed) != GONE
    }

    /// What freeing is to a model: an access that must come after every other one.
    ///
    /// # Safety
    /// `this` points to a live value.
    #[cfg(all(test, heist_loom))]
    pub(crate) unsafe fn freed(this: *mut Self) {
        // SAFETY: the caller's; that nobody else uses it is what loom checks.
        unsafe { (*this).state.with_mut(|_| ()) }
    }

    /// The replier's side: another one than was asked will answer.
    pub(crate) fn set_forwarded(&self) {
        // Relaxed: it is read by the side that lets go last, after the step with which the replier did.
        self.forwarded.store(true, Relaxed);
    }

    /// For whoever frees the slot.
    pub(crate) fn forwarded(&self) -> bool {
        self.forwarded.load(Relaxed)
    }

    /// The asker's side: is the answer there?
    pub(crate) fn ready(&self) -> bool {
        self.state.load(Relaxed) == READY
    }

    /// The value, out of a slot that is freed.
    ///
    /// # Safety
    /// Both sides have let go, this one by calling this.
    unsafe fn take(slot: NonNull<Self>) -> T {
        // SAFETY: alone with the slot. No reference to it is an argument of what frees it.
        unsafe {
            let value = slot.as_ref().read_value();
            let free = slot.as_ref().free;
            free(slot);
            value
        }
    }

    /// The asker's side: takes the answer and frees the slot, or leaves the waker.
    ///
    /// # Safety
    /// Called by the only asker, not after it got `Ready` or called [`abandon`](Self::abandon).
    pub(crate) unsafe fn poll(slot: NonNull<Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: the asker has not let go yet, so the slot lives.
        let this = unsafe { slot.as_ref() };
        let mut state = this.state.load(Acquire);
        if state == WAITING {
            match this.state.compare_exchange(WAITING, EMPTY, AcqRel, Acquire) {
                Ok(_) => state = EMPTY,
                Err(seen) => state = seen,
            }
        }
        match state {
            EMPTY => {
                // SAFETY: EMPTY: the waker is the asker's.
                let known = this
                    .waker
                    .with(|old| unsafe { &*old }.as_ref().is_some_and(|old| old.will_wake(cx.waker())));
                if !known {
                    let new = user::clone_waker(cx.waker());
                    // SAFETY: as above. The old one is dropped after the new one is in its place.
                    let old = this.waker.with_mut(|waker| unsafe { (*waker).replace(new) });
                    drops::waker(old);
                }
                chaos();
                match this.state.compare_exchange(EMPTY, WAITING, AcqRel, Acquire) {
                    Ok(_) => Poll::Pending,
                    Err(seen) => {
                        debug_assert_eq!(seen, READY);
                        drops::waker(this.take_waker());
                        // SAFETY: READY: the replier has let go, and so do we.
                        Poll::Ready(unsafe { Self::take(slot) })
                    }
                }
            }
            LOCKED => {
                user::wake_by_ref(cx.waker());
                Poll::Pending
            }
            _ => {
                debug_assert_eq!(state, READY);
                drops::waker(this.take_waker()); // one left behind by a poll that went back to EMPTY
                // SAFETY: READY: the replier has let go, and so do we.
                Poll::Ready(unsafe { Self::take(slot) })
            }
        }
    }

    /// The asker's side: lets go without an answer. A value that is there already comes back.
    ///
    /// # Safety
    /// As for [`poll`](Self::poll); `slot` is not used by the asker afterwards.
    pub(crate) unsafe fn abandon(slot: NonNull<Self>) -> Option<T> {
        // SAFETY: the asker has not let go yet, so the slot lives.
        let this = unsafe { slot.as_ref() };
        let mut state = this.state.load(Acquire);
        loop {
            chaos();
            match state {
                WAITING => match this.state.compare_exchange(WAITING, EMPTY, AcqRel, Acquire) {
                    Ok(_) => {
                        state = EMPTY;
                    }
                    Err(seen) => state = seen,
                },
                EMPTY => {
                    let waker = this.take_waker();
                    let gone = this.state.compare_exchange(EMPTY, GONE, AcqRel, Acquire);
                    drops::waker(waker);
                    match gone {
                        Ok(_) => return None,
                        Err(seen) => state = seen,
                    }
                }
                LOCKED => match this.state.compare_exchange(LOCKED, GONE, AcqRel, Acquire) {
                    Ok(_) => return None,
                    Err(seen) => state = seen,
                },
                _ => {
                    drops::waker(this.take_waker());
                    // SAFETY: READY: the replier has let go, and so do we.
                    return Some(unsafe { Self::take(slot) });
                }
            }
        }
    }
}

impl<T> std::fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("state", &self.state).finish_non_exhaustive()
    }
}
