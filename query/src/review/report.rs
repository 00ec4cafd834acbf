//! What a review came to: coverage, decisions, revocations.
//!
//! Invariant: pure; what is said to be carried out is so in the registry.

use access::registry::change::Verdict;
use access::registry::names::{FactId, When};
use access::registry::{Registry, Review};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Reviewers that a report names.
const MOST_REVIEWERS: usize = 200;

/// What a review came to, as it stands.
pub(super) fn report_of(review: &Review, registry: &Registry) -> Value {
    let counts = review.counts();
    let mut by_reviewer: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let mut decided = 0u32;
    let mut findings: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    let (mut carried_out, mut late) = (0u32, 0u32);
    for number in 0..review.size() {
        let decision = review.decision(number);
        if let Some(reviewer) = review.reviewer(number) {
            // Open items are those of who decides now, others of who did.
            let who = decision.map_or(reviewer.as_str(), |(stamp, _)| stamp.by.as_str());
            let of = by_reviewer.entry(who).or_default();
            of.0 += 1;
            of.1 += u32::from(decision.is_some());
        }
        decided += u32::from(decision.is_some());
        let Some(item) = review.item(number) else { continue };
        let verdict = decision.map_or("open", |(_, made)| made.decision.as_str());
        for finding in &item.findings {
            *findings.entry(finding).or_default().entry(verdict).or_default() += 1;
        }
        let is_taken = decision.is_some_and(|(_, made)| matches!(made.decision, Verdict::Revoke | Verdict::Narrow));
        let is_gone = |id: &FactId| match (registry.grant(id), registry.elevation(id)) {
            (Some(grant), _) => grant.revoked.is_some(),
            (None, Some(elevation)) => elevation.revoked.is_some() || elevation.expired.is_some(),
            (None, None) => false,
        };
        carried_out += u32::from(is_taken && item.grant.as_ref().is_some_and(is_gone));
        late += u32::from(decision.is_some_and(|(stamp, _)| stamp.at > review.fact.due_at.0));
    }
    let reviewers = by_reviewer.len();
    let of_reviewers: BTreeMap<&str, Value> = by_reviewer
        .into_iter()
        .take(MOST_REVIEWERS)
        .map(|(who, (items, decided))| (who, json!({"items": items, "decided": decided})))
        .collect();
    json!({
        "state": review.state(), "decisions_made": review.decisions.len(), "question": asked_of(review),
        "review": review.fact.review, "title": review.fact.title, "tenant": review.home().as_str(),
        "opened_at": When(review.opened.at), "due_at": review.fact.due_at,
        "items": review.size(), "items_sha256": review.fact.items_sha256, "heads_sha256": review.fact.heads_sha256,
        "coverage": {"decided": decided, "of": review.size(), "after_due": late},
        "decisions": counts, "reviewers": reviewers, "by_reviewer": of_reviewers, "by_finding": findings,
        "revocations": {"carried_out": carried_out, "confirmed": review.confirmed.len(),
            "outstanding": review.outstanding().count()},
        "escalated": review.escalated.is_some(),
    })
}

/// What was asked, without the heads, of which the hash stands beside it.
fn asked_of(review: &Review) -> Value {
    let mut question = review.fact.question.clone().unwrap_or_default();
    question.as_object_mut().map(|members| members.remove("heads"));
    question
}
