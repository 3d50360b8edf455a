//! Counted pointers to cells, without a type. A strong count keeps the actor, a weak count keeps
//! the cell's memory. The header of [`header`](super::header) defines the counts.

use super::header::Header;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;

/// A strong reference without a type.
#[derive(Debug)]
pub(crate) struct Strong(NonNull<Header>);

// SAFETY: a counted reference to a `Header`, which is `Sync`. A drop never runs the actor's code on
// the dropping thread.
unsafe impl Send for Strong {}
// SAFETY: sharing a `Strong` shares a `&Header`, which is `Sync`.
unsafe impl Sync for Strong {}
// An actor's code runs in a turn, and a panic in it stays there.
impl UnwindSafe for Strong {}
impl RefUnwindSafe for Strong {}

impl Strong {
    /// # Safety
    /// The caller owns a strong reference and gives it up.
    #[inline]
    pub(crate) unsafe fn from_raw(header: NonNull<Header>) -> Self {
        Strong(header)
    }
    #[inline]
    pub(crate) fn as_ptr(&self) -> NonNull<Header> {
        self.0
    }
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: this strong count keeps the cell alive.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for Strong {
    #[inline]
    fn clone(&self) -> Self {
        self.header().state.add_ref();
        Strong(self.0)
    }
}

impl Drop for Strong {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `self` owns one count and is not used afterwards.
        unsafe { Header::release_strong(self.0) };
    }
}

/// A weak count of a cell. Keeps the cell's memory, and with it the registry's entry, the core and
/// the memory pool.
#[derive(Debug)]
pub(crate) struct Weak(NonNull<Header>);

// SAFETY: a counted pointer to a `Header`, which is `Sync`. A drop never runs the actor's code.
unsafe impl Send for Weak {}
// SAFETY: sharing a `Weak` shares a `&Header`, which is `Sync`.
unsafe impl Sync for Weak {}
// As for `Strong`.
impl UnwindSafe for Weak {}
impl RefUnwindSafe for Weak {}

impl Weak {
    /// Adds a weak count.
    ///
    /// # Safety
    /// The caller has a count of the cell, of either kind.
    #[inline]
    pub(crate) unsafe fn add_to(header: NonNull<Header>) -> Self {
        // SAFETY: the caller's count keeps the cell.
        unsafe { header.as_ref() }.add_weak();
        Weak(header)
    }
    #[inline]
    pub(crate) fn as_ptr(&self) -> NonNull<Header> {
        self.0
    }
    #[inline]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: this weak count keeps the memory.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for Weak {
    fn clone(&self) -> Self {
        self.header().add_weak();
        Weak(self.0)
    }
}

impl Drop for Weak {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `self` owns one count and is not used afterwards.
        unsafe { Header::release_weak(self.0) };
    }
}
