//! Provides the `main` of every peer's program: `list` prints its workloads, `run` runs one
//! workload and prints one line of JSON.
//!
//! A run has three passes in one process. The first is a probe of a sixteenth, which also shows how
//! small the size must be for a slow peer to end in time. The second is a warm-up of the whole
//! size, and the third counts. Where the ideal matters, it is calibrated just before and just
//! after.

use std::{process::ExitCode, time::Duration};

use crate::{
    Figure, Run, Scale, Size, WORKLOADS, Workload, find,
    measure::{calibrate, peak_kb},
};

/// A workload as a peer runs it. `run` returns the answer, and starts and stops the clock in `Run`.
pub struct Entry<C> {
    pub name: &'static str,
    pub run: fn(&C, Size, &mut Run) -> u64,
    /// Divisor of the size, for a peer that cannot handle the full size.
    pub at_most_one_in: u64,
}

impl<C> Entry<C> {
    pub const fn new(name: &'static str, run: fn(&C, Size, &mut Run) -> u64) -> Entry<C> {
        Entry { name, run, at_most_one_in: 1 }
    }
}

/// Lowers the sizes of some workloads for a peer that cannot handle the full size.
pub fn at_most<C>(table: &mut [Entry<C>], limits: &[(&str, u64)]) {
    for entry in table {
        if let Some((_, one_in)) = limits.iter().find(|(name, _)| *name == entry.name) {
            entry.at_most_one_in = *one_in;
        }
    }
}

/// Runs the command line. `start` makes a crew with the given number of workers. `left_out` gives
/// the reason for each workload that is not in the table.
pub fn main<C>(
    peer: &str,
    start: fn(usize) -> C,
    table: &[Entry<C>],
    left_out: &[(&'static str, &'static str)],
) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => {
            println!("{}", list(peer, table, left_out));
            ExitCode::SUCCESS
        }
        ["run", name, workers, scale, limit_ms] => {
            let workload = find(name);
            let entry = table.iter().find(|e| e.name == name);
            let (Some(workload), Some(entry)) = (workload, entry) else {
                eprintln!("{peer} does not run {name}");
                return ExitCode::FAILURE;
            };
            let workers = workers.parse().expect("the number of workers");
            let scale = if scale == "quick" { Scale::Quick } else { Scale::Full };
            let limit = Duration::from_millis(limit_ms.parse().expect("a limit in ms"));
            let crew = start(workers);
            println!("{}", one(peer, &crew, workload, entry, workers, scale, limit));
            // Everything that the peer still runs ends with the process.
            std::process::exit(0)
        }
        _ => {
            eprintln!("usage: list | run WORKLOAD WORKERS quick|full LIMIT_MS");
            ExitCode::FAILURE
        }
    }
}

fn list<C>(peer: &str, table: &[Entry<C>], left_out: &[(&str, &str)]) -> String {
    for w in WORKLOADS {
        let (ran, why) =
            (table.iter().any(|e| e.name == w.name), left_out.iter().any(|(name, _)| *name == w.name));
        assert!(ran != why, "{peer} must either run {} or say why not", w.name);
    }
    let runs: Vec<String> = table.iter().map(|e| format!("\"{}\"", e.name)).collect();
    let reasons: Vec<String> = left_out.iter().map(|(name, why)| format!("\"{name}\":\"{why}\"")).collect();
    format!("{{\"peer\":\"{peer}\",\"runs\":[{}],\"left_out\":{{{}}}}}", runs.join(","), reasons.join(","))
}

fn one<C>(
    peer: &str,
    crew: &C,
    workload: &Workload,
    entry: &Entry<C>,
    workers: usize,
    scale: Scale,
    limit: Duration,
) -> String {
    let wanted = workload.size(scale);
    let mut by = entry.at_most_one_in;
    let mut size = workload.cut(wanted, by);
    if !workload.once {
        let probe = pass(crew, entry, workload.cut(wanted, by.max(16)), workers);
        if workload.can_be_cut() && by < 16 {
            let probed = workload.ops(workload.cut(wanted, by.max(16)));
            let expected = probe.wall_ns() as u128 * u128::from(workload.ops(size)) / u128::from(probed);
            if expected > limit.as_nanos() {
                by = by.max(expected.div_ceil(limit.as_nanos()) as u64);
                size = workload.cut(wanted, by);
            }
        }
        pass(crew, entry, size, workers);
    }
    let ideal = |_| calibrate(workload.work, workers);
    let before = (workload.work > 0).then_some(()).map(ideal);
    let mut run = Run::new(workers);
    let answer = (entry.run)(crew, size, &mut run);
    let after = (workload.work > 0).then_some(()).map(ideal);
    let ops = workload.ops(size);
    let ideal_ns =
        before.zip(after).map(|((a, threads), (b, _))| (a + b) / 2.0 * ops as f64 / threads as f64);

    let wall = run.wall_ns();
    let cpu = run.cpu_ns();
    let figures: Vec<String> = workload
        .figures
        .iter()
        .map(|&figure| {
            let value = match figure {
                Figure::NsPerOp => wall as f64 / ops as f64,
                Figure::OverIdeal => wall as f64 / ideal_ns.unwrap_or(f64::NAN),
                Figure::P50 => run.percentile(0.5) as f64 / 1e3,
                Figure::P99 => run.percentile(0.99) as f64 / 1e3,
                Figure::BytesPerActor | Figure::IdleCpu => run.measured.unwrap_or(f64::NAN),
            };
            format!("\"{}\":{value:.4}", figure.label())
        })
        .collect();
    let expected = workload.answer(size);
    format!(
        "{{\"peer\":\"{peer}\",\"workload\":\"{}\",\"workers\":{workers},\"actors\":{},\"messages\":{},\"cut\":{},\
         \"ok\":{},\"answer\":{answer},\"expected\":{expected},\"ops\":{ops},\"wall_ns\":{wall},\"cpu_ns\":{cpu},\
         \"peak_kb\":{},\"ideal_ns\":{},\"figures\":{{{}}}}}",
        workload.name,
        size.actors,
        size.messages,
        size != wanted,
        answer == expected,
        peak_kb(),
        ideal_ns.map_or("null".into(), |ns| format!("{ns:.0}")),
        figures.join(","),
    )
}

fn pass<C>(crew: &C, entry: &Entry<C>, size: Size, workers: usize) -> Run {
    let mut run = Run::new(workers);
    (entry.run)(crew, size, &mut run);
    // Lets leftovers of the pass end, so that the next pass does not pay for them.
    std::thread::sleep(Duration::from_millis(10));
    run
}
