//! Serves HTTP: requests become messages, and answers and refusals become responses.
//!
//! | outcome | response |
//! |---|---|
//! | an answer | 200 and the balance |
//! | an invalid number | 400 |
//! | a refusal of the account | 409 and the reason |
//! | a full mailbox of the account, or of the target of a transfer | 503, `Retry-After: 1` |
//! | the executor shuts down or has ended | 503 |
//! | a panic of the account | 500 |
//! | no answer in time | 504 |

use crate::bank::{Account, Accounts, Answer, Balance, Deposit, Transfer};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use heist::event::ShutdownReport;
use heist::{AskError, Executor, Receive, Refusal};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longest time that a request waits for its account.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time for open requests, including their connections, after the service is told to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Time for the actors after that.
const DEADLINE: Duration = Duration::from_secs(10);

/// State shared by all request handlers.
#[derive(Clone)]
struct Shared {
    accounts: Accounts,
    seen: Arc<AtomicU64>,
}

/// The result of a service's life.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) report: ShutdownReport,
    /// Number of requests that reached a handler.
    pub(crate) seen: u64,
}

/// Serves until `stop`, then ends in order: no new connections are accepted, open requests are
/// answered, the executor handles everything accepted, and the actors store their state. Nothing
/// blocks the runtime's threads.
pub(crate) async fn serve(
    listener: TcpListener,
    executor: Executor,
    accounts: Accounts,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<Outcome> {
    let seen = Arc::default();
    let (stopping, mut stopped) = watch::channel(false);
    let mut impatient = stopping.subscribe();
    tokio::spawn(async move {
        stop.await;
        stopping.send_replace(true);
    });
    let shared = Shared { accounts, seen: Arc::clone(&seen) };
    let server = axum::serve(listener, router(shared)).with_graceful_shutdown(async move {
        let _told = stopped.wait_for(|&stopped| stopped).await.is_ok();
    });
    let grace_is_over = async move {
        let _told = impatient.wait_for(|&stopped| stopped).await.is_ok();
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = server.into_future() => ended?,
        () = grace_is_over => {} // clients that have not sent the whole request are not waited for
    }
    // Dropping the executor here would block this thread for up to the drop deadline.
    // `shutdown_async` does not.
    let report = executor.shutdown_async(DEADLINE).await.map_err(io::Error::other)?;
    Ok(Outcome { report, seen: seen.load(Relaxed) })
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/accounts/{id}", get(balance))
        .route("/accounts/{id}/deposit", post(deposit))
        .route("/accounts/{id}/transfer/{to}", post(transfer))
        .with_state(shared)
}

async fn balance(State(shared): State<Shared>, Path(id): Path<u64>) -> Response {
    shared.ask(id, Balance).await
}

async fn deposit(State(shared): State<Shared>, Path(id): Path<u64>, body: String) -> Response {
    match body.trim().parse() {
        Ok(amount) => shared.ask(id, Deposit(amount)).await,
        Err(_) => shared.no_amount(),
    }
}

async fn transfer(
    State(shared): State<Shared>,
    Path((id, to)): Path<(u64, u64)>,
    body: String,
) -> Response {
    match body.trim().parse() {
        Ok(amount) => {
            let accounts = shared.accounts.clone();
            shared.ask(id, Transfer { amount, to, accounts }).await
        }
        Err(_) => shared.no_amount(),
    }
}

impl Shared {
    /// Sends a message to an account, which is spawned on demand, and turns the answer into a
    /// response.
    async fn ask<M: Send + 'static>(&self, id: u64, message: M) -> Response
    where
        Account: Receive<M, Reply = Answer>,
    {
        self.seen.fetch_add(1, Relaxed);
        let asked = match self.accounts.ask(&id, message) {
            Ok(asked) => asked,
            Err(error) => {
                return unavailable(error.refusal() == Refusal::Full, error.refusal().to_string());
            }
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(Ok(balance))) => balance.to_string().into_response(),
            Ok(Ok(Err(refused))) => (StatusCode::CONFLICT, refused.to_string()).into_response(),
            Ok(Err(error @ AskError::Panicked(_))) => {
                (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
            }
            Ok(Err(AskError::NoReply)) => {
                unavailable(true, "the other account cannot take it now".to_string())
            }
            Ok(Err(error)) => unavailable(false, error.to_string()),
            Err(_) => (StatusCode::GATEWAY_TIMEOUT, "no answer in time").into_response(),
        }
    }

    fn no_amount(&self) -> Response {
        self.seen.fetch_add(1, Relaxed);
        (StatusCode::BAD_REQUEST, "the body must be an amount").into_response()
    }
}

fn unavailable(soon_again: bool, why: String) -> Response {
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if soon_again {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
