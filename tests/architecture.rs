//! Checks the source text against the architecture's rules: imports between rooms, the use of
//! atomics, locks, panics and wakers, the length and header of files, and the breaks of
//! `scripts/breaks`.
//!
//! A room is a directory or a file under `src`. A room imports only from rooms on lower floors. The
//! exceptions are in [`EXCEPTIONS`], and an exception that is no longer needed is an error. Files do
//! not import from each other in a circle either, except for the circles in [`CIRCLES`].

#[path = "architecture/imports.rs"]
mod imports;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every room and its floor.
const FLOORS: [(&str, u32); 19] = [
    ("sync", 0),
    ("time", 0),
    ("cores", 0),
    ("fork", 0),
    ("panics", 0),
    ("user", 0),
    ("drops", 0),
    ("error", 0),
    ("id", 0),
    ("variance", 0),
    ("memory", 0),
    ("sched", 1),
    ("mailbox", 1),
    ("cell", 2),
    ("actor", 3),
    ("executor", 4),
    ("pool", 4),
    ("directory", 4),
    ("tests", 5),
];

/// Allowed imports between rooms of one floor: importing room, imported room, reason. No cycle
/// arises.
const EXCEPTIONS: [(&str, &str, &str); 9] = [
    ("drops", "user", "a panic of what was put off ends there"),
    ("error", "panics", "errors carry a panic's text"),
    ("error", "id", "errors name actors"),
    ("user", "panics", "a panic comes back as its text"),
    ("user", "error", "dropped replies are told an error"),
    ("fork", "sync", "the word that a child finds wiped is atomic"),
    ("user", "sync", "it asserts that no lock is held"),
    ("memory", "fork", "a forked child waits for no lock of a pool"),
    ("memory", "sync", "its stacks of returned blocks are atomics, and its heaps are claimed"),
];

/// Allowed circles of imports between files: reason, files below `src`. A circle with other files
/// than these is an error, and so is an entry that is no circle any more.
const CIRCLES: [(&str, &[&str]); 4] = [
    (
        "one data structure: a cell has a cold part, a room list and a queue, these keep cells, a cell knows its \
         shard, a shard its core, and a core its cells",
        &[
            "cell/cold.rs",
            "cell/core.rs",
            "cell/counted.rs",
            "cell/dead_cells.rs",
            "cell/header.rs",
            "cell/members.rs",
            "cell/registry.rs",
            "cell/room_list.rs",
            "cell/sharing.rs",
            "cell/supervisor.rs",
            "cell/waits/mod.rs",
        ],
    ),
    (
        "an envelope's table names how it is batched, and a batch opens and measures envelopes",
        &["cell/batch.rs", "cell/envelope.rs", "cell/lap.rs"],
    ),
    (
        "a slot points at its worker's state and back, and the crew has the slots",
        &["sched/queue.rs", "sched/scheduler.rs", "sched/worker.rs"],
    ),
    (
        "a slab names the heap that its blocks go home to, and a heap lists its slabs",
        &["memory/heap.rs", "memory/slab.rs"],
    ),
];

/// Unit tests inside the crate that use every floor. The models belong to no floor and follow no
/// import rule.
const MODELS: &str = "models";

const MOST_LINES: usize = 500;

/// Names that only `sync` may use.
const PRIMITIVES: [&str; 10] = [
    "sync::atomic",
    "loom::",
    "parking_lot",
    "sync::Mutex",
    "sync::RwLock",
    "sync::Condvar",
    "sync::Once",
    "sync::mpsc",
    "thread::park",
    "static mut",
];

struct Source {
    path: PathBuf,
    /// The directory or file under `src`, or `None` for the crate's root.
    room: Option<String>,
    text: String,
}

impl Source {
    /// Returns the lines without comments, with their numbers. Leaves out the file's unit tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = self.text.find("\n#[cfg(all(test").unwrap_or(self.text.len());
        let lines = self.text[..tests].lines().enumerate();
        lines.map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default()))
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let inside = path.strip_prefix(&root).unwrap().with_extension("");
                let room = inside.iter().next().unwrap().to_str().unwrap().to_string();
                found.push(Source { path, room: Some(room).filter(|room| room != "lib"), text });
            }
        }
    }
    assert!(found.len() > 20, "the sources are elsewhere");
    found
}

/// Returns all sources except the models.
fn building() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(|source| source.room.as_deref() != Some(MODELS))
}

fn floor(room: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == room).map(|&(_, floor)| floor)
}

/// Returns the first word of each path that begins with `crate::`. For a group in braces, returns
/// the first word of each member.
fn imported(line: &str) -> Vec<&str> {
    let word =
        |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let from_crate = line.match_indices("crate::").map(|(at, path)| &line[at + path.len()..]);
    from_crate
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(group) => {
                group.split(',').map(|member| &member.trim()[..word(member.trim())]).collect()
            }
            None => vec![&rest[..word(rest)]],
        })
        .collect()
}

#[test]
fn every_room_imports_only_from_floors_below() {
    let mut used = Vec::new();
    for source in building() {
        let Some(room) = &source.room else { continue };
        let own = floor(room).unwrap_or_else(|| panic!("{room} is on no floor: add it to FLOORS"));
        for (number, line) in source.code() {
            for target in imported(line).into_iter().filter(|target| target != room) {
                let there = floor(target);
                let there =
                    there.unwrap_or_else(|| panic!("{}: {target} is no room", source.at(number)));
                let exception =
                    EXCEPTIONS.iter().position(|&(from, to, _)| (from, to) == (room, target));
                used.extend(exception);
                assert!(
                    there < own || exception.is_some(),
                    "{}: {room} (floor {own}) imports {target} (floor {there})",
                    source.at(number)
                );
            }
        }
    }
    for (i, exception) in EXCEPTIONS.iter().enumerate() {
        assert!(used.contains(&i), "no longer needed: {exception:?}");
    }
}

#[test]
fn no_circle_of_imports_is_new_or_gone() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let is_test = |source: &Source| {
        source.room.as_deref() == Some("tests")
            || source.path.file_stem().is_some_and(|name| name == "tests")
    };
    let read = |source: Source| {
        let name =
            source.path.strip_prefix(root).unwrap().iter().map(|part| part.to_str().unwrap());
        let code: String = source.code().flat_map(|(_, line)| [line, "\n"]).collect();
        (name.collect::<Vec<_>>().join("/"), code)
    };
    let sources: Vec<_> = building().filter(|source| !is_test(source)).map(read).collect();
    let imports = imports::imports_of(&sources);
    let found = imports::circles(&imports);
    let is_listed = |circle: &BTreeSet<String>, files: &[&str]| circle.iter().eq(files);
    let new =
        found.iter().filter(|circle| !CIRCLES.iter().any(|(_, files)| is_listed(circle, files)));
    let new: String = new.map(|circle| imports::within(circle, &imports) + "\n").collect();
    assert!(new.is_empty(), "circles of imports that CIRCLES does not list:{new}");
    for (reason, files) in CIRCLES {
        let listed = found.iter().any(|circle| is_listed(circle, files));
        assert!(listed, "no longer a circle: {reason}: {files:?}");
    }
}

/// A `super` path leads out of a module, and must not lead out of a room past the import rule.
#[test]
fn no_path_climbs_out_of_its_room() {
    for source in building() {
        if source.room.is_none() {
            continue;
        }
        let inside = source.path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
        let file = inside.file_name().unwrap();
        let depth = inside.iter().count() - usize::from(file == "mod.rs");
        for (number, line) in source.code() {
            let climbed = (1..5).take_while(|&n| line.contains(&"super::".repeat(n))).count();
            assert!(climbed < depth.max(1), "{}: {}", source.at(number), line.trim());
        }
    }
}

#[test]
fn only_sync_names_atomics_and_locks() {
    for source in building().filter(|source| source.room.as_deref() != Some("sync")) {
        // Imports may spread over several lines and be grouped in braces.
        let code: String = source.code().map(|(_, line)| line.trim()).collect();
        let foreign = code.replace("crate::sync::", "");
        for primitive in PRIMITIVES {
            assert!(!foreign.contains(primitive), "{} names {primitive}", source.path.display());
        }
        for group in foreign.split("std::sync::{").skip(1) {
            let group = &group[..group.find('}').unwrap()];
            let plain = group.split(',').all(|name| ["Arc", "Weak", ""].contains(&name.trim()));
            assert!(plain, "{} imports std::sync::{{{group}}}", source.path.display());
        }
    }
}

/// All user code is called through the room `user`, as far as the text can tell. Only this room
/// catches panics and calls wakers.
#[test]
fn only_user_calls_wakers_and_catches_panics() {
    const CALLS: [&str; 8] = [
        "catch_unwind",
        "resume_unwind",
        ".wake()",
        "waker.wake_by_ref(",
        "waker().wake_by_ref(",
        "waker.clone()",
        "waker().clone()",
        ".clone_from(cx.waker())",
    ];
    for source in building().filter(|source| source.room.as_deref() != Some("user")) {
        for (number, line) in source.code() {
            for call in CALLS {
                assert!(!line.contains(call), "{}: {call} is for src/user.rs", source.at(number));
            }
        }
    }
}

/// Time is monotonic and read in one place, so that a jump of the wall clock has no effect.
#[test]
fn only_time_reads_a_clock_and_it_is_no_wall_clock() {
    for source in building() {
        let code: String = source.code().map(|(_, line)| line).collect();
        assert!(!code.contains("SystemTime"), "{} names the wall clock", source.path.display());
        let reads = code.contains("Instant::now") || code.contains(".elapsed()");
        assert_eq!(
            reads,
            source.room.as_deref() == Some("time"),
            "{} reads a clock",
            source.path.display()
        );
    }
}

/// rustfmt wraps code, and nothing wraps comments. Rows of tables and addresses cannot be wrapped.
#[test]
fn comments_are_at_most_100_columns_wide() {
    let mut wide = Vec::new();
    for source in sources() {
        for (i, line) in source.text.lines().enumerate() {
            let comment = line
                .trim_start()
                .strip_prefix("//")
                .map(|rest| rest.trim_start_matches(['/', '!', ' ']));
            let wraps = comment.is_some_and(|text| !text.starts_with('|') && text.contains(' '));
            if wraps && line.chars().count() > 100 {
                wide.push(source.at(i + 1));
            }
        }
    }
    assert!(wide.is_empty(), "wider than 100 columns: {wide:#?}");
}

/// Documentation states; it does not ask. Threads, actors and callers have names.
#[test]
fn documentation_asks_no_questions() {
    for source in sources() {
        for (i, line) in source.text.lines().enumerate() {
            let doc = line.trim_start();
            let is_doc = doc.starts_with("///") || doc.starts_with("//!");
            // A question mark after a bracket is Rust's operator, in an example.
            let asks = doc.ends_with('?') && !doc.ends_with(")?");
            assert!(!(is_doc && asks), "{}: {doc}", source.at(i + 1));
        }
    }
}

#[test]
fn files_say_what_they_are_for_and_stay_short() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{} has no header", source.path.display());
        let lines = source.text.lines().count();
        assert!(lines <= MOST_LINES, "{} has {lines} lines", source.path.display());
    }
}

/// Files that name a plain hash table, each with the reason. Anywhere else a burst would keep its
/// memory.
const PLAIN_TABLES: [(&str, &str); 3] = [
    ("cell/shrinking_map.rs", "gives its memory back"),
    ("cell/waits/stuck.rs", "lives as long as one walk"),
    ("pool/key_move.rs", "lives as long as one change of size"),
];

#[test]
fn a_hash_table_that_stays_gives_its_memory_back() {
    for source in sources() {
        let known = |(file, _): &(&str, &str)| source.path.ends_with(file);
        // Tests and models come and go.
        let is_test = source.room.as_deref() == Some("models") || source.path.ends_with("tests.rs");
        if is_test || PLAIN_TABLES.iter().any(known) {
            continue;
        }
        for (i, line) in source.code() {
            let plain = line.contains("HashMap") || line.contains("HashSet");
            assert!(!plain, "{}: see cell::shrinking_map", source.at(i));
        }
    }
}

/// One style of modules: a folder has its own `mod.rs`, and no file of the same name stands beside
/// the folder.
#[test]
fn a_folder_has_its_mod_file_inside() {
    for source in sources() {
        assert!(
            !source.path.with_extension("").is_dir(),
            "{} stands beside its folder",
            source.path.display()
        );
    }
}

#[test]
fn every_unsafe_block_gives_its_reason() {
    /// The reason stands above the statement that contains the block, and that statement may begin
    /// some lines earlier.
    const ABOVE: usize = 10;
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, line) in source.code() {
            if line.contains("unsafe {") || line.contains("unsafe impl") {
                let above = &lines[number.saturating_sub(ABOVE)..number];
                let reason = above.iter().any(|line| line.contains("SAFETY"));
                assert!(reason, "{}: {}", source.at(number), line.trim());
            }
        }
    }
}

/// Running `cargo xtask breaks` takes long, so each test run checks at least that every
/// break still applies, and to one place only.
#[test]
fn every_break_finds_what_it_breaks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut looked_at = 0;
    for entry in fs::read_dir(root.join("scripts/breaks")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let file =
            text.lines().find_map(|line| line.strip_prefix("file: ")).expect("says which file");
        let (_, change) = text.split_once("--- old\n").expect("says what was there");
        let (old, _) = change.split_once("--- new\n").expect("says what comes there");
        let source = fs::read_to_string(root.join(file)).unwrap();
        let places = source.matches(old).count();
        assert_eq!(places, 1, "{}: places of its old text in {file}", path.display());
        looked_at += 1;
    }
    assert!(looked_at > 50, "{looked_at} breaks");
}

/// Type names that two files of `src` define, each with the reason. Associated types and the models
/// do not count.
const SAME_NAME: [(&str, &str); 4] =
    [("Condvar", TWIN), ("Mutex", TWIN), ("MutexGuard", TWIN), ("RwLock", TWIN)];

const TWIN: &str = "of debug builds, and of loom";

/// One-word names of functions that four or more files of `src` define, each with the reason. Trait
/// implementations, tests and the models do not count.
const ONE_WORD: [(&str, &str); 18] = [
    ("ask", "public: the verb of references, recipients, pools and directories"),
    ("build", "public: the last call of every builder"),
    ("cancel", "public: the end of timers, and of sends that are awaited"),
    ("capacity", "public: the same setting of every builder, and its reading"),
    ("core", "field access"),
    ("handle", "the function of that name in the table of each kind of envelope"),
    ("header", "field access"),
    ("id", "field access"),
    ("len", "word of the field"),
    ("name", "public: the same setting of every builder, and its reading"),
    ("new", "word of the field"),
    ("push", "word of the field"),
    ("send", "public: the verb of references, replies, pools and directories"),
    ("stats", "public: of executors, references, pools and directories"),
    ("tell", "public: the verb of references, recipients, pools and directories"),
    ("timing", "public: the same setting of every builder, and its reading"),
    ("unbounded", "public: the same setting of every builder"),
    ("wait", "public: the blocking form of every future; a condition variable's"),
];

/// Returns the names of the types and of the functions that a file defines. Leaves out associated types and the
/// functions of trait implementations.
fn definitions(source: &Source) -> (HashSet<&str>, HashSet<&str>) {
    const TYPES: [&str; 5] = ["struct ", "enum ", "trait ", "union ", "type "];
    let name =
        |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (mut types, mut functions) = (HashSet::new(), HashSet::new());
    // The enclosing implementation or trait: how far it is indented, and whether it implements one.
    let mut inside: Option<(usize, bool)> = None;
    let mut head: Option<(usize, String)> = None;
    for (_, line) in source.code() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        if inside.is_some_and(|(outer, _)| depth == outer && text.starts_with('}')) {
            inside = None;
        }
        let item = without_modifiers(text);
        if inside.is_none()
            && head.is_none()
            && ["impl ", "impl<", "trait "].iter().any(|k| item.starts_with(k))
        {
            head = Some((depth, String::new()));
        }
        if let Some((depth, mut words)) = head.take() {
            words.push_str(text);
            // The head of a long implementation spreads over several lines.
            match text.trim_end().chars().last() {
                Some('{') => inside = Some((depth, words.contains(" for "))),
                Some('}' | ';') => {}
                _ => head = Some((depth, words)),
            }
        }
        for keyword in TYPES {
            if let Some(rest) = item.strip_prefix(keyword)
                && (keyword != "type " || inside.is_none())
            {
                types.insert(&rest[..name(rest)]);
            }
        }
        if let Some(rest) = item.strip_prefix("fn ")
            && !inside.is_some_and(|(_, implements)| implements)
        {
            functions.insert(&rest[..name(rest)]);
        }
    }
    (types, functions)
}

/// Returns an item from its keyword on: without visibility, `const`, `async` and `unsafe`.
fn without_modifiers(mut text: &str) -> &str {
    if let Some(rest) = text.strip_prefix("pub(") {
        text = rest.split_once(')').map_or(text, |(_, rest)| rest.trim_start());
    }
    while let Some(rest) =
        ["pub ", "const ", "async ", "unsafe "].iter().find_map(|word| text.strip_prefix(word))
    {
        text = rest;
    }
    text
}

/// Returns the names that more than `most` files define, and where.
fn shared<'a>(
    files: impl Iterator<Item = (&'a Source, HashSet<&'a str>)>,
    most: usize,
) -> BTreeMap<&'a str, Vec<String>> {
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (source, names) in files {
        names.into_iter().for_each(|name| {
            found.entry(name).or_default().push(source.path.display().to_string())
        });
    }
    found.retain(|_, places| places.len() > most);
    found
}

/// Compares the names that are shared with a table that gives the reasons.
fn assert_listed(found: &BTreeMap<&str, Vec<String>>, listed: &[(&str, &str)]) {
    for (name, places) in found {
        let known = listed.iter().any(|(known, _)| known == name);
        assert!(
            known,
            "{name} is defined in several files, and in no table of reasons: {places:#?}"
        );
    }
    for (name, reason) in listed {
        assert!(found.contains_key(name), "no longer needed: {name}, {reason}");
    }
}

/// A stranger who searches for a type finds one.
#[test]
fn no_type_name_is_defined_twice() {
    let sources: Vec<_> = building().collect();
    let found = shared(sources.iter().map(|source| (source, definitions(source).0)), 1);
    assert_listed(&found, &SAME_NAME);
    assert!(SAME_NAME.len() < 8, "{} names", SAME_NAME.len());
}

/// A function whose name many files share says what it does to what.
#[test]
fn a_one_word_function_stands_in_few_files() {
    let sources: Vec<_> =
        building().filter(|source| source.room.as_deref() != Some("tests")).collect();
    let one_word =
        |source| definitions(source).1.into_iter().filter(|name| !name.contains('_')).collect();
    let found = shared(sources.iter().map(|source| (source, one_word(source))), 3);
    assert_listed(&found, &ONE_WORD);
}
