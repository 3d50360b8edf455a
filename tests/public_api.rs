//! Compares the public items with `tests/public_api.txt`, so that a change of the interface is seen
//! in a diff of that file.
//!
//! The list comes from the text of `src`: what is `pub` there can be reached from outside, since
//! the crate warns of `unreachable_pub`. Run with `HEIST_WRITE_PUBLIC_API=1` to write the list anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Collects the source files, without the loom models and the unit tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "models" && name != "tests" {
            sources(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// Returns the text of an item up to its body, in one line.
fn head(lines: &[&str]) -> String {
    let mut head = String::new();
    for line in lines {
        let text = line.trim();
        head.push_str(text);
        head.push(' ');
        // A field or a variant is one line; other heads end where the body begins.
        let long = lines[0].contains("fn ") || !lines[0].starts_with(' ');
        if !long || text.ends_with(['{', ';', '}']) {
            break;
        }
    }
    let head = head.replace("( ", "(").replace(", )", ")").replace(",)", ")");
    head.trim().trim_end_matches(['{', ';', ',']).trim().to_string()
}

/// Returns the type behind `impl`, or `None` for the implementation of a trait.
fn implemented(head: &str) -> Option<&str> {
    let rest = head.strip_prefix("impl")?;
    if head.contains(" for ") {
        return None;
    }
    let rest = match rest.strip_prefix('<') {
        None => rest,
        Some(rest) => {
            let mut depth = 1;
            let end = rest.find(|c| {
                depth += i32::from(c == '<') - i32::from(c == '>');
                depth == 0
            });
            &rest[end? + 1..]
        }
    };
    Some(rest.split(" where").next().unwrap_or(rest).trim())
}

/// Collects the public items of one file.
fn collect(text: &str, items: &mut BTreeSet<String>) {
    let text = text.split("#[cfg(all(test").next().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // The item whose body the lines are in: an implementation, or a public type or trait.
    let mut inside = None;
    for (at, line) in lines.iter().enumerate() {
        let item = line.trim_start();
        let depth = line.len() - item.len();
        if depth == 0 {
            let is_open = |head: &str| {
                ["pub struct", "pub enum", "pub trait"].iter().any(|k| head.starts_with(k))
            };
            if item.starts_with('}') {
                inside = None;
            } else if item.starts_with("impl") {
                inside = implemented(&head(&lines[at..])).map(str::to_string);
            } else if is_open(item) {
                let head = head(&lines[at..]);
                inside = Some(head.trim_start_matches("pub ").to_string());
            }
        }
        let of_a_public_type = inside.as_deref().is_some_and(|name| {
            (name.starts_with("enum ") && item.starts_with(|c: char| c.is_ascii_uppercase()))
                || (name.starts_with("trait ")
                    && ["fn ", "type ", "const "].iter().any(|k| item.starts_with(k)))
        });
        if item.starts_with("pub ") || (depth == 4 && of_a_public_type) {
            let name = inside
                .as_deref()
                .filter(|_| depth > 0)
                .map_or(String::new(), |name| format!("{name}: "));
            items.insert(format!("{name}{}", head(&lines[at..])));
        }
    }
}

#[test]
fn the_public_items_are_those_of_the_list() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut items = BTreeSet::new();
    files.iter().for_each(|path| collect(&fs::read_to_string(path).unwrap(), &mut items));
    assert!(items.len() > 300, "the items are elsewhere: {}", items.len());
    let path = root().join("tests/public_api.txt");
    if std::env::var_os("HEIST_WRITE_PUBLIC_API").is_some() {
        let text: String = items.iter().map(|item| format!("{item}\n")).collect();
        fs::write(&path, text).unwrap();
    }
    let list = fs::read_to_string(&path).unwrap();
    let listed: BTreeSet<String> = list.lines().map(str::to_string).collect();
    let new: Vec<_> = items.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&items).collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "tests/public_api.txt lacks {new:#?} and has {gone:#?}. Run \
         `HEIST_WRITE_PUBLIC_API=1 cargo test --test public_api`, and look at the diff."
    );
}

/// Returns the crates that heist depends on, as code names them.
fn dependencies() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut section = "";
    let mut crates = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && !section.contains("dev-")
            && let Some((name, _)) = line.split_once(['=', '.'])
        {
            crates.push(name.trim().replace('-', "_"));
        }
    }
    crates
}

/// Returns the words of a text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The rule of `docs/decisions/18-public-api.md`.
#[test]
fn no_public_item_names_a_type_of_another_crate() {
    let crates = dependencies();
    assert!(crates.iter().any(|name| name == "crossbeam_channel"), "{crates:?}");
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let mut foreign = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        // The crates themselves, and what the file imports from them.
        let imports = text
            .split("\nuse ")
            .skip(1)
            .filter_map(|import| import.split_once(';').map(|(import, _)| import))
            .filter(|import| crates.iter().any(|name| import.starts_with(&format!("{name}::"))));
        let imported: BTreeSet<&str> = imports
            .flat_map(words)
            .chain(crates.iter().map(String::as_str))
            .filter(|word| !["", "as", "self"].contains(word))
            .collect();
        let mut items = BTreeSet::new();
        collect(&text, &mut items);
        foreign.extend(
            items.into_iter().filter(|item| words(item).any(|word| imported.contains(word))),
        );
    }
    assert_eq!(foreign, [""; 0], "a type of another crate is part of heist's interface");
}

/// A search of the documentation for the words of other libraries leads to what does the same here.
#[test]
fn the_words_of_other_libraries_are_aliases() {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    let all: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let aliases: Vec<&str> =
        all.lines().filter(|line| line.trim_start().starts_with("#[doc(alias")).collect();
    // actix, kameo, ractor, tokio, Akka and Orleans, OTP.
    let words = [
        ["start", "create", "actor_of", "Props"].as_slice(),
        &["cast", "do_send", "try_send", "notify", "fire and forget"],
        &["call", "request", "query", "block_on"],
        &["Addr", "Pid", "address", "WeakAddr", "WeakActorRef"],
        &["ActorContext", "Ctx", "myself"],
        &["GenServer", "gen_server", "handle_call", "handle_cast", "on_start", "on_stop"],
        &["supervisor", "supervision", "restart", "max_restarts", "intensity"],
        &["router", "Router", "worker pool", "registry", "whereis", "virtual actor", "grain"],
        &["PoisonPill", "poison pill", "kill", "terminate", "watch", "monitor", "death watch"],
        &["mailbox", "mailbox_capacity", "bounded", "backpressure"],
        &["throughput", "budget", "reductions", "fairness"],
        &["interval", "send_after", "run_later", "run_interval"],
        &["block_in_place", "spawn_blocking", "worker_threads", "max_blocking_threads"],
        &["dead letter", "EventStream", "ActorSystem", "Runtime", "scheduler"],
    ];
    for word in words.into_iter().flatten() {
        let quoted = format!("\"{word}\"");
        assert!(aliases.iter().any(|line| line.contains(&quoted)), "{word} leads nowhere");
    }
}
