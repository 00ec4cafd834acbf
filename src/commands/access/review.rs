//! `piperoll access review`: reviews that are held, from opening to report.
//!
//! Not here: who reviews what (`query::review`). Invariant: a decision on more than one item is shown before it is made.

use super::super::query::shown;
use super::super::{FOUND, Outcome};
use super::{Question, day, list, to_the_minute};
use crate::client::Client;
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// What to do with reviews.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll access review open acme --title 'Autumn 2026' --of acme --due 2026-12-15T00:00:00Z
  piperoll access review                                      all of them
  piperoll access review show r0a1b2c3d4e5f607
  piperoll access review items r0a1b2c3d4e5f607 --mine --open
  piperoll access review decide r0a1b2c3d4e5f607 keep --finding none --reason 'in use'
  piperoll access review decide r0a1b2c3d4e5f607 revoke --item 17 --reason 'left in May'
  piperoll access review close r0a1b2c3d4e5f607 --reason 'all decided' --json > report.json

decide shows what it would cover; with --yes it is decided.")]
pub struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Freeze who has what, and give each item somebody to decide on it
    Open {
        /// What it is called
        #[arg(long)]
        title: String,
        /// When all should be decided
        #[arg(long, value_name = "TIME")]
        due: String,
        /// Whose review it is, if not the platform's
        #[arg(long, value_name = "TENANT")]
        of: Option<String>,
        /// Who sees to it, if not who opens it
        #[arg(long)]
        owner: Option<String>,
        /// Who gets what is open when it is due, if not the owner
        #[arg(long, value_name = "PRINCIPAL")]
        escalate_to: Option<String>,
        /// Where reviewers are looked for, in this order: resource_owner, manager, tenant_administrator, or a principal
        #[arg(long = "reviewer", value_name = "RULE")]
        reviewers: Vec<String>,
        #[command(flatten)]
        question: Box<Question>,
    },
    /// Show how one stands
    Show {
        /// Which
        id: String,
    },
    /// Show its items
    Items {
        /// Which
        id: String,
        /// Only what is yours to decide on
        #[arg(long)]
        mine: bool,
        /// Only what nothing is decided on
        #[arg(long)]
        open: bool,
        /// From this number on
        #[arg(long, default_value_t = 0)]
        from: u32,
    },
    /// Decide on items
    Decide(Box<Decide>),
    /// Close one with its report
    Close {
        /// Which
        id: String,
        /// Why, and what of what is open
        #[arg(long)]
        reason: String,
    },
}

/// A decision.
#[derive(Debug, Args)]
struct Decide {
    /// Which review
    id: String,
    /// keep, revoke, narrow or delegate
    decision: String,
    /// Why
    #[arg(long)]
    reason: String,
    /// This item; may be given more than once, as all that follow
    #[arg(long = "item", value_name = "NUMBER")]
    items: Vec<u32>,
    /// At this tenant
    #[arg(long)]
    tenant: Vec<String>,
    /// Of this subject; `*` stands for any characters
    #[arg(long)]
    subject: Vec<String>,
    /// Of this role
    #[arg(long)]
    role: Vec<String>,
    /// On this target
    #[arg(long = "target")]
    on: Vec<String>,
    /// With this finding; `none` for those without any
    #[arg(long = "finding")]
    findings: Vec<String>,
    /// With delegate: who decides
    #[arg(long, value_name = "PRINCIPAL")]
    to: Option<String>,
    /// With narrow: to what, in words, or as the JSON of the grant that takes the place of one of this registry
    #[arg(long, value_name = "WHAT")]
    into: Option<String>,
    /// Decide, and do not only show
    #[arg(long)]
    yes: bool,
}

impl Decide {
    fn body(&self) -> Value {
        let mut select = json!({"tenants": self.tenant, "subjects": self.subject, "roles": self.role, "targets": self.on,
            "findings": self.findings});
        if !self.items.is_empty() {
            let mut items = self.items.clone();
            items.sort_unstable();
            items.dedup();
            select["items"] = items.iter().map(|item| json!([item, item])).collect();
        }
        let mut body = json!({"select": select, "decision": self.decision, "reason": self.reason});
        if let Some(to) = &self.to {
            body["delegate"] = json!(to);
        }
        if let Some(into) = &self.into {
            let grant = serde_json::from_str::<Value>(into).ok().filter(Value::is_object);
            body["to"] = grant.unwrap_or_else(|| json!(into));
        }
        body
    }
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses.
pub async fn run(arguments: &Arguments, client: Client, is_json: bool) -> Outcome {
    let path = |id: &str, more: &str| format!("/v1/access/reviews/{id}{more}");
    let get =
        async |path: String| Ok::<Value, Box<dyn std::error::Error>>(serde_json::from_str(&client.text(&path).await?)?);
    let (answer, show): (Value, fn(&Value)) = match &arguments.what {
        None => (get("/v1/registry/reviews".into()).await?, show_all),
        Some(What::Open { title, due, of, owner, escalate_to, reviewers, question }) => {
            let rule = |name: &String| match name.as_str() {
                "resource_owner" | "manager" | "tenant_administrator" => json!(name),
                principal => json!({"principal": principal}),
            };
            let mut body = json!({"title": title, "due_at": due, "question": question.body()?,
                "reviewers": reviewers.iter().map(rule).collect::<Vec<_>>()});
            for (name, value) in [("tenant", of), ("owner", owner), ("escalate_to", escalate_to)] {
                if let Some(value) = value {
                    body[name] = json!(value);
                }
            }
            (client.post("/v1/access/reviews", &body).await?, show_opened)
        }
        Some(What::Show { id }) => (get(path(id, "")).await?, show_one),
        Some(What::Items { id, mine, open, from }) => {
            let more = format!("/items?mine={mine}&open={open}&from={from}&limit=200");
            (get(path(id, &more)).await?, show_items)
        }
        Some(What::Decide(decide)) => {
            let mut body = decide.body();
            let route = path(&decide.id, "/decisions");
            let mut answer = client.post(&route, &body).await?;
            if decide.yes && answer["decided"] == false {
                body["covers"] = answer["would"]["covers"].clone();
                answer = client.post(&route, &body).await?;
            }
            (answer, show_decided)
        }
        Some(What::Close { id, reason }) => {
            (client.post(&path(id, "/close"), &json!({"reason": reason})).await?, show_closed)
        }
    };
    if is_json {
        println!("{answer}")
    } else {
        show(&answer)
    }
    let is_shown_only = answer["decided"] == false;
    Ok(ExitCode::from(if is_shown_only { FOUND } else { 0 }))
}

fn show_all(answer: &Value) {
    let names = ["review", "title", "tenant", "state", "owner", "items", "open_items", "due_at"];
    let mut table = output::table(&names);
    for row in list(&answer["rows"]) {
        table.add_row(names.map(|name| if name == "due_at" { to_the_minute(&row[name]) } else { shown(&row[name]) }));
    }
    println!("{table}");
}

fn show_opened(answer: &Value) {
    let found = &answer["found"];
    println!("{} items are to be decided on.\n", output::grouped(found["items"].as_u64().unwrap_or_default()));
    let mut table = output::table(&["reviewer", "items"]);
    for (reviewer, items) in found["by_reviewer"].as_object().into_iter().flatten() {
        table.add_row([reviewer.clone(), shown(items)]);
    }
    println!("{table}");
    let made = &answer["made"];
    println!(
        "\nReview {} is open, due {}: entry {} of control; the SHA-256 of its {} items is {}.",
        shown(&made["review"]),
        to_the_minute(&made["due_at"]),
        answer["seq"],
        shown(&made["items"]),
        shown(&made["items_sha256"])
    );
}

fn show_one(answer: &Value) {
    println!("{} ({}), due {}\n", shown(&answer["title"]), shown(&answer["state"]), to_the_minute(&answer["due_at"]));
    let mut table = output::table(&["decided", "items"]);
    for (decision, items) in answer["decisions"].as_object().into_iter().flatten() {
        table.add_row([decision.clone(), shown(items)]);
    }
    println!("{table}\n");
    let mut table = output::table(&["reviewer", "open"]);
    for (reviewer, open) in answer["open_by_reviewer"].as_object().into_iter().flatten() {
        table.add_row([reviewer.clone(), shown(open)]);
    }
    println!("{table}");
    let [outstanding, confirmed] = ["outstanding", "confirmed"].map(|name| shown(&answer[name]));
    println!("\nTo be taken elsewhere: {outstanding} outstanding, {confirmed} confirmed by events.");
}

fn show_items(answer: &Value) {
    table_of(list(&answer["items"]));
    if let Some(next) = answer["next"].as_u64() {
        println!("… more: --from {next}");
    }
}

fn table_of(items: &[Value]) {
    let names =
        ["item", "tenant", "subject", "role", "on", "since", "last used", "uses", "findings", "reviewer", "decision"];
    let mut table = output::table(&names);
    for one in items {
        let findings: Vec<String> = list(&one["findings"]).iter().map(shown).collect();
        table.add_row([
            shown(&one["item"]),
            shown(&one["tenant"]),
            shown(&one["subject"]),
            shown(&one["role"]),
            shown(&one["target"]),
            day(&one["since"]),
            day(&one["last_used"]),
            shown(&one["uses"]),
            findings.join(", "),
            shown(&one["reviewer"]),
            shown(&one["decision"]["decision"]),
        ]);
    }
    println!("{table}");
}

fn show_decided(answer: &Value) {
    let would = &answer["would"];
    if !would.is_null() {
        let count = would["count"].as_u64().unwrap_or_default();
        let [decision, in_registry] = ["decision", "in_registry"].map(|name| shown(&would[name]));
        println!(
            "{decision} would cover {} items, {in_registry} of them grants of this registry:\n",
            output::grouped(count)
        );
        let first = list(&would["first"]);
        table_of(first);
        let more = count.saturating_sub(first.len() as u64);
        if more > 0 {
            println!("… and {} more", output::grouped(more));
        }
        println!("\nNothing is decided yet: add --yes.");
        return;
    }
    let carried = list(&answer["carried_out"]).len();
    println!(
        "{} items are decided: entry {} of control; {carried} changes were made in this registry with it.",
        shown(&answer["count"]),
        answer["seq"]
    );
}

fn show_closed(answer: &Value) {
    let report = &answer["answer"];
    let coverage = &report["coverage"];
    println!("{} of {} items were decided.", shown(&coverage["decided"]), shown(&coverage["of"]));
    let mut table = output::table(&["decided", "items"]);
    for (decision, items) in report["decisions"].as_object().into_iter().flatten() {
        table.add_row([decision.clone(), shown(items)]);
    }
    println!("{table}");
    let revocations = &report["revocations"];
    println!(
        "taken here: {}; elsewhere: {} confirmed by events, {} outstanding\n\n{}",
        shown(&revocations["carried_out"]),
        shown(&revocations["confirmed"]),
        shown(&revocations["outstanding"]),
        shown(&answer["note"])
    );
}
