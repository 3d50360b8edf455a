//! Streams a year of real flights through a quarter of a million actors.
//!
//! `cargo run --release --example flights` reads the flights that left New York in 2013. Every
//! aircraft, every day of an aircraft, every route, every airport and every carrier gets an actor
//! of its own. The program streams all flights through the actors, asks every actor for its counts,
//! and compares each answer with a plain sequential pass over the same file. The same stream then
//! runs under heist's other two scheduling policies, and a table compares the policies.
//!
//! ```text
//! this program --> aircraft --> its day          (spawned on the aircraft's first flight that day)
//!                           --> the route
//!                           --> the airport of departure --> the carrier
//!                           --> the airport of arrival
//! ```
//!
//! Origins and destinations are airports alike. An airport counts departures and arrivals
//! separately and passes its departures on, so that a carrier is told of each flight once. Flights
//! without a tail number (mostly cancelled before an aircraft was assigned) belong to one more
//! aircraft called `(none)`, so that no flight is left out. This aircraft is not listed among the
//! busiest.
//!
//! Where to look: `actors.rs` has the actors, and `outbox.rs` handles full mailboxes. `run.rs`
//! spawns, streams and asks, `tally.rs` has the counts and the sequential pass, and `check.rs`
//! compares. `data.rs` reads the file, `report.rs` and `balance.rs` print, `options.rs` reads the
//! command line, `../measure` measures, and `../pictures` draws.
//!
//! Exit code: 0 if every actor of every run agrees with the sequential pass, 1 if one does not, 2
//! if the program could not run.

mod actors;
mod balance;
mod check;
mod data;
#[path = "../measure/mod.rs"]
mod measure;
mod options;
mod outbox;
#[cfg(feature = "pictures")]
#[path = "../pictures/mod.rs"]
mod pictures;
mod report;
mod run;
mod tally;

use std::error::Error;
use std::io::{self, Write};
#[cfg(not(feature = "pictures"))]
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::data::Flights;
use crate::measure::machine::Cost;
use crate::measure::meter::{POLICIES, Run};
use crate::measure::progress::Progress;
use crate::measure::text::{count, grouped, seconds};
use crate::options::{Options, Request};
#[cfg(feature = "pictures")]
use crate::pictures::report::can_write as can_draw;
use crate::tally::Results;

fn main() -> ExitCode {
    match flights() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // If stderr is gone too, nothing is left to do.
            let _ = writeln!(io::stderr(), "flights: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the whole program. Returns `true` if every actor agreed with the sequential pass.
fn flights() -> Result<bool, Box<dyn Error>> {
    let options = match options::parse(std::env::args_os().skip(1))? {
        Request::Run(options) => options,
        Request::Help => {
            say(options::HELP)?;
            return Ok(true);
        }
    };

    options.report.as_deref().map_or(Ok(()), can_draw)?;
    let began = Instant::now();
    let flights = Flights::read(&options.file, &mut Progress::new("reading"))?;
    let read = began.elapsed();
    let began = Instant::now();
    let expected = Results::sequential(&flights);
    let counted = began.elapsed();
    say(&format!(
        "{}: {}, read in {}, counted by a sequential pass in {}.\n",
        options.file.file_name().unwrap_or_default().display(),
        count(flights.list.len(), "flight"),
        seconds(read),
        seconds(counted)
    ))?;
    say(&report::overview(&flights, &expected))?;

    let cost = Cost::calibrated(options.cost_us);
    let mut runs = Vec::new();
    // Round by round, so that a machine that slows down affects all policies.
    for round in 1..=options.repeat {
        for policy in POLICIES {
            let label = format!("{policy:?}, run {round} of {}", options.repeat);
            let (run, results) = run::run(&flights, policy, options.workers, cost, &label)
                .map_err(|error| format!("{label}: {error}"))?;
            let differences = check::compare(&flights, &expected, &results);
            if !differences.is_empty() {
                say(&format!("\n{label}: {differences}"))?;
                return Ok(false);
            }
            if runs.is_empty() {
                say(&agreement(&run, results.len(), &options))?;
                say(&report::tables(&flights, &results))?;
            }
            runs.push(run);
        }
    }
    say(&balance::compare(&runs, expected.len(), &options)?)?;
    Ok(true)
}

fn agreement(run: &Run, actors: usize, options: &Options) -> String {
    let mut text = format!(
        "\nOn {} they handled {} messages in {}. All {} actors agree with the\n\
         sequential pass, aircraft and their days also about the order of their flights.\n",
        count(run.workers, "worker"),
        grouped(run.messages),
        seconds(run.makespan),
        grouped(actors),
    );
    if options.cost_us > 0.0 {
        text += &format!(
            "Each flight cost each of its actors {} us of extra CPU time.\n",
            options.cost_us
        );
    }
    text
}

/// Refuses the report that this build cannot draw.
#[cfg(not(feature = "pictures"))]
fn can_draw(report: &Path) -> Result<(), Box<dyn Error>> {
    Err(format!("{}: pictures need a build with `--features pictures`", report.display()).into())
}

/// Prints, and returns an error if that fails, where `print!` would panic (as in `flights | head`).
fn say(text: &str) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("could not print the results: {error}").into())
}
