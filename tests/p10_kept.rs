//! Tests P10, clean: no drop recurses through what a user has handed over and heist keeps in a field
//! or refuses: functions, strategies, keys, states. The stacks have 64 KiB.

mod common;

use common::chains::*;
use common::*;
use heist::strategy::{Replicas, Route, Strategy};
use heist::{Actor, Context, Directory, Executor, Handle, Handler};
use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The length of a chain: far more than such a stack has room for.
const LINKS: usize = 10_000;
/// The length of a chain of pools, each of which is several cells.
const POOLS: usize = 2_000;

type Thing = Box<dyn Any + Send>;

/// Keeps every value that it is told.
#[derive(Default)]
struct Keeper(Vec<Thing>);

impl Actor for Keeper {}

struct Keep(Thing);

impl Handler<Keep> for Keeper {
    type Reply = ();
    fn handle(&mut self, Keep(thing): Keep, _: &mut Context<Self>) {
        self.0.push(thing);
    }
}

/// A value that can be shared, as a directory's function and a pool's strategy must be.
struct Shared(std::sync::Mutex<Thing>, #[allow(dead_code)] Counted); // dropped without being read

impl Shared {
    fn new(thing: Thing, counted: &Arc<AtomicUsize>) -> Self {
        Shared(std::sync::Mutex::new(thing), Counted(Arc::clone(counted)))
    }
}

/// Directories, each of which is held by the function of the next one.
fn directories_inside_functions(executor: &Executor, counted: &Arc<AtomicUsize>) -> Thing {
    let mut inner: Thing = Box::new(());
    for _ in 0..LINKS {
        let held = Shared::new(inner, counted);
        let make = move |_: &u32| {
            assert!(!held.0.is_poisoned());
            Keeper::default()
        };
        inner = Box::new(Directory::builder(executor).max_actors(1).build(make).unwrap());
    }
    inner
}

/// A key that holds a value. All of them are equal.
#[derive(Clone)]
struct Holding(Arc<Shared>);

impl PartialEq for Holding {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Holding {}

impl Hash for Holding {
    fn hash<H: Hasher>(&self, _: &mut H) {
        assert!(!self.0.0.is_poisoned());
    }
}

/// Unsent messages to a directory, each of which is held by the key of the next one.
fn sendings_inside_keys(executor: &Executor, counted: &Arc<AtomicUsize>) -> Thing {
    let directory = Directory::new(executor, |_: &Holding| Keeper::default());
    let mut inner: Thing = Box::new(());
    for _ in 0..LINKS {
        let key = Holding(Arc::new(Shared::new(inner, counted)));
        inner = Box::new(directory.send_async(&key, Keep(Box::new(()))));
    }
    inner
}

/// Gives its directory, when it is dropped, a function that holds the next such value.
struct Offers {
    directory: Directory<u32, Keeper>,
    inner: Option<Thing>,
    _counted: Counted,
}

impl Drop for Offers {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let _ = self.directory.get_or_spawn(&0, move || Keeper(inner.into_iter().collect()));
    }
}

/// Functions that are not called, since the key has its actor or the executor has ended.
fn functions_that_are_not_needed(executor: &Executor, counted: &Arc<AtomicUsize>) -> Thing {
    let directory = Directory::new(executor, |_: &u32| Keeper::default());
    directory.tell(&0, Keep(Box::new(()))).unwrap();
    let mut inner: Thing = Box::new(());
    for _ in 0..LINKS {
        let (directory, counted) = (directory.clone(), Counted(Arc::clone(counted)));
        inner = Box::new(Offers { directory, inner: Some(inner), _counted: counted });
    }
    inner
}

/// Gives heist, when it is dropped, the next such value in something that is refused.
struct Refused {
    executor: Handle,
    what: u8,
    inner: Option<Thing>,
    counted: Arc<AtomicUsize>,
}

impl Drop for Refused {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let held = Shared::new(Box::new(inner), &self.counted);
        match self.what {
            0 => drop(self.executor.spawn(Keeper(vec![Box::new(held)]))),
            1 => {
                let make = move |_| {
                    assert!(!held.0.is_poisoned());
                    Err::<Keeper, _>("no state")
                };
                assert!(self.executor.try_pool(1, make).build().is_err());
            }
            _ => {
                let make = move |_: &u32| {
                    assert!(!held.0.is_poisoned());
                    Keeper::default()
                };
                assert!(Directory::builder(&self.executor).max_actors(0).build(make).is_err());
            }
        }
    }
}

fn refused(what: u8, counted: &Arc<AtomicUsize>) -> Thing {
    let ended = crew(1);
    let executor = ended.handle();
    shut_down(&ended);
    let mut inner: Thing = Box::new(());
    for _ in 0..LINKS {
        let (executor, counted) = (executor.clone(), Arc::clone(counted));
        inner = Box::new(Refused { executor, what, inner: Some(inner), counted });
    }
    inner
}

/// States that an executor refuses after its end.
fn states_that_are_refused(_: &Executor, counted: &Arc<AtomicUsize>) -> Thing {
    refused(0, counted)
}

/// Functions of pools that are not built.
fn functions_of_pools_that_fail(_: &Executor, counted: &Arc<AtomicUsize>) -> Thing {
    refused(1, counted)
}

/// Functions of directories that are not built.
fn functions_of_directories_that_fail(_: &Executor, counted: &Arc<AtomicUsize>) -> Thing {
    refused(2, counted)
}

type Make = fn(&Executor, &Arc<AtomicUsize>) -> Thing;

const CHAINS: [Make; 6] = [
    directories_inside_functions,
    functions_that_are_not_needed,
    sendings_inside_keys,
    states_that_are_refused,
    functions_of_pools_that_fail,
    functions_of_directories_that_fail,
];

/// A recursive drop would overflow the stack after a few hundred links.
#[test]
fn p10_chains_through_what_heist_keeps_are_dropped_on_a_small_stack() {
    for make in CHAINS {
        for after_the_end in [false, true] {
            let (executor, counted) = (crew(1), Arc::default());
            let chain = make(&executor, &counted);
            if after_the_end {
                shut_down(&executor);
            }
            let here = Arc::clone(&counted);
            on_a_small_stack(move || {
                drop(chain);
                assert_eq!(here.load(Relaxed), LINKS, "all is dropped when the drop returns");
            });
            shut_down(&executor);
        }
    }
}

impl Strategy for Shared {
    fn route(&self, _: &Replicas<'_>) -> Route {
        Route::Index(0)
    }
}

/// Each pool is held by the strategy of the next one. The pools have ended, so a handle is all that
/// keeps each of them.
#[test]
fn p10_a_chain_of_pools_inside_strategies_is_dropped_on_a_small_stack() {
    let (executor, counted) = (crew(1), Arc::default());
    let mut inner: Thing = Box::new(());
    for _ in 0..POOLS {
        let held = Shared::new(inner, &counted);
        inner = Box::new(executor.pool(1, |_| Keeper::default()).strategy(held).build().unwrap());
    }
    shut_down(&executor);
    on_a_small_stack(move || {
        drop(inner);
        assert_eq!(counted.load(Relaxed), POOLS);
    });
}
