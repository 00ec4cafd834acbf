//! Purges and redactions against a plain list: what was ordered is gone, all else stays and is proven, through merges,
//! restarts and deaths.

use super::faulty::Faulty;
use super::matrix;
use super::model::busy_upkeep;
use super::script::{Call, Fault, Mode, Moment, Operation, Script, Where};
use super::*;
use crate::ErrorKind;
use crate::erase::{EraseDone, EraseOrder, EraseWhat};
use arrow::array::RecordBatch;
use futures::TryStreamExt;
use ledger::field::Section;
use ledger::proof::{self, Span};
use ledger::sections::Sections;
use ledger::tile::{TILE_HASHES, Tile, TileKind};
use object_store::memory::InMemory;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn acme() -> crate::layout::StreamPrefix {
    crate::layout::StreamPrefix::new(&tenant("acme"), StreamKind::Audit)
}

fn order_of(number: u64, what: EraseWhat) -> EraseOrder {
    let plan = Hash::of(&number.to_be_bytes());
    EraseOrder { tenant: tenant("acme"), kind: StreamKind::Audit, what, basis: number, plan }
}

fn order(number: u64, spans: Vec<Span>) -> EraseOrder {
    order_of(number, EraseWhat::Entries(spans))
}

/// What is to be found of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    id: String,
    /// The fields of each section, less what was erased.
    sections: [Vec<u8>; 6],
    erased: Sections,
}

impl Held {
    fn of(rows: &Rows<'_>, row: usize) -> Self {
        let draft = rows.draft(row).unwrap();
        let all =
            [Section::Skeleton, Section::Actor, Section::Subject, Section::Scope, Section::Origin, Section::Details];
        let sections = all.map(|section| draft.section(section).to_vec());
        Self { id: draft.event_id().into(), sections, erased: rows.erased(row) }
    }

    /// Takes sections away; whether there was something to take.
    fn lose(&mut self, goes: Sections) -> bool {
        let filled = |section: &Section| !self.sections[usize::from(section.number())].is_empty();
        let lost: Sections = goes.iter().filter(filled).collect();
        lost.iter().for_each(|section| self.sections[usize::from(section.number())].clear());
        self.erased = self.erased | lost;
        !lost.is_empty()
    }
}

/// A store of one stream, and what it must hold.
struct Known {
    bed: Bed,
    store: Store,
    draws: u64,
    /// Every leaf ever, by position.
    leaves: Vec<Hash>,
    /// The entries that are there, by position.
    there: BTreeMap<u64, Held>,
    sealed: u64,
    /// Sizes at which commits were made.
    heads: BTreeSet<u64>,
    orders: u64,
    next: u64,
    script: Arc<Script>,
    objects: Arc<InMemory>,
    life: u64,
}

impl Known {
    async fn new(seed: u64) -> Self {
        Self::with(seed, Script::new(vec![])).await
    }

    async fn with(seed: u64, script: Script) -> Self {
        let mut bed = Bed::new(seed);
        bed.limits =
            Limits { removed_grace: Duration::ZERO, purged_grace: Duration::from_secs(600), ..busy_upkeep(bed.limits) };
        let (script, objects) = (Arc::new(script), Arc::new(InMemory::new()));
        let inner = Arc::clone(&objects) as Arc<dyn ObjectStore>;
        bed.objects = Some(Arc::new(Faulty::new(inner, Arc::clone(&script))));
        let (store, life) = (bed.open().await, script.life());
        let (leaves, there, heads) = Default::default();
        let (draws, sealed, orders, next) = (seed, 0, 0, 0);
        Self { bed, store, draws, leaves, there, sealed, heads, orders, next, script, objects, life }
    }

    /// What a person does when something failed: waits, and starts again what died.
    async fn mended(&mut self) {
        self.script.heal();
        if self.script.life() == self.life {
            return;
        }
        self.life = self.script.life();
        self.store.close().await;
        let inner = Arc::clone(&self.objects) as Arc<dyn ObjectStore>;
        self.bed.objects = Some(Arc::new(Faulty::new(inner, Arc::clone(&self.script))));
        self.store = self.bed.open().await;
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draws = self.draws.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.draws >> 33) % bound
    }

    async fn append(&mut self, count: u64) {
        let from = self.next;
        self.next += count;
        append_ids(&self.store, "acme", from..self.next).await;
        let first = self.leaves.len() as u64;
        let snapshot = self.snapshot().await;
        let mut scratch = Vec::new();
        for batch in &snapshot.tail {
            let rows = Rows::of(batch).unwrap();
            for row in (0..rows.len()).filter(|row| rows.seq(*row) >= first) {
                self.leaves.push(rows.leaf(row, &mut scratch).unwrap());
                self.there.insert(rows.seq(row), Held::of(&rows, row));
            }
        }
    }

    async fn snapshot(&self) -> Snapshot {
        self.store.reader(&tenant("acme"), StreamKind::Audit).unwrap().snapshot().await.unwrap()
    }

    async fn seal(&mut self) {
        self.store.seal_all().await.unwrap();
        self.sealed = self.leaves.len() as u64;
        self.heads.insert(self.sealed);
    }

    fn spans(&mut self) -> Vec<Span> {
        let count = 1 + self.below(3);
        let mut spans: Vec<Span> = Vec::new();
        for _ in 0..count {
            let from = if self.below(3) == 0 { 0 } else { self.below(self.sealed) };
            let most = if self.below(2) == 0 { 9 } else { self.sealed };
            let end = (from + 1 + self.below(most)).min(self.sealed);
            spans.push(Span::new(from, end));
        }
        spans
    }

    /// Ranges that ascend, each with some sections.
    fn sections(&mut self) -> Vec<(Span, Sections)> {
        let mut rows: Vec<(Span, Sections)> = Vec::new();
        for _ in 0..1 + self.below(4) {
            let from = rows.last().map_or(0, |(span, _)| span.end) + self.below(self.sealed);
            let end = (from + 1 + self.below(7)).min(self.sealed);
            let bits = 1 + self.below(31);
            let picked = Section::COMMITTED.into_iter().filter(|section| bits >> (section.number() - 1) & 1 == 1);
            if from < end {
                rows.push((Span::new(from, end), picked.collect()));
            }
        }
        rows
    }

    /// Takes from the list what an order takes from the store; how many entries that concerns.
    fn apply(&mut self, what: &EraseWhat) -> u64 {
        let within = |seq: u64, span: &Span| span.start <= seq && seq < span.end;
        match what {
            EraseWhat::Entries(spans) => {
                let before = self.there.len();
                self.there.retain(|seq, _| !spans.iter().any(|span| within(*seq, span)));
                (before - self.there.len()) as u64
            }
            EraseWhat::Sections(rows) => {
                let mut lost = 0;
                for (seq, held) in &mut self.there {
                    let goes = rows.iter().find(|(span, _)| within(*seq, span)).map(|(_, sections)| *sections);
                    lost += u64::from(held.lose(goes.unwrap_or_default()));
                }
                lost
            }
        }
    }

    async fn erase(&mut self, order: EraseOrder) -> Option<EraseDone> {
        let done = self.store.erase(vec![order.clone()]).await.unwrap().remove(0).unwrap();
        let went = self.apply(&order.what);
        assert_eq!(done.as_ref().map_or(0, |done| done.entries), went);
        if let Some(kept) = done.as_ref().and_then(|done| done.kept.as_ref()) {
            assert_eq!(kept.entries, self.leaves.len() as u64 - self.there.len() as u64);
        }
        done
    }

    fn gone_block(&self, seq: u64) -> bool {
        let start = seq - seq % TILE_HASHES;
        self.there.range(start..start + TILE_HASHES).next().is_none() && start + TILE_HASHES <= self.sealed
    }

    /// All that must hold at any time.
    async fn check(&mut self) {
        let reader = self.store.reader(&tenant("acme"), StreamKind::Audit).unwrap();
        let snapshot = self.snapshot().await;
        let root = |size: u64| root_of(self.leaves[..size as usize].iter().copied());
        let size = self.leaves.len() as u64;
        assert_eq!((snapshot.head.size, snapshot.head.root), (size, root(size)));
        let mut found = BTreeMap::new();
        let mut scratch = Vec::new();
        let mut take = |batch: &RecordBatch| {
            let rows = Rows::of(batch).unwrap();
            for row in 0..rows.len() {
                let seq = rows.seq(row);
                assert_eq!(rows.leaf(row, &mut scratch).unwrap(), self.leaves[seq as usize]);
                assert!(found.insert(seq, Held::of(&rows, row)).is_none());
            }
        };
        for segment in &snapshot.segments {
            let bytes = segment::fetch(&self.bed.objects(), &segment.location).await.unwrap();
            segment::read_all(&snapshot.keys, &segment.location, bytes, |batch| {
                take(batch);
                Ok(())
            })
            .unwrap();
        }
        snapshot.tail.iter().for_each(&mut take);
        assert_eq!(found, self.there);
        assert_eq!(reader.stored().0, self.there.len() as u64);
        let gone = size - self.there.len() as u64;
        assert_eq!(snapshot.gone.as_ref().map_or(0, |gone| gone.entries), gone);
        for seq in (0..size).step_by(37) {
            match reader.inclusion(seq, None).await {
                Ok(proof) => {
                    assert!(proof::check_inclusion(seq, size, &proof.path, &self.leaves[seq as usize], &root(size)));
                }
                Err(error) => assert!(error.kind() == ErrorKind::Gone && self.gone_block(seq), "{seq}: {error:?}"),
            }
        }
        for from in self.heads.iter().copied().chain((0..size).step_by(TILE_HASHES as usize)) {
            let proof = reader.consistency(from, None).await.unwrap();
            assert!(proof::check_consistency(from, size, &proof.path, &root(from), &root(size)), "{from}");
        }
        let width = (size / TILE_HASHES).min(TILE_HASHES) as u16;
        if width > 0 {
            let tile = reader.tile(Tile { kind: TileKind::Hashes(1), index: 0, width }).await.unwrap();
            let block = |part: &[Hash]| root_of(part.iter().copied()).0;
            let expected: Vec<u8> = self.leaves.chunks_exact(TILE_HASHES as usize).flat_map(block).collect();
            assert!(tile == expected);
        }
        let report = self.bed.fsck().await;
        assert!(report.is_sound(), "{:?}", report.findings().collect::<Vec<_>>());
        let redacted = self.there.range(..self.sealed).filter(|(_, held)| !held.erased.is_empty()).count();
        assert_eq!(report.redacted(), redacted as u64);
    }

    /// A step of whatever kind.
    async fn step(&mut self) {
        match self.below(8) {
            0 | 1 => {
                let count = 1 + self.below(260);
                self.append(count).await;
            }
            2 => self.seal().await,
            drawn @ 3..=5 => {
                self.orders += 1;
                let what =
                    if drawn == 3 { EraseWhat::Entries(self.spans()) } else { EraseWhat::Sections(self.sections()) };
                let order = order_of(self.orders, what);
                let done = self.erase(order.clone()).await;
                // Sealed with it is what had a seed of what was redacted.
                self.sealed = self
                    .snapshot()
                    .await
                    .tail
                    .first()
                    .map_or(self.leaves.len() as u64, |batch| Rows::of(batch).unwrap().seq(0));
                self.heads.insert(self.sealed);
                // Asked again, also after a restart, it is found done.
                let again = self.store.erase(vec![order]).await.unwrap().remove(0).unwrap();
                assert_eq!(again, done);
            }
            6 => self.store.upkeep().await.unwrap(),
            _ => {
                self.store.close().await;
                self.store = self.bed.open().await;
            }
        }
        self.check().await;
    }

    /// Files that are named and no other, once all graces have passed.
    async fn check_files(&self) {
        let snapshot = self.snapshot().await;
        let listed: Vec<_> = self.bed.objects().list(Some(acme().path())).try_collect().await.unwrap();
        let mut paths: Vec<String> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
        paths.retain(|path| !path.contains("_ledger") && !path.contains("_delta_log") || path.contains("/gone/"));
        paths.sort();
        let mut named: Vec<String> = snapshot.segments.iter().map(|segment| segment.location.to_string()).collect();
        named.extend(snapshot.gone.map(|gone| acme().below(&gone.path()).to_string()));
        named.sort();
        assert_eq!(paths, named);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_erased_is_gone_and_what_stays_is_proven() {
    for seed in 0..12 {
        let mut known = Known::new(700 + seed).await;
        let first = 40 + 60 * (seed % 5);
        known.append(first).await;
        known.seal().await;
        for _ in 0..14 {
            known.step().await;
        }
        known.seal().await;
        // Ids of what stays are known; what is gone is nobody's.
        let stays: Vec<(u64, String)> = known.there.iter().map(|(seq, held)| (*seq, held.id.clone())).collect();
        let again = stays.iter().map(|(_, id)| draft("acme", id, id[2..].parse().unwrap())).collect();
        let verdicts = append(&known.store, "acme", again).await.0;
        assert!(verdicts.into_iter().eq(stays.iter().map(|(seq, _)| Verdict::Duplicate(*seq))));
        known.bed.world.pass(3_600_000_000);
        known.store.upkeep().await.unwrap();
        known.check().await;
        known.check_files().await;
        known.store.close().await;
        known.store = known.bed.open().await;
        known.check().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_leave_the_chain_first_and_the_store_when_the_time_to_undo_is_over() {
    let mut known = Known::new(720).await;
    known.append(600).await;
    known.seal().await;
    let files = |known: &Known| {
        let objects = known.bed.objects();
        async move {
            let listed: Vec<_> = objects.list(Some(acme().path())).try_collect().await.unwrap();
            listed.into_iter().filter(|meta| meta.location.as_ref().contains("/2026-")).count()
        }
    };
    let purged = known.erase(order(1, vec![Span::new(0, 600)])).await.unwrap();
    assert_eq!((purged.removed.len(), purged.added.len(), files(&known).await), (1, 0, 1));
    known.store.upkeep().await.unwrap();
    assert_eq!(files(&known).await, 1);
    known.check().await;
    // After a restart it is still known that the file is to go, with the snapshot of the chain and without.
    for snapshot in [true, false] {
        known.store.close().await;
        if !snapshot {
            object_store::ObjectStoreExt::delete(&known.bed.objects(), &acme().snapshot()).await.unwrap();
        }
        known.store = known.bed.open().await;
        known.check().await;
    }
    known.bed.world.pass(700_000_000);
    known.store.upkeep().await.unwrap();
    assert_eq!(files(&known).await, 0);
    known.check().await;
    // Nothing is left, and the stream goes on; never stamped before what was there.
    known.store.close().await;
    known.bed.world.shift_wall(-900_000_000_000);
    known.store = known.bed.open().await;
    known.append(3).await;
    let entries = known.snapshot().await;
    let stamp = Rows::of(&entries.tail[0]).unwrap().recorded_at(0);
    assert!(stamp >= START, "{stamp}");
    known.seal().await;
    known.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tile_that_was_changed_keeps_a_purge_from_being_committed() {
    let mut known = Known::new(721).await;
    known.append(1_200).await;
    known.seal().await;
    let tile = Tile { kind: TileKind::Hashes(1), index: 0, width: 4 };
    let path = acme().tile(&tile);
    let objects = known.bed.objects();
    let good = segment::fetch(&objects, &path).await.unwrap();
    let mut forged = good.to_vec();
    forged[40] ^= 1;
    object_store::ObjectStoreExt::put(&objects, &path, forged.into()).await.unwrap();
    let refused = known.store.erase(vec![order(1, vec![Span::new(0, 700)])]).await.unwrap().remove(0);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt);
    object_store::ObjectStoreExt::put(&objects, &path, good.into()).await.unwrap();
    known.check().await;
    let unsealed = known.store.erase(vec![order(1, vec![Span::new(0, 1_201)])]).await.unwrap().remove(0);
    assert_eq!(unsealed.unwrap_err().kind(), ErrorKind::Invalid);
    known.erase(order(1, vec![Span::new(0, 700)])).await.unwrap();
    known.check().await;
}

/// A purge, a redaction, another purge, and the upkeep that deletes what they took, begun again as often as it fails.
async fn erased_whatever_fails(fault: Option<Fault>) -> Vec<Operation> {
    let script = Script::new(fault.into_iter().collect());
    let mut known = Known::with(730, script).await;
    known.append(700).await;
    known.seal().await;
    known.append(300).await;
    known.seal().await;
    // Not sealed, and of the seed of what is redacted.
    known.append(5).await;
    let before = known.script.recorded();
    let some: Sections = [Section::Actor, Section::Details].into_iter().collect();
    for (number, what) in [
        (1, EraseWhat::Entries(vec![Span::new(0, 300), Span::new(500, 505)])),
        (2, EraseWhat::Sections(vec![(Span::new(400, 402), some), (Span::new(990, 1_000), Sections::ALL)])),
        (3, EraseWhat::Entries(vec![Span::new(250, 420)])),
    ] {
        let order = order_of(number, what);
        let mut tries = 0;
        let done = loop {
            let done = known.store.erase(vec![order.clone()]).await;
            match done.and_then(|mut done| done.remove(0)) {
                Ok(done) => break done.unwrap(),
                Err(error) => assert!(error.kind() == ErrorKind::Unavailable && tries < 9, "{error:?}"),
            }
            tries += 1;
            known.mended().await;
        };
        assert_eq!(done.entries, known.apply(&order.what));
        known.mended().await;
        known.bed.world.pass(3_600_000_000);
        while known.store.upkeep().await.is_err() {
            known.mended().await;
        }
    }
    let recorded = known.script.recorded().into_iter().filter(|at| !before.contains(at)).collect();
    known.script.heal_for_good();
    known.mended().await;
    // What a stopped writer left is found once its successor has a commit of its own.
    known.append(1).await;
    known.seal().await;
    known.check().await;
    known.bed.world.pass(3_600_000_000);
    known.store.upkeep().await.unwrap();
    known.check().await;
    known.check_files().await;
    recorded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_fails_anywhere_comes_to_the_same_end() {
    let operations = erased_whatever_fails(None).await;
    let mut cases = Vec::new();
    for at in operations.into_iter().filter(|at| !at.call.is_of_the_disk()) {
        let moments: &[Moment] =
            if at.call.only_reads() { &[Moment::Before] } else { &[Moment::Before, Moment::After] };
        for moment in moments {
            let modes: &[Mode] = if at.call == Call::Get { &[Mode::Error] } else { &[Mode::Error, Mode::Death] };
            for mode in modes {
                let fault = Fault { at: Where::Once(at.clone()), moment: *moment, mode: *mode };
                let name = format!("{mode:?} {moment:?} {at}");
                cases.push((name, async move { drop(erased_whatever_fails(Some(fault)).await) }));
            }
        }
    }
    assert!(cases.len() > 90, "{} cases", cases.len());
    matrix::all(cases).await;
}

/// Whether any file below a folder, or any object, holds this text.
async fn is_anywhere(known: &Known, marker: &str) -> bool {
    fn in_files(folder: &Path, marker: &[u8]) -> bool {
        std::fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => in_files(&path, marker),
                false => std::fs::read(&path).unwrap().windows(marker.len()).any(|window| window == marker),
            }
        })
    }
    let listed: Vec<_> = known.objects.list(None).try_collect().await.unwrap();
    let objects = Arc::clone(&known.objects) as Arc<dyn ObjectStore>;
    for meta in listed {
        let bytes = segment::fetch(&objects, &meta.location).await.unwrap();
        if bytes.windows(marker.len()).any(|window| window == marker.as_bytes()) {
            return true;
        }
    }
    in_files(known.bed.folder.path(), marker.as_bytes())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_time_to_undo_is_over_nothing_is_left_in_the_log_either() {
    let actor = vec![(Span::new(0, 1), Sections::from(Section::Actor))];
    for what in [EraseWhat::Entries(vec![Span::new(0, 1)]), EraseWhat::Sections(actor)] {
        let mut known = Known::new(740).await;
        let marker = "u-424242424242";
        append(&known.store, "acme", vec![draft("acme", "e-marked", 424_242_424_242)]).await;
        append_ids(&known.store, "globex", 0..3).await;
        known.store.seal_all().await.unwrap();
        append_ids(&known.store, "globex", 3..6).await;
        known.store.erase(vec![order_of(1, what)]).await.unwrap().remove(0).unwrap().unwrap();
        assert!(is_anywhere(&known, marker).await);
        known.bed.world.pass(700_000_000);
        known.store.upkeep().await.unwrap();
        for _ in 0..200 {
            let _ = known.store.writer.send(Message::Tick).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
            if !is_anywhere(&known, marker).await {
                break;
            }
        }
        assert!(!is_anywhere(&known, marker).await);
        // What others have in the log and nowhere else is still there, also after a crash.
        known.store.close().await;
        known.store = known.bed.open().await;
        assert_eq!(ids_of(&known.store, "globex").await, ids(0..6));
    }
}

/// Every seed that a stream's rows have.
async fn seeds_of(known: &Known) -> BTreeSet<[u8; 16]> {
    let mut seeds = BTreeSet::new();
    let snapshot = known.snapshot().await;
    for segment in &snapshot.segments {
        let content = crate::segment_reader::Content { objects: known.bed.objects(), keys: Default::default() };
        seeds.extend(segment::seeds_of(&content, segment).await.unwrap().into_iter().map(|seed| seed.0));
    }
    for batch in &snapshot.tail {
        let rows = Rows::of(batch).unwrap();
        seeds.extend((0..rows.len()).filter_map(|row| rows.seed(row)).map(|seed| seed.0));
    }
    seeds
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seed_of_what_is_redacted_stands_nowhere_and_never_comes_again() {
    let mut known = Known::new(741).await;
    known.append(40).await;
    known.seal().await;
    known.append(10).await;
    let before = seeds_of(&known).await;
    assert_eq!(before.len(), 1, "all of them have the same");
    // Some come in while it is redacted.
    let busy = known.store.clone();
    let come = tokio::spawn(async move {
        for n in 1_000..1_200 {
            append_ids(&busy, "acme", n..n + 1).await;
        }
    });
    let what = EraseWhat::Sections(vec![(Span::new(3, 4), Sections::ALL)]);
    let done = known.store.erase(vec![order_of(1, what)]).await.unwrap().remove(0).unwrap().unwrap();
    assert_eq!(done.entries, 1);
    come.await.unwrap();
    let after = seeds_of(&known).await;
    assert!(!after.is_empty() && before.is_disjoint(&after));
    let report = known.bed.fsck().await;
    assert!(report.is_sound(), "{:?}", report.findings().collect::<Vec<_>>());
    // Sent again, it is the same as far as anybody can tell.
    assert_eq!(append(&known.store, "acme", vec![draft("acme", "e-3", 3)]).await.0, vec![Verdict::Duplicate(3)]);
}
