//! `piperoll-verify bundle`: an evidence bundle, whole.
//!
//! Not here: the checking ([`crate::bundle`]). Invariant: what is proven and what is not stand in the same answer.

use crate::bundle::{self, Found, Held, KIND};
use crate::error::{Usage, VerifyError};
use crate::input;
use crate::json::Json;
use crate::report::Answer;
use clap::Args;
use ledger::key::VerifierKey;
use ledger::time::format_micros;

/// Check an evidence bundle: each file, each entry, and that nothing of its range is missing
///
/// Works offline on the archive as it came. Give a key that you trust; without one, the bundle is checked by the key that
/// it brought along, which anybody could have made.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  piperoll-verify bundle evidence.zip --trust published.vkey
  piperoll-verify bundle evidence.zip --trust 'demo/_main/log/0+3f21c8aa+AV…' --head kept.checkpoint

To keep a head, which is the strongest check of the next bundle:
  unzip -p evidence.zip streams/audit/checkpoint > kept.checkpoint")]
pub struct Arguments {
    /// The bundle
    #[arg(value_name = "BUNDLE.zip")]
    path: String,
    /// A public key that you trust, as name+id+key, or a file that holds one on each line; may be given more than once
    #[arg(long = "trust", visible_alias = "key", value_name = "VKEY|FILE")]
    trust: Vec<String>,
    /// A checkpoint that you kept earlier: the bundle must go on from it; may be given more than once
    #[arg(long = "head", value_name = "CHECKPOINT")]
    heads: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
///
/// # Errors
/// The bundle cannot be read or does not hold.
pub fn run(arguments: &Arguments) -> Result<Answer, VerifyError> {
    let mut keys = Vec::new();
    for given in &arguments.trust {
        keys.extend(keys_of(given)?);
    }
    let heads: Result<Vec<_>, _> =
        arguments.heads.iter().map(|path| input::read(path, input::DOCUMENT_BYTES)).collect();
    Ok(told(&bundle::check(&arguments.path, &keys, &heads?)?))
}

/// The keys in what was given: one itself, or a file of them.
fn keys_of(given: &str) -> Result<Vec<VerifierKey>, VerifyError> {
    if let Ok(key) = given.parse() {
        return Ok(vec![key]);
    }
    let wrong = || Usage::NoKey { given: given.into() };
    let bytes = input::read(given, input::DOCUMENT_BYTES).map_err(|_| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_| wrong())?;
    let keys: Result<Vec<VerifierKey>, _> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::parse).collect();
    keys.ok().filter(|keys| !keys.is_empty()).ok_or_else(|| wrong().into())
}

fn told(held: &Held) -> Answer {
    let manifest = &held.manifest;
    let period = match (manifest.from, manifest.until) {
        (None, None) => "all that is recorded".to_string(),
        (from, until) => {
            let said = |word: &str, at: Option<i64>| at.map(|at| format!("{word} {}", format_micros(at)));
            [said("from", from), said("before", until)].into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
    };
    let mut answer = Answer::of(KIND, held.trust.signers(&held.signers))
        .fact("tenant", manifest.tenant.as_str())
        .fact("ledger", manifest.ledger.as_str())
        .fact("made", format!("{} by {}", format_micros(manifest.time), manifest.by))
        .fact("audience", manifest.audience.as_str())
        .fact("recorded", period);
    if let Some(condition) = &manifest.condition {
        answer = answer.fact("where", condition.as_str());
    }
    answer = answer.fact("manifest sha256", held.sha256.to_hex());
    if let Some(previous) = manifest.previous {
        answer = answer.fact("previous", previous.to_hex());
    }
    let streams = held.streams.iter().map(stream_json).collect();
    let shown =
        held.streams.iter().map(|found| format!("{}: {} of {} entries", found.stream, found.entries, found.span.len()));
    answer = answer.shown_as("streams", Json::List(streams), shown.collect());
    if !held.reports.is_empty() {
        let json = held
            .reports
            .iter()
            .map(|(name, kind)| Json::object([("name", name.as_str().into()), ("kind", kind.as_str().into())]));
        let shown = held.reports.iter().map(|(name, kind)| format!("{kind} ({name})"));
        answer = answer.shown_as("reports", Json::List(json.collect()), shown.collect());
    }
    if !held.is_trusted {
        let key = held.signers.first().map(ToString::to_string).unwrap_or_default();
        answer = answer.holding_only("holds together, but by no key that you gave").leaves_open(format!(
            "who made it: it was checked by the key that came with it, {key}; compare that with where the ledger's key \
             was published, and give it with --trust"
        ));
    }
    for (origin, size) in &held.compared {
        answer =
            answer.proves(format!("the head of {origin} with {size} entries that you kept is a beginning of this one"));
    }
    if held.is_trusted && !held.uncompared.is_empty() {
        answer = answer.holding_only("holds, but a head that you gave could not be compared with it");
    }
    for (origin, size, why) in &held.uncompared {
        answer =
            answer.leaves_open(format!("whether the head of {origin} with {size} entries that you kept agrees: {why}"));
    }
    if !held.reports.is_empty() {
        answer = answer
            .proves(format!("{} reports are those that the ledger's key signed", held.reports.len()))
            .leaves_open("that what the reports say is so: they are the word of whoever keeps the ledger");
    }
    held.streams
        .iter()
        .fold(answer, in_words)
        .leaves_open("what happened and was never recorded, and that what was recorded is true")
}

fn in_words(mut answer: Answer, found: &Found) -> Answer {
    let Found { stream, head, span, entries, .. } = found;
    let counted = |count: u64, one: &str, many: &str| if count == 1 { one.into() } else { format!("{count} {many}") };
    if *entries > 0 {
        answer = answer.proves(format!(
            "{stream}: each of the {entries} entries shown was recorded, just so, in the tree of {} entries that was signed",
            head.size
        ));
    }
    answer = answer.proves(match (found.withheld, found.gone) {
        _ if span.is_empty() => format!("{stream}: the range is empty, from {} on", span.start),
        (0, 0) => format!("{stream}: nothing of entries {} to {} is missing", span.start, span.end - 1),
        (withheld, gone) => format!(
            "{stream}: of the {} positions from {} on, {entries} are shown, {withheld} withheld, {gone} purged; none is missing",
            span.len(),
            span.start
        ),
    });
    if found.proofs > 0 {
        let proofs = counted(found.proofs, "one entry has", "entries have");
        answer = answer.proves(format!("{stream}: {proofs} a proof that stands by itself (tlog-proof)"));
    }
    match found.bounded {
        (true, true) => answer = answer.proves(format!("{stream}: no entry of the period lies outside of that range")),
        (begins, ends) => {
            let what = match (begins, ends) {
                (false, true) => "before",
                (true, false) => "behind",
                _ => "before or behind",
            };
            let why = format!("{stream}: that no entry {what} the range is of the period too; it is the ledger's word");
            answer = answer.leaves_open(why);
        }
    }
    if found.withheld > 0 {
        let withheld = counted(found.withheld, "the entry that is", "entries that are");
        answer = answer.leaves_open(format!("{stream}: what {withheld} withheld would say; they are counted, no more"));
    }
    if found.gone > 0 {
        let gone = counted(found.gone, "the entry that was", "entries that were");
        answer = answer.leaves_open(format!(
            "{stream}: what {gone} purged said, and that they had to go; the ledger's certificates say under which policy"
        ));
    }
    if found.masked > 0 {
        let masked = counted(found.masked, "one entry", "entries");
        answer = answer.leaves_open(format!("{stream}: the sections of {masked} that are withheld here"));
    }
    if found.redacted > 0 {
        let redacted = counted(found.redacted, "one entry", "entries");
        answer = answer.leaves_open(format!("{stream}: the sections of {redacted} that were redacted in the ledger"));
    }
    answer
}

fn stream_json(found: &Found) -> Json {
    Json::object([
        ("stream", found.stream.as_str().into()),
        ("origin", found.head.origin.as_str().into()),
        ("size", found.head.size.into()),
        ("root", found.head.root.to_base64().into()),
        ("first", found.span.start.into()),
        ("end", found.span.end.into()),
        ("entries", found.entries.into()),
        ("withheld", found.withheld.into()),
        ("gone", found.gone.into()),
        ("with_sections_withheld", found.masked.into()),
        ("with_sections_redacted", found.redacted.into()),
        ("begins_with_period", Json::Bool(found.bounded.0)),
        ("ends_with_period", Json::Bool(found.bounded.1)),
        ("proofs", found.proofs.into()),
        ("goes_on_from", Json::list(found.compared.iter().copied())),
    ])
}
