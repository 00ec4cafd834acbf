//! Opening a store: who owns it, what is sealed, what the log holds beyond, and the head that follows.
//!
//! It runs the same functions as the happy path: chains are verified by `ledger::verify`, entries go back
//! through [`Stream::publish`], the head is signed as after any group. Not here: the log's frames
//! ([`crate::wal`]).
//!
//! Invariants: a store is never opened below a head that was recorded; nothing is changed before all of it
//! was found sound, but for a torn tail, which was never acknowledged.

mod ownership;
mod replay;
mod streams;

use crate::error::StoreError;
use crate::layout;
use crate::log_head::{self, HeadFault};
use crate::objects_of::list_numbers;
use crate::segment;
use crate::store::{LogHead, Shared, StoreOptions};
use crate::wal::{self, DiskLog, Fact, Log, LogFiles, LogFolder};
use crate::writer::{Live, LogUse, Writer};
use ledger::checkpoint::StreamHead;
use ledger::name::Origin;
use ledger::tree::{Edge, Hash};
use ownership::{next_epoch, own};
use replay::{FoundGroups, republish};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
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
    let ambient = Arc::clone(&options.ambient);
    let folder = LogFolder::take(&options.log, files, || {
        let mut id = [0; 16];
        ambient.fill_random(&mut id);
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    })?;
    let cut_at = options.limits.log_file_bytes;
    let shared = Arc::new(shared_of(options));
    own(&shared, folder.id()).await?;
    let streams = open_streams(&shared).await?;
    let (flushed, log_edge) = flushed_log(&shared).await?;
    let mut found = FoundGroups::new(&shared, flushed, log_edge);
    let replayed = wal::replay(&folder, &mut |group| found.take(group))?;
    if replayed.cut_bytes > 0 {
        tracing::info!(
            bytes = replayed.cut_bytes,
            "cut a torn tail off the write-ahead log; none of it was acknowledged"
        );
    }
    found.end()?;
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
    let log = Log::new(DiskLog::open(folder, cut_at)?, replayed.end.unwrap_or_default());
    let FoundGroups { log_edge, unflushed, facts, log_use, .. } = found;
    let head = StreamHead { origin: shared.log_origin.to_string(), size: log_edge.size(), root: log_edge.root() };
    let checkpoint = head.sign(&[&shared.key]);
    shared.set_log_head(LogHead { head, checkpoint });
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
        merges: AtomicU64::new(0),
        streams: Default::default(),
        log_head: std::sync::RwLock::new(LogHead { head, checkpoint: String::new() }),
    }
}

impl Recovered {
    /// The log's lock.
    pub(crate) fn lock(&self) -> Arc<std::fs::File> {
        self.log.place().folder().lock()
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

/// How far the store log was flushed, and its edge there.
pub(crate) async fn flushed_log(shared: &Shared) -> Result<(u64, Edge), StoreError> {
    let sizes = list_numbers(&shared.objects, &layout::log_heads(), layout::log_head).await?;
    let Some(size) = sizes.into_iter().next_back() else {
        return Ok((0, Edge::default()));
    };
    let path = layout::log_head(size);
    let bytes = segment::fetch(&shared.objects, &path).await?;
    let trusted = shared.key.verifier(shared.log_origin.as_str());
    let object = path.to_string();
    match log_head::read_head(&bytes, size, &trusted) {
        Ok(edge) => Ok((size, edge)),
        Err(HeadFault::Newer) => Err(StoreError::Newer { object, what: "it is a head of a later form".into() }),
        Err(HeadFault::Wrong(why)) => Err(StoreError::Damaged { path: object, why }),
    }
}
