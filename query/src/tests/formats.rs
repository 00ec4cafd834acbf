//! The same answer in five formats.

use super::*;
use crate::answer::Writer;
use crate::{Format, body};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::record_batch::RecordBatchReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

const SQL: &str = "SELECT seq, tenant, occurred_at, duration_us, trace_id, 9223372036854775807 AS big, 1.5 AS half, seq = 4 AS four, \
                   arrow_typeof(seq) AS kind, 'a,\"b\"\nc' AS odd, cast(NULL AS TEXT) AS none FROM audit WHERE seq < 5 AND tenant = 'acme' ORDER BY seq";

async fn written(engine: &Engine, sql: &str, format: Format) -> Vec<u8> {
    let answer = engine.sql(world().await, sql).await.unwrap();
    let body = body::stream(engine, answer, format).await.unwrap();
    axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec()
}

#[tokio::test]
async fn json_and_ndjson() {
    let engine = engine();
    let text = String::from_utf8(written(&engine, SQL, Format::Json).await).unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["row_count"], 5);
    assert_eq!(answer["columns"][2], serde_json::json!({"name": "occurred_at", "type": "TIMESTAMP"}));
    let first = answer["rows"][0].as_array().unwrap();
    assert_eq!(first[2], ledger::time::format_micros(BEGIN));
    assert_eq!((&first[3], &first[10]), (&Value::Null, &Value::Null));
    assert_eq!(first[4], Row { tenant: "acme".into(), seq: 0 }.trace_hex().unwrap());
    assert!(text.contains("9223372036854775807"));
    assert_eq!((&first[6], &first[9]), (&1.5.into(), &"a,\"b\"\nc".into()));
    let read = answer["read"].as_array().unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(
        read[0],
        serde_json::json!({"tenant": "acme", "stream": "audit", "size": 3100, "root": Hash::of(b"acme").to_base64()})
    );
    let lines = String::from_utf8(written(&engine, SQL, Format::Ndjson).await).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[4]["four"], &lines[4]["none"]), (5, &true.into(), &Value::Null));
}

#[tokio::test]
async fn csv_arrow_and_parquet() {
    let engine = engine();
    let text = String::from_utf8(written(&engine, SQL, Format::Csv).await).unwrap();
    assert!(
        text.starts_with("seq,tenant,occurred_at,duration_us,trace_id,big,half,four,kind,odd,none\n0,acme,2026-"),
        "{text}"
    );
    assert!(text.contains("\"a,\"\"b\"\"\nc\""), "{text}");
    let arrow = written(&engine, SQL, Format::Arrow).await;
    let reader = StreamReader::try_new(&arrow[..], None).unwrap();
    let schema = reader.schema();
    let from_arrow = cells(&reader.map(Result::unwrap).collect::<Vec<_>>());
    let parquet = bytes::Bytes::from(written(&engine, SQL, Format::Parquet).await);
    let reader = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap().build().unwrap();
    assert_eq!(reader.schema().fields(), schema.fields());
    assert!(schema.fields().iter().all(|f| !f.data_type().to_string().contains("View")), "{schema}");
    let from_parquet = cells(&reader.map(Result::unwrap).collect::<Vec<_>>());
    assert_eq!(from_arrow, from_parquet);
    assert_eq!(from_arrow, ask(&engine, SQL).await.unwrap());
}

#[tokio::test]
async fn empty_and_long_answers_are_whole() {
    let engine = engine();
    let none = "SELECT seq, action FROM audit WHERE seq < 0";
    let json: Value = serde_json::from_slice(&written(&engine, none, Format::Json).await).unwrap();
    assert_eq!((&json["rows"], &json["row_count"]), (&serde_json::json!([]), &0.into()));
    assert_eq!(written(&engine, none, Format::Csv).await, b"seq,action\n");
    assert_eq!(written(&engine, none, Format::Ndjson).await, b"");
    assert_eq!(StreamReader::try_new(&written(&engine, none, Format::Arrow).await[..], None).unwrap().count(), 0);
    assert!(!written(&engine, none, Format::Parquet).await.is_empty());
    let long = "SELECT a.seq, a.attributes, b.action FROM audit a, audit b WHERE b.seq < 30";
    let json: Value = serde_json::from_slice(&written(&engine, long, Format::Json).await).unwrap();
    let rows = json["rows"].as_array().unwrap().len();
    assert_eq!((rows, &json["row_count"]), (6_200 * 60, &(6_200 * 60).into()));
    let lists = "SELECT action, array_agg(seq ORDER BY seq) FROM audit WHERE seq < 4 AND tenant = 'acme' GROUP BY action ORDER BY action";
    let json: Value = serde_json::from_slice(&written(&engine, lists, Format::Json).await).unwrap();
    assert_eq!(json["rows"][1], serde_json::json!(["invoice.update", [0, 3]]));
    assert_eq!(json["columns"][1]["type"], "BIGINT[]");
}

#[tokio::test]
async fn an_early_fault_is_an_error_and_a_late_one_breaks_off() {
    let engine = engine();
    let early = engine.sql(world().await, "SELECT 1 / (seq - 3000) FROM audit").await;
    let early = match early {
        Ok(answer) => body::stream(&engine, answer, Format::Json).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(early.unwrap_err().to_string().contains("division by zero"));
    let small = Engine::new(Limits { rows: 100_000, ..Limits::default() }).unwrap();
    let answer = small.sql(world().await, "SELECT a.attributes FROM audit a, audit b").await.unwrap();
    let body = body::stream(&small, answer, Format::Ndjson).await.unwrap();
    assert!(axum::body::to_bytes(body, usize::MAX).await.is_err());
    let lists = engine.sql(world().await, "SELECT array_agg(seq) FROM audit").await.unwrap();
    let schema = lists.schema.clone();
    let refused = body::stream(&engine, lists, Format::Csv).await;
    assert!(refused.unwrap_err().to_string().contains("no form in this format"));
    assert!(Writer::new(Format::Arrow, &schema, Vec::new()).is_ok());
}

#[test]
fn accept_headers() {
    for (accept, format) in [
        ("application/json", Some(Format::Json)),
        ("*/*", Some(Format::Json)),
        ("text/csv;q=0.5, application/x-ndjson", Some(Format::Ndjson)),
        ("text/html, application/vnd.apache.arrow.stream;q=0.9", Some(Format::Arrow)),
        ("APPLICATION/VND.APACHE.PARQUET", Some(Format::Parquet)),
        ("text/csv; header=present", Some(Format::Csv)),
        ("text/html", None),
        ("text/csv;q=0", None),
        ("text/csv;q=nan", None),
        (";;;,,,q=", Some(Format::Json)),
    ] {
        assert_eq!(Format::accepted(accept), format, "{accept}");
    }
}
