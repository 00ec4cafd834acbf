//! Incident scope: which tenants did something touch or break, which did it not, since when, is it contained.
//!
//! A question is any mix of dimensions ([`ScopeQuestion`]); the answer says of each tenant whether it is affected and why,
//! with what went on before beside it, and of which entries it is the answer. Asked again against the same heads it
//! gives the same bytes. From a question inward: `question` (what is asked), `gather` (counts, by SQL over one snapshot),
//! `verdict` (what the counts mean; pure), `rates` (statistics), `timeline` (what happened when).
//!
//! Not here: who may ask (`access`), incidents as they are kept and closed (`access::registry`), routes ([`http`]).

mod asking;
mod compare;
mod counts;
mod gather;
pub mod http;
mod incidents;
mod question;
mod rates;
mod tables;
mod timeline;
mod verdict;

pub(crate) use self::asking::{Reached, snapshots};
pub use self::compare::{CompareQuestion, Comparison, compare};
pub(crate) use self::http::{Asked, asked};
pub use self::question::{AffectedWhen, Dimension, HeadAt, Misasked, OneOrMany, ScopeQuestion};
pub(crate) use self::question::{literal, moment};
pub(crate) use self::tables::{Rows, rows};
pub use self::timeline::Moment;
pub use self::verdict::{Contained, Counts, ScopeAnswer, Tally, TenantScope, Times, Unexamined};

use crate::error::QueryError;
use crate::run::Engine;
use crate::table::Seen;

/// What an answer took: not part of it, since the same answer may be cheaper the next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Cost {
    /// Segments of the streams that were asked.
    pub segments: u64,
    /// Those of them that were not opened.
    pub segments_not_read: u64,
    /// Bytes of stored columns that were looked at.
    pub scanned_bytes: u64,
}

impl Cost {
    /// What was looked at of some streams.
    pub(crate) fn of(seen: &[Seen]) -> Self {
        let mut cost = Self::default();
        let mut meters = Vec::new();
        for one in seen {
            cost.segments += one.snapshot.segments.len() as u64;
            // Streams of one tenant share a meter.
            if !meters.iter().any(|meter| one.meter.is_same(meter)) {
                meters.push(one.meter.clone());
            }
        }
        let opened: u64 = meters.iter().map(|meter| meter.segments()).sum();
        cost.segments_not_read = cost.segments.saturating_sub(opened);
        cost.scanned_bytes = meters.iter().map(|meter| meter.read()).sum();
        cost
    }
}

/// What is known of the tenants besides their entries.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// Those of which the caller may not read all streams that are asked.
    pub in_part: std::collections::BTreeSet<String>,
    /// For each, itself and who stands above it.
    pub above: std::collections::BTreeMap<String, Vec<String>>,
}

/// Answers a question over snapshots that the caller may see. `platform` is its own trail, where releases stand, when it
/// is not one of those that are asked about.
///
/// # Errors
/// See [`QueryError`].
pub async fn answer(
    engine: &Engine,
    question: ScopeQuestion,
    seen: Vec<Seen>,
    platform: Option<Seen>,
    (unexamined, around): (Vec<Unexamined>, Around),
) -> Result<(ScopeAnswer, Cost), QueryError> {
    let gathered = gather::gather(engine, question, &seen, platform.clone()).await?;
    let cost = Cost::of(&seen);
    let read: Vec<Seen> = seen.into_iter().chain(platform).collect();
    Ok((verdict::answer(gathered, &read, unexamined, &around), cost))
}
