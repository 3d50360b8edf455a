//! Tests the whole way: spawn, tell, ask, wait, stop, shut down.

mod common;

use common::*;
use heist::*;
use std::time::Duration;

#[test]
fn the_whole_way() {
    for workers in CREWS {
        let executor = crew(workers);
        let actors: Vec<_> = (0..1000).map(|_| executor.spawn(Puppet::default())).collect();
        for round in 0..100 {
            for actor in &actors {
                actor.tell(Note(round)).unwrap();
            }
        }
        for actor in &actors {
            assert_eq!(answer(actor.ask(Log).unwrap()).unwrap(), (0..100).collect::<Vec<_>>());
        }
        settle(&executor);
        let stats = executor.stats();
        assert_eq!((stats.accepted, stats.handled, stats.live_actors), (101_000, 101_000, 1000));
        actors[0].stop();
        assert_eq!(ended(&actors[0]), StopReason::Stopped);
        drop(actors);
        settle(&executor);
        assert_eq!(executor.stats().live_actors, 0);
        let report = executor.shutdown(Duration::from_secs(LONG)).unwrap();
        assert!(report.complete, "{report:?}");
    }
}
