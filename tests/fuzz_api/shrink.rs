//! Shrinks a failing program: removes steps while the rest still fails in at least one of many
//! runs.

use crate::program::{Op, Program, Script, generate};
use std::process::{Command, Stdio};

/// Numbers the steps of a script and of all nested scripts, and removes the steps in `without`.
fn steps(script: &mut Script, next: &mut usize, without: &[usize]) {
    script.retain_mut(|op| {
        let number = *next;
        *next += 1;
        for inner in scripts_of(op) {
            steps(inner, next, without);
        }
        !without.contains(&number)
    });
}

fn scripts_of(op: &mut Op) -> Vec<&mut Script> {
    match op {
        Op::Spawn { life, .. }
        | Op::Pool { life, .. }
        | Op::Directory { life, .. }
        | Op::KeySpawn(_, life) => {
            vec![&mut life.started, &mut life.stopped, &mut life.on_drop]
        }
        Op::Tell(_, _, letter)
        | Op::TellMany(_, _, letter)
        | Op::Ask(_, letter)
        | Op::AskBy(_, letter)
        | Op::AskWait(_, letter)
        | Op::Again(letter)
        | Op::WhenRoom(_, letter)
        | Op::Send(_, letter)
        | Op::SendTimeout(_, letter)
        | Op::After { letter, .. }
        | Op::OwnAfter { letter, .. }
        | Op::Every { letter, .. }
        | Op::PoolTell(_, letter)
        | Op::PoolAsk(_, letter)
        | Op::PoolSend(_, letter)
        | Op::PoolSendAsync(_, letter)
        | Op::Broadcast(letter)
        | Op::KeyTell(_, letter)
        | Op::KeyAsk(_, letter) => vec![&mut letter.handle, &mut letter.on_drop],
        Op::AskThen(_, letter, script) | Op::SendAsync(_, letter, script) => {
            vec![&mut letter.handle, &mut letter.on_drop, script]
        }
        Op::Poll(script) | Op::Blocking(script) => vec![script],
        _ => Vec::new(),
    }
}

/// Removes the steps with the given numbers, counted in program order. Returns the number of steps
/// in the whole program.
pub fn leave_out(program: &mut Program, without: &[usize]) -> usize {
    let mut next = 0;
    for script in program.threads.iter_mut().chain([&mut program.hook]) {
        steps(script, &mut next, without);
    }
    next
}

pub fn from_environment() -> Vec<usize> {
    let text = std::env::var("HEIST_FUZZ_WITHOUT").unwrap_or_default();
    text.split(',').filter_map(|number| number.parse().ok()).collect()
}

/// Returns `true` if the program without the given steps fails in at least one of 300 runs.
fn fails(seed: u64, without: &[usize]) -> bool {
    let list: Vec<String> = without.iter().map(ToString::to_string).collect();
    let status = Command::new(std::env::current_exe().expect("a path"))
        .env_remove("HEIST_FUZZ_SHRINK")
        .env("HEIST_FUZZ_CHILD", "1")
        .env("HEIST_FUZZ_SEED", seed.to_string())
        .env("HEIST_FUZZ_PROGRAMS", "1")
        .env("HEIST_FUZZ_REPEAT", "300")
        .env("HEIST_FUZZ_PATIENCE", "2")
        .env("HEIST_FUZZ_WITHOUT", list.join(","))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    !status.expect("a child process").success()
}

pub fn shrink(seed: u64) {
    let total = leave_out(&mut generate(seed), &[]);
    let mut without = Vec::new();
    if !fails(seed, &without) {
        return println!("fuzz: seed {seed} does not fail in 300 runs");
    }
    for number in (0..total).rev() {
        without.push(number);
        if !fails(seed, &without) {
            without.pop();
        }
    }
    let mut program = generate(seed);
    leave_out(&mut program, &without);
    let list: Vec<String> = without.iter().map(ToString::to_string).collect();
    println!("{program:#?}");
    println!(
        "fuzz: HEIST_FUZZ_SEED={seed} HEIST_FUZZ_PROGRAMS=1 HEIST_FUZZ_WITHOUT={}",
        list.join(",")
    );
}
