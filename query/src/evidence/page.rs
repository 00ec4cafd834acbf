//! What people find in a bundle: `README.txt` in plain words, and `index.html`, which says the same and checks the bundle in a
//! browser.
//!
//! Not here: the page's own text and script (`index.html` beside this file). Invariant: nothing of what is put into the page
//! can end the element that it stands in.

use super::question::PlannedStream;
use super::reports::Report;
use ledger::StreamHead;
use ledger::bundle::Manifest;
use ledger::time::format_micros;
use serde_json::{Value, json};

const INDEX: &str = include_str!("index.html");
/// What stands in the page where the facts go.
const MARK: &str = "/*FACTS*/null";

/// What the page says of a bundle before it is checked.
pub(super) fn facts<'f>(
    manifest: &Manifest,
    reports: &[Report],
    streams: impl Iterator<Item = (&'f PlannedStream, &'f StreamHead, &'f str, [u64; 3])>,
) -> Value {
    let streams: Vec<Value> = streams
        .map(|(stream, head, checkpoint, [entries, withheld, gone])| {
            json!({
                "stream": stream.stream, "origin": head.origin, "size": head.size, "first": stream.first,
                "end": stream.end, "entries": entries, "withheld": withheld, "gone": gone, "checkpoint": checkpoint,
            })
        })
        .collect();
    let reports: Vec<Value> = reports.iter().map(|one| json!({"name": one.name, "kind": one.kind})).collect();
    let withheld: Vec<&str> = manifest.withheld.iter().map(|section| section.as_str()).collect();
    json!({
        "id": manifest.id, "ledger": manifest.ledger.as_str(), "tenant": manifest.tenant.as_str(),
        "time": format_micros(manifest.time), "by": manifest.by, "audience": manifest.audience,
        "from": manifest.from.map(format_micros), "until": manifest.until.map(format_micros),
        "where": manifest.condition, "withheld": withheld, "previous": manifest.previous.map(|hash| hash.to_hex()),
        "streams": streams, "reports": reports, "branding": null,
    })
}

/// The page.
pub(super) fn index(facts: &Value) -> String {
    INDEX.replacen(MARK, &facts.to_string().replace('<', "\\u003c"), 1)
}

/// The bundle in plain words.
pub(super) fn readme(manifest: &Manifest, reports: &[Report]) -> String {
    let Manifest { tenant, ledger, audience, by, .. } = manifest;
    let period = match (manifest.from.map(format_micros), manifest.until.map(format_micros)) {
        (None, None) => "everything that was recorded until this bundle was made".into(),
        (Some(from), None) => format!("what was recorded from {from} on, until this bundle was made"),
        (None, Some(until)) => format!("what was recorded before {until}"),
        (Some(from), Some(until)) => format!("what was recorded from {from} on and before {until}"),
    };
    let streams: Vec<&str> = manifest.streams.iter().map(|stream| stream.as_str()).collect();
    let mut less = String::new();
    if let Some(condition) = &manifest.condition {
        less += &format!(
            "Shown are entries that fulfil this condition; of the others only a hash is here:\n  {condition}\n"
        );
    }
    if !manifest.withheld.is_empty() {
        less += &format!("Of every entry these sections are withheld: {}.\n", manifest.withheld);
    }
    let said = match reports.is_empty() {
        true => String::new(),
        false => "reports/*.json                 reports on the tenant as the ledger's keeper made them, each named by a signed note beside it\n".into(),
    };
    format!(
        "EVIDENCE BUNDLE\n\
         \n\
         Of the tenant {tenant}, from the ledger {ledger}.\n\
         For {audience}.\n\
         Made {} for {by}.\n\
         It speaks of {period}.\n\
         Streams: {}.\n\
         {less}\
         \n\
         WHAT IT PROVES\n\
         \n\
         Each entry in it was recorded in the ledger, just as it stands here, and of the range it speaks of none is\n\
         missing: each is shown, or counted as withheld or purged. Nobody can change, remove or add an entry without\n\
         that being found, the service that keeps the ledger included, once you know the ledger's key.\n\
         It does not prove that what was recorded is true, nor that all that happened was recorded.\n\
         \n\
         HOW TO CHECK IT\n\
         \n\
         1. In a browser, without a network: open index.html and give it this archive.\n\
         2. With the auditor's tool:  piperoll-verify bundle BUNDLE.zip --trust KEY\n\
         3. With your own: ledger/FORMAT.md, section 16, says every byte. A script of 80 lines does it.\n\
         \n\
         Get the ledger's KEY from where it is published, not from this bundle: whoever made a false bundle would have\n\
         put a false key into it.\n\
         \n\
         KEEP THE HEAD\n\
         \n\
         Keep streams/{}/checkpoint. A later bundle that agrees with it goes on from the very same history; one that does\n\
         not is proof that the history was changed, and no key helps against that:\n\
           piperoll-verify bundle NEXT.zip --trust KEY --head checkpoint\n\
         \n\
         WHAT IS WHERE\n\
         \n\
         manifest                       what this is, and the SHA-256 of each other file; signed\n\
         keys/                          the ledger's keys, and how each handed over to the next\n\
         streams/*/entries-*.ndjson     the entries, one on each line\n\
         streams/*/entries-*.parquet    the same entries, for DuckDB, Spark, pandas and others\n\
         streams/*/range-*              hashes that stand for what is not shown\n\
         streams/*/checkpoint           the signed head that all of it leads to\n\
         streams/*/proofs/              proofs of single entries that stand by themselves (C2SP tlog-proof)\n\
         streams/*/from-*.consistency   that the history goes on from an earlier head\n\
         {said}",
        format_micros(manifest.time),
        streams.join(", "),
        streams.first().copied().unwrap_or("audit"),
    )
}
