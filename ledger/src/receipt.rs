//! A receipt: what an accepted batch gets. Stream heads, their proof in the group, the group's path in
//! the store log, and the signed checkpoint that covers it all (FORMAT.md §7).
//!
//! One receipt serves a whole request; [`Receipt::narrow`] makes one that names fewer streams, to hand
//! to a tenant. Not here: the positions themselves, which the answer to the request lists.
//!
//! Invariants: a [`VerifiedReceipt`]'s heads are in the signed store log; each receipt has one spelling.

use crate::checkpoint::{Checkpoint, StreamHead};
use crate::group::{self, Durability, Group};
use crate::key::VerifierKey;
use crate::note::NoteError;
use crate::proof::{self, Span};
use crate::text;
use crate::tree::Hash;
use crate::version;
use std::fmt::Write as _;

/// First line of a receipt: name and version of the form.
pub const RECEIPT_TAG: &str = "piperoll-receipt/v1";
/// What a line of a receipt may begin with.
const WORDS: [&str; 7] = ["durability", "epoch", "group", "log", "head", "node", "path"];

/// A receipt is malformed or proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The bytes are a receipt of a later version of the form, or have parts that only a later one has.
    #[error("the receipt is written in a newer format: use a newer piperoll to read it")]
    Newer,
    /// The bytes are no receipt.
    #[error("not a receipt: {0}")]
    Malformed(&'static str),
    /// Its checkpoint does not verify.
    #[error("the receipt's checkpoint does not verify")]
    Checkpoint(#[source] NoteError),
    /// Its hashes do not lead from its heads to the checkpoint's root.
    #[error("the receipt's proof does not lead to its checkpoint: a head, a hash or the checkpoint was changed")]
    Proof,
}

/// A receipt as it came: well-formed, not yet verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    durability: Durability,
    epoch: u64,
    group_size: u64,
    log_index: u64,
    heads: Vec<(u64, StreamHead)>,
    nodes: Vec<Hash>,
    path: Vec<Hash>,
    checkpoint: String,
}

/// What a writer knows of one durable group when it makes receipts for it.
#[derive(Debug, Clone)]
pub struct Covered<'a> {
    /// What durable means here.
    pub durability: Durability,
    /// The writer's epoch.
    pub epoch: u64,
    /// The group.
    pub group: &'a Group,
    /// The group's index in the store log.
    pub log_index: u64,
    /// The group's inclusion path in the store log of the checkpoint's size.
    pub path: &'a [Hash],
    /// The signed checkpoint of the store log.
    pub checkpoint: &'a str,
}

impl Receipt {
    /// A receipt for the streams with these origins; origins that the group lacks are left out.
    pub fn of<'o>(covered: &Covered<'_>, origins: impl IntoIterator<Item = &'o str>) -> Self {
        let mut places: Vec<u64> = origins.into_iter().filter_map(|origin| covered.group.position(origin)).collect();
        places.sort_unstable();
        places.dedup();
        let group_size = covered.group.heads().len() as u64;
        let wanted: Vec<Span> = places.iter().map(|at| Span::new(*at, at + 1)).collect();
        Self {
            durability: covered.durability,
            epoch: covered.epoch,
            group_size,
            log_index: covered.log_index,
            heads: places.iter().map(|at| (*at, covered.group.heads()[*at as usize].clone())).collect(),
            nodes: proof::complement(group_size, &wanted)
                .into_iter()
                .map(|span| covered.group.span_hash(span))
                .collect(),
            path: covered.path.to_vec(),
            checkpoint: covered.checkpoint.into(),
        }
    }

    /// Whether it names no stream at all.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The same receipt for fewer streams: the others appear as hashes.
    pub fn narrow(&self, keep: impl Fn(&str) -> bool) -> Self {
        let whole: Vec<Span> = self.heads.iter().map(|(at, _)| Span::new(*at, at + 1)).collect();
        let known: Vec<(Span, Hash)> = {
            let hidden = proof::complement(self.group_size, &whole).into_iter().zip(self.nodes.iter().copied());
            let shown = self.heads.iter().map(|(at, head)| (Span::new(*at, at + 1), group::head_leaf(head)));
            let mut all: Vec<(Span, Hash)> = hidden.chain(shown).collect();
            all.sort_by_key(|(span, _)| span.start);
            all
        };
        let heads: Vec<_> = self.heads.iter().filter(|(_, head)| keep(&head.origin)).cloned().collect();
        let wanted: Vec<Span> = heads.iter().map(|(at, _)| Span::new(*at, at + 1)).collect();
        let nodes =
            proof::complement(self.group_size, &wanted).into_iter().map(|span| hash_of_parts(span, &known)).collect();
        Self { heads, nodes, ..self.clone() }
    }

    /// The receipt's text.
    pub fn to_text(&self) -> String {
        let mut out = format!(
            "{RECEIPT_TAG}\ndurability {}\nepoch {}\ngroup {}\nlog {}\n",
            self.durability.as_str(),
            self.epoch,
            self.group_size,
            self.log_index
        );
        for (at, head) in &self.heads {
            let _ = writeln!(out, "head {at} {} {} {}", head.origin, head.size, head.root);
        }
        for hash in &self.nodes {
            let _ = writeln!(out, "node {hash}");
        }
        for hash in &self.path {
            let _ = writeln!(out, "path {hash}");
        }
        out.push('\n');
        out.push_str(&self.checkpoint);
        out
    }

    /// Parses what [`Receipt::to_text`] writes, and nothing else.
    ///
    /// # Errors
    /// [`ReceiptError::Malformed`] says what is wrong with its form, [`ReceiptError::Newer`] that it is of a later one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let malformed = ReceiptError::Malformed;
        if bytes.len() > crate::note::NOTE_BYTES {
            return Err(malformed("larger than 4 MiB"));
        }
        let all = std::str::from_utf8(bytes).map_err(|_| malformed("not UTF-8"))?;
        let (body, checkpoint) = all.split_once("\n\n").ok_or(malformed("has no empty line before its checkpoint"))?;
        let mut lines = body.lines();
        match lines.next() {
            Some(RECEIPT_TAG) => {}
            Some(tag) if version::is_newer(tag, RECEIPT_TAG) => return Err(ReceiptError::Newer),
            _ => return Err(malformed("the first line is not piperoll-receipt/v1")),
        }
        if lines.clone().any(|line| version::has_newer_word(line, &WORDS)) {
            return Err(ReceiptError::Newer);
        }
        let mut valued =
            |key: &str| lines.next().and_then(|line| line.strip_prefix(key)).and_then(|rest| rest.strip_prefix(' '));
        let durability =
            valued("durability").and_then(Durability::of).ok_or(malformed("durability is neither wal nor object"))?;
        let epoch = valued("epoch").and_then(text::decimal).ok_or(malformed("no epoch"))?;
        let group_size = valued("group").and_then(text::decimal).ok_or(malformed("no group size"))?;
        let log_index = valued("log").and_then(text::decimal).ok_or(malformed("no log index"))?;
        let mut receipt = Self {
            durability,
            epoch,
            group_size,
            log_index,
            heads: vec![],
            nodes: vec![],
            path: vec![],
            checkpoint: checkpoint.into(),
        };
        for line in lines {
            receipt.read_line(line).ok_or(malformed("a line is none of head, node, path"))?;
        }
        if !receipt.fits_its_group() {
            return Err(malformed("its heads and nodes do not make up its group"));
        }
        if receipt.to_text().as_bytes() == bytes {
            Ok(receipt)
        } else {
            Err(malformed("not in its one canonical spelling"))
        }
    }

    /// Whether heads and nodes are exactly those of a tree of the group's size: what [`Receipt::narrow`] and
    /// [`Receipt::verify`] rely on.
    fn fits_its_group(&self) -> bool {
        let ascending = self.heads.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ascending || self.heads.last().is_some_and(|(at, _)| *at >= self.group_size) {
            return false;
        }
        let shown: Vec<Span> = self.heads.iter().map(|(at, _)| Span::new(*at, at + 1)).collect();
        proof::complement(self.group_size, &shown).len() == self.nodes.len()
    }

    fn read_line(&mut self, line: &str) -> Option<()> {
        let (key, rest) = line.split_once(' ')?;
        match key {
            "head" => {
                let parts: Vec<&str> = rest.split(' ').collect();
                let [at, origin, size, root] = parts[..] else { return None };
                let head =
                    StreamHead { origin: origin.into(), size: text::decimal(size)?, root: Hash::from_base64(root)? };
                StreamHead::parse(&head.to_text()).ok()?;
                self.heads.push((text::decimal(at)?, head));
            }
            "node" => self.nodes.push(Hash::from_base64(rest)?),
            "path" => self.path.push(Hash::from_base64(rest)?),
            _ => return None,
        }
        Some(())
    }

    /// Verifies the receipt against the store log's trusted keys.
    ///
    /// # Errors
    /// The checkpoint does not verify, or the hashes do not lead to it.
    pub fn verify(&self, trusted: &[VerifierKey]) -> Result<VerifiedReceipt, ReceiptError> {
        let checkpoint = Checkpoint::open(self.checkpoint.as_bytes(), trusted).map_err(ReceiptError::Checkpoint)?;
        let leaves: Vec<(u64, Hash)> = self.heads.iter().map(|(at, head)| (*at, group::head_leaf(head))).collect();
        let group_root = proof::root_from_leaves(self.group_size, &leaves, &self.nodes).ok_or(ReceiptError::Proof)?;
        let log = checkpoint.head();
        if leaves.is_empty()
            || !proof::check_inclusion(
                self.log_index,
                log.size,
                &self.path,
                &group::log_leaf(self.durability, self.epoch, self.group_size, &group_root),
                &log.root,
            )
        {
            return Err(ReceiptError::Proof);
        }
        Ok(VerifiedReceipt {
            durability: self.durability,
            epoch: self.epoch,
            heads: self.heads.iter().map(|(_, head)| head.clone()).collect(),
            checkpoint,
        })
    }
}

fn hash_of_parts(span: Span, known: &[(Span, Hash)]) -> Hash {
    // The known spans are disjoint subtrees that tile the group, so those inside `span` tile it.
    let inside: Vec<&(Span, Hash)> =
        known.iter().filter(|(part, _)| span.start <= part.start && part.end <= span.end).collect();
    if let [(_, hash)] = inside[..] {
        return *hash;
    }
    let middle = span.start + (1u64 << (span.len().max(2) - 1).ilog2());
    crate::tree::node_hash(
        &hash_of_parts(Span::new(span.start, middle), known),
        &hash_of_parts(Span::new(middle, span.end), known),
    )
}

/// Stream heads that the store's signed log covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReceipt {
    /// What durable meant.
    pub durability: Durability,
    /// The writer's epoch.
    pub epoch: u64,
    /// The heads; every position below a head's size is covered.
    pub heads: Vec<StreamHead>,
    /// The signed head of the store log.
    pub checkpoint: Checkpoint,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::LedgerKey;
    use crate::proof::inclusion_path;
    use crate::tree::root_of;
    use proptest::prelude::*;

    const LOG: &str = "example/_main/log/0";

    fn signed(groups: u64, at: u64, streams: usize) -> (Receipt, Vec<VerifierKey>) {
        let key = LedgerKey::from_secret(&[3; 32]);
        let group = |g: u64| {
            Group::new(
                (0..streams)
                    .map(|s| StreamHead {
                        origin: format!("example/t-{s:03}/audit/0"),
                        size: g + 1,
                        root: Hash::of(format!("{g} {s}").as_bytes()),
                    })
                    .collect(),
            )
        };
        let leaves: Vec<Hash> = (0..groups).map(|g| group(g).log_leaf(Durability::Wal, 2)).collect();
        let span = |s: Span| root_of(leaves[s.start as usize..s.end as usize].iter().copied());
        let path: Vec<Hash> = inclusion_path(at, groups).unwrap().into_iter().map(span).collect();
        let checkpoint =
            StreamHead { origin: LOG.into(), size: groups, root: root_of(leaves.iter().copied()) }.sign(&[&key]);
        let covered = Covered {
            durability: Durability::Wal,
            epoch: 2,
            group: &group(at),
            log_index: at,
            path: &path,
            checkpoint: &checkpoint,
        };
        let origins: Vec<String> = (0..streams).step_by(2).map(|s| format!("example/t-{s:03}/audit/0")).collect();
        (Receipt::of(&covered, origins.iter().map(String::as_str)), vec![key.verifier(LOG)])
    }

    proptest! {
        #[test]
        fn receipts_verify_narrow_and_round_trip(groups in 1u64..40, at in 0u64..40, streams in 1usize..30, kept in 0usize..30) {
            let (receipt, trusted) = signed(groups, at % groups, streams);
            prop_assert_eq!(&Receipt::parse(receipt.to_text().as_bytes()).unwrap(), &receipt);
            let verified = receipt.verify(&trusted).unwrap();
            prop_assert_eq!(verified.heads.len(), streams.div_ceil(2));
            let mine = verified.heads[kept % verified.heads.len()].clone();
            let narrowed = receipt.narrow(|origin| origin == mine.origin);
            prop_assert_eq!(narrowed.verify(&trusted).unwrap().heads, vec![mine.clone()]);
            let text = narrowed.to_text();
            prop_assert!(receipt.heads.iter().all(|(_, head)| head.origin == mine.origin || !text.contains(&head.origin)));
        }

        #[test]
        fn a_changed_receipt_is_refused(position in any::<prop::sample::Index>(), bit in 0u8..7) {
            let (receipt, trusted) = signed(5, 3, 4);
            let mut bytes = receipt.to_text().into_bytes();
            let protected_from = 0;
            let at = protected_from + position.index(bytes.len() - protected_from);
            bytes[at] ^= 1 << bit;
            prop_assert!(Receipt::parse(&bytes).and_then(|r| r.verify(&trusted)).is_err());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Receipt::parse(&bytes);
            let _ = Receipt::parse(&[b"piperoll-receipt/v1\ndurability wal\nepoch 1\ngroup 18446744073709551615\nlog 0\n", &bytes[..], b"\n\n"].concat());
        }
    }

    #[test]
    fn a_later_form_is_newer_and_not_malformed() {
        let text = signed(5, 3, 4).0.to_text();
        for newer in [text.replacen("/v1", "/v2", 1), text.replacen("epoch 2\n", "epoch 2\nregion eu\n", 1)] {
            assert_eq!(Receipt::parse(newer.as_bytes()), Err(ReceiptError::Newer), "{newer}");
        }
        for other in ["/v0", "/v01", "/v", "/V2", "/w2"] {
            let text = text.replacen("/v1", other, 1);
            assert!(matches!(Receipt::parse(text.as_bytes()), Err(ReceiptError::Malformed(_))), "{other}");
        }
    }

    #[test]
    fn an_absurd_group_size_is_refused_quickly() {
        let (receipt, trusted) = signed(5, 3, 4);
        let text = receipt.to_text().replace("group 4\n", "group 18446744073709551615\n");
        assert!(matches!(Receipt::parse(text.as_bytes()), Err(ReceiptError::Malformed(_))));
        // Of the right count, but not of these hashes.
        let other = receipt.to_text().replace("log 3\n", "log 2\n");
        assert_eq!(Receipt::parse(other.as_bytes()).unwrap().verify(&trusted), Err(ReceiptError::Proof));
    }
}
