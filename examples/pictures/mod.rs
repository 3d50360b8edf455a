//! Draws what `../measure` has measured: a page with a table and pictures.
//!
//! The pictures need plotters, and `../measure` does not, so that a program that only prints
//! compiles sooner. A program that includes this module includes `../measure` as `measure`.
//!
//! | file | content |
//! |---|---|
//! | `report.rs` | the page |
//! | `chart.rs` | the pictures |
//! | `look.rs` | their style |

#![allow(dead_code, reason = "each of them uses a part of it")]

mod chart;
mod look;
pub(crate) mod report;
