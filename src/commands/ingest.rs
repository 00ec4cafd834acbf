//! `piperoll ingest`: sends files of events to a running service, mapped from another product's form if told so.
//!
//! Not here: mappings and admission (`ingest`). Invariants: each line is accounted for: accepted, duplicate,
//! conflict or rejected with its reason; the exit code is 3 when a line was rejected or conflicts.

use super::{FOUND, Outcome, block_on};
use crate::client::{Client, Target};
use crate::{files, output};
use clap::Args;
use ingest::mapping::Mapping;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Bytes of events that are sent at once.
const BATCH_BYTES: usize = 1 << 20;
/// Events that are sent at once.
const BATCH_EVENTS: usize = 1_000;

/// Send events to a running service, from this format or from another product's audit log
///
/// Files are read plain, gzip or zstd, one JSON event a line (also AWS's {"Records": […]}). A line that is not
/// taken costs itself only, and is reported with its reason. Loading a file twice stores nothing twice.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll ingest events.ndjson
  piperoll ingest --map cloudtrail logs/*.json.gz
  piperoll ingest --map okta --tenant acme okta.ndjson.zst

Mappings: cloudtrail, okta, github, kubernetes, windows, or the path of your own (docs/mappings.md).")]
pub struct Arguments {
    /// The files to send
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Maps another product's audit log: a name, or the path of a mapping file
    #[arg(long, value_name = "NAME|FILE")]
    map: Option<String>,
    /// The tenant of events that name none
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What became of the lines of one or more files.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    pub lines: u64,
    pub accepted: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub rejected: u64,
    /// Reasons, and how many lines each.
    pub reasons: BTreeMap<String, u64>,
}

/// Runs the command.
///
/// # Errors
/// A file or the mapping cannot be read, or the service does not answer.
pub fn run(arguments: &Arguments) -> Outcome {
    let mapping = arguments.map.as_deref().map(|name| load(name, arguments.tenant.as_deref())).transpose()?;
    let total = arguments.files.iter().map(|file| std::fs::metadata(file).map_or(0, |meta| meta.len())).sum();
    let bar = output::progress(total, "read", true);
    let tally = block_on(async {
        let mut sender = Sender::new(arguments.target.client());
        for file in &arguments.files {
            let counting = bar.clone();
            sender.file(file, mapping.as_ref(), arguments.tenant.as_deref(), move |bytes| counting.inc(bytes)).await?;
        }
        sender.flush().await?;
        Ok::<_, Box<dyn std::error::Error>>(sender.tally)
    })??;
    bar.finish_and_clear();
    report(&tally, arguments.json)?;
    Ok(ExitCode::from(if tally.rejected + tally.conflicts > 0 { FOUND } else { 0 }))
}

fn load(name: &str, tenant: Option<&str>) -> Result<Mapping, Box<dyn std::error::Error>> {
    let mapping = match Mapping::builtin(name) {
        Some(mapping) => mapping,
        None if Path::new(name).exists() => Mapping::parse(&std::fs::read_to_string(name)?)?,
        None => {
            return Err(format!(
                "no mapping {name}: expected {} or the path of a file",
                Mapping::builtin_names().join(", ")
            )
            .into());
        }
    };
    let mapping = mapping.with_digest(|bytes| ledger::Hash::of(bytes).0);
    Ok(match tenant {
        Some(tenant) => mapping.with_tenant(tenant),
        None => mapping,
    })
}

/// Sends events in batches, and counts what becomes of them.
pub(super) struct Sender {
    client: Client,
    batch: Vec<u8>,
    events: usize,
    pub tally: Tally,
}

impl Sender {
    /// For a service.
    pub fn new(client: Client) -> Self {
        Self { client, batch: vec![], events: 0, tally: Tally::default() }
    }

    /// Takes an event of ours on its way.
    ///
    /// # Errors
    /// The service does not answer.
    pub async fn event(&mut self, event: &str) -> Result<(), Box<dyn std::error::Error>> {
        self.tally.lines += 1;
        self.line(event.as_bytes(), None, None);
        if self.is_full() { self.flush().await } else { Ok(()) }
    }

    fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES || self.events >= BATCH_EVENTS
    }

    async fn file(
        &mut self,
        path: &Path,
        mapping: Option<&Mapping>,
        tenant: Option<&str>,
        counted: impl FnMut(u64) + 'static,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let named = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
        let mut reader = files::open(path, counted).map_err(named)?;
        let (mut line, mut cut) = (Vec::new(), false);
        while files::next_line(&mut *reader, &mut line, &mut cut).map_err(named)? {
            if line.trim_ascii().is_empty() {
                continue;
            }
            if cut {
                self.tally.lines += 1;
                self.reject("event: the line is longer than 4 MiB".into());
                continue;
            }
            for record in records(&line, mapping) {
                self.tally.lines += 1;
                self.line(&record, mapping, tenant);
                if self.is_full() {
                    self.flush().await?;
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, record: &[u8], mapping: Option<&Mapping>, tenant: Option<&str>) {
        let start = self.batch.len();
        let mapped = match (mapping, tenant) {
            (Some(mapping), _) => mapping.apply(record, &mut self.batch).map_err(|rejection| rejection.to_string()),
            (None, None) => {
                self.batch.extend_from_slice(record);
                Ok(())
            }
            (None, Some(tenant)) => with_tenant(record, tenant, &mut self.batch),
        };
        match mapped {
            Ok(()) => {
                self.batch.push(b'\n');
                self.events += 1;
            }
            Err(reason) => {
                self.batch.truncate(start);
                self.reject(reason);
            }
        }
    }

    fn reject(&mut self, reason: String) {
        self.tally.rejected += 1;
        *self.tally.reasons.entry(reason).or_default() += 1;
    }

    /// Sends what is on its way.
    ///
    /// # Errors
    /// The service does not answer.
    pub async fn flush(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        if self.events == 0 {
            return Ok(());
        }
        self.events = 0;
        let answer = self.client.events("/v1/events", std::mem::take(&mut self.batch)).await?;
        let count = |name: &str| answer[name].as_u64().unwrap_or_default();
        self.tally.accepted += count("accepted");
        self.tally.duplicates += count("duplicates");
        self.tally.conflicts += count("conflicts");
        for result in answer["results"].as_array().into_iter().flatten().filter(|result| result["status"] == "rejected")
        {
            let text = |key: &str| result[key].as_str().unwrap_or_default();
            self.reject(format!("{}: {}", text("field"), text("reason")));
        }
        Ok(())
    }
}

/// The records of a line: itself, or the elements of the array that the mapping says such a document has.
fn records<'l>(line: &'l [u8], mapping: Option<&Mapping>) -> Vec<std::borrow::Cow<'l, [u8]>> {
    let member = mapping.and_then(Mapping::records).and_then(|pointer| pointer.strip_prefix('/'));
    let document = member.filter(|member| line.trim_ascii().starts_with(format!("{{\"{member}\"").as_bytes()));
    let unrolled = document.and_then(|member| {
        let mut whole: BTreeMap<String, Vec<&serde_json::value::RawValue>> = serde_json::from_slice(line).ok()?;
        whole.remove(member)
    });
    match unrolled {
        Some(elements) => elements.into_iter().map(|raw| raw.get().as_bytes().to_vec().into()).collect(),
        None => vec![line.into()],
    }
}

/// Adds the tenant to a native event that names none.
fn with_tenant(record: &[u8], tenant: &str, out: &mut Vec<u8>) -> Result<(), String> {
    let event: Value = serde_json::from_slice(record).map_err(|_| "event: not JSON".to_string())?;
    let inner = record.trim_ascii().strip_prefix(b"{").ok_or("event: must be a JSON object")?;
    if event.get("tenant").is_some() {
        out.extend_from_slice(record);
        return Ok(());
    }
    let comma = if event.as_object().is_some_and(serde_json::Map::is_empty) { "" } else { "," };
    out.extend_from_slice(format!("{{\"tenant\":{}{comma}", Value::from(tenant)).as_bytes());
    out.extend_from_slice(inner);
    Ok(())
}

fn report(tally: &Tally, json: bool) -> Result<(), serde_json::Error> {
    if json {
        println!("{}", serde_json::to_string(tally)?);
        return Ok(());
    }
    let mut table = output::table(&["lines", "accepted", "duplicates", "conflicts", "rejected"]);
    let figures = [tally.lines, tally.accepted, tally.duplicates, tally.conflicts, tally.rejected];
    table.add_row(figures.map(output::grouped));
    println!("{table}");
    if !tally.reasons.is_empty() {
        let mut reasons = output::table(&["lines", "rejected because"]);
        for (reason, lines) in &tally.reasons {
            reasons.add_row([output::grouped(*lines), reason.clone()]);
        }
        println!("{reasons}");
    }
    Ok(())
}
