//! Compares ways to share SQLite among many clients: `cargo bench --bench connections`, or
//! `… -- --quick` for a first look.
//!
//! Compares the connection manager of `examples/connections` with the alternatives that a user has
//! today. All ways use one file on disk in WAL mode with `synchronous=FULL`, and acknowledge a
//! write after its commit. The statements are the same, prepared once for each connection.
//!
//! | way | connections |
//! |---|---|
//! | heist | 1 for writes (group commit), 1 a processor for reads, 1 for long reads |
//! | `Mutex<Connection>` | 1 |
//! | r2d2 | 10 alike, lent to the clients' own threads |
//! | deadpool | 10 alike, under tokio; the clients are tasks |
//! | a thread each | 1 for writes, 1 a processor for reads, behind channels |
//! | the same, batching | the same, with group commit by the writer |
//!
//! Each connection of heist belongs to an actor.
//!
//! | load | 64 clients, each waits for its answer; 100,000 rows to read, drawn by Zipf's law |
//! |---|---|
//! | mixed | 90 % reads, 10 % single-row writes, as fast as they are answered |
//! | writes | single-row writes only |
//! | paced | the mix of `mixed` at a pace; times count from the due time of an operation |
//!
//! All ways run at the same pace, and the ways that kept the pace run at the next higher one.
//!
//! Under `mixed` and `writes`, the clients of a slow way mostly wait, so that its reads find idle
//! processors. Therefore `mixed` compares throughput, and `paced` compares the times of reads and
//! writes. Each run gets a fresh copy of the file and is checked: the file must contain every
//! acknowledged row once. Ways alternate run by run, and the tables show the medians of the runs.
//! The pictures are written to `connections.svg` in the target directory. Arguments after the
//! options select ways by a part of their name.

#![allow(clippy::print_stdout, reason = "the table")]

#[path = "../../examples/connections/database.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod database;
mod load;
#[path = "../../examples/measure/mod.rs"]
#[allow(unused_imports, reason = "its tests run with the examples")]
mod measure;
mod picture;
#[path = "../../examples/connections/reader.rs"]
mod reader;
mod ways;
#[path = "../../examples/connections/writer.rs"]
mod writer;

use load::{Load, Popularity, Run, on_threads, on_tokio};
use measure::delay::{Delay, quantile};
use measure::progress::Progress;
use measure::table::time;
use measure::text::{grouped, table};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ways::{Deadpool, Failure, Heist, Mutexed, R2d2, Threads};

const WAYS: [&str; 6] = [
    "heist",
    "Mutex<Connection>",
    "r2d2",
    "deadpool, tokio",
    "a thread each",
    "the same, batching",
];

fn run(
    way: usize,
    path: &Path,
    load: Load,
    time: Duration,
    items: &Arc<Popularity>,
) -> Result<Run, Failure> {
    match way {
        0 => on_threads(Heist::open(path)?, load, time, items),
        1 => on_threads(Mutexed::open(path)?, load, time, items),
        2 => on_threads(R2d2::open(path)?, load, time, items),
        3 => on_tokio(|| Deadpool::open(path), load, time, items),
        4 => on_threads(Threads::one_by_one(path)?, load, time, items),
        _ => on_threads(Threads::batching(path)?, load, time, items),
    }
}

/// All runs of one way under one load.
struct Row {
    way: usize,
    runs: Vec<Run>,
}

impl Row {
    /// Returns the median over the runs.
    fn median(&self, of: impl Fn(&Run) -> f64) -> f64 {
        let mut values: Vec<f64> = self.runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// Returns the median of a percentile in nanoseconds, or `None` if a run has no such operation.
    fn percentile(&self, of: impl Fn(&Run) -> &Delay, part: f64) -> Option<f64> {
        let any = self.runs.iter().all(|run| !of(run).is_empty());
        any.then(|| {
            self.median(|run| quantile(of(run), part).map_or(0.0, |time| time.as_nanos() as f64))
        })
    }
}

const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

fn tell(load: &str, rows: &[Row]) -> String {
    let mut header =
        vec![load.to_owned(), "a second".into(), "x mutex".into(), "CPU us each".into()];
    for what in ["read", "write"] {
        header.extend(PERCENTILES.map(|(name, _)| format!("{what} {name}")));
    }
    let mutex = rows.iter().find(|row| row.way == 1).map(|mutex| mutex.median(Run::a_second));
    let line = |row: &Row| {
        let a_second = row.median(Run::a_second);
        let mut cells = vec![
            WAYS[row.way].to_owned(),
            grouped(a_second.round() as u64),
            mutex.map_or("-".into(), |mutex| format!("{:.1}", a_second / mutex)),
            format!("{:.1}", row.median(Run::cpu_us)),
        ];
        cells
            .extend(PERCENTILES.map(|(_, part)| cell(row.percentile(|run| &run.seen.reads, part))));
        cells.extend(
            PERCENTILES.map(|(_, part)| cell(row.percentile(|run| &run.seen.writes, part))),
        );
        cells
    };
    table(header, rows.iter().map(line).collect())
}

/// A pace in operations a second, and the ways that kept it.
struct Paced {
    pace: f64,
    rows: Vec<Row>,
}

/// The part of a pace that a way must reach to keep the pace.
const KEPT: f64 = 0.95;

fn tell_paced(title: &str, ways: &[usize], paced: &[Paced], of: impl Fn(&Run) -> &Delay) -> String {
    let header = paced.iter().map(|paced| grouped(paced.pace as u64));
    let line = |&way: &usize| {
        let cell = |paced: &Paced| {
            let row = paced.rows.iter().find(|row| row.way == way)?;
            Some(cell(row.percentile(&of, 0.99)))
        };
        let cells = paced.iter().map(|paced| cell(paced).unwrap_or_else(|| "too fast".into()));
        std::iter::once(WAYS[way].to_owned()).chain(cells).collect()
    };
    table(
        std::iter::once(title.to_owned()).chain(header).collect(),
        ways.iter().map(line).collect(),
    )
}

fn cell(nanoseconds: Option<f64>) -> String {
    nanoseconds.map_or("-".into(), |ns| time(Duration::from_nanos(ns as u64)))
}

fn main() -> Result<(), Failure> {
    let asked = |option: &str| std::env::args().any(|argument| argument == option);
    let (time, rounds, paces): (_, _, &[f64]) = match (asked("--test"), asked("--quick")) {
        (true, _) => (Duration::from_millis(50), 1, &[1e3]),
        (_, true) => (Duration::from_millis(500), 3, &[1e3, 4e3, 16e3]),
        _ => (Duration::from_secs(1), 3, &[1e3, 2e3, 4e3, 8e3, 16e3, 32e3]),
    };
    let named = |way: &usize| {
        let mut names =
            std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).peekable();
        names.peek().is_none() || names.any(|name| WAYS[*way].contains(&name))
    };
    let chosen: Vec<usize> = (0..WAYS.len()).filter(named).collect();
    let folder = tempfile::tempdir()?;
    let (template, items) = (folder.path().join("template.db"), Arc::new(Popularity::new()));
    load::fill(&template)?;
    let mut progress = Progress::new("connections");
    let mut all = |load: Load, ways: &[usize]| -> Result<Vec<Row>, Failure> {
        let mut rows: Vec<Row> = ways.iter().map(|&way| Row { way, runs: Vec::new() }).collect();
        for round in 0..rounds {
            for row in &mut rows {
                progress.show(|| {
                    format!("{}, round {} of {rounds}, {}", load.name, round + 1, WAYS[row.way])
                });
                let fresh = tempfile::tempdir_in(folder.path())?;
                let path = fresh.path().join("shop.db");
                std::fs::copy(&template, &path)?;
                let run = run(row.way, &path, load, time, &items)?;
                load::check(&path, &run)?;
                row.runs.push(run);
            }
        }
        Ok(rows)
    };
    println!(
        "{} clients, {rounds} runs of {time:?} each, medians; CPU time is that of clients and all, in us for one operation\n",
        load::CLIENTS
    );
    let mixed = all(Load { name: "mixed", writes: 10, pace: None }, &chosen)?;
    println!("{}", tell("mixed", &mixed));
    let writes = all(Load { name: "writes", writes: 100, pace: None }, &chosen)?;
    println!("{}", tell("writes", &writes));
    let (mut keep, mut paced) = (chosen.clone(), Vec::new());
    for pace in paces {
        let rows = all(Load { name: "paced", writes: 10, pace: Some(*pace) }, &keep)?;
        keep = rows
            .iter()
            .filter(|row| row.median(Run::a_second) >= KEPT * pace)
            .map(|row| row.way)
            .collect();
        paced.push(Paced {
            pace: *pace,
            rows: rows.into_iter().filter(|row| keep.contains(&row.way)).collect(),
        });
    }
    println!("{}", tell_paced("read p99 at a pace of", &chosen, &paced, |run| &run.seen.reads));
    println!("{}", tell_paced("write p99 at a pace of", &chosen, &paced, |run| &run.seen.writes));
    drop(progress);

    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is inside the target directory");
    let file = target.join("connections.svg");
    std::fs::write(&file, picture::draw(&mixed, &writes, &paced)?)?;
    println!("{}", file.display());
    Ok(())
}
