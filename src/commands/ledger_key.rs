//! `piperoll ledger-key`: the key that the ledger is signed with.
//!
//! Not here: what rotating does (`access`, `ledger_store`), the key's file ([`crate::keyfile`]). Invariant: no secret is ever
//! shown.

use super::query::shown;
use super::{Outcome, block_on};
use crate::client::{Client, Target};
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::process::ExitCode;

/// Show, rotate and retire the key that the ledger is signed with
///
/// Whoever checks signatures needs the public key from you: publish a new one as soon as it is there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll ledger-key show
  piperoll ledger-key rotate --reason yearly     from now on; the key before signs along, so that whoever has only that
                                                 one can still check
  piperoll ledger-key retire --reason 'everybody has the new one'

What follows for those who hold the older key: docs/keys.md")]
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
    /// Show the public keys, and which sign
    Show,
    /// Sign with a new key from now on; those before it sign along
    Rotate {
        /// Why: it will be read by those concerned
        #[arg(long)]
        reason: String,
    },
    /// Let the keys of before sign along no more, and forget them
    Retire {
        /// Why: it will be read by those concerned
        #[arg(long)]
        reason: String,
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
            What::Show => show(&client, arguments.json).await?,
            What::Rotate { reason } => {
                change(&client, "ledger_key.rotate", reason, arguments.json).await?;
                if !arguments.json {
                    show(&client, false).await?;
                    println!(
                        "Publish the key that signs, and keep a copy of the key file: the one that you have lacks it."
                    );
                }
            }
            What::Retire { reason } => change(&client, "ledger_key.retire", reason, arguments.json).await?,
        }
        Ok(ExitCode::SUCCESS)
    })?
}

async fn change(client: &Client, name: &str, reason: &str, json: bool) -> Result<(), Box<dyn std::error::Error>> {
    let answer = client.change(&json!([{"change": name, "reason": reason}])).await?;
    match json {
        true => println!("{answer}"),
        false => println!("entry {} {name}", answer["changes"][0]["seq"]),
    }
    Ok(())
}

async fn show(client: &Client, json: bool) -> Result<(), Box<dyn std::error::Error>> {
    let text = client.text("/v1/keys").await?;
    if json {
        println!("{text}");
        return Ok(());
    }
    let answer: Value = serde_json::from_str(&text)?;
    let mut table = output::table(&["store", "", "public key"]);
    for store in answer["keys"].as_array().into_iter().flatten() {
        for key in store["all"].as_array().into_iter().flatten() {
            let signs = if *key == store["vkey"] { "signs" } else { "before" };
            table.add_row([shown(&store["store"]), signs.into(), shown(key)]);
        }
    }
    println!("ledger {}\n{table}", shown(&answer["ledger"]));
    Ok(())
}
