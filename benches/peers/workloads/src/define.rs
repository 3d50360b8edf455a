//! Defines the table of workloads: the description, sizes, operation and right answer of each.
//!
//! A size has two numbers, `actors` and `messages`. The `what` of each workload explains their
//! meaning.

use crate::load;

/// The size of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub actors: u64,
    pub messages: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Quick,
    Full,
}

/// A figure read off a run, with a row of the printed table. Less is always better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Wall time divided by operations, in ns.
    NsPerOp,
    /// Wall time divided by the time of the same work on as many bare threads, with both cores
    /// busy.
    OverIdeal,
    /// Median of the sampled times, in us.
    P50,
    P99,
    /// Growth of resident memory for each actor.
    BytesPerActor,
    /// CPU time of one second of idleness, in us.
    IdleCpu,
}

impl Figure {
    pub fn label(self) -> &'static str {
        match self {
            Figure::NsPerOp => "ns",
            Figure::OverIdeal => "of ideal",
            Figure::P50 => "p50 us",
            Figure::P99 => "p99 us",
            Figure::BytesPerActor => "bytes",
            Figure::IdleCpu => "CPU us/s",
        }
    }
}

/// How to reduce a size for a peer that would take too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Messages,
    Actors,
    /// `messages` is the argument of fib.
    Fib,
    /// Never, because the figure does not depend on the duration.
    Never,
}

pub struct Workload {
    pub name: &'static str,
    pub what: &'static str,
    pub operation: &'static str,
    pub figures: &'static [Figure],
    pub full: Size,
    pub quick: Size,
    /// Iterations of [`load::work`] in one operation, where the ideal is calibrated.
    pub work: u32,
    /// Runs only once in its process: no warm-up and no second run.
    pub once: bool,
    /// Runs only in the full comparison.
    pub full_only: bool,
    cut: Cut,
    ops: fn(Size) -> u64,
    answer: fn(Size) -> u64,
}

const fn size(actors: u64, messages: u64) -> Size {
    Size { actors, messages }
}

fn product(s: Size) -> u64 {
    s.actors * s.messages
}

fn messages(s: Size) -> u64 {
    s.messages
}

fn actors(s: Size) -> u64 {
    s.actors
}

const BASE: Workload = Workload {
    name: "",
    what: "",
    operation: "a message",
    figures: &[Figure::NsPerOp],
    full: size(0, 0),
    quick: size(0, 0),
    work: 0,
    once: false,
    full_only: false,
    cut: Cut::Messages,
    ops: messages,
    answer: messages,
};

const PINGPONG: Workload = Workload {
    name: "pingpong",
    what: "2 actors, 1M round trips one after another",
    operation: "a round trip (2 messages)",
    full: size(2, 1_000_000),
    quick: size(2, 200_000),
    ..BASE
};

const COUNTING: Workload = Workload {
    name: "counting",
    what: "1 producer actor sends 5M numbers in a loop to one counter, which adds them up",
    full: size(1, 5_000_000),
    quick: size(1, 1_000_000),
    answer: |s| load::sum_below(s.messages),
    ..BASE
};

const FANIN: Workload = Workload {
    name: "fanin",
    what: "100 producer actors send 50k numbers each in a loop to one counter",
    full: size(100, 50_000),
    quick: size(100, 10_000),
    ops: product,
    answer: |s| s.actors * load::sum_below(s.messages),
    ..BASE
};

const FJTHRPUT: Workload = Workload {
    name: "fjthrput",
    what: "1 root actor sends in a loop, round-robin, to 1,000 actors 1,000 messages each; each reports at its last",
    full: size(1_000, 1_000),
    quick: size(1_000, 400),
    ops: product,
    answer: product,
    ..BASE
};

const IDLE: Workload = Workload {
    name: "idle100k",
    what: "100k actors with 16 bytes of own state that handled one message each, references kept",
    operation: "an actor",
    figures: &[Figure::BytesPerActor],
    full: size(100_000, 1),
    quick: size(100_000, 1),
    once: true,
    cut: Cut::Actors,
    ops: actors,
    answer: actors,
    ..BASE
};

/// Every workload, in the order of the report.
pub const WORKLOADS: &[Workload] = &[
    PINGPONG,
    Workload {
        name: "pairs",
        what: "1,000 pairs of actors, 1,000 round trips each, all at once",
        operation: "a round trip (2 messages)",
        full: size(1_000, 1_000),
        quick: size(1_000, 300),
        ops: product,
        answer: product,
        ..BASE
    },
    COUNTING,
    FANIN,
    FJTHRPUT,
    Workload {
        name: "fjthrput-work",
        what: "the same with about 205 ns of CPU in each message",
        figures: &[Figure::NsPerOp, Figure::OverIdeal],
        work: load::WORK_205_NS,
        ..FJTHRPUT
    },
    Workload {
        name: "fjcreate",
        what: "an actor spawns 1M actors, at most 1,000 a message (then a message to itself); each gets 1 message, acks to \
               a collector and stops",
        operation: "an actor",
        full: size(1_000_000, load::FJCREATE_STEP),
        quick: size(100_000, load::FJCREATE_STEP),
        cut: Cut::Actors,
        ops: actors,
        answer: actors,
        ..BASE
    },
    Workload {
        name: "threadring",
        what: "a ring of 1,000 actors, one token, 5M hops",
        operation: "a hop",
        full: size(1_000, 5_000_000),
        quick: size(1_000, 1_000_000),
        answer: |s| s.messages % s.actors,
        ..BASE
    },
    Workload {
        name: "big",
        what: "200 actors, each 2,000 pings to random others, the next when the last was acked",
        operation: "a ping and its ack",
        full: size(200, 2_000),
        quick: size(200, 1_000),
        ops: product,
        answer: product,
        ..BASE
    },
    Workload {
        name: "chameneos",
        what: "100 chameneos, 400k meetings, one mall actor",
        operation: "a meeting (4 messages)",
        full: size(100, 400_000),
        quick: size(100, 100_000),
        answer: |s| 2 * s.messages,
        ..BASE
    },
    Workload {
        name: "ask1",
        what: "1 thread outside, blocking asks one after another",
        operation: "an ask",
        figures: &[Figure::P50, Figure::P99],
        full: size(1, 100_000),
        quick: size(1, 10_000),
        ops: product,
        answer: |s| s.actors * load::sum_below(s.messages),
        ..BASE
    },
    Workload {
        name: "ask8",
        what: "8 threads outside, blocking asks one after another, an actor each",
        operation: "an ask",
        figures: &[Figure::P50, Figure::P99],
        full: size(8, 25_000),
        quick: size(8, 3_000),
        ops: product,
        answer: |s| s.actors * load::sum_below(s.messages),
        ..BASE
    },
    Workload {
        name: "skew",
        what: "4 producer actors send 1M messages, 1,000 at a time, to 10,000 actors by Zipf(1); about 0.5 us of CPU each",
        figures: &[Figure::NsPerOp, Figure::OverIdeal],
        full: size(10_000, 1_000_000),
        quick: size(10_000, 200_000),
        work: load::WORK_500_NS,
        answer: load::skew_answer,
        ..BASE
    },
    Workload {
        name: "fib",
        what: "naive fib(27) with an actor per call that answers its parent and stops",
        operation: "an actor",
        full: size(1, 27),
        quick: size(1, 23),
        cut: Cut::Fib,
        ops: |s| 2 * load::fib(s.messages + 1) - 1,
        answer: |s| load::fib(s.messages),
        ..BASE
    },
    IDLE,
    Workload {
        name: "idle1m",
        what: "the same with 1M actors",
        full: size(1_000_000, 1),
        quick: size(1_000_000, 1),
        full_only: true,
        ..IDLE
    },
    Workload {
        name: "timeslice",
        what: "a hot actor per worker with 500 messages to itself always waiting (1 us of CPU each); time from send to \
               handling of a cold actor's messages, one a ms, from outside",
        operation: "a message to the cold actor",
        figures: &[Figure::P50, Figure::P99],
        full: size(500, 2_000),
        quick: size(500, 200),
        once: true,
        cut: Cut::Never,
        ..BASE
    },
    Workload {
        name: "burst",
        what: "after 10 ms of idleness an actor tells 500 actors (20 us of CPU each); time from the first message \
               until every worker has begun one of theirs",
        operation: "a burst",
        figures: &[Figure::P50, Figure::P99],
        full: size(500, 100),
        quick: size(500, 15),
        once: true,
        cut: Cut::Never,
        ..BASE
    },
    Workload {
        name: "idlecpu",
        what: "1,000 actors, after a burst of messages and 100 ms; CPU time of the process over 1 s",
        operation: "an actor",
        figures: &[Figure::IdleCpu],
        full: size(1_000, 1_000),
        quick: size(1_000, 300),
        once: true,
        cut: Cut::Never,
        ops: actors,
        answer: actors,
        ..BASE
    },
    Workload { name: "pingpong-bounded", what: "pingpong through mailboxes of 1,024", ..PINGPONG },
    Workload {
        name: "counting-bounded",
        what: "counting through a mailbox of 1,024; a producer that meets a full mailbox goes on when there is room",
        ..COUNTING
    },
    Workload { name: "fanin-bounded", what: "fanin, the same way", ..FANIN },
    Workload { name: "fjthrput-bounded", what: "fjthrput, the same way", ..FJTHRPUT },
];

pub fn find(name: &str) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|w| w.name == name)
}

impl Workload {
    pub fn size(&self, scale: Scale) -> Size {
        if scale == Scale::Full { self.full } else { self.quick }
    }

    pub fn ops(&self, size: Size) -> u64 {
        (self.ops)(size)
    }

    pub fn answer(&self, size: Size) -> u64 {
        (self.answer)(size)
    }

    /// Returns `size` reduced by a factor of about `by`.
    pub fn cut(&self, size: Size, by: u64) -> Size {
        let by = by.max(1);
        match self.cut {
            Cut::Messages => Size { messages: (size.messages / by).max(1), ..size },
            Cut::Actors => Size { actors: (size.actors / by).max(1), ..size },
            Cut::Fib => {
                let steps = ((by as f64).ln() / 1.618f64.ln()).ceil() as u64;
                Size { messages: size.messages.saturating_sub(steps).max(2), ..size }
            }
            Cut::Never => size,
        }
    }

    /// Returns `true` if a slow peer may run a smaller size.
    pub fn can_be_cut(&self) -> bool {
        self.cut != Cut::Never
    }
}
