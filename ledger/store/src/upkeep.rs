//! Upkeep: one thread that keeps what sealing leaves behind small and quick to open.
//!
//! Stream by stream it merges small segments, packs old commits, gives the Delta view its checkpoints, deletes what
//! commits removed once nobody reads it, finds what dead writers left, and writes the snapshot of the chain. None of
//! it is urgent and all of it may be stopped anywhere: the next look takes it up.
//!
//! Not here: each of these by itself ([`crate::compact`], [`crate::pack`], [`crate::delta`], [`crate::snapshot`]).
//! Invariant: a segment's file is deleted only after a commit removed it, its grace has passed, and no reader of
//! this process holds it; or if no commit names it and none ever will.

use crate::compact::{self, Occasion};
use crate::delta;
use crate::erase::{self, EraseDone, EraseOrder, Tools};
use crate::error::StoreError;
use crate::layout;
use crate::limits::{
    CONCURRENT_OBJECTS, ERASE_THREADS, Limits, PURGES_AT_ONCE, PURGES_ROOM_MIB, QUIET_MICROS, ROUND_MICROS,
};
use crate::pack;
use crate::precheck;
use crate::seal::SealJob;
use crate::segment::{Segment, Statistics};
use crate::snapshot;
use crate::store::{Shared, StreamKey};
use crate::stream::Stream;
use crate::turn::Removed;
use crate::writer::Message;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// What the upkeep thread is asked to do.
pub(crate) enum UpkeepJob {
    /// Look at a stream that got a commit.
    Look(Arc<Stream>),
    /// Time has passed.
    Tick,
    /// Carry out erasures, and answer what became of each.
    Erase(Vec<EraseOrder>, oneshot::Sender<Vec<EraseOutcome>>),
    /// Look at every stream now, and answer when that is done.
    Now(oneshot::Sender<Result<(), StoreError>>),
    /// Stop; whoever asks is told.
    Stop(oneshot::Sender<()>),
}

/// What became of an order: nothing was left to do, it was carried out, or it was not.
pub(crate) type EraseOutcome = Result<Option<EraseDone>, StoreError>;

impl UpkeepJob {
    /// Asks for a look at a stream, once until it is looked at.
    pub(crate) fn look(jobs: &mpsc::UnboundedSender<Self>, stream: &Arc<Stream>) {
        if !stream.looked_for.swap(true, Ordering::AcqRel) {
            let _ = jobs.send(Self::Look(Arc::clone(stream)));
        }
    }
}

/// The upkeep thread's own state.
pub(crate) struct Upkeep {
    shared: Arc<Shared>,
    epoch: u64,
    writer: mpsc::WeakSender<Message>,
    seals: mpsc::WeakUnboundedSender<SealJob>,
    /// Whether the log is to be emptied of what was erased.
    clears: AtomicBool,
    /// Streams with something to delete later, or whose upkeep failed.
    waiting: HashMap<StreamKey, Arc<Stream>>,
    next_round: i64,
    /// When unsealed bytes were looked at, and how many there were: the same again means that nothing came in between.
    sample: (i64, usize),
}

impl Upkeep {
    /// The state of a store that was just opened.
    pub(crate) fn new(
        shared: Arc<Shared>,
        epoch: u64,
        writer: mpsc::WeakSender<Message>,
        seals: mpsc::WeakUnboundedSender<SealJob>,
    ) -> Self {
        let next_round = shared.ambient.monotonic_micros();
        let sample = (next_round, shared.unsealed_bytes.load(Ordering::Relaxed));
        let clears = AtomicBool::new(false);
        Self { shared, epoch, writer, seals, clears, waiting: HashMap::new(), next_round, sample }
    }

    /// Runs until told to stop, and answers whom to tell that it has, or until nobody is left to give it work.
    pub(crate) fn run(
        mut self,
        mut jobs: mpsc::UnboundedReceiver<UpkeepJob>,
        runtime: &tokio::runtime::Handle,
    ) -> Option<oneshot::Sender<()>> {
        while let Some(job) = jobs.blocking_recv() {
            let is_closing = self.shared.stopping.load(Ordering::Acquire);
            match job {
                UpkeepJob::Stop(done) => return Some(done),
                UpkeepJob::Erase(orders, done) if is_closing => {
                    drop(done.send(orders.iter().map(|_| Err(StoreError::Stopping)).collect()));
                }
                UpkeepJob::Now(done) if is_closing => drop(done.send(Err(StoreError::Stopping))),
                _ if is_closing => {}
                UpkeepJob::Look(stream) => {
                    stream.looked_for.store(false, Ordering::Release);
                    let _ = runtime.block_on(self.keep_or_wait(stream, Occasion::Commit));
                }
                UpkeepJob::Tick => runtime.block_on(self.tick()),
                UpkeepJob::Now(done) => drop(done.send(runtime.block_on(self.round()))),
                UpkeepJob::Erase(orders, done) => drop(done.send(self.erase(orders, runtime))),
            }
        }
        None
    }

    /// Takes content from several streams, some at a time, on threads of their own: it is decoding, hashing and encoding, of
    /// which requests must not notice. Their merges wait meanwhile, so neither has to begin anew.
    fn erase(&mut self, orders: Vec<EraseOrder>, runtime: &tokio::runtime::Handle) -> Vec<EraseOutcome> {
        let tools = &Tools { shared: &self.shared, epoch: self.epoch, writer: &self.writer, seals: &self.seals };
        let room = &Semaphore::new(PURGES_ROOM_MIB as usize);
        let one = |(at, order): (usize, EraseOrder)| async move {
            let Some(stream) = tools.shared.stream(&StreamKey::new(order.tenant.clone(), order.kind)) else {
                return (at, Err(StoreError::NotFound("this tenant has no such stream")));
            };
            let segments = stream.view().sealed.segments;
            let largest = segments.iter().map(|segment| segment.reference.bytes).max().unwrap_or_default();
            let takes = u32::try_from(largest >> 20).unwrap_or(u32::MAX).clamp(1, PURGES_ROOM_MIB);
            // It is never closed.
            let _room = room.acquire_many(takes).await;
            (at, erase::erase(tools, &stream, &order).await.map(|done| (done, stream)))
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(ERASE_THREADS).min(orders.len());
        let count = orders.len();
        let mut shares: Vec<Vec<(usize, EraseOrder)>> = (0..threads).map(|_| Vec::new()).collect();
        for (at, order) in orders.into_iter().enumerate() {
            shares[at % threads].push((at, order));
        }
        let at_once = (PURGES_AT_ONCE / threads.max(1)).max(1);
        let done: Vec<(usize, Result<_, StoreError>)> = std::thread::scope(|scope| {
            let work =
                |share| runtime.block_on(futures::stream::iter(share).map(one).buffered(at_once).collect::<Vec<_>>());
            let threads: Vec<_> = shares.into_iter().map(|share| scope.spawn(move || work(share))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
        });
        let mut outcomes: Vec<EraseOutcome> = (0..count).map(|_| Err(StoreError::Stopping)).collect();
        for (at, one) in done {
            outcomes[at] = one.map(|(erased, stream)| {
                self.waiting.insert(StreamKey::of(&stream), stream);
                erased
            });
        }
        outcomes
    }

    async fn tick(&mut self) {
        for stream in std::mem::take(&mut self.waiting).into_values() {
            let _ = self.keep_or_wait(stream, Occasion::Commit).await;
        }
        self.clear_log().await;
        // A round is work for every core's spare time: it waits for a moment when nothing comes in, but not for ever.
        let now = self.shared.ambient.monotonic_micros();
        if self.is_quiet(now) && now >= self.next_round || now >= self.next_round + ROUND_MICROS {
            self.next_round = now + ROUND_MICROS;
            let _ = self.round().await;
        }
    }

    /// Whether nothing came in for a while. Ticks that piled up during long work tell nothing.
    fn is_quiet(&mut self, now: i64) -> bool {
        let (at, before) = self.sample;
        if now - at < QUIET_MICROS {
            return false;
        }
        let unsealed = self.shared.unsealed_bytes.load(Ordering::Relaxed);
        self.sample = (now, unsealed);
        unsealed == before
    }

    /// Looks at every stream; the first failure is told, the others were still looked at.
    async fn round(&mut self) -> Result<(), StoreError> {
        let all: Vec<Arc<Stream>> =
            self.shared.streams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut segments = 0;
        let mut result = Ok(());
        for stream in all {
            result = result.and(self.keep_or_wait(Arc::clone(&stream), Occasion::Round).await);
            segments += stream.view().sealed.segments.len();
        }
        metrics::gauge!("piperoll_segments").set(segments as f64);
        self.clear_log().await;
        result
    }

    /// Has the log emptied of what was erased, once for all streams. Died before it: the next start does it.
    async fn clear_log(&self) {
        if self.clears.swap(false, Ordering::AcqRel)
            && let Some(writer) = self.writer.upgrade()
        {
            let _ = writer.send(Message::Clear).await;
        }
    }

    async fn keep_or_wait(&mut self, stream: Arc<Stream>, occasion: Occasion) -> Result<(), StoreError> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(StoreError::Stopping);
        }
        let kept = self.keep(&stream, occasion).await;
        if let Err(error) = &kept {
            let error = error as &dyn std::error::Error;
            tracing::warn!(tenant = %stream.tenant, stream = %stream.kind, error, "upkeep failed; tried again later");
        }
        if kept.is_err() || !stream.turn.lock().await.removed.is_empty() {
            self.waiting.insert(StreamKey::of(&stream), stream);
        }
        kept
    }

    /// All that one stream needs.
    async fn keep(&self, stream: &Stream, occasion: Occasion) -> Result<(), StoreError> {
        let shared = &self.shared;
        if stream.view().sealed.commits == 0 || shared.log.is_fenced() {
            return Ok(());
        }
        while compact::compact(shared, stream, self.epoch, occasion).await? {}
        pack::pack_old(shared, stream).await?;
        delta::checkpoint_if_due(shared, stream).await?;
        let deleted = self.delete_removed(stream).await?;
        self.sweep(stream).await?;
        let sealed = stream.view().sealed;
        let noted = stream.turn.lock().await.noted;
        let behind = sealed.commits - noted.min(sealed.commits);
        // A snapshot without statistics would make the next opening read footers; a stream that nobody has used
        // yet gets its own with its first commit.
        let is_known = sealed.segments.iter().all(|segment| segment.statistics != Statistics::default());
        let is_due = behind >= shared.limits.snapshot_commits || (occasion == Occasion::Round && behind > 0) || deleted;
        if is_due && is_known { snapshot::write(shared, stream).await } else { Ok(()) }
    }

    /// Deletes the files of removed segments that nobody reads any more. Died during it: the snapshot, or the
    /// commits, still name them as removed, and deleting what is not there is nothing.
    async fn delete_removed(&self, stream: &Stream) -> Result<bool, StoreError> {
        let shared = &self.shared;
        let now = shared.ambient.now_micros();
        let is_due = |one: &&Removed| {
            let Limits { purged_grace, removed_grace, .. } = shared.limits;
            let grace = if one.is_erased { purged_grace } else { removed_grace };
            now - one.at >= grace.as_micros() as i64 && !one.is_held()
        };
        let removed = stream.turn.lock().await.removed.clone();
        let due: Vec<_> = removed.iter().filter(is_due).collect();
        if due.is_empty() {
            return Ok(false);
        }
        // A writer that was overtaken and does not know it yet may have merged what its successor still reads.
        match shared.objects.head(&layout::epoch(self.epoch + 1)).await {
            Err(object_store::Error::NotFound { .. }) => {}
            _ => return Ok(false),
        }
        let mut paths: Vec<Path> = due.iter().map(|one| stream.prefix.below(&one.path)).collect();
        // With the files of a purge goes what older purges kept: the newest says it all.
        // What a purge put whose commit is not settled may come to be the newest.
        let turn = stream.turn.lock().await;
        if turn.unsettled.is_none() && due.iter().any(|one| one.is_erased) {
            self.clears.store(true, Ordering::Release);
            let newest = stream.view().sealed.gone.as_ref().map(|gone| stream.prefix.below(&gone.reference.path()));
            let folder = stream.prefix.gone_folder();
            let listed = shared.objects.list(Some(&folder)).map_ok(|meta| meta.location);
            let kept: Vec<Path> = listed.try_collect().await.map_err(StoreError::objects(&folder))?;
            paths.extend(kept.into_iter().filter(|path| newest.as_ref().is_some_and(|newest| path < newest)));
        }
        drop(turn);
        delete(shared, paths).await?;
        let gone: HashSet<&str> = due.iter().map(|one| one.path.as_str()).collect();
        stream.turn.lock().await.removed.retain(|one| !gone.contains(one.path.as_str()));
        self.forget_ids(stream);
        Ok(true)
    }

    /// Removes files of ids whose segments are gone. They are a cache: what cannot be removed stays. A seal that is
    /// under way writes its own, beyond what is sealed.
    fn forget_ids(&self, stream: &Stream) {
        let sealed = stream.view().sealed;
        let path = |segment: &Arc<Segment>| precheck::run_path(&self.shared, stream, &segment.reference);
        let wanted: HashSet<_> = sealed.segments.iter().map(path).collect();
        for entry in std::fs::read_dir(precheck::runs_folder(&self.shared, stream)).into_iter().flatten().flatten() {
            let end = precheck::run_end(&entry.path());
            if end.is_some_and(|end| end <= sealed.edge.size()) && !wanted.contains(&entry.path()) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// Deletes what writers before this one put for this stream and no commit names, and finishes their packing.
    ///
    /// Only once a commit of our own stands: whatever commit such a writer may still be about to create has a number
    /// that is taken, so nothing can come to name what it left.
    async fn sweep(&self, stream: &Stream) -> Result<(), StoreError> {
        let shared = &self.shared;
        let turn = stream.turn.lock().await;
        let sealed = stream.view().sealed;
        if turn.swept || sealed.epoch != self.epoch {
            return Ok(());
        }
        let waiting: Vec<String> = turn.removed.iter().map(|one| one.path.clone()).collect();
        drop(turn);
        let live: HashSet<&str> = sealed.segments.iter().map(|segment| segment.reference.path.as_str()).collect();
        let listed = list_segments(shared, stream).await?;
        let is_left = |path: &Path| {
            let relative = stream.prefix.relative(path).unwrap_or_default();
            let epoch = layout::folder_and_epoch(relative).map(|(_, epoch)| epoch);
            let is_named = live.contains(relative) || waiting.iter().any(|removed| removed == relative);
            epoch.is_some_and(|epoch| epoch < self.epoch) && !is_named
        };
        let left: Vec<Path> = listed.into_iter().filter(is_left).collect();
        if !left.is_empty() {
            let count = left.len();
            tracing::info!(tenant = %stream.tenant, stream = %stream.kind, count, "deleted what a stopped writer left");
        }
        delete(shared, left).await?;
        pack::finish(shared, stream).await?;
        stream.turn.lock().await.swept = true;
        Ok(())
    }
}

/// The objects in a stream's folders of months.
async fn list_segments(shared: &Shared, stream: &Stream) -> Result<Vec<Path>, StoreError> {
    let failed = || StoreError::objects(stream.prefix.path());
    let top = shared.objects.list_with_delimiter(Some(stream.prefix.path())).await.map_err(failed())?;
    let mut found = Vec::new();
    let is_month = |folder: &&Path| folder.filename().is_some_and(|name| !name.starts_with('_'));
    for folder in top.common_prefixes.iter().filter(is_month) {
        let listed: Vec<_> = shared.objects.list(Some(folder)).try_collect().await.map_err(failed())?;
        found.extend(listed.into_iter().map(|meta| meta.location));
    }
    Ok(found)
}

/// Deletes objects; one that is not there is as good as deleted.
pub(crate) async fn delete(shared: &Shared, paths: Vec<Path>) -> Result<(), StoreError> {
    let one = |path: Path| async move {
        match shared.objects.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(StoreError::Objects { path: path.to_string(), source }),
        }
    };
    futures::stream::iter(paths).map(one).buffer_unordered(CONCURRENT_OBJECTS).try_collect().await
}
