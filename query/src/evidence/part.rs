//! One part of a bundle: a block of a stream's tree, of which some entries are shown and subtrees stand for the rest.
//!
//! Each part is made by itself, so that making a bundle goes on where it stopped, in bounded memory. Not here: which entries
//! are shown ([`super::making`]).
//!
//! Invariants: what a part says folds to the nodes that it is kept with, and all parts to the head: whoever puts them
//! together checks that before the manifest is signed; of an entry that is not shown nothing but its leaf hash is used.

use super::zip::{Fragment, Open, Packed};
use access::{Problem, ProblemKind};
use datafusion::arrow::array::RecordBatch;
use ledger::Hash;
use ledger::bundle::range::RangeWriter;
use ledger::bundle::{RangeHead, Stead};
use ledger::proof::Span;
use ledger::sections::Sections;
use ledger_store::{Evidence, to_parquet};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Rows that are in memory together.
const ROWS: u64 = 8_192;
/// Bytes of lines that are packed together, about.
const LINES_BYTES: usize = 1 << 18;
/// Bytes of an entry in the archive, as a mean: room that is not needed is never touched.
const ENTRY_BYTES: usize = 512;

/// What a part is kept with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Its files.
    pub members: Vec<Packed>,
    /// How many bytes it has in the archive.
    pub bytes: u64,
    /// The roots of the complete subtrees that it comes to, each with its height.
    pub nodes: Vec<(u32, String)>,
    /// Entries of the range that are shown, positions withheld, positions gone.
    pub counts: [u64; 3],
}

/// A part: its bytes in the archive, and what they are.
pub(super) struct Part {
    pub bytes: Vec<u8>,
    pub facts: Facts,
}

/// What is shown of a stream, and where.
pub(super) struct Shows<'s> {
    /// `streams/<stream>`.
    pub folder: &'s str,
    pub span: Span,
    /// Sections that are withheld of every entry.
    pub withheld: Sections,
    /// Just these entries; all when there is none.
    pub only: Option<HashSet<u64>>,
    /// Whether the entries beside the range may be shown without their sections.
    pub neighbours: (bool, bool),
    pub holes: &'s [Span],
}

impl Shows<'_> {
    /// Of an entry that is shown, the sections that are withheld.
    fn sections(&self, seq: u64) -> Option<Sections> {
        let is_neighbour =
            (self.neighbours.0 && seq + 1 == self.span.start) || (self.neighbours.1 && seq == self.span.end);
        let is_own = seq >= self.span.start && seq < self.span.end;
        match is_own {
            true => self.only.as_ref().is_none_or(|only| only.contains(&seq)).then_some(self.withheld),
            false => is_neighbour.then_some(Sections::ALL),
        }
    }

    fn is_own(&self, seq: u64) -> bool {
        seq >= self.span.start && seq < self.span.end
    }
}

/// Makes the part with a number: the leaves `block` of the tree. The first says what the range is, and with what stands for all
/// before it; the last what stands for all behind it.
///
/// # Errors
/// Stored bytes cannot be read, or are damaged.
pub(super) async fn make(
    evidence: &Evidence,
    number: u64,
    block: Span,
    (is_first, is_last): (bool, bool),
    shows: &Shows<'_>,
) -> Result<Part, Problem> {
    let mut writer = RangeWriter::new(block.start);
    let (mut range, mut nodes) = (String::new(), Vec::new());
    if is_first {
        let (origin, size) = (evidence.head().origin.clone(), evidence.head().size);
        range += &RangeHead { origin, size, span: shows.span }.to_text();
        range += &outside(evidence, Span::new(0, block.start), &mut nodes).await?;
    }
    let mut fragment = Fragment::with_room(usize::try_from(block.len()).unwrap_or_default() * ENTRY_BYTES);
    let mut entries = Entries::new(shows, fragment.begin(format!("{}/entries-{number:06}.ndjson", shows.folder)));
    for Run { span, stead } in runs(block, shows) {
        match stead {
            Some(stead) => {
                let nodes = evidence.nodes(span).await?;
                nodes.into_iter().for_each(|(height, hash)| writer.stands(stead, height, hash));
            }
            None => entries.read(evidence, span, &mut writer).await?,
        }
        range += &writer.take();
    }
    let (shown, batches) = (entries.shown, std::mem::take(&mut entries.batches));
    if batches.is_empty() {
        fragment = Fragment::default();
    } else {
        fragment.end(entries.end());
        fragment.add_packed(format!("{}/entries-{number:06}.parquet", shows.folder), &to_parquet(&batches)?);
    }
    let counts = [shown, writer.count(Stead::Withheld), writer.count(Stead::Gone)];
    let (rest, edge) = writer.finish();
    if edge.size() != block.len() {
        return Err(damaged("rows are missing at the end of a block"));
    }
    range += &rest;
    let heights = Span::new(0, block.len()).complete_nodes().into_iter().map(|(height, _)| height);
    nodes.extend(heights.zip(edge.nodes().iter().map(Hash::to_hex)));
    if is_last {
        range += &outside(evidence, Span::new(block.end, evidence.head().size), &mut nodes).await?;
    }
    fragment.add(format!("{}/range-{number:06}", shows.folder), range.as_bytes());
    let (bytes, members) = fragment.finish();
    let length = bytes.len() as u64;
    Ok(Part { bytes, facts: Facts { members, bytes: length, nodes, counts } })
}

/// The entries of a part, as they are read.
struct Entries<'s> {
    shows: &'s Shows<'s>,
    lines: Open,
    text: String,
    batches: Vec<RecordBatch>,
    shown: u64,
}

impl<'s> Entries<'s> {
    fn new(shows: &'s Shows<'s>, lines: Open) -> Self {
        Self { shows, lines, text: String::new(), batches: vec![], shown: 0 }
    }

    /// Reads a range, shows what is shown of it, and lets a subtree stand for each other leaf.
    async fn read(&mut self, evidence: &Evidence, span: Span, writer: &mut RangeWriter) -> Result<(), Problem> {
        let Self { shows, lines, text, batches, shown } = self;
        let mut at = span.start;
        while at < span.end {
            let rows = Span::new(at, span.end.min(at + ROWS));
            let block = evidence.block(rows).await?;
            for leaf in block.leaves()? {
                if leaf.seq != writer.next() {
                    return Err(damaged("a row is missing, or is not where it should be"));
                }
                match shows.sections(leaf.seq) {
                    Some(_) => writer.shown(leaf.hash),
                    None if shows.is_own(leaf.seq) => writer.stands(Stead::Withheld, 0, leaf.hash),
                    None => writer.stands(Stead::Outside, 0, leaf.hash),
                }
            }
            let masked = block.shown(
                |seq| shows.sections(seq),
                |entry| {
                    *shown += u64::from(shows.is_own(entry.seq));
                    entry.push_line(text);
                    if text.len() > LINES_BYTES {
                        lines.write(text.as_bytes());
                        text.clear();
                    }
                },
            )?;
            batches.extend(masked);
            at = rows.end;
        }
        Ok(())
    }

    /// Their lines, all written.
    fn end(mut self) -> Open {
        self.lines.write(self.text.as_bytes());
        self.lines
    }
}

/// The lines for leaves on one side of all parts, whose nodes are added.
async fn outside(evidence: &Evidence, span: Span, nodes: &mut Vec<(u32, String)>) -> Result<String, Problem> {
    let mut writer = RangeWriter::new(span.start);
    for (height, hash) in evidence.nodes(span).await? {
        writer.stands(Stead::Outside, height, hash);
        nodes.push((height, hash.to_hex()));
    }
    Ok(writer.finish().0)
}

fn damaged(why: &str) -> Problem {
    Problem::new(ProblemKind::Internal, format!("{why}: run piperoll fsck"))
}

/// Neighbouring leaves that are treated alike: read as rows, or stood for by nodes of the tree.
struct Run {
    span: Span,
    stead: Option<Stead>,
}

/// A block in runs: what is gone, what is outside and needs not be read, and the rest.
fn runs(block: Span, shows: &Shows<'_>) -> Vec<Run> {
    let first = shows.span.start - u64::from(shows.neighbours.0);
    let last = shows.span.end + u64::from(shows.neighbours.1);
    let mut runs = Vec::new();
    let mut push = |start: u64, end: u64, stead: Option<Stead>| {
        let (start, end) = (start.max(block.start), end.min(block.end));
        if start < end {
            runs.push(Run { span: Span::new(start, end), stead });
        }
    };
    push(0, first, Some(Stead::Outside));
    let mut at = first;
    for hole in shows.holes.iter().filter(|hole| hole.end > first && hole.start < last) {
        push(at, hole.start.max(first), None);
        push(hole.start.max(first), hole.end.min(last), Some(Stead::Gone));
        at = hole.end;
    }
    push(at, last, None);
    push(last, u64::MAX, Some(Stead::Outside));
    runs
}
