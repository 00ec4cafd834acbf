//! `piperoll rescue`: brings back what a purge or redaction took, while its files are still there.
//!
//! It reads the store as `verify` does, asks no service, and changes nothing of the ledger: what was taken out stays taken out,
//! and what is brought back is copies of the files. Not here: deleting them (`ledger_store`).
//!
//! Invariants: no file is overwritten; what is written is readable by its owner alone, and has the SHA-256 that a signed
//! commit names.

use super::verify::Trust;
use super::{FOUND, Outcome, block_on};
use crate::output;
use crate::settings::Place;
use clap::Args;
use ledger::name::{StreamKind, TenantId};
use ledger::time::format_micros;
use ledger_store::{Fsck, TakenOut};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bring back what a purge or redaction took out of a stream, while its files are still there
///
/// The files of what was taken out stay in the store for the time to undo (limits.undo_seconds, a day). Without --to it shows
/// what there is; with it, the files are copied there, each checked against the signed commit that named it. The ledger is
/// not changed: it goes on saying that this was taken out, and when. Encrypted files stay encrypted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll rescue --tenant acme                                what was taken out of its audit stream, and is still there
  piperoll rescue --tenant acme --commit 12 --to /safe/acme    the files that commit 12 took out

Any program that reads Parquet reads the files. Exit codes: 0 done; 3 some of the files are gone.")]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    trust: Trust,
    /// Whose
    #[arg(long)]
    tenant: TenantId,
    /// Of which stream
    #[arg(long, default_value = "audit")]
    stream: StreamKind,
    /// Only what this commit took out
    #[arg(long, value_name = "NUMBER")]
    commit: Option<u64>,
    /// Copy the files into this folder
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// The store or the key are not to be had, its commits do not hold, or a file cannot be written.
pub fn run(arguments: &Arguments) -> Outcome {
    block_on(async {
        let fsck = arguments.trust.fsck(&arguments.place).await?;
        let all = fsck.taken_out(&arguments.tenant, arguments.stream).await?;
        let wanted = |taken: &TakenOut| arguments.commit.is_none_or(|number| number == taken.commit);
        let mut found = Vec::new();
        for taken in all.into_iter().filter(wanted) {
            let there = look(arguments, &fsck, &taken).await?;
            found.push((taken, there));
        }
        if let Some(number) = arguments.commit.filter(|_| found.is_empty()) {
            return Err(format!("commit {number} of {} {} took nothing out", arguments.tenant, arguments.stream).into());
        }
        show(arguments, &found);
        let lacks = found.iter().any(|(taken, there)| *there < taken.segments.len());
        Ok(ExitCode::from(if arguments.to.is_some() && lacks { FOUND } else { 0 }))
    })?
}

/// How many of the files are there; copies them, if they are to be.
async fn look(arguments: &Arguments, fsck: &Fsck, taken: &TakenOut) -> Result<usize, Box<dyn std::error::Error>> {
    let mut there = 0;
    for segment in &taken.segments {
        let Some(bytes) = fsck.taken(&arguments.tenant, arguments.stream, segment).await? else { continue };
        there += 1;
        if let Some(to) = &arguments.to {
            let folder = format!("tenant={}/stream={}/commit-{}", arguments.tenant, arguments.stream, taken.commit);
            write(&to.join(folder).join(&segment.path), &bytes)?;
        }
    }
    Ok(there)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let write = || -> std::io::Result<()> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn show(arguments: &Arguments, found: &[(TakenOut, usize)]) {
    let entries = |taken: &TakenOut| taken.segments.iter().map(|segment| segment.rows).sum::<u64>();
    let bytes = |taken: &TakenOut| taken.segments.iter().map(|segment| segment.bytes).sum::<u64>();
    let what = |taken: &TakenOut| if taken.is_redaction { "redaction" } else { "purge" };
    if arguments.json {
        let one = |(taken, there): &(TakenOut, usize)| {
            json!({"commit": taken.commit, "time": format_micros(taken.time), "what": what(taken), "basis": taken.basis,
                "files": taken.segments.len(), "there": there, "entries": entries(taken), "bytes": bytes(taken)})
        };
        let all: Vec<Value> = found.iter().map(one).collect();
        println!(
            "{}",
            json!({"tenant": arguments.tenant.as_str(), "stream": arguments.stream.as_str(), "taken_out": all})
        );
        return;
    }
    if found.is_empty() {
        println!("Nothing was ever taken out of {} {}.", arguments.tenant, arguments.stream);
        return;
    }
    let mut table = output::table(&["commit", "time", "what", "files", "still there", "entries in them", "bytes"]);
    for (taken, there) in found {
        table.add_row([
            taken.commit.to_string(),
            format_micros(taken.time),
            what(taken).to_string(),
            output::grouped(taken.segments.len() as u64),
            output::grouped(*there as u64),
            output::grouped(entries(taken)),
            output::grouped(bytes(taken)),
        ]);
    }
    println!("{table}");
    println!("Files hold whole segments: entries that stayed are in them as well.");
    if let Some(to) = &arguments.to {
        println!("Copied to {}. The ledger is what it was.", to.display());
    }
}
