//! The retry policy, in time that stands still: what is tried again, how often, and what is never done twice.

use super::faulty::{Fate, Faulty};
use super::still::Still;
use super::*;
use crate::error::StoreError;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::collections::BTreeSet;
use std::time::Duration;

pub(super) fn broken() -> Error {
    let error = HttpError::new(HttpErrorKind::Interrupted, std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    Error::Generic { store: "faulty", source: Box::new(error) }
}

fn answered(status: u16, after: Option<u64>) -> Error {
    let after = after.map(Duration::from_secs);
    let error = HttpError::new(HttpErrorKind::Unknown, super::super::answers::Answered { status, after });
    Error::Generic { store: "faulty", source: Box::new(error) }
}

fn throttled() -> Error {
    answered(503, Some(7))
}

fn denied() -> Error {
    Error::PermissionDenied { path: "x".into(), source: "as the test wants".into() }
}

fn steady(faulty: &Arc<Faulty>) -> Arc<dyn ObjectStore> {
    steady_in(faulty, &Still::new())
}

fn steady_in(faulty: &Arc<Faulty>, still: &Arc<Still>) -> Arc<dyn ObjectStore> {
    let (inner, ambient) = (Arc::clone(faulty) as Arc<dyn ObjectStore>, Arc::clone(still) as Arc<dyn Ambient>);
    Arc::new(Steady::new(inner, Patience::network(), ambient))
}

async fn put_new(store: &Arc<dyn ObjectStore>, text: &'static str) -> object_store::Result<()> {
    let options = PutOptions::from(PutMode::Create);
    store.put_opts(&Path::from("x"), PutPayload::from_static(text.as_bytes()), options).await.map(drop)
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_settled_by_reading_back() {
    for fate in [Fate::FailsAfter(broken), Fate::HangsAfter, Fate::Fails(broken), Fate::Hangs] {
        let faulty = Faulty::new([fate]);
        let store = steady(&faulty);
        put_new(&store, "ours").await.unwrap();
        // Somebody who comes second is told so, also with the same bytes.
        assert!(matches!(put_new(&store, "ours").await, Err(Error::AlreadyExists { .. })));
        assert!(matches!(put_new(&store, "theirs").await, Err(Error::AlreadyExists { .. })));
        assert_eq!(store.get(&Path::from("x")).await.unwrap().bytes().await.unwrap(), "ours");
    }
    // The put failed, and meanwhile somebody else was first.
    let faulty = Faulty::new([Fate::Fails(broken)]);
    faulty.inner.put(&Path::from("x"), PutPayload::from_static(b"them")).await.unwrap();
    assert!(matches!(put_new(&steady(&faulty), "ours").await, Err(Error::AlreadyExists { .. })));
    // A claim, whose bytes somebody else would write too, is never called ours after the fact.
    let faulty = Faulty::new([Fate::FailsAfter(broken)]);
    let claimed = steady(&faulty).put_opts(&Path::from("x"), PutPayload::from_static(b"5"), claim()).await;
    assert!(matches!(claimed, Err(Error::AlreadyExists { .. })));
    // The read that settles it may fail too.
    let faulty = Faulty::new([Fate::FailsAfter(broken), Fate::Fails(broken), Fate::Fails(broken)]);
    put_new(&steady(&faulty), "ours").await.unwrap();
}

#[tokio::test]
async fn what_cannot_pass_is_not_tried_again() {
    for error in [denied as fn() -> Error, || answered(400, None), || answered(301, None)] {
        let faulty = Faulty::new([Fate::Fails(error)]);
        let still = Still::new();
        assert!(put_new(&steady_in(&faulty, &still), "ours").await.is_err());
        assert_eq!((faulty.calls().len(), still.passed()), (1, Duration::ZERO));
    }
}

#[tokio::test]
async fn tries_are_bounded_and_wait_as_long_as_the_server_asks() {
    let faulty = Faulty::new((0..100).map(|_| Fate::Fails(broken)));
    let error = put_new(&steady(&faulty), "ours").await.unwrap_err();
    assert_eq!(faulty.calls().len(), 8);
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "gave up after 8 tries");
    let faulty = Faulty::new([Fate::Fails(throttled), Fate::Fails(throttled)]);
    let still = Still::new();
    put_new(&steady_in(&faulty, &still), "ours").await.unwrap();
    let waited = still.passed();
    assert!(waited >= Duration::from_secs(14) && waited < Duration::from_secs(15), "{waited:?}");
    // Waits are drawn: two that failed together do not come back together.
    let patience = Patience::network();
    let world = world();
    let waits: BTreeSet<Duration> = (1..8).map(|tries| patience.wait(tries, None, world.as_ref())).collect();
    assert!(waits.len() == 7 && *waits.last().unwrap() <= Duration::from_millis(6_400), "{waits:?}");
}

#[tokio::test]
async fn a_stuck_store_is_given_up() {
    let faulty = Faulty::new((0..100).map(|_| Fate::Hangs));
    let still = Still::new();
    let error = put_new(&steady_in(&faulty, &still), "ours").await.unwrap_err();
    assert_eq!(still.passed(), Duration::from_secs(90));
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "no answer within 90 seconds");
    // A disk that is stuck is given up after one try.
    let faulty = Faulty::new((0..100).map(|_| Fate::Hangs));
    let disk: Arc<dyn ObjectStore> = Arc::new(Steady::new(Arc::clone(&faulty) as _, Patience::disk(), Still::new()));
    assert!(put_new(&disk, "ours").await.is_err());
    assert_eq!(faulty.calls().len(), 1);
}

#[tokio::test]
async fn bodies_that_break_off_end_early_or_stall_are_taken_up_where_they_stopped() {
    let bytes: Bytes = (0..1_000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
    let fates = [
        Fate::BreaksAt(1_000),
        Fate::EndsAt(500),
        Fate::StallsAt(0),
        Fate::Fails(broken),
        Fate::EndsAt(0),
        Fate::BreaksAt(7),
    ];
    let faulty = Faulty::new(fates);
    faulty.inner.put(&Path::from("x"), bytes.clone().into()).await.unwrap();
    let store = steady(&faulty);
    assert_eq!(store.get(&Path::from("x")).await.unwrap().bytes().await.unwrap(), bytes);
    assert_eq!(faulty.calls().len(), 7);
    for fate in [Fate::EndsAt(3), Fate::BreaksAt(3), Fate::StallsAt(3)] {
        faulty.fates.lock().unwrap().push_back(fate);
        assert_eq!(store.get_range(&Path::from("x"), 10..2_010).await.unwrap(), bytes.slice(10..2_010));
    }
    // A store that never sends the rest is an error, and no shorter object.
    faulty.fates.lock().unwrap().extend((0..100).map(|_| Fate::EndsAt(0)));
    let error = store.get(&Path::from("x")).await.unwrap().bytes().await.unwrap_err();
    assert!(format!("{error:?}").contains("Short"), "{error:?}");
}

#[tokio::test]
async fn listings_begin_anew_and_deletes_are_settled() {
    let faulty = Faulty::new([]);
    for n in 0..5 {
        faulty.inner.put(&Path::from(format!("x/{n}")), PutPayload::default()).await.unwrap();
    }
    let store = steady(&faulty);
    faulty.fates.lock().unwrap().extend([Fate::Fails(broken), Fate::Hangs, Fate::Fails(throttled)]);
    let listed: Vec<_> = store.list(Some(&Path::from("x"))).try_collect().await.unwrap();
    let names: BTreeSet<String> = listed.iter().map(|meta| meta.location.to_string()).collect();
    assert_eq!((listed.len(), names.len()), (5, 5), "each once, in whatever order");
    faulty.fates.lock().unwrap().extend([Fate::FailsAfter(broken), Fate::Fails(throttled)]);
    store.delete(&Path::from("x/0")).await.unwrap();
    assert!(faulty.inner.head(&Path::from("x/0")).await.is_err());
}

#[tokio::test]
async fn large_objects_survive_lost_answers() {
    let bytes: Bytes = vec![7; 40 << 20].into();
    for fates in [vec![Fate::Fails(broken)], vec![Fate::FailsAfter(broken), Fate::Hangs]] {
        let faulty = Faulty::new([]);
        let store = steady(&faulty);
        faulty.fates.lock().unwrap().push_back(Fate::Fails(broken));
        faulty.fates.lock().unwrap().extend(fates);
        create(&store, &Path::from("x"), bytes.clone()).await.unwrap();
        assert_eq!(store.head(&Path::from("x")).await.unwrap().size, bytes.len() as u64);
    }
}

#[tokio::test]
async fn a_store_that_overwrites_is_refused_in_words() {
    let liar = Arc::new(Faulty { overwrites: true, ..Faulty::default() });
    let location: Location = "s3://bucket/prefix".parse().unwrap();
    let error = probe(&steady(&liar), &location, world().as_ref()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unfit { .. }), "{error:?}");
    let told = error.to_string();
    assert!(told.starts_with("the store s3://bucket/prefix cannot keep a ledger: it does not honour"), "{told}");
    assert!(told.contains("If-None-Match"));
    // Nothing is left behind, and an honest store passes also through trouble.
    assert_eq!(liar.inner.list(None).try_collect::<Vec<_>>().await.unwrap(), []);
    let honest = Faulty::new([Fate::FailsAfter(broken), Fate::Fails(throttled)]);
    probe(&steady(&honest), &location, world().as_ref()).await.unwrap();
    assert_eq!(honest.inner.list(None).try_collect::<Vec<_>>().await.unwrap(), []);
}

#[test]
fn operations_and_retries_are_counted() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let faulty = Faulty::new([Fate::Fails(throttled), Fate::FailsAfter(broken)]);
            let store = steady(&faulty);
            put_new(&store, "ours").await.unwrap();
            put_new(&store, "ours").await.unwrap_err();
        });
    });
    let text = handle.render();
    for line in [
        r#"piperoll_store_operations_total{operation="create",outcome="ok"} 1"#,
        r#"piperoll_store_operations_total{operation="create",outcome="already_exists"} 1"#,
        r#"piperoll_store_retries_total{operation="create",reason="throttled"} 1"#,
        r#"piperoll_store_retries_total{operation="create",reason="network"} 1"#,
        r#"piperoll_store_operation_seconds_count{operation="create"} 2"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
