//! Floor 0: whether this process is a child that was forked since something was made.
//!
//! `fork` copies one thread. What the other threads of the parent held at that moment is held for ever in the child: locks,
//! places in queues, claims on heaps. So in a child nothing that was made before the fork may be waited for, and each of the
//! crate's entries asks here first. That includes sends from outside, so the question must cost no system call.
//!
//! On Linux a [`Birth`] is a page of its own that the kernel replaces by zeros in a forked child (`MADV_WIPEONFORK`, Linux
//! 4.14). To look at it is one load. Elsewhere, and where there is no such page, the process's number is compared.

use crate::sync::{AtomicU32, Ordering::SeqCst};
use std::ptr::NonNull;

/// What a birth's word says: the kernel will wipe it in a child.
const HERE: u32 = 1;
/// The process's number has to be compared.
const ASK: u32 = 2;
/// Beside either of these: what was made here is closed to those outside. In the same word, so that a sender from outside asks
/// one question.
const CLOSED: u32 = 4;

/// Marks the process that something was made in.
#[derive(Debug)]
pub(crate) struct Birth {
    /// At the beginning of a page, or of an allocation of its own where there is no such page.
    word: NonNull<AtomicU32>,
    pid: u32,
}

// SAFETY: the word is atomic; the kernel writes to it between two processes only.
unsafe impl Send for Birth {}
// SAFETY: as above.
unsafe impl Sync for Birth {}

impl Birth {
    /// Marks the calling process.
    pub(crate) fn here() -> Self {
        let word = page::map().unwrap_or_else(|| NonNull::from(Box::leak(Box::new(AtomicU32::new(ASK)))));
        Birth { word, pid: std::process::id() }
    }

    #[inline]
    fn says(&self) -> u32 {
        // SeqCst for `CLOSED`: see `Core::start_draining`, which is ordered against the gate.
        // SAFETY: mapped or allocated until this is dropped.
        unsafe { self.word.as_ref() }.load(SeqCst)
    }

    /// Returns `true` if there is no reason to refuse a sender from outside: not forked, and not closed.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.says() == HERE
    }

    /// Closes what was made here to those outside, for good.
    pub(crate) fn close(&self) {
        // SAFETY: as in `says`.
        unsafe { self.word.as_ref() }.fetch_or(CLOSED, SeqCst);
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.says() & CLOSED != 0
    }

    /// Returns `true` in a child that was forked since this was made, and in that child's children.
    #[inline]
    pub(crate) fn forked(&self) -> bool {
        self.says() & HERE == 0 && self.is_another_process()
    }

    #[cold]
    fn is_another_process(&self) -> bool {
        self.says() & ASK == 0 || (cfg!(unix) && std::process::id() != self.pid)
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        if self.says() & ASK != 0 {
            // SAFETY: allocated by `here`, and nobody looks at it any more.
            drop(unsafe { Box::from_raw(self.word.as_ptr()) });
        } else {
            // SAFETY: mapped by `here`, and nobody looks at it any more.
            unsafe { page::unmap(self.word) };
        }
    }
}

#[cfg(all(target_os = "linux", not(heist_loom)))]
mod page {
    use crate::sync::{AtomicU32, Ordering::SeqCst};
    use std::ptr::{self, NonNull};

    /// One page, or the part of a larger one that is mapped with it.
    const BYTES: usize = 4096;

    /// A page that begins with [`HERE`](crate::fork::HERE), and with 0 in a forked child. `None` if the kernel does not know such
    /// pages.
    pub(super) fn map() -> Option<NonNull<AtomicU32>> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, wherever the kernel puts it.
        let at = unsafe { libc::mmap(ptr::null_mut(), BYTES, access, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            return None;
        }
        let word = NonNull::new(at.cast::<AtomicU32>())?;
        // SAFETY: the page is ours, and aligned like any page.
        unsafe {
            // An emulator may take any advice and do nothing: then it takes one that does not exist.
            let takes_any = libc::madvise(at, BYTES, -1) == 0;
            if takes_any || libc::madvise(at, BYTES, libc::MADV_WIPEONFORK) != 0 {
                unmap(word);
                return None;
            }
            word.as_ref().store(crate::fork::HERE, SeqCst); // zeros are a valid word before
        }
        Some(word)
    }

    /// # Safety
    /// From [`map`], once, and not used afterwards.
    pub(super) unsafe fn unmap(word: NonNull<AtomicU32>) {
        // SAFETY: the caller gives up what `map` has mapped.
        let _ = unsafe { libc::munmap(word.as_ptr().cast(), BYTES) };
    }
}

#[cfg(not(all(target_os = "linux", not(heist_loom))))]
mod page {
    use crate::sync::AtomicU32;
    use std::ptr::NonNull;

    pub(super) fn map() -> Option<NonNull<AtomicU32>> {
        None
    }

    /// # Safety
    /// Never called, since nothing is mapped.
    pub(super) unsafe fn unmap(_: NonNull<AtomicU32>) {}
}

#[cfg(all(test, target_os = "linux", not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_child_and_its_child_know_that_they_were_forked() {
        let birth = Birth::here();
        assert!(!birth.forked() && birth.is_open());
        // SAFETY: the children call nothing but what is safe after a fork.
        let status = unsafe {
            let child = libc::fork();
            if child == 0 {
                let (own, mut status) = (Birth::here(), 0);
                let grandchild = libc::fork();
                if grandchild == 0 {
                    libc::_exit(i32::from(birth.forked()) + 2 * i32::from(own.forked()));
                }
                libc::waitpid(grandchild, &raw mut status, 0);
                let known = birth.forked() && !own.forked() && libc::WEXITSTATUS(status) == 3;
                libc::_exit(if known { 42 } else { 1 });
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            status
        };
        assert_eq!(libc::WEXITSTATUS(status), 42);
        birth.close();
        assert!(!birth.forked() && birth.is_closed() && !birth.is_open());
    }
}
