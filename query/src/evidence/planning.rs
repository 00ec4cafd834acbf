//! What of a stream a bundle is going to have: range, neighbours, condition, fixed against one head.
//!
//! Not here: what was asked for ([`super::question`]).

use super::question::{Asked, BundleQuestion, PlannedStream};
use access::{Opened, Problem, ProblemKind};
use ledger::proof::Span;
use ledger_store::Evidence;

/// Which entries of a stream are shown.
pub(super) struct Picks {
    /// The condition that was asked for.
    pub asked_for: Option<String>,
    /// What may go to the bundle's region, as a condition; none when all may.
    pub may_go: Option<String>,
    /// Whether the caller sees every row.
    pub sees_all_rows: bool,
}

/// What of a stream a bundle is going to have.
pub(super) async fn planned(
    question: &BundleQuestion,
    asked: &Asked,
    opened: &Opened,
    evidence: &Evidence,
    picks: Picks,
) -> Result<PlannedStream, Problem> {
    // Who sees only some rows, or may show only some there, shows nothing of those beside them.
    let shows_any = picks.sees_all_rows && picks.may_go.is_none();
    let parts: Vec<String> = [picks.asked_for, picks.may_go].into_iter().flatten().collect();
    let condition = (!parts.is_empty()).then(|| parts.join("\n) AND ("));
    let is_whole = picks.sees_all_rows && condition.is_none();
    let size = evidence.head().size;
    let holes = evidence.holes().await?;
    let before = |seq: u64| last_before(&holes, seq);
    let (mut first, mut end, mut neighbours) = (0, size, (false, false));
    if let Some(from) = question.from {
        // What is gone between the last before the period and the first in it may have been of the period.
        let inside = evidence.first_since(from.0).await?.unwrap_or(size);
        let outside = before(inside);
        first = outside.map_or(0, |seq| seq + 1);
        neighbours.0 = outside.is_some() && shows_any;
    }
    if let Some(until) = question.until
        && let Some(seq) = evidence.first_since(until.0).await?
    {
        end = seq.max(first);
        // Of an empty range both neighbours may be one next to the other; it may not be one and the same.
        neighbours.1 = shows_any && seq == end;
    }
    let kind = opened.handle.kind();
    let proofs: Vec<u64> = asked.proofs.get(&kind).into_iter().flatten().copied().collect();
    let is_in =
        |seq: &u64| *seq >= first && *seq < end && !holes.iter().any(|hole| hole.start <= *seq && *seq < hole.end);
    if let Some(seq) = proofs.iter().find(|seq| !is_in(seq)) {
        let why = format!("entry {seq} of {kind} is not among those that the bundle speaks of, or was purged");
        return Err(Problem::new(ProblemKind::Unprocessable, why));
    }
    if !proofs.is_empty() && !is_whole {
        let why = "proofs of single entries go with bundles that show every entry of their range";
        return Err(Problem::new(ProblemKind::Unprocessable, why));
    }
    let since = asked.since.get(&kind).copied();
    if let Some(since) = since.filter(|since| !(1..=size).contains(since)) {
        let why = format!("{kind} has {size} entries: it cannot go on from a head of {since}");
        return Err(Problem::new(ProblemKind::Unprocessable, why));
    }
    let since = since.into_iter().collect();
    let stream = kind.to_string();
    Ok(PlannedStream { stream, size, first, end, neighbours, condition, is_whole, proofs, since })
}

/// The last entry before a position that is not gone.
fn last_before(holes: &[Span], seq: u64) -> Option<u64> {
    let last = seq.checked_sub(1)?;
    match holes.iter().find(|hole| hole.start <= last && last < hole.end) {
        Some(hole) => hole.start.checked_sub(1),
        None => Some(last),
    }
}
