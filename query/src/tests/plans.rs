//! What is skipped, as plans and metrics show it.

use super::*;

/// The values of a metric in a plan's text, such as `groups_skipped_by_bloom_filter=5`.
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
        let tails = plan.split("tails=").nth(1).is_some_and(|rest| !rest.starts_with('0'));
        assert_eq!(tails, tail, "{filter}\n{plan}");
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

/// The sum of a counter over a plan's text.
fn counted(plan: &str, name: &str) -> u64 {
    metric(plan, name).iter().map(|count| count.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
async fn bloom_filters_and_values_skip_inside_segments() {
    let analyze = |filter: &str| format!("EXPLAIN ANALYZE SELECT action FROM audit WHERE tenant = 'acme' AND {filter}");
    let hex = Row { tenant: "acme".into(), seq: 1_234 }.trace_hex().unwrap();
    let other = format!("{}{}", &hex[..30], "ff");
    // Three segments of two row groups each, and a tail of two batches.
    for (filter, read, by_bloom) in [
        ("session = 's-acme-1234'".to_string(), 1, 5),
        ("event_id = 'e-1234'".into(), 1, 5),
        (format!("trace_id = '{hex}'"), 1, 5),
        (format!("trace_id IN ('{hex}', '{other}')"), 1, 5),
        (format!("trace_id = '{other}'"), 0, 6),
        ("session = 's-acme-1234x'".into(), 0, 6),
        ("seq BETWEEN 1110 AND 1120".into(), 1, 0),
        ("release = '2026.8.3'".into(), 1, 0),
    ] {
        let plan = explain(&engine(), world().await, &analyze(&filter)).await;
        // A Bloom filter may be wrong now and then; values are not.
        assert_eq!(counted(&plan, "groups_read"), read, "{filter}\n{plan}");
        assert!(counted(&plan, "groups_skipped_by_bloom_filter") + 1 >= by_bloom, "{filter}\n{plan}");
        assert!(!plan.contains("FilterExec"), "{filter}\n{plan}");
    }
}

#[tokio::test]
async fn what_the_scan_does_not_answer_is_filtered_above_it() {
    for filter in
        ["upper(action) = 'X'", "action = outcome", "session = 'a' OR actor_id = 'b'", "attributes LIKE '%x%'"]
    {
        let plan = explain(&engine(), world().await, &format!("EXPLAIN SELECT seq FROM audit WHERE {filter}")).await;
        assert!(plan.contains("FilterExec") && !plan.contains("conditions="), "{filter}\n{plan}");
    }
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
async fn a_hundred_in_order_of_sequence_are_all_that_is_read() {
    let engine = engine();
    for (order, filter, tail) in [
        ("DESC", "true", 0),
        ("DESC", "true", 150),
        ("ASC", "true", 0),
        ("ASC", "true", 150),
        ("DESC", "outcome = 'failure'", 150),
        ("ASC", "outcome = 'failure'", 0),
    ] {
        let snapshots = vec![stream("acme", StreamKind::Audit, 20, 1_000, tail).await];
        let sql = format!("EXPLAIN ANALYZE SELECT * FROM audit WHERE {filter} ORDER BY seq {order} LIMIT 100");
        let plan = explain(&engine, snapshots, &sql).await;
        assert_eq!(given(&plan, "DataSourceExec"), 100.0, "{order} {filter}\n{plan}");
        assert!(counted(&plan, "groups_read") <= 4 && !plan.contains("SortExec"), "{order} {filter}\n{plan}");
    }
}

#[tokio::test]
async fn streams_are_never_taken_for_one() {
    let engine = engine();
    let rows = ask(&engine, "SELECT tenant, seq FROM audit ORDER BY seq DESC, tenant LIMIT 3").await.unwrap();
    assert_eq!(rows, [["acme", "3099"], ["globex", "3099"], ["acme", "3098"]]);
    let rows =
        ask(&engine, "SELECT seq, action FROM audit WHERE tenant = 'acme' ORDER BY seq, action DESC LIMIT 2").await;
    assert_eq!(rows.unwrap(), [["0", "invoice.update"], ["1", "user.login"]]);
    let greatest =
        ask(&engine, "SELECT max(seq), min(occurred_at) = max(occurred_at) FROM audit LIMIT 1").await.unwrap();
    assert_eq!(greatest, [["3099", "false"]]);
}

#[tokio::test]
async fn the_greatest_so_far_leave_pieces_out() {
    let engine = Engine::new(Limits { threads: 1, ..Limits::default() }).unwrap();
    let snapshots = vec![stream("acme", StreamKind::Audit, 20, 1_000, 0).await];
    let sql = "EXPLAIN ANALYZE SELECT session FROM audit ORDER BY occurred_at DESC LIMIT 10";
    let plan = explain(&engine, snapshots, sql).await;
    // The first rows come joined to one batch; after it the filter is known.
    assert!(given(&plan, "DataSourceExec") < 15_000.0, "{plan}");
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
async fn what_was_read_is_kept_and_asked_for_again_is_not_read() {
    let engine = engine();
    let snapshots = vec![stream("acme", StreamKind::Audit, 3, 1_000, 0).await];
    let sql = "SELECT sum(duration_us), max(actor_id) FROM audit WHERE release <> 'x'";
    let first = cells(&engine.sql(snapshots.clone(), sql).await.unwrap().collect().await.unwrap());
    // Three footers, and three columns of six row groups.
    assert_eq!(engine.kept().0, 3 + 3 * 6);
    for segment in &snapshots[0].segments {
        snapshots[0].objects.delete(&segment.location).await.unwrap();
    }
    let again = cells(&engine.sql(snapshots.clone(), sql).await.unwrap().collect().await.unwrap());
    assert_eq!(again, first);
    let answer = engine.sql(snapshots, "SELECT max(session) FROM audit").await.unwrap().collect().await;
    assert_eq!(answer.unwrap_err().kind(), crate::ErrorKind::Internal);
}

#[tokio::test]
async fn what_would_fill_the_room_is_not_kept_and_answers_are_the_same() {
    let small = Engine::new(Limits { kept_bytes: 64 * 1_024, ..Limits::default() }).unwrap();
    let sql = "SELECT tenant, action, actor_id, count(*), max(session) FROM audit GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";
    let expected = ask(&engine(), sql).await.unwrap();
    for _ in 0..3 {
        assert_eq!(ask(&small, sql).await.unwrap(), expected);
        assert!(small.kept().1 <= 64 * 1_024, "{:?}", small.kept());
    }
}

#[tokio::test]
async fn few_rows_of_what_is_not_kept_are_read_alone_and_answers_are_the_same() {
    let small = Engine::new(Limits { kept_bytes: 64 * 1_024, ..Limits::default() }).unwrap();
    let columns =
        "seq, occurred_at, tenant, action, outcome, actor_id, session, release, event_id, trace_id, duration_us";
    for condition in [
        "release = '2026.8.3' AND actor_id = 'u-3'",
        "actor_id IN ('u-0', 'u-16') AND session LIKE '%7'",
        "seq IN (0, 999, 1000, 2999, 3050)",
        "session = 's-globex-1234'",
        "actor_id = 'u-2' AND outcome = 'failure'",
    ] {
        for order in ["tenant, seq", "occurred_at DESC, tenant"] {
            let sql = format!("SELECT {columns} FROM audit WHERE {condition} ORDER BY {order}");
            let expected = ask(&engine(), &sql).await.unwrap();
            assert!(!expected.is_empty(), "{condition}");
            // The second time some of the columns are in memory, as far as there is room.
            for _ in 0..2 {
                assert_eq!(ask(&small, &sql).await.unwrap(), expected, "{sql}");
                ask(&small, "SELECT max(actor_id) FROM audit WHERE tenant = 'acme' AND seq < 1000").await.unwrap();
            }
        }
    }
}
