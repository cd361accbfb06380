//! What a bench found: rows for machines, the same and some prose for people.

use std::fmt::{self, Display, Write};
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;

use crate::engine::{Failure, Result};
use crate::kernels::output_directory;

/// Says on a terminal what is being done; the next one takes the line's place.
pub(crate) fn progress(text: &str) {
    if stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}

/// A bound that a figure should keep.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// From above.
    AtMost(f64),
    /// From below.
    AtLeast(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtMost(bound) => value <= bound,
            Target::AtLeast(bound) => value >= bound,
        }
    }

    /// The bound behind its relation, which is written as `at_most` or `at_least`.
    fn text(self, at_most: &str, at_least: &str) -> String {
        match self {
            Target::AtMost(bound) => format!("{at_most} {}", rounded(bound)),
            Target::AtLeast(bound) => format!("{at_least} {}", rounded(bound)),
        }
    }
}

/// `value` with as many digits as a bound needs: two behind the point, or two that are not zero.
fn rounded(value: f64) -> String {
    let digits = if value.abs() >= 0.1 || value == 0.0 { 2 } else { 4 };
    let text = format!("{value:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One figure.
pub(crate) struct Row {
    /// What was measured; unique in its report.
    pub(crate) name: String,
    /// The figure.
    pub(crate) value: f64,
    /// Its unit: `ratio` is a time over another one, so that bigger is slower.
    pub(crate) unit: &'static str,
    /// What it should be, where a target is set.
    pub(crate) target: Option<Target>,
}

/// A table of text: the first line is the head, the first column is aligned left, the others right.
#[derive(Default)]
pub(crate) struct Table {
    /// The lines, all of the same number of cells.
    pub(crate) lines: Vec<Vec<String>>,
}

impl Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for line in &self.lines {
            let mut text = String::new();
            for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(text, "{cell:width$}")?;
                } else {
                    write!(text, "  {cell:>width$}")?;
                }
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Everything that one run of a bench has to say.
#[derive(Default)]
pub(crate) struct Report {
    /// Text before the summary, in order: policies, tables.
    pub(crate) sections: Vec<String>,
    /// The single figures of the tables above.
    pub(crate) details: Vec<Row>,
    /// What it comes down to, printed row by row.
    pub(crate) summary: Vec<Row>,
}

impl Report {
    /// Adds a row that stands in one of the tables.
    pub(crate) fn detail(&mut self, name: String, value: f64, unit: &'static str) {
        self.details.push(Row { name, value, unit, target: None });
    }

    /// Adds a row to the summary.
    pub(crate) fn conclude(&mut self, name: String, value: f64, unit: &'static str, target: Option<Target>) {
        self.summary.push(Row { name, value, unit, target });
    }

    /// The rows as a JSON list of `{name, value, unit, target, met}`, one a line; what is not set is `null`.
    pub(crate) fn to_json(&self) -> String {
        let mut text = String::from("[\n");
        let count = self.details.len() + self.summary.len();
        for (index, row) in self.details.iter().chain(&self.summary).enumerate() {
            let target = row.target.map_or("null".into(), |target| quoted(&target.text("<=", ">=")));
            let met = row.target.map_or("null".into(), |target| target.is_met(row.value).to_string());
            let value = if row.value.is_finite() { format!("{:.6}", row.value) } else { "null".into() };
            text += &format!(
                "  {{\"name\": {}, \"value\": {value}, \"unit\": {}, \"target\": {target}, \"met\": {met}}}{}\n",
                quoted(&row.name),
                quoted(row.unit),
                if index + 1 < count { "," } else { "" }
            );
        }
        text + "]\n"
    }

    /// Writes the rows to `target/bench/<name>.json` and says where that is.
    pub(crate) fn write(&self, name: &str) -> Result<PathBuf> {
        let path = output_directory()?.join(format!("{name}.json"));
        std::fs::write(&path, self.to_json()).map_err(|error| Failure::because(path.display(), error))?;
        Ok(path)
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.sections {
            writeln!(out, "{section}")?;
        }
        if self.summary.is_empty() {
            return Ok(());
        }
        let mut table =
            Table { lines: vec![["summary", "value", "unit", "target", ""].map(String::from).to_vec()] };
        for row in &self.summary {
            let target = row.target.map_or(String::new(), |target| target.text("≤", "≥"));
            let verdict = match row.target.map(|target| target.is_met(row.value)) {
                Some(true) => "met",
                Some(false) => "missed",
                None => "",
            };
            table.lines.push(vec![
                row.name.clone(),
                format!("{:.3}", row.value),
                row.unit.to_owned(),
                target,
                verdict.to_owned(),
            ]);
        }
        write!(out, "{table}")
    }
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            control if u32::from(control) < 0x20 => quoted += &format!("\\u{:04x}", u32::from(control)),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_json() {
        let mut report = Report::default();
        report.detail("a \"b\"\\\n".into(), f64::NAN, "ms");
        report.conclude("speed".into(), 1.5, "ratio", Some(Target::AtMost(1.3)));
        let expected = concat!(
            "[\n",
            r#"  {"name": "a \"b\"\\\u000a", "value": null, "unit": "ms", "target": null, "met": null},"#,
            "\n",
            r#"  {"name": "speed", "value": 1.500000, "unit": "ratio", "target": "<= 1.3", "met": false}"#,
            "\n]\n"
        );
        assert_eq!(report.to_json(), expected);
    }

    #[test]
    fn bounds_hold_from_their_side_and_say_so() {
        let (most, least) = (Target::AtMost(0.0033), Target::AtLeast(1.8));
        assert!(most.is_met(0.0033) && !most.is_met(0.0034));
        assert!(least.is_met(1.8) && !least.is_met(1.79) && !least.is_met(f64::NAN));
        assert_eq!((most.text("<=", ">="), least.text("≤", "≥")), ("<= 0.0033".into(), "≥ 1.8".into()));
        assert_eq!(Target::AtMost(20.0).text("<=", ">="), "<= 20");
    }

    #[test]
    fn tables_align_their_columns() {
        let cells = |line: &[&str]| line.iter().map(ToString::to_string).collect::<Vec<_>>();
        let table = Table { lines: vec![cells(&["x", "long"]), cells(&["wide", "1"])] };
        assert_eq!(table.to_string(), "x     long\nwide     1\n");
    }
}
