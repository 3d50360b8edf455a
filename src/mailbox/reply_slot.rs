//! The reply slot: carries one value from the replier to the asker, through a state byte and
//! without a lock.
//!
//! | state | the waker | the value | transitions |
//! |---|---|---|---|
//! | `EMPTY` | the asker may write it | unset | replier: `READY`; asker: `WAITING` or `GONE` |
//! | `WAITING` | set | unset | replier: `LOCKED`; asker: back to `EMPTY` |
//! | `LOCKED` | the replier may take it | set | replier: `READY`; asker: `GONE` |
//! | `READY` | none | the asker's | the asker takes the value and frees the slot |
//! | `GONE` | none | unset, or still the replier's | the replier frees the slot |
//!
//! Each side releases the slot exactly once, and the last side frees the slot: the asker in
//! `READY`, the replier when its own transition meets `GONE`. An asker that goes away (timeout,
//! dropped future) therefore costs nothing. Each ask has a slot of its own, so no asker can meet a
//! later answer, and no later ask can meet this one's.
//!
//! Neither side ever waits for the other. An asker that polls while the replier holds `LOCKED` (two
//! instructions) asks to be polled again.
//!
//! Ordering: every transition that hands over the value or the waker is a Release. The other side's
//! transition or load is an Acquire that reads from the Release.
//!
//! Loom model: `models::reply`. Needed orderings: `cargo xtask weaken reply`.

use crate::drops;
use crate::sync::{AtomicU8, Ordering::*, UnsafeCell, chaos};
use crate::user;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

const EMPTY: u8 = 0;
const WAITING: u8 = 1;
const LOCKED: u8 = 2;
const READY: u8 = 3;
const GONE: u8 = 4;

/// The slot. Lies inside an allocation that `free` gives back.
pub(crate) struct ReplySlot<T> {
    state: AtomicU8,
    /// [`Records`] of the ask. Written by the replier, read by the side that frees the slot.
    records: AtomicU8,
    free: unsafe fn(NonNull<ReplySlot<T>>),
    waker: UnsafeCell<Option<Waker>>,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// The records under an ask's address which the side that frees the slot removes. Their meaning
/// belongs to the floors above.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Records(u8);

impl Records {
    /// An actor other than the asked one will answer.
    pub(crate) const FORWARDED: Records = Records(1);
    /// A member of the asked queue has taken the ask.
    pub(crate) const TAKEN: Records = Records(2);

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn forwarded(self) -> bool {
        self.0 & Self::FORWARDED.0 != 0
    }

    pub(crate) fn taken(self) -> bool {
        self.0 & Self::TAKEN.0 != 0
    }
}

/// The replier's duty after its answer.
#[must_use]
pub(crate) enum Answered<T> {
    /// Nothing: the asker will find the answer.
    Delivered,
    /// Wake the asker, which sleeps.
    Wake(Waker),
    /// The asker is gone. The value comes back, and the replier must call
    /// [`free_by_replier`](ReplySlot::free_by_replier).
    Discarded(T),
}

impl<T> ReplySlot<T> {
    /// Makes a slot. `free` gives the slot's allocation back, after value and waker are gone.
    pub(crate) fn new(free: unsafe fn(NonNull<ReplySlot<T>>)) -> Self {
        ReplySlot {
            state: AtomicU8::new(EMPTY),
            records: AtomicU8::new(0),
            free,
            waker: UnsafeCell::new(None),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    fn take_waker(&self) -> Option<Waker> {
        // SAFETY: only the side that may touch the waker, by the table, calls this.
        self.waker.with_mut(|waker| unsafe { (*waker).take() })
    }

    fn read_value(&self) -> T {
        // SAFETY: called once, after the value was written, by the side that owns the value by the
        // table.
        self.value.with_mut(|value| unsafe { (*value).assume_init_read() })
    }

    /// The replier's side: answers, and releases the slot.
    ///
    /// # Safety
    /// Called once, by the only replier. The replier does not use `slot` afterwards, unless the
    /// value comes back.
    pub(crate) unsafe fn store_answer(slot: NonNull<Self>, value: T) -> Answered<T> {
        // SAFETY: the replier has not released the slot yet, so the slot lives.
        let this = unsafe { slot.as_ref() };
        // SAFETY: the replier owns the value until `READY`.
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
                        // The waker is taken in a state of its own: while it is `LOCKED` the asker
                        // neither replaces the waker nor frees the slot.
                        let waker = this.take_waker().expect("set before WAITING");
                        chaos();
                        return match this.state.compare_exchange(LOCKED, READY, AcqRel, Acquire) {
                            Ok(_) => Answered::Wake(waker),
                            // The asker went away between the two steps. Its waker is not woken,
                            // only dropped.
                            Err(_) => {
                                drops::drop_waker(Some(waker));
                                discard(this)
                            }
                        };
                    }
                    Err(seen) => state = seen,
                },
                _ => {
                    // A read-modify-write that acquires: everything that the asker did to the slot
                    // happens before the slot is freed.
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
    /// Called once, after [`store_answer`](Self::store_answer) returned `Discarded`.
    pub(crate) unsafe fn free_by_replier(slot: NonNull<Self>) {
        // SAFETY: the state is `GONE`, so the asker has released the slot. The replier releases it
        // with this call.
        unsafe { (slot.as_ref().free)(slot) };
    }

    /// The replier's side: returns `false` if the asker has gone. A hint, for work that can be
    /// saved.
    pub(crate) fn is_wanted(&self) -> bool {
        self.state.load(Relaxed) != GONE
    }

    /// Marks the slot as freed for a model: an access that must come after every other one.
    ///
    /// # Safety
    /// `this` points to a live value.
    #[cfg(all(test, heist_loom))]
    pub(crate) unsafe fn mark_freed(this: *mut Self) {
        // SAFETY: `this` points to a live value. loom reports any access that is not ordered before
        // this one.
        unsafe { (*this).state.with_mut(|_| ()) }
    }

    /// The replier's side: notes that a record of the ask exists.
    pub(crate) fn add_record(&self, record: Records) {
        // Relaxed: only the replier's side writes it. The side that releases last reads it, after
        // the transition with which the replier released.
        self.records.store(self.records.load(Relaxed) | record.0, Relaxed);
    }

    /// Returns which records of the ask exist. For the side that frees the slot.
    pub(crate) fn records(&self) -> Records {
        Records(self.records.load(Relaxed))
    }

    /// The asker's side: returns `true` if the answer is there.
    pub(crate) fn is_ready(&self) -> bool {
        // Relaxed: a hint. `poll_answer` acquires before it takes the value.
        self.state.load(Relaxed) == READY
    }

    /// Moves the value out and frees the slot.
    ///
    /// # Safety
    /// Both sides have released the slot; the caller does so with this call.
    unsafe fn take_and_free(slot: NonNull<Self>) -> T {
        // SAFETY: both sides have released the slot, so the caller alone has it. `free` is called
        // with a pointer and not a reference, since a reference argument would have to stay valid
        // during the call.
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
    /// Called by the only asker, not after it got `Ready` or called
    /// [`abandon_by_asker`](Self::abandon_by_asker).
    pub(crate) unsafe fn poll_answer(slot: NonNull<Self>, cx: &mut Context<'_>) -> Poll<T> {
        // SAFETY: the asker has not released the slot yet, so the slot lives.
        let this = unsafe { slot.as_ref() };
        // From `WAITING` back to `EMPTY` first: only there may the asker replace the waker.
        let mut state = this.state.load(Acquire);
        if state == WAITING {
            match this.state.compare_exchange(WAITING, EMPTY, AcqRel, Acquire) {
                Ok(_) => state = EMPTY,
                Err(seen) => state = seen,
            }
        }
        match state {
            EMPTY => {
                let known = this.waker.with(|old| {
                    // SAFETY: the state is `EMPTY`, so only the asker touches the waker.
                    unsafe { &*old }.as_ref().is_some_and(|old| old.will_wake(cx.waker()))
                });
                if !known {
                    // The new waker is cloned before anything changes, since a clone runs user code
                    // and may panic.
                    let new = user::clone_waker(cx.waker());
                    // SAFETY: the state is `EMPTY`, so only the asker touches the waker. The old
                    // one is dropped after the new one is in its place.
                    let old = this.waker.with_mut(|waker| unsafe { (*waker).replace(new) });
                    drops::drop_waker(old);
                }
                chaos();
                match this.state.compare_exchange(EMPTY, WAITING, AcqRel, Acquire) {
                    Ok(_) => Poll::Pending,
                    Err(seen) => {
                        // Only the replier could have moved the state, and from `EMPTY` it moves to
                        // `READY`.
                        debug_assert_eq!(seen, READY);
                        drops::drop_waker(this.take_waker());
                        // SAFETY: the state is `READY`, so the replier has released the slot, and
                        // the asker releases it with this call.
                        Poll::Ready(unsafe { Self::take_and_free(slot) })
                    }
                }
            }
            LOCKED => {
                // The replier is between two instructions. Waiting for it would block, so the asker
                // is polled again.
                user::wake_by_ref(cx.waker());
                Poll::Pending
            }
            _ => {
                debug_assert_eq!(state, READY);
                // A poll that went back to `EMPTY` left its waker behind.
                drops::drop_waker(this.take_waker());
                // SAFETY: the state is `READY`, so the replier has released the slot, and the asker
                // releases it with this call.
                Poll::Ready(unsafe { Self::take_and_free(slot) })
            }
        }
    }

    /// The asker's side: releases the slot without an answer. Returns the value if it is there
    /// already.
    ///
    /// # Safety
    /// Called by the only asker, not after [`poll_answer`](Self::poll_answer) returned `Ready`. The
    /// asker does not use `slot` afterwards.
    pub(crate) unsafe fn abandon_by_asker(slot: NonNull<Self>) -> Option<T> {
        // SAFETY: the asker has not released the slot yet, so the slot lives.
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
                    // Taken before the transition: from `GONE` on the replier may free the slot.
                    let waker = this.take_waker();
                    let gone = this.state.compare_exchange(EMPTY, GONE, AcqRel, Acquire);
                    drops::drop_waker(waker);
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
                    drops::drop_waker(this.take_waker());
                    // SAFETY: the state is `READY`, so the replier has released the slot, and the
                    // asker releases it with this call.
                    return Some(unsafe { Self::take_and_free(slot) });
                }
            }
        }
    }
}

impl<T> std::fmt::Debug for ReplySlot<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplySlot").field("state", &self.state).finish_non_exhaustive()
    }
}
