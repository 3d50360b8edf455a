//! A copy of the repository, or of a part, to change and test there.

use crate::run::{Failure, root};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Texts by their paths from the root.
pub(crate) type Texts = BTreeMap<String, String>;

/// A folder that is removed when this is dropped.
pub(crate) struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Copy {
    /// Makes an empty folder for the command `name`.
    pub(crate) fn new(name: &str) -> Result<Self, Failure> {
        let copy = Copy(std::env::temp_dir().join(format!("heist-{name}-{}", std::process::id())));
        fs::create_dir_all(&copy.0).map_err(failed(&copy.0))?;
        Ok(copy)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a text, with a new time, so that cargo sees the change.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<(), Failure> {
        let path = self.0.join(path);
        let folder = path.parent().expect("it is in a folder");
        fs::create_dir_all(folder).and_then(|()| fs::write(&path, text)).map_err(failed(&path))
    }

    /// Copies a file of the repository.
    pub(crate) fn copy(&self, path: &str) -> Result<(), Failure> {
        let (from, to) = (root().join(path), self.0.join(path));
        let folder = to.parent().expect("it is in a folder");
        fs::create_dir_all(folder)
            .and_then(|()| fs::copy(&from, &to))
            .map(drop)
            .map_err(failed(&from))
    }

    /// Writes the texts of `new` that differ from those of `old`.
    pub(crate) fn replace(&self, old: &Texts, new: &Texts) -> Result<(), Failure> {
        let differ = new.iter().filter(|(path, text)| old.get(*path) != Some(text));
        differ.into_iter().try_for_each(|(path, text)| self.write(path, text))
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| Failure::Check(format!("{}: {error}", path.display()))
}

/// Reads a file of the repository.
pub(crate) fn read(path: impl AsRef<Path>) -> Result<String, Failure> {
    let path = root().join(path);
    fs::read_to_string(&path).map_err(failed(&path))
}
