//! The whole way once: spawn, tell, ask, wait, stop, shut down.

use heist::*;
use std::time::Duration;

struct Counter(u64);
impl Actor for Counter {}
struct Add(u64);
impl Handler<Add> for Counter {
    type Reply = u64;
    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 {
        self.0 += n;
        self.0
    }
}

#[test]
fn the_whole_way() {
    for workers in [1, 2, 8] {
        let executor = Executor::builder().workers(workers).build().unwrap();
        let actors: Vec<_> = (0..1000).map(|_| executor.spawn(Counter(0))).collect();
        for round in 0..100 {
            for actor in &actors {
                actor.tell(Add(round)).unwrap();
            }
        }
        for actor in &actors {
            assert_eq!(actor.ask(Add(0)).unwrap().wait().unwrap(), 4950);
        }
        executor.wait_idle().unwrap();
        let stats = executor.stats();
        assert_eq!((stats.accepted, stats.handled, stats.live_actors), (101_000, 101_000, 1000));
        actors[0].stop();
        assert_eq!(actors[0].wait_stopped(), Ok(StopReason::Stopped));
        drop(actors);
        executor.wait_idle().unwrap();
        assert_eq!(executor.stats().live_actors, 0);
        let report = executor.shutdown(Duration::from_secs(10)).unwrap();
        assert!(report.complete, "{report:?}");
    }
}
