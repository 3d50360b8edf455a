//! Measures the machine's lower bounds, the costs of an operation's parts by themselves.
//! `cargo bench --bench floor`.
//!
//! `docs/performance.md` compares heist's figures with these. Each figure is the median of several
//! passes.

#![allow(clippy::print_stdout, reason = "the table")]

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::thread;
use std::time::Instant;

const PASSES: usize = 7;

/// Returns the time of one of `count` steps in nanoseconds: the median of the passes.
fn each(count: u64, mut pass: impl FnMut(u64)) -> f64 {
    let once = |pass: &mut dyn FnMut(u64)| {
        let start = Instant::now();
        pass(count);
        start.elapsed().as_nanos() as f64 / count as f64
    };
    let mut passes: Vec<f64> = (0..PASSES).map(|_| once(&mut pass)).collect();
    passes.sort_by(f64::total_cmp);
    passes[PASSES / 2]
}

/// A value with a cache line to itself.
#[repr(align(128))]
#[derive(Default)]
struct Line(AtomicU64);

/// Multiplications that depend on each other: three or four cycles each, and one for the bit.
fn multiplication(count: u64) -> f64 {
    each(count, |count| {
        let mut x = black_box(3_u64);
        for _ in 0..count {
            x = x.wrapping_mul(x) | 1;
        }
        black_box(x);
    })
}

fn own_line(count: u64) -> f64 {
    let line = Line::default();
    each(count, |count| {
        for _ in 0..count {
            let now = line.0.load(Relaxed);
            let _ = black_box(line.0.compare_exchange_weak(now, now + 1, AcqRel, Relaxed));
        }
    })
}

/// From one core to the other and back, with both cores spinning.
fn there_and_back(count: u64) -> f64 {
    each(count, |count| {
        let line = Line::default();
        let wait = |value| {
            while line.0.load(Acquire) != value {
                spin_loop();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..count {
                    wait(2 * i + 1);
                    line.0.store(2 * i + 2, Release);
                }
            });
            for i in 0..count {
                line.0.store(2 * i + 1, Release);
                wait(2 * i + 2);
            }
        });
    })
}

/// While another core changes the line all the time.
fn contended_line(count: u64) -> f64 {
    let (line, over) = (Line::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                line.0.fetch_add(1, AcqRel);
            }
        });
        let time = each(count, |count| {
            for _ in 0..count {
                line.0.fetch_add(1, AcqRel);
            }
        });
        over.store(true, Relaxed);
        time
    })
}

/// Follows lines scattered over `bytes` of memory, each found through the previous one.
fn chase(count: u64, bytes: usize) -> f64 {
    let lines = bytes / size_of::<Line>();
    let memory: Vec<Line> = (0..lines).map(|_| Line::default()).collect();
    // A generator with the full period of a power of two (Hull and Dobell, 1962) visits every line,
    // in an order that no prefetcher predicts.
    let mut at = 0_usize;
    for _ in 0..lines {
        let next = at
            .wrapping_mul(6_364_136_223_846_793_005_usize)
            .wrapping_add(1_442_695_040_888_963_407)
            % lines;
        memory[at].0.store(next as u64, Relaxed);
        at = next;
    }
    each(count, |count| {
        let mut at = black_box(0);
        for _ in 0..count {
            at = memory[at].0.load(Relaxed) as usize;
        }
        black_box(at);
    })
}

fn main() {
    let short = std::env::args().any(|argument| argument == "--test");
    let count = |full: u64| if short { full / 1000 } else { full };
    let show = |what: &str, ns: f64| println!("{what:<66} {ns:>7.2}");
    println!("{:<66} {:>7}", "ns each, the median of 7 passes", "");
    show(
        "a multiplication and a bit set, each after the other (4 or 5 cycles)",
        multiplication(count(20_000_000)),
    );
    show("compare-and-swap on a line that stays", own_line(count(20_000_000)));
    show("a line from one core to another and back", there_and_back(count(500_000)));
    show(
        "a change of a line that another core changes all the time",
        contended_line(count(20_000_000)),
    );
    for (what, kib) in [("256 KiB", 256), ("8 MiB", 8 << 10), ("256 MiB", 256 << 10)] {
        show(
            &format!("a line somewhere in {what}, found through the one before"),
            chase(count(5_000_000), kib << 10),
        );
    }
}
