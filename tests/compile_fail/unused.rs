//! Must not compile under this lint: a value whose drop ends something is not dropped unseen.
#![deny(unused_must_use)]

use heist::*;

struct A;
impl Actor for A {}
impl Handler<()> for A {
    type Reply = ();
    fn handle(&mut self, _: (), _: &mut Context<Self>) {}
}

fn executor() -> Executor {
    Executor::new()
}
fn actor() -> ActorRef<A> {
    executor().spawn(A)
}
fn pool() -> Pool<A> {
    executor().pool(1, |_| A).build().unwrap()
}
fn directory() -> Directory<u32, A> {
    Directory::new(&executor(), |_| A)
}

fn main() {
    executor(); //~ unused
    Executor::builder(); //~ unused
    actor(); //~ unused
    actor().downgrade(); //~ unused
    actor().recipient::<()>(); //~ unused
    actor().asker::<()>(); //~ unused
    executor().handle(); //~ unused
    executor().build(A); //~ unused
    executor().pool(1, |_| A); //~ unused
    pool(); //~ unused
    directory(); //~ unused
    actor().ask(()).unwrap(); //~ unused
    actor().send_async(()); //~ unused
    actor().wait_stopped_async(); //~ unused
    actor().downgrade().wait_stopped_async(); //~ unused
    executor().wait_idle_async(); //~ unused
    executor().shutdown_async(std::time::Duration::ZERO); //~ unused
}
