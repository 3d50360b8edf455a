//! The cold part of a cell: what most actors never need.

use super::core::Limits;
use super::prepaid::Prepaid;
use super::room_list::RoomList;
use super::stopwatch::Stopwatch;
use super::supervisor::Supervised;
use super::ticks::Ticks;
use crate::panics::PanicText;
use crate::sched::runnable::Affinity;
use crate::sync::{AtomicU32, Mutex, Wakers};
use std::cell::Cell;
use std::sync::Arc;

/// The part of a header that most actors never need.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    pub(crate) name: Option<Arc<str>>,
    /// Count of handled messages, in units of 2^32.
    pub(crate) handled_high: AtomicU32,
    pub(crate) limits: Option<Limits>,
    pub(crate) panic: Mutex<Option<PanicText>>,
    pub(crate) room: Mutex<RoomList>,
    /// Waiters for the actor's end.
    pub(crate) stop: Mutex<Wakers>,
    pub(crate) ticks: Ticks,
    pub(crate) prepaid: Prepaid,
    /// Present in a timed actor, from the first moment on.
    pub(crate) stopwatch: Option<Box<Stopwatch>>,
    /// Where the actor must run. Never changes.
    pub(crate) affinity: Affinity,
    /// Set if no state was made: see [`dedicated`](super::dedicated). For turns only.
    pub(crate) unmade: Cell<bool>,
    /// Set before any other thread knows the cell.
    pub(crate) supervised: Option<Box<Supervised>>,
}

impl Cold {
    /// Makes the cold part of an actor that is timed and needs nothing else of it.
    pub(crate) fn new_timed() -> Box<Self> {
        Box::new(Cold { stopwatch: Some(Stopwatch::new()), ..Cold::default() })
    }
}
