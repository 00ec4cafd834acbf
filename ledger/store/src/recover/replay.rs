//! Giving back to streams what the write-ahead log holds beyond their last commit, head by recorded head.
//!
//! Not here: the log's frames ([`crate::wal`]), what is sealed ([`super::streams`]). Invariant: a stream is never
//! opened below a head that a group recorded.

use crate::entry::{Chunk, Entry};
use crate::error::StoreError;
use crate::keys::{ContentKeys, KeyError};
use crate::locked::{self, Locked};
use crate::store::{Shared, StreamKey};
use crate::stream::Stream;
use crate::wal::{Fact, ReadRun, ReplayedGroup};
use crate::writer::LogUse;
use ledger::checkpoint::StreamHead;
use ledger::group::Group;
use ledger::tree::{Edge, Hash};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Entries of one stream that the log gave back, as runs by first position, and the heads that its groups recorded.
#[derive(Default)]
pub(super) struct FromLog {
    runs: BTreeMap<u64, ReadRun>,
    heads: BTreeMap<u64, Hash>,
}

impl FromLog {
    /// Takes a run. Of two that begin at one position, as copying forward leaves them, the longer stays.
    fn take(&mut self, first: u64, run: ReadRun) {
        let known = self.runs.entry(first).or_insert_with(|| ReadRun::Plain(vec![]));
        if run.len() > known.len() {
            *known = run;
        }
    }
}

/// What the log's groups hold, collected one by one: entries that are sealed already are dropped as they come.
pub(super) struct FoundGroups<'s> {
    shared: &'s Shared,
    now: i64,
    /// Up to where the store log was flushed.
    flushed: u64,
    /// The size of the store log after the last group.
    groups_end: u64,
    /// The store log, extended by the groups that were not flushed.
    pub log_edge: Edge,
    pub streams: HashMap<StreamKey, FromLog>,
    pub facts: HashMap<[u8; 32], Fact>,
    pub log_use: BTreeMap<u64, LogUse>,
    pub unflushed: Vec<Hash>,
    /// The highest epoch that wrote a group.
    pub epoch: u64,
}

impl<'s> FoundGroups<'s> {
    /// Nothing yet, of a store whose log was flushed up to here.
    pub(super) fn new(shared: &'s Shared, flushed: u64, log_edge: Edge) -> Self {
        Self {
            shared,
            now: shared.ambient.now_micros(),
            flushed,
            groups_end: 0,
            log_edge,
            streams: HashMap::new(),
            facts: HashMap::new(),
            log_use: BTreeMap::new(),
            unflushed: Vec::new(),
            epoch: 0,
        }
    }

    /// Takes the next group, and extends the store log by it unless it was flushed.
    ///
    /// # Errors
    /// The group does not extend what was signed before it, or names what is not of this store.
    pub(super) fn take(&mut self, replayed: ReplayedGroup) -> Result<(), StoreError> {
        let file = replayed.file;
        let held = self.log_use.entry(file).or_default();
        for batch in replayed.batches {
            for fact in batch.facts.into_iter().filter(|fact| fact.expires > self.now) {
                held.facts_until = held.facts_until.max(fact.expires);
                self.facts.insert(fact.key, fact);
            }
            for part in batch.parts {
                let key = StreamKey::new(part.tenant, part.kind);
                let end = part.first + part.run.len() as u64;
                held.holds(&key, end);
                let sealed = self.shared.stream(&key).map_or(0, |stream| stream.sealed_through());
                if end > sealed {
                    self.streams.entry(key).or_default().take(part.first, part.run);
                }
            }
        }
        let frame = replayed.frame;
        self.groups_end = frame.index + 1;
        held.groups_end = self.groups_end;
        self.epoch = self.epoch.max(frame.epoch);
        let heads: Vec<StreamHead> =
            frame.heads.into_iter().map(|(origin, size, root)| StreamHead { origin, size, root }).collect();
        for head in &heads {
            let key =
                key_of(self.shared, &head.origin).ok_or_else(|| damaged(file, "a group names a foreign stream"))?;
            self.streams.entry(key).or_default().heads.insert(head.size, head.root);
        }
        if frame.index < self.flushed {
            return Ok(());
        }
        if frame.index != self.log_edge.size() || frame.previous_root != self.log_edge.root() {
            return Err(damaged(file, "a group does not extend the store log that was signed before it"));
        }
        let leaf = Group::new(heads).log_leaf(self.shared.durability, frame.epoch);
        self.log_edge.push(leaf);
        self.unflushed.push(leaf);
        Ok(())
    }

    /// All groups were taken.
    ///
    /// # Errors
    /// The last of them is older than what was signed and flushed.
    pub(super) fn end(&self) -> Result<(), StoreError> {
        match self.log_use.last_key_value() {
            Some((file, _)) if self.groups_end < self.flushed => {
                Err(damaged(*file, "it is older than the store's signed head: groups that were acknowledged are gone"))
            }
            _ => Ok(()),
        }
    }
}

fn damaged(file: u64, why: &'static str) -> StoreError {
    StoreError::LogDamaged { file: format!("{file:020}.log"), offset: 0, why }
}

fn key_of(shared: &Shared, origin: &str) -> Option<StreamKey> {
    let rest = origin.strip_prefix(shared.ledger.as_str())?.strip_prefix('/')?;
    let mut parts = rest.split('/');
    Some(StreamKey::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What a stream goes on with: the entries beyond its last commit, and the tree that they give.
type Tail = (Arc<Chunk>, Edge);

/// Checks all streams, on every core: hashing again what was acknowledged is most of a start.
///
/// # Errors
/// The log and what was signed disagree on a stream.
pub(super) fn check_all(
    mut from_log: Vec<(Arc<Stream>, FromLog)>,
    keys: &ContentKeys,
) -> Result<Vec<(Arc<Stream>, Tail)>, StoreError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(from_log.len());
    // The longest first, so that no thread is left with it at the end.
    from_log.sort_by_key(|(_, found)| std::cmp::Reverse(found.runs.len()));
    let queue = Mutex::new(from_log.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let checked = std::iter::from_fn(next).map(|(stream, found)| {
            let tail = check(&stream, found, keys)?;
            Ok(tail.map(|tail| (stream, tail)))
        });
        checked.filter_map(Result::transpose).collect::<Result<Vec<_>, StoreError>>()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|p| std::panic::resume_unwind(p)));
        Ok(done.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    })
}

/// The entries that the log holds beyond a stream's last commit, with the tree that they give; each recorded head
/// is checked.
fn check(stream: &Stream, from_log: FromLog, keys: &ContentKeys) -> Result<Option<Tail>, StoreError> {
    let view = stream.view();
    let mut edge = view.sealed.edge.clone();
    let path = stream.prefix.path().to_string();
    let damaged = |why| StoreError::Damaged { path: path.clone(), why };
    // A root costs a hash for each level of the tree, so it is computed where one was recorded.
    let agrees = |edge: &Edge| from_log.heads.get(&edge.size()).is_none_or(|recorded| *recorded == edge.root());
    if !agrees(&edge) {
        return Err(damaged("its last commit and the write-ahead log disagree on the root"));
    }
    let first = edge.size();
    let mut tail = Locked { leaves: Vec::new(), runs: Vec::new() };
    for (from, run) in from_log.runs {
        let (leaves, before) = (locked::leaves(&run), edge.size());
        for (seq, leaf) in (from..).zip(&leaves).filter(|(seq, _)| *seq >= before) {
            if seq > edge.size() {
                return Err(damaged("the write-ahead log has a gap in its entries"));
            }
            edge.push(*leaf);
            tail.leaves.push(*leaf);
            if !agrees(&edge) {
                return Err(damaged("the write-ahead log's entries do not give the root that was signed"));
            }
        }
        if edge.size() > before {
            tail.runs.push((from, run));
        }
    }
    if from_log.heads.keys().next_back().is_some_and(|largest| *largest > edge.size()) {
        return Err(damaged("the write-ahead log lacks entries below a head that was signed"));
    }
    if tail.leaves.is_empty() {
        return Ok(None);
    }
    // Tree and heads need no key. Where the entries need one that is not at hand, they wait for it.
    let chunk = match opened(stream, first, &mut tail, keys) {
        Ok(entries) => Chunk::new(first, entries),
        Err(StoreError::Key(error)) => {
            tracing::warn!(origin = %stream.origin, entries = tail.leaves.len(), error = &error as &dyn std::error::Error,
                "unsealed entries cannot be read now, and are kept in the log");
            Chunk::locked(first, tail)
        }
        Err(error) => return Err(error),
    };
    Ok(Some((Arc::new(chunk), edge)))
}

/// The entries of a tail, each of them hashed again. Runs in the clear are taken out, unless a run cannot be opened.
fn opened(stream: &Stream, first: u64, tail: &mut Locked, keys: &ContentKeys) -> Result<Vec<Entry>, StoreError> {
    let damaged = |why| StoreError::Damaged { path: stream.prefix.path().to_string(), why };
    let mut open: Vec<Option<Vec<Entry>>> = Vec::with_capacity(tail.runs.len());
    for (from, run) in &tail.runs {
        open.push(match run {
            ReadRun::Plain(_) => None,
            ReadRun::Locked(run) => {
                // Of one tenant, and no reason to open nothing of the others.
                let wrong = || KeyError::Wrong { tenant: stream.tenant.clone() };
                Some(run.open(keys, (&stream.tenant, stream.kind, *from))?.ok_or_else(wrong)?)
            }
        });
    }
    let mut entries = Vec::with_capacity(tail.leaves.len());
    for ((from, run), open) in std::mem::take(&mut tail.runs).into_iter().zip(open) {
        let skip = (first + entries.len() as u64).saturating_sub(from) as usize;
        let run = match (open, run) {
            (Some(open), _) | (None, ReadRun::Plain(open)) => open,
            (None, ReadRun::Locked(_)) => Vec::new(),
        };
        entries.extend(run.into_iter().skip(skip));
    }
    if entries.iter().all(Entry::is_as_hashed) {
        return Ok(entries);
    }
    Err(damaged("an entry in the write-ahead log is not the one that was hashed"))
}
