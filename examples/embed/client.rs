//! Drives many clients at once, each with a record of what was acknowledged.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper_util::client::legacy::{Client, Error, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use tokio::task::JoinSet;

/// A real HTTP client that keeps its connections open.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<HttpConnector, Body>,
    to: SocketAddr,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<String>,
    pub(crate) text: String,
}

impl Http {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Http { client: Client::builder(TokioExecutor::new()).build_http(), to }
    }

    /// Sends a request. An error means that there was no answer because the service could not be
    /// reached any more.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<Answered, Error> {
        let uri = format!("http://{}{path}", self.to);
        let request = Request::builder().method(method).uri(uri).body(Body::from(body));
        let response = self.client.request(request.expect("a valid request")).await?;
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_string);
        let body = to_bytes(Body::new(response.into_body()), usize::MAX).await;
        let text = String::from_utf8_lossy(&body.expect("the whole body")).into_owned();
        Ok(Answered { status, retry_after, text })
    }
}

/// What the clients know at the end.
#[derive(Debug, Default)]
pub(crate) struct Books {
    /// The expected balance of each account.
    pub(crate) balances: HashMap<u64, u64>,
    pub(crate) acknowledged: u64,
    /// Answers with 409: not enough money in an account.
    pub(crate) refused: u64,
    /// Answers with 503 and `Retry-After`: a full mailbox.
    pub(crate) full: u64,
    /// Answers with 503: the executor shuts down.
    pub(crate) ending: u64,
    /// Requests that did not reach the service.
    pub(crate) unreached: u64,
    pub(crate) unexpected: Vec<String>,
}

impl Books {
    pub(crate) fn answers(&self) -> u64 {
        self.acknowledged + self.refused + self.full + self.ending
    }

    fn add(&mut self, account: u64, amount: u64) {
        let balance = self.balances.entry(account).or_default();
        *balance = balance.wrapping_add(amount); // may wrap: the deposit may be in another client's record
    }

    fn merge(&mut self, other: Books) {
        other.balances.into_iter().for_each(|(account, amount)| self.add(account, amount));
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.full += other.full;
        self.ending += other.ending;
        self.unreached += other.unreached;
        self.unexpected.extend(other.unexpected);
    }
}

/// Runs clients until the service cannot be reached any more or `enough` is reached. Counts answers
/// in `answers`.
pub(crate) async fn drive(
    http: &Http,
    clients: u64,
    accounts: u64,
    answers: &Arc<AtomicU64>,
    enough: &Arc<AtomicBool>,
) -> Books {
    let mut running = JoinSet::new();
    for client in 0..clients {
        running.spawn(one(http.clone(), client, accounts, Arc::clone(answers), Arc::clone(enough)));
    }
    let mut books = Books::default();
    while let Some(done) = running.join_next().await {
        books.merge(done.expect("a client does not panic"));
    }
    books
}

async fn one(
    http: Http,
    client: u64,
    accounts: u64,
    answers: Arc<AtomicU64>,
    enough: Arc<AtomicBool>,
) -> Books {
    let mut books = Books::default();
    let mut dice = client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut draw = |below: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % below
    };
    while !enough.load(Relaxed) {
        let (account, other, amount) = (draw(accounts), draw(accounts), 1 + draw(100));
        let kind = draw(10);
        let answered = match kind {
            0..6 => {
                http.request("POST", &format!("/accounts/{account}/deposit"), amount.to_string())
                    .await
            }
            6..8 => {
                let path = format!("/accounts/{account}/transfer/{other}");
                http.request("POST", &path, amount.to_string()).await
            }
            _ => http.request("GET", &format!("/accounts/{account}"), String::new()).await,
        };
        match answered {
            Err(_) => {
                books.unreached += 1;
                return books;
            }
            Ok(answered)
                if answered.status == StatusCode::OK && answered.text.parse::<u64>().is_ok() =>
            {
                books.acknowledged += 1;
                match kind {
                    0..6 => books.add(account, amount),
                    6..8 => {
                        books.add(account, amount.wrapping_neg());
                        books.add(other, amount);
                    }
                    _ => {}
                }
            }
            Ok(answered) if answered.status == StatusCode::CONFLICT => books.refused += 1,
            Ok(answered) if answered.status == StatusCode::SERVICE_UNAVAILABLE => {
                let counted = if answered.retry_after.is_some() {
                    &mut books.full
                } else {
                    &mut books.ending
                };
                *counted += 1;
            }
            Ok(answered) => books.unexpected.push(format!("{answered:?}")),
        }
        answers.fetch_add(1, Relaxed);
    }
    books
}
