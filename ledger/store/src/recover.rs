//! Opening a store: who owns it, what is sealed, what the log holds beyond, and the head that follows.
//!
//! It runs the same functions as the happy path: chains are verified by `ledger::verify`, entries go back
//! through `Stream::publish`, the head is signed as after any group. Not here: the log's frames
//! ([`crate::wal`]).
//!
//! Invariants: a store is never opened below a head that was recorded; nothing is changed before all of it
//! was found sound, but for a torn tail, which was never acknowledged.

mod ownership;
mod replay;
mod streams;

use crate::error::StoreError;
use crate::keys::ContentKeys;
use crate::layout;
use crate::log_head::{self, HeadFault};
use crate::log_state::{LogHealth, LogState};
use crate::objects_of::list_numbers;
use crate::segment;
use crate::segment_reader::Content;
use crate::signing::{self, Signing};
use crate::store::{LogHead, Shared, StoreOptions};
use crate::stream::{Sealed, Stream, View};
use crate::wal::{self, DiskLog, Fact, Log, LogFiles, ObjectLogReader, Place};
use crate::writer::{Live, LogUse, Retries, Writer};
use ledger::checkpoint::StreamHead;
use ledger::group::Durability;
use ledger::name::Origin;
use ledger::tree::{Edge, Hash};
use ownership::{Ownership, next_epoch, own};
use replay::{FoundGroups, check_all};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use streams::open_streams;
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

/// Opens everything but the writer's threads.
///
/// # Errors
/// As [`crate::Store::open`].
pub(crate) async fn recover(options: StoreOptions, files: Arc<dyn LogFiles>) -> Result<Recovered, StoreError> {
    let first_origin = Origin::store_log(&options.ledger, &options.name, 0);
    let mut ownership = ownership::find(&options, files).await?;
    let shared = Arc::new(shared_of(options, first_origin.at_generation(ownership.generation)));
    own(&shared, &first_origin).await?;
    // Where groups are objects, the writer before may be at work until it is overtaken: what it trims while we read
    // is in commits by then, and reading begins anew.
    let again = if shared.durability == Durability::Object { OVERTAKEN_READS } else { 0 };
    for _ in 0..again {
        match recover_once(&shared, &mut ownership).await {
            Err(StoreError::Objects { source: object_store::Error::NotFound { .. }, .. }) => {}
            done => return done,
        }
    }
    recover_once(&shared, &mut ownership).await
}

/// How often reading begins anew because the writer before trimmed what was to be read.
const OVERTAKEN_READS: u32 = 3;

async fn recover_once(shared: &Arc<Shared>, ownership: &mut Ownership) -> Result<Recovered, StoreError> {
    // First where the log begins, then what is sealed: what lies before the one is part of the other.
    let cut_at = shared.limits.log_file_bytes;
    let reader = match shared.durability {
        Durability::Wal => None,
        Durability::Object => Some(ObjectLogReader::find(&shared.objects, cut_at).await?),
    };
    let streams = open_streams(shared).await?;
    let (flushed, log_edge) = flushed_log(shared).await?;
    let epochs = streams.values().map(|stream| stream.view().sealed.epoch).max().unwrap_or_default();
    let mut found = FoundGroups::new(shared, flushed, log_edge);
    let (log, epoch) = match reader {
        Some(reader) => read_objects(shared, ownership, reader, &mut found, epochs).await?,
        None => read_disk(shared, ownership, &mut found, epochs).await?,
    };
    let FoundGroups { log_edge, unflushed, facts, log_use, streams: from_log, .. } = found;
    let from_log = from_log.into_iter().map(|(key, from_log)| (shared.stream_or_new(key), from_log)).collect();
    for (stream, (chunk, edge)) in check_all(from_log, &shared.content.keys)? {
        shared.unsealed_bytes.fetch_add(chunk.bytes, Ordering::Relaxed);
        stream.publish(chunk, edge);
    }
    let head = StreamHead { origin: shared.log_origin.to_string(), size: log_edge.size(), root: log_edge.root() };
    let checkpoint = head.sign(&shared.signing.now().all());
    shared.set_log_head(LogHead { head, checkpoint });
    signing::confirm(shared).await?;
    Ok(Recovered { shared: Arc::clone(shared), epoch, log, log_edge, unflushed, flushed, facts, log_use })
}

/// Reads the log's files, and takes an epoch.
async fn read_disk(
    shared: &Arc<Shared>,
    ownership: &mut Ownership,
    found: &mut FoundGroups<'_>,
    epochs: u64,
) -> Result<(Log, u64), StoreError> {
    let folder = ownership.folder.take().ok_or(StoreError::Stopping)?;
    let replayed = wal::replay(&folder, &mut |group| found.take(group))?;
    if replayed.cut_bytes > 0 {
        tracing::info!(
            bytes = replayed.cut_bytes,
            "cut a torn tail off the write-ahead log; none of it was acknowledged"
        );
    }
    found.end()?;
    ownership.claim(shared).await?;
    let epoch = next_epoch(shared, epochs.max(found.epoch)).await?;
    let log = DiskLog::open(folder, shared.limits.log_file_bytes, shared.limits.log_reserve_bytes)?;
    Ok((Log::new(Place::Disk(log), replayed.end.unwrap_or_default()), epoch))
}

/// Reads the log's objects, takes an epoch, and takes the log over with it.
async fn read_objects(
    shared: &Arc<Shared>,
    ownership: &mut Ownership,
    mut reader: ObjectLogReader,
    found: &mut FoundGroups<'_>,
    epochs: u64,
) -> Result<(Log, u64), StoreError> {
    reader.read(&mut |group| found.take(group)).await?;
    found.end()?;
    ownership.claim(shared).await?;
    let epoch = next_epoch(shared, epochs.max(reader.epoch)).await?;
    let log = reader.take_over(epoch, &mut |group| found.take(group)).await?;
    let end = log.end();
    Ok((Log::new(Place::Objects(log), end), epoch))
}

fn shared_of(options: StoreOptions, log_origin: Origin) -> Shared {
    let head = StreamHead { origin: log_origin.to_string(), size: 0, root: Edge::default().root() };
    let keys = ContentKeys::new(options.ledger.clone(), options.keys);
    let signing = Signing::begin(options.signing, &log_origin.at_generation(0));
    Shared {
        content: Content { objects: Arc::clone(&options.objects), keys },
        objects: options.objects,
        cache: options.cache,
        ledger: options.ledger,
        name: options.name,
        log_origin,
        signing,
        limits: options.limits,
        ambient: options.ambient,
        durability: options.durability,
        log: LogHealth::default(),
        stopping: AtomicBool::new(false),
        leapt: AtomicBool::new(false),
        unsealed_bytes: AtomicUsize::new(0),
        merges: AtomicU64::new(0),
        unsettled_erasures: AtomicUsize::new(0),
        streams: Default::default(),
        log_head: std::sync::RwLock::new(LogHead { head, checkpoint: String::new() }),
    }
}

impl Recovered {
    /// The log's lock, if it has one.
    pub(crate) fn lock(&self) -> Option<Arc<std::fs::File>> {
        self.log.lock()
    }

    /// Streams that go on in a new generation, and have no entry yet that says so. That entry is the first that a log
    /// of a generation gets, so a stream with any entry in the log has it.
    pub(crate) fn broken_streams(&self) -> Vec<Arc<Stream>> {
        let streams = self.shared.streams.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_broken = |stream: &&Arc<Stream>| {
            let View { sealed, tail, .. } = stream.view();
            sealed.commits > 0 && tail.is_empty() && sealed.generation < stream.origin.generation()
        };
        streams.values().filter(is_broken).cloned().collect()
    }

    /// The writer that goes on from here.
    pub(crate) fn into_writer(self, seals: mpsc::UnboundedSender<crate::seal::SealJob>, retries: Retries) -> Writer {
        let streams = self.shared.streams.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let unsealed = streams.iter().filter(|(_, stream)| stream.tail_bytes() > 0);
        let live = unsealed.map(|(key, stream)| (key.clone(), Live::resume(Arc::clone(stream)))).collect();
        drop(streams);
        if self.log.is_full() {
            self.shared.log.set(LogState::Full);
        }
        let clock = crate::ambient::LeapWatch::start(self.shared.ambient.as_ref());
        // Each start may copy the log once.
        // A stop may have come between the deletion of files whose content went and the emptying of the log.
        let streams = self.shared.streams.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lost_some = |sealed: &Sealed| sealed.gone.is_some() || sealed.redacted > 0;
        let has_erased = streams.values().any(|stream| lost_some(&stream.view().sealed));
        drop(streams);
        let newest = self.log_use.last_key_value().map(|(file, _)| *file);
        let copy_credit = self.shared.limits.log_file_bytes as i64 * self.shared.limits.log_files as i64;
        Writer {
            fact_bytes: self.facts.values().map(|fact| fact.bytes()).sum(),
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
            pending: None,
            retries,
            is_idle: true,
            copy_credit,
            retired: HashMap::new(),
            clear_through: newest.filter(|_| has_erased),
        }
    }
}

/// How far the store log was flushed, and its edge there.
pub(crate) async fn flushed_log(shared: &Shared) -> Result<(u64, Edge), StoreError> {
    let sizes = list_numbers(&shared.objects, &layout::log_heads(), layout::log_head).await?;
    let Some(size) = sizes.into_iter().next_back() else {
        return Ok((0, Edge::default()));
    };
    let path = layout::log_head(size);
    let bytes = segment::fetch(&shared.objects, &path).await?;
    let signing = shared.signing.now();
    let key = |origin: &Origin| signing.trusted(origin.as_str());
    let object = path.to_string();
    match log_head::read_head_until(&bytes, size, &shared.log_origin, key) {
        Ok((edge, _)) => Ok((size, edge)),
        Err(HeadFault::Newer) => Err(StoreError::Newer { object, what: "it is a head of a later form".into() }),
        Err(HeadFault::Wrong(why)) => Err(StoreError::Damaged { path: object, why }),
    }
}
