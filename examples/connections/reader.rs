//! A reader owns a read-only connection, and runs queries on it, one at a time.

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
        // SQLite opens the file at the first query. What is wrong with it shall be said now; and while a reader has it open, a writer
        // that is closed by a panic does not clear the log away, which takes long.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(Reader { connection })
    }
}

/// Runs a closure on the connection until it has an answer, or its time has passed.
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
        /// A look at the clock for so many steps of SQLite's machine: some 0.1 ms. Short queries never look.
        const STEPS: i32 = 10_000;
        let connection = &self.connection;
        blocking(|| {
            connection.progress_handler(STEPS, Some(move || Instant::now() >= until))?;
            let answer = query(connection);
            // Who left a transaction open would read old rows for ever.
            if !connection.is_autocommit() {
                connection.execute_batch("ROLLBACK")?;
            }
            Ok(answer?)
        })
    }
}
