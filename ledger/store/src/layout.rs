//! Where things lie in a store. The only place that builds or reads an object's path (architecture §4.3).
//!
//! Not here: what the objects hold. Invariant: every path of a stream begins with its own prefix, so that a
//! handle rooted there can name nothing of another tenant.

use ledger::name::{LedgerName, Origin, StreamKind, TenantId};
use ledger::tile::Tile;
use ledger::tree::Hash;
use object_store::path::Path;

/// The folder of what is the store's own, of no tenant.
pub(crate) fn store_log() -> Path {
    Path::from("_store/log")
}

/// The folder of what jobs of the service keep for their next run.
pub(crate) fn memos() -> Path {
    Path::from("_store/memo")
}

/// One of them, by the SHA-256 of its bytes.
pub(crate) fn memo(sha256: &Hash) -> Path {
    memos().join(sha256.to_hex())
}

/// The SHA-256 that a memo is named by.
pub(crate) fn memo_hash(path: &Path) -> Option<Hash> {
    Hash::from_hex(path.filename()?).filter(|sha256| memo(sha256) == *path)
}

/// Where a store's format is stated.
pub(crate) fn format() -> Path {
    Path::from("_store/log/format")
}

/// Who may extend the store: the one write-ahead log that was first.
pub(crate) fn owners() -> Path {
    Path::from("_store/log/owner")
}

/// One record of who may extend the store.
pub(crate) fn owner(number: u64) -> Path {
    owners().join(twenty(number))
}

/// The folder of the keys that signed the store log.
pub(crate) fn keys() -> Path {
    Path::from("_store/log/key")
}

/// One record of a key.
pub(crate) fn key(number: u64) -> Path {
    keys().join(twenty(number))
}

/// The folder of writer epochs.
pub(crate) fn epochs() -> Path {
    Path::from("_store/log/epoch")
}

/// One writer epoch's record.
pub(crate) fn epoch(number: u64) -> Path {
    epochs().join(twenty(number))
}

/// The folder of the log's groups, where they are objects of the store.
pub(crate) fn log_objects() -> Path {
    Path::from("_store/log/wal")
}

/// One object of that log.
pub(crate) fn log_object(number: u64) -> Path {
    log_objects().join(twenty(number))
}

/// The folder of signed heads of the store log.
pub(crate) fn log_heads() -> Path {
    Path::from("_store/log/head")
}

/// A signed head of the store log and its right edge.
pub(crate) fn log_head(size: u64) -> Path {
    log_heads().join(twenty(size))
}

/// The folder of probes: beside `_store`, so that no check of the store takes one for a part of it.
pub(crate) fn probes() -> Path {
    Path::from("_probe")
}

/// One probe of a store.
pub(crate) fn probe(id: &[u8; 16]) -> Path {
    probes().join(format!("{:032x}", u128::from_be_bytes(*id)))
}

/// The folder, in another store, of the notes that keep the heads of one of a ledger's stores.
pub(crate) fn kept_heads_of(ledger: &LedgerName, store: &str) -> Path {
    Path::from(ledger.as_str()).join(store)
}

/// One note of a store's heads, in another store: by the store log's size, and a number where there are several.
pub(crate) fn kept_heads(ledger: &LedgerName, log: &Origin, size: u64, number: u64) -> Path {
    let store = log.as_str().split('/').nth(1).unwrap_or_default().trim_start_matches('_');
    kept_heads_of(ledger, store).join(format!("{}-{number}", twenty(size)))
}

/// A tile of the store log.
pub(crate) fn log_tile(tile: &Tile) -> Path {
    Path::from(format!("_store/log/{}", tile.path()))
}

/// The folder of a tenant's evidence bundles.
pub(crate) fn bundles(tenant: &TenantId) -> Path {
    Path::from(format!("tenant={tenant}/_bundles"))
}

/// Which bundle of a tenant an object belongs to, and its name there.
pub(crate) fn in_bundles<'p>(tenant: &TenantId, path: &'p Path) -> Option<(&'p str, &'p str)> {
    let below = path.as_ref().strip_prefix(bundles(tenant).as_ref())?.strip_prefix('/')?;
    below.split_once('/').filter(|(_, name)| !name.contains('/'))
}

/// The twenty digits under which numbered objects sort as numbers.
pub(crate) fn twenty(number: u64) -> String {
    format!("{number:020}")
}

/// The prefix of one tenant's stream and everything below it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StreamPrefix(Path);

impl StreamPrefix {
    /// The prefix of a stream; generations after the first have their own folder.
    pub(crate) fn new(tenant: &TenantId, kind: StreamKind) -> Self {
        Self(Path::from(format!("tenant={tenant}/stream={kind}")))
    }

    /// The prefix itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The folder of commits.
    pub(crate) fn commits(&self) -> Path {
        self.below("_ledger/commits")
    }

    /// One commit.
    pub(crate) fn commit(&self, number: u64) -> Path {
        self.below(&format!("_ledger/commits/{number:020}"))
    }

    /// Consecutive commits in one object. Below the folder of commits and behind all of them, so that one
    /// listing from some commit on shows both.
    pub(crate) fn pack(&self, first: u64, last: u64) -> Path {
        self.below(&format!("_ledger/commits/pack/{first:020}-{last:020}"))
    }

    /// What the chain comes to: a cache that makes opening quick.
    pub(crate) fn snapshot(&self) -> Path {
        self.below("_ledger/snapshot")
    }

    /// What a reader of the stream made of its entries: a cache of theirs.
    pub(crate) fn fold(&self) -> Path {
        self.below("_ledger/fold")
    }

    /// The folder of what purges kept.
    pub(crate) fn gone_folder(&self) -> Path {
        self.below("_ledger/gone")
    }

    /// One tile.
    pub(crate) fn tile(&self, tile: &Tile) -> Path {
        self.below(&format!("_ledger/{}", tile.path()))
    }

    /// The folder of the Delta view's log.
    pub(crate) fn views(&self) -> Path {
        self.below("_delta_log")
    }

    /// One entry of the Delta view's log.
    pub(crate) fn delta(&self, version: u64) -> Path {
        self.below(&format!("_delta_log/{version:020}.json"))
    }

    /// The Delta view's state at a version.
    pub(crate) fn delta_checkpoint(&self, version: u64) -> Path {
        self.below(&format!("_delta_log/{version:020}.checkpoint.parquet"))
    }

    /// The version of a checkpoint of the Delta view, from its path.
    pub(crate) fn checkpoint_version(&self, path: &Path) -> Option<u64> {
        let version = path.filename()?.strip_suffix(".checkpoint.parquet")?.parse().ok()?;
        (self.delta_checkpoint(version) == *path).then_some(version)
    }

    /// Which of the Delta view's checkpoints is the newest.
    pub(crate) fn delta_newest(&self) -> Path {
        self.below("_delta_log/_last_checkpoint")
    }

    /// A path relative to the stream, as commits name segments.
    pub(crate) fn below(&self, relative: &str) -> Path {
        Path::from(format!("{}/{relative}", self.0))
    }

    /// The part of a full path below this stream.
    pub(crate) fn relative<'p>(&self, path: &'p Path) -> Option<&'p str> {
        path.as_ref().strip_prefix(self.0.as_ref())?.strip_prefix('/')
    }
}

/// The name of a segment relative to its stream. Epoch and commit make it unique, so that what a dead
/// writer left behind is never overwritten and never mistaken for what its successor writes.
pub(crate) fn segment(recorded_at: i64, first: u64, epoch: u64, commit: u64) -> String {
    format!("{}/{first:020}-{epoch}-{commit}.parquet", ledger::time::month_of(recorded_at))
}

/// The name of a segment that took the place of several. A number that no other merge of this epoch has makes it
/// unique.
pub(crate) fn merged_segment(folder: &str, first: u64, epoch: u64, number: u64) -> String {
    format!("{folder}/{first:020}-{epoch}-m{number}.parquet")
}

/// Whether a segment's relative path is one of [`merged_segment`].
pub(crate) fn is_merged(relative: &str) -> bool {
    relative.rsplit_once('-').is_some_and(|(_, number)| number.starts_with('m'))
}

/// The folder and the writer's epoch in a segment's relative path; none for what no writer names so.
pub(crate) fn folder_and_epoch(relative: &str) -> Option<(&str, u64)> {
    let (folder, name) = relative.split_once('/')?;
    let (first, rest) = name.strip_suffix(".parquet")?.split_once('-')?;
    let (epoch, _) = rest.split_once('-')?;
    let is_month = folder.len() == 7 && folder.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let is_named = is_month && first.len() == 20 && first.bytes().all(|byte| byte.is_ascii_digit());
    is_named.then(|| Some((folder, epoch.parse().ok()?)))?
}

/// The first and last number of a pack of commits.
pub(crate) fn pack_range(path: &Path) -> Option<(u64, u64)> {
    let (first, last) = path.filename()?.split_once('-')?;
    let number = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok())?;
    Some((number(first)?, number(last)?))
}

/// The number in the last part of a numbered object's path.
pub(crate) fn number_of(path: &Path) -> Option<u64> {
    let name = path.filename()?;
    let digits = name.strip_suffix(".json").unwrap_or(name);
    let plain = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

/// The tenant and stream that a path's folders name.
pub(crate) fn stream_of(path: &Path) -> Option<(TenantId, StreamKind)> {
    let mut parts = path.as_ref().split('/');
    let tenant = parts.next()?.strip_prefix("tenant=")?.parse().ok()?;
    let kind = parts.next()?.strip_prefix("stream=")?.parse().ok()?;
    Some((tenant, kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::tile::TileKind;

    #[test]
    fn paths_are_as_the_design_draws_them_and_read_back() {
        let tenant: TenantId = "acme".parse().unwrap();
        let prefix = StreamPrefix::new(&tenant, StreamKind::Audit);
        assert_eq!(prefix.commit(7).as_ref(), "tenant=acme/stream=audit/_ledger/commits/00000000000000000007");
        assert_eq!(number_of(&prefix.commit(7)), Some(7));
        assert_eq!(number_of(&prefix.delta(12)), Some(12));
        assert_eq!(stream_of(&prefix.commit(7)), Some((tenant, StreamKind::Audit)));
        let tile = Tile { kind: TileKind::Hashes(1), index: 1_000, width: 3 };
        assert_eq!(prefix.tile(&tile).as_ref(), "tenant=acme/stream=audit/_ledger/tile/1/x001/000.p/3");
        assert_eq!(prefix.relative(&prefix.commit(1)), Some("_ledger/commits/00000000000000000001"));
        assert!(ledger::commit::is_segment_path(&segment(1_786_699_613_589_793, 5, 2, 9)));
        let (ledger, name) = ("example".parse().unwrap(), "main".parse().unwrap());
        let kept = kept_heads(&ledger, &Origin::store_log(&ledger, &name, 0), 17, 0);
        assert_eq!(kept.as_ref(), "example/main/00000000000000000017-0");
        assert_eq!(segment(1_786_699_613_589_793, 5, 2, 9), "2026-08/00000000000000000005-2-9.parquet");
        assert_eq!(folder_and_epoch(&segment(1_786_699_613_589_793, 5, 2, 9)), Some(("2026-08", 2)));
        let merged = merged_segment("2026-08", 5, 21, 0);
        assert_eq!(
            (merged.as_str(), folder_and_epoch(&merged)),
            ("2026-08/00000000000000000005-21-m0.parquet", Some(("2026-08", 21)))
        );
        for other in
            ["_ledger/snapshot", "2026-08/5-2-9.parquet", "2026-08/x", "other/00000000000000000005-2-9.parquet"]
        {
            assert_eq!(folder_and_epoch(other), None, "{other}");
        }
        let pack = prefix.pack(7, 1_006);
        assert_eq!(pack_range(&pack), Some((7, 1_006)));
        assert!(pack.as_ref().ends_with("_ledger/commits/pack/00000000000000000007-00000000000000001006"));
        assert!(pack > prefix.commit(u64::MAX) && number_of(&pack).is_none());
    }
}
