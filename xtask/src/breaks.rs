//! Breaks the code in many ways, at least one for each promise, and checks that the tests notice
//! each break. Works on a copy of the tree.
//!
//! Each break is a file in `scripts/breaks`. Its first lines are `test:` (the arguments for `cargo
//! test`), `file:` (the file to edit) and optionally `times:` (how often to try, where the failure
//! depends on timing). The old text follows a line `--- old`, and the new text follows a line `---
//! new`. A run fails if a break no longer applies or if no test notices it. `--check` only applies
//! the breaks.

use crate::copy::{Copy, read};
use crate::run::{self, Failure, command, root, say};
use std::process::Command;

/// Seconds after which a test counts as hanging, which is noticed.
const LONGEST: &str = "120";

struct Break {
    test: String,
    file: String,
    times: usize,
    /// The file's text without and with the break.
    whole: String,
    broken: String,
}

impl Break {
    fn parse(text: &str) -> Result<Self, String> {
        let (head, change) = text.split_once("--- old\n").ok_or("has no line `--- old`")?;
        let (old, new) = change.split_once("--- new\n").ok_or("has no line `--- new`")?;
        let field =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let (test, file) =
            (field("test: ").ok_or("names no test")?, field("file: ").ok_or("names no file")?);
        let times =
            field("times: ").map_or(Ok(1), |times| times.parse()).map_err(|_| "times: a number")?;
        let whole = read(&file).map_err(|_| format!("there is no {file}"))?;
        match whole.matches(old).count() {
            0 => return Err(format!("no longer applies to {file}")),
            1 => {}
            more => return Err(format!("the old text stands {more} times in {file}")),
        }
        let broken = whole.replacen(old, new, 1);
        Ok(Break { test, file, times, whole, broken })
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let check = arguments.first().is_some_and(|first| first == "--check");
    let only = match &arguments[usize::from(check)..] {
        [] => "",
        [prefix] => prefix,
        [_, second, ..] => {
            return Err(Failure::Usage(format!("one prefix at a time; the second is {second}")));
        }
    };
    let copy = Copy::new("breaks")?;
    if !check {
        // Written once, so that cargo compiles a break's file and what depends on it, and no more.
        let files = command("git").args(["ls-files", "-z"]).output()?;
        files
            .split_terminator('\0')
            .filter(|path| root().join(path).exists())
            .try_for_each(|path| copy.copy(path))?;
    }
    let (mut noticed, mut survived, mut stale) = (0, 0, 0);
    for path in run::files(&root().join("scripts/breaks"))? {
        let name = path.file_name().expect("it is in a folder").to_string_lossy().into_owned();
        if !name.starts_with(only) {
            continue;
        }
        let outcome = match Break::parse(&read(&path)?) {
            Ok(_) if check => {
                noticed += 1;
                continue;
            }
            Ok(this) => {
                copy.write(&this.file, &this.broken)?;
                let outcome = outcome(&copy, &this)?;
                copy.write(&this.file, &this.whole)?;
                outcome
            }
            Err(error) => Outcome::Stale(error),
        };
        let text = match outcome {
            Outcome::Noticed(test) => {
                noticed += 1;
                format!("noticed by: cargo test {test}")
            }
            Outcome::Survived(test) => {
                survived += 1;
                format!("SURVIVED: cargo test {test}")
            }
            Outcome::Stale(error) => {
                stale += 1;
                format!("STALE: {error}")
            }
        };
        say(&format!("{name:<44} {text}\n"));
    }
    let verb = if check { "apply" } else { "noticed" };
    say(&format!("{noticed} {verb}, {survived} survived, {stale} stale\n"));
    if survived == 0 && stale == 0 && noticed > 0 {
        Ok(())
    } else {
        Err(Failure::Check("breaks: see above".into()))
    }
}

enum Outcome {
    Noticed(String),
    Survived(String),
    Stale(String),
}

fn outcome(copy: &Copy, this: &Break) -> Result<Outcome, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target/breaks"), Into::into);
    let seconds = std::env::var("HEIST_WATCHDOG_SECS").unwrap_or_else(|_| "20".into());
    let passes = |limit: &str, first: &[&str]| {
        let mut command = Command::new("timeout");
        command
            .arg(limit)
            .arg(&cargo)
            .args(["test", "--quiet"])
            .args(first)
            .args(this.test.split_whitespace());
        command
            .current_dir(copy.path())
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_TERM_COLOR", "never");
        command.env("HEIST_WATCHDOG_SECS", &seconds);
        let output =
            command.output().map_err(|error| Failure::Check(format!("{command:?}: {error}")))?;
        Ok::<bool, Failure>(output.status.success())
    };
    if !passes("3600", &["--no-run"])? {
        return Ok(Outcome::Stale("does not compile".into()));
    }
    for _ in 0..this.times {
        if !passes(LONGEST, &[])? {
            return Ok(Outcome::Noticed(this.test.clone()));
        }
    }
    Ok(Outcome::Survived(this.test.clone()))
}
