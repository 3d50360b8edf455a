//! Defines the style of lines, and the titles and legends of all pictures. Colours are from the
//! palette of Okabe and Ito, which colour-blind readers can tell apart. Lines differ in dashes and
//! markers too.

use std::error::Error;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::measure::meter::Way;

pub(super) const SKY: RGBColor = RGBColor(0x56, 0xB4, 0xE9);
pub(super) const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xB2);
pub(super) const VERMILLION: RGBColor = RGBColor(0xD5, 0x5E, 0x00);
const GREEN: RGBColor = RGBColor(0x00, 0x9E, 0x73);
const PURPLE: RGBColor = RGBColor(0xCC, 0x79, 0xA7);
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
pub(super) const GREY: RGBColor = RGBColor(0x77, 0x77, 0x77);
pub(super) const GRID: RGBColor = RGBColor(0xDD, 0xDD, 0xDD);

pub(super) const FONT: &str = "sans-serif";
pub(super) const LABEL: i32 = 13;
/// Height of title and legend at the top.
pub(super) const HEAD: i32 = 62;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), Box<dyn Error>>;
/// A position in the whole picture.
pub(super) type Place = (i32, i32);

#[derive(Clone, Copy)]
pub(super) enum Marker {
    Circle,
    Triangle,
    Square,
    Cross,
    None,
}

#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) colour: RGBColor,
    /// Pixels drawn and pixels left out.
    dash: Option<(i32, i32)>,
    marker: Marker,
}

pub(super) const IDEAL: Look = Look { colour: GREY, dash: Some((2, 5)), marker: Marker::None };

pub(super) fn look_of(way: Way) -> Look {
    use heist::Policy::{Sharded, SharedQueue};
    match way {
        Way::Crew(Sharded) => {
            Look { colour: VERMILLION, dash: Some((10, 5)), marker: Marker::Triangle }
        }
        Way::Crew(SharedQueue) => {
            Look { colour: GREEN, dash: Some((4, 4)), marker: Marker::Square }
        }
        Way::Crew(_) => Look { colour: BLUE, dash: None, marker: Marker::Circle },
        Way::Threads => Look { colour: PURPLE, dash: Some((14, 4)), marker: Marker::Cross },
    }
}

/// Draws a picture of the given size on white.
pub(super) fn svg(
    (width, height): (i32, i32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let size = (width.unsigned_abs(), height.unsigned_abs());
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(svg)
}

pub(super) fn write(area: &Area<'_>, text: &str, at: Place, size: i32, anchor: Pos) -> Drawn {
    area.draw_text(text, &(FONT, size).into_font().color(&INK).pos(anchor), at)?;
    Ok(())
}

pub(super) fn title(area: &Area<'_>, text: &str) -> Drawn {
    let style = (FONT, 17).into_font().style(FontStyle::Bold).color(&INK);
    area.draw_text(text, &style.pos(Pos::new(HPos::Left, VPos::Top)), (16, 12))?;
    Ok(())
}

/// Draws a row of samples under the title. `draw` draws one sample of the given width at the given
/// position.
pub(super) fn legend<T>(
    area: &Area<'_>,
    entries: &[(String, T)],
    draw: impl Fn(&Area<'_>, &T, Place, i32) -> Drawn,
) -> Drawn {
    const SAMPLE: i32 = 40;
    let (mut x, y) = (20, 46);
    for (text, entry) in entries {
        draw(area, entry, (x, y), SAMPLE)?;
        x += SAMPLE + 8;
        write(area, text, (x, y), LABEL, Pos::new(HPos::Left, VPos::Center))?;
        // Fonts differ between viewers. The space suffices for a wide font.
        x += 8 * text.chars().count() as i32 + 22;
    }
    Ok(())
}

pub(super) fn legend_of_lines(area: &Area<'_>, entries: &[(String, Look)]) -> Drawn {
    legend(area, entries, |area, look, (x, y), width| {
        line(area, vec![(x, y), (x + width, y)], *look)?;
        mark(area, (x + width / 2, y), *look)
    })
}

pub(super) fn line(area: &Area<'_>, places: Vec<Place>, look: Look) -> Drawn {
    let style = look.colour.stroke_width(2);
    match look.dash {
        None => area.draw(&PathElement::new(places, style))?,
        Some((drawn, gap)) => area.draw(&DashedPathElement::new(places, drawn, gap, style))?,
    }
    Ok(())
}

pub(super) fn mark(area: &Area<'_>, at: Place, look: Look) -> Drawn {
    let (x, y) = at;
    let filled = look.colour.filled();
    match look.marker {
        Marker::Circle => area.draw(&Circle::new(at, 5, filled))?,
        Marker::Triangle => area.draw(&TriangleMarker::new(at, 6, filled))?,
        Marker::Square => area.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], filled))?,
        Marker::Cross => area.draw(&Cross::new(at, 5, look.colour.stroke_width(3)))?,
        Marker::None => {}
    }
    Ok(())
}
