//! A pool's life: losses and successors, a change of size, the end.
//!
//! | what | how | finished when |
//! |---|---|---|
//! | a replica's state is lost | `cell::restart`: at once, after a time, or not at all | the factory has made another |
//! | the pool grows | new replicas; senders see them all at once; a *mark* in each old replica's mailbox | each mark was passed |
//! | the pool shrinks | senders do not see the last ones any more; these are closed, and handle what they have | each has ended |
//! | it stops | senders are refused; the queue is closed; when it is empty the replicas are | all have ended |
//! | it stops at once | all are closed, and what waits becomes dead letters | the same |
//!
//! **How a key's order is kept while the pool changes.** A key moves from one replica to another because its hash jumps elsewhere.
//! Its messages of before are in the old one's mailbox, or in line for it, when the list has changed: that is what the stripes'
//! locks are for. Those that come after go into a *hold* for this pair of replicas, a mailbox that nobody takes from, which is made
//! when the first of them comes ([`moving`](super::moving)). When the old
//! replica has come to the mark (or to its end), all of before are handled: then, with no sender on its way, the hold is emptied
//! into the new replica's mailbox, and the key's messages go there directly. So each key waits for its own old replica
//! only, and nothing else waits. A moment's excess is possible: what comes out of holds is not refused by a full mailbox.

use super::builder::Settings;
use super::counts::Counts;
use super::losses::Losses;
use super::members::{List, Member, OUTSIDE, Stripe, Stripes};
use super::moving::Moving;
use super::strategy::{Route, Strategy};
use super::{PoolEnd, PoolError};
use crate::actor::Actor;
use crate::actor::handle::Handle;
use crate::actor::kept::{NoQueue, QueueEnd, Successors, mark, spawn_queue};
use crate::actor::refs::ActorRef;
use crate::cell::event::Loss;
use crate::cell::header::Header;
use crate::cell::restart::Verdict;
use crate::cell::shared::{Hold, Sharing};
use crate::drops;
use crate::error::{Refusal, StopReason};
use crate::sched::local::Local;
use crate::sched::timers::Key;
use crate::sync::{Mutex, Ordering::Relaxed, WakerKey, Wakers, thread_stripe};
use crate::time::{self, Duration};
use crate::user;
use std::collections::VecDeque;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

/// States for replicas that are about to be spawned. Each is boxed, since it may be large.
pub(super) type States<A> = VecDeque<Box<A>>;

/// Has states made for these indexes. User code: under no lock.
pub(super) fn make_states<A>(factory: &Factory<A>, indexes: Range<usize>) -> Result<States<A>, PoolError> {
    let mut states = VecDeque::with_capacity(indexes.len());
    for index in indexes {
        match factory(index) {
            Ok(state) => states.push_back(Box::new(state)),
            Err(error) => return Err(PoolError::Factory { index, error }),
        }
    }
    Ok(states)
}

pub(super) type Factory<A> = Box<dyn Fn(usize) -> Result<A, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// What a pool's handles and its cells have in common.
pub(super) struct Shared<A: Actor> {
    pub(super) handle: Handle,
    pub(super) stripes: Stripes<A>,
    pub(super) usual: Box<dyn Strategy + Send + Sync>,
    pub(super) usual_route: Option<Route>,
    factory: Factory<A>,
    settings: Settings,
    sharing: Arc<Sharing>,
    /// One change of the list at a time.
    change: Mutex<()>,
    life: Mutex<Life>,
}

struct Life {
    /// Cells that have not ended.
    cells: usize,
    end: Option<PoolEnd>,
    queue_ended: bool,
    /// All losses that matter still, and those of each replica.
    losses: Losses,
    losses_of: Vec<Losses>,
    /// Successors that are waited for: whose, and the timer's key.
    waiting: Vec<(usize, Key)>,
    wakers: Wakers,
}

/// What keeps one replica going.
struct Replica<A: Actor> {
    shared: Arc<Shared<A>>,
    index: usize,
    counts: Arc<Counts>,
}

/// Which mailbox without an actor has ended.
struct Mailbox<A: Actor> {
    shared: Arc<Shared<A>>,
    queue: bool,
}

impl<A: Actor + Send> Shared<A> {
    /// A pool with these states.
    pub(super) fn start(
        handle: Handle,
        factory: Factory<A>,
        usual: Box<dyn Strategy + Send + Sync>,
        settings: Settings,
        mut states: States<A>,
    ) -> Result<Arc<Self>, PoolError> {
        let life = Life {
            cells: 0,
            end: None,
            queue_ended: false,
            losses: Losses::default(),
            losses_of: Vec::new(),
            waiting: Vec::new(),
            wakers: Wakers::default(),
        };
        let workers = handle.workers();
        let shared = Arc::new(Shared {
            stripes: Stripes::new(workers + OUTSIDE),
            usual_route: usual.fixed(),
            usual,
            handle,
            factory,
            settings,
            sharing: Arc::new(Sharing::new()),
            change: Mutex::new(()),
            life: Mutex::new(life),
        });
        let one = shared.change.lock();
        let members = shared.spawn(0, &mut states)?;
        let queue = match shared.mailbox(&shared.sharing, true) {
            Ok(queue) => queue,
            Err(error) => {
                members.iter().for_each(|member| Header::close(member.actor.as_ptr(), true));
                return Err(error);
            }
        };
        let stopped = shared.life.lock().end.is_some(); // lost too many already
        shared.stripes.change(|_| Some(List { members, queue: Some(queue), moving: None, stopped }));
        drop(one);
        if stopped {
            shared.close(false);
        }
        Ok(shared)
    }

    /// Replicas with these states, from this index on: all of them, or none. States that are left are the caller's to drop, outside
    /// all locks.
    fn spawn(self: &Arc<Self>, from: usize, states: &mut States<A>) -> Result<Vec<Member<A>>, PoolError> {
        let mut members: Vec<Member<A>> = Vec::with_capacity(states.len());
        while let Some(state) = states.pop_front() {
            let index = from + members.len();
            let counts = Arc::new(Counts::default());
            let replica = Replica { shared: Arc::clone(self), index, counts: Arc::clone(&counts) };
            let Settings { capacity, timing, .. } = self.settings;
            let mut builder = self.handle.build(*state).exact_capacity(capacity).timing(timing);
            if let Some(name) = &self.settings.name {
                builder = builder.name(format!("{name}-{index}"));
            }
            self.life.lock().cells += 1;
            match builder.kept(replica, &self.sharing).try_spawn() {
                Ok(actor) => members.push(Member { actor, counts }),
                Err(error) => {
                    states.push_front(Box::new(error.into_actor()));
                    self.life.lock().cells -= 1;
                    members.iter().for_each(|member| Header::close(member.actor.as_ptr(), true));
                    return Err(PoolError::ShuttingDown);
                }
            }
        }
        Ok(members)
    }

    /// The number of replicas changes. See [`Pool::resize`](super::Pool::resize).
    pub(super) fn resize(self: &Arc<Self>, to: usize) -> Result<(), PoolError> {
        if to == 0 {
            return Err(PoolError::NoReplicas);
        }
        let before = self.resizable()?;
        // The user's code, under no lock.
        let mut states = make_states(&self.factory, before..to)?;
        let one = self.change.lock();
        if self.resizable()? != before {
            return Err(PoolError::Resizing);
        }
        let new = self.spawn(before, &mut states)?;
        let (mut stay, mut go) = (Vec::new(), Vec::new());
        self.stripes.change(|list| {
            let mut next = List::clone(list?);
            stay.extend_from_slice(&next.members[..before.min(to)]);
            go.extend(next.members.drain(before.min(to)..));
            next.members.extend(new);
            next.moving = (to != before).then(|| Arc::new(Moving::new(before, go.clone())));
            Some(next)
        });
        drop(one);
        if to > before {
            for (from, member) in stay.iter().enumerate() {
                let shared = Arc::clone(self);
                mark(&member.actor, Box::new(move || shared.passed(from)));
            }
        }
        // Their end is their mark.
        go.iter().for_each(|member| Header::close(member.actor.as_ptr(), false));
        Ok(())
    }

    /// How many replicas there are, if that can change now.
    fn resizable(&self) -> Result<usize, PoolError> {
        if self.forked() {
            return Err(PoolError::ShuttingDown);
        }
        let list = self.list();
        match list {
            list if list.stopped => Err(PoolError::Stopped),
            list if list.moving.is_some() => Err(PoolError::Resizing),
            list => Ok(list.members.len()),
        }
    }
}

impl<A: Actor> Shared<A> {
    /// A mailbox without an actor.
    fn mailbox(self: &Arc<Self>, sharing: &Arc<Sharing>, queue: bool) -> Result<ActorRef<A>, PoolError> {
        let capacity = if queue { self.settings.queue_capacity } else { self.settings.capacity };
        self.life.lock().cells += 1;
        let end = Mailbox { shared: Arc::clone(self), queue };
        spawn_queue(&self.handle, capacity, self.timing(), end, sharing).map_err(|NoQueue| {
            self.life.lock().cells -= 1;
            PoolError::ShuttingDown
        })
    }

    /// The hold for a pair of replicas. Called by a sender, under its stripe's lock; runs no user code.
    #[cold]
    pub(super) fn hold(
        self: &Arc<Self>,
        list: &List<A>,
        moving: &Moving<A>,
        from: usize,
        into: usize,
    ) -> Result<ActorRef<A>, Refusal> {
        let make = || {
            let [from, into] =
                [(moving.member(list, from)), &list.members[into]].map(|member| member.actor.id());
            self.mailbox(&Arc::new(Sharing::hold(Hold { from, into })), false)
        };
        moving.hold(from, into, make).map_err(|_shutting_down| Refusal::ShuttingDown)
    }

    /// Are the replicas, and with them the mailboxes without an actor, timed?
    pub(super) fn forked(&self) -> bool {
        self.handle.core().forked()
    }

    pub(super) fn timing(&self) -> bool {
        self.settings.timing
    }

    /// This thread's stripe.
    #[inline]
    pub(super) fn stripe(&self) -> &Stripe<A> {
        let core = self.handle.core();
        let index = Local::with(&core.scheduler, |local| match local {
            Some(local) => local.index(),
            None => core.workers() + thread_stripe(OUTSIDE),
        });
        self.stripes.get(index)
    }

    /// A snapshot. In a forked child, where the lists may be locked for ever, a pool is stopped and empty.
    pub(super) fn list(&self) -> Arc<List<A>> {
        if self.forked() {
            return Arc::new(List { members: Vec::new(), queue: None, moving: None, stopped: true });
        }
        self.stripe().snapshot()
    }

    /// A replica that keys move away from has handled all messages of before.
    fn passed(&self, from: usize) {
        if self.list().moving.is_none() {
            return;
        }
        let mut emptied = None;
        let one = self.change.lock();
        self.stripes.change(|list| {
            let list = list?;
            let moving = list.moving.as_ref()?;
            let holds = emptied.insert(moving.pass(from)?);
            for (&into, hold) in holds.iter() {
                if let Some(kept) = hold.header().kept() {
                    kept.sharing.move_to(list.members[into].actor.strong());
                }
            }
            moving.is_over().then(|| List { moving: None, ..List::clone(list) })
        });
        drop(one);
        drop(emptied); // references that go: not under the locks
        self.close_if_drained();
    }

    /// The pool stops; for this reason, unless it has one.
    pub(super) fn end(&self, end: PoolEnd, kill: bool) {
        if self.forked() {
            return;
        }
        self.life.lock().end.get_or_insert(end);
        {
            let _one = self.change.lock();
            self.stripes.change(|list| Some(List { stopped: true, ..List::clone(list?) }));
        }
        self.close(kill);
    }

    /// Closes the queue, and then or at once everything else.
    fn close(&self, kill: bool) {
        let list = self.list();
        if let Some(queue) = &list.queue {
            Header::close(queue.as_ptr(), kill);
        }
        if kill {
            // Those that a shrink has let go of are in the list of the change only, until the last of them has ended.
            let leaving = list.moving.iter().flat_map(|moving| &moving.leaving);
            for member in list.members.iter().chain(leaving) {
                Header::close(member.actor.as_ptr(), true);
            }
            let holds = list.moving.as_ref().map_or_else(Vec::new, |moving| moving.all_holds());
            holds.iter().for_each(|hold| Header::close(hold.as_ptr(), true));
            // A replica that waits for its successor either sees by now that it is killed, under the timers' lock, or
            // has its timer here.
            let _ = self.handle.core().scheduler.timers.armed();
            let waiting = std::mem::take(&mut self.life.lock().waiting);
            for (_, key) in waiting {
                self.handle.core().scheduler.timers.cancel(key); // whose runnable goes on, to its end
            }
        }
        self.close_if_drained();
    }

    /// Closes the replicas of a stopped pool, once they are all that is left.
    fn close_if_drained(&self) {
        let list = self.list();
        if list.stopped && list.moving.is_none() && self.life.lock().queue_ended {
            list.members.iter().for_each(|member| Header::close(member.actor.as_ptr(), false));
        }
    }

    /// A cell has ended.
    fn one_less(&self, reason: &StopReason) {
        let wakers = {
            let mut life = self.life.lock();
            life.cells -= 1;
            if life.cells > 0 {
                return;
            }
            let end = if *reason == StopReason::Killed { PoolEnd::Killed } else { PoolEnd::Shutdown };
            life.end.get_or_insert(end);
            life.wakers.take_all()
        };
        wakers.into_iter().for_each(user::wake);
    }

    /// Returns why the pool has ended, if it has.
    pub(super) fn ended(&self) -> Option<PoolEnd> {
        if self.forked() {
            return None;
        }
        let life = self.life.lock();
        if life.cells == 0 { life.end.clone() } else { None }
    }

    /// As [`ended`](Self::ended). If the pool has not ended, its end will wake the waker, unless the key is
    /// [forgotten](Self::forget_wait) before.
    pub(super) fn poll_ended(&self, key: &mut Option<WakerKey>, waker: &Waker) -> Option<PoolEnd> {
        if self.forked() {
            return None;
        }
        let waker = user::clone_waker(waker); // user code, as is the drop of a waker: not under the lock
        let mut life = self.life.lock();
        let (end, unused) = match life.cells {
            0 => (life.end.clone(), Some(waker)),
            _ => (None, life.wakers.enter(key, waker)),
        };
        drop(life);
        drops::waker(unused);
        end
    }

    /// A wait for the end is given up.
    pub(super) fn forget_wait(&self, key: WakerKey) {
        if !self.forked() {
            let own = self.life.lock().wakers.remove(key);
            drops::waker(own);
        }
    }

    /// Has it been stopped, or has it ended?
    pub(super) fn stopping(&self) -> bool {
        self.forked() || self.life.lock().end.is_some()
    }

    /// What follows a loss.
    fn verdict(&self, index: usize, loss: &Loss) -> Verdict {
        let Settings { first_backoff, longest_backoff, limit, window, .. } = self.settings;
        let now = time::now();
        let (losses, own) = {
            let mut life = self.life.lock();
            if matches!(life.end, Some(PoolEnd::ReplacedTooOften { .. })) {
                return Verdict::End;
            }
            if life.losses_of.len() <= index {
                life.losses_of.resize_with(index + 1, Losses::default);
            }
            (life.losses.add(now, window), life.losses_of[index].add(now, window))
        };
        if losses > u64::from(limit) {
            self.end(PoolEnd::ReplacedTooOften { replacements: limit, window, last: loss.clone() }, false);
            return Verdict::End;
        }
        // The first one at once, then twice as long each time.
        let doublings = u32::try_from(own).unwrap_or(u32::MAX).saturating_sub(2);
        let backoff = first_backoff.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX));
        Verdict::Replace(if own < 2 { Duration::ZERO } else { backoff.min(longest_backoff) })
    }
}

impl<A: Actor> Successors<A> for Replica<A> {
    fn lost(&self, loss: &Loss) -> Verdict {
        if let Loss::Panicked(_) = loss {
            self.counts.failed.fetch_add(1, Relaxed);
        }
        let verdict = self.shared.verdict(self.index, loss);
        if verdict != Verdict::End {
            self.counts.replaced.fetch_add(1, Relaxed);
            self.counts.set_absent(true);
        }
        verdict
    }

    fn make(&self) -> Result<A, String> {
        self.shared.life.lock().waiting.retain(|&(index, _)| index != self.index);
        let actor = (self.shared.factory)(self.index).map_err(|error| error.to_string())?;
        self.counts.set_absent(false);
        Ok(actor)
    }

    fn waits(&self, key: Key) {
        self.shared.life.lock().waiting.push((self.index, key));
    }

    fn ended(&self, reason: &StopReason) {
        self.shared.passed(self.index);
        self.shared.one_less(reason);
    }
}

impl<A: Actor> QueueEnd for Mailbox<A> {
    fn ended(&self, reason: &StopReason) {
        if self.queue {
            self.shared.life.lock().queue_ended = true;
            self.shared.close_if_drained();
        }
        self.shared.one_less(reason);
    }
}
