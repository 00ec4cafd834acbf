//! `piperoll incident`: who is affected by something and who is not, and incidents that are kept.
//!
//! Not here: what the answer is (`query::scope`). Invariant: what is printed is what the service answered.

use super::query::shown;
use super::{Outcome, block_on};
use crate::client::{Client, Target};
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// Find out which tenants something touched or broke, and keep incidents with what was found
///
/// Each tenant is affected, not affected, or not examined with the reason. Asked by who it was (actor, credential, session,
/// address, resource, elevation), whoever was touched is affected; asked by what ran (release, service, workflow), whose
/// failures are more frequent than before and beside it, by Fisher's exact test.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll incident scope --below platform --release 2026.8.2 --service billing
  piperoll incident scope --tenant acme --tenant globex --session s-1f0c --since 2026-08-14T00:00:00Z
  piperoll incident open --title \"Invoices fail\" --severity high --below platform --release 2026.8.2
  piperoll incident show                       all of them
  piperoll incident show i0a1b2c3d4e5f607
  piperoll incident close i0a1b2c3d4e5f607 --reason \"rolled back, tables repaired\"

Notes, owners, decisions about tenants and the 72 hours of GDPR Art. 33 are changes of the registry:
  piperoll registry apply - <<< '[{\"change\":\"incident.aware\",\"id\":\"i…\",\"at\":\"2026-08-14T09:00:00Z\",
    \"reason\":\"exports of customers left the region\"}]'

What each part of the answer means: docs/incidents.md")]
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
    /// Ask, and keep nothing but the record that it was asked
    Scope(Box<Scope>),
    /// Ask, and open an incident with what was found
    Open {
        /// What it is called
        #[arg(long)]
        title: String,
        /// low, medium, high or critical
        #[arg(long, default_value = "medium")]
        severity: String,
        /// Who sees to it, if not who opens it
        #[arg(long)]
        owner: Option<String>,
        /// Whose incident it is, if not the platform's
        #[arg(long, value_name = "TENANT")]
        of: Option<String>,
        #[command(flatten)]
        scope: Box<Scope>,
    },
    /// Show incidents, or one with all that was found and decided
    Show {
        /// Which; all of them when left out
        id: Option<String>,
    },
    /// Ask again, and close it with what differs
    Close {
        /// Which
        id: String,
        /// Why it is over, and what was learned
        #[arg(long)]
        reason: String,
    },
}

/// What is asked.
#[derive(Debug, Args)]
struct Scope {
    /// A tenant to ask about; may be given more than once
    #[arg(long = "tenant", value_name = "TENANT")]
    tenants: Vec<String>,
    /// A tenant and all below it; `platform` for everybody
    #[arg(long, value_name = "TENANT")]
    below: Option<String>,
    /// Of this release; as all that follow, may be given more than once, and any will do
    #[arg(long)]
    release: Vec<String>,
    /// By this service
    #[arg(long)]
    service: Vec<String>,
    /// In this workflow
    #[arg(long)]
    workflow: Vec<String>,
    /// Over this integration
    #[arg(long)]
    integration: Vec<String>,
    /// By this actor
    #[arg(long)]
    actor: Vec<String>,
    /// With this credential
    #[arg(long)]
    credential: Vec<String>,
    /// In this session
    #[arg(long)]
    session: Vec<String>,
    /// From this address
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Vec<String>,
    /// About this resource
    #[arg(long)]
    resource: Vec<String>,
    /// With this action
    #[arg(long)]
    action: Vec<String>,
    /// With this outcome
    #[arg(long)]
    outcome: Vec<String>,
    /// With this reason
    #[arg(long)]
    reason_code: Vec<String>,
    /// In this region
    #[arg(long)]
    region: Vec<String>,
    /// Under this elevation
    #[arg(long)]
    elevation: Vec<String>,
    /// Not before then
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only in this stream; audit and telemetry when left out
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// When a tenant counts as affected: touched or failing
    #[arg(long, value_name = "WHEN")]
    affected_when: Option<String>,
}

impl Scope {
    fn question(&self) -> Value {
        let dimensions = [
            ("release", &self.release),
            ("service", &self.service),
            ("workflow", &self.workflow),
            ("integration", &self.integration),
            ("actor", &self.actor),
            ("credential", &self.credential),
            ("session", &self.session),
            ("source_ip", &self.source_ip),
            ("resource", &self.resource),
            ("action", &self.action),
            ("outcome", &self.outcome),
            ("reason", &self.reason_code),
            ("region", &self.region),
            ("elevation", &self.elevation),
        ];
        let named = dimensions.into_iter().filter(|(_, values)| !values.is_empty());
        let named: Map<String, Value> = named.map(|(name, values)| (name.to_string(), json!(values))).collect();
        let mut question = json!({"tenants": self.tenants, "where": named, "streams": self.streams});
        let more = [
            ("subtree", &self.below),
            ("since", &self.since),
            ("until", &self.until),
            ("affected_when", &self.affected_when),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                question[name] = json!(value);
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
    let client = arguments.target.client();
    block_on(async {
        let answer = ask(&client, &arguments.what).await?;
        match &arguments.what {
            _ if arguments.json => println!("{answer}"),
            What::Scope(_) => show_scope(&answer["answer"], &answer["cost"]),
            What::Open { .. } => {
                show_scope(&answer["answer"], &Value::Null);
                println!(
                    "\nIncident {} is open: entry {} of control.",
                    shown(&answer["made"]["incident"]),
                    answer["seq"]
                );
            }
            What::Show { id: None } => println!("{}", rows_of(&answer)),
            What::Show { id: Some(_) } => println!("{}", serde_json::to_string_pretty(&answer)?),
            What::Close { id, .. } => show_closed(id, &answer),
        }
        Ok(ExitCode::SUCCESS)
    })?
}

async fn ask(client: &Client, what: &What) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(match what {
        What::Scope(scope) => client.post("/v1/incidents/scope", &scope.question()).await?,
        What::Open { title, severity, owner, of, scope } => {
            let mut body = json!({"title": title, "severity": severity, "question": scope.question()});
            for (name, value) in [("owner", owner), ("tenant", of)] {
                if let Some(value) = value {
                    body[name] = json!(value);
                }
            }
            client.post("/v1/incidents", &body).await?
        }
        What::Show { id: None } => serde_json::from_str(&client.text("/v1/registry/incidents").await?)?,
        What::Show { id: Some(id) } => serde_json::from_str(&client.text(&format!("/v1/incidents/{id}")).await?)?,
        What::Close { id, reason } => {
            client.post(&format!("/v1/incidents/{id}/close"), &json!({"reason": reason})).await?
        }
    })
}

/// The scope as a person reads it: the line first, then who is affected, then what happened when.
fn show_scope(answer: &Value, cost: &Value) {
    println!("{}\n", shown(&answer["summary"]));
    let mut table = output::table(&["tenant", "affected", "events", "failed", "denied", "first", "contained", "why"]);
    let tenants = answer["tenants"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (mut quiet, mut listed) = (0, 0);
    for one in tenants {
        let is_affected = one["affected"] == true;
        // Whom nothing happened to are many, and alike.
        if !is_affected && one["matching"]["events"] == 0 {
            quiet += 1;
            continue;
        }
        listed += 1;
        let contained = &one["contained"];
        let over = match (contained["since"].as_str(), contained["holds"].as_bool()) {
            _ if !is_affected => String::new(),
            (None, _) => "no".into(),
            (Some(since), Some(false)) => format!("{}, but more came", to_the_second(since)),
            (Some(since), _) => to_the_second(since),
        };
        let counts = &one["matching"];
        table.add_row([
            shown(&one["tenant"]),
            if is_affected { "YES".into() } else { "no".into() },
            shown(&counts["events"]),
            shown(&counts["failures"]),
            shown(&counts["denied"]),
            to_the_second(&shown(&one["first"])),
            over,
            shown(&one["why"]),
        ]);
    }
    if listed > 0 {
        println!("{table}");
    }
    if quiet > 0 {
        println!("{quiet} tenants are not affected: nothing of it happened there.");
    }
    for one in answer["not_examined"].as_array().into_iter().flatten() {
        println!("not examined: {} ({})", shown(&one["tenant"]), shown(&one["why"]));
    }
    let timeline = answer["timeline"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !timeline.is_empty() {
        let mut table = output::table(&["when", "", "what"]);
        for moment in timeline {
            table.add_row([to_the_second(&shown(&moment["at"])), shown(&moment["kind"]), shown(&moment["what"])]);
        }
        println!("\n{table}");
    }
    let heads = output::grouped(answer["read"].as_array().map_or(0, Vec::len) as u64);
    let read = match (cost["segments"].as_u64(), cost["segments_not_read"].as_u64()) {
        (Some(all @ 1..), Some(left)) => {
            format!("; of {} segments {} were not read", output::grouped(all), output::grouped(left))
        }
        _ => String::new(),
    };
    println!("\nAn answer to {heads} heads{read}.");
}

/// A time as a person reads it; JSON has it to the microsecond.
fn to_the_second(time: &str) -> String {
    time.split_once('.').map_or(time.to_string(), |(seconds, _)| format!("{seconds}Z"))
}

fn rows_of(answer: &Value) -> String {
    let names = ["incident", "title", "severity", "state", "owner", "opened_at", "notify_by_at", "summary"];
    let mut table = output::table(&names);
    for row in answer["rows"].as_array().into_iter().flatten() {
        table.add_row(
            names.map(|name| if name.ends_with("_at") { to_the_second(&shown(&row[name])) } else { shown(&row[name]) }),
        );
    }
    table.to_string()
}

fn show_closed(id: &str, answer: &Value) {
    println!("Incident {id} is closed: entry {} of control.", answer["seq"]);
    let difference = &answer["difference"];
    for (name, words) in
        [("newly_affected", "affected now, and not then"), ("no_longer_affected", "affected then, and not now")]
    {
        let names: Vec<String> = difference[name].as_array().into_iter().flatten().map(shown).collect();
        if !names.is_empty() {
            println!("{words}: {}", names.join(", "));
        }
    }
    for name in ["events", "failures", "denied"] {
        let counts = &difference[name];
        if counts["then"] != counts["now"] {
            println!("{name}: {} then, {} now", shown(&counts["then"]), shown(&counts["now"]));
        }
    }
}
