//! The writer owns the only connection that writes, and commits waiting writes together (group
//! commit).
//!
//! Making a transaction durable takes one disk write, whether the transaction holds one row or
//! hundreds. Therefore all waiting writes are taken as one batch ([`Receive::receive_batch`]), go
//! into one transaction, and are answered after the commit. The next writes gather during the
//! commit. The writer never waits for more writes: a single write is committed at once.
//!
//! | event | this write | others in the transaction |
//! |---|---|---|
//! | the closure returns an error | undone; its asker gets the error | go on |
//! | the closure panics | all undone with the connection; askers get the text | the same |
//! | SQLite undoes the transaction | undone: [`Error::NotCommitted`] | the same |
//! | the process ends | in the file if answered | the same |
//!
//! SQLite undoes a transaction if `COMMIT` fails or the disk is full.

use crate::database::{Committed, Error, connect};
use heist::{Actor, Batch, Context, Receive, Reply, blocking};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

pub(crate) struct Writer {
    connection: Connection,
    counts: Arc<Counts>,
}

impl Actor for Writer {}

/// Counts of all connections of one writer.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) writes: AtomicU64,
    pub(crate) transactions: AtomicU64,
}

/// The work of one write. The work runs inside a transaction and must not end the transaction.
pub(crate) type Job = Box<dyn FnOnce(&Connection) -> rusqlite::Result<Committed> + Send>;
type Outcome = Result<Committed, Error>;

pub(crate) struct Write(pub(crate) Job);

impl Writer {
    pub(crate) fn open(path: &Path, schema: &str, counts: Arc<Counts>) -> rusqlite::Result<Self> {
        let connection =
            connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        // A commit is on disk when it returns.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch(schema)?;
        Ok(Writer { connection, counts })
    }
}

impl Receive<Write> for Writer {
    type Reply = Outcome;
    const BATCH: usize = 512;

    fn receive(&mut self, write: Write, reply: Reply<Outcome>, ctx: &mut Context<Self>) {
        self.receive_batch(Batch::of_one(write, reply), ctx);
    }

    fn receive_batch(&mut self, batch: Batch<'_, Write, Outcome>, _: &mut Context<Self>) {
        // Takes all writes before running the first, or the turn would end before the batch does.
        let writes = batch.map(|(Write(job), reply)| (job, reply)).collect();
        blocking(|| commit_together(&self.connection, writes, &self.counts));
    }
}

/// Runs all writes in one transaction, then answers each.
fn commit_together(connection: &Connection, jobs: Vec<(Job, Reply<Outcome>)>, counts: &Counts) {
    let begun =
        connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut begin| begin.execute([]));
    if let Err(error) = begun {
        let replies = jobs.into_iter().map(|(_, reply)| reply);
        return fail(replies, error);
    }
    let mut done = Vec::with_capacity(jobs.len());
    let mut jobs = jobs.into_iter();
    while let Some((job, reply)) = jobs.next() {
        match run_alone(connection, job) {
            Ok(outcome) => done.push((reply, outcome)),
            Err(error) => {
                undo(connection);
                let replies = done.into_iter().map(|(reply, _)| reply).chain([reply]);
                return fail(replies.chain(jobs.map(|(_, reply)| reply)), error);
            }
        }
    }
    match connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
        Ok(_) => {
            counts.writes.fetch_add(done.len() as u64, Relaxed);
            counts.transactions.fetch_add(1, Relaxed);
            done.into_iter().for_each(|(reply, outcome)| reply.send(outcome));
        }
        Err(error) => {
            undo(connection);
            fail(done.into_iter().map(|(reply, _)| reply), error);
        }
    }
}

fn undo(connection: &Connection) {
    if !connection.is_autocommit() {
        // If this fails too, the connection is useless, and the next `BEGIN` returns an error.
        let _undone = connection.execute_batch("ROLLBACK");
    }
}

/// Runs one write inside the transaction, and undoes it alone if it fails. An error means that the
/// whole transaction was undone.
fn run_alone(connection: &Connection, job: Job) -> rusqlite::Result<Outcome> {
    let run = |sql| connection.prepare_cached(sql)?.execute([]);
    run("SAVEPOINT one")?;
    match job(connection) {
        Ok(committed) => run("RELEASE one").map(|_| Ok(committed)),
        Err(error) if connection.is_autocommit() => Err(error),
        Err(error) => {
            run("ROLLBACK TO one")?;
            run("RELEASE one")?;
            Ok(Err(error.into()))
        }
    }
}

fn fail(replies: impl Iterator<Item = Reply<Outcome>>, error: rusqlite::Error) {
    let error = Arc::new(error);
    replies.for_each(|reply| reply.send(Err(Error::NotCommitted(Arc::clone(&error)))));
}
