//! Tests programs that must not compile, next to programs that must.
//!
//! Each program of `tests/compile_fail` is compiled against this build of the crate. A line that
//! ends in `//~ E0308` must have an error of that code, and no other line may have an error. A text
//! behind the code must begin the error's message. The compiler's own messages are not compared,
//! because they name private fields and change with each compiler.
#![cfg(not(any(heist_loom, heist_chaos, heist_steps, heist_plain_memory)))]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines, each with the code of its error, if it has one, and the message.
type Errors = BTreeSet<(usize, String)>;

/// Returns the directory of this test's executable, which also holds the crate and its
/// dependencies.
fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

/// Returns the most recent build of the crate.
fn heist() -> PathBuf {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libheist-") && name.ends_with(".rlib")
    };
    let built =
        fs::read_dir(libraries()).unwrap().map(|entry| entry.unwrap().path()).filter(is_ours);
    let newest = built.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    newest.expect("the crate was built for this test")
}

/// Runs the compiler on a program. Returns `true` if the program compiles, and what the compiler
/// says in this format.
fn compile(program: &Path, format: &str) -> (bool, String) {
    let mut dependencies = std::ffi::OsString::from("dependency=");
    dependencies.push(libraries());
    let mut heist_is = std::ffi::OsString::from("heist=");
    heist_is.push(heist());
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "-Awarnings"])
        .arg(format!("--error-format={format}"))
        .arg("-L")
        .arg(dependencies)
        .arg("--extern")
        .arg(heist_is)
        .arg("-o")
        .arg(std::env::temp_dir().join(format!("heist-compile-fail-{}.rmeta", std::process::id())))
        .arg(program)
        .output()
        .expect("the compiler that built this test is there");
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns the errors that the compiler reports for a program.
fn found(program: &Path) -> Errors {
    let (compiles, text) = compile(program, "short");
    // The format is `path:line:column: error[E0308]: …`, and without brackets for lints.
    let errors: Errors = text
        .lines()
        .filter_map(|line| {
            let (place, rest) = line.split_once(": error")?;
            let line = place.rsplit(':').nth(1)?.parse().ok()?;
            let message = rest.trim_start_matches(['[', ':', ' ']).replacen("]: ", " ", 1);
            Some((line, message))
        })
        .collect();
    assert_eq!(compiles, errors.is_empty(), "{}: {text}", program.display());
    errors
}

/// Returns the errors that a program announces.
fn expected(program: &Path) -> Errors {
    let text = fs::read_to_string(program).unwrap();
    let lines = text.lines().enumerate();
    lines.filter_map(|(i, line)| Some((i + 1, line.split_once("//~ ")?.1.to_string()))).collect()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail").join(name)
}

#[track_caller]
fn check(name: &str, at_least: usize) {
    let expected = expected(&path(name));
    assert!(expected.len() >= at_least, "{name} expects {} errors", expected.len());
    let found = found(&path(name));
    let fits = |(line, text): &(usize, String), (at, message): &(usize, String)| {
        line == at && message.starts_with(text.as_str())
    };
    let missing: Vec<_> =
        expected.iter().filter(|one| !found.iter().any(|other| fits(one, other))).collect();
    let unexpected: Vec<_> =
        found.iter().filter(|one| !expected.iter().any(|other| fits(other, one))).collect();
    assert!(
        missing.is_empty() && unexpected.is_empty(),
        "{name}: not {missing:?}, but {unexpected:?}"
    );
}

/// A handle to a value that was made by type must agree on the type exactly. See `src/variance.rs`.
#[test]
fn handles_are_invariant_in_their_types() {
    check("wider.rs", 25);
    check("narrower.rs", 25);
    check("batch_of_another_type.rs", 1);
}

#[test]
fn what_belongs_to_a_thread_stays_there() {
    check("not_send.rs", 9);
    check("not_sync.rs", 6);
}

/// Shows that the programs above fail only for the reasons that they name.
#[test]
fn what_owns_values_varies_and_handles_are_send_and_sync() {
    check("must_compile.rs", 0);
}

/// The errors of bad input name the remedy.
#[test]
fn what_is_no_handler_gets_a_remedy() {
    check("no_handler.rs", 10);
    let (_, text) = compile(&path("no_handler.rs"), "human");
    for remedy in [
        "`Account` has no handler for `Withdraw`",
        "note: write `impl Handler<Withdraw> for Account`",
        "expected `u64`, found future",
        "note: write `impl Actor for Plain {}`",
        "`ByKey(key)`",
    ] {
        assert!(text.contains(remedy), "{remedy} is not in: {text}");
    }
}

#[test]
fn what_ends_something_when_it_is_dropped_is_not_dropped_unseen() {
    check("unused.rs", 16);
}
