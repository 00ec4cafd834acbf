//! What a purge must keep of the entries that it took, so that the rest stays provable (FORMAT.md §8, *Gone*).
//!
//! Of a block of 256 entries that is wholly gone its root; of other gone entries the leaf hash; and for each head that a
//! commit signed inside of a block that is gone, the nodes to its left and right, taken while the leaves were there. With
//! these and the entries that stay, the tree folds as before. Not here: what goes and why (`retention`), taking the
//! hashes from a store (`ledger-store`).
//!
//! Invariants of [`Gone`]: it holds a hash for every entry in its holes, once, and for no other; each head's nodes fold
//! to the root of their block; it has one spelling.

use crate::proof::Span;
use crate::text;
use crate::tile::TILE_HASHES;
use crate::tree::{Edge, Hash, Node};
use crate::version;
use std::fmt::Write as _;

/// First line of the text: name and version of the form.
pub const GONE_TAG: &str = "piperoll-gone/v1";
/// Entries of a block that is kept as one hash when all of them are gone.
pub const BLOCK: u64 = TILE_HASHES;
const BLOCK_HEIGHT: u32 = BLOCK.ilog2();
const WORDS: [&str; 7] = ["origin", "commit", "size", "hole", "block", "leaf", "head"];

/// What a commit says of the object that holds a [`Gone`]: the newest such commit's counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneRef {
    /// The commit that names it.
    pub commit: u64,
    /// The epoch of the writer that made it.
    pub epoch: u64,
    /// SHA-256 of the object.
    pub sha256: Hash,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many entries of the stream are gone, in all.
    pub entries: u64,
    /// The newest `recorded_at` among them, in microseconds: what comes later is never stamped before it.
    pub newest: i64,
}

impl GoneRef {
    /// Where the object lies below the stream's folder. The epoch keeps a writer that was overtaken from replacing
    /// what its successor put.
    pub fn path(&self) -> String {
        format!("_ledger/gone/{:020}-{}", self.commit, self.epoch)
    }
}

/// The text is none of these, or contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GoneError {
    /// It is of a later version of the form.
    #[error("what is gone is written in a newer format: use a newer piperoll to read it")]
    Newer,
    /// It is no such text.
    #[error("not a list of what is gone: {0}")]
    Malformed(&'static str),
}

/// What is gone of one stream, and the hashes that stand for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    origin: String,
    commit: u64,
    size: u64,
    holes: Vec<Span>,
    blocks: Vec<(u64, Hash)>,
    leaves: Vec<(u64, Hash)>,
    heads: Vec<(u64, Vec<Hash>)>,
}

/// Which hashes stand for the entries in some holes: blocks by their index, other entries by sequence number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Blocks that are wholly gone.
    pub blocks: Vec<u64>,
    /// Entries in blocks of which something stays.
    pub leaves: Vec<u64>,
}

impl Wanted {
    /// What holes need, which ascend and do not touch.
    pub fn of(holes: &[Span]) -> Self {
        let mut wanted = Self::default();
        for hole in holes {
            let (whole, end) = (hole.start.div_ceil(BLOCK), hole.end / BLOCK);
            if whole >= end {
                wanted.leaves.extend(hole.start..hole.end);
                continue;
            }
            wanted.leaves.extend(hole.start..whole * BLOCK);
            wanted.blocks.extend(whole..end);
            wanted.leaves.extend(end * BLOCK..hole.end);
        }
        wanted
    }
}

/// The complete subtrees of one block, left to right, when it is cut after its first `at` entries.
pub fn cut(at: u64) -> Vec<Node> {
    let node = |(height, index)| Node { height, index, hash: Hash([0; 32]) };
    let mut nodes: Vec<Node> = Span::new(0, at).complete_nodes().into_iter().map(node).collect();
    let mut start = at;
    while start < BLOCK {
        let height = if start == 0 { BLOCK_HEIGHT } else { start.trailing_zeros() };
        nodes.push(node((height, start >> height)));
        start += 1 << height;
    }
    nodes
}

/// Ranges that are in one of two lists of ranges, ascending and not touching.
pub fn union(a: &[Span], b: &[Span]) -> Vec<Span> {
    let mut all: Vec<Span> = a.iter().chain(b).copied().filter(|span| !span.is_empty()).collect();
    all.sort_by_key(|span| span.start);
    let mut out: Vec<Span> = Vec::with_capacity(all.len());
    for span in all {
        match out.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ => out.push(span),
        }
    }
    out
}

/// Whether a position lies in ranges that ascend and do not touch.
pub fn holds(spans: &[Span], seq: u64) -> bool {
    is_inside(spans, Span::new(seq, seq.saturating_add(1)))
}

/// Whether a range lies whole in one of these, which ascend and do not touch.
pub fn is_inside(spans: &[Span], range: Span) -> bool {
    let at = spans.partition_point(|span| span.end <= range.start);
    spans.get(at).is_some_and(|span| span.start <= range.start && range.end <= span.end)
}

/// How many positions below `end` lie in ranges that ascend and do not touch.
pub fn count_below(spans: &[Span], end: u64) -> u64 {
    count_between(spans, 0, end)
}

/// How many positions from `from` on and below `to` lie in ranges that ascend and do not touch.
pub fn count_between(spans: &[Span], from: u64, to: u64) -> u64 {
    let first = spans.partition_point(|span| span.end <= from);
    let inside = spans[first..].iter().take_while(|span| span.start < to);
    inside.map(|span| span.end.min(to) - span.start.max(from)).sum()
}

impl Gone {
    /// What is gone of the stream `origin`, of which `size` entries are sealed, as commit `commit` is to name it.
    ///
    /// # Errors
    /// Holes do not ascend or reach beyond `size`; hashes are not just those of [`Wanted::of`]; or a head's nodes do not
    /// fold to its block.
    pub fn new(
        origin: &str,
        (commit, size): (u64, u64),
        holes: Vec<Span>,
        blocks: Vec<(u64, Hash)>,
        leaves: Vec<(u64, Hash)>,
        heads: Vec<(u64, Vec<Hash>)>,
    ) -> Result<Self, GoneError> {
        let malformed = |why| Err(GoneError::Malformed(why));
        let ascends = holes.windows(2).all(|pair| pair[0].end < pair[1].start);
        if !ascends || holes.iter().any(Span::is_empty) || holes.last().is_some_and(|hole| hole.end > size) {
            return malformed("its holes do not ascend within the stream");
        }
        // Before anything is made as large as what the holes claim.
        if count_below(&holes, u64::MAX).div_ceil(BLOCK) > (blocks.len() + leaves.len()) as u64 {
            return malformed("it lacks hashes of what its holes say");
        }
        let wanted = Wanted::of(&holes);
        let is_just = |found: &[(u64, Hash)], wanted: &[u64]| found.iter().map(|(at, _)| at).eq(wanted);
        if !is_just(&blocks, &wanted.blocks) || !is_just(&leaves, &wanted.leaves) {
            return malformed("its hashes are not just those of its holes");
        }
        let gone = Self { origin: origin.into(), commit, size, holes, blocks, leaves, heads };
        if gone.heads.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return malformed("its heads do not ascend");
        }
        match gone.heads.iter().all(|(size, nodes)| gone.is_cut_of_block(*size, nodes)) {
            true => Ok(gone),
            false => malformed("the nodes of a head do not fold to the block that it lies in"),
        }
    }

    fn is_cut_of_block(&self, size: u64, nodes: &[Hash]) -> bool {
        let (within, shape) = (size % BLOCK, cut(size % BLOCK));
        let Some(block) = self.block(size / BLOCK).filter(|_| within > 0 && shape.len() == nodes.len()) else {
            return false;
        };
        let mut edge = Edge::default();
        shape.iter().zip(nodes).for_each(|(node, hash)| edge.push_node(node.height, *hash, |_| {}));
        edge.root() == block
    }

    /// Which stream.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The commit that names it.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// The ranges that are gone, ascending.
    pub fn holes(&self) -> &[Span] {
        &self.holes
    }

    /// The roots of blocks that are wholly gone, by index.
    pub fn blocks(&self) -> &[(u64, Hash)] {
        &self.blocks
    }

    /// Heads inside of blocks that are gone, by size, with the nodes of their block cut there, left to right.
    pub fn heads(&self) -> &[(u64, Vec<Hash>)] {
        &self.heads
    }

    /// The sizes of such heads inside of one block.
    pub fn heads_of(&self, block: u64) -> impl Iterator<Item = u64> {
        let from = self.heads.partition_point(|(size, _)| size / BLOCK < block);
        self.heads[from..].iter().map(|(size, _)| *size).take_while(move |size| size / BLOCK == block)
    }

    /// How many entries are gone.
    pub fn entries(&self) -> u64 {
        count_below(&self.holes, u64::MAX)
    }

    /// Whether the entry at a position is gone.
    pub fn holds(&self, seq: u64) -> bool {
        holds(&self.holes, seq)
    }

    /// The root of a block that is wholly gone.
    pub fn block(&self, index: u64) -> Option<Hash> {
        let at = self.blocks.binary_search_by_key(&index, |(index, _)| *index);
        at.ok().map(|at| self.blocks[at].1)
    }

    /// The leaf hash of a gone entry, in a block of which something stays.
    pub fn leaf(&self, seq: u64) -> Option<Hash> {
        let at = self.leaves.binary_search_by_key(&seq, |(seq, _)| *seq);
        at.ok().map(|at| self.leaves[at].1)
    }

    /// The complete subtrees to the left of a head inside of its gone block, with their heights.
    pub fn left_of(&self, size: u64) -> Option<Vec<(u32, Hash)>> {
        let at = self.heads.binary_search_by_key(&size, |(size, _)| *size).ok()?;
        let left = Span::new(0, size % BLOCK).complete_nodes();
        Some(left.into_iter().zip(&self.heads[at].1).map(|((height, _), hash)| (height, *hash)).collect())
    }

    /// The root of a complete subtree, if it stands here: a block, a leaf, or a part of a gone block beside some head.
    pub fn node(&self, height: u32, index: u64) -> Option<Hash> {
        match height {
            0 => self.leaf(index).or_else(|| self.beside_head(height, index)),
            BLOCK_HEIGHT => self.block(index),
            _ => self.beside_head(height, index),
        }
    }

    fn beside_head(&self, height: u32, index: u64) -> Option<Hash> {
        let block = index.checked_shl(height).filter(|_| height < BLOCK_HEIGHT)? / BLOCK;
        let from = self.heads.partition_point(|(size, _)| size / BLOCK < block);
        let within = index - ((block * BLOCK) >> height);
        self.heads[from..].iter().take_while(|(size, _)| size / BLOCK == block).find_map(|(size, nodes)| {
            let at = cut(size % BLOCK).iter().position(|node| (node.height, node.index) == (height, within))?;
            nodes.get(at).copied()
        })
    }

    /// The hashes that stand for the entries `[from, to)`, with their heights: 0 for a leaf. None when one of these
    /// entries is not gone, or a block that is gone does not lie inside whole.
    pub fn steps(&self, from: u64, to: u64) -> Option<Vec<(u32, Hash)>> {
        let (mut at, mut steps) = (from, Vec::new());
        while at < to {
            match self.block(at / BLOCK).filter(|_| at.is_multiple_of(BLOCK) && at + BLOCK <= to) {
                Some(hash) => steps.push((BLOCK_HEIGHT, hash)),
                None => steps.push((0, self.leaf(at)?)),
            }
            at += 1 << steps.last().map_or(0, |(height, _)| *height);
        }
        Some(steps)
    }

    /// Its text, whose hash its commit names.
    pub fn to_text(&self) -> String {
        let Self { origin, commit, size, .. } = self;
        let mut out = format!("{GONE_TAG}\norigin {origin}\ncommit {commit}\nsize {size}\n");
        for hole in &self.holes {
            let _ = writeln!(out, "hole {} {}", hole.start, hole.end);
        }
        for (word, hashes) in [("block", &self.blocks), ("leaf", &self.leaves)] {
            for (at, hash) in hashes {
                let _ = writeln!(out, "{word} {at} {hash}");
            }
        }
        for (size, nodes) in &self.heads {
            let _ = write!(out, "head {size}");
            for node in nodes {
                let _ = write!(out, " {node}");
            }
            out.push('\n');
        }
        out
    }

    /// Reads what [`Gone::to_text`] writes, and nothing else.
    ///
    /// # Errors
    /// See [`GoneError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, GoneError> {
        let malformed = GoneError::Malformed;
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("it is no text"))?;
        let mut lines = text.lines();
        match lines.next() {
            Some(GONE_TAG) => {}
            Some(tag) if version::is_newer(tag, GONE_TAG) => return Err(GoneError::Newer),
            _ => return Err(malformed("the first line is not piperoll-gone/v1")),
        }
        if lines.clone().any(|line| version::has_newer_word(line, &WORDS)) {
            return Err(GoneError::Newer);
        }
        let mut valued = |word: &str| lines.next()?.strip_prefix(word)?.strip_prefix(' ');
        let origin = valued("origin").ok_or(malformed("no origin"))?;
        let commit = valued("commit").and_then(text::decimal).ok_or(malformed("no commit"))?;
        let size = valued("size").and_then(text::decimal).ok_or(malformed("no size"))?;
        let (mut holes, mut blocks, mut leaves, mut heads) = (vec![], vec![], vec![], vec![]);
        for line in lines {
            let parts: Vec<&str> = line.splitn(11, ' ').collect();
            let number = |at: usize| parts.get(at).copied().and_then(text::decimal);
            let hash = |at: usize| parts.get(at).copied().and_then(Hash::from_base64);
            let read = match (parts[0], parts.len()) {
                ("hole", 3) => number(1).zip(number(2)).map(|(from, to)| holes.push(Span::new(from, to))),
                ("block", 3) => number(1).zip(hash(2)).map(|pair| blocks.push(pair)),
                ("leaf", 3) => number(1).zip(hash(2)).map(|pair| leaves.push(pair)),
                ("head", more) => {
                    let nodes: Option<Vec<Hash>> = (2..more).map(hash).collect();
                    number(1).zip(nodes).map(|pair| heads.push(pair))
                }
                _ => None,
            };
            read.ok_or(malformed("a line is none of hole, block, leaf, head, or has malformed parts"))?;
        }
        let gone = Self::new(origin, (commit, size), holes, blocks, leaves, heads)?;
        if gone.to_text() == text { Ok(gone) } else { Err(malformed("not in its one canonical spelling")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{fold, root_of};
    use proptest::prelude::*;

    fn leaf(seq: u64) -> Hash {
        Hash::of(&seq.to_be_bytes())
    }

    fn root(from: u64, to: u64) -> Hash {
        root_of((from..to).map(leaf))
    }

    fn gone(size: u64, holes: Vec<Span>, heads: &[u64]) -> Gone {
        let wanted = Wanted::of(&holes);
        let blocks = wanted.blocks.iter().map(|at| (*at, root(at * BLOCK, (at + 1) * BLOCK))).collect();
        let leaves = wanted.leaves.iter().map(|at| (*at, leaf(*at))).collect();
        let inside = heads.iter().filter(|head| **head % BLOCK > 0 && wanted.blocks.contains(&(**head / BLOCK)));
        let nodes = |head: u64| {
            let start = head - head % BLOCK;
            let of = |node: Node| (start + (node.index << node.height), start + ((node.index + 1) << node.height));
            cut(head % BLOCK).into_iter().map(of).map(|(from, to)| root(from, to)).collect()
        };
        let heads = inside.map(|head| (*head, nodes(*head))).collect();
        Gone::new("example/acme/audit/0", (3, size), holes, blocks, leaves, heads).unwrap()
    }

    fn spans(size: u64, cuts: &[u64]) -> Vec<Span> {
        let mut cuts: Vec<u64> = cuts.iter().map(|cut| cut % (size + 1)).collect();
        cuts.sort_unstable();
        cuts.dedup();
        cuts.as_chunks::<2>().0.iter().map(|[from, to]| Span::new(*from, *to)).collect()
    }

    #[test]
    fn a_block_is_cut_into_the_subtrees_on_both_sides() {
        let shape = |at| cut(at).iter().map(|node| (node.height, node.index)).collect::<Vec<_>>();
        assert_eq!(shape(0), [(8, 0)]);
        assert_eq!(shape(1), [(0, 0), (0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)]);
        assert_eq!(shape(192), [(7, 0), (6, 2), (6, 3)]);
        for at in 0..BLOCK {
            assert_eq!(cut(at).iter().map(|node| 1u64 << node.height).sum::<u64>(), BLOCK);
            assert!(cut(at).len() <= 9);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_stays_and_what_is_kept_fold_to_the_tree_and_to_heads_on_the_way(
            size in 1u64..1_400, cuts in proptest::collection::vec(any::<u64>(), 0..8),
            heads in proptest::collection::btree_set(1u64..1_400, 0..6),
        ) {
            let heads: Vec<u64> = heads.into_iter().filter(|head| *head <= size).collect();
            let gone = gone(size, spans(size, &cuts), &heads);
            prop_assert_eq!(Gone::parse(gone.to_text().as_bytes()), Ok(gone.clone()));
            let mut edge = Edge::default();
            let mut at = 0;
            for hole in gone.holes().iter().copied().chain([Span::new(size, size)]) {
                (at..hole.start).for_each(|seq| edge.push(leaf(seq)));
                for (height, hash) in gone.steps(hole.start, hole.end).unwrap() {
                    for head in heads.iter().filter(|head| height > 0 && edge.size() < **head && **head < edge.size() + BLOCK) {
                        let mut part = edge.clone();
                        gone.left_of(*head).unwrap().into_iter().for_each(|(height, hash)| part.push_node(height, hash, |_| {}));
                        prop_assert_eq!(part.root(), root(0, *head));
                    }
                    edge.push_node(height, hash, |_| {});
                }
                at = hole.end;
            }
            prop_assert_eq!((edge.size(), edge.root()), (size, root(0, size)));
            let expected = (0..size).filter(|seq| gone.holds(*seq)).count() as u64;
            prop_assert_eq!(gone.entries(), expected);
        }

        #[test]
        fn ranges_are_joined_as_sets_are(a in proptest::collection::vec(0u64..60, 0..8), b in proptest::collection::vec(0u64..60, 0..8)) {
            let (a, b) = (spans(60, &a), spans(60, &b));
            let holds = |spans: &[Span], at: u64| spans.iter().any(|span| span.start <= at && at < span.end);
            let both = union(&a, &b);
            prop_assert!(both.windows(2).all(|pair| pair[0].end < pair[1].start));
            for at in 0..60 {
                prop_assert_eq!(holds(&both, at), holds(&a, at) || holds(&b, at));
                prop_assert_eq!(count_below(&both, at), (0..at).filter(|below| holds(&both, *below)).count() as u64);
                prop_assert_eq!(count_between(&both, at / 2, at), (at / 2..at).filter(|below| holds(&both, *below)).count() as u64);
            }
        }
    }

    #[test]
    fn it_says_neither_too_little_nor_too_much() {
        let good = gone(1_000, vec![Span::new(10, 700), Span::new(702, 703)], &[300, 511, 650]);
        assert_eq!((good.heads().len(), fold(&[good.block(1).unwrap()])), (2, root(256, 512)));
        let text = good.to_text();
        let first_leaf = text.lines().find(|line| line.starts_with("leaf")).unwrap().to_owned() + "\n";
        for bad in [
            text.replace(&first_leaf, ""),
            text.replace("hole 702 703", "hole 702 704"),
            text.replace("hole 702 703", "hole 700 703"),
            text.replace("hole 702 703", "hole 702 18446744073709551615"),
            text.replace("size 1000", "size 702"),
            text.replace("size 1000", "size 01000"),
            text.replace("block 1 ", "block 2 "),
            text.replace("head 300 ", "head 301 "),
            text.replace("head 300 ", "head 256 "),
            format!("{text}{first_leaf}"),
            text.trim_end().to_owned(),
        ] {
            assert!(matches!(Gone::parse(bad.as_bytes()), Err(GoneError::Malformed(_))), "{bad}");
        }
        for newer in [text.replace("gone/v1", "gone/v2"), format!("{text}witness x\n")] {
            assert_eq!(Gone::parse(newer.as_bytes()), Err(GoneError::Newer));
        }
    }
}
