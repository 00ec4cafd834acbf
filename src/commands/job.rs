//! `piperoll job`: what the service does by itself now and then, and doing it now.
//!
//! Not here: jobs and their scheduler (`retention::jobs`). Invariant: a script learns from the exit code what a run came to.

use super::query::shown;
use super::{FOUND, Outcome, block_on};
use crate::client::Target;
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show the service's jobs, and run one now
///
/// Jobs run by themselves, as the settings say: a table [jobs] with a cron expression in UTC for each, or "never". Where
/// a scheduler of your own runs them, set them to "never" and let it call `piperoll job run`. Of each job one run at a time
/// goes on, whoever asks.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll job list
  piperoll job run verify
  piperoll job run retention --json
  piperoll query \"SELECT recorded_at, action, attributes FROM control WHERE resource_id = 'verify'\" --tenant platform

Exit codes: 0 done; 1 it failed, or is being run by somebody else; 3 it was done, and found what does not hold.
What each does, what stands on record, and what to do when one fails: docs/operations.md")]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show when each job is due, and what became of its newest run
    List,
    /// Run a job now, and wait until it is done
    Run {
        /// Which
        job: String,
    },
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses: somebody else runs the job.
pub fn run(arguments: &Arguments) -> Outcome {
    let client = arguments.target.client();
    block_on(async {
        match &arguments.what {
            What::List => {
                let jobs: Value = serde_json::from_str(&client.text("/v1/jobs").await?)?;
                if arguments.json {
                    println!("{jobs}")
                } else {
                    show_list(&jobs)
                }
                Ok(ExitCode::SUCCESS)
            }
            What::Run { job } => {
                let report = client.post(&format!("/v1/jobs/{job}/runs"), &json!({})).await?;
                if arguments.json {
                    println!("{report}")
                } else {
                    show_report(&report)
                }
                Ok(match report["outcome"].as_str() {
                    Some("ok") => ExitCode::SUCCESS,
                    Some("found") => ExitCode::from(FOUND),
                    _ => ExitCode::from(1),
                })
            }
        }
    })?
}

/// A time to the second: a table is read at a glance.
fn moment(value: &Value) -> String {
    value.as_str().map_or(String::new(), |text| text.chars().take(19).collect::<String>().replace('T', " "))
}

fn seconds(millis: &Value) -> String {
    millis
        .as_u64()
        .map_or(String::new(), |millis| format!("{}.{:03} s", output::grouped(millis / 1_000), millis % 1_000))
}

/// Names and values of an object, one to a line.
fn lines(object: &Value) -> String {
    let each = object.as_object().into_iter().flatten();
    let line = |(name, value): (&String, &Value)| {
        let value = value.as_u64().map_or_else(|| shown(value), output::grouped);
        format!("{name}: {value}")
    };
    each.map(line).collect::<Vec<_>>().join("\n")
}

fn show_list(jobs: &Value) {
    let mut table = output::table(&["job", "due (UTC)", "last run", "took", "result", "next", "missed", "lease until"]);
    for one in jobs["jobs"].as_array().into_iter().flatten() {
        let state = shown(&one["state"]);
        let failed = one["failed_runs"].as_u64().unwrap_or_default();
        let result = match state.as_str() {
            "running" => output::step(&one["progress"]).map_or("running".into(), |step| format!("running: {step}")),
            _ if failed > 0 => format!("{state}, {failed} in a row"),
            _ => state.clone(),
        };
        let lease = if state == "running" { moment(&one["lease_until_at"]) } else { String::new() };
        let missed = one["missed"].as_u64().filter(|missed| *missed > 0).map_or(String::new(), output::grouped);
        table.add_row([
            shown(&one["job"]),
            shown(&one["schedule"]),
            moment(&one["begun_at"]),
            seconds(&one["millis"]),
            result,
            moment(&one["next_at"]),
            missed,
            lease,
        ]);
    }
    println!("{table}\n");
    for one in jobs["jobs"].as_array().into_iter().flatten() {
        let job = shown(&one["job"]);
        for (what, value) in [("", &one["why"]), ("found: ", &one["first_finding"])] {
            if value.as_str().is_some_and(|text| !text.is_empty()) {
                println!("{job}: {what}{}", shown(value));
            }
        }
    }
}

fn show_report(report: &Value) {
    let (job, run) = (shown(&report["job"]), shown(&report["run"]));
    println!("{job} {}: {} after {}", run, shown(&report["outcome"]), seconds(&report["millis"]));
    if report["why"].as_str().is_some_and(|why| !why.is_empty()) {
        println!("because: {}", shown(&report["why"]));
    }
    let counted = lines(&report["result"]);
    if !counted.is_empty() {
        println!("{counted}");
    }
    if let Some(findings) = report["findings"].as_u64().filter(|findings| *findings > 0) {
        println!("\n{} do not hold, this one first:\n{}", output::grouped(findings), shown(&report["first_finding"]));
        println!(
            "each is an entry: piperoll query \"SELECT attributes FROM control WHERE action = 'job.find'\" --tenant platform"
        );
    }
}
