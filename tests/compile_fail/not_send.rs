//! Must not compile: values that belong to a thread or a turn, or hold a value that is not `Send`,
//! cannot be sent.

use heist::*;
use heist::error::TellManyError;
use heist::pool::Broadcast;

struct A;
impl Actor for A {}

/// Neither `Send` nor `Sync`.
type Local = *const ();

fn is_send<T: Send>() {}

fn main() {
    is_send::<Context<A>>(); //~ E0277
    is_send::<Batch<'static, (), ()>>(); //~ E0277
    is_send::<Ask<Local>>(); //~ E0277
    is_send::<Reply<Local>>(); //~ E0277
    is_send::<Broadcast<Local>>(); //~ E0277
    is_send::<SendError<Local>>(); //~ E0277
    is_send::<TellManyError<(), Local>>(); //~ E0277
    is_send::<SpawnError<Local>>(); //~ E0277
    is_send::<SpawnBuilder<'static, Local>>(); //~ E0277
}
