//! What a person or a script sees: tables, JSON, errors with their causes, progress.
//!
//! Not here: what is shown. Invariants: results go to standard output, everything else to standard error;
//! progress is drawn on terminals only.

use comfy_table::{ContentArrangement, Table, TableComponent, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::io::IsTerminal as _;

/// Prints an error and its causes to standard error.
pub fn error(error: &dyn std::error::Error) {
    eprintln!("piperoll: {error}");
    for cause in std::iter::successors(error.source(), |cause| cause.source()) {
        eprintln!("  because: {cause}");
    }
}

/// A table with these headings, as wide as the terminal.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(headings.iter().map(|heading| heading.to_string()));
    table
}

/// Whether standard output is read by a person.
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// A bar that counts towards `total`; hidden when nobody looks.
pub fn progress(total: u64, unit: &'static str, bytes: bool) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(total);
    let template = if bytes {
        format!("{{wide_bar}} {{bytes}}/{{total_bytes}} {unit} {{bytes_per_sec}} {{eta}}")
    } else {
        format!("{{wide_bar}} {{human_pos}}/{{human_len}} {unit} {{per_sec}} {{eta}}")
    };
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style)
}

/// Says that an answer is worked on, and for how long; hidden when nobody looks.
pub fn waiting() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_message("the service is working on it");
    bar.enable_steady_tick(std::time::Duration::from_millis(250));
    bar
}

/// How far something is, as the service tells it: `planning: 312 of 1,000 streams`. None where it tells nothing.
pub fn step(told: &Value) -> Option<String> {
    let doing = told["doing"].as_str().filter(|doing| !doing.is_empty())?;
    let (done, of) = (told["done"].as_u64()?, told["of"].as_u64()?);
    let unit = told["unit"].as_str()?;
    Some(match of {
        0 => doing.to_string(),
        // Two questions at once may count as one step, of which the second's extent is not known yet.
        _ => format!("{doing}: {} of {} {unit}", grouped(done.min(of)), grouped(of)),
    })
}

/// A number with thin groups of three: 1,204,551.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_step_is_told_in_words() {
        let told = serde_json::json!({"step": 2, "doing": "planning", "done": 1_312, "of": 2_000, "unit": "streams"});
        assert_eq!(super::step(&told).as_deref(), Some("planning: 1,312 of 2,000 streams"));
        let begun = serde_json::json!({"step": 1, "doing": "what matches", "done": 0, "of": 0, "unit": "segments"});
        assert_eq!(super::step(&begun).as_deref(), Some("what matches"));
        let nothing = serde_json::json!({"step": 0, "doing": "", "done": 0, "of": 0, "unit": ""});
        assert_eq!(super::step(&nothing), None);
        assert_eq!(super::step(&serde_json::Value::Null), None);
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_204_551, "1,204,551")] {
            assert_eq!(super::grouped(number), text);
        }
    }
}
