//! Tests the matrix of user code: every place where heist calls user code, combined with everything
//! that user code may do there.
//!
//! Each case has an executor of two workers, sets a trap at its place, and springs the trap. User
//! code then performs the act at the place. Nothing may crash or hang. Where the act blocks,
//! everything else must go on. A prober does all that outside threads may do, and the act continues
//! only when the prober has finished. Each case ends with a complete shutdown, balanced accounts,
//! every payload dropped once, and no thread left.
//!
//! The cases of one place run in a child process, so that a crash or a hang fails one case by name.
//! A case in [`KNOWN`] fails with the present code. A known case that passes is an error.
//!
//! ```text
//! cargo test --test user_code                           # all cases
//! cargo test --test user_code -- waker                  # places whose name contains `waker`
//! cargo test --test user_code -- stopped/block          # one case
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `HEIST_MATRIX_PATIENCE` | seconds after which a case hangs (default 20, known cases 1) |
//! | `HEIST_MATRIX_JOBS` | child processes at a time (default 6) |
//! | `HEIST_MATRIX_STACKS` | if set, `gdb` prints the stacks of a case that hangs |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that reports")]
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, reason = "a test")]

mod acts;
mod known;
mod places;
mod rig;

use acts::{Act, is_planned};
use known::KNOWN;
use rig::{Outcome, Rig};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio, exit};
use std::sync::Arc;
use std::time::Duration;

/// A place: its name, and the function that leads user code there.
pub type Place = (&'static str, fn(&Rig) -> Outcome);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

fn known(case: &str) -> bool {
    KNOWN.iter().any(|known| covers(known, case))
}

/// Returns `true` if the entry `known`, which may end in `/*`, covers `case`.
fn covers(known: &str, case: &str) -> bool {
    known.strip_suffix('*').map_or(known == case, |place| case.starts_with(place))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return println!("user_code: test");
    }
    if let [word, place, acts] = &arguments[..]
        && word == "--child"
    {
        return child(place, acts);
    }
    let filters: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |case: &str| {
        filters.is_empty() || filters.iter().any(|filter| case.contains(filter.as_str()))
    };
    let mut work: Vec<(&'static str, Vec<&'static str>)> = Vec::new();
    for (place, _) in places::all() {
        let of_place = Act::ALL.iter().map(|act| act.name());
        let acts: Vec<_> = of_place.filter(|act| wanted(&format!("{place}/{act}"))).collect();
        if !acts.is_empty() {
            work.push((place, acts));
        }
    }
    work.reverse();
    let work = Arc::new(parking_lot::Mutex::new(work));
    let reports = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let jobs: Vec<_> = (0..number("HEIST_MATRIX_JOBS").unwrap_or(6))
        .map(|_| {
            let (work, reports) = (Arc::clone(&work), Arc::clone(&reports));
            std::thread::spawn(move || {
                loop {
                    let next = work.lock().pop();
                    let Some((place, acts)) = next else { return };
                    let results = parent(place, &acts);
                    for (case, result) in &results {
                        if let Err(why) = result {
                            println!(
                                "user_code: {case}: {why}{}",
                                if known(case) { " (known)" } else { "" }
                            );
                        }
                    }
                    reports.lock().extend(results);
                }
            })
        })
        .collect();
    jobs.into_iter().for_each(|job| job.join().expect("no panic"));
    let reports = std::mem::take(&mut *reports.lock());
    conclude(&reports, filters.is_empty());
}

/// Prints the results and exits with the corresponding status.
fn conclude(reports: &[(String, Result<bool, String>)], complete: bool) {
    let (mut passed, mut skipped, mut known_ones, mut wrong) = (0, 0, 0, 0);
    for (case, result) in reports {
        match result {
            Ok(true) if known(case) => {
                wrong += 1;
                println!("user_code: {case} passes: remove it from KNOWN");
            }
            Ok(true) => passed += 1,
            Ok(false) => skipped += 1,
            Err(_) if known(case) => known_ones += 1,
            Err(_) => wrong += 1,
        }
    }
    if complete {
        for case in KNOWN.iter().filter(|case| !reports.iter().any(|(name, _)| covers(case, name)))
        {
            wrong += 1;
            println!("user_code: {case} in KNOWN is no case");
        }
    }
    println!(
        "user_code: {skipped} cases do not exist at their place, {known_ones} are known to fail"
    );
    println!(
        "test result: {}. {passed} passed; {wrong} failed",
        if wrong == 0 { "ok" } else { "FAILED" }
    );
    exit(i32::from(wrong > 0));
}

/// Runs the cases of one place in child processes, with a new child after each that died.
fn parent(place: &'static str, acts: &[&'static str]) -> Vec<(String, Result<bool, String>)> {
    let mut results = Vec::new();
    let mut rest = acts;
    while !rest.is_empty() {
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .args(["--child", place, &rest.join(",")])
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("a child process");
        let mut begun = None;
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            let line = line.expect("text");
            let (word, tail) = line.split_once(' ').unwrap_or((&line, ""));
            let (case, why) = tail.split_once(": ").unwrap_or((tail, ""));
            let result = match word {
                "BEGIN" => {
                    begun = Some(case.to_string());
                    continue;
                }
                "PASS" => Ok(true),
                "SKIP" => Ok(false),
                "FAIL" | "HANG" => Err(format!("{word} {why}")),
                _ => {
                    println!("  {line}");
                    continue;
                }
            };
            begun = None;
            results.push((case.to_string(), result));
        }
        let status = child.wait().expect("its end");
        if let Some(case) = begun {
            results.push((case, Err(format!("the process died: {status}"))));
        } else if !status.success() && results.last().is_none_or(|(_, result)| result.is_ok()) {
            // A sanitizer reports leaks when the process ends.
            results
                .push((format!("{place}/at the end"), Err(format!("the process died: {status}"))));
        }
        rest = &acts[results.len().min(acts.len())..];
    }
    results
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", line.replace('\n', " | "));
    let _ = out.flush();
}

/// Runs cases one after another, each with a watchdog. A failed case ends the process, because it
/// may have left anything behind.
fn child(place: &str, acts: &str) {
    std::panic::set_hook(Box::new(|info| {
        if !is_planned(info.payload()) {
            eprintln!("user_code: {info}");
        }
    }));
    let (name, run) = places::all().into_iter().find(|(name, _)| *name == place).expect("a place");
    for act in acts.split(',').map(Act::named) {
        let case = format!("{name}/{}", act.name());
        say(&format!("BEGIN {case}"));
        let watched = case.clone();
        let patience = number("HEIST_MATRIX_PATIENCE").unwrap_or(if known(&case) { 1 } else { 20 });
        let (over, ended) = crossbeam_channel::bounded::<()>(0);
        let watchdog = std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_secs(patience))
                == Err(crossbeam_channel::RecvTimeoutError::Timeout)
            {
                stacks();
                say(&format!("HANG {watched}: nothing for {patience} s"));
                exit_now();
            }
        });
        let result = std::thread::spawn(move || {
            let rig = Rig::new(act);
            let outcome = run(&rig);
            rig.finish(&outcome);
            outcome
        });
        match result.join() {
            Ok(Outcome::Done) => say(&format!("PASS {case}")),
            Ok(Outcome::Skip(why)) => say(&format!("SKIP {case}: {why}")),
            Err(payload) => {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or(payload.downcast_ref::<&str>().map(ToString::to_string));
                say(&format!("FAIL {case}: {}", text.unwrap_or_default()));
                exit_now();
            }
        }
        drop(over);
        watchdog.join().expect("the watchdog ends");
    }
}

fn stacks() {
    if std::env::var_os("HEIST_MATRIX_STACKS").is_some() {
        let process = std::process::id().to_string();
        let gdb = ["-p", &process, "-batch", "-ex", "thread apply all bt 24"];
        let _ = Command::new("gdb").args(gdb).stdout(std::io::stderr()).status();
    }
}

/// Exits without running destructors, because a failed or hanging case may hold any lock.
fn exit_now() -> ! {
    #[cfg(target_os = "linux")]
    // SAFETY: `_exit` ends the process without touching any memory of this program.
    unsafe {
        libc::_exit(97)
    }
    #[cfg(not(target_os = "linux"))]
    std::process::abort()
}
