//! Draws the diagrams of the documentation: `docs/diagrams/NAME.txt` becomes `NAME.svg`.
//!
//! A source has one statement a line. Positions and sizes count in units of the grid:
//!
//! ```text
//! # a comment
//! title  TEXT                     read out by screen readers
//! size   WIDTH HEIGHT
//! group  ID X Y WIDTH HEIGHT TEXT     a frame behind boxes, its text at the top left
//! box    ID X Y WIDTH HEIGHT TEXT     `|` separates lines; the first is bold
//! store  ID X Y WIDTH HEIGHT TEXT     a box for data at rest
//! arrow  FROM SIDE TO SIDE TEXT       SIDE is left, right, top or bottom, and may have an offset
//! both   FROM SIDE TO SIDE TEXT       an arrow in both directions
//! ```

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

const DIRECTORY: &str = "docs/diagrams";
/// Pixels in one unit of the grid.
const UNIT: f64 = 10.0;
const LINE_HEIGHT: f64 = 17.0;
const FONT: &str =
    "font-family=\"system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif\"";

/// Draws every diagram, and prints the names of the files that changed.
pub(crate) fn run(workspace: &Path) -> ExitCode {
    match try_run(workspace) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn try_run(workspace: &Path) -> io::Result<()> {
    for source in sources(workspace)? {
        let svg = source.with_extension("svg");
        let drawn = draw_file(&source)?;
        if fs::read_to_string(&svg).ok().as_deref() != Some(&drawn) {
            fs::write(&svg, drawn)?;
            println!("{}", svg.strip_prefix(workspace).unwrap_or(&svg).display());
        }
    }
    Ok(())
}

/// The sources of all diagrams, in order.
fn sources(workspace: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(workspace.join(DIRECTORY))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

fn draw_file(source: &Path) -> io::Result<String> {
    let text = fs::read_to_string(source)?;
    let name = source.file_name().unwrap_or_default().to_string_lossy();
    let invalid = |problem| io::Error::other(format!("{DIRECTORY}/{name}: {problem}"));
    let diagram = Diagram::parse(&text).map_err(invalid)?;
    diagram.draw(&format!("{DIRECTORY}/{name}")).map_err(invalid)
}

/// A parsed source.
#[derive(Debug, Default)]
struct Diagram {
    title: String,
    width: f64,
    height: f64,
    shapes: Vec<Shape>,
    arrows: Vec<Arrow>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Group,
    Box,
    Store,
}

#[derive(Debug)]
struct Shape {
    kind: Kind,
    id: String,
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    lines: Vec<String>,
}

#[derive(Debug)]
struct Arrow {
    from: (String, Side),
    to: (String, Side),
    is_double: bool,
    text: String,
}

/// A side of a shape, and the distance from its middle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Left(f64),
    Right(f64),
    Top(f64),
    Bottom(f64),
}

impl Diagram {
    fn parse(text: &str) -> Result<Self, String> {
        let mut diagram = Self::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                diagram.statement(line).map_err(|problem| format!("line {}: {problem}", at + 1))?;
            }
        }
        Ok(diagram)
    }

    fn statement(&mut self, line: &str) -> Result<(), String> {
        let mut words = Words { rest: line };
        match words.next()? {
            "title" => self.title = words.rest.to_owned(),
            "size" => (self.width, self.height) = (words.pixels()?, words.pixels()?),
            "group" => self.shapes.push(words.shape(Kind::Group)?),
            "box" => self.shapes.push(words.shape(Kind::Box)?),
            "store" => self.shapes.push(words.shape(Kind::Store)?),
            "arrow" => self.arrows.push(words.arrow(false)?),
            "both" => self.arrows.push(words.arrow(true)?),
            other => return Err(format!("there is no statement {other:?}")),
        }
        Ok(())
    }

    fn draw(&self, source: &str) -> Result<String, String> {
        let places: HashMap<&str, &Shape> =
            self.shapes.iter().map(|shape| (shape.id.as_str(), shape)).collect();
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<!-- Drawn from {source} by `cargo xtask diagrams`. -->\n\
             <svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" {FONT} font-size=\"13\">\n\
             <title>{}</title>\n{MARKERS}\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"10\" fill=\"#ffffff\"/>\n",
            escaped(&self.title),
        );
        for shape in &self.shapes {
            shape.draw(&mut svg);
        }
        for arrow in &self.arrows {
            let end = |(id, side): &(String, Side)| {
                let shape = places.get(id.as_str()).ok_or(format!("there is no shape {id:?}"))?;
                Ok::<_, String>((shape.point(*side), *side))
            };
            arrow.draw(&mut svg, end(&arrow.from)?, end(&arrow.to)?);
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

const MARKERS: &str = "\
<defs><marker id=\"head\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" \
markerHeight=\"7\" orient=\"auto-start-reverse\"><path d=\"M0 0 10 5 0 10z\" fill=\"#475569\"/>\
</marker></defs>";

/// The words of one statement.
struct Words<'t> {
    rest: &'t str,
}

impl<'t> Words<'t> {
    fn next(&mut self) -> Result<&'t str, String> {
        let (word, rest) = self.rest.split_once(char::is_whitespace).unwrap_or((self.rest, ""));
        self.rest = rest.trim_start();
        if word.is_empty() { Err("a word is missing".to_owned()) } else { Ok(word) }
    }

    /// A number of grid units, in pixels.
    fn pixels(&mut self) -> Result<f64, String> {
        let word = self.next()?;
        let units: f64 = word.parse().map_err(|_| format!("{word:?} is not a number"))?;
        Ok(units * UNIT)
    }

    fn shape(&mut self, kind: Kind) -> Result<Shape, String> {
        Ok(Shape {
            kind,
            id: self.next()?.to_owned(),
            x: self.pixels()?,
            y: self.pixels()?,
            width: self.pixels()?,
            height: self.pixels()?,
            lines: self.rest.split('|').map(|line| line.trim().to_owned()).collect(),
        })
    }

    fn arrow(&mut self, is_double: bool) -> Result<Arrow, String> {
        let from = (self.next()?.to_owned(), self.side()?);
        let to = (self.next()?.to_owned(), self.side()?);
        Ok(Arrow { from, to, is_double, text: self.rest.to_owned() })
    }

    fn side(&mut self) -> Result<Side, String> {
        let word = self.next()?;
        let at = word.find(['+', '-']).unwrap_or(word.len());
        let (name, offset) = word.split_at(at);
        let offset: f64 = match offset {
            "" => 0.0,
            offset => offset.parse().map_err(|_| format!("{word:?} has no valid offset"))?,
        };
        let offset = offset * UNIT;
        match name {
            "left" => Ok(Side::Left(offset)),
            "right" => Ok(Side::Right(offset)),
            "top" => Ok(Side::Top(offset)),
            "bottom" => Ok(Side::Bottom(offset)),
            _ => Err(format!("{word:?} is not a side")),
        }
    }
}

impl Shape {
    /// The point of a side that an arrow touches.
    fn point(&self, side: Side) -> (f64, f64) {
        let (middle_x, middle_y) = (self.x + self.width / 2.0, self.y + self.height / 2.0);
        match side {
            Side::Left(offset) => (self.x, middle_y + offset),
            Side::Right(offset) => (self.x + self.width, middle_y + offset),
            Side::Top(offset) => (middle_x + offset, self.y),
            Side::Bottom(offset) => (middle_x + offset, self.y + self.height),
        }
    }

    fn draw(&self, svg: &mut String) {
        let Self { x, y, width, height, .. } = *self;
        let style = match self.kind {
            Kind::Group => "fill=\"#f8fafc\" stroke=\"#94a3b8\" stroke-dasharray=\"5 4\"",
            Kind::Box => "fill=\"#e0f2fe\" stroke=\"#0369a1\"",
            Kind::Store => "fill=\"#fef3c7\" stroke=\"#b45309\"",
        };
        let corner = if self.kind == Kind::Group { 10 } else { 6 };
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{corner}\" \
             {style}/>"
        );
        let is_group = self.kind == Kind::Group;
        let count = u32::try_from(self.lines.len()).map_or(0.0, f64::from);
        // A baseline lies about 4 pixels below the middle of a line.
        let first = if is_group {
            y + 19.0
        } else {
            y + height / 2.0 - (count - 1.0) * LINE_HEIGHT / 2.0 + 4.5
        };
        let mut baseline = first;
        for (at, line) in self.lines.iter().enumerate() {
            let weight = if at == 0 { " font-weight=\"600\"" } else { "" };
            let (text_x, anchor) =
                if is_group { (x + 12.0, "start") } else { (x + width / 2.0, "middle") };
            let _ = writeln!(
                svg,
                "<text x=\"{text_x}\" y=\"{baseline}\" text-anchor=\"{anchor}\" \
                 fill=\"#0f172a\"{weight}>{}</text>",
                escaped(line)
            );
            baseline += LINE_HEIGHT;
        }
    }
}

impl Arrow {
    fn draw(&self, svg: &mut String, from: ((f64, f64), Side), to: ((f64, f64), Side)) {
        let ((from_x, from_y), side) = from;
        let ((to_x, to_y), end_side) = to;
        let is_flat = |side| matches!(side, Side::Left(_) | Side::Right(_));
        let (middle_x, middle_y) = ((from_x + to_x) / 2.0, (from_y + to_y) / 2.0);
        let path = match (is_flat(side), is_flat(end_side)) {
            (true, true) => format!("M{from_x} {from_y} H{middle_x} V{to_y} H{to_x}"),
            (false, false) => format!("M{from_x} {from_y} V{middle_y} H{to_x} V{to_y}"),
            (true, false) => format!("M{from_x} {from_y} H{to_x} V{to_y}"),
            (false, true) => format!("M{from_x} {from_y} V{to_y} H{to_x}"),
        };
        let start = if self.is_double { " marker-start=\"url(#head)\"" } else { "" };
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"#475569\" stroke-width=\"1.5\" \
             marker-end=\"url(#head)\"{start}/>"
        );
        // A label stands above a flat arrow and to the right of an upright one.
        let (label_x, anchor) =
            if is_flat(side) { (middle_x, "middle") } else { (middle_x + 8.0, "start") };
        let label_y = if is_flat(side) { middle_y - 7.0 } else { middle_y + 4.0 };
        for (line, text) in self.text.split('|').filter(|text| !text.is_empty()).rev().enumerate() {
            let line = u32::try_from(line).map_or(0.0, f64::from);
            let _ = writeln!(
                svg,
                "<text x=\"{label_x}\" y=\"{}\" text-anchor=\"{anchor}\" fill=\"#334155\" \
                 font-size=\"12\">{}</text>",
                label_y - line * (LINE_HEIGHT - 2.0),
                escaped(text.trim())
            );
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    #[test]
    fn every_drawing_is_as_its_source_says() {
        let sources = sources(&workspace()).unwrap();
        assert!(!sources.is_empty());
        for source in sources {
            let drawn = fs::read_to_string(source.with_extension("svg")).unwrap_or_default();
            let is_current = draw_file(&source).unwrap() == drawn;
            assert!(is_current, "{}: run `cargo xtask diagrams`", source.display());
        }
    }

    #[test]
    fn an_error_names_the_line_and_the_problem() {
        let problem = |text| Diagram::parse(text).unwrap_err();
        assert_eq!(problem("size 1 1\nbxo a"), "line 2: there is no statement \"bxo\"");
        assert_eq!(problem("box a 1 2 x 4 Text"), "line 1: \"x\" is not a number");
        assert_eq!(problem("arrow a left"), "line 1: a word is missing");
        assert_eq!(problem("arrow a left b up"), "line 1: \"up\" is not a side");
        let unknown = Diagram::parse("arrow a left b right").unwrap().draw("x").unwrap_err();
        assert_eq!(unknown, "there is no shape \"a\"");
    }

    #[test]
    fn an_arrow_ends_at_the_sides_that_it_names() {
        let text = "size 30 10\nbox a 1 1 8 4 A\nbox b 20 1 8 4 B & b\narrow a right b left-1 c";
        let svg = Diagram::parse(text).unwrap().draw("x").unwrap();
        assert!(svg.contains("<path d=\"M90 30 H145 V20 H200\""), "{svg}");
        assert!(svg.contains(">B &amp; b</text>"), "{svg}");
    }
}
