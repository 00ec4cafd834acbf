//! `piperoll release`: what changed from one release to another.
//!
//! Not here: what is compared (`query::scope`). Invariant: what is printed is what the service answered.

use super::query::shown;
use super::{Outcome, block_on};
use crate::client::Target;
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Compare two releases, tenant by tenant
///
/// Failures by Fisher's exact test, corrected for the tenants compared; latencies by their median and 95th percentile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll release compare 2026.8.1 2026.8.2 --below platform
  piperoll release compare 2026.8.1 2026.8.2 --below platform --canary acme --since 2026-08-14T00:00:00Z

Which release ran comes from the events' `release`. Rollouts are events of their own, `release.deployed` and
`release.rolled_back` in the platform's audit stream: docs/incidents.md")]
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
    /// Compare the events of one release with those of another
    Compare {
        /// The release before
        from: String,
        /// The release after
        to: String,
        /// A tenant; may be given more than once
        #[arg(long = "tenant", value_name = "TENANT")]
        tenants: Vec<String>,
        /// A tenant and all below it; `platform` for everybody
        #[arg(long, value_name = "TENANT")]
        below: Option<String>,
        /// A tenant that got the release first; may be given more than once
        #[arg(long = "canary", value_name = "TENANT")]
        canaries: Vec<String>,
        /// Not before then
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Before then
        #[arg(long, value_name = "TIME")]
        until: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses.
pub fn run(arguments: &Arguments) -> Outcome {
    let client = arguments.target.client();
    let What::Compare { from, to, tenants, below, canaries, since, until } = &arguments.what;
    let mut question = json!({"from": from, "to": to, "tenants": tenants, "canaries": canaries});
    for (name, value) in [("subtree", below), ("since", since), ("until", until)] {
        if let Some(value) = value {
            question[name] = json!(value);
        }
    }
    block_on(async {
        let answer = client.post("/v1/releases/compare", &question).await?;
        if arguments.json {
            println!("{answer}")
        } else {
            show(&answer["answer"])
        }
        Ok(ExitCode::SUCCESS)
    })?
}

fn show(answer: &Value) {
    println!("{}\n", shown(&answer["summary"]));
    let headings = [
        "tenant",
        "verdict",
        "failed before",
        "failed after",
        "chance",
        "p50 before",
        "p50 after",
        "p95 before",
        "p95 after",
    ];
    let mut table = output::table(&headings);
    let all =
        [&answer["groups"], &answer["tenants"]].map(|rows| rows.as_array().map(Vec::as_slice).unwrap_or_default());
    for row in all.concat() {
        let failed = |side: &Value| format!("{} of {}", shown(&side["failures"]), shown(&side["events"]));
        let millis = |side: &Value, name: &str| match (side["measured"].as_u64(), side[name].as_u64()) {
            (Some(measured), Some(micros)) if measured > 0 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
            _ => String::new(),
        };
        let (before, after) = (&row["from"], &row["to"]);
        let canary = if row["is_canary"] == true { " (canary)" } else { "" };
        table.add_row([
            format!("{}{canary}", shown(&row["tenant"])),
            shown(&row["verdict"]),
            failed(before),
            failed(after),
            shown(&row["chance"]),
            millis(before, "p50_us"),
            millis(after, "p50_us"),
            millis(before, "p95_us"),
            millis(after, "p95_us"),
        ]);
    }
    println!("{table}");
}
