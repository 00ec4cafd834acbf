//! Proofs over the tree of RFC 6962: inclusion, consistency, subtrees, ranges and chosen leaves.
//!
//! One walk serves them all. A proof about the subtree `[start, end)` of a tree of `n` leaves is an
//! inclusion proof when it has one leaf and a consistency proof when it starts at 0 (RFC 9162 §2.1;
//! subtrees: draft-ietf-plants-merkle-tree-certs). Proofs are first *planned* as ranges, so that whoever
//! keeps the hashes can fetch them; then checked here.
//!
//! Not here: where hashes are kept (`ledger-store`), text forms ([`crate::receipt`], [`crate::tile`]).
//!
//! Invariant: a check accepts only a proof of exactly the right length.

use crate::tree::{self, Hash, node_hash};

/// The leaves `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First leaf.
    pub start: u64,
    /// One past the last leaf.
    pub end: u64,
}

impl Span {
    /// The leaves `[start, end)`.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }

    /// How many leaves.
    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has no leaf.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is a subtree of every tree that holds it: not empty, and `start` is a multiple of the
    /// smallest power of two that is at least its length.
    pub fn is_subtree(&self) -> bool {
        self.start < self.end
            && self.len().checked_next_power_of_two().is_some_and(|width| self.start.is_multiple_of(width))
    }

    /// The complete subtrees that make it up, largest first, as (height, index): [`tree::fold`] of their
    /// hashes is the span's root. `start` must be aligned as a subtree's is.
    pub fn complete_nodes(&self) -> Vec<(u32, u64)> {
        let mut nodes = Vec::new();
        let mut start = self.start;
        while start < self.end {
            let height = (self.end - start).ilog2();
            nodes.push((height, start >> height));
            start += 1 << height;
        }
        nodes
    }
}

/// A question that no tree of this size can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no proof about leaves {} to {} in a tree of {size}", .span.start, .span.end)]
pub struct ProofError {
    /// The leaves asked about.
    pub span: Span,
    /// The tree's size.
    pub size: u64,
}

fn split(length: u64) -> u64 {
    // Largest power of two strictly below the length; callers hold length >= 2.
    1 << (length - 1).ilog2()
}

/// The hashes that prove the subtree `span` to be part of the tree of `size` leaves, in proof order.
///
/// # Errors
/// The span is no subtree or reaches beyond the tree.
pub fn subtree_path(span: Span, size: u64) -> Result<Vec<Span>, ProofError> {
    if !span.is_subtree() || span.end > size {
        return Err(ProofError { span, size });
    }
    let mut reversed = Vec::new();
    let (mut at, mut within, mut known) = (span, Span::new(0, size), true);
    while at != within {
        let middle = within.start + split(within.len());
        let (left, right) = (Span::new(within.start, middle), Span::new(middle, within.end));
        if at.end <= middle {
            reversed.push(right);
            within = left;
        } else {
            if at.start < middle {
                at.start = middle;
                known = false;
            }
            reversed.push(left);
            within = right;
        }
    }
    if !known {
        reversed.push(at);
    }
    reversed.reverse();
    Ok(reversed)
}

/// The hashes that prove leaf `index` in a tree of `size` leaves, from its sibling upward.
///
/// # Errors
/// There is no such leaf.
pub fn inclusion_path(index: u64, size: u64) -> Result<Vec<Span>, ProofError> {
    subtree_path(Span::new(index, index.saturating_add(1)), size)
}

/// The hashes that prove the tree of `old` leaves to be a prefix of the tree of `new` leaves.
///
/// # Errors
/// `old` is larger than `new`.
pub fn consistency_path(old: u64, new: u64) -> Result<Vec<Span>, ProofError> {
    if old > new {
        return Err(ProofError { span: Span::new(0, old), size: new });
    }
    if old == 0 { Ok(Vec::new()) } else { subtree_path(Span::new(0, old), new) }
}

/// Whether `proof` shows that the subtree `span` with root `subtree` is part of the tree of `size` leaves with `root`.
pub fn check_subtree(span: Span, size: u64, proof: &[Hash], subtree: &Hash, root: &Hash) -> bool {
    if span.is_empty() {
        return span.start == span.end && span.end <= size && proof.is_empty() && *subtree == tree::empty_root();
    }
    if !span.is_subtree() || span.end > size {
        return false;
    }
    let (mut first, mut last, mut top) = (span.start, span.end - 1, size - 1);
    while first != last && (last == top || last & 1 == 1) {
        (first, last, top) = (first >> 1, last >> 1, top >> 1);
    }
    let (start, rest) = match proof.split_first() {
        _ if first == last => (*subtree, proof),
        Some((start, rest)) => (*start, rest),
        None => return false,
    };
    let (mut old, mut new) = (start, start);
    for hash in rest {
        if top == 0 {
            return false;
        }
        if last & 1 == 1 || last == top {
            if first < last {
                old = node_hash(hash, &old);
            }
            new = node_hash(hash, &new);
            while last & 1 == 0 && last != 0 {
                (first, last, top) = (first >> 1, last >> 1, top >> 1);
            }
        } else {
            new = node_hash(&new, hash);
        }
        (first, last, top) = (first >> 1, last >> 1, top >> 1);
    }
    top == 0 && old == *subtree && new == *root
}

/// Whether `proof` shows that `leaf` is at `index` in the tree of `size` leaves with `root`.
pub fn check_inclusion(index: u64, size: u64, proof: &[Hash], leaf: &Hash, root: &Hash) -> bool {
    index < size && check_subtree(Span::new(index, index + 1), size, proof, leaf, root)
}

/// Whether `proof` shows that the tree of `old` leaves with `old_root` is a prefix of that of `new` leaves with `new_root`.
pub fn check_consistency(old: u64, new: u64, proof: &[Hash], old_root: &Hash, new_root: &Hash) -> bool {
    match old {
        0 => proof.is_empty() && *old_root == tree::empty_root() && (new > 0 || old_root == new_root),
        _ if old == new => proof.is_empty() && old_root == new_root,
        _ => check_subtree(Span::new(0, old), new, proof, old_root, new_root),
    }
}

/// The largest subtrees of the tree of `size` leaves that hold none of the leaves in `wanted`, in
/// pre-order: with their hashes and the wanted leaves, the root can be computed. `wanted` holds spans
/// in ascending order.
pub fn complement(size: u64, wanted: &[Span]) -> Vec<Span> {
    let mut out = Vec::new();
    let mut stack = vec![Span::new(0, size)];
    while let Some(at) = stack.pop() {
        // The first wanted span that ends after this node begins is the only one that can decide.
        let next = wanted.partition_point(|span| span.end <= at.start);
        match wanted.get(next) {
            Some(span) if span.start <= at.start && at.end <= span.end => {}
            Some(span) if span.start < at.end => {
                let middle = at.start + split(at.len());
                stack.push(Span::new(middle, at.end));
                stack.push(Span::new(at.start, middle));
            }
            _ if !at.is_empty() => out.push(at),
            _ => {}
        }
    }
    out
}

/// The root of a tree of `size` leaves from some of its leaves, ascending by index, and the hashes of
/// [`complement`]. `None` when the proof is too short, too long, or an index lies outside of the tree.
pub fn root_from_leaves(size: u64, leaves: &[(u64, Hash)], proof: &[Hash]) -> Option<Hash> {
    if size == 0 {
        return (leaves.is_empty() && proof.is_empty()).then(tree::empty_root);
    }
    let ascending = leaves.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !ascending || leaves.last().is_some_and(|leaf| leaf.0 >= size) {
        return None;
    }
    let mut proof = proof.iter();
    let root = root_within(Span::new(0, size), leaves, &mut proof)?;
    proof.next().is_none().then_some(root)
}

/// Recursion is as deep as the tree: at most 64.
fn root_within(at: Span, leaves: &[(u64, Hash)], proof: &mut std::slice::Iter<'_, Hash>) -> Option<Hash> {
    if leaves.is_empty() {
        return proof.next().copied();
    }
    if at.len() == 1 {
        return Some(leaves[0].1);
    }
    let middle = at.start + split(at.len());
    let cut = leaves.partition_point(|leaf| leaf.0 < middle);
    let left = root_within(Span::new(at.start, middle), &leaves[..cut], proof)?;
    let right = root_within(Span::new(middle, at.end), &leaves[cut..], proof)?;
    Some(node_hash(&left, &right))
}

#[cfg(test)]
mod tests;
