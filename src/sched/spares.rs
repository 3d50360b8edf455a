//! Spares: threads that take over a worker's slot while its thread blocks inside a turn.
//!
//! # In prose
//!
//! Worker k is a *slot*: its queues, counts, heap and place to park
//! ([`Worker`](super::worker::Worker), [`Slot`](super::queue::Slot)). One thread at a time holds
//! it. A thread about to block in the middle of a turn reserves a *spare*, leaves the slot, and
//! blocks without a slot ([`blocking`](super::blocking)). How the slot is left depends on the work
//! there:
//!
//! - *There is work*: the spare is called to the slot at once, and goes on where the other thread
//!   was.
//! - *There is none*: the slot is parked, and no thread sleeps there; it is *vacant*. Waking the
//!   slot, or making it wait for the alarm, calls the spare there. The spare then continues as a
//!   thread asleep at the slot would. Otherwise the returning thread takes the slot back, and no
//!   thread has moved: two locks are the whole price.
//!
//! A thread that finds its slot taken finishes the turn as a [member](super::crew_thread) without a
//! slot, and then becomes a spare: all threads are alike. An unneeded spare ends after a while.
//!
//! # A thread and its slot
//!
//! | the thread | the slot | what happens | the thread, then | the slot, then |
//! |---|---|---|---|---|
//! | holds it | held | blocks; a spare, no work | blocks | vacant, with a spare reserved |
//! | holds it | held | blocks; a spare, work | blocks | called: its spare is on the way |
//! | holds it | held | blocks; no spare | blocks | kept; its work is given to the others |
//! | blocks | vacant or called | comes back | holds it; frees the spare | held |
//! | blocks | held by another | comes back | without; after its turn a spare | |
//! | | vacant | is woken, or waits for the alarm | its spare is called | called |
//! | | vacant | is the sentinel | its spare sleeps with a timeout, and looks | vacant |
//! | | vacant | its spare sees stuck work | the spare holds it | held |
//! | a spare, called | called | arrives | holds it | held |
//! | a spare, free | | has been for long enough | ends | |
//! | a spare, free or let go | | the crew stops | ends | |
//!
//! # Why a slot has one holder
//!
//! A vacant slot is a line in the list of parked workers, under that list's lock. Taking the line
//! out gives the slot. A called slot is a token in its spare's parker. Taking the token out gives
//! the slot. Both locks carry everything done by the last holder. (A returning thread takes
//! whatever it finds for its old slot. Another thread may have left the slot since, which does no
//! harm: only the slot matters.)
//!
//! # Why a slot always has a thread
//!
//! A spare is reserved before a slot is left. A reserved spare sleeps, is about to sleep, or is
//! being started, and no other thread can have it. If there is none, the slot is not left.
//!
//! # Quiescence
//!
//! A turn without a slot is counted from before the slot is left until after all its effects. While
//! the count is not 0 no wait is told that all is quiet. A thread without a slot
//! [announces](super::quiescence) when the count becomes 0. With a slot the worker is awake, and
//! parks later. A turn begins on an awake slot, so the count cannot rise while all slots are parked
//! (see [`Scheduler::check_quiescence`]).
//!
//! # Bounds
//!
//! There are never more threads than workers and the maximal number of spares together. A free
//! spare sleeps with one timeout, and after its end all is silent.
//!
//! Loom model: `models::spares`. Needed orderings: `cargo xtask weaken spares`.
//!
//! [`Scheduler::check_quiescence`]: super::Scheduler::check_quiescence

use super::start::ThreadStart;
use crate::sync::{AtomicBool, AtomicUsize, Counter, Mutex, Ordering::*, Parker, chaos};
use crate::time::{self, Duration, Instant};
use std::sync::Arc;

/// The most spare threads of one executor.
pub(crate) const MAX_SPARES: usize = 1 << 12;

/// A call to a spare thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assignment {
    /// Hold this slot, and go on with its work.
    Run(usize),
    /// Hold this slot, which is parked, or was at the time of the call.
    Park(usize),
    /// Hold this slot, which the spare has taken to rescue stuck work. Told by the spare to itself.
    Catch(usize),
    /// A vacant slot with this spare is the sentinel: sleep with a timeout, and look for stuck
    /// work.
    Watch,
    /// The spare is not needed for now: look how long it may stay.
    Idle,
    /// The crew has stopped.
    Exit,
}

/// A place where a member waits while it holds no slot.
#[derive(Debug)]
pub(crate) struct Spare {
    parker: Parker<Assignment>,
    /// Whether the spare sleeps without a timeout, since it was reserved at its last look. Written
    /// under the pool's lock.
    untimed: AtomicBool,
    /// Whether the spare sleeps with the sentinel's timeout, or is about to. Set to `false` under
    /// the lock of the list of parked workers, so that appointing a vacant slot shows whether to
    /// tell the spare.
    pub(super) watches: AtomicBool,
    /// The start of the spare's thread. Once it is counted on, a slot may be left to the spare.
    pub(crate) start: ThreadStart,
}

impl Spare {
    pub(crate) fn new() -> Arc<Self> {
        let no = || AtomicBool::new(false);
        Arc::new(Spare {
            parker: Parker::new(),
            untimed: no(),
            watches: no(),
            start: ThreadStart::new(),
        })
    }

    /// Tells a reserved spare what to do.
    pub(crate) fn call_to(&self, call: Assignment) {
        self.parker.unpark(call);
    }

    /// Waits until a reserved spare is told what to do, for a model.
    #[cfg(all(test, heist_loom))]
    pub(crate) fn wait_for_call(&self) -> Assignment {
        self.parker.park(None).expect("it is told something")
    }

    /// Returns what the spare has been told and has not heard yet, for a model.
    #[cfg(all(test, heist_loom))]
    pub(crate) fn pending_call(&self) -> Option<Assignment> {
        self.parker.take_token()
    }

    /// Waits for a call, until an instant. Called on the spare's thread.
    pub(super) fn listen_until(&self, until: Option<Instant>) -> Option<Assignment> {
        self.parker.park(until)
    }

    /// Takes back a call to work, if the spare has not heard it yet. Then the slot is the caller's,
    /// and the spare is still reserved. The spare hears `Idle` instead: the call may have replaced
    /// a token that told it to look.
    #[must_use]
    pub(crate) fn take_call_back(&self, slot: usize) -> bool {
        self.parker.replace_if(|call| *call == Assignment::Run(slot), Assignment::Idle)
    }
}

/// Counts the turns that run on threads without a slot: see the page on quiescence.
#[derive(Debug)]
pub(crate) struct Elsewhere(AtomicUsize);

impl Elsewhere {
    pub(crate) fn new() -> Self {
        Elsewhere(AtomicUsize::new(0))
    }

    /// Counts a turn that is about to leave its slot. Called before the slot can be seen parked;
    /// seeing the slot parked acquires the count.
    pub(crate) fn count_left(&self) {
        self.0.fetch_add(1, AcqRel);
    }

    /// Counts out a turn that is on a slot again, or over. Returns `true` if it was the last one
    /// elsewhere.
    pub(crate) fn count_back(&self) -> bool {
        // Release: pairs with the Acquire in `any_elsewhere`, so a thread that reads 0 sees
        // everything done by these turns.
        self.0.fetch_sub(1, AcqRel) == 1
    }

    pub(crate) fn any_elsewhere(&self) -> bool {
        self.0.load(Acquire) > 0
    }
}

/// Starts a thread for a spare. Returns `false` if there is none. May run user code.
pub(crate) type Recruit<'a> = dyn Fn(Arc<Spare>) -> bool + 'a;

/// The spares of one crew.
#[derive(Debug)]
pub(crate) struct Spares {
    most: usize,
    stay: Duration,
    pid: u32,
    pool: Mutex<SparePool>,
    pub(crate) counts: SpareCounts,
}

/// Counts for reports. Any thread writes them, rarely.
#[derive(Debug, Default)]
pub(crate) struct SpareCounts {
    /// Slots that spares have taken over.
    pub(crate) hand_overs: Counter,
    /// Turns that were finished without a slot.
    pub(crate) turns: Counter,
    /// Number of times that a thread blocked and kept its slot, since there was no spare.
    pub(crate) kept: Counter,
    /// Number of waits that were refused.
    pub(crate) refused: Counter,
    /// Threads inside something that blocks now.
    pub(crate) blocked: AtomicUsize,
}

#[derive(Debug)]
struct SparePool {
    /// Free spares, and since when. The last one is taken first, so that surplus spares are left
    /// alone and end.
    free: Vec<(Arc<Spare>, Instant)>,
    /// Threads beyond the number of workers, including those that are being started.
    extra: usize,
    /// Set when a thread could not be started: no further attempt before this instant.
    not_before: Option<Instant>,
    closed: bool,
}

impl Spares {
    pub(crate) fn new(most: usize, stay: Duration) -> Self {
        let pool = SparePool { free: Vec::new(), extra: 0, not_before: None, closed: false };
        Spares {
            most,
            stay,
            pid: std::process::id(),
            pool: Mutex::new(pool),
            counts: SpareCounts::default(),
        }
    }

    /// Returns the number of threads beyond the number of workers.
    pub(crate) fn alive_threads(&self) -> usize {
        self.pool.lock().extra
    }

    /// Reserves a spare, and starts a thread for it if need be. The spare must be
    /// [called](Spare::call_to) or [let go](Self::let_go).
    pub(crate) fn reserve_spare(&self, recruit: &Recruit<'_>) -> Option<Arc<Spare>> {
        // A forked child has no threads to start from, and the lock may be held there for ever.
        if self.most == 0 || std::process::id() != self.pid {
            return None;
        }
        // Also while the crew ends: a chore may block until another chore has run.
        let mut pool = self.pool.lock();
        if let Some((spare, _)) = pool.free.pop() {
            return Some(spare);
        }
        if pool.extra == self.most || pool.not_before.is_some_and(|then| time::now() < then) {
            return None;
        }
        pool.extra += 1;
        // The lock is released: starting a thread may run user code.
        drop(pool);
        let spare = Spare::new();
        if recruit(Arc::clone(&spare)) {
            return Some(spare);
        }
        let mut pool = self.pool.lock();
        pool.extra -= 1;
        pool.not_before = time::instant_after(self.stay);
        None
    }

    /// Frees a reserved spare.
    pub(crate) fn let_go(&self, spare: Arc<Spare>) {
        chaos();
        let mut pool = self.pool.lock();
        if pool.closed {
            drop(pool);
            spare.call_to(Assignment::Exit);
        } else {
            // A spare with a timeout looks by itself, so only one without is woken.
            if spare.untimed.swap(false, Relaxed) {
                spare.call_to(Assignment::Idle);
            }
            pool.free.push((spare, time::now()));
        }
    }

    /// Waits, on the spare's thread, until it is called. Returns `None` if the spare ends, since it
    /// was not needed for long. At the crew's end the call is `Exit`.
    pub(crate) fn wait_for_call(&self, me: &Arc<Spare>, free: bool) -> Option<Assignment> {
        if free {
            self.let_go(Arc::clone(me));
        }
        loop {
            let until = self.may_stay(me)?;
            chaos();
            match me.parker.park(until) {
                Some(Assignment::Idle) | None => {}
                Some(call) => return Some(call),
            }
        }
    }

    /// Marks a spare as sleeping with a timeout, since it is about to watch. Letting the spare go
    /// need not wake it then.
    pub(super) fn sleeps_timed(&self, me: &Arc<Spare>) {
        let _pool = self.pool.lock();
        me.untimed.store(false, Relaxed);
    }

    /// Returns until when the spare may sleep: `None` if it must end, `Some(None)` if it sleeps
    /// until it is told something.
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

    /// Counts out a thread that was told to [end](Assignment::Exit). At the crew's end each slot is
    /// held by one thread, so exactly the threads beyond the number of workers end without a slot.
    pub(super) fn count_ended(&self) {
        self.pool.lock().extra -= 1;
    }

    /// Ends all free spares, after the crew has stopped.
    pub(super) fn end_free_spares(&self) {
        let mut pool = self.pool.lock();
        pool.closed = true;
        let free = std::mem::take(&mut pool.free);
        drop(pool);
        free.iter().for_each(|(spare, _)| spare.call_to(Assignment::Exit));
    }
}
