//! Reads and applies the edits of `scripts/orderings`.
//!
//! A file has the edits of one group. An edit begins with `=== NAME`; comments may follow. Then
//! come `models:` (a part of the models' path), `expected:` (`fails` or `passes`), and for each
//! change `file:`, the old text after `--- old`, and the new text after `--- new`. White space in
//! the old text matches any white space, and the old text stands in one place.

use std::collections::BTreeMap;

/// A change of one place in the sources.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Change {
    pub(crate) file: String,
    pub(crate) old: String,
    pub(crate) new: String,
}

/// What is weakened, and what the models must then do.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Edit {
    pub(crate) name: String,
    pub(crate) models: String,
    pub(crate) expected: String,
    pub(crate) changes: Vec<Change>,
}

/// Reads the edits of a group.
pub(crate) fn parse(group: &str, text: &str) -> Result<Vec<Edit>, String> {
    enum Part {
        Head,
        Old,
        New,
    }
    let mut edits: Vec<Edit> = Vec::new();
    let mut part = Part::Head;
    for (number, line) in text.lines().enumerate() {
        let at = |what: &str| format!("{group}, line {}: {what}", number + 1);
        if let Some(name) = line.strip_prefix("=== ") {
            edits.push(Edit { name: format!("{group}: {name}"), ..Edit::default() });
            part = Part::Head;
            continue;
        }
        let edit = edits.last_mut().ok_or_else(|| at("the first line names an edit"))?;
        if let Some(file) = line.strip_prefix("file: ") {
            edit.changes.push(Change { file: file.into(), ..Change::default() });
            part = Part::Head;
            continue;
        }
        match (line, edit.changes.last_mut()) {
            ("--- old", Some(_)) => part = Part::Old,
            ("--- new", Some(_)) => part = Part::New,
            (line, Some(change)) if matches!(part, Part::Old) => push_line(&mut change.old, line),
            (line, Some(change)) if matches!(part, Part::New) => push_line(&mut change.new, line),
            (line, _) => match line.split_once(": ") {
                _ if line.is_empty() || line.starts_with('#') => {}
                Some(("models", models)) => edit.models = models.into(),
                Some(("expected", expected)) => edit.expected = expected.into(),
                _ => return Err(at("not a line of an edit")),
            },
        }
    }
    for edit in &mut edits {
        for change in &mut edit.changes {
            change.new.truncate(change.new.trim_end().len());
        }
        if edit.changes.is_empty()
            || edit.models.is_empty()
            || !["fails", "passes"].contains(&&*edit.expected)
        {
            return Err(format!("{}: lacks its models, what is expected, or a change", edit.name));
        }
    }
    Ok(edits)
}

fn push_line(text: &mut String, line: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(line);
}

/// Applies the changes in order. `sources` has the texts by path.
pub(crate) fn apply(edit: &Edit, sources: &mut BTreeMap<String, String>) -> Result<(), String> {
    for Change { file, old, new } in &edit.changes {
        let source = sources.get_mut(file).ok_or_else(|| format!("there is no {file}"))?;
        let places: Vec<_> = places(source, old);
        let [(begin, end)] = places[..] else {
            return Err(format!("{} places instead of 1 in {file}: {old}", places.len()));
        };
        source.replace_range(begin..end, new);
    }
    Ok(())
}

/// Returns where the words of `old` follow each other, with any white space between them.
fn places(source: &str, old: &str) -> Vec<(usize, usize)> {
    let words: Vec<&str> = old.split_whitespace().collect();
    let Some((first, rest)) = words.split_first() else { return Vec::new() };
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(begin) = source[from..].find(first).map(|at| from + at) {
        let end = rest.iter().try_fold(begin + first.len(), |at, word| {
            let behind = source[at..].trim_start();
            let space = source.len() - at - behind.len();
            (space > 0 && behind.starts_with(word)).then_some(at + space + word.len())
        });
        from = match end {
            Some(end) => {
                found.push((begin, end));
                end
            }
            None => begin + first.len(),
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "=== one\n# why\nmodels: idle\nexpected: fails\nfile: a\n--- old\nfence( SeqCst );\n--- new\n\n\
        === two\nmodels: lifo\nexpected: passes\nfile: a\n--- old\nb c\n--- new\nd\n  e\nfile: b\n--- old\nx\n--- new\ny\n";

    #[test]
    fn a_group_has_its_edits() {
        let edits = parse("group", TEXT).unwrap();
        assert_eq!(edits.len(), 2);
        assert_eq!((&*edits[0].name, &*edits[0].models), ("group: one", "idle"));
        assert_eq!(
            (&*edits[0].changes[0].old, &*edits[0].changes[0].new),
            ("fence( SeqCst );", "")
        );
        assert_eq!((&*edits[1].changes[0].new, edits[1].changes.len()), ("d\n  e", 2));
    }

    #[test]
    fn what_is_no_edit_is_refused() {
        for text in
            ["models: idle\n", "=== one\nmodel: idle\n", "=== one\nmodels: idle\nexpected: fails\n"]
        {
            assert!(parse("group", text).is_err(), "{text}");
        }
    }

    #[test]
    fn white_space_matches_any_and_one_place_is_needed() {
        let mut sources =
            BTreeMap::from([("a".into(), "b\n   c b".into()), ("b".into(), "x x".into())]);
        let edits = parse("group", TEXT).unwrap();
        assert!(apply(&edits[1], &mut sources).unwrap_err().contains("2 places"));
        assert_eq!(sources["a"], "d\n  e b");
        assert!(apply(&edits[1], &mut sources).unwrap_err().contains("0 places"));
    }
}
