//! Many streams, many commits, long quiet: what must stay bounded, and how long opening takes.
//!
//! The long forms print their figures: `cargo test --release -p ledger-store -- --ignored --nocapture scale`.

use super::*;
use crate::writer::Message;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const DAY: i64 = 86_400_000_000;

/// Ages, and lets the writer notice, until nothing old is unsealed.
async fn tick(store: &Store, of_age: impl Fn(&Stream) -> bool) {
    for _ in 0..2_000 {
        store.writer.send(Message::Tick).await.unwrap_or_else(|_| panic!("the writer has stopped"));
        let streams: Vec<_> = store.shared.streams.read().unwrap().values().cloned().collect();
        if !streams.iter().any(|stream| of_age(stream)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("what is old stays unsealed");
}

/// Lets `trickling` tenants write a little each day beside some busy ones, and counts what that leaves.
async fn quiet(trickling: usize, days: u64) {
    let mut bed = Bed::new(81);
    bed.limits = Limits { log_file_bytes: 200_000, log_files: 6, seal_bytes: 100_000, ..Limits::default() };
    bed.objects = Some(Arc::new(InMemory::new()));
    let store = bed.open().await;
    let names: Vec<String> = (0..trickling).map(|at| format!("quiet-{at}")).collect();
    let mut most_files = 0;
    for day in 0..days {
        for half in 0..2 {
            for some in names.chunks(250) {
                let id = 2 * day + half;
                let parts =
                    some.iter().map(|name| (name.as_str(), vec![draft(name, &format!("e-{id}"), id)])).collect();
                store.append(request(&store, parts)).await.unwrap();
                let busy = (0..3).map(|at| ["busy-0", "busy-1", "busy-2"][at]);
                let drafts =
                    |name: &str| (0..20).map(|n| draft(name, &format!("{day}-{half}-{}-{n}", some[0]), n)).collect();
                store.append(request(&store, busy.map(|name| (name, drafts(name))).collect())).await.unwrap();
                most_files = most_files.max(bed.log_files().len());
            }
            bed.world.pass(DAY / 2);
            let oldest = bed.world.now_micros() - DAY - DAY / 4;
            tick(&store, |stream| stream.oldest_unsealed().is_some_and(|at| at < oldest)).await;
        }
        if day % 7 == 6 {
            store.upkeep().await.unwrap();
        }
    }
    store.seal_all().await.unwrap();
    bed.world.pass(2 * 3_600_000_000);
    store.upkeep().await.unwrap();
    let mut segments: BTreeMap<String, usize> = BTreeMap::new();
    let listed: Vec<_> = bed.objects().list(None).try_collect().await.unwrap();
    let commits = listed.iter().filter(|meta| meta.location.as_ref().contains("/commits/")).count();
    for meta in listed.iter().filter(|meta| meta.location.as_ref().contains("parquet")) {
        *segments.entry(meta.location.as_ref().split('/').next().unwrap().into()).or_default() += 1;
    }
    let quietest =
        segments.iter().filter(|(tenant, _)| tenant.contains("quiet")).map(|(_, count)| *count).max().unwrap();
    let per_day = commits as f64 / (trickling as f64 * days as f64);
    let objects = listed.len();
    eprintln!(
        "{trickling} quiet tenants, {days} days: {objects} objects, at most {quietest} segments a tenant, \
         {per_day:.2} commits a tenant and day, at most {most_files} log files, {} resident",
        resident()
    );
    assert!(per_day <= 1.6 && quietest <= 12, "{per_day} commits, {quietest} segments");
    assert!(most_files <= 6 + 4 + trickling / 150, "{most_files} log files");
    let entries: u64 =
        store.streams().iter().map(|(tenant, kind)| store.reader(tenant, *kind).unwrap().stream.head().size).sum();
    store.close().await;
    let report = bed.fsck().await;
    assert!(report.is_sound() && report.entries() == entries);
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("unknown");
    line.trim().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_tenants_make_about_a_segment_a_day_and_keep_few() {
    quiet(120, 16).await;
}

#[ignore = "some minutes: cargo test --release -p ledger-store -- --ignored --nocapture scale"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_tenants_of_which_nearly_all_trickle() {
    quiet(9_900, 20).await;
}

/// Puts what was built in memory into the folder, as if it had been built there: without a sync for each object.
async fn on_disk(bed: &mut Bed) {
    for meta in bed.objects().list(None).try_collect::<Vec<_>>().await.unwrap() {
        let path = bed.at("objects").join(meta.location.as_ref());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, segment::fetch(&bed.objects(), &meta.location).await.unwrap()).unwrap();
    }
    bed.objects = None;
}

async fn opened(bed: &Bed, what: &str) -> Duration {
    let begun = Instant::now();
    let store = bed.open().await;
    let took = begun.elapsed();
    eprintln!("{what}: opened in {took:?}");
    store.close().await;
    took
}

#[ignore = "some minutes: cargo test --release -p ledger-store -- --ignored --nocapture scale"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_a_stream_of_ten_thousand_commits() {
    for merge_bytes in [0, Limits::default().merge_bytes] {
        let mut bed = Bed::new(82);
        bed.limits.merge_bytes = merge_bytes;
        bed.limits.removed_grace = Duration::ZERO;
        bed.objects = Some(Arc::new(InMemory::new()));
        let store = bed.open().await;
        let begun = Instant::now();
        let mut next = 0;
        while store.reader(&tenant("acme"), StreamKind::Audit).is_err()
            || store.reader(&tenant("acme"), StreamKind::Audit).unwrap().stream.view().sealed.commits < 10_000
        {
            append_ids(&store, "acme", next..next + 4).await;
            next += 4;
            store.seal_all().await.unwrap();
        }
        store.upkeep().await.unwrap();
        let view = store.reader(&tenant("acme"), StreamKind::Audit).unwrap().stream.view();
        let (commits, segments) = (view.sealed.commits, view.sealed.segments.len());
        eprintln!("{commits} commits, {segments} live segments, made in {:?}", begun.elapsed());
        store.close().await;
        on_disk(&mut bed).await;
        opened(&bed, "first opening").await;
        opened(&bed, "second opening").await;
        let prefix = crate::layout::StreamPrefix::new(&tenant("acme"), StreamKind::Audit);
        std::fs::remove_file(bed.at("objects").join(prefix.snapshot().as_ref())).unwrap();
        opened(&bed, "without its snapshot").await;
        let begun = Instant::now();
        assert!(bed.fsck().await.is_sound());
        eprintln!("fsck in {:?}", begun.elapsed());
    }
}

#[ignore = "some minutes: cargo test --release -p ledger-store -- --ignored --nocapture scale"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_ten_thousand_streams() {
    let mut bed = Bed::new(83);
    bed.objects = Some(Arc::new(InMemory::new()));
    let store = bed.open().await;
    let names: Vec<String> = (0..10_000).map(|at| format!("t-{at}")).collect();
    let begun = Instant::now();
    for some in names.chunks(500) {
        let parts =
            some.iter().map(|name| (name.as_str(), (0..3).map(|n| draft(name, &format!("e-{n}"), n)).collect()));
        store.append(request(&store, parts.collect())).await.unwrap();
        store.seal_all().await.unwrap();
    }
    eprintln!("10,000 streams made in {:?}", begun.elapsed());
    let chains = bed.objects().list(None).try_collect::<Vec<_>>().await.unwrap().len();
    store.upkeep().await.unwrap();
    store.close().await;
    on_disk(&mut bed).await;
    eprintln!("{chains} objects");
    opened(&bed, "10,000 streams, first opening").await;
    let store = bed.open().await;
    for name in names.iter().filter(|name| name.ends_with("00")) {
        append_ids(&store, name, 3..4).await;
    }
    store.close().await;
    opened(&bed, "10,000 streams").await;
    eprintln!("resident {}", resident());
}
