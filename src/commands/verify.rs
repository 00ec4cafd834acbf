//! `piperoll verify`: verifies streams from the store's files, against keys and heads that the caller trusts.
//!
//! Not here: the check itself (`ledger-store`). Invariant: nothing of the store is believed that a signature or
//! a recomputed hash does not confirm; the exit code is 3 when something does not hold, 4 when this program is too
//! old to tell.

use super::{FOUND, NEWER, Outcome, block_on};
use crate::clock::SystemAmbient;
use crate::keyfile::KeyFile;
use crate::output;
use crate::reach::access_to;
use crate::settings::Place;
use clap::Args;
use indicatif::ProgressBar;
use ledger::checkpoint::{Checkpoint, StreamHead};
use ledger::key::VerifierKey;
use ledger::name::{LedgerName, StreamKind, TenantId};
use ledger_store::{Ambient, ContentKeys, Finding, Fsck, Kept, Location, Report};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Verify the history of streams from the store's files, without trusting any service
///
/// Walks every commit, recomputes every leaf from its Parquet row, and checks every root that was signed. Runs
/// beside a service or on a copy, and changes nothing. What is not sealed yet is in the service's write-ahead
/// log and not looked at.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll verify                                 every stream of ./piperoll-data
  piperoll verify --tenant acme --stream audit
  piperoll verify --store copy/ --key 'LEDGER/_main/log/0+…+…' --head kept-last-month.checkpoint
  piperoll verify --store s3://acme-ledger/main --heads s3://acme-heads

A head that you kept is the strongest check: it finds a stream that was rolled back as a whole. With --heads, all that
the service kept elsewhere are compared, and streams that are gone altogether are named.")]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    trust: Trust,
    /// Verify only this tenant
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Verify only streams of this kind
    #[arg(long)]
    stream: Option<StreamKind>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which store, whose signature to believe, and which heads must still hold.
#[derive(Debug, Clone, Args)]
pub struct Trust {
    /// Where the store is: a folder or a URL as for `serve`; store/ in the data folder when nothing is said
    #[arg(long, env = "PIPEROLL_STORE", value_name = "URL")]
    pub store: Option<Location>,
    /// Which of the stores that the settings name
    #[arg(long = "store-name", value_name = "NAME", default_value = "main")]
    named: TenantId,
    /// A verifier key to trust, instead of the key file in the data folder; may be given more than once, oldest first. Keys
    /// that it handed over to, or took over from, are trusted with it
    #[arg(long = "key", value_name = "VKEY")]
    pub keys: Vec<VerifierKey>,
    /// A checkpoint of a stream that was kept earlier; may be given more than once
    #[arg(long = "head", value_name = "FILE")]
    heads: Vec<PathBuf>,
    /// A store in which the service kept heads (its `heads_to`): all of them must still hold
    #[arg(long = "heads", value_name = "URL")]
    elsewhere: Option<Location>,
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Streams.
    Streams,
    /// Streams, and the store's own log.
    Store,
}

impl Trust {
    /// The check that these arguments ask for, against the heads that were given as files.
    ///
    /// # Errors
    /// The store or the key are not to be had, or a head is not signed by a trusted key.
    pub async fn fsck(&self, place: &Place) -> Result<Fsck, Box<dyn std::error::Error>> {
        let settings = place.settings(self.store.clone())?;
        let found = settings.store(&self.named).ok_or_else(|| format!("the settings name no store {}", self.named))?;
        let location = &found.location;
        if location.as_folder().is_some_and(|folder| !folder.is_dir()) {
            return Err(format!("there is no store at {location}; name one with --data or --store").into());
        }
        let (ledger, keys) = match self.keys.first() {
            Some(key) => (ledger_of(key)?, self.keys.clone()),
            None => {
                let own = KeyFile::read(&settings.key())?;
                // Oldest first.
                let keys = own.keys.all().into_iter().rev().map(|key| key.verifier(own.ledger.as_str())).collect();
                (own.ledger, keys)
            }
        };
        let objects = location.open(&access_to(location)?, Arc::new(SystemAmbient::new()))?;
        let fsck = Fsck { objects, ledger, keys, content: Default::default(), kept: vec![], durable: vec![] };
        let mut fsck = fsck.believing_handovers(&self.named).await?;
        fsck.kept = self.heads.iter().map(|path| kept_head(path, &fsck.keys)).collect::<Result<_, _>>()?;
        Ok(fsck)
    }

    /// The keys to what is encrypted: those that the settings' provider unwraps, unless somebody else's word is taken for
    /// the ledger's own key. Without them the hashes of such files are checked, and the chain.
    pub async fn content(&self, place: &Place, fsck: &Fsck) -> ContentKeys {
        let found = async {
            let settings = place.settings(self.store.clone())?;
            let ambient: Arc<dyn Ambient> = Arc::new(SystemAmbient::new());
            let Some(provider) = crate::keys::provider(&settings.keys, &ambient)? else {
                return Ok(ContentKeys::default());
            };
            let location = &settings.main.location;
            let objects = location.open(&access_to(location)?, ambient)?;
            let control = Fsck { objects, ..fsck.clone() }.believing_handovers(&settings.main.name).await?;
            Ok::<_, Box<dyn std::error::Error>>(access::keys::content_keys(&control, provider.as_ref()).await?)
        };
        match found.await {
            _ if !self.keys.is_empty() => ContentKeys::default(),
            Ok(keys) => keys,
            Err(error) => {
                eprintln!("what is encrypted is not read: {error}");
                ContentKeys::default()
            }
        }
    }

    /// Checks the streams that are wanted, and what was kept of them elsewhere.
    ///
    /// # Errors
    /// The store, or the one with kept heads, is not to be had.
    pub async fn check(
        &self,
        mut fsck: Fsck,
        extent: Extent,
        wanted: impl Fn(&TenantId, StreamKind) -> bool,
        progress: impl FnMut(u64),
    ) -> Result<Report, Box<dyn std::error::Error>> {
        let kept = self.kept(&fsck).await?;
        if let Some(kept) = &kept {
            kept.tell(&mut fsck);
        }
        let mut report = match extent {
            Extent::Streams => fsck.streams(&wanted, progress).await?,
            Extent::Store => fsck.store(progress).await?,
        };
        if let Some(kept) = kept {
            report.findings.extend(kept.missing(&report, wanted));
            report.findings.extend(fsck.log_against(&kept).await?);
            report.findings.extend(kept.findings);
        }
        Ok(report)
    }

    /// What was kept elsewhere, if it is to be looked at.
    async fn kept(&self, fsck: &Fsck) -> Result<Option<Kept>, Box<dyn std::error::Error>> {
        let Some(location) = &self.elsewhere else { return Ok(None) };
        let notes = location.open(&access_to(location)?, Arc::new(SystemAmbient::new()))?;
        let kept = Kept::read(&notes, &fsck.ledger, &self.named, &fsck.keys).await?;
        if kept.notes == 0 && kept.findings.is_empty() {
            return Err(format!("no heads of ledger {} were kept at {location}", fsck.ledger).into());
        }
        Ok(Some(kept))
    }
}

fn ledger_of(key: &VerifierKey) -> Result<LedgerName, Box<dyn std::error::Error>> {
    let name = key.name().split('/').next().unwrap_or_default();
    Ok(name.parse()?)
}

/// Runs the command.
///
/// # Errors
/// The store or the key are not to be had, or a head is not signed by a trusted key.
pub fn run(arguments: &Arguments) -> Outcome {
    let trust = &arguments.trust;
    let wanted = |tenant: &TenantId, kind: StreamKind| {
        arguments.tenant.as_ref().is_none_or(|only| only == tenant) && arguments.stream.is_none_or(|only| only == kind)
    };
    let bar = ProgressBar::new_spinner();
    let report = block_on(async {
        let mut fsck = trust.fsck(&arguments.place).await?;
        fsck.content = trust.content(&arguments.place, &fsck).await;
        trust.check(fsck, Extent::Streams, wanted, |entries| bar.inc(entries)).await
    })??;
    bar.finish_and_clear();
    if report.streams.is_empty() && report.is_sound() {
        return Err("no such stream is sealed in this store; what is not sealed yet is in the service's write-ahead log, and `piperoll serve --seal-on-exit` seals it when it stops".into());
    }
    show(&report, arguments.json);
    Ok(exit_code(&report))
}

fn kept_head(path: &std::path::Path, keys: &[VerifierKey]) -> Result<StreamHead, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let origin = String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_string();
    let trusted: Vec<VerifierKey> = keys.iter().map(|key| key.under(&origin)).collect();
    Ok(Checkpoint::open(&bytes, &trusted)?.head().clone())
}

/// What a script is told.
pub fn exit_code(report: &Report) -> ExitCode {
    ExitCode::from(match report.is_sound() {
        true => 0,
        false if report.is_newer() => NEWER,
        false => FOUND,
    })
}

/// Shows what was found.
pub fn show(report: &Report, json: bool) {
    if json {
        println!("{}", as_json(report));
        return;
    }
    let mut table = output::table(&["tenant", "stream", "entries", "commits", "segments", "root", "holds"]);
    for stream in &report.streams {
        let sound = stream.findings.iter().all(|finding| !finding.is_fault);
        let root: String = stream.head.root.to_base64().chars().take(12).collect();
        let figures =
            [stream.head.size - stream.gone - stream.unread, stream.commits, stream.segments].map(output::grouped);
        let [entries, commits, segments] = figures;
        let is_newer = stream.findings.iter().all(|finding| !finding.is_fault || finding.is_newer);
        let holds = match sound {
            true => "yes",
            false if is_newer => "newer format",
            false => "NO",
        };
        table.add_row([
            stream.tenant.to_string(),
            stream.kind.to_string(),
            entries,
            commits,
            segments,
            root,
            holds.into(),
        ]);
    }
    println!("{table}");
    for finding in report.findings() {
        println!("{}", sentence(finding));
    }
    if report.gone() > 0 {
        let gone = output::grouped(report.gone());
        println!("{gone} entries were purged: hashes stand in their place, and are part of what is confirmed.");
    }
    if report.redacted() > 0 {
        let redacted = output::grouped(report.redacted());
        println!("{redacted} entries lack sections that were redacted: their commitments stand in their place.");
    }
    if report.unread() > 0 {
        let unread = output::grouped(report.unread());
        println!(
            "{unread} entries cannot be read, as their keys are not to be had: chain, heads and the hashes of files hold."
        );
    }
    let entries = output::grouped(report.entries());
    match report.is_sound() {
        true if report.unread() > 0 => {
            println!("What could be read holds: {entries} leaves recomputed, every root that they reach confirmed.");
        }
        true => println!("Every entry holds: {entries} leaves recomputed, every signed root confirmed."),
        false if report.is_newer() => println!(
            "Something is written in a newer format than this program reads, so it cannot tell; {entries} entries were confirmed."
        ),
        false => println!(
            "Something does NOT hold. {entries} entries were confirmed all the same: \
             in each stream, those below the first fault. Nothing was changed."
        ),
    }
}

fn sentence(finding: &Finding) -> String {
    let kind = match finding.is_fault {
        true if finding.is_newer => "NEWER",
        true => "FAULT",
        false => "note",
    };
    let entries = finding.entries.map_or(String::new(), |(first, last)| format!(" (entries {first} to {last})"));
    let sound =
        if finding.sound.is_empty() { String::new() } else { format!("\n       still sound: {}", finding.sound) };
    let Finding { object, what, advice, .. } = finding;
    format!("{kind}  {object}{entries}\n       {what}{sound}\n       what to do: {advice}")
}

fn as_json(report: &Report) -> Value {
    let finding = |finding: &Finding| {
        json!({"object": finding.object, "entries": finding.entries, "what": finding.what, "sound": finding.sound,
            "advice": finding.advice, "fault": finding.is_fault,
            "newer": finding.is_newer})
    };
    let streams: Vec<Value> = report
        .streams
        .iter()
        .map(|stream| {
            json!({"tenant": stream.tenant.as_str(), "stream": stream.kind.as_str(), "size": stream.head.size, "gone": stream.gone,
                "redacted": stream.redacted, "unread": stream.unread,
                "root": stream.head.root.to_base64(), "commits": stream.commits, "segments": stream.segments,
                "findings": stream.findings.iter().map(finding).collect::<Vec<_>>()})
        })
        .collect();
    let findings: Vec<Value> = report.findings.iter().map(finding).collect();
    json!({"sound": report.is_sound(), "entries": report.entries(), "gone": report.gone(), "redacted": report.redacted(),
        "unread": report.unread(), "streams": streams, "findings": findings})
}
