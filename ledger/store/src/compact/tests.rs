//! Which segments are merged: few remain, and each row is rewritten seldom.

use super::*;
use proptest::prelude::*;

pub(super) fn segment(folder: &str, first: u64, rows: u64, bytes: u64) -> Arc<Segment> {
    named(layout::segment(month(folder), first, 1, 0), first, rows, bytes)
}

fn merged(folder: &str, first: u64, rows: u64, bytes: u64) -> Arc<Segment> {
    named(layout::merged_segment(folder, first, 1, 0), first, rows, bytes)
}

fn month(folder: &str) -> i64 {
    ledger::time::parse_micros(&format!("{folder}-15T00:00:00Z")).unwrap()
}

fn named(path: String, first: u64, rows: u64, bytes: u64) -> Arc<Segment> {
    let reference = SegmentRef { path, first, span: rows, rows, bytes, sha256: Hash::of(b""), root: Hash::of(b"") };
    Arc::new(Segment { reference, location: Path::from("x"), statistics: Statistics::default() })
}

/// Segments that come one by one, each followed by all merges; and how often each row was rewritten at most.
fn run(sizes: &[u64], limits: &Limits) -> (Vec<Arc<Segment>>, usize) {
    let mut live: Vec<(Arc<Segment>, usize)> = Vec::new();
    let mut first = 0;
    for rows in sizes {
        live.push((segment("2026-11", first, *rows, rows * 100), 0));
        first += rows;
        let plain =
            |live: &[(Arc<Segment>, usize)]| live.iter().map(|(segment, _)| Arc::clone(segment)).collect::<Vec<_>>();
        while let Some(range) = plan(&plain(&live), limits, "2026-11", Occasion::Round) {
            let inputs = &live[range.clone()];
            let (start, end) = (inputs[0].0.reference.first, inputs[inputs.len() - 1].0.reference.end());
            let times = inputs.iter().map(|(_, times)| times + 1).max().unwrap_or_default();
            let merged = merged("2026-11", start, end - start, 100 * (end - start));
            live.splice(range, [(merged, times)]);
        }
    }
    let most = live.iter().map(|(_, times)| *times).max().unwrap_or_default();
    (live.into_iter().map(|(segment, _)| segment).collect(), most)
}

#[test]
fn ten_thousand_equal_segments_become_few_and_are_rewritten_seldom() {
    let limits = Limits { merge_bytes: u64::MAX, ..Limits::default() };
    let (left, most) = run(&[30; 10_000], &limits);
    assert!(left.len() <= 8 + 11, "{} segments", left.len());
    assert!(most <= 12, "rewritten {most} times");
}

#[test]
fn a_month_that_is_over_becomes_one_segment_and_months_are_not_mixed() {
    let limits = Limits::default();
    let mut live: Vec<_> = (0..5).map(|n| segment("2026-10", 30 * n, 30, 3_000)).collect();
    live.extend((5..9).map(|n| segment("2026-11", 30 * n, 30, 3_000)));
    assert_eq!(plan(&live, &limits, "2026-10", Occasion::Round), None);
    assert_eq!(plan(&live, &limits, "2026-11", Occasion::Round), Some(0..5));
    live.splice(0..5, [merged("2026-10", 0, 150, 15_000)]);
    assert_eq!(plan(&live, &limits, "2026-11", Occasion::Round), None);
    assert_eq!(plan(&live, &Limits { merge_bytes: 0, ..limits }, "2026-12", Occasion::Round), None);
}

#[test]
fn while_events_come_in_only_what_piles_up_is_merged() {
    let limits = Limits::default();
    let mut live: Vec<_> = (0..31).map(|n| segment("2026-11", 30 * n, 30, 3_000)).collect();
    assert_eq!(plan(&live, &limits, "2026-11", Occasion::Commit), None);
    live.push(segment("2026-11", 930, 30, 3_000));
    assert_eq!(plan(&live, &limits, "2026-11", Occasion::Commit), Some(0..32));
}

#[test]
fn what_was_sealed_in_haste_is_written_once_more_and_no_oftener() {
    let limits = Limits::default();
    let worth = WORTH_REWRITING;
    let round = |live: &[Arc<Segment>]| plan(live, &limits, "2026-11", Occasion::Round);
    assert_eq!(round(&[segment("2026-11", 0, 9, worth)]), Some(0..1));
    assert_eq!(round(&[merged("2026-11", 0, 9, worth)]), None);
    // A little waits for more.
    let mut live = vec![merged("2026-11", 0, 9, 4 * worth), segment("2026-11", 9, 9, worth - 1)];
    assert_eq!(round(&live), None);
    live.push(segment("2026-11", 18, 9, 1));
    assert_eq!(round(&live), Some(1..3));
    // Months stay apart, and what is larger than a merge may be stays as it is.
    assert_eq!(round(&[segment("2026-10", 0, 9, worth), segment("2026-11", 9, 9, worth)]), Some(0..1));
    assert_eq!(round(&[segment("2026-11", 0, 9, limits.merge_bytes + 1)]), None);
}

proptest! {
    #[test]
    fn any_sizes_end_in_few_segments(sizes in prop::collection::vec(1u64..200_000, 1..400)) {
        let limits = Limits::default();
        let (left, most) = run(&sizes, &limits);
        let total: u64 = sizes.iter().sum();
        prop_assert_eq!(left.iter().map(|segment| segment.reference.rows).sum::<u64>(), total);
        prop_assert!(left.iter().all(|segment| segment.reference.bytes <= limits.merge_bytes.max(20_000_000)));
        let full = (100 * total / (limits.merge_bytes / 2)) as usize;
        prop_assert!(left.len() <= 3 * full + 40, "{} segments of {} rows", left.len(), total);
        prop_assert!(most <= 20, "rewritten {} times", most);
    }
}
