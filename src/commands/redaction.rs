//! `piperoll redaction`: a person is found, and what tells of them is erased, asked for by one and agreed to by another.
//!
//! Not here: finding and erasing (`retention`). Invariant: identifiers are sent to the service and shown nowhere else.

use super::query::shown;
use super::retention::{number, show_report};
use super::{FOUND, Outcome, block_on};
use crate::client::{ClientError, Target};
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::ExitCode;

/// Find where a person is named, export it, or have it redacted
///
/// A redaction takes sections of entries (who did it, to what, from where, details), never the skeleton, and leaves every
/// proof as it was. One person asks for it, another agrees; what is held, or must be kept in its original, stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples: what there is of a person, what would go, asking, and agreeing with another key
  piperoll redaction export --tenant acme u-17 jane@example.org > jane.ndjson
  piperoll redaction plan --tenant acme u-17 jane@example.org
  piperoll redaction ask --tenant acme u-17 jane@example.org --plan SHA256 --basis 'GDPR Art. 17' --reason 'request 88'
  PIPEROLL_KEY=… piperoll redaction approve x0123456789abcdef --reason 'checked against request 88'
  piperoll query 'SELECT redaction, state, entries, asked_by, approved_by FROM redactions' --tenant acme

Exit codes: 0 done; 3 something could not be redacted and is tried again, or the run was stopped.
What is found, what goes with it, and what stays provable: docs/retention.md")]
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
    /// Print every entry that names the person, one JSON object a line
    Export(Subject),
    /// Show what would be redacted and what stays, and why; nothing is changed
    Plan {
        #[command(flatten)]
        subject: Subject,
        /// Which sections go: actor, subject, scope, origin, details; those that name the person, with origin and details, if
        /// nothing is said
        #[arg(long, value_name = "SECTION", value_delimiter = ',')]
        sections: Vec<String>,
    },
    /// Ask for a redaction that was planned
    Ask {
        #[command(flatten)]
        subject: Subject,
        /// As for `plan`
        #[arg(long, value_name = "SECTION", value_delimiter = ',')]
        sections: Vec<String>,
        /// The plan that was looked at: its SHA-256, as `plan` prints it
        #[arg(long, value_name = "SHA256")]
        plan: String,
        /// The law behind it
        #[arg(long)]
        basis: String,
        /// Why; without the person's identifiers: it is kept for ever
        #[arg(long)]
        reason: String,
    },
    /// Show what a redaction takes, by ranges of sequence numbers
    Show {
        /// Which
        redaction: String,
    },
    /// Agree to a redaction that somebody else asked for, and carry it out
    Approve {
        /// Which
        redaction: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Refuse a redaction, or take back one's own
    Refuse {
        /// Which
        redaction: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
}

#[derive(Debug, Args)]
struct Subject {
    /// Of which tenant
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// What the person is called: ids, addresses, names; each is looked for as it is written
    #[arg(required = true, value_name = "IDENTIFIER")]
    identifiers: Vec<String>,
    /// Only in this stream; may be given more than once
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// What happened from then on
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// What happened before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Subject {
    fn question(&self, sections: &[String]) -> Value {
        let Self { tenant, identifiers, streams, from, until } = self;
        let mut question =
            json!({"tenant": tenant, "identifiers": identifiers, "streams": streams, "sections": sections});
        for (name, time) in [("from", from), ("until", until)] {
            if let Some(time) = time {
                question[name] = json!(time);
            }
        }
        question
    }
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses.
pub fn run(arguments: &Arguments) -> Outcome {
    let (client, is_json) = (arguments.target.client(), arguments.json);
    block_on(async {
        match &arguments.what {
            What::Export(subject) => {
                let mut lines = client.ask("/v1/retention/subjects/export", &subject.question(&[])).await?;
                let mut out = std::io::stdout().lock();
                while let Some(part) = lines.chunk().await.map_err(ClientError::from)? {
                    out.write_all(&part)?;
                }
            }
            What::Plan { subject, sections } => {
                let planned = client.post("/v1/retention/redactions/plans", &subject.question(sections)).await?;
                show_plan(&planned, is_json);
            }
            What::Ask { subject, sections, plan, basis, reason } => {
                let question = subject.question(sections);
                let asked = json!({"question": question, "plan": plan, "basis": basis, "reason": reason});
                let asked = client.post("/v1/retention/redactions", &asked).await?;
                if is_json {
                    println!("{asked}");
                } else {
                    let id = shown(&asked["redaction"]);
                    println!("redaction {id} is asked for; somebody else agrees with");
                    println!("  piperoll redaction approve {id} --reason …");
                }
            }
            What::Show { redaction } => {
                let text = client.text(&format!("/v1/retention/redactions/{redaction}")).await?;
                show(&serde_json::from_str(&text)?, is_json);
            }
            What::Approve { redaction, reason } => {
                let path = format!("/v1/retention/redactions/{redaction}/approval");
                let report = client.post(&path, &json!({"reason": reason})).await?;
                if is_json {
                    println!("{report}");
                } else {
                    show_report(&report);
                }
                let is_done = report["outcome"] == "done";
                return Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::from(FOUND) });
            }
            What::Refuse { redaction, reason } => {
                let change = json!({"change": "redaction.refuse", "id": redaction, "reason": reason});
                client.change(&json!([change])).await?;
                println!("redaction {redaction} is refused");
            }
        }
        Ok(ExitCode::SUCCESS)
    })?
}

fn names(list: &Value) -> String {
    list.as_array().into_iter().flatten().map(shown).collect::<Vec<_>>().join(", ")
}

fn show_rows(rows: &Value) {
    let mut table = output::table(&["stream", "sections that go", "ranges", "entries", "first", "last"]);
    for row in rows.as_array().into_iter().flatten() {
        let ranges = row["ranges"].as_array().map(Vec::as_slice).unwrap_or_default();
        let length = |range: &Value| range[1].as_u64().unwrap_or_default() + 1 - range[0].as_u64().unwrap_or_default();
        table.add_row([
            shown(&row["stream"]),
            names(&row["sections"]),
            output::grouped(ranges.len() as u64),
            output::grouped(ranges.iter().map(length).sum()),
            ranges.first().map(|range| shown(&range[0])).unwrap_or_default(),
            ranges.last().map(|range| shown(&range[1])).unwrap_or_default(),
        ]);
    }
    println!("{table}\n");
}

fn show_plan(planned: &Value, is_json: bool) {
    if is_json {
        return println!("{planned}");
    }
    let plan = &planned["plan"];
    println!("{} entries name the person, {} lose something\n", number(&plan["found"]), number(&plan["entries"]));
    for (what, why) in [("held", "stay whole: hold"), ("kept", "stay whole: the original is kept by policy")] {
        for (name, count) in plan[what].as_object().into_iter().flatten() {
            println!("{} {why} {name}", number(count));
        }
    }
    if plan["entries"] == 0 {
        return println!("nothing is to be redacted");
    }
    show_rows(&plan["goes"]);
    if plan["is_part"] == true {
        println!("this is a part: more is found again once it is carried out\n");
    }
    println!("plan {}", shown(&planned["sha256"]));
    println!("to ask for it: piperoll redaction ask … --plan {} --basis … --reason …", shown(&planned["sha256"]));
}

fn show(fact: &Value, is_json: bool) {
    if is_json {
        return println!("{fact}");
    }
    println!(
        "of {}, {} entries; asked by {} on the basis of {}: {}\n",
        shown(&fact["tenant"]),
        number(&fact["entries"]),
        shown(&fact["by"]),
        shown(&fact["basis"]),
        shown(&fact["reason"])
    );
    show_rows(&fact["goes"]);
    println!("which entries, by range of sequence numbers: --json");
}
