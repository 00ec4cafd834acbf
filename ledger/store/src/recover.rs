//! Opening a store: who owns it, what is sealed, what the log holds beyond, and the head that follows.
//!
//! It runs the same functions as the happy path: chains are verified by `ledger::verify`, entries go back
//! through [`Stream::publish`], the head is signed as after any group. Not here: the log's frames
//! ([`crate::wal`]).
//!
//! Invariants: a store is never opened below a head that was recorded; nothing is changed before all of it
//! was found sound, but for a torn tail, which was never acknowledged.

use crate::delta;
use crate::entry::{Chunk, Entry};
use crate::error::StoreError;
use crate::layout;
use crate::log_head;
use crate::objects_of::{list_numbers, list_streams};
use crate::segment::{self, Segment, Statistics};
use crate::store::{LogHead, Shared, StoreOptions, StreamKey};
use crate::stream::{Sealed, Stream};
use crate::wal::{self, Fact, Log, LogFolder, Replayed};
use crate::writer::{Live, LogUse, Writer};
use ledger::checkpoint::StreamHead;
use ledger::group::{Durability, Group};
use ledger::name::{Origin, StreamKind, TenantId};
use ledger::tree::{Edge, Hash};
use ledger::verify::ChainVerifier;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutOptions};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// A store found sound, before its writer starts.
pub(crate) struct Recovered {
    pub shared: Arc<Shared>,
    pub epoch: u64,
    log: Log,
    log_edge: Edge,
    unflushed: Vec<Hash>,
    flushed: u64,
    facts: HashMap<[u8; 32], Fact>,
    log_use: BTreeMap<u64, LogUse>,
}

/// Entries of one stream that the log gave back, by position, and the heads that its groups recorded.
#[derive(Default)]
struct FromLog {
    entries: BTreeMap<u64, Entry>,
    heads: BTreeMap<u64, Hash>,
}

/// Opens everything but the writer's threads.
///
/// # Errors
/// As [`crate::Store::open`].
pub(crate) async fn recover(options: StoreOptions) -> Result<Recovered, StoreError> {
    let ambient = Arc::clone(&options.ambient);
    let folder = LogFolder::take(&options.log, || {
        let mut id = [0; 16];
        ambient.fill_random(&mut id);
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    })?;
    let cut_at = options.limits.log_file_bytes;
    let shared = Arc::new(shared_of(options));
    own(&shared, folder.id()).await?;
    let streams = open_streams(&shared).await?;
    let (flushed, mut log_edge) = flushed_log(&shared).await?;
    let replayed = wal::replay(&folder)?;
    if replayed.cut_bytes > 0 {
        tracing::info!(
            bytes = replayed.cut_bytes,
            "cut a torn tail off the write-ahead log; none of it was acknowledged"
        );
    }
    let end = replayed.end;
    let mut found = read_groups(&shared, replayed, &mut log_edge, flushed)?;
    let epochs = streams.values().map(|stream| stream.view().sealed.epoch);
    let last_epoch = epochs.chain([found.epoch]).max().unwrap_or_default();
    for (key, from_log) in std::mem::take(&mut found.streams) {
        let stream = match streams.get(&key) {
            Some(stream) => Arc::clone(stream),
            None => shared.stream_or_new(key),
        };
        republish(&shared, &stream, from_log)?;
    }
    let epoch = next_epoch(&shared, last_epoch).await?;
    let log = Log::open(folder, end, cut_at)?;
    let head = StreamHead { origin: shared.log_origin.to_string(), size: log_edge.size(), root: log_edge.root() };
    let checkpoint = head.sign(&[&shared.key]);
    shared.set_log_head(LogHead { head, checkpoint });
    let FoundGroups { unflushed, facts, log_use, .. } = found;
    Ok(Recovered { shared, epoch, log, log_edge, unflushed, flushed, facts, log_use })
}

fn shared_of(options: StoreOptions) -> Shared {
    let log_origin = Origin::store_log(&options.ledger, &options.name, 0);
    let head = StreamHead { origin: log_origin.to_string(), size: 0, root: Edge::default().root() };
    Shared {
        objects: options.objects,
        cache: options.cache,
        ledger: options.ledger,
        log_origin,
        key: options.key,
        limits: options.limits,
        ambient: options.ambient,
        failed: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        leapt: AtomicBool::new(false),
        unsealed_bytes: AtomicUsize::new(0),
        streams: Default::default(),
        log_head: std::sync::RwLock::new(LogHead { head, checkpoint: String::new() }),
    }
}

impl Recovered {
    /// The log's lock.
    pub(crate) fn lock(&self) -> Arc<std::fs::File> {
        self.log.folder().lock()
    }

    /// The writer that goes on from here.
    pub(crate) fn into_writer(self, seals: mpsc::UnboundedSender<crate::seal::SealJob>) -> Writer {
        let streams = self.shared.streams.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let unsealed = streams.iter().filter(|(_, stream)| stream.tail_bytes() > 0);
        let live = unsealed.map(|(key, stream)| (key.clone(), Live::resume(Arc::clone(stream)))).collect();
        drop(streams);
        let clock = crate::ambient::LeapWatch::start(self.shared.ambient.as_ref());
        Writer {
            fact_bytes: self.facts.values().map(|fact| fact.answer.len() + 128).sum(),
            shared: self.shared,
            log: self.log,
            log_edge: self.log_edge,
            epoch: self.epoch,
            live,
            facts: self.facts,
            log_use: self.log_use,
            unflushed: self.unflushed,
            flushed: self.flushed,
            flushing: false,
            seals,
            clock,
            resting: Vec::new(),
        }
    }
}

/// States the store's format, key and owner when it is new; refuses it when they are others.
async fn own(shared: &Shared, log_id: &str) -> Result<(), StoreError> {
    let origin = shared.log_origin.as_str();
    let (format, what) = (log_head::format_text(origin), "the store is of another format or ledger");
    state(shared, &layout::format(), &format, what).await?;
    let key = log_head::key_text(&shared.key.verifier(origin));
    let keys = list_numbers(&shared.objects, &layout::keys(), layout::key).await?;
    let newest = layout::key(keys.last().copied().unwrap_or(1));
    state(shared, &newest, &key, "the store is signed with another key").await?;
    let owners = list_numbers(&shared.objects, &layout::owners(), layout::owner).await?;
    let newest = layout::owner(owners.last().copied().unwrap_or(1));
    state(shared, &newest, &log_head::owner_text(log_id), "the store is extended by another write-ahead log").await
}

/// Creates a record, or finds that it says the same.
async fn state(shared: &Shared, path: &Path, text: &str, what: &'static str) -> Result<(), StoreError> {
    match shared.objects.put_opts(path, text.to_string().into(), PutOptions::from(PutMode::Create)).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::AlreadyExists { .. }) => {
            let found = segment::fetch(&shared.objects, path).await?;
            if found == text.as_bytes() {
                return Ok(());
            }
            let found = String::from_utf8_lossy(&found).trim_end().replace('\n', ", ");
            Err(StoreError::Foreign { what, found, expected: text.trim_end().replace('\n', ", ") })
        }
        Err(source) => Err(StoreError::Objects { path: path.to_string(), source }),
    }
}

/// Verifies the chain of every stream in the store and makes the streams.
async fn open_streams(shared: &Arc<Shared>) -> Result<HashMap<StreamKey, Arc<Stream>>, StoreError> {
    let mut opened = HashMap::new();
    for (tenant, kind) in list_streams(&shared.objects).await? {
        let stream = Arc::new(open_stream(shared, tenant, kind).await?);
        opened.insert(StreamKey::of(&stream), stream);
    }
    *shared.streams.write().unwrap_or_else(std::sync::PoisonError::into_inner) = opened.clone();
    Ok(opened)
}

async fn open_stream(shared: &Shared, tenant: TenantId, kind: StreamKind) -> Result<Stream, StoreError> {
    let origin = Origin::stream(&shared.ledger, &tenant, kind, 0);
    let empty = Stream::new(tenant.clone(), kind, origin.clone(), Sealed::default());
    let mut chain = ChainVerifier::new(origin.as_str(), vec![shared.key.verifier(origin.as_str())]);
    let history = |fault| StoreError::History { origin: origin.to_string(), fault: Box::new(fault) };
    let numbers = list_numbers(&shared.objects, &empty.prefix.commits(), |n| empty.prefix.commit(n)).await?;
    let shown = list_numbers(&shared.objects, &empty.prefix.views(), |n| empty.prefix.delta(n)).await?;
    let mut unshown = Vec::new();
    for number in &numbers {
        let bytes = segment::fetch(&shared.objects, &empty.prefix.commit(*number)).await?;
        let signed = chain.commit(&bytes).map_err(history)?;
        if shown.binary_search(number).is_err() {
            unshown.push(signed);
        }
    }
    let segments: Vec<Arc<Segment>> = chain
        .live()
        .map(|held| {
            let location = empty.prefix.below(&held.segment.path);
            Arc::new(Segment { reference: held.segment.clone(), location, statistics: Statistics::default() })
        })
        .collect();
    for signed in &unshown {
        catch_up_view(shared, &empty, signed.commit(), &segments).await?;
    }
    let (commits, last_commit) = (chain.commits(), chain.last_hash());
    let sealed = Sealed { edge: chain.edge().clone(), commits, last_commit, epoch: chain.epoch(), segments };
    Ok(Stream::new(tenant, kind, origin, sealed))
}

/// Writes the Delta entry of a commit that has none: a stop or a failure came between the two. A segment that
/// was removed since is shown without its bounds.
async fn catch_up_view(
    shared: &Shared,
    stream: &Stream,
    commit: &ledger::Commit,
    live: &[Arc<Segment>],
) -> Result<(), StoreError> {
    let mut added = Vec::new();
    for reference in &commit.adds {
        let location = stream.prefix.below(&reference.path);
        let at = live.binary_search_by_key(&reference.first, |segment| segment.reference.first);
        let statistics = match at.is_ok_and(|at| live[at].reference == *reference) {
            true => Statistics::read(&shared.objects, &location, reference.bytes).await?,
            false => Statistics::default(),
        };
        added.push(Segment { reference: reference.clone(), location, statistics });
    }
    delta::show(shared, stream, commit, &added.iter().collect::<Vec<_>>()).await
}

/// How far the store log was flushed, and its edge there.
async fn flushed_log(shared: &Shared) -> Result<(u64, Edge), StoreError> {
    let sizes = list_numbers(&shared.objects, &layout::log_heads(), layout::log_head).await?;
    let Some(size) = sizes.into_iter().next_back() else {
        return Ok((0, Edge::default()));
    };
    let path = layout::log_head(size);
    let bytes = segment::fetch(&shared.objects, &path).await?;
    let trusted = shared.key.verifier(shared.log_origin.as_str());
    let edge = log_head::read_head(&bytes, size, &trusted);
    Ok((size, edge.map_err(|why| StoreError::Damaged { path: path.to_string(), why })?))
}

#[derive(Default)]
struct FoundGroups {
    streams: HashMap<StreamKey, FromLog>,
    facts: HashMap<[u8; 32], Fact>,
    log_use: BTreeMap<u64, LogUse>,
    unflushed: Vec<Hash>,
    /// The highest epoch that wrote a group.
    epoch: u64,
}

/// Collects what the log's groups hold and extends the store log by those that were not flushed.
fn read_groups(
    shared: &Shared,
    replayed: Replayed,
    log_edge: &mut Edge,
    flushed: u64,
) -> Result<FoundGroups, StoreError> {
    let now = shared.ambient.now_micros();
    let mut found = FoundGroups::default();
    let damaged = |file: u64, why| StoreError::LogDamaged { file: format!("{file:020}.log"), offset: 0, why };
    if let Some(last) = replayed.groups.last().filter(|last| last.frame.index + 1 < flushed) {
        return Err(damaged(
            last.file,
            "it is older than the store's signed head: groups that were acknowledged are gone",
        ));
    }
    for replayed in replayed.groups {
        let held = found.log_use.entry(replayed.file).or_default();
        for batch in replayed.batches {
            for fact in batch.facts.into_iter().filter(|fact| fact.expires > now) {
                held.facts_until = held.facts_until.max(fact.expires);
                found.facts.insert(fact.key, fact);
            }
            for part in batch.parts {
                let key = StreamKey::new(part.tenant, part.kind);
                held.holds(&key, part.first + part.entries.len() as u64);
                let stream = found.streams.entry(key).or_default();
                stream.entries.extend((part.first..).zip(part.entries));
            }
        }
        held.groups_end = replayed.frame.index + 1;
        found.epoch = found.epoch.max(replayed.frame.epoch);
        let frame = replayed.frame;
        let heads: Vec<StreamHead> =
            frame.heads.into_iter().map(|(origin, size, root)| StreamHead { origin, size, root }).collect();
        for head in &heads {
            let key =
                key_of(shared, &head.origin).ok_or_else(|| damaged(replayed.file, "a group names a foreign stream"))?;
            found.streams.entry(key).or_default().heads.insert(head.size, head.root);
        }
        if frame.index < flushed {
            continue;
        }
        if frame.index != log_edge.size() || frame.previous_root != log_edge.root() {
            return Err(damaged(replayed.file, "a group does not extend the store log that was signed before it"));
        }
        let leaf = Group::new(heads).log_leaf(Durability::Wal, frame.epoch);
        log_edge.push(leaf);
        found.unflushed.push(leaf);
    }
    Ok(found)
}

fn key_of(shared: &Shared, origin: &str) -> Option<StreamKey> {
    let rest = origin.strip_prefix(shared.ledger.as_str())?.strip_prefix('/')?;
    let mut parts = rest.split('/');
    Some(StreamKey::new(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Gives a stream the entries that the log holds beyond its last commit, and checks each recorded head.
fn republish(shared: &Shared, stream: &Stream, from_log: FromLog) -> Result<(), StoreError> {
    let view = stream.view();
    let mut edge = view.sealed.edge.clone();
    let path = stream.prefix.path().to_string();
    let damaged = |why| StoreError::Damaged { path: path.clone(), why };
    let mut entries = Vec::new();
    let sealed_root = edge.root();
    let agrees = |size: u64, root: &Hash| from_log.heads.get(&size).is_none_or(|recorded| recorded == root);
    if !agrees(edge.size(), &sealed_root) {
        return Err(damaged("its last commit and the write-ahead log disagree on the root"));
    }
    let first = edge.size();
    for (seq, entry) in from_log.entries.into_iter().filter(|(seq, _)| *seq >= first) {
        if seq != edge.size() {
            return Err(damaged("the write-ahead log has a gap in its entries"));
        }
        if !entry.is_as_hashed() {
            return Err(damaged("an entry in the write-ahead log is not the one that was hashed"));
        }
        edge.push(entry.leaf);
        entries.push(entry);
        if !agrees(edge.size(), &edge.root()) {
            return Err(damaged("the write-ahead log's entries do not give the root that was signed"));
        }
    }
    if from_log.heads.keys().next_back().is_some_and(|largest| *largest > edge.size()) {
        return Err(damaged("the write-ahead log lacks entries below a head that was signed"));
    }
    if !entries.is_empty() {
        let chunk = Arc::new(Chunk::new(first, entries));
        shared.unsealed_bytes.fetch_add(chunk.bytes, Ordering::Relaxed);
        stream.publish(chunk, edge);
    }
    Ok(())
}

/// Takes the next writer epoch; creating its record is what makes it ours.
///
/// It is above `last`, the highest that commits and log name, also when records of epochs are gone: commits
/// with a lower one would not be believed.
async fn next_epoch(shared: &Shared, last: u64) -> Result<u64, StoreError> {
    loop {
        let recorded = list_numbers(&shared.objects, &layout::epochs(), layout::epoch).await?;
        let last = recorded.into_iter().next_back().unwrap_or_default().max(last);
        let path = layout::epoch(last);
        let exhausted = || StoreError::Damaged { path: path.to_string(), why: "no epoch is left above this one" };
        let epoch = last.checked_add(1).ok_or_else(exhausted)?;
        let path = layout::epoch(epoch);
        let text = log_head::epoch_text(epoch);
        match shared.objects.put_opts(&path, text.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) => return Ok(epoch),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(source) => return Err(StoreError::Objects { path: path.to_string(), source }),
        }
    }
}
