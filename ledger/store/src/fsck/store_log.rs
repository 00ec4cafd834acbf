//! The store log and the records beside it: signed heads, the tiles that must lead to them, format, owner, epochs.
//!
//! Not here: streams ([`crate::fsck`]). Invariant: each level-0 tile is read once, and each signed head is
//! compared with what the tiles give.

use super::{Finding, Fsck, fault};
use crate::error::StoreError;
use crate::layout;
use crate::log_head::{self, HeadFault};
use crate::segment;
use crate::signing;
use futures::TryStreamExt;
use ledger::handover::KeyHistory;
use ledger::key::VerifierKey;
use ledger::name::Origin;
use ledger::tile::{TILE_HASHES, Tile, TileKind};
use ledger::tree::{Edge, Hash};
use object_store::path::Path;
use std::collections::{BTreeMap, BTreeSet};

/// What lies in the store log's folder.
#[derive(Default)]
struct Listed {
    heads: BTreeSet<u64>,
    epochs: BTreeSet<u64>,
    owners: BTreeSet<u64>,
    tiles: BTreeMap<u64, Vec<Tile>>,
    strangers: Vec<Path>,
}

impl Listed {
    fn put(&mut self, path: Path) {
        if let Some(number) = layout::number_of(&path) {
            if path == layout::log_head(number) {
                self.heads.insert(number);
                return;
            }
            let numbered = [(layout::epoch(number), &mut self.epochs), (layout::owner(number), &mut self.owners)];
            if let Some((_, numbers)) = numbered.into_iter().find(|(named, _)| *named == path) {
                numbers.insert(number);
                return;
            }
        }
        let tile = path.as_ref().strip_prefix("_store/log/").and_then(Tile::parse);
        match tile.filter(|tile| tile.kind == TileKind::Hashes(0)) {
            Some(tile) => self.tiles.entry(tile.index).or_default().push(tile),
            None if layout::number_of(&path).is_some_and(|number| path == layout::key(number)) => {}
            None if path == layout::format() || layout::memo_hash(&path).is_some() => {}
            // Groups that are not sealed yet: a start reads them, and checks each head that they name.
            None if layout::number_of(&path).is_some_and(|number| path == layout::log_object(number)) => {}
            None => self.strangers.push(path),
        }
    }
}

impl Fsck {
    /// Checks everything below `_store`. Streams that were copied without it have none, which is said.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub(super) async fn store_log(&self) -> Result<Vec<Finding>, StoreError> {
        let folder = Path::from("_store");
        let all: Vec<_> = self.objects.list(Some(&folder)).try_collect().await.map_err(StoreError::objects(&folder))?;
        let mut findings = Vec::new();
        if all.is_empty() {
            let what = "there is no store log here: heads of the streams are compared with nothing";
            let advice = "as it should be for streams that were copied; a whole store has one";
            findings.push(Finding { advice, is_fault: false, ..fault(&folder, what) });
            return Ok(findings);
        }
        let mut listed = Listed::default();
        all.into_iter().for_each(|meta| listed.put(meta.location));
        for path in &listed.strangers {
            let advice = "nothing of Piperoll is called so; find out who put it there";
            findings.push(Finding { advice, is_fault: false, ..fault(path, "nothing names this object") });
        }
        self.records(&listed, &mut findings).await;
        if let Some(keys) = self.log_keys(&mut findings).await? {
            let heads = self.heads(&listed, &keys, &mut findings).await;
            self.log_tiles(&listed, &heads, &mut findings).await;
        }
        Ok(findings)
    }

    async fn read(&self, path: &Path, findings: &mut Vec<Finding>) -> Option<Vec<u8>> {
        match segment::fetch(&self.objects, path).await {
            Ok(bytes) => Some(bytes.to_vec()),
            Err(_) => {
                findings.push(fault(path, "it is missing or cannot be read"));
                None
            }
        }
    }

    async fn records(&self, listed: &Listed, findings: &mut Vec<Finding>) {
        for epoch in &listed.epochs {
            let path = layout::epoch(*epoch);
            let Some(bytes) = self.read(&path, findings).await else { continue };
            let ours = log_head::epoch_text(*epoch);
            if bytes != ours.as_bytes() {
                let newer = log_head::newer_record(&bytes, &ours).is_some();
                findings.push(fault(&path, "it is not the record of this epoch").newer_if(newer));
            }
        }
        let newest = listed.owners.last().copied().unwrap_or(1);
        for owner in listed.owners.iter().copied().filter(|number| *number != newest).chain([newest]) {
            let path = layout::owner(owner);
            let Some(bytes) = self.read(&path, findings).await else { continue };
            if log_head::read_owner(&bytes).is_none() {
                let newer = log_head::newer_record(&bytes, log_head::OWNER_FORM).is_some();
                findings.push(fault(&path, "it does not name the log that may extend this store").newer_if(newer));
            }
        }
    }

    /// The keys that the records name, oldest first, when one of them is trusted: under the origin that the store's format
    /// names.
    async fn log_keys(&self, findings: &mut Vec<Finding>) -> Result<Option<Vec<VerifierKey>>, StoreError> {
        let Some(origin) = self.log_origin(findings).await else { return Ok(None) };
        let known = match signing::read(&self.objects, &origin).await {
            Ok(Some(known)) => known,
            Ok(None) => {
                findings.push(fault(&layout::key(1), "it is missing"));
                return Ok(None);
            }
            Err(StoreError::Newer { object, what }) => {
                findings.push(fault(&Path::from(object), what).newer_if(true));
                return Ok(None);
            }
            Err(StoreError::Damaged { path, why }) => {
                let path = Path::from(path);
                findings.push(fault(&path, why));
                // Of two that disagree either may be the one that was changed.
                let first = self.read(&layout::key(1), findings).await.unwrap_or_default();
                if !String::from_utf8_lossy(&first).contains(&format!("key {origin}+")) {
                    findings.push(fault(&layout::format(), "it and the first key's record do not name the same log"));
                }
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let is_trusted = |key: &VerifierKey| self.keys.iter().any(|given| given.under(key.name()) == *key);
        let keys = known.history.keys();
        if !keys.iter().any(is_trusted) {
            findings.push(fault(
                &layout::key(keys.len() as u64),
                "neither it nor a record before it names one of the trusted keys",
            ));
            return Ok(None);
        }
        Ok(Some(keys.to_vec()))
    }

    /// The origin of the store log, as the store's format names it.
    async fn log_origin(&self, findings: &mut Vec<Finding>) -> Option<Origin> {
        let path = layout::format();
        let bytes = self.read(&path, findings).await?;
        let text = String::from_utf8_lossy(&bytes);
        let origin = text.lines().nth(1).and_then(|line| line.strip_prefix("origin ")).and_then(|origin| {
            let name = origin.split('/').nth(1)?.strip_prefix('_')?.parse().ok()?;
            Some(Origin::store_log(&self.ledger, &name, 0)).filter(|built| built.as_str() == origin)
        });
        if log_head::newer_record(&bytes, &log_head::format_text("")).is_some() {
            findings.push(fault(&path, "the store is of a newer format than this program reads").newer_if(true));
            return None;
        }
        let Some(origin) = origin.filter(|origin| log_head::format_text(origin.as_str()) == text) else {
            findings.push(fault(&path, "it does not name this format and ledger"));
            return None;
        };
        Some(origin)
    }

    /// The signed heads that hold, by size.
    async fn heads(&self, listed: &Listed, keys: &[VerifierKey], findings: &mut Vec<Finding>) -> BTreeMap<u64, Hash> {
        let (mut heads, mut last) = (BTreeMap::new(), None::<VerifierKey>);
        let under = |origin: &Origin| keys.iter().map(|key| key.under(origin.as_str())).collect();
        for size in &listed.heads {
            let path = layout::log_head(*size);
            let Some(bytes) = self.read(&path, findings).await else { continue };
            let first = keys.first().and_then(|key| key.name().parse::<Origin>().ok());
            let Some(newest) = first.map(|origin| origin.at_generation(u32::MAX)) else { continue };
            match log_head::read_head_until(&bytes, *size, &newest, under) {
                Ok((_, signer)) if last.as_ref().is_some_and(|last| KeyHistory::goes_back(keys, last, &signer)) => {
                    findings.push(fault(&path, "it is signed by a key that another had taken the place of"));
                }
                Ok((edge, signer)) => {
                    heads.insert(*size, edge.root());
                    last = Some(signer);
                }
                Err(why) => findings.push(fault(&path, why.to_string()).newer_if(why == HeadFault::Newer)),
            }
        }
        heads
    }

    /// Reads the tiles up to the largest head, in order, and compares each head with what they give.
    async fn log_tiles(&self, listed: &Listed, heads: &BTreeMap<u64, Hash>, findings: &mut Vec<Finding>) {
        let size = heads.last_key_value().map_or(0, |(size, _)| *size);
        let mut edge = Edge::default();
        let mut sound = 0;
        for index in 0..size.div_ceil(TILE_HASHES) {
            let width = (size - index * TILE_HASHES).min(TILE_HASHES) as u16;
            let tile = Tile { kind: TileKind::Hashes(0), index, width };
            let path = layout::log_tile(&tile);
            let Some(bytes) = self.read(&path, findings).await else { return };
            if bytes.len() != 32 * usize::from(width) {
                findings.push(fault(&path, "the tile is not of its width"));
                return;
            }
            for leaf in bytes.chunks_exact(32) {
                edge.push(leaf.try_into().map_or(Hash([0; 32]), Hash));
                let Some(root) = heads.get(&edge.size()) else { continue };
                if *root != edge.root() {
                    let what = format!("groups from {sound} to {} do not give the signed head", edge.size() - 1);
                    findings.push(fault(&path, what));
                    return;
                }
                sound = edge.size();
            }
            for older in listed.tiles.get(&index).into_iter().flatten().filter(|older| older.width < width) {
                let path = layout::log_tile(older);
                let read = self.read(&path, findings).await;
                if read.is_some_and(|read| read != bytes[..32 * usize::from(older.width)]) {
                    findings.push(fault(&path, "the tile does not hold what the one that replaced it holds"));
                }
            }
        }
    }
}
