//! Must not compile: values that belong to a turn cannot be shared, nor handles that would hand out
//! a value that is not `Send`.

use heist::*;
use heist::pool::Broadcast;

struct A;
impl Actor for A {}

/// Neither `Send` nor `Sync`.
type Local = *const ();

fn is_sync<T: Sync>() {}

fn main() {
    is_sync::<Context<A>>(); //~ E0277
    is_sync::<Batch<'static, (), ()>>(); //~ E0277
    is_sync::<Ask<Local>>(); //~ E0277
    is_sync::<Reply<Local>>(); //~ E0277
    is_sync::<Broadcast<Local>>(); //~ E0277
    is_sync::<SpawnBuilder<'static, Local>>(); //~ E0277
}
