//! Chains and leaves that hold, and each fault in its place.

use super::*;
use crate::commit::Commit;
use crate::key::LedgerKey;
use crate::tree::root_of;

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
                edge: edge.clone(),
            }
            .sign(&[&key()]),
        );
    }
    out
}

fn verifier() -> ChainVerifier {
    ChainVerifier::new(ORIGIN, vec![key().verifier(ORIGIN)])
}

fn feed(leaves: &mut LeafVerifier, all: &[Hash]) -> Result<(), Fault> {
    while let Some(held) = leaves.expected().cloned() {
        for leaf in &all[held.segment.first as usize..held.segment.end() as usize] {
            leaves.leaf(*leaf)?;
        }
        leaves.end_segment()?;
    }
    Ok(())
}

#[test]
fn a_sound_chain_verifies_also_after_a_rewrite() {
    let mut chain = chain(4);
    let all = leaves(40);
    let last = chain.last().unwrap();
    let merged = SegmentRef {
        path: "2026-11/merged.parquet".into(),
        first: 10,
        rows: 20,
        bytes: 1,
        sha256: Hash::of(b""),
        root: root_of(all[10..30].iter().copied()),
    };
    let removes = vec!["2026-11/1.parquet".into(), "2026-11/2.parquet".into()];
    let rewrite =
        Commit { number: 4, previous: Some(last.hash()), adds: vec![merged], removes, ..last.commit().clone() };
    chain.push(rewrite.sign(&[&key()]));
    let mut verifier = verifier();
    for signed in &chain {
        verifier.commit(signed.bytes()).unwrap();
    }
    assert_eq!((verifier.commits(), verifier.live().count()), (5, 3));
    let mut leaves = verifier.into_leaves();
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
        rows,
        ..chain[0].commit().adds[0].clone()
    };
    let rewrite = |adds: Vec<SegmentRef>, removes: &[u64]| {
        let removes = removes.iter().map(|n| format!("2026-11/{n}.parquet")).collect();
        Commit { number: 4, previous: Some(last.hash()), adds, removes, ..last.commit().clone() }.sign(&[&key()])
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
    chain[0] = forged.sign(&[&key()]);
    let all = leaves(20);
    let merged = SegmentRef {
        path: "2026-11/merged.parquet".into(),
        rows: 20,
        root: root_of(all.iter().copied()),
        ..chain[0].commit().adds[0].clone()
    };
    let second = Commit { previous: Some(chain[0].hash()), ..chain[1].commit().clone() }.sign(&[&key()]);
    let removes = [0, 1].map(|n| format!("2026-11/{n}.parquet")).to_vec();
    let rewrite =
        Commit { number: 2, previous: Some(second.hash()), adds: vec![merged], removes, ..second.commit().clone() };
    let mut verifier = verifier();
    for signed in [&chain[0], &second, &rewrite.sign(&[&key()])] {
        verifier.commit(signed.bytes()).unwrap();
    }
    let fault = feed(&mut verifier.into_leaves(), &all).unwrap_err();
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
    assert!(matches!(skipped.commit(other.sign(&[&key()]).bytes()), Err(Fault::Chain { number: 1, .. })));
    let mut gap = good[1].commit().clone();
    gap.adds[0].first = 11;
    assert_eq!(skipped.commit(gap.sign(&[&key()]).bytes()), Err(Fault::Coverage { number: 1, seq: 10 }));
    let mut missing = good[1].commit().clone();
    missing.removes = vec!["2026-11/9.parquet".into()];
    assert!(matches!(skipped.commit(missing.sign(&[&key()]).bytes()), Err(Fault::Chain { number: 1, .. })));
    let stranger = good[1].commit().sign(&[&LedgerKey::from_secret(&[6; 32])]);
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
    let fault = feed(&mut verifier.clone().into_leaves(), &changed).unwrap_err();
    assert_eq!(fault, Fault::Segment { path: "2026-11/1.parquet".into(), first: 10, last: 19, number: 1 });
    let mut short = verifier.into_leaves();
    short.leaf(changed[0]).unwrap();
    assert!(matches!(short.end_segment(), Err(Fault::Rows { expected: 10, found: 1, .. })));
}

#[test]
fn a_head_that_its_segments_do_not_give_is_named() {
    let mut chain = chain(2);
    let mut forged = chain[1].commit().clone();
    let mut edge = chain[0].commit().edge.clone();
    (0..10u8).for_each(|i| edge.push(Hash::of(&[i])));
    forged.edge = edge;
    chain[1] = forged.sign(&[&key()]);
    let mut verifier = verifier();
    chain.iter().for_each(|signed| drop(verifier.commit(signed.bytes()).unwrap()));
    assert_eq!(feed(&mut verifier.into_leaves(), &leaves(20)), Err(Fault::Head { number: 1, size: 20, sound: 10 }));
}

#[test]
fn a_chain_may_go_on_in_a_later_generation_and_never_goes_back() {
    let chain = chain(3);
    let at = |signed: &SignedCommit, generation: u32, previous: Option<Hash>| {
        let origin = ORIGIN.parse::<Origin>().unwrap().at_generation(generation).to_string();
        Commit { origin, previous, ..signed.commit().clone() }.sign(&[&key()])
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
    feed(&mut verifier.into_leaves(), &leaves(30)).unwrap();
}

#[test]
fn a_stream_that_begins_in_a_later_generation_has_no_break() {
    let first = Commit { origin: "example/acme/audit/1".into(), ..chain(1)[0].commit().clone() }.sign(&[&key()]);
    let mut verifier = verifier();
    verifier.commit(first.bytes()).unwrap();
    assert!(verifier.breaks().is_empty());
    let other = Commit { origin: "example/globex/audit/1".into(), ..chain(1)[0].commit().clone() }.sign(&[&key()]);
    assert!(self::verifier().commit(other.bytes()).is_err(), "another stream is no later generation");
}
