//! What the examples and benches share to measure how evenly work lies on a crew, and to show it.
//!
//! | file | |
//! |---|---|
//! | `meter.rs` | one run of a load, measured |
//! | `delay.rs` | queue delay, from stamps on a sample of the messages |
//! | `spread.rs` | how even the busy times are: max/mean, coefficient of variation, Jain's index |
//! | `sampler.rs`, `timeline.rs` | looks at the crew twice a millisecond: idle hands, and what each worker did over time |
//! | `burst.rs` | the time until all workers are busy after a burst |
//! | `table.rs`, `chart.rs`, `look.rs`, `report.rs` | the table, the pictures, how they look, the page with all of them |
//! | `machine.rs` | CPU time: how much was used, and how to use some |
//! | `progress.rs`, `text.rs` | for the terminal |

#![allow(dead_code, reason = "each of them uses a part of it")]

pub(crate) mod burst;
pub(crate) mod chart;
pub(crate) mod delay;
mod look;
pub(crate) mod machine;
pub(crate) mod meter;
pub(crate) mod progress;
pub(crate) mod report;
mod sampler;
pub(crate) mod spread;
pub(crate) mod table;
pub(crate) mod text;
mod timeline;
