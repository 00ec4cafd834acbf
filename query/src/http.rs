//! The routes of `query`: each handler extracts, calls once and maps.
//!
//! Not here: what a problem's status is (`access::problem`), any rule about data.

use crate::answer::Format;
use crate::body;
use crate::events::{Filter, LARGEST_PAGE, Order, PAGE};
use crate::proof;
use crate::state::QueryState;
use access::openapi::{self, Content, Operation, Parameter, Schema, json_of};
use access::{Caller, Problem, ProblemKind, Recording, Route, Routes};
use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use ledger::tile::{Tile, TileKind};
use ledger::{Field, StreamKind, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};

/// Formats of an answer to a query.
const FORMATS: &[Content] = &[
    json_of(openapi::object),
    Content { media: "application/x-ndjson", schema: None },
    Content { media: "text/csv", schema: None },
    Content { media: "application/vnd.apache.arrow.stream", schema: None },
    Content { media: "application/vnd.apache.parquet", schema: None },
];

const QUERY: Operation = Operation {
    summary: "ask in SQL about one tenant or several",
    parameters: &[],
    body: &[json_of(query_schema)],
    answer: FORMATS,
    problems: &[
        ProblemKind::NotFound,
        ProblemKind::NotAcceptable,
        ProblemKind::TooLarge,
        ProblemKind::Unprocessable,
        ProblemKind::QueryTooExpensive,
    ],
};

const fn of_stream(summary: &'static str, more: &'static [Parameter], answer: &'static [Content]) -> Operation {
    Operation { summary, parameters: more, body: &[], answer, problems: &[ProblemKind::NotFound] }
}

const fn by(name: &'static str, what: &'static str, schema: Schema) -> Parameter {
    Parameter { name, place: "query", what, schema }
}

const EVENTS: Operation = of_stream(
    "read a stream's entries, page by page",
    &[
        openapi::TENANT,
        openapi::STREAM,
        by("from_seq", "the cursor: the first entry of the page", openapi::count),
        by("limit", "entries of the page", limit_schema),
        by("order", "oldest or newest first", order_schema),
        by("since", "not before then", openapi::time),
        by("until", "before then", openapi::time),
        by("action", "with this action", openapi::text),
        by("actor", "by this actor", openapi::text),
        by("resource", "about this resource", openapi::text),
        by("session", "in this session", openapi::text),
        by("source_ip", "from this address", openapi::text),
        by("trace_id", "of this trace", openapi::text),
        by("release", "of this release", openapi::text),
        by("outcome", "with this outcome", openapi::text),
    ],
    &[json_of(openapi::object)],
);
const CHECKPOINT: Operation =
    of_stream("the stream's newest head, signed", &[openapi::TENANT, openapi::STREAM], &[openapi::TEXT]);
const INCLUSION: Operation = of_stream(
    "proof that an entry is in the tree; as a C2SP tlog-proof, or as JSON when that is accepted",
    &[
        openapi::TENANT,
        openapi::STREAM,
        Parameter { name: "seq", place: "query", what: "which entry; required", schema: openapi::count },
        by("size", "in the tree of so many entries; the newest when left out", openapi::count),
    ],
    &[openapi::TEXT, json_of(openapi::object)],
);
const CONSISTENCY: Operation = of_stream(
    "proof that an earlier tree is the beginning of a later one",
    &[
        openapi::TENANT,
        openapi::STREAM,
        by("from", "entries of the earlier; required", openapi::count),
        by("to", "entries of the later; the newest when left out", openapi::count),
    ],
    &[json_of(openapi::object)],
);
const TILE: Operation = of_stream(
    "a tile of the stream's tree (C2SP tlog-tiles)",
    &[
        openapi::TENANT,
        openapi::STREAM,
        Parameter { name: "tile", place: "path", what: "level, index and width", schema: openapi::text },
    ],
    &[Content { media: "application/octet-stream", schema: None }],
);

const ENTRIES: Operation = of_stream(
    "leaf data of the stream's tree (C2SP tlog-tiles): skeletons of entries, and commitments to the rest",
    &[
        openapi::TENANT,
        openapi::STREAM,
        Parameter { name: "tile", place: "path", what: "index and width", schema: openapi::text },
    ],
    &[Content { media: "application/octet-stream", schema: None }],
);

fn query_schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["sql", "tenants"],
        "properties": {
            "sql": {"type": "string"},
            "tenants": {"type": "array", "items": openapi::tenant()},
        },
    })
}

fn limit_schema() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE})
}

fn order_schema() -> Value {
    json!({"type": "string", "enum": ["asc", "desc"]})
}

/// The routes.
pub fn router(state: QueryState) -> (Router, Vec<Route>) {
    Routes::new(state.door().clone())
        .route("POST", "/v1/query", Recording::Each, QUERY, post(query))
        .route("GET", "/v1/tenants/{tenant}/{stream}/events", Recording::Hourly, EVENTS, get(events))
        .route("GET", "/v1/tenants/{tenant}/{stream}/checkpoint", Recording::Counted, CHECKPOINT, get(checkpoint))
        .route("GET", "/v1/tenants/{tenant}/{stream}/proof/inclusion", Recording::Each, INCLUSION, get(inclusion))
        .route(
            "GET",
            "/v1/tenants/{tenant}/{stream}/proof/consistency",
            Recording::Counted,
            CONSISTENCY,
            get(consistency),
        )
        .route("GET", "/v1/tenants/{tenant}/{stream}/tile/{*tile}", Recording::Counted, TILE, get(tile))
        .route("GET", "/v1/tenants/{tenant}/{stream}/tile/entries/{*tile}", Recording::Hourly, ENTRIES, get(entries))
        .extended(crate::scope::http::routes)
        .extended(crate::residency::http::routes)
        .extended(crate::keys::routes)
        .extended(crate::review::http::routes)
        .extended(crate::evidence::http::routes)
        .extended(crate::controls::http::routes)
        .finish(state)
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryBody {
    sql: String,
    tenants: Vec<String>,
}

async fn query(
    State(state): State<QueryState>,
    caller: Caller,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let format = accepted(&headers)?;
    let body = body.map_err(|e| Problem::new(ProblemKind::TooLarge, e.body_text()))?;
    let asked: QueryBody = serde_json::from_slice(&body).map_err(|e| {
        Problem::new(ProblemKind::Malformed, format!("the body is not {{\"sql\":…,\"tenants\":[…]}}: {e}"))
    })?;
    let tenants: Result<Vec<TenantId>, Problem> = asked.tenants.iter().map(|name| tenant_of(name)).collect();
    let answer = state.run_sql(&caller, &tenants?, &asked.sql).await?;
    let body = body::stream(state.engine(), answer, format).await?;
    Ok(([(CONTENT_TYPE, format.media_type())], body).into_response())
}

fn accepted(headers: &HeaderMap) -> Result<Format, Problem> {
    let Some(accept) = headers.get(ACCEPT) else { return Ok(Format::Json) };
    let format = accept.to_str().ok().and_then(Format::accepted);
    format.ok_or_else(|| {
        let all: Vec<&str> = Format::ALL.iter().map(|format| format.media_type()).collect();
        Problem::new(
            ProblemKind::NotAcceptable,
            format!("accept names none of the formats of an answer: {}", all.join(", ")),
        )
    })
}

/// The tenant that a path names.
///
/// # Errors
/// It names none.
pub(crate) fn tenant_of(name: &str) -> Result<TenantId, Problem> {
    name.parse().map_err(|e: ledger::name::NameError| Problem::new(ProblemKind::Malformed, e.to_string()))
}

fn stream_of((tenant, stream): &(String, String)) -> Result<(TenantId, StreamKind), Problem> {
    let stream =
        stream.parse().map_err(|e: ledger::name::NameError| Problem::new(ProblemKind::Malformed, e.to_string()))?;
    Ok((tenant_of(tenant)?, stream))
}

fn parameters<T>(given: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    given.map(|Query(given)| given).map_err(|e| Problem::new(ProblemKind::Malformed, e.body_text()))
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    from_seq: Option<u64>,
    limit: Option<usize>,
    order: Option<String>,
    since: Option<String>,
    until: Option<String>,
    action: Option<String>,
    actor: Option<String>,
    resource: Option<String>,
    session: Option<String>,
    source_ip: Option<String>,
    trace_id: Option<String>,
    release: Option<String>,
    outcome: Option<String>,
}

impl EventsQuery {
    fn filter(self) -> Result<Filter, Problem> {
        let wrong = |what: String| Problem::new(ProblemKind::Malformed, what);
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(wrong(format!("limit is not between 1 and {LARGEST_PAGE}")));
        }
        let order = match self.order.as_deref() {
            None | Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(_) => return Err(wrong("order is neither asc nor desc".into())),
        };
        let time = |name: &str, text: Option<String>| match text {
            Some(text) => ledger::time::parse_micros(&text).map(Some).map_err(|e| wrong(format!("{name} is {e}"))),
            None => Ok(None),
        };
        let from_seq = self
            .from_seq
            .map(i64::try_from)
            .transpose()
            .map_err(|_| wrong("from_seq is greater than any sequence number".into()))?;
        let equal = [
            (Field::Action, self.action),
            (Field::ActorId, self.actor),
            (Field::ResourceId, self.resource),
            (Field::Session, self.session),
            (Field::SourceIp, self.source_ip),
            (Field::TraceId, self.trace_id),
            (Field::Release, self.release),
            (Field::Outcome, self.outcome),
        ];
        let equal = equal.into_iter().filter_map(|(field, text)| text.map(|text| (field, text))).collect();
        Ok(Filter {
            from_seq,
            limit,
            order,
            equal,
            since: time("since", self.since)?,
            until: time("until", self.until)?,
        })
    }
}

async fn events(
    State(state): State<QueryState>,
    caller: Caller,
    Path(names): Path<(String, String)>,
    given: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (tenant, kind) = stream_of(&names)?;
    let page = state.events(&caller, &tenant, kind, parameters(given)?.filter()?).await?;
    Ok(([(CONTENT_TYPE, JSON)], page.json).into_response())
}

async fn checkpoint(
    State(state): State<QueryState>,
    caller: Caller,
    Path(names): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (tenant, kind) = stream_of(&names)?;
    let note = state.proofs(&caller, &tenant, kind).await?.checkpoint().await?;
    Ok(([(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-cache")], note).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InclusionQuery {
    seq: u64,
    size: Option<u64>,
}

async fn inclusion(
    State(state): State<QueryState>,
    caller: Caller,
    Path(names): Path<(String, String)>,
    headers: HeaderMap,
    given: Result<Query<InclusionQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (tenant, kind) = stream_of(&names)?;
    let asked = parameters(given)?;
    let proof = state.proofs(&caller, &tenant, kind).await?.inclusion(asked.seq, asked.size).await?;
    let json = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).is_some_and(|accept| accept.contains(JSON));
    if json {
        Ok(Json(proof::inclusion_json(&proof)).into_response())
    } else {
        Ok(([(CONTENT_TYPE, TEXT)], proof::tlog_proof(&proof)).into_response())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsistencyQuery {
    from: u64,
    to: Option<u64>,
}

async fn consistency(
    State(state): State<QueryState>,
    caller: Caller,
    Path(names): Path<(String, String)>,
    given: Result<Query<ConsistencyQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (tenant, kind) = stream_of(&names)?;
    let asked = parameters(given)?;
    let proof = state.proofs(&caller, &tenant, kind).await?.consistency(asked.from, asked.to).await?;
    Ok(Json(proof::consistency_json(&proof)).into_response())
}

async fn tile(
    State(state): State<QueryState>,
    caller: Caller,
    Path((tenant, stream, tile)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    let (tenant, kind) = stream_of(&(tenant, stream))?;
    // A path whose letters came encoded is matched as it came: which tile it is decides, not which route.
    let tile = tile_of(&tile, |kind| matches!(kind, TileKind::Hashes(_)))?;
    tile_answer(state.proofs(&caller, &tenant, kind).await?.tile(tile).await?)
}

async fn entries(
    State(state): State<QueryState>,
    caller: Caller,
    Path((tenant, stream, tile)): Path<(String, String, String)>,
) -> Result<Response, Problem> {
    let (tenant, kind) = stream_of(&(tenant, stream))?;
    let tile = tile_of(&format!("entries/{tile}"), |kind| kind == TileKind::Entries)?;
    caller.visit().count(u64::from(tile.width));
    tile_answer(state.entries(&caller, &tenant, kind).await?.tile(tile).await?)
}

fn tile_of(path: &str, is_served: impl Fn(TileKind) -> bool) -> Result<Tile, Problem> {
    Tile::parse(&format!("tile/{path}")).filter(|tile| is_served(tile.kind)).ok_or_else(|| {
        Problem::new(ProblemKind::NotFound, "not a tile's path: tile/<level>/<index>[.p/<width>] as in C2SP tlog-tiles")
    })
}

fn tile_answer(bytes: Bytes) -> Result<Response, Problem> {
    // Kept by whoever asked, and by nobody between: what it says is granted to one caller.
    let headers = [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "private, max-age=604800, immutable")];
    Ok((headers, Body::from(bytes)).into_response())
}
