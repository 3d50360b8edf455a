//! Must not compile: messages without a handler, and handlers that are not handlers.

use heist::*;
use std::time::Duration;

struct Account;
impl Actor for Account {}

struct Deposit;
impl Handler<Deposit> for Account {
    type Reply = u64;
    fn handle(&mut self, _: Deposit, _: &mut Context<Self>) -> u64 {
        1
    }
}

struct Withdraw;

struct Audit;
impl Handler<Audit> for Account {
    type Reply = u64;
    async fn handle(&mut self, _: Audit, _: &mut Context<Self>) -> u64 { //~ E0053
        1
    }
}

struct Report;
impl Receive<Report> for Account {
    type Reply = u64;
    async fn receive(&mut self, _: Report, reply: Reply<u64>, _: &mut Context<Self>) { //~ E0053
        reply.send(1);
    }
}

struct Plain;

fn main() {
    let executor = Executor::new();
    let account = executor.spawn(Account);
    let _ = account.tell(Deposit);
    let _ = account.tell(Withdraw); //~ E0277 the actor `Account` does not handle messages of type `Withdraw`
    let _ = account.ask(Withdraw); //~ E0277 the actor `Account` does not handle messages of type `Withdraw`
    let _: Recipient<Withdraw> = account.recipient(); //~ E0277 the actor `Account` does not handle messages of type `Withdraw`
    let _ = account.send(Withdraw); //~ E0277 the actor `Account` does not handle messages of type `Withdraw`
    let _ = account.tell_after(Duration::ZERO, Withdraw); //~ E0277 the actor `Account` does not handle messages of type `Withdraw`
    let _ = executor.spawn(Plain); //~ E0277 `Plain` is not an actor
    let pool = executor.pool(2, |_| Account).build().unwrap();
    let _ = pool.tell(strategy::RoundRobin, Withdraw); //~ E0277 the actor `Account` does not handle messages of type `Withdraw`
    let _ = pool.tell("key", Deposit); //~ E0277 `str` is not a strategy
}
