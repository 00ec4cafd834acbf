//! `piperoll access`: who has access to what, what changed, and where snapshots of other systems come in.
//!
//! Not here: what is found (`query::review`), forms of snapshots (`ingest::snapshot`). Invariant: what is printed is what
//! the service answered.

mod import;
mod review;

use super::query::shown;
use super::{FOUND, Outcome, block_on};
use crate::client::Target;
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Rows of a table that a person reads; JSON has them all.
const MOST_SHOWN: usize = 40;

/// Show who has access to what, since when, how it is used and what is wrong with it; bring snapshots of other systems
///
/// From grants of this registry, from events that grant and revoke, and from imported snapshots, in one list: a subject
/// under several names is one subject.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll access show acme
  piperoll access show --below platform --as-of 2026-09-30T00:00:00Z --json > review.json
  piperoll access show acme --role 'admin*' --rules rules.json
  piperoll access import --form scim --tenant acme --as-of 2026-09-30 users.json groups.json
  piperoll access changes --below platform --target kubernetes

Exit codes of show: 0 nothing is wrong, 3 something is.
Findings, rules, and the forms of snapshots: docs/access-review.md")]
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
    /// Who has access to what, and what is wrong with it
    Show(Question),
    /// Who came, who went and who changed roles from snapshot to snapshot; and whether events say the same
    Changes(Question),
    /// Bring snapshots of who has access in other systems
    Import(import::Arguments),
    /// Hold reviews: freeze who has what, decide on each item, report
    Review(review::Arguments),
}

/// What is asked.
#[derive(Debug, Args)]
struct Question {
    /// The tenants to ask about
    tenants: Vec<String>,
    /// A tenant and all below it; `platform` for everybody
    #[arg(long, value_name = "TENANT")]
    below: Option<String>,
    /// As it was then; now, when left out
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
    /// Use, and changes, are counted from then on; 90 days before, when left out
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only from this source; may be given more than once, and `*` stands for any characters, as in all that follow
    #[arg(long)]
    source: Vec<String>,
    /// Only of this subject
    #[arg(long)]
    subject: Vec<String>,
    /// Only of this role
    #[arg(long)]
    role: Vec<String>,
    /// Only on this target
    #[arg(long = "target")]
    on: Vec<String>,
    /// Rules in place of those on record: a JSON file
    #[arg(long, value_name = "FILE")]
    rules: Option<std::path::PathBuf>,
}

impl Question {
    fn body(&self) -> Result<Value, Box<dyn std::error::Error>> {
        let mut body = json!({"tenants": self.tenants, "sources": self.source, "subjects": self.subject,
            "roles": self.role, "targets": self.on});
        for (name, value) in [("subtree", &self.below), ("as_of", &self.as_of), ("since", &self.since)] {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        if let Some(path) = &self.rules {
            let named = |error: &dyn std::fmt::Display| format!("{} is not a file of rules: {error}", path.display());
            let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
            body["rules"] = serde_json::from_str(&text).map_err(|e| named(&e))?;
        }
        Ok(body)
    }
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses; a file cannot be read.
pub fn run(arguments: &Arguments) -> Outcome {
    let client = arguments.target.client();
    block_on(async {
        let (path, question) = match &arguments.what {
            What::Import(import) => return import::run(import, client, arguments.json).await,
            What::Review(review) => return review::run(review, client, arguments.json).await,
            What::Show(question) => ("/v1/access/entitlements", question),
            What::Changes(question) => ("/v1/access/changes", question),
        };
        let answer = client.post(path, &question.body()?).await?;
        let is_wrong = answer["answer"]["findings"].as_array().is_some_and(|all| !all.is_empty());
        match &arguments.what {
            _ if arguments.json => println!("{answer}"),
            What::Changes(_) => show_changes(&answer["answer"]),
            _ => show(&answer["answer"], &answer["cost"]),
        }
        Ok(ExitCode::from(if is_wrong { FOUND } else { 0 }))
    })?
}

fn day(time: &Value) -> String {
    shown(time).chars().take(10).collect()
}

fn to_the_minute(time: &Value) -> String {
    shown(time).chars().take(16).collect::<String>() + "Z"
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What is wrong first, then who has what.
fn show(answer: &Value, cost: &Value) {
    println!("{}\n", shown(&answer["summary"]));
    let findings = list(&answer["findings"]);
    if !findings.is_empty() {
        let mut table = output::table(&["tenant", "finding", "subject", "about", "what"]);
        for one in findings.iter().take(MOST_SHOWN) {
            table.add_row(["tenant", "kind", "subject", "about", "what"].map(|name| shown(&one[name])));
        }
        println!("{table}");
        more(findings.len());
    }
    let entitlements = list(&answer["entitlements"]);
    let mut table = output::table(&[
        "tenant",
        "subject",
        "role",
        "on",
        "source",
        "since",
        "approved by",
        "last used",
        "uses",
        "peers",
    ]);
    for one in entitlements.iter().take(MOST_SHOWN) {
        let approved = ["approved_by", "approval"].into_iter().find_map(|name| one[name].as_str()).unwrap_or_default();
        let last = match one["used_by"].as_str() {
            Some("nothing") => "not recorded".into(),
            _ if one["last_used"].is_null() => "never".into(),
            _ => day(&one["last_used"]),
        };
        let since = if one["since_is"] == "seen" { format!("≤ {}", day(&one["since"])) } else { day(&one["since"]) };
        table.add_row([
            shown(&one["tenant"]),
            shown(&one["subject"]),
            shown(&one["role"]),
            shown(&one["target"]),
            shown(&one["source"]),
            since,
            approved.to_string(),
            last,
            shown(&one["uses"]),
            shown(&one["peers"]),
        ]);
    }
    if !entitlements.is_empty() {
        println!("\n{table}");
        more(entitlements.len());
    }
    show_gaps(answer);
    let heads = output::grouped(list(&answer["read"]).len() as u64);
    let [all, left] = ["segments", "segments_not_read"].map(|name| output::grouped(cost[name].as_u64().unwrap_or(0)));
    println!(
        "\nAs of {}; an answer to {heads} heads; of {all} segments {left} were not read.",
        shown(&answer["question"]["as_of"])
    );
}

/// What the answer does not speak of.
fn show_gaps(answer: &Value) {
    for one in list(&answer["incomplete"]) {
        println!(
            "a snapshot of {} at {} did not arrive whole: it ends nothing",
            shown(&one["source"]),
            shown(&one["tenant"])
        );
    }
    for (tenant, why) in answer["in_part"].as_object().into_iter().flatten() {
        println!("not wholly seen: {tenant} ({})", shown(why));
    }
    if answer["grants_above_not_shown"] == true {
        println!("grants of tenants above that reach down are not shown: you may not read them");
    }
    for one in list(&answer["not_examined"]) {
        println!("not examined: {} ({})", shown(&one["tenant"]), shown(&one["why"]));
    }
}

fn more(count: usize) {
    if count > MOST_SHOWN {
        println!("… and {} more: --json has them all", output::grouped((count - MOST_SHOWN) as u64));
    }
}

fn show_changes(answer: &Value) {
    if list(&answer["steps"]).is_empty() {
        println!(
            "no two snapshots of the same part lie in that time: `piperoll access import` brings some, --since looks further back"
        );
        return;
    }
    println!("{}\n", shown(&answer["summary"]));
    let names =
        ["tenant", "source", "part", "from", "to", "joined", "left", "changed", "agreed", "unexplained", "disagree"];
    let mut table = output::table(&names);
    for one in list(&answer["steps"]) {
        let count = |name: &str| output::grouped(list(&one[name]).len() as u64);
        table.add_row([
            shown(&one["tenant"]),
            shown(&one["source"]),
            shown(&one["part"]),
            day(&one["from"]),
            day(&one["to"]),
            count("joined"),
            count("left"),
            count("changed"),
            shown(&one["agreed"]),
            count("unexplained"),
            count("disagreements"),
        ]);
    }
    println!("{table}");
    let mut table = output::table(&["tenant", "until", "subject", "on", "events say", "snapshots show"]);
    let mut count = 0;
    for step in list(&answer["steps"]) {
        for one in list(&step["disagreements"]) {
            count += 1;
            if count <= MOST_SHOWN {
                let said: Vec<String> = list(&one["said"]).iter().map(shown).collect();
                table.add_row([
                    shown(&step["tenant"]),
                    day(&step["to"]),
                    shown(&one["subject"]),
                    shown(&one["target"]),
                    said.join(", "),
                    shown(&one["shown"]),
                ]);
            }
        }
    }
    if count > 0 {
        println!("\n{table}");
        more(count);
    }
}
