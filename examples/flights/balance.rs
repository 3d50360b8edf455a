//! Compares the policies on the same stream by duration and by the balance of the workers.

use std::error::Error;
use std::time::Duration;

use crate::measure::burst;
#[cfg(feature = "pictures")]
use crate::measure::machine;
use crate::measure::meter::{POLICIES, Run, Way};
use crate::measure::table::{self, AllBursts, Row};
use crate::measure::text::{count, grouped, seconds};
use crate::options::Options;
#[cfg(feature = "pictures")]
use crate::pictures::report::{self, Section};

/// Largest crew with a line for every worker.
const WORKERS: usize = 16;
/// Length of the bar of the busiest worker.
const BAR: f64 = 60.0;

/// Compares the policies by the figures of their median runs. Writes the report that the options
/// ask for.
pub(crate) fn compare(
    runs: &[Run],
    actors: usize,
    options: &Options,
) -> Result<String, Box<dyn Error>> {
    let workers = runs.iter().map(|run| run.workers).max().unwrap_or(1);
    let mut title = format!("Load balance on {}", count(workers, "worker"));
    if options.cost_us > 0.0 {
        title += &format!(", {} us of extra CPU time a message", options.cost_us);
    }
    let mut about = "Every actor of every run agrees with the sequential pass.".to_owned();
    if options.repeat > 1 {
        about +=
            &format!(" All figures come from the median of {} runs, by makespan.", options.repeat);
    }
    let threads = format!(
        "A thread for each of the {} actors is left out: too many to start.",
        grouped(actors)
    );

    let bursts =
        POLICIES.map(|policy| Ok((Way::Crew(policy), workers, burst::of_a_crew(policy, workers)?)));
    let bursts = bursts.into_iter().collect::<Result<AllBursts, heist::BuildError>>()?;
    let rows = table::rows(runs, &bursts);
    let mut text = format!("\n{title}.\n{about}\n{threads}\n\n{}", table::text(&rows));
    text += "\nBusy time per worker, by the clock (including time for which the system preempted a worker)\n\n";
    let medians = || rows.iter().map(Row::median);
    let busiest = medians().flat_map(busy).max().copied().unwrap_or_default();
    medians().for_each(|run| text += &bars(run, busiest));

    #[cfg(feature = "pictures")]
    if let Some(path) = &options.report {
        let section = Section::new("Flights", &title, &rows, workers, f64::INFINITY)?;
        let file = options.file.file_name().unwrap_or_default().display();
        let about = format!("{about} {threads} {}.", count(machine::cores(), "processor"));
        report::write(path, &format!("Load balance of {file}"), &about, &[section])?;
        text += &format!("\nThe pictures are in {}.\n", path.display());
    }
    Ok(text)
}

fn busy(run: &Run) -> &[Duration] {
    run.crew.as_ref().map_or(&[], |crew| &crew.busy)
}

/// Formats a line with a bar for every worker. For a large crew, formats only the most, the median
/// and the least busy.
fn bars(run: &Run, busiest: Duration) -> String {
    let mut workers: Vec<_> = busy(run).iter().copied().enumerate().collect();
    if workers.len() > WORKERS {
        workers.sort_by_key(|(_, busy)| *busy);
        workers = [workers.len() - 1, workers.len() / 2, 0].map(|rank| workers[rank]).to_vec();
    }
    let mut way = run.way.to_string();
    let mut text = String::new();
    for (worker, busy) in workers {
        let share = busy.as_secs_f64() / busiest.as_secs_f64().max(f64::MIN_POSITIVE);
        let bar = "#".repeat((BAR * share).round() as usize);
        let line = format!("  {way:<11}  {worker:>3}  {}  {bar}", seconds(busy));
        text += &format!("{}\n", line.trim_end());
        way.clear();
    }
    text
}
