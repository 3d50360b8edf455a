//! Measures the load balance of any keyed events, in numbers and in pictures.
//!
//! `cargo run --release --example balance -- --keys FILE.csv --column NAME --cost-us N` reads a
//! stream of events from a CSV file. Each value in the column gets an actor of its own at its first
//! event. Each event is sent to its actor and costs N us of CPU time. The same stream runs under
//! heist's three policies on crews of several sizes, and with a thread for each key if there are
//! not too many keys. The ways alternate round by round, so that a machine that slows down affects
//! all of them. Each actor's count, and a hash that depends on the order of its events, is compared
//! with a sequential pass. A table is printed on the terminal, and a page with the pictures is
//! written to `balance.html`.
//!
//! Then the events come once more at a steady pace that keeps the processors busy for a part of the
//! time only (`--load`). When all events come at once, a queue delay shows little more than the
//! length of the queue ahead.
//!
//! Where to look: `actor.rs` handles an event, `data.rs` reads the file, `crew.rs` and `threads.rs`
//! run the stream, `options.rs` reads the command line, and `../measure` measures and draws.
//!
//! Exit code: 0 if every key of every run agrees with the sequential pass, 1 if one does not, 2 if
//! the program could not run.

mod actor;
mod crew;
mod data;
#[path = "../measure/mod.rs"]
mod measure;
mod options;
#[path = "../pictures/mod.rs"]
mod pictures;
mod stream;
#[cfg(test)]
mod tests;
mod threads;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use crate::actor::Log;
use crate::data::Events;
use crate::measure::burst;
use crate::measure::machine::{self, Pace};
use crate::measure::meter::{POLICIES, Run, Way};
use crate::measure::progress::Progress;
use crate::measure::table::{self, AllBursts};
use crate::measure::text::{count, grouped, seconds};
use crate::options::{Options, Request};
use crate::pictures::report::{self, Section};
use crate::stream::Stream;

fn main() -> ExitCode {
    let say = |text: &str| {
        // Returns an error if printing fails, where `print!` would panic (as in `balance | head`).
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| format!("could not print the results: {error}").into())
    };
    let outcome =
        options::parse(std::env::args_os().skip(1)).map_err(Into::into).and_then(|request| {
            match request {
                Request::Run(options) => balance(&options, say),
                Request::Help => say(options::HELP).map(|()| true),
            }
        });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // If stderr is gone too, nothing is left to do.
            let _ = writeln!(io::stderr(), "balance: {error}");
            ExitCode::from(2)
        }
    }
}

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Runs the whole program. Returns `true` if every key agreed with the sequential pass.
fn balance(options: &Options, say: impl Fn(&str) -> Outcome<()>) -> Outcome<bool> {
    let began = Instant::now();
    let events = Events::read(options, Pace::calibrated(), &mut Progress::new("reading"))?;
    let read = began.elapsed();
    report::can_write(&options.out)?;
    let expected = actor::sequential(&events);
    let file = options.keys.file_name().unwrap_or_default().display();
    let about = about(&events, &options.column);
    say(&format!("{file}: {about} Read in {}.\n", seconds(read)))?;

    let (ways, left_out) = ways(options, &events);
    left_out.iter().try_for_each(|text| say(&format!("{text}\n")))?;

    let mut bench = Bench { events: &events, expected, options, runs: Vec::new() };
    let flood = Stream::flood(&events);
    for round in 1..=options.repeat {
        for &(way, workers) in &ways {
            if let Some(differences) = bench.run(way, workers, &flood, round)? {
                say(&differences)?;
                return Ok(false);
            }
        }
    }
    let flooded = std::mem::take(&mut bench.runs);
    let shown = options.shown();
    let paced = Stream::paced(&events, options.load, shown.min(machine::cores()));
    if let Some(stream) = &paced {
        for round in 1..=options.repeat {
            for &(way, workers) in ways.iter().filter(|(_, workers)| *workers == shown) {
                if let Some(differences) = bench.run(way, workers, stream, round)? {
                    say(&differences)?;
                    return Ok(false);
                }
            }
        }
    }
    let paced_runs = bench.runs;
    say(&format!(
        "Every key of {} agrees with the sequential pass.\n",
        count(flooded.len() + paced_runs.len(), "run")
    ))?;

    let bursts = bursts(&ways)?;
    let mut sections = Vec::new();
    let rows = table::rows(&flooded, &bursts);
    let text = format!(
        "All events at once, or as fast as mailboxes of {} accept them.",
        grouped(options.capacity)
    );
    say(&format!("\n{text}\n\n{}", table::text(&rows)))?;
    let text = format!("{text} {}", left_out.join(" "));
    sections.push(Section::new("At full speed", &text, &rows, shown, events.most_parallel())?);
    if let Some(stream) = &paced {
        let rows = table::rows(&paced_runs, &bursts);
        let text = format!(
            "At a steady pace of {} events a second, which keeps {} busy for {} % of the time. Delays count from the due time \
             of an event.",
            grouped(stream.a_second().round() as u64),
            count(shown.min(machine::cores()), "processor"),
            options.load,
        );
        say(&format!("\n{text}\n\n{}", table::text(&rows)))?;
        let heading = format!("At {} % load", options.load);
        sections.push(Section::new(&heading, &text, &rows, shown, events.most_parallel())?);
    }
    let title = format!("Load balance of {file} by {}", options.column);
    let introduction = format!("{about} {}.", count(machine::cores(), "processor"));
    report::write(&options.out, &title, &introduction, &sections)?;
    say(&format!("\nThe pictures are in {}.\n", options.out.display()))?;
    Ok(true)
}

fn about(events: &Events, column: &str) -> String {
    format!(
        "{} with {} in {column:?}; the busiest, {}, has {:.1} % of the work, so that no more than {:.1} workers could share \
         it evenly. {:.2} s of CPU time in all.",
        count(events.list.len(), "event"),
        count(events.keys.len(), "key"),
        match events.busiest() {
            "" => "the empty one".to_owned(),
            name => format!("{name:?}"),
        },
        100.0 / events.most_parallel(),
        events.most_parallel(),
        events.total_us() / 1e6,
    )
}

/// Returns the ways to run the stream with their numbers of workers, and the ways that are left out
/// with the reasons.
fn ways(options: &Options, events: &Events) -> (Vec<(Way, usize)>, Vec<String>) {
    let crews = options
        .workers
        .iter()
        .flat_map(|workers| POLICIES.map(|policy| (Way::Crew(policy), *workers)));
    let mut ways: Vec<_> = crews.collect();
    let (keys, most) = (events.keys.len(), options.threads_up_to);
    let reason = if keys > most {
        format!("there are {}, and --threads-up-to is {}", count(keys, "key"), grouped(most))
    } else {
        match threads::can_start(keys) {
            Ok(()) => {
                ways.push((Way::Threads, machine::cores()));
                return (ways, Vec::new());
            }
            Err(error) => format!("the system does not start {} ({error})", count(keys, "thread")),
        }
    };
    (ways, vec![format!("A thread for each key is left out: {reason}.")])
}

fn bursts(ways: &[(Way, usize)]) -> Outcome<AllBursts> {
    let mut progress = Progress::new("bursts");
    let mut bursts = AllBursts::new();
    for &(way, workers) in ways {
        progress.show(|| format!("{way} on {}", count(workers, "worker")));
        match way {
            Way::Crew(policy) => bursts.push((way, workers, burst::of_a_crew(policy, workers)?)),
            Way::Threads => bursts.extend(burst::of_threads().map(|burst| (way, workers, burst))),
        }
    }
    Ok(bursts)
}

struct Bench<'a> {
    events: &'a Events,
    expected: Vec<Log>,
    options: &'a Options,
    runs: Vec<Run>,
}

impl Bench<'_> {
    /// Runs the stream once. Returns the differences from the sequential pass.
    fn run(
        &mut self,
        way: Way,
        workers: usize,
        stream: &Stream<'_>,
        round: usize,
    ) -> Outcome<Option<String>> {
        let label = format!(
            "{}, {way} on {}, run {round} of {}",
            stream.name(),
            count(workers, "worker"),
            self.options.repeat
        );
        let keys = self.events.keys.len();
        let (run, logs) = match way {
            Way::Crew(policy) => {
                crew::run(stream, keys, policy, workers, self.options.capacity, &label)
            }
            Way::Threads => threads::run(stream, keys, self.options.capacity, &label),
        }
        .map_err(|error| format!("{label}: {error}"))?;
        self.runs.push(run);
        let differences = actor::differences(&self.events.keys, &self.expected, &logs);
        Ok(differences.map(|differences| format!("{label}: {differences}")))
    }
}
