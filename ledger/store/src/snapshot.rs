//! What a stream's chain comes to after some commit, in one object: opening reads it and the commits after it.
//!
//! A cache, overwritten as the chain grows, and signed by the ledger's key so that the writer may rely on it. Where
//! it is missing, damaged or not signed, the chain itself is read. No verifier believes it. FORMAT.md §8.
//!
//! Not here: the chain ([`crate::commits`]), snapshots that readers get ([`crate::stream::Snapshot`]).
//! Invariant: it never says more than the commits that it covers.

use crate::error::StoreError;
use crate::layout::StreamPrefix;
use crate::segment::{self, Segment, Statistics};
use crate::store::Shared;
use crate::stream::{Sealed, Stream};
use crate::turn::{Removed, Turn};
use ledger::commit::{SegmentRef, is_segment_path};
use ledger::gone::GoneRef;
use ledger::key::VerifierKey;
use ledger::name::Origin;
use ledger::note::Note;
use ledger::tree::{Edge, Hash};
use ledger::verify::ChainState;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

const TAG: &str = "piperoll-snapshot/v1";

/// What a snapshot says.
#[derive(Debug, Clone)]
pub(crate) struct ChainSnapshot {
    pub chain: ChainState,
    /// The statistics of the live segments, in their order.
    pub statistics: Vec<Statistics>,
    /// Segments that commits removed and whose files were there.
    pub removed: Vec<Removed>,
    /// Commits below this number are in packs.
    pub packed: u64,
    /// The version of the Delta view's newest checkpoint.
    pub checkpoint: Option<u64>,
}

impl ChainSnapshot {
    fn body(&self) -> String {
        let mut out = String::new();
        for (segment, statistics) in self.chain.live.iter().zip(&self.statistics) {
            let SegmentRef { path, first, span, rows, bytes, sha256, root } = segment;
            let _ = write!(out, "segment {path} {first} {span} {rows} {bytes} {sha256} {root} ");
            let _ = writeln!(out, "{}", to_json(statistics));
        }
        for removed in &self.removed {
            let word = if removed.is_erased { "purged" } else { "removed" };
            let _ = writeln!(out, "{word} {} {}", removed.path, removed.at);
        }
        out
    }

    /// Its bytes: a note that names the hash of what follows it, signed under the stream's first origin.
    pub(crate) fn sign(&self, first: &str, key: &ledger::LedgerKey) -> Vec<u8> {
        let (chain, body) = (&self.chain, self.body());
        let last = chain.last_hash.map_or("-".into(), |hash| hash.to_base64());
        let checkpoint = self.checkpoint.map_or("-".into(), |version| version.to_string());
        let mut text = format!(
            "{TAG}\norigin {}\ncommits {}\nlast {last}\nepoch {}\npacked {}\nview {checkpoint}\nhead {} {}\n",
            chain.origin,
            chain.commits,
            chain.epoch,
            self.packed,
            chain.edge.size(),
            chain.edge.root()
        );
        for node in chain.edge.nodes() {
            let _ = writeln!(text, "edge {node}");
        }
        if let Some(GoneRef { commit, epoch, sha256, bytes, entries, newest }) = &chain.gone {
            let _ = writeln!(text, "gone {commit} {epoch} {sha256} {bytes} {entries} {newest}");
        }
        if chain.redacted > 0 {
            let _ = writeln!(text, "redacted {}", chain.redacted);
        }
        let _ = writeln!(text, "body {} {}", body.len(), Hash::of(body.as_bytes()));
        let mut bytes = ledger::note::sign(&text, first, &[key]).into_bytes();
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }

    /// Reads what [`ChainSnapshot::sign`] wrote; what is wrong with it otherwise.
    pub(crate) fn open(bytes: &[u8], trusted: &[VerifierKey]) -> Result<Self, &'static str> {
        let malformed = "it is not in its form";
        let note_end = end_of_note(bytes).ok_or(malformed)?;
        let (note, body) = bytes.split_at(note_end);
        let note = Note::parse(note).and_then(|note| note.verify(trusted));
        let note = note.map_err(|_| "it is not signed by this ledger's key")?;
        let body = std::str::from_utf8(body).map_err(|_| malformed)?;
        let snapshot = Self::parse(note.text(), body).ok_or(malformed)?;
        let stated = note.text().lines().last().unwrap_or_default();
        if stated != format!("body {} {}", body.len(), Hash::of(body.as_bytes())) {
            return Err("what follows the signed text is not what was signed");
        }
        let first = note.signers().first().and_then(|key| key.name().parse::<Origin>().ok());
        let origin = snapshot.chain.origin.parse::<Origin>();
        if !origin.is_ok_and(|origin| first.is_some_and(|first| origin.is_same_log(&first))) {
            return Err("it is of another stream");
        }
        Ok(snapshot)
    }

    fn parse(text: &str, body: &str) -> Option<Self> {
        let mut lines = text.lines();
        (lines.next() == Some(TAG)).then_some(())?;
        let mut valued = |word: &str| lines.next()?.strip_prefix(word)?.strip_prefix(' ');
        let origin = valued("origin")?.to_string();
        let commits = valued("commits")?.parse().ok()?;
        let last = valued("last")?;
        let last_hash = if last == "-" { None } else { Some(Hash::from_base64(last)?) };
        let epoch = valued("epoch")?.parse().ok()?;
        let packed = valued("packed")?.parse().ok()?;
        let view = valued("view")?;
        let checkpoint = if view == "-" { None } else { Some(view.parse().ok()?) };
        let (size, root) = valued("head")?.split_once(' ')?;
        let gone = match lines.clone().find_map(|line| line.strip_prefix("gone ")) {
            Some(gone) => Some(read_gone(gone)?),
            None => None,
        };
        let redacted = match lines.clone().find_map(|line| line.strip_prefix("redacted ")) {
            Some(count) => count.parse().ok()?,
            None => 0,
        };
        let nodes = lines.filter_map(|line| line.strip_prefix("edge ")).map(Hash::from_base64);
        let edge = Edge::from_parts(size.parse().ok()?, nodes.collect::<Option<_>>()?).ok()?;
        (edge.root() == Hash::from_base64(root)?).then_some(())?;
        let (mut live, mut statistics, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for line in body.lines() {
            let mut words = line.splitn(9, ' ');
            match words.next()? {
                "segment" => {
                    live.push(SegmentRef {
                        path: words.next().filter(|path| is_segment_path(path))?.into(),
                        first: words.next()?.parse().ok()?,
                        span: words.next()?.parse().ok()?,
                        rows: words.next()?.parse().ok()?,
                        bytes: words.next()?.parse().ok()?,
                        sha256: Hash::from_base64(words.next()?)?,
                        root: Hash::from_base64(words.next()?)?,
                    });
                    statistics.push(from_json(&serde_json::from_str(words.next()?).ok()?));
                }
                word @ ("removed" | "purged") => {
                    let path = words.next().filter(|path| is_segment_path(path))?.into();
                    let (at, is_erased) = (words.next()?.parse().ok()?, word == "purged");
                    removed.push(Removed { path, at, is_erased, holders: vec![] });
                }
                _ => return None,
            }
        }
        let chain = ChainState { origin, commits, last_hash, epoch, edge, gone, redacted, live };
        Some(Self { chain, statistics, removed, packed, checkpoint })
    }
}

fn read_gone(line: &str) -> Option<GoneRef> {
    let [commit, epoch, sha256, bytes, entries, newest] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
    Some(GoneRef {
        commit: commit.parse().ok()?,
        epoch: epoch.parse().ok()?,
        sha256: Hash::from_base64(sha256)?,
        bytes: bytes.parse().ok()?,
        entries: entries.parse().ok()?,
        newest: newest.parse().ok()?,
    })
}

/// Where the signed note at the front ends: after the lines that follow its empty line and begin as signatures do.
fn end_of_note(bytes: &[u8]) -> Option<usize> {
    let mut at = bytes.windows(2).position(|pair| pair == b"\n\n")? + 2;
    while bytes[at..].starts_with("\u{2014} ".as_bytes()) {
        at += bytes[at..].iter().position(|byte| *byte == b'\n')? + 1;
    }
    Some(at)
}

fn to_json(statistics: &Statistics) -> Value {
    let Statistics { occurred_at, recorded_at, action, outcome, release, region, key } = statistics;
    let mut value = json!({"occurred_at": occurred_at, "recorded_at": recorded_at, "action": action, "outcome": outcome,
        "release": release, "region": region});
    if let Some(key) = key {
        value["key"] = key.as_str().into();
    }
    value
}

fn from_json(value: &Value) -> Statistics {
    let times = |name: &str| Some((value[name][0].as_i64()?, value[name][1].as_i64()?));
    let texts = |name: &str| Some((value[name][0].as_str()?.to_string(), value[name][1].as_str()?.to_string()));
    Statistics {
        occurred_at: times("occurred_at"),
        recorded_at: times("recorded_at"),
        action: texts("action"),
        outcome: texts("outcome"),
        release: texts("release"),
        region: texts("region"),
        key: value["key"].as_str().and_then(|key| key.parse().ok()),
    }
}

/// What is known of a stream now, as a snapshot.
fn of(stream: &Stream, sealed: &Sealed, turn: &Turn) -> ChainSnapshot {
    let chain = ChainState {
        origin: stream.origin.at_generation(sealed.generation).to_string(),
        commits: sealed.commits,
        last_hash: sealed.last_commit,
        epoch: sealed.epoch,
        edge: sealed.edge.clone(),
        gone: sealed.gone.as_ref().map(|gone| gone.reference.clone()),
        redacted: sealed.redacted,
        live: sealed.segments.iter().map(|segment| segment.reference.clone()).collect(),
    };
    let statistics = sealed.segments.iter().map(|segment| segment.statistics.clone()).collect();
    let (removed, packed, checkpoint) = (turn.removed.clone(), turn.packed, turn.checkpoint);
    ChainSnapshot { chain, statistics, removed, packed, checkpoint }
}

/// Writes the snapshot of a stream as it is now, in the place of an older one. Died during it: the older one or
/// none is there, and opening reads more commits.
///
/// # Errors
/// The object store failed.
pub(crate) async fn write(shared: &Shared, stream: &Stream) -> Result<(), StoreError> {
    let mut turn = stream.turn.lock().await;
    let sealed = stream.view().sealed;
    let bytes =
        of(stream, &sealed, &turn).sign(stream.origin.at_generation(0).as_str(), shared.signing.now().current());
    let path = stream.prefix.snapshot();
    shared.objects.put(&path, bytes.into()).await.map_err(StoreError::objects(&path))?;
    turn.noted = sealed.commits;
    Ok(())
}

/// The stored snapshot of a stream, if there is one that may be relied on.
pub(crate) async fn read(
    objects: &Arc<dyn ObjectStore>,
    prefix: &StreamPrefix,
    trusted: &[VerifierKey],
) -> Result<Option<ChainSnapshot>, StoreError> {
    let path = prefix.snapshot();
    let Some(bytes) = segment::fetch_if_there(objects, &path).await? else { return Ok(None) };
    match ChainSnapshot::open(&bytes, trusted) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(why) => {
            tracing::warn!(object = path.as_ref(), why, "a snapshot is not used; the chain is read instead");
            Ok(None)
        }
    }
}

/// The live segments of a snapshot as readers find them.
pub(crate) fn segments(
    prefix: &StreamPrefix,
    references: impl IntoIterator<Item = SegmentRef>,
    mut statistics: impl FnMut(&SegmentRef) -> Option<Statistics>,
) -> Vec<Arc<Segment>> {
    let segment = |reference: SegmentRef| {
        let (location, statistics) = (prefix.below(&reference.path), statistics(&reference).unwrap_or_default());
        Arc::new(Segment { reference, location, statistics })
    };
    references.into_iter().map(segment).collect()
}
