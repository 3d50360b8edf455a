//! Draws, for each row of the main table, the factor by which each peer exceeds heist, on a
//! logarithmic axis.

use std::fmt::Write;

use crate::report::{HEIST, Report, Row};

const COLOURS: [(&str, &str); 10] = [
    ("heist", "#c1121f"),
    ("tokio", "#2a6fdb"),
    ("kompact", "#2a9d3c"),
    ("actix", "#8d5bd6"),
    ("ractor", "#e08a00"),
    ("kameo", "#c2418c"),
    ("threads", "#6b7280"),
    ("rayon", "#111827"),
    ("go", "#00a2b8"),
    ("erlang", "#8b5a2b"),
];
const LEFT: f64 = 190.0;
const WIDTH: f64 = 640.0;
const STEP: f64 = 24.0;
const TOP: f64 = 86.0;
const LEAST: f64 = 0.1;
const MOST: f64 = 1_000.0;

pub fn picture(report: &Report<'_>) -> String {
    let rows: Vec<Row> = report.rows(true).into_iter().filter(|row| unit(report, row).is_some()).collect();
    let height = TOP + STEP * rows.len() as f64 + 40.0;
    let total = LEFT + WIDTH + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {total} {height}\" width=\"{total}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"16\" y=\"26\" font-size=\"16\" font-weight=\"bold\">How many times as much as heist</text>\n"
    );
    legend(&mut svg, report);
    axis(&mut svg, height);
    for (at, row) in rows.iter().enumerate() {
        let y = TOP + STEP * (at as f64 + 0.5);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 12.0,
            y + 4.0,
            row.label()
        );
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#eee\"/>",
            LEFT + WIDTH
        );
        let Some(one) = unit(report, row) else { continue };
        for peer in report.peers {
            let Some(middle) = report.middle(row, &peer.name) else { continue };
            let ratio = middle.median / one;
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{y}\" r=\"{}\" fill=\"{}\" fill-opacity=\"0.85\"><title>{}, {}: {ratio:.2}</title></circle>",
                place(ratio),
                if peer.name == HEIST { 6 } else { 4 },
                colour(&peer.name),
                peer.name,
                row.label(),
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns the value that counts as 1: heist's figure, or the best peer's figure if heist did not
/// run.
fn unit(report: &Report<'_>, row: &Row) -> Option<f64> {
    let heist = report.middle(row, HEIST).map(|m| m.median);
    heist.or(report.best(row).map(|(_, best)| best)).filter(|v| *v > 0.0)
}

fn place(ratio: f64) -> f64 {
    let share = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + WIDTH * share
}

fn colour(peer: &str) -> &'static str {
    COLOURS.iter().find(|(name, _)| *name == peer).map_or("#000", |(_, colour)| colour)
}

fn legend(svg: &mut String, report: &Report<'_>) {
    for (at, peer) in report.peers.iter().enumerate() {
        let x = 20.0 + 82.0 * at as f64;
        let _ = writeln!(
            svg,
            "<circle cx=\"{x}\" cy=\"46\" r=\"5\" fill=\"{}\"/><text x=\"{}\" y=\"50\">{}</text>",
            colour(&peer.name),
            x + 9.0,
            peer.name,
        );
    }
}

fn axis(svg: &mut String, height: f64) {
    for (ratio, label) in
        [(0.1, "0.1 and less"), (1.0, "1"), (10.0, "10"), (100.0, "100"), (1_000.0, "1,000 and more")]
    {
        let x = place(ratio);
        let (stroke, anchor) =
            (if ratio == 1.0 { "#c1121f" } else { "#ccc" }, if ratio == MOST { "end" } else { "middle" });
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"{stroke}\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\" fill=\"#555\">{label}</text>",
            height - 32.0,
            TOP - 8.0,
        );
    }
}
