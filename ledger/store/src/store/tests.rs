//! The store as a whole, from outside: what is told to whoever appends is what is found ever after.
//!
//! Here stands the bed that all of them lie in: a world with a settable clock and seeded randomness, a store
//! on folders that outlive it, and the full check of a stream. The topics are modules.

pub(crate) mod disk;
mod erase;
mod faults;
pub(crate) mod faulty;
mod fencing;
mod keys;
mod log_faults;
mod log_life;
mod lost_log;
mod matrix;
mod model;
mod newer;
mod ownership;
mod races;
mod scale;
mod schedules;
pub(crate) mod script;
mod signing;
mod since;
mod stops;
mod tamper;
mod trees;
mod upkeep;
mod workload;

use super::*;
use crate::columns::Rows;
use crate::fsck::{Fsck, Report};
use crate::objects::DurableFolder;
use crate::segment;
use crate::stream::Snapshot;
use crate::writer::{RequestKey, Verdict};
use ledger::draft::DraftBuilder;
use ledger::field::Field;
use ledger::key::LedgerKey;
use ledger::receipt::{Receipt, VerifiedReceipt};
use ledger::tree::{Hash, root_of};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;

pub(crate) const START: i64 = 1_790_000_000_000_000;

/// What a world does once, in the middle of a request.
type Hook = Box<dyn FnOnce() + Send>;

/// A clock that moves when told, and randomness from a seed.
pub(crate) struct World {
    wall: AtomicI64,
    monotonic: AtomicI64,
    random: Mutex<u64>,
    on_random: Mutex<Option<Hook>>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let (wall, monotonic) = (AtomicI64::new(START), AtomicI64::new(0));
        Arc::new(Self { wall, monotonic, random: Mutex::new(seed), on_random: Mutex::default() })
    }

    pub(super) fn pass(&self, micros: i64) {
        self.wall.fetch_add(micros, Ordering::SeqCst);
        self.monotonic.fetch_add(micros, Ordering::SeqCst);
    }

    pub(super) fn shift_wall(&self, micros: i64) {
        self.wall.fetch_add(micros, Ordering::SeqCst);
    }

    /// Runs `hook` the next time that randomness is drawn: between the look for originals and the writer.
    pub(super) fn on_random(&self, hook: impl FnOnce() + Send + 'static) {
        *self.on_random.lock().unwrap() = Some(Box::new(hook));
    }
}

impl Ambient for World {
    fn now_micros(&self) -> i64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn monotonic_micros(&self) -> i64 {
        self.monotonic.load(Ordering::SeqCst)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        let hook = self.on_random.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        let mut state = self.random.lock().unwrap();
        for byte in bytes {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (*state >> 33) as u8;
        }
    }
}

/// Folders of a store and what it is opened with.
pub(super) struct Bed {
    pub folder: tempfile::TempDir,
    pub world: Arc<World>,
    pub limits: Limits,
    pub durability: Durability,
    /// Objects that are not in the folder.
    pub objects: Option<Arc<dyn ObjectStore>>,
    /// Where tenants' keys come from.
    pub keys: Option<Arc<dyn crate::KeySource>>,
}

pub(super) fn key() -> LedgerKey {
    LedgerKey::from_secret(&[5; 32])
}

pub(super) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

impl Bed {
    pub(super) fn new(seed: u64) -> Self {
        let seal_age = std::time::Duration::from_secs(10 * 86_400);
        let limits = Limits { seal_age, log_reserve_bytes: 64 << 10, ..Limits::default() };
        let (folder, world) = (tempfile::tempdir().unwrap(), World::new(seed));
        Self { folder, world, limits, durability: Durability::Wal, objects: None, keys: None }
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn objects(&self) -> Arc<dyn ObjectStore> {
        match &self.objects {
            Some(objects) => Arc::clone(objects),
            None => Arc::new(DurableFolder::open(&self.at("objects")).unwrap()),
        }
    }

    pub(super) fn options(&self) -> StoreOptions {
        StoreOptions {
            objects: self.objects(),
            durability: self.durability,
            log: self.at("log"),
            log_lost: false,
            cache: self.at("cache"),
            ledger: "example".parse().unwrap(),
            name: tenant("main"),
            signing: key().into(),
            keys: self.keys.clone(),
            limits: self.limits.clone(),
            ambient: Arc::clone(&self.world) as Arc<dyn Ambient>,
        }
    }

    pub(super) async fn open(&self) -> Store {
        Store::open(self.options()).await.unwrap()
    }

    pub(super) async fn refusal(&self) -> StoreError {
        Store::open(self.options()).await.err().expect("a store that must not open")
    }

    /// The folders as they are this moment, as a crash would leave them.
    pub(super) fn copy(&self) -> Bed {
        let copy = tempfile::tempdir().unwrap();
        // The log first: objects only ever come after the log entries that they are made of are durable, and
        // a log file is only deleted after its objects are there. So the other order would be no crash.
        for name in ["log", "objects"] {
            copy_folder(&self.at(name), &copy.path().join(name));
        }
        let (world, limits) = (Arc::clone(&self.world), self.limits.clone());
        Bed { folder: copy, world, limits, durability: self.durability, objects: None, keys: self.keys.clone() }
    }

    pub(super) fn log_files(&self) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(self.at("log")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = listed.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        files.sort();
        files
    }

    pub(super) async fn fsck(&self) -> Report {
        fsck(self.objects()).await
    }
}

pub(super) async fn fsck(objects: Arc<dyn ObjectStore>) -> Report {
    let keys = vec![key().verifier("any")];
    Fsck {
        objects,
        ledger: "example".parse().unwrap(),
        keys,
        content: Default::default(),
        kept: vec![],
        durable: vec![],
    }
    .store(|_| {})
    .await
    .unwrap()
}

pub(super) fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), target) {
            // A staged file may be gone by now.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

pub(super) fn draft(tenant: &str, id: &str, content: u64) -> Draft {
    let mut builder = DraftBuilder::default();
    let text = [
        (Field::Tenant, tenant.to_string()),
        (Field::EventId, id.to_string()),
        (Field::Action, "invoice.update".into()),
        (Field::ActorType, "user".into()),
        (Field::ActorId, format!("u-{content}")),
        (Field::Attributes, format!("{{\"content\":{content}}}")),
    ];
    for (field, text) in text {
        builder.text(field, text).unwrap();
    }
    builder.int(Field::OccurredAt, 1_000_000 * content as i64).unwrap();
    builder.finish().unwrap()
}

pub(super) fn request(store: &Store, parts: Vec<(&str, Vec<Draft>)>) -> AppendRequest {
    let handle = |name: &str| store.appender(&tenant(name), StreamKind::Audit);
    let parts = parts.into_iter().map(|(name, drafts)| (handle(name), drafts)).collect();
    AppendRequest { parts, ..Default::default() }
}

/// Appends to one stream and answers verdicts and receipt.
pub(super) async fn append(store: &Store, name: &str, drafts: Vec<Draft>) -> (Vec<Verdict>, String) {
    match store.append(request(store, vec![(name, drafts)])).await.unwrap() {
        Appended::Done { mut verdicts, receipt } => (verdicts.remove(0), receipt.unwrap()),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn append_ids(store: &Store, name: &str, ids: std::ops::Range<u64>) -> Vec<Verdict> {
    append(store, name, ids.map(|id| draft(name, &format!("e-{id}"), id)).collect()).await.0
}

pub(super) fn verified(store: &Store, receipt: &str) -> VerifiedReceipt {
    Receipt::parse(receipt.as_bytes()).unwrap().verify(&[store.verifier()]).unwrap()
}

/// A row as it is read back.
pub(super) struct Row {
    pub id: String,
    pub draft: Draft,
    pub leaf: Hash,
}

/// Every row of a snapshot, after checking that they are contiguous, in order of record, and give its root.
pub(super) async fn rows(snapshot: &Snapshot) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    let mut take = |batch: &arrow::array::RecordBatch| {
        let rows = Rows::of(batch).unwrap();
        let mut scratch = Vec::new();
        for row in 0..rows.len() {
            assert_eq!(rows.seq(row), out.len() as u64, "rows are contiguous");
            let draft = rows.draft(row).unwrap();
            assert!(out.last().is_none_or(|last| last.draft.recorded_at() <= draft.recorded_at()));
            let leaf = rows.leaf(row, &mut scratch).unwrap();
            out.push(Row { id: draft.event_id().into(), draft, leaf });
        }
    };
    for segment in &snapshot.segments {
        let bytes = segment::fetch(&snapshot.objects, &segment.location).await.unwrap();
        segment::read_all(&snapshot.keys, &segment.location, bytes, |batch| {
            take(batch);
            Ok(())
        })
        .unwrap();
    }
    snapshot.tail.iter().for_each(take);
    assert_eq!(out.len() as u64, snapshot.head.size);
    assert_eq!(root_of(out.iter().map(|row| row.leaf)), snapshot.head.root);
    out
}

pub(super) async fn rows_of(store: &Store, name: &str) -> Vec<Row> {
    rows(&store.reader(&tenant(name), StreamKind::Audit).unwrap().snapshot().await.unwrap()).await
}

pub(super) async fn ids_of(store: &Store, name: &str) -> Vec<String> {
    rows_of(store, name).await.into_iter().map(|row| row.id).collect()
}

pub(super) fn ids(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|id| format!("e-{id}")).collect()
}

pub(super) fn accepted(range: std::ops::Range<u64>) -> Vec<Verdict> {
    range.map(Verdict::Accepted).collect()
}

pub(super) fn duplicates(range: std::ops::Range<u64>) -> Vec<Verdict> {
    range.map(Verdict::Duplicate).collect()
}
