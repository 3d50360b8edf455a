//! Runs a million actors on a handful of threads: `cargo run --release --example million`.
//!
//! The program spawns the actors, sends each a message, and asks a thousand of them, picked at
//! random, for the content. It shows the speed of each step and the memory used. `--actors N` sets
//! another number. The exit code is 1 if an answer is wrong.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what happens")]

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use heist::{Actor, ActorRef, Context, Executor, Handler};

const ASKED: usize = 1_000;

/// Keeps the last number that it was told.
struct Cell {
    value: u64,
}

impl Actor for Cell {}

struct Set(u64);

impl Handler<Set> for Cell {
    type Reply = ();

    fn handle(&mut self, Set(value): Set, _: &mut Context<Self>) {
        self.value = value;
    }
}

struct Get;

impl Handler<Get> for Cell {
    type Reply = u64;

    fn handle(&mut self, _: Get, _: &mut Context<Self>) -> u64 {
        self.value
    }
}

fn main() -> ExitCode {
    match million() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("million: {wrong} of {ASKED} answers are wrong");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("million: {error}");
            ExitCode::from(2)
        }
    }
}

/// Returns the number of wrong answers.
fn million() -> Result<usize, Box<dyn Error>> {
    let n = actors_wanted()?;
    let executor = Executor::new();
    println!("{n} actors on {} workers", executor.workers());
    let before = resident();
    show("resident before", megabytes(before));

    eprintln!("spawning ...");
    let began = Instant::now();
    let actors: Vec<ActorRef<Cell>> = (0..n).map(|_| executor.spawn(Cell { value: 0 })).collect();
    executor.wait_idle()?; // until all have started
    show("spawned", rate(n, began.elapsed()));
    let spawned = resident();
    show("resident with all of them", megabytes(spawned));
    let per_actor =
        before.zip(spawned).map(|(before, spawned)| spawned.saturating_sub(before) / n as u64);
    // Of these bytes, 8 are the reference in the vector.
    show("bytes per actor", per_actor.map_or("n/a".into(), |bytes| bytes.to_string()));

    eprintln!("telling ...");
    let began = Instant::now();
    for (actor, i) in actors.iter().zip(0..) {
        actor.tell(Set(scrambled(i)))?;
    }
    executor.wait_idle()?;
    show("told, all handled", rate(n, began.elapsed()));
    show("resident after a message each", megabytes(resident()));

    eprintln!("asking ...");
    let mut wrong = 0;
    let began = Instant::now();
    for i in 0..ASKED as u64 {
        // The same actors in every run, spread over all of them.
        let picked = scrambled(i ^ 2013) % n as u64;
        let answer = actors[picked as usize].ask(Get)?.wait()?;
        if answer != scrambled(picked) {
            eprintln!("actor {picked} should have answered {}, not {answer}", scrambled(picked));
            wrong += 1;
        }
    }
    show("asked, one after another", rate(ASKED, began.elapsed()));
    show("wrong answers", wrong.to_string());

    eprintln!("ending ...");
    let began = Instant::now();
    drop(actors); // the last references: each actor ends
    executor.wait_idle()?;
    show("ended", rate(n, began.elapsed()));
    show("still alive", executor.stats().live_actors.to_string());
    // The allocator may keep the memory for later. The memory is free if as many new actors need no
    // more.
    show("resident without them", megabytes(resident()));
    let actors: Vec<ActorRef<Cell>> = (0..n).map(|_| executor.spawn(Cell { value: 0 })).collect();
    executor.wait_idle()?;
    show("resident with as many again", megabytes(resident()));
    drop(actors);
    executor.shutdown(Duration::from_secs(60))?;
    Ok(wrong)
}

/// Returns the number after `--actors`, or a million.
fn actors_wanted() -> Result<usize, String> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let number = match &arguments[..] {
        [] => return Ok(1_000_000),
        [name, number] if name == "--actors" => number.parse().ok().filter(|n| *n > 0),
        _ => return Err("the only option is --actors N".into()),
    };
    number.ok_or_else(|| format!("--actors needs a whole number from 1, not {:?}", arguments[1]))
}

/// Returns a different, random-looking number for each `i` (SplitMix64), so that no actor can be
/// right by chance.
fn scrambled(i: u64) -> u64 {
    let mut z = i.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns the resident memory of this process in bytes, or `None` if the system does not report it
/// (Linux does).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or("n/a".into(), |bytes| format!("{:.1} MB", bytes as f64 / 1e6))
}

fn rate(n: usize, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    format!("{seconds:.3} s, {:.0} a second", n as f64 / seconds)
}

fn show(what: &str, value: String) {
    println!("  {what:<30} {value}");
}
