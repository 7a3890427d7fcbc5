//! What the demo prints: short lines, with colours where there is a terminal to show them.

use std::io::IsTerminal as _;

use anyhow::Result;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

/// The story as it is told, and which of its claims did not hold.
pub(super) struct Page {
    colour: bool,
    failed: Vec<String>,
    held: usize,
}

impl Page {
    /// On standard output; `NO_COLOR` (no-color.org) is honoured.
    pub(super) fn stdout() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        Self { colour, failed: Vec::new(), held: 0 }
    }

    pub(super) fn title(&self, text: &str) {
        println!("\n{}", self.paint(BOLD, text));
    }

    pub(super) fn chapter(&self, text: &str) {
        println!("\n{}", self.paint(BOLD, text));
    }

    #[expect(clippy::unused_self, reason = "the page prints; that plain lines need no style is its own affair")]
    pub(super) fn line(&self, text: &str) {
        println!("    {text}");
    }

    /// A detail that may be skipped.
    pub(super) fn aside(&self, text: &str) {
        println!("    {}", self.paint(DIM, text));
    }

    /// One thing that Clawhold claims, and whether it held. An error says what was seen instead.
    pub(super) fn claim(&mut self, claim: &str, proof: Result<()>) {
        match proof {
            Ok(()) => {
                self.held += 1;
                println!("  {} {claim}", self.paint(GREEN, "✓"));
            }
            Err(error) => {
                println!("  {} {claim}: {error:#}", self.paint(RED, "✗"));
                self.failed.push(claim.to_owned());
            }
        }
    }

    pub(super) fn end(&self) {
        match self.failed.len() {
            0 => self.chapter(&format!("All {} claims held.", self.held)),
            failed => self.chapter(&format!("{failed} of {} claims did not hold.", failed + self.held)),
        }
    }

    /// The claims that did not hold.
    pub(super) fn failed(&self) -> &[String] {
        &self.failed
    }

    fn paint(&self, style: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_does_not_hold_is_remembered() {
        let mut page = Page { colour: false, failed: Vec::new(), held: 0 };
        page.claim("one", Ok(()));
        page.claim("two", Err(anyhow::anyhow!("seen otherwise")));
        assert_eq!((page.failed(), page.held), (&["two".to_owned()][..], 1));
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(thousands(number), expected);
        }
    }
}
