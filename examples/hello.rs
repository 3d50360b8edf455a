//! Tells and asks one actor: `cargo run --example hello`.

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::error::Error;
use std::time::Duration;

use heist::{Actor, Context, Executor, Handler, StopReason};

/// An actor owns its fields and handles one message at a time, so there is nothing to lock.
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
    let executor = Executor::new(); // one worker per core
    let account = executor.spawn(Account { balance: 0 });

    account.tell(Deposit(20))?; // never waits; if the mailbox is full, the error hands the message back
    let balance = account.ask(Deposit(22))?.wait()?; // sent after the 20, so handled after the 20
    println!("balance {balance}");
    assert_eq!(balance, 42);

    // An actor ends when its last reference is gone, but not before it has handled its messages.
    account.tell(Deposit(58))?;
    drop(account);

    // Dropping the executor at the end of `main` would stop it at once and turn waiting messages,
    // perhaps the deposit of 58, into dead letters. A shutdown with a deadline handles everything
    // sent before.
    let report = executor.shutdown(Duration::from_secs(5))?;
    println!("{} messages handled, {} dead letters", report.handled, report.dead_letters.total());
    Ok(())
}
