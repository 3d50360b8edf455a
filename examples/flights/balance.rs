//! What each policy made of the same stream: how long it took, and how evenly its workers were loaded.

use std::time::Duration;

use crate::POLICIES;
use crate::measure::text::{count, grouped, seconds, table};
use crate::options::Options;
use crate::run::Run;

/// So many workers are shown one by one; of more, only some.
const WORKERS: usize = 16;
/// How long the bar of the busiest worker of all is.
const BAR: f64 = 60.0;

/// Compares the policies, each with the figures of its median run (by makespan) and their ranges.
pub(crate) fn table_and_bars(runs: &[Run], options: &Options) -> String {
    let workers = runs.iter().map(|run| run.busy.len()).max().unwrap_or(0);
    let mut text = format!("\nLoad balance on {}", count(workers, "worker"));
    if options.cost_us > 0.0 {
        text += &format!(", {} us of extra CPU time a message", options.cost_us);
    }
    if options.repeat > 1 {
        text += &format!("; the median of {} runs each, and the least..most", options.repeat);
    }
    text += ".\nEvery actor of every run agrees with the sequential pass.\n\n";

    let policies = POLICIES.map(|policy| {
        let mut runs: Vec<_> = runs.iter().filter(|run| run.policy == policy).collect();
        runs.sort_by_key(|run| run.makespan);
        runs
    });
    let header =
        ["policy", "makespan", "CPU time", "busy max/mean", "steals", "parks", "had to wait for room"];
    let rows = policies.iter().flat_map(|runs| {
        let median = runs[runs.len() / 2];
        let figures = row(median);
        let ranges = [
            range(runs, |run| Some(run.makespan.as_secs_f64())),
            range(runs, |run| run.cpu.map(|cpu| cpu.as_secs_f64())),
            range(runs, imbalance),
        ];
        let ranges = [String::new()].into_iter().chain(ranges).chain([const { String::new() }; 3]).collect();
        if runs.len() > 1 { vec![figures, ranges] } else { vec![figures] }
    });
    text += &table(header.map(str::to_owned).to_vec(), rows.collect());

    text +=
        "\nBusy time per worker, by the clock (time for which the system put a worker aside included)\n\n";
    let busiest =
        policies.iter().flat_map(|runs| &runs[runs.len() / 2].busy).max().copied().unwrap_or_default();
    for runs in &policies {
        text += &bars(runs[runs.len() / 2], busiest);
    }
    text
}

fn row(run: &Run) -> Vec<String> {
    vec![
        format!("{:?}", run.policy),
        seconds(run.makespan),
        run.cpu.map_or("n/a".into(), seconds),
        imbalance(run).map_or("-".into(), |imbalance| format!("{imbalance:.2}")),
        grouped(run.steals),
        grouped(run.parks),
        grouped(run.kept),
    ]
}

/// How much busier the busiest worker was than they all were on average: 1 is perfect balance.
fn imbalance(run: &Run) -> Option<f64> {
    let mean = run.busy.iter().sum::<Duration>().as_secs_f64() / run.busy.len() as f64;
    let most = run.busy.iter().max()?.as_secs_f64();
    (mean > 0.0).then(|| most / mean)
}

fn range(runs: &[&Run], figure: impl Fn(&Run) -> Option<f64>) -> String {
    let mut figures: Vec<_> = runs.iter().filter_map(|run| figure(run)).collect();
    figures.sort_by(f64::total_cmp);
    match figures[..] {
        [] => String::new(),
        [least, .., most] => format!("{least:.2}..{most:.2}"),
        [only] => format!("{only:.2}"),
    }
}

/// A line and a bar for every worker; of a large crew the most, the median and the least busy.
fn bars(run: &Run, busiest: Duration) -> String {
    let mut workers: Vec<_> = run.busy.iter().copied().enumerate().collect();
    if workers.len() > WORKERS {
        workers.sort_by_key(|(_, busy)| *busy);
        workers = [workers.len() - 1, workers.len() / 2, 0].map(|rank| workers[rank]).to_vec();
    }
    let mut policy = format!("{:?}", run.policy);
    let mut text = String::new();
    for (worker, busy) in workers {
        let share = busy.as_secs_f64() / busiest.as_secs_f64().max(f64::MIN_POSITIVE);
        let bar = "#".repeat((BAR * share).round() as usize);
        let line = format!("  {policy:<11}  {worker:>3}  {}  {bar}", seconds(busy));
        text += &format!("{}\n", line.trim_end());
        policy.clear();
    }
    text
}
