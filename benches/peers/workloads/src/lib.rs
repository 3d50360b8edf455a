//! Defines what is compared: each workload's size, operation and right answer, and the harness that
//! runs every peer's implementations.

mod define;
mod feel;
mod harness;
mod load;
mod measure;
mod roles;
mod runs;

pub use define::{Figure, Scale, Size, WORKLOADS, Workload, find};
pub use feel::*;
pub use harness::{Entry, at_most, main};
pub use load::*;
pub use measure::{Run, ask_from_threads, calibrate};
pub use roles::*;
pub use runs::{NO_BOUNDED, entries};
