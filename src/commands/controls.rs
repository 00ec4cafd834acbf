//! `piperoll controls`: which questions and artefacts satisfy which control, and how they stand for a tenant.
//!
//! Not here: the map and the report (`query::controls`). Invariant: the exit code is 3 when a control has a gap or something
//! stale.

use super::query::shown;
use super::{FOUND, Outcome, block_on};
use crate::client::Target;
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show what satisfies the controls of a framework, how fresh it is, and what is missing
///
/// The map from controls to questions and artefacts is data: print it, change it, and name it with `controls` in the settings.
/// What it says of a standard is guidance in our own words.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll controls report acme --framework 'SOC 2'
  piperoll controls report acme --framework HIPAA --from 2026-07-01T00:00:00Z --until 2026-10-01T00:00:00Z --json
  piperoll controls map > controls.toml
  piperoll bundle make acme --for 'the auditor' --report 'controls:SOC 2' --out soc2.zip

Exit codes: 0 no control has a gap or something stale, 3 one has.
What the states mean, and how to change the map: docs/controls.md")]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the map that comes with the program
    Map,
    /// Ask what satisfies a framework's controls for a tenant
    Report(Box<Report>),
}

#[derive(Debug, Args)]
struct Report {
    /// Which tenant
    tenant: String,
    /// Which framework; all of the map's, when left out
    #[arg(long)]
    framework: Option<String>,
    /// Events from then on; of 90 days, when left out
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Events before then; now, when left out
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses.
pub fn run(arguments: &Arguments) -> Outcome {
    match &arguments.what {
        What::Map => {
            print!("{}", query::controls::BUILT_IN);
            Ok(ExitCode::SUCCESS)
        }
        What::Report(report) => block_on(ask(report))?,
    }
}

async fn ask(report: &Report) -> Outcome {
    let mut question = json!({"tenant": report.tenant});
    for (name, value) in [("framework", &report.framework), ("from", &report.from), ("until", &report.until)] {
        if let Some(value) = value {
            question[name] = json!(value);
        }
    }
    let text = report.target.client().ask("/v1/controls/reports", &question).await?.text().await?;
    let told: Value = serde_json::from_str(&text)?;
    // As it came: the hash is that of these bytes.
    match report.json {
        true => println!("{text}"),
        false => show(&told["answer"]),
    }
    let is_bad = |one: &Value| matches!(one["state"].as_str(), Some("gap" | "stale"));
    let any = told["answer"]["controls"].as_array().is_some_and(|all| all.iter().any(is_bad));
    Ok(if any { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

fn list(of: &Value) -> &[Value] {
    of.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn show(answer: &Value) {
    println!("{}\n", shown(&answer["summary"]));
    let mut table = output::table(&["framework", "control", "asks that", "stands", "by", "owner"]);
    for one in list(&answer["controls"]) {
        let states = one["states"].as_object().into_iter().flatten();
        let by: Vec<String> = states.map(|(id, state)| format!("{id} {}", word(state))).collect();
        table.add_row([
            shown(&one["framework"]),
            shown(&one["control"]),
            shown(&one["asks"]),
            word(&one["state"]),
            by.join(", "),
            shown(&one["owner"]),
        ]);
    }
    println!("{table}\n");
    let mut table = output::table(&["id", "what", "rows", "newest", "why not"]);
    for one in list(&answer["evidence"]) {
        let rows =
            if one["sql"].is_null() { String::new() } else { output::grouped(one["rows"].as_u64().unwrap_or(0)) };
        let is_missing = one["kind"] == "artefact" && one["why"].is_null() && one["rows"] == 0;
        let why = if is_missing { "none is there".into() } else { shown(&one["why"]) };
        table.add_row([shown(&one["id"]), shown(&one["title"]), rows, shown(&one["newest"]), why]);
    }
    println!("{table}");
}

fn word(state: &Value) -> String {
    match state.as_str() {
        Some("gap") => "GAP".into(),
        Some("stale") => "STALE".into(),
        Some("on_request") => "on request".into(),
        Some("nothing") => "nothing happened".into(),
        other => other.unwrap_or_default().into(),
    }
}
