//! The Merkle tree of RFC 6962 §2.1 and its right edge, which is all that appending needs.
//!
//! Not here: proofs ([`crate::proof`]), tiles ([`crate::tile`]), what a leaf's data is ([`crate::leaf`]).
//!
//! Invariant of [`Edge`]: it holds the roots of the maximal complete subtrees of `[0, size)`, largest
//! first; there are exactly `size.count_ones()` of them.

use crate::sha::sha256;
use sha2::{Digest, Sha256};
use std::fmt;

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// SHA-256 of these bytes, with no prefix.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Standard padded base64, as in checkpoints and proofs.
    pub fn to_base64(&self) -> String {
        crate::text::encode(&self.0)
    }

    /// Parses what [`Hash::to_base64`] writes, and nothing else.
    pub fn from_base64(text: &str) -> Option<Self> {
        crate::text::decode(text)?.try_into().ok().map(Self)
    }

    /// Lower-case hexadecimal.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what [`Hash::to_hex`] writes.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let is_plain = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        for (at, byte) in hash.iter_mut().enumerate().filter(|_| is_plain) {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        is_plain.then_some(Self(hash))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_base64())
    }
}

/// A SHA-256 that is fed piece by piece, for objects too large to hold.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Feeds more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all that was fed.
    pub fn finish(self) -> Hash {
        Hash(self.0.finalize().into())
    }
}

/// The hash of a leaf: `SHA-256(00 ‖ data)`.
pub fn leaf_hash(data: &[u8]) -> Hash {
    sha256(&[&[0], data])
}

/// The hash of an inner node: `SHA-256(01 ‖ left ‖ right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], &left.0, &right.0])
}

/// The root of the tree without leaves: `SHA-256("")`.
pub fn empty_root() -> Hash {
    Hash::of(b"")
}

/// Folds complete subtrees, largest first, into the root of the tree they make up.
pub fn fold(nodes: &[Hash]) -> Hash {
    let mut from_right = nodes.iter().rev();
    match from_right.next() {
        None => empty_root(),
        Some(last) => from_right.fold(*last, |right, left| node_hash(left, &right)),
    }
}

/// The root of a tree with these leaf hashes.
pub fn root_of(leaves: impl IntoIterator<Item = Hash>) -> Hash {
    let mut edge = Edge::default();
    for leaf in leaves {
        edge.push(leaf);
    }
    edge.root()
}

/// A complete subtree that an append finished: it covers leaves `[index << height, (index + 1) << height)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// 0 for a leaf.
    pub height: u32,
    /// Position among the nodes of this height.
    pub index: u64,
    /// Its hash.
    pub hash: Hash,
}

/// Parts do not make an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an edge of size {size} has {} nodes, not {nodes}", .size.count_ones())]
pub struct EdgeError {
    /// The size claimed.
    pub size: u64,
    /// How many nodes came with it.
    pub nodes: usize,
}

/// The right edge of a tree: enough to append and to know the root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    nodes: Vec<Hash>,
}

impl Edge {
    /// An edge from its size and nodes, largest subtree first.
    ///
    /// # Errors
    /// The number of nodes is not the number of one bits in the size.
    pub fn from_parts(size: u64, nodes: Vec<Hash>) -> Result<Self, EdgeError> {
        if nodes.len() == size.count_ones() as usize {
            Ok(Self { size, nodes })
        } else {
            Err(EdgeError { size, nodes: nodes.len() })
        }
    }

    /// How many leaves the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The maximal complete subtrees, largest first.
    pub fn nodes(&self) -> &[Hash] {
        &self.nodes
    }

    /// The tree's root.
    pub fn root(&self) -> Hash {
        fold(&self.nodes)
    }

    /// Appends one leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_| {});
    }

    /// Appends one leaf and reports each inner node that it completed, lowest first.
    pub fn push_with(&mut self, leaf: Hash, completed: impl FnMut(Node)) {
        self.push_node(0, leaf, completed);
    }

    /// Appends a complete subtree of `1 << height` leaves, which must come where one may stand, and reports each inner
    /// node above it that it completed, lowest first.
    pub fn push_node(&mut self, height: u32, hash: Hash, mut completed: impl FnMut(Node)) {
        debug_assert!(self.size.is_multiple_of(1 << height), "a subtree stands at a multiple of its size");
        let (own, mut hash, mut height) = (height, hash, height);
        while (self.size >> height) & 1 == 1 {
            let Some(left) = self.nodes.pop() else { break };
            hash = node_hash(&left, &hash);
            height += 1;
            completed(Node { height, index: self.size >> height, hash });
        }
        self.nodes.push(hash);
        self.size += 1 << own;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [one] => *one,
            many => {
                let split = many.len().next_power_of_two() / 2;
                node_hash(&plain(&many[..split]), &plain(&many[split..]))
            }
        }
    }

    #[test]
    fn the_edge_agrees_with_the_definition_and_names_each_node() {
        let leaves: Vec<Hash> = (0..300u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut edge = Edge::default();
        for (i, leaf) in leaves.iter().enumerate() {
            edge.push_with(*leaf, |node| {
                let range = (node.index as usize) << node.height..((node.index as usize) + 1) << node.height;
                assert_eq!(node.hash, plain(&leaves[range]));
            });
            assert_eq!(edge.root(), plain(&leaves[..=i]));
            let again = Edge::from_parts(edge.size(), edge.nodes().to_vec()).unwrap();
            assert_eq!(again, edge);
        }
        assert_eq!(root_of(leaves.iter().copied()), plain(&leaves));
        assert!(Edge::from_parts(5, vec![leaves[0]]).is_err());
    }

    #[test]
    fn fact_sheet_vectors() {
        let leaves: Vec<Hash> = (0..13).map(|i| leaf_hash(format!("leaf-{i}").as_bytes())).collect();
        assert_eq!(leaves[12].to_hex(), "7465f4c1ef1ba37b9cb3a5166cfa1ae3ec89512ef73a32e51b62b8ef4b95d7c0");
        for (range, root) in [
            (0..4, "bdd1c5ff55b19cb6b0e7c761bf9a6ccaa27fbbfc07b74f1fabb6e911a0bd2ab3"),
            (8..13, "d0b7438526b80d82cf51c096a8b65a2c19c09e0cff94419d42362be94aec5b64"),
            (0..5, "00d21829a5503145348abcf712513eacf2a274211ad83e970202bb5b6d80b286"),
            (0..13, "a8ef4844c8e1d5ba49c811cdb86e95791f5d32ca7d9709afda28fdf65e949a53"),
        ] {
            assert_eq!(root_of(leaves[range].iter().copied()).to_hex(), root);
        }
    }

    #[test]
    fn base64_of_a_hash_is_strict() {
        let hash = Hash::of(b"x");
        assert_eq!(Hash::from_base64(&hash.to_base64()), Some(hash));
        let text = hash.to_base64();
        let spare_bits = format!("{}{}=", &text[..42], if text.as_bytes()[42] == b'B' { 'C' } else { 'B' });
        for bad in [text.trim_end_matches('='), &format!("{text}\n"), &spare_bits, ""] {
            assert_eq!(Hash::from_base64(bad).filter(|h| *h == hash), None, "{bad:?}");
        }
    }
}
