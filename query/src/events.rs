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
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::ScalarValue;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::{col, ident};
use ledger::Field;
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
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

#[derive(serde::Serialize)]
struct Body<'a> {
    events: Vec<Wire<'a>>,
    next: Option<i64>,
    head: Option<Head<'a>>,
}

#[derive(serde::Serialize)]
struct Head<'a> {
    origin: &'a str,
    size: u64,
    root: String,
}

/// Fields of an object of the wire, each with its name there.
type Parts = [(&'static str, Field)];

const ACTOR: &Parts = &[
    ("type", Field::ActorType),
    ("id", Field::ActorId),
    ("name", Field::ActorName),
    ("on_behalf_of", Field::OnBehalfOf),
];
const RESOURCE: &Parts = &[
    ("type", Field::ResourceType),
    ("id", Field::ResourceId),
    ("name", Field::ResourceName),
    ("class", Field::DataClass),
    ("boundary", Field::Boundary),
];
/// What stands before the objects.
const FRONT: &Parts = &[
    ("id", Field::EventId),
    ("time", Field::OccurredAt),
    ("tenant", Field::Tenant),
    ("stream", Field::Stream),
    ("action", Field::Action),
    ("outcome", Field::Outcome),
    ("reason", Field::Reason),
];

/// Fields that stand on the wire under their own name behind the objects.
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
    let of_batches: Vec<Rows<'_>> = batches.iter().map(Rows::of).collect::<Result<_, _>>()?;
    for rows in &of_batches {
        for (row, seq) in rows.seq.iter().enumerate() {
            if events.len() == limit {
                next = Some(*seq);
                break;
            }
            events.push(Wire { rows, row });
        }
    }
    let count = events.len();
    let head =
        head.as_ref().map(|HeadRead { origin, size, root, .. }| Head { origin, size: *size, root: root.to_base64() });
    let json = serde_json::to_string(&Body { events, next, head })
        .map_err(|_| QueryError::Internal("stored attributes are no JSON; run piperoll fsck"))?;
    Ok(Page { json, count, next })
}

const SHAPE: QueryError = QueryError::Internal("a stored column has another type than the schema promises");

/// A field's column.
enum Values<'a> {
    Text(&'a StringViewArray),
    Int(&'a Int64Array),
    Time(&'a TimestampMicrosecondArray),
}

impl<'a> Values<'a> {
    fn of(column: &'a ArrayRef) -> Result<Self, QueryError> {
        let any = column.as_any();
        let text = || any.downcast_ref().map(Self::Text);
        let number = || any.downcast_ref().map(Self::Int);
        let time = || any.downcast_ref().map(Self::Time);
        text().or_else(number).or_else(time).ok_or(SHAPE)
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Text(column) => column.is_null(row),
            Self::Int(column) => column.is_null(row),
            Self::Time(column) => column.is_null(row),
        }
    }
}

/// The columns of a batch.
struct Rows<'a> {
    seq: &'a [i64],
    /// In the order of [`Field::ALL`].
    fields: Vec<Values<'a>>,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, QueryError> {
        let column = |name: &str| batch.column_by_name(name).ok_or(SHAPE);
        let seq = column("seq")?.as_primitive_opt::<Int64Type>().ok_or(SHAPE)?;
        let fields: Result<_, _> = Field::ALL.iter().map(|field| Values::of(column(field.name())?)).collect();
        Ok(Self { seq: seq.values(), fields: fields? })
    }

    /// The values of a field; none in a row where it is null.
    fn value(&self, field: Field, row: usize) -> Option<&Values<'a>> {
        let at = Field::ALL.iter().position(|one| *one == field)?;
        self.fields.get(at).filter(|values| !values.is_null(row))
    }
}

/// An entry in wire form, then what the service added.
struct Wire<'a> {
    rows: &'a Rows<'a>,
    row: usize,
}

impl Wire<'_> {
    fn put<M: SerializeMap>(&self, map: &mut M, name: &'static str, field: Field) -> Result<(), M::Error> {
        let row = self.row;
        match self.rows.value(field, row) {
            Some(Values::Text(column)) if field == Field::Attributes => {
                let raw: &RawValue = serde_json::from_str(column.value(row)).map_err(M::Error::custom)?;
                map.serialize_entry(name, raw)
            }
            Some(Values::Text(column)) => map.serialize_entry(name, column.value(row)),
            Some(Values::Int(column)) => map.serialize_entry(name, &column.value(row)),
            Some(Values::Time(column)) => map.serialize_entry(name, &ledger::time::format_micros(column.value(row))),
            None => Ok(()),
        }
    }
}

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, field) in FRONT {
            self.put(&mut map, name, *field)?;
        }
        map.serialize_entry("actor", &Object { of: self, parts: ACTOR })?;
        if RESOURCE.iter().any(|(_, field)| self.rows.value(*field, self.row).is_some()) {
            map.serialize_entry("resource", &Object { of: self, parts: RESOURCE })?;
        }
        for field in PLAIN {
            self.put(&mut map, field.name(), *field)?;
        }
        self.put(&mut map, "attributes", Field::Attributes)?;
        map.serialize_entry("seq", &self.rows.seq[self.row])?;
        self.put(&mut map, "recorded_at", Field::RecordedAt)?;
        map.end()
    }
}

/// An object inside an entry's wire form.
struct Object<'a> {
    of: &'a Wire<'a>,
    parts: &'static Parts,
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, field) in self.parts {
            self.of.put(&mut map, name, *field)?;
        }
        map.end()
    }
}
