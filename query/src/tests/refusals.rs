//! What SQL is refused, each with a sentence of its own.

use super::*;
use crate::ErrorKind;

#[tokio::test]
async fn what_is_no_question_is_refused() {
    let engine = engine();
    let deep = format!("SELECT {}1{}", "(".repeat(60), ")".repeat(60));
    let nested = format!("SELECT * FROM {}audit{}", "(SELECT * FROM ".repeat(45), ")".repeat(45));
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    let chain = format!("SELECT 1{}", "+1".repeat(5_000));
    let ors = format!("SELECT seq FROM audit WHERE {}", vec!["seq=1"; 2_000].join(" OR "));
    let unions = vec!["SELECT 1"; 100].join(" UNION ALL ");
    let nots = format!("SELECT {} true", "NOT ".repeat(900));
    let minus = format!("SELECT {}1", "- ".repeat(900));
    let cases: &[(&str, &str)] = &[
        ("", "one statement"),
        (";", "one statement"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT 1; DROP TABLE audit", "one statement"),
        ("SELEC 1", "does not parse"),
        ("SELECT 'unterminated", "does not parse"),
        ("COPY audit TO 'x.csv'", "only SELECT"),
        ("COPY (SELECT * FROM audit) TO '/tmp/x.parquet'", "only SELECT"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "only SELECT"),
        ("CREATE TABLE t AS SELECT * FROM audit", "only SELECT"),
        ("CREATE VIEW v AS SELECT 1", "only SELECT"),
        ("CREATE FUNCTION f() RETURNS INT RETURN 1", "only SELECT"),
        ("DROP TABLE audit", "only SELECT"),
        ("INSERT INTO audit VALUES (1)", "only SELECT"),
        ("UPDATE audit SET seq = 1", "only SELECT"),
        ("DELETE FROM audit", "only SELECT"),
        ("TRUNCATE audit", "only SELECT"),
        ("ALTER TABLE audit ADD COLUMN x INT", "only SELECT"),
        ("SET datafusion.execution.batch_size = 1", "only SELECT"),
        ("RESET datafusion.execution.batch_size", "only SELECT"),
        ("SHOW TABLES", "only SELECT"),
        ("SHOW ALL", "only SELECT"),
        ("SHOW datafusion.execution.batch_size", "only SELECT"),
        ("SHOW COLUMNS FROM audit", "only SELECT"),
        ("SHOW FUNCTIONS", "only SELECT"),
        ("DESCRIBE audit", "only SELECT"),
        ("PREPARE p AS SELECT $1", "not supported"),
        ("PREPARE p AS SELECT 1", "only SELECT"),
        ("EXECUTE p(1)", "only SELECT"),
        ("DEALLOCATE p", "only SELECT"),
        ("BEGIN", "only SELECT"),
        ("COMMIT", "only SELECT"),
        ("USE other", "only SELECT"),
        ("ANALYZE TABLE audit", ""),
        ("EXPLAIN INSERT INTO audit VALUES (1)", "only SELECT"),
        ("EXPLAIN ANALYZE DELETE FROM audit", "only SELECT"),
        ("EXPLAIN COPY audit TO 'x'", "only SELECT"),
        ("EXPLAIN EXPLAIN SELECT 1", ""),
        ("WITH x AS (DELETE FROM audit RETURNING *) SELECT * FROM x", ""),
        ("SELECT * INTO t FROM audit", "SELECT INTO"),
        ("SELECT * FROM audit FOR UPDATE", "FOR UPDATE"),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r", "recursive"),
        ("SELECT * FROM (WITH RECURSIVE r AS (SELECT 1) SELECT * FROM r)", "recursive"),
        ("SELECT * FROM information_schema.tables", "one schema"),
        ("SELECT * FROM datafusion.public.audit", "one schema"),
        ("SELECT * FROM \"information_schema\".\"df_settings\"", "one schema"),
        ("SELECT * FROM tables", "not found"),
        ("SELECT * FROM registry", "not found"),
        ("SELECT * FROM '/etc/passwd'", "not found"),
        ("SELECT * FROM \"/etc/passwd.csv\"", "not found"),
        ("SELECT * FROM \"segments://\"", "not found"),
        ("SELECT * FROM read_csv('/etc/passwd')", "table functions"),
        ("SELECT * FROM read_parquet('s3://x')", "table functions"),
        ("SELECT * FROM generate_series(1, 1000000000)", "table functions"),
        ("SELECT * FROM range(1, 1000000000)", "table functions"),
        ("SELECT * FROM TABLE(audit)", ""),
        ("SELECT * FROM unnest([1, 2, 3])", "table functions"),
        ("SELECT * FROM audit, LATERAL generate_series(1, seq)", "table functions"),
        ("SELECT * FROM audit TABLESAMPLE BERNOULLI (10)", "table functions"),
        ("SELECT unnest(action) FROM audit", "no function unnest"),
        ("SELECT generate_series(1, 1000000000)", "no function generate_series"),
        ("SELECT range(1, 10)", "no function range"),
        ("SELECT random()", "no function random"),
        ("SELECT uuid()", "no function uuid"),
        ("SELECT version()", "no function version"),
        ("SELECT input_file_name() FROM audit", "no function input_file_name"),
        ("SELECT pg_sleep(10)", "no function pg_sleep"),
        ("SELECT public.count(1)", "no function public.count"),
        ("SELECT hex_text(action) FROM audit", "no function hex_text"),
        ("SELECT \"RANDOM\"()", "no function"),
        ("SELECT repeat('x', 10001)", "sizes"),
        ("SELECT repeat('x', 1000 * 1000)", "sizes"),
        ("SELECT repeat('x', seq) FROM audit", "sizes"),
        ("SELECT repeat(repeat('x', 1000), 1000)", "sizes"),
        ("SELECT repeat(r, 1000) FROM (SELECT repeat('x', 1000) AS r)", "sizes"),
        ("SELECT lpad('x', 1000000000)", "sizes"),
        ("SELECT rpad('x', -1)", "sizes"),
        ("SELECT lpad('x', cast(actor_id AS INT)) FROM audit", "sizes"),
        ("SELECT salt_seed FROM audit", "salt_seed"),
        ("SELECT salt_index FROM audit", "salt_index"),
        ("SELECT \"salt_seed\" FROM audit", "salt_seed"),
        ("SELECT audit.salt_seed FROM audit", "salt_seed"),
        ("SELECT seq FROM audit WHERE salt_seed IS NOT NULL", "salt_seed"),
        ("SELECT count(*) FROM audit GROUP BY salt_seed", "salt_seed"),
        ("SELECT * EXCLUDE (salt_seed) FROM audit", ""),
        ("SELECT \"ACTION\" FROM audit", "ACTION"),
        ("SELECT * FROM \"AUDIT\"", "not found"),
        ("SELECT $1", "parameters"),
        ("SELECT ?", "parameters"),
        ("SELECT :x", ""),
        ("SELECT @@version", "parameters"),
        ("SELECT @x", "parameters"),
        ("SELECT nosuch FROM audit", "nosuch"),
        ("SELECT action + 1 FROM audit", ""),
        ("SELECT sum(action) FROM audit", ""),
        ("SELECT {'a': 1}", "a nested value"),
        ("SELECT [1, 2]", "a nested value"),
        ("FROM audit |> SELECT seq", ""),
        (&deep, "nested deeper"),
        (&nested, "nested deeper"),
        (&long, "longer than"),
        (&chain, "more than"),
        (&ors, "more than"),
        (&unions, "more than"),
        (&nots, ""),
        (&minus, ""),
    ];
    assert!(cases.len() > 90);
    let mut strange = Vec::new();
    for (sql, wanted) in cases {
        match ask(&engine, sql).await {
            Err(error) if error.kind() == ErrorKind::Query && error.to_string().contains(wanted) => {}
            other => strange.push(format!("{:.80} => {other:.200?}", sql)),
        }
    }
    assert!(strange.is_empty(), "{}", strange.join("\n"));
}

#[tokio::test]
async fn hostile_texts_do_no_harm() {
    let engine = engine();
    let mut texts: Vec<String> = [
        "\0",
        "SELECT \u{0}",
        "🦀",
        "SELECT '🦀' LIKE '%",
        "((((",
        "SELECT (",
        "--",
        "/*",
        "/* /* */",
        "SELECT $$",
        "SELECT 1e999999",
        "SELECT E'\\u'",
    ]
    .map(String::from)
    .into();
    texts.push("SELECT ".to_string() + &"x.".repeat(3_000) + "x");
    texts.push("SELECT ".to_string() + &"CASE WHEN 1=1 THEN ".repeat(300) + "1" + &" END".repeat(300));
    texts.push("SELECT ".to_string() + &"a,".repeat(10_000) + "1");
    texts.push("SELECT interval '99999999999 years' + timestamp '9999-12-31'".into());
    texts.push("SELECT date '999999-01-01', cast(9e18 AS timestamp)".into());
    texts.push("SELECT to_char(occurred_at, '%Q%!%999z') FROM audit LIMIT 1".into());
    texts.push("SELECT seq FROM audit WHERE action ~ '(a+)+$' LIMIT 1".into());
    texts.push("SELECT seq FROM audit WHERE regexp_like(action, '(a{1000}){1000}')".into());
    texts.push("SELECT regexp_replace(action, '(', 'x') FROM audit".into());
    texts.push(format!(
        "SELECT seq FROM audit WHERE seq IN ({}) LIMIT 1",
        (0..9_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
    ));
    texts.push("SELECT * FROM audit LIMIT -1".into());
    texts.push("SELECT * FROM audit LIMIT 99999999999999999999".into());
    texts.push("SELECT * FROM audit OFFSET 9223372036854775807".into());
    texts.push("SELECT chr(-1), chr(1114112), chr(55296)".into());
    texts.push(
        "SELECT factorial(1000), power(1e300, 1e300), log(-1), gcd(-9223372036854775808, -9223372036854775808)".into(),
    );
    texts.push("SELECT (-9223372036854775808) / (-1), abs(-9223372036854775808)".into());
    texts.push("SELECT date_bin(interval '0 seconds', occurred_at) FROM audit".into());
    texts.push("SELECT date_bin(interval '-1 month', occurred_at, timestamp '0001-01-01') FROM audit".into());
    texts.push("SELECT split_part('a', '', 0), substr('🦀', -9223372036854775808, 9223372036854775807)".into());
    texts.push("SELECT nth_value(seq, 0) OVER (ORDER BY seq) FROM audit".into());
    texts.push(
        "SELECT ntile(0) OVER (ORDER BY seq), lag(seq, -9223372036854775808) OVER (ORDER BY seq) FROM audit".into(),
    );
    texts.push("SELECT sum(seq) OVER (ORDER BY seq ROWS BETWEEN 9223372036854775807 PRECEDING AND 9223372036854775807 FOLLOWING) FROM audit".into());
    texts.push("SELECT approx_percentile_cont(seq, 7) FROM audit".into());
    texts.push("SELECT left('🦀🦀', -1), right('x', -9223372036854775808), translate('🦀', '🦀', '')".into());
    texts.push("SELECT make_date(999999, 13, 40), from_unixtime(9223372036854775807)".into());
    for text in &texts {
        let got = engine.sql(world().await, text).await;
        let got = match got {
            Ok(answer) => answer.collect().await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = got {
            assert_ne!(error.kind(), ErrorKind::Internal, "{:.100}: {error}", text);
        }
    }
    assert_eq!(ask(&engine, "SELECT 1").await.unwrap(), [["1"]]);
}
