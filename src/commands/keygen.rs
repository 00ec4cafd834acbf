//! `piperoll keygen`: makes the key of a new ledger.
//!
//! Not here: rotation. Invariant: a key file is never overwritten; the secret is never printed.

use super::Outcome;
use crate::clock::SystemAmbient;
use crate::keyfile::KeyFile;
use crate::settings::{Place, key_in, main_store};
use clap::Args;
use ledger::name::{LedgerName, Origin};
use std::path::PathBuf;
use std::process::ExitCode;

/// Make the key of a new ledger, and give the ledger its name
///
/// The name is part of everything that is signed, and never changes. It need be no host name. Publish the
/// verifier key that is printed: it is what your customers check signatures with. Keep a copy of the key file
/// where this machine's loss cannot reach it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The ledger's name: a-z 0-9 . _ -, as in audit.example.com
    name: LedgerName,
    #[command(flatten)]
    place: Place,
    /// Where to write the key, instead of keys/ledger.key in the data folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// The file is there already, or cannot be written.
pub fn run(arguments: &Arguments) -> Outcome {
    let data = arguments.place.data()?;
    let path = arguments.out.clone().unwrap_or_else(|| key_in(&data));
    let made = KeyFile::create(&path, arguments.name.clone(), &SystemAmbient::new())?;
    let vkey = made.key.verifier(Origin::store_log(&made.ledger, &main_store(), 0).as_str());
    if arguments.json {
        println!("{}", serde_json::json!({"ledger": made.ledger.as_str(), "key_file": path, "vkey": vkey.to_string()}));
    } else {
        println!(
            "ledger        {}\nkey file      {} (secret; keep a copy in a safe place)\nverifier key  {vkey}",
            made.ledger,
            path.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
