//! `piperoll bundle`: evidence for somebody else, made by the service and fetched when it is ready.
//!
//! Not here: what is in a bundle (`query`), checking one (`piperoll-verify bundle`). Invariant: a file that is there is whole.

use super::query::shown;
use super::{Outcome, block_on};
use crate::client::{Client, ClientError, Target};
use crate::output;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How often it is asked how far a bundle is.
const POLL: Duration = Duration::from_millis(300);

/// Make an evidence bundle: entries of a tenant with what proves them, to be checked by anybody without us
///
/// The service makes it in the background; the command waits for it and fetches it. A bundle that was left, because the
/// command or the service stopped, goes on when it is asked for again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples: all of a tenant's audit trail and who looked at it; a quarter without addresses; what failed; what came since
  piperoll bundle make acme --for 'Big Buyer, Inc.' --out acme.zip
  piperoll bundle make acme --for 'the auditor' --from 2026-07-01T00:00:00Z --until 2026-10-01T00:00:00Z \\
    --withhold origin --out q3.zip
  piperoll bundle make acme --for 'the auditor' --where \"outcome = 'denied'\" --out denied.zip
  piperoll bundle make acme --for 'Big Buyer, Inc.' --previous 4e68f493813543fd497341f4aa989b2d --out next.zip
  piperoll bundle make acme --for 'the auditor' --report access --report certificates --report looks --out review.zip
  piperoll-verify bundle acme.zip --trust published.vkey

What is in a bundle, what it proves and what not: docs/bundles.md")]
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
    /// Make a bundle, wait until it is ready, and fetch it
    Make(Box<Make>),
    /// Show the bundles of a tenant that you asked for
    List {
        /// Whose
        tenant: String,
    },
    /// Fetch a bundle; one that was left goes on and is waited for
    Fetch {
        /// Whose
        tenant: String,
        /// Which
        bundle: String,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Stop making a bundle, or take it away
    Remove {
        /// Whose
        tenant: String,
        /// Which
        bundle: String,
    },
}

#[derive(Debug, Args)]
struct Make {
    /// Whose entries
    tenant: String,
    /// For whom it is; stands in the bundle
    #[arg(long = "for", value_name = "AUDIENCE")]
    audience: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A stream: audit, telemetry, access; may be given more than once (audit and access, if nothing is said)
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// Entries recorded from then on
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Entries recorded before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only entries that fulfil this condition, in SQL; of the others a hash is there, and they are counted
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// Sections to leave out of every entry: actor, subject, scope, origin, details
    #[arg(long, value_name = "SECTION", value_delimiter = ',')]
    withhold: Vec<String>,
    /// The region that it goes to; must be said of a tenant with a residency policy
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// An entry that gets a proof of its own, as stream:number; may be given more than once
    #[arg(long = "proof", value_name = "STREAM:SEQ")]
    proofs: Vec<String>,
    /// The size of a head that was kept, as stream:size: the bundle shows that it goes on from it
    #[arg(long = "since", value_name = "STREAM:SIZE")]
    since: Vec<String>,
    /// The bundle before this one, by its id
    #[arg(long, value_name = "BUNDLE")]
    previous: Option<String>,
    /// A report that goes with it: access, certificates, keys, looks, residency, verification, controls:FRAMEWORK or incident:ID
    #[arg(long = "report", value_name = "REPORT")]
    reports: Vec<String>,
}

/// A pair was given in another form.
#[derive(Debug, thiserror::Error)]
#[error("{option} {given} is not of the form stream:number, as in audit:4711")]
struct NoPair {
    option: &'static str,
    given: String,
}

fn pair<'p>(option: &'static str, given: &'p str) -> Result<(&'p str, u64), NoPair> {
    let wrong = || NoPair { option, given: given.into() };
    let (stream, number) = given.split_once(':').ok_or_else(wrong)?;
    Ok((stream, number.parse().map_err(|_| wrong())?))
}

impl Make {
    fn question(&self) -> Result<Value, NoPair> {
        let mut question = json!({
            "tenant": self.tenant, "audience": self.audience, "streams": self.streams, "withhold": self.withhold,
            "reports": self.reports,
        });
        let more = [
            ("from", &self.from),
            ("until", &self.until),
            ("where", &self.condition),
            ("region", &self.region),
            ("previous", &self.previous),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                question[name] = json!(value);
            }
        }
        for given in &self.proofs {
            let (stream, seq) = pair("--proof", given)?;
            match &mut question["proofs"][stream] {
                Value::Array(seqs) => seqs.push(json!(seq)),
                none => *none = json!([seq]),
            }
        }
        for given in &self.since {
            let (stream, size) = pair("--since", given)?;
            question["since"][stream] = json!(size);
        }
        Ok(question)
    }
}

/// Runs the command.
///
/// # Errors
/// The service does not answer or refuses, or the file cannot be written.
pub fn run(arguments: &Arguments) -> Outcome {
    let client = arguments.target.client();
    block_on(async {
        match &arguments.what {
            What::Make(make) => {
                let begun = client.post("/v1/bundles", &make.question()?).await?;
                let path = format!("/v1/bundles/{}/{}", make.tenant, shown(&begun["id"]));
                fetch(&client, &path, begun, &make.out, arguments.json).await
            }
            What::Fetch { tenant, bundle, out } => {
                let path = format!("/v1/bundles/{tenant}/{bundle}");
                let now: Value = serde_json::from_str(&client.text(&path).await?)?;
                fetch(&client, &path, now, out, arguments.json).await
            }
            What::List { tenant } => {
                let text = client.text(&format!("/v1/bundles/{tenant}")).await?;
                if arguments.json {
                    println!("{text}")
                } else {
                    show_all(&serde_json::from_str(&text)?)
                }
                Ok(ExitCode::SUCCESS)
            }
            What::Remove { tenant, bundle } => {
                client.delete(&format!("/v1/bundles/{tenant}/{bundle}")).await?;
                if !arguments.json {
                    println!("the bundle {bundle} is taken away");
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    })?
}

/// Waits for a bundle and fetches it.
async fn fetch(client: &Client, path: &str, mut now: Value, out: &Path, is_json: bool) -> Outcome {
    let bar = output::progress(now["of"].as_u64().unwrap_or_default(), "parts", false);
    while now["state"] == "making" || now["state"] == "stopped" {
        bar.set_position(now["done"].as_u64().unwrap_or_default());
        tokio::time::sleep(POLL).await;
        now = serde_json::from_str(&client.quiet_text(path).await?)?;
    }
    bar.finish_and_clear();
    if now["state"] != "ready" {
        return Err(format!("the bundle {} could not be made: {}", shown(&now["id"]), shown(&now["why"])).into());
    }
    // Written beside, and put in place when it is whole: what breaks off leaves no half archive.
    let beside = out.with_extension("zip.part");
    let mut file = File::create(&beside)?;
    let bar = output::progress(now["bytes"].as_u64().unwrap_or_default(), "bytes", true);
    let mut body = client.download(&format!("{path}/file")).await?;
    while let Some(piece) = body.chunk().await.map_err(ClientError::from)? {
        file.write_all(&piece)?;
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    file.sync_all()?;
    std::fs::rename(&beside, out)?;
    if is_json {
        println!("{now}");
    } else {
        show(&now, out);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(bundle: &Value, out: &Path) {
    let entries: u64 =
        bundle["streams"].as_object().into_iter().flatten().filter_map(|(_, stream)| stream["entries"].as_u64()).sum();
    let bytes = output::grouped(bundle["bytes"].as_u64().unwrap_or_default());
    println!("{}: {} entries of {}, {bytes} bytes", out.display(), output::grouped(entries), shown(&bundle["tenant"]));
    println!("  bundle    {}, kept until {}", shown(&bundle["id"]), shown(&bundle["kept_until"]));
    println!("  manifest  {}", shown(&bundle["manifest_sha256"]));
    println!("  check it  piperoll-verify bundle {} --trust KEY", out.display());
}

fn show_all(answer: &Value) {
    let mut table = output::table(&["bundle", "state", "parts", "for", "asked", "kept until", "bytes"]);
    for one in answer["bundles"].as_array().into_iter().flatten() {
        let parts = format!("{} of {}", shown(&one["done"]), shown(&one["of"]));
        let bytes = one["bytes"].as_u64().map_or(String::new(), output::grouped);
        let mut row = vec![shown(&one["id"]), shown(&one["state"]), parts];
        row.extend(["audience", "asked", "kept_until"].map(|name| shown(&one[name])));
        row.push(bytes);
        table.add_row(row);
    }
    println!("{table}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_strictly() {
        assert_eq!(pair("--proof", "audit:7").unwrap(), ("audit", 7));
        for bad in ["audit", "audit:", "audit:-1", "audit:x"] {
            assert!(pair("--proof", bad).is_err(), "{bad}");
        }
    }
}
