//! Tables for people, JSON for programs.

use std::io::IsTerminal;

use serde_json::Value;

/// How a command prints.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// The API's answer, or what `people` makes of it.
    pub(crate) fn show(self, answer: &Value, people: impl FnOnce(&Value)) {
        if self.json {
            println!("{answer:#}");
        } else {
            people(answer);
        }
    }

    /// A list's items as a table with these columns: heading and member.
    pub(crate) fn list(self, answer: &Value, columns: &[(&str, &str)]) {
        self.show(answer, |answer| {
            let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            if items.is_empty() {
                println!("none");
                return;
            }
            let rows: Vec<Vec<String>> =
                items.iter().map(|item| columns.iter().map(|(_, member)| cell(&item[*member])).collect()).collect();
            table(&columns.iter().map(|(heading, _)| *heading).collect::<Vec<_>>(), &rows);
            if answer["next"].is_string() {
                println!("… there are more; the API gives them by page");
            }
        });
    }
}

/// A line on what is going on, for whoever waits at a terminal.
pub(crate) fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{what} …");
    }
}

/// One line at a terminal that changes while something goes on. Elsewhere nothing is shown.
#[derive(Default)]
pub(crate) struct Line {
    shown: bool,
}

impl Line {
    pub(crate) fn show(&mut self, text: &str) {
        if std::io::stderr().is_terminal() {
            // To the line's beginning, and what was there is erased.
            eprint!("\r\x1b[K{}", plain(text));
            self.shown = true;
        }
    }

    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprintln!();
        }
    }
}

/// A text of somebody else's, for a terminal: without what would steer it, or turn the direction of the line.
pub(crate) fn plain(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { ' ' } else { c }).collect()
}

/// A value as it stands in a table.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text).replace('\n', " "),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Rows under headings, each column as wide as its widest cell.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) {
    print!("{}", lines(headings, rows));
}

/// The same as text.
pub(crate) fn lines(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        rows.iter().map(|row| row[at].chars().count()).chain([headings[at].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}", width = *width)).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let head = line(headings.to_vec());
    rows.iter().fold(head, |text, row| text + &line(row.iter().map(String::as_str).collect()))
}

/// With a comma before each group of three digits.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_skill_says_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mred\u{7}\nb\u{202e}c\r"), "a [31mred \nb c ");
        assert_eq!(cell(&Value::String("a\nb\tc".to_owned())), "a b c");
        assert_eq!(plain("O'Brien, Zoë, 東京"), "O'Brien, Zoë, 東京");
    }
}
