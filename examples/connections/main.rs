//! Manages connections to SQLite: actors own the connections, one of them for writes and several
//! for reads.
//!
//! ```text
//! cargo run --release --example connections                 demonstration in a temporary folder
//! cargo run --release --example connections -- --kills 50   kills writing processes, then checks
//! cargo test --example connections                          tests, including the 50 kills
//! ```
//!
//! | file | content |
//! |---|---|
//! | `database.rs` | the facade: reads by key, scans, writes, timeouts, refusals |
//! | `writer.rs` | the one connection that writes, and its group commit |
//! | `reader.rs` | connections that read |
//! | `durability.rs` | a child that is killed, and what must be in its file |
//!
//! `cargo bench --bench connections` compares the manager with its alternatives.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what happens")]

mod database;
mod durability;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use database::{Database, Error, Settings, Stats};
use heist::{Executor, Refusal};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => demonstrate(),
        ["--kills", kills] => kill(kills.parse()?),
        // Started by `--kills`, not by users.
        ["--child", path, round] => durability::write_until_killed(Path::new(path), round.parse()?),
        _ => {
            eprintln!("usage: connections [--kills N]");
            std::process::exit(2);
        }
    }
}

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS accounts (
    id      INTEGER PRIMARY KEY,
    balance INTEGER NOT NULL
)";
const ACCOUNTS: u64 = 1000;
/// A sum that runs until interrupted.
const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT sum(x) FROM n";

fn demonstrate() -> Result<(), Failure> {
    say_nothing_of_what_is_intended();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("accounts.db");
    let executor = Executor::new();
    let database = Database::open(&executor, &file, SCHEMA, Settings::default())?;
    let mut checks = Vec::new();

    let fill = database.write(|to| {
        let mut insert = to.prepare_cached("INSERT INTO accounts VALUES (?1, 0)")?;
        (0..ACCOUNTS).try_for_each(|id| insert.execute([id as i64]).map(drop))
    });
    fill?.wait()?;

    // Many clients, each of which waits for its own commit.
    let before = database.stats();
    let (deposits, began) = (AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        for client in 0..64 {
            let (database, deposits) = (&database, &deposits);
            scope.spawn(move || {
                for n in 0..50 {
                    deposit(database, (client * 31 + n * 7) % ACCOUNTS, 1)
                        .expect("room, and a commit");
                    deposits.fetch_add(1, Relaxed);
                }
            });
        }
    });
    let took = began.elapsed().as_secs_f64();
    let (after, deposits) = (database.stats(), deposits.into_inner());
    let (writes, transactions) =
        (after.writes - before.writes, after.transactions - before.transactions);
    println!(
        "{writes} writes of 64 clients in {transactions} transactions, {:.0} a second",
        writes as f64 / took
    );
    checks.push(("every write was answered after its commit", sum(&database)? == deposits as i64));
    checks.push(("waiting writes were committed together", transactions * 2 < writes));

    // An endless query on a reader, and another on a scanner.
    let limited = database.within(Duration::from_millis(300));
    let endless = |to: &rusqlite::Connection| to.query_row(ENDLESS, [], |row| row.get::<_, i64>(0));
    let slow = [limited.read(0, endless)?, limited.scan(endless)?];
    let began = Instant::now();
    let mut reads = 0;
    while !slow.iter().any(database::Pending::is_ready) {
        balance(&database, reads % ACCOUNTS)?;
        reads += 1;
    }
    let took = began.elapsed().as_secs_f64();
    println!("{:.0} reads a second beside two endless queries", reads as f64 / took);
    let timed_out = slow.into_iter().all(|slow| matches!(slow.wait(), Err(Error::Unanswered(_))));
    checks.push(("endless queries ended at their timeout", timed_out));
    checks.push(("endless queries held up no other query", reads > 0));

    // Queries that panic.
    for key in 0..10 {
        let panics = |_: &rusqlite::Connection| -> rusqlite::Result<()> { panic!("intended") };
        let answer = database.read(key, panics)?.wait();
        balance(&database, key)?;
        checks.push((
            "each panic reached its own asker only, and its connection was replaced",
            answer.is_err(),
        ));
    }
    let Stats { writer, readers, scanners, .. } = database.stats();
    for (name, pool) in [("writer", writer), ("reader", readers), ("scanner", scanners)] {
        for (index, replica) in pool.replicas.iter().enumerate() {
            println!(
                "{name} {index}: {} messages, {} connections lost",
                replica.actor.handled, replica.failed
            );
        }
    }
    checks.dedup();

    // A writer that is held up, with a short queue.
    let short = Settings { waiting: 4, ..Settings::default() };
    let busy = Database::open(&executor, folder.path().join("busy.db"), SCHEMA, short)?;
    let (release, held) = mpsc::channel::<()>();
    let mut accepted = vec![busy.write(move |_| Ok(held.recv().is_err()))?];
    let refusal = loop {
        match busy.write(|_| Ok(true)) {
            Ok(write) => accepted.push(write),
            Err(refused) => break refused.refusal(),
        }
    };
    println!("{} writes accepted, the next one: {refusal}", accepted.len());
    drop(release);
    let all =
        accepted.into_iter().map(database::Pending::wait).collect::<Result<Vec<bool>, Error>>()?;
    checks.push((
        "a full mailbox refused writes, and accepted writes were done",
        refusal == Refusal::Full && all.len() >= 4,
    ));
    busy.close(Duration::from_secs(10))?;

    // A close in the middle of the work.
    let (acknowledged, ending) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| -> Result<(), Failure> {
        for client in 0..16 {
            let (database, acknowledged, ending) = (&database, &acknowledged, &ending);
            scope.spawn(move || {
                while deposit(database, client, 1).is_ok() {
                    acknowledged.fetch_add(1, Relaxed);
                }
                assert!(ending.load(Relaxed), "refused before the end");
            });
        }
        while acknowledged.load(Relaxed) < 200 {
            std::thread::yield_now();
        }
        ending.store(true, Relaxed);
        Ok(database.clone().close(Duration::from_secs(10))?)
    })?;
    let again = Database::open(&executor, &file, SCHEMA, Settings::default())?;
    let expected = deposits + acknowledged.into_inner();
    println!("closed in the middle of the work; {expected} deposits were acknowledged");
    checks.push(("the close lost no acknowledged write", sum(&again)? == expected as i64));
    again.close(Duration::from_secs(10))?;

    let report = executor.shutdown(Duration::from_secs(10))?;
    checks.push((
        "every accepted message was handled",
        report.complete && report.dead_letters.total() == 0,
    ));
    for (what, holds) in &checks {
        println!("{} {what}", if *holds { "yes:" } else { "NO: " });
    }
    if checks.iter().all(|(_, holds)| *holds) { kill(5) } else { Err("a check failed".into()) }
}

/// Silences panics that are part of the demonstration. The default hook would print them.
fn say_nothing_of_what_is_intended() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|text| text.starts_with("intended")) {
            usual(panic);
        }
    }));
}

fn deposit(database: &Database, id: u64, amount: i64) -> Result<i64, Error> {
    let update = "UPDATE accounts SET balance = balance + ?2 WHERE id = ?1 RETURNING balance";
    let write = database.write(move |to| {
        to.prepare_cached(update)?.query_row((id as i64, amount), |row| row.get(0))
    });
    write?.wait()
}

fn balance(database: &Database, id: u64) -> Result<i64, Error> {
    let select = "SELECT balance FROM accounts WHERE id = ?1";
    database
        .read(id, move |from| {
            from.prepare_cached(select)?.query_row([id as i64], |row| row.get(0))
        })?
        .wait()
}

fn sum(database: &Database) -> Result<i64, Error> {
    database
        .scan(|from| from.query_row("SELECT sum(balance) FROM accounts", [], |row| row.get(0)))?
        .wait()
}

/// Kills a child in the middle of its commits, `kills` times.
fn kill(kills: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("entries.db");
    let mut books = durability::Books::default();
    for round in 0..kills {
        let mut child = Command::new(std::env::current_exe()?);
        child.arg("--child").arg(&file).arg(round.to_string());
        books.round(&mut child, &file, 1 + (round as usize * 37) % 300)?;
    }
    println!(
        "{} kills in the middle of commits: {} writes were acknowledged, and each is there once; {} more are there, once, whose \
         acknowledgement was cut short in {} kills",
        books.kills,
        books.acknowledged(),
        books.unacknowledged,
        books.cut_short
    );
    Ok(())
}
