//! Must not compile: messages without a handler, and handlers that are not handlers.

use heist::*;

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

struct Plain;

fn main() {
    let executor = Executor::new();
    let account = executor.spawn(Account);
    let _ = account.tell(Deposit);
    let _ = account.tell(Withdraw); //~ E0277 the actor `Account` does not handle messages of type `Withdraw`
    let _ = account.ask(Withdraw); //~ E0277 the actor `Account` does not handle messages of type `Withdraw`
    let _: Recipient<Withdraw> = account.recipient(); //~ E0277 the actor `Account` does not handle messages of type `Withdraw`
    let _ = executor.spawn(Plain); //~ E0277 `Plain` is not an actor
    let pool = executor.pool(2, |_| Account).build().unwrap();
    let _ = pool.tell("key", Deposit); //~ E0277 `str` is not a strategy
}
