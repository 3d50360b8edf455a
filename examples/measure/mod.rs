//! What the examples and benches share to measure how evenly work lies on a crew, and to show it.

#![allow(dead_code, reason = "each of them uses a part of it")]

pub(crate) mod machine;
pub(crate) mod progress;
pub(crate) mod text;
