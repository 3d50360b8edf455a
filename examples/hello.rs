//! One actor, told and asked: `cargo run --example hello`.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use heist::{Actor, Context, Executor, Handler, StopReason};

/// Its fields are its own: one message is handled at a time, so there is nothing to lock.
struct Account {
    balance: i64,
}

impl Actor for Account {
    fn stopped(&mut self, reason: &StopReason) {
        println!("closed with {} ({reason:?})", self.balance);
    }
}

struct Deposit(i64);

impl Handler<Deposit> for Account {
    type Reply = i64;

    fn handle(&mut self, Deposit(amount): Deposit, _: &mut Context<Self>) -> i64 {
        self.balance += amount;
        self.balance
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let executor = Executor::new(); // a worker per core
    let account = executor.spawn(Account { balance: 0 });

    account.tell(Deposit(20))?; // never waits; if the mailbox is full, the error hands the message back
    let balance = account.ask(Deposit(22))?.wait()?; // sent after the 20, so handled after it
    println!("balance {balance}");
    assert_eq!(balance, 42);

    // An actor ends when the last reference to it is gone, but not before it has handled what it was sent.
    account.tell(Deposit(58))?;
    drop(account);

    // At the end of main the executor is dropped, and that stops it now: messages that still wait are dead letters,
    // and the deposit of 58 might be one of them. A shutdown with a deadline handles all that was sent before.
    let report = executor.shutdown(Duration::from_secs(5))?;
    println!("{} messages handled, {} dead letters", report.handled, report.dead_letters.total());
    Ok(())
}
