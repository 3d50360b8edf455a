//! Runs the checks of heist: `cargo xtask help` lists them.
//!
//! Each command runs from the root of the repository, and ends at the first failure with exit code
//! 1. Exit code 2 means a wrong command line.

mod breaks;
mod copy;
mod edit;
mod package;
mod run;
mod weaken;

use run::{Failure, cargo, command, installed, root};
use std::process::ExitCode;

const HELP: &str = "\
The checks of heist. CONTRIBUTING.md says how long each of them takes.

Usage: cargo xtask COMMAND [ARGUMENTS]

  ci                    everything that must hold before a change lands: .ci/run
  test [ARGUMENTS]      the tests: cargo test
  features              each feature alone and none
  loom [MODEL]          the loom models, or those whose path has MODEL
  breaks [PREFIX]       the tests notice each broken promise; --check: each still applies
  weaken [NAME]         the models notice each weakened ordering; --check: each still applies
  instructions          counts instructions on the hot paths; --renew writes the table
  sanitize [KIND]...    thread, address, poison, leak, memcheck
  soak [MINUTES]        the long tests
  package               what cargo would publish: its files and its size
  tools                 cargo-deny, typos and shellcheck, as far as they are installed
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = match arguments.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("help", &[][..]),
    };
    let outcome = match name {
        "ci" => command("bash").arg(".ci/run").args(rest).run(),
        "test" => cargo("test").args(rest).run(),
        "features" => takes_none(rest).and_then(|()| features()),
        "loom" => loom(rest),
        "breaks" => breaks::run(rest),
        "weaken" => weaken::run(rest),
        "instructions" => script("instructions.sh", rest),
        "sanitize" => script("sanitize.sh", rest),
        "soak" => script("soak.sh", rest),
        "package" => takes_none(rest).and_then(|()| package::check()),
        "tools" => takes_none(rest).and_then(|()| tools()),
        "help" | "--help" | "-h" => {
            run::say(HELP);
            Ok(())
        }
        other => Err(Failure::Usage(format!("no such command: {other}\n\n{HELP}"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(text)) => {
            run::complain(&text);
            ExitCode::from(2)
        }
        Err(Failure::Check(text)) => {
            run::complain(&text);
            ExitCode::FAILURE
        }
    }
}

fn takes_none(arguments: &[String]) -> Result<(), Failure> {
    match arguments.first() {
        Some(first) => Err(Failure::Usage(format!("not an argument of this command: {first}"))),
        None => Ok(()),
    }
}

fn script(name: &str, arguments: &[String]) -> Result<(), Failure> {
    command(root().join("scripts").join(name)).args(arguments).run()
}

/// Lints the crate with each feature alone and with none, and runs some tests with none.
///
/// The crate is named, because the other packages of the workspace need all features, and cargo
/// builds a crate once for all that it builds together.
fn features() -> Result<(), Failure> {
    for feature in ["directory", "pool", "timing", ""] {
        run::say(&format!("features: {}\n", if feature.is_empty() { "none" } else { feature }));
        cargo("clippy")
            .args(["--package", "heist", "--all-targets", "--quiet", "--no-default-features"])
            .args(["--features", feature, "--", "-D", "warnings"])
            .run()?;
    }
    cargo("test")
        .args(["--package", "heist", "--no-default-features", "--quiet", "--lib"])
        .args(["--test", "p01_one_at_a_time", "--test", "p03_accounted_for"])
        .run()
}

fn loom(arguments: &[String]) -> Result<(), Failure> {
    let filter = match arguments {
        [] => "models".to_owned(),
        [model] => format!("models::{model}"),
        [_, second, ..] => {
            return Err(Failure::Usage(format!("one model at a time; the second is {second}")));
        }
    };
    cargo("test")
        .args(["--package", "heist", "--release", "--lib", &filter])
        .env("RUSTFLAGS", "--cfg heist_loom")
        .env("CARGO_TARGET_DIR", "target/loom")
        .env("LOOM_MAX_PREEMPTIONS", "3")
        .run()
}

/// Runs the tools that the machine has. Their absence is no failure, since cargo does not bring
/// them.
fn tools() -> Result<(), Failure> {
    if installed("cargo-deny") {
        cargo("deny").args(["check", "bans", "licenses", "sources"]).run()?;
    }
    if installed("typos") {
        command("typos").run()?;
    }
    if installed("shellcheck") {
        let mut scripts = vec![root().join(".ci/run")];
        scripts.extend(
            run::files(&root().join("scripts"))?
                .into_iter()
                .filter(|path| path.extension().is_some_and(|extension| extension == "sh")),
        );
        command("shellcheck").args(scripts).run()?;
    }
    Ok(())
}
