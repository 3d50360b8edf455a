//! Keeps values written by different threads off each other's cache line.

use std::ops::Deref;

/// A value on cache lines of its own. 128 bytes because x86-64 prefetches lines in pairs and some
/// aarch64 processors have lines of 128 bytes.
#[repr(align(128))]
#[derive(Debug, Default)]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
