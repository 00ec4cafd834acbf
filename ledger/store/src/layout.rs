//! Where things lie in a store. The only place that builds or reads an object's path (architecture §4.3).
//!
//! Not here: what the objects hold. Invariant: every path of a stream begins with its own prefix, so that a
//! handle rooted there can name nothing of another tenant.

use ledger::name::{StreamKind, TenantId};
use ledger::tile::Tile;
use object_store::path::Path;

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

/// A tile of the store log.
pub(crate) fn log_tile(tile: &Tile) -> Path {
    Path::from(format!("_store/log/{}", tile.path()))
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

/// The number in the last part of a numbered object's path.
pub(crate) fn number_of(path: &Path) -> Option<u64> {
    let name = path.filename()?;
    let digits = name.strip_suffix(".json").unwrap_or(name);
    (digits.len() == 20).then(|| digits.parse().ok())?
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
        assert_eq!(segment(1_786_699_613_589_793, 5, 2, 9), "2026-08/00000000000000000005-2-9.parquet");
    }
}
