//! A seeded workload over several tenants, and the client that works through it whatever fails.
//!
//! The client sends again what was not acknowledged, restarts what says that it must be restarted, and starts
//! again what died. It holds every answer against a plain list, and every head that it was ever shown against
//! every other. Not here: which faults there are ([`super::script`]) and which of them are tried
//! ([`super::matrix`], [`super::schedules`]).
//!
//! Invariant: a workload is a function of its seed.

use super::disk::Disk;
use super::faulty::Faulty;
use super::model::{Model, TENANTS, busy_upkeep};
use super::script::{Call, Script};
use super::*;
use crate::wal::{LogFolder, ReplayedGroup};
use ledger::checkpoint::Checkpoint;
use ledger::proof;
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::error::Error as _;

/// So often is a step tried in the face of faults before the run is given up.
const TRIES: usize = 40;

/// A request's parts: which tenant, and its events as id and content.
pub(super) type Parts = Vec<(usize, Vec<(u64, u64)>)>;

#[derive(Debug, Clone)]
pub(super) enum Step {
    Append {
        parts: Parts,
        atomic: bool,
        key: Option<(u8, u8)>,
    },
    Seal,
    Look,
    /// Closed and opened again.
    Reopen,
    /// Dropped and opened again.
    Kill,
    /// The same, and what was not synced is gone.
    PowerCut,
    Pass(i64),
}

/// Numbers that follow from a seed.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn parts(&mut self) -> Parts {
        let parts = 1 + self.below(3);
        (0..parts).map(|_| (self.below(3) as usize, self.events())).collect()
    }

    fn events(&mut self) -> Vec<(u64, u64)> {
        let count = 1 + self.below(7);
        // Mostly new ids, some that were there, some of these with other content.
        (0..count).map(|_| (self.below(90), u64::from(self.below(9) == 0))).collect()
    }
}

/// The steps that follow from a seed. Every kind of work is among them.
pub(super) fn steps(seed: u64) -> Vec<Step> {
    let mut draws = Draws(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
    let mut steps = Vec::new();
    for round in 0..3u64 {
        for turn in 0..3u64 {
            let key = (turn == 1).then(|| (draws.below(3) as u8, u8::from(draws.below(4) == 0)));
            steps.push(Step::Append { parts: draws.parts(), atomic: turn == 2, key });
        }
        // Enough of one stream that its tree has tiles, in some of the workloads.
        if seed % 3 == 1 && round == 0 {
            steps.push(Step::Append {
                parts: vec![(0, (1_000..1_290).map(|id| (id, 0)).collect())],
                atomic: false,
                key: None,
            });
        }
        steps.push(Step::Pass(1_000_000 * draws.below(20) as i64));
        match round {
            0 => steps.extend([Step::Seal, Step::Append { parts: draws.parts(), atomic: true, key: Some((1, 0)) }]),
            1 => steps.extend([
                Step::Reopen,
                Step::Look,
                Step::Append { parts: draws.parts(), atomic: false, key: None },
            ]),
            _ => steps.extend([if seed % 4 == 3 { Step::Kill } else { Step::PowerCut }, Step::Seal]),
        }
    }
    steps
}

/// A workload under way.
pub(super) struct Run {
    pub script: Arc<Script>,
    bed: Bed,
    objects: Arc<dyn ObjectStore>,
    disk: Disk,
    draws: Draws,
    reversed: bool,
    /// The life of the script in which the store was opened.
    life: u64,
    store: Option<Store>,
    models: Vec<Model>,
    answers: BTreeMap<u8, (u8, Vec<u8>)>,
    /// Every head of the store log that was ever shown, in any life.
    log_heads: BTreeMap<u64, Hash>,
    /// Tenants of one event each, which was sent while the object store hung, and whether it was accepted.
    probes: Vec<(String, bool)>,
    /// Commits when upkeep was last seen idle.
    commits: usize,
    /// What the client was told when something failed.
    pub told: Vec<String>,
}

/// What a try came to.
enum Tried<T> {
    Done(T),
    /// It failed, and the service stands again.
    Again,
}

impl Run {
    /// A run on an empty store, not opened yet.
    pub(super) fn new(seed: u64, script: Arc<Script>, reversed: bool) -> Self {
        // A folder that needs no disk, where there is one: what is tested here is the simulated disk.
        let durability = if seed.is_multiple_of(2) { Durability::Object } else { Durability::Wal };
        let mut bed = Bed { folder: memory_folder(), durability, ..Bed::new(seed) };
        bed.limits = busy_upkeep(Limits { log_file_bytes: 3_000, log_files: 2, seal_bytes: 9_000, ..bed.limits });
        Self {
            disk: Disk::new(Arc::clone(&script)),
            draws: Draws(seed),
            script,
            bed,
            objects: Arc::new(InMemory::new()),
            reversed,
            life: 0,
            store: None,
            models: vec![Model::default(); TENANTS.len()],
            answers: BTreeMap::new(),
            log_heads: BTreeMap::new(),
            probes: Vec::new(),
            commits: 0,
            told: Vec::new(),
        }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Works through all steps, then lets the faults go and checks all there is to check.
    pub(super) async fn work(&mut self, steps: &[Step]) {
        self.start().await;
        for step in steps {
            self.step(step).await;
            self.settle().await;
            if self.script.life() != self.life {
                self.start().await;
            }
            self.waited().await;
            self.poll();
        }
        self.script.heal_for_good();
        self.waited().await;
        self.finish().await;
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Append { parts, atomic, key } => self.append(parts, *atomic, *key).await,
            Step::Seal => self.seal().await,
            Step::Look => self.look().await,
            Step::Reopen => {
                self.store().close().await;
                self.start().await;
            }
            Step::Kill => {
                self.script.die();
                self.start().await;
            }
            Step::PowerCut => {
                self.script.cut_power();
                self.start().await;
            }
            Step::Pass(micros) => {
                self.bed.world.pass(*micros);
                // Seals that failed and rest are tried again when time has passed.
                let _ = self.store().writer.send(Message::Tick).await;
            }
        }
    }

    /// Opens the store. Whatever the fault, it is one that goes, so the start succeeds in the end.
    async fn start(&mut self) {
        self.store = None;
        for failed in 0..TRIES {
            self.script.failed_starts(failed as u64);
            self.life = self.script.life();
            let faulty = Faulty::new(Arc::clone(&self.objects), Arc::clone(&self.script));
            self.bed.objects = Some(Arc::new(if self.reversed { faulty.reversed() } else { faulty }));
            if self.script.power_was_cut() {
                // Whoever lived until then is no longer at it.
                given_back(&self.bed).await;
                self.disk.cut_power(|bound| self.draws.below(bound as u64) as usize);
                if self.bed.durability == Durability::Object {
                    // Then the machine may be gone with all that it had.
                    for folder in ["log", "cache"] {
                        let _ = std::fs::remove_dir_all(self.bed.at(folder));
                    }
                }
            }
            match unstuck(&self.script, async {}, opened_soon(&self.bed, &self.disk)).await {
                Ok(store) => {
                    self.store = Some(store);
                    self.script.failed_starts(0);
                    let head = self.store().log_head();
                    let newest = self.log_heads.keys().next_back().copied().unwrap_or_default();
                    assert!(head.size >= newest, "signed at {newest}, and it opens at {}", head.size);
                    self.poll();
                    return self.saw_groups();
                }
                Err(error) => self.suffered(&error),
            }
        }
        panic!("it does not start: {:?}", self.told);
    }

    /// Notes what the client was told, and sees to it that it was no untruth. Then the faults go.
    fn suffered(&mut self, error: &StoreError) {
        let told = chain(error);
        let is_passing = matches!(error.kind(), crate::ErrorKind::Unavailable | crate::ErrorKind::Busy);
        assert!(is_passing, "a fault that goes is told as {:?}: {told}", error.kind());
        self.told.push(told);
        assert!(self.told.len() < 50 * TRIES, "it fails for ever: {:?}", self.told);
        self.script.heal();
    }

    /// What a person or a supervisor does after a failure: starts again what died or asks for it.
    async fn tried<T>(&mut self, result: Result<T, StoreError>) -> Tried<T> {
        let error = match result {
            Ok(done) => return Tried::Done(done),
            Err(error) => error,
        };
        self.suffered(&error);
        if self.script.life() != self.life {
            self.start().await;
        } else {
            self.waited().await;
        }
        Tried::Again
    }

    /// The log mends itself when the fault is gone: the time at which it tries is made to come now.
    async fn waited(&mut self) {
        for _ in 0..TRIES {
            if self.store().is_writable() {
                return;
            }
            if self.script.life() != self.life {
                return self.start().await;
            }
            assert!(self.store().problem().is_some(), "it takes nothing, and does not say why");
            self.script.heal();
            let store = self.store().clone();
            let work = async {
                for message in [Message::Reopen, Message::Tick] {
                    let _ = store.writer.send(message).await;
                }
                let _ = store.append(AppendRequest::default()).await;
            };
            self.unstuck(work).await;
        }
        panic!("it does not recover by itself: {:?}, {:?}", self.store().problem(), self.told);
    }

    /// Waits until neither writer nor sealer has anything to do, so that the next step meets no other thread.
    async fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            let before = self.script.count();
            let nothing = AppendRequest::default();
            let store = self.store().clone();
            let _ = self.unstuck(store.append(nothing)).await;
            self.unstuck(sealer_is_idle(&store)).await;
            quiet = if self.script.count() == before { quiet + 1 } else { 0 };
        }
        self.keep_up().await;
    }

    /// Each commit has upkeep look at its stream. Asking it to look at all returns when it has nothing left to do.
    async fn keep_up(&mut self) {
        let recorded = self.script.recorded();
        let commits = recorded.iter().filter(|at| at.call == Call::Put && at.path.contains("/commits/")).count();
        if commits > self.commits {
            self.commits = commits;
            let store = self.store().clone();
            let kept = self.unstuck(store.upkeep()).await;
            drop(store);
            // It is tried again at the next commit.
            let _ = self.tried(kept).await;
        }
    }

    /// Awaits `work`. Should a call hang on the way, the service must take events all the same; then it is healed.
    async fn unstuck<T>(&mut self, work: impl Future<Output = T>) -> T {
        let (script, store, name) =
            (Arc::clone(&self.script), self.store().clone(), format!("probe-{}", self.probes.len()));
        let mut probed = None;
        let is_apart = self.bed.durability == Durability::Wal && !self.script.is_over();
        let probe = async {
            if !is_apart {
                return;
            }
            let asked = request(&store, vec![(&name, vec![draft(&name, "e-0", 0)])]);
            probed = Some(false);
            match store.append(asked).await {
                Ok(told) => {
                    assert!(matches!(told, Appended::Done { verdicts, .. } if verdicts == [accepted(0..1)]));
                    probed = Some(true);
                }
                // Another fault had the log fail before, and whether this was written is not known.
                Err(error) => assert_eq!(error.kind(), crate::ErrorKind::Unavailable),
            }
        };
        let done = unstuck(&script, probe, work).await;
        if let Some(accepted) = probed {
            self.probes.push((name, accepted));
        }
        done
    }

    /// Notes the heads that anyone can ask for.
    fn poll(&mut self) {
        self.saw_log(&self.store().log_checkpoint());
        for (at, name) in TENANTS.iter().enumerate() {
            if let Ok(reader) = self.store().reader(&tenant(name), StreamKind::Audit) {
                let head = reader.stream.head();
                self.saw(at, head.size, head.root);
            }
        }
    }

    /// A stream's head was shown. It covers what was acknowledged, and agrees with every other of its size.
    fn saw(&mut self, at: usize, size: u64, root: Hash) {
        let model = &mut self.models[at];
        assert!(size >= model.rows.len() as u64, "{} of {} were acknowledged", model.rows.len(), TENANTS[at]);
        assert_eq!(*model.heads.entry(size).or_insert(root), root, "two heads of {} at {size}", TENANTS[at]);
    }

    fn saw_log(&mut self, checkpoint: &str) {
        let signed = Checkpoint::open(checkpoint.as_bytes(), &[self.store().verifier()]).unwrap();
        let head = signed.head();
        let known = self.log_heads.insert(head.size, head.root);
        assert!(known.is_none_or(|known| known == head.root), "two signed heads of the store log at {}", head.size);
    }

    /// Holds the heads that the log's groups name against those that were shown.
    fn saw_groups(&mut self) {
        if self.bed.durability == Durability::Object {
            return;
        }
        let folder = memory_folder();
        let folder = LogFolder::take(folder.path(), self.disk.copy().files(), || "a copy".into()).unwrap();
        let mut saw = |group: ReplayedGroup| {
            let (index, root) = (group.frame.index, group.frame.previous_root);
            assert_eq!(*self.log_heads.entry(index).or_insert(root), root, "two heads of the store log at {index}");
            Ok(())
        };
        crate::wal::replay(&folder, &mut saw).unwrap();
    }

    async fn append(&mut self, parts: &Parts, atomic: bool, key: Option<(u8, u8)>) {
        let mut is_first = true;
        let answer = loop {
            let asked = self.request(parts, atomic, key);
            let store = self.store().clone();
            let answer = self.unstuck(store.append(asked)).await;
            drop(store);
            match answer {
                Err(StoreError::KeyReused) => break None,
                other => {
                    if let Tried::Done(answer) = self.tried(other).await {
                        break Some(answer);
                    }
                }
            }
            is_first = false;
        };
        self.judge(answer, parts, atomic, key, is_first);
    }

    fn request(&self, parts: &Parts, atomic: bool, key: Option<(u8, u8)>) -> AppendRequest {
        let drafts = |(at, events): &(usize, Vec<(u64, u64)>)| {
            let name = TENANTS[*at];
            (name, events.iter().map(|(id, content)| draft(name, &format!("e-{id}"), *content)).collect())
        };
        let key = key.map(|(key, body)| RequestKey {
            key: [key; 32],
            body: [body; 32],
            encode: Box::new(|verdicts| format!("{verdicts:?}").into_bytes()),
        });
        AppendRequest { atomic, key, ..request(self.store(), parts.iter().map(drafts).collect()) }
    }

    /// Holds an answer against the plain list. A request that was sent twice may have been carried out the first
    /// time, wholly or not at all.
    fn judge(&mut self, answer: Option<Appended>, parts: &Parts, atomic: bool, key: Option<(u8, u8)>, is_first: bool) {
        let remembered = key.and_then(|(key, _)| self.answers.get(&key)).cloned();
        let Some(answer) = answer else {
            return assert_ne!(remembered.map(|(body, _)| body), key.map(|(_, body)| body));
        };
        if let (Some((body, remembered)), Appended::Repeated { answer, receipt }) = (&remembered, &answer) {
            assert_eq!((Some(*body), answer), (key.map(|(_, body)| body), remembered));
            return self.check_receipt(receipt.as_deref(), parts);
        }
        assert!(remembered.is_none(), "a key that was used is answered from memory");
        let mut after = self.models.clone();
        let verdict = |(at, events): &(usize, Vec<(u64, u64)>)| {
            let one = &mut after[*at];
            events.iter().map(|(id, content)| one.verdict(&format!("e-{id}"), *content)).collect::<Vec<_>>()
        };
        let expected: Vec<Vec<Verdict>> = parts.iter().map(verdict).collect();
        let has_conflict = expected.iter().flatten().any(|verdict| matches!(verdict, Verdict::Conflict(_)));
        let receipt = match answer {
            Appended::Refused { .. } => return assert!(atomic && has_conflict),
            _ if atomic && has_conflict => panic!("a conflict refuses all of it: {answer:?}"),
            Appended::Repeated { answer, receipt } => {
                assert!(!is_first, "nobody used this key before");
                assert_eq!(answer, format!("{expected:?}").into_bytes());
                self.remember(key, answer);
                receipt
            }
            Appended::Done { verdicts, receipt } => {
                let found = |expected: &Verdict| match *expected {
                    Verdict::Accepted(seq) => Verdict::Duplicate(seq),
                    other => other,
                };
                let again: Vec<Vec<Verdict>> = expected.iter().map(|part| part.iter().map(found).collect()).collect();
                assert!(verdicts == expected || !is_first && verdicts == again, "{verdicts:?}, and not {expected:?}");
                self.remember(key, format!("{verdicts:?}").into_bytes());
                receipt
            }
        };
        self.models = after;
        self.check_receipt(receipt.as_deref(), parts);
    }

    fn remember(&mut self, key: Option<(u8, u8)>, answer: Vec<u8>) {
        if let Some((key, body)) = key {
            self.answers.insert(key, (body, answer));
        }
    }

    /// A receipt names the head of each stream that the request touched, and none of these ever had another.
    fn check_receipt(&mut self, receipt: Option<&str>, parts: &Parts) {
        let mut touched: Vec<usize> = parts.iter().map(|(at, _)| *at).collect();
        touched.retain(|at| !self.models[*at].rows.is_empty());
        touched.sort_unstable();
        touched.dedup();
        let Some(receipt) = receipt else { return assert!(touched.is_empty()) };
        let verified = verified(self.store(), receipt);
        assert_eq!(verified.heads.len(), touched.len());
        for at in touched {
            let part = format!("/{}/", TENANTS[at]);
            let head = verified.heads.iter().find(|head| head.origin.contains(&part)).unwrap();
            self.saw(at, head.size, head.root);
        }
        let head = verified.checkpoint.head();
        assert_eq!(
            *self.log_heads.entry(head.size).or_insert(head.root),
            head.root,
            "two signed heads at {}",
            head.size
        );
    }

    async fn seal(&mut self) {
        for _ in 0..TRIES {
            let store = self.store().clone();
            let sealed = self.unstuck(store.seal_all()).await;
            drop(store);
            if matches!(self.tried(sealed).await, Tried::Done(())) {
                return;
            }
        }
        panic!("it does not seal: {:?}", self.told);
    }

    /// Reads all streams, and asks for proofs of some entries and some heads that were shown.
    async fn look(&mut self) {
        for (at, name) in TENANTS.iter().enumerate() {
            for turn in 0.. {
                assert!(turn < TRIES, "it cannot be read: {:?}", self.told);
                let store = self.store().clone();
                let (objects, model) = (Arc::clone(&self.objects), self.models[at].clone());
                let looked = self.unstuck(look_at(&store, &objects, name, &model)).await;
                drop(store);
                if matches!(self.tried(looked).await, Tried::Done(())) {
                    break;
                }
            }
        }
    }

    /// All that a run must have come to, once nothing fails any more.
    async fn finish(&mut self) {
        for (name, _) in self.probes.iter().filter(|(_, accepted)| !accepted) {
            append(self.store(), name, vec![draft(name, "e-0", 0)]).await;
        }
        let _ = self.store().writer.send(Message::Tick).await;
        self.seal().await;
        self.store().upkeep().await.unwrap();
        for (name, model) in TENANTS.iter().zip(&self.models).filter(|(_, model)| !model.rows.is_empty()) {
            let all = model.rows.iter().map(|(id, content)| draft(name, id, *content)).collect();
            assert_eq!(append(self.store(), name, all).await.0, duplicates(0..model.rows.len() as u64));
        }
        for (name, _) in &self.probes {
            assert_eq!(ids_of(self.store(), name).await, ids(0..1));
        }
        self.store().close().await;
        self.start().await;
        self.look().await;
        self.store().close().await;
        let report = fsck(Arc::clone(&self.objects)).await;
        let found: Vec<_> = report.findings().filter(|f| f.is_fault || !f.what.contains("no commit names")).collect();
        assert!(found.is_empty(), "{found:?}");
        let rows = self.models.iter().map(|model| model.rows.len()).sum::<usize>() + self.probes.len();
        assert_eq!(report.entries(), rows as u64);
    }
}

fn memory_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Opens a store whose last owner was dropped or has died: its threads end by themselves, soon.
async fn opened_soon(bed: &Bed, disk: &Disk) -> Result<Store, StoreError> {
    given_back(bed).await;
    Store::open_on(bed.options(), disk.files()).await
}

/// Returns when nobody holds the log.
async fn given_back(bed: &Bed) {
    for _ in 0..2_500 {
        let lock = std::fs::OpenOptions::new().write(true).open(bed.at("log/lock"));
        if lock.is_err() || lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("a dropped store does not give its log back");
}

/// The sealer takes its work in order: an empty stream's turn comes after all that was asked before.
async fn sealer_is_idle(store: &Store) {
    let origin = Origin::stream(store.ledger(), &tenant("nobody"), StreamKind::Audit, 0);
    let stream = Arc::new(Stream::new(tenant("nobody"), StreamKind::Audit, origin, Sealed::default()));
    let (done, sealed) = oneshot::channel();
    if store.seals.send(SealJob::Now { stream, epoch: 0, done }).is_ok() {
        let _ = sealed.await;
    }
}

/// Awaits `work`; when a call hangs, awaits `probe` once, and heals.
async fn unstuck<T>(script: &Script, probe: impl Future<Output = ()>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = script.someone_hangs() => {}
    }
    probe.await;
    loop {
        script.heal();
        tokio::select! {
            done = &mut work => return done,
            () = script.someone_hangs() => tokio::task::yield_now().await,
        }
    }
}

/// Reads a stream and holds it against the plain list.
async fn look_at(store: &Store, objects: &Arc<dyn ObjectStore>, name: &str, model: &Model) -> Result<(), StoreError> {
    let Ok(reader) = store.reader(&tenant(name), StreamKind::Audit) else {
        assert!(model.rows.is_empty());
        return Ok(());
    };
    let mut snapshot = reader.snapshot().await?;
    snapshot.objects = Arc::clone(objects);
    let found = rows(&snapshot).await;
    assert_eq!(found.len(), model.rows.len());
    for (row, (id, content)) in found.iter().zip(&model.rows) {
        assert_eq!((&row.id, row.draft.content()), (id, draft(name, id, *content).content()));
    }
    let root_at = |size: u64| root_of(found[..size as usize].iter().map(|row| row.leaf));
    for (size, root) in &model.heads {
        assert_eq!(root_at(*size), *root, "what was shown at {size} is no beginning of what is there");
    }
    for (size, root) in model.heads.iter().rev().step_by(model.heads.len() / 2 + 1) {
        let proof = reader.consistency(*size, None).await?;
        assert!(proof::check_consistency(*size, proof.to, &proof.path, root, &proof.to_root));
    }
    for seq in (found.len() as u64 / 2..found.len() as u64).step_by(found.len()) {
        let proof = reader.inclusion(seq, None).await?;
        assert!(proof::check_inclusion(seq, proof.head.size, &proof.path, &found[seq as usize].leaf, &proof.head.root));
    }
    Ok(())
}

/// An error and what caused it, in one line.
fn chain(error: &StoreError) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told.push_str(&format!(": {error}"));
        cause = error.source();
    }
    told
}
