//! Floor 0: whether this process is a child that was forked since something was made.
//!
//! `fork` copies one thread. What the other threads of the parent held at that moment is held for ever in the child: locks,
//! places in queues, claims on heaps. So in a child nothing that was made before the fork may be waited for, and each of the
//! crate's entries asks here first. That includes sends from outside, so the question must cost no system call.
//!
//! On Linux a [`Birth`] is a page of its own that the kernel replaces by zeros in a forked child (`MADV_WIPEONFORK`, Linux
//! 4.14). To look at it is one load. Elsewhere, and where there is no such page, the process's number is compared.

/// Marks the process that something was made in.
#[derive(Debug)]
pub(crate) struct Birth {
    #[cfg(all(target_os = "linux", not(heist_loom)))]
    page: Option<page::Page>,
    pid: u32,
}

impl Birth {
    /// Marks the calling process.
    pub(crate) fn here() -> Self {
        Birth {
            #[cfg(all(target_os = "linux", not(heist_loom)))]
            page: page::Page::new(),
            pid: std::process::id(),
        }
    }

    /// Returns `true` in a child that was forked since this was made, and in that child's children.
    #[inline]
    pub(crate) fn forked(&self) -> bool {
        #[cfg(all(target_os = "linux", not(heist_loom)))]
        if let Some(page) = &self.page {
            return page.is_wiped();
        }
        cfg!(unix) && std::process::id() != self.pid
    }
}

#[cfg(all(target_os = "linux", not(heist_loom)))]
mod page {
    use std::ptr::{self, NonNull};

    const BYTES: usize = 4096;
    const MARK: u64 = 0x6865_6973_7421_0001;

    /// One page, which begins with a mark, and with 0 in a forked child.
    #[derive(Debug)]
    pub(super) struct Page(NonNull<u64>);

    // SAFETY: nobody writes to the page once it is made.
    unsafe impl Send for Page {}
    // SAFETY: as above.
    unsafe impl Sync for Page {}

    impl Page {
        /// `None` if the kernel does not know such pages.
        pub(super) fn new() -> Option<Self> {
            let (access, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new mapping, wherever the kernel puts it.
            let at = unsafe { libc::mmap(ptr::null_mut(), BYTES, access, kind, -1, 0) };
            if at == libc::MAP_FAILED {
                return None;
            }
            let page = Page(NonNull::new(at.cast())?);
            // SAFETY: the page is ours, and aligned like any page.
            unsafe {
                if libc::madvise(at, BYTES, libc::MADV_WIPEONFORK) != 0 {
                    return None; // and unmapped
                }
                page.0.write(MARK);
            }
            Some(page)
        }

        #[inline]
        pub(super) fn is_wiped(&self) -> bool {
            // Volatile, since the kernel changes it behind the compiler's back.
            // SAFETY: mapped until this is dropped.
            unsafe { self.0.read_volatile() != MARK }
        }
    }

    impl Drop for Page {
        fn drop(&mut self) {
            // SAFETY: mapped by `new`, and nobody looks at it any more.
            let _ = unsafe { libc::munmap(self.0.as_ptr().cast(), BYTES) };
        }
    }
}

#[cfg(all(test, target_os = "linux", not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_child_and_its_child_know_that_they_were_forked() {
        let birth = Birth::here();
        assert!(!birth.forked());
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
        assert!(!birth.forked());
    }
}
