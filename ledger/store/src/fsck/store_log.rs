//! The store log and the records beside it: signed heads, the tiles that must lead to them, format, owner, epochs.
//!
//! Not here: streams ([`crate::fsck`]). Invariant: each level-0 tile is read once, and each signed head is
//! compared with what the tiles give.

use super::{Finding, Fsck, fault};
use crate::error::StoreError;
use crate::layout;
use crate::log_head::{self, HeadFault};
use crate::segment;
use futures::TryStreamExt;
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
    keys: BTreeSet<u64>,
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
            let numbered = [
                (layout::epoch(number), &mut self.epochs),
                (layout::key(number), &mut self.keys),
                (layout::owner(number), &mut self.owners),
            ];
            if let Some((_, numbers)) = numbered.into_iter().find(|(named, _)| *named == path) {
                numbers.insert(number);
                return;
            }
        }
        let tile = path.as_ref().strip_prefix("_store/log/").and_then(Tile::parse);
        match tile.filter(|tile| tile.kind == TileKind::Hashes(0)) {
            Some(tile) => self.tiles.entry(tile.index).or_default().push(tile),
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
        if let Some(key) = self.log_key(&listed, &mut findings).await {
            let heads = self.heads(&listed, &key, &mut findings).await;
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

    /// The trusted key that the newest record names, under the origin that the store's format names.
    async fn log_key(&self, listed: &Listed, findings: &mut Vec<Finding>) -> Option<VerifierKey> {
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
        if let Some(later) = listed.keys.last().filter(|number| **number > 1) {
            let what = "the store's key was rotated, of which this program knows nothing";
            findings.push(fault(&layout::key(*later), what).newer_if(true));
            return None;
        }
        let path = layout::key(1);
        let bytes = self.read(&path, findings).await?;
        let mut trusted = self.keys.iter().map(|key| key.under(origin.as_str()));
        let key = trusted.find(|key| log_head::key_text(key).as_bytes() == bytes);
        if key.is_none() && log_head::newer_record(&bytes, "piperoll-log-key/v1\nkey").is_some() {
            findings.push(fault(&path, "the record is of a newer format than this program reads").newer_if(true));
        } else if key.is_none() {
            findings.push(fault(&path, "it does not name one of the trusted keys"));
            if !String::from_utf8_lossy(&bytes).contains(&format!("key {origin}+")) {
                findings.push(fault(&layout::format(), "it names another log than the key's record does"));
            }
        }
        key
    }

    /// The signed heads that hold, by size.
    async fn heads(&self, listed: &Listed, key: &VerifierKey, findings: &mut Vec<Finding>) -> BTreeMap<u64, Hash> {
        let mut heads = BTreeMap::new();
        for size in &listed.heads {
            let path = layout::log_head(*size);
            let Some(bytes) = self.read(&path, findings).await else { continue };
            let Ok(newest) = key.name().parse::<Origin>().map(|origin| origin.at_generation(u32::MAX)) else {
                continue;
            };
            match log_head::read_head_until(&bytes, *size, &newest, |origin| key.under(origin.as_str())) {
                Ok(edge) => drop(heads.insert(*size, edge.root())),
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
