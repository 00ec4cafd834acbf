//! The routes of `query`: each handler extracts, calls once and maps.
//!
//! Not here: what a problem's status is (`access::problem`), any rule about data.

use crate::answer::Format;
use crate::body;
use crate::events::{Filter, LARGEST_PAGE, Order, PAGE};
use crate::proof;
use crate::state::QueryState;
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
use ledger::tile::Tile;
use ledger::{Field, StreamKind, TenantId};
use serde::Deserialize;

/// The routes.
pub fn router(state: QueryState) -> (Router, Vec<Route>) {
    Routes::new(state.door().clone())
        .route("POST", "/v1/query", Recording::Each, post(query))
        .route("GET", "/v1/tenants/{tenant}/{stream}/events", Recording::Hourly, get(events))
        .route("GET", "/v1/tenants/{tenant}/{stream}/checkpoint", Recording::Counted, get(checkpoint))
        .route("GET", "/v1/tenants/{tenant}/{stream}/proof/inclusion", Recording::Each, get(inclusion))
        .route("GET", "/v1/tenants/{tenant}/{stream}/proof/consistency", Recording::Counted, get(consistency))
        .route("GET", "/v1/tenants/{tenant}/{stream}/tile/{*tile}", Recording::Counted, get(tile))
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

fn tenant_of(name: &str) -> Result<TenantId, Problem> {
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
    let tile = Tile::parse(&format!("tile/{tile}")).ok_or_else(|| {
        Problem::new(ProblemKind::NotFound, "not a tile's path: tile/<level>/<index>[.p/<width>] as in C2SP tlog-tiles")
    })?;
    let bytes = state.proofs(&caller, &tenant, kind).await?.tile(tile).await?;
    let headers = [(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, "public, max-age=604800, immutable")];
    Ok((headers, Body::from(bytes)).into_response())
}
