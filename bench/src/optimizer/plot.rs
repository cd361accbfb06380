//! A plot of times against sizes, both as logarithms, as a picture (SVG) that fits light and dark pages.
//!
//! A power of the size is a straight line there, and its exponent is the slope: a decade to the right is as wide as a decade
//! up is high.

use std::fmt::Write;
use std::ops::RangeInclusive;

/// One curve.
pub(super) struct Curve<'p> {
    /// What it is of.
    pub(super) name: &'p str,
    /// Sizes and times, each above zero; sizes go up.
    pub(super) points: &'p [(f64, f64)],
}

/// Pixels that a factor of ten takes, either way.
const DECADE: f64 = 110.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 130.0;
const BOTTOM: f64 = 48.0;

const STYLE: &str = "\
    text { font-family: sans-serif; font-size: 12px; fill: #333 }\n\
    .grid { stroke: #ccc } .curve { fill: none; stroke-width: 2 }\n\
    .c0 { stroke: #1668b8; fill: #1668b8 } .c1 { stroke: #c2571a; fill: #c2571a }\n\
    .ideal { stroke: #888; stroke-dasharray: 4 4 }\n\
    text.c0, text.c1 { stroke: none }\n\
    @media (prefers-color-scheme: dark) {\n\
      text { fill: #ddd } .grid { stroke: #444 }\n\
      .c0 { stroke: #6cb2f5; fill: #6cb2f5 } .c1 { stroke: #f0935a; fill: #f0935a }\n\
    }\n";

/// The picture of at most two curves; sizes count `x`, times are seconds.
pub(super) fn plot(title: &str, x: &str, curves: &[Curve<'_>]) -> String {
    let frame = Frame::around(curves);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" role=\"img\">\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n<text x=\"{LEFT}\" y=\"20\">{title}</text>\n",
        frame.width() + LEFT + RIGHT,
        frame.height() + TOP + BOTTOM,
    );
    frame.grid(&mut svg, x);
    for (index, curve) in curves.iter().enumerate() {
        frame.curve(&mut svg, index, curve);
    }
    svg += "</svg>\n";
    svg
}

/// The decades that are shown.
struct Frame {
    x: RangeInclusive<i32>,
    y: RangeInclusive<i32>,
}

impl Frame {
    fn around(curves: &[Curve<'_>]) -> Frame {
        let points = || curves.iter().flat_map(|curve| curve.points);
        let decades = |value: fn(&(f64, f64)) -> f64| {
            let logarithms = || points().map(value).map(f64::log10);
            let low = logarithms().fold(f64::INFINITY, f64::min).floor();
            let high = logarithms().fold(f64::NEG_INFINITY, f64::max).ceil();
            low as i32..=high as i32
        };
        Frame { x: decades(|point| point.0), y: decades(|point| point.1) }
    }

    fn width(&self) -> f64 {
        f64::from(self.x.end() - self.x.start()) * DECADE
    }

    fn height(&self) -> f64 {
        f64::from(self.y.end() - self.y.start()) * DECADE
    }

    /// Where a size and a time, as logarithms, are.
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let right = (x - f64::from(*self.x.start())) * DECADE;
        let down = (f64::from(*self.y.end()) - y) * DECADE;
        (LEFT + right, TOP + down)
    }

    /// Lines at each power of ten, and their names.
    fn grid(&self, svg: &mut String, x_name: &str) {
        let (bottom, right) = (TOP + self.height(), LEFT + self.width());
        for decade in self.x.clone() {
            let x = self.place(f64::from(decade), 0.0).0;
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom:.1}\"/>");
            let at = bottom + 18.0;
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{at:.1}\" text-anchor=\"middle\">{}</text>",
                10_u64.pow(decade.max(0) as u32)
            );
        }
        for decade in self.y.clone() {
            let y = self.place(0.0, f64::from(decade)).1;
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right:.1}\"/>");
            let at = LEFT - 8.0;
            let _ = writeln!(
                svg,
                "<text x=\"{at}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                y + 4.0,
                seconds(decade)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{x_name}</text>",
            bottom + 38.0
        );
    }

    /// A curve, its name behind it, and from its first point the line of what grows as the size does.
    fn curve(&self, svg: &mut String, index: usize, curve: &Curve<'_>) {
        let [first, .., last] = curve.points else { return };
        let logarithms = |point: &(f64, f64)| (point.0.log10(), point.1.log10());
        let (x, y) = logarithms(first);
        let (end_x, end_y) = logarithms(last);
        let (from, to) = (self.place(x, y), self.place(end_x, y + end_x - x));
        let _ = writeln!(
            svg,
            "<path class=\"ideal\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
            from.0, from.1, to.0, to.1
        );
        let mut path = String::new();
        for point in curve.points {
            let (x, y) = logarithms(point);
            let (x, y) = self.place(x, y);
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
            let _ = writeln!(svg, "<circle class=\"c{index}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
        }
        let _ = writeln!(svg, "<path class=\"curve c{index}\" style=\"fill: none\" d=\"{path}\"/>");
        let (x, y) = self.place(end_x, end_y);
        let below = y + 4.0 + 16.0 * index as f64;
        let _ = writeln!(
            svg,
            "<text class=\"c{index}\" x=\"{:.1}\" y=\"{below:.1}\">{}</text>",
            x + 8.0,
            curve.name
        );
    }
}

/// A power of ten in seconds, as people write it.
fn seconds(decade: i32) -> String {
    let (unit, from) = match decade {
        0.. => ("s", 0),
        -3..0 => ("ms", -3),
        -6..-3 => ("µs", -6),
        _ => ("ns", -9),
    };
    format!("{} {unit}", 10_f64.powi(decade - from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_that_grows_as_its_size_runs_along_the_diagonal() {
        let points = [(100.0, 1e-4), (1000.0, 1e-3), (10_000.0, 1e-2)];
        let svg = plot("time", "nodes", &[Curve { name: "a pass", points: &points }]);
        let line = format!("M{LEFT:.1} {:.1}L{:.1} {:.1}", TOP + 2.0 * DECADE, LEFT + DECADE, TOP + DECADE);
        assert!(svg.contains(&line), "{svg}");
        assert!(
            svg.contains(">a pass</text>") && svg.contains(">10 ms</text>") && svg.contains(">10000</text>"),
            "{svg}"
        );
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        assert_eq!(
            [1, 0, -1, -3, -4, -6, -7].map(seconds),
            ["10 s", "1 s", "100 ms", "1 ms", "100 µs", "1 µs", "100 ns"]
        );
    }
}
