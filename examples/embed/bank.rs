//! Holds the state of the service: accounts, each an actor that exists while in use, and the store
//! that they are loaded from.

use heist::{Actor, AskError, Context, Directory, Handle, Handler, Receive, Reply, StopReason};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Keeps balances while no actor has them. A real service would use a file or a database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store(Arc<Mutex<HashMap<u64, u64>>>);

impl Store {
    fn load(&self, id: u64) -> u64 {
        self.0.lock().expect("nobody panics in here").get(&id).copied().unwrap_or(0)
    }

    fn save(&self, id: u64, balance: u64) {
        self.0.lock().expect("nobody panics in here").insert(id, balance);
    }

    /// Returns all balances, for the books.
    pub(crate) fn balances(&self) -> HashMap<u64, u64> {
        self.0.lock().expect("nobody panics in here").clone()
    }
}

/// The accounts by number.
pub(crate) type Accounts = Directory<u64, Account>;

/// The number of accounts in memory, their idle time, and the number of requests that may wait for
/// each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) limit: usize,
    pub(crate) idle: Duration,
    pub(crate) waiting: usize,
}

/// Opens the accounts. Each account is loaded on demand, in its own first turn.
pub(crate) fn open(
    executor: &Handle,
    store: &Store,
    sizes: Sizes,
) -> Result<Accounts, heist::directory::DirectoryError> {
    let store = store.clone();
    Directory::builder(executor)
        .max_actors(sizes.limit)
        .idle_timeout(sizes.idle)
        .capacity(sizes.waiting)
        .build(move |&id: &u64| Account { id, balance: store.load(id), store: store.clone() })
}

pub(crate) struct Account {
    id: u64,
    balance: u64,
    store: Store,
}

impl Actor for Account {
    /// Runs at a passivation or at the executor's end. The next actor of the account begins
    /// afterwards.
    fn stopped(&mut self, _: &StopReason) {
        self.store.save(self.id, self.balance);
    }
}

/// Why an account refuses a request. A refusal changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The balance is too low.
    Insufficient { balance: u64 },
    /// The balance would exceed what an account can hold.
    TooMuch,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Insufficient { balance } => {
                write!(f, "there are only {balance} in the account")
            }
            Refused::TooMuch => f.write_str("an account cannot hold that much"),
        }
    }
}

/// Every successful answer is the balance after the request.
pub(crate) type Answer = Result<u64, Refused>;

pub(crate) struct Balance;

impl Handler<Balance> for Account {
    type Reply = Answer;
    fn handle(&mut self, _: Balance, _: &mut Context<Self>) -> Answer {
        Ok(self.balance)
    }
}

pub(crate) struct Deposit(pub(crate) u64);

impl Handler<Deposit> for Account {
    type Reply = Answer;
    fn handle(&mut self, Deposit(amount): Deposit, _: &mut Context<Self>) -> Answer {
        self.balance = self.balance.checked_add(amount).ok_or(Refused::TooMuch)?;
        Ok(self.balance)
    }
}

/// From this account to another.
pub(crate) struct Transfer {
    pub(crate) amount: u64,
    pub(crate) to: u64,
    pub(crate) accounts: Accounts,
}

impl Receive<Transfer> for Account {
    type Reply = Answer;

    /// Withdraws the amount, asks the other account to deposit it, and replies to the result.
    /// Meanwhile this account handles other messages. The answer still owed protects it from
    /// passivation.
    ///
    /// If the other account cannot accept the deposit now, the reply is dropped, and the asker is
    /// told at once.
    fn receive(&mut self, transfer: Transfer, reply: Reply<Answer>, ctx: &mut Context<Self>) {
        let Transfer { amount, to, accounts } = transfer;
        if amount > self.balance {
            return reply.send(Err(Refused::Insufficient { balance: self.balance }));
        }
        if to == self.id {
            return reply.send(Ok(self.balance));
        }
        self.balance -= amount;
        let then = move |me: &mut Self, answer: Result<Answer, AskError>, _: &mut Context<Self>| {
            match answer {
                Ok(Ok(_)) => reply.send(Ok(me.balance)),
                Ok(Err(refused)) => {
                    me.balance += amount;
                    reply.send(Err(refused));
                }
                Err(_) => me.balance += amount,
            }
        };
        if ctx.ask_then(&accounts.get(&to), Deposit(amount), then).is_err() {
            self.balance += amount;
        }
    }
}
