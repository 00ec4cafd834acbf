//! A tree of which some leaves are shown, and complete subtrees stand for the rest.
//!
//! Not here: the leaves ([`super::line`]). Invariants: each line has one spelling; what is written is as few subtrees as
//! each kind allows, so that the text tells nothing of how it was made.

use super::BundleError;
use crate::proof::Span;
use crate::text;
use crate::tree::{Edge, Hash, node_hash};
use crate::version;
use std::fmt::Write as _;

/// First line of the text: name and version of the form.
pub const RANGE_TAG: &str = "piperoll-range/v1";
const WORDS: [&str; 6] = ["origin", "size", "range", "outside", "withheld", "gone"];
/// No tree is higher.
const HEIGHTS: u32 = 63;

/// Why leaves are not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stead {
    /// They are not of the range that the bundle speaks of.
    Outside,
    /// They are in the ledger, and not shown here.
    Withheld,
    /// They were purged.
    Gone,
}

impl Stead {
    /// The word that begins its line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outside => "outside",
            Self::Withheld => "withheld",
            Self::Gone => "gone",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Outside, Self::Withheld, Self::Gone].into_iter().find(|stead| stead.as_str() == word)
    }
}

/// What the text begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeHead {
    /// Of which stream's tree.
    pub origin: String,
    /// How many leaves that has.
    pub size: u64,
    /// The leaves that the bundle speaks of.
    pub span: Span,
}

impl RangeHead {
    /// How many lines it has.
    pub const LINES: usize = 4;

    /// Its lines.
    pub fn to_text(&self) -> String {
        let Self { origin, size, span } = self;
        format!("{RANGE_TAG}\norigin {origin}\nsize {size}\nrange {} {}\n", span.start, span.end)
    }

    /// Reads its lines, each without its line feed.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn parse(lines: [&str; Self::LINES]) -> Result<Self, BundleError> {
        let malformed = BundleError::Malformed;
        if lines[0] != RANGE_TAG {
            let is_newer = version::is_newer(lines[0], RANGE_TAG);
            return Err(if is_newer {
                BundleError::Newer
            } else {
                malformed("the first line is not piperoll-range/v1")
            });
        }
        let valued = |at: usize, word: &str| lines[at].strip_prefix(word)?.strip_prefix(' ');
        let span = |text: &str| {
            let (start, end) = text.split_once(' ')?;
            Some(Span::new(text::decimal(start)?, text::decimal(end)?))
        };
        let origin = valued(1, "origin").ok_or(malformed("no origin"))?.to_string();
        let size = valued(2, "size").and_then(text::decimal).ok_or(malformed("no size"))?;
        let span = valued(3, "range").and_then(span).ok_or(malformed("no range"))?;
        if span.start > span.end || span.end > size || size >> HEIGHTS != 0 {
            return Err(malformed("a range that is not within its size"));
        }
        Ok(Self { origin, size, span })
    }
}

/// A complete subtree that stands for its leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtree {
    /// Why they are not shown.
    pub stead: Stead,
    /// The first of them.
    pub first: u64,
    /// It has two to the power of this many leaves.
    pub height: u32,
    /// Its root.
    pub hash: Hash,
}

impl Subtree {
    /// Its leaves.
    pub fn span(&self) -> Span {
        Span::new(self.first, self.first + (1 << self.height))
    }

    /// Its line.
    pub fn to_text(&self) -> String {
        format!("{} {} {} {}\n", self.stead.as_str(), self.first, self.height, self.hash)
    }

    /// Reads a line, without its line feed.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn parse(line: &str) -> Result<Self, BundleError> {
        if version::has_newer_word(line, &WORDS) {
            return Err(BundleError::Newer);
        }
        let read = || {
            let mut parts = line.split(' ');
            let stead = Stead::of(parts.next()?)?;
            let first = text::decimal(parts.next()?)?;
            let height = text::decimal(parts.next()?).filter(|height| *height < u64::from(HEIGHTS))? as u32;
            let hash = Hash::from_base64(parts.next()?)?;
            let stands = first.is_multiple_of(1 << height) && first >> HEIGHTS == 0 && parts.next().is_none();
            stands.then_some(Self { stead, first, height, hash })
        };
        read()
            .ok_or(BundleError::Malformed("a line that is no subtree: outside, withheld or gone, first, height, hash"))
    }
}

/// Writes the lines of a range, leaf by leaf and subtree by subtree, and folds them as a verifier will.
///
/// It begins at any multiple of a power of two, and covers no more leaves than that: the lines of one part of a large tree.
#[derive(Debug)]
pub struct RangeWriter {
    first: u64,
    edge: Edge,
    run: Option<Run>,
    out: String,
    counts: [u64; 3],
}

/// Neighbouring subtrees of one kind, none of which can be joined to the next.
#[derive(Debug)]
struct Run {
    stead: Stead,
    nodes: Vec<Subtree>,
}

impl RangeWriter {
    /// Begins at a leaf.
    pub fn new(first: u64) -> Self {
        Self { first, edge: Edge::default(), run: None, out: String::new(), counts: [0; 3] }
    }

    /// The leaf that comes next.
    pub fn next(&self) -> u64 {
        self.first + self.edge.size()
    }

    /// The next leaf is shown.
    pub fn shown(&mut self, leaf: Hash) {
        self.flush();
        self.edge.push(leaf);
    }

    /// The next leaves are not shown: a complete subtree, which may stand here.
    pub fn stands(&mut self, stead: Stead, height: u32, hash: Hash) {
        if self.run.as_ref().is_some_and(|run| run.stead != stead) {
            self.flush();
        }
        self.counts[stead as usize] += 1 << height;
        let mut node = Subtree { stead, first: self.next(), height, hash };
        self.edge.push_node(height, hash, |_| {});
        let nodes = &mut self.run.get_or_insert_with(|| Run { stead, nodes: vec![] }).nodes;
        while let Some(left) =
            nodes.pop_if(|left| left.height == node.height && left.first.is_multiple_of(2 << left.height))
        {
            node =
                Subtree { first: left.first, height: node.height + 1, hash: node_hash(&left.hash, &node.hash), ..node };
        }
        nodes.push(node);
    }

    fn flush(&mut self) {
        for node in self.run.take().into_iter().flat_map(|run| run.nodes) {
            let _ = write!(self.out, "{}", node.to_text());
        }
    }

    /// The lines so far that nothing after them changes; they are not given again.
    pub fn take(&mut self) -> String {
        std::mem::take(&mut self.out)
    }

    /// How many leaves stand behind subtrees of a kind.
    pub fn count(&self, stead: Stead) -> u64 {
        self.counts[stead as usize]
    }

    /// The last lines, and the edge of the leaves since the first.
    pub fn finish(mut self) -> (String, Edge) {
        self.flush();
        (self.out, self.edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{leaf_hash, root_of};
    use proptest::prelude::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    proptest! {
        /// Whatever is shown, the lines and the leaves fold to the root, are maximal, and read back.
        #[test]
        fn lines_and_leaves_fold_to_the_root(kinds in prop::collection::vec(0usize..4, 0..200), runs in 1usize..20) {
            let kinds: Vec<usize> = kinds.iter().flat_map(|kind| std::iter::repeat_n(*kind, runs)).collect();
            let all = leaves(kinds.len() as u64);
            let mut writer = RangeWriter::new(0);
            let steads = [Stead::Outside, Stead::Withheld, Stead::Gone];
            let mut text = String::new();
            for (at, kind) in kinds.iter().enumerate() {
                match steads.get(*kind) {
                    Some(stead) => writer.stands(*stead, 0, all[at]),
                    None => writer.shown(all[at]),
                }
                text += &writer.take();
            }
            for (stead, kind) in steads.iter().zip(0..) {
                prop_assert_eq!(writer.count(*stead), kinds.iter().filter(|k| **k == kind).count() as u64);
            }
            let (rest, edge) = writer.finish();
            text += &rest;
            prop_assert_eq!(edge.root(), root_of(all.iter().copied()));
            let nodes: Vec<Subtree> = text.lines().map(|line| Subtree::parse(line).unwrap()).collect();
            let mut again = Edge::default();
            let mut nodes_left = nodes.iter().peekable();
            while (again.size() as usize) < kinds.len() {
                match nodes_left.next_if(|node| node.first == again.size()) {
                    Some(node) => {
                        prop_assert!(node.span().end as usize <= kinds.len());
                        for seq in node.first..node.span().end {
                            prop_assert_eq!(steads.get(kinds[seq as usize]), Some(&node.stead));
                        }
                        again.push_node(node.height, node.hash, |_| {});
                    }
                    None => again.push(all[again.size() as usize]),
                }
            }
            prop_assert_eq!(again.root(), edge.root());
            for pair in nodes.windows(2) {
                let joins = pair[0].stead == pair[1].stead && pair[0].span().end == pair[1].first
                    && pair[0].height == pair[1].height && pair[0].first.is_multiple_of(2 << pair[0].height);
                prop_assert!(!joins);
            }
        }

        #[test]
        fn no_line_panics(line in "(outside|withheld|gone|other)? ?[0-9]{0,20} ?[0-9]{0,3} ?[A-Za-z0-9+/=]{0,45}") {
            if let Ok(node) = Subtree::parse(&line) {
                prop_assert_eq!(node.to_text(), line + "\n");
            }
        }
    }

    #[test]
    fn only_what_lies_within_is_read() {
        let head = RangeHead { origin: "example/acme/audit/0".into(), size: 9, span: Span::new(2, 5) };
        let text = head.to_text();
        let parse = |text: &str| RangeHead::parse(text.lines().collect::<Vec<_>>().try_into().unwrap());
        assert_eq!(parse(&text), Ok(head));
        for (old, new) in [("range 2", "range 6"), ("5\n", "10\n"), ("size 9", "size 09"), ("origin", "Origin")] {
            assert!(matches!(parse(&text.replace(old, new)), Err(BundleError::Malformed(_))), "{new}");
        }
        assert_eq!(parse(&text.replace("/v1", "/v2")), Err(BundleError::Newer));
        assert_eq!(Subtree::parse("hidden 0 0 x"), Err(BundleError::Newer));
        let hash = Hash::of(b"x");
        for bad in [format!("gone 1 1 {hash}"), format!("gone 0 63 {hash}"), format!("gone 0 0 {hash} "), "gone".into()]
        {
            assert!(matches!(Subtree::parse(&bad), Err(BundleError::Malformed(_))), "{bad}");
        }
    }
}
