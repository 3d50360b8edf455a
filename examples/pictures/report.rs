//! Writes the report: one self-contained HTML file with a table and pictures for each load.

use std::error::Error;
use std::fs;
use std::path::Path;

use super::chart;
use crate::measure::machine;
use crate::measure::table::{self, COLUMNS, Row};

/// A load and its results.
pub(crate) struct Section {
    heading: String,
    text: String,
    table: Vec<Vec<String>>,
    /// An SVG picture and its caption.
    pictures: Vec<(String, &'static str)>,
}

impl Section {
    /// Makes the section of all runs of a load. The pictures of time and delays show crews of size
    /// `shown`. `most_parallel` is the number of workers that could share the load at best.
    pub(crate) fn new(
        heading: &str,
        text: &str,
        rows: &[Row<'_>],
        shown: usize,
        most_parallel: f64,
    ) -> Result<Self, Box<dyn Error>> {
        use crate::measure::meter::Way;
        let at_shown = |row: &&Row<'_>| row.workers == shown || row.way == Way::Threads;
        let runs: Vec<_> = rows.iter().filter(at_shown).map(Row::median).collect();
        let on = match shown {
            1 => "1 worker".to_owned(),
            shown => format!("{shown} workers"),
        };
        let mut pictures = Vec::new();
        if runs.iter().any(|run| run.crew.is_some()) {
            let busy = chart::busy(&format!("{heading}: activity of {on} over time"), &runs)?;
            pictures.push((busy, BUSY));
        }
        if runs.iter().any(|run| !run.delays.is_empty()) {
            let delays = chart::delays(&format!("{heading}: queue delay with {on}"), &runs)?;
            pictures.push((delays, DELAYS));
        }
        if rows.iter().any(|row| row.way != Way::Threads && row.workers != rows[0].workers) {
            let title = format!("{heading}: throughput over workers");
            pictures
                .push((chart::scaling(&title, rows, most_parallel, machine::cores())?, SCALING));
        }
        Ok(Self { heading: heading.into(), text: text.into(), table: table::cells(rows), pictures })
    }
}

const BUSY: &str = "Median runs. Blue is the part of the time in which a worker was busy by its own count. Busy workers that take \
    turns on fewer processors are blue too. Orange, from above, is the part in which a worker slept although actors waited. \
    White is the rest: searching for work, or asleep without work.";
const DELAYS: &str = "Median runs, a sample of the messages. Lower is better. The right end is the slowest sampled message. \
    Each percentile on the axis has a mark.";
const SCALING: &str = "Medians, and the range from the slowest run to the fastest. The ideal is the first row's single worker times the \
    number of workers, up to the number of processors and as far as the load can be shared, because the events of one key \
    are handled one after another.";

/// Checks that the page can be written, so that a failure comes now and not after minutes of
/// measuring. Existing content stays.
pub(crate) fn can_write(path: &Path) -> Result<(), Box<dyn Error>> {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    file.map(drop).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// Writes the page.
pub(crate) fn write(
    path: &Path,
    title: &str,
    introduction: &str,
    sections: &[Section],
) -> Result<(), Box<dyn Error>> {
    let page = page(title, introduction, sections);
    fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn page(title: &str, introduction: &str, sections: &[Section]) -> String {
    let mut body = format!("<h1>{}</h1>\n<p>{}</p>\n", escaped(title), escaped(introduction));
    for section in sections {
        body +=
            &format!("<h2>{}</h2>\n<p>{}</p>\n", escaped(&section.heading), escaped(&section.text));
        body += &html_table(&section.table);
        for (svg, caption) in &section.pictures {
            body += &format!(
                "<figure>\n{svg}<figcaption>{}</figcaption>\n</figure>\n",
                escaped(caption)
            );
        }
    }
    body += "<h2>Meaning of the columns</h2>\n<dl>\n";
    for (name, meaning) in COLUMNS {
        let name = if name.is_empty() { "the first" } else { name };
        body += &format!("<dt>{}</dt><dd>{}</dd>\n", escaped(name), escaped(meaning));
    }
    body += "</dl>\n";
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n{body}</body>\n</html>\n",
        escaped(title)
    )
}

const STYLE: &str = "\
body { font: 15px/1.5 sans-serif; color: #222; background: #fff; max-width: 1240px; margin: 24px auto; padding: 0 20px }
h1 { font-size: 24px } h2 { font-size: 19px; margin-top: 40px }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums }
th, td { padding: 4px 7px; text-align: right; border-bottom: 1px solid #ddd }
td { white-space: nowrap }
th { vertical-align: bottom; background: #f4f4f4 }
th:first-child, td:first-child { text-align: left; font-weight: bold }
figure { margin: 28px 0 } figure svg { max-width: 100%; height: auto; border: 1px solid #ddd }
figcaption { max-width: 920px; color: #444; font-size: 14px }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 20px; max-width: 920px; font-size: 14px }
dt { font-weight: bold } dd { margin: 0 }";

fn html_table(cells: &[Vec<String>]) -> String {
    let mut html = "<div class=\"wide\"><table>\n".to_owned();
    for (place, row) in cells.iter().enumerate() {
        let tag = if place == 0 { "th" } else { "td" };
        let row: String =
            row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(&units(cell)))).collect();
        html += &format!("<tr>{row}</tr>\n");
    }
    html + "</table></div>\n"
}

/// Uses the letters that a terminal may lack.
fn units(cell: &str) -> String {
    cell.replace(" us", " \u{b5}s").replace("..", "\u{2013}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
