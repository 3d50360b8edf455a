//! Checks what cargo would publish: the files, the size, and that the package builds by itself.

use crate::run::{Failure, cargo, root, say};
use std::fs;

/// The package is a bit over half as large today. A file that nobody needs makes it grow at once:
/// the flights data alone have 3.7 MB.
const MOST_BYTES: u64 = 800_000;

/// Files that the package needs, for its documentation and its licences.
const NEEDED: [&str; 7] = [
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "docs/promises.md",
    "examples/hello.rs",
    "src/lib.rs",
];

/// Beginnings of all other paths that belong into it.
const ALLOWED: [&str; 4] = ["src/", "docs/", "examples/", "Cargo."];

pub(crate) fn check() -> Result<(), Failure> {
    let package =
        || cargo("package").args(["--package", "heist", "--offline", "--allow-dirty", "--quiet"]);
    let list = package().arg("--list").output()?;
    let files: Vec<&str> = list.lines().collect();
    let missing: Vec<_> = NEEDED.iter().filter(|needed| !files.contains(needed)).collect();
    if !missing.is_empty() {
        return Err(Failure::Check(format!("the package lacks {missing:?}")));
    }
    let known = |file: &str| {
        !file.contains('/') && (file.ends_with(".md") || file.starts_with("LICENSE-"))
            || file == ".cargo_vcs_info.json"
            || ALLOWED.iter().any(|folder| file.starts_with(folder))
    };
    let foreign: Vec<_> = files.iter().filter(|file| !known(file)).collect();
    if !foreign.is_empty() {
        return Err(Failure::Check(format!("these do not belong into the package: {foreign:?}")));
    }
    package().run()?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), Into::into);
    let newest =
        target.join(format!("package/heist-{}.crate", version(&root().join("Cargo.toml"))?));
    let bytes = fs::metadata(&newest)
        .map_err(|error| Failure::Check(format!("{}: {error}", newest.display())))?
        .len();
    say(&format!("package: {} files, {} kB\n", files.len(), bytes / 1000));
    if bytes > MOST_BYTES {
        return Err(Failure::Check(format!(
            "the package has {bytes} bytes, more than {MOST_BYTES}"
        )));
    }
    Ok(())
}

/// Returns the version that a manifest gives first, which is the package's.
fn version(manifest: &std::path::Path) -> Result<String, Failure> {
    let text = fs::read_to_string(manifest).map_err(|error| Failure::Check(error.to_string()))?;
    let version =
        text.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).ok_or_else(|| Failure::Check("the manifest has no version".into()))
}
