//! Floor 0: the cores that a thread may run on. Linux only; on other systems each call fails with
//! an error that says so.
//!
//! A core is a hardware thread, as the system numbers them (`/proc/cpuinfo`, `lscpu -e`).

pub(crate) use system::Cores;

#[cfg(target_os = "linux")]
mod system {
    use std::io;

    /// Size of a set: four times the C library's own type, and more than any kernel is built for.
    const MOST: usize = 4096;
    type Word = libc::c_ulong;
    const BITS: usize = Word::BITS as usize;

    /// A set of cores, in the kernel's format.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Cores(Box<[Word; MOST / BITS]>);

    fn io_result(result: libc::c_int) -> io::Result<()> {
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    impl Cores {
        fn empty_set() -> Self {
            Cores(Box::new([0; MOST / BITS]))
        }

        pub(crate) fn single_core(core: usize) -> Self {
            let mut cores = Self::empty_set();
            // A core beyond the set leaves it empty, and binding to an empty set is an error.
            if let Some(word) = cores.0.get_mut(core / BITS) {
                *word |= 1 << (core % BITS);
            }
            cores
        }

        /// Returns the cores that the calling thread may run on. Threads started by it inherit the
        /// set.
        pub(crate) fn of_this_thread() -> io::Result<Self> {
            let mut cores = Self::empty_set();
            let bytes = size_of_val(&*cores.0);
            // SAFETY: the kernel writes at most `bytes` bytes, and the array has as many. 0 is the
            // calling thread.
            io_result(unsafe { libc::sched_getaffinity(0, bytes, cores.0.as_mut_ptr().cast()) })?;
            Ok(cores)
        }

        pub(crate) fn contains(&self, core: usize) -> bool {
            self.0.get(core / BITS).is_some_and(|word| word >> (core % BITS) & 1 == 1)
        }

        /// Binds the calling thread to these cores.
        pub(crate) fn bind_this_thread(&self) -> io::Result<()> {
            let bytes = size_of_val(&*self.0);
            // SAFETY: the kernel reads at most `bytes` bytes, and the array has as many. 0 is the
            // calling thread.
            io_result(unsafe { libc::sched_setaffinity(0, bytes, self.0.as_ptr().cast()) })
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;

    /// Has no values: pinning is not supported here.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) enum Cores {}

    impl Cores {
        pub(crate) fn of_this_thread() -> io::Result<Self> {
            Err(io::Error::new(io::ErrorKind::Unsupported, "threads can be pinned on Linux only"))
        }

        pub(crate) fn single_core(_: usize) -> Self {
            // Builders refuse a list of cores where `of_this_thread` fails.
            unreachable!("asked for only where `of_this_thread` gave a set")
        }

        pub(crate) fn contains(&self, _: usize) -> bool {
            match *self {}
        }

        pub(crate) fn bind_this_thread(&self) -> io::Result<()> {
            match *self {}
        }
    }
}

#[cfg(all(test, target_os = "linux", not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_bound_to_one_core_and_released_again() {
        let all = Cores::of_this_thread().unwrap();
        let core = (0..).find(|&core| all.contains(core)).unwrap();
        let one = Cores::single_core(core);
        assert!(one.contains(core) && !one.contains(core + 1));
        one.bind_this_thread().unwrap();
        assert_eq!(Cores::of_this_thread().unwrap(), one);
        all.bind_this_thread().unwrap();
        assert_eq!(Cores::of_this_thread().unwrap(), all);
    }

    #[test]
    fn a_core_that_is_not_there_is_in_no_set() {
        let all = Cores::of_this_thread().unwrap();
        assert!(!all.contains(1 << 20));
        assert!(Cores::single_core(1 << 20).bind_this_thread().is_err());
    }
}
