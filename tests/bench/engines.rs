//! DuckDB and DataFusion alone, as peers: what is installed of them for a Python, asked through `peers.py`.
//!
//! Both run inside that Python: no server, no HTTP, and answers stay Arrow tables, which is to their favour. Not here:
//! PostgreSQL (`postgres`), which files they read (`live`).
//!
//! Invariant: an answer counts when its rows, and the sum of its column `n`, are what was counted over the events.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::events::{BATCH, Events};
use crate::process;
use crate::questions::{Expected, Question};
use crate::trouble::{Outcome, Trouble};

/// The other half of this file.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/peers.py");

/// The engines that a Python has; a version each.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Versions {
    pub duckdb: Option<String>,
    pub datafusion: Option<String>,
}

/// A Python, and what is installed for it.
#[derive(Debug, Clone)]
pub struct Engines {
    python: PathBuf,
    pub versions: Versions,
}

/// What loading into DuckDB took.
#[derive(Debug, Clone, Deserialize)]
pub struct Brought {
    events: usize,
    seconds: f64,
    pub processor_seconds: f64,
}

impl Brought {
    /// Events a second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.seconds.max(1e-9)
    }
}

/// An engine's best answer to a question.
#[derive(Debug, Clone, Deserialize)]
pub struct Best {
    /// Milliseconds.
    pub median: f64,
    pub best: f64,
    rows: usize,
    sum: Option<usize>,
    /// With which settings.
    pub setting: String,
}

impl Best {
    /// The answer, if it is the right one.
    pub fn checked(self, what: &str, expected: Expected) -> Outcome<Self> {
        let got = Expected { rows: self.rows, sum: self.sum };
        if got == expected { Ok(self) } else { Err(Trouble::wrong(what, format!("{expected:?}"), format!("{got:?}"))) }
    }
}

/// Every engine's answers, in the order of the questions.
#[derive(Debug, Default, Deserialize)]
pub struct Answers {
    #[serde(default)]
    pub duckdb: Vec<Option<Best>>,
    #[serde(default)]
    pub datafusion: Vec<Option<Best>>,
}

impl Engines {
    /// Looks what this Python has.
    pub fn of(python: &Path) -> Outcome<Self> {
        let output = run(python, &["versions"], &[])?;
        let versions = serde_json::from_slice(&output).map_err(Trouble::unreadable("the versions of peers"))?;
        Ok(Self { python: python.to_owned(), versions })
    }

    /// Loads all events into a new DuckDB database below `folder`, from a file for each batch.
    pub fn load(&self, events: &Events, folder: &Path) -> Outcome<Brought> {
        let batches = folder.join("batches");
        std::fs::create_dir_all(&batches).map_err(Trouble::at("making", &batches))?;
        for from in (0..events.len()).step_by(BATCH) {
            let path = batches.join(format!("{from:010}.ndjson"));
            std::fs::write(&path, events.body(from, from + BATCH)).map_err(Trouble::at("writing", &path))?;
        }
        let (database, batches) = (folder.join("audit.duckdb"), batches.display().to_string());
        let output = run(&self.python, &["load", &database.display().to_string(), &batches], &[])?;
        let brought: Brought = serde_json::from_slice(&output).map_err(Trouble::unreadable("what DuckDB loaded"))?;
        if brought.events != events.len() {
            return Err(Trouble::wrong("events in DuckDB", events.len(), brought.events));
        }
        Ok(brought)
    }

    /// Asks every engine every question over the files below `folder`.
    pub fn ask(&self, folder: &Path, questions: &[Question]) -> Outcome<Answers> {
        let asked: Vec<_> = questions
            .iter()
            .map(|question| {
                let tenant = if question.tenants.len() == 1 { question.tenants[0].as_str() } else { "" };
                serde_json::json!({"sql": question.sql, "tenant": tenant})
            })
            .collect();
        let input = serde_json::Value::from(asked).to_string();
        let output = run(&self.python, &["ask", &folder.display().to_string()], input.as_bytes())?;
        serde_json::from_slice(&output).map_err(Trouble::unreadable("the answers of peers"))
    }
}

/// Runs the script to its end.
fn run(python: &Path, arguments: &[&str], input: &[u8]) -> Outcome<Vec<u8>> {
    const NAME: &str = "python peers.py";
    let doing = || Trouble::machine(format!("running `{NAME}`"));
    let mut command = Command::new(python);
    command.arg(SCRIPT).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(doing())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A script that has ended already says why on its own.
        let _ended = stdin.write_all(input);
    }
    let output = child.wait_with_output().map_err(doing())?;
    process::good(output, NAME)
}
