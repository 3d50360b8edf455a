//! Embeds heist in a web service: accounts behind axum, under tokio.
//!
//! ```text
//! cargo run --release --example embed                             demonstration that drives itself
//! cargo run --release --example embed -- --listen 127.0.0.1:8080  serves until Ctrl-C
//!
//! curl -d 20 127.0.0.1:8080/accounts/7/deposit
//! curl -d 5  127.0.0.1:8080/accounts/7/transfer/8
//! curl       127.0.0.1:8080/accounts/8
//! ```
//!
//! An account is an actor that exists while in use: loaded at the first request, and stored when
//! idle or when too many accounts are in memory. The service awaits answers and never blocks a
//! thread of tokio, not even at its end.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what happens")]

mod bank;
mod client;
mod service;
#[cfg(test)]
mod tests;

use bank::{Sizes, Store};
use client::{Books, Http};
use heist::Executor;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments[..] {
        [] => runtime.block_on(demonstrate()),
        ["--listen", address] => runtime.block_on(listen(address)),
        _ => {
            eprintln!("usage: embed [--listen ADDRESS:PORT]");
            std::process::exit(2);
        }
    }
}

async fn listen(address: &str) -> Result<(), Box<dyn Error>> {
    let sizes = Sizes { limit: 100_000, idle: Duration::from_secs(60), waiting: 256 };
    let (executor, store) = (Executor::new(), Store::default());
    let accounts = bank::open(&executor, &store, sizes)?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}; Ctrl-C ends it", listener.local_addr()?);
    let ctrl_c = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("cannot wait for Ctrl-C: {error}");
            std::future::pending::<()>().await;
        }
    };
    let outcome = service::serve(listener, executor, accounts, ctrl_c).await?;
    println!("{:?}", outcome.report);
    println!("{} accounts stored", store.balances().len());
    Ok(())
}

/// Runs a hundred clients with more accounts than fit into memory, and stops the service in the
/// middle.
async fn demonstrate() -> Result<(), Box<dyn Error>> {
    const CLIENTS: u64 = 100;
    const ACCOUNTS: u64 = 1000;
    let sizes = Sizes { limit: 200, idle: Duration::from_millis(50), waiting: 256 };
    let (executor, store) = (Executor::new(), Store::default());
    let handle = executor.handle();
    let accounts = bank::open(&executor, &store, sizes)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let http = Http::new(listener.local_addr()?);
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(service::serve(listener, executor, accounts.clone(), async move {
        let _sent_or_dropped = stopped.await;
    }));
    let answers = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let clients = {
        let answers = Arc::clone(&answers);
        tokio::spawn(async move {
            client::drive(&http, CLIENTS, ACCOUNTS, &answers, &Arc::new(AtomicBool::new(false)))
                .await
        })
    };
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let (answered, seconds) = (answers.load(Relaxed), started.elapsed().as_secs_f64());
    let _it_is_there = stop.send(());
    let outcome = server.await??;
    let books = clients.await?;

    let directory = accounts.stats();
    println!(
        "{:.0} requests/s from {CLIENTS} clients on this machine's own processors",
        answered as f64 / seconds
    );
    let Books { acknowledged, refused, full, ending, unreached, .. } = &books;
    println!(
        "{acknowledged} requests acknowledged, {refused} refused for lack of money, {full} by a full mailbox"
    );
    println!("{ending} requests came during the shutdown, {unreached} after it");
    println!(
        "{} accounts opened {} times, {} passivated",
        ACCOUNTS, directory.spawned, directory.passivated
    );
    println!("shut down in the middle: {:?}", outcome.report);

    let stats = handle.stats();
    let checks = [
        ("every request that reached the service was answered", outcome.seen == books.answers()),
        ("no answer was unexpected", books.unexpected.is_empty()),
        ("the books and the store agree", agree(&books, &store)),
        ("every accepted message was handled", stats.accepted == stats.handled),
        ("all actors have ended", outcome.report.complete && stats.live_actors == 0),
        ("accounts were passivated in the meantime", directory.passivated > 0),
    ];
    for (what, holds) in checks {
        println!("{} {what}", if holds { "yes:" } else { "NO: " });
    }
    if checks.iter().all(|&(_, holds)| holds) { Ok(()) } else { Err("a check failed".into()) }
}

/// Returns `true` if each account holds exactly what was acknowledged.
fn agree(books: &Books, store: &Store) -> bool {
    let stored = store.balances();
    let of =
        |accounts: &std::collections::HashMap<u64, u64>, id| accounts.get(id).copied().unwrap_or(0);
    stored.keys().chain(books.balances.keys()).all(|id| of(&stored, id) == of(&books.balances, id))
}
