//! Measures how evenly work lies on a crew, for examples and benches.
//!
//! | file | content |
//! |---|---|
//! | `meter.rs` | one run of a load, measured |
//! | `delay.rs` | queue delay, from stamps on a sample of the messages |
//! | `spread.rs` | evenness of busy times: max/mean, coefficient of variation, Jain's index |
//! | `sampler.rs`, `timeline.rs` | samples twice a millisecond: idle hands, workers over time |
//! | `burst.rs` | the time until all workers are busy after a burst |
//! | `table.rs` | the table; `../pictures` draws |
//! | `machine.rs` | CPU time: measuring and spending |
//! | `progress.rs`, `text.rs` | output on the terminal |

#![allow(dead_code, reason = "each of them uses a part of it")]

pub(crate) mod burst;
pub(crate) mod delay;
pub(crate) mod machine;
pub(crate) mod meter;
pub(crate) mod progress;
mod sampler;
pub(crate) mod spread;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod timeline;
