//! `piperoll keygen`: makes the key of a new ledger, or one that takes the place of another.
//!
//! Not here: how a running service rotates its key (`piperoll ledger-key`). Invariant: a key file is never overwritten; the secret is never printed.

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
#[command(after_help = "\
Examples:
  piperoll keygen audit.example.com
  piperoll keygen --after keys/ledger.key --out next.key    for a service that may not write its key file: start it with
                                                            next.key in the place of the other, and it hands over")]
pub struct Arguments {
    /// The ledger's name: a-z 0-9 . _ -, as in audit.example.com
    #[arg(required_unless_present = "after", conflicts_with = "after")]
    name: Option<LedgerName>,
    /// Make a key that takes the place of the one in this file, for the same ledger
    #[arg(long, value_name = "FILE", requires = "out")]
    after: Option<PathBuf>,
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
/// The file is there already, or cannot be written, or the one that comes before cannot be read.
pub fn run(arguments: &Arguments) -> Outcome {
    let data = arguments.place.data()?;
    let path = arguments.out.clone().unwrap_or_else(|| key_in(&data));
    let made = match (&arguments.after, &arguments.name) {
        (Some(after), _) => KeyFile::succeed(after, &path, &SystemAmbient::new())?,
        (None, Some(name)) => KeyFile::create(&path, name.clone(), &SystemAmbient::new())?,
        (None, None) => return Err("name the ledger".into()),
    };
    let vkey = made.keys.current.verifier(Origin::store_log(&made.ledger, &main_store(), 0).as_str());
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
