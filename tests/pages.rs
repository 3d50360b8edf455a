//! Checks the text of the pages: each test, file and heading that a page names exists, so that no
//! claim of a page outlives its test.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Folders with the functions that a page may name.
const CODE: [&str; 4] = ["src", "tests", "benches", "examples"];

struct Page {
    /// Relative to the root.
    path: PathBuf,
    /// Without fenced code.
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Collects the files with an `extension` from a folder and its subfolders.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|its| its == extension) {
            found.push(path);
        }
    }
}

/// Returns all pages: those at the root, under `docs`, and beside the comparison.
fn pages() -> Vec<Page> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files(&root().join("docs"), "md", &mut paths);
    paths.push(root().join("benches/peers/README.md"));
    let page = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("```").step_by(2).collect();
        Page { path: path.strip_prefix(root()).unwrap().to_owned(), text }
    };
    let pages: Vec<Page> = paths.into_iter().map(page).collect();
    assert!(pages.len() > 20, "the pages are elsewhere");
    pages
}

/// Returns the names of all functions.
fn functions() -> HashSet<String> {
    let mut paths = Vec::new();
    CODE.iter().for_each(|folder| files(&root().join(folder), "rs", &mut paths));
    let mut found = HashSet::new();
    for path in paths {
        let text = fs::read_to_string(path).unwrap();
        let names =
            text.split("fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap_or_default());
        found.extend(names.map(str::to_owned));
    }
    found
}

/// Returns the texts between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the texts between backticks that look like a test's name: four words and more.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let known =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    quoted(text).filter(move |word| word.chars().all(known) && word.matches('_').count() >= 3)
}

/// Returns the anchor that Markdown gives a heading.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | ' ');
    heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

/// Resolves `..` in a relative path, without a look at the disk.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                assert!(normal.pop(), "{} leads out of the crate", path.display())
            }
            part => normal.push(part),
        }
    }
    normal
}

#[test]
fn each_test_that_a_page_names_is_there() {
    let functions = functions();
    let mut looked_up = 0;
    for page in pages() {
        let missing: Vec<_> = named(&page.text)
            .inspect(|_| looked_up += 1)
            .filter(|name| !functions.contains(*name))
            .collect();
        assert_eq!(missing, [""; 0], "{} names tests that do not exist", page.path.display());
    }
    assert!(looked_up > 200, "the pages name many: {looked_up}");
}

#[test]
fn each_file_that_a_page_names_is_there() {
    let mut looked_up = 0;
    for page in pages().iter().filter(|page| !page.path.starts_with("benches")) {
        let folders = ["src/", "tests/", "benches/", "examples/", "scripts/", "docs/", ".ci/"];
        let plain = |name: &&str| !name.contains(['*', ' ', '…', '{']);
        for name in quoted(&page.text).filter(|name| folders.iter().any(|at| name.starts_with(at)))
        {
            if plain(&name) {
                looked_up += 1;
                assert!(root().join(name).exists(), "{} names {name}", page.path.display());
            }
        }
    }
    assert!(looked_up > 100, "the pages name many: {looked_up}");
}

#[test]
fn each_link_of_a_page_leads_somewhere() {
    let pages = pages();
    let headings = |page: &Page| -> HashSet<String> {
        let lines = page.text.lines().filter(|line| line.starts_with('#'));
        lines.map(|line| anchor(line.trim_start_matches('#'))).collect()
    };
    let anchors: HashMap<_, _> = pages.iter().map(|page| (&page.path, headings(page))).collect();
    let mut looked_up = 0;
    for page in &pages {
        let at = page.path.display();
        for link in
            page.text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default())
        {
            if link.contains("://") {
                continue;
            }
            looked_up += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => page.path.clone(),
                file => normal(&page.path.parent().unwrap().join(file)),
            };
            assert!(root().join(&target).exists(), "{at} links to {link}");
            if !heading.is_empty() {
                let there = anchors.get(&target).is_some_and(|anchors| anchors.contains(heading));
                assert!(there, "{at} links to {link}, and there is no such heading");
            }
        }
    }
    assert!(looked_up > 50, "the pages have many links: {looked_up}");
}

/// Returns the words that follow `before` in a text, without the marks around them.
fn following<'a>(text: &'a str, before: &'a str) -> impl Iterator<Item = &'a str> {
    let word = |rest: &'a str| {
        let end =
            rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len());
        &rest[..end]
    };
    // A placeholder such as NAME is no name.
    let placeholder = |word: &&str| !word.is_empty() && word.chars().any(char::is_lowercase);
    text.split(before).skip(1).map(word).filter(placeholder)
}

#[test]
fn each_command_that_a_page_names_is_there() {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let mut manifests = Vec::new();
    for folder in ["examples", "benches"] {
        files(&root().join(folder), "toml", &mut manifests);
    }
    manifests.retain(|path| !path.starts_with(root().join("benches/peers")));
    manifests.push(root().join("Cargo.toml"));
    let manifests: String = manifests.iter().map(|path| read(path)).collect();
    let commands = read(&root().join("xtask/src/main.rs"));
    let mut looked_up = 0;
    for page in pages().iter().filter(|page| !page.path.starts_with("benches")) {
        let text = read(&root().join(&page.path));
        let at = page.path.display();
        for target in following(&text, "--example ").chain(following(&text, "--bench ")) {
            looked_up += 1;
            assert!(manifests.contains(&format!("\nname = \"{target}\"\n")), "{at} names {target}");
        }
        for test in following(&text, "--test ") {
            looked_up += 1;
            let there = [format!("tests/{test}.rs"), format!("tests/{test}/main.rs")];
            assert!(
                there.iter().any(|path| root().join(path).exists()),
                "{at} names the test {test}"
            );
        }
        for command in following(&text, "cargo xtask ") {
            looked_up += 1;
            assert!(
                commands.contains(&format!("\"{command}\"")),
                "{at} names cargo xtask {command}"
            );
        }
    }
    assert!(looked_up > 40, "the pages name many: {looked_up}");
}

/// Each row of the table "from the origin to heist" has a test or a doctest.
#[test]
fn each_part_of_the_origin_has_its_test() {
    let page = fs::read_to_string(root().join("docs/origin.md")).unwrap();
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 25, "{} rows", rows.len());
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 3, "{row}");
        let shown = named(cells[2]).next().is_some()
            || ["doctest", "tests/"].iter().any(|way| cells[2].contains(way));
        assert!(shown, "no test in: {row}");
    }
}

/// The guide includes the promises; README has the same text.
#[test]
fn the_readme_has_the_promises_word_for_word() {
    let promises = fs::read_to_string(root().join("docs/promises.md")).unwrap();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&promises), "copy docs/promises.md into README.md");
}

/// README's table is a part of the one on the page of figures.
#[test]
fn the_readmes_figures_are_those_of_the_page_of_figures() {
    let rows = |page: &str| -> Vec<Vec<String>> {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let (_, table) = text.split_once("| workload | heist |").expect("the table is there");
        let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        lines.map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
    };
    let (short, long) = (rows("README.md"), rows("docs/performance.md"));
    assert_eq!(short.len(), 6, "README has six rows");
    for row in short {
        let same = long.iter().find(|other| other[1] == row[1]);
        let same = same.unwrap_or_else(|| panic!("no such workload: {}", row[1]));
        let stale: Vec<_> = row.iter().filter(|cell| !same.contains(cell)).collect();
        assert!(stale.is_empty(), "{}: {stale:?} in README only", row[1]);
    }
}

/// The table of protocols names headers, models and groups of weakened orderings that exist, and
/// leaves no model out.
#[test]
fn the_protocols_have_their_headers_models_and_weakened_orderings() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let page = read("ARCHITECTURE.md");
    let (_, table) = page.split_once("| protocol | header").expect("the table is there");
    let mut models: HashSet<String> = HashSet::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        for header in quoted(cells[1]).filter(|name| name.ends_with(".rs")) {
            assert!(root().join("src").join(header).exists(), "no such header: {header}");
        }
        for model in quoted(cells[2]) {
            let file = ["{}.rs", "{}/mod.rs"]
                .map(|name| format!("src/models/{}", name.replace("{}", model)));
            assert!(file.iter().any(|file| root().join(file).exists()), "no such model: {model}");
            models.insert(model.to_owned());
        }
        for group in quoted(cells[3]) {
            assert!(
                root().join("scripts/orderings").join(group).exists(),
                "no such group: {group}"
            );
        }
    }
    let there = read("src/models/mod.rs");
    let there = there.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let left_out: Vec<_> = there.filter(|model| !models.contains(*model)).collect();
    assert_eq!(left_out, [""; 0], "models that no protocol names");
}

#[test]
fn each_file_of_tests_is_on_the_page_that_traces_them() {
    let page = fs::read_to_string(root().join("docs/traceability.md")).unwrap();
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = format!("`tests/{}`", path.file_name().unwrap().to_str().unwrap());
            assert!(page.contains(&name), "docs/traceability.md has no row with {name}");
        }
    }
}
