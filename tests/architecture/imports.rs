//! Finds out which file under `src` imports from which, and the circles of such imports.
//!
//! An import is a path in a `use` declaration, or a path in the code, such as `crate::time::now`.
//! Re-exports count too, except those of a public module, which show users what its files define. It leads to the deepest file that the path names: `super::idle::Idle` to
//! `idle.rs`, and a name that `mod.rs` re-exports to `mod.rs`. The declaration `mod idle;` is no
//! import. A method's call is none either, whichever file has the `impl` block.

use std::collections::{BTreeMap, BTreeSet};

/// The files that each file imports from. A file is named by its path below `src`.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

/// Reads the imports of files, given as pairs of a name and its code without comments and tests.
pub(crate) fn imports_of(sources: &[(String, String)]) -> Imports {
    let files: BTreeMap<Vec<&str>, &str> =
        sources.iter().map(|(name, _)| (module_of(name), name.as_str())).collect();
    let imports_of_file = |name: &str, code: &str| {
        let own = module_of(name);
        let mut found = BTreeSet::new();
        for path in Paths::of(&without_shown(name, code)) {
            let Some(mut target) = absolute(&path, &own, &files) else { continue };
            while !files.contains_key(&target) {
                target.pop();
            }
            found.insert(files[&target].to_string());
        }
        found.remove(name);
        found
    };
    sources.iter().map(|(name, code)| (name.clone(), imports_of_file(name, code))).collect()
}

/// Returns the code without the re-exports of a `mod.rs` for users.
fn without_shown(name: &str, code: &str) -> String {
    let shows = |statement: &&str| {
        name.ends_with("mod.rs") && statement.trim_start().starts_with("pub use ")
    };
    code.split_inclusive(';').filter(|statement| !shows(statement)).collect()
}

/// Returns the sets of files that import from each other, directly or through other files of the
/// set.
pub(crate) fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|file| (file, reached_from(file, imports))).collect();
    let mut found = Vec::new();
    for (file, there) in &reached {
        if there.contains(file) {
            let back = there.iter().filter(|other| reached[*other].contains(file));
            found.push(back.map(|other| other.to_string()).collect());
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Lists the imports within a set of files, one importing file a line.
pub(crate) fn within(circle: &BTreeSet<String>, imports: &Imports) -> String {
    let line = |file: &String| {
        let targets: Vec<&str> = imports[file].intersection(circle).map(String::as_str).collect();
        format!("\n    {file} imports {}", targets.join(", "))
    };
    circle.iter().map(line).collect()
}

fn reached_from<'a>(file: &String, imports: &'a Imports) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut left: Vec<&String> = imports[file].iter().collect();
    while let Some(next) = left.pop() {
        if reached.insert(next) {
            left.extend(&imports[next]);
        }
    }
    reached
}

/// Returns the path of a file's module below the crate's root.
fn module_of(file: &str) -> Vec<&str> {
    let mut module: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    if module.last() == Some(&"mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// Returns where a path leads, below the crate's root. Returns `None` for a path that leads out of
/// the crate or begins at an item of its own file.
fn absolute<'a>(
    path: &Path<'a>,
    file: &[&'a str],
    files: &BTreeMap<Vec<&'a str>, &str>,
) -> Option<Vec<&'a str>> {
    let mut names = path.names.iter().copied().peekable();
    let mut base = [file, &path.inline].concat();
    match *names.peek()? {
        "crate" => {
            base.clear();
            names.next();
        }
        "self" => drop(names.next()),
        "super" => {
            while names.next_if_eq(&"super").is_some() {
                base.pop();
            }
        }
        child => {
            base.push(child);
            if !files.contains_key(&base) {
                return None;
            }
            names.next();
        }
    }
    base.extend(names);
    Some(base)
}

/// A path as the code has it.
struct Path<'a> {
    names: Vec<&'a str>,
    /// The modules in braces around the path, inside its file.
    inline: Vec<&'a str>,
}

struct Paths<'a> {
    tokens: Vec<&'a str>,
    at: usize,
    depth: usize,
    /// The modules in braces around the current token, each with the depth outside of it.
    inline: Vec<(&'a str, usize)>,
    found: Vec<Path<'a>>,
}

impl<'a> Paths<'a> {
    /// Returns all paths of `use` declarations, and all of two names or more in other code.
    fn of(code: &'a str) -> Vec<Path<'a>> {
        let tokens = tokens(code);
        let mut paths = Paths { tokens, at: 0, depth: 0, inline: Vec::new(), found: Vec::new() };
        while paths.at < paths.tokens.len() {
            paths.step();
        }
        paths.found
    }

    fn token(&self, ahead: usize) -> &'a str {
        self.tokens.get(self.at + ahead).copied().unwrap_or_default()
    }

    fn step(&mut self) {
        match self.token(0) {
            "{" => self.depth += 1,
            "}" => {
                self.depth -= 1;
                self.inline.pop_if(|(_, outside)| *outside == self.depth);
            }
            "mod" if self.token(2) == "{" => self.inline.push((self.token(1), self.depth)),
            // Of `pub(in path)`, which names the reach of an item.
            "in" if self.token(2) == "::" && self.at > 1 && self.tokens[self.at - 2] == "pub" => {
                while self.token(0) != ")" {
                    self.at += 1;
                }
            }
            "use" => {
                self.at += 1;
                self.use_tree(Vec::new());
            }
            word if is_word(word) && self.token(1) == "::" => {
                let mut names = vec![word];
                while self.token(1) == "::" && is_word(self.token(2)) {
                    names.push(self.token(2));
                    self.at += 2;
                }
                // Past a last `::`, which generic arguments or a macro's variable may follow.
                self.at += usize::from(self.token(1) == "::");
                self.found(names);
            }
            _ => {}
        }
        self.at += 1;
    }

    /// Reads the rest of a `use` declaration after `prefix`, up to the end of its group.
    fn use_tree(&mut self, mut prefix: Vec<&'a str>) {
        loop {
            match self.token(0) {
                "{" => {
                    while self.token(0) != "}" {
                        self.at += 1;
                        self.use_tree(prefix.clone());
                    }
                    self.at += 1;
                    return;
                }
                "as" => self.at += 1,
                "," | "}" | ";" | "" => break,
                "::" | "*" => {}
                name => prefix.push(name),
            }
            self.at += 1;
        }
        self.found(prefix);
    }

    fn found(&mut self, names: Vec<&'a str>) {
        let inline = self.inline.iter().map(|(name, _)| *name).collect();
        self.found.push(Path { names, inline });
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Splits code into words, `::` and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match word {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            word => word,
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

#[test]
fn imports_are_read_from_every_kind_of_path() {
    let code = "
        pub use self::own::A;
        use super::{next, other::{B, deep::{self, C as D}}, E};
        use crate::{floor::F, *};
        use std::sync::atomic::Ordering;
        pub(in crate::not) fn f(at: super::inline_type::T) -> std::io::Result<()> {
            crate::called::g::<super::generic::T>();
            child::h();
            A::stranger::i();
        }
        mod inner {
            use super::child_too::J;
            use super::super::third::K;
        }
        use self::last::L;
    ";
    let files = [
        "lib",
        "not",
        "floor",
        "called",
        "room/mod",
        "room/here/child",
        "room/here/own",
        "room/next",
        "room/other",
        "room/other/deep",
        "room/inline_type",
        "room/generic",
        "room/here/child_too",
        "room/third",
        "room/here/last",
        "room/stranger",
        "stranger",
    ];
    let mut sources: Vec<_> = files.map(|file| (format!("{file}.rs"), String::new())).to_vec();
    sources.push(("room/here.rs".into(), code.into()));
    let imports = imports_of(&sources);
    let all = files.map(|file| format!("{file}.rs"));
    let expected =
        all.into_iter().filter(|file| !file.contains("not") && !file.contains("stranger"));
    assert_eq!(imports["room/here.rs"], expected.collect());
}

#[test]
fn circles_are_told_apart() {
    let sources = [
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "use crate::c::C; use crate::d::D;"),
        ("c.rs", "use crate::a::A;"),
        ("d.rs", "use crate::e::E;"),
        ("e.rs", "use crate::d::D; use crate::f::F;"),
        ("f.rs", ""),
    ];
    let imports = imports_of(&sources.map(|(file, code)| (file.into(), code.into())));
    let set = |files: &[&str]| files.iter().map(|file| file.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(circles(&imports), [set(&["a.rs", "b.rs", "c.rs"]), set(&["d.rs", "e.rs"])]);
}
