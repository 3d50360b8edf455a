//! Draws the results: throughput as bars, times of reads and writes as points on a logarithmic
//! line, and their growth with the pace.

use crate::measure::delay::Delay;
use crate::measure::table::time;
use crate::measure::text::grouped;
use crate::{PERCENTILES, Paced, Row, Run, WAYS};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::error::Error;
use std::time::Duration;

const WIDTH: i32 = 1120;
const NAMES: i32 = 150;
const GAP: i32 = 40;
const LINE: i32 = 26;
const HEAD: i32 = 56;
const FOOT: i32 = 44;
const PANEL: i32 = HEAD + LINE * WAYS.len() as i32 + FOOT;

const CURVES: i32 = 330;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);
const HEIST: RGBColor = RGBColor(0x00, 0x72, 0xB2);
const OTHERS: RGBColor = RGBColor(0x9A, 0x9A, 0x9A);

/// The palette of Okabe and Ito, which colour-blind readers can tell apart.
const LINES: [RGBColor; WAYS.len()] = [
    HEIST,
    RGBColor(0xD5, 0x5E, 0x00),
    RGBColor(0x00, 0x9E, 0x73),
    RGBColor(0xCC, 0x79, 0xA7),
    RGBColor(0xE6, 0x9F, 0x00),
    RGBColor(0x56, 0xB4, 0xE9),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error + Send + Sync>>;

pub(crate) fn draw(
    mixed: &[Row],
    writes: &[Row],
    paced: &[Paced],
) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut svg = String::new();
    {
        let size = (WIDTH as u32, (2 * PANEL + CURVES + 10) as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        let half = (WIDTH - GAP) / 2;
        let panel = |column: i32, line: i32| {
            let height = if line == 2 { CURVES } else { PANEL };
            area.clone().shrink((column * (half + GAP), line * PANEL), (half, height))
        };
        bars(&panel(0, 0), "Single-row writes a second", writes, Run::a_second)?;
        bars(&panel(1, 0), "Operations a second, 90 % reads", mixed, Run::a_second)?;
        points(&panel(0, 1), "Single-row writes, as fast as they are answered", writes, |run| {
            &run.seen.writes
        })?;
        points(
            &panel(1, 1),
            "Reads beside 10 % writes, as fast as they are answered",
            mixed,
            |run| &run.seen.reads,
        )?;
        curves(&panel(0, 2), "Writes' p99, beside 90 % reads, over the pace", paced, |run| {
            &run.seen.writes
        })?;
        curves(&panel(1, 2), "Reads' p99, beside 10 % writes, over the pace", paced, |run| {
            &run.seen.reads
        })?;
        area.present()?;
    }
    Ok(svg)
}

/// Draws p99 over operations a second, both logarithmic. A line ends with the last pace that its
/// way kept.
fn curves(area: &Area<'_>, title: &str, paced: &[Paced], of: impl Fn(&Run) -> &Delay) -> Drawn {
    let style = ("sans-serif", 16).into_font().style(FontStyle::Bold).color(&INK);
    area.draw_text(title, &style, (12, 12))?;
    let lines: Vec<Vec<(f64, f64)>> = (0..WAYS.len())
        .map(|way| {
            let place = |paced: &Paced| {
                let row = paced.rows.iter().find(|row| row.way == way)?;
                Some((paced.pace, row.percentile(&of, 0.99)?))
            };
            paced.iter().map_while(place).collect()
        })
        .collect();
    let values = || lines.iter().flatten().map(|(_, ns)| *ns).filter(|ns| *ns > 0.0);
    let low = values().fold(f64::MAX, f64::min).clamp(1.0, 1e12).log10().floor();
    let high = values().fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let (left, right) = (84, area.dim_in_pixel().0 as i32 - 150);
    let (top, bottom) = (HEAD - 8, CURVES - FOOT);
    let paces = || paced.iter().map(|paced| paced.pace);
    let (first, last) = (paces().fold(f64::MAX, f64::min), paces().fold(1.0, f64::max));
    let across = (last / first).log10().max(0.1);
    let x = |pace: f64| left + (f64::from(right - left) * (pace / first).log10() / across) as i32;
    let y = |ns: f64| {
        bottom - (f64::from(bottom - top) * (ns.max(1.0).log10() - low) / (high - low)) as i32
    };
    for decade in low as i32..=high as i32 {
        let ns = 10_f64.powi(decade);
        area.draw(&PathElement::new([(left, y(ns)), (right, y(ns))], GRID.stroke_width(1)))?;
        write(area, &label(ns), (left - 8, y(ns)), 12, HPos::Right)?;
    }
    for pace in paces() {
        area.draw(&PathElement::new([(x(pace), top), (x(pace), bottom)], GRID.stroke_width(1)))?;
        write(area, &grouped(pace as u64), (x(pace), bottom + 14), 12, HPos::Center)?;
    }
    write(area, "operations a second", ((left + right) / 2, bottom + 32), 12, HPos::Center)?;
    for (way, line) in lines.iter().enumerate().rev() {
        let (colour, places) =
            (LINES[way], line.iter().map(|(pace, ns)| (x(*pace), y(*ns))).collect::<Vec<_>>());
        let width = if way == 0 { 3 } else { 2 };
        for place in &places {
            area.draw(&Circle::new(*place, 4, colour.filled()))?;
        }
        area.draw(&PathElement::new(places, colour.stroke_width(width)))?;
        let at = (right + 14, top + 14 + 22 * way as i32);
        area.draw(&PathElement::new([at, (at.0 + 18, at.1)], colour.stroke_width(width)))?;
        write(area, WAYS[way], (at.0 + 24, at.1), 12, HPos::Left)?;
    }
    Ok(())
}

fn label(ns: f64) -> String {
    let text = time(Duration::from_nanos(ns as u64));
    text.replace(".00", "").replace(".0 ", " ").replace("us", "\u{b5}s")
}

fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32, to: HPos) -> Drawn {
    let style = ("sans-serif", size).into_font().color(&INK).pos(Pos::new(to, VPos::Center));
    area.draw_text(text, &style, at)?;
    Ok(())
}

fn head(area: &Area<'_>, title: &str) -> Drawn {
    let style = ("sans-serif", 16).into_font().style(FontStyle::Bold).color(&INK);
    area.draw_text(title, &style, (12, 12))?;
    for (way, name) in WAYS.iter().enumerate() {
        write(area, name, (NAMES - 10, middle(way)), 13, HPos::Right)?;
    }
    Ok(())
}

fn middle(way: usize) -> i32 {
    HEAD + LINE * way as i32 + LINE / 2
}

fn colour(way: usize) -> RGBColor {
    if way == 0 { HEIST } else { OTHERS }
}

/// Draws a bar for the median of each way, with a line from the least to the greatest run.
fn bars(area: &Area<'_>, title: &str, rows: &[Row], of: impl Fn(&Run) -> f64) -> Drawn {
    head(area, title)?;
    let width = area.dim_in_pixel().0 as i32 - NAMES - 90;
    let most = rows.iter().flat_map(|row| row.runs.iter().map(&of)).fold(1.0, f64::max);
    let x = |value: f64| NAMES + (f64::from(width) * value / most) as i32;
    for row in rows {
        let (y, median) = (middle(row.way), row.median(&of));
        let bar = Rectangle::new([(NAMES, y - 8), (x(median), y + 8)], colour(row.way).filled());
        area.draw(&bar)?;
        let values = || row.runs.iter().map(&of);
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
        area.draw(&PathElement::new([(x(low), y), (x(high), y)], INK.stroke_width(1)))?;
        write(area, &grouped(median.round() as u64), (x(high.max(median)) + 8, y), 13, HPos::Left)?;
    }
    let (bottom, axis) = (HEAD + LINE * WAYS.len() as i32 + 4, INK.stroke_width(1));
    area.draw(&PathElement::new([(NAMES, HEAD - 4), (NAMES, bottom)], axis))?;
    Ok(())
}

/// Draws the percentiles of each way on a logarithmic line.
fn points(area: &Area<'_>, title: &str, rows: &[Row], of: impl Fn(&Run) -> &Delay) -> Drawn {
    head(area, title)?;
    let (left, right) = (NAMES + 10, area.dim_in_pixel().0 as i32 - 24);
    let values: Vec<(usize, Vec<f64>)> = rows
        .iter()
        .map(|row| {
            (
                row.way,
                PERCENTILES.iter().filter_map(|(_, part)| row.percentile(&of, *part)).collect(),
            )
        })
        .collect();
    let every = || {
        values.iter().flat_map(|(_, values)| values.iter().copied()).filter(|value| *value > 0.0)
    };
    let low = every().fold(f64::MAX, f64::min).clamp(1.0, 1e12).log10().floor();
    let high = every().fold(1.0, f64::max).log10().ceil().max(low + 1.0);
    let x = |ns: f64| {
        left + (f64::from(right - left) * (ns.max(1.0).log10() - low) / (high - low)) as i32
    };
    let bottom = HEAD + LINE * WAYS.len() as i32;
    for decade in low as i32..=high as i32 {
        let ns = 10_f64.powi(decade);
        area.draw(&PathElement::new(
            [(x(ns), HEAD - 4), (x(ns), bottom + 4)],
            GRID.stroke_width(1),
        ))?;
        write(area, &label(ns), (x(ns), bottom + 16), 12, HPos::Center)?;
    }
    for (way, values) in &values {
        let (y, filled) = (middle(*way), colour(*way).filled());
        if let (Some(first), Some(last)) = (values.first(), values.last()) {
            area.draw(&PathElement::new(
                [(x(*first), y), (x(*last), y)],
                colour(*way).stroke_width(2),
            ))?;
        }
        for (index, value) in values.iter().enumerate() {
            mark(area, index, (x(*value), y), filled)?;
        }
    }
    let mut at = right - 70 * PERCENTILES.len() as i32;
    for (index, (name, _)) in PERCENTILES.iter().enumerate() {
        mark(area, index, (at, 42), OTHERS.filled())?;
        write(area, name, (at + 10, 42), 12, HPos::Left)?;
        at += 70;
    }
    Ok(())
}

fn mark(area: &Area<'_>, percentile: usize, (x, y): (i32, i32), style: ShapeStyle) -> Drawn {
    match percentile {
        0 => area.draw(&Circle::new((x, y), 5, style))?,
        1 => area.draw(&Rectangle::new([(x - 5, y - 5), (x + 5, y + 5)], style))?,
        _ => area.draw(&TriangleMarker::new((x, y), 7, style))?,
    }
    Ok(())
}
