//! `piperoll access import`: snapshots of who has access in other systems, as events of ours.
//!
//! Not here: what the documents of each form say (`ingest::snapshot`). Invariants: each document is accounted for; importing
//! a file twice stores nothing twice; a snapshot is sent whole or said not to be, since one that is not ends nothing.

use super::super::ingest::Sender;
use super::super::{FOUND, Outcome};
use crate::client::Client;
use crate::{files, output};
use clap::Args;
use ingest::snapshot::{Form, Given, Snapshots};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The largest file, unpacked: an export of a million users.
const MOST_BYTES: u64 = 1 << 30;

/// Which documents, and what of.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The files: JSON documents one after the other, or CSV with a header; plain, gzip or zstd
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What they are written in: github-org, scim, aws-iam, or rows (one entitlement a line, JSON or CSV)
    #[arg(long, value_parser = form)]
    form: Form,
    /// Whose they are, if the documents do not say it or say another name
    #[arg(long)]
    tenant: Option<String>,
    /// The system that they are of; github, scim, aws-iam or rows, when left out
    #[arg(long)]
    source: Option<String>,
    /// The part of that system that they show, such as an organisation or an account: a snapshot ends nothing elsewhere
    #[arg(long)]
    part: Option<String>,
    /// Send what can be read though some cannot: it shows what there is, and ends nothing
    #[arg(long)]
    partial: bool,
    /// When they were taken, if the documents do not say it
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
}

fn form(name: &str) -> Result<Form, String> {
    let found = Form::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, form)| form);
    found.ok_or_else(|| format!("known are {}", Form::ALL.map(|(known, _)| known).join(", ")))
}

/// Runs the command.
///
/// # Errors
/// A file cannot be read, or the service does not answer.
pub async fn run(arguments: &Arguments, client: Client, json: bool) -> Outcome {
    let Arguments { tenant, source, part, as_of, .. } = arguments;
    let given = Given { tenant: tenant.clone(), source: source.clone(), part: part.clone(), as_of: as_of.clone() };
    let mut snapshots = Snapshots::new(arguments.form, given);
    let (mut documents, mut refused) = (0u64, BTreeMap::<String, u64>::new());
    for path in &arguments.files {
        for document in read(path)? {
            documents += 1;
            if let Err(reason) = snapshots.take(&document) {
                *refused.entry(reason).or_default() += 1;
            }
        }
    }
    let partial = snapshots.is_partial();
    if let Some(why) = partial.as_ref().filter(|_| !arguments.partial) {
        refused.iter().for_each(|(reason, count)| eprintln!("{count} not taken: {reason}"));
        let advice = "nothing was sent; with --partial what was read is, and ends nothing";
        return Err(format!("{why}: a snapshot that is not all there is would end what it lacks; {advice}").into());
    }
    let written = snapshots.finish(|bytes| ledger::Hash::of(bytes).0);
    let total = written.iter().map(|one| one.events.len() as u64).sum();
    let bar = output::progress(total, "events", false);
    let mut sender = Sender::new(client);
    for event in written.iter().flat_map(|one| &one.events) {
        sender.event(event).await?;
        bar.inc(1);
    }
    sender.flush().await?;
    bar.finish_and_clear();
    let tally = sender.tally;
    if json {
        let shown: Vec<Value> = written
            .iter()
            .map(|one| json!({"tenant": one.tenant, "part": one.part, "as_of": one.as_of, "entitlements": one.entitlements}))
            .collect();
        println!("{}", json!({"documents": documents, "refused": refused, "snapshots": shown, "events": tally}));
    } else {
        let mut table = output::table(&["tenant", "part", "as of", "entitlements"]);
        for one in &written {
            let part = one.part.clone().unwrap_or_default();
            table.add_row([
                one.tenant.clone(),
                part,
                one.as_of.chars().take(10).collect(),
                output::grouped(one.entitlements),
            ]);
        }
        println!("{table}\n");
        let counts = [tally.accepted, tally.duplicates, tally.rejected + tally.conflicts].map(output::grouped);
        let [accepted, known, not_taken] = counts;
        println!("{documents} documents; {accepted} events stored, {known} were there already, {not_taken} not taken");
        for (reason, count) in refused.iter().chain(&tally.reasons) {
            println!("{count} not taken: {reason}");
        }
    }
    let is_whole = tally.rejected + tally.conflicts == 0 && refused.is_empty();
    Ok(ExitCode::from(if is_whole { 0 } else { FOUND }))
}

/// The documents of a file, or its rows.
fn read(path: &Path) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let named = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
    let mut bytes = Vec::new();
    let reader = files::open(path, |_| {}).map_err(|e| named(&e))?;
    reader.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|e| named(&e))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(named(&format!("it is larger than {MOST_BYTES} bytes")).into());
    }
    if matches!(bytes.trim_ascii_start().first(), Some(b'{' | b'[')) {
        let mut all = Vec::new();
        for document in serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>() {
            match document.map_err(|e| named(&e))? {
                Value::Array(several) => all.extend(several),
                one => all.push(one),
            }
        }
        return Ok(all);
    }
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let headings: Vec<String> = reader.headers().map_err(|e| named(&e))?.iter().map(str::to_string).collect();
    let mut all = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|e| named(&e))?;
        let filled = headings.iter().zip(record.iter()).filter(|(_, value)| !value.is_empty());
        all.push(Value::Object(filled.map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>()));
    }
    Ok(all)
}
