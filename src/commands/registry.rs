//! `piperoll registry`: shows and changes who is there and who may do what, through a running service.
//!
//! Not here: the rules (`access`). Invariant: a key is printed once, to standard output, and nowhere else.

use super::{Outcome, block_on};
use crate::client::Target;
use crate::output;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show and change tenants, principals, credentials, grants and elevations of a running service
///
/// Every change is an entry of the platform's control stream. The changes of one call stand together or not at all.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples: a tenant, a service that brings its events, and somebody who reads them
  piperoll registry apply - <<'END'
  [{\"change\":\"tenant.create\",\"tenant\":\"acme\",\"name\":\"Acme Ltd\"},
   {\"change\":\"principal.create\",\"principal\":\"billing\",\"kind\":\"service\",\"home\":\"acme\"},
   {\"change\":\"grant.create\",\"principal\":\"billing\",\"role\":\"ingest-service\",\"tenants\":[\"acme\"]},
   {\"change\":\"credential.create\",\"principal\":\"billing\"},
   {\"change\":\"grant.create\",\"principal\":\"administrator\",\"role\":\"security-analyst\",\"tenants\":[\"acme\"]}]
  END
  piperoll registry show grants
  piperoll registry show grants --as-of 2026-05-03T00:00:00Z

Every change and every role: docs/access.md")]
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
    /// Make changes, together or not at all
    Apply {
        /// A JSON array of changes; - reads it from standard input
        file: PathBuf,
    },
    /// Show a table
    Show {
        /// tenants, principals, credentials, grants, elevations or incidents
        table: String,
        /// As it was at a time, as in 2026-05-03T00:00:00Z
        #[arg(long, value_name = "TIME")]
        as_of: Option<String>,
    },
    /// Show who the key belongs to, and what that principal may do
    Whoami,
}

/// Runs the command.
///
/// # Errors
/// The service does not answer, or refuses.
pub fn run(arguments: &Arguments) -> Outcome {
    let client = arguments.target.client();
    block_on(async {
        match &arguments.what {
            What::Apply { file } => {
                let text = match file.to_str() {
                    Some("-") => std::io::read_to_string(std::io::stdin())?,
                    _ => std::fs::read_to_string(file)?,
                };
                let changes: Value = serde_json::from_str(&text)?;
                let answer = client.change(&changes).await?;
                if arguments.json { println!("{answer}") } else { show_made(&answer) }
            }
            What::Show { table, as_of } => {
                let asked = as_of.as_ref().map_or(String::new(), |time| format!("?as_of={time}"));
                let answer: Value = serde_json::from_str(&client.text(&format!("/v1/registry/{table}{asked}")).await?)?;
                if arguments.json { println!("{answer}") } else { show_rows(&answer) }
            }
            What::Whoami => {
                let answer: Value = serde_json::from_str(&client.text("/v1/whoami").await?)?;
                println!(
                    "{}",
                    if arguments.json { answer.to_string() } else { serde_json::to_string_pretty(&answer)? }
                );
            }
        }
        Ok(ExitCode::SUCCESS)
    })?
}

fn show_made(answer: &Value) {
    for one in answer["changes"].as_array().into_iter().flatten() {
        let made = &one["made"];
        let name = ["grant", "elevation", "credential", "hold", "policy", "id", "tenant", "principal"];
        let about = name.iter().find_map(|key| made[key].as_str()).unwrap_or_default();
        println!("entry {:<6} {} {about}", one["seq"], made["change"].as_str().unwrap_or_default());
        if let Some(key) = one["key"].as_str() {
            println!("             key of {}, shown this once: {key}", made["principal"].as_str().unwrap_or_default());
        }
    }
}

fn show_rows(answer: &Value) {
    let rows = answer["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    // A column that no row has a value of tells nothing.
    let has_value = |name: &&str| rows.iter().any(|row| !super::query::shown(&row[*name]).is_empty());
    let names: Vec<&str> =
        answer["columns"].as_array().into_iter().flatten().filter_map(Value::as_str).filter(has_value).collect();
    let mut table = output::table(&names);
    for row in rows {
        table.add_row(names.iter().map(|name| super::query::shown(&row[*name])));
    }
    println!("{table}\n{} rows", rows.len());
}
