//! `piperoll generate`: writes the fictitious platform's events and the record of what was planted.
//!
//! Not here: the story itself ([`crate::generate`]). Invariant: the same arguments write the same bytes.

use super::Outcome;
use crate::generate::{Plan, generate};
use clap::Args;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write realistic events of a fictitious platform, and a record of what was planted among them
///
/// Twenty-four tenants in two regions, a partner, releases and one bad release, support with and without
/// elevation, a stolen session, exports across a border, late and repeated events. One JSON event a line, as
/// services would send them; load them with `piperoll ingest`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to write the events; - for standard output
    #[arg(long, default_value = "-", value_name = "FILE")]
    out: PathBuf,
    /// Where to write the record of what was planted (JSON)
    #[arg(long, value_name = "FILE")]
    planted: Option<PathBuf>,
    /// How many lines
    #[arg(long, default_value_t = 50_000)]
    events: usize,
    /// Any number; the same one gives the same events
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// When the story begins, as in 2026-03-02T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = ledger::time::parse_micros)]
    start: Option<i64>,
    /// How many days it lasts
    #[arg(long, default_value_t = 30)]
    days: u32,
}

/// Runs the command.
///
/// # Errors
/// A figure is out of bounds, or a file cannot be written.
pub fn run(arguments: &Arguments) -> Outcome {
    let start_us = arguments.start.unwrap_or(Plan::default().start_us);
    let plan = Plan { seed: arguments.seed, events: arguments.events, start_us, days: arguments.days };
    let mut out: Box<dyn Write> = if arguments.out.as_os_str() == "-" {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(BufWriter::new(File::create(&arguments.out)?))
    };
    let planted = generate(&plan, &mut out)?;
    out.flush()?;
    if let Some(path) = &arguments.planted {
        std::fs::write(path, serde_json::to_vec_pretty(&planted)?)?;
    }
    Ok(ExitCode::SUCCESS)
}
