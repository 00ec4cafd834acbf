//! What evidence of a stream is made of: rows with the salts of the sections that are shown, leaves, and nodes that stand
//! for what is not shown, all as of one moment.
//!
//! Not here: who is shown what, and the archive (`query`); the texts (`ledger::bundle`). Invariants: of a row with a section
//! withheld no seed leaves here, and no salt of that section; what stands for a leaf was recomputed from the row, or is
//! checked against the signed root by whoever folds it.

use crate::columns::erased::{Erases, erase};
use crate::columns::secrets::wide_schema;
use crate::columns::{self, Rows};
use crate::error::StoreError;
use crate::handle::StreamHandle;
use crate::proofs::{self, NodeReader};
use crate::segment::{self, Effort, Segment};
use crate::store::Shared;
use crate::stream::{Sealed, Stream, View};
use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use ledger::bundle::{Shown, Stands};
use ledger::checkpoint::StreamHead;
use ledger::proof::Span;
use ledger::sections::Sections;
use ledger::tree::Hash;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use std::collections::HashSet;
use std::sync::Arc;

/// Rows that are looked through at a time.
const LOOKED_THROUGH: u64 = 32_768;

/// One stream as of one moment; its segments stay as long as this is held.
pub struct Evidence {
    shared: Arc<Shared>,
    stream: Arc<Stream>,
    view: View,
    head: StreamHead,
}

impl StreamHandle {
    /// What evidence is made of, as of the head with `size` entries, by default the newest.
    ///
    /// # Errors
    /// There is no such size; the content is under a key that is not at hand; stored bytes are damaged.
    pub async fn evidence(&self, size: Option<u64>) -> Result<Evidence, StoreError> {
        self.stream.unlock(&self.shared.content.keys)?;
        let (shared, stream, view) = (Arc::clone(&self.shared), Arc::clone(&self.stream), self.stream.view());
        let newest = view.edge.size();
        let size = size.unwrap_or(newest);
        if size > newest {
            return Err(StoreError::OutOfRange { what: "size", given: size, limit: newest });
        }
        let root = NodeReader::new(&shared, &stream, &view).trusted_root(size).await?;
        let head = StreamHead { origin: stream.origin.to_string(), size, root };
        Ok(Evidence { shared, stream, view, head })
    }

    /// How many entries were purged of the stream by now, and how many lost sections: both only grow.
    pub fn erased(&self) -> (u64, u64) {
        erased(&self.stream.view().sealed)
    }

    /// The records of the keys that sign the stream's store, in order.
    pub fn key_records(&self) -> Vec<String> {
        self.shared.signing.now().known().records()
    }
}

fn erased(sealed: &Sealed) -> (u64, u64) {
    (sealed.gone_entries(), sealed.redacted)
}

/// Rows of a stream, as they stand in the ledger.
pub struct Block {
    batches: Vec<RecordBatch>,
}

/// An entry's place and leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// Its sequence number.
    pub seq: u64,
    /// The hash of its leaf, recomputed.
    pub hash: Hash,
}

impl Evidence {
    /// The head that all of it leads to.
    pub fn head(&self) -> &StreamHead {
        &self.head
    }

    /// That head, signed.
    pub fn checkpoint(&self) -> String {
        self.head.sign(&self.shared.signing.now().all())
    }

    /// How many entries were purged of the stream, and how many lost sections, when this was taken.
    pub fn erased(&self) -> (u64, u64) {
        erased(&self.view.sealed)
    }

    /// Ranges below the head of which the content is gone, ascending.
    ///
    /// # Errors
    /// What is gone cannot be read.
    pub async fn holes(&self) -> Result<Vec<Span>, StoreError> {
        let Some(gone) = &self.view.sealed.gone else { return Ok(vec![]) };
        let gone = gone.get(&self.shared.objects, &self.stream.prefix).await?;
        let below = gone.holes().iter().filter(|hole| hole.start < self.head.size);
        Ok(below.map(|hole| Span::new(hole.start, hole.end.min(self.head.size))).collect())
    }

    /// The first entry below the head that is not gone and was recorded then or later.
    ///
    /// # Errors
    /// Stored bytes cannot be read.
    pub async fn first_since(&self, at: i64) -> Result<Option<u64>, StoreError> {
        let is_before = |segment: &&Arc<Segment>| segment.statistics.recorded_at.is_some_and(|(_, newest)| newest < at);
        for segment in self.view.sealed.segments.iter().filter(|segment| !is_before(segment)) {
            let end = segment.reference.end().min(self.head.size);
            let mut from = segment.reference.first;
            while from < end {
                let to = end.min(from + LOOKED_THROUGH);
                for batch in self.block(Span::new(from, to)).await?.batches {
                    let rows = Rows::of(&batch)?;
                    if let Some(row) = (0..rows.len()).find(|row| rows.recorded_at(*row) >= at) {
                        return Ok(Some(rows.seq(row)));
                    }
                }
                from = to;
            }
        }
        let sealed = self.view.sealed.edge.size();
        let is_it = |seq: &u64| self.view.entry(*seq).is_some_and(|entry| entry.draft.recorded_at() >= at);
        Ok((sealed..self.head.size).find(is_it))
    }

    /// The rows of a range that are not gone. All of them are in memory together.
    ///
    /// # Errors
    /// Stored bytes cannot be read.
    pub async fn block(&self, span: Span) -> Result<Block, StoreError> {
        let (mut at, mut batches) = (span.start, Vec::new());
        let sealed = self.view.sealed.edge.size();
        while at < span.end.min(sealed) {
            let Some(segment) = self.view.segment(at) else {
                // Between segments is what is gone.
                let starts = self.view.sealed.segments.iter().map(|segment| segment.reference.first);
                at = starts.filter(|first| *first > at).min().unwrap_or(sealed).min(span.end);
                continue;
            };
            let end = segment.reference.end().min(span.end);
            batches.extend(segment::read_rows(&self.shared.content, segment, at, end).await?);
            at = end;
        }
        let tail: Vec<_> = (at.max(sealed)..span.end).map_while(|seq| self.view.entry(seq)).collect();
        if !tail.is_empty() {
            batches.push(columns::batch(at.max(sealed), &tail)?);
        }
        Ok(Block { batches })
    }

    /// The roots of the largest complete subtrees that make up a range, in order, each with its height.
    ///
    /// # Errors
    /// Stored bytes cannot be read.
    pub async fn nodes(&self, span: Span) -> Result<Vec<(u32, Hash)>, StoreError> {
        let mut reader = NodeReader::new(&self.shared, &self.stream, &self.view);
        let (mut at, mut nodes) = (span.start, Vec::new());
        while at < span.end {
            let fits = (span.end - at).ilog2();
            let height = at.trailing_zeros().min(fits);
            nodes.push((height, reader.node(height, at >> height).await?));
            at += 1 << height;
        }
        Ok(nodes)
    }

    /// The proof that an entry is in the tree of the head, as a C2SP tlog-proof with that checkpoint.
    ///
    /// # Errors
    /// There is no such entry, or stored bytes are damaged.
    pub async fn tlog_proof(&self, seq: u64, checkpoint: &str) -> Result<String, StoreError> {
        let proof = proofs::inclusion(&self.shared, &self.stream, seq, Some(self.head.size)).await?;
        Ok(ledger::tlog_proof::TlogProof::new(seq, proof.path, checkpoint.into()).to_text())
    }
}

impl Block {
    /// Each row's leaf, ascending.
    ///
    /// # Errors
    /// A row cannot be recomputed.
    pub fn leaves(&self) -> Result<Vec<Leaf>, StoreError> {
        let (mut leaves, mut scratch) = (Vec::new(), Vec::new());
        for batch in &self.batches {
            let rows = Rows::of(batch)?;
            for row in 0..rows.len() {
                leaves.push(Leaf { seq: rows.seq(row), hash: rows.leaf(row, &mut scratch)? });
            }
        }
        Ok(leaves)
    }

    /// The rows that `sections` names, without the sections that it says are withheld: as entries, and as columns of the
    /// form that a redacted segment has (FORMAT.md §4), no seed in them.
    ///
    /// # Errors
    /// A row is damaged.
    pub fn shown(
        &self,
        sections: impl Fn(u64) -> Option<Sections>,
        mut each: impl FnMut(Shown),
    ) -> Result<Vec<RecordBatch>, StoreError> {
        let mut masked = Vec::new();
        for batch in &self.batches {
            let rows = Rows::of(batch)?;
            let wanted: Vec<Option<Sections>> = (0..rows.len()).map(|row| sections(rows.seq(row))).collect();
            if wanted.iter().all(Option::is_none) {
                continue;
            }
            let keep = BooleanArray::from_iter(wanted.iter().map(|sections| Some(sections.is_some())));
            let kept = filter_record_batch(batch, &keep).map_err(|_| columns::damaged("rows cannot be picked"))?;
            let picked = Rows::of(&kept)?;
            let withheld: Vec<(Span, Sections)> = (0..picked.len())
                .zip(wanted.iter().flatten())
                .map(|(row, sections)| (Span::new(picked.seq(row), picked.seq(row) + 1), *sections))
                .collect();
            let seeds: HashSet<_> = (0..picked.len()).filter_map(|row| picked.seed(row)).collect();
            let (batch, _) = erase(&kept, Erases { rows: &withheld, seeds: &seeds, with_empty: true })?;
            let rows = Rows::of(&batch)?;
            for row in 0..rows.len() {
                let redacted = picked.erased(row);
                let stands = rows.stands(row).map(|(section, salt, kept)| match (salt, kept) {
                    (Some(salt), _) => Stands::Salt(salt),
                    (None, Some(hash)) if redacted.contains(section) => Stands::Redacted(hash),
                    (None, Some(hash)) => Stands::Withheld(hash),
                    (None, None) => Stands::Nothing,
                });
                each(Shown { seq: rows.seq(row), draft: rows.draft(row)?, stands });
            }
            masked.push(batch);
        }
        Ok(masked)
    }
}

/// Columns of [`Block::shown`] as a Parquet file, under no key.
///
/// # Errors
/// Parquet refuses them.
pub fn to_parquet(batches: &[RecordBatch]) -> Result<Vec<u8>, StoreError> {
    let path = Path::from("entries.parquet");
    let (has_none, bytes) =
        (|field| segment::has_none(batches, field), |column: &str| segment::bytes_of(batches, column));
    let properties = segment::properties(Effort::Quick, |_| 0, has_none, bytes, None);
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new_with_options(&mut bytes, wide_schema(), options).map_err(StoreError::parquet(&path))?;
    for batch in batches {
        writer.write(batch).map_err(StoreError::parquet(&path))?;
    }
    writer.close().map_err(StoreError::parquet(&path))?;
    Ok(bytes)
}
