//! Runs the clients' load and measures it.

use crate::measure::delay::Delay;
use crate::measure::machine;
use crate::ways::{Failure, Way};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const CLIENTS: usize = 64;
/// Number of rows to read.
pub(crate) const ITEMS: usize = 100_000;

/// Creates the table to read and the table to write. The latter deliberately allows duplicate rows.
pub(crate) fn fill(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.execute_batch(
        "CREATE TABLE items (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
         CREATE TABLE orders (place INTEGER PRIMARY KEY, id INTEGER NOT NULL, item INTEGER NOT NULL);
         BEGIN",
    )?;
    let mut insert = connection.prepare("INSERT INTO items VALUES (?1, ?2)")?;
    (0..ITEMS as i64).try_for_each(|id| insert.execute((id, text(id))).map(drop))?;
    connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)")
}

fn text(item: i64) -> String {
    format!(
        "item {item}, with a text of some hundred bytes as a row of a catalogue might have it, and no more than that"
    )
}

/// The operations requested from a way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    /// Number of writes in a hundred operations.
    pub(crate) writes: u32,
    /// Operations a second of all clients together, each due at its time even if earlier ones are
    /// unfinished. `None` sends as fast as operations are answered.
    pub(crate) pace: Option<f64>,
}

/// Draws items by Zipf's law with exponent 1. The first item is the most frequent.
pub(crate) struct Popularity(Vec<f64>);

impl Popularity {
    pub(crate) fn new() -> Self {
        let mut sum = 0.0;
        Popularity(
            (1..=ITEMS)
                .map(|rank| {
                    sum += 1.0 / rank as f64;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut SmallRng) -> i64 {
        let at = random.random::<f64>() * self.0[ITEMS - 1];
        let rank = self.0.partition_point(|sum| *sum < at).min(ITEMS - 1);
        // Spreads popular items over the whole table.
        ((rank * 7919) % ITEMS) as i64
    }
}

/// The measurements of one client or of all, in nanoseconds, for operations that began after the
/// warm-up.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) reads: Delay,
    pub(crate) writes: Delay,
    /// Number of acknowledged writes by client, including the warm-up.
    acknowledged: Vec<i64>,
}

/// One run of a load.
pub(crate) struct Run {
    pub(crate) seen: Seen,
    pub(crate) time: Duration,
    /// CPU time of the whole process, including the clients.
    pub(crate) cpu: Duration,
}

impl Run {
    pub(crate) fn a_second(&self) -> f64 {
        (self.seen.reads.len() + self.seen.writes.len()) as f64 / self.time.as_secs_f64()
    }

    /// Returns the CPU time of an operation in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        let operations = self.seen.reads.len() + self.seen.writes.len();
        self.cpu.as_secs_f64() * 1e6 / operations.max(1) as f64
    }
}

/// The instants between which a run is measured.
#[derive(Clone, Copy)]
struct Times {
    begin: Instant,
    from: Instant,
    until: Instant,
}

impl Times {
    fn of(time: Duration) -> Self {
        let begin = Instant::now() + Duration::from_millis(20); // by then all clients have started
        let from = begin + time / 5;
        Times { begin, from, until: from + time }
    }
}

fn empty() -> Delay {
    Delay::new(2).expect("a valid number of digits")
}

async fn client<W: Way, P: Future<Output = ()> + Send>(
    way: Arc<W>,
    load: Load,
    number: usize,
    items: Arc<Popularity>,
    times: Times,
    pause: impl Fn(Instant) -> P + Send,
) -> Result<Seen, Failure> {
    let mut random = SmallRng::seed_from_u64(number as u64);
    let mut seen = Seen { reads: empty(), writes: empty(), acknowledged: vec![0] };
    let interval = load.pace.map(|pace| CLIENTS as f64 / pace);
    let mut due = times.begin
        + Duration::from_secs_f64(interval.unwrap_or(0.0) * number as f64 / CLIENTS as f64);
    pause(due).await;
    let mut began = Instant::now();
    loop {
        if Instant::now() >= times.until {
            return Ok(seen);
        }
        let item = items.draw(&mut random);
        let write = random.random_range(0..100) < load.writes;
        if write {
            let id = ((number as i64) << 32) + seen.acknowledged[0];
            way.write(id, item).await?;
            seen.acknowledged[0] += 1;
        } else {
            let row = way.read(item).await?;
            assert_eq!(row, text(item), "another row than was asked for");
        }
        if began >= times.from {
            let took = began.elapsed().as_nanos() as u64;
            if write { seen.writes.record(took)? } else { seen.reads.record(took)? }
        }
        began = Instant::now();
        if let Some(interval) = interval {
            due += Duration::from_secs_f64(interval);
            if due > began {
                // A late timer (by up to a millisecond under tokio) must not count against the way.
                pause(due.min(times.until)).await;
                began = Instant::now();
            } else {
                began = due;
            }
        }
    }
}

/// Waits for all clients, and reads the CPU time while they run. The CPU time would lack threads
/// that ended before.
fn measure(
    times: Times,
    wait_for_all: impl FnOnce() -> Result<Vec<Seen>, Failure>,
) -> Result<Run, Failure> {
    let sleep_until = |at: Instant| thread::sleep(at.saturating_duration_since(Instant::now()));
    sleep_until(times.from);
    let before = machine::cpu_time().unwrap_or_default();
    sleep_until(times.until - Duration::from_millis(1));
    let cpu = machine::cpu_time().unwrap_or_default().saturating_sub(before);
    let all = wait_for_all()?;
    let mut seen = Seen { reads: empty(), writes: empty(), acknowledged: Vec::new() };
    for one in all {
        seen.reads += one.reads;
        seen.writes += one.writes;
        seen.acknowledged.extend(one.acknowledged);
    }
    Ok(Run { seen, time: times.until - times.from, cpu })
}

/// Runs the clients as threads that block in each call.
pub(crate) fn on_threads<W: Way>(
    way: W,
    load: Load,
    time: Duration,
    items: &Arc<Popularity>,
) -> Result<Run, Failure> {
    let (way, times) = (Arc::new(way), Times::of(time));
    let pause = |at: Instant| {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        std::future::ready(())
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (way, items) = (Arc::clone(&way), Arc::clone(items));
            thread::spawn(move || {
                futures::executor::block_on(client(way, load, number, items, times, pause))
            })
        })
        .collect();
    measure(times, || {
        clients.into_iter().map(|client| client.join().expect("it does not panic")).collect()
    })
}

/// Runs the clients as tasks.
pub(crate) fn on_tokio<W: Way>(
    open: impl FnOnce() -> Result<W, Failure>,
    load: Load,
    time: Duration,
    items: &Arc<Popularity>,
) -> Result<Run, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(machine::cores())
        .enable_time()
        .build()?;
    let _inside = runtime.enter();
    let (way, times) = (Arc::new(open()?), Times::of(time));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (way, items) = (Arc::clone(&way), Arc::clone(items));
            let pause = |at: Instant| tokio::time::sleep_until(at.into());
            runtime.spawn(client(way, load, number, items, times, pause))
        })
        .collect();
    measure(times, || {
        clients
            .into_iter()
            .map(|client| runtime.block_on(client).expect("it does not panic"))
            .collect()
    })
}

/// Checks that the file contains every acknowledged row once, and no other row.
pub(crate) fn check(path: &Path, run: &Run) -> Result<(), Failure> {
    let connection = Connection::open(path)?;
    let mut select = connection.prepare(
        "SELECT id >> 32, count(*), count(DISTINCT id), max(id & 4294967295) FROM orders GROUP BY 1 ORDER BY 1",
    )?;
    let found: Result<Vec<(i64, i64, i64, i64)>, _> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect();
    let wrote = run.seen.acknowledged.iter().enumerate().filter(|(_, rows)| **rows > 0);
    let expected: Vec<_> =
        wrote.map(|(client, rows)| (client as i64, *rows, *rows, rows - 1)).collect();
    if found? == expected {
        Ok(())
    } else {
        Err("the file does not hold what was acknowledged".into())
    }
}
