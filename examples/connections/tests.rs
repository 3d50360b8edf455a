//! Tests the connection manager with files on disk.

use super::durability::{self, insert};
use super::*;
use database::Pending;
use heist::AskError;
use rusqlite::Connection;
use std::collections::HashSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Turns a hang into a failure.
const LONG: Duration = Duration::from_secs(60);

struct Opened {
    database: Database,
    executor: Executor,
    folder: tempfile::TempDir,
}

impl Opened {
    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("entries.db")
    }
}

fn open(settings: Settings) -> Opened {
    static QUIET: std::sync::Once = std::sync::Once::new();
    QUIET.call_once(say_nothing_of_what_is_intended);
    let folder = tempfile::tempdir().unwrap();
    let executor = Executor::builder().workers(2).build().unwrap();
    let file = folder.path().join("entries.db");
    let database = Database::open(&executor, file, durability::SCHEMA, settings).unwrap();
    Opened { database, executor, folder }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < limit, "waited in vain: {what}");
        thread::yield_now();
    }
}

fn count(from: &Connection) -> rusqlite::Result<i64> {
    from.prepare_cached("SELECT count(*) FROM entries")?.query_row([], |row| row.get(0))
}

/// Returns a query that holds a connection, with a receiver that reports its start and a sender
/// that ends it.
fn hold()
-> (Sender<()>, Receiver<()>, impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static) {
    let ((release, held), (begin, begun)) = (channel::<()>(), channel());
    let query = move |_: &Connection| {
        begin.send(()).unwrap();
        let _released = held.recv_timeout(LONG);
        Ok(())
    };
    (release, begun, query)
}

#[test]
fn what_was_acknowledged_is_seen_by_every_reader_and_scanner() {
    let it = open(Settings { scanners: 2, ..Settings::default() });
    for id in 0..50 {
        insert(&it.database, id).unwrap();
        for key in 0..8 {
            assert_eq!(it.database.read(key, count).unwrap().wait().unwrap(), id as i64 + 1);
        }
        assert_eq!(it.database.scan(count).unwrap().wait().unwrap(), id as i64 + 1);
    }
    assert!(it.file().with_extension("db-wal").exists(), "it is in WAL mode");
    let refused =
        it.database.read(1, |from| from.execute("DELETE FROM entries", [])).unwrap().wait();
    let Err(Error::Sqlite(error)) = refused else { panic!("a reader wrote: {refused:?}") };
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ReadOnly));
}

#[test]
fn answers_can_be_awaited() {
    let it = open(Settings::default());
    let answer: Result<i64, Error> = futures::executor::block_on(async {
        it.database
            .write(|to| to.execute("INSERT INTO entries (id, body) VALUES (7, 'seven')", []))?
            .await?;
        it.database.read(7, count)?.await
    });
    assert_eq!(answer.unwrap(), 1);
}

#[test]
fn writes_that_wait_are_committed_together_and_one_alone_at_once() {
    let it = open(Settings::default());
    insert(&it.database, 0).unwrap();
    assert_eq!(it.database.stats().transactions, 1);
    let (release, begun, query) = hold();
    let held = it.database.write(query).unwrap();
    begun.recv_timeout(LONG).unwrap();
    let row = |to: &Connection| to.execute("INSERT INTO entries (id, body) VALUES (1, 'one')", []);
    let waiting: Vec<_> = (0..600).map(|_| it.database.write(row).unwrap()).collect();
    assert!(!waiting.iter().any(Pending::is_ready));
    drop(release);
    held.wait().unwrap();
    waiting.into_iter().for_each(|write| assert_eq!(write.wait().unwrap(), 1));
    let stats = it.database.stats();
    assert_eq!((stats.writes, stats.transactions), (602, 4), "one; the one held; 512; 88");
}

#[test]
fn a_write_that_fails_is_undone_and_the_others_of_its_transaction_are_not() {
    let it = open(Settings::default());
    let (release, begun, query) = hold();
    let held = it.database.write(query).unwrap();
    begun.recv_timeout(LONG).unwrap();
    let good =
        |to: &Connection| to.execute("INSERT INTO entries (id, body) VALUES (1, 'good')", []);
    let bad = |to: &Connection| {
        to.execute("INSERT INTO entries (id, body) VALUES (2, 'half of it')", [])?;
        to.execute("INSERT INTO entries (id, body) VALUES (2, NULL)", [])
    };
    let (first, failing, last) = (
        it.database.write(good).unwrap(),
        it.database.write(bad).unwrap(),
        it.database.write(good).unwrap(),
    );
    drop(release);
    held.wait().unwrap();
    assert_eq!((first.wait().unwrap(), last.wait().unwrap()), (1, 1));
    let Err(Error::Sqlite(error)) = failing.wait() else { panic!("it did not fail") };
    assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation));
    assert_eq!(it.database.stats().transactions, 2);
    assert_eq!(it.database.read(0, count).unwrap().wait().unwrap(), 2);
}

#[test]
fn what_undoes_the_transaction_is_everybodys_error() {
    let it = open(Settings::default());
    let (release, begun, query) = hold();
    let held = it.database.write(query).unwrap();
    begun.recv_timeout(LONG).unwrap();
    let row = |to: &Connection| to.execute("INSERT INTO entries (id, body) VALUES (1, 'one')", []);
    let undoes = |to: &Connection| {
        to.execute("INSERT OR ROLLBACK INTO entries (id, body) VALUES (2, NULL)", [])
    };
    let before = it.database.write(row).unwrap();
    let (undoing, after) = (it.database.write(undoes).unwrap(), it.database.write(row).unwrap());
    drop(release);
    held.wait().unwrap();
    for write in [before, undoing, after] {
        let answer = write.wait();
        assert!(matches!(answer, Err(Error::NotCommitted(_))), "{answer:?}");
    }
    assert_eq!(it.database.read(0, count).unwrap().wait().unwrap(), 0);
    insert(&it.database, 3).unwrap();
}

#[test]
fn a_key_comes_back_to_its_reader_while_that_is_idle() {
    let it = open(Settings { readers: 3, ..Settings::default() });
    let which = |key: u64| {
        // A reader's connection has a fixed address.
        let mark = move |from: &Connection| Ok(std::ptr::from_ref(from) as usize);
        until("all readers are idle", || {
            it.database.stats().readers.replicas.iter().all(|r| !r.in_work && r.waiting == 0)
        });
        it.executor.wait_idle().unwrap();
        it.database.read(key, mark).unwrap().wait().unwrap()
    };
    let homes: Vec<_> = (0..12).map(which).collect();
    for _ in 0..3 {
        assert_eq!((0..12).map(which).collect::<Vec<_>>(), homes);
    }
    assert_eq!(
        homes.into_iter().collect::<HashSet<_>>().len(),
        3,
        "and keys are spread over all of them"
    );
}

#[test]
fn a_slow_query_holds_nobody_up() {
    let it = open(Settings { readers: 2, ..Settings::default() });
    insert(&it.database, 1).unwrap();
    let (release, begun, query) = hold();
    let slow = it.database.read(1, query).unwrap();
    begun.recv_timeout(LONG).unwrap();
    let (release_scan, begun_scan, query) = hold();
    let slow_scan = it.database.scan(query).unwrap();
    begun_scan.recv_timeout(LONG).unwrap();
    for key in 0..1000 {
        assert_eq!(it.database.read(key % 10, count).unwrap().wait().unwrap(), 1);
    }
    insert(&it.database, 2).unwrap();
    assert!(!slow.is_ready() && !slow_scan.is_ready());
    drop((release, release_scan));
    slow.wait().unwrap();
    slow_scan.wait().unwrap();
}

#[test]
fn a_query_ends_at_its_timeout_and_its_connection_goes_on() {
    let it = open(Settings { readers: 1, ..Settings::default() });
    let endless = |from: &Connection| from.query_row(ENDLESS, [], |row| row.get::<_, i64>(0));
    let short = it.database.within(Duration::from_millis(20));
    for _ in 0..3 {
        let answer = short.read(1, endless).unwrap().wait();
        assert!(matches!(answer, Err(Error::Unanswered(AskError::TimedOut))), "{answer:?}");
        // There is only one reader, and the test has not stopped the query.
        assert_eq!(it.database.read(1, count).unwrap().wait().unwrap(), 0);
    }
    assert_eq!(it.database.stats().readers.replicas[0].replaced, 0);
}

/// heist has no such limit: the 30 s are the facade's default.
#[test]
fn a_database_has_a_time_for_whoever_says_none() {
    assert_eq!(Settings::default().timeout, Duration::from_secs(30));
    let it =
        open(Settings { readers: 1, timeout: Duration::from_millis(20), ..Settings::default() });
    let endless = |from: &Connection| from.query_row(ENDLESS, [], |row| row.get::<_, i64>(0));
    let answer = it.database.read(1, endless).unwrap().wait();
    assert!(matches!(answer, Err(Error::Unanswered(AskError::TimedOut))), "{answer:?}");
}

#[test]
fn what_has_waited_too_long_is_not_begun() {
    let it = open(Settings { readers: 1, ..Settings::default() });
    let (short, begin) = (it.database.within(Duration::from_millis(5)), channel());
    let (read, write) = (hold(), hold());
    let held = (it.database.read(1, read.2).unwrap(), it.database.write(write.2).unwrap());
    read.1.recv_timeout(LONG).unwrap();
    write.1.recv_timeout(LONG).unwrap();
    let (begun, also) = (begin.0.clone(), begin.0);
    let late =
        short.read(1, move |_| begun.send(()).map_err(|_| rusqlite::Error::InvalidQuery)).unwrap();
    let late_write =
        short.write(move |_| also.send(()).map_err(|_| rusqlite::Error::InvalidQuery)).unwrap();
    let answers = [late.wait(), late_write.wait()];
    for answer in answers {
        assert!(
            matches!(answer, Err(Error::Unanswered(AskError::TimedOut | AskError::Expired))),
            "{answer:?}"
        );
    }
    drop((read.0, write.0));
    held.0.wait().unwrap();
    held.1.wait().unwrap();
    it.executor.wait_idle().unwrap();
    // Both closures were dropped without being called.
    assert!(begin.1.recv().is_err());
    assert_eq!(it.executor.stats().dead_letters.expired, 2);
}

#[test]
fn a_full_mailbox_pushes_back_and_hands_the_query_back() {
    let it = open(Settings { readers: 1, scanners: 1, waiting: 3, ..Settings::default() });
    let (write, read, scan) = (hold(), hold(), hold());
    let held = (
        it.database.write(write.2).unwrap(),
        it.database.read(1, read.2).unwrap(),
        it.database.scan(scan.2).unwrap(),
    );
    for begun in [write.1, read.1, scan.1] {
        begun.recv_timeout(LONG).unwrap();
    }
    let mut accepted = Vec::new();
    let refused = loop {
        match it.database.write(count) {
            Ok(pending) => accepted.push(pending),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.refusal(), Refusal::Full);
    let (mut reads, again) = (Vec::new(), |from: &Connection| Ok(count(from)? + 100));
    let refused = loop {
        match it.database.read(1, again) {
            Ok(pending) => reads.push(pending),
            Err(refused) => break refused,
        }
    };
    let scans: Vec<_> = std::iter::from_fn(|| it.database.scan(count).ok()).collect();
    assert!((1..=4).contains(&accepted.len()) && reads.len() == 3 && scans.len() == 3);
    drop((write.0, read.0, scan.0));
    held.0.wait().unwrap();
    held.1.wait().unwrap();
    held.2.wait().unwrap();
    accepted.into_iter().chain(scans).for_each(|pending| assert_eq!(pending.wait().unwrap(), 0));
    reads.into_iter().for_each(|pending| assert_eq!(pending.wait().unwrap(), 100));
    // A refused query comes back whole and can be sent again.
    let query = refused.into_message().query;
    assert_eq!(it.database.read(1, query).unwrap().wait().unwrap(), 100);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_of_open() {
    let executor = Executor::builder().workers(1).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open = |path, schema, settings| Database::open(&executor, path, schema, settings);
    let error = open(folder.path().join("no/such/folder.db"), "", Settings::default()).unwrap_err();
    assert_eq!(error.to_string(), "replica 0 could not be made");
    let source = std::error::Error::source(&error).expect("the factory's own error");
    assert!(source.to_string().starts_with("unable to open"), "{source}");
    let error =
        open(folder.path().join("a.db"), "CREATE NONSENSE", Settings::default()).unwrap_err();
    let source = std::error::Error::source(&error).expect("SQLite's own error");
    assert!(source.to_string().contains("syntax error"), "{source}");
    let none = Settings { readers: 0, ..Settings::default() };
    let error = open(folder.path().join("a.db"), "", none).unwrap_err();
    assert_eq!(error.to_string(), "a pool needs at least one replica");
}

/// Lets clients write until refused, and compares the file with what was acknowledged and what was
/// answered otherwise.
fn end_in_the_middle(end: impl FnOnce(&Opened)) {
    let it = open(Settings::default());
    let acknowledged = std::sync::Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for client in 0..16 {
            let (it, acknowledged) = (&it, &acknowledged);
            scope.spawn(move || {
                for n in 0.. {
                    let id = n * 1000 + client; // none that panics
                    match insert(&it.database, id) {
                        Ok(()) => assert!(acknowledged.lock().unwrap().insert(id)),
                        Err(Error::Refused(Refusal::PoolStopped | Refusal::ShuttingDown)) => break,
                        Err(error) => panic!("accepted, and then: {error}"),
                    }
                }
            });
        }
        until("some are acknowledged", || acknowledged.lock().unwrap().len() >= 200);
        end(&it);
    });
    let rows = durability::rows(&it.file()).unwrap();
    let acknowledged = acknowledged.into_inner().unwrap();
    durability::compare(&rows, &acknowledged).unwrap();
    assert_eq!(rows.len(), acknowledged.len(), "what was accepted was done, and answered");
    assert!(!it.file().with_extension("db-wal").exists(), "all connections were closed");
}

#[test]
fn a_close_does_what_waits_and_refuses_the_rest() {
    let it = open(Settings::default());
    let (release, begun, query) = hold();
    let held = it.database.write(query).unwrap();
    begun.recv_timeout(LONG).unwrap();
    let row = |to: &Connection| to.execute("INSERT INTO entries (id, body) VALUES (1, 'one')", []);
    let waiting: Vec<_> = (0..5).map(|_| it.database.write(row).unwrap()).collect();
    thread::scope(|scope| {
        let closed = scope.spawn(|| it.database.clone().close(LONG));
        until("it is closed", || {
            it.database
                .write(|_| Ok(()))
                .is_err_and(|error| error.refusal() == Refusal::PoolStopped)
        });
        drop(release);
        closed.join().unwrap().unwrap();
    });
    held.wait().unwrap();
    waiting.into_iter().for_each(|write| assert_eq!(write.wait().unwrap(), 1));
    assert_eq!(
        it.database.read(1, count).err().map(|error| error.refusal()),
        Some(Refusal::PoolStopped)
    );
}

#[test]
fn a_close_in_the_middle_does_what_was_accepted() {
    end_in_the_middle(|it| it.database.clone().close(LONG).unwrap());
}

#[test]
fn a_shutdown_of_the_executor_in_the_middle_does_what_was_accepted() {
    end_in_the_middle(|it| {
        let report = it.executor.shutdown(LONG).unwrap();
        assert!(report.complete && report.dead_letters.total() == 0, "{report:?}");
    });
}

#[test]
fn panics_in_the_middle_of_batches_lose_nothing_that_was_acknowledged() {
    let it = open(Settings::default());
    let acknowledged = std::sync::Mutex::new(HashSet::new());
    let panicked = AtomicU64::new(0);
    thread::scope(|scope| {
        for client in 0..16 {
            let (it, acknowledged, panicked) = (&it, &acknowledged, &panicked);
            scope.spawn(move || {
                for n in 0..100 {
                    let id = n * 16 + client;
                    match insert(&it.database, id) {
                        Ok(()) => assert!(acknowledged.lock().unwrap().insert(id)),
                        Err(Error::Unanswered(AskError::Panicked(text))) => {
                            assert_eq!(text.to_string(), "intended, in the middle of a batch");
                            panicked.fetch_add(1, Relaxed);
                        }
                        Err(error) => panic!("{id}: {error}"),
                    }
                }
            });
        }
    });
    // Each panic ends one writer. Two panics in one batch end only one, because the second was not
    // begun.
    let ended = || it.database.stats().writer.replicas[0].failed;
    until("a writer has ended", || ended() > 0);
    assert!(ended() <= 1600 / 200);
    let acknowledged = acknowledged.into_inner().unwrap();
    assert_eq!(acknowledged.len() as u64 + panicked.into_inner(), 1600, "each was answered");
    it.database.clone().close(LONG).unwrap();
    let rows = durability::rows(&it.file()).unwrap();
    durability::compare(&rows, &acknowledged).unwrap();
    assert_eq!(rows.len(), acknowledged.len(), "a batch that panicked is undone as a whole");
}

#[test]
fn readers_are_lost_a_hundred_times_under_load_and_all_others_are_answered() {
    const LOSSES: u64 = 100;
    let it = open(Settings::default());
    insert(&it.database, 0).unwrap();
    let lost = AtomicU64::new(0);
    let answered: u64 = thread::scope(|scope| {
        let clients: Vec<_> = (0..8_u64)
            .map(|client| {
                let (it, lost) = (&it, &lost);
                scope.spawn(move || {
                    let mut answered = 0;
                    while lost.load(Relaxed) < LOSSES {
                        let read = it.database.read(client * 1000 + answered % 10, count).unwrap();
                        assert_eq!(read.wait().unwrap(), 1, "the {answered}th of client {client}");
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        for key in 0..LOSSES {
            let panics = |_: &Connection| -> rusqlite::Result<()> { panic!("intended") };
            let answer = it.database.read(key, panics).unwrap().wait();
            assert!(matches!(answer, Err(Error::Unanswered(AskError::Panicked(_)))), "{answer:?}");
            lost.fetch_add(1, Relaxed);
        }
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answered >= 8);
    // The asker may know of the last loss before it is counted.
    let failed =
        || it.database.stats().readers.replicas.iter().map(|replica| replica.failed).sum::<u64>();
    until("each loss is counted", || failed() == LOSSES);
    assert_eq!(it.executor.shutdown(LONG).unwrap().dead_letters.total(), 0);
}

/// Started by the next test in a separate process.
#[test]
#[ignore = "it writes until it is killed"]
fn child() {
    let file = std::env::var_os("CONNECTIONS_FILE").expect("from the test that starts it");
    let round = std::env::var("CONNECTIONS_ROUND").expect("from the test that starts it");
    durability::write_until_killed(Path::new(&file), round.parse().unwrap());
}

#[test]
fn a_process_killed_fifty_times_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entries.db");
    let mut books = durability::Books::default();
    for round in 0..50_usize {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "tests::child", "--ignored", "--nocapture", "--test-threads=1"]);
        child.env("CONNECTIONS_FILE", &file).env("CONNECTIONS_ROUND", round.to_string());
        books.round(&mut child, &file, 1 + (round * 37) % 300).unwrap();
    }
    assert_eq!(books.kills, 50);
    assert!(books.acknowledged() > 50);
}

/// Shows that the comparison can fail.
#[test]
fn a_lost_row_a_row_twice_and_half_a_batch_are_noticed() {
    let it = open(Settings::default());
    for id in 0..3 {
        insert(&it.database, id).unwrap();
    }
    let acknowledged: HashSet<u64> = (0..3).collect();
    let compare = || durability::compare(&durability::rows(&it.file()).unwrap(), &acknowledged);
    compare().unwrap();
    let write =
        |sql: &'static str| it.database.write(|to| to.execute(sql, [])).unwrap().wait().unwrap();
    write("DELETE FROM entries WHERE id = 1");
    assert!(compare().unwrap_err().starts_with("acknowledged and lost: [1]"));
    write(
        "INSERT INTO entries (id, body) SELECT 1, replace(body, '0', '1') FROM entries WHERE id = 0",
    );
    compare().unwrap();
    write("INSERT INTO entries (id, body) SELECT id, body FROM entries WHERE id = 2");
    assert!(compare().unwrap_err().contains("there twice: [(2, 2)]"));
    write("DELETE FROM entries WHERE id = 2 AND place = (SELECT max(place) FROM entries)");
    write(
        "INSERT INTO entries (id, body) SELECT 199, replace(body, ' 0,', ' 199,') FROM entries WHERE id = 0",
    );
    assert!(compare().unwrap_err().contains("panicked and there: [199]"));
}
