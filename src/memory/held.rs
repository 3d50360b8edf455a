//! The proof that a pool lives, which giving memory back requires.

use super::chunks::Chunks;
use std::marker::PhantomData;
use std::sync::Arc;

/// Proof that a pool lives for `'a`. Giving blocks back requires one.
///
/// A `Held` borrows from something that keeps the core: a reference to an actor, a handle, a turn's
/// cell. A caller that drops its last reference first and gives memory back afterwards does not
/// compile. Debug builds check that the block belongs to the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    /// Null if the holder of the proof does not know the pool.
    #[cfg(debug_assertions)]
    chunks: *const Chunks,
    pool: PhantomData<&'a Chunks>,
}

impl<'a> Held<'a> {
    /// Returns the proof for the pool that has these chunks.
    #[inline]
    pub(super) fn of(chunks: &'a Arc<Chunks>) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = chunks;
        Held {
            #[cfg(debug_assertions)]
            chunks: Arc::as_ptr(chunks),
            pool: PhantomData,
        }
    }

    /// Returns a proof for code far from any reference.
    ///
    /// # Safety
    /// The pool of every block given back with this proof lives until then. The caller states why.
    #[inline]
    pub(crate) unsafe fn promised() -> Self {
        Held {
            #[cfg(debug_assertions)]
            chunks: std::ptr::null(),
            pool: PhantomData,
        }
    }

    /// Returns `true` if the proof may be of this pool. Debug assertions use it.
    pub(super) fn is_of(self, chunks: &Arc<Chunks>) -> bool {
        #[cfg(debug_assertions)]
        return self.chunks.is_null() || std::ptr::eq(self.chunks, Arc::as_ptr(chunks));
        #[cfg(not(debug_assertions))]
        {
            let _ = chunks;
            true
        }
    }
}
