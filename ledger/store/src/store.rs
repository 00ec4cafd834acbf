//! A store, open: its streams, its writer, its log head, and the way in for requests.
//!
//! Not here: authorization (`access`), what the writer does ([`crate::writer`]).
//!
//! Invariants: one writer per store, which owns the log's lock for as long as it lives; handles come from
//! [`Store::reader`] and [`Store::appender`], which only the front door calls.

mod append;
mod keyed;
mod lost;
mod maintain;
mod memo;
mod signed;

pub use self::append::{AppendRequest, Appended};
use crate::ambient::Ambient;
use crate::error::StoreError;
use crate::handle::{AppendHandle, StreamHandle};
use crate::keys::KeySource;
use crate::layout;
use crate::limits::{Limits, REQUEST_BYTES};
use crate::log_state::{LogHealth, LogState};
use crate::observed;
use crate::precheck::{self, Known};
use crate::recover;
use crate::seal::{self, SealJob};
use crate::segment_reader::Content;
use crate::signing::{self, Signing};
use crate::stream::{Sealed, Stream};
use crate::upkeep::{Upkeep, UpkeepJob};
use crate::wal::{DiskFiles, LogFiles};
use crate::writer::{Message, Prepared, Reply, Retries, Submission, SubmittedPart};
use ledger::checkpoint::StreamHead;
use ledger::draft::Draft;
use ledger::group::Durability;
use ledger::key::LedgerKeys;
use ledger::leaf::{Commitments, Seed, id_fingerprint};
use ledger::name::{LedgerName, Origin, StreamKind, TenantId};
use object_store::{ObjectStore, ObjectStoreExt as _};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot};

/// What a store is opened with.
pub struct StoreOptions {
    /// Where objects are kept.
    pub objects: Arc<dyn ObjectStore>,
    /// What "durable" means.
    pub durability: Durability,
    /// The folder of the write-ahead log, on a local disk; not used when groups are objects.
    pub log: PathBuf,
    /// Whether to go on without the log that the store names: what was not sealed is given up.
    pub log_lost: bool,
    /// The folder of caches, which may be deleted while nothing runs.
    pub cache: PathBuf,
    /// The ledger's name.
    pub ledger: LedgerName,
    /// The store's own name, which follows the rule of a tenant's.
    pub name: TenantId,
    /// The ledger's signing key, and those that are still to hand over to it or sign along.
    pub signing: LedgerKeys,
    /// Where tenants' keys come from; without it nothing is encrypted.
    pub keys: Option<Arc<dyn KeySource>>,
    /// Bounds.
    pub limits: Limits,
    /// Clock and randomness.
    pub ambient: Arc<dyn Ambient>,
}

/// Names one stream of a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StreamKey(TenantId, StreamKind);

impl StreamKey {
    /// The key of a stream.
    pub(crate) fn of(stream: &Stream) -> Self {
        Self(stream.tenant.clone(), stream.kind)
    }

    /// The key of a tenant's stream.
    pub(crate) fn new(tenant: TenantId, kind: StreamKind) -> Self {
        Self(tenant, kind)
    }
}

/// The store log's newest head and its signed form.
#[derive(Debug, Clone)]
pub(crate) struct LogHead {
    pub head: StreamHead,
    pub checkpoint: String,
}

/// What the store's threads and handles share.
pub(crate) struct Shared {
    pub objects: Arc<dyn ObjectStore>,
    /// The same, with the keys to what is encrypted.
    pub content: Content,
    pub cache: PathBuf,
    pub ledger: LedgerName,
    pub name: TenantId,
    pub log_origin: Origin,
    pub signing: Signing,
    pub limits: Limits,
    pub ambient: Arc<dyn Ambient>,
    pub durability: Durability,
    pub log: LogHealth,
    /// Set when the store closes: the sealer finishes what it is at, and begins nothing.
    pub stopping: AtomicBool,
    /// Whether the wall clock leapt, which stops admission.
    pub leapt: AtomicBool,
    pub unsealed_bytes: AtomicUsize,
    /// How many merges were begun: part of the name of what each puts.
    pub merges: AtomicU64,
    /// Erasures of which it is not known whether they were committed.
    pub unsettled_erasures: AtomicUsize,
    pub streams: RwLock<HashMap<StreamKey, Arc<Stream>>>,
    pub log_head: RwLock<LogHead>,
}

impl Shared {
    pub(crate) fn set_log_head(&self, head: LogHead) {
        *self.log_head.write().unwrap_or_else(PoisonError::into_inner) = head;
    }

    pub(crate) fn stream(&self, key: &StreamKey) -> Option<Arc<Stream>> {
        self.streams.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// The stream of this key, made when it is new.
    pub(crate) fn stream_or_new(&self, key: StreamKey) -> Arc<Stream> {
        if let Some(known) = self.stream(&key) {
            return known;
        }
        let origin = Origin::stream(&self.ledger, &key.0, key.1, self.log_origin.generation());
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Stream::new(key.0.clone(), key.1, origin, Sealed::default()));
        Arc::clone(streams.entry(key.clone()).or_insert_with(make))
    }
}

/// An open store. Dropping it stops the writer without waiting; [`Store::close`] waits.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    writer: mpsc::Sender<Message>,
    seals: mpsc::UnboundedSender<SealJob>,
    upkeep: mpsc::UnboundedSender<UpkeepJob>,
    epoch: u64,
    log: Arc<Path>,
}

impl Store {
    /// Opens a store: takes the log, reads what is there, recovers what a stop left, and starts the writer.
    ///
    /// # Errors
    /// The log is held by another process or damaged, the store belongs to another ledger or log, or a
    /// history does not hold. Nothing is changed then.
    pub async fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let files = Arc::new(DiskFiles::of(&options.log));
        Self::open_on(options, files).await
    }

    /// Opens a store whose log has these files, which a test may make fail.
    pub(crate) async fn open_on(options: StoreOptions, files: Arc<dyn LogFiles>) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Handle::current();
        let limits = options.limits.clone();
        let log = options.log.as_path().into();
        let signing = options.signing.clone();
        let recovered = recover::recover(options, files).await?;
        let (writer, messages) = mpsc::channel(limits.queue);
        let (seals, jobs) = mpsc::unbounded_channel();
        let shared = Arc::clone(&recovered.shared);
        signing::go_over(&shared, signing).await?;
        let epoch = recovered.epoch;
        let lock = recovered.lock();
        let broken = recovered.broken_streams();
        let retries = Retries::new(runtime.clone(), writer.downgrade());
        let thread = recovered.into_writer(seals.clone(), retries);
        spawn("ledger-writer", move || {
            let stopped = thread.run(messages);
            let _ = stopped.map(|done| done.send(()));
        })?;
        // The sealer must not keep the writer alive, which keeps the sealer alive: both end with the last handle.
        let (sealer, back) = (Arc::clone(&shared), writer.downgrade());
        let handle = runtime.clone();
        let (upkeep, looks) = mpsc::unbounded_channel();
        let (keeper, keeper_lock, keeper_handle) = (
            Upkeep::new(Arc::clone(&shared), epoch, writer.downgrade(), seals.downgrade()),
            lock.clone(),
            runtime.clone(),
        );
        spawn("ledger-upkeep", move || {
            let stopped = keeper.run(looks, &keeper_handle);
            drop(keeper_lock);
            let _ = stopped.map(|done| done.send(()));
        })?;
        let tell = upkeep.clone();
        spawn("ledger-sealer", move || {
            let stopped = crate::seal::run(&sealer, jobs, &back, &tell, &handle);
            // Until here it may write, so until here the log is held.
            drop(lock);
            let _ = stopped.map(|done| done.send(()));
        })?;
        runtime.spawn(tick(Arc::clone(&shared), writer.downgrade(), upkeep.downgrade(), epoch));
        let store = Self { shared, writer, seals, upkeep, epoch, log };
        store.declare_lost(broken).await?;
        Ok(store)
    }

    /// Stops the writer after what is queued, then sealer and upkeep after what they are at, and gives the log back.
    /// What is not sealed stays in the log.
    pub async fn close(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        let (done, stopped) = oneshot::channel();
        if self.writer.send(Message::Stop(done)).await.is_ok() {
            let _ = stopped.await;
        }
        let (done, stopped) = oneshot::channel();
        if self.seals.send(SealJob::Stop(done)).is_ok() {
            let _ = stopped.await;
        }
        let (done, stopped) = oneshot::channel();
        if self.upkeep.send(UpkeepJob::Stop(done)).is_ok() {
            let _ = stopped.await;
        }
    }

    /// What the store's threads and handles share.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The writer's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The folder of the write-ahead log.
    pub(crate) fn log_folder(&self) -> &Path {
        &self.log
    }

    /// The store's own name.
    pub fn name(&self) -> &TenantId {
        &self.shared.name
    }

    /// The ledger's name.
    pub fn ledger(&self) -> &LedgerName {
        &self.shared.ledger
    }

    /// The signed head of the store log.
    pub fn log_checkpoint(&self) -> String {
        self.shared.log_head.read().unwrap_or_else(PoisonError::into_inner).checkpoint.clone()
    }

    /// The store log's head.
    pub fn log_head(&self) -> StreamHead {
        self.shared.log_head.read().unwrap_or_else(PoisonError::into_inner).head.clone()
    }

    /// Whether the log accepts events.
    pub fn is_writable(&self) -> bool {
        let shared = &self.shared;
        let refuses = shared.leapt.load(Ordering::Acquire) || shared.log.get() != LogState::Open;
        let full = shared.unsealed_bytes.load(Ordering::Relaxed) > shared.limits.unsealed_bytes_hard;
        !refuses && !full && !self.writer.is_closed()
    }

    /// Why it does not accept events, in words for whoever runs the service; none while it does.
    pub fn problem(&self) -> Option<String> {
        let shared = &self.shared;
        if let Some(problem) = shared.log.get().problem() {
            return Some(problem);
        }
        if shared.leapt.load(Ordering::Acquire) {
            return Some(StoreError::ClockLeapt.to_string());
        }
        let why = "too much waits to be sealed: the object store does not take segments as fast as events come";
        (!self.is_writable()).then(|| why.into())
    }

    /// Every stream there is, ascending by tenant.
    pub fn streams(&self) -> Vec<(TenantId, StreamKind)> {
        let streams = self.shared.streams.read().unwrap_or_else(PoisonError::into_inner);
        let shown = streams.iter().filter(|(_, stream)| stream.head().size > 0);
        let mut keys: Vec<_> = shown.map(|(key, _)| (key.0.clone(), key.1)).collect();
        keys.sort();
        keys
    }

    /// A handle for reading a stream. Only the front door calls this.
    ///
    /// # Errors
    /// The tenant has no such stream.
    pub fn reader(&self, tenant: &TenantId, kind: StreamKind) -> Result<StreamHandle, StoreError> {
        let known = self.shared.stream(&StreamKey::new(tenant.clone(), kind)).filter(|stream| stream.head().size > 0);
        let stream = known.ok_or(StoreError::NotFound("this tenant has no such stream"))?;
        Ok(StreamHandle { shared: Arc::clone(&self.shared), stream })
    }

    /// A handle for appending to a stream, which is made when it is new. Only the front door calls this.
    pub fn appender(&self, tenant: &TenantId, kind: StreamKind) -> AppendHandle {
        let stream = self.shared.stream_or_new(StreamKey::new(tenant.clone(), kind));
        AppendHandle { shared: Arc::clone(&self.shared), stream }
    }

    /// Appends: when this returns, what was accepted is on stable storage and covered by the receipt.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when a bound is reached, [`StoreError::KeyReused`] when the idempotency key came
    /// with another body, [`StoreError::Moved`] when a stream does not hold what the request expects, [`StoreError::Invalid`] when the request is too large or a draft is of another
    /// stream, otherwise the log does not accept.
    pub async fn append(&self, request: AppendRequest) -> Result<Appended, StoreError> {
        let limits = &self.shared.limits;
        if self.shared.unsealed_bytes.load(Ordering::Relaxed) > limits.unsealed_bytes_hard {
            return Err(StoreError::Busy("too much waits to be sealed; send again shortly"));
        }
        let bytes = request.parts.iter().flat_map(|(_, drafts)| drafts).map(Draft::fields_bytes).sum();
        if bytes > REQUEST_BYTES {
            return Err(StoreError::Invalid("a request must be at most 64 MiB; send it in several"));
        }
        let mut parts = Vec::with_capacity(request.parts.len());
        for (handle, drafts) in request.parts {
            if !Arc::ptr_eq(&handle.shared, &self.shared) {
                return Err(StoreError::Invalid("a request goes to the store that its handles are of"));
            }
            if !drafts.iter().all(|draft| handle.takes(draft)) {
                return Err(StoreError::Invalid("an event must be of its handle's tenant and stream"));
            }
            self.pay_break(&handle.stream).await?;
            parts.push(self.prepare(handle.stream, drafts).await?);
        }
        let (atomic, mut key, expects) = (request.atomic, request.key, request.expects);
        loop {
            let (reply, answer) = oneshot::channel();
            let submission = Submission { parts, atomic, key, expects, bytes, reply };
            self.writer.send(Message::Submit(submission)).await.map_err(|_| StoreError::Stopping)?;
            match answer.await.map_err(|_| StoreError::Stopping)?? {
                Reply::Done { verdicts, receipt } => {
                    observed::appended(&verdicts);
                    return Ok(Appended::Done { verdicts, receipt });
                }
                Reply::Repeated { answer, receipt } => return Ok(Appended::Repeated { answer, receipt }),
                Reply::Refused { verdicts } => {
                    let first = |known| match known {
                        Some(Known::Other(seq)) => Some(seq),
                        _ => None,
                    };
                    let conflicts = verdicts.into_iter().map(|part| part.into_iter().map(first).collect()).collect();
                    return Ok(Appended::Refused { conflicts });
                }
                Reply::LookAgain(again, same_key) => {
                    key = same_key;
                    parts = Vec::with_capacity(again.len());
                    for part in again {
                        let drafts = part.drafts.into_iter().map(|prepared| prepared.draft).collect();
                        parts.push(self.prepare(part.stream, drafts).await?);
                    }
                }
            }
        }
    }

    /// Commits to the sections of drafts and looks for their sealed originals, on the request's own time.
    async fn prepare(&self, stream: Arc<Stream>, drafts: Vec<Draft>) -> Result<SubmittedPart, StoreError> {
        let fingerprints: Vec<u64> = drafts.iter().map(|draft| id_fingerprint(draft.event_id())).collect();
        stream.use_log_key(&self.shared)?;
        let looked = precheck::precheck(&self.shared, &stream, &drafts, &fingerprints).await?;
        let new_seed = || {
            let mut seed = [0; 16];
            self.shared.ambient.fill_random(&mut seed);
            Seed(seed)
        };
        let salts = stream.take_salts(drafts.len() as u32, new_seed);
        let salts = salts.into_iter().flat_map(|(seed, from, count)| (from..from + count).map(move |i| (seed, i)));
        let each = drafts.into_iter().zip(salts).zip(fingerprints).zip(looked.known);
        let drafts = each
            .map(|(((draft, (seed, index)), fingerprint), known)| {
                let commitments = Commitments::of(&draft, &seed, index);
                Prepared { draft, seed, index, commitments, fingerprint, known }
            })
            .collect();
        Ok(SubmittedPart { stream, checked_through: looked.through, drafts })
    }

    /// Seals what is durable of every stream, now: before handing a store over, and in tests.
    ///
    /// # Errors
    /// A seal failed; the others were still tried.
    pub async fn seal_all(&self) -> Result<(), StoreError> {
        self.seal_each(self.all_streams()).await
    }

    /// Seals what is durable of one stream, now.
    ///
    /// # Errors
    /// The tenant has no such stream, or the seal failed.
    pub async fn seal(&self, tenant: &TenantId, kind: StreamKind) -> Result<(), StoreError> {
        let known = self.shared.stream(&StreamKey::new(tenant.clone(), kind));
        let stream = known.ok_or(StoreError::NotFound("this tenant has no such stream"))?;
        seal::now(&self.shared, &self.seals, stream, self.epoch).await
    }
}

/// Tells writer and upkeep that time passes, and whether another writer announced itself in the store.
async fn tick(
    shared: Arc<Shared>,
    writer: mpsc::WeakSender<Message>,
    upkeep: mpsc::WeakUnboundedSender<UpkeepJob>,
    epoch: u64,
) {
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        let (Some(writer), Some(upkeep)) = (writer.upgrade(), upkeep.upgrade()) else { return };
        let _ = upkeep.send(UpkeepJob::Tick);
        if writer.send(Message::Tick).await.is_err() {
            return;
        }
        // Where groups are objects, the next object tells, and sooner.
        let is_wal = shared.durability == Durability::Wal && !shared.log.is_fenced();
        if is_wal && shared.objects.head(&layout::epoch(epoch + 1)).await.is_ok() {
            // A writer that is gone signs nothing.
            let _ = writer.send(Message::Overtaken(epoch + 1)).await;
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(work);
    thread.map(drop).map_err(StoreError::file(std::path::Path::new(name)))
}

#[cfg(test)]
pub(crate) mod tests;
