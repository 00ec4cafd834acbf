//! What is said of a purge or redaction afterwards, signed: what went, on what grounds, and what stands in its place.
//!
//! It claims that the entries were taken out of the stream's chain, and no more: that no copy of them is anywhere cannot be
//! proven. Not here: signing (`ledger`), the hashes themselves, which the object that the commit names holds.
//!
//! Invariant: the same purge gives the same text.

use crate::plan::StreamPlan;
use access::registry::names::FactId;
use access::registry::{Redaction, Run};
use ledger::time::format_micros;
use ledger::{SegmentRef, StreamKind, TenantId};
use ledger_store::EraseDone;
use serde_json::{Value, json};

/// The kinds of report that certificates are signed as.
pub const PURGED: &str = "purge-certificate";
/// Of a redaction.
pub const REDACTED: &str = "redaction-certificate";
/// Ranges and objects that are listed; beyond it they are counted, and the commit names them all.
const MOST_LISTED: usize = 150;

/// Policies and holds that are named.
const MOST_NAMED: usize = 100;
/// Characters of a policy's basis: the registry has all of it.
const LONGEST_BASIS: usize = 200;

/// What a certificate is about.
pub struct Subject<'s> {
    /// Whose.
    pub tenant: &'s TenantId,
    /// Which stream.
    pub stream: StreamKind,
    /// The run.
    pub run: &'s str,
    /// The entry of the registry that recorded the intent, and when.
    pub basis: (u64, i64),
    /// By whom the run was asked for.
    pub by: &'s str,
    /// The moment that the plan is of, and the entry that changed a policy or hold last before it.
    pub as_of: (&'s str, u64),
    /// The policies that let it go, by name, with their versions and the law or contract behind each.
    pub policies: Vec<(String, u64, String)>,
    /// What was planned; none when it was carried out before a stop, and is only certified now.
    pub planned: Option<&'s StreamPlan>,
}

fn object(segment: &SegmentRef) -> Value {
    json!({"path": segment.path, "first": segment.first, "last": segment.end() - 1, "entries": segment.rows,
        "bytes": segment.bytes, "sha256": segment.sha256.to_base64()})
}

fn listed(segments: &[SegmentRef]) -> Vec<Value> {
    segments.iter().take(MOST_LISTED).map(object).collect()
}

/// The text of a purge's certificate, as JSON.
pub fn of_purge(subject: &Subject<'_>, done: &EraseDone) -> String {
    let Subject { tenant, stream, run, basis, by, as_of, policies, planned } = subject;
    let policies: Vec<Value> = policies
        .iter()
        .take(MOST_NAMED)
        .map(|(policy, version, basis)| json!({"policy": policy, "version": version, "basis": shortened(basis)}))
        .collect();
    let kept = done.kept.as_ref().map(|kept| {
        json!({"object": kept.path(), "sha256": kept.sha256.to_base64(), "entries_gone_in_all": kept.entries,
            "what": "roots of 256-entry blocks that are wholly gone, leaf hashes of other gone entries, and proofs of the \
                     heads that commits signed: with them what stays verifies as before"})
    });
    let mut certificate = json!({
        "form": "piperoll-purge-certificate/v1",
        "tenant": tenant.as_str(),
        "stream": stream.as_str(),
        "run": run,
        "intent": {"control_seq": basis.0, "at": format_micros(basis.1), "by": by, "as_of": as_of.0,
            "policies_and_holds_as_of_control_seq": as_of.1},
        "policies": policies,
        "entries": done.entries,
        "kept": kept,
        "claims": "these entries were taken out of the chain of the stream; their files are deleted when the time to undo \
                   is over. That no copy is anywhere else is not claimed: it cannot be proven.",
    });
    what_changed(&mut certificate, done);
    if let Some(planned) = planned {
        let ranges: Vec<&(u64, u64)> = planned.goes.iter().take(MOST_LISTED).collect();
        certificate["ranges"] = json!({"count": planned.goes.len(), "listed": ranges});
        certificate["newest_recorded_at"] = json!(planned.newest);
        let held: Vec<_> = planned.held.iter().take(MOST_NAMED).map(|(hold, stays)| (hold, stays.entries)).collect();
        certificate["held"] = json!({"holds": planned.held.len(), "listed": held});
    }
    certificate.to_string()
}

/// The text of a redaction's certificate, as JSON. It names no identifier of whom it was about.
pub fn of_redaction(
    (tenant, stream): (&TenantId, StreamKind),
    (id, redaction): (&FactId, Option<&Redaction>),
    (run, begun): (&FactId, &Run),
    done: &EraseDone,
) -> String {
    let asked = redaction.map(|found| {
        json!({"control_seq": found.asked.seq, "at": format_micros(found.asked.at), "by": found.asked.by.as_str(),
            "basis": shortened(&found.fact.basis)})
    });
    let rows = redaction.iter().flat_map(|found| &found.fact.goes).filter(|rows| rows.stream == stream);
    let rows: Vec<Value> = rows
        .take(MOST_NAMED)
        .map(|rows| {
            let listed: Vec<&(u64, u64)> = rows.ranges.iter().take(MOST_LISTED).collect();
            json!({"sections": rows.sections, "ranges": rows.ranges.len(), "listed": listed})
        })
        .collect();
    let mut certificate = json!({
        "form": "piperoll-redaction-certificate/v1",
        "tenant": tenant.as_str(),
        "stream": stream.as_str(),
        "run": run.as_str(),
        "redaction": id.as_str(),
        "asked": asked,
        "approved": {"control_seq": begun.begun.seq, "at": format_micros(begun.begun.at),
            "by": begun.begun.by.as_str()},
        "entries": done.entries,
        "redacted": rows,
        "kept": "of each section that went its commitment of 32 bytes; its salt went with it, and so did every seed that \
                 gave it. Leaves, tree, heads and proofs are what they were.",
        "backups": "none are made by this service; copies that others made are theirs to name",
        "claims": "these sections were taken out of the segments of the stream; the files that held them are deleted, and \
                   the write-ahead log is emptied of them, when the time to undo is over. That no copy is anywhere else is \
                   not claimed: it cannot be proven.",
    });
    what_changed(&mut certificate, done);
    certificate.to_string()
}

fn shortened(basis: &str) -> String {
    basis.chars().take(LONGEST_BASIS).collect()
}

fn what_changed(certificate: &mut Value, done: &EraseDone) {
    let bytes = |segments: &[SegmentRef]| segments.iter().map(|segment| segment.bytes).sum::<u64>();
    certificate["commit"] = json!({"number": done.commit.0, "sha256": done.commit.1.to_base64()});
    for (name, segments) in [("removed", &done.removed), ("put_in_place", &done.added)] {
        certificate[name] = json!({"objects": segments.len(), "bytes": bytes(segments), "listed": listed(segments)});
    }
}
