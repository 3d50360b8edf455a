//! Unit tests of private parts that need the whole executor, with directories and pools.

mod ends;
mod full;
