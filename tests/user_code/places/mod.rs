//! Lists the places of the matrix, where heist calls user code.

mod actors;
mod drops;
mod events;
mod keyed;
mod threads;
mod wakers;

use crate::Place;

pub fn all() -> Vec<Place> {
    [actors::PLACES, drops::PLACES, events::PLACES, keyed::PLACES, threads::PLACES, wakers::PLACES]
        .concat()
}
