//! Shows that each atomic ordering, fence and re-check of the protocols is needed: weakens one
//! after another in a copy of the crate, and runs the loom model that must then fail.
//!
//! Edits that no model notices are expected to pass, and say why. A run fails if an edit does not
//! apply or compile, or if a model does not do what is expected. `--check` only applies the edits.

use crate::copy::{Copy, Texts, read};
use crate::edit;
use crate::run::{self, Failure, root, say};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Instant;

/// Seconds after which a model counts as hanging.
const LONGEST: &str = "300";

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let check = arguments.first().is_some_and(|first| first == "--check");
    let only = match &arguments[usize::from(check)..] {
        [] => "",
        [name] => name,
        [_, second, ..] => {
            return Err(Failure::Usage(format!("one name at a time; the second is {second}")));
        }
    };
    let began = Instant::now();
    let mut edits = Vec::new();
    for path in run::files(&root().join("scripts/orderings"))? {
        let group = path.file_name().expect("it is in a folder").to_string_lossy();
        edits.extend(edit::parse(&group, &read(&path)?).map_err(Failure::Check)?);
    }
    edits.retain(|edit| edit.name.contains(only));
    let sources = sources()?;
    let copy = if check { None } else { Some(copy_of(&sources)?) };
    if let Some(copy) = &copy {
        let models: BTreeSet<&str> = edits.iter().map(|edit| &*edit.models).collect();
        for models in models {
            let outcome = outcome_of(copy, models)?;
            say(&format!("unchanged: {models} {outcome}\n"));
            if outcome != "passes" {
                return Err(Failure::Check(format!("weaken: {models} does not pass as it is")));
            }
        }
    }
    let mut bad = 0;
    for edit in &edits {
        let mut changed = sources.clone();
        let outcome = match (edit::apply(edit, &mut changed), &copy) {
            (Err(error), _) => error,
            (Ok(()), None) => continue,
            (Ok(()), Some(copy)) => {
                copy.replace(&sources, &changed)?;
                let outcome = outcome_of(copy, &edit.models)?.to_owned();
                copy.replace(&changed, &sources)?;
                outcome
            }
        };
        let verdict = if outcome == edit.expected { "ok" } else { "BAD" };
        bad += usize::from(outcome != edit.expected);
        say(&format!("{verdict:<4} {:<62} {:<12} {outcome}\n", edit.name, edit.models));
    }
    let seconds = began.elapsed().as_secs();
    say(&format!("{} tried, {bad} not as listed, {seconds} s\n", edits.len()));
    if bad == 0 && !edits.is_empty() {
        Ok(())
    } else {
        Err(Failure::Check("weaken: see above".into()))
    }
}

/// Returns the texts of the crate, by their paths from the root: sources, and pages that they
/// include.
fn sources() -> Result<Texts, Failure> {
    let mut found = Texts::new();
    let mut folders = vec![root().join("src"), root().join("docs")];
    while let Some(folder) = folders.pop() {
        for path in run::files(&folder)? {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(root())
                    .expect("it is below the root")
                    .to_string_lossy()
                    .into_owned();
                found.insert(name, read(&path)?);
            }
        }
    }
    Ok(found)
}

/// Makes a copy of the crate alone.
fn copy_of(sources: &Texts) -> Result<Copy, Failure> {
    let copy = Copy::new("weaken")?;
    copy.write("Cargo.toml", &alone(&read("Cargo.toml")?))?;
    copy.copy("Cargo.lock")?;
    copy.copy("README.md")?;
    copy.replace(&Texts::new(), sources)?;
    Ok(copy)
}

/// Returns what the models do: "fails", "passes", "hangs", "names no model" or "does not compile".
fn outcome_of(copy: &Copy, models: &str) -> Result<&'static str, Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = std::env::var_os("WEAKEN_TARGET_DIR")
        .map_or_else(|| copy.path().join("target"), Into::into);
    let test = |last: &str| {
        let mut command = Command::new("timeout");
        command.arg(if last == "--no-run" { "3600" } else { LONGEST }).arg(&cargo);
        command.args(["test", "--release", "--lib", "--quiet", last]).current_dir(copy.path());
        command.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", "--cfg heist_loom");
        command
            .env("CARGO_TERM_COLOR", "never")
            .env("LOOM_MAX_PREEMPTIONS", "3")
            .env("RUST_BACKTRACE", "0");
        command.env("CARGO_INCREMENTAL", "1").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2");
        command.output().map_err(|error| Failure::Check(format!("{command:?}: {error}")))
    };
    let build = test("--no-run")?;
    if !build.status.success() {
        run::complain(&String::from_utf8_lossy(&build.stderr));
        return Ok("does not compile");
    }
    let output = test(&format!("models::{models}"))?;
    Ok(match output.status.code() {
        Some(0) if String::from_utf8_lossy(&output.stdout).contains(" 0 passed") => {
            "names no model"
        }
        Some(0) => "passes",
        Some(124) => "hangs",
        _ => "fails",
    })
}

/// Returns the manifest without other targets, their dependencies and other packages.
fn alone(manifest: &str) -> String {
    let mut kept = true;
    let mut text = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            let header = line.split('#').next().unwrap_or_default().trim_end();
            kept = !(header.starts_with("[[")
                || ["[dev-dependencies]", "[workspace]"].contains(&header));
        }
        if kept {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}
