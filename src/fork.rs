//! Floor 0: detects whether this process is a child that was forked since something was made.
//!
//! `fork` copies one thread. Everything held at that moment by the parent's other threads is held
//! for ever in the child: locks, places in queues, claims on heaps. A child must therefore not wait
//! for anything made before the fork, and each of the crate's entry points asks here first. That
//! includes sends from outside, so the check must not cost a system call.
//!
//! On Linux a [`Birth`] is a page of its own that the kernel replaces by zeros in a forked child
//! (`MADV_WIPEONFORK`, Linux 4.14). The check is one load. Elsewhere, and where such pages are not
//! available, the process id is compared.
//!
//! A child that was forked inside a turn has the thread-locals of a worker. So a worker is known by
//! its crew's address in the same page: in the child the thread belongs to no crew any more, and
//! its calls are those of a thread outside. Without such pages the child's thread still counts as a
//! worker.

use crate::sync::{AtomicU32, Ordering::SeqCst};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

/// Value of the word: the kernel will wipe it in a child.
const HERE: u32 = 1;
/// Value of the word: the process id has to be compared.
const ASK: u32 = 2;
/// Flag beside either value: closed to senders from outside. In the same word, so that such a
/// sender makes one check.
const CLOSED: u32 = 4;

/// What a forked child finds wiped.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Wiped {
    word: AtomicU32,
    /// Address of whatever was made, for threads that belong to it. 0 until it is known.
    owner: Cell<usize>,
}

impl Wiped {
    fn new(word: u32) -> Self {
        Wiped { word: AtomicU32::new(word), owner: Cell::new(0) }
    }

    /// Returns the owner's address, or 0 in a forked child.
    #[inline]
    pub(crate) fn owner_address(&self) -> usize {
        self.owner.get()
    }
}

/// Marks the process in which something was made. Copies share the mark.
#[derive(Clone, Debug)]
pub(crate) struct Birth {
    /// The same address as in `_place`, so that a check follows one pointer.
    wiped: NonNull<Wiped>,
    _place: Arc<WipedPlace>,
    pid: u32,
}

/// Where the wiped words lie: at the beginning of a page, or in an allocation of its own where such
/// pages are not available.
#[derive(Debug)]
struct WipedPlace(NonNull<Wiped>);

// SAFETY: the place belongs to no thread, and only its drop uses it.
unsafe impl Send for WipedPlace {}
// SAFETY: a shared place gives no access to the words.
unsafe impl Sync for WipedPlace {}

// SAFETY: `word` is atomic, and `owner` does not change once other threads use the mark. The kernel
// wipes both only in a new process, before that process runs.
unsafe impl Send for Birth {}
// SAFETY: `word` is atomic, `owner` does not change once other threads use the mark, and `pid` is
// never written.
unsafe impl Sync for Birth {}

impl Birth {
    /// Marks the calling process.
    pub(crate) fn in_this_process() -> Self {
        // The leaked box is freed by the drop of `WipedPlace`.
        let wiped =
            page::map_page().unwrap_or_else(|| NonNull::from(Box::leak(Box::new(Wiped::new(ASK)))));
        Birth { wiped, _place: Arc::new(WipedPlace(wiped)), pid: std::process::id() }
    }

    /// Says at which address the thing lies that was made.
    ///
    /// # Safety
    /// No other thread uses the mark yet.
    pub(crate) unsafe fn belongs_to(&self, owner: usize) {
        self.wiped_word().owner.set(owner);
    }

    /// Returns what a forked child finds wiped.
    #[inline]
    pub(crate) fn wiped_word(&self) -> &Wiped {
        // SAFETY: `_place` keeps the page mapped, or the allocation allocated, while `self` lives.
        unsafe { self.wiped.as_ref() }
    }

    #[inline]
    fn read_word(&self) -> u32 {
        // SeqCst for `CLOSED`: see `Core::start_draining`, which is ordered against the gate.
        self.wiped_word().word.load(SeqCst)
    }

    /// Returns `true` if there is no reason to refuse a sender from outside: neither forked nor
    /// closed.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.read_word() == HERE
    }

    /// Closes this to senders from outside, for good.
    pub(crate) fn close_to_outside(&self) {
        // SeqCst: see `read_word`.
        self.wiped_word().word.fetch_or(CLOSED, SeqCst);
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.read_word() & CLOSED != 0
    }

    /// Returns `true` in a child that was forked since this was made, and in that child's children.
    #[inline]
    pub(crate) fn is_forked(&self) -> bool {
        // `HERE` is the usual answer on Linux, so everything else is out of line.
        self.read_word() & HERE == 0 && self.is_another_process()
    }

    #[cold]
    fn is_another_process(&self) -> bool {
        // Neither `HERE` nor `ASK`: the kernel has wiped the page. Only Unix has a `fork`.
        self.read_word() & ASK == 0 || (cfg!(unix) && std::process::id() != self.pid)
    }
}

impl Drop for WipedPlace {
    fn drop(&mut self) {
        // SAFETY: the words live until the end of this drop.
        if unsafe { self.0.as_ref() }.word.load(SeqCst) & ASK != 0 {
            // SAFETY: `in_this_process` allocated the words, and the last mark is gone.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        } else {
            // SAFETY: `in_this_process` mapped the page, and the last mark is gone.
            unsafe { page::unmap_page(self.0) };
        }
    }
}

#[cfg(all(target_os = "linux", not(heist_loom)))]
mod page {
    use crate::fork::Wiped;
    use crate::sync::Ordering::SeqCst;
    use std::ptr::{self, NonNull};

    /// One page, or the part of a larger page that is mapped with it.
    const BYTES: usize = 4096;

    /// Maps a page that begins with [`HERE`](crate::fork::HERE), and with 0 in a forked child.
    /// Returns `None` if the kernel has no such pages.
    pub(super) fn map_page() -> Option<NonNull<Wiped>> {
        // The kernel wipes private anonymous pages only.
        let (access, kind) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping at an address of the kernel's choice affects no existing memory.
        let at = unsafe { libc::mmap(ptr::null_mut(), BYTES, access, kind, -1, 0) };
        if at == libc::MAP_FAILED {
            return None;
        }
        let wiped = NonNull::new(at.cast::<Wiped>())?;
        // SAFETY: the page was just mapped, only this function knows it, and it is aligned like any
        // page.
        unsafe {
            // An emulator may accept any advice and do nothing. Then it accepts advice that does
            // not exist.
            let takes_any = libc::madvise(at, BYTES, -1) == 0;
            if takes_any || libc::madvise(at, BYTES, libc::MADV_WIPEONFORK) != 0 {
                unmap_page(wiped);
                return None;
            }
            // Zeros are valid words before the store.
            wiped.as_ref().word.store(crate::fork::HERE, SeqCst);
        }
        Some(wiped)
    }

    /// Unmaps a page.
    ///
    /// # Safety
    /// The page came from [`map_page`], is unmapped once, and is not used afterwards.
    pub(super) unsafe fn unmap_page(wiped: NonNull<Wiped>) {
        // SAFETY: `map_page` mapped the page, and the caller gives it up.
        let _ = unsafe { libc::munmap(wiped.as_ptr().cast(), BYTES) };
    }
}

#[cfg(not(all(target_os = "linux", not(heist_loom))))]
mod page {
    use crate::fork::Wiped;
    use std::ptr::NonNull;

    pub(super) fn map_page() -> Option<NonNull<Wiped>> {
        None
    }

    /// Does nothing.
    ///
    /// # Safety
    /// Never called, since nothing is mapped.
    pub(super) unsafe fn unmap_page(_: NonNull<Wiped>) {}
}

#[cfg(all(test, target_os = "linux", not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_child_and_its_child_know_that_they_were_forked() {
        let birth = Birth::in_this_process();
        assert!(!birth.is_forked() && birth.is_open());
        // SAFETY: the children call only functions that are safe after a fork.
        let status = unsafe {
            let child = libc::fork();
            if child == 0 {
                let (own, mut status) = (Birth::in_this_process(), 0);
                let grandchild = libc::fork();
                if grandchild == 0 {
                    libc::_exit(i32::from(birth.is_forked()) + 2 * i32::from(own.is_forked()));
                }
                libc::waitpid(grandchild, &raw mut status, 0);
                let known = birth.is_forked() && !own.is_forked() && libc::WEXITSTATUS(status) == 3;
                libc::_exit(if known { 42 } else { 1 });
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            status
        };
        assert_eq!(libc::WEXITSTATUS(status), 42);
        birth.close_to_outside();
        assert!(!birth.is_forked() && birth.is_closed() && !birth.is_open());
    }
}
