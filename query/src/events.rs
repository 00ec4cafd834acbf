//! `GET …/events`: entries of one stream in order of sequence, filtered, in the wire form they came in.
//!
//! The cursor is a sequence number, so that pages neither skip nor repeat an entry while the stream grows. Not here:
//! SQL ([`crate::session`]), the reading of the request ([`crate::http`]).
//!
//! Invariants: `attributes` is the very text that was hashed; a page has entries of one snapshot only; `next` is the
//! first entry of the following page, or null.

use crate::error::QueryError;
use crate::run::{Answer, HeadRead};
use crate::table::StreamTable;
use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use datafusion::common::ScalarValue;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::{col, ident};
use ledger::Field;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Entries of a page when the request names no number.
pub const PAGE: usize = 100;
/// Most entries of a page: at 700 bytes each, a page is below a megabyte unless attributes are long.
pub const LARGEST_PAGE: usize = 1_000;

/// In which direction a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// From the oldest on.
    #[default]
    Ascending,
    /// From the newest back.
    Descending,
}

/// Which entries of a stream are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// The cursor: the first entry of the page, in the page's order.
    pub from_seq: Option<i64>,
    /// Entries of the page, at most [`LARGEST_PAGE`].
    pub limit: usize,
    /// The direction.
    pub order: Order,
    /// Columns that must equal a text.
    pub equal: Vec<(Field, String)>,
    /// Not before this time, in microseconds (`occurred_at`).
    pub since: Option<i64>,
    /// Before this time, in microseconds (`occurred_at`).
    pub until: Option<i64>,
}

impl Filter {
    /// The plan: one entry more than the page, to know where the next begins.
    pub(crate) fn plan(&self, table: StreamTable) -> PlanResult<LogicalPlan> {
        let ascending = self.order == Order::Ascending;
        let mut plan = LogicalPlanBuilder::scan("events", provider_as_source(Arc::new(table)), None)?;
        if let Some(all) = datafusion::logical_expr::utils::conjunction(self.conditions()) {
            plan = plan.filter(all)?;
        }
        plan.sort_with_limit(vec![col("seq").sort(ascending, false)], Some(self.limit + 1))?.build()
    }

    fn conditions(&self) -> Vec<Expr> {
        let time = |micros: i64| lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
        let mut all = Vec::new();
        match (self.from_seq, self.order) {
            (Some(seq), Order::Ascending) => all.push(col("seq").gt_eq(lit(seq))),
            (Some(seq), Order::Descending) => all.push(col("seq").lt_eq(lit(seq))),
            (None, _) => {}
        }
        all.extend(self.since.map(|micros| col("occurred_at").gt_eq(time(micros))));
        all.extend(self.until.map(|micros| col("occurred_at").lt(time(micros))));
        all.extend(self.equal.iter().map(|(field, text)| ident(field.name()).eq(lit(text.as_str()))));
        all
    }
}

/// A page of entries, as JSON.
#[derive(Debug)]
pub struct Page {
    /// The body: `{"events":[…],"next":…,"head":…}`.
    pub json: String,
    /// Entries in it.
    pub count: usize,
    /// Where the next page begins.
    pub next: Option<i64>,
}

#[derive(Serialize)]
struct Body<'a> {
    events: Vec<Wire<'a>>,
    next: Option<i64>,
    head: Option<Head<'a>>,
}

#[derive(Serialize)]
struct Head<'a> {
    origin: &'a str,
    size: u64,
    root: String,
}

#[derive(Serialize)]
struct Actor<'a> {
    #[serde(rename = "type")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<&'a str>,
}

#[derive(Serialize)]
struct Resource<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boundary: Option<&'a str>,
}

/// An entry in wire form, then what the service added.
#[derive(Serialize)]
struct Wire<'a> {
    id: Option<&'a str>,
    time: Option<String>,
    tenant: Option<&'a str>,
    stream: Option<&'a str>,
    action: Option<&'a str>,
    outcome: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    actor: Actor<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Resource<'a>>,
    /// Text fields that have the same name on the wire and in the table.
    #[serde(flatten)]
    plain: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<&'a RawValue>,
    seq: i64,
    recorded_at: Option<String>,
}

/// Fields that stand on the wire under their own name and are not written out in [`Wire`].
const PLAIN: &[Field] = &[
    Field::LegalEntity,
    Field::BusinessUnit,
    Field::Client,
    Field::Project,
    Field::Partner,
    Field::SourceIp,
    Field::Session,
    Field::UserAgent,
    Field::Credential,
    Field::Service,
    Field::Workflow,
    Field::Integration,
    Field::Release,
    Field::Region,
    Field::Severity,
    Field::DurationUs,
    Field::TraceId,
    Field::SpanId,
    Field::ElevationId,
    Field::ApprovalId,
];

/// Reads an answer to [`Filter`] into a page.
///
/// # Errors
/// Whatever ended the query; [`QueryError::Internal`] if a stored value is not what the schema promises.
pub(crate) async fn page(answer: Answer, limit: usize) -> Result<Page, QueryError> {
    let head = answer.read.first().cloned();
    let batches = answer.collect().await?;
    let mut events = Vec::with_capacity(limit);
    let mut next = None;
    for batch in &batches {
        let rows = Rows::of(batch)?;
        for row in 0..batch.num_rows() {
            let seq = rows.seq(row);
            if events.len() == limit {
                next = Some(seq);
                break;
            }
            events.push(rows.wire(row, seq)?);
        }
    }
    let count = events.len();
    let head =
        head.as_ref().map(|HeadRead { origin, size, root, .. }| Head { origin, size: *size, root: root.to_base64() });
    let json = serde_json::to_string(&Body { events, next, head })
        .map_err(|_| QueryError::Internal("a page could not be written"))?;
    Ok(Page { json, count, next })
}

/// The columns of a batch, by field.
struct Rows<'a> {
    batch: &'a RecordBatch,
    seq: &'a [i64],
}

const SHAPE: QueryError = QueryError::Internal("a stored column has another type than the schema promises");

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, QueryError> {
        let seq = batch.column_by_name("seq").and_then(|column| column.as_primitive_opt::<Int64Type>()).ok_or(SHAPE)?;
        Ok(Self { batch, seq: seq.values() })
    }

    fn seq(&self, row: usize) -> i64 {
        self.seq.get(row).copied().unwrap_or_default()
    }

    fn text(&self, field: Field, row: usize) -> Result<Option<&'a str>, QueryError> {
        let column: &'a StringViewArray =
            self.batch.column_by_name(field.name()).and_then(|column| column.as_string_view_opt()).ok_or(SHAPE)?;
        Ok(if column.is_null(row) { None } else { Some(column.value(row)) })
    }

    fn time(&self, field: Field, row: usize) -> Result<Option<String>, QueryError> {
        let column = self
            .batch
            .column_by_name(field.name())
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
            .ok_or(SHAPE)?;
        Ok(if column.is_null(row) { None } else { Some(ledger::time::format_micros(column.value(row))) })
    }

    fn plain(&self, row: usize) -> Result<serde_json::Map<String, serde_json::Value>, QueryError> {
        let mut plain = serde_json::Map::new();
        for field in PLAIN {
            let value = match field.kind() {
                ledger::field::Kind::Int => {
                    let column = self
                        .batch
                        .column_by_name(field.name())
                        .and_then(|column| column.as_primitive_opt::<Int64Type>())
                        .ok_or(SHAPE)?;
                    if column.is_null(row) { None } else { Some(column.value(row).into()) }
                }
                ledger::field::Kind::Text | ledger::field::Kind::Bytes => {
                    self.text(*field, row)?.map(serde_json::Value::from)
                }
            };
            if let Some(value) = value {
                plain.insert(field.name().into(), value);
            }
        }
        Ok(plain)
    }

    fn wire(&self, row: usize, seq: i64) -> Result<Wire<'a>, QueryError> {
        let text = |field| self.text(field, row);
        let actor = Actor {
            kind: text(Field::ActorType)?,
            id: text(Field::ActorId)?,
            name: text(Field::ActorName)?,
            on_behalf_of: text(Field::OnBehalfOf)?,
        };
        let resource = Resource {
            kind: text(Field::ResourceType)?,
            id: text(Field::ResourceId)?,
            name: text(Field::ResourceName)?,
            class: text(Field::DataClass)?,
            boundary: text(Field::Boundary)?,
        };
        let named = resource.kind.is_some()
            || resource.id.is_some()
            || resource.name.is_some()
            || resource.class.is_some()
            || resource.boundary.is_some();
        let raw = |text: &'a str| {
            serde_json::from_str::<&RawValue>(text)
                .map_err(|_| QueryError::Internal("stored attributes are no JSON; run piperoll fsck"))
        };
        Ok(Wire {
            id: text(Field::EventId)?,
            time: self.time(Field::OccurredAt, row)?,
            tenant: text(Field::Tenant)?,
            stream: text(Field::Stream)?,
            action: text(Field::Action)?,
            outcome: text(Field::Outcome)?,
            reason: text(Field::Reason)?,
            actor,
            resource: named.then_some(resource),
            plain: self.plain(row)?,
            attributes: text(Field::Attributes)?.map(raw).transpose()?,
            seq,
            recorded_at: self.time(Field::RecordedAt, row)?,
        })
    }
}
