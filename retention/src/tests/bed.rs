//! A platform in one process whose clock is moved by hand: two tenants with two streams each, and retention over them.
//!
//! A kill is a copy of the log and of the objects as they are at some moment, in which everything is opened anew.

use super::model::{Entry, Hold, Model, Policy, Stream};
use crate::keeper::Keeper;
use crate::redact::along;
use crate::run::Retention;
use crate::subjects::Asked;
use access::registry::change::{Change, FactAct, HoldFact, PolicyAct, RedactionApproval, RedactionFact, RetentionFact};
use access::registry::names::FactId;
use access::registry::{Author, Made};
use access::{Book, Door, Policies, Problem, Progress, Stores};
use ledger::field::Field;
use ledger::group::Durability;
use ledger::sections::Sections;
use ledger::{Draft, DraftBuilder, LedgerKey};
use ledger_store::{Ambient, AppendRequest, Appended, Fsck, Limits, Report, Store, StoreOptions, Verdict};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

const START: i64 = 1_790_000_000_000_000;
const ACTIONS: [&str; 2] = ["invoice.update", "page.view"];
const CLASSES: [&str; 2] = ["financial", "usage"];

/// A clock that is moved, and randomness from a seed.
struct World {
    now: AtomicI64,
    random: AtomicU64,
}

impl Ambient for World {
    fn now_micros(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    fn monotonic_micros(&self) -> i64 {
        self.now.load(Ordering::SeqCst)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let step =
                |state: u64| state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let drawn = self.random.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| Some(step(state)));
            *byte = (drawn.unwrap_or_default() >> 33) as u8;
        }
    }
}

pub struct Bed {
    world: Arc<World>,
    objects: Arc<InMemory>,
    folder: tempfile::TempDir,
    door: Door,
    retention: Retention,
    draws: u64,
    next: u64,
}

fn key() -> LedgerKey {
    LedgerKey::from_secret(&[5; 32])
}

async fn open(world: &Arc<World>, objects: &Arc<InMemory>, folder: &Path) -> Door {
    let ambient = Arc::clone(world) as Arc<dyn Ambient>;
    let limits = Limits {
        seal_age: Duration::from_secs(1_000 * 86_400),
        log_reserve_bytes: 64 << 10,
        duplicate_window: Duration::from_secs(3_600),
        removed_grace: Duration::ZERO,
        purged_grace: Duration::from_secs(6 * 3_600),
        merge_inputs: 3,
        snapshot_commits: 8,
        pack_commits: 16,
        ..Limits::default()
    };
    let options = StoreOptions {
        objects: Arc::clone(objects) as Arc<dyn ObjectStore>,
        durability: Durability::Wal,
        log: folder.join("log"),
        log_lost: false,
        cache: folder.join("cache"),
        ledger: "example".parse().unwrap(),
        name: "main".parse().unwrap(),
        signing: key().into(),
        keys: None,
        limits,
        ambient: Arc::clone(&ambient),
    };
    let store = Store::open(options).await.unwrap();
    let stores = Stores::new(store, Default::default());
    let (book, _) = Book::open(stores, Arc::clone(&ambient)).await.unwrap();
    Door::new(book, Policies::load(&[]).unwrap(), vec![], access::KeySettings::default(), ambient)
}

/// Copies a folder as it is this moment.
fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            // A file of the log may go away meanwhile: then what it held stands in objects, which are copied later.
            let _ = std::fs::copy(&path, &target);
        }
    }
}

/// What is in the files of a folder, by name.
fn read_folder(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: PathBuf| (path.file_name().unwrap().into(), std::fs::read(&path).unwrap());
    files.filter(|path| path.is_file()).map(named).collect()
}

fn by(name: &str) -> Author {
    Author { principal: name.parse().unwrap(), actor_type: "user", ..Author::system() }
}

impl Bed {
    pub async fn new(seed: u64) -> Self {
        let world = Arc::new(World { now: AtomicI64::new(START), random: AtomicU64::new(seed) });
        let (objects, folder) = (Arc::new(InMemory::new()), tempfile::tempdir().unwrap());
        let door = open(&world, &objects, folder.path()).await;
        let retention = Retention::new(door.clone());
        let bed = Self { world, objects, folder, door, retention, draws: seed, next: 0 };
        for tenant in ["acme", "globex"] {
            let fact = serde_json::json!({"change": "tenant.create", "tenant": tenant});
            bed.change("officer", serde_json::from_value(fact).unwrap()).await.unwrap();
        }
        bed
    }

    pub fn store(&self) -> &Store {
        self.door.stores().main()
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.draws = self.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.draws >> 33) % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    pub fn pass(&self, hours: u64) {
        self.world.now.fetch_add(hours as i64 * super::model::HOUR, Ordering::SeqCst);
    }

    fn now(&self) -> i64 {
        self.world.now_micros()
    }

    async fn change(&self, name: &str, change: Change) -> Result<Vec<Made>, Problem> {
        Ok(self.door.book().change(&by(name), vec![change], |_, _| Ok(())).await?)
    }

    fn draft(&self, stream: Stream, entry: &Entry) -> Draft {
        let mut builder = DraftBuilder::default();
        for (field, text) in [
            (Field::Tenant, stream.tenant().to_string()),
            (Field::Stream, stream.kind().to_string()),
            (Field::EventId, format!("e-{}-{}", stream.0, self.next + entry.seq)),
            (Field::Action, entry.action.into()),
            (Field::DataClass, entry.class.into()),
            (Field::ActorType, "user".into()),
            (Field::ActorId, format!("u-{}", entry.actor)),
            (Field::ResourceId, format!("r-{}", entry.resource)),
            (Field::SourceIp, format!("10.0.0.{}", entry.actor)),
            (Field::Attributes, entry.attributes()),
        ] {
            builder.text(field, text).unwrap();
        }
        builder.int(Field::OccurredAt, entry.at).unwrap();
        builder.finish().unwrap()
    }

    pub async fn append(&mut self, model: &mut Model, stream: Stream) {
        let count = 1 + self.below(40);
        let at = self.now();
        let mut entries = Vec::new();
        for seq in 0..count {
            let (action, class) = (self.pick(&ACTIONS), self.pick(&CLASSES));
            let (actor, resource) = (self.below(9), self.below(9));
            let (erased, gone) = Default::default();
            entries.push(Entry { seq, at, action, class, actor, resource, erased, gone });
        }
        let drafts = entries.iter().map(|entry| self.draft(stream, entry)).collect();
        self.next += count;
        let appender = self.store().appender(&stream.tenant(), stream.kind());
        let request = AppendRequest { parts: vec![(appender, drafts)], ..AppendRequest::default() };
        let Appended::Done { verdicts, .. } = self.store().append(request).await.unwrap() else {
            panic!("not appended")
        };
        for (entry, verdict) in entries.into_iter().zip(&verdicts[0]) {
            let Verdict::Accepted(seq) = verdict else { panic!("{verdict:?}") };
            model.entries[stream.0].push(Entry { seq: *seq, ..entry });
        }
        model.count("appends");
    }

    pub async fn seal(&mut self, model: &mut Model) {
        self.store().seal_all().await.unwrap();
        self.note_sealed(model).await;
        model.count("seals");
    }

    /// How far streams are sealed: each such size is a head that some commit signed.
    async fn note_sealed(&self, model: &mut Model) {
        for stream in Stream::ALL {
            let Ok(reader) = self.store().reader(&stream.tenant(), stream.kind()) else { continue };
            let snapshot = reader.snapshot().await.unwrap();
            let unsealed: usize = snapshot.tail.iter().map(|batch| batch.num_rows()).sum();
            let sealed = snapshot.head.size - unsealed as u64;
            if sealed > model.sealed[stream.0] {
                model.sealed[stream.0] = sealed;
                model.heads[stream.0].push(sealed);
            }
        }
    }

    pub async fn change_policy(&mut self, model: &mut Model) {
        let name = format!("p-{}", self.below(5));
        if model.policies.contains_key(&name) && self.below(3) == 0 {
            let act = PolicyAct { policy: name.clone(), reason: "x".into() };
            self.change("officer", Change::EndRetention(act)).await.unwrap();
            model.policies.remove(&name);
            return;
        }
        let days = |bed: &mut Self| 1 + bed.below(25) as u32;
        let (tenant, action) = (self.below(3) as usize, self.below(3) as usize);
        let (class, kind) = (self.below(3) as usize, self.below(4));
        let (least, most) = (days(self), days(self));
        let policy = Policy {
            tenant: (tenant < 2).then_some(tenant),
            action: ACTIONS.get(action).copied(),
            class: CLASSES.get(class).copied(),
            least: (kind != 1).then_some(least.min(most)),
            most: (kind > 0).then_some(least.max(most)),
            original: kind == 0,
        };
        let fact = RetentionFact {
            policy: name.clone(),
            tenant: policy.tenant.map(|tenant| Stream(2 * tenant).tenant()),
            tier: None,
            streams: vec![],
            actions: policy.action.iter().map(ToString::to_string).collect(),
            classes: policy.class.iter().map(ToString::to_string).collect(),
            at_least_days: policy.least,
            at_most_days: policy.most,
            keep_original: policy.original,
            locked: false,
            basis: "x".into(),
            reason: "x".into(),
        };
        // One that could never come to pass is refused.
        if self.change("officer", Change::SetRetention(fact)).await.is_ok() {
            model.policies.insert(name, policy);
            model.count("policies");
        }
    }

    pub async fn change_hold(&mut self, model: &mut Model) {
        if model.holds.len() > 2 || (!model.holds.is_empty() && self.below(2) == 0) {
            let id = model.holds.keys().next().unwrap().clone();
            let act = FactAct { id: id.parse().unwrap(), reason: "x".into() };
            self.change("officer", Change::ReleaseHold(act)).await.unwrap();
            model.holds.remove(&id);
            return;
        }
        let (tenant, which) = (self.below(2) as usize, self.below(5));
        let who = self.below(9);
        let hold = Hold {
            tenant,
            actor: (which == 1 || which == 2).then_some(who),
            resource: (which == 3 || which == 4).then_some(who),
        };
        let list = |name: &str, who: Option<u64>| who.iter().map(|who| format!("{name}-{who}")).collect();
        let fact = HoldFact {
            hold: None,
            tenant: Stream(2 * tenant).tenant(),
            streams: vec![],
            actors: list("u", hold.actor),
            resources: list("r", hold.resource),
            subjects: vec![],
            actions: vec![],
            classes: vec![],
            from: None,
            until: None,
            incident: None,
            matter: "x".into(),
            reason: "x".into(),
            two_people: false,
        };
        let made = self.change("officer", Change::SetHold(fact)).await.unwrap();
        let Change::SetHold(fact) = &made[0].change else { panic!("another change") };
        model.holds.insert(fact.hold.as_ref().unwrap().to_string(), hold);
        model.count("holds");
    }

    /// The positions that are there, of each stream.
    async fn there(&self) -> [BTreeSet<u64>; 4] {
        let mut there: [BTreeSet<u64>; 4] = Default::default();
        for stream in Stream::ALL {
            let Ok(reader) = self.store().reader(&stream.tenant(), stream.kind()) else { continue };
            let read = reader.entries::<ledger_store::StoreError>(0, |seq, _| {
                there[stream.0].insert(seq);
                Ok(())
            });
            read.await.unwrap();
        }
        there
    }

    pub async fn purge(&mut self, model: &mut Model) {
        let_go(&self.retention).await.unwrap();
        let there = self.there().await;
        model.purge(self.now(), |stream, seq| there[stream.0].contains(&seq));
        self.note_sealed(model).await;
        model.count("purges");
    }

    /// Has a redaction asked for and agreed to; what goes by the model, and the run.
    async fn agreed(&mut self, model: &Model, stream: Stream) -> Option<(FactId, Vec<(usize, Sections)>)> {
        let who = format!("{}-{}", self.pick(&["u", "r"]), self.below(9));
        let handle = self.store().reader(&stream.tenant(), stream.kind()).ok()?;
        let asked = Asked::of(stream.tenant(), vec![handle], std::slice::from_ref(&who));
        let plan = self.retention.plan_asked(&asked, None).unwrap();
        let mut goes = Vec::new();
        for (at, entry) in model.entries[stream.0].iter().enumerate().filter(|(_, entry)| !entry.gone) {
            let named = entry.names(&who);
            let stays = model.is_held(stream, entry) || model.keeps_original(stream, entry, self.now());
            let filled = Sections::ALL.without(entry.erased).without(ledger::Section::Scope.into());
            if !named.is_empty() && !stays {
                goes.push((at, along(named).and(filled)));
            }
        }
        assert_eq!(plan.entries, goes.len() as u64, "{who} in {stream:?}: {plan:?}");
        if goes.is_empty() {
            return None;
        }
        let fact = RedactionFact {
            redaction: None,
            tenant: stream.tenant(),
            plan: plan.sha256().to_hex(),
            goes: plan.goes,
            entries: plan.entries,
            basis: "x".into(),
            reason: "x".into(),
            by: None,
        };
        let made = self.change("one", Change::AskRedaction(Box::new(fact))).await.unwrap();
        let Change::AskRedaction(fact) = &made[0].change else { panic!("another change") };
        let redaction = fact.redaction.clone().unwrap();
        let version = self.door.book().read().retention_version();
        let act = RedactionApproval { redaction, run: None, version, reason: "x".into() };
        let made = self.change("other", Change::ApproveRedaction(act)).await.unwrap();
        Some((crate::run::run_in(&made).unwrap(), goes))
    }

    pub async fn redact(&mut self, model: &mut Model, stream: Stream) {
        let Some((run, goes)) = self.agreed(model, stream).await else { return };
        let report = self.retention.carry_out(&run, None, &Progress::default()).await.unwrap();
        assert_eq!((report.outcome.as_str(), report.entries), ("done", goes.len() as u64));
        lose(model, stream, &goes);
        self.note_sealed(model).await;
        model.count("redactions");
    }

    /// Log and objects as they are at one moment: objects between two looks at a log in which nothing happened.
    fn as_it_is(&self) -> (tempfile::TempDir, Arc<InMemory>) {
        loop {
            let (copy, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            copy_folder(self.folder.path(), copy.path());
            let objects = Arc::new(self.objects.fork());
            copy_folder(self.folder.path(), again.path());
            if read_folder(&copy.path().join("log")) == read_folder(&again.path().join("log")) {
                return (copy, objects);
            }
        }
    }

    /// Dies in the middle of a run, or of nothing, and goes on.
    pub async fn kill(&mut self, model: &mut Model) {
        let stream = Stream(self.below(4) as usize);
        let redacts = if self.below(2) == 0 { self.agreed(model, stream).await } else { None };
        let before = self.door.book().read().runs().count();
        let (retention, wait) = (self.retention.clone(), Duration::from_micros(self.below(6_000)));
        let run = redacts.as_ref().map(|(run, _)| run.clone());
        let work = tokio::spawn(async move {
            match run {
                Some(run) => retention.carry_out(&run, None, &Progress::default()).await.map(drop),
                None => let_go(&retention).await,
            }
        });
        tokio::time::sleep(wait).await;
        let (copy, objects) = self.as_it_is();
        work.abort();
        let _ = work.await;
        self.store().close().await;
        (self.folder, self.objects) = (copy, objects);
        self.door = open(&self.world, &self.objects, self.folder.path()).await;
        self.retention = Retention::new(self.door.clone());
        // Whoever died with a run open goes on with it once a minute has passed.
        self.world.now.fetch_add(61_000_000, Ordering::SeqCst);
        let mut keeper = Keeper::new(self.retention.clone());
        keeper.tick().await;
        assert!(self.door.book().read().runs().all(|(_, run)| run.ended.is_some()), "a run is open");
        match redacts {
            Some((_, goes)) => lose(model, stream, &goes),
            None => {
                let newest = {
                    let registry = self.door.book().read();
                    let newest = registry.runs().map(|(_, run)| (run.begun.seq, run.fact.as_of.0)).max();
                    newest.filter(|_| registry.runs().count() > before)
                };
                // Without an intent on record nothing went.
                if let Some((_, as_of)) = newest {
                    let there = self.there().await;
                    model.purge(as_of, |stream, seq| there[stream.0].contains(&seq));
                }
            }
        }
        self.note_sealed(model).await;
        model.count("kills");
    }

    pub async fn fsck(&self) -> Report {
        self.store().seal_all().await.unwrap();
        let fsck = Fsck {
            objects: Arc::clone(&self.objects) as Arc<dyn ObjectStore>,
            ledger: "example".parse().unwrap(),
            keys: vec![key().verifier("example/_main/log/0")],
            content: Default::default(),
            kept: vec![],
            durable: vec![],
        };
        fsck.store(|_| {}).await.unwrap()
    }
}

/// What the job does.
async fn let_go(retention: &Retention) -> Result<(), Problem> {
    let as_of = retention.door.now();
    let progress = Progress::default();
    let plan = retention.plan_at(as_of, &[], &progress).await?;
    assert_eq!((progress.now().doing, progress.now().done), ("planning", progress.now().of));
    if plan.entries > 0 {
        retention.carry_out_due(as_of, &plan, &progress).await?;
        assert_eq!((progress.now().doing, progress.now().done), ("taking away", progress.now().of));
    }
    Ok(())
}

fn lose(model: &mut Model, stream: Stream, goes: &[(usize, Sections)]) {
    for (at, sections) in goes {
        let entry = &mut model.entries[stream.0][*at];
        entry.erased = entry.erased | *sections;
    }
}
