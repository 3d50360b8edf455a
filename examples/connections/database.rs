//! The facade: one SQLite file behind actors that each own one connection.
//!
//! | pool | connection | who gets a message |
//! |---|---|---|
//! | the writer, one | the only one that writes | |
//! | readers | read-only | the key's own reader while that one is idle, or else whoever is idle first |
//! | scanners | read-only | whoever is idle first: what takes long has connections of its own |
//!
//! What is sent is a closure, as it would be with a mutex around a connection. It is accepted at once, or comes back because
//! too many wait ([`Settings::waiting`]). A [`Pending`] is its answer to come; its time is counted from the call, so it covers the
//! waiting for a connection and the query. A write is answered when it is committed, and not before.
//!
//! A connection whose actor panics is closed, and its successor opens a new one: see [`heist::Pool`].

use crate::reader::{Query, Reader};
use crate::writer::{Counts, Job, Write, Writer};
use heist::strategy::{Replicas, Route, SharedQueue, Strategy, ToIndex};
use heist::{Ask, AskError, Handle, Pool, PoolError, PoolStats, Refusal, SendError, WaitError};
use rusqlite::{Connection, OpenFlags};
use std::any::Any;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How many connections there are, and what may wait for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Connections for short reads. By default as many as processors, and two at least, so that nobody waits behind one slow read.
    pub(crate) readers: usize,
    /// Connections for long ones.
    pub(crate) scanners: usize,
    /// So many writes may wait; so many reads for each reader, and for any of them; and scans likewise.
    pub(crate) waiting: usize,
    /// For whoever does not say [`Database::within`]. heist itself has no such time: an ask ends with its actor at the latest. A
    /// query that never comes to its end would keep its connection, so here each has one.
    pub(crate) timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let readers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        Settings { readers, scanners: 1, waiting: 1024, timeout: Duration::from_secs(30) }
    }
}

/// One SQLite file. Cheap to clone and to share; with the last one its connections are closed, once what was accepted is done.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    writer: Pool<Writer>,
    readers: Pool<Reader>,
    scanners: Pool<Reader>,
    counts: Arc<Counts>,
    timeout: Duration,
}

impl Database {
    /// Opens a file, or makes it. Each writer's connection runs `schema` first, which therefore says `IF NOT EXISTS`.
    pub(crate) fn open(
        executor: &Handle,
        path: impl Into<PathBuf>,
        schema: &'static str,
        settings: Settings,
    ) -> Result<Self, PoolError> {
        let path: Arc<Path> = path.into().into();
        let counts: Arc<Counts> = Arc::default();
        let (file, theirs) = (Arc::clone(&path), Arc::clone(&counts));
        // First, since readers do not make a file.
        let writer = executor
            .try_pool(1, move |_| Writer::open(&file, schema, Arc::clone(&theirs)))
            .name("writer")
            .capacity(settings.waiting)
            .backoff(REOPEN_FIRST, REOPEN_LAST)
            .limit(REOPENED_AT_MOST, Duration::from_secs(60))
            .build()?;
        let readers = |name: &str, count| {
            let file = Arc::clone(&path);
            executor
                .try_pool(count, move |_| Reader::open(&file))
                .name(name)
                .strategy(SharedQueue)
                .capacity(settings.waiting)
                .queue_capacity(settings.waiting)
                .backoff(REOPEN_FIRST, REOPEN_LAST)
                .limit(REOPENED_AT_MOST, Duration::from_secs(60))
                .build()
        };
        Ok(Database {
            writer,
            readers: readers("reader", settings.readers)?,
            scanners: readers("scanner", settings.scanners)?,
            counts,
            timeout: settings.timeout,
        })
    }

    /// The same database for calls that may take so long, from the call to the answer.
    pub(crate) fn within(&self, timeout: Duration) -> Self {
        Database { timeout, ..self.clone() }
    }

    /// Runs a short query on a reader. Equal keys come to the same one, whose prepared statements and pages are warm, as long as
    /// that is idle: nobody waits behind another's slow query while there is an idle reader. Never waits.
    pub(crate) fn read<F, T>(&self, key: impl Hash, query: F) -> Result<Pending<T>, SendError<Query<F>>>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.query(&self.readers, Near::to(key), query)
    }

    /// Runs a query that may take long, on a connection for such. Never waits.
    pub(crate) fn scan<F, T>(&self, query: F) -> Result<Pending<T>, SendError<Query<F>>>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.query(&self.scanners, SharedQueue, query)
    }

    fn query<F, T>(
        &self,
        pool: &Pool<Reader>,
        strategy: impl Strategy,
        query: F,
    ) -> Result<Pending<T>, SendError<Query<F>>>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let until = Instant::now() + self.timeout;
        // What has waited too long is not begun, and what takes too long is interrupted.
        let ask = pool.ask_by(strategy, until, Query { query, until })?;
        Ok(Pending { answer: Answer::Read(ask), until })
    }

    /// Runs statements in a transaction, together with other writes that wait, and answers when that is committed. If it returns an
    /// error nothing of it is done, while the others of the transaction are. Never waits.
    ///
    /// One that times out may have been done or not, as with every database.
    pub(crate) fn write<F, T>(&self, statements: F) -> Result<Pending<T>, SendError<Write>>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let until = Instant::now() + self.timeout;
        let job: Job = Box::new(|connection| Ok(Box::new(statements(connection)?)));
        let ask = self.writer.ask_by(ToIndex(0), until, Write(job))?;
        Ok(Pending { answer: Answer::Write(ask), until })
    }

    /// Ends it: what was accepted is done, what comes later is refused, all connections are closed.
    pub(crate) fn close(self, timeout: Duration) -> Result<(), WaitError> {
        let until = Instant::now() + timeout;
        self.writer.stop();
        self.readers.stop();
        self.scanners.stop();
        let left = || until.saturating_duration_since(Instant::now());
        self.readers.wait_stopped_timeout(left())?;
        self.scanners.wait_stopped_timeout(left())?;
        self.writer.wait_stopped_timeout(left())?;
        Ok(())
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            writes: self.counts.writes.load(Relaxed),
            transactions: self.counts.transactions.load(Relaxed),
            writer: self.writer.stats(),
            readers: self.readers.stats(),
            scanners: self.scanners.stats(),
        }
    }
}

/// A new connection takes a moment only, so a successor need not wait for long, nor be rare.
const REOPEN_FIRST: Duration = Duration::from_millis(1);
const REOPEN_LAST: Duration = Duration::from_millis(20);
const REOPENED_AT_MOST: u32 = 1000;

/// What was counted since the database was opened.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// Writes that were committed.
    pub(crate) writes: u64,
    /// In so many transactions.
    pub(crate) transactions: u64,
    pub(crate) writer: PoolStats,
    pub(crate) readers: PoolStats,
    pub(crate) scanners: PoolStats,
}

/// A key's own reader while it is idle; or else the queue that all readers take from.
#[derive(Clone, Copy, Debug)]
struct Near(u64);

impl Near {
    fn to(key: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Near(hasher.finish())
    }
}

impl Strategy for Near {
    fn route(&self, readers: &Replicas<'_>) -> Route {
        let home = (self.0 % readers.len() as u64) as usize;
        if readers.load(home) == 0 { Route::Index(home) } else { Route::SharedQueue }
    }
}

/// The answer to come: to be waited for, or awaited.
#[must_use = "an answer is on its way"]
pub(crate) struct Pending<T> {
    answer: Answer<T>,
    until: Instant,
}

enum Answer<T> {
    Read(Ask<Result<T, Error>>),
    Write(Ask<Result<Committed, Error>>),
}

/// What a write returned, whatever its type.
pub(crate) type Committed = Box<dyn Any + Send>;

impl<T: 'static> Pending<T> {
    /// Waits until the answer comes, or the time that began with the call has passed.
    pub(crate) fn wait(self) -> Result<T, Error> {
        let left = self.until.saturating_duration_since(Instant::now());
        match self.answer {
            Answer::Read(ask) => ask.wait_timeout(left).unwrap_or_else(|e| Err(Error::Unanswered(e.into()))),
            Answer::Write(ask) => {
                ask.wait_timeout(left).unwrap_or_else(|e| Err(Error::Unanswered(e.into()))).map(of_its_type)
            }
        }
    }

    /// Is the answer there?
    pub(crate) fn is_ready(&self) -> bool {
        match &self.answer {
            Answer::Read(ask) => ask.is_ready(),
            Answer::Write(ask) => ask.is_ready(),
        }
    }
}

/// The awaited form. It knows no time but the query's own: a timeout is the runtime's.
impl<T: Send + 'static> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let unanswered = |error| Err(Error::Unanswered(error));
        match &mut self.answer {
            Answer::Read(ask) => Pin::new(ask).poll(cx).map(|answer| answer.unwrap_or_else(unanswered)),
            Answer::Write(ask) => Pin::new(ask)
                .poll(cx)
                .map(|done| done.unwrap_or_else(|e| Err(Error::Unanswered(e))).map(of_its_type)),
        }
    }
}

fn of_its_type<T: 'static>(committed: Committed) -> T {
    *committed.downcast().expect("what this write's own closure returned")
}

/// Why there is no answer, or a bad one.
#[derive(Clone, Debug)]
pub(crate) enum Error {
    /// It was not accepted, and nothing was done: too many wait, or the database is closed.
    Refused(Refusal),
    /// It was accepted and there is no answer: too late, or a panic. Nothing is done of a query; a write may be.
    Unanswered(AskError),
    /// The query's own. Nothing of it was done.
    Sqlite(Arc<rusqlite::Error>),
    /// The transaction that it was in failed as a whole.
    NotCommitted(Arc<rusqlite::Error>),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => Error::Unanswered(AskError::TimedOut),
            _ => Error::Sqlite(Arc::new(error)),
        }
    }
}

impl<M> From<SendError<M>> for Error {
    fn from(error: SendError<M>) -> Self {
        Error::Refused(error.refusal())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused(refusal) => refusal.fmt(f),
            Error::Unanswered(error) => error.fmt(f),
            Error::Sqlite(error) => error.fmt(f),
            Error::NotCommitted(error) => write!(f, "the transaction was not committed: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Refused(_) => None,
            Error::Unanswered(error) => Some(error),
            Error::Sqlite(error) | Error::NotCommitted(error) => Some(&**error),
        }
    }
}

/// A connection that one thread at a time uses, so SQLite need not lock it.
pub(crate) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?; // for other processes
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
