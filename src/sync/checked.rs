//! parking_lot's locks, with a count of the locks held by the calling thread. Debug builds only.
//!
//! [`held_locks`] returns the count, and the room for user code asserts that it is 0. In release
//! builds the names mean parking_lot's own types, so the check costs nothing there.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

thread_local! {
    /// Number of locks held by this thread. Has no destructor, so it can be read while the thread
    /// ends.
    static HELD: Cell<u32> = const { Cell::new(0) };
}

/// Returns how many locks of this crate the calling thread holds.
pub(crate) fn held_locks() -> u32 {
    HELD.get()
}

/// A lock held by the thread that made the value. Not `Send`, since the count is the thread's own.
#[derive(Debug)]
struct CountedLock(PhantomData<*const ()>);

impl CountedLock {
    fn new() -> Self {
        HELD.set(HELD.get() + 1);
        CountedLock(PhantomData)
    }
}

impl Drop for CountedLock {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
    }
}

/// A guard of parking_lot's, with the matching count. Fields drop in order, so the lock is released
/// before the count goes down.
#[derive(Debug)]
pub(crate) struct Guard<G> {
    inner: G,
    _held: CountedLock,
}

impl<G> Guard<G> {
    fn new(inner: G) -> Self {
        Guard { inner, _held: CountedLock::new() }
    }
}

impl<G: Deref> Deref for Guard<G> {
    type Target = G::Target;
    fn deref(&self) -> &G::Target {
        &self.inner
    }
}

impl<G: DerefMut> DerefMut for Guard<G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.inner
    }
}

pub(crate) type MutexGuard<'a, T> = Guard<parking_lot::MutexGuard<'a, T>>;
pub(crate) type RwLockReadGuard<'a, T> = Guard<parking_lot::RwLockReadGuard<'a, T>>;
pub(crate) type RwLockWriteGuard<'a, T> = Guard<parking_lot::RwLockWriteGuard<'a, T>>;

/// parking_lot's mutex.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Mutex(parking_lot::Mutex::new(value))
    }
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        // Counted after the lock is taken, so that a wait for it does not count.
        Guard::new(self.0.lock())
    }
}

/// parking_lot's readers-writer lock.
#[derive(Debug, Default)]
pub(crate) struct RwLock<T>(parking_lot::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        RwLock(parking_lot::RwLock::new(value))
    }
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        Guard::new(self.0.read())
    }
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        Guard::new(self.0.write())
    }
}

/// parking_lot's condition variable. A wait counts as holding the lock, since the thread does
/// nothing else meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Condvar(parking_lot::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Condvar(parking_lot::Condvar::new())
    }
    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.0.wait(&mut guard.inner);
    }
    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        until: Instant,
    ) -> parking_lot::WaitTimeoutResult {
        self.0.wait_until(&mut guard.inner, until)
    }
}
