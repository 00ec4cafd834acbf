//! Random histories against a plain list.

use super::*;
use ledger::proof;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(super) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

#[derive(Debug, Clone)]
enum Step {
    Append {
        parts: Vec<(usize, Vec<(u64, u64)>)>,
        atomic: bool,
        key: Option<(u8, u8)>,
    },
    Seal,
    /// Merges, packs, checkpoints, snapshots, deletions.
    Upkeep,
    Reopen,
    /// Dropped without closing.
    Crash,
    /// The folders are copied while it runs, and the copy is opened in its place.
    Copy,
    ForgetCache,
    Look,
    Clock(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = (prop_oneof![3 => 0u64..30, 1 => 1_000u64..1_000_000], prop_oneof![6 => Just(0u64), 1 => Just(1)]);
    let part = (0..TENANTS.len(), proptest::collection::vec(event, 0..8));
    let key = proptest::option::weighted(0.25, (0u8..4, prop_oneof![5 => Just(0u8), 1 => Just(1)]));
    let append = (proptest::collection::vec(part, 1..4), proptest::bool::weighted(0.3), key);
    let append = append.prop_map(|(parts, atomic, key)| Step::Append { parts, atomic, key });
    let clock = (-3_000_000i64..9_000_000).prop_map(Step::Clock);
    let step = prop_oneof![
        12 => append, 5 => Just(Step::Seal), 2 => Just(Step::Upkeep), 1 => Just(Step::Reopen), 1 => Just(Step::Crash),
        1 => Just(Step::Copy), 1 => Just(Step::ForgetCache), 1 => Just(Step::Look), 3 => clock,
    ];
    proptest::collection::vec(step, 4..28)
}

/// What one tenant's stream must be.
#[derive(Default, Clone)]
pub(super) struct Model {
    pub rows: Vec<(String, u64)>,
    /// Roots that were shown, by size.
    pub heads: BTreeMap<u64, Hash>,
}

impl Model {
    pub(super) fn verdict(&mut self, id: &str, content: u64) -> Verdict {
        match self.rows.iter().position(|(known, _)| known == id) {
            Some(seq) if self.rows[seq].1 == content => Verdict::Duplicate(seq as u64),
            Some(seq) => Verdict::Conflict(seq as u64),
            None => {
                self.rows.push((id.into(), content));
                Verdict::Accepted(self.rows.len() as u64 - 1)
            }
        }
    }

    fn saw(&mut self, size: u64, root: Hash) {
        assert_eq!(size, self.rows.len() as u64);
        assert_eq!(*self.heads.entry(size).or_insert(root), root, "two roots of one size");
    }
}

struct Run {
    bed: Bed,
    store: Option<Store>,
    models: Vec<Model>,
    answers: BTreeMap<u8, (u8, Vec<u8>)>,
}

impl Run {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    async fn append(&mut self, parts: &[(usize, Vec<(u64, u64)>)], atomic: bool, key: Option<(u8, u8)>) {
        let drafts = |(at, events): &(usize, Vec<(u64, u64)>)| {
            let name = TENANTS[*at];
            (name, events.iter().map(|(id, content)| draft(name, &format!("e-{id}"), *content)).collect())
        };
        let mut asked = request(self.store(), parts.iter().map(drafts).collect());
        asked.atomic = atomic;
        asked.key = key.map(|(key, body)| RequestKey {
            key: [key; 32],
            body: [body; 32],
            encode: Box::new(|verdicts| format!("{verdicts:?}").into_bytes()),
        });
        let answer = self.store().append(asked).await;
        if let Some((body, remembered)) = key.and_then(|(key, _)| self.answers.get(&key)).cloned() {
            match answer {
                Err(StoreError::KeyReused) => assert_ne!(Some(body), key.map(|(_, body)| body)),
                Ok(Appended::Repeated { answer, receipt }) => {
                    assert_eq!((Some(body), answer), (key.map(|(_, body)| body), remembered));
                    self.check_receipt(receipt, parts);
                }
                other => panic!("{other:?}"),
            }
            return;
        }
        let mut after = self.models.clone();
        let judge = |(at, events): &(usize, Vec<(u64, u64)>)| {
            let one = &mut after[*at];
            events.iter().map(|(id, content)| one.verdict(&format!("e-{id}"), *content)).collect::<Vec<_>>()
        };
        let expected: Vec<Vec<Verdict>> = parts.iter().map(judge).collect();
        if atomic && expected.iter().flatten().any(|verdict| matches!(verdict, Verdict::Conflict(_))) {
            let first = |verdict: &Verdict| match verdict {
                Verdict::Conflict(seq) => Some(*seq),
                _ => None,
            };
            let wanted: Vec<Vec<Option<u64>>> = expected.iter().map(|part| part.iter().map(first).collect()).collect();
            assert!(matches!(answer.unwrap(), Appended::Refused { conflicts } if conflicts == wanted));
            return;
        }
        self.models = after;
        match answer.unwrap() {
            Appended::Done { verdicts, receipt } => {
                assert_eq!(verdicts, expected);
                if let Some((key, body)) = key {
                    self.answers.insert(key, (body, format!("{verdicts:?}").into_bytes()));
                }
                self.check_receipt(receipt, parts);
            }
            other => panic!("{other:?}"),
        }
    }

    /// A receipt names the head, as it is now, of each stream that the request touched.
    fn check_receipt(&mut self, receipt: Option<String>, parts: &[(usize, Vec<(u64, u64)>)]) {
        let ledger: LedgerName = "example".parse().unwrap();
        let mut touched: Vec<usize> = parts.iter().map(|(at, _)| *at).collect();
        touched.retain(|at| !self.models[*at].rows.is_empty());
        touched.sort_unstable();
        touched.dedup();
        let Some(receipt) = receipt else {
            assert!(touched.is_empty());
            return;
        };
        let verified = verified(self.store(), &receipt);
        assert_eq!(verified.heads.len(), touched.len());
        for at in touched {
            let origin = Origin::stream(&ledger, &tenant(TENANTS[at]), StreamKind::Audit, 0);
            let head = verified.heads.iter().find(|head| head.origin == origin.as_str()).unwrap();
            self.models[at].saw(head.size, head.root);
        }
    }

    async fn look(&mut self, thoroughly: bool) {
        for (at, name) in TENANTS.iter().enumerate() {
            let size = self.models[at].rows.len() as u64;
            let Ok(reader) = self.store().reader(&tenant(name), StreamKind::Audit) else {
                assert_eq!(size, 0);
                continue;
            };
            let snapshot = reader.snapshot().await.unwrap();
            let found = rows(&snapshot).await;
            let content = |row: &Row| (row.id.clone(), row.draft.clone());
            let expected = self.models[at].rows.iter().map(|(id, content)| (id.clone(), draft(name, id, *content)));
            for (found, (id, draft)) in found.iter().map(content).zip(expected) {
                assert_eq!((found.0, found.1.content()), (id, draft.content()));
            }
            self.models[at].saw(snapshot.head.size, snapshot.head.root);
            for (from, root) in &self.models[at].heads {
                let proof = reader.consistency(*from, None).await.unwrap();
                assert_eq!((proof.from_root, proof.to_root), (*root, snapshot.head.root));
                assert!(proof::check_consistency(*from, size, &proof.path, root, &snapshot.head.root));
            }
            let sizes: Vec<u64> = if thoroughly { vec![size / 3 + 1, size] } else { vec![size] };
            for size in sizes.into_iter().filter(|_| size > 0) {
                for seq in (0..size).step_by(if thoroughly { 1 } else { 7 }) {
                    let proof = reader.inclusion(seq, Some(size)).await.unwrap();
                    assert_eq!(proof.leaf, found[seq as usize].leaf);
                    let root = root_of(found[..size as usize].iter().map(|row| row.leaf));
                    assert!(proof::check_inclusion(seq, size, &proof.path, &proof.leaf, &root));
                }
            }
        }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Append { parts, atomic, key } => self.append(parts, *atomic, *key).await,
            Step::Seal => self.store().seal_all().await.unwrap(),
            Step::Upkeep => self.store().upkeep().await.unwrap(),
            Step::Reopen => {
                self.store().close().await;
                self.store = Some(self.bed.open().await);
            }
            Step::Crash => {
                self.store = None;
                self.store = Some(open_soon(&self.bed).await);
            }
            Step::Copy => {
                // Files that go while others are copied would be no crash.
                self.store().upkeep().await.unwrap();
                let copy = self.bed.copy();
                self.store().close().await;
                self.bed = copy;
                self.store = Some(self.bed.open().await);
            }
            Step::ForgetCache => {
                self.store().close().await;
                let _ = std::fs::remove_dir_all(self.bed.at("cache"));
                self.store = Some(self.bed.open().await);
            }
            Step::Look => self.look(false).await,
            Step::Clock(by) if *by < 0 => self.bed.world.shift_wall(*by),
            Step::Clock(by) => self.bed.world.pass(*by),
        }
    }
}

/// Opens a store whose last owner was dropped: its threads end by themselves, soon.
pub(super) async fn open_soon(bed: &Bed) -> Store {
    for _ in 0..500 {
        match Store::open(bed.options()).await {
            Err(StoreError::Foreign { .. }) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            other => return other.unwrap(),
        }
    }
    panic!("a dropped store does not give its log back");
}

/// Bounds that make a short history see all of upkeep.
pub(super) fn busy_upkeep(limits: Limits) -> Limits {
    let (merge_inputs, pack_commits, snapshot_commits, view_commits) = (3, 3, 2, 3);
    let removed_grace = std::time::Duration::ZERO;
    let purged_grace = removed_grace;
    Limits { merge_inputs, pack_commits, snapshot_commits, view_commits, removed_grace, purged_grace, ..limits }
}

async fn run(steps: Vec<Step>, tight: bool, in_memory: bool) {
    let mut bed = Bed::new(7);
    bed.limits = busy_upkeep(bed.limits);
    if tight {
        bed.limits = Limits { log_file_bytes: 4_000, log_files: 2, seal_bytes: 6_000, ..bed.limits };
    }
    if in_memory {
        bed.objects = Some(Arc::new(object_store::memory::InMemory::new()));
    }
    let store = Some(bed.open().await);
    let mut run = Run { bed, store, models: vec![Model::default(); TENANTS.len()], answers: BTreeMap::new() };
    for step in steps.iter().filter(|step| !(in_memory && matches!(step, Step::Copy))) {
        run.step(step).await;
    }
    run.look(true).await;
    run.store().seal_all().await.unwrap();
    run.store().upkeep().await.unwrap();
    run.look(false).await;
    run.store().close().await;
    let report = run.bed.fsck().await;
    // A copy made in the middle of a seal has a segment that its commit was to name.
    let left = |finding: &&crate::Finding| finding.what.contains("no commit names");
    assert_eq!(report.findings().filter(|f| !left(f)).collect::<Vec<_>>(), Vec::<&crate::Finding>::new());
    assert_eq!(report.entries(), run.models.iter().map(|model| model.rows.len() as u64).sum::<u64>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_history_is_as_a_plain_list_says(steps in steps(), tight in any::<bool>(), in_memory in any::<bool>()) {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
            .block_on(run(steps, tight, in_memory));
    }
}
