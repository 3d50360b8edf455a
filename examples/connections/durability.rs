//! Tests durability: the file must hold what was acknowledged. A child process writes without pause
//! and prints acknowledged ids to a pipe. The parent kills the child in the middle (SIGKILL), opens
//! the file and compares.
//!
//! | row | in the file |
//! |---|---|
//! | answered | once |
//! | not answered, because the process was killed or its batch panicked | at most once |
//! | panicked itself | never |
//!
//! The table allows duplicate rows, so a row written twice would be noticed. The test kills a
//! process and not the machine. That a commit reaches the disk is up to SQLite
//! (`synchronous=FULL`).

use crate::database::{Database, Error, Settings};
use heist::Executor;
use rusqlite::Connection;
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS entries (
    place INTEGER PRIMARY KEY,
    id    INTEGER NOT NULL,
    body  TEXT NOT NULL
)";

/// Number of threads in a child.
const CLIENTS: u64 = 16;
/// One write in this many panics after inserting its row.
const PANICS: u64 = 200;

/// Returns `true` if the write of this id panics.
pub(crate) fn panics(id: u64) -> bool {
    id % PANICS == PANICS - 1
}

/// Inserts one row. Answered after the commit.
pub(crate) fn insert(database: &Database, id: u64) -> Result<(), Error> {
    let write = database.write(move |connection| {
        let mut insert =
            connection.prepare_cached("INSERT INTO entries (id, body) VALUES (?1, ?2)")?;
        insert.execute((id as i64, body(id)))?;
        assert!(!panics(id), "intended, in the middle of a batch");
        Ok(())
    });
    write?.wait()
}

fn body(id: u64) -> String {
    format!("the entry of id {id}, long enough that a page holds a few dozen of them")
}

/// Runs in a child process until killed: writes the ids of its round, and prints the acknowledged
/// ones.
pub(crate) fn write_until_killed(path: &Path, round: u64) -> ! {
    let executor = Executor::builder().workers(2).build().expect("a valid crew");
    let database = Database::open(&executor, path, SCHEMA, Settings::default())
        .expect("the file can be opened");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let database = &database;
            scope.spawn(move || {
                for n in 0.. {
                    let id = (round << 32) + n * CLIENTS + client;
                    // One system call for each line, so that everything printed before the kill is
                    // in the pipe.
                    if insert(database, id).is_ok()
                        && io::stdout().write_all(format!("ack {id}\n").as_bytes()).is_err()
                    {
                        std::process::exit(1); // the parent has gone
                    }
                }
            });
        }
    });
    unreachable!("it writes for ever")
}

/// Kills the child when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // The child may have ended already, and its status is checked elsewhere.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// What is known after some rounds.
#[derive(Debug, Default)]
pub(crate) struct Books {
    acknowledged: HashSet<u64>,
    pub(crate) kills: u32,
    /// Kills between a commit and its acknowledgement.
    pub(crate) cut_short: u32,
    /// Rows in the file without an acknowledgement.
    pub(crate) unacknowledged: usize,
}

impl Books {
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// Starts a child, kills it after `acks` acknowledged writes, and checks the file.
    pub(crate) fn round(
        &mut self,
        child: &mut Command,
        path: &Path,
        acks: usize,
    ) -> Result<(), String> {
        let said = |error: io::Error| format!("the child: {error}");
        let child = child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Killed(child.spawn().map_err(said)?);
        let mut lines = BufReader::new(child.0.stdout.take().expect("piped"));
        let (mut killed, mut known, mut line) = (false, 0, String::new());
        while lines.read_line(&mut line).map_err(said)? > 0 {
            // A line that was cut off has no end.
            if let Some(id) = line.strip_prefix("ack ").and_then(|rest| rest.strip_suffix('\n')) {
                self.acknowledged.insert(id.parse().map_err(|e| format!("{line:?}: {e}"))?);
                known += 1;
            }
            if known >= acks && !killed {
                child.0.kill().map_err(said)?; // SIGKILL
                killed = true;
            }
            line.clear();
        }
        if !killed {
            return Err("the child ended by itself".into());
        }
        drop(child);
        if !path.with_extension("db-wal").exists() {
            return Err("the child had closed its file".into());
        }
        self.kills += 1;
        self.compare(path)
    }

    /// Opens the file, which recovers it, and compares the rows with the acknowledged ids.
    fn compare(&mut self, path: &Path) -> Result<(), String> {
        let rows = rows(path).map_err(|error| format!("the file: {error}"))?;
        compare(&rows, &self.acknowledged)?;
        let unacknowledged = rows.len() - self.acknowledged.len();
        self.cut_short += u32::from(unacknowledged > self.unacknowledged);
        self.unacknowledged = unacknowledged;
        Ok(())
    }
}

/// Returns how often each id is in the file, after SQLite's integrity check.
pub(crate) fn rows(path: &Path) -> rusqlite::Result<HashMap<u64, u32>> {
    let connection = Connection::open(path)?;
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    assert_eq!(verdict, "ok", "SQLite's own check");
    let mut rows = HashMap::new();
    let mut select = connection.prepare("SELECT id, body FROM entries")?;
    let mut found = select.query([])?;
    while let Some(row) = found.next()? {
        let (id, text): (i64, String) = (row.get(0)?, row.get(1)?);
        assert_eq!(text, body(id as u64), "a row as it was written");
        *rows.entry(id as u64).or_insert(0) += 1;
    }
    Ok(rows)
}

/// Checks that all acknowledged rows are there, none twice, and none that panicked.
pub(crate) fn compare(rows: &HashMap<u64, u32>, acknowledged: &HashSet<u64>) -> Result<(), String> {
    let lost: Vec<_> = acknowledged.iter().filter(|id| !rows.contains_key(id)).collect();
    let twice: Vec<_> = rows.iter().filter(|(_, times)| **times > 1).collect();
    let half: Vec<_> = rows.keys().filter(|id| panics(**id)).collect();
    match lost.is_empty() && twice.is_empty() && half.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "acknowledged and lost: {lost:?}; there twice: {twice:?}; panicked and there: {half:?}"
        )),
    }
}
