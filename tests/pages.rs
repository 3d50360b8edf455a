//! The pages beside the code: each test that they name is there. So a row that says what shows a thing does not outlive it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

const PAGES: [&str; 2] = ["ARCHITECTURE.md", "CHECKLIST.md"];
const CODE: [&str; 4] = ["src", "tests", "benches", "examples"];

/// The names of all functions in a folder.
fn functions(folder: &Path, found: &mut HashSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let names =
                text.split("fn ").skip(1).map(|rest| rest.split(['(', '<']).next().unwrap_or_default());
            found.extend(names.map(str::to_owned));
        }
    }
}

/// What stands between backticks and looks like a test's name: a sentence of four words and more.
fn named(page: &str) -> impl Iterator<Item = &str> {
    let sentence = |word: &&str| {
        let known = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        word.chars().all(known) && word.matches('_').count() >= 3
    };
    page.split('`').skip(1).step_by(2).filter(sentence)
}

#[test]
fn each_test_that_a_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = HashSet::new();
    CODE.iter().for_each(|folder| functions(&root.join(folder), &mut found));
    let mut looked_up = 0;
    for page in PAGES {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let missing: Vec<_> =
            named(&text).inspect(|_| looked_up += 1).filter(|name| !found.contains(*name)).collect();
        assert_eq!(missing, [""; 0], "{page} names what is not there");
    }
    assert!(looked_up > 200, "the pages name many: {looked_up}");
}

/// The table "from the origin to heist" has a test, or a doctest, in each row.
#[test]
fn each_part_of_the_origin_has_its_test() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGES[0])).unwrap();
    let section = page.split("## 11. From the origin to heist").nth(1).expect("the section is there");
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 25, "{} rows", rows.len());
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 3, "{row}");
        let shown = named(cells[2]).next().is_some()
            || ["doctest", "tests/"].iter().any(|way| cells[2].contains(way));
        assert!(shown, "no test in: {row}");
    }
}
