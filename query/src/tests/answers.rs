//! Answers equal those of a plain model, over segments and tail alike.

use super::*;
use std::collections::BTreeMap;

#[tokio::test]
async fn counts_and_groups_equal_the_model() {
    let engine = engine();
    assert_eq!(ask(&engine, "SELECT count(*), min(seq), max(seq) FROM audit").await.unwrap(), [["6200", "0", "3099"]]);
    let mut expected: BTreeMap<(String, &str), i64> = BTreeMap::new();
    for row in model() {
        *expected.entry((row.tenant.clone(), row.action())).or_default() += 1;
    }
    let expected: Vec<Vec<String>> =
        expected.into_iter().map(|((tenant, action), n)| vec![tenant, action.into(), n.to_string()]).collect();
    assert_eq!(
        ask(&engine, "SELECT tenant, action, count(*) FROM audit GROUP BY 1, 2 ORDER BY 1, 2").await.unwrap(),
        expected
    );
    let sum: i64 = model().iter().filter_map(Row::duration_us).sum();
    assert_eq!(
        ask(&engine, "SELECT sum(duration_us) FROM audit WHERE duration_us IS NOT NULL").await.unwrap(),
        [[sum.to_string()]]
    );
}

#[tokio::test]
async fn filters_equal_the_model() {
    let engine = engine();
    let time = |seq: i64| ledger::time::format_micros(BEGIN + seq * 1_000_000);
    type Keeps = Box<dyn Fn(&Row) -> bool>;
    let cases: Vec<(String, Keeps)> = vec![
        ("tenant = 'acme'".into(), Box::new(|r| r.tenant == "acme")),
        (
            "tenant <> 'acme' AND outcome = 'failure'".into(),
            Box::new(|r| r.tenant != "acme" && r.outcome() == "failure"),
        ),
        (
            format!("occurred_at >= '{}' AND occurred_at < '{}'", time(990), time(1_010)),
            Box::new(|r| (990..1_010).contains(&r.seq)),
        ),
        (format!("occurred_at > timestamp '{}'", time(3_050)), Box::new(|r| r.seq > 3_050)),
        ("seq BETWEEN 2995 AND 3005".into(), Box::new(|r| (2_995..=3_005).contains(&r.seq))),
        ("release = '2026.8.3'".into(), Box::new(|r| r.release() == "2026.8.3")),
        (
            "release IN ('2026.8.0', '2026.8.6')".into(),
            Box::new(|r| ["2026.8.0", "2026.8.6"].contains(&r.release().as_str())),
        ),
        ("session = 's-acme-1234'".into(), Box::new(|r| r.session() == "s-acme-1234")),
        (
            "session = 's-acme-3050' OR session = 's-globex-7'".into(),
            Box::new(|r| ["s-acme-3050", "s-globex-7"].contains(&r.session().as_str())),
        ),
        (
            "actor_id LIKE 'u-1%' AND duration_us > 30000".into(),
            Box::new(|r| r.actor_id().starts_with("u-1") && r.duration_us().is_some_and(|d| d > 30_000)),
        ),
        ("trace_id IS NULL".into(), Box::new(|r| r.trace_id().is_none())),
        ("trace_id LIKE 'abab%'".into(), Box::new(|r| r.trace_id().is_some())),
        ("cast(json_text(attributes, '/n') AS BIGINT) % 1000 = 7".into(), Box::new(|r| r.seq % 1_000 == 7)),
        ("stream = 'telemetry'".into(), Box::new(|_| false)),
        ("reason IS NOT NULL".into(), Box::new(|_| false)),
    ];
    for (filter, holds) in cases {
        let expected = model().iter().filter(|row| holds(row)).count().to_string();
        assert_eq!(
            ask(&engine, &format!("SELECT count(*) FROM audit WHERE {filter}")).await.unwrap(),
            [[expected]],
            "{filter}"
        );
    }
}

#[tokio::test]
async fn trace_ids_are_hex_text_in_and_out() {
    let engine = engine();
    for seq in [0i64, 1_234, 3_050] {
        let row = Row { tenant: "acme".into(), seq };
        let hex = row.trace_hex().unwrap();
        let span = &hex[16..];
        let want = vec![vec!["acme".to_string(), seq.to_string(), hex.clone(), span.to_string()]];
        for filter in [
            format!("trace_id = '{hex}'"),
            format!("'{hex}' = trace_id"),
            format!("trace_id IN ('{hex}', '{}')", "0".repeat(32)),
            format!("trace_id IN ('{hex}','a','b','c','d','e','f','g')"),
            format!("span_id = '{span}'"),
            format!("(trace_id = '{hex}' OR span_id = 'zz') AND seq >= 0"),
            format!("upper(trace_id) = '{}'", hex.to_uppercase()),
        ] {
            let sql = format!("SELECT tenant, seq, trace_id, span_id FROM audit WHERE tenant = 'acme' AND {filter}");
            assert_eq!(ask(&engine, &sql).await.unwrap(), want, "{filter}");
        }
        for filter in [
            format!("trace_id = '{}'", hex.to_uppercase()),
            format!("trace_id = '{}'", &hex[1..]),
            "trace_id = ''".into(),
        ] {
            assert_eq!(
                ask(&engine, &format!("SELECT count(*) FROM audit WHERE {filter}")).await.unwrap(),
                [["0"]],
                "{filter}"
            );
        }
        let others = ask(&engine, &format!("SELECT count(*) FROM audit WHERE trace_id <> '{hex}' OR trace_id IS NULL"))
            .await
            .unwrap();
        assert_eq!(others, [["6198"]]);
    }
}

#[tokio::test]
async fn every_column_is_there_and_no_salt() {
    let engine = engine();
    let answer = engine.sql(world().await, "SELECT * FROM audit WHERE seq = 3099 AND tenant = 'acme'").await.unwrap();
    let names: Vec<String> = answer.schema.fields().iter().map(|f| f.name().clone()).collect();
    let expected: Vec<String> =
        std::iter::once("seq".to_string()).chain(ledger::Field::ALL.iter().map(|f| f.name().to_string())).collect();
    assert_eq!(names, expected);
    assert_eq!(answer.collect().await.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test]
async fn both_tables_are_always_there() {
    let engine = engine();
    assert_eq!(ask(&engine, "SELECT count(*) FROM telemetry").await.unwrap(), [["0"]]);
    assert_eq!(
        ask(&engine, "SELECT a.seq FROM audit a LEFT JOIN telemetry t USING (trace_id) WHERE a.seq < 1 ORDER BY 1")
            .await
            .unwrap()
            .len(),
        2
    );
    let nothing = engine.sql(Vec::<ledger_store::Snapshot>::new(), "SELECT count(*) FROM audit").await.unwrap();
    assert_eq!(cells(&nothing.collect().await.unwrap()), [["0"]]);
    let telemetry = stream("acme", StreamKind::Telemetry, 0, 0, 10).await;
    let answer = engine
        .sql(vec![telemetry], "SELECT (SELECT count(*) FROM audit) AS a, (SELECT count(*) FROM telemetry) AS t")
        .await
        .unwrap();
    assert_eq!(cells(&answer.collect().await.unwrap()), [["0", "10"]]);
}

#[tokio::test]
async fn an_analysts_sql_works() {
    let engine = engine();
    for sql in [
        "WITH busy AS (SELECT actor_id, count(*) AS n FROM audit GROUP BY actor_id HAVING count(*) > 10) SELECT * FROM busy ORDER BY n DESC LIMIT 3",
        "SELECT date_trunc('hour', occurred_at) AS hour, count(*) FILTER (WHERE outcome = 'failure') FROM audit GROUP BY 1 ORDER BY 1",
        "SELECT tenant, actor_id, max(occurred_at), count(DISTINCT action) FROM audit WHERE occurred_at > now() - interval '90 days' GROUP BY 1, 2",
        "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY actor_id ORDER BY seq DESC) AS r FROM audit) WHERE r = 1 LIMIT 5",
        "SELECT extract(hour FROM occurred_at), substring(actor_id FROM 1 FOR 2), position('-' IN actor_id), trim(action) FROM audit LIMIT 1",
        "SELECT approx_distinct(actor_id), string_agg(DISTINCT action, ',') FROM audit",
        "SELECT action FROM audit WHERE seq = 1 UNION ALL SELECT action FROM audit WHERE seq = 2",
        "SELECT CASE WHEN outcome = 'failure' THEN 1 ELSE 0 END, coalesce(reason, 'none') FROM audit LIMIT 2",
        "SELECT count(*) FROM audit WHERE actor_id IN (SELECT actor_id FROM audit WHERE seq = 3)",
        "VALUES (1, 'a'), (2, 'b')",
        "SELECT a.seq, b.seq FROM audit a JOIN audit b ON a.actor_id = b.actor_id AND a.seq < b.seq AND a.tenant <> b.tenant WHERE a.seq < 40 LIMIT 4",
        "SELECT a.seq FROM audit a JOIN audit b ON b.occurred_at BETWEEN a.occurred_at AND a.occurred_at + interval '3 seconds' WHERE a.seq = 7",
        "SELECT seq FROM audit a WHERE EXISTS (SELECT 1 FROM audit b WHERE b.seq = a.seq + 1 AND b.tenant <> a.tenant) LIMIT 3",
        "SELECT repeat('ab', 10), lpad(action, 20, '.'), seq::text || '/' || tenant FROM audit LIMIT 1",
        "SELECT \"action\", AUDIT.seq FROM Audit WHERE \"tenant\" = 'acme' LIMIT 1;",
        "EXPLAIN SELECT count(*) FROM audit",
        "EXPLAIN ANALYZE SELECT count(*) FROM audit WHERE seq > 5",
        "EXPLAIN VERBOSE SELECT 1",
    ] {
        let got = ask(&engine, sql).await;
        assert!(
            got.as_ref().is_ok_and(|rows| !rows.is_empty()) || sql.contains("now()") && got.is_ok(),
            "{sql}: {got:?}"
        );
    }
}
