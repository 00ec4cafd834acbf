//! The table: measures, bars, figures, the floor beside them, and whether a bar is met.
//!
//! Not here: any measuring. Invariant: a figure that could not be taken stands in the table with its reason, so that
//! no row silently disappears.

use std::fmt::Write as _;

use crate::trouble::Trouble;

/// What a figure counts, and so how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    EventsPerSecond,
    Milliseconds,
    Seconds,
    /// Processor seconds for a million events.
    ProcessorSeconds,
    Bytes,
    Mebibytes,
    Percent,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::EventsPerSecond => "events/s",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::ProcessorSeconds => "CPU-s per 10⁶",
            Unit::Bytes => "B/event",
            Unit::Mebibytes => "MiB",
            Unit::Percent => "%",
        }
    }

    fn write(self, figure: f64) -> String {
        match self {
            Unit::EventsPerSecond => thousands(figure),
            Unit::Mebibytes | Unit::Percent => format!("{figure:.0}"),
            Unit::Milliseconds | Unit::Seconds | Unit::ProcessorSeconds | Unit::Bytes if figure < 10.0 => {
                format!("{figure:.2}")
            }
            Unit::Milliseconds | Unit::Seconds | Unit::ProcessorSeconds | Unit::Bytes => format!("{figure:.1}"),
        }
    }
}

/// What architecture §6 asks.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    AtLeast(f64),
    AtMost(f64),
    /// Nothing; the figure explains another.
    None,
}

impl Bar {
    fn write(self, unit: Unit) -> String {
        match self {
            Bar::AtLeast(bar) => format!("≥ {}", short(unit.write(bar))),
            Bar::AtMost(bar) => format!("≤ {}", short(unit.write(bar))),
            Bar::None => "—".to_owned(),
        }
    }

    fn verdict(self, figure: f64) -> &'static str {
        let met = match self {
            Bar::AtLeast(bar) => figure >= bar,
            Bar::AtMost(bar) => figure <= bar,
            Bar::None => return "—",
        };
        if met { "yes" } else { "**no**" }
    }
}

/// A bar as people write it: without empty decimals.
fn short(figure: String) -> String {
    match figure.split_once('.') {
        Some((whole, decimals)) if decimals.chars().all(|c| c == '0') => whole.to_owned(),
        _ => figure,
    }
}

/// One measure.
#[derive(Debug)]
pub struct Row {
    pub measure: String,
    pub unit: Unit,
    pub bar: Bar,
    pub ours: Result<f64, Trouble>,
    pub floor: Option<f64>,
}

/// One measure beside a peer's.
#[derive(Debug)]
pub struct Versus {
    pub measure: String,
    pub unit: Unit,
    pub ours: f64,
    pub peer: String,
    pub theirs: Result<f64, Trouble>,
    /// How many times as good Piperoll is to be.
    pub bar: Option<f64>,
}

/// All that a run has to say.
#[derive(Debug, Default)]
pub struct Report {
    head: Vec<String>,
    rows: Vec<Row>,
    peers: Vec<Versus>,
    details: Vec<String>,
}

impl Report {
    /// A report that begins with these lines.
    pub fn new(head: Vec<String>) -> Self {
        Self { head, ..Self::default() }
    }

    /// Adds a measure that was taken, and says so at once.
    pub fn row(&mut self, measure: impl Into<String>, unit: Unit, bar: Bar, ours: f64, floor: Option<f64>) {
        self.push(Row { measure: measure.into(), unit, bar, ours: Ok(ours), floor });
    }

    /// Adds a measure that could not be taken.
    pub fn failure(&mut self, measure: impl Into<String>, unit: Unit, bar: Bar, why: Trouble) {
        self.push(Row { measure: measure.into(), unit, bar, ours: Err(why), floor: None });
    }

    fn push(&mut self, row: Row) {
        eprintln!("bench: {}", row.line());
        self.rows.push(row);
    }

    /// Adds a line above the table.
    pub fn head(&mut self, line: String) {
        eprintln!("bench: {line}");
        self.head.push(line);
    }

    /// Adds a comparison with a peer, and says so at once.
    pub fn versus(&mut self, versus: Versus) {
        eprintln!("bench: {}", versus.line());
        self.peers.push(versus);
    }

    /// Adds Markdown that stands below the table.
    pub fn detail(&mut self, markdown: String) {
        self.details.push(markdown);
    }

    /// How many measures could not be taken.
    pub fn failures(&self) -> usize {
        let ours = self.rows.iter().filter(|row| row.ours.is_err()).count();
        ours + self.peers.iter().filter(|versus| versus.theirs.is_err()).count()
    }

    /// The whole as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = self.head.join("\n");
        text.push_str("\n\n| measure | bar | Piperoll | floor | Piperoll / floor | met? |\n");
        text.push_str("|---|---:|---:|---:|---:|---|\n");
        for row in &self.rows {
            // Writing to a string does not fail.
            let _written = writeln!(text, "{}", row.line());
        }
        if !self.peers.is_empty() {
            text.push_str("\n### Beside peers\n\n");
            text.push_str("| measure | Piperoll | peer | peer's | times as good | bar | met? |\n");
            text.push_str("|---|---:|---|---:|---:|---:|---|\n");
        }
        for versus in &self.peers {
            let _written = writeln!(text, "{}", versus.line());
        }
        for detail in &self.details {
            text.push('\n');
            text.push_str(detail.trim_end());
            text.push('\n');
        }
        text
    }
}

impl Row {
    fn line(&self) -> String {
        let bar = self.bar.write(self.unit);
        let floor = self.floor.map_or_else(|| "—".to_owned(), |floor| self.unit.write(floor));
        let (figure, ratio, met) = match &self.ours {
            Ok(figure) => {
                let ratio = self.floor.filter(|floor| *floor > 0.0).map(|floor| figure / floor);
                let ratio = ratio.map_or_else(|| "—".to_owned(), |ratio| format!("{ratio:.2}"));
                (self.unit.write(*figure), ratio, self.bar.verdict(*figure))
            }
            Err(why) => (format!("failed: {}", cell(&why.to_string())), "—".to_owned(), "**no**"),
        };
        format!("| {}, {} | {bar} | {figure} | {floor} | {ratio} | {met} |", self.measure, self.unit.name())
    }
}

impl Versus {
    fn line(&self) -> String {
        let bar = self.bar.map_or_else(|| "—".to_owned(), |bar| format!("≥ {bar:.1}"));
        let (figure, times, met) = match &self.theirs {
            Ok(theirs) => {
                let more_is_better = self.unit == Unit::EventsPerSecond;
                let (good, other) = if more_is_better { (self.ours, *theirs) } else { (*theirs, self.ours) };
                let times = good / other.max(1e-9);
                let met = self.bar.map_or("—", |bar| if times >= bar { "yes" } else { "**no**" });
                (self.unit.write(*theirs), format!("{times:.2}"), met)
            }
            Err(why) => (format!("failed: {}", cell(&why.to_string())), "—".to_owned(), "—"),
        };
        let (measure, unit, ours) = (&self.measure, self.unit.name(), self.unit.write(self.ours));
        format!("| {measure}, {unit} | {ours} | {} | {figure} | {times} | {bar} | {met} |", self.peer)
    }
}

/// A table of further figures, under a heading.
pub fn table(heading: &str, columns: &[&str], rows: &[Vec<String>]) -> String {
    let mut text =
        format!("### {heading}\n\n| {} |\n|---|{}\n", columns.join(" | "), "---:|".repeat(columns.len() - 1));
    for row in rows {
        text.push_str(&format!("| {} |\n", row.join(" | ")));
    }
    text
}

/// Text that stays inside one cell of a table.
fn cell(text: &str) -> String {
    const LONGEST: usize = 400;
    let line: String = text.chars().map(|c| if c == '\n' || c == '|' { ' ' } else { c }).take(LONGEST).collect();
    line.trim().to_owned()
}

/// A whole number with its thousands set apart.
pub fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
