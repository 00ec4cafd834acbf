//! Reads a store from nothing but its objects and says, object by object, what holds and what does not.
//!
//! Chain, leaves, roots, tiles, Delta view, the store log, and objects that nothing names. It writes
//! nothing, takes no lock and trusts no cache, so it runs beside a service or on a copy. Not here: mending.
//!
//! Invariant: a stream is called sound only after every leaf of it was recomputed from its rows.

mod breaks;
mod store_log;
mod tree;

use crate::error::StoreError;
use crate::layout::{self, StreamPrefix};
use crate::objects_of::{list_numbers, list_streams};
use crate::segment;
use futures::TryStreamExt;
use ledger::checkpoint::StreamHead;
use ledger::key::VerifierKey;
use ledger::name::{LedgerName, Origin, StreamKind, TenantId};
use ledger::tile::{TILE_HEIGHT, Tile, TileKind};
use ledger::tree::Hash;
use ledger::verify::{ChainVerifier, LiveSegment};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use tree::{TreeFault, TreeWalk};

/// Something that does not hold, or that a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object, or the stream's folder when it is about no single object.
    pub object: String,
    /// Sequence numbers concerned, first and last.
    pub entries: Option<(u64, u64)>,
    /// What is wrong, in a person's words.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
    /// Whether the history itself is in doubt; otherwise only a cache or view, or something superfluous.
    pub is_fault: bool,
}

/// What was found of one stream.
#[derive(Debug, Clone)]
pub struct StreamReport {
    /// Whose.
    pub tenant: TenantId,
    /// Which stream.
    pub kind: StreamKind,
    /// The head that all leaves and commits give; of what is sound when something is not.
    pub head: StreamHead,
    /// How many commits hold.
    pub commits: u64,
    /// How many segments were read.
    pub segments: u64,
    /// What does not hold.
    pub findings: Vec<Finding>,
}

/// What was found of a store.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Stream by stream.
    pub streams: Vec<StreamReport>,
    /// What concerns the store as a whole.
    pub findings: Vec<Finding>,
}

impl Report {
    /// All findings.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().chain(self.streams.iter().flat_map(|stream| &stream.findings))
    }

    /// Whether every history holds.
    pub fn is_sound(&self) -> bool {
        !self.findings().any(|finding| finding.is_fault)
    }

    /// How many entries were recomputed.
    pub fn entries(&self) -> u64 {
        self.streams.iter().map(|stream| stream.head.size).sum()
    }
}

/// A check of a store or of one stream.
pub struct Fsck {
    /// The store's objects.
    pub objects: Arc<dyn ObjectStore>,
    /// The ledger's name.
    pub ledger: LedgerName,
    /// The ledger's public keys, under any name.
    pub keys: Vec<VerifierKey>,
    /// Heads that somebody kept earlier, their signatures checked: the streams must still agree with them.
    pub kept: Vec<StreamHead>,
}

const RESTORE: &str = "restore this object from a copy and check again; nothing was changed";
const REBUILD: &str = "a view only: it is written anew at the next commit or start";

impl Fsck {
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

    /// Checks one stream.
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
        self.chain(&prefix, &mut chain, &mut findings).await?;
        let live: Vec<LiveSegment> = chain.live().cloned().collect();
        let (commits, segments) = (chain.commits(), live.len() as u64);
        let kept = self.surviving(&prefix, &chain, &mut findings);
        let mut tree = TreeWalk::new(chain.clone(), (tenant.clone(), kind), kept);
        for held in &live {
            if let Err(finding) = self.segment(&prefix, held, &mut tree, progress).await {
                findings.push(finding);
                break;
            }
        }
        if let Some(size) = tree.disagrees {
            findings.push(Finding {
                object: prefix.path().to_string(),
                entries: Some((0, size - 1)),
                what: format!("the first {size} entries are not those of the head that was signed and kept"),
                advice: "this history was replaced after that head was given out; ask who holds the ledger's key",
                is_fault: true,
            });
        }
        if let Some((size, _)) = tree.kept.last_key_value() {
            findings.push(Finding {
                object: prefix.path().to_string(),
                entries: Some((tree.edge.size(), size - 1)),
                what: format!("a head of {size} entries was signed and kept, and only {} are sealed here", tree.edge.size()),
                advice: "seal what the service still holds and check again; if it holds no more, the stream was rolled back",
                is_fault: true,
            });
        }
        if findings.iter().all(|finding| !finding.is_fault) {
            self.tiles(&prefix, &tree, &mut findings).await?;
            self.views(&prefix, &chain, &mut findings).await?;
        }
        self.strangers(&prefix, &live, commits, &mut findings).await?;
        let edge = &tree.edge;
        let head = StreamHead { origin: chain.origin().into(), size: edge.size(), root: edge.root() };
        Ok(StreamReport { tenant: tenant.clone(), kind, head, commits, segments, findings })
    }

    async fn chain(
        &self,
        prefix: &StreamPrefix,
        chain: &mut ChainVerifier,
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
        let numbers = list_numbers(&self.objects, &prefix.commits(), |number| prefix.commit(number)).await?;
        let Some(last) = numbers.last() else { return Ok(()) };
        for number in 0..=*last {
            let path = prefix.commit(number);
            let wrong = match segment::fetch(&self.objects, &path).await {
                Ok(bytes) => chain.commit(&bytes).err().map(|fault| describe(&fault)),
                Err(_) => Some("the commit is missing, and later ones are there".into()),
            };
            if let Some(what) = wrong {
                findings.push(fault(&path, what));
                break;
            }
        }
        Ok(())
    }

    async fn segment(
        &self,
        prefix: &StreamPrefix,
        held: &LiveSegment,
        tree: &mut TreeWalk,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Finding> {
        let reference = &held.segment;
        let path = prefix.below(&reference.path);
        let entries = Some((reference.first, reference.end() - 1));
        let finding = |what: String| Finding { entries, ..fault(&path, what) };
        let bytes = segment::fetch(&self.objects, &path).await;
        let bytes = bytes.map_err(|_| finding("the segment is missing or cannot be read".into()))?;
        let is_as_committed = bytes.len() as u64 == reference.bytes && Hash::of(&bytes) == reference.sha256;
        // The hash of the file says *that* it was changed; the leaves say *where*.
        let read = tree.segment(&path, bytes, progress);
        match read {
            Ok(()) if is_as_committed => Ok(()),
            Ok(()) => Err(finding(format!(
                "the file differs from what commit {} recorded, though its entries are unchanged",
                held.added_by
            ))),
            Err(TreeFault::Fault(fault)) => Err(finding(describe(&fault))),
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
    async fn tiles(
        &self,
        prefix: &StreamPrefix,
        tree: &TreeWalk,
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
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
                advice: "the entries are sound; delete this tile, and proofs recompute it from them",
                ..fault(&path, what)
            });
        }
        Ok(())
    }

    async fn views(
        &self,
        prefix: &StreamPrefix,
        chain: &ChainVerifier,
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
        let versions = list_numbers(&self.objects, &prefix.views(), |number| prefix.delta(number)).await?;
        if let Some(ahead) = versions.into_iter().find(|version| *version >= chain.commits()) {
            // The commit comes first: a view without it means that the commit went, or that another engine
            // wrote here. A service that runs meanwhile has both.
            let path = prefix.commit(ahead);
            if matches!(self.objects.head(&path).await, Err(object_store::Error::NotFound { .. })) {
                findings.push(fault(&path, "the commit is missing, and the delta view shows it"));
            }
        }
        let mut shown = BTreeSet::new();
        for version in 0..chain.commits() {
            let path = prefix.delta(version);
            let Ok(bytes) = segment::fetch(&self.objects, &path).await else {
                let what = "the delta view lacks this version".into();
                findings.push(Finding {
                    object: path.to_string(),
                    entries: None,
                    what,
                    advice: REBUILD,
                    is_fault: false,
                });
                return Ok(());
            };
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let value: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
                if let Some(path) = value["add"]["path"].as_str() {
                    shown.insert(path.to_string());
                }
                if let Some(path) = value["remove"]["path"].as_str() {
                    shown.remove(path);
                }
            }
        }
        let live: BTreeSet<String> = chain.live().map(|held| held.segment.path.clone()).collect();
        if live != shown {
            let what = "the delta view does not show the segments that the commits name".into();
            let object = prefix.below("_delta_log").to_string();
            let advice =
                "other engines see something else than the ledger: delete _delta_log, and restart to rebuild it";
            findings.push(Finding { object, entries: None, what, advice, is_fault: true });
        }
        Ok(())
    }

    /// Objects that nothing names: what a stopped writer left behind, or what somebody put there.
    async fn strangers(
        &self,
        prefix: &StreamPrefix,
        live: &[LiveSegment],
        commits: u64,
        findings: &mut Vec<Finding>,
    ) -> Result<(), StoreError> {
        let named: BTreeSet<&str> = live.iter().map(|held| held.segment.path.as_str()).collect();
        let listed = self.objects.list(Some(prefix.path())).try_collect::<Vec<_>>().await;
        for meta in listed.map_err(StoreError::objects(prefix.path()))? {
            let Some(relative) = prefix.relative(&meta.location) else { continue };
            let ours = match relative.split_once('/') {
                Some(("_ledger", rest)) if rest.starts_with("commits/") => layout::number_of(&meta.location)
                    .filter(|number| prefix.commit(*number) == meta.location)
                    .is_some_and(|number| number < commits || !findings.is_empty()),
                Some(("_ledger", rest)) => Tile::parse(rest).is_some_and(|tile| tile.kind != TileKind::Entries),
                Some(("_delta_log", _)) => true,
                _ => named.contains(relative) || findings.iter().any(|finding| finding.is_fault),
            };
            if !ours {
                findings.push(Finding {
                    object: meta.location.to_string(),
                    entries: None,
                    what: "no commit names this object".into(),
                    advice: "a stopped writer leaves such; it may be deleted while the service does not run",
                    is_fault: false,
                });
            }
        }
        Ok(())
    }
}

/// A finding that puts the history in doubt.
fn fault(path: &Path, what: impl Into<String>) -> Finding {
    Finding { object: path.to_string(), entries: None, what: what.into(), advice: RESTORE, is_fault: true }
}

/// An error with its causes, in one line.
fn describe(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
