//! `piperoll keys`: the keys that tenants' content is encrypted under.
//!
//! Not here: what each does (`access`). Invariant: no key is ever shown.

use super::query::shown;
use super::{Outcome, block_on};
use crate::client::{Client, Target};
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Make, rotate, disable, enable and destroy the keys that tenants' content is encrypted under
///
/// Each is an entry of the control stream, and the tenant is told in its own access stream.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll keys create acme --reason 'asked for by contract'
  piperoll keys rotate acme --reason yearly            new content under the new key; old content by and by
  piperoll keys destroy acme --reason 'contract ended' takes the same by somebody else, within a week
  piperoll keys register acme --json                   which key, since when, how much is under it; signed

What is encrypted, what is not, and what destroying means: docs/keys.md")]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Args)]
struct Of {
    /// Whose keys
    tenant: String,
    /// Why: it will be read by those concerned
    #[arg(long)]
    reason: String,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show the keys that you may see
    List,
    /// Encrypt a tenant's content from now on
    Create(Of),
    /// Encrypt it under a new key from now on
    Rotate(Of),
    /// Read and take nothing of the tenant
    Disable(Of),
    /// End that
    Enable(Of),
    /// Destroy a tenant's keys: what is under them can never be read again
    Destroy(Of),
    /// Show the signed register of a tenant's keys
    Register {
        /// Whose keys
        tenant: String,
    },
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses.
pub fn run(arguments: &Arguments) -> Outcome {
    let client = arguments.target.client();
    block_on(async {
        match &arguments.what {
            What::List => {
                let answer: Value = serde_json::from_str(&client.text("/v1/registry/keys").await?)?;
                if arguments.json { println!("{answer}") } else { show_keys(answer["rows"].as_array()) }
            }
            What::Create(of) => change(&client, "key.create", of, arguments.json).await?,
            What::Rotate(of) => change(&client, "key.rotate", of, arguments.json).await?,
            What::Disable(of) => change(&client, "key.disable", of, arguments.json).await?,
            What::Enable(of) => change(&client, "key.enable", of, arguments.json).await?,
            What::Destroy(of) => change(&client, "key.destroy", of, arguments.json).await?,
            What::Register { tenant } => {
                let text = client.text(&format!("/v1/tenants/{tenant}/keys")).await?;
                // As it came: the hash is that of these bytes.
                if arguments.json { println!("{text}") } else { show_register(&serde_json::from_str(&text)?) }
            }
        }
        Ok(ExitCode::SUCCESS)
    })?
}

async fn change(client: &Client, name: &str, of: &Of, json: bool) -> Result<(), Box<dyn std::error::Error>> {
    let change = json!([{"change": name, "tenant": of.tenant, "reason": of.reason}]);
    let answer = client.change(&change).await?;
    if json {
        println!("{answer}");
        return Ok(());
    }
    let made = &answer["changes"][0];
    let key = made["made"]["key"].as_str().map_or(String::new(), |key| format!(" {key}"));
    println!("entry {} {name} {}{key}", made["seq"], of.tenant);
    if name == "key.destroy" {
        println!("It takes two people's word; `piperoll keys list` shows what became of it.");
    }
    Ok(())
}

fn show_keys(rows: Option<&Vec<Value>>) {
    let columns = ["tenant", "key", "state", "provider", "created_at", "created_by", "rotated_at", "destroyed_at"];
    let mut table = output::table(&columns);
    for row in rows.into_iter().flatten() {
        table.add_row(columns.map(|name| shown(&row[name])));
    }
    println!("{table}");
}

fn show_register(report: &Value) {
    let answer = &report["answer"];
    println!("keys of {} as of {}", shown(&answer["tenant"]), shown(&answer["as_of"]));
    show_keys(answer["keys"].as_array());
    let mut table = output::table(&["under", "segments", "entries", "bytes"]);
    for one in answer["sealed"].as_array().into_iter().flatten() {
        let key = one["key"].as_str().unwrap_or("no key: plain");
        let figures =
            ["segments", "entries", "bytes"].map(|name| output::grouped(one[name].as_u64().unwrap_or_default()));
        let [segments, entries, bytes] = figures;
        table.add_row([key.to_string(), segments, entries, bytes]);
    }
    println!("{table}\n{}", shown(&answer["limits"]));
}
