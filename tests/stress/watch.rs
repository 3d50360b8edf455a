//! Aborts the process after a period without any progress, and reports what hangs.

use crate::fail;
use crate::world::World;
use parking_lot::Mutex;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

type Subject = Option<(Arc<World>, String)>;

pub struct Watch(Arc<Mutex<Subject>>);

impl Watch {
    /// Sets the round to watch together with its description, or `None` between rounds.
    pub fn look_at(&self, subject: Subject) {
        let old = std::mem::replace(&mut *self.0.lock(), subject);
        drop(old);
    }
}

pub fn start(patience: Duration) -> Watch {
    let shared = Arc::new(Mutex::new(None));
    let watched = Arc::clone(&shared);
    std::thread::spawn(move || {
        let (mut last, mut since) = ((0, 0), Instant::now());
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let subject: Subject = watched.lock().clone();
            let Some((world, round)) = subject else {
                since = Instant::now();
                continue;
            };
            let now = (world.seed, world.ledger.progress.load(Relaxed));
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > patience {
                dump(&world, &round);
                fail(&format!("nothing has happened for {patience:?}"));
            }
        }
    });
    Watch(shared)
}

fn dump(world: &World, round: &str) {
    eprintln!("stress: hangs: {round}");
    eprintln!("  {:?}", world.handle.stats());
    for (slot, actor) in world.slots.iter().enumerate() {
        if let Some(actor) = actor.try_lock().and_then(|actor| actor.clone()) {
            eprintln!(
                "  slot {slot}: {actor:?} running {} {:?}",
                actor.is_running(),
                actor.stats()
            );
        }
    }
    let doing: Vec<u8> = world.doing.iter().map(|doing| doing.load(Relaxed)).collect();
    eprintln!("  drivers (255: done): {doing:?}");
    eprintln!(
        "  replies to be given: {}, asks to be waited for: {}",
        world.replies.open.load(Relaxed),
        world.asks.open.load(Relaxed)
    );
    let open = world.ledger.open();
    eprintln!(
        "  {} messages not at their end, the first: {:?}",
        open.len(),
        &open[..open.len().min(40)]
    );
    let process = std::process::id().to_string();
    // gdb inherits the standard output, because gdb stops this process and a stopped process could
    // not empty a pipe.
    let stacks = Command::new("gdb")
        .args(["-p", &process, "-batch", "-ex", "thread apply all bt 16"])
        .status();
    if stacks.is_err() {
        eprintln!("  (install gdb for the threads' stacks)");
    }
}
