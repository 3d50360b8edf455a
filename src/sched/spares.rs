//! Spares: threads that take over a worker's slot while its thread blocks inside a turn.
//!
//! # In prose
//!
//! Worker k is a *slot*: its queues, counts, heap and bed ([`Local`](super::local::Local), [`Slot`](super::queue::Slot)).
//! One thread at a time holds it. A thread that is about to block in the middle of a turn reserves a *spare*, leaves its slot,
//! and blocks without it ([`blocking`](super::blocking)). How the slot is left depends on whether there is anything to do:
//!
//! - *There is work*: the spare is called to the slot at once, and goes on where the other one was.
//! - *There is none*: the slot is parked, and nobody sleeps in its bed; it is *vacant*. Whoever wakes it, or has it wait for the
//!   alarm, calls the spare to it, which finds itself in the place of one who was asleep there ([`idle::vacant`](super::idle)). If
//!   nobody does, the thread that comes back takes its slot back, and nobody has moved: two locks are the whole price.
//!
//! A thread that comes back and finds its slot taken finishes its turn as a [member](super::member) without a slot, and
//! then is a spare itself: threads are all alike. A spare that nobody needs for a while ends.
//!
//! # A thread and its slot
//!
//! | the thread | the slot | what happens | the thread, then | the slot, then |
//! |---|---|---|---|---|
//! | holds it | held | blocks, a spare is there, no work | blocks | vacant, with a spare reserved |
//! | holds it | held | blocks, a spare is there, work | blocks | called: its spare is on the way |
//! | holds it | held | blocks, no spare is to be had | blocks | kept; what waits there is given to the others |
//! | blocks | vacant or called | comes back | holds it; the spare is free again | held |
//! | blocks | held by another | comes back | without; after its turn a spare | |
//! | | vacant | is woken, or waits for the alarm | its spare is called | called |
//! | | vacant | is the sentinel | its spare sleeps with a timeout, and looks | vacant |
//! | | vacant | its spare sees what is stuck | the spare holds it | held |
//! | a spare, called | called | arrives | holds it | held |
//! | a spare, free | | has been for long enough | ends | |
//! | a spare, free or let go | | the crew stops | ends | |
//!
//! # Why a slot has one holder
//!
//! A vacant slot is a line in the list of those who sleep, under that list's lock: whoever takes the line out has the slot.
//! A called one is a token in its spare's parker: whoever takes the token out has it. Both locks carry what the last
//! holder did. (A thread that comes back takes whatever it finds there for its old slot. It may have been left by another
//! thread since; that does no harm, since it is the slot that counts and not who left it.)
//!
//! # Why a slot always has somebody
//!
//! A spare is reserved before its slot is left: it sleeps, is on its way to sleep, or is being started, and nobody else
//! can have it. If none is to be had, the slot is not left.
//!
//! # Quiescence
//!
//! A turn that goes on without a slot is counted: from before its slot is left until after all that it did. While the
//! count is not 0 nobody is told that all is quiet. Whoever brings it to 0 without a slot [announces](super::quiet) it; with
//! a slot its worker is awake, and parks later. A turn begins on a
//! slot that is awake, so the count cannot rise while all slots are parked (see [`Scheduler::quiescence`]).
//!
//! # Bounds
//!
//! There are never more threads than workers and the most spares together. A free spare sleeps with one timeout: when it
//! has ended, all is silent.
//!
//! [`Scheduler::quiescence`]: super::Scheduler::quiescence

use super::member::Recruit;
use crate::sync::{AtomicBool, AtomicUsize, Counter, Mutex, Ordering::*, Parker, chaos};
use crate::time::{self, Duration, Instant};
use std::sync::Arc;

/// What a spare is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Hold this slot, and go on with its work.
    Work(usize),
    /// Hold this slot, which is parked, or was when you were called.
    Lie(usize),
    /// Hold this slot, which you have taken to rescue what is stuck. Told by the spare to itself.
    Catch(usize),
    /// A vacant slot is the sentinel, and you are reserved for it: sleep with a timeout, and look at what is stuck.
    Watch,
    /// Nobody needs you for now: look how long you may stay.
    Free,
    /// The crew has stopped.
    End,
}

/// A member's own place to wait in while it has nothing to hold.
#[derive(Debug)]
pub(crate) struct Spare {
    parker: Parker<Call>,
    /// It was reserved when it looked, so it sleeps until it is told something. Changes under the pool's lock.
    untimed: AtomicBool,
    /// It sleeps with the sentinel's timeout, or is about to. Changes to `false` under the lock of the list of those who
    /// sleep, so whoever makes a vacant slot the sentinel knows whether to tell its spare.
    pub(super) watches: AtomicBool,
    /// Its thread was given up before it ran.
    lost: AtomicBool,
}

impl Spare {
    pub(crate) fn new() -> Arc<Self> {
        let no = || AtomicBool::new(false);
        Arc::new(Spare { parker: Parker::new(), untimed: no(), watches: no(), lost: no() })
    }

    /// Tells a reserved spare what to do.
    pub(crate) fn call(&self, call: Call) {
        self.parker.unpark(call);
    }

    /// A reserved spare's life until it is told what to do, for a model.
    #[cfg(all(test, heist_loom))]
    pub(crate) fn wait(&self) -> Call {
        self.parker.park(None).expect("it is told something")
    }

    /// What it has been told and not heard yet, for a model.
    #[cfg(all(test, heist_loom))]
    pub(crate) fn told(&self) -> Option<Call> {
        self.parker.take()
    }

    /// By the spare's thread: what it is told, until an instant.
    pub(super) fn listen(&self, until: Option<Instant>) -> Option<Call> {
        self.parker.park(until)
    }

    /// Takes the call to work back, if it has not been heard yet: then the slot is the caller's, and the spare still reserved.
    /// What it hears instead is that it should look: the call may have come in the place of that.
    #[must_use]
    pub(crate) fn recall(&self, slot: usize) -> bool {
        self.parker.replace_if(|call| *call == Call::Work(slot), Call::Free)
    }

    /// By whoever gave its thread up without running it.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Release);
    }

    pub(crate) fn is_lost(&self) -> bool {
        // Acquire: pairs with the store in `lose`.
        self.lost.load(Acquire)
    }
}

/// Counts the turns that run on threads without a slot: see the page on quiescence.
#[derive(Debug)]
pub(crate) struct Elsewhere(AtomicUsize);

impl Elsewhere {
    pub(crate) fn new() -> Self {
        Elsewhere(AtomicUsize::new(0))
    }

    /// A turn is about to leave its slot. Before the slot can be seen parked: whoever sees that acquires this.
    pub(crate) fn leave(&self) {
        self.0.fetch_add(1, AcqRel);
    }

    /// A turn is on a slot again, or over. Returns `true` if it was the last one elsewhere.
    pub(crate) fn back(&self) -> bool {
        // Release: pairs with the Acquire in `any`; who reads that nobody is elsewhere sees what was done there.
        self.0.fetch_sub(1, AcqRel) == 1
    }

    pub(crate) fn any(&self) -> bool {
        self.0.load(Acquire) > 0
    }
}

/// The spares of one crew.
#[derive(Debug)]
pub(crate) struct Spares {
    most: usize,
    stay: Duration,
    pid: u32,
    pool: Mutex<Pool>,
    pub(crate) counts: Counts,
}

/// For reports, and written rarely: by any thread.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Slots that spares have taken over.
    pub(crate) hand_overs: Counter,
    /// Turns that were finished without a slot.
    pub(crate) turns: Counter,
    /// Times that a thread blocked and kept its slot, since no spare was to be had.
    pub(crate) kept: Counter,
    /// Waits that were refused.
    pub(crate) refused: Counter,
    /// Threads inside something that blocks now.
    pub(crate) blocked: AtomicUsize,
}

#[derive(Debug)]
struct Pool {
    /// Who is free, and since when; the last one is taken first, so that those that are too many get their rest.
    free: Vec<(Arc<Spare>, Instant)>,
    /// Threads beyond the number of workers, those that are being started included.
    extra: usize,
    /// A thread could not be started; not again before then.
    not_before: Option<Instant>,
    closed: bool,
}

impl Spares {
    pub(crate) fn new(most: usize, stay: Duration) -> Self {
        let pool = Pool { free: Vec::new(), extra: 0, not_before: None, closed: false };
        Spares { most, stay, pid: std::process::id(), pool: Mutex::new(pool), counts: Counts::default() }
    }

    /// Threads beyond the number of workers.
    pub(crate) fn alive(&self) -> usize {
        self.pool.lock().extra
    }

    /// A spare that nobody else can have, whose thread is started now if need be. It must be [called](Spare::call) or
    /// [let go](Self::let_go).
    pub(crate) fn reserve(&self, recruit: &Recruit<'_>) -> Option<Arc<Spare>> {
        if self.most == 0 || std::process::id() != self.pid {
            return None;
        }
        let mut pool = self.pool.lock();
        if pool.closed {
            return None;
        }
        if let Some((spare, _)) = pool.free.pop() {
            return Some(spare);
        }
        if pool.extra == self.most || pool.not_before.is_some_and(|then| time::now() < then) {
            return None;
        }
        pool.extra += 1;
        drop(pool);
        let spare = Spare::new();
        if recruit(Arc::clone(&spare)) {
            return Some(spare);
        }
        let mut pool = self.pool.lock();
        pool.extra -= 1;
        pool.not_before = time::after(self.stay);
        None
    }

    /// A reserved spare is free again.
    pub(crate) fn let_go(&self, spare: Arc<Spare>) {
        chaos();
        let mut pool = self.pool.lock();
        if pool.closed {
            drop(pool);
            spare.call(Call::End);
        } else {
            if spare.untimed.swap(false, Relaxed) {
                spare.call(Call::Free);
            }
            pool.free.push((spare, time::now()));
        }
    }

    /// The life of a spare until it is called; `None`: it ends, since nobody needed it for long, or (`End`) at the crew's end.
    pub(crate) fn wait(&self, me: &Arc<Spare>, free: bool) -> Option<Call> {
        if free {
            self.let_go(Arc::clone(me));
        }
        loop {
            let until = self.may_stay(me)?;
            chaos();
            match me.parker.park(until) {
                Some(Call::Free) | None => {}
                Some(call) => return Some(call),
            }
        }
    }

    /// A spare is about to watch: it sleeps with a timeout, so whoever lets it go need not wake it.
    pub(super) fn sleeps_timed(&self, me: &Arc<Spare>) {
        let _pool = self.pool.lock();
        me.untimed.store(false, Relaxed);
    }

    /// Until when, if not until it is told something; outer `None`: no longer.
    fn may_stay(&self, me: &Arc<Spare>) -> Option<Option<Instant>> {
        let mut pool = self.pool.lock();
        let place = pool.free.iter().position(|(spare, _)| Arc::ptr_eq(spare, me));
        me.untimed.store(place.is_none(), Relaxed);
        let Some(place) = place else { return Some(None) };
        let until = pool.free[place].1.checked_add(self.stay);
        if until.is_some_and(|until| until <= time::now()) {
            pool.free.remove(place);
            pool.extra -= 1;
            return None;
        }
        Some(until)
    }

    /// Counts out a thread that was told to [end](Call::End). At the crew's end each slot is held by
    /// one thread, so exactly the threads beyond the number of workers end without a slot.
    pub(super) fn ended(&self) {
        self.pool.lock().extra -= 1;
    }

    /// The crew has stopped: who is free ends.
    pub(super) fn close(&self) {
        let mut pool = self.pool.lock();
        pool.closed = true;
        let free = std::mem::take(&mut pool.free);
        drop(pool);
        free.iter().for_each(|(spare, _)| spare.call(Call::End));
    }
}
