//! Tests the service with a real client on the loopback interface, and with a stop in the middle of
//! the work.

use super::*;
use axum::http::StatusCode;
use bank::{Account, Accounts, Balance};
use heist::{Context, Handler};
use service::Outcome;
use std::sync::mpsc;
use tokio::task::JoinHandle;

/// Turns a hang into a failure.
const LONG: Duration = Duration::from_secs(60);

struct Service {
    http: Http,
    accounts: Accounts,
    store: Store,
    stop: oneshot::Sender<()>,
    handle: heist::Handle,
    server: JoinHandle<std::io::Result<Outcome>>,
}

async fn start(sizes: Sizes) -> Service {
    let executor = Executor::builder().workers(2).build().unwrap();
    let (store, handle) = (Store::default(), executor.handle());
    let accounts = bank::open(&executor, &store, sizes).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let http = Http::new(listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(service::serve(listener, executor, accounts.clone(), async move {
        let _sent_or_dropped = stopped.await;
    }));
    Service { http, accounts, store, stop, handle, server }
}

impl Service {
    async fn post(&self, path: &str, body: &str) -> (StatusCode, String) {
        let answered = self.http.request("POST", path, body.to_string()).await.unwrap();
        (answered.status, answered.text)
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        let answered = self.http.request("GET", path, String::new()).await.unwrap();
        (answered.status, answered.text)
    }
}

/// Runs a test on two threads that must never be blocked.
fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, test).await.expect("a hang") });
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + LONG;
    while !condition() {
        assert!(Instant::now() < limit, "waited in vain: {what}");
        tokio::task::yield_now().await;
    }
}

const FEW: Sizes = Sizes { limit: 8, idle: Duration::from_millis(5), waiting: 256 };

#[test]
fn what_is_acknowledged_is_stored_though_it_ends_in_the_middle() {
    const CLIENTS: u64 = 64;
    const ACCOUNTS: u64 = 32;
    run(async {
        let service = start(FEW).await;
        let (answers, enough) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let clients = {
            let (http, answers, enough) =
                (service.http.clone(), Arc::clone(&answers), Arc::clone(&enough));
            tokio::spawn(
                async move { client::drive(&http, CLIENTS, ACCOUNTS, &answers, &enough).await },
            )
        };
        until("hundreds of answers, and passivations among them", || {
            answers.load(Relaxed) > 2000 && service.accounts.stats().passivated > 500
        })
        .await;
        service.stop.send(()).unwrap();
        let outcome = service.server.await.unwrap().unwrap();
        let books = clients.await.unwrap();

        assert_eq!(books.unexpected, [""; 0]);
        assert!(
            books.unreached > 0 && books.acknowledged > 1000,
            "it ended in the middle: {books:?}"
        );
        assert_eq!(outcome.seen, books.answers(), "each request that reached it was answered");
        assert!(agree(&books, &service.store), "{books:?} {:?}", service.store);
        assert!(outcome.report.complete && outcome.report.dead_letters.total() == 0, "{outcome:?}");
        let stats = service.handle.stats();
        assert_eq!((stats.accepted, stats.live_actors), (stats.handled, 0));
        assert!(service.accounts.is_empty());
    });
}

#[test]
fn every_outcome_has_its_response() {
    run(async {
        let service = start(FEW).await;
        assert_eq!(service.get("/accounts/7").await, (StatusCode::OK, "0".into()));
        assert_eq!(service.post("/accounts/7/deposit", "20").await, (StatusCode::OK, "20".into()));
        assert_eq!(
            service.post("/accounts/7/transfer/8", "5").await,
            (StatusCode::OK, "15".into())
        );
        assert_eq!(
            service.post("/accounts/7/transfer/7", "5").await,
            (StatusCode::OK, "15".into())
        );
        until("they are passivated", || service.accounts.is_empty()).await;
        assert_eq!(service.get("/accounts/8").await, (StatusCode::OK, "5".into()));
        assert_eq!(service.get("/accounts/7").await, (StatusCode::OK, "15".into()));
        let (status, why) = service.post("/accounts/7/transfer/8", "16").await;
        assert_eq!(
            (status, why.as_str()),
            (StatusCode::CONFLICT, "there are only 15 in the account")
        );
        assert_eq!(service.post("/accounts/7/deposit", "-1").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(service.get("/accounts/seven").await.0, StatusCode::BAD_REQUEST);
        let most = u64::MAX.to_string();
        assert_eq!(service.post("/accounts/7/deposit", &most).await.0, StatusCode::CONFLICT);
        assert_eq!(service.post("/accounts/9/deposit", &most).await.0, StatusCode::OK);
        let (status, why) = service.post("/accounts/7/transfer/9", "1").await;
        assert_eq!(
            (status, why.as_str()),
            (StatusCode::CONFLICT, "an account cannot hold that much")
        );
        assert_eq!(
            service.get("/accounts/7").await,
            (StatusCode::OK, "15".into()),
            "it was given back"
        );
        drop(service.stop);
        assert!(service.server.await.unwrap().unwrap().report.complete);
    });
}

/// Holds its account until the other end is dropped.
struct HoldUp(mpsc::Receiver<()>);

impl Handler<HoldUp> for Account {
    type Reply = ();
    fn handle(&mut self, HoldUp(until): HoldUp, _: &mut Context<Self>) {
        let _dropped = until.recv_timeout(LONG);
    }
}

struct Panic;

impl Handler<Panic> for Account {
    type Reply = ();
    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("intended");
    }
}

#[test]
fn a_full_mailbox_is_503_and_retry_after() {
    run(async {
        let service = start(Sizes { waiting: 2, ..FEW }).await;
        let (release, held) = mpsc::channel();
        let account = service.accounts.get(&1);
        account.tell(HoldUp(held)).unwrap();
        let waiting = account.ask(Balance).unwrap();
        let refused =
            service.http.request("POST", "/accounts/1/deposit", "1".into()).await.unwrap();
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.retry_after.as_deref(), Some("1"));
        assert!(refused.text.starts_with("the mailbox is full"));
        assert_eq!(
            service.post("/accounts/2/deposit", "1").await.0,
            StatusCode::OK,
            "others go on"
        );
        // A transfer to the account fails too, and the withdrawn amount is returned.
        let refused =
            service.http.request("POST", "/accounts/2/transfer/1", "1".into()).await.unwrap();
        assert_eq!(
            (refused.status, refused.retry_after.is_some()),
            (StatusCode::SERVICE_UNAVAILABLE, true)
        );
        assert_eq!(service.get("/accounts/2").await, (StatusCode::OK, "1".into()));
        drop(release);
        waiting.await.unwrap().unwrap();
        // The places become free when the turn has ended, a moment after the answer.
        let deposit = loop {
            let answer = service.post("/accounts/1/deposit", "1").await;
            if answer.0 != StatusCode::SERVICE_UNAVAILABLE {
                break answer;
            }
        };
        assert_eq!(deposit, (StatusCode::OK, "1".into()));
        drop(service.stop);
        service.server.await.unwrap().unwrap();
    });
}

#[test]
fn a_panic_is_500_and_the_next_request_is_served() {
    run(async {
        let service = start(FEW).await;
        let (release, held) = mpsc::channel();
        let account = service.accounts.get(&1);
        account.tell(HoldUp(held)).unwrap();
        account.tell(Panic).unwrap();
        let http = service.http.clone();
        let asked =
            tokio::spawn(async move { http.request("GET", "/accounts/1", String::new()).await });
        until("the request waits behind the panic", || account.len() == 3).await;
        drop(release);
        let answered = asked.await.unwrap().unwrap();
        assert_eq!(answered.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(answered.text, "the actor panicked: intended");
        drop(account);
        assert_eq!(service.get("/accounts/1").await.0, StatusCode::OK);
        drop(service.stop);
        service.server.await.unwrap().unwrap();
    });
}

/// Requests that wait when the service is told to stop are answered before the executor ends.
#[test]
fn requests_in_flight_are_answered_at_the_end() {
    run(async {
        let service = start(FEW).await;
        let (release, held) = mpsc::channel();
        let account = service.accounts.get(&1);
        account.tell(HoldUp(held)).unwrap();
        let asked: Vec<_> = (0..20)
            .map(|_| {
                let http = service.http.clone();
                tokio::spawn(async move {
                    http.request("POST", "/accounts/1/deposit", "3".into()).await
                })
            })
            .collect();
        until("all of them wait", || account.len() == 21).await;
        drop(account);
        service.stop.send(()).unwrap();
        let mut server = service.server;
        tokio::select! {
            biased;
            early = &mut server => panic!("it did not wait: {early:?}"),
            () = tokio::task::yield_now() => {}
        }
        drop(release);
        for asked in asked {
            assert_eq!(asked.await.unwrap().unwrap().status, StatusCode::OK);
        }
        assert!(server.await.unwrap().unwrap().report.complete);
        assert_eq!(service.store.balances()[&1], 60);
    });
}

/// The executor has ended, and the service still runs.
#[test]
fn a_dead_executor_is_503() {
    run(async {
        let (here, elsewhere) = (start(FEW).await, Executor::new());
        let accounts = bank::open(&elsewhere, &here.store, FEW).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = Http::new(listener.local_addr().unwrap());
        assert!(elsewhere.shutdown_async(LONG).await.unwrap().complete);
        let (stop, stopped) = oneshot::channel::<()>();
        let served =
            tokio::spawn(service::serve(listener, Executor::new(), accounts, async move {
                let _dropped = stopped.await;
            }));
        for (method, path) in [("GET", "/accounts/1"), ("POST", "/accounts/1/deposit")] {
            let refused = http.request(method, path, "1".into()).await.unwrap();
            assert_eq!(
                (refused.status, refused.retry_after),
                (StatusCode::SERVICE_UNAVAILABLE, None)
            );
            assert_eq!(refused.text, "the executor is shutting down");
        }
        drop((stop, here.stop));
        assert!(served.await.unwrap().unwrap().report.complete);
        assert!(here.server.await.unwrap().unwrap().report.complete);
    });
}
