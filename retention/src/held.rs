//! What is under hold: every entry that a hold holds, due or not, sealed or not.
//!
//! Not here: what becomes of it ([`crate::judge`]). Invariant: an entry that several holds hold is counted for each.

use crate::judge::Judge;
use crate::plan::shown;
use ledger::{StreamKind, TenantId};
use ledger_store::{EntryFacts, StoreError, StreamHandle, tail_facts};
use serde::Serialize;
use std::collections::BTreeMap;

/// Ranges that are listed of one hold in one stream; beyond it they are counted.
const MOST_LISTED: usize = 1_000;

/// What a hold holds of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldOfStream {
    /// Which hold.
    pub hold: String,
    /// Its matter, where the tenants that were asked about are those that it was set on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matter: Option<String>,
    /// Whose.
    #[serde(serialize_with = "shown")]
    pub tenant: TenantId,
    /// Which stream.
    #[serde(serialize_with = "shown")]
    pub stream: StreamKind,
    /// How many entries.
    pub entries: u64,
    /// How many bytes of segments that is, in proportion to their entries; what is not sealed yet has none.
    pub bytes: u64,
    /// Ranges of sequence numbers in a row, first and last; the first thousand.
    pub ranges: Vec<(u64, u64)>,
    /// How many ranges there are.
    pub ranges_count: u64,
}

#[derive(Default)]
struct Counted {
    entries: u64,
    bytes: u64,
    ranges: Vec<(u64, u64)>,
    last: Option<u64>,
    ranges_count: u64,
}

impl Counted {
    fn take(&mut self, seq: u64) {
        self.entries += 1;
        let follows = self.last.is_some_and(|last| last + 1 == seq);
        self.last = Some(seq);
        match self.ranges.last_mut() {
            Some(last) if follows && self.ranges_count as usize <= MOST_LISTED => last.1 = seq,
            _ if follows => {}
            _ => {
                self.ranges_count += 1;
                if self.ranges.len() < MOST_LISTED {
                    self.ranges.push((seq, seq));
                }
            }
        }
    }
}

/// What holds hold of a stream.
///
/// # Errors
/// A segment cannot be read.
pub async fn held_of_stream(handle: &StreamHandle, judge: &Judge) -> Result<Vec<HeldOfStream>, StoreError> {
    if judge.holds().is_empty() {
        return Ok(Vec::new());
    }
    let snapshot = handle.snapshot().await?;
    let mut all: BTreeMap<usize, Counted> = BTreeMap::new();
    let take = |all: &mut BTreeMap<usize, Counted>, entry: &EntryFacts<'_>| {
        judge.holding(entry).for_each(|hold| all.entry(hold).or_default().take(entry.seq));
    };
    for segment in &snapshot.segments {
        let before: BTreeMap<usize, u64> = all.iter().map(|(hold, counted)| (*hold, counted.entries)).collect();
        handle.facts(segment, |entry| take(&mut all, &entry)).await?;
        let (rows, bytes) = (segment.reference.rows.max(1), segment.reference.bytes);
        for (hold, counted) in &mut all {
            let entries = counted.entries - before.get(hold).copied().unwrap_or_default();
            counted.bytes += (u128::from(bytes) * u128::from(entries) / u128::from(rows)) as u64;
        }
    }
    tail_facts(&snapshot, |entry| take(&mut all, &entry))?;
    let of = |(at, counted): (usize, Counted)| {
        let (hold, fact) = &judge.holds()[at];
        HeldOfStream {
            hold: hold.to_string(),
            matter: (fact.tenant == snapshot.tenant).then(|| fact.matter.clone()),
            tenant: snapshot.tenant.clone(),
            stream: snapshot.kind,
            entries: counted.entries,
            bytes: counted.bytes,
            ranges: counted.ranges,
            ranges_count: counted.ranges_count,
        }
    };
    Ok(all.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_counted_beyond_those_that_are_listed() {
        let mut counted = Counted::default();
        for seq in (0..3_000).filter(|seq| seq % 3 < 2) {
            counted.take(seq);
        }
        assert_eq!((counted.entries, counted.ranges_count, counted.ranges.len()), (2_000, 1_000, 1_000));
        assert_eq!((counted.ranges[0], counted.ranges[999]), ((0, 1), (2_997, 2_998)));
        counted.take(5_000);
        counted.take(5_001);
        assert_eq!((counted.ranges_count, counted.ranges.len(), counted.ranges[999]), (1_001, 1_000, (2_997, 2_998)));
    }
}
