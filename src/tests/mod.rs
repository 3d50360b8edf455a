//! Unit tests of private parts that need the whole executor, with directories and pools.

#[cfg(all(feature = "directory", feature = "pool"))]
mod ends;
mod full;
mod rescue;
