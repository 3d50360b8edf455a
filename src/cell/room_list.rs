//! The list of waiters for room in a mailbox, and the ticket of a sender in the list. The steps are
//! in [`room`](super::room).
//!
//! Messages are here as nodes: an envelope's table names the cell, and the cell has this list.

use super::counted::Strong;
use super::linked::Linked;
use super::shrinking_map::ShrinkingMap;
use crate::drops;
use crate::error::Refusal;
use crate::mailbox::link::Node;
use crate::sync::Mutex;
use std::sync::Arc;
use std::task::Waker;

/// A waiting sender's message and waker, shared between the sender and the list.
#[derive(Debug)]
pub(crate) struct Ticket(pub(super) Mutex<TicketState>);

#[derive(Debug)]
pub(super) enum TicketState {
    /// `key` is the entry in the list, and `outside` tells whether the sender is no worker of the
    /// crew. Both are set by `join_line`.
    Waiting {
        node: *mut Node,
        waker: Waker,
        key: Option<usize>,
        outside: bool,
    },
    Accepted,
    Refused {
        node: *mut Node,
        refusal: Refusal,
    },
    Taken,
}

// SAFETY: an envelope's message is `Send`, and the ticket hands the envelope over as a whole.
unsafe impl Send for Ticket {}

// SAFETY: the mutex guards all access, and its content may move between threads.
unsafe impl Sync for Ticket {}

/// An entry of the list.
#[derive(Debug)]
pub(super) enum Waiter {
    /// Waits for room for one message.
    Sender(Arc<Ticket>),
    /// Waits until half of the capacity is free. Then the message goes to `owner`.
    Notice { owner: Strong, node: *mut Node },
    /// Waits for the entries before it only. Then the message goes to `owner`.
    Mark { owner: Strong, node: *mut Node },
}

/// The list. Boxed, since most actors that could have one never do.
#[derive(Debug, Default)]
pub(crate) struct RoomList(pub(super) Option<Box<RoomQueue>>);

#[derive(Debug, Default)]
pub(super) struct RoomQueue {
    /// Oldest first.
    pub(super) waiters: Linked<Waiter>,
    /// Number of senders among the waiters.
    pub(super) senders: usize,
    /// Addresses of the actors with a notice in line, for a search without a walk. An actor lives
    /// as long as it is listed, so no address is used again.
    owners: ShrinkingMap<usize, ()>,
}

impl RoomList {
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|line| line.waiters.is_empty())
    }

    pub(super) fn has_notice_for(&self, address: usize) -> bool {
        self.0.as_ref().is_some_and(|line| line.owners.contains_key(&address))
    }

    pub(super) fn get_or_make_queue(&mut self) -> &mut RoomQueue {
        self.0.get_or_insert_default()
    }
}

impl RoomQueue {
    pub(super) fn push(&mut self, waiter: Waiter) -> usize {
        match &waiter {
            Waiter::Sender(_) => self.senders += 1,
            Waiter::Notice { owner, .. } => {
                self.owners.insert(address_of(owner), ());
            }
            Waiter::Mark { .. } => {}
        }
        self.waiters.push(waiter)
    }

    pub(super) fn took_off(&mut self, waiter: &Waiter) {
        match waiter {
            Waiter::Sender(_) => self.senders -= 1,
            Waiter::Notice { owner, .. } => {
                self.owners.remove_key(&address_of(owner));
            }
            Waiter::Mark { .. } => {}
        }
    }

    pub(super) fn pop(&mut self) -> Option<Waiter> {
        let waiter = self.waiters.pop()?;
        self.took_off(&waiter);
        Some(waiter)
    }

    /// Removes a waiter that gives up.
    pub(super) fn remove(&mut self, key: usize) -> Option<Waiter> {
        let waiter = self.waiters.remove(key)?;
        self.took_off(&waiter);
        Some(waiter)
    }
}

pub(super) fn address_of(owner: &Strong) -> usize {
    owner.as_ptr().addr().get()
}

// SAFETY: the list owns the envelopes, and messages are `Send`.
unsafe impl Send for RoomList {}

/// A ticket that was never listed, or is dropped with its task, still has its waker. Dropping a
/// waker is user code. Its panic is contained, since the sender may be about to return the message.
impl Drop for Ticket {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *self.0.lock(), TicketState::Taken);
        if let TicketState::Waiting { waker, .. } = state {
            drops::drop_waker(Some(waker));
        }
    }
}
