//! Reads a store from nothing but its objects and says, object by object, what holds and what does not.
//!
//! Chain, leaves, roots, tiles, Delta view, the store log, and objects that nothing names. It writes
//! nothing, takes no lock and trusts no cache, so it runs beside a service or on a copy. Not here: mending.
//!
//! Invariant: a stream is called sound only after every leaf of it was recomputed from its rows.

mod breaks;
mod chain;
mod kept;
mod reading;
mod report;
mod since;
mod store_log;
mod strangers;
mod taken_out;
mod tree;
mod unread;
mod views;

pub use kept::Kept;
pub use report::{Finding, Report, StreamReport};
pub use since::{Checked, Since};
pub use taken_out::TakenOut;

use crate::error::StoreError;
use crate::keys::{ContentKeys, KeyError};
use crate::layout::StreamPrefix;
use crate::objects_of::list_streams;
use crate::segment;
use crate::signing;
use futures::TryStreamExt;
use kept::against_kept;
use ledger::checkpoint::StreamHead;
use ledger::gone::{Gone, GoneError};
use ledger::key::VerifierKey;
use ledger::name::{LedgerName, Origin, StreamKind, TenantId};
use ledger::tile::{TILE_HEIGHT, Tile, TileKind};
use ledger::tree::Hash;
use ledger::verify::{ChainVerifier, LiveSegment};
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tree::{Seen, TreeFault, TreeWalk};
use unread::Unread;

/// A check of a store or of one stream.
#[derive(Clone)]
pub struct Fsck {
    /// The store's objects.
    pub objects: Arc<dyn ObjectStore>,
    /// The ledger's name.
    pub ledger: LedgerName,
    /// The ledger's public keys, under any name, oldest first: once one has signed in a chain, none before it may.
    pub keys: Vec<VerifierKey>,
    /// The keys to what is encrypted; of what none opens, the hashes of the files are checked.
    pub content: ContentKeys,
    /// Heads that somebody kept earlier, their signatures checked: the streams must still agree with them.
    pub kept: Vec<StreamHead>,
    /// The same, of entries that were durable then and need not be sealed yet.
    pub durable: Vec<StreamHead>,
}

const RESTORE: &str = "restore this object from a copy and check again; nothing was changed";
const UPGRADE: &str = "use a newer piperoll to check this; nothing is known to be wrong with it";
const REBUILD: &str = "a view only: stop the service, delete _delta_log of this stream, and start: it is written anew";

impl Fsck {
    /// The same check, believing also the keys that one of its keys handed over to, and those that handed over to it, as the
    /// store's records of its keys say. Where these do not hold, [`Fsck::store`] says so, and nobody is believed for them.
    ///
    /// # Errors
    /// The records cannot be read.
    pub async fn believing_handovers(mut self, store: &TenantId) -> Result<Self, StoreError> {
        let origin = Origin::store_log(&self.ledger, store, 0);
        match signing::read(&self.objects, &origin).await {
            Ok(Some(known)) => self.keys = known.history.believed(&self.keys),
            Ok(None) | Err(StoreError::Newer { .. } | StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(self)
    }

    /// Checks every stream; `progress` is told of entries as they are recomputed.
    ///
    /// # Errors
    /// The store cannot be listed. Objects that cannot be read are findings.
    pub async fn store(&self, mut progress: impl FnMut(u64)) -> Result<Report, StoreError> {
        let mut report = self.streams(|_, _| true, &mut progress).await?;
        report.findings.extend(self.store_log().await?);
        Ok(report)
    }

    /// Checks the streams that are wanted, and nothing else of the store.
    ///
    /// # Errors
    /// The store cannot be listed. Objects that cannot be read are findings.
    pub async fn streams(
        &self,
        wanted: impl Fn(&TenantId, StreamKind) -> bool,
        mut progress: impl FnMut(u64),
    ) -> Result<Report, StoreError> {
        let mut report = Report::default();
        for (tenant, kind) in list_streams(&self.objects).await? {
            if wanted(&tenant, kind) {
                report.streams.push(self.stream(&tenant, kind, &mut progress).await?);
            }
        }
        Ok(report)
    }

    /// Checks one stream. What cannot be read because its key is not to be had is said, and is no fault.
    ///
    /// # Errors
    /// The stream's folder cannot be listed.
    pub async fn stream(
        &self,
        tenant: &TenantId,
        kind: StreamKind,
        progress: &mut impl FnMut(u64),
    ) -> Result<StreamReport, StoreError> {
        let prefix = StreamPrefix::new(tenant, kind);
        let first = Origin::stream(&self.ledger, tenant, kind, 0);
        let trusted = self.keys.iter().map(|key| key.under(first.as_str())).collect();
        let mut findings = Vec::new();
        let mut chain = ChainVerifier::new(first.as_str(), trusted);
        let marks = self.chain(&prefix, &mut chain, &mut findings).await?;
        let live: Vec<LiveSegment> = chain.live().cloned().collect();
        let (commits, last, segments) = (chain.commits(), chain.last_hash(), live.len() as u64);
        let bytes = live.iter().map(|held| held.segment.bytes).sum();
        let kept = self.surviving(&prefix, &chain, &mut findings);
        let were_sealed = kept.were_sealed;
        let mut tree = self.walk(&prefix, &chain, (tenant.clone(), kind), kept.heads, &mut findings).await;
        let (mut is_whole, mut unread) = (true, Unread::default());
        for held in &live {
            let Some(tree) = &mut tree else { break };
            let checked = match unread.is_any() {
                true => self.apart(&prefix, held, &mut unread, progress).await,
                false => self.segment(&prefix, held, tree, progress).await.map(|locked| {
                    locked.into_iter().for_each(|error| unread.note(held, &error));
                }),
            };
            if let Err(finding) = checked {
                findings.push(finding);
                is_whole = false;
                break;
            }
        }
        is_whole &= !unread.is_any();
        if let Some(Err(fault_found)) = tree.as_mut().filter(|_| is_whole).map(TreeWalk::end) {
            findings.push(fault(prefix.path(), describe(&fault_found)));
        }
        let mut tree = tree.map(|tree| tree.seen).unwrap_or_default();
        if unread.is_any() {
            findings.push(unread.finding(&prefix, &chain));
            // The commits sign it; of heads kept elsewhere those can be compared that are of more than is here.
            tree.edge = chain.edge().clone();
            tree.gone = chain.gone().map_or(0, |gone| gone.entries);
            tree.kept.retain(|size, _| *size > tree.edge.size());
        }
        if tree.redacted > chain.redacted() {
            findings.push(fault(prefix.path(), more_redacted(tree.redacted, chain.redacted())));
        }
        // What this program is too old to read is not gone.
        if tree.disagrees.is_some() || findings.iter().all(|finding| !finding.is_newer) {
            findings.extend(against_kept(&prefix, were_sealed, &tree));
        }
        if findings.iter().all(|finding| !finding.is_fault) {
            self.tiles(&prefix, &tree, &mut findings).await?;
            self.views(&prefix, &chain, &marks, &mut findings).await?;
        }
        let kept = chain.gone().map(ledger::GoneRef::path);
        self.strangers(&prefix, &live, (&marks, kept.as_deref()), &mut findings).await?;
        let edge = &tree.edge;
        let head = StreamHead { origin: chain.origin().into(), size: edge.size(), root: edge.root() };
        let (tenant, gone, redacted, unread) = (tenant.clone(), tree.gone, tree.redacted, unread.entries);
        Ok(StreamReport { tenant, kind, head, gone, redacted, unread, commits, segments, bytes, last, findings })
    }

    /// Begins to recompute the tree; none, with a finding, when what is kept of purged entries does not hold.
    async fn walk(
        &self,
        prefix: &StreamPrefix,
        chain: &ChainVerifier,
        owner: (TenantId, StreamKind),
        kept: BTreeMap<u64, Hash>,
        findings: &mut Vec<Finding>,
    ) -> Option<TreeWalk> {
        let Some(named) = chain.gone() else { return TreeWalk::new(chain.clone(), None, owner, kept).ok() };
        let path = prefix.below(&named.path());
        let bytes = segment::fetch(&self.objects, &path).await;
        let what = "what was kept of purged entries is missing or cannot be read";
        let gone = match bytes.map(|bytes| Gone::parse(&bytes)) {
            Ok(Ok(gone)) => gone,
            Ok(Err(error)) => {
                findings.push(fault(&path, describe(&error)).newer_if(error == GoneError::Newer));
                return None;
            }
            Err(_) => {
                findings.push(fault(&path, what));
                return None;
            }
        };
        let walk = TreeWalk::new(chain.clone(), Some(gone), owner, kept);
        walk.map_err(|fault_found| findings.push(fault(&path, describe(&fault_found)))).ok()
    }

    async fn segment(
        &self,
        prefix: &StreamPrefix,
        held: &LiveSegment,
        tree: &mut TreeWalk,
        progress: &mut impl FnMut(u64),
    ) -> Result<Option<KeyError>, Finding> {
        let reference = &held.segment;
        let path = prefix.below(&reference.path);
        let entries = Some((reference.first, reference.end() - 1));
        let sound = match reference.first {
            0 => "the commits hold; entries after this segment were not looked at".into(),
            first => format!(
                "entries 0 to {} hold, and the commits; entries after this segment were not looked at",
                first - 1
            ),
        };
        let finding = |what: String| Finding { entries, sound: sound.clone(), ..fault(&path, what) };
        let bytes = segment::fetch(&self.objects, &path).await;
        let bytes = bytes.map_err(|_| finding("the segment is missing or cannot be read".into()))?;
        let is_as_committed = bytes.len() as u64 == reference.bytes && Hash::of(&bytes) == reference.sha256;
        // The hash of the file says *that* it was changed; the leaves say *where*.
        let read = tree.segment(&self.content, &path, bytes, progress);
        match read {
            Ok(()) if is_as_committed => Ok(None),
            Err(TreeFault::Rows(StoreError::Key(error))) if is_as_committed => Ok(Some(error)),
            Ok(()) => Err(finding(format!(
                "the file differs from what commit {} recorded, though its entries are unchanged",
                held.added_by
            ))),
            Err(TreeFault::Fault(fault)) => Err(finding(describe(&fault))),
            Err(TreeFault::Rows(error)) if is_as_committed && error.is_newer() => {
                Err(finding(describe(&error)).newer_if(true))
            }
            Err(TreeFault::Rows(error)) => {
                let added = held.added_by;
                Err(finding(format!(
                    "the file differs from what commit {added} recorded and cannot be read: {}",
                    describe(&error)
                )))
            }
        }
    }

    /// Tiles from level 1 up must hold what the leaves give: the newest of each, and older ones that they replace.
    async fn tiles(&self, prefix: &StreamPrefix, tree: &Seen, findings: &mut Vec<Finding>) -> Result<(), StoreError> {
        let folder = prefix.below("_ledger/tile");
        let listed = self.objects.list(Some(&folder)).try_collect::<Vec<_>>().await;
        let listed = listed.map_err(StoreError::objects(&folder))?;
        let parsed =
            listed.iter().filter_map(|meta| Tile::parse(prefix.relative(&meta.location)?.strip_prefix("_ledger/")?));
        let mut wanted: BTreeSet<(u8, u64, u16)> =
            tree.tiles.iter().map(|((level, index), hashes)| (*level, *index, hashes.len() as u16)).collect();
        wanted.extend(parsed.filter_map(|tile| match tile.kind {
            TileKind::Hashes(level) => Some((level, tile.index, tile.width)),
            TileKind::Entries => None,
        }));
        for (level, index, width) in wanted {
            let tile = Tile { kind: TileKind::Hashes(level), index, width };
            // Beyond the head stands what a stopped seal left; the next one writes it again.
            let hashes = tree.tiles.get(&(level, index)).and_then(|hashes| hashes.get(..usize::from(width)));
            let Some(hashes) = hashes else { continue };
            let path = prefix.tile(&tile);
            let expected: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
            let what = match segment::fetch(&self.objects, &path).await {
                Ok(bytes) if bytes == expected => continue,
                Ok(_) => "the tile does not hold the hashes that the entries give",
                Err(_) => "the tile is missing",
            };
            let shift = TILE_HEIGHT * u32::from(level);
            let range = tile.range();
            findings.push(Finding {
                entries: Some((range.start << shift, (range.end << shift) - 1)),
                sound: "the entries and the commits: a tile only saves work".into(),
                advice: "delete this tile: proofs recompute it from the entries",
                ..fault(&path, what)
            });
        }
        Ok(())
    }
}

/// What is said when more entries lack sections than redactions took them of.
fn more_redacted(found: u64, committed: u64) -> String {
    format!(
        "{found} entries lack sections that their leaves commit to, and the commits say of {committed} that they were \
         redacted: somebody erased what nobody recorded"
    )
}

/// A finding that puts the history in doubt.
fn fault(path: &Path, what: impl Into<String>) -> Finding {
    let (object, what) = (path.to_string(), what.into());
    Finding { object, entries: None, what, sound: String::new(), advice: RESTORE, is_fault: true, is_newer: false }
}

/// A finding that leaves every history sound.
fn note(path: &Path, what: impl Into<String>, advice: &'static str) -> Finding {
    Finding { advice, is_fault: false, ..fault(path, what) }
}

impl Finding {
    /// The same, as one that a newer program must judge.
    fn newer_if(self, newer: bool) -> Self {
        if newer { Self { is_newer: true, advice: UPGRADE, ..self } } else { self }
    }
}

/// An error with its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
