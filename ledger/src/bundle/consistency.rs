//! That the tree of an earlier head is the beginning of the one in a bundle, as a text.
//!
//! Not here: the proof's hashes ([`crate::proof`]). Invariant: one spelling; the roots in it prove nothing by themselves.

use super::BundleError;
use crate::proof::check_consistency;
use crate::text;
use crate::tree::Hash;
use crate::version;
use std::fmt::Write as _;

/// First line of the text: name and version of the form.
pub const CONSISTENCY_TAG: &str = "piperoll-consistency/v1";
const WORDS: [&str; 4] = ["origin", "from", "to", "node"];
/// Most hashes: two for each level of a tree of 2^64 leaves.
const HASHES: usize = 128;

/// A consistency proof, with what it is between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consistency {
    /// Of which stream's tree.
    pub origin: String,
    /// Size and root of the earlier.
    pub from: (u64, Hash),
    /// Size and root of the later.
    pub to: (u64, Hash),
    /// The proof (RFC 9162 §2.1.4).
    pub nodes: Vec<Hash>,
}

impl Consistency {
    /// Its text.
    pub fn to_text(&self) -> String {
        let Self { origin, from, to, nodes } = self;
        let mut out = format!("{CONSISTENCY_TAG}\norigin {origin}\n");
        let _ = writeln!(out, "from {} {}", from.0, from.1);
        let _ = writeln!(out, "to {} {}", to.0, to.1);
        for node in nodes {
            let _ = writeln!(out, "node {node}");
        }
        out
    }

    /// Reads what [`Consistency::to_text`] writes, and nothing else.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        let malformed = BundleError::Malformed;
        let all = std::str::from_utf8(bytes).map_err(|_| malformed("it is no text"))?;
        let mut lines = all.lines();
        match lines.next() {
            Some(CONSISTENCY_TAG) => {}
            Some(tag) if version::is_newer(tag, CONSISTENCY_TAG) => return Err(BundleError::Newer),
            _ => return Err(malformed("the first line is not piperoll-consistency/v1")),
        }
        if lines.clone().any(|line| version::has_newer_word(line, &WORDS)) {
            return Err(BundleError::Newer);
        }
        let mut valued = |word: &str| lines.next()?.strip_prefix(word)?.strip_prefix(' ');
        let head = |text: &str| {
            let (size, root) = text.split_once(' ')?;
            Some((text::decimal(size)?, Hash::from_base64(root)?))
        };
        let origin = valued("origin").ok_or(malformed("no origin"))?.to_string();
        let from = valued("from").and_then(head).ok_or(malformed("no from with size and root"))?;
        let to = valued("to").and_then(head).ok_or(malformed("no to with size and root"))?;
        let nodes: Option<Vec<Hash>> =
            lines.map(|line| line.strip_prefix("node ").and_then(Hash::from_base64)).take(HASHES + 1).collect();
        let nodes = nodes.filter(|nodes| nodes.len() <= HASHES).ok_or(malformed("a node is no hash, or too many"))?;
        let read = Self { origin, from, to, nodes };
        if read.to_text() == all { Ok(read) } else { Err(malformed("it is not in its one spelling")) }
    }

    /// Whether its nodes lead from the one root to the other.
    pub fn holds(&self) -> bool {
        check_consistency(self.from.0, self.to.0, &self.nodes, &self.from.1, &self.to.1)
    }
}
