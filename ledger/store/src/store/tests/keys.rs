//! Tenants' content under keys: nothing of it is readable on the disk, everything is with the keys, and without them
//! tree, heads and other tenants are what they were.

use super::*;
use crate::keys::{KeyError, KeyName, KeySource, KeyUse, TenantKey};
use crate::stream::View;
use std::collections::HashMap;

/// Keys of tenants that a test gives, hides and destroys.
#[derive(Default)]
struct Ring(Mutex<HashMap<TenantId, Vec<(KeyName, u8)>>>, Mutex<Vec<KeyName>>, Mutex<bool>);

impl Ring {
    fn give(&self, of: &str, name: &str, secret: u8) {
        let mut all = self.0.lock().unwrap();
        all.entry(tenant(of)).or_default().push((name.parse().unwrap(), secret));
    }

    fn destroy(&self, name: &str) {
        self.1.lock().unwrap().push(name.parse().unwrap());
    }

    fn hide(&self, hidden: bool) {
        *self.2.lock().unwrap() = hidden;
    }

    fn look(&self, of: &TenantId, (name, secret): &(KeyName, u8)) -> Result<Arc<TenantKey>, KeyError> {
        if self.1.lock().unwrap().contains(name) {
            return Err(KeyError::Destroyed { tenant: of.clone(), key: name.clone() });
        }
        let secret = crate::cipher::Secret::of(&[*secret; 32]).unwrap();
        Ok(Arc::new(TenantKey { name: name.clone(), secret }))
    }
}

impl KeySource for Ring {
    fn current(&self, of: &TenantId, _: KeyUse) -> Result<Option<Arc<TenantKey>>, KeyError> {
        let all = self.0.lock().unwrap();
        let Some(newest) = all.get(of).and_then(|keys| keys.last()) else { return Ok(None) };
        if *self.2.lock().unwrap() {
            return Err(KeyError::NotAtHand { tenant: of.clone(), key: None });
        }
        // What has no key any more is written plain.
        Ok(self.look(of, newest).ok())
    }

    fn key(&self, of: &TenantId, name: &KeyName) -> Result<Arc<TenantKey>, KeyError> {
        let missing = || KeyError::NotAtHand { tenant: of.clone(), key: Some(name.clone()) };
        if *self.2.lock().unwrap() {
            return Err(missing());
        }
        let all = self.0.lock().unwrap();
        let found = all.get(of).and_then(|keys| keys.iter().find(|(known, _)| known == name));
        self.look(of, found.ok_or_else(missing)?)
    }
}

fn bed(seed: u64) -> (Bed, Arc<Ring>) {
    let ring = Arc::new(Ring::default());
    let keys: Option<Arc<dyn KeySource>> = Some(Arc::clone(&ring) as Arc<dyn KeySource>);
    (Bed { keys, ..Bed::new(seed) }, ring)
}

/// A draft with marks in values that repeat, in one that does not, in bounds and in attributes.
fn marked(tenant: &str, id: u64) -> Draft {
    let mut builder = DraftBuilder::default();
    let text = [
        (Field::Tenant, tenant.to_string()),
        (Field::EventId, format!("MARK-id-{id}")),
        (Field::Action, "invoice.update".into()),
        (Field::ActorType, "user".into()),
        (Field::ActorId, "MARK-actor".into()),
        (Field::ResourceId, format!("MARK-resource-{id}")),
        (Field::SourceIp, "MARK-address".into()),
        (Field::Attributes, format!("{{\"secret\":\"MARK-attribute-{id}\"}}")),
    ];
    for (field, text) in text {
        builder.text(field, text).unwrap();
    }
    builder.int(Field::OccurredAt, 1_000_000 * id as i64).unwrap();
    builder.finish().unwrap()
}

async fn append_marked(store: &Store, name: &str, ids: std::ops::Range<u64>) {
    append(store, name, ids.map(|id| marked(name, id)).collect()).await;
}

/// How many files below a folder hold the mark.
fn marks_in(folder: &Path) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        found += match path.is_dir() {
            true => marks_in(&path),
            false => usize::from(std::fs::read(&path).unwrap().windows(5).any(|window| window == b"MARK-")),
        };
    }
    found
}

async fn seal_and_keep(store: &Store) {
    store.seal_all().await.unwrap();
    store.upkeep().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_tenant_with_a_key_is_readable_on_the_disk() {
    for durability in [Durability::Wal, Durability::Object] {
        let (mut bed, ring) = bed(501);
        bed.durability = durability;
        ring.give("acme", "k1", 1);
        let store = bed.open().await;
        append_marked(&store, "acme", 0..300).await;
        assert_eq!(marks_in(bed.folder.path()), 0, "before sealing, {durability:?}");
        store.seal_all().await.unwrap();
        append_marked(&store, "acme", 300..320).await;
        seal_and_keep(&store).await;
        assert_eq!(marks_in(bed.folder.path()), 0, "after sealing");
        assert_eq!(rows_of(&store, "acme").await.len(), 320);
        store.close().await;
        let store = bed.open().await;
        assert_eq!(rows_of(&store, "acme").await.len(), 320);
        let verdicts = append(&store, "acme", vec![marked("acme", 7)]).await.0;
        assert_eq!(verdicts, duplicates(7..8), "originals are found under their key");
        // The same, without a key: the search does find what is there.
        append_marked(&store, "globex", 0..3).await;
        assert!(marks_in(bed.folder.path()) > 0);
        store.close().await;
        let keys = crate::ContentKeys::new("example".parse().unwrap(), bed.keys.clone());
        let report = crate::Fsck { content: keys, ..fsck_of(&bed) }.store(|_| {}).await.unwrap();
        assert!(report.is_sound() && report.unread() == 0, "{:?}", report.findings().collect::<Vec<_>>());
        assert_eq!(report.entries(), 320);
    }
}

fn fsck_of(bed: &Bed) -> crate::Fsck {
    crate::Fsck {
        objects: bed.objects(),
        ledger: "example".parse().unwrap(),
        keys: vec![key().verifier("any")],
        content: Default::default(),
        kept: vec![],
        durable: vec![],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_key_a_store_opens_and_waits_for_it() {
    for durability in [Durability::Wal, Durability::Object] {
        let (mut bed, ring) = bed(502);
        bed.durability = durability;
        let store = bed.open().await;
        append_marked(&store, "acme", 0..2).await;
        ring.give("acme", "k1", 1);
        append_marked(&store, "acme", 2..5).await;
        store.seal_all().await.unwrap();
        append_marked(&store, "acme", 5..9).await;
        append_ids(&store, "globex", 0..4).await;
        let head = store.reader(&tenant("acme"), StreamKind::Audit).unwrap().checkpoint().await.unwrap();
        store.close().await;
        ring.hide(true);
        let store = bed.open().await;
        let acme = store.reader(&tenant("acme"), StreamKind::Audit).unwrap();
        assert_eq!(acme.checkpoint().await.unwrap(), head, "heads need no key");
        assert!(matches!(acme.snapshot().await, Err(StoreError::Key(KeyError::NotAtHand { .. }))));
        let refused = store.append(request(&store, vec![("acme", vec![marked("acme", 9)])])).await.unwrap_err();
        assert!(matches!(refused, StoreError::Key(_)), "{refused}");
        assert_eq!(ids_of(&store, "globex").await, ids(0..4), "others are not disturbed");
        append_ids(&store, "globex", 4..6).await;
        // Seals of others go on; nothing of what cannot be read is lost on the way.
        assert!(store.seal_all().await.is_err());
        assert_eq!(ids_of(&store, "globex").await, ids(0..6));
        store.close().await;
        let store = bed.open().await;
        ring.hide(false);
        store.unlock().await.unwrap();
        append_marked(&store, "acme", 9..12).await;
        assert_eq!(append(&store, "acme", vec![marked("acme", 6)]).await.0, duplicates(6..7));
        assert_eq!(rows_of(&store, "acme").await.len(), 12);
        seal_and_keep(&store).await;
        assert_eq!(rows_of(&store, "acme").await.len(), 12);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_copied_forward_keeps_what_it_cannot_open() {
    let (mut bed, ring) = bed(503);
    bed.limits.log_file_bytes = 1 << 10;
    bed.limits.log_files = 2;
    ring.give("acme", "k1", 1);
    let store = bed.open().await;
    append_marked(&store, "acme", 0..5).await;
    append_ids(&store, "globex", 0..40).await;
    store.close().await;
    ring.hide(true);
    let store = bed.open().await;
    for round in 1..6 {
        append_ids(&store, "globex", 40 * round..40 * (round + 1)).await;
    }
    let sealed = store.seal_all().await;
    assert!(sealed.is_err());
    for round in 6..9 {
        append_ids(&store, "globex", 40 * round..40 * (round + 1)).await;
    }
    store.close().await;
    ring.hide(false);
    let store = bed.open().await;
    assert_eq!(rows_of(&store, "acme").await.len(), 5);
    assert_eq!(ids_of(&store, "globex").await, ids(0..360));
    assert_eq!(marks_in(bed.folder.path()), 0);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_write_old_segments_anew_under_the_newest_key() {
    let (bed, ring) = bed(504);
    let store = bed.open().await;
    append_marked(&store, "acme", 0..10).await;
    store.seal_all().await.unwrap();
    for (at, name) in ["k1", "k2"].into_iter().enumerate() {
        ring.give("acme", name, at as u8 + 1);
        append_marked(&store, "acme", 10 * (at as u64 + 1)..10 * (at as u64 + 2)).await;
        store.seal_all().await.unwrap();
        assert!(store.key_use(&tenant("acme")).await.unwrap().len() > 1);
        store.upkeep().await.unwrap();
        let used = store.key_use(&tenant("acme")).await.unwrap();
        let names: Vec<_> = used.keys().map(|key| key.as_ref().unwrap().as_str()).collect();
        assert_eq!(names, [name], "all are under the newest");
    }
    let used = store.key_use(&tenant("acme")).await.unwrap();
    assert_eq!(used.values().map(|(_, entries, _)| entries).sum::<u64>(), 30);
    ring.destroy("k1");
    assert_eq!(rows_of(&store, "acme").await.len(), 30, "the older key is needed by nothing");
    store.upkeep().await.unwrap();
    assert_eq!(store.key_use(&tenant("acme")).await.unwrap(), used, "and nothing is written twice");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_key_leaves_chain_and_heads_and_what_comes_after() {
    let (bed, ring) = bed(505);
    ring.give("acme", "k1", 1);
    let store = bed.open().await;
    append_marked(&store, "acme", 0..600).await;
    seal_and_keep(&store).await;
    let before = store.reader(&tenant("acme"), StreamKind::Audit).unwrap().inclusion(5, Some(600)).await.unwrap();
    store.close().await;
    ring.destroy("k1");
    std::fs::remove_dir_all(bed.at("cache")).unwrap();
    let store = bed.open().await;
    let acme = store.reader(&tenant("acme"), StreamKind::Audit).unwrap();
    let proof = acme.consistency(512, None).await.unwrap();
    assert_eq!((proof.to, proof.to_root), (600, before.head.root), "from tiles and the edge");
    // Plain entries of Piperoll's own may follow.
    append_ids(&store, "acme", 600..900).await;
    seal_and_keep(&store).await;
    assert!(acme.consistency(512, None).await.is_ok());
    // Inside of a block with others a head can no longer be compared; a proof made before can.
    assert!(matches!(acme.consistency(600, None).await, Err(StoreError::Sealed { .. })));
    let alone = acme.inclusion(5, None).await.unwrap_err();
    assert!(matches!(alone, StoreError::Sealed { seq: 5, .. }), "{alone}");
    assert!(acme.inclusion(800, None).await.is_ok());
    let segments = acme.snapshot().await.unwrap().segments;
    let unread = segment::read_rows(&store.shared().content, &segments[0], 0, 1).await.unwrap_err();
    assert!(matches!(unread, StoreError::Key(KeyError::Destroyed { .. })), "{unread}");
    store.close().await;
    for content in [Default::default(), crate::ContentKeys::new("example".parse().unwrap(), bed.keys.clone())] {
        let report = crate::Fsck { content, ..fsck_of(&bed) }.store(|_| {}).await.unwrap();
        assert!(report.is_sound(), "{:?}", report.findings().collect::<Vec<_>>());
        assert_eq!((report.unread(), report.entries()), (600, 300));
        let said = report.findings().find(|finding| finding.what.contains("cannot be read")).unwrap();
        assert!(said.what.contains("1 segments (600 entries)") && said.sound.contains("commits"), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_or_exchanged_segment_is_reported_with_the_key_and_without() {
    let (bed, ring) = bed(506);
    ring.give("acme", "k1", 1);
    let store = bed.open().await;
    for round in 0..2 {
        append_marked(&store, "acme", 100 * round..100 * (round + 1)).await;
        store.seal_all().await.unwrap();
    }
    let segments = store.reader(&tenant("acme"), StreamKind::Audit).unwrap().snapshot().await.unwrap().segments;
    let content = store.shared().content.clone();
    store.close().await;
    let objects = bed.objects();
    let (first, second) = (&segments[0], &segments[1]);
    let whole = segment::fetch(&objects, &first.location).await.unwrap();
    let keys = || crate::ContentKeys::new("example".parse().unwrap(), bed.keys.clone());
    for at in (0..whole.len()).step_by(whole.len() / 23) {
        let mut changed = whole.to_vec();
        changed[at] ^= 1;
        objects.put(&first.location, changed.into()).await.unwrap();
        for content in [Default::default(), keys()] {
            let report = crate::Fsck { content, ..fsck_of(&bed) }.store(|_| {}).await.unwrap();
            assert!(!report.is_sound(), "byte {at}");
        }
    }
    // Another of the same stream and month, under the same data key, does not open in its place.
    let other = segment::fetch(&objects, &second.location).await.unwrap();
    objects.put(&first.location, other.clone().into()).await.unwrap();
    let moved = segment::Statistics::read(&content, &first.location, other.len() as u64).await;
    assert!(matches!(moved, Err(StoreError::Parquet { .. })), "{moved:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_key_is_no_key_and_destroys_nothing() {
    let (bed, ring) = bed(507);
    ring.give("acme", "k1", 1);
    let store = bed.open().await;
    append_marked(&store, "acme", 0..4).await;
    store.close().await;
    let wrong = Arc::new(Ring::default());
    wrong.give("acme", "k1", 9);
    let copy = Bed { keys: Some(wrong as Arc<dyn KeySource>), ..bed.copy() };
    let store = copy.open().await;
    let acme = store.reader(&tenant("acme"), StreamKind::Audit).unwrap();
    assert!(matches!(acme.snapshot().await, Err(StoreError::Key(KeyError::Wrong { .. }))));
    append_ids(&store, "globex", 0..2).await;
    store.close().await;
    let other = Bed { keys: Some(Arc::new(Ring::default()) as Arc<dyn KeySource>), ..bed.copy() };
    let store = other.open().await;
    let view: View = store.shared().stream(&StreamKey::new(tenant("acme"), StreamKind::Audit)).unwrap().view();
    assert_eq!((view.edge.size(), view.tail.len()), (4, 1));
    store.close().await;
    let store = bed.open().await;
    assert_eq!(rows_of(&store, "acme").await.len(), 4);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_is_declared_when_the_key_is_back() {
    let (bed, ring) = bed(508);
    ring.give("acme", "k1", 1);
    let store = bed.open().await;
    append_marked(&store, "acme", 0..4).await;
    seal_and_keep(&store).await;
    store.close().await;
    std::fs::remove_dir_all(bed.at("log")).unwrap();
    std::fs::remove_dir_all(bed.at("cache")).unwrap();
    ring.hide(true);
    let store = Store::open(StoreOptions { log_lost: true, ..bed.options() }).await.unwrap();
    assert_eq!(store.reader(&tenant("acme"), StreamKind::Audit).unwrap().stored().0, 4);
    ring.hide(false);
    store.unlock().await.unwrap();
    append_marked(&store, "acme", 4..6).await;
    let ids = ids_of(&store, "acme").await;
    assert_eq!((ids.len(), ids[4].as_str()), (7, "piperoll-log-lost-1"));
    store.close().await;
}
