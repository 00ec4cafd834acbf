//! `piperoll retention`: what is due to go, and letting it go.
//!
//! Not here: what is planned and carried out (`retention`). Invariant: what is carried out was shown before, or named by its
//! hash.

use super::query::shown;
use super::{FOUND, Outcome, block_on};
use crate::client::{Client, Target};
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show what is due to go, hold what must stay, and let the rest go
///
/// Policies and holds are changes of the registry. Nothing goes unless a policy says so; a hold beats every policy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples: a policy, a hold, what would go, and letting it go
  piperoll registry apply - <<< '[{\"change\":\"retention.set\",\"policy\":\"telemetry-90\",\"streams\":[\"telemetry\"],
    \"at_most_days\":90,\"basis\":\"contract 4.2\",\"reason\":\"data minimisation\"}]'
  piperoll registry apply - <<< '[{\"change\":\"hold.set\",\"tenant\":\"acme\",\"actors\":[\"u-17\"],
    \"matter\":\"case 2026-114\",\"reason\":\"litigation\"}]'
  piperoll retention held
  piperoll retention plan
  piperoll retention plan --as-of 2027-01-01T00:00:00Z --tenant acme
  piperoll retention run --yes
  piperoll query 'SELECT * FROM certificates ORDER BY made_at' --tenant acme

Exit codes: 0 done, or nothing to do; 3 something could not be taken and is tried again, or the run was stopped.
Policies, holds, certificates, and what stays provable: docs/retention.md")]
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
    /// Show what goes and what stays, and why; nothing is changed
    Plan(Of),
    /// Show what is under hold, due or not, by hold and stream
    Held {
        /// Only of this tenant; may be given more than once
        #[arg(long = "tenant", value_name = "TENANT")]
        tenants: Vec<String>,
    },
    /// Carry out a plan: the one that is named, or what is due now
    Run {
        #[command(flatten)]
        of: Of,
        /// The plan that was looked at: its SHA-256, as `plan` prints it, with the same --as-of and --tenant
        #[arg(long, value_name = "SHA256", requires = "as_of")]
        plan: Option<String>,
        /// Let go what is due now, whatever it is; without it and without --plan, only show it
        #[arg(long, conflicts_with = "plan")]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct Of {
    /// Only of this tenant; may be given more than once
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// As of then, which for `plan` may be yet to come; now, when left out
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
}

impl Of {
    fn question(&self) -> Value {
        let mut question = json!({"tenants": self.tenants});
        if let Some(as_of) = &self.as_of {
            question["as_of"] = json!(as_of);
        }
        question
    }
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses.
pub fn run(arguments: &Arguments) -> Outcome {
    let client = arguments.target.client();
    block_on(async {
        match &arguments.what {
            What::Plan(of) => {
                show_plan(&client.post("/v1/retention/plans", &of.question()).await?, arguments.json);
                Ok(ExitCode::SUCCESS)
            }
            What::Held { tenants } => {
                let held = client.post("/v1/retention/held", &json!({"tenants": tenants})).await?;
                show_held(&held, arguments.json);
                Ok(ExitCode::SUCCESS)
            }
            What::Run { of, plan: Some(plan), .. } => {
                let order = json!({"tenants": of.tenants, "as_of": of.as_of, "plan": plan});
                carry_out(&client, &order, arguments.json).await
            }
            What::Run { of, yes, .. } => {
                let planned = client.post("/v1/retention/plans", &of.question()).await?;
                if !yes {
                    show_plan(&planned, arguments.json);
                    return Ok(ExitCode::SUCCESS);
                }
                let as_of = &planned["plan"]["as_of"];
                let order = json!({"tenants": of.tenants, "as_of": as_of, "plan": planned["sha256"]});
                carry_out(&client, &order, arguments.json).await
            }
        }
    })?
}

async fn carry_out(client: &Client, order: &Value, is_json: bool) -> Outcome {
    let report = client.post("/v1/retention/runs", order).await?;
    if is_json {
        println!("{report}")
    } else {
        show_report(&report)
    }
    let is_done = matches!(report["outcome"].as_str(), Some("done" | "nothing to do"));
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

pub(super) fn number(value: &Value) -> String {
    output::grouped(value.as_u64().unwrap_or_default())
}

fn show_plan(planned: &Value, is_json: bool) {
    if is_json {
        return println!("{planned}");
    }
    let plan = &planned["plan"];
    let (as_of, version) = (shown(&plan["as_of"]), shown(&plan["version"]));
    println!("{} entries go as of {as_of}, {} bytes", number(&plan["entries"]), number(&plan["bytes"]));
    let (held, kept) = (number(&plan["held"]), number(&plan["kept"]));
    println!("{held} are due and held, {kept} are due and kept for longer by another policy\n");
    for unread in plan["unread"].as_array().into_iter().flatten() {
        eprintln!("cannot be told, and nothing of it goes: {}: {}", shown(&unread[0]), shown(&unread[1]));
    }
    let rows = plan["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return println!("nothing is due. Policies: piperoll query 'SELECT * FROM policies'");
    }
    let mut table = output::table(&["tenant", "stream", "goes", "bytes", "newest", "because of", "stays", "segments"]);
    for row in rows {
        let by = |names: &Value| {
            let each = names.as_object().into_iter().flatten();
            each.map(|(name, count)| format!("{name}: {}", number(count))).collect::<Vec<_>>().join("\n")
        };
        let stays = |names: &Value, why: &str| {
            let each = names.as_object().into_iter().flatten();
            each.map(|(name, stays)| format!("{why} {name}: {}", number(&stays["entries"]))).collect::<Vec<_>>()
        };
        let stay = [stays(&row["held"], "hold"), stays(&row["kept"], "policy")].concat().join("\n");
        let segments = &row["segments"];
        let (removed, rewritten) = (number(&segments["removed"]), number(&segments["rewritten"]));
        table.add_row([
            shown(&row["tenant"]),
            shown(&row["stream"]),
            number(&row["entries"]),
            number(&row["bytes"]),
            shown(&row["newest"]),
            by(&row["by_policy"]),
            stay,
            format!("{removed} removed, {rewritten} rewritten"),
        ]);
    }
    println!("{table}\n");
    println!("plan {} (policies and holds as of entry {version})", shown(&planned["sha256"]));
    if plan["entries"] == 0 {
        return;
    }
    println!(
        "to carry it out, once that time has come: piperoll retention run --plan {} --as-of {as_of}",
        shown(&planned["sha256"])
    );
}

fn show_held(held: &Value, is_json: bool) {
    if is_json {
        return println!("{held}");
    }
    let rows = held["held"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return println!("no hold holds anything. Holds: piperoll query 'SELECT * FROM holds'");
    }
    let mut table = output::table(&["hold", "matter", "tenant", "stream", "entries", "bytes", "first", "last"]);
    for row in rows {
        let ranges = row["ranges"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_listed = row["ranges_count"].as_u64() == Some(ranges.len() as u64);
        let last = ranges.last().map(|range| shown(&range[1])).unwrap_or_default();
        table.add_row([
            shown(&row["hold"]),
            shown(&row["matter"]),
            shown(&row["tenant"]),
            shown(&row["stream"]),
            number(&row["entries"]),
            number(&row["bytes"]),
            ranges.first().map(|range| shown(&range[0])).unwrap_or_default(),
            if is_listed { last } else { format!("beyond {last}") },
        ]);
    }
    println!("{table}\n\nwhich entries, by range of sequence numbers: --json");
}

pub(super) fn show_report(report: &Value) {
    let run = report["run"].as_str().map_or(String::new(), |run| format!("run {run}: "));
    println!("{run}{}, {} entries went\n", shown(&report["outcome"]), number(&report["entries"]));
    let mut table = output::table(&["tenant", "stream", "went", "commit", "segments"]);
    for row in report["streams"].as_array().into_iter().flatten() {
        let (removed, added) = (number(&row["segments"][0]), number(&row["segments"][1]));
        table.add_row([
            shown(&row["tenant"]),
            shown(&row["stream"]),
            number(&row["entries"]),
            shown(&row["commit"]),
            format!("{removed} removed, {added} put in their place"),
        ]);
    }
    if table.row_count() > 0 {
        println!("{table}\n");
        println!("certificates: piperoll query 'SELECT * FROM certificates'");
    }
    for failed in report["failed"].as_array().into_iter().flatten() {
        eprintln!("nothing taken, tried again: {}: {}", shown(&failed[0]), shown(&failed[1]));
    }
}
