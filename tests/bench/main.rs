//! `cargo bench --bench budget`: the budgets of architecture §6, measured beside a floor program in the same run.
//!
//! What it is not: a test. Nothing here fails because it was slow; a run fails when an answer was wrong or a program
//! did not do what it was asked. What is measured and how is told in docs/benchmarks.md.
//!
//! The map: `events` makes and holds the reference events, `rekeyed` gives them again and again; `floor` is the floor
//! program; `process` and `program` start and stop servers; `load` brings events in; `questions` and `asking` get
//! answers; `quiet` waits; `storage` weighs; `profile` samples. `peers` compares with other programs: `postgres` over `pgwire`, `engines`
//! through peers.py over the files that `live` lists. `sections` puts these together, with `ingest`, `answers`,
//! `costs`, `keyed`, `tenants` and `growth`; `machine` and `report` write the table.
//!
//! Invariant: the benchmark signals only processes that it started, and removes only folders that it made.

mod answers;
mod asking;
mod costs;
mod door;
mod engines;
mod events;
mod floor;
mod growth;
mod ingest;
mod keyed;
mod live;
mod load;
mod machine;
mod options;
mod peers;
mod pgwire;
mod postgres;
mod process;
mod profile;
mod program;
mod questions;
mod quiet;
mod rekeyed;
mod report;
mod sections;
mod storage;
mod tenants;
mod trouble;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;

use crate::events::Events;
use crate::options::Options;
use crate::peers::Peers;
use crate::program::Programs;
use crate::report::{Report, thousands};
use crate::sections::Bench;
use crate::trouble::{Outcome, Trouble};

fn main() -> ExitCode {
    let options = Options::parse().settled();
    let done = match (options.floor, options.listen, &options.data) {
        (true, Some(listen), Some(data)) => floor::serve(listen, data).map(|()| 0),
        _ => measure(options),
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("bench: {failures} measures could not be taken; their rows say why");
            ExitCode::FAILURE
        }
        Err(trouble) => {
            eprintln!("bench: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Runs the benchmark and prints the report; answers how many measures could not be taken.
fn measure(options: Options) -> Outcome<usize> {
    let events = Events::load(options.input.as_deref(), options.events, options.seed)?;
    let place = Place::make(&options)?;
    let mut report = Report::new(head(&options, &events, &place.0)?);
    let peers = Peers::find(&options, &place.0, &mut report);
    let floor = std::env::current_exe().map_err(Trouble::machine("looking for this program"))?;
    let piperoll = options.server.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_piperoll").into());
    let (out, into) = (options.out.clone(), options.into.clone());
    let keep = options.keep;
    let folder = place.0.clone();
    let programs = Programs { piperoll, floor };
    let mut bench = Bench { options, programs, events, folder, report, peers, sealed: None, is_settled: false };
    let runtime = tokio::runtime::Runtime::new().map_err(Trouble::machine("starting the client's threads"))?;
    runtime.block_on(bench.run());
    let markdown = bench.report.markdown();
    println!("{markdown}");
    if let Some(out) = out {
        std::fs::write(&out, &markdown).map_err(Trouble::at("writing", &out))?;
    }
    if let Some(page) = into {
        put_into(&page, &markdown)?;
    }
    if keep {
        eprintln!("bench: the stores are left in {}", place.0.display());
        std::mem::forget(place);
    }
    Ok(bench.report.failures())
}

/// Replaces what a page has between the lines that mark a run.
fn put_into(page: &Path, markdown: &str) -> Outcome<()> {
    const MARKS: [&str; 2] = ["<!-- run -->\n", "<!-- /run -->\n"];
    let text = std::fs::read_to_string(page).map_err(Trouble::at("reading", page))?;
    let parts = text.split_once(MARKS[0]).and_then(|(before, rest)| Some((before, rest.split_once(MARKS[1])?.1)));
    let (before, after) = parts.ok_or_else(|| Trouble::lacking(format!("the marks of a run in {}", page.display())))?;
    let text = format!("{before}{}\n{}\n{}{after}", MARKS[0], markdown.trim_end(), MARKS[1]);
    std::fs::write(page, text).map_err(Trouble::at("writing", page))
}

/// The lines above the table.
fn head(options: &Options, events: &Events, data: &Path) -> Outcome<Vec<String>> {
    let mut head = machine::facts(options.date.as_deref(), data)?;
    let bytes = events.text.len() as f64 / events.len() as f64;
    let rounds = options.rounds;
    head.push(format!(
        "- {} reference events (seed {}) of {bytes:.0} bytes, {} connections, median of {rounds} round{}",
        thousands(events.len() as f64),
        options.seed,
        load::CONNECTIONS,
        if rounds == 1 { "" } else { "s" },
    ));
    if events.len() != 1_000_000 {
        head.push("- **not the reference size**: the bars are meant for 1,000,000 events".to_owned());
    }
    Ok(head)
}

/// The folder in which this run's stores are made; it goes when the run does.
struct Place(PathBuf);

impl Place {
    fn make(options: &Options) -> Outcome<Self> {
        let parent =
            options.data.clone().unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-stores"));
        let folder = parent.join(format!("run-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(Trouble::at("making", &folder))?;
        Ok(Self(folder))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be removed is only in the way; the figures stand.
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}
