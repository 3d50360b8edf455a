//! Defines the programs of the fuzzer and generates a program from a seed.

/// A seeded generator (xorshift64*).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            rng.next();
        }
        rng
    }
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// Steps that one piece of user code performs in order.
pub type Script = Vec<Op>;

/// A message: the scripts of its handler and its drop, and whether the handler keeps the reply.
#[derive(Clone, Debug, Default)]
pub struct Letter {
    pub handle: Script,
    pub on_drop: Script,
    pub keep: bool,
}

/// The scripts of an actor's hooks and of its state's drop.
#[derive(Clone, Debug, Default)]
pub struct Life {
    pub started: Script,
    pub stopped: Script,
    pub on_drop: Script,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Plain,
    OnWorker,
    Dedicated,
    Timed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Plain,
    Boxed,
    Batched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    RoundRobin,
    Queue,
    Key,
    Loaded,
    Index,
    Own,
}

/// One step of a script. Numbers select an actor's slot, or one of the kept asks, timers and other
/// values.
#[derive(Clone, Debug)]
pub enum Op {
    Spawn {
        slot: u8,
        way: Way,
        capacity: u8,
        life: Life,
    },
    Detach(u8),
    Clear(u8),
    Weaken(u8),
    Upgrade(u8),
    Tell(u8, Form, Letter),
    TellMany(u8, u8, Letter),
    Ask(u8, Letter),
    AskBy(u8, Letter),
    AskWait(u8, Letter),
    AskThen(u8, Letter, Script),
    Again(Letter),
    WhenRoom(u8, Letter),
    Send(u8, Letter),
    SendTimeout(u8, Letter),
    SendAsync(u8, Letter, Script),
    /// Polls all kept futures with wakers that run the script.
    Poll(Script),
    /// Drops the oldest kept value of the selected kinds.
    Forget(u8),
    Reply(bool),
    Stop(u8),
    StopNow(u8),
    StopSelf,
    StopAndWait(u8),
    AwaitStopped(u8),
    AwaitIdle,
    WaitIdle,
    After {
        slot: u8,
        micros: u16,
        letter: Letter,
    },
    OwnAfter {
        micros: u16,
        letter: Letter,
    },
    Every {
        slot: u8,
        micros: u16,
        rate: bool,
        letter: Letter,
    },
    Cancel,
    DetachTimer,
    Blocking(Script),
    Spin(u8),
    Pool {
        replicas: u8,
        capacity: u8,
        life: Life,
    },
    PoolTell(Route, Letter),
    PoolAsk(Route, Letter),
    PoolSend(Route, Letter),
    PoolSendAsync(Route, Letter),
    Broadcast(Letter),
    Resize(u8),
    PoolStop(bool),
    PoolDrop,
    Directory {
        idle: bool,
        limit: u8,
        life: Life,
    },
    KeyTell(u8, Letter),
    KeyAsk(u8, Letter),
    KeySpawn(u8, Life),
    Passivate(u8),
    DirectoryDrop,
    Look,
    Panic(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Shutdown,
    Now,
    Drop,
    Awaited,
    /// A shutdown that is polled once and then dropped.
    HalfWay,
}

#[derive(Clone, Debug)]
pub struct Program {
    pub workers: usize,
    pub policy: u8,
    pub spares: usize,
    pub budget: u32,
    pub end: End,
    /// Whether the slots are cleared before the end or after the end.
    pub clear_first: bool,
    /// The script of each outside thread.
    pub threads: Vec<Script>,
    /// The script of the event hook.
    pub hook: Script,
}

pub const SLOTS: u64 = 3;

/// Generates the program of a seed.
pub fn generate(seed: u64) -> Program {
    let mut rng = Rng::new(seed);
    let mut maker = Maker { rng: &mut rng };
    let threads = if maker.rng.one_in(3) { 2 } else { 1 };
    let mut first: Script = (0..1 + maker.rng.below(3)).map(|_| maker.spawn(2)).collect();
    if maker.rng.one_in(4) {
        first.push(Op::Pool {
            replicas: 1 + maker.rng.below(3) as u8,
            capacity: 1 + maker.rng.below(3) as u8,
            life: maker.life(1),
        });
    }
    if maker.rng.one_in(4) {
        first.push(maker.directory());
    }
    let mut scripts: Vec<Script> =
        (0..threads).map(|_| maker.script(2, 6 + 24 / threads as u64)).collect();
    scripts[0].splice(0..0, first);
    Program {
        workers: maker.rng.of(&[1, 1, 1, 2, 2, 2, 3, 4]),
        policy: maker.rng.below(3) as u8,
        spares: maker.rng.of(&[0, 1, 2, 8]),
        budget: maker.rng.of(&[1, 4, 128]),
        end: maker.rng.of(&[
            End::Shutdown,
            End::Shutdown,
            End::Awaited,
            End::Awaited,
            End::Now,
            End::Drop,
            End::HalfWay,
        ]),
        clear_first: maker.rng.one_in(2),
        threads: scripts,
        hook: if maker.rng.one_in(4) { maker.script(0, 2) } else { Vec::new() },
    }
}

struct Maker<'a> {
    rng: &'a mut Rng,
}

impl Maker<'_> {
    /// Makes up to `most` steps. The scripts of the steps nest at most `depth` levels.
    fn script(&mut self, depth: u8, most: u64) -> Script {
        let steps = self.rng.below(most + 1);
        (0..steps).map(|_| self.op(depth)).collect()
    }

    fn inner(&mut self, depth: u8) -> Script {
        if depth == 0 || self.rng.one_in(3) { Vec::new() } else { self.script(depth - 1, 3) }
    }

    fn letter(&mut self, depth: u8) -> Letter {
        Letter {
            handle: self.inner(depth),
            on_drop: if self.rng.one_in(8) { self.inner(depth) } else { Vec::new() },
            keep: self.rng.one_in(8),
        }
    }

    fn life(&mut self, depth: u8) -> Life {
        let rarely =
            |maker: &mut Self| if maker.rng.one_in(5) { maker.inner(depth) } else { Vec::new() };
        Life { started: rarely(self), stopped: rarely(self), on_drop: rarely(self) }
    }

    fn slot(&mut self) -> u8 {
        self.rng.below(SLOTS) as u8
    }

    fn spawn(&mut self, depth: u8) -> Op {
        let way = self.rng.of(&[
            Way::Plain,
            Way::Plain,
            Way::Plain,
            Way::OnWorker,
            Way::Timed,
            Way::Dedicated,
        ]);
        Op::Spawn {
            slot: self.slot(),
            way,
            capacity: 1 + self.rng.below(4) as u8,
            life: self.life(depth),
        }
    }

    fn directory(&mut self) -> Op {
        Op::Directory {
            idle: self.rng.one_in(2),
            limit: self.rng.of(&[0, 1, 2]),
            life: self.life(1),
        }
    }

    fn route(&mut self) -> Route {
        self.rng.of(&[
            Route::RoundRobin,
            Route::Queue,
            Route::Key,
            Route::Loaded,
            Route::Index,
            Route::Own,
        ])
    }

    fn micros(&mut self) -> u16 {
        self.rng.of(&[0, 1, 50, 300, 2000, 60_000])
    }

    fn op(&mut self, depth: u8) -> Op {
        let (slot, number) = (self.slot(), self.rng.below(4) as u8);
        match self.rng.below(96) {
            0..7 => self.spawn(depth),
            7 => Op::Detach(slot),
            8..11 => Op::Clear(slot),
            11 => Op::Weaken(slot),
            12 => Op::Upgrade(slot),
            13..25 => Op::Tell(
                slot,
                self.rng.of(&[Form::Plain, Form::Boxed, Form::Batched]),
                self.letter(depth),
            ),
            25..27 => Op::TellMany(slot, 1 + self.rng.below(20) as u8, self.letter(depth.min(1))),
            27..31 => Op::Ask(slot, self.letter(depth)),
            31 => Op::AskBy(slot, self.letter(depth)),
            32..35 => Op::AskWait(slot, self.letter(depth)),
            35..39 => Op::AskThen(slot, self.letter(depth), self.inner(depth)),
            39..41 => Op::Again(self.letter(depth)),
            41..44 => Op::WhenRoom(slot, self.letter(depth)),
            44..46 => Op::Send(slot, self.letter(depth)),
            46 => Op::SendTimeout(slot, self.letter(depth)),
            47..50 => Op::SendAsync(slot, self.letter(depth), self.inner(depth)),
            50..53 => Op::Poll(self.inner(depth)),
            53..56 => Op::Forget(number),
            56..58 => Op::Reply(self.rng.one_in(2)),
            58 => Op::Stop(slot),
            59 => Op::StopNow(slot),
            60 => Op::StopSelf,
            61 => Op::StopAndWait(slot),
            62 => Op::AwaitStopped(slot),
            63 => Op::AwaitIdle,
            64 => Op::WaitIdle,
            65..68 => Op::After { slot, micros: self.micros(), letter: self.letter(depth) },
            68 => Op::OwnAfter { micros: self.micros(), letter: self.letter(depth) },
            69 => Op::Every {
                slot,
                micros: 50 + self.micros(),
                rate: self.rng.one_in(2),
                letter: self.letter(depth.min(1)),
            },
            70..72 => Op::Cancel,
            72 => Op::DetachTimer,
            73..76 => Op::Blocking(self.inner(depth)),
            76 => Op::Spin(number),
            77 => Op::Pool {
                replicas: 1 + number,
                capacity: 1 + number,
                life: self.life(depth.min(1)),
            },
            78..81 => Op::PoolTell(self.route(), self.letter(depth)),
            81 => Op::PoolAsk(self.route(), self.letter(depth)),
            82 => Op::PoolSend(self.route(), self.letter(depth)),
            83 => Op::PoolSendAsync(self.route(), self.letter(depth)),
            84 => Op::Broadcast(self.letter(depth.min(1))),
            85 => Op::Resize(1 + number),
            86 if self.rng.of(&[0, 1, 2]).eq(&0) => Op::PoolDrop,
            86 => Op::PoolStop(number == 0),
            87 => self.directory(),
            88..90 => Op::KeyTell(number, self.letter(depth)),
            90 => Op::KeyAsk(number, self.letter(depth)),
            91 => Op::KeySpawn(number, self.life(depth.min(1))),
            92 => Op::Passivate(number),
            93 if self.rng.one_in(3) => Op::DirectoryDrop,
            93 => Op::Look,
            94 => Op::Look,
            _ => Op::Panic(number),
        }
    }
}
