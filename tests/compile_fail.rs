//! What must not compile, and beside it what must.
//!
//! Each program of `tests/compile_fail` is given to the compiler with this build of the crate. A line that ends in
//! `//~ E0308` must have an error of that code, and no other line may have one. The compiler's words are not compared: they
//! name private fields, and change with each compiler.
#![cfg(not(any(heist_loom, heist_chaos, heist_steps, heist_plain_memory)))]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A line and the code of its error.
type Errors = BTreeSet<(usize, String)>;

/// The directory of this test's own program, in which the crate and its dependencies lie too.
fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

/// The crate as it was built last.
fn heist() -> PathBuf {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libheist-") && name.ends_with(".rlib")
    };
    let built = fs::read_dir(libraries()).unwrap().map(|entry| entry.unwrap().path()).filter(is_ours);
    let newest = built.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    newest.expect("the crate was built for this test")
}

/// The errors that the compiler finds in a program.
fn found(program: &Path) -> Errors {
    let mut dependencies = std::ffi::OsString::from("dependency=");
    dependencies.push(libraries());
    let mut heist_is = std::ffi::OsString::from("heist=");
    heist_is.push(heist());
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--error-format=short", "-Awarnings"])
        .arg("-L")
        .arg(dependencies)
        .arg("--extern")
        .arg(heist_is)
        .arg("-o")
        .arg(std::env::temp_dir().join(format!("heist-compile-fail-{}.rmeta", std::process::id())))
        .arg(program)
        .output()
        .expect("the compiler that built this test is there");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // `path:line:column: error[E0308]: …`
    let errors: Errors = text
        .lines()
        .filter_map(|line| {
            let (place, rest) = line.split_once(": error[")?;
            let line = place.rsplit(':').nth(1)?.parse().ok()?;
            Some((line, rest.split(']').next()?.to_string()))
        })
        .collect();
    assert_eq!(output.status.success(), errors.is_empty(), "{}: {text}", program.display());
    errors
}

/// The errors that a program says it has.
fn expected(program: &Path) -> Errors {
    let text = fs::read_to_string(program).unwrap();
    let lines = text.lines().enumerate();
    lines.filter_map(|(i, line)| Some((i + 1, line.split_once("//~ ")?.1.to_string()))).collect()
}

#[track_caller]
fn check(name: &str, at_least: usize) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail").join(name);
    let expected = expected(&program);
    assert!(expected.len() >= at_least, "{name} expects {} errors", expected.len());
    let found = found(&program);
    let missing: Vec<_> = expected.difference(&found).collect();
    let unexpected: Vec<_> = found.difference(&expected).collect();
    assert!(missing.is_empty() && unexpected.is_empty(), "{name}: not {missing:?}, but {unexpected:?}");
}

/// A handle to what was made by type agrees on the type exactly: see `src/variance.rs`.
#[test]
fn handles_are_invariant_in_their_types() {
    check("wider.rs", 25);
    check("narrower.rs", 25);
    check("batch_of_another_type.rs", 1);
}

#[test]
fn what_belongs_to_a_thread_stays_there() {
    check("not_send.rs", 10);
    check("not_sync.rs", 7);
}

/// So the programs above fail for the one reason that they name.
#[test]
fn what_owns_values_varies_and_handles_are_send_and_sync() {
    check("must_compile.rs", 0);
}
