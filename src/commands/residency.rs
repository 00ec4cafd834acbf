//! `piperoll residency`: where a tenant's data is, held against its policy.
//!
//! Not here: what is looked at (`query::residency`). Invariant: the exit code is 3 when something is where it must not be.

use super::query::shown;
use super::{FOUND, Outcome, block_on};
use crate::client::Target;
use crate::output;
use clap::Args;
use serde_json::Value;
use std::process::ExitCode;

/// Show where a tenant's objects lie and its events were processed, and what its policy says to that
///
/// Every object is listed with --json, and the answer is signed: its `note` names the hash of the member `answer`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples: a policy, and the report
  piperoll registry apply - <<< '[{\"change\":\"residency.set\",\"tenant\":\"acme\",\"regions\":[\"eu-central-1\"],
    \"rules\":[{\"classes\":[\"public\"],\"regions\":[\"eu-central-1\",\"us-east-1\"]}],\"reason\":\"the contract\"}]'
  piperoll residency acme
  piperoll residency acme --json > report.json

Exit codes: 0 everything is where it may be, or no policy says where that is; 3 something is not.
What is looked at, and what is enforced before: docs/residency.md")]
pub struct Arguments {
    /// Whose data
    tenant: String,
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
    let client = arguments.target.client();
    block_on(async {
        let text = client.text(&format!("/v1/tenants/{}/residency", arguments.tenant)).await?;
        let report: Value = serde_json::from_str(&text)?;
        // As it came: the hash is that of these bytes.
        if arguments.json {
            println!("{text}")
        } else {
            show(&report["answer"])
        }
        let is_clean = report["answer"]["violations"].as_array().is_none_or(Vec::is_empty);
        Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
    })?
}

fn show(answer: &Value) {
    println!("{}\n", shown(&answer["summary"]));
    let storage = &answer["storage"];
    println!("store {} at {}", shown(&storage["store"]), shown(&storage["location"]));
    let mut table = output::table(&["objects", "how many", "bytes"]);
    let of_tenant = storage["by_kind"].as_object().into_iter().flatten().map(|(kind, held)| (kind.clone(), held));
    let of_all = storage["shared"].as_object().into_iter().flatten();
    for (name, held) in of_tenant.chain(of_all.map(|(folder, held)| (format!("{folder} (of all tenants)"), held))) {
        let figures = ["objects", "bytes"].map(|name| output::grouped(held[name].as_u64().unwrap_or_default()));
        let [objects, bytes] = figures;
        table.add_row([name, objects, bytes]);
    }
    println!("{table}\n");
    let mut table = output::table(&["stream", "class", "processed in", "events", "first", "last", "allowed"]);
    for one in answer["processed"].as_array().into_iter().flatten() {
        let allowed = match one["allowed"].as_bool() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        let mut row = ["stream", "class", "region", "events", "first", "last"].map(|name| shown(&one[name])).to_vec();
        row.push(allowed.into());
        table.add_row(row);
    }
    println!("{table}");
    let violations = answer["violations"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !violations.is_empty() {
        let mut table = output::table(&["violation", "what", "entry"]);
        for one in violations {
            let entry = one["entry"]
                .as_array()
                .map_or(String::new(), |entry| entry.iter().map(shown).collect::<Vec<_>>().join(" "));
            table.add_row([shown(&one["kind"]), shown(&one["what"]), entry]);
        }
        println!("\n{table}");
    }
}
