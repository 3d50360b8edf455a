//! The reader owns a read-only connection and runs queries on it, one at a time.

use crate::database::{Error, connect};
use heist::{Actor, Context, Handler, blocking};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Instant;

pub(crate) struct Reader {
    connection: Connection,
}

impl Actor for Reader {}

impl Reader {
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // SQLite opens the file at the first query. Errors of the file should appear now. While a
        // reader has the file open, a writer that a panic closes does not clear the log, which
        // takes long.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(Reader { connection })
    }
}

/// Runs a closure on the connection until it returns or its time has passed.
pub(crate) struct Query<F> {
    pub(crate) query: F,
    pub(crate) until: Instant,
}

impl<F, T> Handler<Query<F>> for Reader
where
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    T: Send + 'static,
{
    type Reply = Result<T, Error>;

    fn handle(&mut self, Query { query, until }: Query<F>, _: &mut Context<Self>) -> Self::Reply {
        /// Steps of SQLite's machine between two readings of the clock, about 0.1 ms. Short queries
        /// never read the clock.
        const STEPS: i32 = 10_000;
        let connection = &self.connection;
        blocking(|| {
            connection.progress_handler(STEPS, Some(move || Instant::now() >= until))?;
            let answer = query(connection);
            // A transaction that stays open would read old rows for ever.
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            Ok(answer?)
        })
    }
}
