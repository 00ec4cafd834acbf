//! Proofs against a plain tree, against vectors, and against a second implementation.

use super::*;
use crate::tree::{Edge, leaf_hash, root_of};
use proptest::prelude::*;

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|i| leaf_hash(format!("leaf-{i}").as_bytes())).collect()
}

fn hashes(leaves: &[Hash], spans: &[Span]) -> Vec<Hash> {
    spans.iter().map(|span| root_of(leaves[span.start as usize..span.end as usize].iter().copied())).collect()
}

#[test]
fn fact_sheet_paths() {
    let spans = |list: &[(u64, u64)]| list.iter().map(|&(a, b)| Span::new(a, b)).collect::<Vec<_>>();
    assert_eq!(consistency_path(5, 13).unwrap(), spans(&[(4, 5), (5, 6), (6, 8), (0, 4), (8, 13)]));
    assert_eq!(complement(13, &[Span::new(5, 9)]), spans(&[(0, 4), (4, 5), (9, 10), (10, 12), (12, 13)]));
    assert_eq!(complement(13, &[Span::new(5, 13)]), spans(&[(0, 4), (4, 5)]));
    let path = inclusion_path(7, 13).unwrap();
    assert_eq!(path, spans(&[(6, 7), (4, 6), (0, 4), (8, 13)]));
    let leaves = leaves(13);
    let expected = [
        "Z283gvWzpftDcO1JVyztxSP0pmMiJpyF8q8FCdF7Ck0=",
        "mFu102uSeACHaHHaklp+gqvoOp3bpYgpIKAHpV6is3Y=",
        "vdHF/1WxnLaw58dhv5psyqJ/u/wHt08fq7bpEaC9KrM=",
        "0LdDhSa4DYLPUcCWqLZaLBnAngz/lEGdQjYr6UrsW2Q=",
    ];
    assert_eq!(hashes(&leaves, &path).iter().map(Hash::to_base64).collect::<Vec<_>>(), expected);
}

#[test]
fn every_small_tree_proves_everything_and_refuses_what_is_near() {
    for size in 1..34u64 {
        let leaves = leaves(size);
        let root = root_of(leaves.iter().copied());
        for index in 0..size {
            let proof = hashes(&leaves, &inclusion_path(index, size).unwrap());
            let leaf = &leaves[index as usize];
            assert!(check_inclusion(index, size, &proof, leaf, &root));
            assert!(!check_inclusion(index + 1, size, &proof, leaf, &root));
            assert!(!check_inclusion(index, size, &[&proof[..], &[root]].concat(), leaf, &root));
            assert!(proof.is_empty() || !check_inclusion(index, size, &proof[1..], leaf, &root));
        }
        for old in 0..=size {
            let proof = hashes(&leaves, &consistency_path(old, size).unwrap());
            let old_root = root_of(leaves[..old as usize].iter().copied());
            assert!(check_consistency(old, size, &proof, &old_root, &root), "{old} {size}");
            assert!(!check_consistency(old, size, &proof, &leaves[0], &root) || (old == 1 && leaves[0] == old_root));
            assert!(old == 0 || old == size || !check_consistency(old, size, &proof, &old_root, &leaves[0]));
        }
        for start in 0..size {
            for end in start + 1..=size {
                let span = Span::new(start, end);
                let Ok(path) = subtree_path(span, size) else { continue };
                let subtree = root_of(leaves[start as usize..end as usize].iter().copied());
                assert!(check_subtree(span, size, &hashes(&leaves, &path), &subtree, &root), "{span:?} {size}");
            }
        }
    }
    assert!(
        inclusion_path(13, 13).is_err()
            && consistency_path(14, 13).is_err()
            && inclusion_path(u64::MAX, u64::MAX).is_err()
    );
}

#[test]
fn a_second_implementation_agrees() {
    use ct_merkle::mem_backed_tree::MemoryBackedTree;
    let mut tree = MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
    let mut ours = Vec::new();
    let mut roots = Vec::new();
    for i in 0..70u64 {
        let data = format!("leaf-{i}").into_bytes();
        ours.push(leaf_hash(&data));
        tree.push(data);
        let theirs = tree.root();
        let root = root_of(ours.iter().copied());
        assert_eq!(theirs.as_bytes()[..], root.0[..]);
        for index in 0..=i {
            let proof = hashes(&ours, &inclusion_path(index, i + 1).unwrap());
            assert_eq!(
                tree.prove_inclusion(index as usize).as_bytes(),
                proof.iter().flat_map(|h| h.0).collect::<Vec<_>>()
            );
        }
        for (old, old_root) in (1..).zip(&roots) {
            let proof = hashes(&ours, &consistency_path(old, i + 1).unwrap());
            let additions = (i + 1 - old) as usize;
            assert_eq!(
                tree.prove_consistency(additions).as_bytes(),
                proof.iter().flat_map(|h| h.0).collect::<Vec<_>>()
            );
            assert!(check_consistency(old, i + 1, &proof, old_root, &root));
        }
        roots.push(root);
    }
}

proptest! {
    #[test]
    fn chosen_leaves_prove_themselves_and_nothing_else(size in 1u64..300, picks in proptest::collection::btree_set(0u64..300, 0..20)) {
        let leaves = leaves(size);
        let root = root_of(leaves.iter().copied());
        let wanted: Vec<u64> = picks.into_iter().filter(|i| *i < size).collect();
        let spans: Vec<Span> = wanted.iter().map(|i| Span::new(*i, i + 1)).collect();
        let proof = hashes(&leaves, &complement(size, &spans));
        let mut known: Vec<(u64, Hash)> = wanted.iter().map(|i| (*i, leaves[*i as usize])).collect();
        prop_assert_eq!(root_from_leaves(size, &known, &proof), Some(root));
        prop_assert_eq!(root_from_leaves(size, &known, &[&proof[..], &[root]].concat()), None);
        if let Some(first) = known.first_mut() {
            first.1 = node_hash(&root, &root);
            prop_assert_ne!(root_from_leaves(size, &known, &proof), Some(root));
        }
    }

    #[test]
    fn a_ranges_complement_with_its_leaves_gives_the_root(size in 1u64..500, a in 0u64..500, b in 0u64..500) {
        let (start, end) = (a.min(b).min(size), a.max(b).min(size));
        let leaves = leaves(size);
        let wanted = if start < end { vec![Span::new(start, end)] } else { vec![] };
        let spans = complement(size, &wanted);
        let known: Vec<(u64, Hash)> = (start..end).map(|i| (i, leaves[i as usize])).collect();
        prop_assert_eq!(root_from_leaves(size, &known, &hashes(&leaves, &spans)), Some(root_of(leaves.iter().copied())));
        if end == size && start > 0 && start < size {
            // What a purge keeps is exactly the edge at its boundary.
            let mut edge = Edge::default();
            leaves[..start as usize].iter().for_each(|leaf| edge.push(*leaf));
            prop_assert_eq!(hashes(&leaves, &spans), edge.nodes().to_vec());
        }
    }

    #[test]
    fn complete_nodes_fold_to_the_spans_root(start in 0u64..64, length in 1u64..64) {
        let width = length.next_power_of_two();
        let span = Span::new(start * width, start * width + length);
        let leaves = leaves(span.end);
        let nodes: Vec<Hash> = span.complete_nodes().into_iter().map(|(height, index)| root_of(leaves[(index << height) as usize..((index + 1) << height) as usize].iter().copied())).collect();
        prop_assert_eq!(tree::fold(&nodes), root_of(leaves[span.start as usize..].iter().copied()));
    }
}
