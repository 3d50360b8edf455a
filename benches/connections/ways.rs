//! Implements the ways to share one SQLite file among many clients: today's alternatives, and
//! heist's connection manager.
//!
//! Each way runs the same two statements, prepared once for each connection. All connections have
//! the same settings: WAL and `synchronous=FULL`. A write is acknowledged when its transaction is
//! committed.

use crate::database::{Database, Settings};
use crate::measure::machine;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use heist::Executor;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::Connection;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// Returns the number of reading connections where these are separate. Rows come mostly from
/// memory, so that one connection a processor suffices.
fn readers() -> usize {
    machine::cores().max(2)
}

/// Number of connections where all are alike: the default of r2d2.
const ALIKE: u32 = 10;
/// Greatest number of rows in one commit, for ways with group commit.
const BATCH: usize = 512;

/// One way. Ways that are called from threads block in the call and return futures that are ready.
pub(crate) trait Way: Send + Sync + 'static {
    fn read(&self, item: i64) -> impl Future<Output = Result<String, Failure>> + Send;
    fn write(&self, id: i64, item: i64) -> impl Future<Output = Result<(), Failure>> + Send;
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // No client may fail: with many writers the wait for the file's lock can be long.
    connection.busy_timeout(Duration::from_secs(60))?;
    connection.pragma_update(None, "synchronous", "FULL")
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    configure(&connection)?;
    Ok(connection)
}

fn select(from: &Connection, item: i64) -> rusqlite::Result<String> {
    from.prepare_cached("SELECT text FROM items WHERE id = ?1")?.query_row([item], |row| row.get(0))
}

fn insert(to: &Connection, id: i64, item: i64) -> rusqlite::Result<()> {
    to.prepare_cached("INSERT INTO orders (id, item) VALUES (?1, ?2)")?.execute([id, item])?;
    Ok(())
}

// ---- heist ------------------------------------------------------------------------------

pub(crate) struct Heist {
    database: Database,
    _executor: Executor,
}

impl Heist {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let executor = Executor::new();
        let settings = Settings { readers: readers(), ..Settings::default() };
        Ok(Heist { database: Database::open(&executor, path, "", settings)?, _executor: executor })
    }
}

/// Awaited, because a blocking wait spins for 20 us before it sleeps, which does not help with more
/// clients than processors.
impl Way for Heist {
    async fn read(&self, item: i64) -> Result<String, Failure> {
        Ok(self.database.read(item, move |from| select(from, item))?.await?)
    }

    async fn write(&self, id: i64, item: i64) -> Result<(), Failure> {
        Ok(self.database.write(move |to| insert(to, id, item))?.await?)
    }
}

// ---- one connection for all -------------------------------------------------------------

pub(crate) struct Mutexed(Arc<Mutex<Connection>>);

impl Mutexed {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Mutexed(Arc::new(Mutex::new(connect(path)?))))
    }
}

impl Way for Mutexed {
    async fn read(&self, item: i64) -> Result<String, Failure> {
        Ok(select(&self.0.lock().expect("nobody panics"), item)?)
    }

    async fn write(&self, id: i64, item: i64) -> Result<(), Failure> {
        Ok(insert(&self.0.lock().expect("nobody panics"), id, item)?)
    }
}

// ---- a pool of connections that are lent ------------------------------------------------

pub(crate) struct R2d2(r2d2::Pool<SqliteConnectionManager>);

impl R2d2 {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let manager =
            SqliteConnectionManager::file(path).with_init(|connection| configure(connection));
        Ok(R2d2(r2d2::Pool::builder().max_size(ALIKE).build(manager)?))
    }
}

impl Way for R2d2 {
    async fn read(&self, item: i64) -> Result<String, Failure> {
        Ok(select(&*self.0.get()?, item)?)
    }

    async fn write(&self, id: i64, item: i64) -> Result<(), Failure> {
        Ok(insert(&*self.0.get()?, id, item)?)
    }
}

// ---- the same under tokio ---------------------------------------------------------------

pub(crate) struct Deadpool(deadpool_sqlite::Pool);

impl Deadpool {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        use deadpool_sqlite::{Config, Hook, HookError, Runtime};
        let set_up = Hook::async_fn(|connection, _| {
            Box::pin(async move {
                let configured = connection.interact(|connection| configure(connection)).await;
                configured
                    .map_err(|error| HookError::message(error.to_string()))?
                    .map_err(HookError::Backend)
            })
        });
        let builder = Config::new(path).builder(Runtime::Tokio1)?;
        Ok(Deadpool(builder.max_size(ALIKE as usize).post_create(set_up).build()?))
    }
}

impl Way for Deadpool {
    async fn read(&self, item: i64) -> Result<String, Failure> {
        let connection = self.0.get().await?;
        let row = connection.interact(move |from| select(from, item)).await;
        Ok(row.map_err(|error| error.to_string())??)
    }

    async fn write(&self, id: i64, item: i64) -> Result<(), Failure> {
        let connection = self.0.get().await?;
        let done = connection.interact(move |to| insert(to, id, item)).await;
        Ok(done.map_err(|error| error.to_string())??)
    }
}

// ---- a thread for each connection -------------------------------------------------------

struct Look {
    item: i64,
    reply: Sender<rusqlite::Result<String>>,
}

struct Order {
    id: i64,
    item: i64,
    reply: Sender<rusqlite::Result<()>>,
}

/// Threads that own one connection each and receive from channels: one channel for all readers, one
/// for the writer.
pub(crate) struct Threads {
    looks: Option<Sender<Look>>,
    orders: Option<Sender<Order>>,
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Opens the threads. The writer commits at most `batch` waiting writes together.
    fn open(path: &Path, batch: usize) -> Result<Self, Failure> {
        let ((looks, to_look), (orders, to_write)) = (unbounded::<Look>(), unbounded::<Order>());
        let connection = connect(path)?;
        let mut threads = vec![thread::spawn(move || write_all(&connection, &to_write, batch))];
        for _ in 0..readers() {
            let (connection, to_look) = (connect(path)?, to_look.clone());
            threads.push(thread::spawn(move || {
                for Look { item, reply } in to_look {
                    let _gone = reply.send(select(&connection, item));
                }
            }));
        }
        Ok(Threads { looks: Some(looks), orders: Some(orders), threads })
    }

    pub(crate) fn one_by_one(path: &Path) -> Result<Self, Failure> {
        Self::open(path, 1)
    }

    pub(crate) fn batching(path: &Path) -> Result<Self, Failure> {
        Self::open(path, BATCH)
    }
}

fn write_all(connection: &Connection, orders: &Receiver<Order>, batch: usize) {
    while let Ok(first) = orders.recv() {
        if batch == 1 {
            let _gone = first.reply.send(insert(connection, first.id, first.item));
            continue;
        }
        let orders: Vec<Order> =
            std::iter::once(first).chain(orders.try_iter().take(batch - 1)).collect();
        let together = || -> rusqlite::Result<()> {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            orders.iter().try_for_each(|order| insert(connection, order.id, order.item))?;
            connection.prepare_cached("COMMIT")?.execute([]).map(drop)
        };
        together().expect("a write in this bench does not fail");
        orders.iter().for_each(|order| drop(order.reply.send(Ok(()))));
    }
}

impl Way for Threads {
    async fn read(&self, item: i64) -> Result<String, Failure> {
        let (reply, answer) = bounded(1);
        self.looks.as_ref().expect("until the end").send(Look { item, reply })?;
        Ok(answer.recv()??)
    }

    async fn write(&self, id: i64, item: i64) -> Result<(), Failure> {
        let (reply, answer) = bounded(1);
        self.orders.as_ref().expect("until the end").send(Order { id, item, reply })?;
        Ok(answer.recv()??)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        drop((self.looks.take(), self.orders.take()));
        for thread in self.threads.drain(..) {
            thread.join().expect("it does not panic");
        }
    }
}
