//! The fields of the state word, and a reading of it. [`state`](super) tells what they mean.

pub(super) const SCHEDULED: u64 = 1;
pub(super) const CLOSED: u64 = 1 << 1;
pub(super) const KILLED: u64 = 1 << 2;
pub(super) const DEAD: u64 = 1 << 3;
pub(super) const ROOM_WAIT: u64 = 1 << 4;
pub(super) const STOP_WAIT: u64 = 1 << 5;
pub(super) const DETACHED: u64 = 1 << 6;
pub(super) const CHECK_QUEUE: u64 = 1 << 7;
pub(super) const NOTICES: u64 = 1 << 8;
pub(super) const RETIRE: u64 = 1 << 9;
pub(super) const OUTSIDE: u64 = 1 << 10;

pub(super) const LEN_SHIFT: u32 = 11;
pub(super) const LEN_ONE: u64 = 1 << LEN_SHIFT;
pub(super) const STRONG_SHIFT: u32 = 38;
pub(super) const STRONG_ONE: u64 = 1 << STRONG_SHIFT;

/// Maximal number of messages in a mailbox, which is also the meaning of "unbounded": 2^27 - 1.
pub(crate) const MAX_LEN: u32 = (1 << (STRONG_SHIFT - LEN_SHIFT)) - 1;
/// More references than this, some 67 million, abort the process, as in `Arc`. The rest of the
/// field is for threads that count at the same time: each adds at most one before it aborts.
pub(super) const MAX_STRONG: u64 = (1 << 26) - (1 << 20);

/// A reading of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(pub(super) u64);

impl Snapshot {
    pub(crate) fn len(self) -> u32 {
        (self.0 >> LEN_SHIFT) as u32 & MAX_LEN
    }
    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }
    pub(crate) fn is_killed(self) -> bool {
        self.0 & KILLED != 0
    }
    /// Returns `true` if the present state gets no further message: the actor was killed, or the
    /// state is to end.
    pub(crate) fn ends_state(self) -> bool {
        self.0 & (KILLED | RETIRE) != 0
    }
    pub(crate) fn is_dead(self) -> bool {
        self.0 & DEAD != 0
    }
    pub(crate) fn has_room_wait(self) -> bool {
        self.0 & ROOM_WAIT != 0
    }
    /// Returns `true` if the actor's turn is to look at its shared queue.
    #[cfg(all(test, not(heist_loom), feature = "pool"))]
    pub(crate) fn has_queue_check(self) -> bool {
        self.0 & CHECK_QUEUE != 0
    }
    /// Returns `true` if any sender is on the room list, whether or not plain sends must stand
    /// back.
    pub(crate) fn has_waiters(self) -> bool {
        self.0 & (ROOM_WAIT | NOTICES) != 0
    }
    /// Returns `true` if a thread outside has sent since the last turn ended.
    pub(crate) fn is_from_outside(self) -> bool {
        self.has(OUTSIDE)
    }
    pub(super) fn strong_count(self) -> u64 {
        self.0 >> STRONG_SHIFT
    }
    pub(super) fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}
