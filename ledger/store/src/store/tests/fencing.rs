//! Two writers on one store whose groups are objects: one of them signs, whatever the other slept through.

use super::*;
use crate::layout;
use crate::writer::Message;
use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutOptions,
    PutPayload, PutResult,
};
use std::fmt;
use tokio::sync::Semaphore;

/// Where the next put of a group is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Never,
    Before,
    After,
    /// It takes effect and is said to have failed.
    Lies,
}

/// A store whose puts of groups can be held, as a process that is stopped holds them.
#[derive(Debug)]
struct Gated {
    inner: Arc<dyn ObjectStore>,
    hold: Mutex<Hold>,
    arrived: Semaphore,
    release: Semaphore,
}

impl Gated {
    fn over(inner: &Arc<dyn ObjectStore>) -> Arc<Self> {
        let (arrived, release) = (Semaphore::new(0), Semaphore::new(0));
        Arc::new(Self { inner: Arc::clone(inner), hold: Mutex::new(Hold::Never), arrived, release })
    }

    fn set(&self, hold: Hold) {
        *self.hold.lock().unwrap() = hold;
    }

    async fn arrived(&self) {
        self.arrived.acquire().await.unwrap().forget();
    }

    fn release(&self) {
        self.release.add_permits(1);
    }

    async fn wait(&self) {
        self.arrived.add_permits(1);
        self.release.acquire().await.unwrap().forget();
    }
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gated")
    }
}

#[async_trait]
impl ObjectStore for Gated {
    async fn put_opts(&self, at: &ObjectPath, bytes: PutPayload, how: PutOptions) -> object_store::Result<PutResult> {
        let is_group = at.as_ref().starts_with(layout::log_objects().as_ref());
        let hold = match is_group {
            true => std::mem::replace(&mut *self.hold.lock().unwrap(), Hold::Never),
            false => Hold::Never,
        };
        if hold == Hold::Before {
            self.wait().await;
        }
        let done = self.inner.put_opts(at, bytes, how).await;
        match hold {
            Hold::After => self.wait().await,
            Hold::Lies => {
                return Err(object_store::Error::Generic { store: "gated", source: "as the test wants".into() });
            }
            Hold::Never | Hold::Before => {}
        }
        done
    }

    async fn put_multipart_opts(
        &self,
        at: &ObjectPath,
        how: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &ObjectPath, _: &ObjectPath, _: CopyOptions) -> object_store::Result<()> {
        unreachable!("nothing is copied")
    }
}

/// Two machines and one store: each its own local folder.
struct Pair {
    first: Bed,
    gate: Arc<Gated>,
    second: Bed,
    objects: Arc<dyn ObjectStore>,
}

fn pair(seed: u64) -> Pair {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let gate = Gated::over(&objects);
    let bed = |objects| Bed { durability: Durability::Object, objects: Some(objects), ..Bed::new(seed) };
    let first = bed(Arc::clone(&gate) as Arc<dyn ObjectStore>);
    Pair { first, gate, second: bed(Arc::clone(&objects)), objects }
}

async fn try_append(store: &Store, ids: std::ops::Range<u64>) -> Result<Appended, StoreError> {
    let drafts = ids.map(|id| draft("acme", &format!("e-{id}"), id)).collect();
    store.append(request(store, vec![("acme", drafts)])).await
}

fn is_fenced(answer: Result<Appended, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Fenced { .. }))
}

/// Everything acknowledged is there, after both ended too.
async fn holds(pair: &Pair, expected: &[String]) {
    let third = Bed { durability: Durability::Object, objects: Some(Arc::clone(&pair.objects)), ..Bed::new(9) };
    let store = third.open().await;
    assert_eq!(ids_of(&store, "acme").await, expected);
    store.seal_all().await.unwrap();
    assert_eq!(ids_of(&store, "acme").await, expected);
    store.close().await;
    assert!(third.fsck().await.is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_stopped_before_its_put_never_signs_again() {
    let pair = pair(71);
    let old = pair.first.open().await;
    append_ids(&old, "acme", 0..3).await;
    pair.gate.set(Hold::Before);
    let late = tokio::spawn({
        let old = old.clone();
        async move { try_append(&old, 3..5).await }
    });
    pair.gate.arrived().await;
    let new = pair.second.open().await;
    assert_eq!(append_ids(&new, "acme", 0..3).await, duplicates(0..3));
    assert_eq!(append_ids(&new, "acme", 10..12).await, accepted(3..5));
    pair.gate.release();
    assert!(is_fenced(late.await.unwrap()));
    assert!(is_fenced(try_append(&old, 20..21).await));
    assert!(!old.is_writable() && old.problem().unwrap().contains("took this store over"));
    assert_eq!(append_ids(&new, "acme", 12..13).await, accepted(5..6));
    old.close().await;
    new.close().await;
    holds(&pair, &[ids(0..3), ids(10..13)].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_stopped_between_put_and_signature_signs_what_its_successor_signed() {
    let pair = pair(72);
    let old = pair.first.open().await;
    append_ids(&old, "acme", 0..3).await;
    pair.gate.set(Hold::After);
    let late = tokio::spawn({
        let old = old.clone();
        async move { append(&old, "acme", (3..5).map(|id| draft("acme", &format!("e-{id}"), id)).collect()).await }
    });
    pair.gate.arrived().await;
    let new = pair.second.open().await;
    let taken_over = new.log_head();
    assert_eq!(append_ids(&new, "acme", 0..5).await, duplicates(0..5), "what was put is found, signed or not");
    pair.gate.release();
    let (verdicts, receipt) = late.await.unwrap();
    assert_eq!(verdicts, accepted(3..5));
    let receipt = verified(&old, &receipt);
    assert_eq!(receipt.durability, Durability::Object);
    assert_eq!(old.log_head(), taken_over, "one size, one root");
    assert!(is_fenced(try_append(&old, 5..6).await));
    old.close().await;
    new.close().await;
    holds(&pair, &ids(0..5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_writer_that_was_overtaken_finds_out_and_its_late_seal_is_taken_over() {
    let pair = pair(73);
    let old = pair.first.open().await;
    append_ids(&old, "acme", 0..50).await;
    let new = pair.second.open().await;
    append_ids(&new, "acme", 50..60).await;
    // The old one does not know yet, and seals what it has.
    old.seal_all().await.unwrap();
    append_ids(&new, "acme", 60..65).await;
    new.seal_all().await.unwrap();
    assert_eq!(ids_of(&new, "acme").await, ids(0..65));
    assert_eq!(append_ids(&new, "acme", 0..65).await, duplicates(0..65));
    for _ in 0..2 {
        old.writer.send(Message::Tick).await.unwrap();
    }
    log_life::wait_for(|| old.problem().is_some()).await;
    old.close().await;
    new.close().await;
    holds(&pair, &ids(0..65)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_slept_while_everything_was_trimmed_is_still_fenced() {
    let mut pair = pair(74);
    pair.second.limits = Limits { log_files: 1, ..pair.second.limits };
    let old = pair.first.open().await;
    append_ids(&old, "acme", 0..3).await;
    pair.gate.set(Hold::Before);
    let late = tokio::spawn({
        let old = old.clone();
        async move { try_append(&old, 3..4).await }
    });
    pair.gate.arrived().await;
    let new = pair.second.open().await;
    for round in 0..900 {
        append_ids(&new, "acme", 100 + round..101 + round).await;
        if round % 300 == 299 {
            new.seal_all().await.unwrap();
        }
    }
    let count =
        || async { pair.objects.list(Some(&layout::log_objects())).try_collect::<Vec<_>>().await.unwrap().len() };
    append_ids(&new, "acme", 2_000..2_001).await;
    for round in 0..400 {
        append_ids(&new, "acme", 3_000 + round..3_001 + round).await;
    }
    assert!(count().await < 1_200, "{} objects are left", count().await);
    pair.gate.release();
    assert!(is_fenced(late.await.unwrap()));
    old.close().await;
    new.close().await;
    holds(&pair, &[ids(0..3), ids(100..1_000), ids(2_000..2_001), ids(3_000..3_400)].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taker_that_slept_while_its_number_was_trimmed_gives_up() {
    let mut pair = pair(77);
    pair.second.limits = Limits { log_files: 1, ..pair.second.limits };
    let at_work = pair.second.open().await;
    append_ids(&at_work, "acme", 0..3).await;
    pair.gate.set(Hold::Before);
    let (first, gate) = (pair.first.options(), Arc::clone(&pair.gate));
    let taker = tokio::spawn(Store::open(first));
    gate.arrived().await;
    // Its number is the third: the takeover of the one at work, a group, and then what is trimmed now.
    let number = layout::log_object(3);
    append_ids(&at_work, "acme", 3..4).await;
    assert!(pair.objects.head(&number).await.is_ok());
    let mut next = 4;
    while pair.objects.head(&number).await.is_ok() {
        append_ids(&at_work, "acme", next..next + 1).await;
        next += 1;
        if next.is_multiple_of(300) {
            at_work.seal_all().await.unwrap();
        }
        assert!(next < 5_000, "it is trimmed at some time");
    }
    gate.release();
    let overtaken = taker.await.unwrap().err().expect("it must not believe that it took over");
    assert!(matches!(overtaken, StoreError::Fenced { .. }), "{overtaken}");
    assert_eq!(append_ids(&at_work, "acme", next..next + 1).await, accepted(next..next + 1));
    at_work.close().await;
    holds(&pair, &ids(0..next + 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_is_said_to_have_failed_is_settled_by_reading_back() {
    let pair = pair(75);
    let store = pair.first.open().await;
    append_ids(&store, "acme", 0..3).await;
    pair.gate.set(Hold::Lies);
    assert_eq!(append_ids(&store, "acme", 3..5).await, accepted(3..5));
    store.close().await;
    holds(&pair, &ids(0..5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_object_durability_a_lost_machine_loses_nothing() {
    let pair = pair(76);
    let store = pair.second.open().await;
    append_ids(&store, "acme", 0..300).await;
    store.seal_all().await.unwrap();
    append_ids(&store, "acme", 300..340).await;
    drop(store);
    assert!(!pair.second.at("log").exists(), "there is no local log");
    let _ = std::fs::remove_dir_all(pair.second.folder.path());
    holds(&pair, &ids(0..340)).await;
    let wal = StoreOptions { durability: Durability::Wal, ..pair.second.options() };
    let refused = Store::open(wal).await.err().unwrap();
    assert!(matches!(refused, StoreError::Foreign { .. }) && refused.to_string().contains("durability"), "{refused}");
}
