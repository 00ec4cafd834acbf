//! Chains and leaves that hold, and each fault in its place.

use super::*;
use crate::commit::{Commit, Erased, Erasure};
use crate::gone::{BLOCK, Gone, Wanted, cut};
use crate::key::LedgerKey;
use crate::proof::Span;
use crate::tree::{Node, root_of};
use proptest::prelude::*;

const ORIGIN: &str = "example/acme/audit/0";

fn key() -> LedgerKey {
    LedgerKey::from_secret(&[5; 32])
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|i| Hash::of(&i.to_be_bytes())).collect()
}

/// Commits that seal 10 entries each.
fn chain(commits: u64) -> Vec<SignedCommit> {
    let leaves = leaves(10 * commits);
    let mut edge = Edge::default();
    let mut out: Vec<SignedCommit> = vec![];
    for number in 0..commits {
        let own = &leaves[10 * number as usize..][..10];
        own.iter().for_each(|leaf| edge.push(*leaf));
        let add = SegmentRef {
            path: format!("2026-11/{number}.parquet"),
            first: 10 * number,
            span: 10,
            rows: 10,
            bytes: 1,
            sha256: Hash::of(b""),
            root: root_of(own.iter().copied()),
        };
        let previous = out.last().map(SignedCommit::hash);
        out.push(
            Commit {
                origin: ORIGIN.into(),
                number,
                previous,
                epoch: 1,
                time: 0,
                adds: vec![add],
                removes: vec![],
                erasure: None,
                edge: edge.clone(),
            }
            .sign(&key()),
        );
    }
    out
}

fn verifier() -> ChainVerifier {
    ChainVerifier::new(ORIGIN, vec![key().verifier(ORIGIN)])
}

fn feed(leaves: &mut LeafVerifier, all: &[Hash]) -> Result<(), Fault> {
    while let Some(held) = leaves.expected().cloned() {
        let stays = |seq: &u64| !leaves.gone.as_ref().is_some_and(|gone| gone.holds(*seq));
        for seq in (held.segment.first..held.segment.end()).filter(stays).collect::<Vec<_>>() {
            leaves.leaf(seq, all[seq as usize], &mut ())?;
        }
        leaves.end_segment()?;
    }
    leaves.end(&mut ())
}

#[test]
fn a_sound_chain_verifies_also_after_a_rewrite() {
    let mut chain = chain(4);
    let all = leaves(40);
    let last = chain.last().unwrap();
    let merged = SegmentRef {
        path: "2026-11/merged.parquet".into(),
        first: 10,
        span: 20,
        rows: 20,
        bytes: 1,
        sha256: Hash::of(b""),
        root: root_of(all[10..30].iter().copied()),
    };
    let removes = vec!["2026-11/1.parquet".into(), "2026-11/2.parquet".into()];
    let rewrite =
        Commit { number: 4, previous: Some(last.hash()), adds: vec![merged], removes, ..last.commit().clone() };
    chain.push(rewrite.sign(&key()));
    let mut verifier = verifier();
    for signed in &chain {
        verifier.commit(signed.bytes()).unwrap();
    }
    assert_eq!((verifier.commits(), verifier.live().count()), (5, 3));
    let mut leaves = verifier.into_leaves(None).unwrap();
    feed(&mut leaves, &all).unwrap();
    assert_eq!(leaves.edge().root(), root_of(all));
}

#[test]
fn a_rewrite_covers_what_it_removes_and_nothing_else() {
    let chain = chain(4);
    let last = chain.last().unwrap();
    let segment = |first: u64, rows: u64| SegmentRef {
        path: format!("2026-11/m{first}-{rows}.parquet"),
        first,
        span: rows,
        rows,
        ..chain[0].commit().adds[0].clone()
    };
    let rewrite = |adds: Vec<SegmentRef>, removes: &[u64]| {
        let removes = removes.iter().map(|n| format!("2026-11/{n}.parquet")).collect();
        Commit { number: 4, previous: Some(last.hash()), adds, removes, ..last.commit().clone() }.sign(&key())
    };
    let mut before = verifier();
    chain.iter().for_each(|signed| drop(before.commit(signed.bytes()).unwrap()));
    for (adds, removes, seq) in [
        (vec![segment(10, 19)], &[1, 2][..], 29),
        (vec![segment(10, 21)], &[1, 2], 30),
        (vec![segment(11, 19)], &[1, 2], 10),
        (vec![segment(10, 30)], &[1, 3], 20),
        (vec![segment(10, 10)], &[], 10),
        (vec![], &[1], 10),
    ] {
        let fault = before.clone().commit(rewrite(adds, removes).bytes());
        assert_eq!(fault, Err(Fault::Coverage { number: 4, seq }), "{removes:?}");
    }
    assert!(matches!(before.clone().commit(rewrite(vec![segment(10, 10)], &[1, 1]).bytes()), Err(Fault::Chain { .. })));
    for (adds, removes) in [
        (vec![segment(10, 20)], &[2, 1][..]),
        (vec![segment(0, 5), segment(5, 35)], &[0, 1, 2, 3]),
        (vec![segment(0, 10), segment(20, 20)], &[0, 2, 3]),
    ] {
        let signed = rewrite(adds, removes);
        let mut whole = before.clone();
        let mut resumed = ChainVerifier::resume(vec![key().verifier(ORIGIN)], before.state());
        whole.commit(signed.bytes()).unwrap();
        resumed.commit(signed.bytes()).unwrap();
        assert_eq!(whole.state(), resumed.state());
        assert_eq!(whole.live().map(|held| held.segment.rows).sum::<u64>(), 40);
    }
}

#[test]
fn a_head_inside_a_rewritten_segment_still_counts() {
    let mut chain = chain(2);
    let mut forged = chain[0].commit().clone();
    let mut edge = Edge::default();
    (0..10u8).for_each(|i| edge.push(Hash::of(&[i])));
    forged.edge = edge;
    chain[0] = forged.sign(&key());
    let all = leaves(20);
    let merged = SegmentRef {
        path: "2026-11/merged.parquet".into(),
        span: 20,
        rows: 20,
        root: root_of(all.iter().copied()),
        ..chain[0].commit().adds[0].clone()
    };
    let second = Commit { previous: Some(chain[0].hash()), ..chain[1].commit().clone() }.sign(&key());
    let removes = [0, 1].map(|n| format!("2026-11/{n}.parquet")).to_vec();
    let rewrite =
        Commit { number: 2, previous: Some(second.hash()), adds: vec![merged], removes, ..second.commit().clone() };
    let mut verifier = verifier();
    for signed in [&chain[0], &second, &rewrite.sign(&key())] {
        verifier.commit(signed.bytes()).unwrap();
    }
    let fault = feed(&mut verifier.into_leaves(None).unwrap(), &all).unwrap_err();
    assert_eq!(fault, Fault::Head { number: 0, size: 10, sound: 0 });
}

#[test]
fn each_fault_in_the_chain_is_named() {
    let good = chain(3);
    let mut skipped = verifier();
    skipped.commit(good[0].bytes()).unwrap();
    assert!(matches!(skipped.commit(good[2].bytes()), Err(Fault::Chain { number: 1, why: "it has another number" })));
    let mut other = good[1].commit().clone();
    other.previous = Some(Hash::of(b"elsewhere"));
    assert!(matches!(skipped.commit(other.sign(&key()).bytes()), Err(Fault::Chain { number: 1, .. })));
    let mut gap = good[1].commit().clone();
    gap.adds[0].first = 11;
    assert_eq!(skipped.commit(gap.sign(&key()).bytes()), Err(Fault::Coverage { number: 1, seq: 10 }));
    let mut missing = good[1].commit().clone();
    missing.removes = vec!["2026-11/9.parquet".into()];
    assert!(matches!(skipped.commit(missing.sign(&key()).bytes()), Err(Fault::Chain { number: 1, .. })));
    let stranger = good[1].commit().sign(&LedgerKey::from_secret(&[6; 32]));
    assert!(matches!(skipped.commit(stranger.bytes()), Err(Fault::Commit { number: 1, .. })));
    skipped.commit(good[1].bytes()).unwrap();
}

#[test]
fn each_fault_in_the_leaves_is_placed() {
    let chain = chain(3);
    let mut verifier = verifier();
    chain.iter().for_each(|signed| drop(verifier.commit(signed.bytes()).unwrap()));
    let mut changed = leaves(30);
    changed[17] = Hash::of(b"forged");
    let fault = feed(&mut verifier.clone().into_leaves(None).unwrap(), &changed).unwrap_err();
    assert_eq!(fault, Fault::Segment { path: "2026-11/1.parquet".into(), first: 10, last: 19, number: 1 });
    let mut short = verifier.into_leaves(None).unwrap();
    short.leaf(0, changed[0], &mut ()).unwrap();
    assert!(matches!(short.end_segment(), Err(Fault::Rows { expected: 10, found: 1, .. })));
}

#[test]
fn a_head_that_its_segments_do_not_give_is_named() {
    let mut chain = chain(2);
    let mut forged = chain[1].commit().clone();
    let mut edge = chain[0].commit().edge.clone();
    (0..10u8).for_each(|i| edge.push(Hash::of(&[i])));
    forged.edge = edge;
    chain[1] = forged.sign(&key());
    let mut verifier = verifier();
    chain.iter().for_each(|signed| drop(verifier.commit(signed.bytes()).unwrap()));
    assert_eq!(
        feed(&mut verifier.into_leaves(None).unwrap(), &leaves(20)),
        Err(Fault::Head { number: 1, size: 20, sound: 10 })
    );
}

#[test]
fn a_chain_may_go_on_in_a_later_generation_and_never_goes_back() {
    let chain = chain(3);
    let at = |signed: &SignedCommit, generation: u32, previous: Option<Hash>| {
        let origin = ORIGIN.parse::<Origin>().unwrap().at_generation(generation).to_string();
        Commit { origin, previous, ..signed.commit().clone() }.sign(&key())
    };
    let later = at(&chain[1], 2, Some(chain[0].hash()));
    let mut verifier = verifier();
    verifier.commit(chain[0].bytes()).unwrap();
    verifier.commit(later.bytes()).unwrap();
    let found = verifier.breaks().to_vec();
    assert_eq!(found.len(), 1);
    let edge = &chain[0].commit().edge;
    assert_eq!((found[0].number, found[0].size, found[0].root), (1, 10, edge.root()));
    assert_eq!((found[0].from.generation(), found[0].to.generation()), (0, 2));
    for back in [0, 1] {
        let back = at(&chain[2], back, Some(later.hash()));
        assert!(verifier.clone().commit(back.bytes()).is_err(), "it never goes back");
    }
    verifier.commit(at(&chain[2], 2, Some(later.hash())).bytes()).unwrap();
    assert_eq!((verifier.breaks().len(), verifier.origin()), (1, "example/acme/audit/2"));
    feed(&mut verifier.into_leaves(None).unwrap(), &leaves(30)).unwrap();
}

#[test]
fn a_stream_that_begins_in_a_later_generation_has_no_break() {
    let first = Commit { origin: "example/acme/audit/1".into(), ..chain(1)[0].commit().clone() }.sign(&key());
    let mut verifier = verifier();
    verifier.commit(first.bytes()).unwrap();
    assert!(verifier.breaks().is_empty());
    let other = Commit { origin: "example/globex/audit/1".into(), ..chain(1)[0].commit().clone() }.sign(&key());
    assert!(self::verifier().commit(other.bytes()).is_err(), "another stream is no later generation");
}

/// What is kept of holes, with the heads of commits at these sizes.
fn kept(all: &[Hash], commit: u64, holes: &[Span], heads: &[u64]) -> Gone {
    let root = |from: u64, to: u64| root_of(all[from as usize..to as usize].iter().copied());
    let wanted = Wanted::of(holes);
    let nodes = |head: u64| {
        let start = head - head % BLOCK;
        let of = |node: Node| root(start + (node.index << node.height), start + ((node.index + 1) << node.height));
        cut(head % BLOCK).into_iter().map(of).collect()
    };
    let inside = heads.iter().filter(|head| **head % BLOCK > 0 && wanted.blocks.contains(&(**head / BLOCK)));
    let heads = inside.map(|head| (*head, nodes(*head))).collect();
    let blocks = wanted.blocks.iter().map(|at| (*at, root(at * BLOCK, (at + 1) * BLOCK))).collect();
    let leaves = wanted.leaves.iter().map(|at| (*at, all[*at as usize])).collect();
    Gone::new(ORIGIN, (commit, all.len() as u64), holes.to_vec(), blocks, leaves, heads).unwrap()
}

/// The segment of what stays of a range, if anything does.
fn stays(path: String, all: &[Hash], (first, end): (u64, u64), gone: &Gone) -> Option<SegmentRef> {
    let seqs: Vec<u64> = (first..end).filter(|seq| !gone.holds(*seq)).collect();
    let (first, last) = (*seqs.first()?, *seqs.last()?);
    let root = root_of(seqs.iter().map(|seq| all[*seq as usize]));
    let (span, rows) = (last + 1 - first, seqs.len() as u64);
    Some(SegmentRef { path, first, span, rows, bytes: 1, sha256: Hash::of(b""), root })
}

/// A commit that takes `holes` away from the segments of `before` that they touch.
fn purge(all: &[Hash], before: &ChainVerifier, gone: &Gone, time: i64) -> SignedCommit {
    let state = before.state();
    let touched = state
        .live
        .iter()
        .filter(|held| (held.first..held.end()).filter(|seq| !gone.holds(*seq)).count() as u64 != held.rows);
    let touched: Vec<&SegmentRef> = touched.collect();
    let renamed = |held: &SegmentRef| format!("2026-11/{}-{}.parquet", held.first, state.commits);
    let adds = touched.iter().filter_map(|held| stays(renamed(held), all, (held.first, held.end()), gone)).collect();
    let text = gone.to_text();
    let named = GoneRef {
        commit: state.commits,
        epoch: 1,
        sha256: Hash::of(text.as_bytes()),
        bytes: text.len() as u64,
        entries: gone.entries(),
        newest: time,
    };
    let removes = touched.iter().map(|held| held.path.clone()).collect();
    let what = Erased::Entries(named);
    let erasure = Some(Erasure { removes, what, basis: 41, plan: Hash::of(b"plan") });
    let (number, previous, edge) = (state.commits, state.last_hash, state.edge);
    let origin = ORIGIN.into();
    Commit { origin, number, previous, epoch: 1, time, adds, removes: vec![], erasure, edge }.sign(&key())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_stays_of_a_purged_stream_verifies_and_every_head_of_a_commit_with_it(
        commits in 1u64..90, cuts in proptest::collection::vec((0u64..900, 0u64..500), 1..5),
    ) {
        let chain = chain(commits);
        let all = leaves(10 * commits);
        let size = all.len() as u64;
        let mut verifier = verifier();
        chain.iter().for_each(|signed| drop(verifier.commit(signed.bytes()).unwrap()));
        let heads: Vec<u64> = (1..=commits).map(|n| 10 * n).collect();
        let (mut holes, mut gone) = (vec![], None);
        // One purge after the other, each with all that is gone until then.
        for (from, length) in cuts {
            let span = Span::new(from.min(size), (from + length).min(size));
            let more = crate::gone::union(&holes, &[span]);
            if more == holes {
                continue;
            }
            holes = more;
            let kept = kept(&all, verifier.commits(), &holes, &heads);
            let mut resumed = ChainVerifier::resume(vec![key().verifier(ORIGIN)], verifier.state());
            let signed = purge(&all, &verifier, &kept, 0);
            verifier.commit(signed.bytes()).unwrap();
            resumed.commit(signed.bytes()).unwrap();
            prop_assert_eq!(verifier.state(), resumed.state());
            gone = Some(kept);
        }
        let Some(gone) = gone else { return Ok(()) };
        prop_assert!(verifier.clone().into_leaves(None).is_err());
        let mut whole = verifier.clone().into_leaves(Some(gone.clone())).unwrap();
        feed(&mut whole, &all).unwrap();
        prop_assert_eq!((whole.edge().size(), whole.edge().root()), (size, root_of(all.iter().copied())));
        // An entry that is there and changed, and a hash that is kept and changed, are found.
        let mut forged = all.clone();
        if let Some(seq) = (0..size).find(|seq| !gone.holds(*seq)) {
            forged[seq as usize] = Hash::of(b"forged");
            let fed = feed(&mut verifier.clone().into_leaves(Some(gone.clone())).unwrap(), &forged);
            let is_found = matches!(fed, Err(Fault::Segment { .. } | Fault::Head { .. }));
            prop_assert!(is_found);
        }
        let other = kept(&forged.iter().map(|leaf| Hash::of(leaf.as_bytes())).collect::<Vec<_>>(), gone.commit(), &holes, &heads);
        prop_assert!(verifier.into_leaves(Some(other)).is_err());
    }
}

#[test]
fn a_purge_says_what_is_gone_and_takes_nothing_else() {
    let chain = chain(4);
    let all = leaves(40);
    let mut before = verifier();
    chain.iter().for_each(|signed| drop(before.commit(signed.bytes()).unwrap()));
    let gone = kept(&all, 4, &[Span::new(0, 12), Span::new(14, 16)], &[10, 20]);
    let good = purge(&all, &before, &gone, 0).commit().clone();
    assert_eq!((good.adds[0].first, good.adds[0].span, good.adds[0].rows), (12, 8, 6));
    let with = |change: &dyn Fn(&mut Commit)| {
        let mut other = good.clone();
        change(&mut other);
        before.clone().commit(other.sign(&key()).bytes())
    };
    assert!(with(&|_| {}).is_ok());
    let missing = "entries are missing, and it does not say that they are gone";
    let named = |commit: &mut Commit, entries: u64| {
        let erasure = commit.erasure.as_mut().unwrap();
        erasure.what = Erased::Entries(GoneRef { entries, ..erasure.gone().unwrap().clone() });
    };
    for change in [&(|commit: &mut Commit| named(commit, 13)) as &dyn Fn(&mut Commit), &|commit| commit.adds.clear()] {
        assert_eq!(with(change), Err(Fault::Chain { number: 4, why: missing }));
    }
    // What is only rewritten may not go.
    let rewritten = |commit: &mut Commit| {
        let path = commit.erasure.as_mut().unwrap().removes.remove(0);
        commit.removes.push(path);
    };
    assert_eq!(with(&rewritten), Err(Fault::Coverage { number: 4, seq: 0 }));
    // What stays may not come to lie where other entries are.
    assert_eq!(with(&|commit| commit.adds[0].span += 1), Err(Fault::Coverage { number: 4, seq: 20 }));
    // Nor what is only redacted.
    let redacted = |commit: &mut Commit| commit.erasure.as_mut().unwrap().what = Erased::Sections(6);
    assert_eq!(with(&redacted), Err(Fault::Coverage { number: 4, seq: 0 }));
    // Nothing may be called gone without being removed.
    let mut after = before.clone();
    after.commit(good.sign(&key()).bytes()).unwrap();
    let again = Commit { number: 5, previous: after.last_hash(), adds: vec![], ..good.clone() };
    let refused = after.commit(again.sign(&key()).bytes());
    assert!(matches!(refused, Err(Fault::Chain { number: 5, .. })), "{refused:?}");
}
