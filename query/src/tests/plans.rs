//! What is skipped, as plans and metrics show it.

use super::*;

/// The sum of a metric over a plan's text, such as `row_groups_pruned_bloom_filter=6 total → 5 matched`.
fn metric(plan: &str, name: &str) -> Vec<String> {
    let key = format!("{name}=");
    plan.match_indices(&key)
        .map(|(at, _)| plan[at + key.len()..].split([',', ']', '}']).next().unwrap_or_default().trim().to_string())
        .collect()
}

fn positions(plan: &str) -> usize {
    plan.matches("/audit/").count()
}

#[tokio::test]
async fn segments_are_skipped_by_tenant_time_sequence_and_release() {
    let engine = engine();
    let time = |seq: i64| ledger::time::format_micros(BEGIN + seq * 1_000_000);
    for (filter, segments, tail) in [
        ("true".into(), 6, true),
        ("tenant = 'acme'".into(), 3, true),
        ("tenant = 'initech'".into(), 0, false),
        ("seq < 10".into(), 2, false),
        ("seq = 3050".into(), 0, true),
        ("tenant = 'globex' AND seq BETWEEN 1000 AND 1999".into(), 1, false),
        (format!("occurred_at < '{}'", time(500)), 2, true),
        ("release = '2026.8.0'".into(), 2, true),
        ("tenant IN ('acme', 'initech') AND release > '2026.8.3'".into(), 1, true),
        ("stream = 'telemetry'".into(), 0, false),
    ] {
        let plan = explain(&engine, world().await, &format!("EXPLAIN SELECT action FROM audit WHERE {filter}")).await;
        assert_eq!(positions(&plan), segments, "{filter}\n{plan}");
        assert_eq!(plan.contains("partition_sizes"), tail, "{filter}\n{plan}");
    }
}

#[tokio::test]
async fn plans_name_positions_and_never_paths() {
    let engine = engine();
    for sql in [
        "EXPLAIN SELECT * FROM audit",
        "EXPLAIN VERBOSE SELECT * FROM audit",
        "EXPLAIN ANALYZE VERBOSE SELECT * FROM audit WHERE outcome = 'x'",
    ] {
        let plan = explain(&engine, world().await, sql).await;
        assert!(plan.contains("acme/audit/0-999"), "{plan}");
        assert!(!plan.contains(SECRET_PATH) && !plan.contains(".parquet") && !plan.contains("salt_"), "{plan}");
    }
}

#[tokio::test]
async fn bloom_filters_and_pages_skip_inside_segments() {
    let engine = engine();
    let analyze = |filter: &str| format!("EXPLAIN ANALYZE SELECT action FROM audit WHERE tenant = 'acme' AND {filter}");
    let hex = Row { tenant: "acme".into(), seq: 1_234 }.trace_hex().unwrap();
    for filter in ["session = 's-acme-1234'".to_string(), "event_id = 'e-1234'".into(), format!("trace_id = '{hex}'")] {
        let plan = explain(&engine, world().await, &analyze(&filter)).await;
        let bloom = metric(&plan, "row_groups_pruned_bloom_filter");
        let statistics = metric(&plan, "row_groups_pruned_statistics");
        println!(
            "{filter}: bloom {bloom:?} statistics {statistics:?} pages {:?}",
            metric(&plan, "page_index_pages_pruned")
        );
        assert!(
            bloom.iter().any(|b| b.contains("→ 1 matched")) || statistics.iter().any(|s| s.contains("→ 1 matched")),
            "{filter}\n{plan}"
        );
    }
    let missing = explain(&engine, world().await, &analyze("session = 's-acme-1234x'")).await;
    assert!(metric(&missing, "row_groups_pruned_bloom_filter").iter().any(|b| b.contains("→ 0 matched")), "{missing}");
    let nobody =
        explain(&engine, world().await, &analyze(&format!("trace_id = 'ab{}'", &hex[2..31].replace('a', "b")))).await;
    assert!(!nobody.contains("→ 1 matched, bloom"), "{nobody}");
    let pages = explain(&engine, world().await, &analyze("seq BETWEEN 1110 AND 1120")).await;
    assert!(metric(&pages, "page_index_pages_pruned").iter().any(|p| p.contains("→ 1 matched")), "{pages}");
}

/// Rows that a scan or union gave out, of a plan with metrics; the suffix K is thousands.
fn given(plan: &str, node: &str) -> f64 {
    let lines = plan.lines().filter(|line| line.trim_start().starts_with(node));
    let rows = lines.flat_map(|line| metric(line, "output_rows"));
    rows.map(|rows| {
        rows.strip_suffix(" K").map_or_else(|| rows.parse::<f64>().unwrap(), |n| n.parse::<f64>().unwrap() * 1_000.0)
    })
    .sum()
}

#[tokio::test]
async fn the_latest_hundred_read_no_old_segment() {
    let engine = engine();
    for (order, filter, tail, most) in [
        ("DESC", "true", 0, 2_000.0),
        ("DESC", "true", 150, 2_000.0),
        ("ASC", "true", 0, 2_000.0),
        // A tail hides the order from the files (DataFusion pushes no sort through a union); some are read in vain.
        ("ASC", "true", 150, 20_000.0),
        ("DESC", "outcome = 'failure'", 150, 1_000.0),
        ("ASC", "outcome = 'failure'", 0, 1_000.0),
    ] {
        let snapshots = vec![stream("acme", StreamKind::Audit, 20, 1_000, tail).await];
        let sql = format!("EXPLAIN ANALYZE SELECT * FROM audit WHERE {filter} ORDER BY seq {order} LIMIT 100");
        let plan = explain(&engine, snapshots, &sql).await;
        // Two threads open a segment each before the first hundred are known; no third one is read.
        let read = given(&plan, "DataSourceExec");
        println!(
            "{order} {filter} {tail}: {read} rows of 20,000; files {:?}",
            metric(&plan, "files_ranges_pruned_statistics")
        );
        assert!(read <= most, "{order} {filter}: {read}\n{plan}");
    }
}

#[tokio::test]
#[ignore = "a measurement: run it with --ignored --nocapture"]
async fn planning_takes_little() {
    let engine = engine();
    let mut many = Vec::new();
    for n in 0..200 {
        many.push(stream(&format!("t{n}"), StreamKind::Audit, 2, 10, 5).await);
    }
    for (what, snapshots, sql) in [
        (
            "one tenant, needle",
            vec![stream("acme", StreamKind::Audit, 3, 1_000, 100).await],
            "SELECT seq FROM audit WHERE session = 's-acme-1234'",
        ),
        (
            "one tenant, latest 100",
            vec![stream("acme", StreamKind::Audit, 3, 1_000, 100).await],
            "SELECT * FROM audit ORDER BY seq DESC LIMIT 100",
        ),
        ("nothing read", Vec::new(), "SELECT 1"),
        ("200 tenants, 400 segments, one actor", many.clone(), "SELECT tenant, seq FROM audit WHERE actor_id = 'u-3'"),
        ("200 tenants, count by tenant", many, "SELECT tenant, count(*) FROM audit GROUP BY 1"),
    ] {
        let mut best = [u128::MAX; 2];
        for _ in 0..15 {
            let begun = std::time::Instant::now();
            let answer = engine.sql(snapshots.clone(), sql).await.unwrap();
            best[0] = best[0].min(begun.elapsed().as_micros());
            answer.collect().await.unwrap();
            best[1] = best[1].min(begun.elapsed().as_micros());
        }
        println!("{what}: planned in {} µs, answered in {} µs (best of 15)", best[0], best[1]);
    }
}

#[tokio::test]
async fn counts_come_from_statistics() {
    let plan = explain(&engine(), world().await, "EXPLAIN SELECT count(*) FROM audit").await;
    assert!(!plan.contains("/audit/") && plan.contains("6200"), "{plan}");
}

#[tokio::test]
async fn footers_are_read_once_and_kept() {
    let engine = engine();
    let snapshots = vec![stream("acme", StreamKind::Audit, 3, 1_000, 0).await];
    for _ in 0..2 {
        let answer = engine.sql(snapshots.clone(), "SELECT sum(duration_us) FROM audit").await.unwrap();
        answer.collect().await.unwrap();
        let (count, bytes) = engine.footers();
        assert_eq!(count, 3);
        println!("a footer takes {} bytes", bytes / count);
    }
}
