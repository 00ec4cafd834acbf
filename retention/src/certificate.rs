//! What is said of a purge afterwards, signed: what went, on what grounds, and what stands in its place.
//!
//! It claims that the entries were taken out of the stream's chain, and no more: that no copy of them is anywhere cannot be
//! proven. Not here: signing (`ledger`), the hashes themselves, which the object that the commit names holds.
//!
//! Invariant: the same purge gives the same text.

use crate::plan::StreamPlan;
use ledger::time::format_micros;
use ledger::{SegmentRef, StreamKind, TenantId};
use ledger_store::Purged;
use serde_json::{Value, json};

/// The kind of report that a certificate is signed as.
pub const KIND: &str = "purge-certificate";
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

/// The text of a certificate, as JSON.
pub fn text(subject: &Subject<'_>, purged: &Purged) -> String {
    let Subject { tenant, stream, run, basis, by, as_of, policies, planned } = subject;
    let policies: Vec<Value> = policies
        .iter()
        .take(MOST_NAMED)
        .map(|(policy, version, basis)| {
            let basis: String = basis.chars().take(LONGEST_BASIS).collect();
            json!({"policy": policy, "version": version, "basis": basis})
        })
        .collect();
    let bytes = |segments: &[SegmentRef]| segments.iter().map(|segment| segment.bytes).sum::<u64>();
    let mut certificate = json!({
        "form": "piperoll-purge-certificate/v1",
        "tenant": tenant.as_str(),
        "stream": stream.as_str(),
        "run": run,
        "intent": {"control_seq": basis.0, "at": format_micros(basis.1), "by": by, "as_of": as_of.0,
            "policies_and_holds_as_of_control_seq": as_of.1},
        "policies": policies,
        "entries": purged.entries,
        "commit": {"number": purged.commit.0, "sha256": purged.commit.1.to_base64()},
        "kept": {"object": purged.kept.path(), "sha256": purged.kept.sha256.to_base64(),
            "entries_gone_in_all": purged.kept.entries,
            "what": "roots of 256-entry blocks that are wholly gone, leaf hashes of other gone entries, and proofs of the \
                     heads that commits signed: with them what stays verifies as before"},
        "removed": {"objects": purged.removed.len(), "bytes": bytes(&purged.removed), "listed": listed(&purged.removed)},
        "put_in_place": {"objects": purged.added.len(), "bytes": bytes(&purged.added), "listed": listed(&purged.added)},
        "claims": "these entries were taken out of the chain of the stream; their files are deleted when the time to undo \
                   is over. That no copy is anywhere else is not claimed: it cannot be proven.",
    });
    if let Some(planned) = planned {
        let ranges: Vec<&(u64, u64)> = planned.goes.iter().take(MOST_LISTED).collect();
        certificate["ranges"] = json!({"count": planned.goes.len(), "listed": ranges});
        certificate["newest_recorded_at"] = json!(planned.newest);
        let held: Vec<_> = planned.held.iter().take(MOST_NAMED).map(|(hold, stays)| (hold, stays.entries)).collect();
        certificate["held"] = json!({"holds": planned.held.len(), "listed": held});
    }
    certificate.to_string()
}
