//! The common part of a shared queue and its members: which cells they are, and whether the queue's
//! runnable is held. The steps are in [`shared`](super::shared).

use super::header::Header;
use super::members::Members;
use super::shrinking_map::ShrinkingMap;
use super::supervisor::Supervised;
use crate::id::ActorId;
use crate::sync::Mutex;
use std::ops::Range;
use std::ptr::NonNull;

/// The common part of a queue and its members.
#[derive(Debug)]
pub(crate) struct Sharing(pub(super) Mutex<SharedQueue>);

#[derive(Debug)]
pub(super) struct SharedQueue {
    /// The queue's cell, as long as it has not ended.
    pub(super) queue: Option<NonNull<Header>>,
    /// Whether the queue's runnable is here.
    pub(super) held: bool,
    pub(super) members: Members,
    /// The member that has taken each ask, by the address of the ask, until the ask's memory goes.
    /// Told messages have no entry, since no actor waits for their answer.
    pub(super) taken: ShrinkingMap<usize, ActorId>,
    /// Set for a queue that gives nothing to members and is emptied into one mailbox at once. See
    /// [`Sharing::move_to`].
    pub(super) hold: Option<Hold>,
}

/// The actors before and after a hold: it waits for the first and is emptied into the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) from: ActorId,
    pub(crate) into: ActorId,
}

/// The actors that must do something before a message of a queue is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doers {
    One(ActorId),
    Any(Vec<ActorId>),
    All(Vec<ActorId>),
}

// SAFETY: headers are `Sync`. Listed cells have not ended, since an ending cell takes itself off
// the list under the lock.
unsafe impl Send for SharedQueue {}

impl Sharing {
    pub(crate) fn new() -> Self {
        Sharing::with_hold(None)
    }

    /// Makes the common part of a hold, a queue that is kept until [`move_to`](Self::move_to).
    pub(crate) fn new_hold(hold: Hold) -> Self {
        Sharing::with_hold(Some(hold))
    }

    /// Returns the actors that must act before the ask at this address is answered. With 0: before
    /// there is room.
    pub(super) fn actors_to_act(&self, ask: usize) -> Doers {
        let inner = self.0.lock();
        match inner.hold {
            Some(Hold { from, into }) if inner.held => Doers::All(vec![from, into]),
            Some(Hold { into, .. }) => Doers::One(into),
            None => match inner.taken.value_of(&ask) {
                Some(&member) => Doers::One(member),
                None => Doers::Any(inner.members.ids(0..inner.members.len())),
            },
        }
    }

    /// Returns the actors of which any may answer the ask at this address, with these places in the
    /// list. Returns none if particular actors must act, or if the list ends before.
    pub(super) fn some_takers(&self, ask: usize, places: Range<usize>) -> Vec<ActorId> {
        let inner = self.0.lock();
        if inner.hold.is_some() || inner.taken.contains_key(&ask) {
            return Vec::new();
        }
        inner.members.ids(places)
    }

    fn with_hold(hold: Option<Hold>) -> Self {
        Sharing(Mutex::new(SharedQueue {
            queue: None,
            held: false,
            members: Members::default(),
            taken: ShrinkingMap::default(),
            hold,
        }))
    }

    /// Removes the note about an ask, before its memory goes.
    pub(crate) fn forget_taken(&self, ask: usize) {
        self.0.lock().taken.remove_key(&ask);
    }

    /// Lists a cell before its first turn, as the queue or as a member. Returns `false` if that
    /// turn must not be scheduled, since the runnable is held here.
    #[must_use]
    pub(super) fn list_cell(&self, cell: NonNull<Header>, queue: bool) -> bool {
        let mut inner = self.0.lock();
        if queue {
            inner.queue = Some(cell);
            inner.held = inner.hold.is_some();
        } else {
            inner.members.add(cell);
            inner.release_runnable(); // the queue may have a message for the new member
        }
        !(queue && inner.hold.is_some())
    }
}

impl SharedQueue {
    /// Pushes the queue's runnable, if it is held here.
    pub(super) fn release_runnable(&mut self) {
        if std::mem::take(&mut self.held) {
            let queue = self.queue.expect("a queue that is held has not ended");
            // SAFETY: the runnable is held here and pushed once. A held queue has not ended.
            unsafe { Header::schedule(queue) };
        }
    }
}

/// Pushes the runnable of a closed queue, if it is held.
pub(super) fn release_closed(supervised: &Supervised) {
    if supervised.is_queue() {
        supervised.sharing.0.lock().release_runnable();
    }
}

/// Takes a cell that has ended off the list.
pub(super) fn unlist_cell(this: NonNull<Header>, supervised: &Supervised) {
    let mut inner = supervised.sharing.0.lock();
    if supervised.is_queue() {
        inner.queue = None;
        debug_assert!(!inner.held, "it ended in its turn");
    } else {
        inner.members.remove_member(this);
        inner.release_runnable(); // if no member is left the queue ends
    }
}
