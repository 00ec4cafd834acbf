//! One stream in memory: what is durable of it, sealed or not, as readers and the writer share it.
//!
//! Not here: sequencing ([`crate::writer`]), sealing ([`crate::seal`]), proofs ([`crate::proofs`]).
//!
//! Invariants: `edge` covers exactly the sealed entries and the tail; the tail begins where the last segment
//! ends; readers see only what an fsync has made durable.

mod keyed;

use crate::columns;
use crate::entry::{Chunk, Entry};
use crate::error::StoreError;
use crate::ids::IdRun;
use crate::keys::{ContentKeys, LogKey};
use crate::layout::StreamPrefix;
use crate::limits::COLUMN_ROWS;
use crate::segment::{self, Segment, Statistics};
use crate::turn::Turn;
use arrow::array::RecordBatch;
use ledger::checkpoint::StreamHead;
use ledger::gone::{Gone, GoneError, GoneRef};
use ledger::leaf::{EVENTS_PER_SEED, Seed};
use ledger::name::{Origin, StreamKind, TenantId};
use ledger::tree::{Edge, Hash};
use object_store::ObjectStore;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// What is sealed of a stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sealed {
    /// The tree at the last sealed entry.
    pub edge: Edge,
    /// How many commits there are: the number of the next.
    pub commits: u64,
    /// SHA-256 of the last commit.
    pub last_commit: Option<Hash>,
    /// The writer's epoch in the last commit.
    pub epoch: u64,
    /// The generation of the last commit.
    pub generation: u32,
    /// What is gone of it.
    pub gone: Option<Arc<SealedGone>>,
    /// How many entries redactions took sections of, one after the other.
    pub redacted: u64,
    /// The segments, ascending.
    pub segments: Vec<Arc<Segment>>,
}

impl Sealed {
    /// How many entries were sealed and are gone.
    pub(crate) fn gone_entries(&self) -> u64 {
        self.gone.as_ref().map_or(0, |gone| gone.reference.entries)
    }
}

/// What is gone of a stream, read from its object when it is asked for.
#[derive(Debug)]
pub(crate) struct SealedGone {
    pub reference: GoneRef,
    read: tokio::sync::OnceCell<Arc<Gone>>,
}

impl SealedGone {
    /// What a commit names, and has not been read.
    pub(crate) fn new(reference: GoneRef) -> Self {
        Self { reference, read: tokio::sync::OnceCell::new() }
    }

    /// What a commit names, with what it says.
    pub(crate) fn known(reference: GoneRef, gone: Gone) -> Self {
        Self { reference, read: tokio::sync::OnceCell::new_with(Some(Arc::new(gone))) }
    }

    /// What it says, checked against the hash that the commit names.
    ///
    /// # Errors
    /// The object cannot be read or is not what was named.
    pub(crate) async fn get(
        &self,
        objects: &Arc<dyn ObjectStore>,
        prefix: &StreamPrefix,
    ) -> Result<Arc<Gone>, StoreError> {
        let read = || async {
            let path = prefix.below(&self.reference.path());
            let bytes = segment::fetch(objects, &path).await?;
            let damaged = |why| StoreError::Damaged { path: path.to_string(), why };
            if bytes.len() as u64 != self.reference.bytes || Hash::of(&bytes) != self.reference.sha256 {
                return Err(damaged("it is not what its commit names"));
            }
            match Gone::parse(&bytes) {
                Ok(gone) if gone.commit() == self.reference.commit => Ok(Arc::new(gone)),
                Err(GoneError::Newer) => Err(StoreError::Newer {
                    object: path.to_string(),
                    what: "it says what is gone in a later form".into(),
                }),
                _ => Err(damaged("it is no list of what is gone")),
            }
        };
        self.read.get_or_try_init(read).await.cloned()
    }
}

/// What a commit that put segments in the place of others changes.
#[derive(Debug, Clone)]
pub(crate) struct Replaced {
    /// How many commits there are with it.
    pub commits: u64,
    /// Its SHA-256.
    pub last_commit: Option<Hash>,
    /// The writer's epoch.
    pub epoch: u64,
    /// The generation.
    pub generation: u32,
    /// Paths of the segments that go.
    pub removed: HashSet<String>,
    /// The segments that come, ascending.
    pub segments: Vec<Arc<Segment>>,
    /// What is gone from here on, if the commit is a purge.
    pub gone: Option<Arc<SealedGone>>,
    /// How many entries it took sections of.
    pub redacted: u64,
}

#[derive(Debug, Default)]
struct State {
    sealed: Sealed,
    edge: Edge,
    tail: VecDeque<Arc<Chunk>>,
    tail_bytes: usize,
    runs: Vec<Arc<IdRun>>,
    /// Segments as they were before their statistics were read, where somebody still holds them.
    cold: Vec<Weak<Segment>>,
}

#[derive(Debug, Default)]
struct Seeds {
    current: Option<Seed>,
    used: u32,
}

#[derive(Debug, Default)]
struct Columns {
    /// Full batches of the tail, ascending and contiguous.
    full: Vec<(u64, RecordBatch)>,
    /// What came after them at the last look.
    rest: Option<(u64, u64, RecordBatch)>,
}

/// A stream that this store writes.
#[derive(Debug)]
pub(crate) struct Stream {
    pub tenant: TenantId,
    pub kind: StreamKind,
    pub origin: Origin,
    pub prefix: StreamPrefix,
    /// Whether a seal is under way; at most one is.
    pub sealing: AtomicBool,
    /// Through where a seal was tried whose outcome is not known; 0 when there is none.
    pub tried: AtomicU64,
    /// Set once footers and id files have been read.
    pub warm: tokio::sync::OnceCell<()>,
    /// Whoever adds a commit holds this: numbers are given one after the other.
    pub turn: tokio::sync::Mutex<Turn>,
    /// Whether it goes on in a new generation and has no entry yet that says so.
    pub owes_break: AtomicBool,
    /// Whether the upkeep thread has been told to look at this stream and has not yet.
    pub looked_for: AtomicBool,
    state: RwLock<State>,
    seeds: Mutex<Seeds>,
    columns: Mutex<Columns>,
    log_key: RwLock<Option<Arc<LogKey>>>,
}

/// One stream as of one moment: what is durable of it, sealed or not.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Whose.
    pub tenant: TenantId,
    /// Which stream.
    pub kind: StreamKind,
    /// Its durable head.
    pub head: StreamHead,
    /// Its segments, ascending by sequence.
    pub segments: Vec<Arc<Segment>>,
    /// What is gone of it.
    pub gone: Option<GoneRef>,
    /// What is not sealed yet, ascending, after the segments.
    pub tail: Vec<RecordBatch>,
    /// Where the segments are.
    pub objects: Arc<dyn ObjectStore>,
    /// The keys to those that are encrypted.
    pub keys: ContentKeys,
}

/// The tail and where it begins, with the state of what is sealed below it.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub sealed: Sealed,
    pub edge: Edge,
    pub tail: Vec<Arc<Chunk>>,
}

impl View {
    /// The unsealed entry at a sequence number.
    pub(crate) fn entry(&self, seq: u64) -> Option<&Entry> {
        let at = self.tail.partition_point(|chunk| chunk.end() <= seq);
        self.tail.get(at)?.get(seq)
    }

    /// The leaf hash of the unsealed entry at a sequence number.
    pub(crate) fn leaf(&self, seq: u64) -> Option<Hash> {
        let at = self.tail.partition_point(|chunk| chunk.end() <= seq);
        self.tail.get(at)?.leaf(seq)
    }

    /// The view when its tail ended at `end`, which is the end of one of its chunks.
    pub(crate) fn through(mut self, end: u64) -> Self {
        self.tail.retain(|chunk| chunk.end() <= end);
        let mut edge = self.sealed.edge.clone();
        self.tail.iter().flat_map(|chunk| chunk.leaves()).for_each(|leaf| edge.push(leaf));
        Self { edge, ..self }
    }

    /// The segment that holds a sequence number.
    pub(crate) fn segment(&self, seq: u64) -> Option<&Arc<Segment>> {
        let segments = &self.sealed.segments;
        let at = segments.partition_point(|segment| segment.reference.end() <= seq);
        segments.get(at).filter(|segment| segment.reference.first <= seq)
    }
}

// A panic elsewhere must not make durable entries unreadable: the state is replaced whole or not at all.
fn held<T>(lock: Result<T, PoisonError<T>>) -> T {
    lock.unwrap_or_else(PoisonError::into_inner)
}

impl Stream {
    /// A stream with what is sealed of it and no tail.
    pub(crate) fn new(tenant: TenantId, kind: StreamKind, origin: Origin, sealed: Sealed) -> Self {
        let prefix = StreamPrefix::new(&tenant, kind);
        let state = State { edge: sealed.edge.clone(), sealed, ..State::default() };
        Self {
            tenant,
            kind,
            origin,
            prefix,
            sealing: AtomicBool::new(false),
            tried: AtomicU64::new(0),
            warm: tokio::sync::OnceCell::new(),
            turn: tokio::sync::Mutex::default(),
            owes_break: AtomicBool::new(false),
            looked_for: AtomicBool::new(false),
            state: RwLock::new(state),
            seeds: Mutex::default(),
            columns: Mutex::default(),
            log_key: RwLock::default(),
        }
    }

    /// Salts for `count` events: runs of (seed, first index, how many).
    pub(crate) fn take_salts(&self, mut count: u32, mut new_seed: impl FnMut() -> Seed) -> Vec<(Seed, u32, u32)> {
        let mut seeds = held(self.seeds.lock());
        let mut runs = Vec::new();
        while count > 0 {
            let seed = match seeds.current {
                Some(seed) if seeds.used < EVENTS_PER_SEED => seed,
                _ => {
                    let seed = new_seed();
                    *seeds = Seeds { current: Some(seed), used: 0 };
                    seed
                }
            };
            let taken = count.min(EVENTS_PER_SEED - seeds.used);
            runs.push((seed, seeds.used, taken));
            seeds.used += taken;
            count -= taken;
        }
        runs
    }

    /// Has events that come from here on draw another seed than one of these.
    pub(crate) fn drop_seed(&self, seeds: &HashSet<Seed>) {
        let mut held = held(self.seeds.lock());
        held.current = held.current.filter(|seed| !seeds.contains(seed));
    }

    /// Makes durable entries readable.
    pub(crate) fn publish(&self, chunk: Arc<Chunk>, edge: Edge) {
        let mut state = held(self.state.write());
        state.tail_bytes += chunk.bytes;
        state.tail.push_back(chunk);
        state.edge = edge;
    }

    /// Takes over a commit that sealed the tail up to its edge, with the runs of all sealed ids.
    pub(crate) fn sealed(&self, sealed: Sealed, runs: Vec<Arc<IdRun>>) -> usize {
        let through = sealed.edge.size();
        let mut state = held(self.state.write());
        let mut freed = 0;
        while state.tail.front().is_some_and(|chunk| chunk.end() <= through) {
            freed += state.tail.pop_front().map_or(0, |chunk| chunk.bytes);
        }
        // A commit that another writer made may end inside a chunk.
        if let Some(front) = state.tail.front_mut().filter(|chunk| chunk.first < through && chunk.locked.is_none()) {
            let rest = Chunk::new(through, front.entries[(through - front.first) as usize..].to_vec());
            freed += front.bytes - rest.bytes;
            *front = Arc::new(rest);
        }
        state.tail_bytes -= freed;
        state.sealed = sealed;
        state.runs = runs;
        drop(state);
        let mut columns = held(self.columns.lock());
        columns.full.retain(|(first, batch)| first + batch.num_rows() as u64 > through);
        columns.rest = None;
        freed
    }

    /// Takes over a commit that put segments in the place of others; answers who may still hold those.
    pub(crate) fn replaced(&self, commit: Replaced) -> Vec<Weak<Segment>> {
        let Replaced { commits, last_commit, epoch, generation, removed, segments, gone, redacted } = commit;
        let mut state = held(self.state.write());
        let is_removed = |segment: &Segment| removed.contains(&segment.reference.path);
        let sealed = &mut state.sealed;
        let mut out = Vec::new();
        sealed.segments.retain(|segment| {
            let goes = is_removed(segment);
            out.extend(goes.then(|| Arc::downgrade(segment)));
            !goes
        });
        sealed.segments.extend(segments);
        sealed.segments.sort_by_key(|segment| segment.reference.first);
        sealed.gone = gone.or(sealed.gone.take());
        sealed.redacted = sealed.redacted.saturating_add(redacted);
        (sealed.commits, sealed.last_commit) = (commits, last_commit);
        (sealed.epoch, sealed.generation) = (epoch, generation);
        let cold = state.cold.iter().filter(|cold| cold.upgrade().is_some_and(|cold| is_removed(&cold)));
        out.extend(cold.cloned());
        out
    }

    /// Replaces the runs of sealed ids: entries that are gone are looked for no more.
    pub(crate) fn set_runs(&self, runs: Vec<Arc<IdRun>>) {
        held(self.state.write()).runs = runs;
    }

    /// Replaces the segments by the same ones with their statistics, and the runs of their ids.
    pub(crate) fn warmed(&self, statistics: Vec<(u64, Statistics)>, runs: Vec<Arc<IdRun>>) {
        let mut state = held(self.state.write());
        let State { sealed, cold, .. } = &mut *state;
        for segment in &mut sealed.segments {
            let known = statistics.binary_search_by_key(&segment.reference.first, |(first, _)| *first);
            if let Some((_, known)) = known.ok().map(|at| &statistics[at]).filter(|known| known.1 != segment.statistics)
            {
                let warm = Arc::new(Segment { statistics: known.clone(), ..Segment::clone(segment) });
                cold.push(Arc::downgrade(&std::mem::replace(segment, warm)));
            }
        }
        cold.retain(|segment| segment.strong_count() > 0);
        // No seal goes on before this: each begins with it.
        state.runs = runs;
    }

    /// The durable head.
    pub(crate) fn head(&self) -> StreamHead {
        let state = held(self.state.read());
        StreamHead { origin: self.origin.to_string(), size: state.edge.size(), root: state.edge.root() }
    }

    /// What is sealed, and the tail.
    pub(crate) fn view(&self) -> View {
        let state = held(self.state.read());
        View { sealed: state.sealed.clone(), edge: state.edge.clone(), tail: state.tail.iter().cloned().collect() }
    }

    /// The runs of sealed ids, and through which sequence number they speak.
    pub(crate) fn runs(&self) -> (Vec<Arc<IdRun>>, u64) {
        let state = held(self.state.read());
        (state.runs.clone(), state.sealed.edge.size())
    }

    /// One past the last sealed position.
    pub(crate) fn sealed_through(&self) -> u64 {
        held(self.state.read()).sealed.edge.size()
    }

    /// Bytes of the unsealed entries.
    pub(crate) fn tail_bytes(&self) -> usize {
        held(self.state.read()).tail_bytes
    }

    /// The oldest unsealed entry's `recorded_at`.
    pub(crate) fn oldest_unsealed(&self) -> Option<i64> {
        let state = held(self.state.read());
        state.tail.front().and_then(|chunk| chunk.entries.first()).map(|entry| entry.draft.recorded_at())
    }

    /// The tail of a view as columns. Full batches are kept, so that each entry is turned once.
    ///
    /// # Errors
    /// An entry's encoding is damaged in memory.
    pub(crate) fn columns_of(&self, view: &View) -> Result<Vec<RecordBatch>, StoreError> {
        let (start, end) = (view.sealed.edge.size(), view.edge.size());
        let mut shared = held(self.columns.lock());
        let mut own = Columns::default();
        // A seal has gone by since the view was taken, and the kept batches no longer reach back to its start.
        let is_older = shared.full.first().is_some_and(|(first, _)| *first > start);
        let columns = if is_older { &mut own } else { &mut *shared };
        let mut at = columns.full.last().map_or(start, |(first, batch)| first + batch.num_rows() as u64);
        if at < start {
            columns.full.clear();
            at = start;
        }
        let mut rows: Vec<&Entry> = Vec::new();
        let mut first = at;
        for chunk in view.tail.iter().filter(|chunk| chunk.end() > at) {
            for entry in &chunk.entries[at.saturating_sub(chunk.first) as usize..] {
                rows.push(entry);
                if rows.len() == COLUMN_ROWS {
                    columns.full.push((first, columns::batch(first, &rows)?));
                    first += COLUMN_ROWS as u64;
                    rows.clear();
                }
            }
        }
        let is_current = columns.rest.as_ref().is_some_and(|(from, to, _)| *from == first && *to == end);
        if !rows.is_empty() && !is_current {
            columns.rest = Some((first, end, columns::batch(first, &rows)?));
        }
        let rest = columns.rest.as_ref().filter(|_| !rows.is_empty()).map(|(from, _, batch)| (*from, batch.clone()));
        let all = columns.full.iter().cloned().chain(rest);
        Ok(all.filter_map(|(from, batch)| cut(from, &batch, start, end)).collect())
    }
}

/// The part of a batch that lies inside `[start, end)`.
fn cut(from: u64, batch: &RecordBatch, start: u64, end: u64) -> Option<RecordBatch> {
    let to = from + batch.num_rows() as u64;
    let (low, high) = (from.max(start), to.min(end));
    (low < high).then(|| batch.slice((low - from) as usize, (high - low) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::{Rows, tests::entry};
    use ledger::name::LedgerName;
    use proptest::prelude::*;

    fn stream() -> Stream {
        let (ledger, tenant): (LedgerName, TenantId) = ("l".parse().unwrap(), "acme".parse().unwrap());
        let origin = Origin::stream(&ledger, &tenant, StreamKind::Audit, 0);
        Stream::new(tenant, StreamKind::Audit, origin, Sealed::default())
    }

    #[test]
    fn a_seed_serves_at_most_1024_events() {
        let stream = stream();
        let mut made = 0u8;
        let mut new_seed = || {
            made += 1;
            Seed([made; 16])
        };
        assert_eq!(stream.take_salts(1_000, &mut new_seed), [(Seed([1; 16]), 0, 1_000)]);
        let next = stream.take_salts(1_050, &mut new_seed);
        assert_eq!(next, [(Seed([1; 16]), 1_000, 24), (Seed([2; 16]), 0, 1_024), (Seed([3; 16]), 0, 2)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_tail_as_columns_is_the_tail(steps in proptest::collection::vec((1u64..3_000, 0u64..4, any::<bool>()), 1..12)) {
            let stream = stream();
            let (mut edge, mut next, mut sealed) = (Edge::default(), 0u64, Edge::default());
            for (count, seal, look) in steps {
                let entries: Vec<Entry> = (next..next + count).map(|n| entry("acme", n)).collect();
                entries.iter().for_each(|e| edge.push(e.leaf));
                stream.publish(Arc::new(Chunk::new(next, entries)), edge.clone());
                next += count;
                if seal == 0 {
                    sealed = edge.clone();
                    stream.sealed(Sealed { edge: sealed.clone(), ..Sealed::default() }, vec![]);
                }
                if look {
                    let view = stream.view();
                    let mut seq = sealed.size();
                    for batch in stream.columns_of(&view).unwrap() {
                        let rows = Rows::of(&batch).unwrap();
                        for row in (0..rows.len()).step_by(97) {
                            prop_assert_eq!(rows.seq(row), seq + row as u64);
                            prop_assert_eq!(&rows.draft(row).unwrap(), &view.entry(seq + row as u64).unwrap().draft);
                        }
                        seq += batch.num_rows() as u64;
                    }
                    prop_assert_eq!(seq, next);
                }
            }
        }
    }
}
