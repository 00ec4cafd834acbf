//! What was signed and kept elsewhere, against the store as it is now: who was rolled back, who was replaced.
//!
//! Not here: making the notes ([`crate::heads`]), recomputing the tree ([`super::tree`]).
//!
//! Invariants: a note is believed only when the ledger's own key signed it; a stream that is behind its note is named.

use super::tree::Seen;
use super::{Finding, Fsck, Report, fault};
use crate::error::StoreError;
use crate::layout::{self, StreamPrefix};
use crate::log_head;
use crate::objects_of::list_numbers;
use crate::segment;
use futures::{StreamExt, TryStreamExt, stream};
use ledger::checkpoint::StreamHead;
use ledger::heads::KeptHeads;
use ledger::key::VerifierKey;
use ledger::name::{LedgerName, Origin, StreamKind, TenantId};
use ledger::tile::{TILE_HASHES, Tile, TileKind};
use ledger::tree::{Edge, Hash};
use object_store::ObjectStore;
use object_store::path::Path;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many notes are read together.
const READS: usize = 32;

pub(super) const REPLACED: &str =
    "this history was replaced after that head was given out; ask who holds the ledger's key";
pub(super) const ROLLED_BACK: &str =
    "the stream was rolled back: bring back what is missing from a copy, and find out who could write here";

/// Heads by origin and size.
type Heads = BTreeMap<(String, u64), Hash>;

/// What a ledger's notes elsewhere say, their signatures checked.
#[derive(Debug, Default)]
pub struct Kept {
    /// How many notes were read.
    pub notes: u64,
    /// What is wrong with the notes themselves.
    pub findings: Vec<Finding>,
    durable: Heads,
    sealed: Heads,
    log: Heads,
    flushed: Heads,
}

/// Whether two origins are of one log, in whatever generations.
fn same_log(a: &str, b: &str) -> bool {
    let parsed = a.parse::<Origin>().ok().zip(b.parse::<Origin>().ok());
    parsed.is_some_and(|(a, b)| a.is_same_log(&b))
}

impl Kept {
    /// Reads every note of one of a ledger's stores that the other store holds.
    ///
    /// # Errors
    /// That store cannot be listed or read. Notes that do not hold are findings.
    pub async fn read(
        elsewhere: &Arc<dyn ObjectStore>,
        ledger: &LedgerName,
        store: &TenantId,
        keys: &[VerifierKey],
    ) -> Result<Self, StoreError> {
        let folder = layout::kept_heads_of(ledger, store.as_str());
        let listed: Vec<_> = elsewhere.list(Some(&folder)).try_collect().await.map_err(StoreError::objects(&folder))?;
        let read = stream::iter(listed).map(|meta| async move {
            let bytes = segment::fetch(elsewhere, &meta.location).await?;
            Ok::<_, StoreError>((meta.location, bytes))
        });
        let notes: Vec<_> = read.buffer_unordered(READS).try_collect().await?;
        let mut kept = Self::default();
        for (path, bytes) in notes {
            match KeptHeads::open(&bytes, keys) {
                Ok(note) => kept.add(&path, note),
                Err(error) => kept.findings.push(Finding {
                    advice: "find out who wrote this note; what it says was not used",
                    ..fault(&path, super::describe(&error))
                }),
            }
        }
        Ok(kept)
    }

    fn add(&mut self, path: &Path, note: KeptHeads) {
        self.notes += 1;
        let flushed = note.flushed.map(|(size, root)| StreamHead { origin: note.log.origin.clone(), size, root });
        let all = [
            (&mut self.durable, note.durable),
            (&mut self.sealed, note.sealed),
            (&mut self.log, vec![note.log]),
            (&mut self.flushed, flushed.into_iter().collect()),
        ];
        for (heads, found) in all {
            for StreamHead { origin, size, root } in found {
                let what = format!("of {origin} two heads of {size} entries were signed, and they differ");
                if heads.insert((origin, size), root).is_some_and(|before| before != root) {
                    self.findings.push(Finding { advice: REPLACED, ..fault(path, what) });
                }
            }
        }
    }

    /// Tells a check what must be sealed and what was durable.
    pub fn tell(&self, fsck: &mut Fsck) {
        let heads = |heads: &Heads| -> Vec<StreamHead> {
            let each = heads.iter().filter(|((_, size), _)| *size > 0);
            each.map(|((origin, size), root)| StreamHead { origin: origin.clone(), size: *size, root: *root }).collect()
        };
        fsck.kept.extend(heads(&self.sealed));
        fsck.durable.extend(heads(&self.durable));
    }

    /// Streams that were kept and are not in the report at all, of those that were wanted.
    pub fn missing(&self, report: &Report, wanted: impl Fn(&TenantId, StreamKind) -> bool) -> Vec<Finding> {
        // Sizes ascend, so that the largest of an origin stays.
        let largest: BTreeMap<&str, u64> = self.sealed.keys().map(|(origin, size)| (origin.as_str(), *size)).collect();
        let gone = largest.into_iter().filter(|(origin, size)| {
            let mut parts = origin.split('/').skip(1);
            let tenant = parts.next().and_then(|tenant| tenant.parse().ok());
            let kind = parts.next().and_then(|kind| kind.parse().ok());
            let is_wanted = tenant.zip(kind).is_some_and(|(tenant, kind)| wanted(&tenant, kind));
            *size > 0 && is_wanted && !report.streams.iter().any(|stream| same_log(&stream.head.origin, origin))
        });
        let finding = |(origin, size): (&str, u64)| Finding {
            object: origin.into(),
            entries: Some((0, size - 1)),
            advice: ROLLED_BACK,
            sound: "the streams that are here are checked for themselves".into(),
            ..fault(
                &Path::default(),
                format!("{size} entries of this stream were sealed when its head was kept, and nothing of it is here"),
            )
        };
        gone.map(finding).collect()
    }
}

/// A stream's entries, as they were recomputed, against what was kept of it; `were_sealed` of them were in segments then.
pub(super) fn against_kept(prefix: &StreamPrefix, were_sealed: u64, tree: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sealed = tree.edge.size();
    let about = |entries, what: String, sound: String, advice| Finding {
        entries: Some(entries),
        sound,
        advice,
        ..fault(prefix.path(), what)
    };
    if let Some(size) = tree.disagrees {
        let what = format!("the first {size} entries are not those of the head that was signed and kept");
        let sound = "what is here fits together and is signed, but it is another history".into();
        findings.push(about((0, size - 1), what, sound, REPLACED));
    }
    if let Some(size) = tree.beyond_check.last() {
        let count = tree.beyond_check.len();
        let what = format!("{count} heads that were kept, the last of {size} entries, lie inside of what was purged");
        let advice = "they could be checked until the purge; keep a newer head in their place";
        let sound = "every head that a commit signed still is checked".into();
        findings.push(Finding { is_fault: false, ..about((0, size - 1), what, sound, advice) });
    }
    if were_sealed > sealed {
        let what = format!("a head of {were_sealed} entries was signed and kept, and only {sealed} are sealed here");
        let advice =
            "seal what the service still holds and check again; if it holds no more, the stream was rolled back";
        let sound = format!("the {sealed} entries that are here hold");
        findings.push(about((sealed, were_sealed - 1), what, sound, advice));
    } else if let Some((size, _)) = tree.kept.last_key_value() {
        let what = format!("{size} entries were durable when a head was kept, and {sealed} are sealed here");
        let advice = "the others are in the service's write-ahead log: seal, and check again";
        let sound = format!("the {sealed} entries that are here hold");
        findings.push(Finding { is_fault: false, ..about((sealed, size - 1), what, sound, advice) });
    }
    findings
}

impl Fsck {
    /// The store log's tiles against what was kept of it. Streams that were copied without a store log have none.
    ///
    /// # Errors
    /// The store cannot be listed.
    pub async fn log_against(&self, kept: &Kept) -> Result<Vec<Finding>, StoreError> {
        let Ok(format) = segment::fetch(&self.objects, &layout::format()).await else { return Ok(vec![]) };
        let format = String::from_utf8_lossy(&format);
        let Some(origin) = format.lines().nth(1).and_then(|line| line.strip_prefix("origin ")) else {
            return Ok(vec![]);
        };
        let flushed = list_numbers(&self.objects, &layout::log_heads(), layout::log_head).await?;
        let flushed = flushed.last().copied().unwrap_or_default();
        // What was flushed stays through every generation; what was only durable, in its own.
        let owners = list_numbers(&self.objects, &layout::owners(), layout::owner).await?;
        let owner = match owners.last() {
            Some(number) => log_head::read_owner(&segment::fetch(&self.objects, &layout::owner(*number)).await?),
            None => None,
        };
        let present = origin.parse::<Origin>()?.at_generation(owner.map_or(0, |owner| owner.generation));
        let of_this = |heads: &Heads, is_its: &dyn Fn(&str) -> bool| -> BTreeMap<u64, Hash> {
            let own = heads.iter().filter(|((of, size), _)| is_its(of) && *size > 0);
            own.map(|((_, size), root)| (*size, *root)).collect()
        };
        let mut heads = of_this(&kept.flushed, &|of| same_log(of, origin));
        let were_flushed = heads.last_key_value().map_or(0, |(size, _)| *size);
        heads.extend(of_this(&kept.log, &|of| of == present.as_str()));
        let folder = layout::log_heads();
        if were_flushed > flushed {
            let what =
                format!("{were_flushed} groups of the store log were here when its head was kept, and now {flushed}");
            let advice = "the store log was rolled back: bring back what is missing from a copy";
            return Ok(vec![Finding { advice, ..fault(&folder, what) }]);
        }
        heads.retain(|size, _| *size <= flushed);
        let Some(size) = heads.last_key_value().map(|(size, _)| *size) else { return Ok(vec![]) };
        Ok(self.log_roots(size, flushed, &heads).await.into_iter().collect())
    }

    /// Recomputes the store log's roots up to `size`; the first that is not as it was kept.
    async fn log_roots(&self, size: u64, flushed: u64, heads: &BTreeMap<u64, Hash>) -> Option<Finding> {
        let mut edge = Edge::default();
        for index in 0..size.div_ceil(TILE_HASHES) {
            let width = (flushed - index * TILE_HASHES).min(TILE_HASHES) as u16;
            let path = layout::log_tile(&Tile { kind: TileKind::Hashes(0), index, width });
            let Ok(bytes) = segment::fetch(&self.objects, &path).await else {
                return Some(fault(&path, "it is missing or cannot be read"));
            };
            for leaf in bytes.chunks_exact(32) {
                edge.push(leaf.try_into().map_or(Hash([0; 32]), Hash));
                if heads.get(&edge.size()).is_some_and(|root| *root != edge.root()) {
                    let what = format!("the first {} groups are not those of the head that was kept", edge.size());
                    return Some(Finding { advice: REPLACED, ..fault(&path, what) });
                }
            }
        }
        None
    }
}
