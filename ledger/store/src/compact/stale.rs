//! What compaction does about keys: it goes around segments that nobody can read, and writes anew those that are under
//! another key than the tenant's current one, or under none while the tenant has one.
//!
//! Not here: merging ([`super::merge`]). Invariant: nothing is rewritten only to come out under the same key.

use super::{Occasion, fits, follows, plan};
use crate::keys::{ContentKeys, KeyName};
use crate::limits::Limits;
use crate::segment::Segment;
use ledger::name::TenantId;
use std::ops::Range;
use std::sync::Arc;

/// Which segments to merge next, as positions in the list: [`plan`] over each run of what can be read, and in a round
/// what is not under `current`.
pub(super) fn plan_readable(
    segments: &[Arc<Segment>],
    limits: &Limits,
    open_from: &str,
    occasion: Occasion,
    (keys, tenant): (&ContentKeys, &TenantId),
) -> Option<Range<usize>> {
    let can_read = |segment: &Segment| match &segment.statistics.key {
        Some(key) => keys.has(tenant, key).is_ok(),
        None => true,
    };
    // Without its key nothing that a tenant has one for is written; what was written before stays as it is.
    let current = keys.current(tenant).ok()?;
    let mut start = 0;
    while start < segments.len() {
        let length = segments[start..].iter().take_while(|segment| can_read(segment)).count();
        let run = &segments[start..start + length];
        let found = plan(run, limits, open_from, occasion)
            .or_else(|| if occasion == Occasion::Round { stale(run, limits, current.as_ref()?) } else { None });
        if let Some(found) = found {
            return Some(start + found.start..start + found.end);
        }
        start += length + 1;
    }
    None
}

/// The oldest run of neighbours that are not under this key, as many as fit into one.
fn stale(segments: &[Arc<Segment>], limits: &Limits, current: &KeyName) -> Option<Range<usize>> {
    let is_stale = |segment: &Segment| segment.statistics.key.as_ref() != Some(current);
    let start = segments.iter().position(|segment| is_stale(segment))?;
    let (mut end, mut bytes, mut rows) = (start, 0, 0);
    while let Some(next) = segments.get(end).filter(|next| is_stale(next)) {
        (bytes, rows) = (bytes + next.reference.bytes, rows + next.reference.rows);
        // One that is too large by itself is written anew by itself.
        if end > start && !(fits(limits, bytes, rows) && follows(&segments[end - 1], next)) {
            break;
        }
        end += 1;
    }
    Some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compact::tests::segment;
    use crate::segment::Statistics;

    #[test]
    fn what_is_under_another_key_is_written_anew_and_what_is_under_this_one_is_not() {
        let (old, new): (KeyName, KeyName) = ("k1".parse().unwrap(), "k2".parse().unwrap());
        let under = |first: u64, key: Option<&KeyName>| {
            let plain = segment("2026-08", first, 1, 1_000);
            let statistics = Statistics::default().under(key.cloned());
            Arc::new(Segment { statistics, ..Segment::clone(&plain) })
        };
        let limits = Limits { merge_bytes: 2_500, ..Limits::default() };
        let all =
            [under(0, Some(&new)), under(1, None), under(2, Some(&old)), under(3, Some(&old)), under(4, Some(&new))];
        assert_eq!(stale(&all, &limits, &new), Some(1..3));
        assert_eq!(stale(&all[3..], &limits, &new), Some(0..1));
        assert_eq!(stale(&all[4..], &limits, &new), None);
        let large = Limits { merge_bytes: 10, ..Limits::default() };
        assert_eq!(stale(&all, &large, &new), Some(1..2), "one by itself, however large");
    }
}
