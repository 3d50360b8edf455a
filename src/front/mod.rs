//! Floor 4: the executor with its builder, shutdown and statistics; directories; pools.

pub(crate) mod build_error;
pub(crate) mod builder;
pub(crate) mod directory;
#[cfg(all(test, not(heist_loom)))]
mod ends;
pub(crate) mod executor;
#[cfg(all(test, not(heist_loom)))]
mod full;
pub(crate) mod pool;
pub(crate) mod shutdown;
pub(crate) mod stats;
mod threads;
pub(crate) mod top;
pub(crate) mod worker;
