//! Tests the reading of files and options, and the whole program on a small file.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::actor::{self, Log};
use crate::balance;
use crate::data::Events;
use crate::measure::machine::Pace;
use crate::measure::progress::Progress;
use crate::options::{self, Options, Request};
use crate::stream::Stream;

const SOME: &str = "\
at,account,weight
1,ann,2
2,bob,
3,ann,0.5
4,,1
5,ann,1.5
";

fn parsed(arguments: &[&str]) -> Result<Options, String> {
    match options::parse(arguments.iter().map(OsString::from))? {
        Request::Run(options) => Ok(options),
        Request::Help => Err("help".into()),
    }
}

fn options(more: &[&str]) -> Options {
    let arguments: Vec<_> = ["--keys", "none.csv", "--column", "account"]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    parsed(&arguments).unwrap()
}

fn events(text: &str, more: &[&str]) -> Result<Events, String> {
    Events::parse(text.as_bytes(), &options(more), Pace::calibrated(), &mut Progress::new(""))
        .map_err(|error| error.to_string())
}

#[test]
fn events_have_their_keys_and_costs() {
    let some = events(SOME, &["--cost-us", "3"]).unwrap();
    let keys: Vec<_> = some.list.iter().map(|(key, _)| some.keys.name(*key as usize)).collect();
    assert_eq!(keys, ["ann", "bob", "ann", "", "ann"]);
    assert_eq!((some.total_us(), some.busiest()), (15.0, "ann"));
    assert!((some.most_parallel() - 5.0 / 3.0).abs() < 1e-9);

    let some = events(SOME, &["--cost-us", "10", "--cost-column", "weight"]).unwrap();
    assert_eq!((some.total_us(), some.most_parallel()), (50.0, 50.0 / 40.0));
    let some = events(SOME, &["--cost-us=0"]).unwrap();
    assert_eq!((some.total_us(), some.busiest()), (0.0, "ann"), "counted instead");
    let some = events(SOME, &["--rows", "2"]).unwrap();
    assert_eq!((some.list.len(), some.keys.len()), (2, 2));
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    for (text, more, part) in [
        ("", &[][..], "the file is empty"),
        ("at,account\n", &[], "no events in it"),
        ("at,user\n1,ann\n", &[], "names no column \"account\"; it names at, user"),
        (
            SOME,
            &["--cost-column", "cost"],
            "names no column \"cost\"; it names at, account, weight",
        ),
        (
            &SOME.replace("0.5", "much"),
            &["--cost-column", "weight"],
            "line 4: weight is \"much\", not a number from 0",
        ),
        (&SOME.replace("0.5", "-1"), &["--cost-column", "weight"], "line 4: weight is \"-1\""),
        (&SOME.replace("0.5", "NaN"), &["--cost-column", "weight"], "line 4: weight is \"NaN\""),
        ("at,account\n1\n", &[], "line: 2"),
    ] {
        let error = events(text, more).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let error = balance(&options(&[]), |_| Ok(())).unwrap_err().to_string();
    assert!(error.starts_with("none.csv: ") && error.contains("No such file"), "{error}");
}

#[test]
fn what_is_wrong_with_the_options_is_said() {
    let needed = ["--keys", "a.csv", "--column=key"];
    let with =
        |more: &[&str]| parsed(&needed.into_iter().chain(more.iter().copied()).collect::<Vec<_>>());
    let all = with(&["--workers", "8,1,2,8", "--repeat=5", "--load", "0", "--out=x.html"]).unwrap();
    assert_eq!((all.workers, all.repeat, all.load, all.cost_us), (vec![1, 2, 8], 5, 0.0, 5.0));
    assert_eq!(with(&["--cost-column", "c"]).unwrap().cost_us, 1.0);
    for (more, part) in [
        (
            &["--workers", "2,none"][..],
            "--workers needs whole numbers from 1 to 4096, with commas between them, not \"none\"",
        ),
        (&["--workers="], "not \"\""),
        (
            &["--cost-us", "x"],
            "--cost-us needs a number of microseconds from 0 to 1000000, not \"x\"",
        ),
        (&["--load", "-1"], "--load needs per cent"),
        (&["--rows", "0"], "--rows needs a whole number from 1"),
        (&["--out"], "--out needs a value"),
        (&["--speed"], "--speed is not an option"),
    ] {
        let error = with(more).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    assert!(parsed(&["--keys", "a.csv"]).unwrap_err().contains("--column NAME is missing"));
    assert!(parsed(&["--column", "key"]).unwrap_err().contains("--keys FILE.csv is missing"));
}

#[test]
fn the_shown_crew_fits_the_processors() {
    let shown = |workers: &[usize]| Options { workers: workers.to_vec(), ..options(&[]) }.shown();
    assert_eq!(shown(&[1]), 1);
    assert_eq!(shown(&[4_000, 4_096]), 4_000, "none fits");
    assert_eq!(shown(&[1, 4_096]), 1);
}

#[test]
fn another_order_or_another_count_is_noticed() {
    let some = events(SOME, &[]).unwrap();
    let expected = actor::sequential(&some);
    assert_eq!(actor::differences(&some.keys, &expected, &expected), None);
    let log = |rows: &[u32]| {
        let mut log = Log::default();
        rows.iter().for_each(|row| log.add(*row));
        log
    };
    assert_eq!(log(&[0, 2, 4]), expected[0]);
    for wrong in [log(&[2, 0, 4]), log(&[0, 2]), log(&[0, 2, 4, 4]), log(&[0, 2, 3])] {
        let mut found = expected.clone();
        found[0] = wrong;
        let text = actor::differences(&some.keys, &expected, &found).unwrap();
        assert!(text.starts_with("1 keys differ") && text.contains("\"ann\""), "{text}");
    }
    let text = actor::differences(&some.keys, &expected, &expected[..2]).unwrap();
    assert!(text.contains("here None"), "{text}");
}

#[test]
fn a_steady_pace_is_a_part_of_what_processors_can_do() {
    let some = events(SOME, &["--cost-us", "10"]).unwrap();
    let paced = Stream::paced(&some, 50.0, 2).unwrap();
    assert!((paced.a_second() - 100_000.0).abs() < 1.0, "{}", paced.a_second());
    assert!(Stream::paced(&some, 0.0, 2).is_none());
    assert!(Stream::paced(&events(SOME, &["--cost-us", "0"]).unwrap(), 70.0, 2).is_none());
    for stream in [Stream::flood(&some), paced] {
        let mut rows = Vec::new();
        stream.each(|key, event| -> Result<(), ()> { Ok(rows.push((key, event.row))) }).unwrap();
        assert_eq!(rows, [(0, 0), (1, 1), (0, 2), (2, 3), (0, 4)]);
    }
}

#[test]
fn a_page_that_cannot_be_written_is_refused_before_the_runs() {
    let file = Temporary::new("unwritten.csv");
    fs::write(&file.0, SOME).unwrap();
    let nowhere = file.0.join("page.html");
    let options = Options { keys: file.0.clone(), out: nowhere.clone(), ..options(&[]) };
    let error = balance(&options, |text| panic!("it said {text}")).unwrap_err().to_string();
    assert!(error.starts_with(&nowhere.display().to_string()), "{error}");
}

/// A file that is removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("heist-balance-{}-{name}", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn compressed(path: &Path, text: &str) {
    let mut file = GzEncoder::new(fs::File::create(path).unwrap(), Compression::fast());
    file.write_all(text.as_bytes()).unwrap();
    file.finish().unwrap();
}

/// Makes fifty keys, of which the first has every second event.
fn skewed(events: usize) -> String {
    let row = |at: usize| {
        format!("{at},{}\n", if at.is_multiple_of(2) { 0 } else { 1 + at / 2 * 30 % 49 })
    };
    std::iter::once("at,account\n".to_owned()).chain((0..events).map(row)).collect()
}

#[test]
fn the_whole_program_on_a_small_file() {
    let (file, page) = (Temporary::new("events.csv.gz"), Temporary::new("page.html"));
    compressed(&file.0, &skewed(2_000));
    let said = Mutex::new(String::new());
    let options = Options {
        keys: file.0.clone(),
        out: page.0.clone(),
        workers: vec![1, 2],
        repeat: 2,
        cost_us: 2.0,
        ..options(&[])
    };
    let agreed = balance(&options, |text| {
        said.lock().unwrap().push_str(text);
        Ok(())
    });
    assert!(agreed.unwrap());

    let said = said.into_inner().unwrap();
    let runs = 2 * (2 * 3 + 1) + 2 * (3 + 1);
    for part in [
        "2,000 events with 50 keys in \"account\"; the busiest, \"0\", has 5",
        &format!("Every key of {runs} runs agrees with the sequential pass"),
        "idle hands",
        "At a steady pace of",
    ] {
        assert!(said.contains(part), "no {part:?} in:\n{said}");
    }
    for (way, rows) in [("Stealing", 3), ("Sharded", 3), ("SharedQueue", 3), ("a thread each", 2)] {
        assert_eq!(
            said.lines().filter(|line| line.trim_start().starts_with(way)).count(),
            rows,
            "{way} in:\n{said}"
        );
    }

    let html = fs::read_to_string(&page.0).unwrap();
    assert_eq!(html.matches("<svg").count(), 5, "time, delays, scaling; time and delays again");
    assert_eq!(html.matches("</svg>").count(), 5);
    for part in [
        "queue delay (logarithmic)",
        "time since the first message, ",
        "messages handled a second",
        "worker 0",
    ] {
        assert!(html.contains(part), "no {part:?}");
    }
    assert!(
        !html.contains("<script") && !html.contains("src=") && !html.contains("href="),
        "it needs something else"
    );
}

#[test]
fn threads_that_are_left_out_are_named_with_the_reason() {
    let (file, page) = (Temporary::new("left-out.csv"), Temporary::new("left-out.html"));
    fs::write(&file.0, skewed(100)).unwrap();
    let said = Mutex::new(String::new());
    let options = Options {
        keys: file.0.clone(),
        out: page.0.clone(),
        workers: vec![1],
        repeat: 1,
        load: 0.0,
        threads_up_to: 10,
        ..options(&[])
    };
    let agreed = balance(&options, |text| {
        said.lock().unwrap().push_str(text);
        Ok(())
    });
    assert!(agreed.unwrap());
    let said = said.into_inner().unwrap();
    let reason = "A thread for each key is left out: there are 50 keys, and --threads-up-to is 10.";
    assert!(said.contains(reason), "{said}");
    let html = fs::read_to_string(&page.0).unwrap();
    assert!(html.contains(reason) && !html.contains("a thread each</td>"));
    assert_eq!(html.matches("<svg").count(), 2, "no scaling over one size of crew");
}
