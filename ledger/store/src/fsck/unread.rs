//! Segments whose keys are not to be had: what of them is checked all the same, and what is said of them.
//!
//! Their bytes are those that a signed commit names, or they are a fault like any other. Their leaves cannot be
//! recomputed, and so neither can the tree behind them; segments behind them are held against their own roots. Not here:
//! segments that can be read ([`super::tree`]). Invariant: nothing unread is called recomputed.

use super::{Finding, Fsck, describe, fault, note};
use crate::columns::Rows;
use crate::error::StoreError;
use crate::keys::KeyError;
use crate::layout::StreamPrefix;
use crate::segment;
use ledger::tree::{Edge, Hash};
use ledger::verify::{ChainVerifier, LiveSegment};
use std::collections::BTreeSet;

/// What could not be read of a stream.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// First and last entry.
    range: Option<(u64, u64)>,
    segments: u64,
    /// Entries in segments that cannot be read.
    pub entries: u64,
    /// Entries that were held against their segment's root, and not against the stream's tree.
    apart: u64,
    why: BTreeSet<String>,
    destroyed: bool,
}

impl Unread {
    /// Whether something could not be read.
    pub(super) fn is_any(&self) -> bool {
        self.segments > 0
    }

    /// Notes a segment.
    pub(super) fn note(&mut self, held: &LiveSegment, error: &KeyError) {
        let reference = &held.segment;
        let first = self.range.map_or(reference.first, |(first, _)| first);
        self.range = Some((first, reference.end() - 1));
        self.segments += 1;
        self.entries += reference.rows;
        self.why.insert(error.to_string());
        self.destroyed |= error.is_destroyed();
    }

    /// What is said of it.
    pub(super) fn finding(&self, prefix: &StreamPrefix, chain: &ChainVerifier) -> Finding {
        let (segments, entries) = (self.segments, self.entries);
        let why = self.why.iter().cloned().collect::<Vec<_>>().join("; ");
        let what = format!("{segments} segments ({entries} entries) cannot be read: {why}");
        let apart = match self.apart {
            0 => String::new(),
            apart => format!("; of {apart} entries behind them each segment gives the root that was recorded for it"),
        };
        let commits = chain.commits();
        let sound = format!("all {commits} commits, their heads, and the hash of each of these files hold{apart}");
        let advice = match self.destroyed {
            true => "as it should be, if they were meant to be unreadable; a proof made earlier still holds",
            false => "check again where the keys are at hand",
        };
        Finding { entries: self.range, sound, ..note(prefix.path(), what, advice) }
    }
}

impl Fsck {
    /// Checks a segment behind one that cannot be read: its bytes, and where it can be read, its rows against its own
    /// root.
    pub(super) async fn apart(
        &self,
        prefix: &StreamPrefix,
        held: &LiveSegment,
        unread: &mut Unread,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Finding> {
        let reference = &held.segment;
        let path = prefix.below(&reference.path);
        let entries = Some((reference.first, reference.end() - 1));
        let finding = |what: String| Finding { entries, ..fault(&path, what) };
        let bytes = segment::fetch(&self.objects, &path).await;
        let bytes = bytes.map_err(|_| finding("the segment is missing or cannot be read".into()))?;
        if bytes.len() as u64 != reference.bytes || Hash::of(&bytes) != reference.sha256 {
            return Err(finding(format!("the file differs from what commit {} recorded", held.added_by)));
        }
        let (mut own, mut scratch) = (Edge::default(), Vec::new());
        let read = segment::read_all(&self.content, &path, bytes, |batch| {
            let rows = Rows::of(batch)?;
            for row in 0..rows.len() {
                own.push(rows.leaf(row, &mut scratch)?);
            }
            progress(rows.len() as u64);
            Ok(())
        });
        match read {
            Err(StoreError::Key(error)) => unread.note(held, &error),
            Err(error) => return Err(finding(describe(&error)).newer_if(error.is_newer())),
            Ok(()) if own.size() == reference.rows && own.root() == reference.root => unread.apart += own.size(),
            Ok(()) => return Err(finding("its entries do not give the root that was recorded".into())),
        }
        Ok(())
    }
}
