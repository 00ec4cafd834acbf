//! Requests, seals and readers at once.

use super::*;
use std::collections::HashSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_one_history() {
    const NAMES: [&str; 3] = ["acme", "globex", "initech"];
    let mut bed = Bed::new(21);
    bed.limits = Limits { log_file_bytes: 20_000, log_files: 2, seal_bytes: 30_000, ..bed.limits };
    let store = bed.open().await;
    let mut tasks = Vec::new();
    for task in 0..8u64 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut told = Vec::new();
            for round in 0..30u64 {
                let name = NAMES[((task + round) % 3) as usize];
                // Half of the ids are sent by a second task too.
                let ids: Vec<u64> =
                    (0..5).map(|n| 1_000 * (task / 2) + 5 * round + n + 500 * (task % 2) * (n % 2)).collect();
                let drafts = ids.iter().map(|id| draft(name, &format!("e-{id}"), *id)).collect();
                let (verdicts, receipt) = append(&store, name, drafts).await;
                let origin_size = verified(&store, &receipt).heads[0].size;
                for (id, verdict) in ids.iter().zip(verdicts) {
                    let (Verdict::Accepted(seq) | Verdict::Duplicate(seq)) = verdict else { panic!("{verdict:?}") };
                    assert!(seq < origin_size, "the receipt covers the position");
                    told.push((name, *id, seq, matches!(verdict, Verdict::Accepted(_))));
                }
            }
            told
        }));
    }
    let looking = {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..40 {
                if round % 4 == 0 {
                    store.seal_all().await.unwrap();
                }
                for name in NAMES {
                    if let Ok(reader) = store.reader(&tenant(name), StreamKind::Audit) {
                        rows(&reader.snapshot().await.unwrap()).await;
                    }
                }
            }
        })
    };
    let mut told = Vec::new();
    for task in tasks {
        told.extend(task.await.unwrap());
    }
    looking.await.unwrap();
    store.close().await;
    let store = bed.open().await;
    for name in NAMES {
        let found = ids_of(&store, name).await;
        assert_eq!(found.iter().collect::<HashSet<_>>().len(), found.len(), "nothing is there twice");
        let accepted: HashSet<u64> = told.iter().filter(|t| t.0 == name && t.3).map(|t| t.2).collect();
        assert_eq!(accepted.len(), found.len(), "each position was given once");
        for (_, id, seq, _) in told.iter().filter(|t| t.0 == name) {
            assert_eq!(found[*seq as usize], format!("e-{id}"));
        }
    }
}

/// The look for originals ends before a seal, the request comes to the writer after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_seal_between_look_and_writer_hides_no_original() {
    let bed = Bed::new(22);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    store.close().await;
    // A start draws a fresh seed at the first request: after the look, before the writer.
    let store = bed.open().await;
    let sealing = store.clone();
    bed.world.on_random(move || {
        futures::executor::block_on(sealing.seal_all()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
    });
    assert_eq!(append_ids(&store, "acme", 0..4).await, [duplicates(0..3), accepted(3..4)].concat());
    assert_eq!(store.reader(&tenant("acme"), StreamKind::Audit).unwrap().snapshot().await.unwrap().segments.len(), 1);
}

/// The same, and the writer has forgotten the stream meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_writer_asks_to_look_again_also_for_a_stream_it_forgot() {
    let bed = Bed::new(23);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    store.close().await;
    let store = bed.open().await;
    let sealing = store.clone();
    bed.world.on_random(move || {
        futures::executor::block_on(sealing.seal_all()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        sealing.writer.blocking_tick();
        std::thread::sleep(std::time::Duration::from_millis(50));
    });
    bed.world.pass(1_000);
    assert_eq!(append_ids(&store, "acme", 0..4).await, [duplicates(0..3), accepted(3..4)].concat());
    let times: Vec<i64> = rows_of(&store, "acme").await.iter().map(|row| row.draft.recorded_at()).collect();
    assert_eq!(times, [START, START, START, START + 1_000]);
}

trait Tick {
    fn blocking_tick(&self);
}

impl Tick for tokio::sync::mpsc::Sender<Message> {
    fn blocking_tick(&self) {
        futures::executor::block_on(self.send(Message::Tick)).ok().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgotten_stream_goes_on_from_its_last_time_of_record() {
    let bed = Bed::new(24);
    let store = bed.open().await;
    bed.world.pass(40_000_000);
    append_ids(&store, "acme", 0..3).await;
    store.seal_all().await.unwrap();
    store.writer.send(Message::Tick).await.ok().unwrap();
    bed.world.shift_wall(-30_000_000);
    assert_eq!(append_ids(&store, "acme", 3..4).await, accepted(3..4));
    assert_eq!(rows_of(&store, "acme").await.len(), 4);
    store.seal_all().await.unwrap();
    store.close().await;
    let store = bed.open().await;
    bed.world.shift_wall(-20_000_000);
    assert_eq!(append_ids(&store, "acme", 4..5).await, accepted(4..5));
    assert_eq!(rows_of(&store, "acme").await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_view_still_shows_all_its_rows_after_a_seal() {
    let bed = Bed::new(25);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..5_000).await;
    let stream = store.shared.stream(&StreamKey::new(tenant("acme"), StreamKind::Audit)).unwrap();
    let sealing = stream.view();
    append_ids(&store, "acme", 5_000..9_000).await;
    let before = stream.view();
    stream.columns_of(&before).unwrap();
    // As a seal of the first 5,000 does it, when it began before the last append.
    stream.sealed(Sealed { edge: sealing.edge.clone(), ..Sealed::default() }, vec![]);
    let after = stream.view();
    for view in [&after, &before, &after] {
        let rows: usize = stream.columns_of(view).unwrap().iter().map(|batch| batch.num_rows()).sum();
        assert_eq!(rows as u64, view.edge.size() - view.sealed.edge.size());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_or_nothing_holds_over_two_parts_of_one_stream() {
    let bed = Bed::new(26);
    let store = bed.open().await;
    let parts = vec![("acme", vec![draft("acme", "e-0", 0)]), ("acme", vec![draft("acme", "e-0", 1)])];
    let asked = AppendRequest { atomic: true, ..request(&store, parts) };
    let answer = store.append(asked).await.unwrap();
    assert!(
        matches!(&answer, Appended::Refused { conflicts } if *conflicts == [vec![None], vec![Some(0)]]),
        "{answer:?}"
    );
    assert!(store.reader(&tenant("acme"), StreamKind::Audit).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draft_goes_only_into_its_own_stream() {
    let bed = Bed::new(27);
    let store = bed.open().await;
    let misplaced = store.append(request(&store, vec![("acme", vec![draft("globex", "e-0", 0)])])).await;
    assert_eq!(misplaced.unwrap_err().kind(), crate::ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_those_who_decided_on_the_same_history_one_is_heard() {
    let bed = Bed::new(27);
    let store = bed.open().await;
    let expecting = |size: u64, id: String| AppendRequest {
        expects: Some(size),
        ..request(&store, vec![("acme", vec![draft("acme", &id, size)])])
    };
    // Nobody may overwrite another unseen: each of ten steps has one winner among four, and the others are told.
    for size in 0..10 {
        let all = (0..4).map(|task| store.append(expecting(size, format!("e-{size}-{task}"))));
        let answers = futures::future::join_all(all).await;
        let won = answers.iter().filter(|answer| matches!(answer, Ok(Appended::Done { .. }))).count();
        let told = StoreError::Moved { expected: size, found: size + 1 }.to_string();
        let lost = answers.iter().filter(|answer| answer.as_ref().is_err_and(|e| e.to_string() == told)).count();
        assert_eq!((won, lost), (1, 3));
        if size == 5 {
            store.seal_all().await.unwrap();
        }
    }
    let reader = store.reader(&tenant("acme"), StreamKind::Audit).unwrap();
    for from in [0, 3, 6, 9, 10, 11] {
        let mut found = Vec::new();
        let all = reader.entries(from, |seq, draft| {
            found.push((seq, draft.event_id().to_string()));
            Ok::<(), StoreError>(())
        });
        all.await.unwrap();
        let expected: Vec<_> = ids_of(&store, "acme").await.into_iter().skip(from as usize).collect();
        assert_eq!(found.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>(), expected);
        assert!(found.iter().map(|(seq, _)| *seq).eq(from..10.max(from)));
    }
    store.close().await;
}
