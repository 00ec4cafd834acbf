//! Hashes of a stream's tree, fetched or recomputed, and the proofs made of them.
//!
//! From level 1 up they stand in tiles; level 0 is recomputed from the rows of a block of 256 entries; what
//! is not sealed is in memory. Not here: which hashes a proof needs (`ledger::proof`).
//!
//! Invariant: a proof is given only after it was checked against the root that it leads to.

use crate::columns::Rows;
use crate::error::StoreError;
use crate::segment;
use crate::store::Shared;
use crate::stream::{Stream, View};
use bytes::Bytes;
use ledger::checkpoint::StreamHead;
use ledger::gone::Gone;
use ledger::proof::{self, Span};
use ledger::sections::Sections;
use ledger::tile::{TILE_HASHES, TILE_HEIGHT, Tile, TileKind};
use ledger::tree::{self, Edge, Hash, node_hash};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// That an entry is in a tree.
#[derive(Debug, Clone)]
pub struct InclusionProof {
    /// Which entry.
    pub seq: u64,
    /// The head of the tree.
    pub head: StreamHead,
    /// The entry's leaf hash.
    pub leaf: Hash,
    /// The path from the leaf's sibling upward.
    pub path: Vec<Hash>,
    /// The signed head.
    pub checkpoint: String,
    /// The sections of the entry that were redacted: their commitments are in the leaf, and nothing else is left of them.
    pub redacted: Sections,
}

/// That a smaller tree is a prefix of a larger one.
#[derive(Debug, Clone)]
pub struct ConsistencyProof {
    /// Size of the smaller.
    pub from: u64,
    /// Size of the larger.
    pub to: u64,
    /// Root of the smaller.
    pub from_root: Hash,
    /// Root of the larger.
    pub to_root: Hash,
    /// The proof.
    pub path: Vec<Hash>,
}

/// Reads nodes of one stream's tree as of one view, each tile and block once.
pub(crate) struct NodeReader<'a> {
    shared: &'a Shared,
    stream: &'a Stream,
    view: &'a View,
    tiles: HashMap<(u8, u64), Bytes>,
    leaves: HashMap<u64, Hash>,
    /// Blocks of which all leaves that are there were read.
    read: HashSet<u64>,
    /// Of these, entries that lack sections.
    redacted: HashMap<u64, Sections>,
}

impl<'a> NodeReader<'a> {
    /// A reader that knows nothing yet.
    pub(crate) fn new(shared: &'a Shared, stream: &'a Stream, view: &'a View) -> Self {
        let (tiles, leaves, read, redacted) = Default::default();
        Self { shared, stream, view, tiles, leaves, read, redacted }
    }

    /// Takes leaves that were recomputed from rows elsewhere.
    pub(crate) fn note(&mut self, leaves: &[(u64, Hash)]) {
        self.leaves.extend(leaves.iter().copied());
    }

    fn sealed(&self) -> u64 {
        self.view.sealed.edge.size()
    }

    /// The root of the complete subtree at a height and index.
    pub(crate) async fn node(&mut self, height: u32, index: u64) -> Result<Hash, StoreError> {
        let end = (index + 1) << height;
        // Below the tiles the roots of the right edge are at hand, whatever cannot be read.
        if height < TILE_HEIGHT
            && let Some(hash) = edge_node(&self.view.sealed.edge, height, index)
        {
            return Ok(hash);
        }
        if height >= TILE_HEIGHT
            && end <= self.sealed()
            && let Some(hash) = self.tile_node(height, index).await?
        {
            return Ok(hash);
        }
        if height <= TILE_HEIGHT
            && end <= self.sealed()
            && let Some(gone) = self.gone().await?
            && let Some(hash) = gone.node(height, index)
        {
            return Ok(hash);
        }
        if height == 0 {
            return self.leaf(index).await;
        }
        let left = Box::pin(self.node(height - 1, 2 * index)).await?;
        let right = Box::pin(self.node(height - 1, 2 * index + 1)).await?;
        Ok(node_hash(&left, &right))
    }

    /// A node from its tile; `None` when the tile is not there, and the node is computed from below.
    async fn tile_node(&mut self, height: u32, index: u64) -> Result<Option<Hash>, StoreError> {
        let level = height / TILE_HEIGHT;
        let within = height % TILE_HEIGHT;
        let start = index << within;
        let tile_index = start / TILE_HASHES;
        let hashes = self.sealed() >> (TILE_HEIGHT * level);
        let width = (hashes - tile_index * TILE_HASHES).min(TILE_HASHES) as u16;
        let key = (level as u8, tile_index);
        if !self.tiles.contains_key(&key) {
            let tile = Tile { kind: TileKind::Hashes(key.0), index: tile_index, width };
            match segment::fetch(&self.shared.objects, &self.stream.prefix.tile(&tile)).await {
                Ok(bytes) if bytes.len() == 32 * usize::from(width) => drop(self.tiles.insert(key, bytes)),
                Err(StoreError::Objects { source: object_store::Error::NotFound { .. }, .. }) => return Ok(None),
                Ok(_) => {
                    let path = self.stream.prefix.tile(&tile).to_string();
                    return Err(StoreError::Damaged { path, why: "a tile is not of its width" });
                }
                Err(error) => return Err(error),
            }
        }
        let at = 32 * (start % TILE_HASHES) as usize;
        let bytes = &self.tiles[&key][at..at + (32 << within)];
        let hash = |chunk: &[u8]| chunk.try_into().map_or(tree::empty_root(), Hash);
        Ok(Some(tree::root_of(bytes.chunks_exact(32).map(hash))))
    }

    /// What is gone of the stream, if anything is.
    async fn gone(&self) -> Result<Option<Arc<Gone>>, StoreError> {
        match &self.view.sealed.gone {
            Some(gone) => Ok(Some(gone.get(&self.shared.objects, &self.stream.prefix).await?)),
            None => Ok(None),
        }
    }

    /// One leaf hash.
    pub(crate) async fn leaf(&mut self, seq: u64) -> Result<Hash, StoreError> {
        if let Some(leaf) = self.view.leaf(seq) {
            return Ok(leaf);
        }
        let gone = self.gone().await?.filter(|gone| gone.holds(seq));
        if let Some(gone) = gone {
            return gone.node(0, seq).ok_or(StoreError::Gone { seq, commit: gone.commit() });
        }
        let block = seq / TILE_HASHES;
        if !self.leaves.contains_key(&seq) && self.read.insert(block) {
            let from = block * TILE_HASHES;
            let to = (from + TILE_HASHES).min(self.sealed());
            let mut scratch = Vec::new();
            let (leaves, redacted) = (&mut self.leaves, &mut self.redacted);
            let read = for_rows(self.shared, self.view, from, to, |rows, row| {
                leaves.insert(rows.seq(row), rows.leaf(row, &mut scratch)?);
                let erased = rows.erased(row);
                redacted.extend((!erased.is_empty()).then_some((rows.seq(row), erased)));
                Ok(())
            });
            match read.await {
                Err(StoreError::Key(error)) if error.is_destroyed() => return Err(StoreError::Sealed { seq, error }),
                read => read?,
            }
        }
        self.leaves.get(&seq).copied().ok_or(StoreError::NotFound("no such entry"))
    }

    /// The hash of a span whose start is aligned as a subtree's is.
    pub(crate) async fn span(&mut self, span: Span) -> Result<Hash, StoreError> {
        let mut nodes = Vec::new();
        for (height, index) in span.complete_nodes() {
            nodes.push(self.node(height, index).await?);
        }
        Ok(tree::fold(&nodes))
    }

    /// The root of the tree when it had `size` leaves. Tiles are believed only as far as they lead to the
    /// newest root, which the writer holds in memory: what is returned here may be signed.
    pub(crate) async fn trusted_root(&mut self, size: u64) -> Result<Hash, StoreError> {
        let newest = self.view.edge.size();
        if size == newest {
            return Ok(self.view.edge.root());
        }
        let root = self.span(Span::new(0, size)).await?;
        let spans = proof::consistency_path(size, newest).map_err(|_| StoreError::NotFound("no such size"))?;
        let path = self.path(spans).await?;
        checked(proof::check_consistency(size, newest, &path, &root, &self.view.edge.root()), self.stream)?;
        Ok(root)
    }

    async fn path(&mut self, spans: Vec<Span>) -> Result<Vec<Hash>, StoreError> {
        let mut path = Vec::with_capacity(spans.len());
        for span in spans {
            path.push(self.span(span).await?);
        }
        Ok(path)
    }
}

/// The root of a complete subtree, if it is one of those that the edge is made of.
fn edge_node(edge: &Edge, height: u32, index: u64) -> Option<Hash> {
    let bit = 1u64.checked_shl(height).filter(|bit| edge.size() & bit != 0)?;
    // Larger subtrees stand before it: as many as there are higher bits.
    let larger = edge.size() & !(bit | (bit - 1));
    (index << height == larger).then(|| edge.nodes().get(larger.count_ones() as usize).copied()).flatten()
}

/// Visits the sealed rows `[from, to)`, which may lie in several segments: those that are not gone.
async fn for_rows(
    shared: &Shared,
    view: &View,
    from: u64,
    to: u64,
    mut each: impl FnMut(&Rows<'_>, usize) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut at = from;
    while at < to {
        let Some(segment) = view.segment(at) else {
            // Between segments is what is gone.
            let next = view.sealed.segments.iter().map(|segment| segment.reference.first).find(|first| *first > at);
            at = next.unwrap_or(to).min(to);
            continue;
        };
        let end = segment.reference.end().min(to);
        for batch in segment::read_rows(&shared.content, segment, at, end).await? {
            let rows = Rows::of(&batch)?;
            for row in 0..rows.len() {
                each(&rows, row)?;
            }
        }
        at = end;
    }
    Ok(())
}

fn within(what: &'static str, given: u64, limit: u64) -> Result<(), StoreError> {
    if given <= limit { Ok(()) } else { Err(StoreError::OutOfRange { what, given, limit }) }
}

fn checked(holds: bool, stream: &Stream) -> Result<(), StoreError> {
    let path = stream.prefix.path().to_string();
    if holds { Ok(()) } else { Err(StoreError::Damaged { path, why: "its hashes do not lead to its root: run fsck" }) }
}

/// The proof that the entry at `seq` is in the tree of `size` entries.
///
/// # Errors
/// There is no such entry or size, or stored bytes are damaged.
pub(crate) async fn inclusion(
    shared: &Shared,
    stream: &Stream,
    seq: u64,
    size: Option<u64>,
) -> Result<InclusionProof, StoreError> {
    let view = stream.view();
    let size = size.unwrap_or(view.edge.size());
    within("size", size, view.edge.size())?;
    if seq >= size {
        return Err(StoreError::OutOfRange { what: "seq", given: seq, limit: size.saturating_sub(1) });
    }
    let mut reader = NodeReader::new(shared, stream, &view);
    let spans = proof::inclusion_path(seq, size).map_err(|_| StoreError::NotFound("no such entry"))?;
    let (leaf, path) = (reader.leaf(seq).await?, reader.path(spans).await?);
    let root = reader.trusted_root(size).await?;
    checked(proof::check_inclusion(seq, size, &path, &leaf, &root), stream)?;
    let head = StreamHead { origin: stream.origin.to_string(), size, root };
    let checkpoint = head.sign(&shared.signing.now().all());
    let redacted = reader.redacted.get(&seq).copied().unwrap_or_default();
    Ok(InclusionProof { seq, head, leaf, path, checkpoint, redacted })
}

/// The proof that the tree of `from` entries is a prefix of that of `to` entries.
///
/// # Errors
/// There are no such sizes, or stored bytes are damaged.
pub(crate) async fn consistency(
    shared: &Shared,
    stream: &Stream,
    from: u64,
    to: Option<u64>,
) -> Result<ConsistencyProof, StoreError> {
    let view = stream.view();
    let to = to.unwrap_or(view.edge.size());
    within("to", to, view.edge.size())?;
    within("from", from, to)?;
    let mut reader = NodeReader::new(shared, stream, &view);
    let spans = proof::consistency_path(from, to).map_err(|_| StoreError::NotFound("no such sizes"))?;
    let path = reader.path(spans).await?;
    let from_root = reader.trusted_root(from).await?;
    let to_root = reader.trusted_root(to).await?;
    checked(proof::check_consistency(from, to, &path, &from_root, &to_root), stream)?;
    Ok(ConsistencyProof { from, to, from_root, to_root, path })
}

/// A tile of the stream's tree, hashes of any level or entries.
///
/// # Errors
/// The tree has no such tile yet, or stored bytes are damaged.
pub(crate) async fn tile(shared: &Shared, stream: &Stream, tile: Tile) -> Result<Bytes, StoreError> {
    let view = stream.view();
    if !tile.is_within(view.edge.size()) {
        return Err(StoreError::NotFound("the tree has no such tile yet"));
    }
    let mut reader = NodeReader::new(shared, stream, &view);
    let mut body = Vec::new();
    match tile.kind {
        TileKind::Hashes(level) => {
            for index in tile.range() {
                body.extend_from_slice(&reader.node(TILE_HEIGHT * u32::from(level), index).await?.0);
            }
        }
        TileKind::Entries => {
            let sealed_end = tile.range().end.min(view.sealed.edge.size());
            if let Some(gone) = reader.gone().await?
                && let Some(seq) = tile.range().find(|seq| gone.holds(*seq))
            {
                return Err(StoreError::Gone { seq, commit: gone.commit() });
            }
            let mut scratch = Vec::new();
            let mut put = |data: Vec<u8>| {
                body.extend_from_slice(&(data.len() as u16).to_be_bytes());
                body.extend_from_slice(&data);
            };
            for_rows(shared, &view, tile.range().start.min(sealed_end), sealed_end, |rows, row| {
                put(rows.leaf_data(row, &mut scratch)?);
                Ok(())
            })
            .await?;
            for entry in (sealed_end.max(tile.range().start)..tile.range().end).filter_map(|seq| view.entry(seq)) {
                let commitments = ledger::leaf::Commitments::of(&entry.draft, &entry.seed, entry.index);
                put(ledger::leaf::data_of(&entry.draft, &commitments));
            }
        }
    }
    Ok(body.into())
}
