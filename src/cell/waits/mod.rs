//! The table of waits: which actor waits for which, so that a cycle of waits is refused instead of
//! waited for.
//!
//! An actor that blocks in a turn until another actor has acted (answered, made room, ended) has a
//! *line* in the table of its executor. The line names a bell, which the other actor rings. An
//! actor writes its line before it waits, and then follows the lines from itself on, from table to
//! table ([`stuck`]). If all actors found there wait for each other, in lines with unrung bells,
//! none would ever go on, and the wait is refused.
//!
//! | awaited | the actor that must act | known from |
//! |---|---|---|
//! | an answer | the asked actor | the line |
//! | the same, [forwarded](crate::Context::forward) | the last target | a *forward* (1) |
//! | an answer through a pool's queue | the replica that took the message (2) | [`Sharing`] |
//! | the same, of a key that moves | the old replica, then the new one | [`Sharing`] of the hold |
//! | anything of a key's new actor | the old actor, still in `stopped` | a *succession* (3) |
//! | room, an end | that actor | the line |
//!
//! (1) In the asked actor's table, under the address of the ask. (2) Under the address of the ask,
//! until the ask's memory goes. Before the message is taken, any replica. (3) In the table, until
//! the new actor's first turn.
//!
//! **Why each cycle is seen.** Each table has a lock, and no thread holds two such locks. An actor
//! writes a line before it follows others, so the writer of a cycle's last line finds all the
//! others. A forward is written before the lines are followed as well.
//!
//! **Why nothing else is refused.** A line counts until the bell is rung, by the turn that answers
//! and before that turn goes on. The lines are collected twice. A line found both times, with the
//! same number and unrung, was there all the time in between. So everything found stood at the same
//! instant.
//!
//! **Which wait is refused.** In a cycle inside one executor, the wait written last. In a cycle
//! through several executors, a forward, a queue or a succession, perhaps two waits written at the
//! same time, since each sees the other.
//!
//! **What cannot be known**: a reply may have been moved, in a message or to another thread, and be
//! answered from there. A wait for such a reply counts as one for the asked actor. Waits of threads
//! and tasks outside are not seen.
//!
//! Loom model: `models::waits`. Needed orderings: `cargo xtask weaken`, group `waits`.

mod register;
mod stuck;

use super::header::Header;
use super::sharing::Sharing;
use super::shrinking_map::ShrinkingMap;
use crate::id::{ActorId, WaitingActor};
use crate::sync::{Mutex, ThreadWaker};
use crate::time::{self, Duration, Instant};
use std::fmt;
use std::sync::Arc;
use std::task::Wake;

impl WaitingActor {
    pub(crate) fn from_header(header: &Header) -> Self {
        WaitingActor { id: header.id(), type_name: header.type_name(), name: header.name() }
    }
}

/// A wait of an actor that blocks in a handler or a hook until another actor has done something.
/// See [`Handle::waits`](crate::Handle::waits).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Waiting {
    /// The actor that waits.
    pub actor: WaitingActor,
    /// The actor that it waits for: the one that was asked, is to make room, or is to end. If a
    /// pool's shared queue was asked, that queue.
    pub target: WaitingActor,
    /// How long it has waited so far.
    pub waited: Duration,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} waits for {}, for {:?} so far", self.actor, self.target, self.waited)
    }
}

/// The table of one executor.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<WaitTable>);

#[derive(Debug, Default)]
struct WaitTable {
    lines: ShrinkingMap<ActorId, WaitLine>,
    /// Forwarded requests to actors of this executor, by the address of the ask, until the ask's
    /// memory goes.
    forwards: ShrinkingMap<usize, Forward>,
    /// Predecessor of each actor with a first turn that must follow the predecessor's last turn.
    successions: ShrinkingMap<ActorId, ActorId>,
    /// The same pairs in the other direction.
    successors: ShrinkingMap<ActorId, ActorId>,
    /// The last number that a line or a forward got.
    last: u64,
}

/// An actor, named by its executor's table and its id there.
#[derive(Clone)]
pub(crate) struct ActorKey {
    pub(crate) table: Arc<Waits>,
    pub(crate) id: ActorId,
}

/// The target of a wait.
#[derive(Clone)]
pub(crate) struct WaitTarget {
    pub(crate) at: ActorKey,
    /// Set if the target is a pool's queue, or a hold.
    pub(crate) sharing: Option<Arc<Sharing>>,
    /// Address of the awaited ask, or 0.
    pub(crate) ask: usize,
}

/// A wait that is written down.
struct WaitLine {
    number: u64,
    who: WaitingActor,
    whom: WaitingActor,
    target: WaitTarget,
    bell: Arc<ThreadWaker>,
    since: Instant,
}

/// The line of an outer wait of the same actor, kept while an inner wait takes its place.
pub(crate) struct Outer(WaitLine);

#[derive(Debug)]
struct Forward {
    number: u64,
    to: ActorKey,
}

impl ActorKey {
    pub(crate) fn from_header(header: &Header) -> Self {
        ActorKey { table: Arc::clone(&header.core().waits), id: header.id() }
    }
}

impl PartialEq for ActorKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && Arc::ptr_eq(&self.table, &other.table)
    }
}

impl fmt::Debug for ActorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ActorKey").field(&self.id).finish()
    }
}

impl fmt::Debug for WaitLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitLine")
            .field("who", &self.who)
            .field("whom", &self.whom)
            .finish_non_exhaustive()
    }
}

impl WaitTarget {
    /// Returns the target of a wait for this actor, or for the answer to the ask at this address if
    /// not 0.
    pub(crate) fn from_header(header: &Header, ask: usize) -> Self {
        let queue = header.supervised().filter(|supervised| supervised.is_queue());
        WaitTarget {
            at: ActorKey::from_header(header),
            sharing: queue.map(|supervised| Arc::clone(&supervised.sharing)),
            ask,
        }
    }
}

impl WaitTable {
    /// Returns a new number. A walk compares numbers to see that a line is the same one.
    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Returns `true` if the actor is known to wait for nothing.
    fn waits_for_nothing(&self, id: ActorId) -> bool {
        self.lines.value_of(&id).is_none_or(|line| line.bell.has_rung())
            && !self.successions.contains_key(&id)
    }
}

impl Waits {
    /// Removes an actor's line, and puts the outer one back. The outer wait's bell is rung, so the
    /// outer wait begins anew: other actors may have begun to wait for this actor meanwhile,
    /// without seeing the outer line.
    pub(crate) fn unregister_wait(&self, who: ActorId, outer: Option<Outer>) {
        if let Some(Outer(line)) = &outer {
            // Rung before the line is back, so no walk sees the outer line unrung.
            line.bell.wake_by_ref();
        }
        let mut table = self.0.lock();
        let line = match outer {
            None => table.lines.remove_key(&who),
            Some(Outer(line)) => table.lines.insert(who, line),
        };
        drop(table);
        // After the lock: the line may own the last reference to another table.
        drop(line);
    }

    /// Returns the actor that answers an ask, if its request was forwarded.
    pub(crate) fn forwarded_to(&self, ask: usize) -> Option<ActorKey> {
        self.0.lock().forwards.value_of(&ask).map(|forward| forward.to.clone())
    }

    /// Takes a forward back. `to` is the forward before, if any.
    pub(crate) fn restore_forward(&self, ask: usize, to: Option<ActorKey>) {
        let mut table = self.0.lock();
        let number = table.next_number();
        let old = match to {
            Some(to) => table.forwards.insert(ask, Forward { number, to }),
            None => table.forwards.remove_key(&ask),
        };
        drop(table);
        drop(old);
    }

    /// Records that the first turn of an actor comes after the last turn of another.
    pub(crate) fn register_succession(&self, successor: ActorId, predecessor: ActorId) {
        let mut table = self.0.lock();
        table.successions.insert(successor, predecessor);
        table.successors.insert(predecessor, successor);
    }

    /// Records that the predecessor's last turn is over, so the successor may begin.
    pub(crate) fn end_succession(&self, predecessor: ActorId) {
        let mut table = self.0.lock();
        if let Some(successor) = table.successors.remove_key(&predecessor) {
            table.successions.remove_key(&successor);
        }
    }

    /// Returns all waits that have not been rung.
    pub(crate) fn unfinished_waits(&self) -> Vec<Waiting> {
        let now = time::now();
        let table = self.0.lock();
        // A wait with a rung bell is about to end.
        let lines = table.lines.values().filter(|line| !line.bell.has_rung());
        let waiting = |line: &WaitLine| Waiting {
            actor: line.who.clone(),
            target: line.whom.clone(),
            waited: now.saturating_duration_since(line.since),
        };
        lines.map(waiting).collect()
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use std::num::NonZeroU64;

    fn id(n: u64) -> ActorId {
        ActorId::from_raw(NonZeroU64::new(n).unwrap())
    }

    fn named(n: u64) -> WaitingActor {
        WaitingActor { id: id(n), type_name: "test", name: None }
    }

    fn place(table: &Arc<Waits>, n: u64) -> ActorKey {
        ActorKey { table: Arc::clone(table), id: id(n) }
    }

    /// Lets `who` of the first table wait for `whom` of the second.
    fn wait(
        from: &Arc<Waits>,
        who: u64,
        to: &Arc<Waits>,
        whom: u64,
        ask: usize,
    ) -> Result<(), Vec<u64>> {
        rings(from, who, to, whom, ask, &ThreadWaker::new())
    }

    fn rings(
        from: &Arc<Waits>,
        who: u64,
        to: &Arc<Waits>,
        whom: u64,
        ask: usize,
        bell: &Arc<ThreadWaker>,
    ) -> Result<(), Vec<u64>> {
        let target = WaitTarget { at: place(to, whom), sharing: None, ask };
        let cycle = from.register_wait(named(who), named(whom), target, bell);
        cycle
            .map(|_outer| ())
            .map_err(|cycle| cycle.actors().iter().map(|actor| actor.id.get()).collect())
    }

    #[test]
    fn the_last_line_of_a_cycle_is_refused_and_names_it() {
        let waits = Arc::<Waits>::default();
        assert_eq!(wait(&waits, 1, &waits, 1, 0), Err(vec![1]));
        assert_eq!(wait(&waits, 1, &waits, 2, 0), Ok(()));
        assert_eq!(wait(&waits, 2, &waits, 3, 0), Ok(()));
        assert_eq!(wait(&waits, 4, &waits, 1, 0), Ok(()), "a tail is no cycle");
        assert_eq!(wait(&waits, 3, &waits, 1, 0), Err(vec![3, 1, 2]));
        waits.unregister_wait(id(2), None);
        assert_eq!(wait(&waits, 3, &waits, 1, 0), Ok(()), "2 waits no more");
        assert_eq!(wait(&waits, 2, &waits, 4, 0), Err(vec![2, 4, 1]));
    }

    #[test]
    fn who_has_been_answered_does_not_count_as_waiting() {
        let (waits, answered) = (Arc::<Waits>::default(), ThreadWaker::new());
        assert_eq!(rings(&waits, 1, &waits, 2, 0, &answered), Ok(()));
        answered.wake_by_ref();
        assert_eq!(wait(&waits, 2, &waits, 1, 0), Ok(()), "1 is about to go on");
        assert_eq!(wait(&waits, 3, &waits, 2, 0), Ok(()));
        assert_eq!(wait(&waits, 4, &waits, 3, 0), Ok(()));
        let answered = ThreadWaker::new();
        assert_eq!(rings(&waits, 1, &waits, 4, 0, &answered), Err(vec![1, 4, 3, 2]));
        answered.wake_by_ref();
        assert_eq!(rings(&waits, 5, &waits, 6, 0, &answered), Ok(()), "5 has its answer");
        assert_eq!(wait(&waits, 7, &waits, 5, 0), Ok(()));
        assert_eq!(wait(&waits, 6, &waits, 7, 0), Ok(()), "the walk from 6 ends at 5");
    }

    #[test]
    fn a_cycle_through_two_tables_is_refused() {
        let (a, b) = (Arc::<Waits>::default(), Arc::<Waits>::default());
        assert_eq!(wait(&a, 1, &b, 1, 0), Ok(()));
        assert_eq!(wait(&b, 2, &a, 1, 0), Ok(()));
        assert_eq!(wait(&b, 1, &b, 2, 0), Err(vec![1, 2, 1]), "ids are of a table");
        assert_eq!(a.unfinished_waits().len() + b.unfinished_waits().len(), 2);
    }

    #[test]
    fn a_forward_is_followed_and_may_close_a_cycle() {
        let waits = Arc::<Waits>::default();
        assert_eq!(wait(&waits, 1, &waits, 2, 64), Ok(()));
        assert_eq!(wait(&waits, 3, &waits, 1, 0), Ok(()));
        assert!(
            waits.register_forward(64, place(&waits, 3)).is_err(),
            "3 waits for 1, which waits for the answer"
        );
        assert_eq!(waits.forwarded_to(64), None);
        assert_eq!(waits.register_forward(64, place(&waits, 4)), Ok(()));
        assert_eq!(wait(&waits, 2, &waits, 1, 0), Ok(()), "2 has nothing to do with it any more");
        assert_eq!(wait(&waits, 4, &waits, 1, 0), Err(vec![4, 1]));
        waits.unregister_wait(id(2), None);
        waits.restore_forward(64, None);
        assert_eq!(wait(&waits, 2, &waits, 1, 0), Err(vec![2, 1]));
    }

    #[test]
    fn a_successor_waits_for_its_predecessor() {
        let waits = Arc::<Waits>::default();
        waits.register_succession(id(2), id(1));
        assert_eq!(wait(&waits, 3, &waits, 2, 0), Ok(()));
        assert_eq!(wait(&waits, 1, &waits, 3, 0), Err(vec![1, 3]));
        waits.end_succession(id(1));
        assert_eq!(wait(&waits, 1, &waits, 3, 0), Ok(()));
    }
}
