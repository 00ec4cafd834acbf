//! Tests of the engine over small made-up streams: Parquet segments in memory, tails, and a plain model beside them.
//!
//! Not here: the door and HTTP statuses (end-to-end tests).

mod answers;
mod formats;
mod leaks;
mod limits;
mod pages;
mod plans;
mod refusals;
mod scopes;

use crate::{Engine, Limits, QueryError};
use datafusion::arrow::array::{
    ArrayRef, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use ledger::{Hash, SegmentRef, StreamHead, StreamKind};
use ledger_store::{Segment, Snapshot, Statistics};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// Microseconds of the first event.
pub const BEGIN: i64 = 1_786_000_000_000_000;
/// What stands in every personal value; it must stand in no error.
pub const MARKER: &str = "MARKER";
/// What stands in every real path; it must stand in no plan.
pub const SECRET_PATH: &str = "real-path";

/// An event of the model; everything follows from its tenant and number.
#[derive(Debug, Clone)]
pub struct Row {
    pub tenant: String,
    pub seq: i64,
}

impl Row {
    pub fn occurred_at(&self) -> i64 {
        BEGIN + self.seq * 1_000_000
    }
    pub fn action(&self) -> &'static str {
        ["invoice.update", "user.login", "file.read"][self.seq as usize % 3]
    }
    pub fn outcome(&self) -> &'static str {
        if self.seq % 5 == 0 { "failure" } else { "success" }
    }
    pub fn release(&self) -> String {
        format!("2026.8.{}", self.seq / 500)
    }
    pub fn actor_id(&self) -> String {
        format!("u-{}", self.seq % 17)
    }
    pub fn actor_name(&self) -> String {
        format!("{MARKER} {}", self.seq)
    }
    pub fn session(&self) -> String {
        format!("s-{}-{}", self.tenant, self.seq)
    }
    pub fn trace_id(&self) -> Option<[u8; 16]> {
        (self.seq % 2 == 0).then(|| {
            let mut id = [0xab; 16];
            id[8..].copy_from_slice(&(self.seq as u64 * 7).to_be_bytes());
            id
        })
    }
    pub fn trace_hex(&self) -> Option<String> {
        self.trace_id().map(|id| id.iter().map(|b| format!("{b:02x}")).collect())
    }
    pub fn duration_us(&self) -> Option<i64> {
        (self.seq % 4 != 0).then_some(self.seq * 10)
    }
    pub fn attributes(&self) -> String {
        format!(
            r#"{{"n":{}, "amount":"{}.50","big":12345678901234567890,"list":[1,{{"deep":"{MARKER}"}}]}}"#,
            self.seq, self.seq
        )
    }
}

pub fn rows(tenant: &str, range: std::ops::Range<i64>) -> Vec<Row> {
    range.map(|seq| Row { tenant: tenant.into(), seq }).collect()
}

fn texts(rows: &[Row], value: impl Fn(&Row) -> Option<String>) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<StringArray>())
}

/// The rows as the store keeps them.
pub fn batch(kind: StreamKind, rows: &[Row]) -> RecordBatch {
    let schema = ledger_store::columns::schema();
    let times = |shift: i64| -> ArrayRef {
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(rows.iter().map(|r| r.occurred_at() + shift))
                .with_timezone("UTC"),
        )
    };
    let column = |name: &str| -> ArrayRef {
        match name {
            "seq" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.seq))),
            "recorded_at" => times(5),
            "occurred_at" => times(0),
            "tenant" => texts(rows, |r| Some(r.tenant.clone())),
            "stream" => texts(rows, |_| Some(kind.as_str().into())),
            "event_id" => texts(rows, |r| Some(format!("e-{}", r.seq))),
            "action" => texts(rows, |r| Some(r.action().into())),
            "outcome" => texts(rows, |r| Some(r.outcome().into())),
            "actor_type" => texts(rows, |_| Some("user".into())),
            "release" => texts(rows, |r| Some(r.release())),
            "actor_id" => texts(rows, |r| Some(r.actor_id())),
            "actor_name" => texts(rows, |r| Some(r.actor_name())),
            "session" => texts(rows, |r| Some(r.session())),
            "attributes" => texts(rows, |r| Some(r.attributes())),
            "severity" => Arc::new(rows.iter().map(|_| None::<i64>).collect::<Int64Array>()),
            "duration_us" => Arc::new(rows.iter().map(Row::duration_us).collect::<Int64Array>()),
            "trace_id" => Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(rows.iter().map(Row::trace_id), 16).unwrap(),
            ),
            "span_id" => Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(
                    rows.iter().map(|r| r.trace_id().map(|id| id[8..].to_vec())),
                    8,
                )
                .unwrap(),
            ),
            "salt_seed" => Arc::new(FixedSizeBinaryArray::try_from_iter(rows.iter().map(|_| [0x5a; 16])).unwrap()),
            "salt_index" => Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| (r.seq % 1_024) as i32))),
            _ => texts(rows, |_| None),
        }
    };
    let columns = schema.fields().iter().map(|field| column(field.name())).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(500))
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(50);
    for name in ["event_id", "actor_id", "resource_id", "session", "source_ip", "trace_id"] {
        properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(name), true);
    }
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties.build())).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
    bytes
}

/// A stream of `segments` segments of `each` rows and a tail of `tail` rows.
pub async fn stream(tenant: &str, kind: StreamKind, segments: i64, each: i64, tail: i64) -> Snapshot {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut sealed = Vec::new();
    for number in 0..segments {
        let of_segment = rows(tenant, number * each..(number + 1) * each);
        let bytes = parquet(&batch(kind, &of_segment));
        let location = object_store::path::Path::from(format!("{SECRET_PATH}/tenant={tenant}/{number}.parquet"));
        let reference = SegmentRef {
            path: format!("{number}.parquet"),
            first: (number * each) as u64,
            span: each as u64,
            rows: each as u64,
            bytes: bytes.len() as u64,
            sha256: Hash::of(&bytes),
            root: Hash::of(b"root"),
        };
        objects.put(&location, bytes.into()).await.unwrap();
        let (first, last) = (&of_segment[0], &of_segment[of_segment.len() - 1]);
        let statistics = Statistics {
            occurred_at: Some((first.occurred_at(), last.occurred_at())),
            recorded_at: Some((first.occurred_at() + 5, last.occurred_at() + 5)),
            action: Some(("file.read".into(), "user.login".into())),
            outcome: None,
            release: Some((first.release(), last.release())),
            region: None,
            key: None,
        };
        sealed.push(Arc::new(Segment { reference, location, statistics }));
    }
    let end = segments * each;
    let half = end + tail / 2;
    let tail_rows = [rows(tenant, end..half), rows(tenant, half..end + tail)];
    let tail_batches = tail_rows.iter().filter(|rows| !rows.is_empty()).map(|rows| batch(kind, rows)).collect();
    let head = StreamHead {
        origin: format!("test/{tenant}/{kind}/0"),
        size: (end + tail) as u64,
        root: Hash::of(tenant.as_bytes()),
    };
    let tenant = tenant.parse().unwrap();
    Snapshot { tenant, kind, head, segments: sealed, gone: None, tail: tail_batches, objects, keys: Default::default() }
}

/// `acme` and `globex`, 3,000 sealed events each, and a tail.
pub async fn world() -> Vec<Snapshot> {
    let mut all = Vec::new();
    for tenant in ["acme", "globex"] {
        all.push(stream(tenant, StreamKind::Audit, 3, 1_000, 100).await);
    }
    all
}

/// The rows of [`world`].
pub fn model() -> Vec<Row> {
    [rows("acme", 0..3_100), rows("globex", 0..3_100)].concat()
}

pub fn engine() -> Engine {
    Engine::new(Limits::default()).unwrap()
}

/// All cells as text; null as `∅`.
pub fn cells(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("∅");
    let mut out = Vec::new();
    for batch in batches {
        let columns: Vec<_> = batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            out.push(columns.iter().map(|c| c.value(row).to_string()).collect());
        }
    }
    out
}

pub async fn ask(engine: &Engine, sql: &str) -> Result<Vec<Vec<String>>, QueryError> {
    Ok(cells(&engine.sql(world().await, sql).await?.collect().await?))
}

/// The text of `EXPLAIN` or `EXPLAIN ANALYZE`.
pub async fn explain(engine: &Engine, snapshots: Vec<Snapshot>, sql: &str) -> String {
    let lines = cells(&engine.sql(snapshots, sql).await.unwrap().collect().await.unwrap());
    lines.into_iter().map(|line| line.join(" ")).collect::<Vec<_>>().join("\n")
}
