//! Must not compile: a batch of one type would pop messages of another type and hand out their
//! replies as its own.

use heist::{Actor, Batch, Context, Receive, Reply};

type General = for<'a> fn(&'a str);
type Narrow = fn(&'static str);

struct W<T>(#[allow(dead_code)] T);

struct X;
impl Actor for X {}
impl<T: Send + 'static> Receive<W<T>> for X {
    type Reply = fn(T);
    fn receive(&mut self, _: W<T>, _: Reply<fn(T)>, _: &mut Context<Self>) {}
}

fn special(batch: Batch<'_, W<General>, fn(General)>) {
    let mut batch: Batch<'_, W<Narrow>, fn(General)> = batch; //~ E0308
    let _ = batch.next();
}

fn main() {
    let _ = special;
}
