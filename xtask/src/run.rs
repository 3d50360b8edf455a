//! Runs other programs from the root of the repository.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a command ends that does not succeed.
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// A check does not hold.
    Check(String),
}

/// Returns the root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository")
}

/// Prepares a program that runs in the root of the repository.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Program {
    let mut command = Command::new(program);
    command.current_dir(root());
    Program(command)
}

/// Prepares a command of the cargo that runs this program.
pub(crate) fn cargo(name: &str) -> Program {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args([name])
}

/// A program to run.
pub(crate) struct Program(Command);

impl Program {
    pub(crate) fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    pub(crate) fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    /// Runs the program with this program's input and output.
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        let status =
            self.0.status().map_err(|error| Failure::Check(format!("{:?}: {error}", self.0)))?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure::Check(format!("{:?}: {status}", self.0)))
        }
    }

    /// Runs the program and returns what it prints.
    pub(crate) fn output(mut self) -> Result<String, Failure> {
        let output = self.0.stderr(std::process::Stdio::inherit()).output();
        let output = output.map_err(|error| Failure::Check(format!("{:?}: {error}", self.0)))?;
        if !output.status.success() {
            return Err(Failure::Check(format!("{:?}: {}", self.0, output.status)));
        }
        String::from_utf8(output.stdout)
            .map_err(|error| Failure::Check(format!("{:?}: {error}", self.0)))
    }
}

/// Returns `true` if the search path has a program of this name.
pub(crate) fn installed(name: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|folder| folder.join(name).is_file());
    if !found {
        say(&format!("{name} is not installed, so it checks nothing\n"));
    }
    found
}

/// Returns the files of a folder, sorted.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: io::Error| Failure::Check(format!("{}: {error}", folder.display()));
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut files =
        entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    files.sort();
    Ok(files)
}

/// Prints. A reader that is gone is no failure of the check.
pub(crate) fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "xtask: {}", text.trim_end());
}
