//! Provides the facade: one SQLite file behind actors that each own one connection.
//!
//! | pool | connection | takes a message |
//! |---|---|---|
//! | the writer | the only one that writes | always |
//! | readers | read-only | the key's own reader if idle, otherwise the first idle reader |
//! | scanners | read-only | the first idle scanner; long queries have separate connections |
//!
//! A message is a closure, as with a mutex around a connection. A closure is accepted at once, or
//! comes back because too many messages wait ([`Settings::waiting`]). A [`Pending`] is the answer
//! to come. Its time counts from the call and covers both the wait for a connection and the query.
//! A write is answered after its commit and not before.
//!
//! A connection is closed when its actor panics, and its successor opens a new one: see
//! [`heist::Pool`].

use crate::reader::{Query, Reader};
use crate::writer::{Counts, Job, Write, Writer};
use heist::pool::{PoolError, PoolStats};
use heist::strategy::{Replicas, Route, SharedQueue, Strategy, ToIndex};
use heist::{Ask, AskError, Handle, Pool, Refusal, SendError, WaitError};
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

/// The number of connections, and how many messages may wait for them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Connections for short reads. The default is the number of processors, at least two, so that
    /// no read waits behind a single slow one.
    pub(crate) readers: usize,
    /// Connections for long reads.
    pub(crate) scanners: usize,
    /// Number of writes that may wait, of reads for each reader and for the shared queue, and of
    /// scans likewise.
    pub(crate) waiting: usize,
    /// Time limit of calls without [`Database::within`]. heist itself has no such limit: an ask
    /// ends with its actor at the latest. An endless query would keep its connection, so each query
    /// has a limit here.
    pub(crate) timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let readers = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        Settings { readers, scanners: 1, waiting: 1024, timeout: Duration::from_secs(30) }
    }
}

/// One SQLite file, cheap to clone and to share. Dropping the last clone closes the connections
/// after all accepted work.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    writer: Pool<Writer>,
    readers: Pool<Reader>,
    scanners: Pool<Reader>,
    counts: Arc<Counts>,
    timeout: Duration,
}

impl Database {
    /// Opens or creates a file. Each writer's connection runs `schema` first, which should
    /// therefore use `IF NOT EXISTS`.
    pub(crate) fn open(
        executor: &Handle,
        path: impl Into<PathBuf>,
        schema: &'static str,
        settings: Settings,
    ) -> Result<Self, PoolError> {
        let path: Arc<Path> = path.into().into();
        let counts: Arc<Counts> = Arc::default();
        let (file, theirs) = (Arc::clone(&path), Arc::clone(&counts));
        // Opened first, because readers do not create a file.
        let writer = executor
            .try_pool(1, move |_| Writer::open(&file, schema, Arc::clone(&theirs)))
            .name("writer")
            .capacity(settings.waiting)
            .backoff(REOPEN_FIRST, REOPEN_LAST)
            .failure_limit(REOPENED_AT_MOST, Duration::from_secs(60))
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
                .failure_limit(REOPENED_AT_MOST, Duration::from_secs(60))
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

    /// Returns the same database with another time limit, from the call to the answer.
    pub(crate) fn within(&self, timeout: Duration) -> Self {
        Database { timeout, ..self.clone() }
    }

    /// Runs a short query on a reader. Never waits.
    ///
    /// Equal keys go to the same reader, with warm statements and pages, as long as that reader is
    /// idle. No query waits behind a slow query of another key while a reader is idle.
    pub(crate) fn read<F, T>(
        &self,
        key: impl Hash,
        query: F,
    ) -> Result<Pending<T>, SendError<Query<F>>>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.query(&self.readers, Near::to(key), query)
    }

    /// Runs a long query, on a connection reserved for long queries. Never waits.
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
        // A query that has waited too long is not begun, and a query that runs too long is
        // interrupted.
        let ask = pool.ask_deadline(strategy, Query { query, until }, until)?;
        Ok(Pending { answer: Answer::Read(ask), until })
    }

    /// Runs statements in a transaction together with other waiting writes, and answers after the
    /// commit. Never waits.
    ///
    /// If the closure returns an error, its statements are undone, while the others in the
    /// transaction take effect. A write that times out may or may not have been committed, as with
    /// every database.
    pub(crate) fn write<F, T>(&self, statements: F) -> Result<Pending<T>, SendError<Write>>
    where
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let until = Instant::now() + self.timeout;
        let job: Job = Box::new(|connection| Ok(Box::new(statements(connection)?)));
        let ask = self.writer.ask_deadline(ToIndex(0), Write(job), until)?;
        Ok(Pending { answer: Answer::Write(ask), until })
    }

    /// Closes the database: accepted work is done, later calls are refused, and all connections are
    /// closed.
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

/// A new connection takes only a moment, so successors may follow at once and often.
const REOPEN_FIRST: Duration = Duration::from_millis(1);
const REOPEN_LAST: Duration = Duration::from_millis(20);
const REOPENED_AT_MOST: u32 = 1000;

/// Counts since the database was opened.
#[derive(Clone, Debug)]
pub(crate) struct Stats {
    /// Number of committed writes.
    pub(crate) writes: u64,
    /// Number of transactions that these writes took.
    pub(crate) transactions: u64,
    pub(crate) writer: PoolStats,
    pub(crate) readers: PoolStats,
    pub(crate) scanners: PoolStats,
}

/// Routes to a key's own reader if idle, otherwise to the queue of all readers.
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

/// An answer to come, which can be waited for or awaited.
#[must_use = "an answer is on its way"]
pub(crate) struct Pending<T> {
    answer: Answer<T>,
    until: Instant,
}

enum Answer<T> {
    Read(Ask<Result<T, Error>>),
    Write(Ask<Result<Committed, Error>>),
}

/// The return value of a write, of any type.
pub(crate) type Committed = Box<dyn Any + Send>;

impl<T: 'static> Pending<T> {
    /// Waits until the answer comes or the time since the call has passed.
    pub(crate) fn wait(self) -> Result<T, Error> {
        let left = self.until.saturating_duration_since(Instant::now());
        match self.answer {
            Answer::Read(mut ask) => {
                ask.wait_timeout(left).unwrap_or_else(|e| Err(Error::Unanswered(e)))
            }
            Answer::Write(mut ask) => ask
                .wait_timeout(left)
                .unwrap_or_else(|e| Err(Error::Unanswered(e)))
                .map(of_its_type),
        }
    }

    /// Returns `true` if the answer is ready.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.answer {
            Answer::Read(ask) => ask.is_ready(),
            Answer::Write(ask) => ask.is_ready(),
        }
    }
}

/// Awaits the answer. Only the query's own time limit applies; further timeouts are the runtime's.
impl<T: Send + 'static> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let unanswered = |error| Err(Error::Unanswered(error));
        match &mut self.answer {
            Answer::Read(ask) => {
                Pin::new(ask).poll(cx).map(|answer| answer.unwrap_or_else(unanswered))
            }
            Answer::Write(ask) => Pin::new(ask)
                .poll(cx)
                .map(|done| done.unwrap_or_else(|e| Err(Error::Unanswered(e))).map(of_its_type)),
        }
    }
}

fn of_its_type<T: 'static>(committed: Committed) -> T {
    *committed.downcast().expect("what this write's own closure returned")
}

/// Why there is no answer, or an error as the answer.
#[derive(Clone, Debug)]
pub(crate) enum Error {
    /// Not accepted and not executed: too many messages wait, or the database is closed.
    Refused(Refusal),
    /// Accepted, but without an answer: too late, or a panic. A query has no effect, and a write
    /// may have been committed.
    Unanswered(AskError),
    /// The query's own error. None of its statements took effect.
    Sqlite(Arc<rusqlite::Error>),
    /// The whole transaction failed.
    NotCommitted(Arc<rusqlite::Error>),
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => {
                Error::Unanswered(AskError::TimedOut)
            }
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

/// Opens a connection that only one thread at a time uses, so that SQLite needs no lock.
pub(crate) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?; // for other processes
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}
